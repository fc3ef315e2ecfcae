"""Header lines of answers: what is read of them, and what is kept."""

from __future__ import annotations

import pytest

from proxy.http.lines import LONGEST_LINE, MOST_LINES, Lines


@pytest.mark.parametrize(
    ("text", "name", "value", "down"),
    [
        ("X-A: 1\r", "X-A", "1", ("X-A", "1")),
        ("X-A:1", "X-A", "1", ("X-A", "1")),
        ("x-a: \t b:c \t\r", "x-a", "b:c", ("x-a", "b:c")),
        ("x-a:\r", "x-a", "", ("x-a", "")),
        ("x-a: caf\xe9\r", "x-a", "caf\xe9", ("x-a", "caf\xe9")),
        ("x-a: \x7f\r", "x-a", "\x7f", None),
        ("Content-Length : 5\r", "Content-Length ", "5", None),
        ("Set-Cookie: a=b\r", "Set-Cookie", "a=b", None),
    ],
)
def test_a_line_is_read(text: str, name: str, value: str, down: tuple[str, str] | None) -> None:
    line = Lines()[text]
    assert line is not None
    assert (line.name, line.value, line.down, line.lower) == (name, value, down, name.lower())


@pytest.mark.parametrize("text", ["", "\r", "nonsense\r"])
def test_what_has_no_colon_is_no_line(text: str) -> None:
    assert Lines()[text] is None


def test_a_line_that_recurs_is_read_once() -> None:
    lines = Lines()
    assert lines["x-a: 1\r"] is lines["x-a: 1\r"]


def test_lines_that_are_kept_are_bounded_in_number_and_length() -> None:
    lines = Lines()
    for number in range(3 * MOST_LINES):
        line = lines[f"request-id: req_{number}\r"]
        assert line is not None and line.value == f"req_{number}"
    assert len(lines) <= MOST_LINES
    before = len(lines)
    long = lines["x-a: " + LONGEST_LINE * "a"]
    assert long is not None and len(long.value) == LONGEST_LINE
    assert len(lines) == before


def test_no_value_is_shown_by_accident() -> None:
    assert "secret" not in repr(Lines()["set-cookie: secret"]) + repr(Lines()["x-a: secret"])
