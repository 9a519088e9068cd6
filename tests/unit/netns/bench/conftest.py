import pytest

from netns.bench.measures import medians
from netns.bench.report import Report


@pytest.fixture
def report() -> Report:
    """A report of three candidates, made of figures as large as they come."""
    samples = {
        "routing": [{"bulk_gbps": 27.35, "keepalive_rps": 203312.0, "keepalive_p99_us": 6300.0}],
        "haproxy": [{"bulk_gbps": 8.0, "keepalive_rps": 100000.0, "keepalive_p99_us": 5000.0, "cpu_s_per_gb": 0.5}],
        "natlb": [{"bulk_gbps": 2.0, "keepalive_rps": 25000.0, "udp_pps": 1234567.0, "udp_loss_percent": 3.25}],
    }
    return {
        "when": "2026-01-31 12:00 UTC",
        "quick": False,
        "rounds": 3,
        "seconds": 5,
        "machine": {
            "cpu": "A Processor of Some Kind",
            "cores": 2,
            "files": 20000,
            "memory_mb": 25325,
            "kernel": "6.18.44",
            "python": "3.11.7",
            "load_average": 0.1,
            "versions": {"routing": "Linux", "haproxy": "HAProxy 2.6", "natlb": "natlb 0.1.0", "wrk": "wrk 4.1.0"},
        },
        "about": {"routing": "no balancer", "haproxy": "TCP mode", "natlb": "Python"},
        "results": {name: medians(rounds) for name, rounds in samples.items()},
        "samples": samples,
        "remarks": [],
    }
