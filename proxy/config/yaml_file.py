"""The file of the configuration: YAML whose values stay text, each with its place in the file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from proxy.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds: the values by section, and the line of each section and each `section.key`."""

    values: dict[str, object] = field(default_factory=dict, repr=False)
    lines: dict[str, int] = field(default_factory=dict)

    def is_set(self, key: str) -> bool:
        """Whether `section.key` has a value."""
        section, _, name = key.partition(".")
        inside = self.values.get(section)
        return isinstance(inside, dict) and inside.get(name) is not None

    def place(self, path: Path | None, key: str) -> str:
        """The file, with the line of the key if it stands there."""
        return f"{path}, line {self.lines[key]}" if key in self.lines else str(path)


def read(path: Path) -> Written:
    """The file's content. Raises SettingsError, which names the place and quotes no value."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        create = f"create it with: cp conf/config.example.yaml {path}"
        raise SettingsError(f"{path} is not there: {create}") from None
    except IsADirectoryError:
        raise SettingsError(f"{path} is a folder: name the file in it") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read by this user: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8") from None
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        values = {} if node is None else _plain(node, path)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        place = f"{path}, line {at.line + 1}, column {at.column + 1}" if at else str(path)
        # Not the parser's own words: they may quote a value.
        raise SettingsError(f"{place}: not valid YAML: look at its indentation, colons and quotes") from None
    except (yaml.reader.ReaderError, RecursionError):
        raise SettingsError(f"{path} is not YAML: it holds control characters, or contains itself") from None
    if values is None:
        return Written()
    if not isinstance(values, dict):
        raise SettingsError(f"{path} has to hold sections such as `auth:`, their keys indented below them")
    return Written(values, _lines(node))


def _lines(node: yaml.Node | None) -> dict[str, int]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    sections = {section.value: section.start_mark.line + 1 for section, _ in node.value}
    return sections | {
        f"{section.value}.{key.value}": key.start_mark.line + 1
        for section, inside in node.value
        if isinstance(inside, yaml.MappingNode)
        for key, _ in inside.value
    }


def _plain(node: yaml.Node, path: Path) -> object:
    """`node` as dicts, lists and text, with None for what is empty.

    Only the kind of an option says what its text means: YAML 1.1 would make `no` a boolean and `1:30` ninety.
    """
    if isinstance(node, yaml.ScalarNode):
        return None if _is_empty(node) else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, path) for item in node.value]
    values: dict[str, object] = {}
    for name, value in node.value:
        key, place = name.value, f"{path}, line {name.start_mark.line + 1}"
        if not isinstance(key, str) or not re.fullmatch(r"\w+", key):
            raise SettingsError(f"{place}: not a key: write `key: value`, with a space after the colon")
        if key in values:
            raise SettingsError(f"{place}: {key} stands there a second time: remove one of the two")
        values[key] = _plain(value, path)
    return values


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in ("", "~", "null")
