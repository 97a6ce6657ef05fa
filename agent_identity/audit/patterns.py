"""Recognising calls that look like earlier ones, without parsing them.

Nearly every record of a ledger is a call that differs from an earlier one in ids, times and digests only. A
*pattern* is the canonical bytes of a call that the full checks have accepted, with slots in place of what
changes. Bytes with the same constants, and in each slot text of the form that belongs there, are the
canonical bytes of a record of the same shape: nothing is left to check but what the slots say. Whatever
fits no pattern takes the full checks, so that patterns decide about speed and never about acceptance.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from struct import Struct
from typing import Final, NamedTuple, TypeAlias, cast, final

import orjson

__all__ = ["Pattern", "Patterns", "Slots"]

Slots: TypeAlias = tuple[bytes, ...]
"""What a record says where a pattern has slots, in the order of its bytes."""

_Path: TypeAlias = tuple[str, ...]

_MAX_PATTERNS: Final = 4_096
_MAX_LAYOUTS: Final = 8  # Of one length; calls of different shapes rarely have the same.
_MIN_SLOT: Final = 4  # Shorter values could not be told apart while a pattern is made.
_CALLS: Final = frozenset({"intent", "outcome"})
_NS: Final = rb"(?:0|[1-9][0-9]{0,18})"
_UUID7: Final = rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_DIGEST: Final = rb"hmac-sha256:[0-9a-f]{64}"
_HASH: Final = rb"[0-9a-f]{64}"
_ARGUMENTS: Final = ("action", "args")
_GRANT: Final = ("chain", "grant")
_INTENT: Final = ("intent",)
_PREV: Final = ("stream", "prev")
_SEQ: Final = ("stream", "seq")
_BETWEEN: Final = b'","seq":"'
_FORMS: Final[Mapping[_Path, bytes]] = {
    _ARGUMENTS: _DIGEST,
    ("action", "call"): rb"[A-Za-z0-9_-]{4,256}",
    ("action", "result"): _DIGEST,
    ("id",): _UUID7,
    _INTENT: _UUID7,
    _PREV: _HASH,
    ("task", "expires"): _NS,
    ("task", "id"): _UUID7,
    ("time", "end"): _NS,
    ("time", "start"): _NS,
    ("trace", "span"): rb"(?!0{16})[0-9a-f]{16}",
    ("trace", "trace"): rb"(?!0{32})[0-9a-f]{32}",
}
"""The members that become slots, and the only forms that are recognised in them; none holds a newline."""

_COMPARED: Final = frozenset({_GRANT, _INTENT, _PREV, _SEQ, ("task", "expires"), ("task", "id")})
"""Slots that the caller compares with what it knows; the others are free, and there are at least two of them."""

_NEEDED: Final = {_GRANT, ("id",), _PREV, _SEQ, ("task", "expires"), ("task", "id"), ("time", "start")}


class Pattern(NamedTuple):
    """What all records of a pattern have in common, and where their slots are.

    Attributes:
        kind: ``intent`` or ``outcome``.
        tool: The tool.
        outcome: How the call ended, if it did.
        effect: What was decided.
        monitored: Whether the decision was only recorded.
        principal: The member ``principal``.
        agent: The member ``agent``.
        chain: The agents of the chain.
        arguments: The slot of the digest of the arguments, or -1.
        grants: The slots of the hashes of the chain.
        id: The slot of the record id.
        intent: The slot of the intent, or -1.
        prev: The slot of the hash of the record before; its place in the stream is in the next one.
        task: The slots of the task: its expiry and its id.
        start: The slot of the time.
    """

    kind: str
    tool: str
    outcome: str | None
    effect: str
    monitored: bool
    principal: object
    agent: object
    chain: tuple[str, ...]
    arguments: int
    grants: slice
    id: int
    intent: int
    prev: int
    task: slice
    start: int


class _Layout(NamedTuple):
    """Where the slots are in records of one length, and what the free ones among them may hold."""

    split: Struct
    free: Callable[[Slots], Slots]
    form: re.Pattern[bytes]


@final
class Patterns:
    """The patterns that were learned so far, a bounded number."""

    def __init__(self) -> None:
        self._layouts: dict[int, list[_Layout]] = {}
        self._known: dict[Slots, Pattern] = {}

    def find(self, data: bytes) -> tuple[Pattern, Slots] | None:
        """Return the pattern of a record and what its slots say, or ``None`` if it fits none.

        The caller compares the slots of grants, task, intent and place with what it knows; only then the
        record is accepted.
        """
        for layout in self._layouts.get(len(data), ()):
            parts = cast("Slots", layout.split.unpack(data))
            pattern = self._known.get(parts[::2])
            if pattern is not None:
                return (pattern, parts[1::2]) if layout.form.fullmatch(b"\n".join(layout.free(parts))) else None
        return None

    def learn(self, record: Mapping[str, object], data: bytes) -> None:
        """Make a pattern of a record that the full checks have accepted, if it is a call that can be one.

        Args:
            record: The record.
            data: Its canonical bytes.
        """
        if record["kind"] not in _CALLS or "chain" not in record:
            return
        slots = _slots_of(record, data)
        paths = [slot.path for slot in slots]
        if not set(paths) >= _NEEDED:
            return
        if len(self._known) >= _MAX_PATTERNS:
            self._known.clear()
            self._layouts.clear()
        layout = _layout(slots, len(data))
        layouts = self._layouts.setdefault(len(data), [])
        if all(other.split.format != layout.split.format for other in layouts):
            layouts.insert(0, layout)
            del layouts[_MAX_LAYOUTS:]
        parts = cast("Slots", layout.split.unpack(data))
        self._known[parts[::2]] = _pattern(record, paths)


class _Slot(NamedTuple):
    """One slot: where it is and what may be in it."""

    start: int
    end: int
    path: _Path
    form: bytes


def _slots_of(record: Mapping[str, object], data: bytes) -> list[_Slot]:
    """Return the slots of a record in the order of its bytes; none if they cannot be told apart."""
    marked: dict[str, object] = {**record}
    marks: list[tuple[bytes, _Path, bytes]] = []

    def mark(value: object, path: _Path, form: bytes) -> object:
        if not isinstance(value, str) or len(value) < _MIN_SLOT or not re.fullmatch(form, value.encode()):
            return value
        text = f"~{len(marks):x}".ljust(len(value), "~")  # No form of a slot holds this character.
        marks.append((f'"{text}"'.encode(), path, form))
        return text

    for path, form in _FORMS.items():
        if len(path) == 1 and path[0] in marked:
            marked[path[0]] = mark(marked[path[0]], path, form)
        elif len(path) == 2 and path[0] in marked:
            section = cast("dict[str, object]", marked[path[0]])
            marked[path[0]] = {
                name: mark(value, path, form) if name == path[1] else value for name, value in section.items()
            }
    links = cast("Sequence[Mapping[str, str]]", record["chain"])
    marked["chain"] = [{**link, "grant": mark(link["grant"], _GRANT, _HASH)} for link in links]
    text = orjson.dumps(marked, option=orjson.OPT_SORT_KEYS)
    if any(text.count(sign) != 1 for sign, _, _ in marks):
        return []
    slots = [_Slot(text.index(sign) + 1, text.index(sign) + len(sign) - 1, path, form) for sign, path, form in marks]
    return _with_seq(sorted(slots), data)


def _with_seq(slots: Sequence[_Slot], data: bytes) -> list[_Slot]:
    """Add the slot of the place in the stream: it is too short for a mark, but follows the hash."""
    found: list[_Slot] = []
    for slot in slots:
        found.append(slot)
        if slot.path == _PREV:
            start = slot.end + len(_BETWEEN)
            found.append(_Slot(start, data.index(b'"', start), _SEQ, rb"[1-9][0-9]{0,18}"))
    return found


def _layout(slots: Sequence[_Slot], length: int) -> _Layout:
    fields: list[str] = []
    end = 0
    for slot in slots:
        fields.append(f"{slot.start - end}s{slot.end - slot.start}s")
        end = slot.end
    split = Struct(f"{''.join(fields)}{length - end}s")
    free = [number for number, slot in enumerate(slots) if slot.path not in _COMPARED]
    places = (2 * number + 1 for number in free)  # Between the constants.
    return _Layout(split, itemgetter(*places), re.compile(b"\n".join(slots[number].form for number in free)))


def _pattern(record: Mapping[str, object], paths: Sequence[_Path]) -> Pattern:
    action = cast("Mapping[str, str]", record["action"])
    decision = cast("Mapping[str, str]", record["decision"])
    grants, task = paths.index(_GRANT), paths.index(("task", "expires"))
    return Pattern(
        kind=cast("str", record["kind"]),
        tool=action["tool"],
        outcome=cast("str | None", record.get("outcome")),
        effect=decision["effect"],
        monitored=decision["mode"] == "monitor",
        principal=record["principal"],
        agent=record["agent"],
        chain=tuple(link["id"] for link in cast("Sequence[Mapping[str, str]]", record["chain"])),
        arguments=paths.index(_ARGUMENTS) if _ARGUMENTS in paths else -1,
        grants=slice(grants, grants + paths.count(_GRANT)),
        id=paths.index(("id",)),
        intent=paths.index(_INTENT) if _INTENT in paths else -1,
        prev=paths.index(_PREV),
        task=slice(task, task + 2),
        start=paths.index(("time", "start")),
    )
