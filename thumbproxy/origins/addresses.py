"""Which IP addresses belong to the public internet, by the registries of IANA.

`ipaddress.is_global` is not enough: it passes IPv4 in IPv6's clothes, multicast and site-local
addresses, and what it says changes with the Python version.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# IPv4: everything but these (IANA IPv4 Special-Purpose Address Registry).
_SPECIAL_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network; Linux takes 0.0.0.0 for loopback
        "10.0.0.0/8",  # private use (RFC 1918)
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598); Alibaba's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's metadata: a public address that is answered by the host
        "169.254.0.0/16",  # link-local; the other clouds' metadata
        "172.16.0.0/12",  # private use
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "192.168.0.0/16",  # private use
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# IPv6: nothing but global unicast, and of that not these.
_GLOBAL_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments (Teredo is unwrapped before)
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 (unwrapped before)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291 section 2.5.5.1
_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291 section 2.5.5.2
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_LAST_32 = (_COMPATIBLE, _MAPPED, _NAT64)
_SIX_TO_FOUR = IPv6Network("2002::/16")  # RFC 3056
_TEREDO = IPv6Network("2001::/32")  # RFC 4380


def is_global(address: IPAddress) -> bool:
    """Whether connecting to `address` leads to the public internet and nowhere else.

    An IPv6 address that carries IPv4 addresses is judged by all of them.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    carried = carried_addresses(address)
    if carried:
        return all(is_global(inner) for inner in carried)
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)


def carried_addresses(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address of a transition mechanism leads to or through."""
    bits = int(address)
    if any(address in network for network in _LAST_32):
        return (IPv4Address(bits & 0xFFFF_FFFF),)
    if address in _SIX_TO_FOUR:
        return (IPv4Address(bits >> 80 & 0xFFFF_FFFF),)
    if address in _TEREDO:  # the server, and the client with its bits inverted
        return IPv4Address(bits >> 64 & 0xFFFF_FFFF), IPv4Address(~bits & 0xFFFF_FFFF)
    return ()


class AllowedNetworks:
    """The public internet and the networks that the configuration adds.

    networks  "10.1.0.0/16", "fd00:1::/64" …; ValueError for what is no network
    """

    __slots__ = ("_networks",)

    def __init__(self, networks: tuple[str, ...] = ()) -> None:
        self._networks: tuple[IPNetwork, ...] = tuple(map(ip_network, networks))

    def __contains__(self, text: str) -> bool:
        """Whether the address, as a resolver gave it, may be connected to."""
        address = ip_address(text)
        if isinstance(address, IPv6Address) and address in _MAPPED:
            # The kernel makes an IPv4 connection to a mapped address.
            address = carried_addresses(address)[0]
        return is_global(address) or any(address in network for network in self._networks)
