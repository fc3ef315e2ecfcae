"""The client's address of a request, also behind trusted proxies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network

LONGEST: Final = 64
"""Characters of an address: the longest has 45, and then the name of its zone."""

_WITH_PORT: Final = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([^\[\]]*:[^\[\]]*)\](?::[0-9]{1,5})?")
"""An IPv4 address with a port, as some fronts write a hop, or an IPv6 address in brackets (RFC 7239 §6)."""


def client_address(peer: str, forwarded_for: Iterable[str], trusted: Sequence[Network]) -> str:
    """The peer. If it is a trusted proxy: the rightmost hop of `X-Forwarded-For` that is not one."""
    if not trusted or not within(peer, trusted):
        return peer
    hops = [hop.strip() for line in forwarded_for for hop in line.split(",")]
    address = peer
    for hop in reversed(hops):
        try:
            address = plain(str(_ip(_without_port(hop))))
        except ValueError:
            break  # not an address, so neither this hop nor any to its left can be trusted
        if not within(address, trusted):
            break
    return address


def _without_port(hop: str) -> str:
    found = _WITH_PORT.fullmatch(hop)
    return hop if found is None else found[1] or found[2]


def plain(address: str) -> str:
    """An IPv4 address that came to an IPv6 socket as IPv4 writes it (RFC 4291 §2.5.5.2); any other as it is."""
    if not address.startswith("::ffff:"):
        return address
    mapped = ip_address(address)
    return address if mapped.version == 4 or mapped.ipv4_mapped is None else str(mapped.ipv4_mapped)


@lru_cache(maxsize=4096)
def address_group(address: str) -> str:
    """What counts as one client: an IPv4 address, or a whole IPv6 /64, since one client usually owns all of it."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if ip.version == 4:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ip_network((ip, 64), strict=False))


@lru_cache(maxsize=4096)
def _ip(text: str) -> IPv4Address | IPv6Address:
    if len(text) > LONGEST:  # a zone may be of any length (RFC 4007 §11), and this is kept
        raise ValueError("too long for an address")
    return ip_address(text)


def within(address: str, networks: Sequence[Network]) -> bool:
    """Whether the address is in one of the networks."""
    try:
        ip = _ip(address)
    except ValueError:
        return False
    return any(ip.version == network.version and ip in network for network in networks)
