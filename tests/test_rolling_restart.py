"""Three instances behind Debian's nginx, restarted one after the other under load: nobody gets an error, and no stream
is cut. nginx has the configuration that conf/ shows, and so have compose and systemd.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from proxy.clock import SystemClock
from proxy.simulator import Simulator
from tests.bench.versions import free_port
from tests.conf.fronts import nginx_command
from tests.process import ROOT, Running, running, write_config
from tests.redis_server import RedisServer
from tests.service import MESSAGE_HEADERS, message, until
from tests.wire import Cut, fetch

CLIENT_KEY = "cp-a-key-of-rolling-restarts-9Kd2"
ACCOUNT_KEY = "sk-ant-api03-canary-Wq8Zr2Lp6Tn4Vb1Xc9Yd7Mf5Kg3Hj0Sa"
STREAM = ("x-simulate", "steady; events=20; interval=0.1")
"""It goes on for 2 s."""


@contextlib.asynccontextmanager
async def nginx(home: Path, ports: list[int]) -> AsyncIterator[int]:
    """The port of nginx, with the example's configuration before these ports."""
    port, text = free_port(), (ROOT / "conf/nginx-many.conf").read_text()
    for number, behind in enumerate(ports, 1):
        text = text.replace(f"claude-proxy-{number}:4000", f"127.0.0.1:{behind}")
    command = nginx_command(home, text.replace("listen 80;", f"listen 127.0.0.1:{port};"))
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(10):
            while not await answers(port):
                assert process.returncode is None, (home / "error.log").read_text()
        yield port
    finally:
        process.terminate()
        await process.wait()


async def answers(port: int) -> bool:
    with contextlib.suppress(OSError, Cut):
        return (await fetch(port, "GET", "/health/ready")).status == 200
    return False


class Load:
    """Clients that never try again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopped = False
        self.failures: list[str] = []
        self.done: Counter[str] = Counter()
        self._tasks = [
            asyncio.create_task(self._repeat(stream)) for stream in (False, False, True, True, True)
        ]

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def _repeat(self, stream: bool) -> None:
        headers = [*MESSAGE_HEADERS, ("x-api-key", CLIENT_KEY), *([STREAM] if stream else [])]
        while not self._stopped:
            try:
                answer = await fetch(self._port, "POST", "/v1/messages", headers, message(stream=stream))
                if answer.status != 200 or (stream and b"message_stop" not in answer.body):
                    self.failures.append(f"{answer.status} {answer.body[-300:]!r}")
            except (Cut, OSError) as error:
                self.failures.append(repr(error))
            self.done["streams" if stream else "messages"] += 1


@contextlib.asynccontextmanager
async def instance(
    home: Path, port: int, server: RedisServer, simulator: Simulator
) -> AsyncIterator[Running]:
    config = write_config(home)
    variables = {"SERVER__PORT": str(port), "SERVER__TRUSTED_PROXIES": "127.0.0.1", "STORAGE__TIMEOUT": "5s"}
    variables |= {"CLAUDE__BASE_URL": simulator.base_url, "STORAGE__URL": server.url}
    async with running(home, "--config", str(config), **variables) as process:
        yield process


async def test_a_rolling_restart_cuts_no_stream_and_fails_no_request(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    simulator = Simulator(clock=SystemClock())
    await simulator.start(port=0)
    simulator.add_api_key(ACCOUNT_KEY, organization="team")
    ports = [free_port() for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(simulator.stop)
        lives = [contextlib.AsyncExitStack() for _ in ports]
        alive: list[Running] = []
        for number, port in enumerate(ports):
            (tmp_path / str(number)).mkdir()
            await stack.enter_async_context(lives[number])
            one = instance(tmp_path / str(number), port, redis_server, simulator)
            alive.append(await lives[number].enter_async_context(one))
        account = {"name": "team", "type": "api_key", "api_key": ACCOUNT_KEY}
        assert (await alive[0].admin("POST", "/api/accounts", account)).status == 201
        new = {"name": "n", "key": CLIENT_KEY}
        assert (await alive[0].admin("POST", "/api/tokens", new)).status == 201
        front = await stack.enter_async_context(nginx(tmp_path, ports))
        load = Load(front)
        for number, port in enumerate(ports):
            at_least = load.done["streams"] + 3
            await until(lambda at_least=at_least: load.done["streams"] >= at_least, 30)
            alive[number].signal(signal.SIGTERM)
            assert await alive[number].ended() == 0
            await lives[number].aclose()
            again = instance(tmp_path / str(number), port, redis_server, simulator)
            alive[number] = await lives[number].enter_async_context(again)
        await load.stop()
        assert load.failures == []
        assert load.done["messages"] > 50 and load.done["streams"] > 9


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "conf/compose-many.yaml").read_text()))


def test_the_compose_file_runs_the_instances_that_nginx_asks() -> None:
    services = compose()["services"]
    named = set(re.findall(r"server (\S+):4000", (ROOT / "conf/nginx-many.conf").read_text()))
    assert named == {name for name, service in services.items() if "build" in service}
    assert "./nginx-many.conf:/etc/nginx/conf.d/default.conf:ro" in services["nginx"]["volumes"]
    url = services["claude-proxy-1"]["environment"]["STORAGE__URL"]
    assert re.fullmatch(r"redis://(\w+):6379", url)[1] in services  # type: ignore[index]


def test_nginx_marks_no_instance_as_failed() -> None:
    """It would until a request there has ended, and a stream lasts: two restarts later it knows nobody whom to ask."""
    servers = re.findall(r"server claude-proxy-\d:4000(.*);", (ROOT / "conf/nginx-many.conf").read_text())
    assert {each.strip() for each in servers} == {"max_fails=0"}
