"""All targets of notifications: each notice goes to those that want it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from proxy.clock import Clock
from proxy.dashboard.notify.mail import Mailer
from proxy.dashboard.notify.notice import ALARMS, Notice, Reply, Sender
from proxy.dashboard.notify.outbox import Outbox
from proxy.dashboard.notify.post import Poster
from proxy.dashboard.notify.target import Target
from proxy.errors import StartError
from proxy.jobs import Jobs


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of a test of one target."""

    target: Target
    reply: Reply

    def view(self) -> dict[str, Any]:
        """What an admin may see."""
        reply = self.reply
        return {
            "name": self.target.name,
            "kind": self.target.kind,
            "ok": reply.problem is None,
            "status": reply.status,
            "latency_ms": reply.latency_ms,
            "message": reply.problem or f"it answered {reply.status}",
        }


class Notifier:
    """The targets' outboxes. `proxy` and `ca_file` are those of all outbound calls."""

    def __init__(
        self, *, proxy: str | None, ca_file: Path | None, jobs: Jobs, clock: Clock, rng: Random
    ) -> None:
        self._proxy = proxy
        self._ca_file = ca_file
        self._jobs = jobs
        self._clock = clock
        self._rng = rng
        self._outboxes: list[Outbox] = []
        self.wants_more = False
        """Whether some target wants other events than ALARMS."""

    def __bool__(self) -> bool:
        """Whether there is a target."""
        return bool(self._outboxes)

    def aim(self, targets: Iterable[Target], repeat_after_s: float) -> None:
        """Have these targets from now on. One that stays as it is keeps what waits for it.

        Raises StartError, before anything has changed, if there are no CA certificates for https.
        """
        old = {outbox.target: outbox for outbox in self._outboxes}
        wanted = list(targets)
        made = self._made([target for target in wanted if target not in old])
        new = [made[target] if target in made else old.pop(target) for target in wanted]
        for outbox in new:
            outbox.repeat_after_s = repeat_after_s
        for gone in old.values():
            gone.close("the configuration has no such target any more")
        self._outboxes = new
        self.wants_more = any(not set(each.target.events) <= set(ALARMS) for each in new)

    def put(self, notice: Notice) -> None:
        """Send a notice to each target that wants it."""
        for outbox in self._outboxes:
            outbox.put(notice)

    def look(self) -> None:
        """Send what was held long enough. Called periodically."""
        for outbox in self._outboxes:
            outbox.look()

    async def test(self) -> Sequence[Tested]:
        """Send one notice to every target now, once, whatever it wants; what each receiver said to it."""
        notice = Notice("test", "Claude Proxy: this is a test, sent by an admin", "info", self._clock.now())
        outboxes = tuple(self._outboxes)
        replies = await asyncio.gather(*(outbox.try_once(notice) for outbox in outboxes))
        return [Tested(outbox.target, reply) for outbox, reply in zip(outboxes, replies, strict=True)]

    def view(self) -> list[dict[str, Any]]:
        """The targets, as an admin may see them."""
        return [outbox.target.view() for outbox in self._outboxes]

    def close(self) -> None:
        """Send nothing more."""
        for outbox in self._outboxes:
            outbox.close("the proxy stops")

    def _made(self, targets: list[Target]) -> dict[Target, Outbox]:
        """New outboxes, of all of these or of none."""
        made: dict[Target, Outbox] = {}
        try:
            for target in targets:
                made[target] = self._outbox(target)
        except StartError:
            for outbox in made.values():
                outbox.close("there are no CA certificates")
            raise
        return made

    def _outbox(self, target: Target) -> Outbox:
        return Outbox(
            target,
            self._sender(target),
            repeat_after_s=0.0,
            jobs=self._jobs,
            clock=self._clock,
            rng=self._rng,
        )

    def _sender(self, target: Target) -> Sender:
        if target.mailbox is not None:
            return Mailer(target.mailbox, ca_file=self._ca_file, clock=self._clock)
        return Poster(target, proxy=self._proxy, ca_file=self._ca_file, clock=self._clock)
