"""`make bench` in its smallest form, and what its report makes of figures."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import report
from tests.bench.curves import CURVES, in_turns, line
from tests.bench.dashboards import dashboards
from tests.bench.figures import PLAIN, TLS, Course, Metric, merged
from tests.bench.goals import GOALS, Goal
from tests.bench.measure import Progress, Step, chosen, steps
from tests.bench.peers import caddy_command, executable, nginx_command
from tests.bench.plots import Even, Scale, plot
from tests.bench.programs import Counted, Upstream, load, silent_streams, upstream
from tests.bench.results import Results
from tests.bench.targets import Behind, Setup, Target, ask, ours
from tests.bench.versions import ROOT, BenchError

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc compiles upstream and load")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as a process: it pins itself to a core."""
    command = [sys.executable, "-m", "tests.bench.measure", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)  # noqa: S603


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
def test_a_figure_is_measured_and_reported(tmp_path: Path) -> None:
    done = run(
        *("--seconds", "0.5", "--rounds", "1", "--only", "requests", "--target", "ours"),
        *("--into", str(tmp_path)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[  3/3] round 1 requests" in done.stdout
    assert Results.read(tmp_path / report.RESULTS).medians()["requests", "ours"]["per_s"] > 0
    assert "Plain requests, 32 at once: CPU each, µs" in (tmp_path / "report.md").read_text()


def test_an_unknown_figure_is_told() -> None:
    done = run("--only", "no-such-figure")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no figure 'no-such-figure': there are requests, rate-200, streams-1000" in done.stderr


def test_what_is_missing_is_told_with_its_package() -> None:
    with pytest.raises(BenchError, match="no-such-server is missing: apt-get install no-such-server"):
        executable("no-such-server")


# ---- upstream and load


def test_a_rate_is_kept() -> None:
    with upstream() as behind:
        counted = load(
            *(behind.port, behind.pid, behind), key="k", connections=8, seconds=0.5, warm_s=0, rate=100
        )
    assert counted.count <= 51
    assert 0 < counted.p50_ms <= counted.p99_ms


def test_a_large_body_arrives_whole() -> None:
    with upstream() as behind:
        counted = load(
            *(behind.port, behind.pid, behind), key="k", connections=2, seconds=0.3, warm_s=0, body=1_000_000
        )
    assert counted.count > 0


def test_events_say_how_long_they_were_under_way() -> None:
    with upstream() as behind:
        counted = load(
            *(behind.port, behind.pid, behind),
            key="k",
            connections=4,
            seconds=0.3,
            warm_s=0.1,
            mode="events",
            pace_us=5000,
        )
    assert 0 < counted.p50_ms < 1000
    assert counted.first_p50_ms > 0


def test_the_upstream_tells_when_a_client_is_gone() -> None:
    with upstream() as behind:
        counted = load(
            behind.port, behind.pid, behind, key="k", connections=5, seconds=1, warm_s=0, mode="gone"
        )
    assert counted.count == 5
    assert 0 < counted.p99_ms < 3000


def test_silent_streams_are_held() -> None:
    with upstream() as behind, silent_streams(behind.port, behind, key="k", connections=5):
        assert ask(behind.port) == 200


def test_a_wrong_option_of_the_load_is_told() -> None:
    with upstream() as behind, pytest.raises(BenchError, match="no such option: colour"):
        load(behind.port, behind.pid, behind, key="k", connections=1, seconds=0.1, warm_s=0, colour=1)


def test_our_proxy_takes_what_was_seeded_and_has_dashboards() -> None:
    setup = Setup(accounts=3, keys=20)
    with (
        upstream() as plain,
        ours(setup, Behind(plain), None) as target,
        dashboards(target.port, 2) as read,
    ):
        counted = load(
            target.port,
            target.pid,
            plain,
            key="cp-bench-0123456789abcdef",
            connections=2,
            seconds=0.2,
            warm_s=0,
            keys=20,
            agents=5,
            first=40,
        )
    assert counted.count > 0
    assert target.start_s > 0
    # The views of requests that have ended, beside all else.
    assert min(read) > 10_000


# ---- knees, goals


def knee(name: str, *points: tuple[float, float]) -> str:
    (found,) = (each for each in CURVES if each.name == name)
    return found.knee(points)


def test_the_knee_of_what_is_to_be_flat() -> None:
    assert knee("growth-keys", (10, 100), (100, 104), (1000, 95)) == "flat within 5%"
    assert (
        knee("growth-keys", (10, 100), (100, 104), (1000, 130), (10_000, 150))
        == "flat to 100; +30% at 1,000, +50% at 10,000"
    )
    assert knee("growth-keys", (10, 100)) == "measured at one size only"


def test_the_knee_of_what_is_to_follow_a_line() -> None:
    straight = [(size, 5 + 2 * size) for size in (1.0, 10.0, 100.0, 1000.0)]
    assert knee("growth-body", *straight) == "a line within 20%"
    assert knee("growth-body", *straight, (10_000, 40_000)) == "a line to 1,000; 100% above it at 10,000"


def test_a_line_is_found_and_never_negative() -> None:
    assert line([(1, 7), (2, 9), (4, 13)]) == pytest.approx((5, 2))
    base, slope = line([(1, 1), (2, 10)])
    assert base == 0 and slope > 0
    assert line([(1, 5), (2, 4)])[1] == 0


@pytest.mark.parametrize(
    ("value", "must", "aim"),
    [(5, "reached", "reached"), (8, "reached", "not reached"), (11, "not reached", "not reached")],
)
def test_a_goal_says_what_is_reached(value: float, must: str, aim: str) -> None:
    goal = Goal("delay", lambda medians: medians["x", "ours"]["p99_ms"], 10, 5, "ms", digits=0)
    row = goal.row({("x", "ours"): {"p99_ms": value}})
    assert row == ("delay", f"{value} ms", "≤ 10 ms", must, "≤ 5 ms", aim)


@pytest.mark.parametrize("behind", [{"arrived_percent": 60.0}, {"arrived_percent": 106.0}, {"p99_ms": 90.0}])
def test_a_goal_of_streams_is_not_reached_by_what_is_behind(behind: dict[str, float]) -> None:
    (goal,) = (each for each in GOALS if each.title == "2,000 streams × 20 events/s, CPU")
    values = {"cpu_percent": 48.0, "arrived_percent": 99.0, "p99_ms": 5.0}
    assert goal.row({("streams-2000", "ours"): values})[3] == "reached"
    row = goal.row({("streams-2000", "ours"): values | behind})
    assert row[1:] == ("48 %, behind", "≤ 90 %", "not reached", "≤ 60 %", "not reached")


def test_a_goal_that_was_not_measured_is_not_reached() -> None:
    assert {goal.row({})[3] for goal in GOALS} == {"not measured"}


# ---- the plan


def test_figures_have_names_of_their_own() -> None:
    names = [figure.name for figure in chosen(None)]
    assert len(names) == len(set(names)) == len(PLAIN) + len(TLS) + sum(len(each.sizes) for each in CURVES)
    assert [figure.name for figure in chosen(["growth-accounts"])] == [
        f"growth-accounts-{size}" for size in (1, 10, 100, 1000)
    ]


def test_the_targets_take_turns_in_each_round() -> None:
    plan = steps(chosen(["start"]), ["nginx", "ours"], 2)
    assert [(step.round, step.target) for step in plan] == [
        (0, "nginx"),
        (0, "ours"),
        (1, "nginx"),
        (1, "ours"),
    ]


def test_progress_tells_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    plan = [Step(number, PLAIN[0], "ours") for number in range(3)]
    progress = Progress(plan, 1.0)
    assert progress.estimate_s() == pytest.approx(3 * PLAIN[0].takes_s("ours", 1.0))
    progress.show(plan[0], "1,000 /s")
    assert "[  1/3] round 1 requests" in capsys.readouterr().out


# ---- report, plots


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    results = Results({"date": "today"}, {("a", "ours"): [{"x": 1.0}, {"x": 3.0}]}, {("b", "nginx"): "no"})
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results
    assert results.medians() == {("a", "ours"): {"x": 2.0}}


def test_rounds_of_different_metrics_are_merged() -> None:
    assert merged([{"a": 1.0}, {"a": 3.0, "b": 2.0}], max) == {"a": 3.0, "b": 2.0}


def test_a_metric_has_its_digits() -> None:
    assert [Metric("a", "a", "ms", 1).text(value) for value in (1234.56, None)] == ["1,234.6", "–"]


FACTS = {
    "date": "2026-11-29",
    "machine": "a machine",
    "load": "idle",
    "ours": "abc",
    "nginx": "1",
    "caddy": "2",
} | {name: "1" for name in ("rounds", "seconds", "cores")}


def test_the_report_holds_every_curve_that_was_measured_and_marks_what_the_bench_limits(
    tmp_path: Path,
) -> None:
    rounds = {
        (f"growth-accounts-{size}", "ours"): [{"cpu_us": 100.0, "per_s": 9.0, "bench_percent": 99.0}]
        for size in (1, 10)
    }
    report.write(Results(FACTS, rounds, {("start", "caddy"): "it does not start"}), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "- ours: flat within 0%; from 1 on upstream and load may be the limit" in text
    assert "| 10 | 100.0 | 9 † |" in text
    assert "- start, caddy: it does not start" in text
    assert (tmp_path / "growth-accounts.svg").exists()
    assert not (tmp_path / "growth-keys.svg").exists()


def test_the_chapter_gets_the_tables_between_its_marks() -> None:
    text = report.put_between_marks(report.CHAPTER.read_text(), report.tables(Results(FACTS)))
    assert "Measured by `make bench` on 2026-11-29; a machine" in text
    assert report.put_between_marks(text, "x").count("\n\nx\n\n") == 1
    with pytest.raises(ValueError, match="there is no"):
        report.put_between_marks("no marks", "x")


@pytest.mark.parametrize("grows", [True, False])
def test_a_plot_is_xml_for_light_and_dark(grows: bool) -> None:
    lines = {"ours": [(0.0, 5.0), (1.0, 6.0), (32.0, 7.0)], "nginx": [(1.0, 5.0), (32.0, 7.0)]}
    text = plot("a < b", "dashboards", "µs", lines, ["word " * 60], grows=grows)
    root = ElementTree.fromstring(text)  # noqa: S314 - our own text
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 5
    assert "prefers-color-scheme: dark" in text


def test_places_on_an_axis() -> None:
    scale = Scale([0, 1, 100], 0, 300)
    assert [scale(value) for value in (0, 1, 10, 100)] == pytest.approx([0, 100, 200, 300])
    assert scale.ticks() == [0, 1, 10, 100]
    assert Even([0, 7.0], 0, 80).ticks() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("certificate", [None, Path("/certificate.pem")])
def test_peers_ask_the_upstream_by_the_scheme_that_it_speaks(
    certificate: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.bench.peers.executable", lambda name: name)
    nginx_command(tmp_path, 1, 2, certificate)
    caddy_command(tmp_path, 1, 2, certificate)
    scheme = "http" if certificate is None else "https"
    assert f"proxy_pass {scheme}://behind;" in (tmp_path / "nginx.conf").read_text()
    assert f"reverse_proxy {scheme}://127.0.0.1:2 " in (tmp_path / "Caddyfile").read_text()
    for file in ("nginx.conf", "Caddyfile"):
        assert ("/certificate.pem" in (tmp_path / file).read_text()) is (certificate is not None)


def test_a_size_is_measured_in_turns_with_the_first_one() -> None:
    costs = {10: iter([100.0, 200.0]), 1000: iter([110.0, 260.0])}
    asked: list[tuple[int, int, bool]] = []

    class Beside(Course):
        @contextlib.contextmanager
        def beside(self, setup: Setup) -> Iterator[Course]:
            yield replace(self, setup=setup)

    def turn(course: Course, size: int, again: bool) -> Counted:
        asked.append((course.setup.keys, size, again))
        return Counted(count=1_000_000, seconds=1.0, cpu_s=next(costs[size]), others_cpu_s=0.1)

    measure = in_turns(turn, 10, Setup(keys=10))
    course = Beside(Target("ours", 0, 0, 0.0), Behind(Upstream(0, 0)), Setup(keys=1000), 1.0, None)
    assert measure(course, 1000)["of_first"] == pytest.approx(1.2)
    assert asked == [(10, 10, False), (1000, 1000, False), (10, 10, True), (1000, 1000, True)]
