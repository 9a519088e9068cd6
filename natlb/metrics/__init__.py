"""What natlb counts, for Prometheus: read when it is asked for, and kept nowhere else.

address    where it is read: the argument of `--metrics`
families   the table of all metrics: name, kind, help, labels, and where each is read
histogram  how often something took how long, counted into buckets
timing     what nobody else measures: the time that a packet takes, and how late the event loop is
registry   natlb's families and those of the process, for one scrape
render     the text that Prometheus reads, in pieces small enough for packets to pass between two of them
server     GET /metrics, over HTTP
"""
