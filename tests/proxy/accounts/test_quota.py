"""What accounts have left: read from the headers of both families, and from nothing that makes no sense."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.accounts.account import ApiKey
from proxy.accounts.pool import Pool
from proxy.accounts.quota import MAX_WINDOWS, Quota, Window, room, view
from proxy.accounts.quota import read_quota as read_headers
from proxy.simulator import Answer, Error, quota_429
from tests.answer_headers import answer_headers
from tests.service import Service, serve, upstream_key

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
LATER = NOW + 3600
LIMIT = "anthropic-ratelimit-"
UNIFIED = f"{LIMIT}unified-"

# As api.anthropic.com has sent them.
OF_A_KEY = [
    ("request-id", "req_1"),
    (f"{LIMIT}requests-limit", "4000"),
    (f"{LIMIT}requests-remaining", "3999"),
    (f"{LIMIT}requests-reset", "2027-01-15T08:00:59Z"),
    (f"{LIMIT}input-tokens-limit", "2000000"),
    (f"{LIMIT}input-tokens-remaining", "1500000"),
    (f"{LIMIT}input-tokens-reset", "2027-01-15T10:01:00+02:00"),
]
OF_A_LOGIN = [
    (f"{UNIFIED}status", "allowed_warning"),
    (f"{UNIFIED}reset", "1800003600"),
    (f"{UNIFIED}representative-claim", "five_hour"),
    (f"{UNIFIED}5h-status", "allowed_warning"),
    (f"{UNIFIED}5h-utilization", "0.91"),
    (f"{UNIFIED}5h-reset", "1800003600"),
    (f"{UNIFIED}5h-surpassed-threshold", "0.9"),
    (f"{UNIFIED}7d-utilization", "1.02"),
    (f"{UNIFIED}7d_oi-status", "rejected"),
    (f"{UNIFIED}fallback-percentage", "0.5"),
    (f"{UNIFIED}overage-status", "rejected"),
    (f"{UNIFIED}overage-reset", "1800003600"),
]


def read_quota(lines: list[tuple[str, str]], known: Quota) -> Quota:
    headers = answer_headers(lines)
    return read_headers(headers.limits, headers.get("date"), known, NOW)


def test_an_api_keys_headers_are_read_by_limit() -> None:
    assert read_quota(OF_A_KEY, {}) == {
        "requests": Window(limit=4000, remaining=3999, resets_at=NOW + 59),
        "input_tokens": Window(limit=2_000_000, remaining=1_500_000, resets_at=NOW + 60),
    }


def test_a_logins_headers_are_read_by_window() -> None:
    assert read_quota(OF_A_LOGIN, {}) == {
        "5h": Window(used=0.91, resets_at=LATER, status="allowed_warning"),
        "7d": Window(used=1.02),
        "7d_oi": Window(status="rejected"),
    }


def test_names_and_words_may_be_in_any_case() -> None:
    shouted = [(name.upper(), f" {value.upper()} ") for name, value in OF_A_LOGIN + OF_A_KEY]
    assert read_quota(shouted, {}) == read_quota(OF_A_LOGIN + OF_A_KEY, {})


def test_a_window_that_an_answer_leaves_out_stays() -> None:
    known = read_quota(OF_A_LOGIN, {})
    news = read_quota([(f"{UNIFIED}7d-utilization", "0.5")], known)
    assert news == known | {"7d": Window(used=0.5)}


def test_a_window_that_an_answer_names_is_another_one_than_before() -> None:
    known = {"5h": Window(used=0.99, resets_at=NOW - 1, status="rejected")}
    assert read_quota([(f"{UNIFIED}5h-reset", "1800003600")], known) == {"5h": Window(resets_at=LATER)}


def test_a_time_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    quota = read_quota([(f"{LIMIT}tokens-reset", "2027-01-15T09:00:00")], {})
    assert quota["tokens"].resets_at == LATER


# ---- room


@pytest.mark.parametrize(
    ("window", "left"),
    [
        (Window(used=0.25), 0.75),
        (Window(used=1.02), 0.0),
        (Window(used=0.0, limit=10, remaining=1), 1.0),
        (Window(limit=4000, remaining=1000), 0.25),
        (Window(limit=10, remaining=11), 1.0),
        (Window(limit=0, remaining=0), 1.0),
        (Window(remaining=5), 1.0),
        (Window(limit=5), 1.0),
        (Window(status="rejected"), 0.0),
        (Window(status="rejected", used=0.3), 0.0),
        (Window(status="allowed_warning"), 1.0),
    ],
)
def test_room_is_the_fraction_left_and_what_is_unknown_is_full(window: Window, left: float) -> None:
    assert room({"5h": window._replace(resets_at=LATER)}, NOW) == left


def test_room_is_that_of_the_tightest_window() -> None:
    quota = {"5h": Window(0.5, resets_at=LATER), "7d": Window(0.75, resets_at=LATER), "1h": Window()}
    assert room(quota, NOW) == 0.25


def test_where_nothing_is_known_there_is_all_room() -> None:
    assert room({}, NOW) == 1.0


@pytest.mark.parametrize("resets_at", [NOW, NOW - 1, 0.0])
def test_a_window_whose_reset_has_passed_is_free(resets_at: float) -> None:
    assert room({"5h": Window(1.0, resets_at=resets_at, status="rejected")}, NOW) == 1.0


@pytest.mark.parametrize("resets_at", [None, NOW + 36 * 86_400])
def test_a_window_without_a_believable_reset_keeps_no_account_from_requests(resets_at: float | None) -> None:
    assert room({"5h": Window(1.0, resets_at=resets_at)}, NOW) == 1.0


def test_one_models_window_takes_no_room_from_the_others() -> None:
    quota = {"7d_oi": Window(1.0, resets_at=LATER), "input_tokens": Window(0.5, resets_at=LATER)}
    assert room(quota, NOW) == 0.5


def test_so_many_windows_are_kept_and_the_last_told_first() -> None:
    quota: Quota = {}
    for number in range(3 * MAX_WINDOWS):
        quota = read_quota([(f"{UNIFIED}{number}h-utilization", "0.5")], quota)
    assert set(quota) == {f"{number}h" for number in range(2 * MAX_WINDOWS, 3 * MAX_WINDOWS)}
    at_once = [(f"{UNIFIED}{number}d-utilization", "0.5") for number in range(3 * MAX_WINDOWS)]
    assert len(read_quota(at_once, quota)) == MAX_WINDOWS


# ---- what admins see


def test_the_tightest_window_is_shown_first_and_the_unknown_ones_last() -> None:
    quota = {
        "7d": Window(0.2, resets_at=LATER),
        "1h": Window(1.0, resets_at=NOW),
        "requests": Window(limit=100, remaining=5, resets_at=NOW + 60),
        "5h": Window(0.3, resets_at=LATER, status="rejected"),
        "1d": Window(),
    }
    shown = [(window["window"], window["used"]) for window in view(quota, NOW)]
    assert shown == [("5h", 1.0), ("requests", 0.95), ("7d", 0.2), ("1d", None), ("1h", None)]


# ---- what makes no sense

NONSENSE = [
    "", " ", "nan", "inf", "-inf", "Infinity", "-1", "+1", "-0.0", "1e400", "1e12", "9" * 400, "0x10", "1_000",
    "1,5", "0.9.9", "²", "\xb9", "٣", "true", "null", "2027-01-15T08:00:00ZZ", "2027-13-01T00:00:00Z", "\x00", "{}",
    "1800003600000", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
]  # fmt: skip


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize(
    "name", [f"{UNIFIED}5h-utilization", f"{UNIFIED}5h-reset", f"{LIMIT}tokens-remaining"]
)
def test_a_value_that_makes_no_sense_is_as_if_it_were_not_there(name: str, value: str) -> None:
    known = read_quota(OF_A_KEY, {})
    assert read_quota([(name, value)], known) is known


@pytest.mark.parametrize("status", ["", "Rejected!", "a" * 33, "zurückgewiesen", "1"])
def test_a_status_that_makes_no_sense_is_as_if_it_were_not_there(status: str) -> None:
    assert read_quota([(f"{UNIFIED}5h-status", status)], {}) == {}


@pytest.mark.parametrize(
    "name",
    [
        f"{UNIFIED}reset",
        f"{UNIFIED}overage-utilization",
        f"{UNIFIED}5h-surpassed-threshold",
        f"{UNIFIED}-reset",
        f"{UNIFIED}5000h-reset",
        f"{UNIFIED}5h_{'x' * 17}-reset",
        f"{LIMIT}images-remaining",
        f"x-{LIMIT}tokens-remaining",
        f"{LIMIT}tokens-remaining-today",
    ],
)
def test_a_header_that_names_no_window_is_passed_over(name: str) -> None:
    assert read_quota([(name, "1")], {}) == {}


header_names = st.sampled_from([name for name, _ in OF_A_KEY + OF_A_LOGIN]) | st.from_regex(
    rf"\A{UNIFIED}[0-9]{{1,4}}[a-z](_[a-z0-9]{{1,3}})?-(utilization|reset|status)\Z"
)
header_values = (
    st.sampled_from(NONSENSE)
    | st.text(st.characters(max_codepoint=255), max_size=30)
    | st.floats().map(str)
    | st.integers().map(str)
    | st.datetimes().map(lambda at: f"{at.isoformat()}Z")
)
hostile = st.lists(st.tuples(header_names, header_values), max_size=40)


@settings(deadline=None, database=None)
@given(st.lists(hostile, max_size=3))
def test_whatever_the_headers_say_the_quota_is_bounded_and_can_be_shown(answers: list[Any]) -> None:
    quota: Quota = {}
    for headers in answers:
        quota = read_quota(headers, quota)
    assert len(quota) <= MAX_WINDOWS
    assert 0.0 <= room(quota, NOW) <= 1.0
    shown = view(quota, NOW)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert sorted(window["window"] for window in shown) == sorted(quota)
    for window in shown:
        assert window["resets_at"] is None or re.fullmatch(
            r"\d{4}-\d\d-\d\dT[\d:.]{12}Z", window["resets_at"]
        )


@settings(deadline=None, database=None)
@given(hostile)
def test_true_headers_are_read_among_hostile_ones(headers: Any) -> None:
    windows = ("5h", "7d", "requests", "input_tokens")
    true = read_quota(OF_A_KEY + OF_A_LOGIN, {})
    others = [each for each in headers if not re.search(r"5h|7d|requests|input-tokens", each[0])]
    found = read_quota([*OF_A_KEY, *OF_A_LOGIN, *others], {})
    assert {name: found[name] for name in windows} == {name: true[name] for name in windows}


# ---- by account


async def shown(service: Service, name: str) -> dict[str, Any]:
    accounts = (await service.admin("GET", "/api/accounts")).json()["accounts"]
    quota = next(account["quota"] for account in accounts if account["name"] == name)
    return {window.pop("window"): window for window in quota}


async def test_each_account_shows_its_own(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["key", "unused"]) as service:
        await service.add_login("login")
        for _ in range(3):
            service.simulator.script(upstream_key("unused"), Error(529))
            assert (await service.message()).status == 200
        assert await shown(service, "unused") == {}
        of_key = await shown(service, "key")
        assert set(of_key) == {"requests", "tokens", "input_tokens", "output_tokens"}
        assert of_key["requests"] == {
            "used": round(len(service.simulator.ledger.for_organization("key")) / 4000, 4),
            "limit": 4000,
            "remaining": 4000 - len(service.simulator.ledger.for_organization("key")),
            "resets_at": "2027-01-15T08:01:00.000Z",
            "status": None,
        }
        of_login = await shown(service, "login")
        assert set(of_login) == {"5h", "7d"}
        assert of_login["5h"] == {
            "used": 0.0,
            "limit": None,
            "remaining": None,
            "resets_at": "2027-01-15T13:00:00.000Z",
            "status": "allowed",
        }


async def test_a_refusal_tells_as_much_as_an_answer(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["key"]) as service:
        _, grant = await service.add_login("login")
        service.simulator.always(grant, quota_429(reset_in=600))
        for _ in range(2):
            assert (await service.message()).status == 200
        five_hours = (await shown(service, "login"))["5h"]
        assert (five_hours["used"], five_hours["status"]) == (1.0, "rejected")
        assert five_hours["resets_at"] == "2027-01-15T08:10:00.000Z"


async def test_of_what_has_been_reset_nothing_is_known(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        headers = ((f"{UNIFIED}5h-utilization", "0.9"), (f"{UNIFIED}5h-reset", "1800000060"))
        service.simulator.script(upstream_key("a"), Answer(200, headers, b"{}"))
        await service.message()
        service.clock.advance(59)
        assert (await shown(service, "a"))["5h"]["used"] == 0.9
        service.clock.advance(1)
        assert (await shown(service, "a"))["5h"] == {
            "used": None, "limit": None, "remaining": None, "resets_at": None, "status": None
        }  # fmt: skip


async def test_a_deleted_accounts_late_answer_leaves_nothing(pool: Pool) -> None:
    account = await pool.add("a", ApiKey("sk-ant-api03-a"))
    await pool.remove(account.id)
    lines = [(f"{UNIFIED}5h-utilization", "1.0"), (f"{UNIFIED}5h-reset", "1800003600")]
    pool.saw(account, answer_headers(lines))
    assert pool.room(account.id) == 1.0


async def test_answers_of_different_limits_all_count(pool: Pool) -> None:
    account = await pool.add("a", ApiKey("sk-ant-api03-a"))
    for name, used in (("5h", "0.1"), ("7d", "0.2"), ("5h", "0.3")):
        pool.saw(account, answer_headers([(f"{UNIFIED}{name}-utilization", used)]))
    pool.saw(account, answer_headers([("request-id", "req_1")]))
    assert {name: window.used for name, window in pool.quotas[account.id].items()} == {"5h": 0.3, "7d": 0.2}
