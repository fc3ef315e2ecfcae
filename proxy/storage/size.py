"""How much disk a data folder takes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def size_of(folder: Path) -> int:
    """Bytes of all files below the folder, as far as they can be seen. It reads the disk: call it in another thread."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                total += os.lstat(os.path.join(place, name)).st_size
    return total
