"""How redis-py reaches a server: TLS, login, database, Sentinels. What is said on the connection then is a Wire's."""

from __future__ import annotations

from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from proxy.storage.address import StoreAddress
from proxy.storage.redis_wire import Wire


async def reached(address: StoreAddress, *, timeout_s: float, ca_file: str | None) -> Wire:
    """A connection to the server, or to the primary that Sentinels know. Raises OSError.

    `ca_file` is trusted beside the system's certificates.
    """
    try:
        connection = await _connection(address, timeout_s, ca_file)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
    except RedisError as error:
        raise ConnectionError(str(error)) from None
    return _taken_over(connection)


def _taken_over(connection: AbstractConnection) -> Wire:
    """Its stream, as a Wire: redis-py itself reads answers by a task alone. Raises ConnectionError if it has ended.

    The only place that uses what redis-py keeps to itself. Without its streams a connection has nothing to close.
    """
    reader, writer = connection._reader, connection._writer
    assert reader is not None and writer is not None
    connection._reader = connection._writer = None
    if reader.at_eof() or writer.is_closing():
        writer.close()
        raise ConnectionError("it closed the connection")
    return Wire(writer)


async def _connection(at: StoreAddress, timeout_s: float, ca_file: str | None) -> AbstractConnection:
    options: dict[str, Any] = {
        "username": at.user,
        "password": at.password,
        "db": at.db,
        "protocol": 2,
        "socket_timeout": None,  # the lane has its own
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
        "maint_notifications_config": None,
        "client_name": "claude-proxy",
    }
    if at.path is not None:
        return UnixDomainSocketConnection(path=at.path, **options)
    kind: type[Connection] = Connection
    if at.tls:
        kind = SSLConnection
        options["ssl_ca_certs"] = ca_file
    host, port = at.hosts[0] if at.master is None else await _primary(at, at.master, timeout_s)
    return kind(host=host, port=port, **options)


async def _primary(at: StoreAddress, master: str, timeout_s: float) -> tuple[str, int]:
    """Where the Sentinels say that the primary is. Raises RedisError."""
    share_s = timeout_s / (len(at.hosts) + 1)  # one that is silent leaves the next ones time to answer
    options = {
        "socket_timeout": share_s,
        "socket_connect_timeout": share_s,
        "retry": Retry(NoBackoff(), 0),  # the next one is asked instead
    }
    sentinel = Sentinel(at.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
    try:
        host, port = await sentinel.discover_master(master)
    finally:
        for each in sentinel.sentinels:
            await each.aclose()
    return host, port
