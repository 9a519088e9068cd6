"""Replies as natlb and HAProxy 2.6.12 give them, and samples made of such."""

from natlb.top.rates import Sample
from natlb.top.replies import Kind, Row, Session

HAPROXY_STAT = """\
# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,bck,\
chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,check_status,\
check_code,check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,req_rate,req_rate_max,\
req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,lastsess,last_chk,last_agt,qtime,ctime,rtime,ttime,\
agent_status,agent_code,agent_duration,check_desc,agent_desc,check_rise,check_fall,check_health,agent_rise,agent_fall,\
agent_health,addr,cookie,mode,algo,
localnodes,FRONTEND,,,0,0,940,0,0,0,0,0,0,,,,,OPEN,,,,,,,,,1,2,0,,,,0,0,0,0,,,,,,,,,,,0,0,0,,,0,0,0,0,,,,,,,,,,,,,,,,,,\
,,,tcp,,
nodes,server1,0,0,0,0,,0,0,0,,0,,0,0,0,0,UP,10,1,0,1,1,2,4,,1,3,1,,0,,2,0,,0,L4OK,,0,,,,,,,,,,,0,0,,,,,-1,,,0,0,0,0,,,,\
Layer4 check passed,,2,3,4,,,,127.0.0.1:4444,,tcp,,
nodes,server2,0,0,0,0,,0,0,0,,0,,0,0,0,0,DOWN,1,1,0,1,1,6,6,,1,3,2,,0,,2,0,,0,L4CON,,0,,,,,,,,,,,0,0,,,,,-1,\
Connection refused,,0,0,0,0,,,,Layer4 connection problem,,2,3,0,,,,127.0.0.1:4445,,tcp,,
nodes,BACKEND,0,0,0,0,94,0,0,0,0,0,,0,0,0,0,UP,11,2,1,,0,6,0,,1,3,0,,0,,1,0,,0,,,,,,,,,,,,,,0,0,0,0,0,0,-1,,,0,0,0,0,,,,,\
,,,,,,,,,,tcp,roundrobin,

"""

NATLB_SESS = """\
0x1: proto=tcpv4 src=44.1.1.1:40312 fe=www be=nodes srv=server1 ts=ESTABLISHED age=12s idle=1s \
orig=44.1.1.1:40312>44.2.2.2:8888 reply=44.3.3.3:4444>44.1.1.1:40312 opkts=4 obytes=77 rpkts=5 rbytes=1200

"""

HAPROXY_SESS = """\
0x564b09b30cb0: proto=tcpv4 src=127.0.0.1:41280 fe=web be=web srv=s2 ts=00 epoch=0 age=1s calls=4 rate=3 cpu=0 lat=0 \
rq[f=808000h,i=0,an=00h,rx=59m58s,wx=,ax=] rp[f=80000000h,i=0,an=00h,rx=,wx=,ax=] scf=[8,0h,fd=12] scb=[3,1h,fd=-1] \
exp=0s rc=2 c_exp=0s
0x7f6f2803f370: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s calls=1 rate=1 cpu=0 \
lat=0 rq[f=c08002h,i=0,an=00h,rx=10s,wx=,ax=] rp[f=80008002h,i=0,an=00h,rx=,wx=,ax=] scf=[8,0h,fd=13] exp=10s rc=0

"""

INFO = {"Name": "HAProxy", "Version": "2.6.0-natlb0.1.0", "Uptime": "0d 0h12m06s", "Maxconn": "940", "node": "lb"}


def row(kind: Kind, proxy: str, name: str, **values: int | str | None) -> Row:
    """Return a row of which only this is known."""
    numbers = ("current", "limit", "total", "rate", "octets_in", "octets_out", "queued", "weight", "active", "backup")
    known: dict[str, int | str | None] = {
        "status": "UP",
        "check": "",
        "address": "",
        **dict.fromkeys(numbers),
        **values,
    }
    return Row(kind, proxy, name, **known)  # type: ignore[arg-type]


def session(number: int, **values: int | str | None) -> Session:
    """Return a connection that has carried `number` bytes each way."""
    said = {
        "id": f"{number:#x}",
        "protocol": "tcpv4",
        "client": f"44.1.1.1:{number}",
        "frontend": "www",
        "backend": "nodes",
        "server": "server1",
        "state": "ESTABLISHED",
        "age": f"{number}s",
        "idle": "0s",
        "asked": "44.2.2.2:8888",
        "octets_in": number,
        "octets_out": number,
        "packets": 2,
    }
    return Session(**{**said, **values})  # type: ignore[arg-type]


def crowd(servers: int, connections: int = 0, at: float = 0.0) -> Sample:
    """Return a sample of a `listen` with so many servers, of which the last one is down, and so many connections."""
    rows = [row(Kind.FRONTEND, "www", "FRONTEND", status="OPEN", current=connections, limit=940, total=10, octets_in=5)]
    rows += [
        row(Kind.SERVER, "www", f"server{n}", current=n, octets_in=n, octets_out=n, total=n, weight=1, active=1)
        for n in range(servers - 1)
    ]
    rows.append(row(Kind.SERVER, "www", f"server{servers - 1}", status="DOWN", check="L4CON", current=0))
    rows.append(row(Kind.BACKEND, "www", "BACKEND", active=servers - 1, backup=0, current=connections))
    return Sample(at, INFO, rows, [session(n) for n in range(1, connections + 1)])
