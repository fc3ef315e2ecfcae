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


@pytest.mark.parametrize(
    "text",
    ["anthropic-ratelimit-requests-limit: 50\r", "Content-Type: text/event-stream\r", "server: cloudflare"],
)
def test_a_line_that_recurs_is_read_once(text: str) -> None:
    lines = Lines()
    assert lines[text] is lines[text]


@pytest.mark.parametrize(
    "name", ["Set-Cookie", "x-echo", "X-Api-Key", "authorization", "www-authenticate", "x"]
)
def test_a_line_that_may_hold_a_credential_is_not_kept(name: str) -> None:
    lines = Lines()
    line = lines[f"{name}: secret\r"]
    assert line is not None and line.value == "secret"
    assert not lines


def test_lines_that_are_kept_are_bounded_in_number_and_length() -> None:
    lines = Lines()
    for number in range(3 * MOST_LINES):
        line = lines[f"content-length: {number}\r"]
        assert line is not None and line.value == f"{number}"
    assert len(lines) <= MOST_LINES
    before = len(lines)
    long = lines["via: " + LONGEST_LINE * "a"]
    assert long is not None and len(long.value) == LONGEST_LINE
    assert len(lines) == before


def test_no_value_is_shown_by_accident() -> None:
    assert "secret" not in repr(Lines()["set-cookie: secret"]) + repr(Lines()["x-a: secret"])
