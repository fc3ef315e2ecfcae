"""Which fault comes next: the scripted queues, the lasting faults, and the `x-simulate` header."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from . import wishes
from .faults import Fault

# Without a path, a script is about the API, not about logging in.
_OAUTH = ("/v1/oauth/", "/oauth/")
_WISHES_KEPT = 1000


@dataclass(slots=True)
class _Line:
    owner: str | None
    path: str | None
    queue: deque[Fault] = field(default_factory=deque)
    lasting: Fault | None = None

    def about(self, owner: str | None, path: str) -> bool:
        if self.owner is not None and self.owner != owner:
            return False
        return not path.startswith(_OAUTH) if self.path is None else path.startswith(self.path)


class Script:
    """Faults by owner (an API key or a grant; None means any) and path prefix."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._wishes: Counter[tuple[str, str]] = Counter()

    def queue(self, owner: str | None, path: str | None, answers: tuple[Fault, ...]) -> None:
        self._lines.append(_Line(owner, path, deque(answers)))

    def always(self, owner: str | None, path: str | None, answer: Fault) -> None:
        self._lines.append(_Line(owner, path, lasting=answer))

    def calm(self, owner: str | None) -> None:
        """Forget what was scripted for `owner`; None forgets everything."""
        self._lines = [line for line in self._lines if owner is not None and line.owner != owner]

    def take(self, owner: str | None, path: str) -> Fault | None:
        """The next queued fault, the owner's own first; then the newest lasting one."""
        about = sorted(
            (line for line in self._lines if line.about(owner, path)), key=lambda x: x.owner is None
        )
        for line in about:
            if line.queue:
                return line.queue.popleft()
        return next((line.lasting for line in reversed(about) if line.lasting is not None), None)

    def wished(self, header: str, organization: str | None, path: str) -> Fault | None:
        """The fault that an `x-simulate` header asks for; ApiError where it is malformed."""
        wish = wishes.parse(header)
        if wish.organizations and organization not in wish.organizations:
            return None
        if not path.startswith(wish.path):
            return None
        if wish.times is None:
            return wish.fault
        if self._wishes[header, path] >= wish.times:
            del self._wishes[header, path]
            return None
        if len(self._wishes) >= _WISHES_KEPT:
            self._wishes.clear()
        self._wishes[header, path] += 1
        return wish.fault
