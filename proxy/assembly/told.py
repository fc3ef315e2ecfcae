"""What an operator is told at a start."""

from __future__ import annotations

import os
import sys

import tornado

from proxy import __version__
from proxy.assembly.engine import Parts
from proxy.config.settings import Settings
from proxy.http.outbound import shown
from proxy.upstream.driver import check_libcurl


def announcement(settings: Settings, parts: Parts, port: int) -> str:
    """What is served now, and where."""
    counts = ", ".join(f"{number} {status.value}" for status, number in parts.pool.count().items() if number)
    python = ".".join(map(str, sys.version_info[:3]))
    return f"""Claude Proxy {__version__} (Python {python}, Tornado {tornado.version}, {check_libcurl()})
  listening on  {url(settings, port)}
  dashboard     {_dashboard_url(settings, port)}
  upstream      {settings.claude.base_url}{way_out(settings)}
  accounts      {counts or "none yet: add one with POST /api/accounts"}
  client keys   {len(parts.keys) or "none yet: make one with POST /api/tokens"}
  data folder   {settings.storage.data_folder}{_store_line(settings)}"""


def _store_line(settings: Settings) -> str:
    address = settings.storage.address
    return "" if address is None else f"\n  shared store  {address}"


def _dashboard_url(settings: Settings, port: int) -> str:
    """Where a browser finds the dashboard: under its own name, or else on this machine."""
    origins = settings.server.public_origins
    here = url(settings, port).replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    return f"{origins[0] if origins else here}/"


def way_out(settings: Settings) -> str:
    """What follows the upstream's URL: the outbound proxy, or that the one which the environment names is not used."""
    if settings.outbound_proxy is not None:
        return f" through {shown(settings.outbound_proxy)}"
    named = [
        name for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy") if os.environ.get(name)
    ]
    return f" (directly: {named[0]} is set and not used, since only claude.proxy is)" if named else ""


def url(settings: Settings, port: int) -> str:
    """Where it listens."""
    host = settings.server.host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
