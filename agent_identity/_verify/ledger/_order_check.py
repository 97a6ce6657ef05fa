"""Judges the order of records of one hop by their places in a stream: grant, start, calls, end. Clocks do not count."""

from typing import Final, NamedTuple, final

import orjson

from agent_identity._record.schema import AnyRecord, Grant, Intent, TaskEnd, TaskStart
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.store.spill_store import SpillStore

__all__ = ["OrderCheck"]

_LINKS: Final = 5
_NEAR: Final = 4_096
_MAX_DOUBTS: Final = 100_000
_SEVERAL: Final = 2
_AFTER_END: Final = "call_after_task_end", "a call begins after the end of its task"
_LATE_START: Final = "opening_after_call", "a task starts after its first call"
_LATE_GRANT: Final = "opening_after_call", "a grant is recorded after the task that starts under it"


class _Hop(NamedTuple):
    """The records of one hop in a stream so far.

    Attributes:
        granted: Whether its grant is among them.
        started: The number of its starts; a hop can be taken up more than once.
        ended: The number of its ends.
        called: Whether a call is among them.
    """

    granted: bool = False
    started: int = 0
    ended: int = 0
    called: bool = False


class _Openings(NamedTuple):
    """The records that open a hop, over all streams.

    Attributes:
        stream: Their stream; the empty name stands for several.
        starts: The number of starts among them.
    """

    stream: str
    starts: int


@final
class OrderCheck:
    """The order of the records of each hop, stream after stream.

    A hop that started more than once, and has a grant or a start in two streams, is not judged: it was taken up in
    several processes, or again in a stream that was begun after a fault. There a grant may be recorded again.

    Args:
        findings: Takes what is found.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._hops = self._new()
        self._openings = SpillStore(orjson.dumps, lambda data: _Openings(*orjson.loads(data)), near=_NEAR)
        self._doubts: dict[str, tuple[tuple[str, str], Place]] = {}

    @staticmethod
    def _new() -> SpillStore[_Hop]:
        return SpillStore(orjson.dumps, lambda data: _Hop(*orjson.loads(data)), near=_NEAR)

    def take(self, record: AnyRecord, place: Place) -> None:
        """Follow the next record of a stream.

        Args:
            record: A record in its place.
            place: That place.
        """
        if not isinstance(record, Grant | TaskStart | TaskEnd | Intent) or record.chain is None:
            return
        name = record.chain[-1].grant
        hop = self._hops.get(name.encode()) or _Hop()
        if isinstance(record, Intent):
            if hop.started and hop.ended >= hop.started and record.decision.mode == "enforce":
                self._doubt(name, _AFTER_END, place)
            hop = hop._replace(called=True)
        elif isinstance(record, TaskEnd):
            hop = hop._replace(ended=hop.ended + 1)
        else:
            self._note(name, place.stream or "", starts=isinstance(record, TaskStart))
            if isinstance(record, TaskStart):
                if hop.called and not hop.started:
                    self._doubt(name, _LATE_START, place)
                hop = hop._replace(started=hop.started + 1)
            else:
                if hop.started and not hop.granted:
                    self._doubt(name, _LATE_GRANT, place)
                hop = hop._replace(granted=True)
        self._hops.put(name.encode(), hop)

    def end_of_stream(self) -> None:
        """Forget what stands in a stream."""
        if self._hops:
            self._hops = self._new()

    def finish(self, *, partial: bool) -> None:
        """Report what is out of order.

        Args:
            partial: Records were left out or pruned, so that nothing can be said.
        """
        for hop, ((code, message), place) in () if partial else self._doubts.items():
            openings = self._openings.get(hop.encode())
            once = openings is None or openings.starts < _SEVERAL
            if openings is None or openings.stream or (once and (code, message) != _LATE_GRANT):
                self._findings.add(_LINKS, code, message, place)

    def _note(self, hop: str, stream: str, *, starts: bool) -> None:
        """Note the stream in which a hop is opened, the empty name for several, and whether it starts again."""
        known, number = self._openings.get(hop.encode()) or (stream, 0)
        self._openings.put(hop.encode(), _Openings(known if known == stream else "", number + starts))

    def _doubt(self, hop: str, what: tuple[str, str], place: Place) -> None:
        if len(self._doubts) < _MAX_DOUBTS:
            self._doubts.setdefault(hop, (what, place))
