"""`run.py` in an interpreter that has imported it, forked at a line of stdin: tests/process.py starts this.

    PYTHONPATH=. python tests/forked.py

The line is a JSON object: `arguments`, `stderr` (a file), and if they are not to be this one's own, `stdout` (a file)
and `environ`, which may name a CP_FAILPOINT_FILE: see tests/faults/armed.py. Each fork is a process as if started by
itself; it says `pid <pid>` first. When it has ended, `ended <status>` follows, and the next line of stdin lets it go.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from run import main
from tests.faults.armed import arm


def live(start: dict[str, Any]) -> int:
    """What the fork does: its exit status."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    replace(2, start["stderr"])
    print("pid", os.getpid(), flush=True)
    if "stdout" in start:
        replace(1, start["stdout"])
    if "environ" in start:
        os.environ.clear()
        os.environ.update(start["environ"])
    arm()
    sys.argv[1:] = start["arguments"]
    return main()


def replace(fd: int, path: str) -> None:
    """Have the descriptor write to a new file."""
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), fd)


if __name__ == "__main__":
    while line := sys.stdin.readline():
        pid = os.fork()
        if not pid:
            sys.exit(live(json.loads(line)))
        # Its number is nobody else's until the next line comes, whoever may still send it a signal.
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert end is not None
        print("ended", end.si_status if end.si_code == os.CLD_EXITED else -end.si_status, flush=True)
        sys.stdin.readline()
        os.waitpid(pid, 0)
