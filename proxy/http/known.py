"""What was read of texts that recur, so that it need not be read again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, TypeVar

T = TypeVar("T")


class Known(dict[str, T], ABC):
    """By text, what was read of it. A dict finds a known one several times faster than a function does.

    Texts come from clients or the upstream, so `most` are kept, and none of more than `longest` characters.
    """

    most: ClassVar[int]
    longest: ClassVar[int]

    @abstractmethod
    def read(self, text: str) -> T:
        """Read a text that is not known."""

    def keeps(self, found: T) -> bool:
        """Whether what was read may be kept, with its text, if that is not too long."""
        return True

    def __missing__(self, text: str) -> T:
        found = self.read(text)
        if len(text) <= self.longest and self.keeps(found):
            if len(self) >= self.most:
                self.clear()
            self[text] = found
        return found
