"""nginx and haproxy before the proxy, each with a pool of connections to it that all clients share."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench.versions import BenchError, free_port, process
from tests.conf.fronts import haproxy_command, nginx_command

START_WITHIN_S = 10.0

# Underscores are let through since a reader behind could take them for hyphens.
NGINX = """
underscores_in_headers on;
keepalive_requests 1000000;
upstream behind {{
  server 127.0.0.1:{behind};
  keepalive 8;
  keepalive_requests 1000000;
}}
server {{
  listen 127.0.0.1:{port};
  location / {{
    proxy_pass http://behind;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    {options}
  }}
}}
"""

# The main lines of conf/nginx.conf. Bodies go on as they come: with its default, nginx sends none before it has all.
NGINX_STREAMING = """
      proxy_buffering off;
      proxy_request_buffering off;
      client_max_body_size 0;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $http_connection;
"""

HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  http-reuse always
frontend edge
  bind 127.0.0.1:{port}
  {options}
  default_backend behind
backend behind
  server behind 127.0.0.1:{behind}
"""

EDGES = {
    "nginx": ("nginx", NGINX, ""),
    "nginx, streaming": ("nginx", NGINX, NGINX_STREAMING),
    "haproxy": ("haproxy", HAPROXY, ""),
    "haproxy, lenient": ("haproxy", HAPROXY, "option accept-invalid-http-request"),
}
"""The program, its configuration and what is added to it."""


@contextlib.asynccontextmanager
async def edge(name: str, home: Path, behind: int) -> AsyncIterator[int]:
    """The port of a running edge before 127.0.0.1:`behind`. Raises BenchError if it is not installed."""
    program, template, options = EDGES[name]
    port = free_port()
    text = template.format(port=port, behind=behind, options=options)
    command = nginx_command(home, text) if program == "nginx" else haproxy_command(home, text)
    with (home / "output.log").open("wb") as output, process(command, stderr=output) as running:
        await _listening(running, port, home)
        yield port


async def _listening(running: subprocess.Popen[bytes], port: int, home: Path) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_WITHIN_S):
            while running.poll() is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)
    raise BenchError(f"the edge does not start: {(home / 'output.log').read_text().strip()}")
