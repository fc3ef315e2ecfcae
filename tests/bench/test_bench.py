"""The bench's own pieces in their smallest forms, so that they work on the day they are needed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.bench.cases import Case, case, script
from tests.bench.masks import answer_lines, difference
from tests.bench.programs import Counted, Mode, cpu_s, load, program, upstream
from tests.bench.recorder import Heard, recording, talk
from tests.bench.self import CASES, Results
from tests.bench.targets import Behind, Setup, bare
from tests.bench.versions import ROOT, BenchError, checkout, short_name

needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc compiles upstream and load")


@needs_gcc
@pytest.mark.parametrize("mode", ["requests", "events"])
def test_the_load_counts_what_the_upstream_says(mode: Mode) -> None:
    with upstream(pace_ms=5) as behind:
        counted = load(
            behind.port, behind.pid, behind, key="k", connections=4, seconds=0.2, warm_s=0.05, mode=mode
        )
    assert counted.count > 0
    assert counted.seconds >= 0.2
    assert counted.cpu_s > 0


@needs_gcc
@pytest.mark.parametrize("mode", ["requests", "events"])
def test_the_libraries_alone_relay_what_the_upstream_says(mode: Mode) -> None:
    with upstream(pace_ms=5) as behind, bare(Setup(), Behind(behind), None) as target:
        counted = load(
            target.port, target.pid, behind, key="k", connections=4, seconds=0.2, warm_s=0.05, mode=mode
        )
    assert counted.count > 0


@needs_gcc
def test_a_program_is_named_by_what_it_was_compiled_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.bench.programs.SOURCES", tmp_path)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    built = set()
    for status in (0, 1, 0):
        (tmp_path / "x.c").write_text(f"int main(void) {{ return {status}; }}")
        built.add(program("x"))
    assert len(built) == 2


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


# ---- same_wire


def test_cases_and_answers_follow_from_their_seeds() -> None:
    assert [case(1, index) for index in range(100)] == [case(1, index) for index in range(100)]
    assert case(1, 1) != case(2, 1)
    asked = [f"{number} POST /v1/messages key 1" for number in range(100)]
    said = [[script(each, method="POST", target="/", now=1e9) for each in asked] for _ in range(2)]
    assert said[0] == said[1]


async def test_the_client_hears_what_the_upstream_says_and_what_becomes_of_the_connection() -> None:
    async with recording(1e9) as recorder:
        asked = Case(0, "route", b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n", ("GET",))
        heard = await talk(recorder.port, asked, asked.data)
        await recorder.settled()
    assert [(answer.body, answer.end) for answer in heard.answers] == [
        (b'{"data": [], "has_more": false}', "whole")
    ]
    assert heard.afterwards == "200 closed"
    assert recorder.requests[0] == asked.data


SENT_AT = "Sun, 09 Sep 2001 01:46:40 GMT"


def lines(head: bytes, body: bytes = b"", end: str = "whole") -> list[str]:
    return answer_lines(
        Heard(head + b"\r\n\r\n", body, end), {"acct_0123456789abcdef": "<account 0>"}, sent_at=SENT_AT
    )


@pytest.mark.parametrize(
    ("this", "other"),
    [
        (b"Date: Sun, 29 Nov 2026 06:47:35 GMT", b"Date: Sun, 29 Nov 2026 06:47:36 GMT"),
        (b"request-id: req_0123456789abcdef01234567", b"request-id: req_1123456789abcdef01234567"),
        (b"Set-Cookie: session=abc; HttpOnly", b"Set-Cookie: session=def; HttpOnly"),
        (b"retry-after: 59", b"retry-after: 60"),
        (b"x: tok_0123456789abcdef", b"x: tok_1123456789abcdef"),
    ],
)
def test_what_differs_with_any_two_processes_is_masked(this: bytes, other: bytes) -> None:
    assert (
        difference(lines(b"HTTP/1.1 200 OK\r\n" + this), lines(b"HTTP/1.1 200 OK\r\n" + other), ("a", "b"))
        == ""
    )


@pytest.mark.parametrize(
    ("this", "other"),
    [
        ((b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2",), (b"HTTP/1.1 200 OK\r\nB: 2\r\nA: 1",)),
        ((b"HTTP/1.1 200 OK\r\nA: 1",), (b"HTTP/1.1 200 OK\r\na: 1",)),
        (
            (b"HTTP/1.1 200 OK\r\nDate: " + SENT_AT.encode(),),
            (b"HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 06:47:35 GMT",),
        ),
        (
            (b"HTTP/1.1 200 OK\r\nrequest-id: req_up_123456789",),
            (b"HTTP/1.1 200 OK\r\nrequest-id: req_up_223456789",),
        ),
        ((b"HTTP/1.1 200 OK\r\nretry-after: 50",), (b"HTTP/1.1 200 OK\r\nretry-after: 60",)),
        ((b"HTTP/1.1 200 OK", b"body"), (b"HTTP/1.1 200 OK", b"bodY")),
        ((b"HTTP/1.1 200 OK", b"body\xff"), (b"HTTP/1.1 200 OK", b"body\xfe")),
        (
            (b"HTTP/1.1 200 OK", b"x" * 9000 + b"a" + b"x" * 9000),
            (b"HTTP/1.1 200 OK", b"x" * 9000 + b"b" + b"x" * 9000),
        ),
        ((b"HTTP/1.1 200 OK", b"body"), (b"HTTP/1.1 200 OK", b"body", "cut")),
        (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 4", b"body"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5", b"body", "whole"),
        ),
        ((b"HTTP/1.1 200 OK", b"acct_0123456789abcdef"), (b"HTTP/1.1 200 OK", b"acct_1123456789abcdef")),
        (
            (b"HTTP/1.1 200 OK", b"tok_%016d tok_%016d" % (1, 1)),
            (b"HTTP/1.1 200 OK", b"tok_%016d tok_%016d" % (1, 2)),
        ),
    ],
)
def test_everything_else_is_a_difference(
    this: tuple[bytes, bytes, str], other: tuple[bytes, bytes, str]
) -> None:
    found = difference(lines(*this), lines(*other), ("this", "HEAD"))
    assert found.startswith("--- HEAD\n+++ this\n")
