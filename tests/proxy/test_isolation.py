"""Nobody sees, uses or deletes what keys of another group have made, on whatever account; and all see all without.

Each thing is asked for by keys of three groups, in every path and every body that may name it. What is of another
group, or deleted, gets the answer that an id gets which never was, to the byte and the header.
`ISOLATION_EXAMPLES=500 pytest tests/proxy/test_isolation.py` looks longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.proxy.simulator.uploads import FORM, form, skill_form
from tests.service import serve
from tests.wire import Answer

EXAMPLES = int(os.environ.get("ISOLATION_EXAMPLES", "8"))
ACCOUNTS = ("a", "b", "c")
KEYS = {"red 1": "red", "red 2": "red", "blue": "blue", "green": None}
MODEL = "claude-sonnet-5-5"
HELLO: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 300,
    "messages": [{"role": "user", "content": "Hello"}],
}
CODE = [{"type": "code_execution_20250825", "name": "code_execution"}]
PREMADE = ["xlsx", "pptx", "pdf", "docx"]

Json = dict[str, Any]


def about(file_id: str) -> Json:
    """A message about a file."""
    content = [{"type": "document", "source": {"type": "file", "file_id": file_id}}]
    return HELLO | {"messages": [{"role": "user", "content": content}]}


def batch(params: Json) -> Json:
    return {"requests": [{"custom_id": "plain", "params": HELLO}, {"custom_id": "one", "params": params}]}


def with_skill(skill_id: str) -> Json:
    return {"skills": [{"type": "custom", "skill_id": skill_id, "version": "latest"}]}


@dataclass(frozen=True)
class Kind:
    """How one is made, asked for and used.

    `body` is that of its creation, None if it is made otherwise. `below` are paths below its own, and `uses` what names
    it in a body. `change` is a body that changes
    it. `after_id`: its lists are paged by the ids of items.
    """

    path: str
    body: Json | bytes | None = None
    below: tuple[str, ...] = ()
    uses: tuple[tuple[str, Callable[[str], Json]], ...] = ()
    listed: bool = True
    after_id: bool = False
    change: Json | None = None
    removable: bool = True


MESSAGES, BATCHES = "/v1/messages", "/v1/messages/batches"
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "file": Kind(
            "/v1/files",
            form(("file", "a.txt", b"hello")),
            ("/content",),
            (
                (MESSAGES, about),
                (f"{MESSAGES}/count_tokens", about),
                (BATCHES, lambda id: batch(about(id))),
            ),
        ),
        "msgbatch": Kind(BATCHES, batch(HELLO), ("/results",), after_id=True),
        "skill": Kind(
            "/v1/skills",
            skill_form(),
            ("/versions",),
            (
                (MESSAGES, lambda id: HELLO | {"tools": CODE, "container": with_skill(id)}),
                (BATCHES, lambda id: batch(HELLO | {"container": with_skill(id)})),
                ("/v1/agents", lambda id: {"name": "Ada", "model": MODEL} | with_skill(id)),
            ),
        ),
        "agent": Kind("/v1/agents", {"name": "Ada", "model": MODEL}, ("/versions",), removable=False),
        "env": Kind("/v1/environments", {"name": "here"}, change={"name": "there"}),
        "vlt": Kind("/v1/vaults", {"display_name": "keys"}, ("/credentials",), change={"display_name": "x"}),
        "memstore": Kind("/v1/memory_stores", {"name": "notes"}, ("/memories",)),
        "uprof": Kind("/v1/user_profiles", {"name": "Bo"}, removable=False),
        "sesn": Kind("/v1/sessions", None, ("/events", "/threads", "/resources")),
        "container": Kind(
            "/v1/containers",
            None,
            uses=(
                (MESSAGES, lambda id: HELLO | {"tools": CODE, "container": id}),
                (MESSAGES, lambda id: HELLO | {"tools": CODE, "container": {"id": id}, "stream": True}),
            ),
            listed=False,
            removable=False,
        ),
    }
)


def those_that(fit: Callable[[Kind], object]) -> st.SearchStrategy[str]:
    """The names of kinds."""
    return st.sampled_from([name for name, kind in KINDS.items() if fit(kind)])


@dataclass
class Thing:
    """What somebody has made."""

    kind: str
    id: str
    group: str
    account: str
    gone: bool = False


class KeysApart(RuleBasedStateMachine):
    """Keys of three groups and what they make on three accounts, one second after the other."""

    isolation = "per_key"
    keys = st.sampled_from(list(KEYS))
    picked = st.sampled_from([None, None, *ACCOUNTS])
    chances = st.randoms(use_true_random=False)

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.runner.get_loop()
        self.stack = contextlib.AsyncExitStack()
        self.made: list[Thing] = []
        self.numbers = itertools.count(1)
        self.runner.run(self.start())

    async def start(self) -> None:
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        serving = serve(folder, accounts=ACCOUNTS, balancer__isolation=self.isolation)
        self.service = await self.stack.enter_async_context(serving)
        self.secrets = {name: await self.service.add_key(name, group=group) for name, group in KEYS.items()}

    def teardown(self) -> None:
        with self.runner:
            self.runner.run(self.stack.aclose())

    def ask(
        self, key: str, method: str, path: str, body: Json | bytes | None = None, picked: str | None = None
    ) -> Answer:
        """One request with a client key, a second after the one before; `picked` names the account by hand."""
        self.service.clock.advance(1)
        headers = [("anthropic-version", "2023-06-01")]
        if body is not None:
            headers.append(("content-type", FORM if isinstance(body, bytes) else "application/json"))
        if picked is not None:
            headers.append(("x-proxy-account", picked))
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sending = self.service.send(method, path, headers, data, key=self.secrets[key])
        return self.runner.run(sending)

    def sees(self, key: str, thing: Thing) -> bool:
        """Whether the thing is there for this key."""
        return not thing.gone and (self.isolation == "none" or thing.group == group_of(key))

    def keep(self, kind: str, id: str, key: str, answer: Answer) -> Thing:
        thing = Thing(kind, id, group_of(key), str(answer.header("x-proxy-account")))
        self.made.append(thing)
        return thing

    def any(self, chance: random.Random, kind: str, key: str) -> Thing:
        """One of that kind; every other time one that the key sees, if there is any."""
        things = [thing for thing in self.made if thing.kind == kind]
        seen = [thing for thing in things if self.sees(key, thing)]
        return chance.choice(seen if seen and chance.random() < 0.5 else things)

    def never(self, kind: str) -> str:
        """An id of that kind that never was."""
        return f"{kind}_01{next(self.numbers):022}"

    def unknown(self, thing: Thing, ask: Callable[[str], Answer]) -> None:
        """Check that the thing's id is answered as one that never was."""
        strange = self.never(thing.kind)
        found, wanted = shown(ask(thing.id), thing.id), shown(ask(strange), strange)
        assert found == wanted
        assert found[0] in (400, 404), found

    # what is made

    @initialize(chance=chances)
    def begin(self, chance: random.Random) -> None:
        """Each key has some of each kind, here and there."""
        for key in KEYS:
            for kind in [kind for kind in KINDS if KINDS[kind].body for _ in range(chance.randint(1, 2))]:
                self.new(key, kind, chance.choice(ACCOUNTS))
            account = chance.choice(ACCOUNTS)
            here = [self.new(key, kind, account) for kind in ("agent", "env")]
            self.new_session(key, *(thing.id for thing in here))
            self.run_code(key, chance.random() < 0.5, account)

    @rule(key=keys, kind=those_that(lambda kind: kind.body), picked=picked)
    def make(self, key: str, kind: str, picked: str | None) -> None:
        self.new(key, kind, picked)

    def new(self, key: str, kind: str, picked: str | None) -> Thing:
        answer = self.ask(key, "POST", KINDS[kind].path, KINDS[kind].body, picked)
        assert answer.status == 200, answer.body
        return self.keep(kind, answer.json()["id"], key, answer)

    @rule(key=keys, stream=st.booleans(), picked=picked)
    def run_code(self, key: str, stream: bool, picked: str | None) -> None:
        """A container and a file are made on the way."""
        answer = self.ask(key, "POST", MESSAGES, HELLO | {"tools": CODE, "stream": stream}, picked)
        assert answer.status == 200, answer.body
        for kind, id in generated(answer):
            self.keep(kind, id, key, answer)

    def new_session(self, key: str, agent: str, env: str, **more: Any) -> Answer:
        """Ask for one, of which `more` are further members; it is kept if it was made."""
        body = {"agent": agent, "environment_id": env, **more}
        answer = self.ask(key, "POST", "/v1/sessions", body)
        if answer.status == 200:
            self.keep("sesn", answer.json()["id"], key, answer)
        return answer

    @rule(key=keys, chance=chances, with_vault=st.booleans(), with_store=st.booleans())
    def make_session(self, key: str, chance: random.Random, with_vault: bool, with_store: bool) -> None:
        """What it names is visible and lies together, or it is not made."""
        kinds = ["agent", "env", *["vlt"] * with_vault, *["memstore"] * with_store]
        named = {kind: self.any(chance, kind, key) for kind in kinds}

        def ask(by: Mapping[str, str]) -> Answer:
            ids = {kind: thing.id for kind, thing in named.items()} | by
            more: Json = {"vault_ids": [ids["vlt"]]} if with_vault else {}
            if with_store:
                more["resources"] = [{"type": "memory_store", "memory_store_id": ids["memstore"]}]
            return self.new_session(key, ids["agent"], ids["env"], **more)

        hidden = [thing for thing in named.values() if not self.sees(key, thing)]
        if hidden:
            self.unknown(hidden[0], lambda id: ask({hidden[0].kind: id}))
            return
        answer, accounts = ask({}), {thing.account for thing in named.values()}
        if len(accounts) > 1:
            assert answer.status == 400 and accounts_in(answer) <= accounts, answer.body
            assert len(accounts_in(answer)) > 1, answer.body
        else:
            assert answer.status == 200, answer.body
            assert {answer.header("x-proxy-account")} == accounts

    # what is asked for

    @rule(key=keys, kind=those_that(lambda kind: kind.listed), chance=chances, picked=picked)
    def look(self, key: str, kind: str, chance: random.Random, picked: str | None) -> None:
        thing, asked = self.any(chance, kind, key), KINDS[kind]
        for below in ("", *asked.below):
            if not self.sees(key, thing):
                path = f"{asked.path}/%s{below}"
                self.unknown(thing, lambda id, p=path: self.ask(key, "GET", p % id, None, picked))
                continue
            answer = self.ask(key, "GET", f"{asked.path}/{thing.id}{below}")
            assert answer.status == 200, answer.body
            assert answer.header("x-proxy-account") == thing.account

    @rule(key=keys, kind=those_that(lambda kind: kind.uses), chance=chances)
    def use(self, key: str, kind: str, chance: random.Random) -> None:
        thing = self.any(chance, kind, key)
        for path, body in KINDS[kind].uses:
            if not self.sees(key, thing):
                self.unknown(thing, lambda id, p=path, b=body: self.ask(key, "POST", p, b(id)))
                continue
            answer = self.ask(key, "POST", path, body(thing.id))
            assert answer.status == 200, answer.body
            assert answer.header("x-proxy-account") == thing.account
            if path in (BATCHES, "/v1/agents"):
                self.keep("msgbatch" if path == BATCHES else "agent", answer.json()["id"], key, answer)
            for made, id in generated(answer) if path == MESSAGES else ():
                if id != thing.id:
                    self.keep(made, id, key, answer)

    @rule(key=keys, kind=those_that(lambda kind: kind.change), chance=chances)
    def change(self, key: str, kind: str, chance: random.Random) -> None:
        thing, path, change = self.any(chance, kind, key), f"{KINDS[kind].path}/%s", KINDS[kind].change
        if not self.sees(key, thing):
            self.unknown(thing, lambda id: self.ask(key, "POST", path % id, change))
        else:
            answer = self.ask(key, "POST", path % thing.id, change)
            assert answer.status == 200, answer.body

    @rule(key=keys, kind=those_that(lambda kind: kind.removable), chance=chances)
    def delete(self, key: str, kind: str, chance: random.Random) -> None:
        thing, path = self.any(chance, kind, key), f"{KINDS[kind].path}/%s"
        if not self.sees(key, thing):
            self.unknown(thing, lambda id: self.ask(key, "DELETE", path % id))
            return
        self.ask(key, "GET", path % thing.id)  # a batch that is looked at has ended
        answer = self.ask(key, "DELETE", path % thing.id)
        assert answer.status == 200, answer.body
        thing.gone = True

    def list_of(self, key: str, kind: str, picked: str | None = None) -> list[str]:
        """What the list of a kind has for this key: the newest first. `picked` has its part."""
        seen = [thing for thing in reversed(self.made) if thing.kind == kind and self.sees(key, thing)]
        found = [thing.id for thing in seen if picked in (None, thing.account)]
        return found + (PREMADE if kind == "skill" else [])

    @rule(key=keys, kind=those_that(lambda kind: kind.listed), limit=st.integers(1, 5), picked=picked)
    def walk(self, key: str, kind: str, limit: int, picked: str | None) -> None:
        """A list has what the key sees, each once, on pages of `limit`."""
        found = list(self.pages(key, KINDS[kind], limit, picked))
        assert [id for page in found for id in page] == self.list_of(key, kind, picked)
        assert all(len(page) == limit for page in found[:-1])

    def pages(self, key: str, kind: Kind, limit: int, picked: str | None) -> Iterator[list[str]]:
        cursor = ""
        while True:
            answer = self.ask(key, "GET", f"{kind.path}?limit={limit}{cursor}", None, picked)
            assert answer.status == 200, answer.body
            page = answer.json()
            yield [item["id"] for item in page["data"]]
            following = page["last_id"] if kind.after_id else page["next_page"]
            if not (page["has_more"] if kind.after_id else following):
                return
            cursor = f"&{'after_id' if kind.after_id else 'page'}={quote(following)}"

    @rule(key=keys, chance=chances, limit=st.integers(1, 5))
    def page_beside(self, key: str, chance: random.Random, limit: int) -> None:
        """The page before and after a batch; its id is as unknown there as elsewhere."""
        thing, beside = self.any(chance, "msgbatch", key), f"{BATCHES}?limit={limit}&%s=%s"
        if thing.gone and self.isolation == "none":
            return  # the place in the list of one that is gone may be remembered
        if not self.sees(key, thing):
            for side in ("after_id", "before_id"):
                self.unknown(thing, lambda id, s=side: self.ask(key, "GET", beside % (s, id)))
            return
        wanted = self.list_of(key, "msgbatch")
        at = wanted.index(thing.id)
        before, after = wanted[max(0, at - limit) : at], wanted[at + 1 : at + 1 + limit]
        for side, expected, more in (
            ("before_id", before, at > limit),
            ("after_id", after, len(wanted) - at - 1 > limit),
        ):
            page = self.ask(key, "GET", beside % (side, thing.id)).json()
            assert ([item["id"] for item in page["data"]], page["has_more"]) == (expected, more)

    @rule(key=keys, limit=st.integers(1, 3))
    def page_back(self, key: str, limit: int) -> None:
        """Sessions are paged both ways by cursors."""
        path = f"/v1/sessions?limit={limit}"
        first = self.ask(key, "GET", path).json()
        if first["next_page"] is not None:
            second = self.ask(key, "GET", f"{path}&page={quote(first['next_page'])}").json()
            back = self.ask(key, "GET", f"{path}&page={quote(second['prev_page'])}").json()
            assert (back["data"], back["prev_page"]) == (first["data"], None)


class KeysTogether(KeysApart):
    """With `balancer.isolation: none` every key sees what any has made."""

    isolation = "none"


def group_of(key: str) -> str:
    """A key without a group is one by itself."""
    return KEYS[key] or key


def generated(answer: Answer) -> list[tuple[str, str]]:
    """The container and the file that a message tells of, as kind and id; streamed or not."""
    text = answer.body.decode()
    found = {id: id.partition("_")[0] for id in id_like(text)}
    return [(kind, id) for id, kind in found.items() if kind in ("container", "file")]


def id_like(text: str) -> Iterator[str]:
    """Every id in a text."""
    for part in text.split('"'):
        if "_01" in part and part.isascii() and len(part.partition("_01")[2]) == 22:
            yield part


def accounts_in(answer: Answer) -> set[str]:
    """The accounts that an error names in quotes."""
    message = answer.json()["error"]["message"]
    return {name for name in ACCOUNTS if f"'{name}'" in message}


def shown(answer: Answer, id: str) -> tuple[int, list[tuple[str, str]], str]:
    """An answer as its client sees it, but for the id, the request's id and the moment."""
    headers = [(name.lower(), value) for name, value in answer.headers]
    headers = [header for header in headers if header[0] not in ("date", "request-id")]
    body = answer.json()
    request_id = body.pop("request_id")
    assert request_id.startswith("req_"), request_id
    return answer.status, headers, json.dumps(body).replace(id, "ID")


of_machines = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestKeysApart = KeysApart.TestCase
TestKeysApart.settings = of_machines
TestKeysTogether = KeysTogether.TestCase
TestKeysTogether.settings = of_machines
