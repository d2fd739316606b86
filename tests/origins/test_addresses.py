"""Which addresses belong to the public internet."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from thumbproxy.origins.addresses import AllowedNetworks, is_global

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
    "4000::1", "8000::1", "fe00::1",
]  # fmt: skip


@pytest.mark.parametrize("text", FORBIDDEN_V4)
def test_a_special_ipv4_address_is_not_global_in_any_clothes(text: str) -> None:
    bits = int(ip_address(text))
    high, low = bits >> 16, bits & 0xFFFF
    inverted_high, inverted_low = high ^ 0xFFFF, low ^ 0xFFFF
    spellings = [
        text,
        f"::ffff:{text}",
        f"::{text}",
        f"64:ff9b::{text}",
        f"2002:{high:x}:{low:x}::1",
        f"2001:0:{high:x}:{low:x}:0:0:f7f7:f7f7",  # the Teredo server
        f"2001:0:808:808:0:0:{inverted_high:x}:{inverted_low:x}",  # the Teredo client
    ]
    assert [spelling for spelling in spellings if is_global(ip_address(spelling))] == []


@pytest.mark.parametrize("text", GLOBAL_V4)
def test_a_public_ipv4_address_is_global_in_any_clothes(text: str) -> None:
    bits = int(ip_address(text))
    spellings = [
        text,
        f"::ffff:{text}",
        f"64:ff9b::{text}",
        f"2002:{bits >> 16:x}:{bits & 0xFFFF:x}::1",
    ]
    assert [spelling for spelling in spellings if not is_global(ip_address(spelling))] == []


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
