"""The examples in conf/ of servers before the proxy, each running with its addresses replaced."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from tests.bench.peers import executable, make_certificate
from tests.bench.versions import process
from tests.process import ROOT
from tests.wire import Wire

FILES = {"nginx": "nginx.conf", "caddy": "Caddyfile", "haproxy": "haproxy.cfg"}

AROUND = """
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 500; }}
http {{
  access_log off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  include {config};
}}
"""


def example(name: str) -> str:
    return (ROOT / "conf" / FILES[name]).read_text()


def replaced(text: str, values: Mapping[str, str]) -> str:
    """The text with other addresses. Each of them must be in it."""
    for old, new in values.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def nginx_command(home: Path, http: str) -> list[str]:
    """What runs nginx with these lines in its `http` block, and all that it writes in `home`. Raises BenchError."""
    (home / "http.conf").write_text(http)
    main = home / "main.conf"
    main.write_text(AROUND.format(home=home, config=home / "http.conf"))
    return [executable("nginx"), "-p", str(home), "-e", str(home / "error.log"), "-c", str(main)]


def haproxy_command(home: Path, text: str) -> list[str]:
    """What runs haproxy with this configuration. Raises BenchError."""
    config = home / "haproxy.cfg"
    config.write_text(text)
    return [executable("haproxy"), "-db", "-q", "-f", str(config)]


def command(name: str, home: Path, port: int, behind: int) -> list[str]:
    """What runs the example on 127.0.0.1:`port` before 127.0.0.1:`behind`."""
    home.mkdir()
    certificate, key = make_certificate(home)
    both, config = home / "both.pem", home / FILES[name]
    both.write_text(certificate.read_text() + key.read_text())
    text = replaced(example(name), {"127.0.0.1:4000": f"127.0.0.1:{behind}"})
    match name:
        case "nginx":
            paths = {
                "/etc/ssl/proxy.example.com.pem": str(certificate),
                "/etc/ssl/proxy.example.com.key": str(key),
            }
            return nginx_command(home, replaced(text, {"listen 443": f"listen 127.0.0.1:{port}"} | paths))
        case "caddy":
            site = f"https://localhost:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate} {key}"
            alone = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
            config.write_text(alone + replaced(text, {"\nproxy.example.com {": f"\n{site}"}))
            return [executable("caddy"), "run", "--adapter", "caddyfile", "--config", str(config)]
    bind = {"bind :443": f"bind 127.0.0.1:{port}", "/etc/haproxy/proxy.example.com.pem": str(both)}
    return haproxy_command(home, replaced(text, bind))


class Front:
    """A running example; its clients are not on this machine's usual address, so that they are told from the front."""

    CLIENT = "127.0.0.2"

    def __init__(self, port: int, home: Path) -> None:
        self.port = port
        self.origin = f"https://localhost:{port}"
        self.host = ("Host", f"localhost:{port}")
        self.certificate = home / "certificate.pem"
        self.tls = ssl.create_default_context(cafile=str(self.certificate))

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Wire]:
        """A connection over TLS."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=self.tls,
            server_hostname="localhost",
            local_addr=(self.CLIENT, 0),
        )
        try:
            yield Wire(reader, writer)
        finally:
            writer.transport.abort()

    async def listens(self) -> bool:
        try:
            async with self.connect():
                return True
        except OSError:
            return False


@contextlib.asynccontextmanager
async def front(name: str, home: Path, port: int, behind: int) -> AsyncIterator[Front]:
    """The example, once it listens."""
    log, environ = home / "output.log", {"HOME": str(home), "XDG_DATA_HOME": str(home)}
    run = await asyncio.to_thread(command, name, home, port, behind)
    with log.open("wb") as output, process(run, stdout=output, stderr=output, env=environ) as running:
        serving = Front(port, home)
        async with asyncio.timeout(20):
            while not await serving.listens():
                assert running.poll() is None, log.read_text()
                await asyncio.sleep(0.02)
        yield serving
