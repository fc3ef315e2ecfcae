"""What an organization has signed: its thinking blocks and search results, which no other one accepts."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator

from .auth import Organization
from .replies import ApiError, Json

_HALF_BYTES = 24


def sign(organization: Organization, text: str) -> str:
    """A signature of `text`, in base64 as the API's own are."""
    digest = hashlib.sha256(text.encode()).digest()[:_HALF_BYTES]
    return base64.b64encode(digest + _seal(organization, digest)).decode()


def is_signed(organization: Organization, signature: object, text: str | None = None) -> bool:
    """Whether `organization` made that signature, for that text unless it is None."""
    try:
        raw = base64.b64decode(signature if isinstance(signature, str) else "", validate=True)
    except (binascii.Error, ValueError):
        return False
    digest, seal = raw[:_HALF_BYTES], raw[_HALF_BYTES:]
    if seal != _seal(organization, digest):
        return False
    return text is None or digest == hashlib.sha256(text.encode()).digest()[:_HALF_BYTES]


def _seal(organization: Organization, digest: bytes) -> bytes:
    return hashlib.sha256(organization.uuid.encode() + digest).digest()[:_HALF_BYTES]


def check(organization: Organization, messages: list[Json]) -> None:
    """ApiError 400 if `messages` has a signed part that is not of `organization`, in the API's own words.

    Recorded in anthropics/claude-code#10627 and #71111 for thinking blocks. Documented: preserved-thinking.
    """
    for number, message in enumerate(messages):
        content = message["content"]
        for index, block in enumerate(content if isinstance(content, list) else []):
            where = f"messages.{number}.content.{index}"
            for member, kind in _forged(organization, block):
                raise ApiError(400, f"{where}: Invalid `{member}` in `{kind}` block")


def _forged(organization: Organization, block: Json) -> Iterator[tuple[str, str]]:
    """The signed members of `block` that are not the organization's, with the type of block that the API names."""
    match block["type"]:
        case "thinking":
            text = block.get("thinking") or None  # left out by `display: omitted`
            if not is_signed(organization, block.get("signature"), text):
                yield "signature", "thinking"
        case "redacted_thinking":
            if not is_signed(organization, block.get("data")):
                yield "data", "redacted_thinking"
        case "web_search_tool_result":
            results = block.get("content")
            for result in results if isinstance(results, list) else []:
                if not is_signed(organization, result.get("encrypted_content")):
                    yield "encrypted_content", "search_result"
