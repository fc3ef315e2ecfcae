"""The figures: what is measured of each target, and how."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tests.bench.programs import Counted, Mode, Upstream, load, silent_streams
from tests.bench.seeds import KEY
from tests.bench.targets import Behind, Setup, Target, ours
from tests.bench.versions import BenchError

PACE_US = 50_000
"""20 events a second and stream."""
RAMP_S = 1.0
"""Within which streams begin."""
WARM_S = 0.3
SETTLE_S = 1.0
"""After streams have begun: what waited meanwhile is handed on before it is measured."""
START_S = {"ours": 1.0}
IDLE_STREAMS = 1000
FLOOD_BYTES = 200_000_000
FULL = 0.85
"""Share of their core from which upstream and load may be what limits."""

Values = dict[str, float]


@dataclass(frozen=True)
class Metric:
    """One number of a figure."""

    key: str
    title: str
    unit: str
    digits: int = 0

    def text(self, value: float | None) -> str:
        """Such as `1,384` or `0.31`; a dash for none."""
        return "–" if value is None else f"{value:,.{self.digits}f}"


@dataclass(frozen=True)
class Course:
    """A running target, and what it is measured with."""

    target: Target
    behind: Behind
    setup: Setup
    seconds: float
    """Of one measurement."""
    core: int | None
    """Of upstream and load."""
    target_core: int | None = None

    @contextlib.contextmanager
    def beside(self, setup: Setup) -> Iterator[Course]:
        """Another process of ours, set up so, on the same core: to be measured in turns with this one."""
        with ours(setup, self.behind, self.target_core) as target:
            yield replace(self, target=target, setup=setup)

    def load(
        self,
        mode: Mode,
        connections: int,
        *,
        seconds: float | None = None,
        warm_s: float = WARM_S,
        **more: int,
    ) -> Counted:
        """Measure it once under load; `more` are options of load.c. Raises BenchError."""
        return load(
            self.target.port,
            self.target.pid,
            self.behind.upstream,
            key=KEY,
            connections=connections,
            seconds=seconds or self.seconds,
            warm_s=warm_s,
            mode=mode,
            core=self.core,
            **({"keys": self.setup.keys} | more),
        )


@dataclass(frozen=True)
class Figure:
    """What is measured once a round of each target, in a process that has just started."""

    name: str
    title: str
    metrics: tuple[Metric, ...]
    measure: Callable[[Course], Values]
    windows: float = 1.0
    """How many times `seconds` it takes."""
    fixed_s: float = 0.0
    """What it takes beside them."""
    targets: tuple[str, ...] = ("nginx", "caddy", "ours")
    setup: Setup = field(default_factory=Setup)

    def takes_s(self, target: str, seconds: float) -> float:
        """About, with the start of a process."""
        return START_S.get(target, 0.2) + self.windows * seconds + WARM_S + self.fixed_s


def cost(counted: Counted) -> Values:
    """What every load tells."""
    return {
        "per_s": counted.per_s,
        "cpu_us": counted.cpu_us_each,
        "cpu_percent": 100 * counted.cpu_s / counted.seconds,
        "per_core_s": counted.count / max(counted.cpu_s, 1e-6),
        "p50_ms": counted.p50_ms,
        "p99_ms": counted.p99_ms,
        "first_p50_ms": counted.first_p50_ms,
        "bench_percent": 100 * counted.others_cpu_s / counted.seconds,
    }


def _requests(course: Course) -> Values:
    return cost(course.load("requests", 32))


def _at_200(course: Course) -> Values:
    return cost(course.load("requests", 32, seconds=2 * course.seconds, rate=200))


def streams(count: int, pace_us: int = PACE_US) -> Callable[[Course], Values]:
    """A measure of so many streams at that pace."""

    def measure(course: Course) -> Values:
        ramp_ms = round(RAMP_S * 1000)
        counted = course.load("events", count, warm_s=SETTLE_S, pace_us=pace_us, ramp_ms=ramp_ms)
        due_per_s = count * 1e6 / pace_us
        return cost(counted) | {"arrived_percent": 100 * counted.per_s / due_per_s}

    return measure


def _idle(course: Course) -> Values:
    """The difference that streams make which have begun and are silent."""
    before = course.target.rss_kb()
    ramp_ms = round(RAMP_S * 1000)
    with silent_streams(
        course.target.port,
        course.behind.upstream,
        key=KEY,
        connections=IDLE_STREAMS,
        core=course.core,
        keys=course.setup.keys,
        ramp_ms=ramp_ms,
    ):
        time.sleep(WARM_S)
        return {"kb_each": (course.target.rss_kb() - before) / IDLE_STREAMS}


def _gone(course: Course) -> Values:
    return cost(course.load("gone", max(5, round(50 * course.seconds))))


def _start(course: Course) -> Values:
    return {"start_s": course.target.start_s, "rss_mb": course.target.rss_kb() / 1024}


def _unread(course: Course) -> Values:
    """A client that asks for 200 MB and reads nothing: what was taken from the upstream when no more is."""
    before, sent_before = course.target.rss_kb(), _flooded(course.behind.upstream)
    body = f'{{"flood":{FLOOD_BYTES},"model":"claude-sonnet-5","max_tokens":9,"stream":true,"messages":[]}}'
    head = (
        f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"anthropic-version: 2023-06-01\r\nx-api-key: {KEY}000000\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", course.target.port), timeout=20) as client:
        client.sendall((head + body).encode())
        taken, same, until = 0, 0, time.monotonic() + 20
        while time.monotonic() < until:
            time.sleep(0.2)
            now = _flooded(course.behind.upstream) - sent_before
            same = same + 1 if now == taken else 0
            taken = now
            if same == 3 and taken:
                return {"taken_mb": taken / 1e6, "rss_mb": (course.target.rss_kb() - before) / 1024}
    raise BenchError("the target takes and takes")


def _flooded(upstream: Upstream) -> int:
    """Bytes of floods that the upstream has sent."""
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=20) as connection:
        connection.sendall(b"GET /bench/sent HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return int(connection.recv(4096).rpartition(b"\r\n\r\n")[2])


P50 = Metric("p50_ms", "p50", "ms", 2)
P99 = Metric("p99_ms", "p99", "ms", 2)
TTFB = Metric("first_p50_ms", "time to first byte p50", "ms", 2)
PER_S = Metric("per_s", "a second", "/s")
US_REQUEST = Metric("cpu_us", "CPU each", "µs", 1)
US_EVENT = Metric("cpu_us", "CPU an event", "µs", 1)
CPU = Metric("cpu_percent", "CPU", "%", 1)
ARRIVED = Metric("arrived_percent", "arrived", "%")
KB_EACH = Metric("kb_each", "memory each", "KB", 1)
ALL = ("direct", "nginx", "caddy", "bare", "ours")

PLAIN = (
    Figure("requests", "Plain requests, 32 at once", (PER_S, US_REQUEST), _requests, targets=ALL),
    Figure("rate-200", "200 requests a second", (P50, P99), _at_200, windows=2, targets=ALL),
    Figure(
        "streams-1000",
        "1,000 streams × 20 events/s",
        (P50, P99, US_EVENT, TTFB, ARRIVED),
        streams(1000),
        fixed_s=RAMP_S + SETTLE_S,
        targets=ALL,
    ),
    Figure(
        "streams-2000",
        "2,000 streams × 20 events/s",
        (CPU, P99, ARRIVED),
        streams(2000),
        fixed_s=RAMP_S + SETTLE_S,
        targets=ALL[1:],
    ),
    Figure("idle-1000", "1,000 idle streams", (KB_EACH,), _idle, windows=0, fixed_s=1.6),
    Figure("gone", "Client gone → upstream closed", (P50, P99), _gone, windows=0.5),
    Figure(
        "unread",
        "A client that does not read 200 MB",
        (Metric("taken_mb", "taken", "MB", 1), Metric("rss_mb", "memory grows", "MB", 1)),
        _unread,
        windows=0,
        fixed_s=1,
    ),
    Figure(
        "start",
        "Start to first answer",
        (Metric("start_s", "time", "s", 2), Metric("rss_mb", "memory then", "MB", 1)),
        _start,
        windows=0,
    ),
)

TLS = tuple(
    Figure(
        f"tls-{each.name}",
        each.title,
        each.metrics,
        each.measure,
        each.windows,
        each.fixed_s + 0.2,
        setup=Setup(tls=True),
    )
    for each in PLAIN
    if each.name in ("requests", "rate-200", "streams-1000", "idle-1000")
)


def merged(rounds: list[Values], middle: Callable[[list[float]], float]) -> Mapping[str, float]:
    """One value a metric out of those of all rounds."""
    keys = dict.fromkeys(key for values in rounds for key in values)
    return {key: middle([values[key] for values in rounds if key in values]) for key in keys}
