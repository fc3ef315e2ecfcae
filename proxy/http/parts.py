"""The parts of a request that have a model of their own, or run code: its tools and fallbacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, takewhile
from typing import Final

import msgspec
from msgspec import Raw, Struct, ValidationError

from proxy.http.conversation import AnyTool, Bare, Part, Tool
from proxy.http.references import may_refer
from proxy.http.scan import ABSENT, text

MOST_PARTS = 10_000
"""The most tools or fallbacks that are looked at; the API accepts no more tools
(platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool)."""

MOST_MODELS = 32
"""The most models that a request may name beside its own: the price of each is looked up."""

MAX_MODEL = 256
"""The longest name of a model that is read; clients may send anything."""

MOST_TOKENS = 1_000_000
"""Assumed for a `max_tokens` that is larger or no integer, since the upstream may accept it. No model writes more."""

MOST_UNKNOWN = 32
"""The most tools with unknown members that are looked through one by one."""

_COUNTS = (128, 1024, MOST_PARTS)  # of parts; to make a decoder for the last takes 50 ms, once
_BRACE = ord("{")
_LONGEST_WORD = 10  # characters
_LONGEST_TYPE = 64
_LONGEST_NUMBER = 100
_RUNS_CODE = "code_execution"  # with a date behind

_TOOL: Final = msgspec.json.Decoder(Tool)
_ANY_TOOL: Final = msgspec.json.Decoder(AnyTool)
_NUMBER: Final = msgspec.json.Decoder(int | float | None)


class Asked(Struct, frozen=True, gc=False):
    """What a request and its parts ask for. `whole` is false if there are more parts or models than are counted.

    `odd` are the tools that may refer to something, as JSON: they have members that are unknown here.
    """

    model: str | None
    others: tuple[str, ...]
    max_tokens: int | None
    fast: bool
    whole: bool = True
    runs_code: bool = False
    odd: tuple[Raw, ...] = ()


def asked(request: Bare) -> Asked:
    """What is asked for. Raises DecodeError if a name is not in UTF-8."""
    model = text(request.model, MAX_MODEL)
    if not (request.fallbacks or request.tools):  # the most frequent case
        return Asked(model, (), _tokens(request), _is_fast(request))
    fallbacks = _elements(request.fallbacks)
    known, odd, all_known = _tools(request.tools)
    typed = [tool for tool in known if tool.type or tool.model]
    parts = [part for part in chain(_objects(fallbacks or ()), typed) if part.model]
    others = [text(part.model, MAX_MODEL) or "" for part in parts[: MOST_MODELS + 1]]
    if text(request.fallbacks, _LONGEST_WORD) == "default":
        others.append("default")
    counted = [tokens for part in (request, *parts) if (tokens := _tokens(part)) is not None]
    return Asked(
        model=model,
        others=tuple(others[:MOST_MODELS]),
        max_tokens=max(counted, default=None),
        fast=any(map(_is_fast, (request, *parts))),
        whole=fallbacks is not None and all_known and len(others) <= MOST_MODELS,
        runs_code=not all_known or any(map(_runs_code, typed)),
        odd=tuple(odd),
    )


def _objects(elements: Iterable[Raw]) -> Iterator[AnyTool]:
    return (_ANY_TOOL.decode(each) for each in elements if memoryview(each)[0] == _BRACE)


def _tools(member: Raw | list[Tool] | None) -> tuple[Iterable[AnyTool], list[Raw], bool]:
    """The tools, those that may refer to something (all if many are unknown here), and whether these are all."""
    if not isinstance(member, Raw):
        return member or (), [], len(member or ()) <= MOST_PARTS
    elements = _elements(member)
    if elements is None:
        return (), [member], False
    found: list[AnyTool] = []
    unknown: list[Raw] = []
    for each in elements:
        try:
            found.append(_TOOL.decode(each))
        except ValidationError:
            unknown.append(each)
            if len(unknown) > MOST_UNKNOWN:
                return _objects(elements), [member], True
    return _objects(elements) if unknown else found, [each for each in unknown if may_refer(each)], True


def _runs_code(tool: AnyTool) -> bool:
    return bool(tool.type) and (text(tool.type, _LONGEST_TYPE) or "").startswith(_RUNS_CODE)


@cache
def _first(count: int) -> msgspec.json.Decoder[Struct]:
    """A decoder of the first elements of a list, which skips the others without building them."""
    fields = [(f"element_{number}", Raw, ABSENT) for number in range(count)]
    return msgspec.json.Decoder(msgspec.defstruct("First", fields, array_like=True))


def _elements(value: Raw) -> list[Raw] | None:
    """The elements of a list; none if it is not a list, None if it has too many."""
    if not value:
        return []
    for most in _COUNTS:
        try:
            found = msgspec.structs.astuple(_first(most + 1).decode(value))
        except ValidationError:
            return []
        if not found[most]:
            return list(takewhile(len, found))
    return None


def _tokens(part: Part) -> int | None:
    if not part.max_tokens:
        return None
    try:
        value = _NUMBER.decode(part.max_tokens) if len(part.max_tokens) <= _LONGEST_NUMBER else MOST_TOKENS
    except ValidationError:
        return MOST_TOKENS
    if value is None:
        return None
    return min(max(value, 0), MOST_TOKENS) if type(value) is int else MOST_TOKENS


def _is_fast(part: Part) -> bool:
    return text(part.speed, _LONGEST_WORD) == "fast"
