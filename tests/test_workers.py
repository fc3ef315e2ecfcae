"""Several workers on one port, as an operator sees them: one address, one end, and one that dies comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.simulator import Simulator, Steady
from tests.process import RUN, Running, environ, refusal, run_fork, running, write_config
from tests.redis_server import RedisServer
from tests.service import ADMIN_KEY, MESSAGE_HEADERS, PAGE_HEADERS, message, until
from tests.wire import connect

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


async def test_all_workers_read_the_configuration_again(tmp_path: Path, redis_server: RedisServer) -> None:
    async with workers(tmp_path, redis_server) as (parent, _):
        write_config(tmp_path, "logger:\n  format: json\n")
        parent.signal(signal.SIGHUP)
        await logged(parent, "configuration read again, changed: logger.format", 2)
        await served(parent)
        assert len(children(parent.pid)) == 2


async def test_a_reload_that_one_worker_is_asked_for_reaches_all(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with workers(tmp_path, redis_server) as (parent, _):
        config, other = write_config(tmp_path), "another-Admin-key-of-tests-3Kx"
        config.write_text(config.read_text().replace(ADMIN_KEY, other))
        assert (await parent.admin("POST", "/api/admin/reload")).status == 200
        await logged(parent, "configuration read again, changed: auth.api_key", 2)
        answers = [await parent.admin("GET", "/api/accounts") for _ in range(10)]
        assert {each.status for each in answers} == {401}


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
        await logged(parent, "configuration not taken", 2)
        os.kill(children(parent.pid)[0], signal.SIGKILL)
        await logged(parent, '"message": "worker serves number=0"', 1)
        await served(parent)
        assert "Traceback" not in parent.stderr


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
    except FileNotFoundError:
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
