"""Tells of errors in shapes that are not known here, so that it is seen when the API changes its words."""

from __future__ import annotations

import logging
import re

from proxy.upstream.error_body import ApiError
from proxy.upstream.refusals import is_unclassified

_MOST_SHAPES = 100
_LONGEST = 80

log = logging.getLogger(__name__)


class Unclassified:
    """Counts errors of unknown shapes, and logs each shape once: status, type and code, or else the first words."""

    def __init__(self) -> None:
        self.count = 0
        self._shapes: set[tuple[int, str, str]] = set()

    def note(self, status: int, error: ApiError) -> None:
        """Look at one answer with a status from 400 to 499."""
        if not is_unclassified(status, error):
            return
        self.count += 1
        words = error.code or re.sub(r"\d+", "0", error.own_words)
        shape = (status, error.type[:_LONGEST], words[:_LONGEST])
        if shape not in self._shapes and len(self._shapes) < _MOST_SHAPES:
            self._shapes.add(shape)
            told = error._replace(message=f"{error.code} {error.message}".strip())
            log.warning("unclassified error of the upstream evidence=%s", told.describe(status))
