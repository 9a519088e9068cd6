"""The same engine over a capture: `natlb replay`, and `natlb explain`, which looks at one packet of it.

Nothing of the machine is touched, and nothing of it is looked at: a configuration, a capture and a few words on the
command line are all that goes in, and the same goes out each time. Time is that of the capture; what the live natlb
leaves to chance is drawn from a generator that begins with a number (`--seed`); health is what the command line says.

    scene     the configuration made ready: which addresses are the balancer's, which servers are down
    copies    what natlb sent, to be known when the capture shows it
    lent      which ports full NAT has lent, by the capture's word
    player    packets, one after the other, through the engine
    history   what became of connections and packets, for people and for programs
    witness   which rules were asked, and what they answered
    anatomy   a packet's bytes before and after, and the arithmetic of its checksums
    explanation, prose   what happened to one packet and why: first as data, then in words
    made      the first packet of a connection that nobody has captured
    options   the two command lines
    commands  what they do
"""
