"""What holds of every client that is asked both through the proxy and without it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import pytest

from tests.clients.sides import Both, alike, without_ids


def a_call_returns_what_it_returns_without_the_proxy(both: Both, call: str) -> None:
    assert both.proxied.of(call) == both.direct.of(call)
    assert all("returned" in outcome for outcome in both.proxied.of(call).values())


def a_call_is_alike(both: Both, call: str) -> None:
    """It returns the same but for what organisations make of their own."""
    assert alike(both.proxied.of(call)) == alike(both.direct.of(call))
    assert all("returned" in outcome for outcome in both.proxied.of(call).values())


def an_error_is_raised_as_it_is_without_the_proxy(both: Both, call: str, error: str) -> None:
    calls = both.proxied.of(call)
    assert without_ids(calls) == without_ids(both.direct.of(call))
    assert {outcome["raised"]["class"] for outcome in calls.values()} == {error}


def an_answer_has_its_own_headers_and_only_the_proxys_beside_them(both: Both) -> None:
    proxied, direct = both.proxied.of("headers"), both.direct.of("headers")
    for style, outcome in direct.items():
        outcome["returned"] |= {"x-proxy-account": "a", "x-proxy-attempts": "1"}
        assert proxied[style] == outcome


def check(
    both: Both,
    subtests: pytest.Subtests,
    *,
    returned: Collection[str],
    raised: Mapping[str, str],
    others: Collection[str],
    facts: Iterable[Callable[[Both], None]],
) -> None:
    """Each fact as a subtest. `returned`, `raised` (with the error's class) and `others` are all calls."""
    for side in (both.proxied, both.direct):
        for calls in side.calls.values():
            assert calls.keys() == {*returned, *raised, *others}
    for call in returned:
        with subtests.test(a_call_returns_what_it_returns_without_the_proxy.__name__, call=call):
            a_call_returns_what_it_returns_without_the_proxy(both, call)
    for call, error in raised.items():
        with subtests.test(an_error_is_raised_as_it_is_without_the_proxy.__name__, call=call):
            an_error_is_raised_as_it_is_without_the_proxy(both, call, error)
    for fact in facts:
        with subtests.test(fact.__name__):
            fact(both)
