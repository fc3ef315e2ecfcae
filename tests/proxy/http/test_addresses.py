"""Which address a request comes from, and what counts as one client."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.addresses import Network, address_group, client_address

TRUSTED: list[Network] = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]

addresses = st.ip_addresses().map(str)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("fd00::1", ["2001:DB8::7"], "2001:db8::7"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4, 10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4", "fd00::2,10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["1.2.3.4, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("9.9.9.9", ["1.2.3.4"], "9.9.9.9"),
        ("", ["1.2.3.4"], ""),
    ],
)
def test_the_rightmost_hop_that_is_not_trusted_counts(
    peer: str, forwarded_for: list[str], address: str
) -> None:
    assert client_address(peer, forwarded_for, TRUSTED) == address


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("203.0.113.7:51234", "203.0.113.7"),
        ("[2001:DB8::7]", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("[::ffff:203.0.113.7]:443", "203.0.113.7"),
        ("[fe80::1%eth0]:443", "fe80::1%eth0"),
        ("2001:db8::7:443", "2001:db8::7:443"),
        ("::1", "::1"),
    ],
)
def test_a_front_may_write_the_port_too(hop: str, address: str) -> None:
    assert client_address("10.0.0.1", [f"6.6.6.6, {hop}, 10.0.0.2:80"], TRUSTED) == address


@pytest.mark.parametrize(
    "hop",
    [
        *("203.0.113.7:", "203.0.113.7:80:80", "203.0.113.7:x", "203.0.113.7:123456", "203.0.113:80"),
        *("999.0.113.7:80", "[203.0.113.7]", "[203.0.113.7]:80", "[]", "[]:80", "[::1", "::1]", "[::1]80"),
        *("[[::1]]", "[::1]:", "[::1]:x", "[::1] :80", "[::1]:80 x", "localhost:80", ":80", "1.2.3.4:٣"),
        f"[fe80::1%{1000 * 'e'}]:80",
    ],
)
def test_what_only_looks_like_an_address_with_a_port_is_none(hop: str) -> None:
    assert client_address("10.0.0.1", [f"6.6.6.6, {hop}"], TRUSTED) == "10.0.0.1"


def test_an_address_with_a_zone_of_any_length_is_none() -> None:
    assert client_address("10.0.0.1", ["fe80::1%eth0"], TRUSTED) == "fe80::1%eth0"
    assert client_address("10.0.0.1", ["fe80::1%" + 1000 * "e"], TRUSTED) == "10.0.0.1"


@given(addresses, st.lists(st.text() | addresses))
def test_without_trusted_proxies_nothing_that_a_client_sends_counts(peer: str, lines: list[str]) -> None:
    assert client_address(peer, lines, ()) == peer


@given(st.lists(st.text() | addresses), st.ip_addresses(v=4).filter(lambda ip: ip not in TRUSTED[0]))
def test_what_stands_left_of_an_untrusted_hop_does_not_count(forged: list[str], real: object) -> None:
    assert client_address("10.0.0.1", [", ".join([*forged, str(real)])], TRUSTED) == str(real)


@given(addresses, st.lists(st.text()))
def test_whatever_is_sent_there_is_an_address(peer: str, lines: list[str]) -> None:
    client_address(peer, lines, TRUSTED)


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_one_client_is_an_ipv4_address_or_an_ipv6_network_of_64_bits(address: str, group: str) -> None:
    assert address_group(address) == group
