"""The colours of the style sheet can be told apart: WCAG 2.2 contrast on every background, by day and by night."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

CSS = (Path(__file__).parents[2] / "static/app.css").read_text()
BACKGROUNDS = ("bg", "panel")
TEXT = ("fg", "muted", "accent", "ok", "warn", "bad")
LINES = ("control", "main", "orange", "pink")


def colour(name: str, theme: str) -> str:
    found = re.search(rf"--{name}: ?light-dark\((#\w+), ?(#\w+)\)", CSS)
    assert found is not None, name
    return found[1 if theme == "light" else 2]


def luminance(hexadecimal: str) -> float:
    digits = hexadecimal[1:] if len(hexadecimal) == 7 else "".join(2 * each for each in hexadecimal[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_legible_and_lines_are_seen(theme: str) -> None:
    least = dict.fromkeys(TEXT, 4.5) | dict.fromkeys(LINES, 3.0)
    found = {
        (name, ground): contrast(colour(name, theme), colour(ground, theme))
        for name, ground in product(least, BACKGROUNDS)
    }
    assert {pair: ratio for pair, ratio in found.items() if ratio < least[pair[0]]} == {}
