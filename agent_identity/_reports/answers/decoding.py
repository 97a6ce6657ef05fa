"""Turns typed records into facts, and hands each to those who answer questions.

The records of a call (intent, detail and outcome, whichever comes first) are joined, with bounded memory.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple, TypeGuard, TypeVar, cast, final

from msgspec import structs

from agent_identity._authority.grants.grants import GRANT_TYPE
from agent_identity._identity.keys.jws import parse_compact
from agent_identity._record.parts import Decision, Principal, Resource
from agent_identity._record.schema import (
    AnyRecord,
    Approval,
    Detail,
    Erasure,
    Grant,
    Intent,
    Outcome,
    Policy,
    Registration,
    Revocation,
    StreamStart,
    TaskEnd,
    TaskStart,
)
from agent_identity._reports.answers.facts import (
    ApprovalFact,
    CallFact,
    ErasureFact,
    Fact,
    GrantFact,
    PolicyFact,
    RegistrationFact,
    RevocationFact,
    ServerFact,
    StreamFact,
    TaskFact,
    Tools,
    Where,
)
from agent_identity._verify.store.spill_store import SpillStore, spilled
from agent_identity.canonical import JSON
from agent_identity.errors import TokenError

_Item = TypeVar("_Item")
_NS: Final = 1_000_000_000
_END: Final = 2**64
_YEAR_10000: Final = 253_402_300_800
_NEAR: Final = 10_000  # Records in memory that wait, of some 2 KiB each.


@final
class Period:
    """The time that a question is about.

    Args:
        from_ns: Its first moment, in nanoseconds since the Unix epoch; ``None`` for the beginning.
        until_ns: The first moment after it; ``None`` for the end.
    """

    __slots__ = ("from_ns", "until_ns")

    def __init__(self, from_ns: int | None = None, until_ns: int | None = None) -> None:
        self.from_ns = from_ns
        self.until_ns = until_ns

    def takes(self, fact: Fact) -> bool:
        """Return whether a fact belongs to the period.

        What happens belongs to it at its time. What holds from its time on (a registration, a server, a policy, a
        revocation, an approval) belongs to it if it holds before its end; a grant, if it may be used in it.
        """
        if self.from_ns is None and self.until_ns is None:
            return True
        start, stop = self.from_ns or 0, _END if self.until_ns is None else self.until_ns
        if isinstance(fact, GrantFact):
            return fact.issued_ns < stop and fact.expires_ns > start
        if fact.at_ns >= stop:
            return False
        return isinstance(fact, _STATES) or fact.at_ns >= start


_OF_CALL: Final = (Intent, Outcome)
_STATES: Final = (ErasureFact, StreamFact, ApprovalFact, RegistrationFact, ServerFact, RevocationFact, PolicyFact)


@final
class Decoder:
    """Takes the records of one source in any order of streams, and yields facts.

    Args:
        source: The number of the source in the frame.
        take: Takes each fact.
        period: Which facts are wanted.
        split: Takes the parts of calls whose other part may stand in another source; without it, each is a call.

    Attributes:
        records: The number of records.
        first_ns: The earliest beginning of a record; 0 without any.
        last_ns: The latest end of a record; 0 without any.
        undecoded: The number of grants that no grant can be read from.
        open: The number of intents without outcome.
        alone: The number of outcomes without their intent.
    """

    def __init__(
        self, source: int, take: Callable[[Fact], None], period: Period, split: "SplitCalls | None" = None
    ) -> None:
        self._source, self._take, self._period = source, take, period
        self._joiner = CallJoiner(source, split)
        self.records = self.first_ns = self.last_ns = 0
        self.undecoded = self.open = self.alone = 0

    def visit(self, record: AnyRecord, detail: Detail | None = None) -> None:
        """Take a record."""
        self.records += 1
        time = record.time
        start = int(time.start)
        last = start if time.end is None else int(time.end)
        if not self.first_ns or start < self.first_ns:
            self.first_ns = start
        self.last_ns = max(self.last_ns, last)
        if isinstance(record, _OF_CALL):
            call = self._joiner.take(record, detail)
            if call is not None:
                self._give(call)
            return
        for fact in self._facts(record):
            self._give(fact)

    def finish(self, *, proved: bool = True) -> None:
        """Give out what waited for other records.

        Args:
            proved: The weight of the source, for parts of calls that others complete.
        """
        for call in self._joiner.finish(proved=proved):
            if call.begun:
                self.open += call.outcome == "unknown"
            else:
                self.alone += 1
            self._give(call)

    def _give(self, fact: Fact) -> None:
        if self._period.takes(fact):
            self._take(fact)

    def _facts(self, record: AnyRecord) -> Iterator[Fact]:
        where, at = Where(self._source, record.id, record.stream.id, record.stream.number), record.time.start_ns
        if isinstance(record, Grant):
            grant = _grant(record, where)
            if grant is None:
                self.undecoded += 1
            else:
                yield grant
        elif isinstance(record, TaskStart | TaskEnd):
            yield _task(record, where)
        elif isinstance(record, Approval):
            self._joiner.take_approval(record)
            yield _approval(record, where)
        elif isinstance(record, StreamStart):
            yield StreamFact(where, at, f"{record.sdk.name} {record.sdk.version}", record.resource)
        elif isinstance(record, Registration):
            yield from _registration(record, where)
        elif isinstance(record, Revocation):
            yield RevocationFact(where, at, record.revocation)
        elif isinstance(record, Policy):
            yield PolicyFact(where, at, record.policy)
        elif isinstance(record, Erasure) and record.erasure.pruned is None:
            yield ErasureFact(where, at, record.erasure.key, record.erasure.principal)


def _registration(record: Registration, where: Where) -> Iterator[Fact]:
    at = record.time.start_ns
    if record.server is not None:
        yield ServerFact(where, at, record.server, record.tools or ())
    elif record.agent is not None and record.registration is not None:
        yield RegistrationFact(where, at, record.agent, record.registration)


def _approval(record: Approval, where: Where) -> ApprovalFact:
    return ApprovalFact(
        where=where,
        at_ns=record.time.start_ns,
        task=record.task.id,
        agent=record.agent,
        principal=record.principal,
        chain=record.chain,
        tool=record.action.tool,
        approval=record.approval,
    )


def _task(record: TaskStart | TaskEnd, where: Where) -> TaskFact:
    begun = isinstance(record, TaskStart)
    return TaskFact(
        where=where,
        at_ns=record.time.start_ns if begun else record.time.last_ns,
        status="begun" if begun else "ended",
        task=record.task.id,
        principal=record.principal,
        agent=record.agent,
        chain=record.chain,
        purpose=record.task.purpose,
        workflow=record.workflow if isinstance(record, TaskStart) else None,
    )


def _grant(record: Grant, where: Where) -> GrantFact | None:
    """Decode a grant; its signature and its place in the chain are judged by the verification, not here."""
    try:
        parts = parse_compact(record.grant.token)
        claims = parts.unverified(GRANT_TYPE)
        issued, expires, depth = claims["iat"], claims["exp"], claims["del_depth"]
        tools = _tools(claims["authorization_details"])
    except (TokenError, LookupError, TypeError):
        return None
    chain = record.chain
    if tools is None or not (_is_time(issued) and _is_time(expires)):
        return None
    if type(depth) is not int or depth != len(chain) - 1:
        return None
    hashes = [hop.grant for hop in chain]
    issuer = claims.get("iss")
    return GrantFact(
        where=where,
        hash=hashes[-1],
        parent=hashes[-2] if len(hashes) > 1 else None,
        root=hashes[0],
        task=record.task.id,
        outer=record.task.outer,
        principal=record.principal,
        agent=record.agent,
        chain=chain,
        depth=depth,
        kid=parts.kid,
        issuer=issuer if isinstance(issuer, str) else "",
        tools=tools,
        issued_ns=issued * _NS,
        expires_ns=expires * _NS,
        noted_ns=record.time.start_ns,
    )


def _is_time(claim: JSON) -> TypeGuard[int]:
    """Report whether a claim is a time that can be shown: an unverified token may say anything."""
    return type(claim) is int and 0 <= claim < _YEAR_10000


def _tools(details: JSON) -> Tools | None:
    """Return the tools of a grant; ``None`` if it has another form."""
    if not (isinstance(details, list) and len(details) == 1 and isinstance(details[0], dict)):
        return None
    tools = details[0].get("tools")
    if not isinstance(tools, dict) or not all(isinstance(arguments, dict) for arguments in tools.values()):
        return None
    return cast("Tools", tools)


class _Ended(NamedTuple):
    """An outcome that waits for its intent, and its detail."""

    outcome: Outcome
    detail: Detail | None


def _call_of(record: Intent | Outcome) -> str:
    """Return the id of a call: that of its intent, or of its outcome where it has none."""
    return (record.intent or record.id) if isinstance(record, Outcome) else record.id


@final
class CallJoiner:
    """Yields each call once, when nothing more is to come of it.

    An outcome may stand in another stream than its intent, before or behind it, since streams are read one after the
    other.

    Args:
        source: The number of the source.
        split: Takes the parts of calls whose other part is not in the source.
    """

    def __init__(self, source: int, split: "SplitCalls | None" = None) -> None:
        self._source, self._split = source, split
        self._intents = spilled(Intent, near=_NEAR)
        self._outcomes = spilled(_Ended, near=_NEAR)
        self._approvals = spilled(Approval, near=_NEAR)

    def take(self, record: Intent | Outcome, detail: Detail | None = None) -> CallFact | None:
        """Add a record with its detail, and return the call that it completes."""
        if isinstance(record, Intent):
            self._intents.put(record.id.encode(), record)
            return None
        if record.intent is None:
            return self._call(None, record, detail)
        intent = self._intents.pop(record.intent.encode())
        if intent is None:
            self._outcomes.put(record.id.encode(), _Ended(record, detail))
            return None
        return self._call(intent, record, detail)

    def take_approval(self, record: Approval) -> None:
        """Remember who approved calls that are still to come."""
        if record.approval.status == "approved":
            self._approvals.put(record.approval.id.encode(), record)

    def finish(self, *, proved: bool = True) -> Iterator[CallFact]:
        """Yield the calls of which a part is missing, or was in another stream."""
        split = self._split
        for outcome, detail in self._outcomes.values():
            intent = self._intents.pop(cast("str", outcome.intent).encode())
            if intent is None and split is not None:
                split.put_outcome(self._part(outcome, detail), proved=proved)
            else:
                yield self._call(intent, outcome, detail)
        for intent in self._intents.values():
            if split is not None:
                split.put_intent(self._part(intent), proved=proved)
            else:
                yield self._call(intent, None)

    def _call(self, intent: Intent | None, outcome: Outcome | None, detail: Detail | None = None) -> CallFact:
        last = cast("Intent | Outcome", outcome or intent)
        approval = self._approval(last)
        approver = None if approval is None else approval.approval.approver
        return _joined(self._source, intent, outcome, detail=detail, approver=approver)

    def _part(self, last: Intent | Outcome, detail: Detail | None = None) -> "_Part":
        return _Part(self._source, last, detail, self._approval(last))

    def _approval(self, last: Intent | Outcome) -> Approval | None:
        decision = last.decision
        if decision.approval is None or decision.enforced != "allow":
            return None
        return self._approvals.get(decision.approval.encode())


class _Part(NamedTuple):
    """The last record of a call in a source, and what the source knows of it besides."""

    source: int
    record: Intent | Outcome
    detail: Detail | None
    approval: Approval | None

    @property
    def approver(self) -> Principal | None:
        """Who approved it."""
        return None if self.approval is None else self.approval.approval.approver


@final
class SplitCalls:
    """Joins calls whose intent stands in one source and whose outcome in another, at the end of a pass.

    Each call is yielded once. Parts of one weight are joined; where proved and unproved parts tell of one call, the
    proved one counts.

    Attributes:
        dropped: The number of parts, by source, of calls that another source tells.
    """

    def __init__(self) -> None:
        self._intents = spilled(_Part, near=_NEAR)
        self._outcomes = spilled(_Part, near=_NEAR)
        self.dropped: Counter[int] = Counter()

    def put_intent(self, part: _Part, *, proved: bool) -> None:
        """Add an intent without an outcome in its source."""
        self._put(self._intents, part, proved=proved)

    def put_outcome(self, part: _Part, *, proved: bool) -> None:
        """Add an outcome whose intent is not in its source."""
        self._put(self._outcomes, part, proved=proved)

    def _put(self, parts: SpillStore[_Part], part: _Part, *, proved: bool) -> None:
        """Keep the first of several parts that say the same thing of one call, and count the others."""
        key = _key(part.record, proved=proved)
        if key in parts:
            self.dropped[part.source] += 1
        else:
            parts.put(key, part)

    def calls(self) -> Iterator[CallFact]:
        """Yield the calls."""
        for key, outcome in self._outcomes.items():
            if self._is_told(key):
                self.dropped[outcome.source] += 1
                continue
            intent = self._intents.get(key)
            yield _whole(intent, outcome)
        for key, intent in self._intents.items():
            if key in self._outcomes:
                continue
            if self._is_told(key):
                self.dropped[intent.source] += 1
            else:
                yield _whole(intent, None)

    def _is_told(self, key: bytes) -> bool:
        """Return whether a proved source tells of the call of an unproved part."""
        proved = _PROVED + key[1:]
        return key != proved and (proved in self._intents or proved in self._outcomes)


_PROVED: Final = b"+"


def _key(record: Intent | Outcome, *, proved: bool) -> bytes:
    return (_PROVED if proved else b"-") + _call_of(record).encode()


def _whole(intent: _Part | None, outcome: _Part | None) -> CallFact:
    parts = [part for part in (outcome, intent) if part is not None]
    return _joined(
        parts[0].source,
        None if intent is None else cast("Intent", intent.record),
        None if outcome is None else cast("Outcome", outcome.record),
        detail=next((part.detail for part in parts if part.detail is not None), None),
        approver=next((part.approver for part in parts if part.approver is not None), None),
    )


def _joined(  # budget: one line for each attribute of a call
    source: int,
    intent: Intent | None,
    outcome: Outcome | None,
    *,
    detail: Detail | None,
    approver: Principal | None,
) -> CallFact:
    """Return the call of its records, each of which says a fact once."""
    first, last = cast("Intent | Outcome", intent or outcome), cast("Intent | Outcome", outcome or intent)
    action, trace = first.action, last.trace or first.trace
    declared, observed = _resources(intent, detail)
    return CallFact(
        where=Where(source, last.id, last.stream.id, last.stream.number),
        intent=intent.id if intent is not None else outcome.intent if outcome is not None else None,
        begun=intent is not None,
        at_ns=first.time.start_ns,
        end_ns=None if outcome is None else outcome.time.last_ns,
        task=None if last.task is None else last.task.id,
        workflow=(intent and intent.workflow) or (detail and detail.workflow) or None,
        principal=last.principal,
        agent=last.agent,
        chain=last.chain or (),
        tool=last.action.tool,
        kind=action.kind,
        stage=last.action.stage,
        opened=last.action.agent,
        model=last.action.model or action.model,
        labels=action.labels or (detail and detail.labels) or (),
        decision=_decided(first, last, detail),
        outcome="unknown" if outcome is None else outcome.outcome,
        error=None if outcome is None else outcome.error,
        findings=_different(first.findings, last.findings),
        resources=declared,
        observed=observed,
        approver=approver,
        call=last.action.call or action.call,
        arguments=_names(action.names or (detail and detail.names) or ()),
        span=None if trace is None or trace.span is None else (trace.trace, trace.span),
        above=_above(last, first),
        inputs=tuple((intent and intent.provenance) or (detail and detail.provenance) or ()),
    )


def _decided(first: Intent | Outcome, last: Intent | Outcome, detail: Detail | None) -> Decision:
    """Return the decision of a call, with the policy that an outcome leaves to its intent or detail."""
    told = first.decision if detail is None or first.decision.policy is not None else detail
    return structs.replace(last.decision, policy=told.policy, version=told.version)


def _above(*records: Intent | Outcome) -> str | None:
    """Return the span above that of a call."""
    traces = [record.trace for record in records if record.trace is not None]
    return next((trace.parent for trace in traces if trace.parent is not None), None)


def _resources(intent: Intent | None, detail: Detail | None) -> tuple[tuple[Resource, ...], tuple[Resource, ...]]:
    """Return what a call declares to touch, and what it was seen to touch."""
    seen = () if detail is None else _different(detail.resources)
    if intent is None:  # The detail of a refused call says what an intent would have said.
        return seen, ()
    return _different(intent.resources), seen


def _different(*lists: Sequence[_Item] | None) -> tuple[_Item, ...]:
    """Return the different items of lists, in their order."""
    given = [one for one in lists if one]
    return tuple(dict.fromkeys(chain.from_iterable(given))) if given else ()


@lru_cache(1_024)
def _names(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of arguments, of which records also say the kinds."""
    return tuple([argument.rpartition(":")[0] for argument in arguments])
