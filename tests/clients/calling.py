"""What programs that call an SDK of Python share: its two kinds of client, and what is told of their calls.

They run in the virtual environment of their package, and find this beside them.
"""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Awaitable, Callable
from typing import Any

try:
    import httpx2 as httpx  # what the new ones stand on
except ImportError:
    import httpx  # what anthropic 0.121.0 stands on

Client = Any  # the sync or the async client of a package: the calls are the same for both
Calls = dict[str, Callable[[Client], Awaitable[Any]]]
TransportError = httpx.TransportError

OWN_KEY = os.environ.get("ANTHROPIC_API_KEY")
KEYS_IN_TURN = os.environ.get("KEYS_IN_TURN", "").split()
_turns = itertools.cycle(KEYS_IN_TURN)


def sign(request: Any) -> None:
    """Have each request of the program's own key use the next of `KEYS_IN_TURN`, if there are any."""
    named = (
        request.headers.get("x-api-key"),
        request.headers.get("authorization", "").removeprefix("Bearer "),
    )
    if KEYS_IN_TURN and OWN_KEY in named:
        request.headers.pop("authorization", None)
        request.headers["x-api-key"] = next(_turns)


async def sign_async(request: Any) -> None:
    sign(request)


async def got(value: Any) -> Any:
    """What a call of either client comes to."""
    return await value if inspect.isawaitable(value) else value


async def every(source: Any) -> list[Any]:
    """All items of a stream or of a list with pages."""
    return [item async for item in source] if hasattr(source, "__aiter__") else list(source)


async def until_broken(stream: Any, error_class: type[Exception]) -> Any:
    """A stream's events up to where it breaks, and the error."""
    events: list[Any] = []
    try:
        if hasattr(stream, "__aiter__"):
            async for event in stream:
                events.append(event)
        else:
            for event in stream:
                events.append(event)
    except (error_class, TransportError) as error:
        return {"events": events, "raised": raised(error)}
    return {"events": events}


def plain(value: Any) -> Any:
    """`value` as JSON has it."""
    if hasattr(value, "model_dump"):
        request_id = getattr(value, "_request_id", None)
        return value.model_dump(mode="json", warnings=False) | (
            {"_request_id": request_id} if request_id else {}
        )
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def raised(error: Exception) -> Any:
    """What a program sees of an error."""
    names = ("status_code", "message", "body", "request_id", "type")
    return {"class": type(error).__name__} | {name: getattr(error, name, None) for name in names}


class Log:
    """The requests of a client as they are answered."""

    def __init__(self) -> None:
        self.requests: list[list[Any]] = []

    def add(self, response: Any) -> None:
        self.requests.append([response.request.method, str(response.request.url), response.status_code])

    async def add_async(self, response: Any) -> None:
        self.add(response)


async def outcomes(client: Client, log: Log, calls: Calls, error_class: type[Exception]) -> Any:
    """What each call returned, or raised, and the requests it made as `[method, url, status]`."""
    found: dict[str, Any] = {}
    for name, call in calls.items():
        log.requests = []
        try:
            outcome = {"returned": plain(await call(client))}
        except (error_class, TransportError) as error:
            outcome = {"raised": raised(error)}
        found[name] = outcome | {"requests": log.requests}
    return found


async def in_turn(sdk: Any, sync: type[Client], concurrent: type[Client], *groups: Calls) -> Any:
    """The outcomes of both clients of `sdk` by style; a group is called by both before the next one is."""
    log = Log()
    sync_http = sdk.DefaultHttpxClient(event_hooks={"request": [sign], "response": [log.add]})
    async_http = sdk.DefaultAsyncHttpxClient(
        event_hooks={"request": [sign_async], "response": [log.add_async]}
    )
    found: dict[str, Any] = {"sync": {}, "async": {}}
    with sync(http_client=sync_http) as client:
        async with concurrent(http_client=async_http) as async_client:
            for calls in groups:
                found["sync"] |= await outcomes(client, log, calls, sdk.APIError)
                found["async"] |= await outcomes(async_client, log, calls, sdk.APIError)
    return found
