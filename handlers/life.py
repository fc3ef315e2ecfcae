"""A proxy from its first request to its last: it listens, says so, and ends or hands over when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from handlers.front import freeze_memory, make_server
from handlers.server import Listening
from handlers.signals import Signals
from handlers.successor import Successor
from handlers.supervisor import Supervisor
from handlers.workers import announce, reload_all
from proxy.assembly.engine import Parts


async def live(
    parts: Parts,
    place: Listening,
    signals: Signals,
    supervisor: Supervisor,
    told: Callable[[int], str],
    until: Callable[[int, asyncio.Event], Awaitable[object]] | None = None,
) -> None:
    """Serve until a signal, or until `until` is over. Raises StartError.

    `told` is what to say of the port; `until` is given the port, and what a signal sets.
    """
    server, stop = make_server(parts), signals.stop
    signals.serve(parts.hurried, parts.reload)
    if place.worker is not None:
        parts.about.on_asked.append(partial(reload_all, place))
    successor = Successor(supervisor, server.descriptors)
    if until is None and place.worker is None:
        successor.on_signal(stop, parts.jobs.start)
    port = await server.listen_at(place)
    freeze_memory()
    announce(told(port), place)
    supervisor.ready(parts.jobs)
    with parts.lag:
        await (stop.wait() if until is None else until(port, stop))
        if not successor.is_there:
            successor.give_up()
            supervisor.tell("STOPPING=1")
        if supervisor.keeps_sockets or successor.is_there:
            await server.hand_over()
            await parts.late.go_on(parts.series, server.drain)
        else:
            await server.drain()
