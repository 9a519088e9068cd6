"""The lab: four hosts in network namespaces, joined only to each other, with natlb between them as a black box.

    topology    who there is: hosts, addresses, ports (data alone)
    build       makes it real and takes it away again: `Lab` is the door for tests and for the command line
    names       what the hosts call each other
    processes   programs that live in the lab, and how they end
    web         the servers' program
    balancer    all that the lab knows of natlb: its configuration, how it is started, its stats socket
    capture     tcpdump at one place
    dissect     captured bytes, read by scapy
    walk        one packet recognised at several places
    draw        pictures for a terminal
    ladder      the packets of a connection, a line each
    claims      what was seen, what was expected, what to do about it
    observe     captures at several places, and a client to make traffic
    demo        the guided tour
    programs    what can be started and stopped by name
    haproxy     a real HAProxy beside natlb
    certificates  for whoever speaks TLS in the lab
    wrong       a balancer that is wrong on purpose
    seeing      watch, trace, capture, draw
    experiments something is done, watched and drawn
    faults      what can be broken on purpose, and healed
    flood       the program of one of them
    disorder    a hop that reorders packets and doubles them
    pings       who reaches whom
    shell       the prompt
    lessons     the course, and its exercises
    bench       natlb beside others, measured
    soak        natlb under everything at once, every byte verified
    console     how a command line ends: whatever goes wrong is a line and an exit status
    __main__    the command line behind `scripts/lab.sh`

The lab never imports natlb. It starts it, sends it packets and reads its stats socket, as any user would.
"""
