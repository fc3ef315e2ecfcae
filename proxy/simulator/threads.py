"""Message threads: conversations that an organization leaves with the API for a few minutes (message-threads)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from proxy.clock import Clock

from .auth import Organization
from .prompt_cache import without_marks
from .replies import ApiError, Json

BETA = "message-threads-2026-08-12"
_LIFE_S = 300
_KEPT = 10_000
_OF_THE_THREAD = ("system", "tools")


@dataclass(slots=True)
class _Thread:
    """A conversation up to a reply; `fixed` are the members that stay as the first request had them."""

    expires_at: float
    messages: list[Json] = field(repr=False)
    fixed: Json = field(repr=False)
    continued: bool = False


class Threads:
    """Threads by organization and the id of their last reply. Each reply is continued once."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._threads: OrderedDict[tuple[str, str], _Thread] = OrderedDict()

    def whole(self, organization: Organization, body: Json, betas: list[str]) -> Json:
        """The request with all that its thread holds; ApiError if there is no such thread."""
        asked = body.get("thread")
        if asked is None:
            return body
        if BETA not in betas:
            raise ApiError(400, "thread: Extra inputs are not permitted")
        match asked:
            case {"type": "create"}:
                return body
            case {"type": "continue", "previous_message_id": str(previous)}:
                thread = self._require(organization, previous, body)
                messages = body.get("messages")
                return body | thread.fixed | {"messages": thread.messages + (messages or [])}
        raise ApiError(400, "thread: Input should be a valid dictionary or object")

    def _require(self, organization: Organization, previous: str, body: Json) -> _Thread:
        thread = self._threads.get((organization.uuid, previous))
        if thread is None or thread.expires_at <= self._clock.now():
            text = f"No usable thread state was found for `previous_message_id` {previous}."
            raise ApiError(404, text, details={"error_code": "thread_not_found"})
        if thread.continued:
            text = f"The response {previous} has already been continued."
            raise ApiError(400, text, details={"error_code": "thread_already_continued"})
        changed = [name for name in _OF_THE_THREAD if name in body and body[name] != thread.fixed.get(name)]
        if changed:
            text = f"{' and '.join(changed)} must stay the same across a thread's turns."
            raise ApiError(400, text, details={"error_code": "thread_fingerprint_mismatch"})
        return thread

    def keep(self, organization: Organization, whole: Json, message: Json) -> None:
        """Leave the conversation that `message` answered under its id, if the request was one of a thread."""
        asked = whole.get("thread")
        if asked is None:
            return
        if before := self._threads.get((organization.uuid, str(asked.get("previous_message_id")))):
            before.continued = True
        reply = {"role": "assistant", "content": message["content"]}
        self._threads[organization.uuid, message["id"]] = _Thread(
            self._clock.now() + _LIFE_S,
            [*map(_unmarked, whole["messages"]), reply],
            {name: whole[name] for name in _OF_THE_THREAD if name in whole},
        )
        while len(self._threads) > _KEPT:
            self._threads.popitem(last=False)


def _unmarked(message: Json) -> Json:
    """A breakpoint of the prompt cache is for the request that sets it, and a request may have few."""
    unmarked = without_marks(message)
    return unmarked if isinstance(unmarked, dict) else message
