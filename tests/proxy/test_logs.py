"""The log: one line a record that nothing in it can break, without secrets, with all that an operator asks."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.floods import FIRST
from proxy.logs import JsonLine, Lines, ReadyRecord, TextLine, redact
from proxy.simulator import Amend, Cut, Error
from tests.service import ADMIN_KEY, CLIENT_KEY, Service, serve, until
from tests.wire import Answer, connect, fetch

FORMATS = {"text": TextLine(), "json": JsonLine()}
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SECRETS = [
    "sk-ant-api03-AbC_d-9",
    "sk-ant-oat01-AbC",
    "cp-" + "aB3_-" * 9,
    "Bearer AbCdEf.123",
    "bearer  Xy9",
]

each_format = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)


def line(form: logging.Formatter, message: str, *args: Any, error: BaseException | None = None) -> str:
    """How a record is written."""
    record = logging.LogRecord(
        "proxy.accounts.pool",
        logging.INFO,
        "pool.py",
        1,
        message,
        args,
        (type(error), error, None) if error else None,
    )
    record.created = 1_800_000_000.1234
    return form.format(record)


# ---- one record


def test_a_text_line_has_time_level_logger_and_message() -> None:
    written = line(TextLine(), "account added account=%s", "acc_1")
    assert written == "2027-01-15T08:00:00.123Z INFO proxy.accounts.pool account added account=acc_1"


def test_a_json_line_has_time_level_logger_and_message() -> None:
    assert json.loads(line(JsonLine(), "account added account=%s", "acc_1")) == {
        "time": "2027-01-15T08:00:00.123Z",
        "level": "info",
        "logger": "proxy.accounts.pool",
        "message": "account added account=acc_1",
    }


def test_arguments_given_as_a_mapping_become_fields_of_a_json_line() -> None:
    written = json.loads(line(JsonLine(), "%(path)s %(status)d", {"path": "/v1/x", "status": 200}))
    assert (written["message"], written["path"], written["status"]) == ("/v1/x 200", "/v1/x", 200)


@each_format
@given(st.text(), st.text())
def test_whatever_is_logged_is_one_line_without_control_characters(
    form: logging.Formatter, message: str, name: str
) -> None:
    for written in (line(form, "%s name=%s", message, name), line(form, "%(name)s", {"name": name})):
        assert not CONTROLS.search(written)


@given(st.text(), st.text())
def test_whatever_is_logged_as_json_comes_back(message: str, name: str) -> None:
    written = line(JsonLine(), "%(message)s %(name)s", {"message": message, "name": name})
    assert written.isascii()
    assert json.loads(written)["name"] == redact(name)


@each_format
@pytest.mark.parametrize(
    "text", ["\n", "\r\n", "\x1b[31m", "\x85", "\x9b31m", "\x7f", "\0", "\u2028", "\u2029"]
)
def test_what_could_end_a_line_or_steer_a_terminal_is_written_as_its_number(
    form: logging.Formatter, text: str
) -> None:
    written = line(form, "name=%s", f"a{text}b")
    assert not CONTROLS.search(written)
    assert f"{ord(text[0]):02x}" in written.lower() or json.loads(written)["message"] == f"name=a{text}b"


@each_format
def test_an_exception_has_its_traceback(form: logging.Formatter) -> None:
    written = line(form, "failed", error=ValueError("what went wrong"))
    assert "ValueError: what went wrong" in written


def test_a_traceback_cannot_steer_a_terminal_nor_look_like_another_record() -> None:
    error = ValueError("\x1b[31m\x9b\r\n2027-01-15T08:00:00.123Z INFO proxy.accounts.pool forged")
    first, *rest = line(TextLine(), "failed", error=error).split("\n")
    assert first.endswith("INFO proxy.accounts.pool failed")
    assert rest and not any(CONTROLS.search(each) or each.startswith("2027") for each in rest)


def test_a_traceback_in_json_is_on_the_same_line() -> None:
    written = line(JsonLine(), "failed", error=ValueError("\x1b\nforged"))
    assert not CONTROLS.search(written)
    assert "forged" in json.loads(written)["exception"]


@each_format
@pytest.mark.parametrize("secret", SECRETS)
def test_what_has_the_form_of_a_credential_is_not_written(form: logging.Formatter, secret: str) -> None:
    for written in (
        line(form, "headers %s", {"x-api-key": f"{secret}"}),
        line(form, "got %s.", secret),
        line(form, "%(key)s", {"key": secret}),
        line(form, "failed", error=ValueError(f"refused {secret}, sorry")),
    ):
        assert secret.split()[-1] not in written
        assert "[redacted]" in written


@pytest.mark.parametrize("text", ["tok_0a1b2c", "cp-short-name", "sk-1", "bearer", "account=acc_1", "Bearer"])
def test_what_is_no_credential_is_written(text: str) -> None:
    assert redact(f"a {text}") == f"a {text}"


# ---- the access log


class Log:
    """What the program has written so far, in one of the formats."""

    def __init__(self, form: logging.Formatter) -> None:
        self._stream = io.StringIO()
        self.handler = logging.StreamHandler(self._stream)
        self.handler.setFormatter(form)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def lines(self, logger: str = "proxy.access") -> list[str]:
        """The lines of one logger."""
        return [each for each in self.text.splitlines() if logger in each]


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    log, logger = Log(FORMATS[getattr(request, "param", "json")]), logging.getLogger("proxy")
    logger.addHandler(log.handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    yield log
    logger.removeHandler(log.handler)
    logger.setLevel(level)


def access(log: Log) -> dict[str, Any]:
    """The only request there was."""
    [only] = log.lines()
    return dict(json.loads(only))


def cost_of(answer: Answer) -> float:
    """What a message costs in US dollars: of Claude Sonnet 5.5, 2 for a million tokens in, 10 out."""
    usage = answer.json()["usage"]
    return round((2 * usage["input_tokens"] + 10 * usage["output_tokens"]) / 1e6, 6)


@pytest.mark.parametrize(
    ("model", "target", "cost"),
    [("claude-nobody-knows", "/v1/messages", "unpriced"), (None, "/v1/models", "-")],
)
async def test_what_has_no_price_is_logged_as_that(
    tmp_path: Path, log: Log, model: str | None, target: str, cost: str
) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Amend(set={"model": model} if model else {}))
        await (service.message() if model else service.send("GET", target))
    assert (access(log)["path"], access(log)["cost_usd"]) == (target, cost)


async def test_a_request_is_one_line_with_every_field(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path) as service:
        answer = await service.message()
        token = next(iter(service.parts.keys))
    fields = access(log)
    assert fields.pop("time").startswith("20")
    assert fields.pop("request").startswith("req_")
    assert fields.pop("message").startswith("POST /v1/messages 200 request=req_")
    assert fields == {
        "level": "info",
        "logger": "proxy.access",
        "method": "POST",
        "path": "/v1/messages",
        "status": 200,
        "client": "127.0.0.1",
        "key": token.id,
        "account": "a",
        "attempts": 1,
        "ttfb_ms": 0,
        "duration_ms": 0,
        "bytes": len(answer.body),
        "cost_usd": cost_of(answer),
        "error": "-",
    }


@pytest.mark.parametrize("log", ["text"], indirect=True)
async def test_a_request_as_text_has_the_same_fields(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path) as service:
        answer = await service.message()
        token = next(iter(service.parts.keys))
    [only] = log.lines()
    assert re.fullmatch(
        r"\S+Z INFO proxy\.access POST /v1/messages 200 request=req_\w+ client=127\.0\.0\.1 "
        rf"key={token.id} account=a attempts=1 ttfb_ms=0 duration_ms=0 bytes={len(answer.body)} "
        rf"cost_usd={cost_of(answer)} error=-",
        only,
    )


async def test_the_attempts_of_a_request_are_counted_and_each_failure_told(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        service.simulator.script(None, Error(529))
        await service.message()
    assert (access(log)["attempts"], access(log)["account"], access(log)["status"]) == (2, "b", 200)
    [failed] = log.lines("proxy.relay")
    assert "attempt failed account=acc_" in failed and "evidence=529" in failed


@pytest.mark.parametrize(
    ("target", "key", "status", "error"),
    [
        ("/v1/models", "wrong", 401, "authentication_error"),
        ("/v1/../etc", CLIENT_KEY, 400, "invalid_request_error"),
        ("/v1/organizations/x", CLIENT_KEY, 404, "not_found_error"),
        ("/nowhere", CLIENT_KEY, 404, "not_found_error"),
        ("/api/accounts", CLIENT_KEY, 403, "permission_error"),
        ("/api/accounts", ADMIN_KEY, 200, "-"),
        ("/", "", 200, "-"),
    ],
)
async def test_a_request_that_never_went_upstream_is_one_line_too(
    tmp_path: Path, log: Log, target: str, key: str, status: int, error: str
) -> None:
    async with serve(tmp_path) as service:
        answer = await service.send("GET", target, key=key)
    fields = access(log)
    assert (answer.status, fields["status"], fields["error"]) == (status, status, error)
    assert (fields["method"], fields["path"], fields["account"]) == ("GET", target, "-")
    assert fields["bytes"] == len(answer.body)


async def test_a_client_that_left_early_is_told(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Cut(after_bytes=0))
        async with connect(service.port) as wire:
            await wire.send(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: " + CLIENT_KEY.encode())
            await wire.send(b"\r\nContent-Length: 100\r\n\r\n{")
            await until(lambda: service.running)
            wire.reset()
            await until(lambda: log.lines())
    fields = access(log)
    assert (fields["status"], fields["error"]) == (499, "client gone")


async def test_a_body_that_cannot_be_read_is_told_as_what_its_client_was_told(
    tmp_path: Path, log: Log
) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: " + CLIENT_KEY.encode())
        await wire.send(b"\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n")
        answer = await wire.answer()
    fields = access(log)
    assert (answer.status, fields["status"], fields["error"]) == (400, 400, "invalid_request_error")


async def test_health_checks_are_not_in_the_log_of_every_day(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path) as service:
        for path in ("/health", "/health/ready", "/health/pool"):
            await fetch(service.port, "GET", path)
    assert log.lines() == []


async def test_a_query_is_not_logged(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path) as service:
        await service.send("GET", "/v1/models?secret=hunter2")
        await service.admin("GET", "/api/tokens?search=hunter2")
    assert "hunter2" not in log.text and len(log.lines()) == 2


async def test_a_long_path_is_cut(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path) as service:
        await service.send("GET", "/v1/" + "x" * 5000)
    assert len(access(log)["path"]) == 256


@pytest.mark.parametrize("log", ["text", "json"], indirect=True)
@pytest.mark.parametrize("before", [200, 230, 250])
async def test_where_a_path_is_cut_no_half_of_a_key_is_left(tmp_path: Path, log: Log, before: int) -> None:
    key = "cp-Qq7" + "Zz8_" * 10
    async with serve(tmp_path) as service:
        await service.send("GET", f"/v1/{'x/' * (before // 2)}{key}/{'y' * 600}")
    assert len(log.lines()) == 1 and "cp-Qq7" not in log.text


@pytest.mark.parametrize("log", ["text", "json"], indirect=True)
async def test_a_long_method_is_cut_and_no_half_of_a_key_is_left(tmp_path: Path, log: Log) -> None:
    key = "cp-Qq7" + "Zz8_" * 10
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(f"{'M.' * 120}{key}.{'M' * 9000} /v1/models HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await wire.answer()
    assert len(log.lines()) == 1 and "cp-Qq7" not in log.text
    assert len(log.text) < 1500


# ---- what an attacker may plant

PLANTED = ["\x85", "\x9b31m", "\x9d0;title\x9c", "\xff", "\x80"]


@pytest.mark.parametrize("log", ["text", "json"], indirect=True)
@pytest.mark.parametrize("planted", PLANTED, ids=ascii)
@pytest.mark.parametrize("path", ["/v1/a{}b", "/api/accounts/a{}b", "/a{}b"])
async def test_a_path_cannot_break_the_line(tmp_path: Path, log: Log, path: str, planted: str) -> None:
    async with serve(tmp_path) as service:
        headers = [("User-Agent", f"agent{planted}"), ("X-API-Key", CLIENT_KEY), ("X-Request-Id", planted)]
        await fetch(service.port, "GET", path.format(planted), headers)
    assert len(log.lines()) == 1
    assert not CONTROLS.search(log.text.replace("\n", ""))


@pytest.mark.parametrize("log", ["text", "json"], indirect=True)
@pytest.mark.parametrize("planted", ["a\tb", "a\x1b[31mb", "a\x7fb", "a\0b", "a b", "a\rb"], ids=ascii)
async def test_a_request_line_with_a_control_character_breaks_nothing(
    tmp_path: Path, log: Log, planted: str
) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(f"GET /v1/{planted} HTTP/1.1\r\nHost: x\r\nX-API-Key: {CLIENT_KEY}\r\n\r\n".encode())
        await wire.reader.read(65536)
    assert not CONTROLS.search(log.text.replace("\n", ""))
    assert all(re.match(r'\{"time"|20\d\d-', each) for each in log.text.splitlines())


@pytest.mark.parametrize("log", ["text", "json"], indirect=True)
async def test_a_name_cannot_break_the_line(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path) as service:
        for name in ("x\nforged", "x\x1b[31m", "x\x9b", "x\u2028y", "x\u202ey"):
            for body in ({"name": name, "type": "api_key", "api_key": "sk-ant-api03-n"}, {"name": name}):
                path = "/api/accounts" if "type" in body else "/api/tokens"
                assert (await service.admin("POST", path, body)).status == 422
        await service.admin("POST", "/api/tokens", {"name": "Zoë 東京"})
    assert len(log.lines()) == 11
    assert not CONTROLS.search(log.text.replace("\n", ""))


@pytest.mark.parametrize("log", ["text", "json"], indirect=True)
async def test_what_the_upstream_says_cannot_break_the_line(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path, retry__max_attempts="2") as service:
        service.simulator.always(
            None, Error(403, "permission\n_error", "no\r\n2027-01-15 forged \x1b[31m \x9b")
        )
        await service.message()
    assert "forged" not in "".join(each[:40] for each in log.text.splitlines())
    assert not CONTROLS.search(log.text.replace("\n", ""))


# ---- what must not be in it


async def a_bad_day(service: Service) -> None:
    service.simulator.always(None, Error(401, message=f"invalid key {CLIENT_KEY} sk-ant-api03-echoed"))
    await service.message(headers=[("authorization", f"Bearer {ADMIN_KEY}"), ("cookie", "c=cookie-secret")])
    await service.send("GET", "/v1/models", key="wrong-client-key-0123456789")
    await service.send("GET", "/v1/sk-ant-api03-in-the-path/x")
    await service.admin("GET", "/api/accounts", key="wrong-admin-key-0123456789")
    await service.admin("POST", "/api/accounts", {"name": 3, "api_key": "sk-ant-api03-in-the-body"})


@pytest.mark.parametrize("log", ["text", "json"], indirect=True)
async def test_no_credential_of_anyone_is_logged(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        await a_bad_day(service)
    secrets = [ADMIN_KEY, CLIENT_KEY, "sk-ant-", "cookie-secret", "wrong-client", "wrong-admin"]
    assert len(log.lines()) == 5
    assert [secret for secret in secrets if secret in log.text] == []
    encoded = [base64.b64encode(secret.encode()).decode()[:-4] for secret in secrets]
    assert [each for each in encoded if each in log.text] == []


async def test_a_change_of_state_is_logged_with_its_reason(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        service.simulator.always(None, Error(401))
        await service.message()
    changes = [
        json.loads(each)["message"] for each in log.lines("proxy.accounts.table") if "account state" in each
    ]
    assert changes
    for change in changes:
        assert re.match(r"account state account=acc_\w+ name=[ab] from=active to=invalid reason=401", change)


# ---- the handler


class Pipe:
    """What the process's own handler writes, to a pipe."""

    def __init__(self, form: logging.Formatter) -> None:
        self._reader, self._writer = os.pipe()
        self.handler = Lines(self._writer, form)

    def close(self) -> None:
        self.handler.close()
        os.close(self._writer)

    def wait(self) -> str:
        """The first character, once it is written."""
        return os.read(self._reader, 1).decode()

    def read_to_end(self) -> str:
        """All that is written until it is closed."""
        with open(self._reader) as file:
            return file.read()

    def read(self) -> str:
        """All of it, if that is little: it is closed first."""
        self.close()
        return self.read_to_end()


@contextlib.contextmanager
def piped(form: logging.Formatter | None = None, logger: str = "") -> Iterator[Pipe]:
    """The handler at a logger, as long as it lasts."""
    pipe, log = Pipe(form or TextLine()), logging.getLogger(logger)
    level = log.level
    log.addHandler(pipe.handler)
    log.setLevel(logging.INFO)
    try:
        yield pipe
    finally:
        log.removeHandler(pipe.handler)
        log.setLevel(level)


def test_a_record_is_formatted_as_it_was_when_it_was_logged() -> None:
    with piped() as pipe:
        names = ["one"]
        logging.getLogger("proxy").info("names=%s", names)
        names.append("two")
    assert pipe.read().endswith("INFO proxy names=['one']\n")


def test_an_argument_that_cannot_be_shown_ends_nothing_and_shows_nothing() -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError("sk-ant-api03-x")

    pipe = Pipe(TextLine())
    for args in ((Odd(),), ("x", "more")):  # not by a logger: pytest's own handler would raise it
        pipe.handler.handle(logging.LogRecord("proxy.pool", logging.INFO, "", 0, "name=%s", args, None))
    first, second = pipe.read().splitlines()
    assert "could not be formatted logger=proxy.pool error=ValueError" in first and "sk-ant" not in first
    assert "could not be formatted logger=proxy.pool error=TypeError" in second


@each_format
def test_what_is_too_long_is_cut_and_no_half_of_a_key_is_left(form: logging.Formatter) -> None:
    for before in range(16_300, 16_400, 7):
        written = line(form, "%s", "a " * (before // 2) + "sk-ant-api03-" + "b" * 40 + " c" * 100_000)
        assert len(written) < 17_000
        assert "bbb" not in written


@pytest.mark.parametrize("logger", ["asyncio", "tornado.general", "py.warnings", "proxy.jobs"])
def test_what_is_logged_without_end_is_summed_up(logger: str) -> None:
    with piped() as pipe:
        for _ in range(1000):
            logging.getLogger(logger).error(
                "out of system resource\nsocket: x", exc_info=OSError(24, "files")
            )
    text = pipe.read()
    assert text.count("Traceback") + text.count("OSError") <= 2 * FIRST
    assert f"ERROR proxy.logs {logger} out of system resource address=- more={1000 - FIRST}: too many" in text


class Long(ReadyRecord):
    """A record that is long without taking long."""

    def text(self, clean: Callable[[str], str]) -> str:
        return "x" * 100_000

    def members(self, clean: Callable[[str], str]) -> str:
        return '"long": true'


@each_format
def test_how_many_records_nobody_read_in_time_is_told(form: logging.Formatter) -> None:
    pipe = Pipe(form)
    pipe.handler.handle(Long("proxy.pool", logging.INFO, "", 0, "", None, None))
    parts = [pipe.wait()]  # so the thread has that one in hand, and all others have to wait for it
    for _ in range(200):
        pipe.handler.handle(Long("proxy.pool", logging.INFO, "", 0, "", None, None))
    reader = threading.Thread(target=lambda: parts.append(pipe.read_to_end()))
    reader.start()
    pipe.close()
    reader.join()
    *lines, told = "".join(parts).splitlines()
    found = re.search(r"(\d+) records were dropped, since nobody read the log in time", told)
    assert found and len(lines) + int(found[1]) == 201


def test_what_the_program_tells_of_itself_is_never_left_out() -> None:
    with piped() as pipe:
        for number in range(1000):
            logging.getLogger("proxy.pool").warning("cooling account=%s", number)
    assert pipe.read().count("cooling") == 1000


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_request_is_the_same_line_by_the_process_s_own_handler(tmp_path: Path, form: str) -> None:
    other = logging.StreamHandler(stream := io.StringIO())
    other.setFormatter(FORMATS[form])
    with piped(FORMATS[form], "proxy") as pipe:
        logging.getLogger("proxy").addHandler(other)
        async with serve(tmp_path) as service:
            await service.add_account('b"\\ Zoë')
            for _ in range(2):
                await service.message()
            await service.send("GET", '/v1/a"b')
            await service.send("GET", "/v1/sk-ant-api03-x")
        logging.getLogger("proxy").removeHandler(other)
    text = pipe.read()
    assert text == stream.getvalue()
    assert "sk-ant" not in text and text.count("proxy.access") == 4


@pytest.mark.parametrize("log", ["text", "json"], indirect=True)
async def test_the_scope_of_an_address_cannot_break_the_line(tmp_path: Path, log: Log) -> None:
    async with serve(tmp_path, server__trusted_proxies="127.0.0.1") as service:
        for planted in ("\x85x", '"x', "\x9b31m", "sk-ant-api03-x"):
            await service.send("GET", "/v1/models", [("X-Forwarded-For", f"fe80::1%{planted}")])
    assert len(log.lines()) == 4
    assert not CONTROLS.search(log.text.replace("\n", ""))
    assert "sk-ant" not in log.text
