"""natlb under everything at once, for as long as one likes: every byte is verified, every connection accounted for.

    scene       the lab of a soak: ways through natlb, its configuration, programs at the ends
    plans       what each connection and each flow does, by the seed
    keyed       the bytes: each connection's own, and known at each position
    wire        how the ends speak to each other: frames and datagrams
    channel     how all programs of a soak speak to the conductor
    server      the program of a server
    client      the program of all clients
    nuisance    programs that bother natlb: floods, bursts, garbage
    churn       what an operator does meanwhile
    faults      what breaks meanwhile
    accounts    who is open, how each ended, and whether that can be explained
    vitals      natlb's memory, descriptors, threads and counters
    conductor   all of it, in its time
    report      what came of it, in words and as JSON
    plot        the picture
    command     the command line behind `scripts/soak.sh`

**Lost** is a connection that ended early or stalled, unless its own plan or a fault explains it; a fault explains only
what it can do, at the end that it strikes, in its time. **Corrupted** is any byte that is not the one of its connection
and its position. Both must be none, or the soak has failed. It has failed as well when natlb's counters do not add up,
or when natlb does not give back what it took: entries, memory, descriptors, threads.

All chance comes from one seed: what is sent, when, and what breaks are the same again with the same seed. How programs
and packets meet is not.
"""
