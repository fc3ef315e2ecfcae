"""An upgrade without a pause: SIGUSR2 has the process start the one that follows it, and leave everything to that.

The new process is the same command, of the program and the configuration as they are by then. It gets the listening
sockets, and says when it has found nothing amiss and waits for the data folder; only then this one gives that up. If it
ends before, this one goes on as if nothing had been asked. If this one is told to end before, both do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from typing import Any

from handlers.supervisor import PIPE, SOCKETS, Supervisor
from proxy.errors import StartError

log = logging.getLogger(__name__)

PID_BYTES = 20
"""More than a process's id has digits."""


def set_apart(environ: MutableMapping[str, str]) -> None:
    """Go on in a child of nobody, if another process started this one to be followed by it.

    systemd waits at a stop only for its own children, and takes up those that have lost their parent. So it has to have
    lost it before it becomes the main process (sd_notify(3)). No thread runs yet.
    """
    if PIPE in environ and os.fork():
        os._exit(0)


def waiting_told(environ: MutableMapping[str, str]) -> Callable[[], None]:
    """What tells the process before this one that this one waits for the data folder; it does nothing without one."""
    fd = int(environ.pop(PIPE, "-1"))
    if fd >= 0:
        os.set_inheritable(fd, False)

    def tell() -> None:
        if fd >= 0:
            with contextlib.suppress(OSError), os.fdopen(fd, "wb") as pipe:
                pipe.write(b"%d" % os.getpid())

    return tell


def refuse_workers(environ: Mapping[str, str]) -> None:
    """Raise StartError if another process started this one to be followed by it: that would wait for it for ever."""
    if PIPE in environ:
        raise StartError("server.workers: an upgrade to workers is a restart")


class Successor:
    """The process that follows this one, if there is to be one."""

    def __init__(self, supervisor: Supervisor, descriptors: Callable[[], Sequence[int]]) -> None:
        self._supervisor = supervisor
        self._descriptors = descriptors
        self._starting: asyncio.Task[None] | None = None
        self.is_there = False

    def on_signal(
        self, stop: asyncio.Event, start: Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]]
    ) -> None:
        """Begin with SIGUSR2, and set `stop` once it is there."""

        def begin() -> None:
            if not stop.is_set() and (self._starting is None or self._starting.done()):
                self._starting = start("start the process that follows", self._start(stop))

        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, begin)

    def give_up(self) -> None:
        """Have no process follow: end it if it is not there yet."""
        if self._starting is not None:
            self._starting.cancel()

    async def _start(self, stop: asyncio.Event) -> None:
        read, write = os.pipe()
        with os.fdopen(read, "rb", 0) as told:
            with os.fdopen(write, "wb"):
                process = self._spawn(write)
            try:
                await _readable(read)
            except asyncio.CancelledError:
                log.info("the process that was to follow ends with this one")
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                raise
            finally:
                process.wait()  # it has ended, or does now: the one that follows is a child of it
            pid = told.read(PID_BYTES)
        if not pid:
            log.error("the process that was to follow ended before it could: this one goes on")
            return
        self.is_there = True
        log.info("process %d follows", int(pid))
        self._supervisor.hand_over(int(pid))
        stop.set()

    def _spawn(self, pipe: int) -> subprocess.Popen[bytes]:
        descriptors = self._descriptors()
        mine = {SOCKETS: ",".join(map(str, descriptors)), PIPE: str(pipe)}
        return subprocess.Popen(  # noqa: S603 - what this process was started with
            [sys.executable, *sys.orig_argv[1:]],
            env=os.environ | self._supervisor.variables | mine,
            pass_fds=[*descriptors, pipe],
            process_group=0,  # the one that follows is in it too, and tells its own number only when it is there
        )


async def _readable(fd: int) -> None:
    """Return once there is something to be read, if only an end."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
