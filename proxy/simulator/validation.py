"""What the Messages API refuses, in its words; unknown fields pass, as clients send many."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tornado.httputil import HTTPHeaders

from .replies import ApiError, Json

SAMPLING_VERSION = "2023-06-01"
VERSIONS = (SAMPLING_VERSION, "2026-10-21")


def check_version(headers: HTTPHeaders) -> str:
    """The request's `anthropic-version`; ApiError 400 where it is missing or unknown."""
    version = headers.get("anthropic-version")
    if version is None:
        raise ApiError(400, "anthropic-version: header is required")
    if version not in VERSIONS:
        raise ApiError(400, f'anthropic-version: "{version}" is not a valid version.')
    return version


def validate(request: Json, version: str, *, counting: bool = False) -> None:
    """ApiError 400 where `request` is no valid body of /v1/messages, or (`counting`) of count_tokens."""
    _expect(isinstance(request.get("model"), str), "model", _missing(request, "model", "a valid string"))
    if not counting:
        limit = request.get("max_tokens")
        _expect(_number(limit) != -1, "max_tokens", _missing(request, "max_tokens", "a valid integer"))
        _expect(_number(limit) >= 1, "max_tokens", "Input should be greater than or equal to 1")
    for name in ("temperature", "top_p", "top_k"):
        if request.get(name) is not None:
            _expect(
                version == SAMPLING_VERSION, name, "Sampling parameters are not supported in this API version"
            )
    temperature = request.get("temperature")
    _expect(
        temperature is None or (isinstance(temperature, int | float) and 0 <= temperature <= 1),
        "temperature",
        "Input should be between 0 and 1",
    )
    _shapes(request)
    _messages(request)
    _tools(request)
    _thinking(request)


_SHAPES: Mapping[str, type | tuple[type, ...]] = MappingProxyType(
    {
        "system": (str, list),
        "stream": bool,
        "stop_sequences": list,
        "tools": list,
        "tool_choice": dict,
        "thinking": dict,
        "output_config": dict,
        "output_format": dict,
        "cache_control": dict,
        "metadata": dict,
    }
)


def _shapes(request: Json) -> None:
    for name, wanted in _SHAPES.items():
        value = request.get(name)
        _expect(value is None or isinstance(value, wanted), name, "Input has the wrong type")
    stops = request.get("stop_sequences") or []
    _expect(all(isinstance(stop, str) for stop in stops), "stop_sequences", "Input should be a valid string")


def _expect(holds: bool, where: str, message: str) -> None:
    if not holds:
        raise ApiError(400, f"{where}: {message}")


def _missing(request: Json, name: str, wanted: str) -> str:
    return f"Input should be {wanted}" if name in request else "Field required"


def _number(value: object) -> int:
    """`value` where it is an integer, else something less than any valid one."""
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _messages(request: Json) -> None:
    messages = request.get("messages")
    _expect(isinstance(messages, list), "messages", _missing(request, "messages", "a valid list"))
    _expect(bool(messages), "messages", "at least one message is required")
    called: set[str] = set()
    served: set[str] = set()
    for index, message in enumerate(messages or []):
        where = f"messages.{index}"
        _expect(isinstance(message, dict), where, "Input should be a valid dictionary or object")
        _expect(
            message.get("role") in ("user", "assistant", "system"),
            f"{where}.role",
            "Input should be 'user', 'assistant' or 'system'",
        )
        content = message.get("content")
        _expect(
            isinstance(content, str | list), f"{where}.content", _missing(message, "content", "a valid list")
        )
        blocks = content if isinstance(content, list) else []
        for number, block in enumerate(blocks):
            _expect(
                isinstance(block, dict) and isinstance(block.get("type"), str),
                f"{where}.content.{number}.type",
                "Field required",
            )
            _results(block, called, where, number)
            _served(block, served, where, number)
        called = {block["id"] for block in blocks if block["type"] == "tool_use" and "id" in block}


def _results(block: Json, called: set[str], where: str, number: int) -> None:
    if block["type"] == "tool_result":
        _expect(
            block.get("tool_use_id") in called,
            f"{where}.content.{number}",
            f"unexpected `tool_use_id` found in `tool_result` blocks: {block.get('tool_use_id')}. Each "
            "`tool_result` block must have a corresponding `tool_use` block in the previous message.",
        )


def _served(block: Json, served: set[str], where: str, number: int) -> None:
    """What a tool of the server gave stands after the block, in `served`, by which it was asked."""
    kind, use = block["type"], block.get("tool_use_id")
    if kind == "server_tool_use" and isinstance(block.get("id"), str):
        served.add(block["id"])
    elif kind.endswith("_tool_result") and not kind.startswith("mcp_"):
        _expect(
            use in served,
            f"{where}.content.{number}",
            f"unexpected `tool_use_id` found in `{kind}` blocks: {use}. Each `{kind}` block must have a corresponding "
            "`server_tool_use` block before it.",
        )


def _tools(request: Json) -> None:
    tools = request.get("tools") or []
    for index, tool in enumerate(tools):
        _expect(
            isinstance(tool, dict) and isinstance(tool.get("name", tool.get("type")), str),
            f"tools.{index}.name",
            "Field required",
        )
        if tool.get("type", "custom") == "custom":
            _expect(
                isinstance(tool.get("input_schema"), dict), f"tools.{index}.input_schema", "Field required"
            )
    choice = request.get("tool_choice") or {}
    if choice.get("type") == "tool":
        names = [tool.get("name") for tool in tools]
        _expect(
            choice.get("name") in names,
            "tool_choice",
            f"Tool '{choice.get('name')}' not found in provided tools",
        )


def _thinking(request: Json) -> None:
    thinking = request.get("thinking") or {}
    kind = thinking.get("type", "disabled")
    _expect(
        kind in ("enabled", "adaptive", "disabled"),
        "thinking.type",
        "Input should be 'enabled', 'adaptive' or 'disabled'",
    )
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        _expect(
            _number(budget) >= 1024,
            "thinking.enabled.budget_tokens",
            "Input should be greater than or equal to 1024",
        )
        _expect(
            "max_tokens" not in request or _number(budget) < _number(request["max_tokens"]),
            "max_tokens",
            "`max_tokens` must be greater than `thinking.budget_tokens`.",
        )
