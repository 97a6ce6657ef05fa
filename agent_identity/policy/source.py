"""Where in a policy file a value stands, so that every complaint has a line and a column."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

__all__ = ["MAX_DEPTH", "Document", "Malformed", "Mark", "Path", "Problem", "quoted", "words"]

Path: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys and 0-based positions."""

Mark: TypeAlias = tuple[int, int]
"""A line and a column, both 1-based."""

MAX_DEPTH: Final = 32
"""Values of a policy may be nested this deep."""


@final
class Problem(Exception):
    """A value of a policy is wrong; caught where the value can be located.

    Attributes:
        path: The way to the value.
        at_key: Whether the key at the end of the path is wrong, rather than its value.
    """

    def __init__(self, message: str, path: Path = (), *, at_key: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.at_key = at_key

    def within(self) -> str:
        """Return the message with the way to the value before it, for rules without a file."""
        way = ".".join(str(step) for step in self.path)
        return f"{way}: {self}" if way else str(self)


@final
class Malformed(Exception):
    """A policy file is not even well-formed.

    Attributes:
        mark: Where.
    """

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.mark = mark


@final
@dataclass(slots=True)
class Document:
    """The plain value of a file, and where its parts stand.

    Attributes:
        value: Dicts, lists and scalars.
        keys: Where the key at the end of a path stands.
        values: Where the value at the end of a path stands.
    """

    value: object = None
    keys: dict[Path, Mark] = field(default_factory=dict[Path, Mark])
    values: dict[Path, Mark] = field(default_factory=dict[Path, Mark])

    def locate(self, problem: Problem) -> Mark:
        """Return the place of a problem, or of what surrounds it where the file form tells no more."""
        if problem.at_key and problem.path in self.keys:
            return self.keys[problem.path]
        for length in range(len(problem.path), 0, -1):
            if problem.path[:length] in self.values:
                return self.values[problem.path[:length]]
        return (1, 1)


def quoted(word: str) -> str:
    """Return a word of a policy for a message: in quotes, escaped and short."""
    return repr(word if len(word) <= 40 else word[:40] + "…")


def words(names: Iterable[str]) -> str:
    """Return names for a message, in order."""
    return ", ".join(sorted(names))
