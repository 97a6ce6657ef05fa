"""Compares calls that go on after a suspension with the outcome that suspended them, in any stream."""

from typing import Final, NamedTuple, final

import orjson

from agent_identity._flow.labels import Label
from agent_identity._record.schema import Intent, Outcome
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.store.spill_store import SpillStore

__all__ = ["Resumptions"]

_LINKS: Final = 5
_GRANTS: Final = 6
_NEAR: Final = 1_024


class _Suspended(NamedTuple):
    """A suspended call.

    Attributes:
        call: Its tool, principal and agent.
        label: The mark at which it was judged; ``None`` if that is not here, or nobody computed it.
        asked: Whether a person was asked about it.
    """

    call: list[str | None]
    label: str | None
    asked: bool


class _Resumed(NamedTuple):
    """A call that goes on after a suspension.

    Attributes:
        of: The outcome that suspended it.
        call: Its tool, principal and agent.
        label: The mark at which it is judged now; ``None`` as above.
        ruled: Whether it names the ruling of a person.
        record: Its intent.
        stream: The stream of that.
        seq: Its place there.
    """

    of: str
    call: list[str | None]
    label: str | None
    ruled: bool
    record: str
    stream: str | None
    seq: int | None


@final
class Resumptions:
    """The suspended and resumed calls of a ledger.

    Args:
        findings: Takes what is found.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._suspended = SpillStore(orjson.dumps, lambda data: _Suspended(*orjson.loads(data)), near=_NEAR)
        self._resumed = SpillStore(orjson.dumps, lambda data: _Resumed(*orjson.loads(data)), near=_NEAR)

    def suspend(self, record: Outcome, label: str | None) -> None:
        """Keep a suspended call.

        Args:
            record: Its outcome.
            label: The mark at which it was judged.
        """
        self._suspended.put(record.id.encode(), _Suspended(_call(record), label, record.decision.effect == "route"))

    def resume(self, record: Intent, label: str | None, place: Place) -> None:
        """Keep a call that names a suspended one.

        Args:
            record: Its intent.
            label: The mark at which it is judged.
            place: The place of the intent.
        """
        if record.resumes is not None and record.decision.mode == "enforce":
            ruled = record.decision.approval is not None
            self._resumed.put(
                record.id.encode(),
                _Resumed(record.resumes, _call(record), label, ruled, record.id, place.stream, place.seq),
            )

    def finish(self) -> int:
        """Report the calls that differ from what was suspended; return the number of those that nobody can compare."""
        not_checked = 0
        for resumed in self._resumed.values():
            before = self._suspended.get(resumed.of.encode())
            if before is None:
                not_checked += 1
                continue
            place = Place(resumed.record, resumed.stream, resumed.seq)
            if resumed.call != before.call:
                message = "a call goes on that another principal or agent made, or another tool"
                self._findings.add(_GRANTS, "approval_mismatch", message, place)
            if before.asked and not resumed.ruled:
                message = "a call that was suspended for a person goes on without a ruling"
                self._findings.add(_GRANTS, "approval_missing", message, place)
            if before.label is None or resumed.label is None:
                not_checked += (before.label, resumed.label) != (None, None)
            elif not Label.parse(resumed.label).is_within(Label.parse(before.label)):
                message = "a call goes on above the mark at which it was suspended"
                self._findings.add(_LINKS, "mark_mismatch", message, place)
        return not_checked


def _call(record: Intent | Outcome) -> list[str | None]:
    """Return who makes a call of which tool."""
    action, principal, agent = record.action, record.principal, record.agent
    parties = [] if principal is None else [principal.kind, principal.id, principal.issuer]
    return [action.tool, *parties, *([] if agent is None else [agent.id, agent.owner])]
