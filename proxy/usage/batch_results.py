"""Counts what a message batch has used, out of the first whole download of its results.

Nothing else tells it: the batch itself has no usage. Results can be hundreds of megabytes, so they are priced line by
line as they pass, and kept as sums by model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import DecodeError, Raw, Struct

from proxy.http.scan import ABSENT
from proxy.usage import prices
from proxy.usage.body_lines import BodyLines
from proxy.usage.message_stream import Message, name_in, usage_in
from proxy.usage.meter import Meter, Reader, Usage, usage_of
from proxy.usage.request import Charge, RequestRecord

_BILLED: Final = b'"succeeded"'
"""The type of the results that are billed, as JSON. What has another one is free."""

_BILLED_BYTES: Final = 900
"""What such a line costs beside any other one, of what may be decoded: to price it takes ten times as long."""

MOST_MODELS = 64
"""Further ones are not told apart from lines that cannot be read."""

_NO_MESSAGE: Final = Message()


class _Result(Struct):
    """`{"type": "succeeded", "message": {…}}`; the other types are not billed."""

    type: Raw = ABSENT
    message: Message = _NO_MESSAGE


class _Line(Struct):
    result: _Result


_LINE: Final = msgspec.json.Decoder(_Line)


class BatchResults(Meter):
    """Reads results at the prices of `now`, in epoch seconds."""

    __slots__ = ("_results",)

    def __init__(self, content_encoding: str, status: int, now: float) -> None:
        self._results = _Results(now)
        super().__init__("", content_encoding, status)

    def _reader_of(self, media_type: str) -> Reader | None:
        return self._results

    def _effort(self, piece: bytes) -> int:
        return super()._effort(piece) + _BILLED_BYTES * min(piece.count(_BILLED), piece.count(b"\n"))

    @property
    def is_decoded(self) -> bool:
        """Whether its encoding is known, and could be decoded so far."""
        return self._decoder is not None

    @property
    def charges(self) -> tuple[Charge, ...]:
        """What each model is billed for, after `finish`."""
        return self._results.charges


class _Results(BodyLines):
    """The results so far."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self._by_model: dict[str, Charge] = {}
        self._now = now
        self._searches = 0

    def read(self, line: bytes) -> None:
        try:
            result = _LINE.decode(line).result
        except (DecodeError, RecursionError):
            self.has_skipped = self.has_skipped or not line.isspace()
            return
        if bytes(result.type) != _BILLED:
            return
        told = usage_in(result.message.usage)
        if not isinstance(told.get("output_tokens"), int):
            self.has_skipped = True
            return
        usage = usage_of(name_in(result.message.model), told)
        if usage.web_search_requests:
            self._searches += usage.web_search_requests
            self._add(Usage(usage.model), prices.searches_usd(usage))
        for each in usage.billed:
            each.web_search_requests = 0  # those of the iterations are among the message's
            self._add(each, prices.cost_usd(each, at=self._now, batch=True))

    def settle(self, *, whole: bool) -> Usage | None:
        if whole:
            self.close()
        else:  # a part is not charged: a later download may tell all
            model = next(iter(self._by_model), "")
            self._by_model, self._searches = {model: Charge(Usage(model), None)}, 0
            self.has_skipped = False
        if not self.charges:
            return None
        parts = tuple(charge.usage for charge in self.charges)
        return Usage(parts[0].model, web_search_requests=self._searches, iterations=parts)

    @property
    def is_whole(self) -> bool:
        """False if the last line is cut; that further ones are missing cannot be told."""
        return not self._held or self._held.isspace() or _is_json(self._held)

    @property
    def charges(self) -> tuple[Charge, ...]:
        """One of each model; and an unpriced one if there is something that could not be read."""
        found = tuple(self._by_model.values())
        if not self.has_skipped:
            return found
        return (*found, Charge(Usage(found[0].usage.model if found else ""), None))

    def _add(self, usage: Usage, cost_usd: float | None) -> None:
        charge = self._by_model.get(usage.model)
        if charge is None:
            if len(self._by_model) >= MOST_MODELS:
                self.has_skipped = True
                return
            self._by_model[usage.model] = Charge(usage, cost_usd)
            return
        total, before = charge.usage, charge.cost_usd
        total.input_tokens += usage.input_tokens
        total.output_tokens += usage.output_tokens
        total.cache_creation_5m_tokens += usage.cache_creation_5m_tokens
        total.cache_creation_1h_tokens += usage.cache_creation_1h_tokens
        total.cache_read_tokens += usage.cache_read_tokens
        charge.cost_usd = None if before is None or cost_usd is None else before + cost_usd


def _is_json(line: bytearray) -> bool:
    try:
        msgspec.json.decode(line, type=Raw)
    except (DecodeError, RecursionError):
        return False
    return True


def price_results(
    record: RequestRecord, is_counted: Callable[[str], bool], note_counted: Callable[[str], None]
) -> None:
    """Set usage, charges and cost in the record of an ended download, or that nothing of it is counted.

    It is counted if it was whole, and its batch was not before. What could not be decoded to its end is unpriced, and
    a later download of that batch is still counted. Lines that cannot be read would be the same in that one.
    """
    meter, batch_id = record.meter, record.target and record.target.resource
    if record.complete and batch_id and isinstance(meter, BatchResults) and not is_counted(batch_id):
        usage = meter.finish(complete=True)
        if usage is not None:
            record.charge(usage, meter.charges)
            if meter.is_decoded:
                note_counted(batch_id)
            return
    record.form = None
