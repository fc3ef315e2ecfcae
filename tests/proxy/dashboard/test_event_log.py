"""What people read of changes: one event for each that matters, none for what only counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.accounts.account import Account, ApiKey, OAuthTokens
from proxy.accounts.preferences import Preferences
from proxy.dashboard.event_log import EventLog
from proxy.feed import Changed, Feed, Happened
from tests.service import TestClock

NOW = 1_800_000_000.0
OLD = Account("acc_1", "team", OAuthTokens("secret-a", "secret-r", NOW + 60), NOW - 100, NOW - 100)
SET = OLD.proxied("http://team:secret-p@p:1", NOW).preferring(Preferences(2, tags=("eu", "us")), NOW)
TOKENS = OAuthTokens("secret-b", "secret-s", NOW + 3600)


def told(old: Account | None, new: Account | None) -> list[tuple[str, str, str]]:
    feed = Feed()
    chronicle = EventLog(feed, clock=TestClock())
    feed.publish(Changed(old, new))
    return [(event["level"], event["kind"], event["text"]) for event in chronicle.since(0)]


@pytest.mark.parametrize(
    ("new", "event"),
    [
        (OLD.renamed("crew", NOW), ("info", "account.renamed", "team is called crew now")),
        (
            OLD.limited(NOW + 60, "429", NOW),
            (
                "warning",
                "account.rate_limited",
                "team is rate limited until 2027-01-15T08:01:00.000Z: 429",
            ),
        ),
        (
            OLD.limited(NOW + 60, "429, resets 2027-01-15T08:01:00.000Z", NOW),
            (
                "warning",
                "account.rate_limited",
                "team is rate limited: 429, resets 2027-01-15T08:01:00.000Z",
            ),
        ),
        (OLD.invalidated("revoked", NOW), ("error", "account.invalid", "team is invalid: revoked")),
        (
            OLD.deactivated("set inactive by an admin", NOW),
            ("info", "account.inactive", "team is inactive: set inactive by an admin"),
        ),
        (
            OLD.rekeyed(ApiKey("sk-ant-api03-new"), NOW),
            ("info", "account.rekeyed", "team has a new key"),
        ),
        (
            SET,
            (
                "info",
                "account.changed",
                "team was changed: proxy – → http://***@p:1, priority 0 → 2, tags – → eu, us",
            ),
        ),
        (OLD.refresh_received(TOKENS, NOW), ("info", "account.refreshed", "team has a new token")),
        (
            OLD.refresh_failed("503", NOW),
            ("warning", "account.refresh_failed", "team was not refreshed: 503"),
        ),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_change_is_one_event(new: Account, event: tuple[str, str, str]) -> None:
    assert told(OLD, new) == [event]


def test_what_admins_set_is_told_before_and_after_in_one_line() -> None:
    new = SET.preferring(Preferences(0, 2.5, 0.25, (), f"a\n{'n' * 998}"), NOW).proxied(None, NOW)
    [(_, kind, text)] = told(SET, new)
    assert (kind, text) == (
        "account.changed",
        "team was changed: proxy http://***@p:1 → –, priority 2 → 0, weight 1 → 2.5, reserve 0 → 0.25, "
        f"tags eu, us → –, note – → a {'n' * 37}…",
    )


def test_what_failed_again_for_the_same_reason_is_told_again() -> None:
    failed = OLD.refresh_failed("503", NOW)
    assert [kind for _, kind, _ in told(failed, failed.refresh_failed("503", NOW + 5))] == [
        "account.refresh_failed"
    ]


def test_another_change_of_an_account_that_was_not_refreshed_is_no_failed_refresh() -> None:
    failed = OLD.refresh_failed("503", NOW)
    assert [kind for _, kind, _ in told(failed, failed.renamed("crew", NOW + 5))] == ["account.renamed"]


def test_coming_and_going_is_told() -> None:
    assert told(None, OLD) == [("info", "account.added", "team was added")]
    assert told(OLD, None) == [("info", "account.deleted", "team was deleted")]


def test_steps_of_a_refresh_are_not_told() -> None:
    assert told(OLD, OLD.refresh_begun(NOW)) == []
    received = OLD.refresh_received(TOKENS, NOW)
    assert told(received, received.refresh_saved()) == []


def test_an_event_says_whom_it_is_about() -> None:
    feed = Feed()
    chronicle = EventLog(feed, clock=TestClock())
    feed.publish(Changed(None, replace(OLD, name="x")))
    feed.tell(Happened("session.started", "a session began", "info", "tok_1", "ses_1"))
    first, second = chronicle.since(0)
    assert (first["account_id"], first["account_name"]) == ("acc_1", "x")
    assert (second["token_id"], second["session_id"], second["id"]) == ("tok_1", "ses_1", 2)
    assert "token_id" not in first and "account_id" not in second
