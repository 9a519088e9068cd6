import pytest

from natlb.core.addresses import OwnAddresses, is_host, is_loopback
from tests.unit.core.packets import packed


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"])
def test_no_host_has_an_address_of_none_or_of_many(address):
    assert not is_host(packed(address))


@pytest.mark.parametrize("address", ["1.0.0.0", "127.0.0.1", "223.255.255.255", "::1", "fe80::1"])
def test_a_host_has_any_other(address):
    assert is_host(packed(address))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.255.0.1", "::1"])
def test_a_loopback_address_is_every_machines_own(address):
    assert is_loopback(packed(address))
    assert OwnAddresses().is_local(packed(address))


@pytest.mark.parametrize("address", ["126.0.0.1", "128.0.0.1", "::", "::2", "1::1"])
def test_others_are_its_own_once_they_are_told(address):
    own = OwnAddresses()
    assert not is_loopback(packed(address))
    assert not own.is_local(packed(address))
    own.add(packed(address))
    assert own.is_local(packed(address))
