"""Everything that natlb can fail with, as one tree.

    NatlbError
    |-- ConfigError      the configuration cannot be used; carries every diagnostic found
    |-- DatapathError    the kernel refused: no root, no NFQUEUE, queue or address taken, iptables failed
    |-- ProcessError     it cannot run as it should: in the background, as another user, in another's place
    |-- HandoverError    connections cannot be recorded: the directory or the file for them cannot be had
    |-- OffloadError     the fast path cannot be had here: the kernel or libbpf lacks something, or forbids it
    |-- RuntimeApiError  a stats socket could not be opened
    |-- MetricsError     the address for metrics could not be opened
    |-- ProfilingError   the profiler does not have the source of what runs
    `-- CaptureError     a file of captured packets cannot be read, or written

Each carries a message fit to be shown to the user as it is: one line that names what is wrong and the remedy.
A bad *packet* is never an exception: it is a `natlb.core.verdict.Drop` with a reason, and a counter.
"""


class NatlbError(Exception):
    """The root of the tree: catching it catches all that natlb raises on purpose."""


class ConfigError(NatlbError):
    """A configuration that cannot be used."""


class DatapathError(NatlbError):
    """The kernel, or a program that speaks to it, refused what the datapath needs."""


class RuntimeApiError(NatlbError):
    """A stats socket could not be set up."""


class ProcessError(NatlbError):
    """The process cannot be what it should: in the background, of another user, or in the place of another."""


class MetricsError(NatlbError):
    """The address that metrics are to be read at could not be opened."""


class ProfilingError(NatlbError):
    """The source of what runs is not at hand, or not its source."""


class HandoverError(NatlbError):
    """What is to outlive this natlb cannot be written down: a crash or a reload would end connections."""


class OffloadError(NatlbError):
    """The fast path cannot be had: packets stay in userspace."""


class CaptureError(NatlbError):
    """A file of captured packets that cannot be read, is damaged, or cannot be written."""
