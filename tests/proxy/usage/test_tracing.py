"""Traces: which spans a collector gets of a request, what these say and never say, and what it costs nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from proxy.clients.keys import NO_LIMITS, Role, declared_key
from proxy.simulator import Error, Raw, Reset
from proxy.usage.request import RequestRecord
from proxy.usage.request_log import Kept, RequestLog
from proxy.usage.tracing import MOST_QUEUED, Tracing
from tests.canaries import leaked
from tests.collector import attributes, collecting
from tests.handlers.test_request_log import SSE_HEAD
from tests.process import program, refused, run, write_config
from tests.proxy.usage.message_answers import event, start
from tests.service import (
    ADMIN_KEY,
    CLIENT_KEY,
    MESSAGE_HEADERS,
    Service,
    TestClock,
    message,
    serve,
    until,
    upstream_key,
)

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT


def sent(service: Service, name: str) -> list[list[str]]:
    """The values of a header in each request that the upstream got."""
    return [
        [value for each, value in entry.headers if each.lower() == name] for entry in service.simulator.ledger
    ]


async def the_one(log: RequestLog) -> Kept:
    """The request that is kept, once it is there: a shared log brings it back."""
    await until(lambda: log.newest == 1)
    [kept] = log.after(0)
    return kept


async def test_a_request_is_a_span_with_one_of_its_try_below_it(tmp_path: Path) -> None:
    async with collecting() as collector, serve(tmp_path, tracing__endpoint=collector.endpoint) as service:
        answer = await service.message(stream=True)
        assert answer.status == 200
        began_at, [account], [key] = service.clock.now(), service.parts.pool, service.parts.keys
        kept = await the_one(service.parts.request_log)
        await service.parts.server.drain()
        at = int(service.simulator.base_url.rpartition(":")[2])
    assert b"post /v1/traces http/1.1" in collector.heads[0].lower()
    [resource] = {each.resource.SerializeToString() for r in collector.requests for each in r.resource_spans}
    assert b"claude-proxy" in resource
    [request], [tried] = collector.of_kind(SERVER), collector.of_kind(CLIENT)
    assert (request.name, request.parent_span_id, request.status.code) == ("POST /v1/messages", b"", 0)
    assert (tried.name, tried.parent_span_id) == ("POST /v1/messages", request.span_id)
    assert request.trace_id == tried.trace_id
    assert request.start_time_unix_nano <= tried.start_time_unix_nano
    assert abs(request.end_time_unix_nano - began_at * 1e9) < 1e9
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": "/v1/messages",
        "url.scheme": "http",
        "claude_proxy.request_id": kept.request_id,
        "claude_proxy.key_id": key.id,
        "claude_proxy.session_id": kept.session_id,
        "claude_proxy.account_id": account.id,
        "claude_proxy.outcome": "ok",
        "claude_proxy.time_to_first_byte_s": 0.0,
        "claude_proxy.cost_usd": kept.cost_usd,
    }
    assert kept.tokens is not None
    assert attributes(tried) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": at,
        "claude_proxy.account_id": account.id,
        "claude_proxy.verdict": "hand_on",
        "claude_proxy.upstream_request_id": kept.tries[0].request_id,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-5-5",
        "gen_ai.response.model": "claude-sonnet-5-5",
        "gen_ai.usage.input_tokens": kept.tokens[0],
        "gen_ai.usage.output_tokens": kept.tokens[1],
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens": 0,
    }


async def test_a_stream_that_the_upstream_ends_with_an_error_has_failed(tmp_path: Path) -> None:
    stream = start({}) + event("error", error={"type": "overloaded_error", "message": "x"})
    async with (
        collecting() as collector,
        serve(tmp_path, retry__max_attempts="1", tracing__endpoint=collector.endpoint) as service,
    ):
        service.simulator.script(None, Raw(SSE_HEAD + stream))
        assert (await service.message(stream=True)).body == stream
        await the_one(service.parts.request_log)
    for kind in (SERVER, CLIENT):
        (span,) = collector.of_kind(kind)
        assert span.status.code == Status.STATUS_CODE_ERROR
        assert attributes(span)["error.type"] == "overloaded_error"


async def test_each_try_is_a_span_with_its_account_and_what_it_came_to(tmp_path: Path) -> None:
    async with (
        collecting() as collector,
        serve(tmp_path, accounts=("a", "b"), tracing__endpoint=collector.endpoint) as service,
    ):
        service.simulator.script(upstream_key("a"), Reset(), Error(529))
        service.simulator.script(upstream_key("b"), Error(401))
        assert (await service.message()).status == 200
        kept = await the_one(service.parts.request_log)
    tries = collector.of_kind(CLIENT)
    assert len(tries) == len(kept.tries) > 2
    for number, (span, attempt) in enumerate(zip(tries, kept.tries, strict=True)):
        told = attributes(span)
        assert told["claude_proxy.account_id"] == attempt.account_id
        assert told["claude_proxy.verdict"] == attempt.verdict
        assert told.get("http.response.status_code", 0) == attempt.status
        assert told.get("http.request.resend_count", 0) == number
        failed = attempt.failure is not None
        assert (span.status.code == Status.STATUS_CODE_ERROR) is failed
        assert ("error.type" in told) is failed and ("gen_ai.request.model" in told) is not failed


async def test_the_trace_of_the_client_is_gone_on_with_and_goes_upstream_as_it_came(tmp_path: Path) -> None:
    async with collecting() as collector, serve(tmp_path, tracing__endpoint=collector.endpoint) as service:
        theirs = [("traceparent", TRACEPARENT), ("TraceState", "a=1"), ("tracestate", "b=2")]
        assert (await service.message(headers=theirs)).status == 200
        assert (await service.message()).status == 200
        assert sent(service, "traceparent") == [[TRACEPARENT], []]
        assert sent(service, "tracestate") == [["a=1", "b=2"], []]
    spans = {span.trace_id.hex(): span for span in collector.of_kind(SERVER)}
    assert len(spans) == 2
    assert (spans[TRACE].parent_span_id.hex(), spans[TRACE].trace_state) == (PARENT, "a=1,b=2")


@pytest.mark.parametrize(
    "value", ["", "nonsense", TRACEPARENT.upper(), f"00-{'0' * 32}-{PARENT}-01", TRACEPARENT + "x" * 1000]
)
async def test_what_is_no_trace_begins_one(tmp_path: Path, value: str) -> None:
    async with collecting() as collector, serve(tmp_path, tracing__endpoint=collector.endpoint) as service:
        headers = [("traceparent", value), ("tracestate", "a=1" * 1000)]
        assert (await service.message(headers=headers)).status == 200
    [span] = collector.of_kind(SERVER)
    assert (span.parent_span_id, span.trace_state) == (b"", "") and span.trace_id.hex() != TRACE


async def test_a_sample_is_of_traces_that_begin_here(tmp_path: Path) -> None:
    options = {"tracing__sample": "0"}
    async with (
        collecting() as collector,
        serve(tmp_path, tracing__endpoint=collector.endpoint, **options) as service,
    ):
        await service.message()
        await service.message(headers=[("traceparent", TRACEPARENT)])
        await service.message(headers=[("traceparent", f"00-{'7' * 32}-{PARENT}-00")])
    assert [span.trace_id.hex() for span in collector.of_kind(SERVER)] == [TRACE]


async def test_no_key_text_agent_or_query_leaves_with_a_span(tmp_path: Path) -> None:
    prompt, agent, query = "canary-of-the-prompt", "canary-of-the-agent", "canary-of-the-query"
    canaries = [upstream_key("a"), CLIENT_KEY, ADMIN_KEY, prompt, agent, query]
    path_key = "sk-ant-api03-canary-Wq8Zr2Lp6Tn4Vb1Xc9Yd7Mf5Kg3Hj0Sa"
    async with collecting() as collector, serve(tmp_path, tracing__endpoint=collector.endpoint) as service:
        asked = message(messages=[{"role": "user", "content": prompt}])
        headers = [*MESSAGE_HEADERS, ("user-agent", agent), ("cookie", agent)]
        assert (await service.send("POST", f"/v1/messages?x={query}", headers, asked)).status == 200
        await service.send("GET", f"/v1/files/{path_key}?x={query}", headers)
        await service.send("POST", "/v1/messages", headers, message(model=path_key))
        await service.send("PROPFIND", "/v1/what/ever", headers)
    assert len(collector.of_kind(SERVER)) == 4
    assert not leaked(b"".join(collector.posted), [*canaries, path_key])
    assert {span.name for span in collector.spans} <= {"POST /v1/messages", "GET files", "HTTP"}


async def test_who_has_no_key_makes_no_spans(tmp_path: Path) -> None:
    async with collecting() as collector, serve(tmp_path, tracing__endpoint=collector.endpoint) as service:
        answer = await service.send(
            "POST", "/v1/messages", [("traceparent", TRACEPARENT)], b"{}", key="cp-wrong"
        )
        assert answer.status == 401
    assert collector.posted == []


async def test_a_collector_that_is_silent_or_away_delays_no_request_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracing, "flush_s", 0.01)
    async with asyncio.timeout(30), collecting() as collector:
        collector.answers.clear()
        async with serve(tmp_path / "silent", tracing__endpoint=collector.endpoint) as service:
            assert (await service.message()).status == 200
        collector.answers.set()
        async with serve(tmp_path / "away", tracing__endpoint="http://127.0.0.1:1") as service:
            assert (await service.message()).status == 200


def ended_record() -> RequestRecord:
    """A request that was answered well."""
    key = declared_key("tests", CLIENT_KEY, Role.USER, NO_LIMITS, ())
    return RequestRecord(1.0, key=key, ended_at=2.0, status=200, complete=True)


async def test_what_a_silent_collector_does_not_take_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with collecting() as collector:
        collector.answers.clear()
        tracing = Tracing(collector.endpoint, 1.0, upstream="https://api.anthropic.com", clock=TestClock())
        record = ended_record()
        for _ in range(2 * MOST_QUEUED):
            tracing.trace(record, str)
        collector.answers.set()
        await tracing.close()
    assert MOST_QUEUED <= len(collector.spans) < 2 * MOST_QUEUED
    assert "Queue full, dropping Span" in caplog.text


async def test_a_stream_that_outlives_the_engine_has_its_span_too(tmp_path: Path) -> None:
    async with collecting() as collector, serve(tmp_path, tracing__endpoint=collector.endpoint) as service:
        parts = service.parts

        async def end_late() -> None:
            parts.sinks[-1](ended_record())

        await parts.late.go_on(parts.series, end_late)
    assert len(collector.of_kind(SERVER)) == 1


def test_without_the_setting_nothing_of_it_is_imported(tmp_path: Path) -> None:
    script = """
import asyncio, random, sys
from handlers.front import make_server
from proxy.assembly.engine import engine
from proxy.clock import SystemClock
from proxy.config.settings import load_settings
async def main(folder, key):
    settings = load_settings(None, {"AUTH__API_KEY": key, "STORAGE__DATA_FOLDER": folder})
    async with engine(settings, SystemClock(), random.Random()) as parts:
        await make_server(parts).listen("127.0.0.1", 0)
asyncio.run(main(*sys.argv[1:]))
print([name for name in sys.modules if name.split(".")[0] in ("opentelemetry", "google", "requests")])
"""
    done = program(tmp_path, script, str(tmp_path / "data"), ADMIN_KEY)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("flags", [(), ("--check",)], ids=["start", "check"])
def test_without_what_it_needs_a_line_says_how_to_install_it(tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry/__init__.py").write_text(
        "raise ImportError(\"No module named 'opentelemetry'\")\n"
    )
    config = write_config(tmp_path, "tracing:\n  endpoint: http://127.0.0.1:4318\n")
    line = refused(run(tmp_path, "--config", str(config), *flags, PYTHONPATH=str(tmp_path)))
    assert line == (
        f"{config}, line 8: tracing.endpoint: No module named 'opentelemetry': "
        "install what traces need with: pip install '.[tracing]'"
    )
