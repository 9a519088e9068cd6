"""Whether servers can take connections: asked by real sockets, judged by HAProxy's rules.

status        what a check can come to: HAProxy's codes and words
conversation  one check: connect, send, expect; or a UDP datagram
complaints    what silence about a datagram says
http          the response of an HTTP check
judge         what a series of results means: `rise` and `fall`, pure
server        what is known of one server, and how statistics show it
checks        all servers: when each is asked, and what follows
report        the lines of the log

What to ask is written in `natlb.questions`.
"""
