"""The sans-IO core: packets and a clock reading go in, verdicts and events come out.

Nothing in here opens a socket, reads a clock, draws a random number or writes a log, and nothing in here raises on
a packet, whatever its bytes. Start reading at `engine.NatEngine.handle_packet`: it is one packet's way.

    shortcut   the short way of nearly every packet: what the engine does in general, in one flat piece
    packet     where the fields of a packet are, and which flow it belongs to
    checksum   the Internet checksum, incrementally (RFC 1624) and in full (RFC 1071)
    addresses  whether an address is a host's, and whether it is ours
    flow       FlowKey, Direction, Translation, Connection: the two tuples that are the NAT
    ledger     what is counted and timed of each connection
    idle       which connection has been silent longest, without looking at the others
    table      FlowKey -> Connection, for both directions
    states     the states of a connection, and how easily each gives way
    lifecycle  how a connection begins, moves on and ends, with all that follows from that
    tcp        the states of a TCP connection as a NAT sees them (RFC 6146), and how long each may be silent
    window     which sequence numbers the two ends would take
    udp        what a flow of UDP is, and how long it may be silent
    icmp       the packet that an ICMP error quotes, and translating it (RFC 5508)
    fragments  the datagrams that come in fragments
    ports      source ports for full NAT
    pool       the servers of a backend and whether they may get new connections
    schedulers which of them gets the next one
    waiting    the order of those who find their server full
    service    a frontend as the engine needs it: addresses that lead to a pool
    opening    a connection that is about to open: all that a rule may look at
    admission  who may open one, to which server, and whose address that server sees
    eviction   who gives way when there is no room for it
    rules      who is let in, to which pool and which server: `conditions` joins what they ask, `facts` answers it
    stick      what is remembered of clients beyond their connections
    resumption how connections of an earlier natlb go on, of each of which that has left a `record`
    statistics what is counted of frontends, servers and backends, `rates` how often; `bookkeeping` enters it
    answers    packets of the engine's own
    verdict    what becomes of a packet
    enums      enumerations for the packet path
    events     what the engine tells about its connections
    engine     the one public door
"""
