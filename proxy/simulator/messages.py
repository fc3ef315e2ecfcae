"""POST /v1/messages and /v1/messages/count_tokens: from a request to a finished message."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.clock import Clock

from . import prose, signatures
from .auth import Credential, Organization
from .containers import Containers
from .diagnostics import Diagnostics
from .drafts import Draft
from .files import Files
from .ids import Ids
from .models import require_model
from .prompt_cache import InputTokens, PromptCache
from .replies import Answer, EventStream, Json, dumps, json_answer
from .requests import Request
from .routes import Routes
from .sse import frames
from .threads import Threads
from .validation import check_version, validate

MAX_BYTES = 32 << 20


class Messages:
    """Answers that the request alone decides, but for ids and what the organization has: its cache, files, containers.

    With `eager_tools` the first tool is called wherever tools are given; else only one that the user's text
    names or that `tool_choice` demands.
    """

    def __init__(
        self,
        cache: PromptCache,
        files: Files,
        containers: Containers,
        *,
        clock: Clock,
        ids: Ids,
        eager_tools: bool,
    ) -> None:
        self._cache = cache
        self._files = files
        self._containers = containers
        self._threads = Threads(clock=clock)
        self._diagnostics = Diagnostics()
        self._clock = clock
        self._ids = ids
        self._eager_tools = eager_tools

    @property
    def routes(self) -> Routes:
        return (
            ("POST", "/v1/messages", self.create),
            ("POST", "/v1/messages/count_tokens", self.count_tokens),
        )

    async def create(self, caller: Credential, request: Request) -> Answer | EventStream:
        own = caller.organization
        body = self._threads.whole(own, request.json(MAX_BYTES), request.betas())
        message = self.compose(own, body, check_version(request.headers))
        self._threads.keep(own, body, message)
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
        self._require_files(caller.organization, body)
        return json_answer({"input_tokens": self._cache.count(body)})

    def compose(self, organization: Organization, body: Json, version: str) -> Json:
        """The whole message that answers `body`; ApiError where it is refused."""
        validate(body, version)
        require_model(body["model"])
        self._require_files(organization, body)
        signatures.check(organization, body["messages"])
        container = self._containers.of(organization, body)
        tokens = self._cache.use(organization, body, self._clock.now())
        draft = self._draft(organization, body)
        message: Json = {
            "id": self._ids.new("msg"),
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": draft.content,
            "stop_reason": draft.stop_reason,
            "stop_sequence": draft.stop_sequence,
            "usage": _usage(tokens, draft, body),
        }
        if container is not None:
            message["container"] = container
        if body.get("diagnostics") is not None:
            message["diagnostics"] = self._diagnostics.of(organization, body)
            self._diagnostics.keep(organization, body, message["id"], tokens.total)
        return message

    def _require_files(self, organization: Organization, body: Json) -> None:
        for file_id in _file_ids(body["messages"]):
            self._files.require(organization, file_id, "File not found: {}")

    def _draft(self, organization: Organization, body: Json) -> Draft:
        draft = Draft(organization, body["max_tokens"])
        question = _question(body)
        thinking = body.get("thinking") or {}
        if thinking.get("type") in ("enabled", "adaptive"):
            draft.think(question, shown=thinking.get("display") != "omitted")
        if draft.full:
            return draft
        tool = None if _answers_tool(body) else _chosen_tool(body, question, eager=self._eager_tools)
        if tool is not None and "input_schema" in tool:
            draft.call(tool, self._ids, forced=(body.get("tool_choice") or {}).get("type") in ("any", "tool"))
            return draft
        kind = str((tool or {}).get("type", ""))
        if kind.startswith("web_search"):
            draft.search(question, self._ids)
        elif kind.startswith("code_execution"):
            draft.run_code(self._files, self._ids)
        schema = _output_schema(body)
        text = prose.answer(question) if schema is None else dumps(prose.plausible(schema)).decode()
        draft.say(text, body.get("stop_sequences") or [])
        return draft


def _usage(tokens: InputTokens, draft: Draft, body: Json) -> Json:
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
