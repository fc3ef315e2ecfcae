"""What an attack came to: a row of the table that `python -m tests.attacks` ends in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Row:
    """`tried` counts what was sent. `faults` says what fell short, each with how to replay it."""

    attack: str
    tried: int = 0
    faults: list[str] = field(default_factory=list)
    note: str = ""
    seconds: float = 0.0


def table(rows: Iterable[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| attack | tried | fell short | seconds | |", "| --- | ---: | ---: | ---: | --- |"]
    for row in rows:
        lines.append(
            f"| {row.attack} | {row.tried:,} | {len(row.faults) or 'none'} | {row.seconds:.0f} | {row.note} |"
        )
    return "\n".join(lines)
