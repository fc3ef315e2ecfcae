"""A process of its own that uses a data folder: reads verbs from stdin, one JSON list per line, answers each.

    PYTHONPATH=. python tests/proxy/storage/child.py <folder>

It opens the folder first, with the keys in CHILD_KEYS (`<key or nothing>,<old key>`, in hex), and answers that too.
An answer is `ok`, a JSON value, or `StorageError: …`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from proxy.clock import SystemClock
from proxy.errors import StorageError
from proxy.storage.envelope import Keyring
from proxy.storage.json_files import JsonFiles
from tests.faults.armed import arm

KEY, *OLD = map(bytes.fromhex, os.environ.get("CHILD_KEYS", "").split(","))


def say(answer: str) -> None:
    """Write one line as a whole: a process that is killed must not have said half of it."""
    os.write(1, f"{answer}\n".encode())


def open_folder(folder: Path) -> JsonFiles:
    return JsonFiles.open(folder, clock=SystemClock(), keyring=Keyring(KEY or None, OLD))


async def perform(storage: JsonFiles, folder: Path, verb: str, *args: Any) -> Any:
    if verb == "fill":  # the disk, to the last byte
        with (folder.parent / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x"):
                pass
    elif verb == "free":
        (folder.parent / "filler").unlink()
    elif verb == "durable":
        await storage.append(*args, durable=True)
    elif verb == "all_durable":  # each line as an append of its own, all at the same time
        log, lines = args
        await asyncio.gather(*(storage.append(log, [line], durable=True) for line in lines))
    elif verb in ("load", "logs", "read_log"):
        return await getattr(storage, verb)(*args)
    else:
        await getattr(storage, verb)(*args)
    return "ok"


async def main(folder: Path) -> None:
    storage = open_folder(folder)
    say("ok")
    try:
        for line in sys.stdin:
            verb, *args = json.loads(line)
            try:
                if verb == "reopen":
                    await storage.close()
                    storage = open_folder(folder)
                    answer: Any = "ok"
                else:
                    answer = await perform(storage, folder, verb, *args)
            except StorageError as error:
                answer = f"StorageError: {error}"
            say(answer if isinstance(answer, str) else json.dumps(answer))
    finally:
        await storage.close()


if __name__ == "__main__":
    arm()
    try:
        asyncio.run(main(Path(sys.argv[1])))
    except StorageError as error:
        say(f"StorageError: {error}")
