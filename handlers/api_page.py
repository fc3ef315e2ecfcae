"""The description of the admin API as a page: plain HTML, which needs no script."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]


def page(description: Schema, style: str) -> str:
    """The whole page; `style` is the URL of its style sheet."""
    info, schemas = description["info"], description["components"]["schemas"]
    operations = [
        (method.upper(), path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f"<title>{escape(info['title'])}</title>",
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f'<link rel="stylesheet" href="{escape(style)}"></head><body>',
            f"<header><h1>{escape(info['title'])}</h1><p>Version {escape(info['version'])}. ",
            f'{_told(info["description"])} <a href="openapi.json">openapi.json</a></p></header><main>',
            "<h2>Routes</h2>",
            *(_operation(*each) for each in operations),
            "<h2>Shapes</h2>",
            *(_schema(name, schema) for name, schema in sorted(schemas.items())),
            "</main></body></html>",
        )
    )


def _operation(method: str, path: str, operation: Schema) -> str:
    roles = operation.get("x-roles")
    who = f"For keys of role {' or '.join(roles)}." if roles else "Open to anyone."
    return (
        f"<details><summary><b>{method}</b> <code>{escape(path)}</code> {escape(operation['summary'])}</summary>"
        f"<p>{escape(who)}</p>{_parameters(operation['parameters'])}{_body(operation)}{_responses(operation)}</details>"
    )


def _parameters(parameters: list[Schema]) -> str:
    rows = [
        (
            f"<code>{escape(each['name'])}</code>",
            each["in"],
            _type(each["schema"]),
            _told(each.get("description", "")),
        )
        for each in parameters
    ]
    return _table("Parameters", ("Name", "In", "Type", ""), rows)


def _body(operation: Schema) -> str:
    body = operation.get("requestBody")
    if body is None:
        return ""
    need = "" if body["required"] else ", may be left out"
    return f"<p>Body{need}: {_content(body)}</p>"


def _responses(operation: Schema) -> str:
    rows = [
        (status, escape(each["description"]), _content(each))
        for status, each in operation["responses"].items()
    ]
    return _table("Answers", ("Status", "", "Content"), rows)


def _content(holder: Schema) -> str:
    kinds = holder.get("content", {})
    return ", ".join(
        _type(value["schema"]) if "schema" in value else f"<code>{escape(kind)}</code>"
        for kind, value in kinds.items()
    )


def _schema(name: str, schema: Schema) -> str:
    required = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(member)}</code>",
            _type(value),
            "" if member in required else "may be absent",
            _told(value.get("description", "")),
        )
        for member, value in schema.get("properties", {}).items()
    ]
    told = _told(schema.get("description", ""))
    return (
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><p>{told}</p>'
        f"{_table('Members', ('Name', 'Type', '', ''), rows)}</details>"
    )


def _type(schema: Schema) -> str:
    """A type in HTML: a link for a shape of its own."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(each) for each in schema[several])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
    if schema.get("title") == "empty":
        return "empty"
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    return escape(" ".join(_words(schema))) + (f" {_type(schema['items'])}" if schema.get("items") else "")


def _told(text: str) -> str:
    """A text in HTML, with its names as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _words(schema: Schema) -> Iterator[str]:
    kind = schema.get("type", "anything")
    yield "list of" if kind == "array" and schema.get("items") else str(kind)
    for name in ("format", "minimum", "exclusiveMinimum", "maximum", "minLength", "maxLength", "maxItems"):
        if name in schema:
            yield f"{name} {schema[name]}"


def _table(caption: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """`rows` are HTML."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
