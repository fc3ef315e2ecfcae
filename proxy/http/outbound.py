"""The URL of an outbound proxy, through which the upstream and the OAuth server are reached."""

from __future__ import annotations

import re

FIX = "use a URL with a port, such as http://proxy.example.com:3128 or socks5h://user:password@10.0.0.1:1080"

# User and password are percent-encoded (RFC 3986 §3.2.1); libcurl decodes them, and takes no NUL. A `*` has to
# be encoded too: what is shown of a URL is none.
_PART = r"(?:[A-Za-z0-9._~!$&'()+,;=-]|%(?!00)[0-9A-Fa-f]{2})*"
_URL = re.compile(
    rf"(?:http|socks5h)://(?:{_PART}(?::{_PART})?@)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):([1-9][0-9]{{0,4}})/?"
)


def proxy_url(text: str) -> str:
    """The URL without a slash at its end. Raises ValueError, which does not repeat it: it may hold a password.

    `socks5h` and not `socks5`: the proxy looks names up, since who needs one often has no DNS of the world outside.
    """
    found = _URL.fullmatch(text)
    if found is None or int(found[1]) > 65535:
        raise ValueError(FIX)
    return text.rstrip("/")


def shown(url: str) -> str:
    """What people may see of it: neither password nor user, since some proxies take a token for a user."""
    return re.sub("//.*@", "//***@", url)
