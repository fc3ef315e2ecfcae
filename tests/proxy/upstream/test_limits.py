"""The rate-limit headers, sorted by the limit that they are about."""

from __future__ import annotations

import pytest

from proxy.upstream.limits import Limits, length_s, moment, number, title

L = "anthropic-ratelimit-"
U = f"{L}unified-"


def test_each_header_is_filed_under_its_limit() -> None:
    limits = Limits(
        {
            f"{U}status": "rejected",
            f"{U}representative-claim": "five_hour",
            f"{U}5h-status": "rejected",
            f"{U}5h-reset": "1774472400",
            f"{U}7d_oi-utilization": "0.5",
            f"{L}input-tokens-remaining": "0",
            f"{L}input-tokens-reset": "2026-03-25T21:00:00Z",
            f"{L}status": "of nothing",
            "retry-after": "5",
        }
    )
    assert limits.unified == {"status": "rejected", "representative-claim": "five_hour"}
    assert limits.windows == {
        "5h": {"status": "rejected", "reset": "1774472400"},
        "7d_oi": {"utilization": "0.5"},
    }
    assert limits.classic == {"input-tokens": {"remaining": "0", "reset": "2026-03-25T21:00:00Z"}}


@pytest.mark.parametrize(
    ("headers", "times"),
    [
        ({}, []),
        ({"retry-after": "30"}, [1030.0]),
        ({"retry-after": "30", "retry-after-ms": "2500"}, [1002.5, 1030.0]),
        ({"retry-after": "Thu, 01 Jan 1970 00:20:00 GMT"}, [1200.0]),
        ({"retry-after": "soon", "retry-after-ms": "-1"}, []),
    ],
)
def test_retry_after_names_times(headers: dict[str, str], times: list[float]) -> None:
    assert list(Limits(headers).retries(1000.0)) == times


def test_what_is_too_long_for_a_limit_is_passed_over() -> None:
    limits = Limits({f"{L}{'x' * 100}-reset": "1", f"{L}tokens-reset": "9" * 101})
    assert (limits.windows, limits.classic, limits.unified) == ({}, {}, {})


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("12", 12.0), ("0.5", 0.5), ("0.0", 0.0)])
def test_a_count_is_a_number(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "-1", "+1", "nan", "inf", "1e9", "²", "٣", "1_000", "0x1", ".5", "5."])
def test_what_is_no_count_is_no_number(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1774472400", 1_774_472_400.0),
        ("2026-03-25T21:00:00Z", 1_774_472_400.0),
        ("2026-03-25T22:00:00+01:00", 1_774_472_400.0),
        ("2026-03-25T21:00:00", 1_774_472_400.0),
        ("", None),
        ("tomorrow", None),
    ],
)
def test_a_moment_is_unix_seconds_or_rfc_3339(text: str, at: float | None) -> None:
    assert moment(text) == at


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("5h", "5 hours"),
        ("1h", "1 hour"),
        ("7d", "7 days"),
        ("7d_opus", "Opus, 7 days"),
        ("7d_oi", "some models, 7 days"),
        ("30d-future", "Future, 30 days"),
        ("5x", "5x"),
        ("input-tokens", "input tokens per minute"),
        ("requests", "requests per minute"),
        ("input_tokens", "input tokens per minute"),
    ],
)
def test_a_limit_has_a_name_in_words(name: str, words: str) -> None:
    assert title(name) == words


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("5h", 18_000),
        ("7d", 604_800),
        ("7d_opus", 604_800),
        ("1w", 604_800),
        ("90m", 5400),
        ("requests", None),
    ],
)
def test_the_name_of_a_window_says_how_long_it_is(name: str, seconds: float | None) -> None:
    assert length_s(name) == seconds
