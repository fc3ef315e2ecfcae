"""Plots as SVG: cost over size, which is logarithmic, readable on light and on dark ground."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 760, 470
LEFT, RIGHT, TOP, BOTTOM = 74, 96, 52, 132
"""Margins; the caption is in the lowest, the names of the lines in the right one."""
CAPTION_COLUMNS = 104
LABEL_GAP = 15

STYLE = """
  .ground { fill: #ffffff } text { fill: #24292f; font: 13px system-ui, sans-serif }
  .title { font-size: 16px; font-weight: 600 } .quiet { fill: #57606a; font-size: 12px }
  .grid { stroke: #d0d7de; stroke-width: 1 } .line { fill: none; stroke-width: 2.5 }
  .ours { stroke: #0550ae; fill: #0550ae } .nginx { stroke: #1a7f37; fill: #1a7f37 }
  .caddy { stroke: #bc4c00; fill: #bc4c00 } .name { stroke: none }
  .line.ours, .line.nginx, .line.caddy { fill: none }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9198a1 } .grid { stroke: #30363d }
    .ours { stroke: #79c0ff; fill: #79c0ff } .nginx { stroke: #56d364; fill: #56d364 }
    .caddy { stroke: #ffa657; fill: #ffa657 } .name { stroke: none }
  }
"""


class Scale:
    """Places values along an axis by their logarithm; 0 stands left of all, since it has none."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        positive = [value for value in values if value > 0] or [1.0]
        self._zero = len(positive) < len(values)
        self._low = math.floor(math.log10(min(positive)))
        self._high = max(self._low + 1.0, math.log10(max(positive)))
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        first = self._low - 1 if self._zero else self._low
        power = math.log10(value) if value > 0 else first
        return self._start + (power - first) / (self._high - first) * (self._end - self._start)

    def ticks(self) -> list[float]:
        """The powers of ten, and 0 if it is among the values."""
        powers = [10.0**power for power in range(self._low, math.floor(self._high + 1e-9) + 1)]
        return [0.0, *powers] if self._zero else powers


class Even:
    """Places values along an axis evenly, from 0."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        most = max(values, default=0) or 1.0
        power = 10.0 ** math.floor(math.log10(most))
        self._step = next(step * power for step in (0.2, 0.5, 1, 2) if most / (step * power) <= 6)
        self._top = math.ceil(most / self._step) * self._step
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        return self._start + value / self._top * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Round values, from 0 to the top."""
        return [self._step * number for number in range(round(self._top / self._step) + 1)]


def plot(
    title: str,
    axis: str,
    unit: str,
    lines: Mapping[str, Sequence[Point]],
    caption: Sequence[str],
    *,
    grows: bool,
) -> str:
    """An SVG document; `lines` are (size, cost) by target, each line of `caption` is wrapped.

    A cost that does not grow is placed evenly, from 0.
    """
    across = Scale([x for points in lines.values() for x, _ in points], LEFT, WIDTH - RIGHT)
    costs = [y for points in lines.values() for _, y in points]
    up = (Scale if grows else Even)(costs, HEIGHT - BOTTOM, TOP)
    wrapped = [line for each in caption for line in textwrap.wrap(each, CAPTION_COLUMNS)]
    height = HEIGHT + max(0, len(wrapped) - 4) * 17
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
        _text(LEFT, 26, f"{title}: {unit}", "title"),
        *_grid(across, up, axis),
        *(_line(name, points, across, up) for name, points in lines.items()),
        *_names(lines, up),
        *(_text(LEFT, HEIGHT - BOTTOM + 66 + 17 * at, line, "quiet") for at, line in enumerate(wrapped)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def short(value: float) -> str:
    """Such as 500, 20 k, 32 M, 0.01."""
    for limit, sign in ((1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:g}{sign}"
    return f"{value:g}"


def _grid(across: Scale, up: Scale | Even, axis: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in across.ticks():
        x = across(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 18, short(tick), "quiet", anchor="middle"))
    for tick in up.ticks():
        y = up(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, short(tick), "quiet", anchor="end"))
    parts.append(_text((LEFT + right) / 2, bottom + 38, axis, "quiet", anchor="middle"))
    return parts


def _line(name: str, points: Sequence[Point], across: Scale, up: Scale | Even) -> str:
    places = [(across(x), up(y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = "".join(f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in places)
    return f'<polyline class="line {name}" points="{path}"/>{marks}'


def _names(lines: Mapping[str, Sequence[Point]], up: Scale | Even) -> list[str]:
    """The name of each line at its end, moved down if another one is there."""
    parts, free = [], 0.0
    for name, points in sorted(lines.items(), key=lambda item: up(item[1][-1][1])):
        y = max(up(points[-1][1]) + 4, free)
        free = y + LABEL_GAP
        parts.append(_text(WIDTH - RIGHT + 12, y, name, f"name {name}"))
    return parts


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
