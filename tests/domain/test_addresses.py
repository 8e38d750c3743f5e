"""Which addresses are on the internet, whatever they are dressed up as."""

import pytest

from api.domain.addresses import is_literal, may_reach

PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1", "2002:101:101::1"]
OWN = [
    *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0", "240.0.0.1"),
    *("::1", "::", "fd00::1", "fec0::1", "::127.0.0.1", "2001:db8::1", "255.255.255.255", "192.0.2.1"),
    *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::1", "::ffff:10.0.0.1"),
]
LINK_LOCAL = ["169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"]
MANY = ["224.0.0.1", "ff02::1", "ff0e::1", "64:ff9b::e000:1"]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_reached(address: str) -> None:
    assert may_reach(address, private=False)
    assert may_reach(address, private=True)


@pytest.mark.parametrize("address", OWN)
def test_an_address_of_ones_own_networks_only_when_that_is_allowed(address: str) -> None:
    assert not may_reach(address, private=False)
    assert may_reach(address, private=True)


@pytest.mark.parametrize("address", [*LINK_LOCAL, *MANY])
def test_where_a_cloud_keeps_its_keys_or_many_listen_never(address: str) -> None:
    assert not may_reach(address, private=False)
    assert not may_reach(address, private=True)


def test_a_name_is_no_address() -> None:
    assert [is_literal(host) for host in ("127.0.0.1", "::1", "localhost", "127.1", "")] == [True, True] + [False] * 3
