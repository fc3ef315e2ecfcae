"""Kills a process that writes, again and again, and looks for what it had acknowledged.

    PYTHONPATH=. python tests/proxy/storage/kill_storm.py --kills 2000 /tmp/storm/data

Ends with status 1 and a line for each loss.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

from proxy.clock import SystemClock
from proxy.storage.json_files import JsonFiles
from proxy.storage.protocols import Kind

KINDS: tuple[Kind, ...] = ("accounts", "tokens")
IDS = ("a", "b", "c")
WRITES = 60  # of one life; more than can be done before the kill
Key = tuple[Kind, str]
Value = dict[str, str | int] | None  # None: there is no such record
Records = dict[Key, Value]


def life(folder: Path, chance: random.Random, born: int, before: Records) -> dict[Key, list[Value]]:
    """One process until it is killed: the values that each record may have now."""
    orders: list[tuple[Kind, str, Value]] = [
        (
            chance.choice(KINDS),
            chance.choice(IDS),
            None if chance.random() < 0.2 else {"n": born * WRITES + n, "pad": "x" * chance.randrange(5000)},
        )
        for n in range(WRITES)
    ]
    lines = [
        json.dumps(["delete", kind, id] if value is None else ["put", kind, id, value])
        for kind, id, value in orders
    ]
    with subprocess.Popen(  # noqa: S603 - our own child
        [sys.executable, str(Path(__file__).with_name("child.py")), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        opened = child.stdout.readline()
        child.stdin.write("\n".join(lines) + "\n")
        child.stdin.flush()
        answers = [child.stdout.readline() for _ in range(chance.randrange(WRITES // 2))]
        child.kill()
        answers += child.stdout.readlines()
    if {opened, *answers} != {"ok\n"}:
        raise SystemExit(f"the child answered {opened!r} {answers!r}")
    allowed = {(kind, id): [before.get((kind, id))] for kind in KINDS for id in IDS}
    for kind, id, value in orders[: len(answers)]:
        allowed[kind, id] = [value]
    for kind, id, value in orders[len(answers) : len(answers) + 1]:  # it writes one at a time
        allowed[kind, id].append(value)
    return allowed


async def stored(folder: Path) -> Records:
    storage = JsonFiles.open(folder, clock=SystemClock())
    try:
        return {(kind, id): value for kind in KINDS for id, value in (await storage.load(kind)).items()}
    finally:
        await storage.close()


def main(folder: Path, kills: int, seed: int) -> int:
    chance = random.Random(seed)
    before: Records = {}
    losses = 0
    for born in range(kills):
        allowed = life(folder, chance, born, before)
        after = asyncio.run(stored(folder))
        for key, values in allowed.items():
            if after.get(key) not in values:
                losses += 1
                print(f"life {born}: {key} is {after.get(key)}, and should be one of {values}")
        before = after
    print(f"{kills} kills, {losses} losses, seed {seed}")
    return min(losses, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    raise SystemExit(main(args.folder, args.kills, args.seed))
