"""Our proxy, nginx and caddy, measured one after the other in one run: what `make bench` runs.

    python -m tests.bench.measure [--only streams-1000]

Each figure of each target has a fresh process, alone on a core; upstream and load are on another one. Rounds go
through all figures, so that a machine that drifts drifts for all targets.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import report
from tests.bench.curves import CURVES
from tests.bench.figures import PLAIN, TLS, Course, Figure, Values
from tests.bench.peers import executable
from tests.bench.programs import program, upstream
from tests.bench.results import Results, facts
from tests.bench.self import cores
from tests.bench.targets import STARTERS, Behind, behind_tls
from tests.bench.versions import ROOT, BenchError, end_on_signals

NEEDED_FILES = 16_000
"""Descriptors of a proxy with 5,000 streams, with room."""
BUSY = 0.5
"""Load average above which others use the cores that are measured."""


@dataclass(frozen=True)
class Step:
    """One figure of one target in one round."""

    round: int
    figure: Figure
    target: str


class Progress:
    """A line for each step that is done, with the time that is left by what the steps took so far."""

    def __init__(self, steps: Sequence[Step], seconds: float) -> None:
        self._costs = [step.figure.takes_s(step.target, seconds) for step in steps]
        self._began = time.monotonic()
        self._done = 0

    def estimate_s(self) -> float:
        """Seconds that are left."""
        left = sum(self._costs[self._done :])
        if not self._done:
            return left
        return left * (time.monotonic() - self._began) / sum(self._costs[: self._done])

    def show(self, step: Step, said: str) -> None:
        """Print what came of a step."""
        self._done += 1
        left = self.estimate_s()
        print(
            f"[{self._done:3}/{len(self._costs)}] round {step.round + 1} {step.figure.name:<24} {step.target:<6} {said}"
            f"  · {left // 60:.0f}:{left % 60:02.0f} left",
            flush=True,
        )


def steps(figures: Sequence[Figure], targets: Sequence[str], rounds: int) -> list[Step]:
    """All that is to be done, in order."""
    return [
        Step(number, figure, target)
        for number in range(rounds)
        for figure in figures
        for target in figure.targets
        if target in (*targets, "bare", "direct")
    ]


def chosen(only: Sequence[str] | None) -> list[Figure]:
    """The figures of these names, or of curves of these names; all for None. Raises BenchError for an unknown name."""
    groups = {figure.name: [figure] for figure in (*PLAIN, *TLS)}
    groups |= {curve.name: [curve.figure(size) for size in curve.sizes] for curve in CURVES}
    everything = [figure for figures in groups.values() for figure in figures]
    known = {figure.name: [figure] for figure in everything} | groups
    if unknown := [name for name in only or () if name not in known]:
        raise BenchError(f"no figure {unknown[0]!r}: there are {', '.join(groups)}")
    return everything if only is None else [figure for name in only for figure in known[name]]


@contextlib.contextmanager
def _behind(core: int | None, tls: bool) -> Iterator[Behind]:
    with upstream(core=core) as plain, contextlib.ExitStack() as stack:
        yield stack.enter_context(behind_tls(plain, core)) if tls else Behind(plain)


def perform(step: Step, seconds: float, target_core: int | None, other_core: int | None) -> Values:
    """Start the target, measure it and stop it. Raises BenchError."""
    setup = step.figure.setup
    with (
        _behind(other_core, setup.tls) as behind,
        STARTERS[step.target](setup, behind, target_core) as target,
    ):
        return step.figure.measure(Course(target, behind, setup, seconds, other_core, target_core))


def run(
    plan: Sequence[Step], results: Results, seconds: float, target_core: int | None, other_core: int | None
) -> None:
    """Perform all steps; what cannot be measured is noted, and the rest goes on."""
    progress = Progress(plan, seconds)
    print(f"{len(plan)} measurements, about {progress.estimate_s() / 60:.0f} minutes", flush=True)
    for step in plan:
        what = step.figure.name, step.target
        try:
            values = perform(step, seconds, target_core, other_core)
        except (BenchError, OSError) as error:
            reason = str(error).strip().rpartition("\n")[2]
            results.failed[what] = reason
            progress.show(step, f"not measured: {reason}")
            continue
        results.rounds.setdefault(what, []).append(values)
        shown = (
            f"{metric.text(values[metric.key])} {metric.unit}"
            for metric in step.figure.metrics
            if metric.key in values
        )
        progress.show(step, ", ".join(shown))


def show(plan: Sequence[Step], seconds: float) -> None:
    """Print what a round measures, and about how many seconds each takes."""
    for step in plan:
        if step.round == 0:
            takes_s = step.figure.takes_s(step.target, seconds)
            print(f"{step.figure.name:<24} {step.target:<6} {takes_s:4.1f} s")


def prepare(plan: Sequence[Step]) -> None:
    """Compile and find what is needed, and take what files may be open. Raises BenchError."""
    for name in ("upstream", "load"):
        program(name)
    for name in sorted({step.target for step in plan} & {"nginx", "caddy"}):
        executable(name)
    if any(step.figure.setup.tls for step in plan):
        executable("nginx")
        executable("openssl")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if (waiting := os.getloadavg()[0]) > BUSY:
        print(f"the machine is at work: load average {waiting:.2f}, so the figures will be noise")
    if hard != resource.RLIM_INFINITY and hard < NEEDED_FILES:
        print(f"only {hard} files may be open (ulimit -Hn), so the most streams cannot be measured")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.measure", description=__doc__.partition("\n")[0]
    )
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="(%(default)s)")
    add("--seconds", type=float, default=1.2, help="of each measurement (%(default)s)")
    add("--only", action="append", metavar="NAME", help="this figure or curve; may be repeated")
    add("--target", action="append", choices=["ours", "nginx", "caddy"], help="this one; may be repeated")
    add(
        "--into",
        type=Path,
        metavar="FOLDER",
        help=f"where the report goes ({report.FOLDER.relative_to(ROOT)})",
    )
    add("--list", action="store_true", help="list the figures and curves, and what they take")
    return parser


def measure(plan: Sequence[Step], rounds: int, seconds: float, *, whole: Path, part: Path) -> Results:
    """Perform the plan and write its report: into `whole`, or into `part` if it is ended before it is done.

    Raises BenchError.
    """
    prepare(plan)
    other_core, target_core = cores()
    if other_core is not None:
        os.sched_setaffinity(0, {other_core})
    targets = {step.target for step in plan}
    results = Results(facts(targets, rounds, seconds, pinned=target_core is not None))
    folder = part
    try:
        run(plan, results, seconds, target_core, other_core)
        folder = whole
    finally:
        report.write(results, folder)
        print(f"\nthe report is {folder / 'report.md'}\n\n{report.goals_as_text(results)}")
    return results


def main() -> int:
    """Exit status: 0; 2 if something could not be measured."""
    options = _arguments().parse_args()
    end_on_signals()
    try:
        plan = steps(chosen(options.only), options.target or ["nginx", "caddy", "ours"], options.rounds)
        if options.list:
            show(plan, options.seconds)
            return 0
        # What is less than everything does not replace the last report of everything.
        part = options.into or report.FOLDER / "part"
        whole = part if options.into or options.only or options.target else report.FOLDER
        results = measure(plan, options.rounds, options.seconds, whole=whole, part=part)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 2 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
