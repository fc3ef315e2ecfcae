"""Who may be connected, where there are more clients than places."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from handlers.client_socket import ClientSocket
from proxy.http.addresses import Network, address_group, within

TELL_EVERY_S = 10.0

TURNED_AWAY = 16
"""Of those for whom there was no place, how many at once may take their time to read so."""

log = logging.getLogger(__name__)

Strangers = OrderedDict[ClientSocket, None]


@dataclass(slots=True)
class _Address:
    """The connections of one address: how many, and those of strangers, oldest first."""

    connections: int = 0
    strangers: Strangers = field(default_factory=OrderedDict)


class Places:
    """At most `most` connections, and at most half as many of one address (an IPv6 /64 counts as one).

    A stranger has not shown a valid key on its connection. If places run out, the stranger who came first gives way to
    who comes next: whoever has a key shows it at once, so only a connection that is of no use to anyone grows old.
    `trusted` are proxies in front, each of which carries many clients: no limit of an address is theirs, and they give
    way to nobody.
    """

    def __init__(self, most: int, trusted: Sequence[Network] = ()) -> None:
        self._most = most
        self._most_of_one = max(1, most // 2)
        self._trusted = trusted
        self._taken: dict[ClientSocket, str] = {}  # with the address that it counts for
        self._strangers: Strangers = OrderedDict()
        self._addresses: dict[str, _Address] = {}
        self._turned_away: set[ClientSocket] = set()
        self._told_at = -math.inf

    def take(self, client: ClientSocket) -> bool:
        """Give this client a place. False if there is none."""
        peer = client.context.remote_ip
        trusted = bool(self._trusted) and within(peer, self._trusted)
        name = "" if trusted else address_group(peer)
        address = self._addresses.get(name) or _Address()
        if not trusted and address.connections >= self._most_of_one:
            free = self._make_room(address.strangers, name)
        elif len(self._taken) >= self._most:
            free = self._make_room(self._strangers, "any")
        else:
            free = True
        if free:
            self._addresses[name] = address
            self._taken[client] = name
            address.connections += 1
            if not trusted:
                address.strangers[client] = self._strangers[client] = None
        return free

    def turn_away(self, client: ClientSocket) -> bool:
        """Whether a client that got no place may stay until it has read so."""
        may_stay = len(self._turned_away) < TURNED_AWAY
        if may_stay:
            self._turned_away.add(client)
        return may_stay

    def vouch(self, client: ClientSocket) -> None:
        """Let a client, who has shown a valid key, give way to nobody."""
        if client.vouched:
            return
        client.vouched = True
        name = self._taken.get(client)
        if name is not None:
            self._strangers.pop(client, None)
            self._addresses[name].strangers.pop(client, None)

    def leave(self, client: ClientSocket) -> None:
        """Free the client's place, if it has one."""
        self._turned_away.discard(client)
        self.vouch(client)
        name = self._taken.pop(client, None)
        if name is not None:
            address = self._addresses[name]
            address.connections -= 1
            if not address.connections:
                del self._addresses[name]

    def _make_room(self, strangers: Strangers, address: str) -> bool:
        """Close the oldest connection among `strangers`. False if there is none."""
        self._tell(address, refused=not strangers)
        if not strangers:
            return False
        oldest = next(iter(strangers))
        self.leave(oldest)
        oldest.abort()
        return True

    def _tell(self, address: str, *, refused: bool) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told_at < TELL_EVERY_S:
            return
        self._told_at = now
        log.error(
            "connections run out open=%d most=%d most_of_an_address=%d address=%s: %s; raise the limit of open files, "
            "and name a proxy in front in server.trusted_proxies",
            len(self._taken),
            self._most,
            self._most_of_one,
            address,
            "new ones are refused" if refused else "the oldest without a valid key are closed",
        )
