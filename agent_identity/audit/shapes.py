"""Reading records of a shape that was seen before, without checking each of their members again.

Nearly all records differ from an earlier one in ids, times and digests only. A *shape* is the canonical bytes
of a record that the full checks have accepted, with slots in place of what changes. Bytes with the same
constants, and in each slot text of the form that belongs there, are the canonical bytes of a record that the
full checks accept as well. Whatever fits no shape takes the full checks, so that shapes decide about speed
and never about acceptance.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from struct import Struct
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar, cast, final

import orjson

from agent_identity.audit.columns import (
    ARGUMENTS,
    COUNT,
    DIGEST,
    HASH,
    SPAN_ID,
    TRACE_ID,
    UUID7,
    Column,
    column_form,
)
from agent_identity.canonical import decode_record
from agent_identity.evidence.records import check_record

__all__ = ["FORMS", "Alike", "Path", "RecordReader", "Shapes", "Slot", "Slots", "slots_of"]

Slots: TypeAlias = tuple[bytes, ...]
"""What a record says where a shape has slots, in the order of its bytes."""

Path: TypeAlias = tuple[str, ...]
"""The names of the members that lead to a value; arrays on the way count nothing."""

_T = TypeVar("_T")

_MAX_SHAPES: Final = 4_096
_MAX_BYTES: Final = 16_384  # Of a record; longer ones are rare, and would take much memory.
_MAX_LAYOUTS: Final = 8  # Of one length; records of different shapes rarely have the same.
FORMS: Final[Mapping[Path, bytes]] = {
    ("action", "args"): ARGUMENTS,
    ("action", "call"): rb"[A-Za-z0-9_-]{1,256}",
    ("action", "result"): DIGEST,
    ("chain", "grant"): HASH,
    ("counts", "intents"): COUNT,
    ("counts", "open"): COUNT,
    ("counts", "outcomes"): COUNT,
    ("grant", "token"): rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+",
    ("id",): UUID7,
    ("intent",): UUID7,
    ("stream", "id"): UUID7,
    ("stream", "prev"): HASH,
    ("stream", "seq"): rb"(?:[2-9]|[1-9][0-9]{1,18})",  # The first record is like no other.
    ("task", "expires"): COUNT,
    ("task", "id"): UUID7,
    ("time", "end"): COUNT,
    ("time", "start"): COUNT,
    ("trace", "parent"): SPAN_ID,
    ("trace", "span"): SPAN_ID,
    ("trace", "trace"): TRACE_ID,
}
"""The members that become slots, and the only forms that are recognised in them.

None is wider than what :func:`~agent_identity.evidence.records.check_record` accepts, none needs an escape in
JSON, and none holds a newline. Lengths are those of the accepted record.
"""

_FULL: Final[Mapping[Path, re.Pattern[bytes]]] = {path: re.compile(form) for path, form in FORMS.items()}


class Slot(NamedTuple):
    """One slot of a record: where it begins and ends in its bytes, and the member that it holds."""

    start: int
    end: int
    path: Path

    @property
    def width(self) -> int:
        """How many bytes it has."""
        return self.end - self.start


def slots_of(record: Mapping[str, object]) -> list[Slot]:
    """Return the slots of a record in the order of its canonical bytes.

    Args:
        record: A record that the full checks have accepted.
    """
    slots: list[Slot] = []
    _walk(record, (), 0, slots)
    return slots


def _walk(value: object, path: Path, start: int, slots: list[Slot]) -> int:
    """Add the slots within a value whose bytes begin at ``start``; return where they end."""
    if isinstance(value, str):
        text = orjson.dumps(value)
        end = start + len(text)
        if path in _FULL and _FULL[path].fullmatch(text, 1, len(text) - 1):
            slots.append(Slot(start + 1, end - 1, path))
        return end
    # A bracket or comma before each item, a bracket after the last; no container in a record is empty.
    if isinstance(value, Mapping):
        for name, item in sorted(cast("Mapping[str, object]", value).items()):
            start = _walk(item, (*path, name), start + len(f'{{"{name}":'), slots)
    else:
        for item in cast("Sequence[object]", value):
            start = _walk(item, path, start + 1, slots)
    return start + 1


class Alike(NamedTuple, Generic[_T]):
    """Records that fit one shape.

    Attributes:
        known: What is known about them.
        numbers: Which of the records they are, in ascending order.
        slots: What they say where the shape has slots; for each slot, one text a record.
    """

    known: _T
    numbers: Sequence[int]
    slots: Sequence[Column]


class _Shape(NamedTuple, Generic[_T]):
    """Which slots are not compared, what they may hold, and what is known about the records."""

    checked: Callable[[Slots], Slots]
    matches: Callable[[bytes], object]
    known: _T
    columns: Sequence[tuple[int, Callable[[Column], bool]]]

    def fits(self, slots: Sequence[Column]) -> bool:
        """Return whether many slots have their forms, as :attr:`matches` says of those of one record."""
        return all(has_form(slots[number]) for number, has_form in self.columns)


class _Layout(NamedTuple, Generic[_T]):
    """What takes records apart whose slots are at the same places, and their shapes, by what is between the slots."""

    split: Callable[[bytes], Slots]
    split_all: Callable[[bytes], Iterable[Slots]]
    shapes: dict[Slots, _Shape[_T]]

    def sort(self, numbers: Sequence[int], texts: bytes) -> Iterable[tuple[Slots, Sequence[int], Sequence[Column]]]:
        """Return what the texts have between their slots, which ones have it, and what all these have in the slots."""
        rows = list(self.split_all(texts))
        columns = list(zip(*rows, strict=True))
        constants = rows[0][::2]
        if all(column.count(constant) == len(rows) for column, constant in zip(columns[::2], constants, strict=True)):
            return [(constants, numbers, columns[1::2])]
        sorted_: dict[Slots, tuple[list[int], list[Slots]]] = {}
        for number, row in zip(numbers, rows, strict=True):
            which, same = sorted_.setdefault(row[::2], ([], []))
            which.append(number)
            same.append(row)
        return [(between, which, list(zip(*same, strict=True))[1::2]) for between, (which, same) in sorted_.items()]


@final
class Shapes(Generic[_T]):
    """The shapes that were learned so far, a bounded number, each with what is known about its records.

    Args:
        compared: Slots whose form is not checked, because the caller compares them with what it knows.
    """

    def __init__(self, compared: Collection[Path] = ()) -> None:
        self._compared = frozenset(compared)
        self._layouts: dict[int, dict[str, _Layout[_T]]] = {}
        self._learned = 0

    def find(self, data: bytes) -> tuple[_T, Slots] | None:
        """Return what is known about records like this, and what its slots say; ``None`` if it fits no shape."""
        layouts = self._layouts.get(len(data))
        if layouts is None:
            return None
        for layout in layouts.values():
            parts = layout.split(data)
            shape = layout.shapes.get(parts[::2])
            if shape is not None:
                return (shape.known, parts[1::2]) if shape.matches(b"\n".join(shape.checked(parts))) else None
        return None

    def find_all(self, texts: Sequence[bytes]) -> list[Alike[_T]]:
        """Return which of many texts fit shapes, of each only what :meth:`find` returns for it.

        Args:
            texts: Texts of the same length; at least one.
        """
        found: list[Alike[_T]] = []
        left: Sequence[int] = range(len(texts))
        for layout in (self._layouts.get(len(texts[0])) or {}).values():
            unknown: list[int] = []
            for between, numbers, slots in layout.sort(left, b"".join([texts[number] for number in left])):
                shape = layout.shapes.get(between)
                if shape is None:
                    unknown += numbers
                elif shape.fits(slots):
                    found.append(Alike(shape.known, numbers, slots))
            if not unknown:
                break
            left = sorted(unknown)  # Whoever has found all of them takes the slots in the order of the texts.
        return found

    def learn(self, slots: Sequence[Slot], data: bytes, known: _T) -> None:
        """Keep a shape.

        Args:
            slots: The slots of a record that the full checks have accepted; at least two are not compared.
            data: Its canonical bytes.
            known: What :meth:`find` returns for records like it.
        """
        if len(data) > _MAX_BYTES:
            return
        if self._learned >= _MAX_SHAPES:
            self._layouts.clear()
            self._learned = 0
        self._learned += 1
        layouts = self._layouts.setdefault(len(data), {})
        form = _format(slots, len(data))
        struct = Struct(form)
        layout = layouts.setdefault(form, _Layout(struct.unpack, struct.iter_unpack, {}))
        checked = [number for number, slot in enumerate(slots) if slot.path not in self._compared]
        layout.shapes[layout.split(data)[::2]] = _Shape(
            itemgetter(*(2 * number + 1 for number in checked)),  # Between the constants.
            re.compile(b"\n".join(FORMS[slots[number].path] for number in checked)).fullmatch,
            known,
            [(number, column_form(FORMS[slots[number].path], slots[number].width)) for number in checked],
        )
        if len(layouts) > _MAX_LAYOUTS:
            del layouts[next(iter(layouts))]


def _format(slots: Sequence[Slot], length: int) -> str:
    """Return what takes the bytes of a record apart: constants, and the slots between them."""
    fields: list[str] = []
    end = 0
    for slot in slots:
        fields.append(f"{slot.start - end}s{slot.end - slot.start}s")
        end = slot.end
    return f"{''.join(fields)}{length - end}s"


@final
class RecordReader:
    """Reads records, and is quick about those that are like earlier ones."""

    def __init__(self) -> None:
        self._shapes: Shapes[bool] = Shapes()

    def read(self, data: bytes) -> dict[str, object]:
        """Return the record of canonical bytes, in its closed shape.

        Raises:
            ValueError: The bytes are no such record; see :func:`~agent_identity.canonical.decode_record` and
                :func:`~agent_identity.evidence.records.check_record`.
        """
        if self._shapes.find(data):
            return cast("dict[str, object]", orjson.loads(data))
        record = cast("dict[str, object]", decode_record(data))
        check_record(record)
        self._shapes.learn(slots_of(record), data, known=True)
        return record
