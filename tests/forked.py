"""`run.py` in an interpreter that has imported it, forked at a line of stdin: tests.process.forking starts this.

    PYTHONPATH=. python tests/forked.py <file for standard error> --config …

Each fork is a process as if started by itself; it says `pid <pid>` first. When it has ended, `ended <status>`
follows, and the next line of stdin lets go of it.
"""

from __future__ import annotations

import os
import sys

from run import main


def live(stderr: str) -> int:
    """What the fork does: its exit status."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    print("pid", os.getpid(), flush=True)
    return main()


if __name__ == "__main__":
    _, stderr, *sys.argv[1:] = sys.argv
    while sys.stdin.readline():
        pid = os.fork()
        if not pid:
            sys.exit(live(stderr))
        # Its number is nobody else's until the next line comes, whoever may still send it a signal.
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert end is not None
        print("ended", end.si_status if end.si_code == os.CLD_EXITED else -end.si_status, flush=True)
        sys.stdin.readline()
        os.waitpid(pid, 0)
