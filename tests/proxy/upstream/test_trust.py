"""Which certificates are trusted: the machine's, and those of a file beside them."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from proxy.errors import StartError, UpstreamUnreachable
from proxy.upstream.trust import check_certificates
from tests.proxy.upstream.test_outbound import ask, client_of
from tests.serving import serving
from tests.settings import load, refusal


async def answers(of: trustme.CA, ca_file: Path | None) -> bool:
    """Whether an upstream with a certificate of this authority is believed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    of.issue_cert("127.0.0.1").configure_cert(context)
    async with serving(serve, context) as port:
        with client_of(f"https://127.0.0.1:{port}", ca_file=ca_file) as client:
            try:
                return await ask(client) == b"ok"
            except UpstreamUnreachable:
                return False


@pytest.mark.parametrize("system", ["file", "folder"])
async def test_a_ca_file_is_trusted_beside_the_systems(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, own = trustme.CA(), trustme.CA()
    (tmp_path / "certs").mkdir()
    file = tmp_path / "certs" / "theirs.pem"
    file.write_bytes(theirs.cert_pem.bytes().rstrip())  # as some editors leave it
    own.cert_pem.write_to_path(str(tmp_path / "own.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(file) if system == "file" else "")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "certs"))
    assert not await answers(own, None)
    assert await answers(own, tmp_path / "own.pem")
    if system == "file":
        assert await answers(theirs, tmp_path / "own.pem")
    assert not await answers(trustme.CA(), tmp_path / "own.pem")


def test_a_ca_file_that_will_not_do_is_named(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    for path, why in (
        (tmp_path / "none.pem", "No such file"),
        (tmp_path, "Is a directory"),
        (nonsense, "no certificate in PEM form"),
    ):
        error = refusal(CLAUDE__CA_FILE=str(path))
        assert error.startswith(f"CLAUDE__CA_FILE: {path} ") and why in error
    trustme.CA().cert_pem.write_to_path(str(nonsense))
    assert load(CLAUDE__CA_FILE=str(nonsense)).claude.ca_file == nonsense


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_wrong_variable_of_the_environment_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", "")
    monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(StartError, match=f"{name} names {tmp_path}/none"):
        check_certificates()


def test_a_file_without_certificates_is_wrong_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "empty.pem"))
    with pytest.raises(StartError, match=r"SSL_CERT_FILE names .*no certificate in PEM form"):
        check_certificates()
