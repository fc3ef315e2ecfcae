"""Which address a request comes from, where proxies that are trusted stand before this one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def client_address(peer: str, forwarded_for: Iterable[str], trusted: Sequence[Network]) -> str:
    """The peer, or where it is trusted the rightmost hop of `X-Forwarded-For` that is not."""
    if not trusted or not within(peer, trusted):
        return peer
    hops = [hop.strip() for line in forwarded_for for hop in line.split(",")]
    address = peer
    for hop in reversed(hops):
        try:
            address = str(ip_address(hop))
        except ValueError:
            break  # whoever wrote this is not to be believed, nor anything left of it
        if not within(address, trusted):
            break
    return address


@lru_cache(maxsize=4096)
def address_group(address: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 /64, of which one client has all."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if ip.version == 4:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ip_network((ip, 64), strict=False))


def within(address: str, networks: Sequence[Network]) -> bool:
    """Whether the address is in one of the networks."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return any(ip.version == network.version and ip in network for network in networks)
