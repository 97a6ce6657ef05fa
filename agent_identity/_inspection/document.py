"""Read a value as one text: every string in it, each with its path, once and within bounds."""

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import types
import uuid
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, Literal, NamedTuple, TypeAlias, cast, final

from pydantic import BaseModel

from agent_identity._common.narrowing import is_dict
from agent_identity._inspection.texts import Text

__all__ = ["MAX_CHARACTERS", "Document", "Leaf", "Path", "members_of", "pointer", "read"]

MAX_CHARACTERS: Final = 262_144
"""Characters of one value that are read by default; the rest is reported as ``uninspected``."""

MAX_CONTAINERS: Final = 100_000
MAX_DEPTH: Final = 64
_MAX_BLIND: Final = 64
_SHORT: Final = 10**11  # Numbers with fewer digits are no card numbers, and no accounts of anybody.
_LONG: Final = 10**64

Path: TypeAlias = "tuple[Path, str | int] | None"
"""Position of a part: the path of its container, and its name or position there; ``None`` for the value itself."""

Kind: TypeAlias = Literal["text", "key", "bytes", "fixed"]
"""Kind of a string: a text, the key of a member, encoded text, or the spelling of another type, such as a number."""

_SILENT: Final = frozenset(
    {
        *(bool, type(None), complex, range, type(Ellipsis), uuid.UUID),
        *(dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone),
    }
)


class Leaf(NamedTuple):
    """One string of a value: from where to where in the document, its path, and what it is."""

    start: int
    end: int
    path: Path
    kind: Kind


_Piece: TypeAlias = tuple[int, Path, Kind]
"""The size of a string, its path, and what it is."""


def _ending(kind: Kind) -> str:
    return ": " if kind == "key" else "\n"


@final
class Document:
    """A value as one text.

    Attributes:
        text: All strings of the value, one after another, in the order in which they stand.
        leaves: The strings.
        blind: The paths of parts that could not be read.
    """

    __slots__ = ("_leaves", "_pieces", "blind", "text")

    def __init__(self, text: str, pieces: list[_Piece], blind: list[Path]) -> None:
        """Take what was read."""
        self.text: Final = Text(text)
        self.blind: Final = blind
        self._pieces: Final = pieces
        self._leaves: list[Leaf] | None = None

    @property
    def leaves(self) -> list[Leaf]:
        """The strings; computed where something was found, because most values hold nothing."""
        if self._leaves is None:
            self._leaves, start = [], 0
            for size, path, kind in self._pieces:
                self._leaves.append(Leaf(start, start + size, path, kind))
                start += size + len(_ending(kind))
        return self._leaves

    def parts(self, start: int, end: int) -> Iterator[tuple[Leaf, int, int]]:
        """Yield the strings that a span of the raw text covers, with its offsets in each.

        Args:
            start: Where the span begins.
            end: Where it ends.
        """
        index = max(bisect_right(self.leaves, start, key=attrgetter("start")) - 1, 0)
        while index < len(self.leaves) and self.leaves[index].start < end:
            leaf = self.leaves[index]
            first, last = max(start, leaf.start), min(end, leaf.end)
            if first < last:
                yield leaf, first - leaf.start, last - leaf.start
            index += 1


def pointer(path: Path) -> str:
    """Return a path as a JSON pointer (RFC 6901)."""
    segments: list[str] = []
    while path is not None:
        path, segment = path
        segments.append(str(segment).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{segment}" for segment in reversed(segments))


def read(value: object, *, limit: int = MAX_CHARACTERS, skip: Collection[str] = ()) -> Document:
    """Read a value.

    A container that appears several times is read once, so that the work is bounded by the memory that it takes.

    Args:
        value: The value.
        limit: Characters to read at most.
        skip: Names of members of the value that are not read.
    """
    if type(value) is str and len(value) <= limit:
        return Document(value, [(len(value), None, "text")], [])
    reader = _Reader(limit)
    if skip and is_dict(value):
        value = {name: item for name, item in value.items() if name not in skip}
    reader.read(value, None, 0)
    return Document("".join(reader.parts), reader.pieces, reader.blind)


@final
class _Reader:
    __slots__ = ("_left", "_seen", "blind", "parts", "pieces")

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._seen: dict[int, object] = {}  # With the objects, so that no id is used again meanwhile.
        self.parts: list[str] = []
        self.pieces: list[_Piece] = []
        self.blind: list[Path] = []

    def read(self, value: object, path: Path, depth: int) -> None:
        kind = type(value)
        if type(value) is str:
            self._text(value, path, "text")
        elif kind in _SILENT:
            return
        elif kind is int:
            self._number(cast("int", value), path)
        elif kind is float:
            number = cast("float", value)
            if number.is_integer() and abs(number) < _LONG:  # JSON has one kind of number.
                self._number(int(number), path)
        elif kind is dict or kind is list:
            self._container(value, path, depth)
        elif isinstance(value, str | bytes | bytearray | decimal.Decimal | pathlib.PurePath):
            self._spelled(value, path)
        elif isinstance(value, enum.Enum):
            self.read(object.__getattribute__(value, "_value_"), path, depth)
        else:
            self._container(value, path, depth)

    def _text(self, text: str, path: Path, kind: Kind) -> None:
        size = len(text)
        if size > self._left:
            self._miss(path)
            text, size = text[: self._left], self._left
        if not size:
            return
        self._left -= size
        self.pieces.append((size, path, kind))
        self.parts.append(text + _ending(kind))

    def _number(self, value: int, path: Path, kind: Kind = "fixed") -> None:
        if -_SHORT < value < _SHORT:
            return
        if -_LONG < value < _LONG:
            self._text(str(value), path, kind)
        else:
            self._miss(path)

    def _spelled(self, value: "str | bytes | bytearray | decimal.Decimal | pathlib.PurePath", path: Path) -> None:
        if isinstance(value, str):
            self._text(str.__str__(value), path, "fixed")
        elif isinstance(value, bytes | bytearray):
            try:
                self._text(bytes(value[: self._left * 4 + 4]).decode(), path, "bytes")
            except UnicodeDecodeError:
                self._miss(path)
        else:
            self._text(str(value), path, "fixed")

    def _container(self, value: object, path: Path, depth: int) -> None:
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if depth >= MAX_DEPTH or len(self._seen) > MAX_CONTAINERS or self._left <= 0:
            self._miss(path)
            return
        try:
            members = members_of(value)
        except Exception:  # noqa: BLE001 - Code of others; what cannot be read is reported.
            members = None
        if members is None:
            self._miss(path)
            return
        self._members(members, path, depth + 1, keyed=is_dict(value))

    def _members(self, members: list[tuple[object, object]], path: Path, depth: int, *, keyed: bool) -> None:
        for name, item in members:
            place: Path = (path, "*")
            if type(name) is str:
                place = (path, name)
                if keyed:
                    self._text(name, path, "key")
            elif type(name) is int:
                place = (path, name)
                if keyed:
                    self._number(name, path, "key")
            else:
                self._miss(path)
            if type(item) is str:  # Most are, and need no look at other kinds.
                self._text(item, place, "text")
            elif type(item) not in _SILENT:
                self.read(item, place, depth)

    def _miss(self, path: Path) -> None:
        if len(self.blind) < _MAX_BLIND:
            self.blind.append(path)


def members_of(value: object) -> list[tuple[object, object]] | None:
    """Return the members of a container by name or position; ``None`` for an object that has none to read.

    The state of the object counts, not what its class says about it.
    """
    if is_dict(value):
        members = list(_ITEMS(value))
        return [(str.__str__(key) if isinstance(key, str) else key, item) for key, item in members]
    items = _items(value)
    return _fields(value) if items is None else list(enumerate(items))


_ITEMS: Final[Callable[[object], Iterable[tuple[object, object]]]] = vars(dict)["items"]
_ITERATORS: Final[Sequence[tuple[type, Callable[[object], Iterator[object]]]]] = tuple(
    (kind, vars(kind)["__iter__"]) for kind in (list, tuple, set, frozenset, deque)
)
"""Sequences, each with the iterator of the class itself: a subclass may have one that answers otherwise each time."""


def _items(value: object) -> Iterator[object] | None:
    for kind, iterate in _ITERATORS:
        if isinstance(value, kind):
            return iterate(value)
    return None


def _fields(value: object) -> list[tuple[object, object]] | None:
    if isinstance(value, BaseModel):
        held = object.__getattribute__
        extra, private = held(value, "__pydantic_extra__"), held(value, "__pydantic_private__")
        return [*vars(value).items(), *(extra or {}).items(), *(private or {}).items()]
    if isinstance(value, types.MappingProxyType):
        return list(cast("types.MappingProxyType[object, object]", value).items())
    if isinstance(value, BaseException):
        said = [("args", value.args), ("cause", value.__cause__), ("context", value.__context__)]
        return [*said, *vars(value).items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(each.name, getattr(value, each.name)) for each in dataclasses.fields(value)]
    return None
