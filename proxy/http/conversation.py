"""The conversation in a request's body, by the members that the API documents, and the hashes to know it again by.

A body that fits `Request` has no other members than these, and so refers to no file: one pass over the bytes of most
bodies tells that. `AnyRequest` passes over members that are unknown here, and over references.
platform.claude.com/docs/en/api/messages/create
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final

import xxhash
from msgspec import Raw, Struct

from proxy.http.scan import ABSENT

MOST_HASHES = 4096
"""Of a conversation with more messages, the hashes of the last ones are kept."""

_TEXT: Final = b'"text"'


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
    """A block of content, a source of one, or a result of a tool. In the order in which clients write the members.

    What is kept as JSON is never an object or a list of something that the API looks up. `type` is asked for to bound
    the number of blocks: each has 11 bytes or more.
    """

    tool_use_id: Raw = ABSENT
    type: Raw
    id: Raw = ABSENT
    text: str = ""
    name: Raw = ABSENT
    input: Raw = ABSENT
    content: str | list[Block] | Block | None = None
    is_error: Raw = ABSENT
    thinking: Raw = ABSENT
    signature: Raw = ABSENT
    source: str | Block | None = None
    cache_control: Marker | None = None
    citations: list[Citation] | Marker | None = None
    media_type: Raw = ABSENT
    data: Raw = ABSENT
    url: Raw = ABSENT
    title: Raw = ABSENT
    context: Raw = ABSENT
    caller: Marker | None = None
    encrypted_content: Raw = ABSENT
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
    toolset_name: Raw = ABSENT
    server_name: Raw = ABSENT


class AnyBlock(Block, kw_only=True, forbid_unknown_fields=False, gc=False):
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


class Tool(AnyTool, forbid_unknown_fields=True, gc=False):
    """A tool that refers to nothing."""

    name: Raw = ABSENT
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


class Request(Bare, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A request that refers to nothing, except perhaps in what `loose` gives."""

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


def chain(request: Request | AnyRequest) -> tuple[int, ...]:
    """Hashes of 64 bits, the k-th of the system prompt and the first k messages; at most the last `MOST_HASHES`.

    They are the same in every process. What clients move or lose from turn to turn is not in them: cache markers, ids
    of calls, signatures. A string is the same as a block of text.
    """
    said = xxhash.xxh3_64()
    if request.system is not None:
        _content(said.update, request.system)
    kept: deque[int] = deque(maxlen=MOST_HASHES)
    for message in request.messages:
        said.update(message.role)
        _content(said.update, message.content)
        kept.append(said.intdigest())
    return tuple(kept)


def _content(take: Callable[[bytes], None], content: str | Sequence[Block]) -> None:
    if isinstance(content, str):
        take(_TEXT)
        take(content.encode())
        return
    for block in content:
        take(block.type)
        if block.text:
            take(block.text.encode())
        elif isinstance(block.content, str):
            take(block.content.encode())
        elif block.input:
            take(block.name)
            take(block.input)
        elif block.thinking:
            take(block.thinking)
        else:
            _rest(take, block)


def _rest(take: Callable[[bytes], None], block: Block) -> None:
    """What a block says that is neither text nor the model's: images, documents, results of the API's own tools."""
    api_results = (
        block.error_code,
        block.stdout,
        block.stderr,
        block.encrypted_stdout,
        block.encrypted_content,
    )
    file = block.file_id if isinstance(block, AnyBlock) else ABSENT
    for said in filter(
        None, (block.data, block.url, block.title, block.context, block.tool_name, file, *api_results)
    ):
        take(said)
    for inner in (block.content, block.source):
        if inner is not None:
            _content(take, [inner] if isinstance(inner, Block) else inner)
