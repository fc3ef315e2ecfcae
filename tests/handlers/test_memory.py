"""What the process has freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCKS = """
import re
from pathlib import Path
from handlers.front import freeze_memory

def memory_mb():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def fill():
    return [(b"x" * 3_000_000, b"y" * 1000 * len(kept)) for _ in range(20) if kept.append(b"z" * 5000) is None]

freeze_memory()
kept, before = [], memory_mb()
for _ in range(5):
    blocks = fill()
    most = memory_mb()
    del blocks
print(most - before, memory_mb() - before)
"""


def test_large_blocks_of_memory_go_back_to_the_system() -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", BLOCKS], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    most, left = map(float, done.stdout.split())
    assert most > 50
    assert left < 10
