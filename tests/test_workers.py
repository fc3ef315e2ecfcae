"""Several workers on one port, as an operator sees them: one address, one end, and one that dies comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.simulator import Simulator, Steady
from tests.process import RUN, Running, environ, program, refusal, run_fork, running, write_config
from tests.redis_server import RedisServer
from tests.service import ADMIN_KEY, MESSAGE_HEADERS, PAGE_HEADERS, message, until
from tests.test_life import hangup
from tests.wire import Cut, connect

CLIENT_KEY = "cp-canary-Ue5Ri8To2Pa7Sd4Fg9Hj1Kl3Zx6Cv0BnQw3"
ACCOUNT_KEY = "sk-ant-api03-canary-Wq8Zr2Lp6Tn4Vb1Xc9Yd7Mf5Kg3Hj0Sa"
HEADERS = [*MESSAGE_HEADERS, ("x-api-key", CLIENT_KEY)]


@contextlib.asynccontextmanager
async def workers(
    home: Path, server: RedisServer, count: int = 2, **variables: str
) -> AsyncIterator[tuple[Running, Simulator]]:
    """So many workers that all serve, before a simulator, with an account and a client key."""
    simulator = Simulator(clock=SystemClock())
    await simulator.start(port=0)
    simulator.add_api_key(ACCOUNT_KEY, organization="team")
    try:
        async with running(
            home,
            "--config",
            str(write_config(home)),
            CLAUDE__BASE_URL=simulator.base_url,
            SERVER__WORKERS=str(count),
            STORAGE__URL=server.url,
            STORAGE__TIMEOUT="5s",
            **variables,
        ) as parent:
            await logged(parent, "worker serves", count)
            account = {"name": "team", "type": "api_key", "api_key": ACCOUNT_KEY}
            assert (await parent.admin("POST", "/api/accounts", account)).status == 201
            new = {"name": "n", "key": CLIENT_KEY}
            assert (await parent.admin("POST", "/api/tokens", new)).status == 201
            yield parent, simulator
    finally:
        await simulator.stop()


PLAYED = """
import os, signal, sys
from handlers.supervisor import Supervisor
from handlers.workers import SERVES, Workers
from proxy.clock import SystemClock

def work(number, others_serve):
    print("worker", number, flush=True)
    {work}
    return 0

{before}
sys.exit(Workers(2, work, lambda: None, Supervisor(os.environ), SystemClock()).run())
"""


def played(home: Path, work: str, before: str = "") -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """What two workers print that do nothing but `work`, and what systemd is told of them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(home / "notify"))
        text = PLAYED.format(work=work, before=before)
        done = program(home, text, NOTIFY_SOCKET=str(home / "notify"))
        told.setblocking(False)
        states = []
        with contextlib.suppress(BlockingIOError):
            while True:
                states.append(told.recv(99).decode())
    return done, states


def test_a_reload_that_is_asked_of_a_worker_that_dies_is_asked_of_another_one(tmp_path: Path) -> None:
    work = """
    os.kill(os.getppid(), SERVES)
    if number:
        os.kill(os.getppid(), signal.SIGHUP)
    asked = signal.sigtimedwait({signal.SIGHUP, signal.SIGTERM}, 5)
    if number:
        print("asked" if asked else "not asked", flush=True)
        os.kill(os.getppid(), signal.SIGTERM)
        signal.sigwait({signal.SIGTERM})"""
    done, _ = played(tmp_path, work)
    assert (done.returncode, done.stdout) == (0, "worker 0\nworker 1\nasked\n"), done.stderr
    assert done.stderr == "worker died number=0 status=0 again_in_s=0.5\n"


def test_a_reload_that_is_done_is_asked_of_no_other_worker(tmp_path: Path) -> None:
    work = """
    parent, heard = os.getppid(), {signal.SIGHUP, signal.SIGTERM}
    os.kill(parent, SERVES if not others_serve or number else signal.SIGTERM)
    if number:
        os.kill(parent, signal.SIGHUP)
        signal.sigwait({RELOADS})
        [first] = {*map(int, open(f"/proc/{parent}/task/{parent}/children").read().split())} - {os.getpid()}
        os.kill(first, signal.SIGKILL)
        print(signal.sigwait(heard).name, flush=True)
    elif signal.sigwait(heard) == signal.SIGHUP:
        os.kill(parent, RELOADS)
        signal.sigwait({signal.SIGTERM})"""
    before = "from handlers.workers import RELOADS"
    done, _ = played(tmp_path, work, before)
    assert (done.returncode, done.stdout) == (0, "worker 0\nworker 1\nworker 0\nSIGTERM\n"), done.stderr


ADOPTED = """
import ctypes, os, signal
from handlers.server import Listening
from handlers.supervisor import Supervisor
from handlers.workers import RELOADS, SERVES, announce, reload_all, run_workers
from proxy.clock import SystemClock

def work(place):
    os.kill(os.getppid(), signal.SIGKILL)
    signal.sigwait({signal.SIGTERM})
    announce("", place)
    reload_all(place)
    return 7

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, as systemd is one
signal.pthread_sigmask(signal.SIG_BLOCK, {RELOADS, SERVES})
if not os.fork():
    run_workers(2, Listening("127.0.0.1", 0), work, lambda: None, Supervisor(os.environ), SystemClock())
ends = sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2))
print(ends, signal.sigpending() & {RELOADS, SERVES})
"""


def test_a_worker_whose_parent_was_killed_tells_whoever_adopts_it_nothing(tmp_path: Path) -> None:
    done = program(tmp_path, ADOPTED)
    assert (done.stdout, done.stderr) == ("\n[-9, 7] set()\n", "")


async def logged(process: Running, text: str, times: int) -> None:
    """Return once it has logged this so often."""
    await until(lambda: process.stderr.count(text) >= times, 30)


def children(pid: int) -> list[int]:
    """The processes that it has started and that live."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def served(process: Running, count: int = 20) -> None:
    """Messages on connections of their own: the kernel gives them to any worker."""
    for _ in range(count):
        answer = await process.send("POST", "/v1/messages", HEADERS, message())
        assert answer.status == 200, answer.body


async def test_all_workers_serve_one_pool_and_end_with_their_parent(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with workers(tmp_path, redis_server, 3) as (parent, simulator):
        started = children(parent.pid)
        assert len(started) == 3
        await served(parent)
        assert len(simulator.ledger.inference()) == 20
        body = b'{"api_key": "%s"}' % ADMIN_KEY.encode()
        signed_in = await parent.send("POST", "/api/auth/login", PAGE_HEADERS, body)
        cookie = str(signed_in.header("set-cookie")).partition(";")[0]
        for _ in range(20):
            answer = await parent.send("GET", "/api/accounts", [("Cookie", cookie)])
            assert answer.status == 200, answer.body
        parent.signal(signal.SIGTERM)
        assert await parent.ended() == 0
        assert not any(alive(pid) for pid in started)
        assert parent.printed.count("listening on") == 1


async def test_a_worker_that_dies_is_started_again_and_the_others_serve(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with workers(tmp_path, redis_server) as (parent, _):
        (first, other) = children(parent.pid)
        os.kill(first, signal.SIGKILL)
        await logged(parent, "worker died number=0 status=-9 again_in_s=0.5", 1)
        await served(parent)
        await logged(parent, "worker serves", 3)
        assert len(children(parent.pid)) == 2 and other in children(parent.pid)
        await served(parent)


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
async def test_streams_end_by_themselves_before_the_workers_do(
    tmp_path: Path, redis_server: RedisServer, number: int, to_all: bool
) -> None:
    """Also if a signal is sent to all processes, as by Ctrl-C in a terminal: that is no second one."""
    async with workers(tmp_path, redis_server) as (parent, simulator):
        simulator.always(None, Steady(events=30, interval_s=0.02))
        async with connect(parent.port) as wire:
            answer = await wire.request("POST", "/v1/messages", HEADERS, message(stream=True))
            for pid in (*children(parent.pid), parent.pid) if to_all else (parent.pid,):
                os.kill(pid, number)
            assert b"message_stop" in await answer.read()
        assert await parent.ended() == 0


def test_a_signal_before_the_first_worker_serves_lets_no_other_start(tmp_path: Path) -> None:
    work = "os.kill(os.getppid(), signal.SIGTERM); signal.sigwait(HEARD); os.kill(os.getppid(), SERVES)"
    done, told = played(tmp_path, work.replace("HEARD", "{signal.SIGTERM}"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "worker 0\n", "")
    assert told == ["STOPPING=1"]


def test_a_worker_that_the_system_does_not_start_is_tried_again(tmp_path: Path) -> None:
    work = "os.kill(os.getppid(), signal.SIGTERM if number else SERVES); signal.sigwait({signal.SIGTERM})"
    fork = """
forks, fork = [], os.fork
def limited():
    forks.append(1)
    if len(forks) == 2:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = limited
"""
    done, told = played(tmp_path, work, fork)
    assert (done.returncode, done.stdout) == (0, "worker 0\nworker 1\n"), done.stderr
    assert done.stderr.startswith("cannot start a worker number=1 reason=Resource temporarily unavailable\n")
    assert told == ["READY=1", "STOPPING=1"]


def test_the_first_worker_that_the_system_does_not_start_ends_the_start(tmp_path: Path) -> None:
    fork = "def limited():\n    raise BlockingIOError(11, 'no more')\nos.fork = limited"
    done, told = played(tmp_path, "", fork)
    assert (done.returncode, done.stdout, told) == (1, "", [])
    assert done.stderr == "cannot start a worker number=0 reason=no more\n"


async def test_all_workers_read_the_configuration_again(tmp_path: Path, redis_server: RedisServer) -> None:
    async with workers(tmp_path, redis_server) as (parent, _):
        write_config(tmp_path, "logger:\n  format: json\n")
        parent.signal(signal.SIGHUP)
        await logged(parent, "configuration read again, changed: logger.format", 2)
        await served(parent)
        assert len(children(parent.pid)) == 2
        assert [each["actor"]["kind"] for each in await reloads(parent)] == ["system"]


async def reloads(parent: Running, key: str = ADMIN_KEY) -> list[dict[str, Any]]:
    """The events that tell of one: another worker than the one that is asked may have told it just now."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(30):
        while not found:
            answer = await parent.send("GET", "/api/admin/events?kind=server.reloaded", [("X-API-Key", key)])
            found = answer.json()["events"]
    return found


@pytest.mark.parametrize("action", [signal.SIG_DFL, signal.SIG_IGN], ids=["", "under nohup"])
async def test_a_reload_that_one_worker_is_asked_for_reaches_all_and_is_told_once(
    tmp_path: Path, redis_server: RedisServer, action: signal.Handlers
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        with hangup(action):
            parent, _ = await stack.enter_async_context(workers(tmp_path, redis_server, 3))
        config, other = write_config(tmp_path), "another-Admin-key-of-tests-3Kx"
        config.write_text(config.read_text().replace(ADMIN_KEY, other))
        assert (await parent.admin("POST", "/api/admin/reload")).status == 200
        await logged(parent, "configuration read again, changed: auth.api_key", 3)
        answers = [await parent.admin("GET", "/api/accounts") for _ in range(10)]
        assert {each.status for each in answers} == {401}
        assert [each["actor"]["kind"] for each in await reloads(parent, other)] == ["admin"]


IN_BACKGROUND = "import subprocess, sys; subprocess.run(sys.argv[1:], process_group=0)"
"""As a shell runs a command that ends in `&`: the kernel tells it nothing of the terminal's end."""


async def test_a_reload_ends_nothing_if_the_terminal_is_gone(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    terminal, line = os.openpty()
    async with contextlib.AsyncExitStack() as stack:
        with hangup(signal.SIG_DFL):
            shell = {"terminal": os.ttyname(line), "command": [sys.executable, "-c", IN_BACKGROUND, *RUN]}
            begun = workers(tmp_path, redis_server, **shell)
            running, _ = await stack.enter_async_context(begun)
        [parent] = children(running.pid)
        stack.callback(os.kill, parent, signal.SIGTERM)
        os.close(line)
        os.close(terminal)
        await until(lambda: not alive(running.pid))
        write_config(tmp_path, "logger:\n  format: json\n")
        assert (await running.admin("POST", "/api/admin/reload")).status == 200
        await logged(running, "configuration read again, changed: logger.format", 2)
        await served(running)
        assert len(children(parent)) == 2


async def test_a_worker_that_is_started_again_has_the_settings_of_the_others(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with workers(tmp_path, redis_server) as (parent, _):
        config = write_config(tmp_path, "logger:\n  format: json\n")
        right = config.read_text()
        parent.signal(signal.SIGHUP)
        await logged(parent, "configuration read again, changed: logger.format", 2)
        config.write_text(right.replace("storage:", "storage:\n  name: another"))
        parent.signal(signal.SIGHUP)
        await logged(parent, "need a restart: storage.name", 2)
        config.write_text(f"{right}  levle: info\n")
        parent.signal(signal.SIGHUP)
        await logged(parent, "configuration not taken", 1)
        os.kill(children(parent.pid)[0], signal.SIGKILL)
        await logged(parent, '"message": "worker serves number=0"', 1)
        await served(parent)
        assert "Traceback" not in parent.stderr


async def test_a_configuration_that_is_wrong_is_told_though_no_worker_is_there_to_read_it(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with workers(tmp_path, redis_server) as (parent, _):
        write_config(tmp_path, "logger:\n  levle: info\n")
        for pid in children(parent.pid):
            os.kill(pid, signal.SIGKILL)
        await logged(parent, "worker died", 2)
        parent.signal(signal.SIGHUP)
        await logged(parent, "configuration not taken, the one before stays: ", 1)
        await logged(parent, "worker serves", 4)


async def test_what_asks_for_a_successor_ends_no_worker(tmp_path: Path, redis_server: RedisServer) -> None:
    async with workers(tmp_path, redis_server) as (parent, _):
        started = children(parent.pid)
        for pid in (*started, parent.pid):
            os.kill(pid, signal.SIGUSR2)
        await logged(parent, "SIGUSR2 ignored: with server.workers, an upgrade is a restart", 1)
        await served(parent)
        assert children(parent.pid) == started


async def test_a_worker_that_is_started_again_without_the_store_leaves_requests_to_the_others(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with workers(tmp_path, redis_server) as (parent, _):
        await served(parent)
        redis_server.kill()
        os.kill(children(parent.pid)[0], signal.SIGKILL)
        await logged(parent, "cannot start yet", 1)
        await served(parent)
        redis_server.start()
        await logged(parent, "worker serves", 3)


async def test_workers_that_have_all_died_without_the_store_answer_nevertheless(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with workers(tmp_path, redis_server) as (parent, _):
        redis_server.kill()
        for pid in children(parent.pid):
            os.kill(pid, signal.SIGKILL)
        await logged(parent, "cannot start yet", 2)
        async with asyncio.timeout(10):
            while await health(parent) != 503:
                pass
        redis_server.start()
        await logged(parent, "worker serves", 4)
        assert await health(parent) == 200


async def health(process: Running) -> int | None:
    """The status of its answer; None if there is none."""
    with contextlib.suppress(OSError, Cut):
        return (await process.send("GET", "/health")).status
    return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("count", [1, 2])
async def test_a_wait_for_the_store_is_ended_in_order_and_by_nothing_else(
    tmp_path: Path, count: int, number: signal.Signals
) -> None:
    arguments = ["--config", str(write_config(tmp_path))]
    variables = {"SERVER__WORKERS": str(count), "STORAGE__URL": f"unix://{tmp_path}/nobody"}
    with (tmp_path / "stderr.log").open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(*RUN, *arguments), env=environ(tmp_path, {"PYTHONWARNINGS": "error"} | variables), stderr=file
        )
    waiting = Running(process, tmp_path / "stderr.log")
    try:
        await logged(waiting, "cannot start yet", 1)
        for pid in (process.pid, *children(process.pid)):
            os.kill(pid, signal.SIGHUP)
            os.kill(pid, signal.SIGUSR2)
        await logged(waiting, "SIGUSR2 ignored", 1)
        await logged(waiting, "cannot start yet", 2)
        waiting.signal(number)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        assert "Traceback" not in waiting.stderr
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_workers_do_not_outlive_a_parent_that_is_killed(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with workers(tmp_path, redis_server) as (parent, _):
        started = children(parent.pid)
        parent.signal(signal.SIGKILL)
        await until(lambda: not any(alive(pid) for pid in started), 30)


def alive(pid: int) -> bool:
    """Whether it runs: one that has ended may wait for somebody to take note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends while this is read
        return False


def test_with_json_files_it_names_the_fix(tmp_path: Path) -> None:
    config = str(write_config(tmp_path))
    line = refusal(tmp_path, "--config", config, SERVER__WORKERS="2")
    assert line.startswith("SERVER__WORKERS: server.workers: 2 processes cannot share a data folder")
    assert "set storage.url" in line
    checked = run_fork(tmp_path, "--config", config, "--check", SERVER__WORKERS="2")
    assert checked.returncode == 2 and "set storage.url" in checked.stderr


def test_what_keeps_them_from_starting_is_said_once(tmp_path: Path, redis_server: RedisServer) -> None:
    variables = {"STORAGE__URL": redis_server.url, "STORAGE__TIMEOUT": "5s", "STORAGE__DURABILITY": "aof"}
    config = str(write_config(tmp_path))
    assert "no append-only file" in refusal(tmp_path, "--config", config, SERVER__WORKERS="3", **variables)


async def test_a_port_that_is_in_use_is_not_shared_with_others(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with workers(tmp_path, redis_server) as (parent, _):
        second = tmp_path / "second"
        second.mkdir()
        variables = {"STORAGE__URL": redis_server.url, "SERVER__PORT": str(parent.port)}
        config = str(write_config(second))
        line = refusal(second, "--config", config, SERVER__WORKERS="2", **variables)
        assert "stop what listens there" in line
