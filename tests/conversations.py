"""Conversations as clients hold them: with edits, forks, agents, tools, signed thinking and cache markers that move.

A plan is made of chance alone, so that several services are asked the same; what they answer goes into the next turns.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.service import MESSAGE_HEADERS, Service
from tests.wire import Wire, connect

Json = dict[str, Any]

ACTIVE = 30
"""So many conversations go on at a time, as a pool has them. Each comes back within the five minutes of the prompt
cache, mostly; what they share, such as a system prompt, is asked of each account within that time too."""

PAUSE_S = 6.0
WORDS = (
    "table",
    "river",
    "town",
    "bridge",
    "mill",
    "boat",
    "fish",
    "year",
    "name",
    "king",
    "toll",
    "of",
    "the",
)
SYSTEMS = [
    f"You are assistant {number} of a library. " + "Answer from its catalogue. " * 40 for number in range(3)
]
TOOL = {
    "name": "search_catalogue",
    "description": "Finds books.",
    "input_schema": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
}
MARK = {"cache_control": {"type": "ephemeral"}}


@dataclass(frozen=True)
class Manner:
    """How a client asks. `session` names a session by `header`, by `metadata` or, if it is None, not at all.

    `marks`: the cache markers are at the `last` message, at the last `two` of the user, or at the `top` of the request.
    """

    key: int
    system: str
    thinking: bool
    tools: bool
    marks: str
    named_by: str | None
    session: str


@dataclass(frozen=True)
class Step:
    """Say `text` after the first `kept` turns of the conversation `source`: it is `conversation` from then on."""

    conversation: int
    source: int
    kept: int
    manner: Manner
    text: str
    pause_s: float
    sorted_keys: bool


@dataclass
class Talk:
    """What one side has said so far, and where.

    `turns` are those of each conversation, and `accounts` those that answered it since it last began anew; a fork goes
    on with the account of what it is a fork of.
    """

    turns: dict[int, list[list[Json]]] = field(default_factory=dict)
    accounts: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[int] = field(default_factory=Counter)
    tries: int = 0
    tokens: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Of all input tokens, those that a prompt cache gave."""
        return self.tokens["cache_read_input_tokens"] / self.tokens.total()

    @property
    def moves(self) -> int:
        """Answers of another account than the conversation's last one."""
        return sum(a != b for accounts in self.accounts.values() for a, b in itertools.pairwise(accounts))


def plan(conversations: int, seed: int, *, keys: int = 4) -> list[Step]:
    """Conversations of one to a dozen turns, some at a time."""
    rng = random.Random(seed)
    steps: list[Step] = []
    manners: list[Manner] = []
    turns: list[int] = []  # by conversation
    active: list[int] = []
    left = conversations
    while left or active:
        if left and len(active) < ACTIVE:
            source, kept = _beginning(rng, manners, turns, active, keys)
            conversation = len(manners) - 1
            active.append(conversation)
            left -= 1
        else:
            conversation = source = rng.choice(active)
            kept = turns[source]
            if kept > 1 and rng.random() < 0.08:  # an earlier message is edited
                kept = rng.randrange(kept)
        turns[conversation] = kept + 1
        pause_s = rng.uniform(1, PAUSE_S)
        text = f"{len(steps)}: {' '.join(rng.choices(WORDS, k=rng.randint(5, 120)))}?"
        steps.append(
            Step(conversation, source, kept, manners[conversation], text, pause_s, rng.random() < 0.3)
        )
        if rng.random() < 0.15:
            active.remove(conversation)
    return steps


def _beginning(
    rng: random.Random, manners: list[Manner], turns: list[int], active: Sequence[int], keys: int
) -> tuple[int, int]:
    """The manner of one more conversation is noted; what it goes on from, and with how many turns of that."""
    new, chance = len(manners), rng.random()
    turns.append(0)
    session = f"{rng.getrandbits(128):032x}"
    if active and chance < 0.15:  # a fork: a session of its own with a past
        source = rng.choice(active)
        manners.append(replace(manners[source], session=session))
        return source, rng.randint(1, turns[source])
    if active and chance < 0.25:  # an agent: a conversation of its own in the session of another
        caller = manners[rng.choice(active)]
        manners.append(replace(caller, system=f"You are an agent. {caller.system}"))
        return new, 0
    manners.append(
        Manner(
            key=rng.randrange(keys),
            system=rng.choice(SYSTEMS),
            thinking=rng.random() < 0.6,
            tools=rng.random() < 0.4,
            marks=rng.choice(["last", "two", "two", "top"]),
            named_by=rng.choice([None, None, "header", "metadata"]),
            session=session,
        )
    )
    return new, 0


async def held(service: Service, steps: Sequence[Step], keys: Sequence[str]) -> Talk:
    """The conversations of a plan, with a service; `keys` are the client keys of its manners."""
    talk = Talk()
    async with connect(service.port) as wire:
        for step in steps:
            service.clock.advance(step.pause_s)
            before = talk.turns.get(step.source, [])[: step.kept]
            if step.source != step.conversation or not (before or step.manner.named_by):
                talk.accounts[step.conversation] = talk.accounts[step.source][-1:] if before else []
            said = [{"role": "user", "content": step.text}]
            while True:
                message = await _answer(wire, keys[step.manner.key], step, [*before, said], talk)
                said.append({"role": "assistant", "content": message["content"]})
                if message["stop_reason"] != "tool_use":
                    break
                called = message["content"][-1]["id"]
                result = {"type": "tool_result", "tool_use_id": called, "content": step.text[:100]}
                said.append({"role": "user", "content": [result]})
            talk.turns[step.conversation] = [*before, said]
            service.simulator.ledger.clear()  # of all bodies
    return talk


async def _answer(wire: Wire, key: str, step: Step, turns: list[list[Json]], talk: Talk) -> Json:
    """One message of the API. What is refused is said again without thinking, as Claude Code does."""
    while True:
        body = json.dumps(request(step.manner, turns), sort_keys=step.sorted_keys).encode()
        headers = [("x-api-key", key), *MESSAGE_HEADERS]
        if step.manner.named_by == "header":
            headers.append(("X-Claude-Code-Session-Id", step.manner.session))
        answer = await wire.request("POST", "/v1/messages", headers, body)
        await answer.read()
        talk.statuses[answer.status] += 1
        talk.tries += int(answer.header("x-proxy-attempts") or 0)
        if answer.status == 200:
            break
        assert answer.status == 400 and b"signature" in answer.body, answer.body
        for message in (message for said in turns for message in said if message["role"] == "assistant"):
            message["content"] = [block for block in message["content"] if block["type"] != "thinking"]
    talk.accounts[step.conversation].append(str(answer.header("x-proxy-account")))
    message: Json = answer.json()
    for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"):
        talk.tokens[name] += message["usage"][name]
    return message


def request(manner: Manner, turns: list[list[Json]]) -> Json:
    """The body of a request with all that was said."""
    messages = [message for said in turns for message in said]
    body: Json = {"model": "claude-opus-5-5", "max_tokens": 2000, "system": manner.system}
    if manner.marks == "top":
        body |= MARK
    else:
        body["system"] = [{"type": "text", "text": manner.system} | MARK]
        users = [index for index, message in enumerate(messages) if message["role"] == "user"]
        for index in users[-2 if manner.marks == "two" else -1 :]:
            messages[index] = messages[index] | {"content": list(_marked(messages[index]["content"]))}
    if manner.thinking:
        body["thinking"] = {"type": "adaptive"}
    if manner.tools:
        body["tools"] = [TOOL]
    if manner.named_by == "metadata":
        named = {"device_id": "d" * 64, "account_uuid": "", "session_id": manner.session}
        body["metadata"] = {"user_id": json.dumps(named)}
    return body | {"messages": messages}


def _marked(content: str | list[Json]) -> Iterator[Json]:
    """The content as blocks, the last one with a cache marker."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    yield from blocks[:-1]
    yield blocks[-1] | MARK
