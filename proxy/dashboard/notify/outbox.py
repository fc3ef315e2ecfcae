"""The notices on their way to one target: what is sent, what is held back, and what is tried again."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from dataclasses import replace
from random import Random

from proxy.clock import Clock
from proxy.dashboard.notify.notice import Notice, Reply, Sender
from proxy.dashboard.notify.target import Target
from proxy.jobs import Jobs

TRIES = 6
FIRST_WAIT_S = 1.0
MAX_WAITING = 100
"""Notices that wait for a receiver; of more, the oldest are dropped."""

MAX_HELD = 100
"""Different notices that wait for the end of quiet hours, or of the time without repeats."""

MAX_REMEMBERED = 1000
"""Notices whose repeats are known as such."""

log = logging.getLogger(__name__)

Key = tuple[str, str]


class Outbox:
    """Sends in order, as a job of its own: a target that hangs delays no other. Gives a notice up after TRIES tries.

    A repeat within `repeat_after_s` of what was sent is held, and so is what comes in quiet hours: `look` sends the
    last of each, with a count of the others, once its time has come. That something is well again is no repeat if the
    last that was sent of it is that it was not; since that is sent once in a while, so is this.
    """

    def __init__(
        self,
        target: Target,
        sender: Sender,
        *,
        repeat_after_s: float,
        jobs: Jobs,
        clock: Clock,
        rng: Random,
    ) -> None:
        self.target = target
        self.repeat_after_s = repeat_after_s
        self._sender = sender
        self._jobs = jobs
        self._clock = clock
        self._rng = rng
        self._waiting: deque[Notice] = deque(maxlen=MAX_WAITING)
        self._held: OrderedDict[Key, Notice] = OrderedDict()
        self._sent_at: OrderedDict[Key, float] = OrderedDict()  # by the monotonic clock
        self._states: dict[str, Key] = {}  # what was sent last of each thing that has states
        self._sending: asyncio.Task[None] | None = None
        self._closed = False

    def close(self, why: str) -> None:
        """Send nothing more: a receiver that hangs must not hold up a shutdown."""
        self._closed = True
        left = len(self._waiting) + len(self._held)
        if (self._sending is not None and self._sending.cancel()) or left:
            log.warning("notifications not sent, since %s more=%d target=%s", why, left, self.target.name)
        self._sender.close()

    def put(self, notice: Notice) -> None:
        """Send the notice, or hold it, if the target wants it."""
        if self._closed or not self.target.wants(notice.event):
            return
        for held in [each for each in self._held.values() if _is_outdated(each, notice)]:
            del self._held[held.key]
            notice = replace(notice, more=notice.more + held.more + 1)
        if self._may_go(notice):
            self._send_soon(notice)
        else:
            self._hold(notice)

    def look(self) -> None:
        """Send what was held and need not be any more. Called periodically."""
        for notice in tuple(self._held.values()):
            if self._may_go(notice):
                del self._held[notice.key]
                self._send_soon(notice)
        end = self._clock.monotonic() - self.repeat_after_s
        for key in [key for key, at in self._sent_at.items() if at <= end]:
            del self._sent_at[key]

    async def try_once(self, notice: Notice) -> Reply:
        """Send this now, whatever else waits; what the receiver said to it."""
        return await self._sender.send(notice)

    def _may_go(self, notice: Notice) -> bool:
        sent_at = self._sent_at.get(notice.key)
        if sent_at is not None and self._clock.monotonic() - sent_at < self.repeat_after_s:
            last = self._states.get(notice.state_of, notice.key)
            if notice.level != "info" or last == notice.key:
                return False
        return not self.target.rests(notice, self._clock.now())

    def _hold(self, notice: Notice) -> None:
        if len(self._held) == MAX_HELD:
            (event, _), _ = self._held.popitem(last=False)
            self._dropped("too many are held", event)
        self._held[notice.key] = notice

    def _send_soon(self, notice: Notice) -> None:
        if notice.state_of:
            self._states[notice.state_of] = notice.key
        if self.repeat_after_s:
            self._sent_at[notice.key] = self._clock.monotonic()
            self._sent_at.move_to_end(notice.key)
            if len(self._sent_at) > MAX_REMEMBERED:
                self._sent_at.popitem(last=False)
        if len(self._waiting) == MAX_WAITING:
            self._dropped("too many wait", self._waiting[0].event)
        self._waiting.append(notice)
        if self._sending is None or self._sending.done():
            self._sending = self._jobs.start("notify", self._send_all())

    def _dropped(self, why: str, event: str) -> None:
        flood = {"flood": ("notifications dropped", self.target.name)}  # a target may want what clients cause
        log.warning("notification dropped, %s event=%s target=%s", why, event, self.target.name, extra=flood)

    async def _send_all(self) -> None:
        while self._waiting:
            await self._send(self._waiting.popleft())

    async def _send(self, notice: Notice) -> None:
        for attempt in range(TRIES):
            if attempt:
                await self._clock.sleep(FIRST_WAIT_S * 2.0 ** (attempt - 1) * self._rng.uniform(0.8, 1.2))
            reply = await self._sender.send(notice)
            if reply.problem is None:
                return
            log.warning(
                "notification failed event=%s target=%s attempt=%d problem=%s",
                notice.event,
                self.target.name,
                attempt + 1,
                reply.problem,
            )
        log.error(
            "notification given up event=%s target=%s text=%s", notice.event, self.target.name, notice.told
        )


def _is_outdated(held: Notice, new: Notice) -> bool:
    """Whether the new notice says all that the held one does: a repeat, or another state of the same thing."""
    return held.key == new.key or (held.state_of == new.state_of != "")
