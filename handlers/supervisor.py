"""What starts this process and watches it, as systemd does: sockets that it hands over, and what it is told."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from functools import partial

from proxy.errors import StartError
from proxy.jobs import Jobs

GIVEN_UP_WITHIN_S = 60.0
"""How long a process with inherited sockets waits for the one before it to give up the data folder: requests that are
not answered yet get 10 s there, and a disk that fails 30 s."""

FIRST_FD = 3
"""Where descriptors begin that are handed over (sd_listen_fds(3))."""

SOCKETS, PIPE = "CLAUDE_PROXY_SOCKETS", "CLAUDE_PROXY_PIPE"
"""Variables for the process that follows this one: the descriptors of the sockets, and of the pipe to this one."""

KEPT = "CLAUDE_PROXY_SOCKETS_KEPT"
"""Set if somebody who starts the next process keeps the sockets, as systemd does. The process that follows inherits it:
its sockets come from this one, and that does not tell who made them."""

FOLLOWS_WITHIN_S = GIVEN_UP_WITHIN_S + 60.0
"""How long systemd waits for a process that follows another one, until that says that it lives."""

WATCHDOG_SHARE = 0.5
"""Of the time within which systemd wants to hear from the process (sd_watchdog_enabled(3))."""


def inherited_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that this process was started with; none if it has to bind its own.

    The variables are removed, so that no child takes itself for meant. KEPT is set, or stays as the process before this
    one had it. Raises StartError if one does not listen on TCP.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if descriptors := environ.pop(SOCKETS, ""):
        return [_listening(int(each)) for each in descriptors.split(",")]
    environ.pop(KEPT, None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = [_listening(FIRST_FD + each) for each in range(int(count))]
    if found:
        environ[KEPT] = "1"
    return found


def _listening(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        found = socket.socket(fileno=fd)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise StartError(f"LISTEN_FDS: descriptor {fd} is no socket ({error.strerror})") from error
    if not listens or found.type != socket.SOCK_STREAM or found.family == socket.AF_UNIX:
        raise StartError(
            f"LISTEN_FDS: descriptor {fd} does not listen on TCP: set ListenStream=127.0.0.1:4000 and Accept=no"
        )
    return found


class Supervisor:
    """Who wants to hear of the state of this process (sd_notify(3)); nobody if NOTIFY_SOCKET is not set."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        pid, wait_us = environ.pop("WATCHDOG_PID", str(os.getpid())), environ.pop("WATCHDOG_USEC", "")
        self.variables = {"NOTIFY_SOCKET": self._address, "WATCHDOG_USEC": wait_us} if self._address else {}
        """What the process that follows this one needs to be heard too."""
        watches = bool(self._address) and wait_us.isdecimal() and pid == str(os.getpid())
        self.every_s = int(wait_us) / 1e6 * WATCHDOG_SHARE if watches else None
        """How often to say that the process lives; None if nobody wants to hear it."""
        self.keeps_sockets = KEPT in environ
        """Whether connections that nobody accepts wait for the next process."""

    def tell(self, state: str) -> None:
        """Send a state such as `READY=1`. One that cannot be told is not: who does not hear it decides."""
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as told:
            try:
                told.sendto(state.encode(), address)
            except OSError:
                return

    def hand_over(self, pid: int) -> None:
        """Say which process follows, and nothing after that. It has longer for its first sign of life."""
        longer = "" if self.every_s is None else f"\nWATCHDOG_USEC={FOLLOWS_WITHIN_S * 1e6:.0f}"
        self.tell(f"MAINPID={pid}{longer}")
        self._address = ""

    def ready(self, jobs: Jobs) -> None:
        """Say that the process serves, and from then on that it lives, if that is asked for."""
        if self.every_s is None:
            self.tell("READY=1")
        else:  # the process before this one may have asked for longer
            self.tell(f"READY=1\nWATCHDOG_USEC={self.every_s / WATCHDOG_SHARE * 1e6:.0f}")
            jobs.every("sign of life", self.every_s, partial(self.tell, "WATCHDOG=1"))
