"""Parses request targets, and refuses those that must not go upstream."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias
from urllib.parse import unquote, unquote_plus

from proxy.errors import InvalidRequest, NotFound

# RFC 9112 §3.2: a request target has no whitespace, control or `#`. Raw bytes above 0x7f (here latin-1
# characters) are let through in the query, where clients do send them, and nowhere else.
_TARGET = re.compile(r"[!\"$-~\x80-\xff]+")
_PATH = re.compile(r"/v1/[!\"$-\[\]-~]+")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# U+FFFD is what bytes that are no UTF-8 decode to, the overlong dot `%c0%ae` among them.
_REFUSED_DECODED = re.compile("[\x00-\x1f\x7f-\x9f\\\\\ufffd]")
# Some servers end a segment there: `..;x` is a dot segment to a servlet container.
_SEGMENT_END = re.compile(r"[;?#]")
_NO_TOKENS = re.compile(r"/v1/(messages/count_tokens|models(/.*)?|files(/.*)?|skills(/.*)?)")

# As received and decoded up to three times: nothing harmless needs more, and each reading costs a pass.
_MAX_READINGS = 4

# What clients make of a wrong base URL: of one with /v1 where they add it themselves, and the other way round.
_TWICE = re.compile(r"/v1/(?:messages/)?v1(?:/.*)?", re.IGNORECASE)
_BEFORE_V1 = re.compile(r"/+(?:(?:api|anthropic)/+)?v1/.+")
_WITHOUT_V1 = re.compile(r"/+(?:messages|models|complete|files|skills|chat/completions)(?:/.*)?")

_COMPLETIONS = (("v1", "complete"), ("v1", "chat", "completions"))
_TAKING_SLOTS = (("v1", "messages"), *_COMPLETIONS)
_ADMIN = (("v1", "organizations"), ("v1", "oauth", "token"))

# Whose paths name nothing that lives in one account.
_OF_NOBODY = frozenset({"messages", "models", "complete", "chat", "organizations", "oauth"})
# Collections whose ids are generated ones, whatever they look like; but for the skills that everybody has.
_COLLECTIONS = frozenset(
    {
        *("agents", "batches", "deployments", "deployment_runs", "dreams", "environments", "files"),
        *("memory_stores", "sessions", "tunnels", "user_profiles", "vaults"),
    }
)
_GENERATED = re.compile(r"[a-z]{2,32}_[0-9A-Za-z]{4,128}")
_OF_THE_LIST = frozenset({"after_id", "before_id", "ids"})  # places in a list, or items of it
_ARGUMENT = re.compile("[^&;]+")
MOST_ARGUMENTS = 500  # the API takes a hundred `ids[]`; 16,000 took 40 ms
_INDEX = re.compile(r"\[[^\]]*\]\Z")

Form: TypeAlias = Literal["message", "completion", "results"]
"""Of an answer for which tokens are billed: a message, a completion (OpenAI's API, and the one before messages), or the
results of a message batch."""

NEVER_SENT = frozenset({"TRACE", "TRACK", "CONNECT"})
"""Methods that answer with what was sent, the credential among it, or that ask for a tunnel."""

# Clients choose their targets, so only short ones are remembered, and a few: inference has two or three.
MOST_TARGETS = 256
LONGEST_TARGET = 128


@dataclass(frozen=True, slots=True)
class Target:
    """A request target that may go upstream.

    `raw`: path and query as received. `path`: the path as received. `segments`: those of the path, fully decoded.
    `holds_results_url`: the answer is one message batch or a list of them, whose `results_url` is rewritten.
    `free`: requests to it use no tokens, so a key with a budget or a list of models may send them.
    `collection`: what the path is of, such as `files` or `batches`; None if nothing of it lives in one account.
    `resource`: the id in it that says in which account; None if the path is the collection's own. `named`: further ids
    that the query names, with the names of their arguments; an id may be empty. `perhaps`: further segments, which are
    ids if they are known as such.
    """

    raw: str
    path: str
    segments: tuple[str, ...]
    holds_results_url: bool
    free: bool
    collection: str | None = None
    resource: str | None = None
    named: tuple[tuple[str, str], ...] = ()
    perhaps: tuple[str, ...] = ()

    @property
    def is_collection(self) -> bool:
        """Whether the path is that of a collection, which is listed by GET and added to by POST."""
        return self.collection is not None and self.resource is None

    @property
    def is_known(self) -> bool:
        """Whether the collection is one of those that the API is known to have."""
        return self.collection is not None and is_collection(self.collection)

    def form(self, method: str) -> Form | None:
        """The form of the answer, if what it has used is counted; else None."""
        match method, self.segments:
            case "POST", ("v1", "messages"):
                return "message"
            case "POST", segments if segments in _COMPLETIONS:
                return "completion"
            case "GET", ("v1", "messages", "batches", _, "results"):
                return "results"
        return None

    def takes_slot(self, method: str) -> bool:
        """Whether the request counts against a client's session limit."""
        return method == "POST" and self.segments in _TAKING_SLOTS


def parse(target: str, *, allow_admin_paths: bool) -> Target:
    """Read a request target.

    Raises InvalidRequest if another parser could read the path differently, NotFound for paths that would give a client
    the operator's own rights.
    """
    if len(target) > LONGEST_TARGET:
        return _parse(target, allow_admin_paths)
    return _remembered(target, allow_admin_paths)


def _parse(target: str, allow_admin_paths: bool) -> Target:
    path = target.partition("?")[0]
    if is_of_api(path):
        raise _misdirected(path)
    if not (_TARGET.fullmatch(target) and _PATH.fullmatch(path)) or _BAD_PERCENT.search(path):
        raise _refused("it is not a plain path below /v1/ with an optional query")
    readings = _readings(path)
    if len(readings) > _MAX_READINGS:
        raise _refused("it is percent-encoded too many times")
    slashes = path.count("/")
    for reading in readings:
        if reading.count("/") != slashes or _REFUSED_DECODED.search(reading):
            raise _refused("it holds an encoded slash, a backslash or a control character")
        if reading.endswith("/") and not reading.endswith("//"):
            raise _refused("it ends with a slash: leave that out")
        if any(_is_empty_or_dots(segment) for segment in reading.split("/")[1:]):
            raise _refused("it holds an empty or dot segment")
    if _TWICE.fullmatch(readings[-1]):
        raise _misdirected(readings[-1])
    if not allow_admin_paths and _is_admin(readings[-1]):
        raise NotFound("this path is not served here", should_retry=False)
    segments = tuple(readings[-1].split("/")[1:])
    collection, resource, perhaps = _resource(segments)
    return Target(
        raw=target,
        path=path,
        segments=segments,
        holds_results_url=_holds_results_url(segments),
        free=_NO_TOKENS.fullmatch(path) is not None,
        collection=collection,
        resource=resource,
        named=_named(target.partition("?")[2]),
        perhaps=perhaps,
    )


def _resource(segments: tuple[str, ...]) -> tuple[str | None, str | None, tuple[str, ...]]:
    """The collection that a path is of, the id in it, and the segments that may be further ones.

    They are read as the most lenient server would: without parameters, and names in any case.
    """
    first, *below = (_SEGMENT_END.split(segment, maxsplit=1)[0] for segment in segments[1:])
    collection = first.casefold()
    if collection == "messages" and below and below[0].casefold() == "batches":
        collection, below = "batches", below[1:]
    if collection in _OF_NOBODY:
        return None, None, tuple(below[1:])
    if not below:
        return collection, None, ()
    if collection in _COLLECTIONS or is_generated(below[0]):
        return collection, below[0], tuple(below[1:])
    return None, None, tuple(below)


def _named(query: str) -> tuple[tuple[str, str], ...]:
    """The arguments of a query that name something, without the `[]` of a list. Raises InvalidRequest."""
    if query.count("&") + query.count(";") > MOST_ARGUMENTS:
        raise _refused(f"its query has more than {MOST_ARGUMENTS} arguments")
    if "_" not in query and "%" not in query:  # the most frequent case
        return ()
    found = []
    for argument in _ARGUMENT.findall(query):
        name, _, id = (unquote_plus(text) for text in argument.partition("="))
        name = _INDEX.sub("", name)
        if name not in _OF_THE_LIST and (is_generated(id) or name.endswith("_id")):
            found.append((name, id))
    return tuple(found)


_remembered = lru_cache(maxsize=MOST_TARGETS)(_parse)  # a refusal is an exception, which is not cached


def _holds_results_url(segments: tuple[str, ...]) -> bool:
    """True for create, list, retrieve and cancel, false for `/results`."""
    match segments:
        case ["v1", "messages", "batches"] | ["v1", "messages", "batches", _]:
            return True
        case ["v1", "messages", "batches", _, "cancel"]:
            return True
    return False


def is_generated(id: str) -> bool:
    """Whether it looks like an id that the API has made; `docx` and its like are the same for everybody."""
    return _GENERATED.fullmatch(id) is not None


def is_collection(name: str) -> bool:
    """Whether the API is known to have a collection of this name, whose resources have paths of their own."""
    return name == "skills" or name in _COLLECTIONS


def collection_of(type: str) -> str | None:
    """The collection of the resources that the API says to be of this type; None if it is known to have none."""
    collection = f"{type}s"
    return collection if collection in _COLLECTIONS else None


def is_of_api(path: str) -> bool:
    """Whether a path that is not below `/v1/` is the Claude API's, asked for with a wrong base URL."""
    return not path.startswith("/v1/") and bool(_WITHOUT_V1.fullmatch(path) or _BEFORE_V1.fullmatch(path))


def _misdirected(path: str) -> NotFound:
    """What to change in the client."""
    if _WITHOUT_V1.fullmatch(path):
        why = "it lacks /v1. End this client's base URL with /v1: it does not add that itself"
    elif path.startswith("//"):
        why = "it begins with two slashes. Leave out the slash that ends the client's base URL"
    elif path.startswith("/v1/"):
        again = "/v1/messages" if path.startswith("/v1/messages/") else "/v1"
        why = f"it has /v1 twice. Leave {again} out of the client's base URL: it adds that itself"
    else:
        why = f"/{path.split('/')[1]} comes before /v1. Leave that out of the client's base URL"
    return NotFound(f"this path is not served here: {why}", should_retry=False)


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"this path may not go upstream: {why}", should_retry=False)


def _readings(path: str) -> list[str]:
    """`path` as received, then decoded once, twice … until it stays the same or the limit is passed."""
    readings = [path]
    while len(readings) <= _MAX_READINGS and (decoded := unquote(readings[-1])) != readings[-1]:
        readings.append(decoded)
    return readings


def _is_empty_or_dots(segment: str) -> bool:
    return not segment or _SEGMENT_END.split(segment, maxsplit=1)[0] in (".", "..")


def _is_admin(path: str) -> bool:
    names = [_SEGMENT_END.split(segment, maxsplit=1)[0].strip().casefold() for segment in path.split("/")]
    return any(tuple(names[1 : 1 + len(admin)]) == admin for admin in _ADMIN)
