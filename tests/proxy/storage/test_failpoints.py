"""Failpoints do what the variable says, and nothing where it says nothing."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from proxy.failpoints import failpoint, failstep

SCRIPT = """
from proxy.failpoints import failpoint, failstep
try:
    failpoint("a.before")
    with failstep("b"):
        print("in b")
    print("after b")
except OSError as error:
    print(error.errno, error.strerror)
"""


@pytest.mark.parametrize(
    ("variable", "status", "printed"),
    [
        ("", 0, ["in b", "after b"]),
        ("a:kill,b:kill", 0, ["in b", "after b"]),
        ("a.before:kill", -signal.SIGKILL, []),
        ("b.before:28", 0, [f"{errno.ENOSPC} No space left on device"]),
        ("b.after:5", 0, ["in b", f"{errno.EIO} Input/output error"]),
        ("b.after:5,b.before:28", 0, ["28 No space left on device"]),
    ],
)
def test_a_failpoint_does_what_the_variable_says(
    child_env: Callable[..., dict[str, str]], variable: str, status: int, printed: list[str]
) -> None:
    done = subprocess.run(  # noqa: S603 - the script above
        [sys.executable, "-u", "-c", SCRIPT],
        env=child_env(failpoint=variable),
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.splitlines()) == (status, printed)


def test_a_variable_that_makes_no_sense_is_an_error(child_env: Callable[..., dict[str, str]]) -> None:
    done = subprocess.run(  # noqa: S603 - the script above
        [sys.executable, "-c", SCRIPT],
        env=child_env(failpoint="a.before:explode"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "'a.before:explode' is not name:kill or name:errno" in done.stderr


def test_without_the_variable_nothing_happens() -> None:
    failpoint("storage.rename.before")
    with failstep("storage.rename"):
        pass
