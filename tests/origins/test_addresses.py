"""Which addresses belong to the public internet."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbproxy.origins.network.addresses import AllowedNetworks, carried_address, is_global

FORBIDDEN_V4 = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200",
    "100.127.255.255", "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.169.254",
    "169.254.0.1", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
]  # fmt: skip

GLOBAL_V4 = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.1", "169.253.255.255", "172.15.255.255", "172.32.0.0",
    "192.0.1.0", "192.167.255.255", "198.17.255.255", "198.20.0.0", "223.255.255.255",
]  # fmt: skip

FORBIDDEN_V6 = [
    "::", "::1", "fe80::1", "fe80::1%1", "febf::1", "fec0::1", "feff::1", "fc00::1",
    "fd00:ec2::254", "ff02::1", "ff0e::1", "100::1", "2001::1", "2001:2::1", "2001:10::1",
    "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1", "64:ff9b:1::1", "64:ff9b:1::808:808",
    "4000::1", "8000::1", "fe00::1", "100:0:0:1::1", "2001:1::1", "2001:4:112::1", "2001:30::1",
    "fd20:ce::254", "fe80::a9fe:a9fe%eth0",
]  # fmt: skip

# Where clouds tell a machine its own secrets.
METADATA = {
    "AWS": ["169.254.169.254", "fd00:ec2::254"],
    "AWS ECS": ["169.254.170.2", "fd00:ec2::23"],
    "Google": ["169.254.169.254", "fd20:ce::254"],
    "Azure": ["169.254.169.254", "168.63.129.16"],
    "Alibaba": ["100.100.100.200"],
    "Oracle": ["169.254.169.254", "192.0.0.192", "fd00:c1::a9fe:a9fe"],
    "Tencent": ["169.254.0.23"],
    "Scaleway": ["169.254.42.42", "fd00:42::42"],
}


def stood_for_by(inner: IPv4Address) -> list[IPv6Address]:
    """IPv6 addresses that translators, or the kernel, take for this IPv4 address."""
    return [IPv6Address(f"::ffff:{inner}"), IPv6Address(f"64:ff9b::{inner}")]


def tunnels_to(inner: IPv4Address) -> list[IPv6Address]:
    """IPv6 addresses of mechanisms, most of them given up, by which packets get to this address."""
    bits = int(inner)
    high, low = bits >> 16, bits & 0xFFFF
    return [
        IPv6Address(f"::{inner}"),  # IPv4-compatible
        IPv6Address(f"::ffff:0:{inner}"),  # SIIT
        IPv6Address(f"64:ff9b:1::{inner}"),  # NAT64, for local use
        IPv6Address(f"2002:{high:x}:{low:x}::1"),  # 6to4
        IPv6Address(f"2001:0:{high:x}:{low:x}:0:0:f7f7:f7f7"),  # the Teredo server
        IPv6Address(f"2001:0:808:808::{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}"),  # the Teredo client
        *(
            IPv6Address(f"2606:4700:0:1:{iid}:5efe:{high:x}:{low:x}")  # ISATAP
            for iid in ("0", "100", "200", "300")
        ),
    ]


@pytest.mark.parametrize("text", FORBIDDEN_V4)
def test_a_special_ipv4_address_is_not_global_in_any_clothes(text: str) -> None:
    inner = IPv4Address(text)
    spellings = [inner, *stood_for_by(inner), *tunnels_to(inner)]
    assert [spelling for spelling in spellings if is_global(spelling)] == []


@pytest.mark.parametrize("text", GLOBAL_V4)
def test_a_public_ipv4_address_is_global_and_so_is_what_translates_to_it(text: str) -> None:
    inner = IPv4Address(text)
    spellings = [inner, *stood_for_by(inner)]
    assert [spelling for spelling in spellings if not is_global(spelling)] == []


@given(st.ip_addresses(v=4))
def test_nothing_tunnels_to_ipv4_and_what_stands_for_it_is_judged_as_it(inner: IPv4Address) -> None:
    assert not any(map(is_global, tunnels_to(inner)))
    assert {is_global(address) for address in stood_for_by(inner)} == {is_global(inner)}


@given(st.ip_addresses() | st.ip_addresses(v=6, network="2000::/3"))
def test_what_python_takes_for_local_is_never_global(address: IPv4Address | IPv6Address) -> None:
    carried = carried_address(address) if isinstance(address, IPv6Address) else None
    inner = carried or address
    if is_global(address):
        assert inner.is_global
        assert not any((inner.is_multicast, inner.is_reserved, inner.is_link_local))


@given(st.sampled_from(["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
                        "192.168.0.0/16", "100.64.0.0/10", "224.0.0.0/4"]),
       st.integers(0, 2**32 - 1))  # fmt: skip
def test_what_leads_to_a_private_network_is_refused_wherever_it_is_embedded(
    network: str, bits: int
) -> None:
    inside = IPv4Network(network)
    inner = IPv4Address(int(inside.network_address) | bits & int(inside.hostmask))
    public = AllowedNetworks()
    for address in (inner, *stood_for_by(inner), *tunnels_to(inner)):
        assert str(address) not in public


@pytest.mark.parametrize("cloud", METADATA)
def test_what_tells_the_secrets_of_a_machine_is_not_global(cloud: str) -> None:
    assert not any(is_global(ip_address(text)) for text in METADATA[cloud])


@pytest.mark.parametrize("text", FORBIDDEN_V6)
def test_a_special_ipv6_address_is_not_global(text: str) -> None:
    assert not is_global(ip_address(text))


@pytest.mark.parametrize("text", ["2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888"])
def test_a_public_ipv6_address_is_global(text: str) -> None:
    assert is_global(ip_address(text))


def test_the_configuration_adds_networks() -> None:
    networks = AllowedNetworks(("10.1.0.0/16", "fd00:1::/64"))
    assert [text in networks for text in ("10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5")] == [True] * 3
    assert [text in networks for text in ("10.2.0.1", "fd00:2::5", "127.0.0.1")] == [False] * 3
    assert "8.8.8.8" in networks


def test_what_is_no_network_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        AllowedNetworks(("office",))
