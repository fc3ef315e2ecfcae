"""What was measured as Markdown and plots, and the tables of docs/performance.md.

python -m tests.bench.report            the report again, from the results of the last run
python -m tests.bench.report --docs     and the tables between that chapter's marks
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.bench.curves import CURVES, Curve, Point
from tests.bench.figures import FULL, PLAIN, TLS, Figure, Metric
from tests.bench.goals import GOALS, Medians
from tests.bench.plots import plot
from tests.bench.results import Results
from tests.bench.versions import ROOT

FOLDER = ROOT / "tests" / "bench" / "results"
RESULTS = "results.json"
CHAPTER = ROOT / "docs/performance.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
LIMITED = ("per_s", "mb_s", "arrived_percent")
"""Metrics that upstream and load may limit."""
COLUMNS = ("ours", "bare", "nginx", "caddy", "direct")

HOW = """\
Each figure of each target has a fresh process; medians over the rounds ({rounds}, of {seconds} s each). Cores: {cores}.
CPU is that of the target's process, user and system. Delay is from the upstream's send to arrival; "arrived" are the
events that came, of those that were due. A goal of streams whose events are behind is not reached, since what is late
is handed on together and looks cheap. Upstream and load are C, on loopback; `direct` is without any proxy: what
upstream and load take; `bare` is the least that ours could cost: asyncio, llhttp and libcurl as a relay without
accounts, keys, limits, back-pressure and records. † upstream and load used more than {full:.0%} of their core, so that
they may be the limit.
Of keys and sessions, each size is measured in turns with the first one, in two processes on one core.
What is said below to be by design is what the code does; whether it is what bends a line was not measured apart.

- ours: {ours_on}
- nginx {nginx}: one process, kept connections to the upstream, `proxy_buffering off`, access log to a file
- caddy {caddy}: one thread of Go code, kept connections, access log to a file
"""
OURS_ON = "4 accounts, a client key with budgets, sessions, usage, access log at info to a file"

PEERS = """\
| | of nginx's requests/s | µs a request | µs an event | delay p99, ms | 200 MB not read |
| --- | ---: | ---: | ---: | ---: | ---: |
| Go's ReverseProxy | 14.8 % | 89 | 19.0 | 0.5 | 0 MB |
| caddy 0cf03d3 | 11.0 % | 119 | 25.3 | 26 | 0 MB |
| the Go original 5e1ec78 (does not stream) | 5.3 % | 249 | – | – | 634 MB |
| CLIProxyAPI a7e3596 | 4.3 % | 304 | 43.1 | 45 | 1 MB |
| axonhub 2b49b9f (drops events) | 1.3 % | 1,007 | 128 | 9,107 | 0 MB |
| claude-relay-service 8479c7c | 0.2 % | 7,150 | 125 | 266 | 145 MB |
| LiteLLM 1.108.7 | 0.1 % | 12,200 | 352 (100 streams) | – | 13 MB |
"""


def write(results: Results, folder: Path) -> None:
    """The results, their report and its plots in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder / RESULTS)
    medians = results.medians()
    for curve in CURVES:
        if lines := _lines(curve, medians):
            (folder / f"{curve.name}.svg").write_text(_plot(curve, lines, medians))
    (folder / "report.md").write_text("\n".join(_report(results, medians)) + "\n")


def _report(results: Results, medians: Medians) -> Iterable[str]:
    facts = results.facts
    yield f"# How fast\n\n{facts['date']}; {facts['machine']}, {facts['load']}; ours {facts['ours']}.\n"
    yield _how(facts)
    yield f"## Figures\n\n{figures_table(PLAIN, medians)}\n"
    yield f"## Goals\n\n{goals_table(medians)}\n"
    yield "## With TLS to the upstream\n\nBy an nginx before it, on the load's core.\n"
    yield f"{figures_table(TLS, medians)}\n"
    yield "## How cost grows\n"
    for curve in CURVES:
        if lines := _lines(curve, medians):
            yield f"### {curve.title}\n\n![{curve.title}]({curve.name}.svg)\n"
            yield (
                "\n".join(f"- {each}" for each in _knees(curve, lines, medians))
                + f"\n\nBy design: {curve.why}\n"
            )
            yield _curve_table(curve, medians) + "\n"
    if results.failed:
        yield "## Not measured\n"
        yield "\n".join(f"- {figure}, {target}: {why}" for (figure, target), why in results.failed.items())


def _how(facts: Mapping[str, str]) -> str:
    peers = {name: facts.get(name, "(not measured)") for name in ("nginx", "caddy")}
    named = {name: facts[name] for name in ("rounds", "seconds", "cores")}
    return HOW.format(full=FULL, ours_on=OURS_ON, **peers, **named)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    marks = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, marks, *rows])


def figures_table(figures: Sequence[Figure], medians: Medians) -> str:
    """A row for each metric, a column for each target."""
    named = {name for figure in figures for name in figure.targets}
    columns = [name for name in COLUMNS if name in named]
    rows = [
        (
            f"{figure.title}: {metric.title}, {metric.unit}",
            *(_cell(figure, metric, name, medians) for name in columns),
        )
        for figure in figures
        for metric in figure.metrics
        if any((figure.name, name) in medians for name in columns)
    ]
    return _table(("", *columns), rows) if rows else "Not measured."


def _cell(figure: Figure, metric: Metric, target: str, medians: Medians) -> str:
    values = medians.get((figure.name, target), {})
    limited = metric.key in LIMITED and _is_full(values) and target != "direct"
    return metric.text(values.get(metric.key)) + (" †" if limited else "")


def goals_table(medians: Medians) -> str:
    """Each goal, and whether it is reached."""
    return _table(("", "ours", "must", "", "aim", ""), [goal.row(medians) for goal in GOALS])


def goals_as_text(results: Results) -> str:
    """The same for a terminal, of what was measured."""
    rows = [row for goal in GOALS if "not measured" not in (row := goal.row(results.medians()))]
    return "\n".join(
        f"{title:<54} {value:>10}   must {must:>8}: {reached:<11}   aim {aim:>8}: {aimed}"
        for title, value, must, reached, aim, aimed in rows
    )


def _lines(curve: Curve, medians: Medians) -> dict[str, list[Point]]:
    """The points of each target, (size, cost)."""
    lines: dict[str, list[Point]] = {}
    for target in curve.targets:
        for size in curve.sizes:
            values = medians.get((f"{curve.name}-{size}", target))
            if values is not None:
                lines.setdefault(target, []).append((size, values[curve.metrics[0].key]))
    return lines


def _knees(curve: Curve, lines: Mapping[str, Sequence[Point]], medians: Medians) -> list[str]:
    """Where each target leaves its line, and from which size on the bench itself may be what limits."""
    said = []
    for target, points in lines.items():
        full = [size for size, _ in points if _is_full(medians[f"{curve.name}-{size}", target])]
        limit = f"; from {full[0]:,} on upstream and load may be the limit" if full else ""
        said.append(f"{target}: {curve.knee(points)}{limit}")
    return said


def _is_full(values: Mapping[str, float]) -> bool:
    return values.get("bench_percent", 0) > 100 * FULL


def _plot(curve: Curve, lines: Mapping[str, Sequence[Point]], medians: Medians) -> str:
    cost = curve.metrics[0]
    caption = [*_knees(curve, lines, medians), f"By design: {curve.why}"]
    return plot(curve.title, curve.axis, f"{cost.title}, {cost.unit}", lines, caption, grows=curve.grows)


def _curve_table(curve: Curve, medians: Medians) -> str:
    columns = [(target, metric) for target in curve.targets for metric in curve.metrics]
    rows = [
        (f"{size:,}", *(_cell(curve.figure(size), metric, target, medians) for target, metric in columns))
        for size in curve.sizes
        if any((f"{curve.name}-{size}", target) in medians for target in curve.targets)
    ]
    return _table(
        (curve.axis, *(f"{target}: {metric.title}, {metric.unit}" for target, metric in columns)), rows
    )


def tables(results: Results) -> str:
    """What docs/performance.md says between its marks."""
    facts, medians = results.facts, results.medians()
    reached = [goal.row(medians)[3] == "reached" for goal in GOALS]
    return "\n".join(
        (
            f"Measured by `make bench` on {facts['date']}; {facts['machine']}; ours {facts['ours']}, "
            f"nginx {facts.get('nginx', '–')}, caddy {facts.get('caddy', '–')}.\n"
            f"Of {len(reached)} goals {sum(reached)} are reached; which, how it was measured and how cost grows is in "
            "[the report](../tests/bench/results/report.md).\n",
            figures_table(PLAIN, medians),
            "\nWith TLS to the upstream:\n",
            figures_table(TLS, medians),
            "\nPeers, in two earlier runs in which nginx took 13 µs a request (CPU µs; events of 1,000 streams; the "
            "last column is the memory that a client costs which does not read 200 MB):\n",
            PEERS.rstrip(),
        )
    )


def put_between_marks(text: str, block: str) -> str:
    """The text with the block between its marks. Raises ValueError if they are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def main() -> int:
    """Exit status: 0, or 2 if there are no results yet."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.report", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/performance.md too")
    parser.add_argument(
        "--into", type=Path, default=FOLDER, metavar="FOLDER", help="of results (%(default)s)"
    )
    options = parser.parse_args()
    try:
        results = Results.read(options.into / RESULTS)
    except FileNotFoundError:
        print(f"there are no results in {options.into}: make bench", file=sys.stderr)
        return 2
    write(results, options.into)
    if options.docs:
        CHAPTER.write_text(put_between_marks(CHAPTER.read_text(), tables(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
