"""Posts notices to a URL, by the outbound proxy and under the certificates of all other calls."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from proxy import __version__
from proxy.clock import Clock
from proxy.dashboard.notify import notice as notices
from proxy.dashboard.notify.notice import Notice, Reply
from proxy.dashboard.notify.target import Target
from proxy.dashboard.notify.templates import TEMPLATES
from proxy.errors import UpstreamError
from proxy.upstream.driver import CurlClient
from proxy.upstream.exchange import Request


class Poster:
    """The way to one URL. `proxy` is not used for a loopback address, which another machine could not reach.

    Raises StartError if there are no CA certificates for https.
    """

    def __init__(self, target: Target, *, proxy: str | None, ca_file: Path | None, clock: Clock) -> None:
        parts = urlsplit(target.url)
        self._target = target
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._clock = clock
        self._client = CurlClient.to(
            f"{parts.scheme}://{parts.netloc}",
            idle_timeout_s=notices.TIMEOUT_S,
            proxy=None if _is_here(parts.hostname or "") else proxy,
            ca_file=ca_file,
        )

    async def send(self, notice: Notice) -> Reply:
        """Post once. A redirect is not followed: it would hand the text to somebody else."""
        post = TEMPLATES[self._target.kind](notice, self._target, self._clock.now())
        headers = [*post.headers, ("user-agent", f"claude-proxy/{__version__}")]
        began = self._clock.monotonic()
        exchange = self._client.open(Request("POST", self._path, headers, post.body))
        try:
            # A total timeout: a receiver that sends a byte now and then would never hit an idle timeout.
            async with asyncio.timeout(notices.TIMEOUT_S):
                status = (await exchange.head()).status
        except TimeoutError:
            return Reply(f"no answer within {notices.TIMEOUT_S:g} s")
        except UpstreamError as error:
            return Reply(str(error))
        finally:
            exchange.close()
        problem = None if 200 <= status < 300 else f"it answered {status}"
        return Reply(problem, status, round((self._clock.monotonic() - began) * 1000))

    def close(self) -> None:
        self._client.close()


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
