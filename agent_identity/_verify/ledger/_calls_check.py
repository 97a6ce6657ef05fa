"""Checks intents and outcomes, tasks, and allowed calls, record by record (steps 5 and 6)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final, NamedTuple, final

import msgspec

from agent_identity._record.parts import RecoveredStream
from agent_identity._record.schema import (
    AnyRecord,
    Approval,
    Detail,
    Erasure,
    Grant,
    Intent,
    Outcome,
    Recovered,
    TaskEnd,
    TaskStart,
)
from agent_identity._verify.grants.approvals_check import ApprovalsCheck, is_approved
from agent_identity._verify.grants.chain_check import Delegations
from agent_identity._verify.grants.grant_usage import GrantUsage, spent_uses
from agent_identity._verify.ledger._flow_check import FlowCheck
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.store.spill_store import SpillStore, spilled

if TYPE_CHECKING:
    from agent_identity._verify.grants.disclosed_arguments import Disclosures

_NEAR_TASKS: Final = 4_096  # Tasks in memory, of some 500 bytes each.
_DEEPEST: Final = 10_000  # Tasks within tasks; no one opens as many, and each is held in memory.

_NEAR_HOPS: Final = 4_096
_MAX_DOUBTS: Final = 100_000
_SEVERAL: Final = 2
_AFTER_END: Final = "call_after_task_end", "a call begins after the end of its task"
_LATE_START: Final = "opening_after_call", "a task starts after its first call"
_LATE_GRANT: Final = "opening_after_call", "a grant is recorded after the task that starts under it"

_NEAR_INTENTS: Final = 20_000  # Intents in memory, of some 500 bytes each.

_LINKS: Final = 5
_GRANTS: Final = 6
_ARGUMENTS: Final = 8
_CALLS: Final = (Intent, Outcome)
_RAN: Final = frozenset({"success", "error", "cancelled", "routed", "suspended"})
_LETS: Final = frozenset({"allow", "modify"})
_NOTES: Final = frozenset({"allow", "audit"})
_ENFORCED: Final[Mapping[str, Mapping[str, AbstractSet[str]]]] = {
    "enforce": {"allow": _LETS, "warn": _LETS, "route": _LETS | {"escalate"}},
    "monitor": {"allow": _NOTES, "warn": _NOTES, "block": {"audit"}, "route": {"audit"}},
}
"""By mode and effect, what is enforced where a call ran, or a route took it over."""

_AS_DECIDED: Final = frozenset({"success", "error", "cancelled"})


class _Opened(NamedTuple):
    """The facts in the openings of a task.

    Attributes:
        outer: The task in which it was opened; nothing if no opening names one.
        principal: The kind and the id of its principal.
        place: The first opening, or the first that names the outer task.
    """

    outer: str
    principal: tuple[str, str]
    place: Place


def _opened(record: AnyRecord | None, place: Place) -> _Opened | None:
    """Return what an opening of a task says; ``None`` without one."""
    if not isinstance(record, Grant | TaskStart):
        return None
    return _Opened(record.task.outer or "", (record.principal.kind, record.principal.id), place)


@final
class OuterTasks:
    """Checks the openings of a ledger.

    Args:
        findings: Takes what is found.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._tasks = spilled(_Opened, near=_NEAR_TASKS)

    def take(self, record: Grant | TaskStart, place: Place) -> None:
        """Store the outer task that an opening names.

        Openings of the task by other processes name no outer task and do not contradict it.

        Args:
            record: The opening.
            place: Where it is.
        """
        task, outer = record.task.id.encode(), record.task.outer or ""
        known = self._tasks.get(task)
        if known is None or (outer and not known.outer):
            self._tasks.put(task, _Opened(outer, (record.principal.kind, record.principal.id), place))
        elif outer not in ("", known.outer):
            message = "the opening names another outer task than the other openings of the task"
            self._findings.add(_GRANTS, "outer_task_differs", message, place)

    def finish(self, *, partial: bool) -> None:
        """Check the outer tasks after the whole source was read.

        Args:
            partial: Openings may be missing, because records were pruned or withheld, or cannot be read.
        """
        over = SpillStore(bytes, bytes, near=_NEAR_TASKS)  # Tasks that are known to be outside any cycle.
        for task, opened in self._tasks.items():
            if opened.outer:
                self._judge(opened, partial=partial)
                self._follow(task, over, opened.place)

    def _judge(self, opened: _Opened, *, partial: bool) -> None:
        findings, outer = self._findings, self._find(opened)
        if outer is None and partial:
            findings.counts["outer_tasks_not_shown"] += 1
        elif outer is None:
            message = "the outer task is not in the ledger; it is recorded elsewhere, or lost"
            findings.add(_GRANTS, "outer_task_missing", message, opened.place)
        elif outer.principal != opened.principal:
            message = "the task was opened within a task of another principal, and no record says who permitted that"
            findings.add(_GRANTS, "outer_principal_differs", message, opened.place)

    def _find(self, opened: _Opened) -> _Opened | None:
        """Return the opening of an outer task, of this ledger or of another host."""
        outer = self._tasks.get(opened.outer.encode())
        if outer is not None:
            return outer
        return _opened(self._findings.find(_GRANTS, ("task", opened.outer), opened.place), opened.place)

    def _follow(self, task: bytes, over: SpillStore[bytes], place: Place) -> None:
        """Follow the outer tasks to the outermost one; each task is visited once."""
        way: dict[bytes, None] = {}
        while task and task not in over and task not in way and len(way) < _DEEPEST:
            way[task] = None
            opened = self._tasks.get(task) or _opened(self._findings.elsewhere.ask(("task", task.decode())), place)
            task = b"" if opened is None else opened.outer.encode()
        if task and task not in over:
            message = f"the outer tasks form a cycle, or are nested deeper than {_DEEPEST:,}"
            self._findings.add(_GRANTS, "outer_task_cycle", message, place)
        for passed in way:
            over.put(passed, b"1")


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
        self._hops = spilled(_Hop, near=_NEAR_HOPS)
        self._openings = spilled(_Openings, near=_NEAR_HOPS)
        self._doubts: dict[str, tuple[tuple[str, str], Place]] = {}

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
            if hop.called:
                return
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
            self._hops = spilled(_Hop, near=_NEAR_HOPS)

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


@final
class Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The members of a call that intent and outcome share, and the place of the record.

    Attributes:
        grant: The hash of the grant that the call is under; ``None`` outside any task.
        tool: The tool.
        arguments: The digest of the arguments, or ``None`` without any.
        id: The id of the record.
        stream: Its stream.
        seq: Its place.
        decided: Effect, enforced effect, mode and approval by which the call runs; ``None`` if it did not.
        returned: Whether the body returned.
        mode: The mode of the enforcer.
    """

    grant: str | None
    tool: str
    arguments: str | None
    id: str
    stream: str
    seq: int
    decided: tuple[str, str, str, str | None] | None = None
    returned: bool = False
    mode: str | None = None

    def place(self) -> Place:
        """Return the place of the record."""
        return Place(self.id, self.stream, self.seq)

    def fits(self, intent: "Call") -> bool:
        """Return whether grant, tool, arguments and mode are those of an intent, and what ran was decided as there.

        What inspectors and rules find in a result may turn ``allow`` into ``warn``, or change the result. The body of
        a call that was handed to a route does not return, whatever becomes of the result of the route.
        """
        if (self.grant, self.tool, self.arguments, self.mode) != (
            intent.grant,
            intent.tool,
            intent.arguments,
            intent.mode,
        ):
            return False
        ran, allowed = self.decided, intent.decided
        if ran is None or allowed is None or ran == allowed:
            return True
        if ran[1] == "modify":
            handed = allowed[0] == "route" and allowed[3] is None
            return ran[2:] == allowed[2:] and not (handed and self.returned)
        return ran[0] == "warn" and allowed[0] == "allow" and ran[1:] == allowed[1:]


def _intents() -> SpillStore[Call]:
    """Return a store of intents without an outcome, in the order of their arrival."""
    return spilled(Call, near=_NEAR_INTENTS)


@final
class Deferred:
    """Outcomes whose intents are not in their streams, with the ids of these intents, in the order of their arrival."""

    def __init__(self) -> None:
        self._calls = spilled(tuple[str, Call], near=_NEAR_INTENTS)
        self._number = 0

    def put(self, intent: str, outcome: Call) -> None:
        """Add an outcome."""
        self._number += 1
        self._calls.put(b"%d" % self._number, (intent, outcome))

    def __iter__(self) -> Iterator[tuple[str, Call]]:
        return self._calls.values()


@final
class Calls:
    """Matches the calls of a source, stream after stream.

    Args:
        findings: Takes what is found.
        delegations: The grants of the source.
        approvals: The approvals of the source; ``None`` for spans, which do not have them.
        disclosures: Arguments of some of the calls.

    Attributes:
        committed: Number of records of the current stream that the log commits to.
        recovered: Recoveries of streams, by the stream id.
        gone: Intents that were pruned before their outcomes; ``None`` if nothing was pruned at all.
        partial: Only a part of the ledger is given, so that any intent may be missing.
    """

    def __init__(
        self,
        findings: Findings,
        delegations: Delegations,
        *,
        approvals: ApprovalsCheck | None = None,
        disclosures: "Disclosures | None" = None,
    ) -> None:
        self._findings = findings
        self._approvals = approvals
        self._delegations = delegations
        self._outer = OuterTasks(findings)
        self._flow = FlowCheck(findings)
        self._order = OrderCheck(findings)
        self._disclosures = disclosures
        self._open, self._left = _intents(), _intents()
        self._deferred = Deferred()
        self._outcomes: Counter[str] = Counter()
        self.committed = 0
        self.recovered: dict[str, RecoveredStream] = {}
        self.gone: set[str] | None = None
        self.partial = False

    def take(self, record: AnyRecord, stream: str, seq: int, detail: Detail | None = None) -> None:
        """Check a record against the others.

        Args:
            record: A record in its place.
            stream: Its stream.
            seq: Its place.
            detail: Its detail, if it has one.
        """
        call: Call | None = None
        if isinstance(record, _CALLS):
            grant = None if record.chain is None else record.chain[-1].grant
            returned = isinstance(record, Outcome) and record.outcome == "success"
            said = record.action.tool, record.action.args, record.id, stream, seq
            call = Call(grant, *said, _decided(record), returned, record.decision.mode)
        place = Place(record.id, stream, seq)
        self._flow.partial = self.partial or self.gone is not None
        self._flow.take(record, place, detail)
        if not isinstance(record, Outcome):
            self._order.take(record, place)
        usage = self._delegations.see(record, place)
        if isinstance(record, _CALLS) and call is not None:
            self._take_call(record, call, usage)
            if self._approvals is not None and is_approved(record.decision):
                self._approvals.take(record, place, whole=usage is not None and usage.is_open_in(stream))
        elif usage is not None:
            self._take_task(record, usage, place)
        else:
            self._take_other(record, place)

    def _take_other(self, record: AnyRecord, place: Place) -> None:
        """Process a record outside any task."""
        if isinstance(record, Erasure):
            from agent_identity._verify.ledger.erasures import erasure_words  # Few ledgers have erased keys.

            words = erasure_words(record.erasure)
            if words is not None:
                self._findings.add(_ARGUMENTS, "erased", words, place)
        elif isinstance(record, Recovered):
            recovery = record.recovered
            # A later recovery may state less: an earlier one has already sealed or rejected the tail.
            if recovery.stream not in self.recovered or recovery.rejected_bytes != "0":
                self.recovered[recovery.stream] = recovery

    def _take_task(self, record: AnyRecord, use: GrantUsage, place: Place) -> None:
        if isinstance(record, Grant | TaskStart):
            self._outer.take(record, place)
        if isinstance(record, Grant):
            self._delegations.add_grant(record.grant.token, record.chain[-1].grant, place)
        elif isinstance(record, TaskStart):
            use.begin(record.stream.id)
        elif isinstance(record, TaskEnd):
            use.finish(record.counts, place, partial=self.partial or self.gone is not None)
        elif isinstance(record, Approval) and self._approvals is not None:
            self._approvals.take(record, place)

    def end_of_stream(self) -> None:
        """Move open intents across: their outcomes may be in the stream of a forked child."""
        for call in self._open.values():
            self._keep(self._left, call)
        self._open = _intents()
        self._flow.end_of_stream()
        self._order.end_of_stream()

    def _keep(self, intents: SpillStore[Call], call: Call) -> None:
        """Keep an intent in place of one with the same id."""
        key = call.id.encode()
        if key in intents:
            message = "another intent without an outcome has this id"
            self._findings.add(_LINKS, "two_versions", message, call.place())
        intents.put(key, call)

    def finish(self) -> None:
        """Match intents and outcomes across streams, and count the calls without an outcome."""
        findings = self._findings
        for intent_id, outcome in self._deferred:
            self._match(self._left.pop(intent_id.encode()), outcome)
        findings.counts["unknown"] += 0
        for intent in self._left.values():
            findings.counts["unknown"] += 1
            message = f"the call of {intent.tool!a} has no outcome; how it ended is unknown"
            findings.add(_LINKS, "unknown_outcome", message, intent.place())
        self._outer.finish(partial=self.partial or self.gone is not None)
        self._flow.finish()
        self._order.finish(partial=self.partial or self.gone is not None)
        findings.counts.update(self._outcomes)
        intents, outcomes = findings.kinds["intent"], findings.kinds["outcome"]
        findings.done(_LINKS, f"{counted(intents, 'intent')}, {counted(outcomes, 'outcome')}")

    def _take_call(self, record: Intent | Outcome, call: Call, use: GrantUsage | None) -> None:
        spent = 0
        if isinstance(record, Outcome):
            self._conclude(call, record)
            spent = spent_uses(record)
        else:
            self._keep(self._open, call)
        if self._disclosures is not None and self._disclosures.want(call.id):
            self._disclosures.take(record, use, call.place())
        if use is None:
            self._findings.counts["unattributed"] += 1
        else:
            use.outcomes += isinstance(record, Outcome)
            use.intents += isinstance(record, Intent)
            if spent:
                use.spend(call.tool, spent)
        self._check_effect(record, call)
        if record.decision.effect == "block":
            return
        if use is not None:
            use.allow(call.tool, int(record.time.start), call)
            use.ran = use.ran or isinstance(record, Intent)
        else:
            message = "a call outside any task was allowed"
            self._findings.add(_GRANTS, "allowed_without_task", message, call.place())

    def _check_effect(self, record: Intent | Outcome, call: Call) -> None:
        """Check that a call that was blocked or handed to a route did not run; monitor mode runs what it would block.

        The handler of a route may raise, but what returns is then no body.
        """
        if isinstance(record, Outcome) and (record.intent is None or record.outcome not in _RAN):
            return
        decision = record.decision
        effect, enforced = decision.effect, decision.enforced
        ruled = decision.approval is not None and enforced == "modify"
        if decision.mode == "enforce" and effect == "block":
            message = "a call ran that was blocked"
        elif enforced not in _ENFORCED[decision.mode].get(effect, ()):
            message = f"a call ran that was not let through: {effect!a} was enforced as {enforced!a}"
        elif call.returned and effect == "route" and enforced in {"escalate", "modify"} and not ruled:
            message = "a call ran that was handed to a route"
        else:
            return
        self._findings.add(_GRANTS, "blocked_but_ran", message, call.place())

    def _conclude(self, call: Call, record: Outcome) -> None:
        outcome, decision = record.outcome, record.decision
        if call.seq <= self.committed:  # Anyone may have written the others; they only count as unsealed.
            self._outcomes[outcome] += 1
        if record.intent is None:
            # A call that waits for an approval can be suspended before it has an intent.
            waiting = outcome == "suspended" and decision.approval is not None
            if outcome not in {"denied", "routed"} and not waiting:
                # In monitor mode a call runs even if its intent could not be written; then something is missing.
                code = "unrecorded_intent" if decision.mode == "monitor" else "outcome_without_intent"
                message = "the outcome of a call that ran names no intent"
                self._findings.add(_LINKS, code, message, call.place())
            return
        self._resolve(record.intent, call)

    def _resolve(self, intent: str, call: Call) -> None:
        """Match an outcome with its intent, or defer it."""
        match = self._open.pop(intent.encode())
        if match is None and self.gone is not None and intent in self.gone:
            self._findings.counts["intents_pruned"] += 1
        elif match is None:
            self._deferred.put(intent, call)
        else:
            self._match(match, call)

    def _match(self, intent: Call | None, outcome: Call) -> None:
        if intent is None and self.partial:
            self._findings.counts["intents_withheld"] += 1
        elif intent is None:
            message = "the intent that the outcome names is missing, or has another outcome"
            self._findings.add(_LINKS, "intent_missing", message, outcome.place())
        elif outcome.stream == intent.stream and outcome.seq < intent.seq:
            message = "an outcome stands before the intent that it names"
            self._findings.add(_LINKS, "outcome_before_intent", message, outcome.place())
        elif not outcome.fits(intent):
            message = "grant, tool, arguments, mode or decision of the outcome differ from its intent"
            self._findings.add(_LINKS, "intent_mismatch", message, outcome.place())


def _decided(record: Intent | Outcome) -> tuple[str, str, str, str | None] | None:
    """Return the decision by which a call runs, or ran to its end in enforce mode."""
    decision = record.decision
    if decision.mode != "enforce" or decision.effect == "block":
        return None
    if isinstance(record, Outcome) and record.outcome not in _AS_DECIDED:
        return None
    return decision.effect, decision.enforced, decision.mode, decision.approval
