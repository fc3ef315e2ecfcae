"""Counting tokens out of completions, as OpenAI's API has them."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from proxy.usage.completions import CompletionMeter
from proxy.usage.meter import Usage

SSE, JSON = "text/event-stream", "application/json"
MODEL = "claude-sonnet-5-5"
USAGE = {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}


def metered(body: bytes, kind: str, encoding: str = "", status: int = 200) -> Usage | None:
    """What is read of a body, whole or byte by byte."""
    found = []
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        meter = CompletionMeter(kind, encoding, status)
        for piece in pieces:
            meter.feed(piece)
        assert meter.may_be_whole
        found.append(meter.finish(complete=True))
    assert found[0] == found[1]
    return found[0]


def completion(text: str = "Hi", **members: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"object": "chat.completion", "model": MODEL, "choices": [choice]} | members).encode()


def chunks(*last: dict[str, Any]) -> bytes:
    said = {"choices": [{"index": 0, "delta": {"content": 'a "completion_tokens"'}}], "usage": None}
    lines = [json.dumps({"object": "chat.completion.chunk", "model": MODEL} | each) for each in (said, *last)]
    return "".join(f"data: {line}\r\n\r\n" for line in (*lines, "[DONE]")).encode()


def test_a_completion_tells_its_tokens() -> None:
    assert metered(completion(usage=USAGE), JSON) == Usage(MODEL, 12, 34)


def test_a_long_one_tells_them_at_its_end() -> None:
    body = completion("long " * 200_000, usage=USAGE)
    meter = CompletionMeter(JSON, "", 200)
    meter.feed(body)
    assert meter.finish(complete=True) == Usage(MODEL, 12, 34)


def test_a_stream_tells_them_in_its_last_chunk() -> None:
    body = chunks({"choices": [], "usage": USAGE})
    assert metered(body, SSE) == Usage(MODEL, 12, 34)
    assert metered(gzip.compress(body), SSE, "gzip") == Usage(MODEL, 12, 34)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (chunks(), SSE, 200),
        (completion(), JSON, 200),
        (completion(usage={"prompt_tokens": 1}), JSON, 200),
        (completion(usage={"prompt_tokens": 1, "completion_tokens": None}), JSON, 200),
        (b'{"type":"completion","completion":" Hi","model":"claude-2.1","stop_reason":"stop_sequence"}', JSON, 200),
        (completion(usage=USAGE), JSON, 400),
        (completion(usage=USAGE), "text/html", 200),
        (b'data: {"completion_tokens"', SSE, 200),
        (b"", JSON, 200),
    ],
    ids=range(9),
)  # fmt: skip
def test_what_is_not_told_is_none(body: bytes, kind: str, status: int) -> None:
    assert metered(body, kind, status=status) is None
