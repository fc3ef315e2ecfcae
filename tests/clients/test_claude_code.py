"""Claude Code through the proxy, as `claude -p` runs it in scripts."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import Answer, Cut, quota_429
from proxy.simulator.sse import frames
from tests.clients.programs import folder_of, run
from tests.clients.sides import UPSTREAM_KEY, alone
from tests.service import CLIENT_KEY, Service, serve

VERSION = "2.1.332"
WORD = "a-word-only-the-tool-says"

Line = dict[str, Any]


@pytest.fixture
def claude() -> str:
    """The program. Skips the test where its package is not to be had."""
    return str(folder_of("claude-code", may_be_missing=True) / "node_modules" / ".bin" / "claude")


async def ask(
    claude: str, url: str, folder: Path, *options: str, key: str = CLIENT_KEY, prompt: str = "hi"
) -> list[Line]:
    """What Claude Code prints when it is told `prompt`: one JSON object a line."""
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir(parents=True, exist_ok=True)
    temporary.mkdir(exist_ok=True)
    environ = {
        "HOME": str(home),
        "CLAUDE_CODE_TMPDIR": str(temporary),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    printing = ("--output-format", "stream-json", "--verbose", "--include-partial-messages")
    # Without tools unless they are asked for: the simulator calls the first it is offered.
    command = (claude, "-p", prompt, *printing, *(options or ("--tools", "")))
    _, out, err = await run(*command, folder=folder, environ=environ)
    assert out, err
    return [json.loads(line) for line in out.splitlines()]


def url_of(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}"


def events(lines: list[Line]) -> list[Line]:
    """The API's events as Claude Code hands them on."""
    return [line["event"] for line in lines if line["type"] == "stream_event"]


def result(lines: list[Line]) -> Line:
    return next(line for line in lines if line["type"] == "result")


def calls_of(*calls: tuple[str, Line]) -> Answer:
    """A streamed message that calls tools, each with its input."""
    message = {
        "id": "msg_01CallsTools",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": [
            {"type": "tool_use", "id": f"toolu_01Call{number}", "name": name, "input": value}
            for number, (name, value) in enumerate(calls)
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 10},
    }
    return Answer(200, (("content-type", "text/event-stream; charset=utf-8"),), b"".join(frames(message)))


def call_of_bash(command: str) -> Answer:
    """A streamed message that calls the tool `Bash`."""
    return calls_of(("Bash", {"command": command, "description": "Says a word"}))


def call_of_agent(prompt: str) -> tuple[str, Line]:
    """A call of the tool `Agent`, whose result is waited for."""
    return "Agent", {"description": "Looks around", "prompt": prompt, "run_in_background": False}


async def test_it_prints_the_events_that_it_prints_without_the_proxy(claude: str, tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as service:
        proxied = await ask(claude, url_of(service), tmp_path)
        (entry,) = service.simulator.ledger
    async with alone() as simulator:
        direct = await ask(claude, simulator.base_url, tmp_path, key=UPSTREAM_KEY)
    assert events(proxied) == events(direct)
    assert events(proxied)[-1] == {"type": "message_stop"}
    assert result(proxied)["result"] == result(direct)["result"]
    assert entry.header("user-agent").startswith(f"claude-cli/{VERSION} ")
    assert entry.header("x-claude-code-session-id") == result(proxied)["session_id"]


async def test_it_runs_the_tool_that_the_api_calls_and_sends_what_the_tool_says(
    claude: str, tmp_path: Path
) -> None:
    async with serve(tmp_path / "data") as service:
        service.simulator.script(None, call_of_bash(f"echo {WORD}"))
        lines = await ask(
            claude, url_of(service), tmp_path, "--tools", "Bash", "--allowedTools", "Bash(echo:*)"
        )
        call, answer = service.simulator.ledger.inference()
    assert WORD not in call.body.decode()
    sent = [block for block in last_user_content(answer.json()) if block["type"] == "tool_result"]
    assert [(block["tool_use_id"], block["content"]) for block in sent] == [("toolu_01Call0", WORD)]
    assert result(lines)["subtype"] == "success"
    assert events(lines)[-1] == {"type": "message_stop"}


async def tool_then_resumed(claude: str, url: str, folder: Path, key: str = CLIENT_KEY) -> list[list[Line]]:
    """What is printed by a run that uses a tool, and by one that resumes its conversation."""
    allowed = ("--tools", "Bash", "--allowedTools", "Bash(echo:*)")
    first = await ask(claude, url, folder, *allowed, key=key)
    resume = ("--resume", result(first)["session_id"], "--tools", "")
    return [first, await ask(claude, url, folder, *resume, key=key, prompt="and again")]


def said(lines: list[Line]) -> str:
    """The API's events without what each organisation makes of its own: ids, usage of its cache, signatures."""
    text = re.sub(r"\bmsg_\w+", "msg_", json.dumps(events(lines)))
    text = re.sub(r'"signature": "[^"]+"', '"signature": ""', text)
    return re.sub(r'"usage": \{(?:[^{}]|\{[^{}]*\})*\}', '"usage": {}', text)


async def test_it_resumes_a_conversation_with_a_tool_in_a_pool_with_a_limited_account(
    claude: str, tmp_path: Path
) -> None:
    async with serve(tmp_path / "data", accounts=["a", "b", "c"]) as service, alone() as simulator:
        service.simulator.script(None, quota_429(), call_of_bash(f"echo {WORD}"))
        simulator.script(None, call_of_bash(f"echo {WORD}"))
        proxied, direct = await asyncio.gather(
            tool_then_resumed(claude, url_of(service), tmp_path / "proxied"),
            tool_then_resumed(claude, simulator.base_url, tmp_path / "direct", UPSTREAM_KEY),
        )
        limited, *answered = service.simulator.ledger.inference()
    assert [said(lines) for lines in proxied] == [said(lines) for lines in direct]
    assert [result(lines)["subtype"] for lines in proxied] == ["success", "success"]
    assert not any(line.get("subtype") == "api_retry" for lines in proxied for line in lines)
    # The call, its result, and the resumed conversation with both; all on the account that took over.
    assert (limited.status, [entry.status for entry in answered]) == (429, [200, 200, 200])
    (organization,) = {entry.organization for entry in answered}
    assert organization != limited.organization
    resumed = answered[-1].body.decode()
    assert WORD in resumed and "toolu_01Call0" in resumed and "and again" in resumed
    assert len({entry.header("x-claude-code-session-id") for entry in (limited, *answered)}) == 1


async def test_a_session_with_agents_of_its_own_stays_on_one_account_of_five(
    claude: str, tmp_path: Path
) -> None:
    async with serve(tmp_path / "data", accounts=["a", "b", "c", "d", "e"]) as service:
        url = url_of(service)
        service.simulator.script(None, calls_of(call_of_agent("look here"), call_of_agent("look there")))
        lines = await ask(claude, url, tmp_path, "--tools", "Agent,Bash", "--allowedTools", "Agent")
        resume = ("--resume", result(lines)["session_id"], "--tools", "")
        resumed = await ask(claude, url, tmp_path, *resume, prompt="and again")
        other = await ask(claude, url, tmp_path, prompt="something else")
        asked = service.simulator.ledger.inference()
    assert [result(each)["subtype"] for each in (lines, resumed, other)] == ["success"] * 3
    assert {entry.status for entry in asked} == {200}
    session, another = (result(each)["session_id"] for each in (lines, other))
    turns = [entry for entry in asked if entry.header("x-claude-code-session-id") == session]
    agents = {entry.header("x-claude-code-agent-id") for entry in turns} - {None}
    assert len(agents) >= 2 and len(turns) > 2 * len(
        agents
    )  # agents call agents, and each says what it found
    assert len({entry.organization for entry in turns}) == 1
    assert [entry.header("x-claude-code-session-id") for entry in asked[len(turns) :]] == [another]
    assert asked[-1].organization != turns[0].organization


async def test_a_fork_of_a_session_goes_on_where_the_session_was(claude: str, tmp_path: Path) -> None:
    async with serve(tmp_path / "data", accounts=["a", "b", "c"]) as service:
        first = await ask(claude, url_of(service), tmp_path)
        fork = ("--resume", result(first)["session_id"], "--fork-session", "--tools", "")
        forked = await ask(claude, url_of(service), tmp_path, *fork, prompt="and again")
        asked = service.simulator.ledger.inference()
    assert result(first)["session_id"] != result(forked)["session_id"]
    assert [entry.status for entry in asked] == [200, 200]
    assert len({entry.organization for entry in asked}) == 1


def last_user_content(body: Line) -> list[Line]:
    return [message for message in body["messages"] if message["role"] == "user"][-1]["content"]


async def test_it_gives_up_after_one_request_where_the_key_is_wrong(
    claude: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # To a 401 that does not forbid it, it comes back ten times in three minutes.
    async with serve(tmp_path / "data") as service:
        with caplog.at_level(logging.INFO, logger="proxy.access"):
            lines = await ask(claude, url_of(service), tmp_path, key="not-a-key-of-this-proxy")
        assert len(service.simulator.ledger) == 0
    (line,) = [record.getMessage() for record in caplog.records if record.name == "proxy.access"]
    assert line.startswith("POST /v1/messages 401 ")
    assert result(lines)["is_error"]


async def test_it_does_not_notice_an_account_that_is_spent(claude: str, tmp_path: Path) -> None:
    async with serve(tmp_path / "data", accounts=["a", "b"]) as service:
        service.simulator.script(None, quota_429())
        lines = await ask(claude, url_of(service), tmp_path)
        spent, other = service.simulator.ledger.inference()
    assert (spent.status, other.status) == (429, 200)
    assert {spent.organization, other.organization} == {"a", "b"}
    assert events(lines)[-1] == {"type": "message_stop"}
    assert not any(line.get("subtype") == "api_retry" for line in lines)


async def test_it_asks_again_where_the_upstream_cuts_a_stream(claude: str, tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as service:
        service.simulator.script(None, Cut(after_events=6))
        lines = await ask(claude, url_of(service), tmp_path)
        assert len(service.simulator.ledger.inference()) == 2
    assert result(lines)["subtype"] == "success"
    assert not result(lines)["is_error"]
