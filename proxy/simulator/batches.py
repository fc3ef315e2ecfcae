"""/v1/messages/batches: each of one organization; a batch has ended when it is next looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.clock import Clock, rfc3339

from .auth import Credential, Organization
from .ids import Ids
from .messages import Messages
from .pages import after_before
from .replies import Answer, ApiError, Json, dumps, json_answer
from .requests import Request
from .routes import Routes
from .store import Store
from .validation import check_version

MAX_BYTES = 256 << 20
_MOST_REQUESTS = 100_000
_LIFE_S = 24 * 3600


@dataclass(slots=True)
class _Batch:
    id: str
    organization: Organization
    requests: list[Json] = field(repr=False)
    version: str
    created_at: float
    cancel_initiated_at: float | None = None
    ended_at: float | None = None
    results: list[Json] = field(repr=False, default_factory=list)

    @property
    def status(self) -> str:
        if self.ended_at is not None:
            return "ended"
        return "in_progress" if self.cancel_initiated_at is None else "canceling"


class Batches:
    """The batches of each organization. `origin` is where `results_url` leads."""

    def __init__(self, messages: Messages, *, clock: Clock, ids: Ids, origin: Callable[[], str]) -> None:
        self._messages = messages
        self._clock = clock
        self._ids = ids
        self._origin = origin
        self._batches = Store[_Batch]("Message Batch with id {} not found.")

    @property
    def routes(self) -> Routes:
        all_of_them, one = "/v1/messages/batches", "/v1/messages/batches/{}"
        return (
            ("POST", all_of_them, self.create),
            ("GET", all_of_them, self.index),
            ("GET", one, self.retrieve),
            ("DELETE", one, self.delete),
            ("POST", f"{one}/cancel", self.cancel),
            ("GET", f"{one}/results", self.results),
        )

    async def create(self, caller: Credential, request: Request) -> Answer:
        version = check_version(request.headers)
        requests = request.json(MAX_BYTES).get("requests")
        _check(requests)
        batch = _Batch(
            self._ids.new("msgbatch"), caller.organization, requests or [], version, self._clock.now()
        )
        self._batches.add(caller.organization, batch.id, batch)
        return json_answer(self._view(batch))

    async def index(self, caller: Credential, request: Request) -> Answer:
        own = self._batches.newest_first(caller.organization)
        for batch in own:
            self._end(batch)
        return json_answer(after_before([self._view(batch) for batch in own], request, default=20))

    async def retrieve(self, caller: Credential, request: Request, batch_id: str) -> Answer:
        batch = self._batches.require(caller.organization, batch_id)
        self._end(batch)
        return json_answer(self._view(batch))

    async def cancel(self, caller: Credential, request: Request, batch_id: str) -> Answer:
        batch = self._batches.require(caller.organization, batch_id)
        if batch.ended_at is not None:
            raise ApiError(400, f"Batch {batch_id} cannot be canceled because it has already ended.")
        if batch.cancel_initiated_at is None:
            batch.cancel_initiated_at = self._clock.now()
        return json_answer(self._view(batch))

    async def delete(self, caller: Credential, request: Request, batch_id: str) -> Answer:
        if self._batches.require(caller.organization, batch_id).ended_at is None:
            raise ApiError(400, f"Batch {batch_id} cannot be deleted while it is in progress.")
        self._batches.remove(caller.organization, batch_id)
        return json_answer({"type": "message_batch_deleted", "id": batch_id})

    async def results(self, caller: Credential, request: Request, batch_id: str) -> Answer:
        batch = self._batches.require(caller.organization, batch_id)
        if batch.ended_at is None:
            raise ApiError(404, f"No results are available for batch {batch_id} yet.")
        lines = b"".join(dumps(result) + b"\n" for result in batch.results)
        return Answer(200, (("content-type", "application/x-jsonl"),), lines)

    def _end(self, batch: _Batch) -> None:
        if batch.ended_at is None:
            batch.ended_at = self._clock.now()
            batch.results = [self._result(batch, request) for request in batch.requests]
            batch.requests = []

    def _result(self, batch: _Batch, request: Json) -> Json:
        if batch.cancel_initiated_at is not None:
            return {"custom_id": request["custom_id"], "result": {"type": "canceled"}}
        try:
            message = self._messages.compose(batch.organization, request["params"], batch.version)
        except ApiError as error:
            body = error.body(self._ids.new("req"))
            return {"custom_id": request["custom_id"], "result": {"type": "errored", "error": body}}
        message["usage"]["service_tier"] = "batch"
        return {"custom_id": request["custom_id"], "result": {"type": "succeeded", "message": message}}

    def _view(self, batch: _Batch) -> Json:
        ended = batch.ended_at is not None
        outcomes = [result["result"]["type"] for result in batch.results]
        counts = {name: outcomes.count(name) for name in ("succeeded", "errored", "canceled", "expired")}
        path = f"/v1/messages/batches/{batch.id}/results"
        return {
            "type": "message_batch",
            "id": batch.id,
            "processing_status": batch.status,
            "request_counts": {"processing": len(batch.requests), **counts},
            "created_at": rfc3339(batch.created_at),
            "expires_at": rfc3339(batch.created_at + _LIFE_S),
            "ended_at": None if batch.ended_at is None else rfc3339(batch.ended_at),
            "cancel_initiated_at": (
                None if batch.cancel_initiated_at is None else rfc3339(batch.cancel_initiated_at)
            ),
            "archived_at": None,
            "results_url": self._origin() + path if ended else None,
        }


def _check(requests: object) -> None:
    if not isinstance(requests, list) or not requests:
        raise ApiError(400, "requests: Field required" if requests is None else "requests: List is empty")
    if len(requests) > _MOST_REQUESTS:
        raise ApiError(413, f"requests: at most {_MOST_REQUESTS} requests are allowed")
    seen: set[str] = set()
    for index, request in enumerate(requests):
        if not isinstance(request, dict) or not isinstance(request.get("custom_id"), str):
            raise ApiError(400, f"requests.{index}.custom_id: Field required")
        if not isinstance(request.get("params"), dict):
            raise ApiError(400, f"requests.{index}.params: Field required")
        if request["custom_id"] in seen:
            raise ApiError(400, f"requests.{index}.custom_id: {request['custom_id']!r} is not unique")
        seen.add(request["custom_id"])
