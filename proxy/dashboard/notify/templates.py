"""What each kind of receiver is posted: its own JSON, or text and headers.

A name or a reason in a notice is text that others may have chosen: it must not mention anybody, nor make a link.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from proxy.clock import rfc3339
from proxy.dashboard.notify.notice import Notice
from proxy.dashboard.notify.target import Target

JSON: Final = ("content-type", "application/json")
TITLE: Final = "Claude Proxy"

# The receivers' limits, in characters, but for ntfy's, which is in bytes: beyond it a text becomes an attached file.
SLACK_TEXT, DISCORD_TEXT, TEAMS_TEXT, NTFY_BYTES = 3000, 2000, 10_000, 4096

DISCORD_COLORS: Final = MappingProxyType({"info": 0x2E7D32, "warning": 0xF9A825, "error": 0xC62828})
TEAMS_COLORS: Final = MappingProxyType({"info": "Good", "warning": "Warning", "error": "Attention"})
NTFY_PRIORITIES: Final = MappingProxyType({"info": "3", "warning": "4", "error": "5"})
NTFY_TAGS: Final = MappingProxyType(
    {"info": "information_source", "warning": "warning", "error": "rotating_light"}
)

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+.!|~:@-])")


@dataclass(frozen=True, slots=True)
class Post:
    """A body and the headers that say what it is."""

    headers: list[tuple[str, str]]
    body: bytes


def slack(notice: Notice, target: Target, now: float) -> Post:
    """Blocks, whose `plain_text` is shown as it is, and a text for pop-ups (docs.slack.dev/reference/block-kit)."""
    said = _cut(notice.told, SLACK_TEXT)
    small = f"{notice.level} · {notice.event} · {rfc3339(notice.at)}"
    return _json(
        {
            "text": _escaped(said),
            "blocks": [
                {"type": "section", "text": {"type": "plain_text", "text": said, "emoji": False}},
                {"type": "context", "elements": [{"type": "plain_text", "text": small, "emoji": False}]},
            ],
        }
    )


def discord(notice: Notice, target: Target, now: float) -> Post:
    """A text for notifications and an embed (docs.discord.com/developers/resources/webhook#execute-webhook)."""
    said = _cut(_MARKDOWN.sub(r"\\\1", notice.told), DISCORD_TEXT)
    color = DISCORD_COLORS[notice.level]
    embed = {"title": notice.event, "color": color, "timestamp": rfc3339(notice.at)}
    return _json({"content": said, "embeds": [embed], "allowed_mentions": {"parse": []}})


def teams(notice: Notice, target: Target, now: float) -> Post:
    """A message with one Adaptive Card, as the Workflows app takes it. Its TextRuns know no Markdown."""
    said, color = _cut(notice.told, TEAMS_TEXT), TEAMS_COLORS[notice.level]
    small = f"{notice.event} · {rfc3339(notice.at)}"
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": [
            _run({"text": TITLE, "weight": "Bolder", "color": color}),
            _run({"text": said}),
            _run({"text": small, "isSubtle": True, "size": "Small"}),
        ],
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return _json(
        {"type": "message", "attachments": [{"contentType": kind, "contentUrl": None, "content": card}]}
    )


def ntfy(notice: Notice, target: Target, now: float) -> Post:
    """The text as the body, the rest as headers (docs.ntfy.sh/publish)."""
    headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("title", f"{TITLE}: {notice.event}"),
        ("priority", NTFY_PRIORITIES[notice.level]),
        ("tags", NTFY_TAGS[notice.level]),
    ]
    if target.token is not None:
        headers.append(("authorization", f"Bearer {target.token}"))
    return Post(headers, notice.told.encode()[:NTFY_BYTES].decode(errors="ignore").encode())


def webhook(notice: Notice, target: Target, now: float) -> Post:
    """Our own JSON; its `text` suits Slack-compatible receivers too.

    With a secret, `x-claude-proxy-signature` is `t=<unix seconds>,v1=<hex>` with the HMAC-SHA256 of `<t>.<body>`.
    """
    body: dict[str, Any] = {
        "text": _escaped(notice.told),
        "event": notice.event,
        "level": notice.level,
        "at": rfc3339(notice.at),
        **notice.details,
    }
    if notice.more:
        body["more"] = notice.more
    post = _json(body)
    if target.secret is not None:
        at = str(int(now))
        signed = hmac.new(target.secret.encode(), at.encode() + b"." + post.body, hashlib.sha256).hexdigest()
        post.headers.append(("x-claude-proxy-signature", f"t={at},v1={signed}"))
    return post


Template = Callable[[Notice, Target, float], Post]

TEMPLATES: Final[Mapping[str, Template]] = MappingProxyType(
    {"slack": slack, "discord": discord, "teams": teams, "ntfy": ntfy, "webhook": webhook}
)
"""By kind; `email` has a way of its own."""


def _json(body: dict[str, Any]) -> Post:
    return Post([JSON], json.dumps(body).encode())


def _run(run: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", **run}]}


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _escaped(text: str) -> str:
    """Slack's control characters as entities (docs.slack.dev/messaging/formatting-message-text)."""
    return html.escape(text, quote=False)
