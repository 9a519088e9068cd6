"""TLS passed through, and TLS ended at the balancer: whose certificate the client is shown, and what the wire shows.

natlb passes what it cannot read. HAProxy shows a certificate of its own, for which it needs the key, and asks the
server in plain text.
"""

from netns import certificates as made
from netns import draw, haproxy, programs
from netns.build import Lab
from netns.claims import Claim, Findings
from netns.draw import Pen
from netns.errors import LabError
from netns.experiments.connections import places
from netns.observe import Visitor, watching

PASSED = 8443
"""Where natlb listens for TLS in the lesson; whoever reads the configuration in the lab's directory finds it."""

_SECRET = "/secret-plan"  # noqa: S105 - a path, and not kept from anybody


def certificates(lab: Lab, pen: Pen) -> Findings:
    """Speak TLS to both doors; see the certificates, and look for the request on the servers' wires."""
    programs.needed(lab, "natlb")
    programs.needed(lab, "haproxy")
    if not (lab.directory / "server1.pem").exists():
        raise LabError(f"the servers do not speak TLS: {lab.advice('start tls')}")
    rows = [["", "certificate of", "fingerprint (SHA-256)", "on the server's wire"]]
    shown, readable, asked = {}, {}, {}
    for title, port in {"natlb": PASSED, "HAProxy": haproxy.TLS}.items():
        with watching(lab, places(lab)[1:], "tcp") as observation:
            with _door(lab, port) as visitor:
                asked[title], _ = visitor.ask(_SECRET)
                shown[title] = visitor.certificate()
            data = [seen.payload for seen in observation.sightings()]
        readable[title] = any(_SECRET.encode() in payload for payload in data)
        rows.append(
            [
                f"through {title}",
                made.subject(shown[title]),
                made.fingerprint(shown[title]),
                f"GET {_SECRET}" if readable[title] else "nothing readable",
            ]
        )
    heading, *lines = draw.table(rows)
    yield pen.bold(heading)
    yield "\n".join(lines)
    yield ""
    yield Claim(
        "through natlb the client sees the certificate of the server that answers",
        saw=made.fingerprint(shown["natlb"]),
        expected=made.fingerprint(made.of(made.certificate(lab, asked["natlb"]))),
    )
    yield Claim(
        "through HAProxy it sees the balancer's, whose key the balancer has to have",
        saw=made.fingerprint(shown["HAProxy"]),
        expected=made.fingerprint(made.of(made.certificate(lab, "balancer"))),
    )
    yield Claim(
        "what the client asked for is readable behind HAProxy, and nowhere behind natlb",
        saw=readable,
        expected={"natlb": False, "HAProxy": True},
    )


def _door(lab: Lab, port: int) -> Visitor:
    """Speak TLS to a port of the virtual address; LabError, saying what opens it, when nobody answers there."""
    try:
        return Visitor(lab, port, tls=True)
    except LabError as error:
        raise LabError(f"{error}; what opens port {port} is told by {lab.advice('lesson 7')}") from error
