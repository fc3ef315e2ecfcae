"""Places where a crash test kills the process or fails a call: `CP_FAILPOINT=storage.rename.before:kill`.

Several are separated by commas. What follows the colon is `kill` (SIGKILL, which is what a crash looks
like) or the number of an errno, raised as OSError. Read once, when this module is imported; unset, a
failpoint is one look-up in an empty mapping.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final


def parse(text: str) -> dict[str, str]:
    """What to do at each failpoint, by its name. Raises ValueError."""
    armed = {}
    for item in filter(None, text.split(",")):
        name, colon, action = item.rpartition(":")
        if not colon or not (action == "kill" or action.isdecimal()):
            raise ValueError(f"CP_FAILPOINT: {item!r} is not name:kill or name:errno")
        armed[name] = action
    return armed


ARMED: Final[Mapping[str, str]] = MappingProxyType(parse(os.environ.get("CP_FAILPOINT", "")))


def failpoint(name: str) -> None:
    """Die or raise OSError here where a test asked for it."""
    action = ARMED.get(name)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action is not None:
        raise OSError(int(action), os.strerror(int(action)))


@contextlib.contextmanager
def failstep(name: str) -> Iterator[None]:
    """The failpoints `<name>.before` and `<name>.after` around one step."""
    failpoint(f"{name}.before")
    yield
    failpoint(f"{name}.after")
