"""The conversation in a request's body, by the members that the API documents, and the hashes to know it again by.

A body that fits `Request` has no other members than these, and so refers to no file: one pass over the bytes of most
bodies tells that. `AnyRequest` passes over members that are unknown here, and over references.
platform.claude.com/docs/en/api/messages/create
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Final

from msgspec import Raw, Struct
from xxhash import xxh3_64

from proxy.http.scan import ABSENT

MOST_HASHES = 4096
"""Of a conversation with more messages, the hashes of the last ones are kept."""

PICTURE_BYTES: Final = 10_000
"""The most bytes that a picture counts for. Two are reserved for a token, and no model takes a picture for more than
some 4800 tokens: those that read the largest ones scale them to 2576 pixels
(platform.claude.com/docs/en/build-with-claude/vision)."""

_TEXT: Final = b'"text"'
_PICTURE: Final = (b'"image"', b'"base64"')
_QUOTE = ord('"')


class Part(Struct, gc=False):
    """What is looked for in a part of a request that names its own model. JSON as it came; empty if it is not there."""

    model: Raw = ABSENT
    max_tokens: Raw = ABSENT
    speed: Raw = ABSENT


class Marker(Struct, forbid_unknown_fields=True, gc=False):
    """`cache_control`, `caller`, a message's `output_config`, or the setting `citations`: they refer to nothing."""

    type: Raw = ABSENT
    ttl: Raw = ABSENT
    tool_id: Raw = ABSENT
    enabled: Raw = ABSENT
    effort: Raw = ABSENT


class Citation(Struct, forbid_unknown_fields=True, gc=False):
    """A citation that an answer had, without the file that it may cite. `type` is asked for to bound their number."""

    type: Raw
    cited_text: Raw = ABSENT
    document_index: Raw = ABSENT
    document_title: Raw = ABSENT
    start_char_index: Raw = ABSENT
    end_char_index: Raw = ABSENT
    start_page_number: Raw = ABSENT
    end_page_number: Raw = ABSENT
    start_block_index: Raw = ABSENT
    end_block_index: Raw = ABSENT
    search_result_index: Raw = ABSENT
    encrypted_index: Raw = ABSENT
    source: Raw = ABSENT
    title: Raw = ABSENT
    url: Raw = ABSENT
    file_id: None = None


class Block(Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A block of a message, in the order in which clients write the members.

    What is kept as JSON is never an object or a list of something that the API looks up. `type` is asked for to bound
    the number of blocks: each has 11 bytes or more.
    """

    tool_use_id: Raw = ABSENT
    type: Raw
    id: Raw = ABSENT
    text: str = ""
    name: Raw = ABSENT
    input: Raw = ABSENT
    content: str | list[Inner] | Inner | None = None
    is_error: Raw = ABSENT
    thinking: Raw = ABSENT
    signature: Raw = ABSENT
    source: str | Inner | None = None
    cache_control: Marker | None = None
    citations: list[Citation] | Marker | None = None
    data: Raw = ABSENT
    title: Raw = ABSENT
    context: Raw = ABSENT
    caller: Marker | None = None
    encrypted_content: Raw = ABSENT
    toolset_name: Raw = ABSENT
    server_name: Raw = ABSENT


class Inner(Block, kw_only=True, gc=False):
    """A block within a block: a source, a part of a tool's result."""

    media_type: Raw = ABSENT
    url: Raw = ABSENT
    page_age: Raw = ABSENT
    retrieved_at: Raw = ABSENT
    stdout: Raw = ABSENT
    stderr: Raw = ABSENT
    encrypted_stdout: Raw = ABSENT
    return_code: Raw = ABSENT
    error_code: Raw = ABSENT
    error_message: Raw = ABSENT
    stop_reason: Raw = ABSENT
    tool_name: Raw = ABSENT


class AnyBlock(Inner, kw_only=True, forbid_unknown_fields=False, gc=False):
    """A block of which some members are unknown, or refer to something."""

    content: str | list[AnyBlock] | AnyBlock | None = None  # type: ignore[assignment]
    source: str | AnyBlock | None = None
    cache_control: Raw = ABSENT  # type: ignore[assignment]
    citations: Raw = ABSENT  # type: ignore[assignment]
    caller: Raw = ABSENT  # type: ignore[assignment]
    file_id: Raw = ABSENT


class Message(Struct, forbid_unknown_fields=True, gc=False):
    """A message: of somebody, or a system prompt within a conversation."""

    role: Raw
    content: str | list[Block]
    clear_at: Raw = ABSENT
    output_config: Marker | None = None


class AnyMessage(Struct, gc=False):
    """A message with anything beside its content."""

    role: Raw
    content: str | list[AnyBlock]


class AnyTool(Part, gc=False):
    """What is looked for in a tool of any shape."""

    type: Raw = ABSENT


class Tool(AnyTool, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A tool that refers to nothing. `name` is asked for to bound their number."""

    name: Raw
    description: Raw = ABSENT
    input_schema: Raw = ABSENT
    cache_control: Marker | None = None
    strict: Raw = ABSENT
    defer_loading: Raw = ABSENT
    eager_input_streaming: Raw = ABSENT
    input_examples: Raw = ABSENT
    allowed_callers: Raw = ABSENT
    max_uses: Raw = ABSENT
    max_content_tokens: Raw = ABSENT
    max_characters: Raw = ABSENT
    allowed_domains: Raw = ABSENT
    blocked_domains: Raw = ABSENT
    citations: Marker | None = None
    use_cache: Raw = ABSENT
    display_width_px: Raw = ABSENT
    display_height_px: Raw = ABSENT
    display_number: Raw = ABSENT


class Bare(Part, gc=False):
    """What is looked for in a request of any shape.

    platform.claude.com/docs/en/build-with-claude/refusals-and-fallback, …/agents-and-tools/tool-use/advisor-tool
    """

    fallbacks: Raw = ABSENT
    tools: Raw = ABSENT
    metadata: Raw = ABSENT
    container: Raw = ABSENT
    thread: Raw = ABSENT
    diagnostics: Raw = ABSENT


class Metadata(Struct, gc=False):
    """What is looked for in `metadata`."""

    user_id: str | None = None


class Request(Bare, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A request that refers to nothing, except perhaps in what `loose` gives."""

    tools: list[Tool] | None = None  # type: ignore[assignment]
    metadata: Metadata | None = None  # type: ignore[assignment]
    system: str | list[Block] | None = None
    messages: list[Message] = []
    stream: Raw = ABSENT
    temperature: Raw = ABSENT
    top_k: Raw = ABSENT
    top_p: Raw = ABSENT
    stop_sequences: Raw = ABSENT
    service_tier: Raw = ABSENT
    inference_geo: Raw = ABSENT
    cache_control: Marker | None = None
    thinking: Raw = ABSENT
    tool_choice: Raw = ABSENT
    output_config: Raw = ABSENT
    output_format: Raw = ABSENT
    context_management: Raw = ABSENT
    compaction: Raw = ABSENT
    mcp_servers: Raw = ABSENT
    user_profile_id: Raw = ABSENT
    fallback_credit_token: Raw = ABSENT


class OddRequest(Request, kw_only=True, gc=False):
    """The same, but for its tools."""

    tools: Raw = ABSENT  # type: ignore[assignment]


class AnyRequest(Bare, gc=False):
    """A request with a conversation, and with anything else."""

    system: str | list[AnyBlock] | None = None
    messages: list[AnyMessage] = []


LOOSE: Final = (
    "container",
    "thread",
    "diagnostics",
    "fallbacks",
    "thinking",
    "tool_choice",
    "output_config",
    "output_format",
    "context_management",
    "compaction",
    "mcp_servers",
    "user_profile_id",
)
"""The members of a `Request` that may refer to something, and are looked through for it."""

_loose: Final[Callable[[Request], tuple[Raw, ...]]] = attrgetter(*LOOSE)


def loose(request: Request) -> list[bytes]:
    """The members in `LOOSE` that the request has, as JSON objects."""
    found = _loose(request)
    if not any(found):  # the most frequent case
        return []
    return [b'{"%b":%b}' % (name.encode(), value) for name, value in zip(LOOSE, found, strict=True) if value]


_Take = Callable[[bytes], None]
_Content = str | Sequence[Block] | Block | None


def picture_excess(messages: Iterable[Message | AnyMessage]) -> int:
    """The bytes of the pictures in some messages, beyond those that they count for."""
    return sum(_excess(each.content) for each in messages if isinstance(each.content, list))


def _excess(blocks: Sequence[Block]) -> int:
    found = 0
    for block in blocks:
        source = block.source
        if source is None:
            if isinstance(block.content, list):  # what a tool has shown
                found += _excess(block.content)
        elif isinstance(source, Block) and (bytes(block.type), bytes(source.type)) == _PICTURE:
            found += max(len(source.data) - PICTURE_BYTES, 0)
    return found


class TooMany(Exception):
    """A conversation has more messages and blocks than may be looked at."""


def chain(request: Request | AnyRequest, most: int) -> tuple[int, ...]:
    """Hashes of 64 bits, the k-th of the system prompt and the first k messages; at most the last `MOST_HASHES`.

    They are the same in every process. What clients move or lose from turn to turn is not in them: cache markers, ids
    of calls, signatures. A string is the same as a block of text.

    Raises TooMany if there are more than `most` messages and blocks.
    """
    said, left = opened(request.system, most)
    return tuple(go_on(said, request.messages, left)[0][-MOST_HASHES:])


def opened(system: _Content, most: int) -> tuple[xxh3_64, int]:
    """What a conversation with this system prompt begins with, and what is left of `most`. Raises TooMany."""
    said = xxh3_64()
    return said, most - (0 if system is None else _say(said.update, system, most))


def go_on(said: xxh3_64, messages: Sequence[Message | AnyMessage], most: int) -> tuple[list[int], int]:
    """Say these messages too. Returns the hash after each, and what is left of `most`. Raises TooMany."""
    take, digest = said.update, said.intdigest
    hashes: list[int] = []
    left = most - len(messages)
    if left < 0:
        raise TooMany
    for message in messages:
        take(message.role)
        left -= _say(take, message.content, left)
        hashes.append(digest())
    return hashes, left


def _say(take: _Take, content: _Content, most: int) -> int:
    """Hand over what counts of the content of a message or a block. Returns the number of blocks."""
    if isinstance(content, str):
        take(_TEXT)
        take(content.encode())
        return 1
    blocks = [content] if isinstance(content, Block) else content or ()
    count = len(blocks)
    if count > most:
        raise TooMany
    for block in blocks:
        if block.text:
            take(_TEXT)
            take(block.text.encode())
        elif isinstance(block.content, str):
            take(block.type)
            take(block.content.encode())
        elif block.input:
            take(block.name)
            take(block.input)
        elif block.thinking:
            take(block.thinking)
        else:
            count += _say_rest(take, block, most - count)
    return count


def _say_rest(take: _Take, block: Block, most: int) -> int:
    """What a block says that is neither text nor the model's: images, documents, results of the API's own tools."""
    found: tuple[Raw, ...] = (block.data, block.title, block.context, block.encrypted_content)
    if isinstance(block, Inner):
        results = (block.stdout, block.stderr, block.encrypted_stdout, block.error_code)
        found = (*found, block.url, block.tool_name, *results)
    if isinstance(block, AnyBlock):
        found = (*found, block.file_id)
    take(block.type)
    for said in filter(None, found):
        take(said)
    count = _say(take, block.content, most)
    return count + _say(take, block.source, most - count)
