"""What two versions sent as lines of text, without what differs with any two processes, and the first difference."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping

from tests.bench.recorder import Heard

LONG = 3000
"""A longer body is shown by its ends and its digest."""
NEARLY_S = 2
"""Of a `retry-after` that is reckoned, so much is the time between the two."""

# A file of the page is compared by its head: pages are rewritten without a change of what programs see.
_OF_PAGES = re.compile(
    rb"\r\n(?:content-type: (?:text/html|text/css|text/javascript|image/svg)|etag:)", re.IGNORECASE
)
_HEADER_VALUES = re.compile(r"(?im)^((?:etag|server|content-security-policy): )(.*)$")
_OUR_DATE = re.compile(r"(?i)^(date): .*$")
_COOKIE = re.compile(r"(?i)^(set-cookie: [^=]*=)[^;]*")
_PATTERNS = [
    (re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?"), "<time>"),
    (re.compile(r"\breq_(?!up_)[0-9A-Za-z]{8,}"), "<request>"),
    (re.compile(r'("(?:uptime_seconds|[a-z_]*age_hours|[a-z_]*_ms|expires_in)": ?)[\d.]+'), r"\1<number>"),
    (re.compile(r'("etag": ?)"[^"]*"'), r'\1"<etag>"'),  # opaque (RFC 9110 §8.8.3)
    (re.compile(r"((?:GET|HEAD) /(?:static/\S*)? 200 .* bytes=)\d+"), r"\1<of the page>"),
    (re.compile(r'("version": ?)"[^"]*"'), r'\1"<version>"'),
    (re.compile(r"\b(ttfb_ms|duration_ms)=\d+"), r"\1=<number>"),
    (re.compile(r"\bcp-(?!bench|inactive)[A-Za-z0-9_-]{20,}"), "<new key>"),
    (re.compile(r"\bcp-[A-Za-z0-9]{1,6}(?:…|\.\.\.)[A-Za-z0-9_-]{2,6}"), "<masked key>"),
]
_ID = re.compile(r"\b([a-z]+_)?[0-9a-f]{16}\b")
_LENGTH = re.compile(r"(?i)^(content-length: )(\d+)$")
_RETRY_AFTER = re.compile(r"(?i)^(.*retry-after: )(\d+)$")


def masked(text: str, known: Mapping[str, str]) -> str:
    """`text` without times, ids and the like; `known` are strings of this version with what to write for them."""
    for value, name in known.items():
        text = text.replace(value, name)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    numbers: dict[str, int] = {}

    def numbered(found: re.Match[str]) -> str:
        return f"<{found[1] or ''}{numbers.setdefault(found[0], len(numbers) + 1)}>"

    return _ID.sub(numbered, text)


def request_lines(data: bytes, known: Mapping[str, str]) -> list[str]:
    """What the upstream got."""
    head, _, body = data.partition(b"\r\n\r\n")
    return [*(masked(_shown(line), known) for line in head.split(b"\r\n")), *_body_lines(body, known)]


def answer_lines(heard: Heard, known: Mapping[str, str], *, sent_at: str) -> list[str]:
    """What the client heard; `sent_at` is the `Date` that the upstream says, which is no date of ours."""
    lines = []
    page = bool(_OF_PAGES.search(heard.head)) and b"x-proxy-account" not in heard.head.lower()
    for line in heard.head.removesuffix(b"\r\n\r\n").split(b"\r\n"):
        text = _shown(line)
        if sent_at not in text:
            text = _OUR_DATE.sub(r"\1: <now>", text)
        text = _COOKIE.sub(r"\1<value>", text)
        if (said := _LENGTH.match(text)) and (page or int(said[2]) == len(heard.body)):
            text = f"{said[1]}<of the body>"
        if page:
            text = _HEADER_VALUES.sub(r"\1<of the page>", text)
        lines.append(masked(text, known))
    return [
        *lines,
        *(["<page>"] if page and heard.body else _body_lines(heard.body, known)),
        f"({heard.end})",
    ]


def _body_lines(body: bytes, known: Mapping[str, str]) -> list[str]:
    if not body:
        return []
    text = masked(_shown(body), known)
    if len(text) > LONG:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        text = f"{text[: LONG // 2]} … {digest} … {text[-LONG // 2 :]}"
    return ["", *text.replace("\\n", "\\n\n").split("\n")]


def _shown(data: bytes) -> str:
    """Every byte, one way: control and non-ASCII ones as escapes."""
    return repr(data)[2:-1]


def difference(this: list[str], other: list[str], names: tuple[str, str]) -> str:
    """A diff of both; empty if they say the same."""
    this, other = list(this), list(other)
    if len(this) == len(other):
        for number, (one, two) in enumerate(zip(this, other, strict=True)):
            a, b = _RETRY_AFTER.match(one), _RETRY_AFTER.match(two)
            if a and b and a[1] == b[1] and abs(int(a[2]) - int(b[2])) <= NEARLY_S:
                other[number] = one
    return "\n".join(difflib.unified_diff(other, this, names[1], names[0], lineterm="", n=100))
