"""What people read of changes: one event for each that matters, none for what only counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.accounts.account import Account, ApiKey, OAuthTokens
from proxy.accounts.preferences import Preferences
from proxy.dashboard.event_log import EventLog
from proxy.feed import Changed, Feed, Happened, Subject, Who
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
                "team is rate limited until 2027-01-15 08:01:00 UTC: 429",
            ),
        ),
        (
            OLD.limited(NOW + 60, "429, resets 2027-01-15T08:01:00.000Z", NOW),
            (
                "warning",
                "account.rate_limited",
                "team is rate limited: 429, resets 2027-01-15 08:01:00 UTC",
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
                "team was changed: priority, tags, proxy",
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


def test_a_refresh_that_fails_is_told_once_for_each_reason() -> None:
    failed = OLD.refresh_failed("cannot be reached: no answer after 10001 ms", NOW)
    again = failed.refresh_failed("cannot be reached: no answer after 10002 ms", NOW + 5)
    assert told(failed, again) == []
    other = ("warning", "account.refresh_failed", "team was not refreshed: 503")
    assert told(again, again.refresh_failed("503", NOW + 10)) == [other]


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


def test_an_event_says_whom_it_is_about_and_who_did_it() -> None:
    feed = Feed()
    events = EventLog(feed, clock=TestClock(), key_name={"tok_1": "ci"}.get)
    feed.publish(Changed(None, replace(OLD, name="x")))
    by = Who("key", "tok_1", address="10.0.0.1")
    feed.tell(Happened("session.started", "a session began", subject=Subject("session", "ses_1"), by=by))
    first, second = events.since(0)
    assert first["subject"] == {"kind": "account", "id": "acc_1", "name": "x"}
    assert first["actor"] == {"kind": "system", "id": None, "name": None, "address": None}
    assert second["subject"] == {"kind": "session", "id": "ses_1", "name": None}
    assert second["actor"] == {"kind": "key", "id": "tok_1", "name": "ci", "address": "10.0.0.1"}


def test_times_in_a_text_are_parts() -> None:
    feed = Feed()
    events = EventLog(feed, clock=TestClock())
    feed.publish(Changed(OLD, OLD.limited(NOW + 60, "429", NOW)))
    feed.publish(Changed(OLD, OLD.renamed("crew", NOW)))
    limited, renamed = events.since(0)
    time = {"time": "2027-01-15T08:01:00.000Z"}
    assert limited["parts"] == ["team is rate limited until ", time, ": 429"]
    assert "parts" not in renamed


SECRET = "sk-ant-api03-a-secret"


@pytest.mark.parametrize(
    ("new", "before", "after"),
    [
        (OLD.renamed("crew", NOW), {"name": "team"}, {"name": "crew"}),
        (OLD.invalidated("revoked", NOW), {"status": "active"}, {"status": "invalid"}),
        (OLD.rekeyed(ApiKey(SECRET), NOW), None, {"api_key": "replaced"}),
        (
            OLD.proxied("http://user:pass-word@10.0.0.9:3128", NOW),
            {"proxy": None},
            {"proxy": "http://***@10.0.0.9:3128"},
        ),
    ],
)
def test_an_event_says_what_was_before_and_what_is_after_but_no_secret(
    new: Account, before: object, after: object
) -> None:
    feed = Feed()
    events = EventLog(feed, clock=TestClock())
    feed.publish(Changed(OLD, new))
    (event,) = events.since(0)
    assert (event["before"], event["after"]) == (before, after)
    assert SECRET not in str(event) and "pass-word" not in str(event)
