"""natlb: a packet-level NAT load balancer for Linux, configured like HAProxy.

The way of a packet: `natlb.datapath` takes it from the kernel, `natlb.core` decides and rewrites, `natlb.datapath`
hands the verdict back. `natlb.daemon` is the only place where the parts meet.
"""

__version__ = "0.1.0"
__date__ = "2026/11/26"
"""When this version was made."""
