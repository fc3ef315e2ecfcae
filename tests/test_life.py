"""The life of the process: what it says, what it serves, how it ends; and the demo."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy import __version__
from proxy.clock import SystemClock
from proxy.simulator import Error, Simulator, Steady
from tests.canaries import leaked
from tests.process import ROOT, Running, forked, forking, refusal, refused, run, running, write_config
from tests.service import ADMIN_KEY, MESSAGE_HEADERS, SteppedClock, message, until
from tests.wire import Answer, Cut, connect, fetch

ACCOUNT_KEY = "sk-ant-api03-canary-Wq8Zr2Lp6Tn4Vb1Xc9Yd7Mf5Kg3Hj0Sa"
CLIENT_KEY = "cp-canary-Ue5Ri8To2Pa7Sd4Fg9Hj1Kl3Zx6Cv0BnQw3"


@contextlib.asynccontextmanager
async def upstream(clock: SteppedClock | None = None) -> AsyncIterator[Simulator]:
    """What the process takes for the Claude API; it knows ACCOUNT_KEY."""
    simulator = Simulator(clock=clock or SystemClock())
    await simulator.start(port=0)
    simulator.add_api_key(ACCOUNT_KEY, organization="team")
    try:
        yield simulator
    finally:
        if clock is not None:
            clock.free()
        await simulator.stop()


@contextlib.asynccontextmanager
async def serving(
    home: Path, simulator: Simulator, terminal: str | None = None, **variables: str
) -> AsyncIterator[Running]:
    """A process before the simulator, with an account and a client key, once it answers."""
    config = str(write_config(home))
    variables["CLAUDE__BASE_URL"] = simulator.base_url
    async with (
        forked(home, "--config", config, **variables)
        if terminal is None
        else running(home, "--config", config, terminal=terminal, **variables)
    ) as process:
        new = {"name": "team", "type": "api_key", "api_key": ACCOUNT_KEY}
        assert (await process.admin("POST", "/api/accounts", new)).status == 201
        assert (await process.admin("POST", "/api/tokens", {"name": "n", "key": CLIENT_KEY})).status == 201
        yield process


HEADERS = [*MESSAGE_HEADERS, ("x-api-key", CLIENT_KEY)]


@contextlib.asynccontextmanager
async def stream(process: Running) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
    """An answer whose first event has arrived, and the others."""
    async with connect(process.port) as wire:
        answer = await wire.request("POST", "/v1/messages", HEADERS, message(stream=True))
        events = answer.events()
        assert b"message_start" in await anext(events)
        yield answer, events


async def draining(port: int) -> None:
    """Return once it says that it is not ready for more."""
    async with asyncio.timeout(10):
        while (await fetch(port, "GET", "/health/ready")).status != 503:
            pass


async def test_it_says_what_it_serves_and_where(tmp_path: Path) -> None:
    config = str(write_config(tmp_path))
    async with running(tmp_path, "--config", config) as process:
        assert (await process.send("GET", "/health")).status == 200
        for part in (
            f"Claude Proxy {__version__} (Python 3.",
            f"http://127.0.0.1:{process.port}",
            f"dashboard     http://127.0.0.1:{process.port}/\n",
            "https://api.anthropic.com",
            "none yet: add one with POST /api/accounts",
            "none yet: make one with POST /api/tokens",
            str(tmp_path / "data"),
        ):
            assert part in process.printed
        assert not leaked(process.printed + process.stderr, [ADMIN_KEY])


async def test_its_memory_is_written_to_no_core_file(tmp_path: Path) -> None:
    async with forked(tmp_path, "--config", str(write_config(tmp_path))) as process:
        assert resource.prlimit(process.pid, resource.RLIMIT_CORE) == (0, 0)


def test_its_memory_is_read_by_no_other_process_of_its_user() -> None:
    # Nobody outside can see it; so a process that has done the same asks itself (3 is PR_GET_DUMPABLE).
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import ctypes; from handlers.front import prepare_process; prepare_process();"
            "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize(
    ("variables", "dashboard"),
    [
        ({"SERVER__HOST": "0.0.0.0"}, "http://127.0.0.1:{port}/"),  # noqa: S104
        ({"SERVER__PUBLIC_ORIGINS": "https://proxy.example.com"}, "https://proxy.example.com/"),
    ],
    ids=["everywhere", "behind a front"],
)
async def test_it_names_a_dashboard_that_can_be_opened(
    tmp_path: Path, variables: dict[str, str], dashboard: str
) -> None:
    async with forked(tmp_path, "--config", str(write_config(tmp_path)), **variables) as process:
        assert f"dashboard     {dashboard.format(port=process.port)}\n" in process.printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_0_and_without_complaint(tmp_path: Path, number: int) -> None:
    config = str(write_config(tmp_path))
    async with running(tmp_path, "--config", config, LOGGER__LEVEL="warning") as process:
        await process.send("GET", "/health")
        process.signal(number)
        assert await process.ended() == 0
        assert process.stderr == ""


async def test_a_signal_lets_a_running_stream_end_whole(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with upstream(clock) as simulator, serving(tmp_path, simulator) as process:
        simulator.script(None, Steady(events=5, interval_s=1))
        async with stream(process) as (_, events):
            process.signal(signal.SIGTERM)
            await draining(process.port)
            clock.free()
            rest = [event async for event in events]
        assert rest[-1].startswith(b"event: message_stop")
        assert await process.ended() == 0


async def test_after_the_drain_timeout_a_stream_is_told_and_cut(tmp_path: Path) -> None:
    async with (
        upstream(SteppedClock()) as simulator,
        serving(tmp_path, simulator, SERVER__DRAIN_TIMEOUT="50ms") as process,
    ):
        simulator.script(None, Steady(events=5, interval_s=1))
        async with stream(process) as (_, events):
            process.signal(signal.SIGTERM)
            rest = []
            with pytest.raises(Cut):
                async for event in events:
                    rest.append(event)
        assert b"event: error" in rest[-1] and b"shutting down" in rest[-1]
        assert await process.ended() == 0


async def test_a_second_signal_cuts_what_still_runs(tmp_path: Path) -> None:
    async with upstream(SteppedClock()) as simulator, serving(tmp_path, simulator) as process:
        simulator.script(None, Steady(events=5, interval_s=1))
        async with stream(process) as (_, events):
            process.signal(signal.SIGTERM)
            await draining(process.port)
            process.signal(signal.SIGTERM)
            with pytest.raises(Cut):
                [event async for event in events]
            assert await process.ended() == 0
        assert "Traceback" not in process.stderr


async def test_what_the_disk_does_not_take_until_a_second_signal_is_named_and_ends_it_with_1(
    tmp_path: Path,
) -> None:
    async with upstream() as simulator, serving(tmp_path, simulator) as process:
        [account] = (await process.admin("GET", "/api/accounts")).json()["accounts"]
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        (tmp_path / "data").write_text("")
        change = await process.admin("PUT", f"/api/accounts/{account['id']}", {"status": "inactive"})
        assert change.status >= 500
        process.signal(signal.SIGTERM)
        await until(lambda: "waiting for the disk" in process.stderr)
        process.signal(signal.SIGTERM)
        assert await process.ended() == 1
        assert f"lost: the last change of accounts/{account['id']}" in process.stderr
        assert "Traceback" not in process.stderr


async def test_a_data_folder_that_is_removed_is_there_again_when_it_ends(tmp_path: Path) -> None:
    async def spent(process: Running) -> int:
        assert (await process.send("POST", "/v1/messages", HEADERS, message())).status == 200
        [key] = (await process.admin("GET", "/api/tokens")).json()["tokens"]
        return int(key["used"]["tokens_today"])

    async with upstream() as simulator:
        async with serving(tmp_path, simulator) as process:
            first = await spent(process)
            shutil.rmtree(tmp_path / "data")
            process.signal(signal.SIGTERM)
            assert await process.ended() == 0
        config = str(tmp_path / "config.yaml")
        async with forked(tmp_path, "--config", config, CLAUDE__BASE_URL=simulator.base_url) as process:
            assert await spent(process) == 2 * first > 0
            assert "gone" not in process.stderr


@contextlib.contextmanager
def hangup(action: signal.Handlers) -> Iterator[None]:
    """What a new process does on SIGHUP: it takes that over, and the tests themselves may run under nohup."""
    before = signal.signal(signal.SIGHUP, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_terminal_that_goes_away_lets_a_running_stream_end_whole(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with contextlib.AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(upstream(clock))
        terminal, line = os.openpty()
        with hangup(signal.SIG_DFL):
            process = await stack.enter_async_context(serving(tmp_path, simulator, os.ttyname(line)))
        os.close(line)
        simulator.script(None, Steady(events=5, interval_s=1))
        async with stream(process) as (_, events):
            os.close(terminal)  # the kernel sends SIGHUP
            await draining(process.port)
            process.signal(signal.SIGHUP)  # shells send it more than once
            clock.free()
            rest = [event async for event in events]
        assert rest[-1].startswith(b"event: message_stop")
        assert await process.ended() == 0


@pytest.mark.parametrize("has_terminal", [False, True])
async def test_a_hangup_reads_the_configuration_again(tmp_path: Path, has_terminal: bool) -> None:
    terminal, line = os.openpty()
    config, other = write_config(tmp_path), "another-Admin-key-of-tests-3Kx"
    text = config.read_text()
    try:
        with hangup(signal.SIG_DFL):
            leads = os.ttyname(line) if has_terminal else None
            async with running(tmp_path, "--config", str(config), terminal=leads) as process:
                config.write_text(text.replace(ADMIN_KEY, other) + "  prot: 1\n")
                process.signal(signal.SIGHUP)
                await logged(process, "configuration not taken")
                assert f"{config}, line 7: server.prot is not a known key" in process.stderr
                assert (await process.admin("GET", "/api/accounts")).status == 200
                config.write_text(text.replace(ADMIN_KEY, other).replace("port: 0", "port: 1"))
                process.signal(signal.SIGHUP)
                await logged(process, "need a restart: server.port")
                assert "configuration read again, changed: auth.api_key" in process.stderr
                assert (await process.admin("GET", "/api/accounts")).status == 401
                headers = [("X-API-Key", other)]
                assert (await process.send("GET", "/api/accounts", headers)).status == 200
                process.signal(signal.SIGTERM)
                assert await process.ended() == 0
                assert leaked(process.stderr, [ADMIN_KEY, other]) == []
    finally:
        os.close(terminal)
        os.close(line)


async def logged(process: Running, text: str) -> None:
    """Return once its log holds the text."""
    await until(lambda: text in process.stderr, within_s=10)


async def test_under_nohup_it_outlives_its_terminal(tmp_path: Path) -> None:
    with hangup(signal.SIG_IGN):
        async with running(tmp_path, "--config", str(write_config(tmp_path))) as process:
            process.signal(signal.SIGHUP)
            for _ in range(3):
                assert (await process.send("GET", "/health/ready")).status == 200
            process.signal(signal.SIGTERM)
            assert await process.ended() == 0


async def test_a_second_process_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    config = str(write_config(tmp_path))
    async with forked(tmp_path, "--config", config) as process:
        line = await asyncio.to_thread(refusal, tmp_path, "--config", config)
        assert f"data folder {tmp_path / 'data'} is in use by process {process.pid}" in line
        assert (await process.send("GET", "/health")).status == 200


async def test_after_a_kill_the_folder_is_free_at_once(tmp_path: Path) -> None:
    config = str(write_config(tmp_path))
    async with forking(tmp_path, "--config", config, LOGGER__LEVEL="warning") as life:
        async with life() as process:
            process.signal(signal.SIGKILL)
            assert await process.ended() == -signal.SIGKILL
        async with life() as process:
            assert (await process.send("GET", "/health")).status == 200
            assert process.stderr == ""


def test_a_port_in_use_is_named_with_the_fix(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(run(tmp_path, "--config", str(write_config(tmp_path)), SERVER__PORT=str(port)))
    assert f"127.0.0.1:{port}" in line and "server.port" in line


def test_an_address_of_another_machine_is_named_with_the_fix(tmp_path: Path) -> None:
    line = refusal(tmp_path, "--config", str(write_config(tmp_path)), SERVER__HOST="192.0.2.1")
    assert "192.0.2.1:0" in line and "server.host" in line


async def test_its_log_is_json_from_the_first_line_to_the_last(tmp_path: Path) -> None:
    async with upstream() as simulator, serving(tmp_path, simulator, LOGGER__FORMAT="json") as process:
        await process.send("POST", "/v1/messages", HEADERS, message())
        process.signal(signal.SIGTERM)
        await process.ended()
        lines = [json.loads(line) for line in process.stderr.splitlines()]
    assert [line["path"] for line in lines if line["logger"] == "proxy.access"] == [
        "/api/accounts",
        "/api/tokens",
        "/v1/messages",
    ]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_nothing_that_it_prints_or_logs_is_secret(tmp_path: Path, level: str) -> None:
    secrets = [ADMIN_KEY, ACCOUNT_KEY, CLIENT_KEY]
    async with upstream() as simulator, serving(tmp_path, simulator, LOGGER__LEVEL=level) as process:
        for fault in (Error(400), Error(429), Error(529, message=f"echo {ACCOUNT_KEY}")):
            simulator.script(None, fault)
            await process.send(
                "POST", "/v1/messages", [*HEADERS, ("authorization", f"Bearer {ADMIN_KEY}")], message()
            )
        await process.send("GET", "/v1/models", [("x-api-key", f"{ADMIN_KEY}")])
        await process.admin("POST", "/api/accounts", {"name": "x", "type": "api_key", "api_key": ACCOUNT_KEY})
        await process.admin("POST", "/api/tokens", {"name": "x", "key": CLIENT_KEY})
        process.signal(signal.SIGTERM)
        await process.ended()
    assert process.stderr.count("POST /v1/messages") >= 3
    assert leaked(process.printed + process.stderr, secrets) == []


# ---- the demo


def shown(process: Running) -> tuple[str, str]:
    """The curl command and the admin key that the demo printed."""
    command = re.search(r"^  (curl .*?'\{.*?\}')$", process.printed, re.DOTALL | re.MULTILINE)
    key = re.search(r"admin key +(\S+)", process.printed)
    assert command is not None and key is not None
    return command[1], key[1]


async def run_as_printed(command: str, home: Path) -> bytes:
    """What the command writes in a shell; where there is no curl, the same request without it."""
    if shutil.which("curl"):
        shell = await asyncio.create_subprocess_exec(
            "sh", "-c", command, stdout=asyncio.subprocess.PIPE, env={"PATH": os.environ["PATH"]}, cwd=home
        )
        async with asyncio.timeout(30):
            written, _ = await shell.communicate()
        assert shell.returncode == 0
        return written
    words = shlex.split(command.replace("\\\n", " "))
    values = list(itertools.pairwise(words))
    parts = [value.partition(": ") for name, value in values if name == "-H"]
    headers = [(name, value) for name, _, value in parts]
    [body] = [value for name, value in values if name == "-d"]
    port, target = re.findall(r":(\d+)(/\S*)", command)[0]
    return (await fetch(int(port), "POST", target, headers, body.encode())).body


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_command_that_the_demo_prints_streams(tmp_path: Path, host: str) -> None:
    if host == "::1" and not shutil.which("curl"):
        pytest.skip("the command is sent without curl, over IPv4")
    async with running(tmp_path, "--demo", SERVER__PORT="0", SERVER__HOST=host) as process:
        await process.read_until("-d '")
        command, _ = shown(process)
        written = await run_as_printed(command, tmp_path)
        assert written.startswith(b"event: message_start")
        assert written.rstrip().endswith(b'{"type":"message_stop"}')
        assert written.count(b"event: content_block_delta") > 1


async def test_the_demo_keeps_nothing_and_logs_no_key(tmp_path: Path) -> None:
    async with running(tmp_path, "--demo", SERVER__PORT="0") as process:
        await process.read_until("-d '")
        command, admin_key = shown(process)
        listed = await process.send("GET", "/api/accounts", [("X-API-Key", admin_key)])
        assert len(listed.json()["accounts"]) == 10
        keys = demo_keys(tmp_path)
        assert len(keys) >= 10
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    [client_key] = re.findall(r"x-api-key: (\S+)'", command)
    assert leaked(process.printed, keys) == []
    assert leaked(process.stderr, [*keys, admin_key, client_key]) == []
    assert demo_folders(tmp_path) == []


def demo_folders(home: Path) -> list[Path]:
    return list(home.glob("claude-proxy-*"))


def demo_keys(home: Path) -> list[str]:
    """The credentials of the sample accounts, as they are stored."""
    [folder] = demo_folders(home)
    stored = "".join(path.read_text() for path in folder.rglob("acc_*.json"))
    return re.findall(r'"(?:api_key|access_token|refresh_token)": "([^"]+)"', stored)
