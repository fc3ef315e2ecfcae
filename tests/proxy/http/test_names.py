"""What a header is by its name, remembered without end for no one."""

from __future__ import annotations

import pytest

from proxy.http.names import LONGEST_NAME, MOST_NAMES, Kinds, kind_of


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
