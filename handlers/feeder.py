"""The one task that brings all dashboards up to date: what is new is made once, and sent to those that are due."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol, TypeAlias

from proxy.dashboard.revisions import Revisions, Steps
from proxy.jobs import Jobs
from proxy.slices import in_slices

Seen: TypeAlias = tuple[tuple[str, int], ...]
"""Topics that somebody wants news of, each with the revision that it has."""

Made: TypeAlias = tuple[list[int], list[str]]
"""For each topic the revision that the frames lead to, and the frames of all."""


class News:
    """What is new of these topics, which were just read; made once for all that have the same."""

    def __init__(self, live: Revisions, topics: Collection[str]) -> None:
        self.topics = topics
        self._live = live
        self._made: dict[Seen, Made] = {}

    def making(self, seen: Seen) -> Steps[Made]:
        """Make the frames that lead on from `seen`, a part a step."""
        if seen not in self._made:
            made = []
            for topic, since in seen:
                yield from self._live.making(topic, since)
                made.append(self._live.frames(topic, since))
            self._made[seen] = [rev for rev, _ in made], [frame for _, frames in made for frame in frames]
        return self._made[seen]


class Follower(Protocol):
    """Who is brought up to date."""

    @property
    def due_at(self) -> float:
        """When it is to be sent something, by the loop's clock."""

    @property
    def topics(self) -> Iterable[str]:
        """Those that it wants and can take news of now."""

    def bring_up_to_date(self, news: News) -> Iterator[None]:
        """Send it what is new, a part a step, without waiting for it."""


class Feeder:
    """Feeds the `followers`, who come and go. Requests go on between any two slices of its work."""

    def __init__(self, live: Revisions, followers: Collection[Follower], jobs: Jobs) -> None:
        self._live = live
        self._followers = followers
        self._jobs = jobs
        self._behind: set[Follower] = set()  # those for which there may be news
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def hurry(self, follower: Follower) -> None:
        """Bring it up to date as soon as it is due, whether or not there are news."""
        if follower in self._followers:
            if not self._live.watched:
                self._live.follow(self._news)
            if self._task is None or self._task.done():
                self._task = self._jobs.start("dashboards", self._run(), wait=False)
            self._behind.add(follower)
            self._hurry.set()
            self._news.set()

    def forget(self, follower: Follower) -> None:
        """It is no follower any more."""
        self._behind.discard(follower)
        if not self._followers:
            self._live.unfollow()

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due = [each for each in self._behind if each.due_at <= now()]
            if due:
                self._behind.difference_update(due)
                await in_slices(self._steps(due))
            else:
                await self._wait()
            if self._news.is_set():
                self._news.clear()
                self._behind.update(self._followers)

    async def _wait(self) -> None:
        """Until one is due, or there may be news for one that had none."""
        self._hurry.clear()
        woken = self._hurry if len(self._behind) == len(self._followers) else self._news
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min((each.due_at for each in self._behind), default=None)):
                await woken.wait()

    def _steps(self, due: Iterable[Follower]) -> Iterator[None]:
        topics = {topic for each in due for topic in each.topics}
        yield from self._live.reading(topics)
        news = News(self._live, topics)
        for each in due:
            yield from each.bring_up_to_date(news)
