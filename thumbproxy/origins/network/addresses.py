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
        "168.63.129.16/32",  # Azure's metadata: a public address that the host answers
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
# IPv6: nothing but global unicast, and of that not these (IANA IPv6 Special-Purpose Address
# Registry). All else is refused with it: mapped, compatible and translated IPv4, site-local,
# unique local (AWS's metadata), link-local, multicast, segment routing (5f00::/16).
_GLOBAL_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments; Teredo, which tunnels to any IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which does the same
        "3fff::/20",  # documentation (RFC 9637)
    )
)
_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291 section 2.5.5.2
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052; what resolvers give where there is no IPv4
# The identifier of an interface that tunnels to the IPv4 address in the last 32 bits (RFC 5214
# section 6.1), whether or not its bits for "universal" and "group" are set.
_ISATAP, _ISATAP_MASK = 0x0000_5EFE, 0xFCFF_FFFF


def is_global(address: IPAddress) -> bool:
    """Whether connecting to `address` leads to the public internet and nowhere else.

    An IPv6 address that stands for an IPv4 address is judged as that one; of mechanisms that
    tunnel to IPv4, none is taken.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    carried = carried_address(address)
    if carried is not None:
        return is_global(carried)
    if int(address) >> 32 & _ISATAP_MASK == _ISATAP:
        return False
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)


def carried_address(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for, where the translation is in use."""
    if address in _MAPPED or address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


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
            address = IPv4Address(int(address) & 0xFFFF_FFFF)
        return is_global(address) or any(address in network for network in self._networks)
