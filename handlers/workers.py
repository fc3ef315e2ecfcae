"""Several workers on one port: a parent that starts them, starts again the ones that die, and ends with the last.

Each worker is a process and an instance of its own; the kernel spreads connections over them (SO_REUSEPORT, socket(7)).
The parent has no thread and no loop, so it may fork at any time. It waits for signals and does nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from handlers.server import Listening, sockets_at
from handlers.signals import QUEUED, RELOADS, has_terminal
from handlers.supervisor import Supervisor
from proxy.clock import Clock
from proxy.errors import StartError
from proxy.logs import say

FIRST_AGAIN_S: Final = 0.5
LAST_AGAIN_S: Final = 30.0
"""Before a worker that died is started again; doubles with each time that it does not live long enough."""

LIVED_S: Final = 60.0
"""What lived so long is started again as if for the first time."""

ENDS: Final = (signal.SIGTERM, signal.SIGINT)
SERVES: Final = QUEUED + 1
"""What a worker sends to its parent when it serves."""

UPGRADES: Final = signal.SIGUSR2
"""What a process that serves alone takes for the wish that another one follows it."""

HEARD: Final = frozenset({*ENDS, signal.SIGHUP, RELOADS, SERVES, UPGRADES, signal.SIGCHLD})
PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Worker:
    """One place among the workers, and the process that has it now; times are monotonic."""

    number: int
    pid: int | None = None
    serves: bool = False
    started_at: float = 0.0
    deaths: int = 0
    start_at: float | None = None
    """When it is started again; None if that is not to be."""


class Workers:
    """`work` is what a worker does: it is given its number and whether others serve, and returns the exit status.

    `reload` has those that are started from now on know the configuration as it is now: one that runs has taken it.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int, bool], int],
        reload: Callable[[], None],
        supervisor: Supervisor,
        clock: Clock,
    ) -> None:
        self._workers = [Worker(number) for number in range(count)]
        self._work = work
        self._reload = reload
        self._supervisor = supervisor
        self._clock = clock
        self._had_terminal = has_terminal()
        self._ending = False
        self._served = False
        self._asked: int | None = None
        self._worst = 0

    def run(self) -> int:
        """Returns once all have ended, after a signal or because they cannot start: the worst exit status.

        The first starts alone. The others follow when it serves, so that what is wrong is said once.
        """
        heard = {
            each for each in HEARD if signal.getsignal(each) is not signal.SIG_IGN
        }  # SIGHUP is under nohup
        signal.pthread_sigmask(signal.SIG_BLOCK, heard)
        self._start(self._workers[0])
        while any(each.pid is not None or each.start_at is not None for each in self._workers):
            self._hear(heard)
        return self._worst

    def _hear(self, signals: set[int]) -> None:
        """Wait for a signal or for the next start, and do what it asks for."""
        due = [each.start_at for each in self._workers if each.start_at is not None]
        wait_s = max(0.0, min(due) - self._clock.monotonic()) if due else 3600.0
        heard = signal.sigtimedwait(signals, min(wait_s, self._supervisor.every_s or wait_s))
        if self._served and self._supervisor.every_s is not None:
            self._supervisor.tell("WATCHDOG=1")
        if heard is not None:
            self._heed(heard.si_signo, heard.si_pid)
        self._reap()  # a signal stands for any number of deaths
        for each in self._workers:
            if each.start_at is not None and each.start_at <= self._clock.monotonic():
                self._start(each)

    def _heed(self, number: int, sender: int) -> None:
        if number in ENDS or (number == signal.SIGHUP and self._had_terminal and not has_terminal()):
            self._end(number)
        elif number == signal.SIGHUP:
            self._ask_one()
        elif number == RELOADS:
            if sender == self._asked:
                self._asked = None
            self._reload()
            self._pass_on(RELOADS, [each for each in self._workers if each.pid != sender])
        elif number == UPGRADES:
            log.error("SIGUSR2 ignored: with server.workers, an upgrade is a restart")
        elif number == SERVES:
            self._serve(sender)

    def _end(self, number: int) -> None:
        """End all by this signal. None is started from now on."""
        self._ending = True
        self._supervisor.tell("STOPPING=1")
        for each in self._workers:
            each.start_at = None
        self._pass_on(number, self._workers)

    def _ask_one(self) -> None:
        """Have one worker read the configuration again; RELOADS says when it has, and the others follow.

        If it dies before, another one is asked. One that has found something wrong says nothing: the question stays.
        """
        alive = [each for each in self._workers if each.pid is not None]
        if alive:
            asked = max(alive, key=lambda each: each.serves)
            self._asked = asked.pid
            self._pass_on(signal.SIGHUP, [asked])
        else:
            self._asked = None
            self._reload()

    def _pass_on(self, number: int, workers: Iterable[Worker]) -> None:
        for each in workers:
            if each.pid is not None:
                os.kill(each.pid, number)

    def _serve(self, pid: int) -> None:
        """Take note that this process serves. The first that does is followed by the others."""
        for each in self._workers:
            each.serves |= each.pid == pid
        if self._served or self._ending:
            return
        self._served = True
        self._supervisor.tell("READY=1")
        for each in self._workers[1:]:
            self._start(each)

    def _reap(self) -> None:
        for each in self._workers:
            if each.pid is None:
                continue
            pid, status = os.waitpid(each.pid, os.WNOHANG)
            if pid:
                each.pid, each.serves = None, False
                self._died(each, os.waitstatus_to_exitcode(status))
                if pid == self._asked and not self._ending:
                    self._ask_one()

    def _died(self, worker: Worker, status: int) -> None:
        """Take note of an end; below zero, `status` is the number of the signal that was its cause."""
        if self._ending or not self._served:
            self._worst = max(self._worst, 128 - status if status < 0 else status)
            return
        now = self._clock.monotonic()
        worker.deaths = 0 if now - worker.started_at > LIVED_S else worker.deaths + 1
        again_s = min(FIRST_AGAIN_S * 2 ** max(0, worker.deaths - 1), LAST_AGAIN_S)
        worker.start_at = now + again_s
        log.error("worker died number=%d status=%d again_in_s=%g", worker.number, status, again_s)

    def _start(self, worker: Worker) -> None:
        parent, others_serve = os.getpid(), any(each.serves for each in self._workers)
        worker.started_at, worker.start_at = self._clock.monotonic(), None
        try:
            pid = os.fork()
        except OSError as error:  # EAGAIN: the system or the user has too many processes
            log.error("cannot start a worker number=%d reason=%s", worker.number, error.strerror)
            self._died(worker, 1)
            return
        if pid == 0:
            _exit(partial(self._work, worker.number, others_serve), parent)
        worker.pid = pid


def _exit(work: Callable[[], int], parent: int) -> None:
    """What the new process does. It never returns, since what stands above it on the stack is the parent's.

    Signals wait until `work` heeds them.
    """
    status = 1
    try:
        _end_with(parent)
        status = work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        logging.shutdown()
        os._exit(status)


def _end_with(parent: int) -> None:
    """Drain when the parent dies, however it does (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def announce(text: str, place: Listening) -> None:
    """Tell what is served, once, and the parent that this worker serves, if it is one."""
    if not place.worker:
        say(text)
    if place.worker is not None:
        log.info("worker serves number=%d", place.worker)
        _tell(place.parent, SERVES)


def reload_all(place: Listening) -> None:
    """Have the other workers read the configuration again: called in one of them, which has."""
    _tell(place.parent, RELOADS)


def _tell(parent: int | None, number: int) -> None:
    """Send it a signal unless it is dead. To systemd, which may have adopted this worker, SERVES means rescue mode.

    No pidfd: an interpreter built for old kernels has no os.pidfd_open.
    """
    if parent is not None and parent == os.getppid():
        with contextlib.suppress(ProcessLookupError):  # it has died just now
            os.kill(parent, number)


def run_workers(
    count: int,
    place: Listening,
    work: Callable[[Listening], int],
    reload: Callable[[], None],
    supervisor: Supervisor,
    clock: Clock,
) -> int:
    """Returns the worst exit status once all have ended. `work` is told where to listen, `reload` is as Workers has it.

    Raises StartError if they cannot have the port.
    """
    if place.inherited:  # each accepts on them
        held, port = list(place.inherited), int(place.inherited[0].getsockname()[1])
    else:
        port, held = _reserved(place.host, place.port)
    place = replace(place, port=port, parent=os.getpid())

    def each(number: int, others_serve: bool) -> int:
        return work(replace(place, worker=number, others_serve=others_serve))

    with contextlib.ExitStack() as holding:
        for one in held:
            holding.enter_context(one)
        return Workers(count, each, reload, supervisor, clock).run()


def _reserved(host: str, port: int) -> tuple[int, list[socket.socket]]:
    """The port that the workers share, and sockets that hold it while no worker does. Raises StartError."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise StartError("server.workers: this system has no SO_REUSEPORT: set server.workers to 1")
    alone = sockets_at(
        host, port
    )  # fails if others listen there; those of this user could share it unnoticed
    return int(alone[0].getsockname()[1]), [_instead_of(each) for each in alone]


def _instead_of(found: socket.socket) -> socket.socket:
    """A socket at the same address, which others may share and which does not listen."""
    held = socket.socket(found.family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if found.family == socket.AF_INET6:
        only = found.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    address = found.getsockname()
    found.close()
    held.bind(address)
    return held
