"""POST /v1/messages and /v1/messages/count_tokens: from a request to a finished message."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.clock import Clock

from . import prose
from .auth import Credential, Organization
from .files import Files
from .ids import Ids
from .models import require_model
from .prompt_cache import InputTokens, PromptCache
from .replies import Answer, EventStream, Json, dumps, json_answer
from .requests import Request
from .sse import frames
from .validation import check_version, validate

MAX_BYTES = 32 << 20


@dataclass(slots=True)
class _Draft:
    """The content so far; `output_tokens` includes the `thinking_tokens`."""

    budget: int
    content: list[Json] = field(default_factory=list)
    output_tokens: int = 0
    thinking_tokens: int = 0
    searches: int = 0
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None

    def spend(self, text: str) -> str:
        """As much of `text` as the budget allows."""
        pieces = prose.tokens(text)
        left = self.budget - self.output_tokens
        if len(pieces) > left:
            self.stop_reason = "max_tokens"
            pieces = pieces[:left]
        self.output_tokens += len(pieces)
        return "".join(pieces)

    @property
    def full(self) -> bool:
        return self.stop_reason != "end_turn"


class Messages:
    """Answers that the request alone decides, but for ids and what the prompt cache holds.

    With `eager_tools` the first tool is called wherever tools are given; else only one that the user's text
    names or that `tool_choice` demands.
    """

    def __init__(
        self,
        cache: PromptCache,
        files: Files,
        *,
        clock: Clock,
        ids: Ids,
        eager_tools: bool,
    ) -> None:
        self._cache = cache
        self._files = files
        self._clock = clock
        self._ids = ids
        self._eager_tools = eager_tools

    async def create(self, caller: Credential, request: Request) -> Answer | EventStream:
        body = request.json(MAX_BYTES)
        message = self.compose(caller.organization, body, check_version(request.headers))
        usage = message["usage"]
        caller.meter.count(
            self._clock.now(),
            usage["input_tokens"] + usage["cache_creation_input_tokens"],
            usage["output_tokens"],
        )
        return EventStream(frames(message)) if body.get("stream") else json_answer(message)

    async def count_tokens(self, caller: Credential, request: Request) -> Answer:
        body = request.json(MAX_BYTES)
        validate(body, check_version(request.headers), counting=True)
        require_model(body["model"])
        return json_answer({"input_tokens": self._cache.count(body)})

    def compose(self, organization: Organization, body: Json, version: str) -> Json:
        """The whole message that answers `body`; ApiError where it is refused."""
        validate(body, version)
        require_model(body["model"])
        for file_id in _file_ids(body["messages"]):
            self._files.require(organization, file_id)
        tokens = self._cache.use(organization, body, self._clock.now())
        draft = self._draft(organization, body)
        return {
            "id": self._ids.new("msg"),
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": draft.content,
            "stop_reason": draft.stop_reason,
            "stop_sequence": draft.stop_sequence,
            "usage": _usage(tokens, draft, body),
        }

    def _draft(self, organization: Organization, body: Json) -> _Draft:
        draft = _Draft(body["max_tokens"])
        question = _question(body)
        thinking = body.get("thinking") or {}
        if thinking.get("type") in ("enabled", "adaptive"):
            _think(draft, question, organization, shown=thinking.get("display") != "omitted")
        if draft.full:
            return draft
        tool = None if _answers_tool(body) else _chosen_tool(body, question, eager=self._eager_tools)
        if tool is not None and "input_schema" in tool:
            self._call(draft, tool, forced=(body.get("tool_choice") or {}).get("type") in ("any", "tool"))
            return draft
        if tool is not None and str(tool.get("type", "")).startswith("web_search"):
            self._search(draft, question)
        schema = _output_schema(body)
        text = prose.answer(question) if schema is None else dumps(prose.plausible(schema)).decode()
        _say(draft, text, body.get("stop_sequences") or [])
        return draft

    def _call(self, draft: _Draft, tool: Json, *, forced: bool) -> None:
        if not forced:
            _say(draft, f"I'll use {tool['name']} for that.", [])
        if draft.full:
            return
        value = prose.plausible({"type": "object"} | tool["input_schema"])
        draft.spend(dumps(value).decode())
        block = {"type": "tool_use", "id": self._ids.new("toolu"), "name": tool["name"], "input": value}
        draft.content.append(block)
        if not draft.full:
            draft.stop_reason = "tool_use"

    def _search(self, draft: _Draft, question: str) -> None:
        """A web search and its result, both made by the server."""
        use = self._ids.new("srvtoolu")
        query = {"query": " ".join(question.split()[:6])}
        result = {
            "type": "web_search_result",
            "title": "Example",
            "url": "https://example.com/",
            "encrypted_content": "c2ltdWxhdGVk",
            "page_age": None,
        }
        draft.content += [
            {"type": "server_tool_use", "id": use, "name": "web_search", "input": query},
            {"type": "web_search_tool_result", "tool_use_id": use, "content": [result]},
        ]
        draft.searches += 1


def _think(draft: _Draft, question: str, organization: Organization, *, shown: bool) -> None:
    text = draft.spend(prose.thought(question))
    draft.thinking_tokens = draft.output_tokens
    digest = hashlib.sha512(f"{organization.uuid}\0{text}".encode()).digest()
    signature = base64.b64encode(digest).decode()
    draft.content.append({"type": "thinking", "thinking": text if shown else "", "signature": signature})


def _say(draft: _Draft, text: str, stops: list[str]) -> None:
    found = [(text.index(stop), stop) for stop in stops if stop and stop in text]
    if found:
        end, stop = min(found)
        said = draft.spend(text[:end])
        if not draft.full:
            draft.stop_reason, draft.stop_sequence = "stop_sequence", stop
    else:
        said = draft.spend(text)
    if said:
        draft.content.append({"type": "text", "text": said})


def _usage(tokens: InputTokens, draft: _Draft, body: Json) -> Json:
    usage: Json = {
        "input_tokens": tokens.input,
        "cache_creation_input_tokens": tokens.created_5m + tokens.created_1h,
        "cache_read_input_tokens": tokens.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.created_5m,
            "ephemeral_1h_input_tokens": tokens.created_1h,
        },
        "output_tokens": draft.output_tokens,
        "service_tier": "standard",
        "inference_geo": body.get("inference_geo") or "global",
        "server_tool_use": {"web_search_requests": draft.searches, "web_fetch_requests": 0},
    }
    if body.get("speed"):
        usage["speed"] = body["speed"]
    if draft.thinking_tokens:
        usage["output_tokens_details"] = {"thinking_tokens": draft.thinking_tokens}
    return usage


def _file_ids(value: object) -> Iterator[str]:
    """Every `file_id` in `value`, however deep."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if isinstance(value.get("file_id"), str):
                yield value["file_id"]
            left += value.values()
        elif isinstance(value, list):
            left += value


def _question(body: Json) -> str:
    """The text of the last user message."""
    for message in reversed(body["messages"]):
        if message["role"] == "user":
            content = message["content"]
            if isinstance(content, str):
                return content
            texts = [str(block.get("text", "")) for block in content if block["type"] == "text"]
            return " ".join(texts)
    return ""


def _answers_tool(body: Json) -> bool:
    """Whether the last user message brings a tool's result."""
    last = body["messages"][-1]["content"]
    return isinstance(last, list) and any(block["type"] == "tool_result" for block in last)


def _chosen_tool(body: Json, question: str, *, eager: bool) -> Json | None:
    tools: list[Json] = body.get("tools") or []
    choice = body.get("tool_choice") or {}
    match choice.get("type", "auto"):
        case "none":
            return None
        case "tool":
            return next(tool for tool in tools if tool.get("name") == choice["name"])
        case "auto" if not eager:
            words = question.lower()
            return next((tool for tool in tools if str(tool.get("name", "\0")).lower() in words), None)
        case _:
            return tools[0] if tools else None


def _output_schema(body: Json) -> Json | None:
    """The schema of structured output, where it was asked for."""
    wanted = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    return wanted.get("schema") if wanted.get("type") == "json_schema" else None
