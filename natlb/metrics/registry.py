"""Everything that a scrape asks: natlb's own families, and what prometheus_client tells of the process.

The registry is one of our own: the global one of prometheus_client would show what any library puts there.
`python_gc_*` has no full collections to show, because natlb runs none: the daemon says why.
"""

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from natlb.metrics.families import NatlbCollector, Sources


def registry(sources: Sources) -> CollectorRegistry:
    """Return a registry that reads all metrics from the given sources."""
    made = CollectorRegistry()
    made.register(NatlbCollector(sources))
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made
