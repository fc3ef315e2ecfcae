"""Takes out of a text what has the form of a credential, or is one that the configuration holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

REDACTED = "[redacted]"

# What could end a line, steer a terminal, or hide a key from a search.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# A control character inside a key does not make two harmless halves of it. (A line's end does: it ends much else.)
_OF_A_KEY = r"[A-Za-z0-9_\x00-\x09\x0b-\x1f\x7f-\x9f-]"

_SHAPES = re.compile(
    "|".join(
        (
            rf"sk-ant-{_OF_A_KEY}+",
            rf"\bcp-{_OF_A_KEY}{{20,}}",  # a client key; one that we make has 43
            r"(?i:\bbearer\s+)[^\s\"']+",
            r"(?i:\bbasic\s+)[A-Za-z0-9+/=]{12,}",
            r"(?:(?<=claude-proxy=)|(?<=claude-proxy)-[0-9]{1,5}=)[^;\s\"']+",  # the dashboard's cookie
            r"(?<=://)[^\s/\"']+(?=@)",  # user and password of a URL
            r"(?<=\?)[^\s\"'<>?]*=[^\s\"'<>]*",  # the query of a URL
            # What `secrets` makes of 32 bytes or more: cookies, states and verifiers of logins (RFC 7636 §4.1), codes.
            r"(?<![\w-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*[0-9])[\w-]{43,}",
        )
    ),
    re.ASCII,
)

# The value of a header that holds a secret, up to its closing quote or the end of the line. The name may follow the
# letter of an escape, as in b'…\\r\\nx-api-key: …'.
# A comma after a name without quotes may be that of a sentence, which goes on with a plain word.
_HEADERS = re.compile(
    r"((?:authorization|x-api-key|(?:set-)?cookie)\b"
    r"(?:['\"]*\s*[:=]|['\"]+\s*,|\s*,(?!\s*(?-i:[a-z]){1,15}(?:\s|$)))\s*)"
    r"(?:b?(['\"])(?:\\.|(?!\2).)*|.+)",
    re.IGNORECASE,
)

# A header that Tornado or llhttp quotes because it is malformed, such as: Invalid header value '…'.
_QUOTED_HEADER = re.compile(r"(\bheaders?\b[^'\"\n]{0,40})['\"].*", re.IGNORECASE)

# A member of a JSON body, of a form or of a `repr`. Our own ids, such as `key=tok_0123456789abcdef`, are none.
_MEMBERS = re.compile(
    r"(\b(?:(?:access|refresh|id)_token|(?:client_)?secret|code_verifier|code_challenge|api_?key|passw(?:or)?d"
    r"|code|state|token|key|session|signature)['\"]*\s*[:=]\s*['\"]*)"
    r"(?![a-z]{2,8}_[0-9a-f]{16,24}\b)[\w.~+/=#-]{16,}",
    re.IGNORECASE | re.ASCII,
)

# One word with nothing of the above: no separator, no beginning of a key, too short for a cookie. Most ids and paths.
_HARMLESS = re.compile(r"(?!.*(?:sk-ant-|cp-))[A-Za-z0-9_./-]{0,42}", re.ASCII)


class Redaction:
    """Knows `secrets` by their values and all others by their form."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        """`text` without credentials. It takes a time that grows with the text's length, not with its square."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
            if not text.isprintable() and self._known.search(UNPRINTABLE.sub("", text)):
                return REDACTED  # a key that control characters cut in pieces
        if _HARMLESS.fullmatch(text):
            return text
        text = _HEADERS.sub(rf"\1{REDACTED}", text)
        text = _QUOTED_HEADER.sub(rf"\1{REDACTED}", text)
        text = _MEMBERS.sub(rf"\1{REDACTED}", text)
        return _SHAPES.sub(REDACTED, text)


redact = Redaction()
"""Knows credentials by their form only."""


def _forms(secret: str) -> set[str]:
    """The secret as it is, and as Python, JSON or a URL writes it."""
    return {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")}
