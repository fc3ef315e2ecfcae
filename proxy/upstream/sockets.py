"""libcurl's sockets, in an epoll of their own: what each is wanted for, and on which of them something has come."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator

import pycurl

_EVENTS = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}
_UNREADABLE = select.EPOLLHUP | select.EPOLLERR
# What libcurl is told for each combination of events; it finds errors by reading.
_ACTIONS = [
    (pycurl.CSELECT_IN if events & (select.EPOLLIN | _UNREADABLE) else 0)
    | (pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0)
    for events in range(32)
]

Ready = tuple[int, int]
"""A socket, and what libcurl is to be told of it."""


class Sockets:
    """By their numbers. Most are wanted again soon, with the next request, and stay in the epoll until then."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._asleep: set[int] = set()  # nothing is wanted of them: idle, or their transfer is paused
        self._idle: set[int] = set()  # of connections that are kept for the next request
        self._left: list[Ready] = []  # ready, and had no turn
        self._shut_ports: set[int] = set()
        self.watched: dict[int, int] = {}
        """Those in the epoll, and for which events; among them may be some that libcurl has closed."""

    def fileno(self) -> int:
        """What is readable while something has come on any of them."""
        return self._epoll.fileno()

    @property
    def idle(self) -> int:
        """Connections that are kept for the next request; among them may be some that libcurl has closed."""
        return len(self._idle)

    def close(self) -> None:
        self._epoll.close()

    def want(self, event: int, fd: int) -> None:
        """Watch a socket for an event of libcurl's, or let it sleep."""
        if event == pycurl.POLL_REMOVE:
            self._asleep.add(fd)
            return
        self._asleep.discard(fd)
        self._idle.discard(fd)
        self._watch(fd, _EVENTS.get(event, 0))

    def keep(self, fd: int) -> None:
        """Its transfer has ended. If it sleeps, libcurl keeps it for the next request, or has closed it."""
        if fd not in self._asleep:
            return
        self._idle.add(fd)
        if self.watched.get(fd) != select.EPOLLIN:  # as if something came while its transfer was paused
            with contextlib.suppress(OSError):  # it is closed
                self._watch(fd, select.EPOLLIN)

    def ready(self, *, begins: bool) -> list[Ready]:
        """Those on which something has come; those that were `left` alone, if there are any: the others still will be.

        `begins`: libcurl may begin a request next, so that the idle ones are looked at before.
        """
        left, self._left = self._left, []
        if left and not (begins and self._idle):
            return left
        found = self.look()
        return left or found

    def look(self) -> list[Ready]:
        """Those on which something has come. Nobody waits for what comes on an idle one: libcurl will find it dead."""
        found = self._epoll.poll(0, len(self.watched) + 1)
        if self._asleep:  # among which are the idle ones
            for fd, _ in found:
                if fd in self._idle:
                    self._shut(fd)
                elif fd in self._asleep:
                    self._unwatch(fd)
        return [(fd, _ACTIONS[events & 31]) for fd, events in found]

    def leave(self, ready: list[Ready]) -> None:
        """Those that have had no turn are the next to have one."""
        self._left = ready

    def was_shut(self, port: int) -> bool:
        """Whether the connection from this port of ours was idle and is dead; once, since ports come again."""
        known = port in self._shut_ports
        self._shut_ports.discard(port)
        return known

    def _watch(self, fd: int, events: int) -> None:
        known, self.watched[fd] = fd in self.watched, events
        if known:
            # Else another socket got the number of one that was closed.
            with contextlib.suppress(FileNotFoundError):
                self._epoll.modify(fd, events)
                return
        self._epoll.register(fd, events)

    def _unwatch(self, fd: int) -> None:
        self.watched.pop(fd, None)
        with contextlib.suppress(OSError):  # closed meanwhile
            self._epoll.unregister(fd)

    def _shut(self, fd: int) -> None:
        """Have libcurl find an idle connection dead on which something came.

        That is the upstream's end of it, or bytes that nobody asked for, which would be taken for the next answer.
        """
        self._idle.discard(fd)
        self._unwatch(fd)
        with contextlib.suppress(OSError), borrowed(fd) as idle:
            self._shut_ports.add(idle.getsockname()[1])
            idle.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """One of libcurl's sockets, which stays open: a duplicate would need a free number when there may be none."""
    own = socket.socket(fileno=fd)
    try:
        yield own
    finally:
        own.detach()
