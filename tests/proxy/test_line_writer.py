"""Lines are written in order by a thread that alone waits for whoever reads them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from proxy.line_writer import MOST_CHARACTERS, LineWriter

LINE = "x" * 999 + "\n"
MOST = MOST_CHARACTERS // len(LINE)
TOO_MANY = 3 * MOST
MORE_THAN_FITS = "y" * (1 << 20) + "\n"
"""Into a pipe: it holds 64 KiB, or what fcntl(2) sets for one."""


class Pipe:
    """A pipe and what was read of it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def read(self) -> str:
        """All that comes until its writing end is closed."""
        parts = []
        while part := os.read(self.reader, 1 << 20):
            parts.append(part)
        return b"".join(parts).decode()

    def close(self) -> None:
        for each in (self.reader, self.writer):
            os.close(each)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def lost(number: int) -> str:
    return f"lost {number}\n" if number else ""


def closed(writer: LineWriter, pipe: Pipe) -> str:
    """What it has written once it is closed; it is read meanwhile."""
    parts: list[str] = []
    reader = threading.Thread(target=lambda: parts.append(pipe.read()))
    reader.start()
    writer.close(60)
    os.close(pipe.writer)
    reader.join()
    pipe.writer = os.open(os.devnull, os.O_WRONLY)
    return "".join(parts)


def test_lines_of_many_threads_come_whole_and_each_ones_in_order(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)

    def write(name: str) -> None:
        for number in range(2000):
            writer.put(f"{name} {number}\n")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    lines = closed(writer, pipe).splitlines()
    for name in "abcd":
        assert [line for line in lines if line[0] == name] == [f"{name} {number}" for number in range(2000)]
    assert len(lines) == 8000


def test_a_line_of_a_quiet_time_is_written_at_once(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)
    for line in ("one\n", "two\n"):
        writer.put(line)
        assert os.read(pipe.reader, 4096).decode() == line
    writer.close(60)


def test_what_is_too_much_is_dropped_and_counted(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)
    writer.put(MORE_THAN_FITS)
    begun = os.read(pipe.reader, 1).decode()  # so the thread has it in hand, and waits until it is read
    for _ in range(TOO_MANY):
        writer.put(LINE)
    first, *lines, told = (begun + closed(writer, pipe)).splitlines(keepends=True)
    assert first == MORE_THAN_FITS
    assert lines == [LINE] * MOST
    assert told == lost(TOO_MANY - MOST)


def test_to_close_waits_no_longer_than_it_is_told_for_who_does_not_read(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)
    for _ in range(1000):
        writer.put(LINE)
    writer.close(0.01)
    writer.put("later\n")
    os.close(pipe.reader)  # lets the thread end
    pipe.reader = os.open(os.devnull, os.O_RDONLY)
    writer.close(60)


def test_a_reader_who_has_left_ends_nothing(pipe: Pipe) -> None:
    os.close(pipe.reader)
    pipe.reader = os.open(os.devnull, os.O_RDONLY)
    writer = LineWriter(pipe.writer, lost)
    for _ in range(10):
        writer.put(LINE)
    writer.close(60)
    writer.put(LINE)


def test_what_could_not_be_written_is_told_when_it_can_again(pipe: Pipe) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    target = os.dup(full)
    asked = threading.Semaphore(0)

    def remarks(number: int) -> str:
        asked.release()
        return lost(number)

    writer = LineWriter(target, remarks)
    asked.acquire()
    writer.put("one\n")
    asked.acquire()  # it has it in hand …
    asked.acquire()  # … and has failed to write it
    os.dup2(pipe.writer, target)
    writer.put("two\n")
    writer.close(60)
    os.close(target)
    os.close(full)
    os.close(pipe.writer)
    pipe.writer = os.open(os.devnull, os.O_WRONLY)
    assert pipe.read() == "two\nlost 1\n"


def test_what_comes_after_the_end_is_written_as_it_comes(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)
    writer.close(60)
    for line in ("one\n", "two\n" * 1000):
        writer.put(line)
        assert os.read(pipe.reader, 8192).decode() == line


def test_after_the_end_too_nobody_waits_for_a_reader(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)
    writer.close(60)
    for _ in range(1000):
        writer.put(LINE)
    assert len(os.read(pipe.reader, 1 << 20)) < 1 << 20


def test_what_is_logged_while_a_line_is_put_is_written_too(pipe: Pipe) -> None:
    class Line(str):
        """Logs as it is measured, as the garbage collector may at any time."""

        def __len__(self) -> int:
            if not nested:
                nested.append("")
                writer.put("from within\n")
            return 8

    nested: list[str] = []
    writer = LineWriter(pipe.writer, lost)
    writer.put(Line("without\n"))
    assert sorted(closed(writer, pipe).splitlines()) == ["from within", "without"]


def test_a_line_that_is_no_text_is_written_all_the_same(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)
    writer.put("\udcff東\n")
    assert closed(writer, pipe) == "\\udcff東\n"
