"""Where notifications may go: to the Internet, and to what the operator opens.

Tenants choose the URLs, the service makes the connections, and it may stand where it
can reach what they cannot. So addresses that are not public are refused, when a
subscription is made and, since names can change, on the address of each connection.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from mqsvc.notification.target import Address

OPTION = "notification.allowed_networks"

Network = IPv4Network | IPv6Network

_REFUSED_IPV4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # "this host": connects to the machine itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; metadata of one cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # metadata of one cloud, at a public address
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; metadata of one cloud
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)

_PUBLIC_IPV6 = IPv6Network("2000::/3")
"""All of the rest is local, multicast, unspecified, or not assigned."""

_REFUSED_IPV6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)

_NAT64 = IPv6Network("64:ff9b::/96")
_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


class TargetRefused(Exception):
    """A notification must not go to an address; the text names it and the option."""

    def __init__(self, address: Address) -> None:
        super().__init__(
            f"The address {address} is not on the public Internet. An operator can "
            f"open its network with the option {OPTION}."
        )


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks of an option.

    :raise ValueError: one is no network such as 10.0.0.0/8 or fd00::/8; the text says
        which.
    """
    return tuple(ipaddress.ip_network(text) for text in texts)


class TargetGuard:
    """Knows which addresses notifications may go to.

    :param allowed: networks that are open beside the public Internet.
    :param is_local: whether the machine itself is open, as it is to all who can call a
        service that listens there only.
    """

    def __init__(self, allowed: Iterable[Network] = (), is_local: bool = False) -> None:
        self._allowed = (*allowed, *(_LOOPBACK if is_local else ()))

    def permits(self, address: Address) -> bool:
        """Whether a notification may go to an address."""
        if any(address in network for network in self._allowed):
            return True
        if isinstance(address, IPv4Address):
            return not any(address in network for network in _REFUSED_IPV4)
        inner = _inner(address)
        if inner is not None:
            return self.permits(inner)
        return address in _PUBLIC_IPV6 and not any(
            address in network for network in _REFUSED_IPV6
        )

    def permitted(self, addresses: Iterable[Address]) -> list[Address]:
        """Those of the addresses of one host that notifications may go to.

        :raise TargetRefused: there are some and none of them is permitted.
        """
        found = list(addresses)
        permitted = [address for address in found if self.permits(address)]
        if found and not permitted:
            raise TargetRefused(found[0])
        return permitted


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address end up at, if there is one."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
