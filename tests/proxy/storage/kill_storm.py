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
LOG = "resources"
WRITES = 60  # of one life; more than can be done before the kill
Key = tuple[Kind, str]
Value = dict[str, str | int] | None  # None: there is no such record
Records = dict[Key, Value]
Order = tuple[Kind, str, Value] | int  # what to write, or the number of a line to append


def order(chance: random.Random, number: int) -> Order:
    if chance.random() < 0.3:
        return number
    value: Value = None if chance.random() < 0.2 else {"n": number, "pad": "x" * chance.randrange(5000)}
    return chance.choice(KINDS), chance.choice(IDS), value


def verb(order: Order) -> list[object]:
    """As child.py takes it."""
    if isinstance(order, int):
        return ["durable", LOG, [{"n": order}]]
    kind, id, value = order
    return ["delete", kind, id] if value is None else ["put", kind, id, value]


def life(
    folder: Path, chance: random.Random, born: int, before: Records
) -> tuple[dict[Key, list[Value]], list[int], int | None]:
    """One process until it is killed.

    Returns the values that each record may have now, the numbers that the log must have, and one that it may have.
    """
    orders = [order(chance, born * WRITES + n) for n in range(WRITES)]
    lines = [json.dumps(verb(each)) for each in orders]
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
    done, current = orders[: len(answers)], orders[len(answers) : len(answers) + 1]  # it writes one at a time
    for each in done:
        if not isinstance(each, int):
            allowed[each[:2]] = [each[2]]
    for each in current:
        if not isinstance(each, int):
            allowed[each[:2]].append(each[2])
    appended = [each for each in done if isinstance(each, int)]
    return allowed, appended, next((each for each in current if isinstance(each, int)), None)


async def stored(folder: Path) -> tuple[Records, list[int]]:
    """The records, and the numbers in the log."""
    storage = JsonFiles.open(folder, clock=SystemClock())
    try:
        records = {(kind, id): value for kind in KINDS for id, value in (await storage.load(kind)).items()}
        return records, [line["n"] for line in await storage.read_log(LOG)]
    finally:
        await storage.close()


def main(folder: Path, kills: int, seed: int) -> int:
    chance = random.Random(seed)
    before: Records = {}
    logged: list[int] = []
    losses = 0
    for born in range(kills):
        allowed, appended, last = life(folder, chance, born, before)
        after, found = asyncio.run(stored(folder))
        logged += appended
        if last is not None and last in found:
            logged.append(last)
        if found != logged:
            losses += 1
            print(f"life {born}: the log has {found}, and should have {logged}")
            logged = found
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
