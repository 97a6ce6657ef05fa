"""Source positions of the values in a policy file, so that every error has a line and a column."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias, TypeVar, final

T = TypeVar("T")
U = TypeVar("U")

Path: TypeAlias = tuple[str | int, ...]
"""The path of a value: keys and 0-based positions."""

Mark: TypeAlias = tuple[int, int]
"""A line and a column, both 1-based."""

MAX_DEPTH: Final = 32
"""Maximum nesting of values in a policy."""


@final
class Problem(Exception):
    """A wrong value in a policy; caught where the value can be located.

    Attributes:
        path: The path of the value.
        at_key: True if the key at the end of the path is wrong, rather than its value.
        others: Further problems at other paths.
    """

    def __init__(self, message: str, path: Path = (), *, at_key: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.at_key = at_key
        self.others: tuple[Problem, ...] = ()

    @property
    def all(self) -> "tuple[Problem, ...]":
        """This problem and the others."""
        return (self, *self.others)

    def within(self) -> str:
        """Return the messages, each prefixed with the path of its value, for rules without a file."""
        ways = (".".join(map(str, problem.path)) for problem in self.all)
        return "; ".join(f"{way}: {of}" if way else str(of) for way, of in zip(ways, self.all, strict=True))


@final
class Gathering:
    """Collects problems, to report all of them at once."""

    __slots__ = ("_problems",)

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def take(self, make: Callable[[], T], otherwise: U) -> T | U:
        """Return the result of a function, or keep its problem and return the stopgap."""
        try:
            return make()
        except Problem as problem:
            self._problems += problem.all
            return otherwise

    def end(self) -> None:
        """Raise the collected problems.

        Raises:
            Problem: The first problem; it carries the others.
        """
        if self._problems:
            first, *others = self._problems
            first.others = tuple(others)
            raise first


def each(makers: Iterable[Callable[[], T]]) -> list[T]:
    """Return the results of several functions, run all of them.

    Raises:
        Problem: At least one function raised a problem; it carries the problems of the others.
    """
    gathering, made = Gathering(), list[T]()
    for make in makers:
        gathering.take(partial(_append, made, make), None)
    gathering.end()
    return made


def _append(made: list[T], make: Callable[[], T]) -> None:
    made.append(make())


@final
class Malformed(Exception):
    """A policy file that is not well-formed.

    Attributes:
        mark: The position.
    """

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.mark = mark


@final
@dataclass(slots=True)
class Document:
    """The plain value of a file, with the positions of its parts.

    Attributes:
        value: Dicts, lists and scalars.
        keys: Position of the key at the end of a path.
        values: Position of the value at the end of a path.
    """

    value: object = None
    keys: dict[Path, Mark] = field(default_factory=dict[Path, Mark])
    values: dict[Path, Mark] = field(default_factory=dict[Path, Mark])

    def locate(self, problem: Problem) -> Mark:
        """Return the position of a problem, or of its surroundings if the file format tells no more."""
        if problem.at_key and problem.path in self.keys:
            return self.keys[problem.path]
        for length in range(len(problem.path), 0, -1):
            if problem.path[:length] in self.values:
                return self.values[problem.path[:length]]
        return (1, 1)


def quoted(word: str) -> str:
    """Quote a word of a policy for a message: escaped and short."""
    return repr(word if len(word) <= 40 else word[:40] + "…")


def words(names: Iterable[str]) -> str:
    """Join names for a message, in order."""
    return ", ".join(sorted(names))
