"""The URL of an outbound proxy: what one is, and what is shown of it."""

from __future__ import annotations

import pytest

from proxy.http.outbound import proxy_url, shown


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("http://proxy.lan:3128", "http://proxy.lan:3128"),
        ("http://10.0.0.1:3128/", "http://10.0.0.1:3128"),
        ("socks5h://[fd00::1]:1080", "socks5h://[fd00::1]:1080"),
        ("http://user:pass%40word@proxy.lan:3128", "http://***@proxy.lan:3128"),
        ("socks5h://token-as-a-user@proxy.lan:1080", "socks5h://***@proxy.lan:1080"),
    ],
)
def test_a_proxy_is_shown_without_who_asks_it(url: str, seen: str) -> None:
    assert proxy_url(url) == url.rstrip("/")
    assert shown(proxy_url(url)) == seen


@pytest.mark.parametrize(
    "url",
    [
        "", "proxy.lan:3128", "http://", "http://:3128", "http://proxy.lan", "socks5h://u:SECRET@proxy.lan",
        "https://u:SECRET@proxy.lan:443", "socks5://u:SECRET@proxy.lan:1080", "socks4://proxy.lan:1", "ftp://proxy.lan:1",
        "http://u:SECRET@proxy.lan:3128/path", "http://proxy.lan:3128?SECRET", "http://proxy.lan:3128#SECRET",
        "http://proxy.lan:0", "http://proxy.lan:70000", "http://u:SEC RET@proxy.lan:3128", "http://u:SECRET\n@p:1",
        "http://u:SECRET@b@proxy.lan:1", "http://u:\xe9SECRET@proxy.lan:1", "http://u:SECRET%zz@proxy.lan:1",
        "http://u:SECRET%00@proxy.lan:1", "http://a/SECRET@proxy.lan:1",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"http://proxy\.example\.com:3128 or socks5h://") as refused:
        proxy_url(url)
    assert "SECRET" not in str(refused.value)
