"""Header lines of requests that are known again: what is kept of them, and what never."""

from __future__ import annotations

import pytest

from handlers.framing import LONGEST_KEPT, MOST_KEPT, Fields


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("X-App: 1", ("X-App", "1")),
        ("x-app:1", ("x-app", "1")),
        ("x-app: \t b:c \t", ("x-app", "b:c")),
        ("x-app:", ("x-app", "")),
        ("x-app: \xa0\xe9\x85", ("x-app", "\xa0\xe9\x85")),
    ],
)
def test_a_line_is_read(line: str, field: tuple[str, str]) -> None:
    fields = Fields()
    assert fields[line] == field
    assert fields[line] is fields[line]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Authorization",
            "x-api-key",
            "X-API-Key",
            "COOKIE",
            "Proxy-Authorization",
            "api-key",
            "x-auth-token",
        ),
        *(
            "X-Amz-Key",
            "x-forwarded-access-token",
            "cf-access-client-secret",
            "anthropic-key",
            "host-key",
            "x",
        ),
    ],
)
def test_no_credential_is_kept_whatever_its_name_is(name: str) -> None:
    fields = Fields()
    assert fields[f"{name}: secret"] == (name, "secret")
    assert not fields


def test_what_is_kept_is_bounded_in_number_and_length() -> None:
    fields = Fields()
    for number in range(3 * MOST_KEPT):
        assert fields[f"content-length: {number}"] == ("content-length", str(number))
    assert len(fields) <= MOST_KEPT
    fields.clear()
    assert fields["x-app: " + LONGEST_KEPT * "a"] == ("x-app", LONGEST_KEPT * "a")
    assert not fields
