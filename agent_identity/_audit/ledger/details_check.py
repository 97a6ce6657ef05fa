"""Checks that each detail stands directly before the outcome that names it."""

from collections.abc import Collection
from typing import Final, NamedTuple, final

import orjson

from agent_identity._audit.report import Findings, Place, counted
from agent_identity._audit.store import SpillStore
from agent_identity._evidence.record import AnyRecord, Detail, Outcome

__all__ = ["DetailsCheck", "conclude_unseen_details", "contradicts_detail", "names_record_before"]

_LINKS: Final = 5
_OTHER_DETAIL: Final = "the outcome names another detail than the record directly before it"
_NEAR: Final = 1_024  # Details in memory that no outcome names; a process leaves one at most.


def names_record_before(record: Outcome) -> bool:
    """Return whether the detail that an outcome names, if any, is the record directly before it."""
    return record.detail in (None, record.stream.prev)


def contradicts_detail(findings: Findings, step: int, record: AnyRecord, place: Place) -> None:
    """Check the detail that an outcome names, as far as the outcome alone shows it, and count unchecked details.

    Args:
        findings: Takes what is found.
        step: The number of the step.
        record: A record of a span or of a proof.
        place: Where it is.
    """
    if not isinstance(record, Outcome) or record.detail is None:
        return
    findings.counts["details_not_checked"] += 1
    if not names_record_before(record):
        findings.add(step, "detail_mismatch", _OTHER_DETAIL, place)


def conclude_unseen_details(findings: Findings, step: int) -> None:
    """Report the number of details that were not checked, because only the ledger has them."""
    number = findings.counts["details_not_checked"]
    if number:
        message = f"the details of {counted(number, 'outcome')} were not checked (detail in the ledger)"
        findings.add(step, "detail_not_checked", message)


class _Unnamed(NamedTuple):
    """A detail that no later outcome names.

    Attributes:
        place: Where it is.
        last: Its stream shows no later record, so the outcome may have been lost with the process.
    """

    place: Place
    last: bool

    def packed(self) -> bytes:
        """Serialize for the spill; :meth:`unpacked` reverses it."""
        return orjson.dumps((tuple(self.place), self.last))

    @classmethod
    def unpacked(cls, data: bytes) -> "_Unnamed":
        """Deserialize the bytes of :meth:`packed`."""
        place, last = orjson.loads(data)
        return cls(Place(*place), last)


@final
class DetailsCheck:
    """Checks the details of a ledger, stream after stream.

    Detail and outcome are one write, so only a crash, pruning or an excerpt separates them.

    Args:
        findings: Takes what is found.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._before: tuple[str, Place] | None = None
        self._seen = 0  # The place of the last record in the stream so far; 0 before the first.
        self._unnamed = SpillStore(_Unnamed.packed, _Unnamed.unpacked, near=_NEAR)

    def take(self, record: AnyRecord, seq: int) -> None:
        """Follow the next record of a stream.

        Args:
            record: A record in its place.
            seq: Its place.
        """
        before, self._before = self._before, None
        follows, self._seen = seq == self._seen + 1, seq
        if isinstance(record, Outcome) and record.detail is not None:
            place = Place(record.id, record.stream.id, seq)
            if self._fits(record, before if follows else None, place, follows=follows):
                return
        if before is not None:
            self._keep(before, last=not follows)
        if isinstance(record, Detail):
            self._before = record.call, Place(record.id, record.stream.id, seq)

    def end_of_stream(self) -> None:
        """Keep the last record of the stream, if it is a detail."""
        if self._before is not None:
            self._keep(self._before, last=True)
        self._before, self._seen = None, 0

    def pop(self, call: str) -> Place | None:
        """Remove the detail of an open call, which is reported with that call, and return its place."""
        unnamed = self._unnamed.pop(call.encode())
        return None if unnamed is None else unnamed.place

    def finish(self, gone: Collection[str], *, partial: bool) -> None:
        """Report the details that belong to no open call.

        Args:
            gone: Intents that were pruned.
            partial: Only a part of the ledger is given, so that any call may be missing.
        """
        findings = self._findings
        for call, (place, last) in self._unnamed.items():
            if call.decode() in gone:
                findings.counts["intents_pruned"] += 1
            elif partial:
                findings.counts["intents_withheld"] += 1
            elif last:
                findings.counts["unknown"] += 1
                message = "the outcome of the call is missing after its detail; how the call ended is unknown"
                findings.add(_LINKS, "unknown_outcome", message, place)
            else:
                message = "no outcome names this detail, and its call is not open"
                findings.add(_LINKS, "detail_without_call", message, place)

    def _fits(self, record: Outcome, before: tuple[str, Place] | None, place: Place, *, follows: bool) -> bool:
        """Return whether the record before is the detail of an outcome; report it if it cannot be."""
        if not names_record_before(record):
            self._findings.add(_LINKS, "detail_mismatch", _OTHER_DETAIL, place)
        elif not follows:
            self._findings.counts["details_not_shown"] += 1
        elif before is None:
            message = "the outcome names the record directly before it as its detail, but that is not a detail"
            self._findings.add(_LINKS, "detail_missing", message, place)
        elif before[0] != (record.intent or record.id):
            message = "the detail before the outcome is that of another call"
            self._findings.add(_LINKS, "detail_mismatch", message, place)
            return True
        else:
            return True
        return False

    def _keep(self, detail: tuple[str, Place], *, last: bool) -> None:
        call, place = detail[0].encode(), detail[1]
        if call in self._unnamed:
            message = "a call has two details; one call has one at most"
            self._findings.add(_LINKS, "detail_without_call", message, place)
        else:
            self._unnamed.put(call, _Unnamed(place, last))
