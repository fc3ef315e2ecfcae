"""What comes back of a login: a code that an admin pastes in one of three forms, or the provider's refusal."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from proxy.errors import InvalidRequest, RequestError

SHORTEST_CODE = 8


@dataclass(frozen=True, slots=True)
class Pasted:
    """What an admin pasted: a code, `code#state`, or the whole callback URL."""

    code: str = field(repr=False)
    state: str | None


def read_pasted(text: str) -> Pasted:
    """Parse pasted text, ignoring spaces and line breaks. Raises InvalidRequest."""
    text = re.sub(r"\s+", "", text)
    state: str | None
    if "?" in text:
        query = parse_qs(text.partition("?")[2].partition("#")[0])
        if "error" in query:
            raise refused_by_provider(query["error"][0])
        code, state = query.get("code", [""])[0], query.get("state", [None])[0]
    else:
        code, _, rest = text.partition("#")
        state = rest or None
    if re.fullmatch(r"\d{6}", code):
        raise InvalidRequest(
            "That looks like the 6-digit e-mail sign-in code. Enter it on the provider's page first; the code for "
            "this box comes after you press Authorise.",
            type="six_digits",
        )
    if len(code) < SHORTEST_CODE or not code.isascii() or not code.isprintable():
        raise InvalidRequest(
            "Paste the code shown after you authorised. It is one long string, usually with a # in it.",
            type="code_missing",
        )
    return Pasted(code, state)


def refused_by_provider(error: str) -> RequestError:
    """The error for a redirect without a code (RFC 6749 §4.1.2.1): the admin cancelled, or the settings are wrong."""
    if error == "access_denied":
        return InvalidRequest(
            "Authorisation was cancelled at the provider's. Nothing was added.", type="access_denied"
        )
    told = error if re.fullmatch(r"[a-z_]{1,64}", error) else "an unknown error"
    return InvalidRequest(
        f"The provider refused the login: {told}. Nothing was added. See the oauth settings of this proxy.",
        type="authorization_refused",
    )
