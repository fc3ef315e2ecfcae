"""Whatever the network does to frames, the page ends with what the server has: the real store, the real frames."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from handlers.dashboards import numbered, unbraced
from proxy.clock import SystemClock
from proxy.dashboard import revisions as live
from proxy.dashboard.event_log import EventLog
from proxy.dashboard.revisions import EVENTS, Revisions, Source
from proxy.feed import Feed, Happened

ROOT = Path(__file__).parents[2]
SEEDS = 1000
TOPICS = ("accounts", "sessions", "events")
STEPS = 40


class Page:
    """The page's store in a process of its own."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin = stdin
        self._stdout = stdout

    def do(self, does: str, frame: Any = None) -> Any:
        print(json.dumps({"does": does, "frame": frame, "topics": TOPICS}), file=self._stdin, flush=True)
        return json.loads(self._stdout.readline())


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    node = shutil.which("node")
    assert node is not None
    command = [
        node,
        "--no-warnings",
        "--experimental-default-type=module",
        str(Path(__file__).with_name("store.mjs")),
        str(ROOT / "static/js/store.js"),
    ]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]}
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        yield Page(process.stdin, process.stdout)
        process.stdin.close()


class Server:
    """What there is to show, and its changes by chance."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.epoch = 0
        self.start()

    def start(self) -> None:
        """As after a restart: what there is may be another, and revisions begin anew."""
        self.epoch += 1
        self.feed = Feed()
        self.things: dict[str, dict[str, dict[str, Any]]] = {"accounts": {}, "sessions": {}}
        sources = {name: Source(things.keys, things.get) for name, things in self.things.items()}
        self.chronicle = EventLog(self.feed, clock=SystemClock())
        for _ in range(self._rng.randrange(8)):
            self.change()
        self.live = Revisions(self.feed, sources, {EVENTS: self.chronicle}, epoch=f"e{self.epoch}")

    def change(self) -> None:
        rng = self._rng
        topic, id = rng.choice(list(self.things)), f"id_{rng.randrange(12)}"
        things = self.things[topic]
        if rng.random() < 0.2:
            self.feed.tell(Happened("server.started", f"event {rng.random()}"))
        if rng.random() < 0.25:
            things.pop(id, None)
        else:
            # Long enough for some snapshots and deltas to come in several pieces.
            new = {rng.choice("abcd"): rng.random(), "text": "x" * rng.choice((0, 0, 0, 200))}
            things[id] = {"a": 0, "b": 0, "c": 0, "d": 0, "text": "", **things.get(id, {}), **new}
        self.feed.touch(topic, id)


class Connection:
    """One socket: the frames that the server has sent on it, as far as the network has not lost them."""

    def __init__(self, server: Server, hello: Any) -> None:
        self._live = server.live
        self._n = 0
        known = hello["epoch"] == self._live.epoch
        self._seen = {topic: hello["revs"][topic] if known else 0 for topic in TOPICS}
        self.frames = [self.next_frame(unbraced({"t": "hello", "v": 1, "epoch": self._live.epoch}))]
        self.send(*TOPICS)

    def send(self, *topics: str) -> None:
        """What is new in these topics; the rest waits, as it does for a slow reader."""
        for topic in topics:
            self._seen[topic], frames = self._live.frames(topic, self._seen[topic])
            self.frames += [self.next_frame(frame) for frame in frames]

    def next_frame(self, frame: str) -> Any:
        self._n += 1
        return json.loads(numbered(self._n, frame))


def spoil(frames: list[Any], rng: random.Random) -> None:
    """Drop one, repeat one, or swap two."""
    at = rng.randrange(len(frames))
    how = rng.randrange(3)
    if how == 0:
        del frames[at]
    elif how == 1:
        frames.insert(at, frames[at])
    else:
        other = rng.randrange(len(frames))
        frames[at], frames[other] = frames[other], frames[at]


def converge(page: Page, seed: int) -> None:
    rng = random.Random(seed)
    server = Server(rng)
    said = page.do("open")
    connection = Connection(server, said)
    for step in range(STEPS):
        calm = step > STEPS - 10  # at the end the network behaves
        for _ in range(rng.randrange(4)):
            server.change()
        if not calm and rng.random() < 0.05:
            server.start()
            page.do("connect")
            connection = Connection(server, said)
        connection.send(*rng.sample(TOPICS, rng.randrange(len(TOPICS) + 1)))
        if not calm and connection.frames and rng.random() < 0.2:
            spoil(connection.frames, rng)
        arrived = rng.randrange(len(connection.frames) + 1)
        for frame in connection.frames[:arrived]:
            said = page.do("accept", frame)
            if not said["ok"]:
                page.do("connect")
                connection = Connection(server, said)
                break
        else:
            del connection.frames[:arrived]
            if not calm and rng.random() < 0.1:  # the connection breaks, and what was on its way is lost
                page.do("connect")
                connection = Connection(server, said)
    connection.send(*TOPICS)
    # A frame may be missing without another having come that shows it: the heartbeat does.
    connection.frames.append(connection.next_frame(unbraced({"t": "hb", "now": 0})))
    for frame in connection.frames:
        said = page.do("accept", frame)
        if not said["ok"]:
            break
    if not said["ok"]:
        page.do("connect")
        for frame in Connection(server, said).frames:
            assert page.do("accept", frame)["ok"]
    shown = page.do("show")["items"]
    assert {topic: shown[topic] for topic in server.things} == server.things, f"seed {seed}"
    events = {str(event["id"]): event for event in server.chronicle.since(0)}
    assert {id: shown["events"].get(id) for id in events} == events, f"seed {seed}"


@pytest.mark.parametrize("part", range(4))
def test_the_page_ends_with_what_the_server_has(
    page: Page, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PIECE_BYTES", 400)
    monkeypatch.setattr(live, "MOST_TOMBSTONES", 3)
    for seed in range(part * SEEDS // 4, (part + 1) * SEEDS // 4):
        converge(page, seed)
