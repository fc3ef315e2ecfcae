"""What each kind of receiver is posted: just the members that it knows, and nothing that mentions or links."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.dashboard.notify.notice import Notice
from proxy.dashboard.notify.target import Target
from proxy.dashboard.notify.templates import TEMPLATES
from tests.echo import Echo, Message, echo
from tests.service import Service, serve, until

TOKEN = "tk_canaryTokenOfNtfy7"
QUERY = "?api-version=2016-06-01&sig=canary-sig-Yw3Kd8RqPz6Lt"
HOSTILE = "<!channel> @everyone [click](https://evil.example) & **co**"
AT = 1_800_000_000.0


@contextlib.asynccontextmanager
async def told(tmp_path: Path, kind: str, more: str = "") -> AsyncIterator[tuple[Service, Echo]]:
    """A proxy with one target of this kind, once an account with a hostile name has turned invalid."""
    async with echo() as receiver:
        config = tmp_path / "config.yaml"
        target = f"{{kind: {kind}, url: '{receiver.url}/hook{QUERY}', events: [account.invalid]{more}}}"
        config.write_text(f"notifications: {{targets: [{target}]}}")
        async with serve(tmp_path / "data", config=config, accounts=[HOSTILE]) as service:
            [account] = service.parts.pool
            service.parts.pool.invalidate(account.id, "401")
            await until(lambda: receiver.requests)
            yield service, receiver


async def post(tmp_path: Path, kind: str, more: str = "") -> Message:
    async with told(tmp_path, kind, more) as (_, receiver):
        [request] = receiver.requests
        assert request.start == f"POST /hook{QUERY} HTTP/1.1".encode()
        assert request.values("user-agent")[0].startswith(b"claude-proxy/")
        return request


def shape(value: Any) -> Any:
    """The members and kinds of a JSON value, without its texts."""
    match value:
        case dict():
            return {name: shape(inner) for name, inner in value.items()}
        case list():
            return [shape(inner) for inner in value]
    return type(value).__name__


async def test_slack_gets_blocks_of_plain_text(tmp_path: Path) -> None:
    request = await post(tmp_path, "slack")
    body = json.loads(request.body)
    plain = {"type": "str", "text": "str", "emoji": "bool"}
    assert shape(body) == {
        "text": "str",
        "blocks": [{"type": "str", "text": plain}, {"type": "str", "elements": [plain]}],
    }
    section, context = body["blocks"]
    assert (section["type"], section["text"]["type"]) == ("section", "plain_text")
    assert (context["type"], context["elements"][0]["type"]) == ("context", "plain_text")
    assert section["text"]["text"] == f"Claude Proxy: account {HOSTILE} is invalid: 401"
    assert context["elements"][0]["text"] == "error · account.invalid · 2027-01-15T08:00:00.000Z"
    assert "<" not in body["text"] and "&lt;!channel&gt; @everyone" in body["text"]
    assert request.values("content-type") == [b"application/json"]


async def test_discord_gets_a_text_and_an_embed_and_mentions_nobody(tmp_path: Path) -> None:
    body = json.loads((await post(tmp_path, "discord")).body)
    assert shape(body) == {
        "content": "str",
        "embeds": [{"title": "str", "color": "int", "timestamp": "str"}],
        "allowed_mentions": {"parse": []},
    }
    [embed] = body["embeds"]
    assert (embed["title"], embed["timestamp"]) == ("account.invalid", "2027-01-15T08:00:00.000Z")
    assert 0 <= embed["color"] <= 0xFFFFFF
    assert r"\[click\]\(https\:" in body["content"] and r"\*\*co\*\*" in body["content"]


async def test_teams_gets_a_message_with_an_adaptive_card_without_markdown(tmp_path: Path) -> None:
    body = json.loads((await post(tmp_path, "teams")).body)
    assert body.keys() == {"type", "attachments"} and body["type"] == "message"
    [attachment] = body["attachments"]
    assert attachment.keys() == {"contentType", "contentUrl", "content"}
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["contentUrl"] is None
    card = attachment["content"]
    assert card.keys() == {"$schema", "type", "version", "body"}
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.2")
    assert card["$schema"] == "http://adaptivecards.io/schemas/adaptive-card.json"
    assert {block["type"] for block in card["body"]} == {"RichTextBlock"}
    runs = [run for block in card["body"] for run in block["inlines"]]
    assert {run["type"] for run in runs} == {"TextRun"}
    assert runs[0]["color"] == "Attention"
    assert [run["text"] for run in runs] == [
        "Claude Proxy",
        f"Claude Proxy: account {HOSTILE} is invalid: 401",
        "account.invalid · 2027-01-15T08:00:00.000Z",
    ]


async def test_ntfy_gets_a_text_and_headers(tmp_path: Path) -> None:
    request = await post(tmp_path, "ntfy", f", token: {TOKEN}")
    assert request.body.decode() == f"Claude Proxy: account {HOSTILE} is invalid: 401"
    assert request.values("title") == [b"Claude Proxy: account.invalid"]
    assert (request.values("priority"), request.values("tags")) == ([b"5"], [b"rotating_light"])
    assert request.values("authorization") == [f"Bearer {TOKEN}".encode()]
    assert request.values("content-type") == [b"text/plain; charset=utf-8"]


async def test_a_generic_webhook_gets_our_own_members(tmp_path: Path) -> None:
    body = json.loads((await post(tmp_path, "webhook")).body)
    account = {"id": "str", "name": "str", "reason": "str"}
    assert shape(body) == {"text": "str", "event": "str", "level": "str", "at": "str", "account": account}


@pytest.mark.parametrize(
    ("kind", "most"), [("slack", 3000), ("discord", 2000), ("teams", 10_000), ("ntfy", 4096)]
)
def test_a_long_text_is_cut_to_what_the_receiver_takes(kind: str, most: int) -> None:
    notice = Notice("account.invalid", "ö*" * 20_000, "error", AT)
    body = TEMPLATES[kind](notice, Target("a", kind, "https://a.example"), AT).body
    if kind == "ntfy":
        assert most - 2 <= len(body) <= most and body.decode()
        return
    texts: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, str):
            texts.append(value)
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(inner)

    collect(json.loads(body))
    assert max(map(len, texts)) == most


@pytest.mark.parametrize("kind", sorted(TEMPLATES))
@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_each_kind_tells_how_many_more_there_were(kind: str, level: Any) -> None:
    notice = Notice("account.invalid", "It is so", level, AT, more=3)
    body = TEMPLATES[kind](notice, Target("a", kind, "https://a.example"), AT).body.decode()
    assert "It is so" in body and "3 more" in body
