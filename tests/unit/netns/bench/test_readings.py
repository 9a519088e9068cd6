import json

import pytest

from netns.bench import readings
from netns.errors import LabError

WRK = """\
Running 1s test @ http://44.2.2.2:8888/
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.89ms    2.98ms  12.45ms   86.37%
    Req/Sec     5.79k     3.12k   12.40k    80.00%
  Latency Distribution
     50%  406.00us
     75%    1.68ms
     90%    7.43ms
     99%   12.27ms
  5892 requests in 1.04s, 0.99MB read
Requests/sec:   5673.30
Transfer/sec:      0.96MB
"""
ERRORS = "  Socket errors: connect 3, read 27288, write 0, timeout 7\n  Non-2xx or 3xx responses: 5892\n"


def received(**more):
    return json.dumps(
        {"end": {"sum_received": {"bits_per_second": 27.5e9, "bytes": 3437500000, "seconds": 1.0, **more}}}
    )


# -- iperf3


def test_what_a_receiver_got():
    found = readings.iperf3(received())
    assert (found.gbps, found.octets, found.seconds) == (27.5, 3437500000, 1.0)


def test_iperf3s_own_words_are_told():
    failed = json.dumps({"start": {}, "intervals": [], "end": {}, "error": "unable to connect to server"})
    with pytest.raises(LabError, match=r"^iperf3: unable to connect to server$"):
        readings.iperf3(failed)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON but nothing"),
        ("usage: iperf3\nmore", "no JSON but usage: iperf3 / more"),
        ('{"end": {"sum_received": {"bytes": 1}}}', "lacks 'bits_per_second'"),
        ('{"end": {}}', "lacks 'sum_received'"),
    ],
)
def test_what_is_no_report_of_iperf3_is_told(text, words):
    with pytest.raises(LabError, match=words):
        readings.iperf3(text)


# -- wrk


def test_a_load_without_errors():
    found = readings.wrk(WRK)
    assert (found.done, found.per_second, found.p50_us, found.p99_us) == (5892, 5673.3, 406.0, 12270.0)
    assert found.errors == ()


def test_errors_are_kept_by_kind_and_only_those_that_happened():
    found = readings.wrk(WRK.replace("Requests/sec", ERRORS + "Requests/sec"))
    assert dict(found.errors) == {"connect": 3, "read": 27288, "timeout": 7, "answers other than 2xx": 5892}


@pytest.mark.parametrize(("text", "us"), [("12.00us", 12), ("1.50ms", 1500), ("2.00s", 2e6), ("1.50m", 90e6)])
def test_percentiles_are_microseconds_whatever_their_unit(text, us):
    assert readings.wrk(WRK.replace("12.27ms", text)).p99_us == us


@pytest.mark.parametrize(("text", "us"), [("1.21s ", 1.21e6), ("1.50m ", 90e6), ("1.00h ", 3600e6)])
def test_a_unit_of_one_letter_is_padded(text, us):
    found = readings.wrk(WRK.replace("406.00us", text).replace("12.27ms", text))
    assert (found.p50_us, found.p99_us) == (us, us)


@pytest.mark.parametrize("text", ["", "unable to connect to 44.2.2.2:8888 Connection refused\n"])
def test_what_is_no_report_of_wrk_is_told(text):
    with pytest.raises(LabError, match=r"^wrk: "):
        readings.wrk(text)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (WRK.replace("     99%", "     98%"), "99%"),
        (WRK.replace("ms", "fortnights").replace("us", "fortnights"), "50% and 99%"),
        (WRK.replace("Requests/sec", "Requests"), "Requests/sec"),
    ],
)
def test_what_a_report_of_wrk_lacks_is_named(text, missing):
    with pytest.raises(LabError, match=f"^wrk's report lacks {missing}: "):
        readings.wrk(text)


# -- counters


def test_nginx_status():
    text = (
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nActive connections: 3 \nserver accepts handled requests\n"
        " 27380 27380 53896 \nReading: 0 Writing: 1 Waiting: 2 \n"
    )
    assert readings.stub_status(text) == readings.Status(active=3, accepted=27380, requests=53896)


def test_what_is_no_status_of_nginx_is_told():
    with pytest.raises(LabError, match="404 Not Found"):
        readings.stub_status("HTTP/1.1 404 Not Found\r\n\r\n")


def test_only_frontends_are_added_up():
    text = (
        "# pxname,svname,qcur,stot,\nweb,FRONTEND,,10,\nnodes,server1,0,5,\nnodes,BACKEND,0,10,\nbulk,FRONTEND,,3,\n\n"
    )
    assert readings.sessions(text) == 13


@pytest.mark.parametrize("text", ["", "Permission denied\n", "# pxname,svname\n"])
def test_what_is_no_show_stat_is_told(text):
    with pytest.raises(LabError, match="'show stat' was answered with"):
        readings.sessions(text)


def test_what_natlb_says_of_its_fast_path_is_read_by_name():
    told = "state: on\ninterfaces: 3\npackets: 70\ndifferences: 0\n\n"
    assert readings.offload(told) == {"state": "on", "interfaces": "3", "packets": "70", "differences": "0"}


@pytest.mark.parametrize("text", ["", "Unknown command", "state: on\n"])
def test_what_is_no_account_of_a_fast_path_is_told(text):
    with pytest.raises(LabError, match="'show offload' was answered with"):
        readings.offload(text)


def test_named_counters_of_nft_are_added_up():
    entries = [{"metainfo": {}}, {"counter": {"name": "web", "packets": 4}}, {"counter": {"name": "b", "packets": 5}}]
    assert readings.nft_counters(json.dumps({"nftables": entries})) == 9


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nftables": [{"counter": {}}]}'])
def test_what_is_no_list_of_counters_is_told(text):
    with pytest.raises(LabError, match="nft's counters are"):
        readings.nft_counters(text)


SNMP = """\
Ip: Forwarding ForwDatagrams
Ip: 1 77
Udp: InDatagrams NoPorts OutDatagrams
Udp: 5 0 6
UdpLite: OutDatagrams
UdpLite: 9
"""


@pytest.mark.parametrize(("protocol", "name", "value"), [("Ip", "ForwDatagrams", 77), ("Udp", "OutDatagrams", 6)])
def test_a_counter_of_the_kernels_is_found_by_its_name(protocol, name, value):
    assert readings.snmp(SNMP, protocol, name) == value


@pytest.mark.parametrize(("protocol", "name"), [("Tcp", "InSegs"), ("Udp", "ForwDatagrams")])
def test_a_counter_that_is_not_there_is_told(protocol, name):
    with pytest.raises(LabError, match=f"no {protocol} {name}"):
        readings.snmp(SNMP, protocol, name)


# -- CPU and memory


@pytest.mark.parametrize("name", ["nginx", "a b", "x) R 1", "(("])
def test_a_process_is_charged_for_user_and_system_time_whatever_its_name(name):
    rest = "S 1 2 3 4 5 6 7 8 9 10 700 33 1 1 20 0 4 0 99"
    assert readings.process_ticks(f"4711 ({name}) {rest}") == 733


def test_a_machine_is_charged_for_all_but_waiting():
    assert readings.machine_ticks("cpu  1000 200 30 99999 8888 4 5 77777 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n") == 1239


def test_what_is_not_the_sum_of_all_processors_is_told():
    with pytest.raises(LabError, match="begins with cpu0"):
        readings.machine_ticks("cpu0 1 1 1 1 1 1 1 1 0 0")


def test_kilobytes_by_name():
    status = "VmPeak:\t     999 kB\nVmRSS:\t    1234 kB\n"
    assert readings.kilobytes("MemTotal:  9 kB\nMemAvailable:    5678 kB\n", "MemAvailable") == 5678
    assert readings.kilobytes(status, "VmRSS") == 1234


def test_a_process_that_is_ending_has_no_memory():
    assert readings.kilobytes("Name:\tnginx\nState:\tZ (zombie)\n", "VmRSS") == 0


PROFILING = """\
Per-packet CPU profiling            : on            # set profiling packets {on|off}
Packets activity: 108055 packets in 6.077s
  stage                       samples   cpu_tot   cpu_avg   usr_avg   sys_avg     share
  receive                         118   589.9ms   5.459us   4.487us   971.5ns     21.4%  #########
  lookup                           10   49.99ms   462.6ns   462.6ns   0.000ns      1.8%  #
  verdict                         157   784.8ms   7.263us   1.850us   5.413us     28.5%  ###########
  elsewhere                         1   1.784ms   1.263ms   1.000ms   263.0us      0.1%
  total                           286    2.754s   25.49us   18.97us   6.523us    100.0%
"""


def test_where_a_packets_time_went_is_read_in_microseconds():
    found = readings.profiling(PROFILING)
    assert (found.packets, found.samples) == (108055, 286)
    assert list(found.stages) == ["receive", "lookup", "verdict", "elsewhere"]
    assert found.stages["receive"].user_us == pytest.approx(4.487)
    assert found.stages["receive"].kernel_us == pytest.approx(0.9715)
    assert found.stages["elsewhere"].us == pytest.approx(1263)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Permission denied\n",
        "Packets activity: 0 packets in 1.000s\n  stage samples\n  total   0   0.000ns   -   -   -   100.0%\n",
        PROFILING.replace("Packets activity", "x"),
    ],
)
def test_a_profile_of_nothing_is_told(text):
    with pytest.raises(LabError, match="'show profiling' was answered with "):
        readings.profiling(text)
