"""Logins that wait for their code: begun, finished once, finished twice, finished wrongly."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.account import Account, ApiKey, Status
from proxy.accounts.granted import Granted
from proxy.accounts.login import LIFE_S, Login
from proxy.accounts.logins import MAX_WAITING, Logins
from proxy.accounts.oauth import OAuthServer
from proxy.accounts.pasted import Pasted, read_pasted
from proxy.errors import Conflict, InvalidRequest, NotFound, RequestError, StorageError, Unprocessable
from proxy.feed import Feed
from proxy.simulator import Amend, Answer, Error, Fault, Lost, Reset, Slow
from proxy.storage.leases import LocalLeases
from proxy.storage.table import Unstored
from tests.canaries import leaked
from tests.disk import new_ids
from tests.logins import DAY, HOUR, TOKEN, World, arguments, as_json, pair, world
from tests.service import SteppedClock, TestClock, until

REDIRECT = "http://127.0.0.1:4000/oauth/callback"


class Scene:
    """Logins before a simulator, and an admin's browser."""

    def __init__(self, w: World, server: OAuthServer | None) -> None:
        self.world = w
        self.pool = w.pool
        self.logins = Logins(
            Unstored("logins", (), record=Login.record, storage=w.disk, jobs=w.jobs),
            LocalLeases(w.clock),
            w.pool,
            Granted(w.pool, w.refresher, server),
            feed=Feed(),
            jobs=w.jobs,
            clock=w.clock,
            new_id=new_ids(),
        )

    def begin(
        self, organization: str = "Acme", email: str | None = None, **options: Any
    ) -> tuple[Login, str]:
        """A login that came as far as its code."""
        flow, url = self.logins.begin(redirect_uri=REDIRECT, **options)
        location = self.world.simulator.authorize(url, organization=organization, email=email)
        return flow, arguments(location)["code"]

    async def log_in(self, organization: str = "Acme", email: str | None = None, **options: Any) -> Account:
        """A whole login."""
        flow, code = self.begin(organization, email)
        return await self.logins.finish(f"{code}#{flow.state}", **options)

    async def refused(self, pasted: str, **options: Any) -> RequestError:
        """What is said of a login that is not finished."""
        with pytest.raises(RequestError) as error:
            await self.logins.finish(pasted, **options)
        return error.value


@contextlib.asynccontextmanager
async def scene(clock: TestClock | None = None) -> AsyncIterator[Scene]:
    async with world(clock) as w:
        yield Scene(w, w.server)


# ---- what is pasted

CODE, STATE = "a-code-of-more-than-8", "the-state"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (CODE, None),
        (f"{CODE}#{STATE}", STATE),
        (f"  {CODE}#{STATE} \n", STATE),
        ("a-code-of-\r\nmore-than-8\n#the-\t st ate", STATE),
        (f"{CODE}#", None),
        (f"{REDIRECT}?code={CODE}&state={STATE}", STATE),
        (f"{REDIRECT}?state={STATE}&x=y&code={CODE}#_", STATE),
        (f"{REDIRECT[:20]}\n{REDIRECT[20:]}?code=a-code-of-\nmore-than-8&sta\nte={STATE}\n", STATE),
        (f"HTTPS://PROXY.example/oauth/callback?code={CODE}&state={STATE}", STATE),
        (f"proxy.example/oauth/callback?code={CODE}&state={STATE}", STATE),
        (f"http://[?code={CODE}&state={STATE}", STATE),
        (f"{REDIRECT}?code=a-code%2Dof-more-than-8", None),
    ],
)  # fmt: skip
def test_a_code_is_found_in_what_is_pasted(text: str, state: str | None) -> None:
    assert read_pasted(text) == Pasted(CODE, state)


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ("", "code_missing"), (" \n", "code_missing"), ("short", "code_missing"),
        ("#state-and-no-code", "code_missing"),
        ("cöde-of-more-than-8", "code_missing"), ("\0\0\0\0\0\0\0\0\0", "code_missing"),
        (f"{REDIRECT}?state=x", "code_missing"), ("?", "code_missing"),
        ("123456", "six_digits"), ("123 456", "six_digits"), ("123456#state", "six_digits"),
        (f"{REDIRECT}?code=123456&state=x", "six_digits"),
        (f"{REDIRECT}?error=access_denied&state=x", "access_denied"),
        (f"{REDIRECT}?error=invalid_scope&state=x", "authorization_refused"),
    ],
)  # fmt: skip
def test_what_is_no_code_is_told_apart(text: str, type: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        read_pasted(text)
    assert error.value.type == type


@given(st.text() | st.from_regex(r"https?://\S*\?(code|state|error)=.*"))
def test_whatever_is_pasted_it_is_a_code_or_an_error_for_the_admin(text: str) -> None:
    try:
        pasted = read_pasted(text)
    except InvalidRequest as error:
        assert error.status == 400
    else:
        assert len(pasted.code) >= 8 and pasted.code.isprintable() and pasted.code.isascii()


def test_no_repr_shows_a_code() -> None:
    assert CODE not in repr(read_pasted(CODE))


# ---- a login


async def test_a_login_makes_an_account_that_is_on_disk() -> None:
    async with scene() as it:
        account = await it.log_in("Acme")
        simulator = it.world.simulator
        [entry] = simulator.ledger.token_calls()
        assert (account.type, account.status) == ("oauth", Status.ACTIVE)
        assert account.organization_uuid == simulator.add_oauth(organization="Acme").organization.uuid
        assert account.expires_at == it.world.clock.now() + 28800
        assert pair(it.world.on_disk(account.id)) == pair(account)
        assert entry.json()["redirect_uri"] == REDIRECT


@pytest.mark.parametrize("form", ["code#state", "url", "bare", "state beside it", "both"])
async def test_a_login_is_finished_by_whatever_is_pasted(form: str) -> None:
    async with scene() as it:
        flow, code = it.begin()
        match form:
            case "code#state":
                account = await it.logins.finish(f"{code}#{flow.state}")
            case "url":
                account = await it.logins.finish(f"{REDIRECT}?code={code}\n&state={flow.state}\n")
            case "bare":
                account = await it.logins.finish(code)
            case "state beside it":
                account = await it.logins.finish(code, state=flow.state)
            case _:
                account = await it.logins.finish(f"{code}#{flow.state}", state=flow.state)
        assert account.id in it.pool


async def test_a_new_token_counts_on_the_monotonic_clock_too() -> None:
    async with scene() as it:
        account = await it.log_in()
        it.world.clock.jump(-DAY)
        it.world.clock.advance(8 * HOUR)
        assert await it.world.use(account.id) != account.credential.access_token  # type: ignore[union-attr]


async def test_states_and_verifiers_are_never_the_same() -> None:
    async with scene() as it:
        logins = [it.begin()[0] for _ in range(50)]
        assert len({flow.state for flow in logins}) == len({flow.pkce.verifier for flow in logins}) == 50
        assert all(len(flow.state) >= 43 for flow in logins)


async def test_no_repr_of_a_login_shows_its_secrets() -> None:
    async with scene() as it:
        flow, code = it.begin()
        await it.logins.finish(code)
        assert not leaked(repr(flow), [flow.pkce.verifier, code])


@pytest.mark.parametrize("times", [2, 10])
async def test_a_login_finished_many_times_at_once_is_one_account(times: int) -> None:
    async with scene() as it:
        flow, code = it.begin()
        accounts = await asyncio.gather(*(it.logins.finish(f"{code}#{flow.state}") for _ in range(times)))
        assert len({account.id for account in accounts}) == len(it.pool) == it.world.calls == 1


@pytest.mark.parametrize("again", ["code#state", "bare", "url"])
async def test_a_login_finished_again_gives_the_same_success(again: str) -> None:
    async with scene() as it:
        flow, code = it.begin()
        account = await it.logins.finish(f"{code}#{flow.state}")
        it.begin("another that waits")
        pasted = {
            "code#state": f"{code}#{flow.state}",
            "bare": code,
            "url": f"?code={code}&state={flow.state}",
        }
        assert await it.logins.finish(pasted[again]) == account
        assert it.world.calls == len(it.pool) == 1


async def test_what_is_shown_the_second_time_is_the_account_as_it_is_by_then() -> None:
    async with scene() as it:
        flow, code = it.begin()
        account = await it.logins.finish(code)
        await it.pool.update(account.id, name="renamed")
        assert (await it.logins.finish(f"{code}#{flow.state}")).name == "renamed"


async def test_a_state_works_once_with_one_code() -> None:
    async with scene() as it:
        flow, code = it.begin()
        await it.logins.finish(code)
        assert (await it.refused(f"another-code#{flow.state}")).type == "flow_expired"
        assert it.world.calls == 1


async def test_a_login_whose_account_was_deleted_is_used_up() -> None:
    async with scene() as it:
        flow, code = it.begin()
        account = await it.logins.finish(code)
        await it.pool.remove(account.id)
        assert (await it.refused(f"{code}#{flow.state}")).type == "flow_expired"
        assert it.world.calls == 1


async def test_a_client_that_leaves_does_not_end_a_login() -> None:
    async with scene(SteppedClock()) as it:
        _, code = it.begin()
        it.world.answer(Slow(5))
        leaving = asyncio.create_task(it.logins.finish(code))
        await it.world.held()
        leaving.cancel()
        await asyncio.wait([leaving])
        it.world.clock.advance(5)
        await until(lambda: len(it.pool) == 1)


# ---- how long, how many


async def test_a_login_may_take_ten_minutes() -> None:
    async with scene() as it:
        flow, _ = it.logins.begin(redirect_uri=REDIRECT)
        assert flow.expires_at == it.world.clock.now() + LIFE_S == it.world.clock.now() + 600
        early, code = it.begin()
        it.world.clock.advance(LIFE_S - 1)
        await it.logins.finish(f"{code}#{early.state}")
        late, code = it.begin()
        it.world.clock.advance(LIFE_S)
        assert (await it.refused(f"{code}#{late.state}")).type == "flow_expired"
        assert (await it.refused(code)).type == "flow_expired"


@pytest.mark.parametrize("jump", [DAY, -DAY])
async def test_a_jump_of_the_wall_clock_ends_no_login_and_prolongs_none(jump: float) -> None:
    async with scene() as it:
        flow, url = it.logins.begin(redirect_uri=REDIRECT)
        it.world.clock.jump(jump)
        it.world.clock.advance(LIFE_S - 1)
        code = arguments(it.world.simulator.authorize(url, organization="Acme"))["code"]
        await it.logins.finish(f"{code}#{flow.state}")
        it.world.clock.advance(1)
        assert (await it.refused(f"{code}#{flow.state}")).type == "flow_expired"


async def test_a_hundred_logins_wait_and_each_can_be_finished() -> None:
    async with scene() as it:
        open_logins = [it.begin(f"org {n}") for n in range(MAX_WAITING)]
        for flow, code in open_logins:
            await it.logins.finish(f"{code}#{flow.state}")
        assert len(it.pool) == MAX_WAITING == 100


async def test_one_more_takes_the_place_of_the_oldest() -> None:
    async with scene() as it:
        (first, first_code), (second, second_code) = it.begin("1"), it.begin("2")
        for _ in range(MAX_WAITING - 1):
            it.logins.begin(redirect_uri=REDIRECT)
        assert (await it.refused(f"{first_code}#{first.state}")).type == "flow_expired"
        await it.logins.finish(f"{second_code}#{second.state}")


# ---- what goes wrong


async def test_a_state_that_nobody_gave_is_expired() -> None:
    async with scene() as it:
        _, code = it.begin()
        error = await it.refused(f"{code}#of-somebody-else")
        assert (error.status, error.type) == (400, "flow_expired")
        assert error.message == (
            "This link expired (valid 10 minutes) or the server restarted. Get a new link."
        )
        assert it.world.calls == 0


async def test_two_states_that_differ_belong_to_different_links() -> None:
    async with scene() as it:
        flow, code = it.begin()
        other, _ = it.begin()
        error = await it.refused(f"{code}#{flow.state}", state=other.state)
        assert (error.status, error.type) == (400, "state_mismatch")
        assert error.message == (
            "This code belongs to a different link. Open the link above again and paste the new code."
        )
        assert it.world.calls == 0


async def test_a_bare_code_with_several_open_logins_needs_its_state() -> None:
    async with scene() as it:
        _, code = it.begin()
        it.begin()
        error = await it.refused(code)
        assert (error.status, error.type) == (400, "state_missing") and "code#state" in error.message


@pytest.mark.parametrize("state", ["", None])
async def test_an_empty_state_is_none(state: str | None) -> None:
    async with scene() as it:
        _, code = it.begin()
        assert await it.logins.finish(code, state=state)


async def test_a_code_that_claude_refuses_is_told_and_the_login_goes_on() -> None:
    async with scene() as it:
        flow, code = it.begin()
        error = await it.refused(f"a-wrong-code#{flow.state}")
        assert (error.status, error.type) == (422, "invalid_grant")
        assert error.message.startswith(
            "Claude did not accept the code. Codes work once and only for a few minutes. Get a new link."
        )
        assert await it.logins.finish(f"{code}#{flow.state}")


async def test_a_code_of_another_link_is_refused_by_its_challenge() -> None:
    async with scene() as it:
        _, code = it.begin()
        other, _ = it.begin()
        assert (await it.refused(f"{code}#{other.state}")).type == "invalid_grant"
        assert len(it.pool) == 0


async def test_a_login_that_was_cancelled_is_used_up() -> None:
    async with scene() as it:
        flow, code = it.begin()
        assert (await it.logins.refused(flow.state, "access_denied")).type == "access_denied"
        assert (await it.refused(f"{code}#{flow.state}")).type == "flow_expired"
        assert (await it.refused(code)).type == "flow_expired"
        with pytest.raises(InvalidRequest):
            await it.logins.refused(flow.state, "access_denied")


async def test_what_became_of_a_login_can_be_seen_without_its_state() -> None:
    async with scene() as it:
        done, code = it.begin("Acme")
        account = await it.logins.finish(f"{code}#{done.state}")
        again, code = it.begin("Acme")
        await it.refused(f"{code}#{again.state}")
        cancelled, _ = it.begin("Globex")
        await it.logins.refused(cancelled.state, "access_denied")
        it.begin("Globex", name="waits")
        views = [it.logins.view(id) or {} for id in it.logins.ids()]
        assert [(v["status"], v["account_id"], v["error_type"]) for v in views] == [
            ("done", account.id, None),
            ("failed", account.id, "duplicate_org"),
            ("failed", None, "access_denied"),
            ("waiting", None, None),
        ]
        assert not leaked(repr(views), [done.state, again.state, cancelled.state])
        it.world.clock.advance(LIFE_S)
        it.logins.forget_old()
        assert it.logins.ids() == [] and it.logins.view(done.id) is None


async def test_a_name_given_at_the_beginning_is_the_accounts() -> None:
    async with scene() as it:
        flow, code = it.begin("Acme", name=" mine ")
        assert (await it.logins.finish(f"{code}#{flow.state}")).name == "mine"
        with pytest.raises(Conflict, match=r"An account called 'Mine' exists") as taken:
            it.begin("Globex", name="Mine")
        assert taken.value.type == "name_taken"


@pytest.mark.parametrize(
    ("faults", "text", "wait"),
    [
        ([Error(429, headers=(("retry-after", "30"),))], "Claude asks to wait 30 s.", 30),
        ([Error(429)], "the token server answered 429 rate_limit_error.", None),
        ([Error(502)], "the token server answered 502 api_error.", None),
        ([Error(500, html=True)], "the token server answered 500.", None),
        ([Answer(200, (), b"<html>")], "is no JSON object.", None),
        ([as_json({"error": "invalid_client"}, 401)], "answered 401 invalid_client.", None),
        ([Reset()], "The server could not reach Claude: the token server cannot be reached", None),
    ],
)  # fmt: skip
async def test_trouble_at_the_token_server_is_told_and_the_same_code_works_later(
    faults: list[Fault], text: str, wait: float | None
) -> None:
    async with scene() as it:
        flow, code = it.begin()
        it.world.answer(*faults)
        error = await it.refused(f"{code}#{flow.state}")
        assert (error.status, error.type) == (502, "upstream_unreachable")
        assert text in error.message and error.retry_after_s == wait
        assert error.message.endswith("Your code may still be valid: try again.")
        assert await it.logins.finish(f"{code}#{flow.state}")


async def test_a_code_whose_answer_was_lost_is_refused_the_next_time() -> None:
    async with scene() as it:
        flow, code = it.begin()
        it.world.answer(Lost(reset=True))
        assert (await it.refused(f"{code}#{flow.state}")).type == "upstream_unreachable"
        assert (await it.refused(f"{code}#{flow.state}")).type == "invalid_grant"


async def test_no_error_repeats_a_secret() -> None:
    async with scene() as it:
        flow, code = it.begin()
        secrets = [code, flow.pkce.verifier]
        for fault in (
            Reset(),
            Error(500),
            as_json({"error": "invalid_grant", "error_description": code}, 400),
        ):
            it.world.answer(fault)
            error = await it.refused(f"{code}#{flow.state}")
            assert not leaked(f"{error!r} {error.message} {error.details}", secrets)


async def test_without_a_registration_it_says_what_to_set() -> None:
    async with scene() as it:
        logins = Scene(it.world, server=None).logins
        told = r"OAuth is not configured: set oauth\.client_id, oauth\.authorize_url and oauth\.token_url"
        with pytest.raises(Unprocessable, match=told):
            logins.begin(redirect_uri=REDIRECT)
        with pytest.raises(Unprocessable, match=told):
            await logins.finish(CODE)


# ---- names


async def test_a_name_is_what_was_asked_for_or_the_e_mail_numbered_where_it_is_taken() -> None:
    async with scene() as it:
        assert (await it.log_in("1", name=" team ")).name == "team"
        assert (await it.log_in("2", "ada@acme.example")).name == "ada@acme.example"
        assert (await it.log_in("3", "ADA@acme.example")).name == "ADA@acme.example 2"
        assert (await it.log_in("4", "ada@acme.example", name="")).name == "ada@acme.example 3"


async def test_without_an_e_mail_the_organisation_is_the_name() -> None:
    async with scene() as it:
        it.world.simulator.always(None, Amend(remove=("account",)), path=TOKEN)
        assert (await it.log_in("Acme")).name == "Acme"
        it.world.simulator.always(None, Amend(remove=("account", "organization")), path=TOKEN)
        assert [(await it.log_in("Globex")).name for _ in range(2)] == ["account", "account 2"]


async def test_a_long_e_mail_is_cut_to_a_name() -> None:
    async with scene() as it:
        names = [(await it.log_in(str(n), "x" * 90 + "@acme.example")).name for n in range(3)]
        assert len(set(names)) == 3 and all(len(name) <= 64 for name in names)


async def test_a_name_that_is_taken_is_told_and_another_works_with_the_same_code() -> None:
    async with scene() as it:
        await it.log_in("Acme", name="x")
        flow, code = it.begin("Globex")
        error = await it.refused(f"{code}#{flow.state}", name="X ")
        assert (error.status, error.type) == (409, "name_taken")
        assert error.message == "An account called 'X' exists. Choose another name."
        assert (await it.logins.finish(f"{code}#{flow.state}", name="y")).name == "y"
        assert it.world.calls == 2


async def test_a_name_that_will_not_do_is_told_and_another_works_with_the_same_code() -> None:
    async with scene() as it:
        flow, code = it.begin()
        assert (await it.refused(f"{code}#{flow.state}", name="x" * 65)).status == 422
        assert (await it.logins.finish(code, name="y")).name == "y"


# ---- organisations


async def test_the_same_organisation_twice_names_its_account_and_offers_to_re_authorise() -> None:
    async with scene() as it:
        first = await it.log_in("Acme", name="team-a")
        flow, code = it.begin("Acme")
        error = await it.refused(f"{code}#{flow.state}")
        assert (error.status, error.type, error.details) == (409, "duplicate_org", {"account_id": first.id})
        assert error.message == (
            "This organisation is already added as 'team-a'. Re-authorise 'team-a' instead."
        )
        again = await it.logins.finish(f"{code}#{flow.state}", account_id=first.id)
        assert again.id == first.id and pair(again) != pair(first)
        assert pair(it.world.on_disk(first.id)) == pair(again)
        assert len(it.pool) == 1 and it.world.calls == 2


async def test_whoever_chose_the_wrong_organisation_may_choose_again_on_the_same_link() -> None:
    async with scene() as it:
        await it.log_in("Acme")
        flow, url = it.logins.begin(redirect_uri=REDIRECT)
        locations = [it.world.simulator.authorize(url, organization=name) for name in ("Acme", "Globex")]
        assert (await it.refused(f"{arguments(locations[0])['code']}#{flow.state}")).type == "duplicate_org"
        account = await it.logins.finish(f"{arguments(locations[1])['code']}#{flow.state}")
        assert (
            account.organization_uuid == it.world.simulator.add_oauth(organization="Globex").organization.uuid
        )


async def test_two_logins_of_one_organisation_at_once_are_one_account() -> None:
    async with scene() as it:
        begun = [it.begin("Acme") for _ in range(3)]
        outcomes = await asyncio.gather(
            *(it.logins.finish(f"{code}#{flow.state}") for flow, code in begun), return_exceptions=True
        )
        assert len(it.pool) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 2


async def test_logins_without_an_organisation_are_no_duplicates() -> None:
    async with scene() as it:
        it.world.simulator.always(None, Amend(remove=("organization",)), path=TOKEN)
        await it.log_in()
        await it.log_in()
        assert len(it.pool) == 2


@pytest.mark.parametrize("where", ["at the start", "at the end"])
async def test_another_organisation_than_the_one_asked_for_is_refused(where: str) -> None:
    async with scene() as it:
        wanted = it.world.simulator.add_oauth(organization="Globex").organization.uuid
        flow, code = it.begin("Acme", **({"org_id": wanted} if where == "at the start" else {}))
        options = {} if where == "at the start" else {"org_id": wanted}
        error = await it.refused(f"{code}#{flow.state}", **options)
        assert (error.status, error.type) == (409, "wrong_org")
        assert "'Acme'" in error.message and error.message.endswith("Nothing was changed.")
        assert len(it.pool) == 0


async def test_the_organisation_asked_for_is_let_in() -> None:
    async with scene() as it:
        wanted = it.world.simulator.add_oauth(organization="Acme").organization.uuid
        flow, code = it.begin("Acme", org_id=wanted)
        assert (await it.logins.finish(f"{code}#{flow.state}", org_id=wanted)).organization_uuid == wanted


async def test_what_cannot_be_saved_is_not_added_and_the_same_code_works_later() -> None:
    async with scene() as it:
        flow, code = it.begin()
        it.world.disk.full = True
        with pytest.raises(StorageError):
            await it.logins.finish(f"{code}#{flow.state}")
        assert len(it.pool) == 0
        it.world.disk.full = False
        account = await it.logins.finish(f"{code}#{flow.state}")
        assert pair(it.world.on_disk(account.id)) == pair(account) and it.world.calls == 1


# ---- re-authorised in place


@pytest.mark.parametrize("by", ["the link", "the paste"])
async def test_new_credentials_keep_everything_else(by: str) -> None:
    async with scene() as it:
        first = await it.log_in("Acme", name="team-a")
        with closing(it.pool.begin(first.id)):
            pass
        it.pool.failed(first.id)
        it.world.clock.advance(100)
        flow, code = it.begin("Acme", **({"account_id": first.id} if by == "the link" else {}))
        options = {} if by == "the link" else {"account_id": first.id}
        again = await it.logins.finish(f"{code}#{flow.state}", **options)
        kept = ("id", "name", "created_at", "organization_uuid", "status", "active_since")
        assert [getattr(again, name) for name in kept] == [getattr(first, name) for name in kept]
        view = it.pool.view(again)
        assert (view["requests"], view["errors"], view["last_used_at"]) == (
            1,
            1,
            it.pool.view(first)["last_used_at"],
        )
        assert pair(again) != pair(first) and pair(again) == pair(it.world.on_disk(again.id))
        assert len(it.pool) == 1


@pytest.mark.parametrize(("before", "after"), [("invalid", "active"), ("inactive", "inactive")])
async def test_new_credentials_heal_what_is_invalid_but_lead_nobody_out_of_inactive(
    before: str, after: str
) -> None:
    async with scene() as it:
        first = await it.log_in("Acme")
        if before == "invalid":
            it.pool.invalidate(first.id, "401")
        else:
            await it.pool.update(first.id, status=Status.INACTIVE)
        flow, code = it.begin("Acme", account_id=first.id)
        again = await it.logins.finish(f"{code}#{flow.state}")
        assert (again.status.value, it.world.on_disk(first.id)["status"]) == (after, after)


async def test_another_organisation_may_not_take_an_account_over() -> None:
    async with scene() as it:
        first = await it.log_in("Acme", name="team-a")
        flow, code = it.begin("Globex")
        error = await it.refused(f"{code}#{flow.state}", account_id=first.id)
        assert (error.status, error.type) == (409, "wrong_org")
        assert "'Globex'" in error.message and "'team-a'" in error.message
        assert it.pool[first.id] == first and pair(it.world.on_disk(first.id)) == pair(first)
        assert (await it.logins.finish(f"{code}#{flow.state}", name="team-b")).name == "team-b"
        assert it.world.calls == 2


async def test_an_account_of_unknown_organisation_takes_any() -> None:
    async with scene() as it:
        it.world.answer(Amend(remove=("organization",)))
        first = await it.log_in("Acme")
        flow, code = it.begin("Globex", account_id=first.id)
        assert (await it.logins.finish(f"{code}#{flow.state}")).id == first.id


async def test_an_api_key_account_has_nothing_to_authorise() -> None:
    async with scene() as it:
        key = await it.pool.add("key", ApiKey("sk-ant-api03-x"))
        with pytest.raises(Unprocessable, match="'key' is an API-key account"):
            it.logins.begin(redirect_uri=REDIRECT, account_id=key.id)
        flow, code = it.begin()
        assert (await it.refused(f"{code}#{flow.state}", account_id=key.id)).status == 422
        assert it.pool[key.id] == key


async def test_an_account_that_is_gone_cannot_be_re_authorised() -> None:
    async with scene() as it:
        with pytest.raises(NotFound):
            it.logins.begin(redirect_uri=REDIRECT, account_id="acc_unknown")
        first = await it.log_in("Acme")
        flow, code = it.begin("Acme", account_id=first.id)
        await it.pool.remove(first.id)
        assert (await it.refused(f"{code}#{flow.state}")).status == 404


async def test_a_re_authorisation_finished_again_gives_the_same_success() -> None:
    async with scene() as it:
        first = await it.log_in("Acme")
        flow, code = it.begin("Acme", account_id=first.id)
        once = await it.logins.finish(f"{code}#{flow.state}")
        assert await it.logins.finish(f"{code}#{flow.state}", account_id=first.id) == once
        other = await it.log_in("Globex")
        assert (await it.refused(f"{code}#{flow.state}", account_id=other.id)).type == "flow_expired"
        assert replace(once) == it.pool[first.id]
