"""This checkout and another revision on the same requests: what goes upstream and what clients hear, compared.

    python -m tests.bench.same_wire REV     or: make same-wire REV=…

Both run beside each other, each before an upstream of its own that answers from a seed. What is compared is every
byte but the boundaries of chunks, which the kernel decides, and what `masks` takes out. A difference counts if it
comes again and again with fresh processes; one that does not is told, since it is one of time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from tests.bench.cases import CLIENT_KEY, STATES_LAST, Case, case
from tests.bench.masks import answer_lines, difference, masked, request_lines
from tests.bench.recorder import Recorder, recording, talk
from tests.bench.versions import ROOT, BenchError, Proxy, checkout, end_on_signals, proxy, short_name

BLOCK = 60
"""Cases of one pair of processes; a multiple of STATES_LAST."""
TRIES = 3
"""What comes so often is a difference; a block without any shows that it was one of time."""
PAST_S = 2 * 86_400.0
"""The upstream's clock is so far behind, so that its dates are not taken for ours."""
VARIABLES = {
    "RETRY__BASE_DELAY": "1ms",
    "RETRY__MAX_DELAY": "2ms",
    "RETRY__JITTER_MAX": "0",
    "SESSION__MAX_CONCURRENT": "10000",
    "SERVER__MAX_BODY_SIZE": "64KB",
    "OAUTH__CLIENT_ID": "bench",
}


@dataclass
class Side:
    """One version, running."""

    serving: Proxy
    recorder: Recorder
    log: Path
    accounts: list[str] = field(default_factory=list)

    async def add_accounts(self) -> None:
        """Two with an API key, one with OAuth tokens; and a client key that is not active."""
        await asyncio.to_thread(self.serving.add_accounts, 2)
        flow = await self._admin("GET", "/oauth/authorize")
        pasted = {"name": "a2", "code": f"authorised-code-0123456789#{flow['state']}", "state": flow["state"]}
        await self._admin("POST", "/oauth/exchange", pasted)
        key = {"name": "inactive", "key": "cp-inactive-key-0123456789", "status": "inactive"}
        await self._admin("POST", "/api/tokens", key)
        listed = (await self._admin("GET", "/api/accounts"))["accounts"]
        self.accounts = [str(each["id"]) for each in sorted(listed, key=lambda each: str(each["name"]))]

    async def activate(self) -> None:
        """Make every account active, whatever the last cases did to it."""
        self.recorder.begin(None)
        for number, account in enumerate(self.accounts):
            for status in ("inactive", "active"):
                await self._admin("PUT", f"/api/accounts/{account}", {"name": f"a{number}", "status": status})

    async def _admin(self, method: str, path: str, body: object = None) -> dict[str, list[dict[str, object]]]:
        answer: dict[str, list[dict[str, object]]] = await asyncio.to_thread(
            self.serving.admin, method, path, body
        )
        return answer

    def known(self) -> dict[str, str]:
        """What is this side's alone, and what to write for it."""
        names = {account: f"<account {number}>" for number, account in enumerate(self.accounts)}
        return names | {f":{self.recorder.port}": ":<upstream>", f":{self.serving.port}": ":<proxy>"}

    async def lines(self, asked: Case, seed: int, sent_at: str) -> list[str]:
        """What came of a case, as text."""
        self.recorder.begin(f"{seed}/{asked.index}")
        data = asked.data
        for number, account in enumerate(self.accounts):
            data = data.replace(f"<account:{number}>".encode(), account.encode())
        heard = await talk(self.serving.port, asked, data)
        await self.recorder.settled()
        lines = []
        for number, request in enumerate(self.recorder.requests):
            lines += [f"→ the upstream got, {number + 1}:", *request_lines(request, self.known())]
        for answer in heard.answers:
            lines += ["← the client heard:", *answer_lines(answer, self.known(), sent_at=sent_at)]
        return [*lines, f"then: {heard.afterwards}"]

    def logged(self) -> list[str]:
        """The lines of the access log, sorted: that of a client that left comes when it is noticed."""
        lines = self.log.read_text().splitlines()
        return sorted(masked(line, self.known()) for line in lines if " proxy.access " in line)


@contextlib.asynccontextmanager
async def side(folder: Path, now: float, log: Path) -> AsyncIterator[Side]:
    """The version in `folder`, fresh, with its accounts."""
    async with recording(now) as recorder, contextlib.AsyncExitStack() as stack:
        token_server = f"http://127.0.0.1:{recorder.port}"
        variables = VARIABLES | {
            "OAUTH__AUTHORIZE_URL": f"{token_server}/authorize",
            "OAUTH__TOKEN_URL": f"{token_server}/token",
        }
        starting = proxy(folder, recorder.port, variables, log=log, client_key=CLIENT_KEY)
        serving = await asyncio.to_thread(starting.__enter__)
        stack.callback(starting.__exit__, None, None, None)
        running = Side(serving, recorder, log)
        await running.add_accounts()
        yield running


@dataclass
class Comparison:
    """What is compared, and what has come of it."""

    other: Path
    names: tuple[str, str]
    seed: int
    logs: bool
    now: float = field(default_factory=lambda: float(int(time.time() - PAST_S)))
    families: Counter[str] = field(default_factory=Counter)
    upstream_requests: int = 0
    unsteady: list[str] = field(default_factory=list)

    async def run(self, first: int, count: int) -> str:
        """The first difference, empty if there is none."""
        for begin in range(first, first + count, BLOCK):
            block = range(begin, min(begin + BLOCK, first + count))
            tries: list[str] = []
            while found := await self._block(block):
                tries.append(found)
                if len(tries) == TRIES:
                    return found
            self.unsteady += tries
            self.families.update(case(self.seed, index).family for index in block)
            print(f"{block.stop - first} of {count}", file=sys.stderr)
        return ""

    async def _block(self, block: range) -> str:
        with tempfile.TemporaryDirectory(prefix="claude-proxy-bench-") as folder:
            async with (
                side(ROOT, self.now, Path(folder) / "this.log") as this,
                side(self.other, self.now, Path(folder) / "other.log") as other,
            ):
                for index in block:
                    if found := await self._case(this, other, index):
                        return found
                if self.logs and (found := difference(this.logged(), other.logged(), self.names)):
                    return f"the access logs of cases {block.start} to {block.stop - 1} differ:\n{found}"
        return ""

    async def _case(self, this: Side, other: Side, index: int) -> str:
        asked = case(self.seed, index)
        if index % STATES_LAST == 0:
            await asyncio.gather(this.activate(), other.activate())
        sent_at = formatdate(self.now, usegmt=True)
        both = await asyncio.gather(
            this.lines(asked, self.seed, sent_at), other.lines(asked, self.seed, sent_at)
        )
        self.upstream_requests += len(this.recorder.requests)
        if found := difference(*both, self.names):
            sent = "\n".join(request_lines(asked.data, {}))
            return f"case {index} ({asked.family}, seed {self.seed}) differs; the client sent:\n{sent}\n\n{found}"
        return ""


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.same_wire", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("revision", metavar="REV", help="what git checks out: a commit, branch or tag")
    parser.add_argument("--cases", type=int, default=480, help="how many (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of requests and answers (%(default)s)")
    parser.add_argument("--logs", action="store_true", help="compare the access logs too")
    return parser


def main() -> int:
    """Exit status: 0 if both are the same, 1 if not, 2 if it could not be found out."""
    options = _arguments().parse_args()
    end_on_signals()
    began = time.monotonic()
    try:
        with checkout(options.revision) as other:
            names = (f"this ({short_name(ROOT)})", f"{options.revision} ({short_name(other)})")
            compared = Comparison(other, names, options.seed, options.logs)
            first = options.first // STATES_LAST * STATES_LAST
            found = asyncio.run(compared.run(first, options.cases))
    except BenchError as error:
        print(f"same-wire: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    for each in compared.unsteady:
        print(f"differed once, and not when it was sent again:\n{each}\n")
    if found:
        print(found)
        return 1
    families = ", ".join(f"{name} {count}" for name, count in sorted(compared.families.items()))
    print(
        f"{names[0]} and {names[1]} are the same on the wire: {compared.families.total()} cases ({families}), "
        f"{compared.upstream_requests} requests upstream, {len(compared.unsteady)} unsteady, "
        f"{time.monotonic() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
