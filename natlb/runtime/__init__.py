"""HAProxy's Runtime API, on the stats sockets.

server     the sockets and their clients
console    one client: framing, levels, what it is to be told
language   what a command is, and how the one that a line means is found
commands   the table of all commands, and of those that are refused by name
running    what commands work on
clients, process, servers, frontends, sessions, tables, counters, profiling
           what commands do, by subject
stat       the table of `show stat`, `columns` what stands in it
info       the lines of `show info`, `vitals` what is measured for them
state      the table of `show servers state`
addresses  endpoints as text
"""
