"""Reads the file or folder of another program: bounded, whatever is in it, and without following links."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from pydantic_core import from_json

from proxy.accounts.foreign.offer import Refusal, shown
from proxy.errors import StartError
from proxy.storage import files

MOST_BYTES: Final = 8 * 1024 * 1024
"""Of all files together: thousands of accounts, at 1 to 2 KB each."""

MOST_FILES: Final = 2000
PROFILE_FOLDERS: Final = ("configs", "credentials")


@dataclass(slots=True)
class Source:
    """The JSON of the files by name, and those of a folder that are none."""

    documents: dict[str, object] = field(default_factory=dict, repr=False)
    refused: list[Refusal] = field(default_factory=list)


def read_source(path: Path) -> Source:
    """What is in a file, in the files of a folder, or in a profile that one of its two files names.

    Raises StartError, which names the file.
    """
    try:
        if path.is_dir():
            return _folder(path)
        if path.parent.name in PROFILE_FOLDERS:
            pair = (path.parent.parent / folder / path.name for folder in PROFILE_FOLDERS)
            named = {f"{each.parent.name}/{each.name}": each for each in pair if os.path.lexists(each)}
            if named:
                return Source({name: _json(each, MOST_BYTES)[0] for name, each in named.items()})
        return Source({path.name: _json(path, MOST_BYTES)[0]})
    except ValueError as error:
        raise StartError(f"{path}: {error}") from None
    except OSError as error:
        raise StartError(f"{error.filename or path} cannot be read: {error.strerror or error}") from None


def _folder(path: Path) -> Source:
    source, left = Source(), MOST_BYTES
    for name, file in _listed(path).items():
        try:
            source.documents[name], size = _json(file, left)
            left -= size
        except OSError as error:
            source.refused.append(Refusal(shown(name), error.strerror or "it cannot be read"))
        except ValueError as error:
            source.refused.append(Refusal(shown(name), str(error)))
    if not source.documents and not source.refused:
        raise StartError(f"{path} has no file that ends in .json")
    return source


def _listed(path: Path) -> dict[str, Path]:
    """The JSON files of a folder by name; with those of its two folders if it has profiles. Raises StartError."""
    folders = [path / name for name in PROFILE_FOLDERS if (path / name).is_dir()]
    found: dict[str, Path] = {}
    for folder in folders or [path]:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, MOST_FILES + 1)]
        if len(names) > MOST_FILES:
            raise StartError(
                f"{folder} has more than {MOST_FILES} files: name one of them, or a smaller folder"
            )
        before = f"{folder.name}/" if folders else ""
        found |= {f"{before}{name}": folder / name for name in sorted(names) if name.endswith(".json")}
    return found


def _json(path: Path, most: int) -> tuple[object, int]:
    """The JSON in a file, and the file's size. Raises ValueError, OSError."""
    with files.opened(path) as file:
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes, or all files together are")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    try:
        # Nested deeper than 200, it counts as no JSON.
        return from_json(text, allow_inf_nan=False), len(data)
    except ValueError:
        raise ValueError("it is not JSON, or nested too deeply") from None
