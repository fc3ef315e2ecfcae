"""This checkout against another revision: CPU and throughput, measured in turns in one run.

    python -m tests.bench.self REV          or: make bench-self REV=…
    python -m tests.bench.self --other BALANCER__AFFINITY=false HEAD          for what a setting costs

The machine drifts, so absolute figures say little and the ratio much: both run side by side and are measured in many
short turns, one after the other, while the other one idles. Each round has fresh processes and data folders. The
proxies have a core of their own, upstream and load another.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.programs import Counted, Upstream, load, program, upstream
from tests.bench.versions import ROOT, BenchError, checkout, end_on_signals, proxy, short_name

WITHOUT_LIMIT = {"SESSION__MAX_CONCURRENT": "10000"}  # the most that it takes
SETTLE_S = 0.2
"""Before each measurement: connections are open and streams have begun."""
FULL = 0.85
"""Share of their core from which upstream and load may be what limits."""


@dataclass(frozen=True)
class Case:
    """One thing that is measured."""

    name: str
    title: str
    accounts: int
    events: bool = False
    messages: int = 0
    """Of the conversations of agents that are sent; 0 for small ones."""

    @property
    def unit(self) -> str:
        """What is counted."""
        return "event" if self.events else "request"


CASES = [
    Case("accounts-4", "requests, 4 accounts", 4),
    Case("accounts-100", "requests, 100 accounts", 100),
    Case("conversation-200k", "requests with an agent's conversation of 200 KB, 4 accounts", 4, messages=41),
    Case("events", "events of streams, 4 accounts", 4, events=True),
]


@dataclass(frozen=True)
class Plan:
    """How it is measured."""

    rounds: int
    seconds: float
    turns: int
    warm_up_s: float
    connections: int
    streams: int
    pace_ms: int
    proxy_core: int | None = None
    other_core: int | None = None
    of_other: Mapping[str, str] = field(default_factory=dict)
    """Settings of the other revision, as variables of the environment."""


@dataclass
class Results:
    """All measurements of one case: of this checkout, and of the revision."""

    this: list[Counted] = field(default_factory=list)
    other: list[Counted] = field(default_factory=list)

    def table(self, case: Case, names: tuple[str, str]) -> str:
        """Medians of both, and the median ratio, this checkout to the other, of two turns that follow each other."""
        pairs = list(zip(self.this, self.other, strict=True))
        lines = [
            f"{case.title}:",
            _row(f"CPU µs per {case.unit}", [(a.cpu_us_each, b.cpu_us_each) for a, b in pairs], names),
            _row(f"{case.unit}s per second", [(a.per_s, b.per_s) for a, b in pairs], names),
        ]
        busiest = max(each.others_cpu_s / each.seconds for each in self.this + self.other)
        if busiest > FULL:
            lines.append(
                f"  note: upstream and load used {busiest:.0%} of their core, so they may be the limit"
            )
        return "\n".join(lines)


def _row(title: str, pairs: list[tuple[float, float]], names: tuple[str, str]) -> str:
    this, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    return (
        f"  {title:<22} {names[0]} {this:9.1f}   {names[1]} {other:9.1f}"
        f"   ratio {statistics.median(ratios):.3f} (half of the turns {low:.3f} to {high:.3f})"
    )


@contextlib.contextmanager
def measured(
    folder: Path,
    behind: Upstream,
    case: Case,
    plan: Plan,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Callable[[], Counted]]:
    """A fresh, warm proxy of `folder`; each call measures it once."""
    with proxy(folder, behind.port, WITHOUT_LIMIT | dict(variables or {}), core=plan.proxy_core) as serving:
        serving.add_accounts(case.accounts)
        measure = functools.partial(
            load,
            serving.port,
            serving.pid,
            behind,
            key=serving.new_client_key("bench"),
            connections=plan.streams if case.events else plan.connections,
            warm_s=SETTLE_S,
            mode="events" if case.events else "requests",
            core=plan.other_core,
            messages=case.messages,
        )
        measure(seconds=plan.warm_up_s)
        yield functools.partial(measure, seconds=plan.seconds)


def compare(other: Path, case: Case, plan: Plan) -> Results:
    """Measure both in turns: this checkout, the other, this checkout …"""
    results = Results()
    for number in range(plan.rounds):
        with (
            upstream(pace_ms=plan.pace_ms, core=plan.other_core) as behind,
            measured(ROOT, behind, case, plan) as measure_this,
            measured(other, behind, case, plan, plan.of_other) as measure_other,
        ):
            for _ in range(plan.turns):
                results.this.append(measure_this())
                results.other.append(measure_other())
        print(f"{case.name}: round {number + 1} of {plan.rounds}", file=sys.stderr)
    return results


def cores() -> tuple[int | None, int | None]:
    """The core of the proxy and that of upstream and load; None if there is one core only."""
    free = sorted(os.sched_getaffinity(0))
    return (free[0], free[1]) if len(free) > 1 else (None, None)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.self", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("revision", metavar="REV", help="what git checks out: a commit, branch or tag")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (%(default)s)")
    parser.add_argument(
        "--warm-up", type=float, default=1.0, help="seconds, of a fresh process (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="with fresh processes (%(default)s)")
    parser.add_argument(
        "--turns", type=int, default=4, help="measurements of each version a round (%(default)s)"
    )
    parser.add_argument("--connections", type=int, default=32, help="that ask at once (%(default)s)")
    parser.add_argument("--streams", type=int, default=200, help="at once (%(default)s)")
    parser.add_argument(
        "--pace", type=int, default=50, metavar="MS", help="between events of a stream (%(default)s)"
    )
    parser.add_argument(
        "--other", action="append", default=[], metavar="NAME=VALUE", help="a setting of the other revision"
    )
    parser.add_argument(
        "--only", action="append", choices=[case.name for case in CASES], help="this case; may be repeated"
    )
    return parser


def main() -> int:
    """Exit status: 0, or 2 if it could not be measured."""
    options = _arguments().parse_args()
    end_on_signals()
    plan = Plan(
        options.rounds,
        options.seconds,
        options.turns,
        options.warm_up,
        options.connections,
        options.streams,
        options.pace,
        *cores(),
        {name: value for name, _, value in (each.partition("=") for each in options.other)},
    )
    began = time.monotonic()
    try:
        for name in ("upstream", "load"):
            program(name)
        with checkout(options.revision) as other:
            names = (f"this ({short_name(ROOT)})", f"{options.revision} ({short_name(other)})")
            if plan.proxy_core is None:
                print("one core only: proxy, upstream and load share it")
            for case in CASES:
                if case.name in (options.only or [case.name]):
                    print(compare(other, case, plan).table(case, names), flush=True)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(
        f"{time.monotonic() - began:.0f} s, {plan.rounds} rounds of {plan.turns} turns of {plan.seconds:g} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
