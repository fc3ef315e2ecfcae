"""What a request's body names of the requests before it: its session, and the message that it goes on from."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import DecodeError, Raw, Struct, ValidationError

from proxy.http.conversation import Metadata
from proxy.http.scan import ABSENT, text

LONGEST_USER = 2048
"""Characters of a `metadata.user_id` that is looked at. Claude Code's has about 200."""

LONGEST_ID = 256
_SESSION: Final = re.compile(rf"[\w-]{{1,{LONGEST_ID}}}")
_NOT_EMPTY: Final = re.compile(rb"\[\s*+[^\s\]]")
_BEFORE_SESSION = "_session_"


class _User(Struct):
    session_id: str


class _Previous(Struct):
    previous_message_id: Raw = ABSENT


class _Container(Struct):
    skills: Raw = ABSENT


_CONTAINER: Final = msgspec.json.Decoder(_Container)
_METADATA: Final = msgspec.json.Decoder(Metadata)
_USER: Final = msgspec.json.Decoder(_User)
_PREVIOUS: Final = msgspec.json.Decoder(_Previous)


def session(metadata: Metadata | Raw | None) -> str | None:
    """The session in `metadata.user_id`.

    Claude Code 2 writes `{"device_id":…,"account_uuid":…,"session_id":…}` as text, 1 `user_…_account_…_session_…`.
    """
    if not metadata:
        return None
    try:
        user = (metadata if isinstance(metadata, Metadata) else _METADATA.decode(metadata)).user_id
        if not user or len(user) > LONGEST_USER:
            return None
        found = _USER.decode(user).session_id if user[0] == "{" else _after(user)
    except DecodeError:
        return None
    return found if _SESSION.fullmatch(found) else None


def _after(user: str) -> str:
    before, _, found = user.rpartition(_BEFORE_SESSION)
    return found if before.startswith("user_") else ""


def previous_message(member: Raw) -> str | None:
    """The `previous_message_id` in `thread` or `diagnostics`."""
    try:
        return text(_PREVIOUS.decode(member).previous_message_id, LONGEST_ID) or None if member else None
    except ValidationError:
        return None


def runs_skills(container: Raw) -> bool:
    """Whether the container has skills, which run code."""
    try:
        return bool(container) and _NOT_EMPTY.match(_CONTAINER.decode(container).skills) is not None
    except ValidationError:
        return False
