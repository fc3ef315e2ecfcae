"""Answers to `POST /v1/messages` in the shapes that the API documents, with what each used, and their encodings."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import brotli
from backports.zstd import CompressionParameter, ZstdCompressor

from proxy.usage.meter import Usage


def event(type: str, **members: Any) -> bytes:
    data = json.dumps({"type": type} | members, separators=(",", ":"), ensure_ascii=False)
    return f"event: {type}\ndata: {data}\n\n".encode()


def start(usage: dict[str, Any] | None, model: str = "claude-opus-5-5") -> bytes:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
    }
    return event("message_start", message=message if usage is None else message | {"usage": usage})


def delta(text: str, kind: str = "text_delta", key: str = "text") -> bytes:
    return event("content_block_delta", index=0, delta={"type": kind, key: text})


def end(usage: dict[str, Any] | None = None) -> bytes:
    known = {} if usage is None else {"usage": usage}
    return event("message_delta", delta={"stop_reason": "end_turn"}, **known)


STOP = event("message_stop")
TEXT = (
    event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + b'event: ping\ndata: {"type": "ping"}\n\n'
    + delta("Two façades, «quoted»: ")
    + delta('{"usage":{"output_tokens":9}}\n\nevent: message_delta\ndata: {}\n\n')
    + event("content_block_stop", index=0)
)
SPLIT = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 2048,
    "cache_read_input_tokens": 9000,
    "cache_creation": {"ephemeral_5m_input_tokens": 48, "ephemeral_1h_input_tokens": 2000},
    "output_tokens": 1,
    "service_tier": "standard",
}
COUNTED = Usage("claude-opus-5-5", 12, 65, 48, 2000, 9000, service_tier="standard")
ITERATIONS = [
    {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500},
    {"type": "advisor_message", "model": "claude-fable-5-1", "input_tokens": 823, "output_tokens": 1612},
    {"type": "message", "input_tokens": 23_000, "output_tokens": 1000, "cache_creation_input_tokens": 7},
]

STREAMS: dict[str, tuple[bytes, Usage]] = {
    "thinking, a tool and a split cache": (
        start(SPLIT)
        + event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""})
        + delta("check weather", "thinking_delta", "thinking")
        + delta("EqQB...", "signature_delta", "signature")
        + event(
            "content_block_start", index=1, content_block={"type": "tool_use", "name": "get", "input": {}}
        )
        + delta("", "input_json_delta", "partial_json")
        + delta('{"city": "Paris"}', "input_json_delta", "partial_json")
        + end(
            {
                "input_tokens": 12,
                "cache_creation_input_tokens": 2048,
                "cache_read_input_tokens": 9000,
                "output_tokens": 65,
                "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
            }
        )
        + STOP,
        COUNTED,
    ),
    "no more than input and output, and no line end": (
        (start({"input_tokens": 11, "output_tokens": 1}) + TEXT + end({"output_tokens": 6}) + STOP)[:-2],
        Usage("claude-opus-5-5", 11, 6),
    ),
    "every count grown": (
        start(SPLIT | {"inference_geo": "us", "speed": "fast"})
        + end(
            {
                "input_tokens": 40,
                "cache_creation_input_tokens": 2100,
                "cache_read_input_tokens": 9007,
                "output_tokens": 8,
                "output_tokens_details": {"thinking_tokens": 3},
                "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
            }
        )
        + STOP,
        Usage("claude-opus-5-5", 40, 8, 100, 2000, 9007, 2, "standard", "us", "fast"),
    ),
    "cumulative deltas with nulls": (
        start(SPLIT)
        + TEXT
        + end({"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 20})
        + end({"input_tokens": 12, "server_tool_use": None, "output_tokens": 65})
        + STOP,
        COUNTED,
    ),
    "a refusal": (
        start({"input_tokens": 106, "output_tokens": 1})
        + event("message_delta", delta={"stop_reason": "refusal"}, usage={"output_tokens": 1})
        + STOP,
        Usage("claude-opus-5-5", 106, 1),
    ),
    "another model going on": (
        start({"input_tokens": 25, "output_tokens": 1})
        + event(
            "content_block_start",
            index=0,
            content_block={
                "type": "fallback",
                "from": {"model": "claude-opus-5-5"},
                "to": {"model": "claude-sonnet-5-5"},
            },
        )
        + event("content_block_stop", index=0)
        + TEXT
        + end({"output_tokens": 8, "fallback_credit": {"status": {"type": "redeemed"}}})
        + STOP,
        Usage("claude-sonnet-5-5", 25, 8),
    ),
    "iterations": (
        start({"input_tokens": 23_000, "output_tokens": 1, "speed": "fast"})
        + TEXT
        + end({"output_tokens": 1000, "iterations": ITERATIONS})
        + STOP,
        Usage(
            "claude-opus-5-5",
            23_000,
            1000,
            speed="fast",
            iterations=(
                Usage("claude-opus-5-5", 180_000, 3500, speed="fast"),
                Usage("claude-fable-5-1", 823, 1612, speed="fast"),
                Usage("claude-opus-5-5", 23_000, 1000, 7, speed="fast"),
            ),
        ),
    ),
}
NOT_FOR_THE_SDK: dict[str, tuple[bytes, Usage]] = {
    "usage in message_delta only": (
        start(None)
        + end({"input_tokens": 11, "output_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 3}})
        + STOP,
        Usage("claude-opus-5-5", 11, 1, 3),
    ),
    "comments, other fields, many data lines, a name after the data": (
        b": hello\nretry: 9\nid\n\n"
        + start(SPLIT).replace(b'"message":', b'\ndata: "message":')
        + b"data: ignored, for want of a name\n\n"
        + b'data: {"usage":{"output_tokens":65}}\n:\nevent:message_delta\n\n'
        + STOP,
        COUNTED,
    ),
}
ALL = STREAMS | NOT_FOR_THE_SDK


# Encodings


def flushed(
    compress: Callable[[bytes], bytes], flush: Callable[[], bytes], close: Callable[[], bytes]
) -> Any:
    """As servers compress what must not wait: each event can be read when its last byte is there."""
    return lambda events: b"".join(compress(each) + flush() for each in events) + close()


def zlib_encoder(wbits: int) -> Any:
    coder = zlib.compressobj(wbits=wbits)
    return flushed(coder.compress, lambda: coder.flush(zlib.Z_SYNC_FLUSH), coder.flush)


def brotli_encoder() -> Any:
    coder = brotli.Compressor(quality=4)
    return flushed(coder.process, coder.flush, coder.finish)


def zstd_encoder() -> Any:
    coder = ZstdCompressor(options={CompressionParameter.checksum_flag: 1})
    return flushed(coder.compress, lambda: coder.flush(ZstdCompressor.FLUSH_BLOCK), coder.flush)


ENCODERS: dict[str, tuple[str, Callable[[], Any]]] = {
    "identity": ("", lambda: b"".join),
    "gzip": ("gzip", lambda: zlib_encoder(31)),
    "deflate": ("deflate", lambda: zlib_encoder(15)),
    "bare deflate": ("Deflate", lambda: zlib_encoder(-15)),
    "br": ("br", brotli_encoder),
    "zstd": ("zstd", zstd_encoder),
}


def encoded(body: bytes, encoder: str) -> bytes:
    pieces = [piece + b"\n\n" for piece in body.split(b"\n\n")]
    pieces[-1] = pieces[-1][:-2]
    return ENCODERS[encoder][1]()(pieces)
