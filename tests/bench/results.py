"""What was measured, in a file: all rounds of each figure and target, and on which machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tests.bench.figures import Values, merged
from tests.bench.goals import Medians
from tests.bench.peers import version
from tests.bench.versions import ROOT, short_name

Value = TypeVar("Value")


@dataclass
class Results:
    """The values of each round, and why there are none, by figure and target."""

    facts: Mapping[str, str]
    rounds: dict[tuple[str, str], list[Values]] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)

    def medians(self) -> Medians:
        """One value a metric: the median of the rounds."""
        return {what: merged(rounds, statistics.median) for what, rounds in self.rounds.items()}

    def write(self, file: Path) -> None:
        """As JSON: `{"facts": {…}, "rounds": {"<figure>": {"<target>": [{metric: value}]}}, "failed": …}`."""
        value = {"facts": self.facts, "rounds": _nested(self.rounds), "failed": _nested(self.failed)}
        file.write_text(json.dumps(value, indent=1) + "\n")

    @classmethod
    def read(cls, file: Path) -> Results:
        """What `write` wrote. Raises OSError."""
        value = json.loads(file.read_text())
        return cls(value["facts"], _flat(value["rounds"]), _flat(value["failed"]))


def _nested(values: Mapping[tuple[str, str], object]) -> dict[str, dict[str, object]]:
    nested: dict[str, dict[str, object]] = {}
    for (figure, target), value in values.items():
        nested.setdefault(figure, {})[target] = value
    return nested


def _flat(nested: Mapping[str, Mapping[str, Value]]) -> dict[tuple[str, str], Value]:
    return {(figure, target): value for figure, each in nested.items() for target, value in each.items()}


def facts(targets: Collection[str], rounds: int, seconds: float, *, pinned: bool) -> dict[str, str]:
    """When, where and of what. Raises BenchError."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "load": f"load average {os.getloadavg()[0]:.2f} before",
        "rounds": str(rounds),
        "seconds": f"{seconds:g}",
        "cores": "one for the target, one for upstream and load" if pinned else "one for all",
        "ours": f"{short_name(ROOT)}, Python {platform.python_version()}",
        **{name: version(name) for name in ("nginx", "caddy") if name in targets},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
