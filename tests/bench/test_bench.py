"""The bench's own pieces in their smallest forms, so that they work on the day they are needed."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.bench.programs import Counted, cpu_s, load, upstream
from tests.bench.self import CASES, Results
from tests.bench.versions import ROOT, BenchError, checkout, short_name

needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc compiles upstream and load")


@needs_gcc
@pytest.mark.parametrize("events", [False, True], ids=["requests", "events"])
def test_the_load_counts_what_the_upstream_says(events: bool) -> None:
    with upstream(pace_ms=5) as behind:
        counted = load(
            behind.port, behind.pid, behind, key="k", connections=4, seconds=0.1, warm_s=0.05, events=events
        )
    assert counted.count > 10
    assert counted.seconds >= 0.1
    assert counted.cpu_s > 0


@needs_gcc
def test_a_process_that_is_not_there_cannot_be_measured() -> None:
    with upstream() as behind, pytest.raises(BenchError, match="no such process"):
        load(behind.port, 2**22 + 1, behind, key="k", connections=1, seconds=0.1, warm_s=0)


def test_the_cpu_time_of_a_process_rises() -> None:
    before = cpu_s(os.getpid())
    sum(range(1_000_000))
    assert cpu_s(os.getpid()) > before


def test_the_table_says_the_ratio_of_turns_that_follow_each_other() -> None:
    this = [Counted(1000, 1.0, cpu, 0.1) for cpu in (0.5, 1.0, 0.6)]
    other = [Counted(1000, 1.0, cpu, 0.1) for cpu in (1.0, 2.0, 1.0)]
    table = Results(this, other).table(CASES[0], ("this", "HEAD"))
    assert "this     600.0   HEAD    1000.0   ratio 0.500" in table


@needs_git
def test_a_checkout_is_gone_afterwards() -> None:
    with checkout("HEAD") as folder:
        assert (folder / "run.py").exists()
        assert not short_name(folder).endswith("+")
    assert not folder.parent.exists()


@needs_git
def test_an_unknown_revision_is_told() -> None:
    with pytest.raises(BenchError, match="no-such-revision"), checkout("no-such-revision"):
        pass
