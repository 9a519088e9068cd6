"""What the checks of exercises look at: each look is a word or two that can be shown beside what was expected."""

from netns import balancer, programs
from netns.build import Lab
from netns.claims import Claim
from netns.errors import LabError
from netns.observe import Visitor

ANSWER, NO_ANSWER = "an answer", "no answer"


def ping(lab: Lab, host: str, address: str) -> str:
    """Ping once from a host."""
    done = lab.run(host, ["ping", "-n", "-c", "1", "-W", "1", address], names=False)
    return ANSWER if done.returncode == 0 else NO_ANSWER


def curl(lab: Lab, url: str, *options: str, host: str = "client") -> str:
    """Ask for a page; return its first line, or what curl has to complain of."""
    done = lab.run(host, ["curl", "-4", "-sS", "-m", "3", *options, url])
    return str(done.stdout).partition("\n")[0] if done.returncode == 0 else str(done.stderr).strip()


def vip(lab: Lab, path: str = "/", port: int = 0) -> str:
    """Return the URL of the virtual address."""
    return f"http://vip:{port or lab.topology.balancer.port}{path}"


def answers(lab: Lab, number: int) -> list[str]:
    """Ask as so many fresh clients of the VIP; return who answered each, or what went wrong."""
    names = []
    for _ in range(number):
        try:
            with Visitor(lab, lab.topology.balancer.port, seconds=2) as visitor:
                names.append(visitor.ask()[0])
        except LabError as error:
            names.append(str(error))
    return names


def natlb_runs(lab: Lab) -> Claim:
    """Claim that natlb runs."""
    return Claim(
        "natlb runs", saw=bool(programs.running(lab, "natlb")), expected=True, remedy=lab.advice("start natlb")
    )


def table(lab: Lab) -> list[balancer.Entry]:
    """Return the connections in natlb's NAT table; LabError when it does not answer."""
    try:
        return balancer.nat_table(balancer.ask(lab.stats_socket, "show sess"))
    except OSError as error:
        raise LabError(f"natlb does not answer at {lab.stats_socket}: {error.strerror or error}") from error
