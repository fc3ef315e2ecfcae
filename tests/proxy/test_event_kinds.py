"""The list of the kinds of events is whole: whatever the program tells of is in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from proxy.accounts.account import Status
from proxy.dashboard.notify.notice import ALARMS
from proxy.event_kinds import KINDS

ROOT = Path(__file__).parents[2]
TREES = [
    ast.parse(path.read_text())
    for folder in ("proxy", "handlers")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
KIND = re.compile(r"[a-z_]+(\.[a-z_]+)?")  # and not what systemd is told
TELLS = ("Happened", "Notice", "tell", "_tell")
NO_EVENT = "test"
"""What an admin has sent to try a target, whatever kinds that wants."""


def constants() -> dict[str, set[str]]:
    """The texts that modules give names, by name."""
    found: dict[str, set[str]] = {}
    for tree in TREES:
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            value = getattr(node, "value", None)
            if (
                isinstance(target, ast.Name)
                and isinstance(value, ast.Constant)
                and isinstance(value.value, str)
            ):
                found.setdefault(target.id, set()).add(value.value)
    return found


def told() -> Iterator[ast.expr]:
    """What each call that tells of something says first."""
    for tree in TREES:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if name in TELLS:
                    yield node.args[0]


def words() -> set[str]:
    """The kinds that are told, or what comes after their point where the rest is said elsewhere."""
    named = constants()
    found = {each.value for each in told() if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    found |= {word for each in told() if isinstance(each, ast.Name) for word in named.get(each.id, ())}
    return {word for word in found if KIND.fullmatch(word)} | set(Status) | set(ALARMS)


def test_every_kind_that_is_told_is_in_the_list() -> None:
    known = {*KINDS, *(kind.partition(".")[2] for kind in KINDS)}
    assert words() - known == {NO_EVENT}


def test_every_kind_in_the_list_is_told() -> None:
    found = words()
    assert [kind for kind in KINDS if kind not in found and kind.partition(".")[2] not in found] == []
