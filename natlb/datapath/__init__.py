"""Between the kernel and the core: diverting packets to natlb, and everything about the host that this needs.

host         the addresses of this machine, and whether this process may do what it must
reservation  the ports that natlb answers at, held so that nobody else takes them
rules        which packets are diverted: iptables rules as text, and recognising what was installed
sysctl       kernel settings that are changed while natlb runs, and put back
diversion    the three together: set up as a whole or not at all, undone as a whole
guard        noticing that somebody else has undone it, and making it again
nfqueue      the packets themselves: in from the kernel, verdicts back
messages     how both are written down between the kernel and us
unfinished   what the kernel has left undone in a packet, and who does it
onward       what the kernel will still do with a packet
injector     packets that the engine made
"""
