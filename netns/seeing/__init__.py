"""Seeing what passes: the lab's packets as a picture, as a file for Wireshark, live, and one of them bit by bit.

    words     the options of these commands
    feed      captures at several places, read while they grow
    pcapng    a file for Wireshark: every place an interface of it, and the hosts' names in it
    record    `lab.sh capture`: until there is enough, or Ctrl-C
    picture   `lab.sh draw`: a connection, captured or read from such a file, ...
    diagram   ... as an SVG sequence diagram
    pairs     a packet before the balancer and after it, found as they come
    scene     such packets, each with natlb's table of that moment
    panes     client wire, NAT table, server wire, as lines
    watch     `lab.sh watch`: those, live
    trace     `lab.sh trace`: one packet from parse to verdict, and whether natlb on the wire did that

Nothing here changes the lab. What a packet looked like is read off the wire; natlb is asked for its table, and
`natlb explain` and `natlb replay` for what they make of a capture.
"""
