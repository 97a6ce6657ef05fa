"""Reading records of a shape that was seen before, without checking each of their members again.

Nearly all records differ from an earlier one in ids, times and digests only. A *shape* is the canonical bytes
of a record that the full checks have accepted, with slots in place of what changes. Bytes with the same
constants, and in each slot text of the form that belongs there, are the canonical bytes of a record that the
full checks accept as well. Whatever fits no shape takes the full checks, so that shapes decide about speed
and never about acceptance.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from struct import Struct
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar, cast, final

import orjson

from agent_identity.canonical import decode_record
from agent_identity.evidence.records import check_record

__all__ = ["FORMS", "Path", "RecordReader", "Shapes", "Slot", "Slots", "slots_of"]

Slots: TypeAlias = tuple[bytes, ...]
"""What a record says where a shape has slots, in the order of its bytes."""

Path: TypeAlias = tuple[str, ...]
"""The names of the members that lead to a value; arrays on the way count nothing."""

_T = TypeVar("_T")

_MAX_SHAPES: Final = 4_096
_MAX_BYTES: Final = 16_384  # Of a record; longer ones are rare, and would take much memory.
_MAX_LAYOUTS: Final = 8  # Of one length; records of different shapes rarely have the same.
_COUNT: Final = rb"(?:0|[1-9][0-9]{0,18})"
_UUID7: Final = rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_DIGEST: Final = rb"hmac-sha256:[0-9a-f]{64}"
_HASH: Final = rb"[0-9a-f]{64}"
FORMS: Final[Mapping[Path, bytes]] = {
    ("action", "args"): rb"(?:hmac|salted)-sha256:[0-9a-f]{64}",
    ("action", "call"): rb"[A-Za-z0-9_-]{1,256}",
    ("action", "result"): _DIGEST,
    ("chain", "grant"): _HASH,
    ("counts", "intents"): _COUNT,
    ("counts", "open"): _COUNT,
    ("counts", "outcomes"): _COUNT,
    ("grant", "token"): rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+",
    ("id",): _UUID7,
    ("intent",): _UUID7,
    ("stream", "id"): _UUID7,
    ("stream", "prev"): _HASH,
    ("stream", "seq"): rb"(?:[2-9]|[1-9][0-9]{1,18})",  # The first record is like no other.
    ("task", "expires"): _COUNT,
    ("task", "id"): _UUID7,
    ("time", "end"): _COUNT,
    ("time", "start"): _COUNT,
    ("trace", "parent"): rb"(?!0{16})[0-9a-f]{16}",
    ("trace", "span"): rb"(?!0{16})[0-9a-f]{16}",
    ("trace", "trace"): rb"(?!0{32})[0-9a-f]{32}",
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


class _Shape(NamedTuple, Generic[_T]):
    """Which slots are not compared, what they may hold, and what is known about the records."""

    checked: Callable[[Slots], Slots]
    matches: Callable[[bytes], object]
    known: _T


class _Layout(NamedTuple, Generic[_T]):
    """What takes records apart whose slots are at the same places, and their shapes, by what is between the slots."""

    split: Callable[[bytes], Slots]
    shapes: dict[Slots, _Shape[_T]]


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
        for split, shapes in layouts.values():
            parts = split(data)
            shape = shapes.get(parts[::2])
            if shape is not None:
                checked, matches, known = shape
                return (known, parts[1::2]) if matches(b"\n".join(checked(parts))) else None
        return None

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
        layout = layouts.setdefault(form, _Layout(Struct(form).unpack, {}))
        checked = [number for number, slot in enumerate(slots) if slot.path not in self._compared]
        layout.shapes[layout.split(data)[::2]] = _Shape(
            itemgetter(*(2 * number + 1 for number in checked)),  # Between the constants.
            re.compile(b"\n".join(FORMS[slots[number].path] for number in checked)).fullmatch,
            known,
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
