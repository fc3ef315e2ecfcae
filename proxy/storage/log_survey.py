"""A look at the logs in the root of a data folder when it is opened. Logs of usage are left to whoever reads them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxy.errors import StorageError
from proxy.failpoints import failstep
from proxy.storage.layout import KEPT, ROOT_LOGS
from proxy.storage.logs import Seen, each_line, parse


@dataclass(frozen=True, slots=True)
class LogSurvey:
    """`seen`: the logs that are there, by the name of the file. `unreadable`: those that a start does without."""

    seen: dict[str, Seen] = field(default_factory=dict)
    unreadable: list[Path] = field(default_factory=list)

    @property
    def here(self) -> set[str]:
        """The names of all files that are there."""
        return {*self.seen, *(path.name for path in self.unreadable)}

    def findings(self) -> Iterator[str]:
        """What is wrong, and what comes of it, for people."""
        for path in self.unreadable:
            yield f"{path.name} was damaged (the disk cannot read it): {KEPT}"
            yield f"{path.name} starts empty"


def survey_logs(folder: Path, takes: Mapping[str, Callable[[bytes], object]]) -> LogSurvey:
    """Read each log; a line for which its `take`, by the log's name, raises ValueError counts as damaged.

    Raises StorageError if the disk cannot read a durable one, or a `take` does; OSError if one is not a regular file.
    """
    survey = LogSurvey()
    for name, layout in ROOT_LOGS.items():
        path, take = layout.file(folder), takes.get(name, parse)
        try:
            with failstep(f"storage.survey.{path.stem}"):
                seen = each_line(path, take)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            if layout.durable:
                raise StorageError(
                    f"{path} cannot be used (the disk cannot read it): restore it from a backup, or move it away "
                    "to start without"
                ) from error
            survey.unreadable.append(path)
        else:
            if path.exists():
                survey.seen[path.name] = seen
    return survey
