"""A JSON schema of the configuration file, for editors: made of the settings' types, defaults and comments."""

from __future__ import annotations

import ast
import inspect
import json
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from proxy.config.effective import shown_as
from proxy.config.settings import Section, Settings

Schema = dict[str, Any]


def text() -> str:
    """The schema as conf/config.schema.json holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> Schema:
    """Of draft 7, which YAML servers know. Nothing is required, since a variable may set what a file leaves out."""
    kinds = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Claude Proxy: configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: _section(kind)
            for name, kind in kinds.items()
            if isinstance(kind, type) and issubclass(kind, Section)
        },
    }


def _section(kind: type[Section]) -> Schema:
    hints, told = get_type_hints(kind, include_extras=True), _comments(kind)
    about = (
        {"description": inspect.cleandoc(kind.__doc__)} if "__doc__" in vars(kind) and kind.__doc__ else {}
    )
    return about | {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            name: _key(hints[name], field.get_default(call_default_factory=True), told.get(name))
            for name, field in kind.model_fields.items()
        },
    }


def _key(hint: Any, default: object, told: str | None) -> Schema:
    found = _with_null(TypeAdapter(hint).json_schema())
    shown = None if default is None else shown_as(default, hint)
    return (
        ({} if told is None else {"description": told})
        | found
        | ({} if shown is None else {"default": shown})
    )


def _with_null(found: Schema) -> Schema:
    """An empty key has its default, whatever its kind."""
    match found:
        case {"anyOf": [only, {"type": "null"}]}:
            return _with_null(only)
        case {"enum": words}:
            return found | {"enum": [*words, None]}
        case {"type": list(kinds)}:
            return found | {"type": [*kinds, "null"]}
        case {"type": kind}:
            return found | {"type": [kind, "null"]}
    return found


def _comments(kind: type[Section]) -> dict[str, str]:
    """The comment behind each key, where the settings are declared."""
    source = inspect.getsource(kind)
    lines, found = source.splitlines(), {}
    (declared,) = ast.parse(source).body
    assert isinstance(declared, ast.ClassDef)
    for node in declared.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own = lines[node.lineno - 1 : node.end_lineno]
            comment = next((line.partition("  # ")[2] for line in own if "  # " in line), "")
            if comment:
                found[node.target.id] = comment
    return found
