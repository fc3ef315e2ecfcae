"""What becomes of a record that two instances have changed at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.storage.merge import merged
from proxy.storage.protocols import Record

STATE = ("status", "until", "reason")
RECORDS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2))


@given(RECORDS, RECORDS)
def test_a_change_over_what_was_known_is_that_change(base: Record, mine: Record) -> None:
    assert merged(base, mine, base) == mine
    assert merged(base, base, mine) == mine


@given(RECORDS, RECORDS, RECORDS)
def test_each_field_is_from_whoever_has_changed_it_and_mine_if_both_have(
    base: Record, mine: Record, theirs: Record
) -> None:
    result = merged(base, mine, theirs)
    yielded = merged(base, mine, theirs, yields=True)
    for name in "abcd":
        is_mine = mine.get(name) != base.get(name)
        is_theirs = theirs.get(name) != base.get(name)
        assert result.get(name) == (mine if is_mine else theirs).get(name)
        assert yielded.get(name) == (mine if is_mine and not is_theirs else theirs).get(name)


def test_fields_that_belong_together_stay_together() -> None:
    base = {"status": "limited", "until": 5, "reason": "429"}
    mine = {"status": "limited", "until": 9, "reason": "429"}
    theirs = {"status": "active", "until": None, "reason": None}
    assert merged(base, mine, theirs, together=[STATE]) == mine


def test_who_comes_to_the_same_conclusion_later_changes_nothing() -> None:
    base = {"status": "limited", "until": 5, "reason": "429", "updated_at": 1}
    mine = {"status": "active", "until": None, "reason": None, "updated_at": 6.1}
    theirs = {"status": "active", "until": None, "reason": "", "updated_at": 6.0}
    assert merged(base, mine, theirs, together=[STATE]) == theirs


def test_the_time_of_a_change_comes_with_it() -> None:
    base = {"name": "a", "note": "", "updated_at": 1}
    mine, theirs = base | {"name": "b", "updated_at": 2}, base | {"note": "n", "updated_at": 3}
    assert merged(base, mine, theirs) == {"name": "b", "note": "n", "updated_at": 2}


def test_of_what_only_the_holder_of_a_lease_changes_the_stored_is_the_newer() -> None:
    base = {"credential": 1, "type": "oauth", "name": "a"}
    mine, theirs = base | {"credential": 2, "name": "b"}, base | {"credential": 3}
    result = merged(base, mine, theirs, together=[("credential", "type")], leased=["credential"])
    assert result == {"credential": 3, "type": "oauth", "name": "b"}
    assert merged(base, mine, base, leased=["credential"]) == mine
