"""State files: what a natlb has left behind, whole, torn, damaged or made up, and the engine that goes on with it.

An input is a choice and then either the bytes of a file, or a row of changes to the file of a balancer with connections
of every kind. After a change the checksums may be made right again, as no accident would: so what stands behind them is
tried too. A file is refused with a reason, or it is gone on with, and then everything is counted right, packets are
handled, and when all time has passed nothing is left. A record that was torn is never gone on with.
"""

import struct
from functools import cache
from zlib import crc32

from natlb.core.engine import NatEngine
from natlb.handover import tables
from natlb.handover.draft import Draft
from natlb.handover.layout import (
    CHUNK_SIZE,
    COMPLETE,
    EMPTY,
    NO_NAME,
    PAGE,
    RECORD,
    Header,
    Place,
    Refused,
    pack_header,
    pack_name,
    pack_record,
    read,
)
from tests.fuzz.balancer import balancer, bounded
from tests.fuzz.choices import Choices
from tests.unit.core import invariants
from tests.unit.core import packets as p

HERE = Place(b"the boot of then", 4026531840, 7, 2391)
_NOW = 1000.0
_LONG = 1e7
_NAMES = PAGE
_PORTS = (40000, 40001, 40002, 40003)


@cache
def template() -> tuple[bytes, int]:
    """Return the file of a balancer with connections, and how many it has."""
    made = balancer()
    engine = made.engine
    for family in (4, 6):
        client = {4: "44.1.1.1", 6: "fd44:1::1"}[family]
        vip = {4: "44.2.2.2", 6: "fd44:2::2"}[family]
        for number, port in enumerate(_PORTS):
            _converse(engine, (client, port), (vip, (80, 25)[number % 2]), number)
            packet = p.datagram((client, port), (vip, (53, 7001)[number % 2]), b"?")
            engine.handle_packet(packet, _NOW)
            if number < 2:
                seen, server = p.places(bytes(packet))
                engine.handle_packet(p.datagram(server, seen, b"!"), _NOW)
    names, at = b"", {}
    for connection in engine.connections():
        for name in (connection.service.name, connection.server.pool.name, connection.server.name):
            if name not in at:
                at[name] = len(names)
                names += pack_name(name)
    records = [EMPTY] * (CHUNK_SIZE // RECORD)
    connections = sorted(engine.connections(), key=lambda each: each.index)
    for connection in connections:
        service, pool, server = connection.service.name, connection.server.pool.name, connection.server.name
        places = at[service], at[pool] if connection.index % 5 else NO_NAME, at[server]
        records[connection.index] = pack_record(connection, engine.ledger, *places)
    packed = tables.pack(engine, made.tables.values(), _NOW)
    header = Header(HERE, _NAMES, 1, COMPLETE, _NOW, len(packed), crc32(packed), "1.2.3")
    return pack_header(header) + names.ljust(_NAMES, b"\0") + b"".join(records) + packed, len(connections)


def _converse(engine: NatEngine, client: p.Place, vip: p.Place, number: int) -> None:
    """Have a connection get as far as its number says."""
    syn = p.segment(client, vip, p.SYN, seq=1000)
    engine.handle_packet(syn, _NOW)
    seen, server = p.places(bytes(syn))
    steps = (
        p.segment(server, seen, p.SYN | p.ACK, seq=5000, ack=1001),
        p.segment(client, vip, p.ACK, seq=1001, ack=5001),
        p.segment(client, vip, p.FIN | p.ACK, seq=1001, ack=5001),
    )
    for packet in steps[:number]:
        engine.handle_packet(packet, _NOW)


def check(data: bytes) -> None:
    """Read a file, and go on with it. Raises if anything about that is not right."""
    choices = Choices(data)
    how = choices.byte()
    if how & 1:
        size = choices.pick((0, PAGE, PAGE, PAGE + _NAMES))
        start = template()[0][:size]
        _go_on(start + choices.rest(), 0, capacity=12)
        return
    file, torn = _changed(choices)
    _go_on(file, torn, capacity=(0, 12)[how >> 1 & 1])


def _changed(choices: Choices) -> tuple[bytes, int]:
    """Return a file that is changed, and how many of its records are torn."""
    whole, number = template()
    file = bytearray(whole)
    records = PAGE + _NAMES
    touched: set[int] = set()
    mended = 0
    for _ in range(12):
        if not choices.more:
            break
        what, at, value = choices.byte(), choices.number(2), choices.take(1 + choices.byte() % 8)
        match what & 3:
            case 0:
                at %= 128
            case 1:
                at = PAGE + at % 200
            case 2:
                row = at % (number + 2)
                at = records + row * RECORD + (at >> 6) % RECORD
                touched.add(row)
            case 3:
                at = records + CHUNK_SIZE + at % max(1, len(file) - records - CHUNK_SIZE)
        value = value[: max(0, len(file) - at)]
        file[at : at + len(value)] = value
        mended |= what >> 4 & 15
    is_torn = {row for row in touched if file[_row(row)] != whole[_row(row)]}
    is_torn |= {row + 1 for row in touched if file[_row(row + 1)] != whole[_row(row + 1)]}
    if mended & 1:
        _mend_records(file, is_torn)
        is_torn = set()
    if mended & 2:
        _mend_tables(file)
    if mended & 4:
        file[PAGE - 4 : PAGE] = struct.pack("<I", crc32(file[: PAGE - 4]))
    if mended & 8:
        del file[len(file) - choices.number(2) % 4096 :]
    return bytes(file), len([row for row in is_torn if file[_row(row)] != EMPTY])


def _row(row: int) -> slice:
    start = PAGE + _NAMES + row * RECORD
    return slice(start, start + RECORD)


def _mend_records(file: bytearray, rows: set[int]) -> None:
    for row in rows:
        start = _row(row).start
        file[start : start + 4] = struct.pack("<I", crc32(file[start + 4 : start + RECORD]))


def _mend_tables(file: bytearray) -> None:
    """Have the header say of the tables what they are."""
    header = Header(HERE, _NAMES, 1, COMPLETE, _NOW)
    size = len(file) - header.tables_at
    header = Header(HERE, _NAMES, 1, COMPLETE, _NOW, size, crc32(file[header.tables_at :]), "1.2.3")
    file[:PAGE] = pack_header(header)


def _go_on(file: bytes, torn: int, *, capacity: int) -> None:
    try:
        contents = read(file, HERE)
    except Refused as refused:
        assert str(refused).isprintable(), refused
        return
    assert contents.refused >= torn, "a torn record is believed"
    made = balancer()
    engine = bounded(made, capacity) if capacity else made.engine
    draft = Draft(engine, made.services, made.pools)
    assert len(draft.take(contents, _NOW)) == len(draft.connections) == len(engine)
    assert len(draft.connections) + len(draft.no_place) == len(contents.records)
    tables.restore(contents.tables, engine, draft.connections, made.tables.values(), _NOW)
    assert all(sum(1 for _ in table.entries(_NOW)) <= table.size for table in made.tables.values())
    connections = list(engine.connections())
    for check_part in (invariants.check_live_counts, invariants.check_rules):
        check_part(engine, connections)
    invariants.check_queues(engine.table, connections)
    invariants.check_ledger(engine.table, connections)
    invariants.check_lender(engine._lender, connections)
    _end(engine)


def _end(engine: NatEngine) -> None:
    """Let packets come, and then all time pass: nothing may be left."""
    for port in _PORTS:
        packet = p.segment(("44.1.1.1", port), ("44.2.2.2", 80), p.ACK, seq=1001, ack=5001, payload=b"hello")
        assert engine.handle_packet(packet, _NOW) is not None
    now = _NOW
    for _ in range(500):
        due = engine.next_timeout()
        if due is None:
            break
        now = max(now, due)
        engine.handle_timeout(now)
    assert len(engine) == 0, "time does not end everything"
