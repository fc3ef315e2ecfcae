"""The four states of an account: which event leads where, and what is shown and stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.account import Account, ApiKey, OAuthTokens, Status
from proxy.accounts.preferences import USUAL, Preferences
from proxy.storage.names import MOST_TAGS

NOW = 1_800_000_000.0
SECRETS = ["sk-ant-api03-secret", "sk-ant-oat01-secret", "sk-ant-ort01-secret"]

Event = Callable[[Account], Account]


def account(status: Status = Status.ACTIVE, *, until: float = NOW + 60, **changes: Any) -> Account:
    return replace(
        Account(
            id="acc_1",
            name="team",
            credential=ApiKey(SECRETS[0]),
            created_at=NOW - 100,
            updated_at=NOW - 100,
            status=status,
            status_reason=None if status is Status.ACTIVE else "an earlier one",
            rate_limited_until=until if status is Status.RATE_LIMITED else None,
        ),
        **changes,
    )


EVENTS: dict[str, Event] = {
    "an upstream 429": lambda a: a.limited(NOW + 120, "5h rejected", NOW),
    "its time passes": lambda a: a.recovered(NOW + 60),
    "its time does not pass": lambda a: a.recovered(NOW + 59),
    "its credential is dead": lambda a: a.invalidated("invalid_grant", NOW),
    "taken out": lambda a: a.deactivated("set inactive by an admin", NOW),
    "an admin activates it": lambda a: a.activated(NOW),
    "an admin renames it": lambda a: a.renamed("other", NOW),
    "its new key works": lambda a: a.rekeyed(ApiKey("sk-ant-api03-new"), NOW),
    "its own key works": lambda a: a.rekeyed(ApiKey(SECRETS[0]), NOW),
    "an answer proves it": lambda a: a.checked(),
}
ARROWS = {
    (Status.ACTIVE, "an upstream 429"): Status.RATE_LIMITED,
    (Status.ACTIVE, "its credential is dead"): Status.INVALID,
    (Status.ACTIVE, "taken out"): Status.INACTIVE,
    (Status.RATE_LIMITED, "its time passes"): Status.ACTIVE,
    (Status.RATE_LIMITED, "its credential is dead"): Status.INVALID,
    (Status.RATE_LIMITED, "taken out"): Status.INACTIVE,
    (Status.RATE_LIMITED, "an admin activates it"): Status.ACTIVE,
    (Status.INVALID, "taken out"): Status.INACTIVE,
    (Status.INVALID, "an admin activates it"): Status.ACTIVE,
    (Status.INACTIVE, "an admin activates it"): Status.ACTIVE,
    (Status.INVALID, "its new key works"): Status.ACTIVE,
    (Status.RATE_LIMITED, "its new key works"): Status.ACTIVE,
    (Status.INVALID, "its own key works"): Status.ACTIVE,
}


NOTED = {(Status.RATE_LIMITED, "an upstream 429"), (Status.INACTIVE, "its credential is dead")}
"""What leaves the state as it is, and is kept all the same."""


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("status", Status)
def test_an_event_leads_where_the_contract_says_and_nowhere_else(status: Status, event: str) -> None:
    assert EVENTS[event](account(status)).status is ARROWS.get((status, event), status)


@pytest.mark.parametrize(
    "event", [name for name in EVENTS if "renames" not in name and "new key" not in name]
)
@pytest.mark.parametrize("status", Status)
def test_an_event_without_an_arrow_changes_nothing(status: Status, event: str) -> None:
    before = account(status)
    if (status, event) not in ARROWS and (status, event) not in NOTED:
        assert EVENTS[event](before) is before


def test_what_was_refused_takes_a_proof_also_after_it_was_inactive() -> None:
    refused = account(Status.INACTIVE).invalidated("401", NOW)
    for each in (refused, account(Status.INVALID).deactivated("set inactive by an admin", NOW)):
        assert each.status is Status.INACTIVE and each.needs_proof
        assert Account.from_record(each.record()).needs_proof
        for event in (
            "its new key works",
            "its own key works",
            "an answer proves it",
            "an admin activates it",
        ):
            assert not EVENTS[event](each).needs_proof
    assert refused.invalidated("403", NOW) is refused
    assert not account(Status.ACTIVE).deactivated("set inactive by an admin", NOW).needs_proof


@pytest.mark.parametrize(("status", "event"), ARROWS)
def test_a_change_of_state_tells_when_and_why(status: Status, event: str) -> None:
    after = EVENTS[event](account(status))
    assert after.updated_at >= NOW
    assert (after.status_reason is None) == (after.status is Status.ACTIVE)


@pytest.mark.parametrize(("status", "event"), ARROWS)
def test_only_a_rate_limited_account_has_a_time_until(status: Status, event: str) -> None:
    after = EVENTS[event](account(status))
    assert (after.rate_limited_until is not None) == (after.status is Status.RATE_LIMITED)


def test_a_later_limit_prolongs_an_earlier_one() -> None:
    after = account(Status.RATE_LIMITED, until=NOW + 60).limited(NOW + 90, "7d rejected", NOW)
    assert (after.rate_limited_until, after.status_reason) == (NOW + 90, "7d rejected")


def test_an_earlier_limit_changes_neither_time_nor_reason() -> None:
    before = account(Status.RATE_LIMITED, until=NOW + 60)
    assert before.limited(NOW + 59, "other", NOW) is before


def test_renaming_to_its_own_name_is_no_change() -> None:
    before = account()
    assert before.renamed("team", NOW) is before


# ---- whatever happens

times = st.floats(min_value=NOW, max_value=NOW + 1e6)
optional_text = st.none() | st.text()
optional_time = st.none() | times
oauth_tokens = st.builds(OAuthTokens, st.text(), optional_text, optional_time, optional_text)
not_by_an_admin: st.SearchStrategy[Event] = st.one_of(
    st.builds(lambda until, now: lambda a: a.limited(until, "429", now), times, times),
    st.builds(lambda now: lambda a: a.recovered(now), times),
    st.builds(lambda now: lambda a: a.invalidated("401", now), times),
    st.builds(lambda now: lambda a: a.refresh_begun(now), times),
    st.builds(lambda now: lambda a: a.refresh_failed("502", now), times),
    st.builds(lambda tokens, now: lambda a: a.refresh_received(tokens, now), oauth_tokens, times),
    st.just(Account.refresh_saved),
    st.builds(lambda name, now: lambda a: a.renamed(name, now), st.text(), times),
)


@given(st.lists(not_by_an_admin))
def test_nothing_but_an_admin_leads_out_of_inactive(events: list[Event]) -> None:
    after = account(Status.INACTIVE)
    for event in events:
        after = event(after)
    assert after.status is Status.INACTIVE


@given(st.lists(not_by_an_admin))
def test_nothing_but_an_admin_leads_out_of_invalid(events: list[Event]) -> None:
    after = account(Status.INVALID)
    for event in events:
        after = event(after)
    assert after.status is Status.INVALID


@given(times, st.lists(not_by_an_admin))
def test_a_limit_ends_at_its_own_time_or_later(until: float, events: list[Event]) -> None:
    after = account(Status.RATE_LIMITED, until=until)
    for event in events:
        before, after = after, event(after)
        if before.status is after.status is Status.RATE_LIMITED:
            assert (after.rate_limited_until or 0) >= (before.rate_limited_until or 0)


@given(times, times)
def test_a_limit_has_passed_from_its_time_on(until: float, now: float) -> None:
    assert account(Status.RATE_LIMITED, until=until).limit_passed(now) == (until <= now)


# ---- what is shown and what is stored

accounts = st.builds(
    Account,
    id=st.text(),
    name=st.text(),
    credential=st.builds(ApiKey, st.text()) | oauth_tokens,
    created_at=times,
    updated_at=times,
    organization_uuid=optional_text,
    status=st.sampled_from(Status),
    status_reason=optional_text,
    rate_limited_until=optional_time,
    last_refresh_at=optional_time,
    last_refresh_error=optional_text,
    refresh_began_at=optional_time,
    active_since=optional_time,
    unchecked=st.booleans(),
    refused=st.none() | st.text(min_size=1),
    preferences=st.builds(
        Preferences,
        priority=st.integers(-1000, 1000),
        weight=st.floats(0.001, 1000),
        reserve=st.floats(0, 1),
        tags=st.lists(
            st.text("aé ", min_size=1).map(str.strip).filter(bool), unique=True, max_size=MOST_TAGS
        ).map(tuple),
        note=st.text("aé \n", max_size=1000),
    ),
)


@given(accounts)
def test_an_account_comes_back_from_its_record_as_it_was(before: Account) -> None:
    assert Account.from_record(json.loads(json.dumps(before.record()))) == before


@given(accounts, oauth_tokens, times)
def test_a_record_holds_received_tokens_already(before: Account, tokens: OAuthTokens, now: float) -> None:
    received = replace(before, credential=tokens).refresh_received(tokens, now)
    assert Account.from_record(received.record()) == received.refresh_saved()


OAUTH = account(
    credential=OAuthTokens(SECRETS[1], SECRETS[2], NOW + 3600, "user:inference"), last_refresh_at=NOW
)


@pytest.mark.parametrize("each", [account(), OAUTH], ids=["api_key", "oauth"])
@pytest.mark.parametrize("form", [repr, str, lambda a: json.dumps(a.view())], ids=["repr", "str", "view"])
def test_no_form_of_an_account_that_people_see_holds_its_credential(
    each: Account, form: Callable[[Account], str]
) -> None:
    assert not any(secret in form(each) for secret in SECRETS)


def test_the_view_names_what_the_contract_names() -> None:
    assert OAUTH.view() == {
        "id": "acc_1",
        "name": "team",
        "type": "oauth",
        "organization_uuid": None,
        "organization_name": None,
        "status": "active",
        "status_reason": None,
        "status_since": "2027-01-15T07:58:20.000Z",
        "rate_limited_until": None,
        "unchecked": False,
        "expires_at": "2027-01-15T09:00:00.000Z",
        "proxy": None,
        "priority": 0,
        "weight": 1.0,
        "reserve": 0.0,
        "tags": [],
        "note": "",
        "last_refresh_at": "2027-01-15T08:00:00.000Z",
        "last_refresh_error": None,
        "created_at": "2027-01-15T07:58:20.000Z",
        "updated_at": "2027-01-15T07:58:20.000Z",
        "etag": OAUTH.etag,
    }


def test_an_api_key_never_expires() -> None:
    assert account().expires_at is None


@pytest.mark.parametrize("each", [account(), OAUTH], ids=["api_key", "oauth"])
@pytest.mark.parametrize(
    "missing", sorted(OAUTH.record().keys() - {"organization_name", "status_since", "proxy", *USUAL.view()})
)
def test_a_record_without_one_of_its_fields_is_refused(each: Account, missing: str) -> None:
    record = each.record()
    del record[missing]
    with pytest.raises(ValueError, match=f"^{missing} is missing"):
        Account.from_record(record)


@pytest.mark.parametrize("wrong", [{"a": 1}, [1], True], ids=repr)
@pytest.mark.parametrize(
    "path", [*OAUTH.record(), *(f"credential.{name}" for name in OAUTH.record()["credential"])]
)
def test_a_record_with_a_field_of_another_type_is_refused(path: str, wrong: Any) -> None:
    record = json.loads(json.dumps(OAUTH.record()))
    *above, name = path.split(".")
    holder = record[above[0]] if above else record
    holder[name] = wrong
    with pytest.raises((KeyError, TypeError, ValueError)):
        Account.from_record(record)


@pytest.mark.parametrize("wrong", [1, "true", None, {}], ids=repr)
def test_unchecked_is_yes_or_no_and_absent_in_older_records(wrong: Any) -> None:
    assert Account.from_record(account().record()).unchecked is False
    with pytest.raises(ValueError, match="unchecked is neither true nor false"):
        Account.from_record(account().record() | {"unchecked": wrong})


@pytest.mark.parametrize("field", ["rate_limited_until", "last_refresh_at", "created_at"])
def test_a_time_written_as_text_is_refused(field: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        Account.from_record(account().record() | {field: "tomorrow"})


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (OAUTH.renamed("other", NOW), False),
        (OAUTH.deactivated("by an admin", NOW), False),
        (OAUTH.limited(NOW + 60, "429", NOW), True),
        (OAUTH.refresh_failed("503", NOW), True),
    ],
    ids=["renamed", "deactivated", "limited", "not refreshed"],
)
def test_the_etag_changes_with_what_an_admin_edits_alone(changed: Account, same: bool) -> None:
    assert (changed.etag == OAUTH.etag) is same


def test_a_state_knows_since_when_it_holds() -> None:
    limited = OAUTH.limited(NOW + 60, "429", NOW)
    assert limited.status_since == NOW
    assert limited.limited(NOW + 90, "429", NOW + 5).status_since == NOW
    assert limited.recovered(NOW + 60).status_since == NOW + 60
    assert OAUTH.invalidated("401", NOW + 1).status_since == NOW + 1
    assert OAUTH.deactivated("by an admin", NOW + 2).status_since == NOW + 2
