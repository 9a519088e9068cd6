"""`natlb top`: proxies, servers and the busiest connections of a running natlb, live in a terminal.

It is a client as any other: all that it knows comes over the stats socket, by `show info`, `show stat` and `show sess`,
and no other part of natlb is imported here. So it can watch a HAProxy as well.

    client    one command, one reply, within a bound of time and bytes
    replies   what a reply says: text to numbers
    rates     two samples, and what happened between them
    units     numbers as a terminal of 80 columns has room for
    state     what the user wants to see: keys to choices
    screen    a sample and the choices: the lines of the screen
    terminal  the terminal, taken and given back
    app       the loop: ask, draw, wait for a key
"""
