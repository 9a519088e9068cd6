"""What cannot be had is said in one line, with what helps."""

import ctypes
import errno
import os

import pytest

from natlb.errors import OffloadError
from natlb.offload import libbpf
from natlb.offload.program import OBJECT

FLOW_KEY, FLOW, ROW = bytes(40), bytes(52), bytes(4)


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(libbpf, "_library", None)
    return monkeypatch


@pytest.fixture
def flows():
    loaded = libbpf.Object(OBJECT)
    loaded.set_capacity("flows", 8)
    loaded.set_capacity("connections", 300)
    loaded.load()
    yield loaded.map("flows")
    loaded.close()


@pytest.fixture
def rows():
    loaded = libbpf.Object(OBJECT)
    loaded.set_capacity("connections", 300)
    loaded.load()
    yield loaded.map("connections")
    loaded.close()


def key(number: int) -> bytes:
    return number.to_bytes(4, "big") + bytes(36)


def value(number: int) -> bytes:
    return number.to_bytes(4, "big") + bytes(48)


def test_without_libbpf_the_message_says_how_to_get_it(fresh):
    fresh.setattr(libbpf, "_NAMES", ("libbpf-that-is-not-there.so",))
    with pytest.raises(OffloadError, match="libbpf is not installed: 'apt install libbpf1'"):
        libbpf.library()


def test_a_libbpf_that_is_too_old_is_refused(fresh):
    fresh.setattr(libbpf, "_NAMES", ("libc.so.6",))
    with pytest.raises(OffloadError, match=r"libc.so.6 has no bpf_object__open_mem: it must be version 1.0 or later"):
        libbpf.library()


def test_the_library_is_loaded_once(fresh):
    assert libbpf.library() is libbpf.library()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OffloadError, match=r"cannot read .*none.o: No such file or directory: reinstall natlb"):
        libbpf.Object(tmp_path / "none.o")


def test_a_file_that_is_no_object_is_named(tmp_path, capfd):
    broken = tmp_path / "broken.o"
    broken.write_bytes(b"not an object")
    with pytest.raises(OffloadError, match=r"libbpf cannot read .*broken.o \(.*\): reinstall natlb"):
        libbpf.Object(broken)
    assert capfd.readouterr() == ("", "")


@pytest.mark.root
def test_what_the_kernel_says_of_a_program_that_it_refuses_is_in_the_message(tmp_path, capfd):
    # It calls a helper that no kernel has.
    content = OBJECT.read_bytes()
    call = bytes.fromhex("8500000045000000")  # of bpf_fib_lookup
    assert content.count(call) >= 1
    spoilt = tmp_path / "spoilt.o"
    spoilt.write_bytes(content.replace(call, bytes.fromhex("85000000ffff0000")))
    opened = libbpf.Object(spoilt)
    with pytest.raises(OffloadError, match=r"the kernel refuses the program \(Invalid argument; .*65535.*\): it takes"):
        opened.load()
    opened.close()
    assert capfd.readouterr() == ("", "")


def test_without_the_right_to_it_the_message_says_who_has_it(monkeypatch):
    opened = libbpf.Object(OBJECT)

    class Forbidding:
        def __getattr__(self, name):
            return getattr(libbpf.library(), name)

        def bpf_object__load(self, _):
            return -errno.EPERM

    opened._bpf = Forbidding()
    with pytest.raises(OffloadError, match="does not permit it: it takes root, or CAP_BPF and CAP_NET_ADMIN"):
        opened.load()
    opened.close()
    opened.close()


# Maps


@pytest.mark.root
def test_what_is_entered_is_found_until_it_is_deleted(flows):
    assert flows.lookup(key(1)) is None
    flows.update(key(1), value(1))
    assert flows.lookup(key(1)) == value(1)
    flows.delete_all(key(1))
    assert flows.lookup(key(1)) is None


@pytest.mark.root
def test_of_those_that_are_deleted_any_may_be_missing(flows):
    for number in 2, 4:
        flows.update(key(number), value(number))
    flows.delete_all(b"".join(key(number) for number in range(6)))
    assert [flows.lookup(key(number)) for number in range(6)] == [None] * 6


@pytest.mark.root
def test_a_map_that_is_full_takes_as_many_as_have_room(flows):
    many = range(10)
    taken = flows.update_all(b"".join(map(key, many)), b"".join(map(value, many)))
    assert taken == 8
    assert [flows.lookup(key(number)) is not None for number in many] == [True] * 8 + [False] * 2


@pytest.mark.root
def test_a_map_is_gone_over_in_pieces(flows):
    for number in range(7):
        flows.update(key(number), value(number))
    pieces, found = libbpf.Pieces(flows, 8), {}
    while count := pieces.read():
        for at in range(count):
            found[bytes(pieces.keys[at * 40 : at * 40 + 40])] = bytes(pieces.values[at * 52 : at * 52 + 52])
    assert found == {key(number): value(number) for number in range(7)}
    assert pieces.read() == 0


@pytest.mark.root
def test_an_array_is_read_from_anywhere(rows):
    pieces = libbpf.Pieces(rows, 128, libbpf.LOCK)
    assert [pieces.read() for _ in range(4)] == [128, 128, 44, 0]
    pieces.start((199).to_bytes(4, "little"))
    assert pieces.read(10) == 10
    assert bytes(pieces.keys[:4]) == (200).to_bytes(4, "little")


@pytest.mark.root
def test_what_the_kernel_refuses_is_an_oserror(rows):
    with pytest.raises(OSError, match=os.strerror(errno.E2BIG)):
        rows.update((300).to_bytes(4, "little"), bytes(112))
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        libbpf.maps_of(0xFFFFFFF)
    closed = libbpf.Map(9999, 4, 112, 300)
    for act in (
        lambda: closed.lookup(ROW),
        lambda: closed.update_all(ROW, bytes(112)),
        lambda: closed.delete_all(ROW),
        lambda: libbpf.Pieces(closed, 1).read(),
        lambda: libbpf.Ring((closed, print)),
    ):
        with pytest.raises(OSError):
            act()


@pytest.mark.root
def test_the_maps_of_a_program_are_found_by_its_number():
    loaded = libbpf.Object(OBJECT)
    loaded.load()
    info = libbpf._ProgramInfo()
    libbpf.library().bpf_obj_get_info_by_fd(
        loaded.program("natlb"), ctypes.byref(info), ctypes.c_uint32(ctypes.sizeof(info))
    )
    found = libbpf.maps_of(info.id)
    assert {"flows", "connections", "settings", "events", "samples"} <= found.keys()
    assert libbpf.map_info(found["flows"]) == ("flows", 40, 52, 2)
    for descriptor in found.values():
        os.close(descriptor)
    loaded.close()
