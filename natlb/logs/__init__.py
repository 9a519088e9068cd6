"""Log lines about connections and proxies.

What they say (`line`, `ending`), how syslog wants them (`syslog`), and where they go (`sender`) without ever making the
datapath wait. `journal` is what the daemon speaks to.
"""
