"""natlb beside others, measured: the same load, the same lab, one balancer after the other.

    candidates   who is compared: how each is started, and how it says what it carried
    hosts        what the hosts run besides: settings, web servers, the receiver of bulk data
    loads        iperf3 and wrk, run on the client
    opener       a program that opens many connections and keeps them
    readings     what all these programs print, read
    usage        what the balancer and the whole machine spend
    measures     what is measured, in which unit, and whether more is better
    rounds       all candidates in turn, several times over
    machine      where it was measured, and with which versions
    report       tables and JSON
    page         the section of docs/performance.md that is made from a JSON file
    plot         the picture
    command      the command line behind `scripts/bench.sh`

Three things make a figure worth printing. **Side by side:** all candidates are measured in each round, a few seconds
apart, because a machine is never the same for long; medians are taken over the rounds. **Carried:** after each load the
candidate itself is asked how many connections it has seen, and a figure that it did not carry is not printed.
**Errors count:** failed sockets, lost datagrams and answers other than 200 are printed beside the figure.
"""
