"""Plausible answers that depend on nothing but the question."""

from __future__ import annotations

import hashlib
import random
import re

from .replies import Json

_OPENINGS = (
    "Happy to help with that.",
    "Good question.",
    "Here is what I would suggest.",
    "Let me walk you through it.",
)
_SENTENCES = (
    "The short version is that the simplest approach usually holds up best.",
    "Start with the part that changes least and build outward from there.",
    "It is worth measuring first, because intuition about cost is often wrong.",
    "Two details matter here: the order of the steps and who owns the result.",
    "A small example makes the difference clear.",
    "If something fails, say so early and leave the state as it was.",
    "Once that works, the remaining cases follow the same pattern.",
    "Keep the names close to the words people already use.",
    "That said, there is a trade-off between speed and clarity.",
    "You can verify each step on its own before putting them together.",
)
_MOST_WORDS = 20_000


def generator(*seed: str) -> random.Random:
    """Random numbers that the text of `seed` decides."""
    return random.Random(hashlib.sha256("\0".join(seed).encode()).digest())


def answer(question: str) -> str:
    """Some 60 words, or as many as the question asks for (`in 500 words`)."""
    rng = generator(question)
    asked = re.search(r"(\d{1,6}) words", question)
    words = min(int(asked[1]), _MOST_WORDS) if asked else rng.randint(40, 80)
    topic = " ".join(question.split()[:8])
    text = [rng.choice(_OPENINGS)]
    if topic:
        text.append(f'You asked: "{topic}".')
    count = sum(len(sentence.split()) for sentence in text)
    while count < words:
        sentence = rng.choice(_SENTENCES)
        text.append(sentence)
        count += len(sentence.split())
    return " ".join(" ".join(text).split(" ")[: max(words, 1)])


def thought(question: str) -> str:
    topic = " ".join(question.split()[:6])
    return f"The user asks about: {topic}. I should answer briefly and check the facts first."


def tokens(text: str) -> list[str]:
    """`text` in pieces of about a token; joined again they are `text`."""
    return re.findall(r"\s*\S{1,6}|\s+", text)


def plausible(schema: object, name: str = "value", depth: int = 0) -> object:
    """A value for a JSON schema: its const, default, first enum member, or one of its type."""
    if not isinstance(schema, dict):
        return f"example {name}"
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return plausible(schema[key][0], name, depth)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    match kind:
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case "array":
            return [plausible(schema.get("items"), name, depth + 1)] if depth < 5 else []
        case "object" | None if "properties" in schema or kind == "object":
            return _object(schema, depth)
        case _:
            return _word(schema, name)


def _object(schema: Json, depth: int) -> Json:
    properties = schema.get("properties")
    if depth >= 5 or not isinstance(properties, dict):
        return {}
    wanted = schema.get("required") or list(properties)
    return {name: plausible(properties.get(name), str(name), depth + 1) for name in wanted}


def _word(schema: Json, name: str) -> str:
    shapes = {
        "date": "2026-11-22",
        "date-time": "2026-11-22T10:00:00Z",
        "email": "ada@example.com",
        "uri": "https://example.com/",
    }
    names = {"city": "Paris", "location": "Paris", "query": "weather in Paris", "unit": "celsius"}
    word = shapes.get(schema.get("format", "")) or names.get(name.lower()) or f"example {name}"
    return str(word)
