"""Malformed requests from a grammar. Those of one seed again: `python -m tests.attacks.fuzz SEED …`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.attacks.answers import Reader, Said
from tests.attacks.grammar import Conversation, Grammar, Known
from tests.attacks.row import Row
from tests.attacks.victim import ACCOUNT_KEYS, Asked, Victim, asked, victim
from tests.attacks.watch import Watch
from tests.attacks.words import SECRETS
from tests.canaries import leaked
from tests.edges.strict import End, Request, StrictReader

NAME = "malformed requests"
REQUESTS = {False: 600, True: 100_000}
BATCH = 100
"""Conversations between two looks."""

AT_ONCE = 12
QUIET_S = 0.05
"""How long an attacker who has heard enough still listens."""

ANSWER_WITHIN_S = 10.0

OPTIONS = ("", "  trusted_proxies: [127.0.0.0/8]\nlogger:\n  format: json\n")
"""Of the configurations under attack: each has its share of the seeds."""


async def run(long: bool, first_seed: int = 1) -> Row:
    """Those of the seeds from `first_seed` on."""
    row, seed = Row(NAME), first_seed
    notes = []
    for number, options in enumerate(OPTIONS, 1):
        seed, note = await _run(row, REQUESTS[long] * number // len(OPTIONS), seed, options, long=long)
        notes.append(note)
    row.note = f"seeds {first_seed} to {seed - 1}; {'; then '.join(notes)}"
    return row


async def _run(row: Row, most: int, seed: int, options: str, *, long: bool) -> tuple[int, str]:
    """Hold conversations until `most` requests were tried; the next seed, and what was measured."""
    with tempfile.TemporaryDirectory(prefix="attacks-") as home:
        async with victim(Path(home), options) as proxy:
            watch = Watch(proxy, timed=long)
            fuzz = Fuzz(proxy, watch, row)
            async with watch.on():
                while row.tried < most:
                    await fuzz.batch(range(seed, seed + BATCH))
                    seed += BATCH
                    if long and seed // BATCH % 10 == 0:
                        print(f"  {row.tried:,} requests, {len(row.faults)} faults", flush=True)
            row.faults += watch.faults
            return seed, f"{fuzz.summary}; {watch.note}"


class Fuzz:
    """Holds conversations, and says in `row` what was wrong with the answers."""

    def __init__(self, proxy: Victim, watch: Watch, row: Row) -> None:
        self._proxy = proxy
        self._watch = watch
        self._row = row
        self._statuses: Counter[int] = Counter()
        self._sent: Counter[Asked] = Counter()
        self._known = Known("", "")

    @property
    def summary(self) -> str:
        kinds = Counter({f"{kind}xx": 0 for kind in (2, 4, 5)})
        for status, count in self._statuses.items():
            kinds[f"{status // 100}xx"] += count
        return ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))

    async def batch(self, seeds: Sequence[int]) -> None:
        """Hold the conversations of these seeds, and look at what came of them."""
        self._known = await self._proxy.sign_in()
        self._proxy.mirror.asked.clear()
        self._sent.clear()
        left = iter(seeds)

        async def one_after_the_other() -> None:
            for seed in left:
                await self._hold(Grammar(seed, self._known).conversation())

        await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
        came = Counter(each for each in self._proxy.mirror.asked if not each.target.startswith(b"/v1/good/"))
        for each in (came - self._sent).elements():
            self._row.faults.append(
                f"the upstream was asked what nobody sent: {each.method!r} {each.target[:200]!r}"
            )
        self._watch.look(f"(seeds {seeds[0]} to {seeds[-1]})")

    async def _hold(self, conversation: Conversation) -> None:
        strict = StrictReader()
        requests = strict.feed(conversation.data)
        self._sent.update(asked(*request[:3]) for request in requests)
        reader = Reader(requests)
        try:
            await self._converse(conversation, strict.end, reader)
        except (OSError, TimeoutError) as error:
            if not isinstance(error, ConnectionError):
                self._fault(conversation, f"not answered to its end: {error!r}")
        for said in reader.answers:
            self._statuses[said.status] += 1
        for fault in judged(reader, requests, strict.end, conversation):
            self._fault(conversation, fault)
        self._row.tried += conversation.requests

    async def _converse(self, conversation: Conversation, end: End, reader: Reader) -> None:
        """Send it all and read what is said. Raises TimeoutError if the proxy neither answers nor closes."""
        answers, writer = await asyncio.open_connection(
            "127.0.0.1", self._proxy.port, local_addr=(conversation.address, 0), limit=1 << 20
        )
        try:
            with contextlib.suppress(ConnectionError):
                at = 0
                for cut in (*conversation.cuts, len(conversation.data)):
                    writer.write(conversation.data[at:cut])
                    at = cut
                    await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            until = loop.time() + ANSWER_WITHIN_S
            while True:
                try:
                    async with asyncio.timeout(QUIET_S):
                        data = await answers.read(1 << 16)
                except TimeoutError:
                    if reader.has_all(end):
                        return
                    if loop.time() > until:
                        raise
                    continue
                reader.feed(data)
                if not data or reader.closed:
                    return
        finally:
            writer.transport.abort()

    def _fault(self, conversation: Conversation, fault: str) -> None:
        self._row.faults.append(f"seed {conversation.seed}: {fault}")


def judged(reader: Reader, requests: list[Request], end: End, conversation: Conversation) -> list[str]:
    """What is wrong with the answers to these requests."""
    faults = list(reader.faults)
    for number, said in enumerate(reader.answers):
        if said.status >= 500:
            faults.append(f"answered {said.start!r} {said.body[:200]!r}")
        if number < len(requests):
            own = requests[number]
            if said.answers not in (None, own.target):
                faults.append(f"{own.target[:100]!r} got the answer to {said.answers!r}")
        elif end in (End.MALFORMED, End.WITHIN):
            if not 400 <= said.status < 500 or number > len(requests):
                faults.append(f"what is {end.value} was answered {said.start!r}")
        else:
            faults.append(f"an answer to no request: {said.start!r}")
        faults += unseemly(said)
    if len(reader.answers) < len(requests) and not reader.closed and conversation.ends:
        faults.append(f"{len(requests) - len(reader.answers)} requests were not answered")
    return faults


def unseemly(said: Said) -> list[str]:
    """What no answer may hold or lack."""
    faults = []
    if said.answers is None and said.status >= 400 and said.is_json and said.body:
        try:
            error = json.loads(said.body)["error"]
            if not error["type"] or not error["message"]:
                raise ValueError
        except (ValueError, TypeError, KeyError):
            faults.append(f"an error without its shape: {said.body[:200]!r}")
    if b"<script>alert" in said.body and not said.is_json:
        faults.append(f"a script comes back: {said.body[:200]!r}")
    if found := leaked(
        b"".join((said.head if said.answers is None else b"", said.body)), (*SECRETS[:3], *ACCOUNT_KEYS)
    ):
        faults.append(f"the answer holds a secret that begins with {found[0][:14]!r}: {said.start!r}")
    return faults


async def again(seeds: Iterable[int]) -> None:
    """Hold these conversations and print what was said."""
    with tempfile.TemporaryDirectory(prefix="attacks-") as home:
        async with victim(Path(home)) as proxy:
            row = Row(NAME)
            watch = Watch(proxy, timed=True)
            for seed in seeds:
                print(
                    f"--- seed {seed}",
                    Grammar(seed, await proxy.sign_in()).conversation().data[:6000],
                    sep="\n",
                )
                await Fuzz(proxy, watch, row).batch([seed])
            print("--- the log", (Path(home) / "stderr.log").read_text()[-4000:], "--- faults", sep="\n")
            print(*row.faults, *watch.faults, sep="\n")


if __name__ == "__main__":
    asyncio.run(again(map(int, sys.argv[1:])))
