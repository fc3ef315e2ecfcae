"""A message as server-sent events, with every kind of event that the API sends."""

from __future__ import annotations

from collections.abc import Iterator

from .replies import Json, dumps

_TEXT_PIECE = 18
_JSON_PIECE = 14


def frame(name: str, data: Json) -> bytes:
    """One event with the blank line that ends it."""
    return b"event: " + name.encode() + b"\ndata: " + dumps(data) + b"\n\n"


def frames(message: Json) -> tuple[bytes, ...]:
    """The whole stream of `message`, a finished answer to a request without `stream`."""
    return tuple(frame(event["type"], event) for event in _events(message))


def _events(message: Json) -> Iterator[Json]:
    usage = message["usage"]
    first_usage = {key: value for key, value in usage.items() if key != "output_tokens_details"}
    end: Json = {
        name: message[name] for name in ("stop_reason", "stop_sequence", "container") if name in message
    }
    start = message | {"content": []} | dict.fromkeys(end)
    yield {"type": "message_start", "message": start | {"usage": first_usage | {"output_tokens": 1}}}
    for index, block in enumerate(message["content"]):
        yield {"type": "content_block_start", "index": index, "content_block": _empty(block)}
        if index == 0:
            yield {"type": "ping"}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    # Cumulative; the 5m/1h split of cache_creation is in message_start only.
    fields = (
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
        "server_tool_use",
        "output_tokens_details",
    )
    yield {
        "type": "message_delta",
        "delta": end,
        "usage": {key: usage[key] for key in fields if usage.get(key) is not None},
    }
    yield {"type": "message_stop"}


def _empty(block: Json) -> Json:
    """`block` as its content_block_start has it."""
    match block["type"]:
        case "text":
            return block | {"text": ""}
        case "thinking":
            return block | {"thinking": "", "signature": ""}
        case "tool_use" | "server_tool_use":
            return block | {"input": {}}
        case _:
            return block


def _deltas(block: Json) -> Iterator[Json]:
    match block["type"]:
        case "text":
            for piece in _pieces(block["text"], _TEXT_PIECE):
                yield {"type": "text_delta", "text": piece}
        case "thinking":
            for piece in _pieces(block["thinking"], _TEXT_PIECE):
                yield {"type": "thinking_delta", "thinking": piece}
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "tool_use" | "server_tool_use":
            yield {"type": "input_json_delta", "partial_json": ""}
            for piece in _pieces(dumps(block["input"]).decode(), _JSON_PIECE):
                yield {"type": "input_json_delta", "partial_json": piece}


def _pieces(text: str, length: int) -> Iterator[str]:
    return (text[start : start + length] for start in range(0, len(text), length))


def endless(deltas: int) -> tuple[bytes, ...]:
    """A stream of that many text deltas, all alike."""
    message = {
        "id": "msg_01SimulatedEndless000000",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": "and on and on "}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 3 * deltas},
    }
    start, block, ping, delta, *end = frames(message)
    return (start, block, ping, *([delta] * deltas), *end)
