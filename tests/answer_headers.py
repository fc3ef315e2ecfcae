"""Headers of an upstream's answer, from names and values."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.http.headers import AnswerHeaders
from proxy.http.lines import line_of


def answer_headers(pairs: Iterable[tuple[str, str]]) -> AnswerHeaders:
    """As they are read off the wire."""
    lines = [line_of(f"{name}: {value}\r") for name, value in pairs]
    return AnswerHeaders([line for line in lines if line is not None])
