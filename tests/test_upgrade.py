"""A process is replaced by the next one under load, and nothing is lost. `UPGRADES=20` does it more often."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.simulator import Simulator, Slow, Steady
from proxy.storage.codec import Document, encode, to_text
from tests.bench.versions import free_port
from tests.process import RUN, Running, environ, running, write_config
from tests.redis_server import RedisServer
from tests.service import MESSAGE_HEADERS, SteppedClock, message, until
from tests.upgrades import Load, started
from tests.wire import Cut, connect, fetch

UPGRADES = int(os.environ.get("UPGRADES", "5"))
CLIENT_KEY = "cp-a-client-key-of-upgrade-tests-9Kd"
ACCOUNT_KEY = "sk-ant-api03-upgrade-Wq8Zr2Lp6Tn4Vb1Xc9Yd7Mf5Kg3Hj0Sa"
READY = "READY=1\nWATCHDOG_USEC=30000000"
BETWEEN = 100
"""Requests that each process answers at least."""

EXPIRES_IN = 62
"""A token of this life is due after 2 s, so that each process refreshes it."""


def settings(simulator: Simulator) -> dict[str, str]:
    return {
        "CLAUDE__BASE_URL": simulator.base_url,
        "OAUTH__CLIENT_ID": simulator.client_id,
        "OAUTH__AUTHORIZE_URL": simulator.authorize_url,
        "OAUTH__TOKEN_URL": simulator.token_url,
    }


async def set_up(process: Running, simulator: Simulator) -> None:
    """An account with a key, one with a login, and a client key with a budget."""
    new = {"name": "key", "type": "api_key", "api_key": ACCOUNT_KEY}
    assert (await process.admin("POST", "/api/accounts", new)).status == 201
    begun = (await process.admin("GET", "/oauth/authorize")).json()
    landed = simulator.authorize(begun["authorization_url"], organization="Acme")
    assert (await process.admin("POST", "/oauth/exchange", {"name": "login", "code": landed})).status == 201
    budget = {"name": "n", "key": CLIENT_KEY, "limits": {"tokens_per_day": 10**9}}
    assert (await process.admin("POST", "/api/tokens", budget)).status == 201


async def spent(process: Running) -> tuple[Counter[str], int, int]:
    """The tokens and requests of the usage, and the tokens that the budget counts."""
    [row] = (await process.admin("GET", "/api/admin/usage?by=token")).json()["rows"]
    [key] = (await process.admin("GET", "/api/tokens")).json()["tokens"]
    tokens = Counter({name: row[name] for name in ("input_tokens", "output_tokens")})
    return tokens, row["requests"], key["used"]["tokens_today"]


class Told:
    """What the processes tell systemd, as it hears it."""

    def __init__(self, told: socket.socket) -> None:
        self._told = told
        told.setblocking(False)

    async def until(self, pattern: str) -> re.Match[str]:
        """The next state that matches; those before it are passed over."""
        async with asyncio.timeout(30):
            while True:
                state = (await asyncio.get_running_loop().sock_recv(self._told, 99)).decode()
                if found := re.fullmatch(pattern, state):
                    return found


def lives(pid: int) -> bool:
    """Whether the process has not ended, or is only not waited for."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def killed(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("kept", ["files", "shared store"])
async def test_a_signal_has_it_replaced_by_a_process_that_it_starts_itself(
    tmp_path: Path, redis_server: RedisServer, kept: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        simulator = Simulator(clock=SystemClock(), expires_in=EXPIRES_IN)
        await simulator.start(port=0)
        stack.push_async_callback(simulator.stop)
        simulator.add_api_key(ACCOUNT_KEY, organization="team")
        notify = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notify.bind(str(tmp_path / "notify"))
        told, config = Told(notify), str(write_config(tmp_path))
        watched = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
        variables = settings(simulator) | watched
        if kept == "shared store":
            variables["STORAGE__URL"] = redis_server.url
        process = await stack.enter_async_context(running(tmp_path, "--config", config, **variables))
        await told.until(READY)
        await set_up(process, simulator)
        load = Load(process.port, CLIENT_KEY)
        load.start()
        await load.busy(BETWEEN)
        process.signal(signal.SIGUSR2)
        successor = int((await told.until(r"MAINPID=(\d+)\nWATCHDOG_USEC=120000000"))[1])
        stack.callback(killed, successor)
        assert parent(successor) not in (process.pid, 0)  # so systemd can take it up
        await told.until(READY)
        await until(lambda: not lives(process.pid), within_s=20)
        await load.busy(BETWEEN)
        await load.stop()
        assert load.failures == []
        await until(lambda: not list((tmp_path / "data/handed").glob("*")))
        tokens, requests, counted = await spent(process)
        if kept == "files":
            assert (tokens, requests) == (load.tokens, len(simulator.ledger.inference()))
            assert counted == sum(load.tokens.values())
        else:  # it shows what it has counted itself or read, and reads every 2 s (POLL_S) what others have spent
            async with asyncio.timeout(10):
                while counted != sum(load.tokens.values()):
                    _, _, counted = await spent(process)
        os.kill(successor, signal.SIGTERM)
        await told.until("STOPPING=1")
        assert await process.ended() == 0  # nobody else has its output any more


@contextlib.asynccontextmanager
async def stream(port: int) -> AsyncIterator[AsyncIterator[bytes]]:
    """The events of an answer that has begun."""
    async with connect(port) as wire:
        headers = [*MESSAGE_HEADERS, ("x-api-key", CLIENT_KEY)]
        events = (await wire.request("POST", "/v1/messages", headers, message(stream=True))).events()
        assert b"message_start" in await anext(events)
        yield events


@pytest.mark.parametrize("given", [False, True], ids=["its own socket", "a socket that somebody keeps"])
async def test_on_sigterm_a_successor_hands_over_only_what_somebody_keeps(
    tmp_path: Path, given: bool
) -> None:
    """Of its own socket nobody would take the connections, so it answers them with 503 itself."""
    clock, config = SteppedClock(), str(write_config(tmp_path))
    simulator = Simulator(clock=clock)
    async with contextlib.AsyncExitStack() as stack:
        await simulator.start(port=0)
        stack.push_async_callback(simulator.stop)
        stack.callback(clock.free)
        simulator.add_api_key(ACCOUNT_KEY, organization="team")
        if given:
            kept = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            begun = started(tmp_path, 0, kept, "--config", config, **settings(simulator))
        else:
            begun = running(tmp_path, "--config", config, **settings(simulator))
        process = await stack.enter_async_context(begun)
        await serving(process)
        new = {"name": "key", "type": "api_key", "api_key": ACCOUNT_KEY}
        assert (await process.admin("POST", "/api/accounts", new)).status == 201
        assert (await process.admin("POST", "/api/tokens", {"name": "n", "key": CLIENT_KEY})).status == 201
        process.signal(signal.SIGUSR2)
        await until(lambda: "follows" in process.stderr, within_s=30)
        successor = int(re.findall(r"process (\d+) follows", process.stderr)[0])
        stack.callback(killed, successor)
        await until(lambda: not lives(process.pid), within_s=20)
        simulator.script(None, Steady(events=5, interval_s=1))
        async with stream(process.port) as events:
            os.kill(successor, signal.SIGTERM)
            if not given:
                async with asyncio.timeout(10):
                    while (await process.send("GET", "/health/ready")).status != 503:
                        pass
            else:
                await until(lambda: process.stderr.count("handing over") == 2, within_s=10)
            clock.free()
            assert [event async for event in events][-1].startswith(b"event: message_stop")
        await until(lambda: not lives(successor), within_s=20)
        assert process.stderr.count("handing over") == 1 + given


async def test_results_that_come_while_it_is_replaced_are_counted_once(tmp_path: Path) -> None:
    clock, config = SteppedClock(), str(write_config(tmp_path))
    simulator = Simulator(clock=clock)
    headers = [*MESSAGE_HEADERS, ("x-api-key", CLIENT_KEY)]
    async with contextlib.AsyncExitStack() as stack:
        await simulator.start(port=0)
        stack.push_async_callback(simulator.stop)
        stack.callback(clock.free)
        simulator.add_api_key(ACCOUNT_KEY, organization="team")
        process = await stack.enter_async_context(
            running(tmp_path, "--config", config, **settings(simulator))
        )
        new = {"name": "key", "type": "api_key", "api_key": ACCOUNT_KEY}
        assert (await process.admin("POST", "/api/accounts", new)).status == 201
        assert (await process.admin("POST", "/api/tokens", {"name": "n", "key": CLIENT_KEY})).status == 201
        body = json.dumps({"requests": [{"custom_id": "r", "params": json.loads(message())}]}).encode()
        made = await fetch(process.port, "POST", "/v1/messages/batches", headers, body)
        path = f"/v1/messages/batches/{made.json()['id']}"
        await fetch(process.port, "GET", path, headers)
        simulator.script(None, Slow(5))
        late = asyncio.create_task(fetch(process.port, "GET", f"{path}/results", headers))
        await clock.asleep(5)
        process.signal(signal.SIGUSR2)
        await until(lambda: "follows" in process.stderr, within_s=30)
        successor = int(re.findall(r"process (\d+) follows", process.stderr)[0])
        stack.callback(killed, successor)
        await serving(process)
        clock.free()
        assert (await late).status == 200
        await until(lambda: not lives(process.pid), within_s=20)
        await until(lambda: not list((tmp_path / "data/handed").glob("*")), within_s=10)
        once = await spent(process)
        assert (await fetch(process.port, "GET", f"{path}/results", headers)).status == 200
        assert await spent(process) == once and once[1:] == (1, once[0].total())
        os.kill(successor, signal.SIGTERM)
        await until(lambda: not lives(successor), within_s=20)


@contextlib.contextmanager
def unread(kind: str) -> Iterator[int]:
    """A descriptor that takes nothing of what is printed."""
    if kind == "a full disk":
        fd = os.open("/dev/full", os.O_WRONLY)
    else:
        read, fd = os.pipe()
        os.close(read)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", ["a full disk", "a pipe without a reader"])
async def test_neither_a_start_nor_an_upgrade_needs_who_reads_what_it_prints(
    tmp_path: Path, kind: str
) -> None:
    """The successor died of what it wanted to say, after the process before it had given up."""
    log, variables = tmp_path / "stderr.log", {"SERVER__PORT": str(free_port())}
    config = str(write_config(tmp_path))
    async with contextlib.AsyncExitStack() as stack:
        stdout, stderr = stack.enter_context(unread(kind)), stack.enter_context(log.open("wb"))
        command = (*RUN, "--config", config)
        first = await asyncio.create_subprocess_exec(
            *command, env=environ(tmp_path, variables), stdout=stdout, stderr=stderr
        )
        stack.callback(killed, first.pid)
        process = Running(first, log)
        process.port = int(variables["SERVER__PORT"])
        await serving(process)
        first.send_signal(signal.SIGUSR2)
        await until(lambda: "follows" in process.stderr, within_s=30)
        successor = int(re.findall(r"process (\d+) follows", process.stderr)[0])
        stack.callback(killed, successor)
        assert await first.wait() == 0
        await serving(process)
        os.kill(successor, signal.SIGTERM)
        await until(lambda: not lives(successor), within_s=20)
        assert "Traceback" not in process.stderr


async def serving(process: Running) -> None:
    """Return once it answers, or who follows it on the same socket."""
    async with asyncio.timeout(30):
        while not await answers(process.port):
            pass


async def answers(port: int) -> bool:
    with contextlib.suppress(OSError, Cut):
        return (await fetch(port, "GET", "/health/ready")).status == 200
    return False


async def test_a_successor_that_cannot_start_changes_nothing(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with running(tmp_path, "--config", str(config)) as process:
        config.write_text("auth: [")
        process.signal(signal.SIGUSR2)
        await until(
            lambda: "that was to follow ended before it could: this one goes on" in process.stderr,
            within_s=30,
        )
        assert "line 1" in process.stderr
        assert (await process.send("GET", "/health/ready")).status == 200
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0


ENCRYPTION_KEYS = (
    "q83vEjRWeJASNFZ4kKvN7wEjRWeJq83vASNFZ4mrze8=",
    "AAAAEjRWeJASNFZ4kKvN7wEjRWeJq83vASNFZ4mrze8=",
)


@pytest.mark.parametrize("amiss", ["another encryption key", "a malformed record"])
async def test_a_successor_that_cannot_read_the_data_folder_changes_nothing(
    tmp_path: Path, amiss: str
) -> None:
    right, other = (f"  encryption_key: {key}\n" for key in ENCRYPTION_KEYS)
    config = write_config(tmp_path)
    text = config.read_text()
    if amiss == "another encryption key":
        config.write_text(text.replace("server:", f"{right}server:"))
    async with running(tmp_path, "--config", str(config)) as process:
        new = {"name": "key", "type": "api_key", "api_key": ACCOUNT_KEY, "verify": False}
        added = (await process.admin("POST", "/api/accounts", new)).json()["account"]["id"]
        if amiss == "another encryption key":
            config.write_text(text.replace("server:", f"{other}server:"))
        else:
            record = encode(Document(99, {added: to_text({"id": added})}))
            (tmp_path / f"data/accounts/{added}.json").write_bytes(record)
        process.signal(signal.SIGUSR2)
        await until(lambda: "this one goes on" in process.stderr, within_s=30)
        assert "waiting until" not in process.stderr
        assert (await process.send("GET", "/health/ready")).status == 200


async def test_workers_follow_no_process(tmp_path: Path, redis_server: RedisServer) -> None:
    config = write_config(tmp_path)
    async with running(tmp_path, "--config", str(config), STORAGE__URL=redis_server.url) as process:
        write_config(tmp_path, "  workers: 2\n")
        process.signal(signal.SIGUSR2)
        await until(lambda: "this one goes on" in process.stderr, within_s=30)
        assert "server.workers: an upgrade to workers is a restart" in process.stderr
        assert (await process.send("GET", "/health/ready")).status == 200
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0


async def test_an_end_right_after_the_wish_for_a_successor_ends_both(tmp_path: Path) -> None:
    async with running(tmp_path, "--config", str(write_config(tmp_path))) as process:
        process.signal(signal.SIGUSR2)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        await until(lambda: children.read_text())
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0  # nobody has its output any more


async def test_an_end_ends_a_successor_that_waits_for_the_shared_store_too(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    config = str(write_config(tmp_path))
    async with running(tmp_path, "--config", config, STORAGE__URL=redis_server.url) as process:
        redis_server.kill()
        process.signal(signal.SIGUSR2)
        await until(lambda: "cannot start yet" in process.stderr, within_s=30)
        process.signal(signal.SIGTERM)
        await until(lambda: "the process that was to follow ends with this one" in process.stderr)
        process.signal(signal.SIGTERM)  # what it has not saved yet waits for the store
        assert await process.ended() in (0, 1)


def logged(home: Path) -> str:
    return "".join(path.read_text() for path in home.glob("stderr-*.log"))


@pytest.mark.timeout(60 + 20 * UPGRADES)
async def test_upgrades_under_load_fail_no_request_and_lose_no_usage(tmp_path: Path) -> None:
    simulator = Simulator(clock=SystemClock(), expires_in=EXPIRES_IN)
    await simulator.start(port=0)
    simulator.add_api_key(ACCOUNT_KEY, organization="team")
    config, ended = str(write_config(tmp_path)), []
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(simulator.stop)
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))

        async def start(number: int) -> Running:
            process = started(tmp_path, number, listening, "--config", config, **settings(simulator))
            return await stack.enter_async_context(process)

        process = await start(0)
        await process.read_until("data folder")
        await set_up(process, simulator)
        load = Load(process.port, CLIENT_KEY)
        load.start()
        for number in range(1, UPGRADES + 1):
            await load.busy(BETWEEN)
            process.signal(signal.SIGTERM)
            ended.append(asyncio.create_task(process.ended()))
            process = await start(number)
            await process.read_until("data folder")
        await load.stop()
        assert await asyncio.gather(*ended) == [0] * UPGRADES
        await until(lambda: not list((tmp_path / "data/handed").iterdir()))
        told = await spent(process)
        accounts = (await process.admin("GET", "/api/accounts")).json()["accounts"]
    print(f"\n{UPGRADES} upgrades: {dict(load.done)}, again {load.again}, {dict(load.tokens)}")
    asked = len(simulator.ledger.inference())
    assert load.failures == []
    assert told == (load.tokens, asked, sum(load.tokens.values()))
    assert {each["status"] for each in accounts} == {"active"}
    assert [each.status for each in simulator.ledger.token_calls()] == [200] * len(
        simulator.ledger.token_calls()
    )
    assert "ERROR" not in logged(tmp_path) and "Traceback" not in logged(tmp_path)
