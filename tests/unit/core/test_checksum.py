from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import checksum as scapy_checksum

from natlb.core.checksum import adjust, difference, fold, pseudo_header
from tests.unit.core.packets import ones_sum, pseudo

words = st.binary(min_size=2, max_size=40).filter(lambda data: len(data) % 2 == 0)


@given(st.binary(max_size=100))
def test_fold_is_the_sum_of_rfc_1071_added_word_by_word(data):
    assert fold(data) == ones_sum(data)


@given(st.binary(min_size=1, max_size=100).filter(any))
def test_the_complement_of_fold_is_the_checksum_that_scapy_computes(data):
    assert fold(data) ^ 0xFFFF == scapy_checksum(data)


def test_the_example_of_rfc_1071():
    assert fold(bytes.fromhex("0001 f203 f4f5 f6f7")) == 0xDDF2


def test_an_odd_byte_is_padded_on_the_right():
    assert fold(b"\x12") == fold(b"\x12\x00") == 0x1200


def test_only_zeroes_sum_to_zero():
    assert fold(b"") == fold(bytes(8)) == 0
    assert fold(b"\xff\xff") == fold(b"\x12\x34\xed\xcb") == 0xFFFF


def test_any_buffer_will_do():
    assert fold(bytearray(b"\x12\x34")) == fold(memoryview(b"\x12\x34")) == 0x1234


@given(words, st.integers(1, 10).flatmap(lambda n: st.tuples(*[st.binary(min_size=2 * n, max_size=2 * n)] * 2)), words)
def test_adjusting_a_checksum_is_computing_it_anew(head, old_and_new, tail):
    """Behind a word that is not zero: an IP header has its version, a pseudo-header its protocol."""
    old, new = old_and_new
    before, after = (b"\x45\x00" + head + field + tail for field in (old, new))
    assert adjust(scapy_checksum(before), difference(old, new)) == scapy_checksum(after)


@given(st.integers(0, 0xFFFF), words)
def test_replacing_something_by_itself_changes_no_checksum(checksum, data):
    assert difference(data, data) == 0
    assert adjust(checksum, 0) == checksum


@given(st.integers(0, 0xFFFE), words, words, words)
def test_differences_add_up(checksum, first, second, third):
    at_once = adjust(checksum, difference(first, third))
    in_steps = adjust(adjust(checksum, difference(first, second)), difference(second, third))
    assert at_once % 0xFFFF == in_steps % 0xFFFF


@given(st.integers(0, 0xFFFF), words, words)
def test_there_and_back_again_is_the_same_checksum_or_its_other_spelling(checksum, old, new):
    back = adjust(adjust(checksum, difference(old, new)), difference(new, old))
    assert back % 0xFFFF == checksum % 0xFFFF


def test_the_example_of_rfc_1624_comes_out_as_zero_and_not_as_ffff():
    """Section 4: the header checksum 0xDD2F, a field that changes from 0x5555 to 0x3285: RFC 1141 gave 0xFFFF."""
    assert adjust(0xDD2F, difference(b"\x55\x55", b"\x32\x85")) == 0x0000


@given(st.integers(0, 0xFFFF), st.integers(1, 0xFFFE))
def test_adjusting_never_makes_ffff(checksum, delta):
    assert adjust(checksum, delta) != 0xFFFF


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4), st.integers(0, 0xFFFF))
def test_the_ipv4_pseudo_header_sums_as_the_layout_of_rfc_9293_does(source, destination, size):
    assert fold(pseudo_header(source, destination, 6, size)) == ones_sum(pseudo(source, destination, size))


def test_the_ipv6_pseudo_header_is_that_of_rfc_8200():
    source, destination = bytes(range(16)), bytes(range(16, 32))
    assert pseudo_header(memoryview(source), bytearray(destination), 6, 70000) == pseudo(source, destination, 70000)
