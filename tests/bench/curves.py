"""How cost grows: figures at rising sizes, and where the cost leaves its line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from proxy.assembly.periods import SAVE_COUNTERS_S
from tests.bench.dashboards import dashboards
from tests.bench.figures import (
    ARRIVED,
    CPU,
    P99,
    PER_S,
    RAMP_S,
    SETTLE_S,
    US_EVENT,
    US_REQUEST,
    Course,
    Figure,
    Metric,
    Values,
    cost,
    streams,
)
from tests.bench.programs import Counted
from tests.bench.targets import Setup

LEAVES = 0.2
"""A cost that is so far from where its line would have it has left the line."""
PEERS = ("nginx", "caddy", "ours")
SLOW_US = 250_000
"""4 events a second and stream: 5,000 streams say as many events then as 1,000 do at 20."""
SLOW_BODY_BYTES_S = 10_000_000
"""Bytes a second of bodies, which each target takes several times over."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """A figure at several sizes; the first metric is the cost that is plotted."""

    name: str
    title: str
    axis: str
    metrics: tuple[Metric, ...]
    sizes: tuple[int, ...]
    measure: Callable[[Course, int], Values]
    why: str
    """What is known of where it bends."""
    grows: bool = False
    """Whether the cost is to follow a line of the size; else it is to stay as it is at the first size."""
    targets: tuple[str, ...] = ("ours",)
    setup: Callable[[int], Setup] = lambda _: Setup()
    fixed_s: Callable[[int], float] = lambda _: 0.3

    def figure(self, size: int) -> Figure:
        """What is measured at that size."""
        return Figure(
            f"{self.name}-{size}",
            f"{self.title}: {size:,}",
            self.metrics,
            lambda course: self.measure(course, size),
            fixed_s=self.fixed_s(size),
            targets=self.targets,
            setup=self.setup(size),
        )

    def knee(self, points: Sequence[Point]) -> str:
        """Where the cost leaves its line, in words; `points` are (size, cost), the smallest first."""
        if len(points) < 2:
            return "measured at one size only"
        return _line_knee(points) if self.grows else _flat_knee(points)


def spread(points: Sequence[Point]) -> float:
    """How far the cost gets from what it is at the first size: 0.1 is 10 %."""
    first = points[0][1]
    return max(abs(each / first - 1) for _, each in points)


def _flat_knee(points: Sequence[Point]) -> str:
    first = points[0][1]
    for at, (size, each) in enumerate(points):
        if each > first * (1 + LEAVES):
            last = points[-1]
            return f"flat to {points[at - 1][0]:,.0f}; {each / first - 1:+.0%} at {size:,.0f}" + (
                f", {last[1] / first - 1:+.0%} at {last[0]:,.0f}" if last[0] != size else ""
            )
    return f"flat within {spread(points):.0%}"


def _line_knee(points: Sequence[Point]) -> str:
    for at in range(2, len(points)):
        base, slope = line(points[:at])
        size, each = points[at]
        expected = base + slope * size
        if abs(each / expected - 1) > LEAVES:
            side = "above" if each > expected else "below"
            return (
                f"a line to {points[at - 1][0]:,.0f}; {abs(each / expected - 1):.0%} {side} it at {size:,.0f}"
            )
    return f"a line within {LEAVES:.0%}"


def line(points: Sequence[Point]) -> tuple[float, float]:
    """(a, b) of the line a + b × size that is nearest in relative terms; neither is negative."""
    weights = [1 / max(each, 1e-9) ** 2 for _, each in points]
    total = math.fsum(weights)
    mean_x = math.fsum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = math.fsum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    above = math.fsum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True))
    below = math.fsum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    slope = max(0.0, above / below) if below else 0.0
    base = mean_y - slope * mean_x
    if base >= 0:
        return base, slope
    through_zero = math.fsum(w * x * y for w, (x, y) in zip(weights, points, strict=True))
    return 0.0, through_zero / math.fsum(w * x * x for w, (x, _) in zip(weights, points, strict=True))


def _many_streams(course: Course, count: int) -> Values:
    return streams(count, SLOW_US)(course)


def _many_events(course: Course, per_s: int) -> Values:
    return streams(1000, 1_000_000_000 // per_s)(course)


def _body(course: Course, size: int) -> Values:
    """One at a time, and long enough that a few of the largest are whole in it."""
    counted = course.load("requests", 1, seconds=max(course.seconds, size / SLOW_BODY_BYTES_S), body=size)
    return cost(counted) | {"mb_s": counted.per_s * size / 1e6}


Turn = Callable[[Course, int, bool], Counted]
"""Measures a process at a size: for the first time, and again."""


def in_turns(turn: Turn, first: int, setup: Setup) -> Callable[[Course, int], Values]:
    """A size in turns with the first one, set up so, each in its own process: a machine that drifts drifts for both."""

    def measure(course: Course, size: int) -> Values:
        if size == first:
            return cost(turn(course, size, False)) | {OF_FIRST.key: 1.0}
        with course.beside(setup) as other:
            turns = [(turn(other, first, again), turn(course, size, again)) for again in (False, True)]
        ratios = [here.cpu_us_each / there.cpu_us_each for there, here in turns]
        return cost(turns[-1][1]) | {OF_FIRST.key: median(ratios)}

    return measure


def _keys(course: Course, count: int, again: bool) -> Counted:
    """Each of `count` keys has asked before it is measured, and asks in turn. The time has a save of counters in it."""
    seconds = max(course.seconds, SAVE_COUNTERS_S)
    return course.load("requests", 32, seconds=seconds, first=0 if again else count)


def _plain(course: Course, _: int) -> Values:
    return cost(course.load("requests", 32))


def _sessions(course: Course, count: int, again: bool) -> Counted:
    """Each of `count` User-Agents has asked before, and asks in turn. The time has a save of sessions in it."""
    seconds = max(course.seconds, SAVE_COUNTERS_S)
    return course.load("requests", 32, seconds=seconds, agents=count, first=0 if again else count)


def _watched(course: Course, count: int) -> Values:
    with dashboards(course.target.port, count):
        return cost(course.load("requests", 32))


REQUEST = (US_REQUEST, PER_S)
OF_FIRST = Metric("of_first", "CPU against the first", "×", 2)
EVENT = (CPU, US_EVENT, P99, ARRIVED)

CURVES = (
    Curve(
        "growth-streams",
        "Streams of 4 events/s",
        "streams",
        EVENT,
        (1, 10, 100, 1000, 2000, 5000),
        _many_streams,
        "One turn of the loop serves all streams that have news, so that an event gets cheaper as streams get more, "
        "up to a full core.",
        grows=True,
        targets=PEERS,
        fixed_s=lambda _: RAMP_S + SETTLE_S,
    ),
    Curve(
        "growth-events",
        "Events of 1,000 streams",
        "events a second, offered",
        EVENT,
        (1000, 10_000, 50_000, 100_000, 200_000),
        _many_events,
        "What comes while a turn of the loop lasts is handed on together: an event gets cheaper as they get denser. "
        "From 100 % on the core is full, and events are late.",
        grows=True,
        targets=PEERS,
        fixed_s=lambda _: RAMP_S + SETTLE_S,
    ),
    Curve(
        "growth-body",
        "Body of a request, one at a time",
        "bytes",
        (US_REQUEST, Metric("mb_s", "throughput", "MB/s"), PER_S),
        (1000, 32_000, 256_000, 1_000_000, 8_000_000, 32_000_000),
        _body,
        "nginx writes a body above 16 KB to a file, ours one above 4 MiB; ours also reads model and conversation in "
        "each, above 256 KiB in a thread. caddy hands it on as it comes and looks at nothing.",
        grows=True,
        targets=PEERS,
        fixed_s=lambda size: 0.3 + size / SLOW_BODY_BYTES_S,
    ),
    Curve(
        "growth-accounts",
        "Accounts",
        "accounts",
        REQUEST,
        (1, 10, 100, 1000),
        _plain,
        "An account is chosen in constant time, whatever their number.",
        setup=lambda size: Setup(accounts=size),
    ),
    Curve(
        "growth-keys",
        "Client keys that have asked before, in turn",
        "client keys",
        (OF_FIRST, *REQUEST),
        (10, 100, 1000, 10_000, 100_000),
        in_turns(_keys, 10, Setup(keys=10)),
        "A key is found by its hash, whatever their number. Of 100,000, which ask one after the other, what a request "
        "touches has left the processor's caches, and every 5 s a file of 20 MB is written with their counters.",
        setup=lambda size: Setup(keys=size),
        fixed_s=lambda size: 4 * SAVE_COUNTERS_S + size / 1500,
    ),
    Curve(
        "growth-sessions",
        "Sessions of so many clients, asking in turn",
        "clients",
        (OF_FIRST, *REQUEST),
        (1, 10, 100, 1000, 10_000),
        in_turns(_sessions, 1, Setup()),
        "A session is found by its client. The table holds 4,096, so that with more clients each request makes one "
        "anew, which no event tells, and ends the longest unused.",
        fixed_s=lambda size: 4 * SAVE_COUNTERS_S + size / 1500,
    ),
    Curve(
        "growth-dashboards",
        "Open dashboards",
        "dashboards",
        REQUEST,
        (0, 1, 4, 16, 32),
        _watched,
        "Changes are gathered and sent at most 20 times a second to each, in frames that all share.",
    ),
)
