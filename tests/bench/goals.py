"""What the proxy has to reach, figure by figure: `must`, and `aim`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.bench.curves import CURVES, spread
from tests.bench.figures import PACE_US

Medians = Mapping[tuple[str, str], Mapping[str, float]]
"""By the names of figure and target: the values by metric."""

OF_NGINX_TWICE_CLIPROXYAPI = 2 * 3270 / 75_800
"""Requests a second of CLIProxyAPI and of nginx, measured in one run (one core each)."""


OFF_PERCENT = 3.0
"""Of the events that were due, fewer or more that may come: some are under way at both ends of the window."""


def keeps_up(values: Mapping[str, float]) -> bool:
    """Whether events came as they were due, each before the next one of its stream.

    A target that is behind hands on several at once, or drops some: each looks cheap, and proves nothing.
    """
    return abs(values["arrived_percent"] - 100) <= OFF_PERCENT and values["p99_ms"] <= PACE_US / 1000


@dataclass(frozen=True)
class Goal:
    """A bound for one value; its texts have `digits`."""

    title: str
    value: Callable[[Medians], float]
    """Raises KeyError if something was not measured."""
    must: float
    aim: float
    unit: str
    digits: int = 1
    at_least: bool = False
    streams: str = ""
    """The figure of whose events the target has to keep up, or nothing is reached."""

    def row(self, medians: Medians) -> tuple[str, ...]:
        """Title, value, must and whether it is reached, aim and whether it is reached."""
        sign = "≥" if self.at_least else "≤"
        try:
            value = self.value(medians)
        except KeyError:
            said = "–", "not measured", "not measured"
        else:
            said = self._text(value), self._reached(value, self.must), self._reached(value, self.aim)
            if self.streams and not keeps_up(medians[self.streams, "ours"]):
                said = f"{said[0]}, behind", "not reached", "not reached"
        must, aim = (f"{sign} {self._text(bound)}" for bound in (self.must, self.aim))
        return self.title, said[0], must, said[1], aim, said[2]

    def _text(self, value: float) -> str:
        return f"{value:,.{self.digits}f} {self.unit}"

    def _reached(self, value: float, bound: float) -> str:
        return "reached" if (value >= bound if self.at_least else value <= bound) else "not reached"


def _ours(figure: str, metric: str) -> Callable[[Medians], float]:
    return lambda medians: medians[figure, "ours"][metric]


def _of_nginx(figure: str, metric: str, scale: float = 1.0) -> Callable[[Medians], float]:
    return lambda medians: scale * medians[figure, "ours"][metric] / medians[figure, "nginx"][metric]


def _spread(name: str) -> Callable[[Medians], float]:
    """Of a curve that is to be flat, in %. All its sizes have to be measured."""
    (curve,) = (each for each in CURVES if each.name == name)

    def value(medians: Medians) -> float:
        return 100 * spread(
            [(size, medians[f"{name}-{size}", "ours"][curve.metrics[0].key]) for size in curve.sizes]
        )

    return value


# Requests a second of CPU, since the load keeps nginx's core busy only in part.
_PER_CORE = _of_nginx("requests", "per_core_s", 100)

GOALS = (
    Goal("Plain requests per second and core, of nginx", _PER_CORE, 8, 11, "%", at_least=True),
    Goal(
        "The same, of twice CLIProxyAPI",
        lambda medians: _PER_CORE(medians) / OF_NGINX_TWICE_CLIPROXYAPI,
        100,
        100,
        "%",
        digits=0,
        at_least=True,
    ),
    Goal("200 requests a second, p50", _ours("rate-200", "p50_ms"), 0.6, 0.4, "ms", digits=2),
    Goal("200 requests a second, p99", _ours("rate-200", "p99_ms"), 3, 2, "ms", digits=2),
    Goal(
        "1,000 streams × 20 events/s, delay p50",
        _ours("streams-1000", "p50_ms"),
        0.5,
        0.3,
        "ms",
        digits=2,
        streams="streams-1000",
    ),
    Goal(
        "1,000 streams × 20 events/s, delay p99",
        _ours("streams-1000", "p99_ms"),
        8,
        2,
        "ms",
        digits=2,
        streams="streams-1000",
    ),
    Goal(
        "CPU per event there, of nginx",
        _of_nginx("streams-1000", "cpu_us"),
        1.9,
        1.6,
        "×",
        digits=2,
        streams="streams-1000",
    ),
    Goal(
        "Time to first byte there, p50",
        _ours("streams-1000", "first_p50_ms"),
        10,
        2,
        "ms",
        digits=2,
        streams="streams-1000",
    ),
    Goal(
        "2,000 streams × 20 events/s, CPU",
        _ours("streams-2000", "cpu_percent"),
        90,
        60,
        "%",
        digits=0,
        streams="streams-2000",
    ),
    Goal(
        "2,000 streams × 20 events/s, delay p99",
        _ours("streams-2000", "p99_ms"),
        20,
        6,
        "ms",
        digits=2,
        streams="streams-2000",
    ),
    Goal("Memory per idle stream", _ours("idle-1000", "kb_each"), 42, 30, "KB"),
    Goal("Client gone → upstream closed, p99", _ours("gone", "p99_ms"), 2, 1, "ms", digits=2),
    Goal("A client that does not read 200 MB, memory", _ours("unread", "rss_mb"), 1, 1, "MB"),
    Goal("Start to first answer", _ours("start", "start_s"), 1, 0.5, "s", digits=2),
    Goal("Memory then", _ours("start", "rss_mb"), 75, 50, "MB"),
    # Flat is what cannot be told from the noise of three rounds.
    Goal("1 → 1,000 accounts, cost of a request differs by", _spread("growth-accounts"), 10, 3, "%"),
    Goal("10 → 100,000 keys, cost of a request differs by", _spread("growth-keys"), 10, 3, "%"),
    # The table holds 4,096 sessions at once.
    Goal(
        "Sessions of 1 → 10,000 clients, cost of a request differs by", _spread("growth-sessions"), 10, 3, "%"
    ),
)
