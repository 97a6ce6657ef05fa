"""Recognising calls that look like earlier ones, without parsing them.

A *pattern* is the shape of a call that the full checks have accepted, and what all calls of this shape say.
Nothing is left to check but what the slots say that the caller compares with what it knows.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, cast, final

from agent_identity.audit.shapes import Path, Shapes, Slots, slots_of

__all__ = ["Pattern", "Patterns", "Slots"]

_CALLS: Final = frozenset({"intent", "outcome"})
_ARGUMENTS: Final = ("action", "args")
_GRANT: Final = ("chain", "grant")
_INTENT: Final = ("intent",)
_STREAM: Final = (("stream", "id"), ("stream", "prev"), ("stream", "seq"))
_TASK: Final = (("task", "expires"), ("task", "id"))
_COMPARED: Final[frozenset[Path]] = frozenset({_GRANT, _INTENT, *_STREAM, *_TASK})
_NEEDED: Final[frozenset[Path]] = frozenset({_GRANT, ("id",), *_STREAM, *_TASK, ("time", "start")})


class Pattern(NamedTuple):
    """What all records of a pattern have in common, and where their slots are.

    Attributes:
        kind: ``intent`` or ``outcome``.
        tool: The tool.
        outcome: How the call ended, if it did.
        effect: What was decided.
        monitored: Whether the decision was only recorded.
        parties: The members ``principal`` and ``agent``, and the agents of the chain.
        arguments: The slot of the digest of the arguments, or -1.
        grants: The slots of the hashes of the chain.
        id: The slot of the record id.
        intent: The slot of the intent, or -1.
        place: The slots of the stream, of the hash of the record before in it, and of the place in it.
        task: The slots of the task: its expiry and its id.
        start: The slot of the time.
    """

    kind: str
    tool: str
    outcome: str | None
    effect: str
    monitored: bool
    parties: tuple[object, object, tuple[str, ...]]
    arguments: int
    grants: slice
    id: int
    intent: int
    place: slice
    task: slice
    start: int


@final
class Patterns:
    """The patterns that were learned so far, a bounded number."""

    def __init__(self) -> None:
        self._shapes: Shapes[Pattern] = Shapes(_COMPARED)

    def find(self, data: bytes) -> tuple[Pattern, Slots] | None:
        """Return the pattern of a record and what its slots say, or ``None`` if it fits none.

        The caller compares the slots of grants, task, intent and place with what it knows; only then the
        record is accepted.
        """
        return self._shapes.find(data)

    def learn(self, record: Mapping[str, object], data: bytes) -> None:
        """Make a pattern of a record that the full checks have accepted, if it is a call that can be one.

        Args:
            record: The record.
            data: Its canonical bytes.
        """
        if record["kind"] not in _CALLS or "chain" not in record:
            return
        slots = slots_of(record)
        paths = [slot.path for slot in slots]
        if _NEEDED.issubset(paths):
            self._shapes.learn(slots, data, _pattern(record, paths))


def _pattern(record: Mapping[str, object], paths: Sequence[Path]) -> Pattern:
    action = cast("Mapping[str, str]", record["action"])
    decision = cast("Mapping[str, str]", record["decision"])
    agents = tuple(link["id"] for link in cast("Sequence[Mapping[str, str]]", record["chain"]))
    grants, place, task = paths.index(_GRANT), paths.index(_STREAM[0]), paths.index(_TASK[0])
    return Pattern(
        kind=cast("str", record["kind"]),
        tool=action["tool"],
        outcome=cast("str | None", record.get("outcome")),
        effect=decision["effect"],
        monitored=decision["mode"] == "monitor",
        parties=(record["principal"], record["agent"], agents),
        arguments=paths.index(_ARGUMENTS) if _ARGUMENTS in paths else -1,
        grants=slice(grants, grants + paths.count(_GRANT)),
        id=paths.index(("id",)),
        intent=paths.index(_INTENT) if _INTENT in paths else -1,
        place=slice(place, place + 3),
        task=slice(task, task + 2),
        start=paths.index(("time", "start")),
    )
