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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias, cast, final
from weakref import WeakKeyDictionary

from agent_identity._common.models import models
from agent_identity._common.narrowing import is_dict, is_object, is_plain_dict
from agent_identity._inspection._texts import Text

MAX_CHARACTERS: Final = 262_144
"""Characters of one value that are read by default; the rest is reported as ``uninspected``."""

MAX_CONTAINERS: Final = 100_000
MAX_DEPTH: Final = 64
_MAX_BLIND: Final = 64
_SHORT: Final = 10**11  # Numbers with fewer digits are no card numbers, and no accounts of anyone.
_LONG: Final = 10**64

Path: TypeAlias = "tuple[Path, str | int] | None"
"""Position of a part: the path of its container, and its name or position there; ``None`` for the value itself."""

_SILENT: Final = frozenset(
    {
        *(bool, type(None), complex, range, type(Ellipsis), uuid.UUID),
        *(dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone),
    }
)


class Leaf(NamedTuple):
    """One string of a value: its span in the document, its path, and whether it is a member key."""

    start: int
    end: int
    path: Path
    is_key: bool


_TEXTS: Final = (str, bytes, bytearray, decimal.Decimal, pathlib.PurePath)
_COLON: Final = ": "
_BREAK: Final = "\n"
"""Separators after a key and after a string in a document; the last character distinguishes them."""


@final
class Document:
    """A value as one text.

    Attributes:
        text: All strings of the value, concatenated in their order.
        leaves: The strings.
        blind: The paths of parts that could not be read.
    """

    __slots__ = ("_leaves", "_parts", "_paths", "blind", "text")

    def __init__(self, text: str, parts: Sequence[str], paths: Sequence[Path], blind: Sequence[Path]) -> None:
        """Create a document.

        Args:
            text: The text.
            parts: The strings of the value in the text, with their separators; none if the value is the text.
            paths: The path of each of them.
            blind: The paths of parts that could not be read.
        """
        self.text: Final = Text(text)
        self.blind: Final = blind
        self._parts: Final = parts
        self._paths: Final = paths
        self._leaves: list[Leaf] | None = None

    @property
    def leaves(self) -> list[Leaf]:
        """The strings; computed only after a finding, because most values have none."""
        if self._leaves is None:
            start, leaves = 0, list[Leaf]()
            if not self._parts and self.text.raw:
                leaves.append(Leaf(0, len(self.text.raw), None, is_key=False))
            for part, path in zip(self._parts, self._paths, strict=True):
                is_key, end = part.endswith(_COLON), start + len(part)
                leaves.append(Leaf(start, end - len(_COLON if is_key else _BREAK), path, is_key))
                start = end
            self._leaves = leaves
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
        return Document(value, (), (), ())
    reader = _Reader(limit)
    if skip and is_dict(value):
        value = {name: item for name, item in value.items() if name not in skip}
    reader.read(value, None, 0)
    return Document("".join(reader.parts), reader.parts, reader.paths, reader.blind)


def is_readable(value: object) -> bool:
    """Return whether inspectors can read every object in a value, within their limits.

    Args:
        value: The value.
    """
    reader = _Reader(MAX_CHARACTERS)
    reader.read(value, None, 0)
    return not reader.blind or reader.left <= 0


@final
class _Reader:
    __slots__ = ("_seen", "blind", "left", "parts", "paths")

    def __init__(self, limit: int) -> None:
        self.left = limit
        self._seen: dict[int, object] = {}  # With the objects, so that no id is used again meanwhile.
        self.parts: list[str] = []
        self.paths: list[Path] = []
        self.blind: list[Path] = []

    def read(self, value: object, path: Path, depth: int) -> None:
        kind = type(value)
        if kind is dict or kind is list:
            self._container(value, path, depth)
        elif type(value) is str:
            self._text(value, path)
        elif type(value) is int:
            if not -_SHORT < value < _SHORT:
                self._number(value, path)
        elif kind not in _SILENT:
            self._other(value, path, depth)

    def _other(self, value: object, path: Path, depth: int) -> None:
        if isinstance(value, _TEXTS):
            self._spelled(value, path)
            if not isinstance(value, enum.Enum) and (held := _beside(value)):  # Those of a member are its class's own.
                self._container(held, path, depth + 1)
        elif type(value) is float:
            if _SHORT <= abs(value) < _LONG and value.is_integer():  # JSON has only one number type.
                self._number(int(value), path)
        elif isinstance(value, enum.Enum):
            self.read(object.__getattribute__(value, "_value_"), path, depth)
        else:
            self._container(value, path, depth)

    def _spelled(self, value: object, path: Path) -> None:
        if isinstance(value, str):
            self._text(str.__str__(value), path)
        elif isinstance(value, bytes | bytearray):
            try:
                self._text(bytes(value[: self.left * 4 + 4]).decode(), path)
            except UnicodeDecodeError:
                self._miss(path)
        else:
            self._text(str(value), path)

    def _text(self, text: str, path: Path, ending: str = _BREAK) -> None:
        size = len(text)
        if size > self.left:
            self._miss(path)
            text, size = text[: self.left], self.left
        if size:
            self.left -= size
            self.parts.append(text + ending)
            self.paths.append(path)

    def _number(self, value: int, path: Path, ending: str = _BREAK) -> None:
        if -_LONG < value < _LONG:
            self._text(str(value), path, ending)
        else:
            self._miss(path)

    def _container(self, value: object, path: Path, depth: int) -> None:
        seen, identity = self._seen, id(value)
        if identity in seen:
            return
        seen[identity] = value
        if depth >= MAX_DEPTH or len(seen) > MAX_CONTAINERS or self.left <= 0:
            self._miss(path)
            return
        kind = type(value)
        # No copy of the dict: to make one may compare its keys, and so run code of others.
        members = list(_ITEMS(value)) if kind is dict else self._opened(value, path)
        keyed = kind is dict or isinstance(value, _MAPPINGS)
        parts, paths = self.parts, self.paths
        for name, item in members:
            # The common case: a text within the limit needs no further step.
            if keyed and type(name) is str and 0 < (size := len(name)) <= self.left:
                self.left -= size
                parts.append(name + _COLON)
                paths.append(path)
                place: Path = (path, name)
            elif not keyed and (type(name) is int or type(name) is str):
                place = (path, name)
            else:
                place = (path, self._key(name, path))
            if type(item) is str and 0 < (size := len(item)) <= self.left:
                self.left -= size
                parts.append(item + _BREAK)
                paths.append(place)
            elif (held := type(item)) is dict:
                self._container(item, place, depth + 1)
            elif held not in _SILENT:
                self.read(item, place, depth + 1)

    def _opened(self, value: object, path: Path) -> Iterable[tuple[object, object]]:
        kind = type(value)
        if kind is list:
            return enumerate(_LIST_COPY(value))
        try:
            members = members_of(value)
        except Exception:  # noqa: BLE001 - Code of others; what cannot be read is reported.
            members = None
        if members is None:
            self._miss(path)
            return []
        return members

    def _key(self, key: object, path: Path) -> str | int:
        if isinstance(key, str):
            name = str.__str__(key)
            self._text(name, path, _COLON)
            return name
        if type(key) is int:
            if not -_SHORT < key < _SHORT:
                self._number(key, path, _COLON)
            return key
        self._miss(path)
        return "*"

    def _miss(self, path: Path) -> None:
        if len(self.blind) < _MAX_BLIND:
            self.blind.append(path)


def members_of(value: object) -> list[tuple[object, object]] | None:
    """Return the members of a container by name or position; ``None`` for an object that has none to read.

    The state of the object counts, not what its class says about it.
    """
    if is_dict(value):
        members = list(_ITEMS(value))
        members += _beside(value).items()
        return [(key if type(key) is str else _plain(key), item) for key, item in members]
    items = _items(value)
    return _fields(value) if items is None else [*enumerate(items), *_beside(value).items()]


def _plain(key: object) -> object:
    return str.__str__(key) if isinstance(key, str) else key


_MAPPINGS: Final = (dict, types.MappingProxyType)
_ITEMS: Final[Callable[[object], Iterable[tuple[object, object]]]] = vars(dict)["items"]
_LIST_COPY: Final[Callable[[object], list[object]]] = vars(list)["copy"]
_ITERATORS: Final[Sequence[tuple[type, Callable[[object], Iterator[object]]]]] = tuple(
    (kind, vars(kind)["__iter__"]) for kind in (list, tuple, set, frozenset, deque)
)
"""Sequences, each with the iterator of the class itself: a subclass may have one that answers otherwise each time."""


def _items(value: object) -> Iterator[object] | None:
    for kind, iterate in _ITERATORS:
        if isinstance(value, kind):
            return iterate(value)
    return None


def _held(value: object) -> Mapping[str, object]:
    """Return the attributes of an object itself, which an instance of a built-in class has not."""
    kind, held = type(value), _own(value)
    slots = _SLOTS.get(kind)
    if slots is None:
        slots = _SLOTS[kind] = _slots_of(kind)
    if not slots:
        return held
    filled: dict[str, object] = {}
    for slot in slots:
        with suppress(AttributeError):  # The slot is empty.
            filled[slot.__name__] = slot.__get__(value)
    return {**filled, **held}


def _beside(value: object) -> Mapping[str, object]:
    """Return the attributes of an object beside its content, without a lock, a parent or the like: they are none."""
    held = _held(value)
    return {name: item for name, item in held.items() if name == _DICT or _is_content(item)} if held else held


def _is_content(value: object) -> bool:
    kind = type(value)
    return issubclass(kind, (*_CONTENT, *models())) or kind in _SILENT or dataclasses.is_dataclass(kind)


_CONTENT: Final = (
    *(*_TEXTS, int, float, enum.Enum, dict, list, tuple, set, frozenset, deque),
    *(types.MappingProxyType, BaseException),
)
_DICT: Final = "__dict__"


def _own(value: object) -> Mapping[str, object]:
    try:
        held: object = object.__getattribute__(value, _DICT)
    except AttributeError:
        return _NOTHING
    # What stands in place of it cannot be read.
    return held if is_plain_dict(held) and is_object(held) else {_DICT: held}


_SLOTS: Final[WeakKeyDictionary[type, Sequence[types.MemberDescriptorType]]] = WeakKeyDictionary()


def _slots_of(kind: type[object]) -> Sequence[types.MemberDescriptorType]:
    """Return the slots that a class declares beside fields; those of a path hold nothing but its text."""
    if issubclass(kind, pathlib.PurePath):
        return ()
    fields = {each.name for each in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else ()
    bases = [vars(base) for base in kind.__mro__]
    members = [item for of in bases if "__slots__" in of for item in of.values()]
    return [item for item in members if type(item) is types.MemberDescriptorType and item.__name__ not in fields]


_NOTHING: Final[Mapping[str, object]] = types.MappingProxyType({})


def _fields(value: object) -> list[tuple[object, object]] | None:
    if isinstance(value, models()):
        held = object.__getattribute__
        extra, private = held(value, "__pydantic_extra__"), held(value, "__pydantic_private__")
        return [*vars(value).items(), *(extra or {}).items(), *(private or {}).items()]
    if isinstance(value, types.MappingProxyType):
        return list(cast("types.MappingProxyType[object, object]", value).items())
    if isinstance(value, BaseException):
        said = [("text", str(value)), ("args", value.args), ("cause", value.__cause__), ("context", value.__context__)]
        return [*said, *_held(value).items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return [*fields.items(), *((name, item) for name, item in _beside(value).items() if name not in fields)]
    return None
