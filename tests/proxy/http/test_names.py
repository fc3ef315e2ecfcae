"""What a header is by its name, remembered without end for no one."""

from __future__ import annotations

import pytest

from proxy.http.names import (
    LONGEST_LAYOUT,
    LONGEST_NAME,
    MOST_LAYOUTS,
    MOST_NAMES,
    Kinds,
    Layouts,
    kind_of,
)


@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key", "X-API-KEY"])
def test_a_name_is_the_same_in_any_case(name: str) -> None:
    assert kind_of(name) == kind_of("x-api-key")
    assert kind_of(name).lower == "x-api-key"


@pytest.mark.parametrize(
    ("name", "is_limit"),
    [
        ("anthropic-ratelimit-unified-5h-utilization", True),
        ("Anthropic-Ratelimit-Requests-Remaining", True),
        ("retry-after", True),
        ("retry-after-ms", True),
        ("x-should-retry", False),
        ("x-anthropic-ratelimit-requests-remaining", False),
    ],
)
def test_the_rate_limit_family_is_told_by_its_beginning(name: str, is_limit: bool) -> None:
    assert kind_of(name).limit is is_limit


@pytest.mark.parametrize("name", ["", "x a", "x\n", "x\x80", "(x)"])
def test_a_name_that_is_no_token_goes_nowhere(name: str) -> None:
    kind = kind_of(name)
    assert (kind.goes_up, kind.goes_down, kind.refused) == (False, False, True)


def test_many_names_and_long_ones_are_told_apart_but_not_all_kept() -> None:
    kinds = Kinds()
    for number in range(3 * MOST_NAMES):
        assert kinds[f"x-{number}"].goes_up
        assert len(kinds) <= MOST_NAMES
    long = "proxy-" + "x" * LONGEST_NAME
    assert not kinds[long].goes_up
    assert long not in kinds


def test_few_layouts_and_no_long_ones_are_kept() -> None:
    layouts = Layouts()
    for number in range(3 * MOST_LAYOUTS):
        assert layouts[f"x-{number}", "host"].goes_up == (True, False)
        assert len(layouts) <= MOST_LAYOUTS
    long = ("x" * LONGEST_LAYOUT, "y")
    assert layouts[long].goes_up == (True, True)
    assert long not in layouts


def test_of_repeated_lines_a_layout_knows_the_first() -> None:
    layout = Layouts()[
        "Content-Length", "X-Api-Key", "content-length", "Retry-After", "retry-after", "connection"
    ]
    assert layout.first == ("content-length", "x-api-key", "retry-after", "connection")
    assert layout.is_first == (True, True, False, True, False, True)
    assert (layout.limits, layout.is_limit) == (("retry-after",), (False, False, False, True, False, False))
    assert (layout.lengths, layout.options) == ((2,), (5,))
    assert layout.credentials == (("x-api-key", 1),)
    assert layout.framing == (("content-length", 0), ("content-length", 2), ("connection", 5))
