"""Recomputes information flow: the marks of each hop, the labels of results, and calls that ran against their mark."""

from typing import Final, NamedTuple, final

from agent_identity._authority.grants.grants import GRANT_TYPE, grant_of
from agent_identity._authority.grants.grants import Grant as HeldGrant
from agent_identity._flow.labels import TRUSTED, UNKNOWN, UNTRUSTED, Label
from agent_identity._flow.rules import FLOW_RULES, MODEL_KINDS, is_gated
from agent_identity._identity.keys.jws import parse_compact, token_hash
from agent_identity._record.parts import MarkAfter, MarkChange, MarkSeen
from agent_identity._record.schema import (
    AnyRecord,
    Approval,
    Detail,
    Grant,
    Intent,
    Mark,
    Outcome,
    Policy,
    TaskEnd,
    TaskStart,
)
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.store.spill_store import spilled
from agent_identity.errors import TokenError

_GRANTS: Final = 6
_NEAR_SUSPENDED: Final = 1_024

_NEAR_TOKENS: Final = 1_024

_LINKS: Final = 5
_NEAR: Final = 4_096
_MAX_HOPS: Final = 100_000
_UNRECORDED: Final = "mark_not_recorded"
_RAN: Final = frozenset({"allow", "warn"})


class _Suspended(NamedTuple):
    """A suspended call.

    Attributes:
        call: Its tool, principal and agent.
        label: The mark at which it was judged; ``None`` if that is not here, or no one computed it.
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
        self._suspended = spilled(_Suspended, near=_NEAR_SUSPENDED)
        self._resumed = spilled(_Resumed, near=_NEAR_SUSPENDED)

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
                f"{place.stream} {place.seq}".encode(),
                _Resumed(record.resumes, _call(record), label, ruled, record.id, place.stream, place.seq),
            )

    def finish(self) -> int:
        """Report the calls that differ from what was suspended; return the number of those that no one can compare."""
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


@final
class AnsweredMarks:
    """The grants of a stream, and whether marks are signed by the holders of what was handed out."""

    def __init__(self) -> None:
        self._tokens = spilled(str, near=_NEAR_TOKENS)

    def take(self, record: Grant) -> None:
        """Keep a grant, unless it is not the one that its record names."""
        if token_hash(record.grant.token) == record.chain[-1].grant:
            self._tokens.put(record.chain[-1].grant.encode(), record.grant.token)

    def holds(self, record: Mark) -> bool | None:
        """Return whether the mark of an answer says no more than its signed one.

        Args:
            record: A mark with the cause ``answer``.

        Returns:
            ``None`` if a grant is not here.
        """
        from agent_identity._authority.grants.signed_marks import signer_of_mark, verify_mark  # Few ledgers have marks.

        change = record.mark
        try:
            names = signer_of_mark(change.token or ""), change.origin or ""
            tokens = [self._tokens.get(name.encode()) for name in names]
            if None in tokens:
                return None
            by, handed = (_held(token or "") for token in tokens)
            mark = verify_mark(change.token or "", by.holder)
            joined = TRUSTED if change.joined is None else Label.parse(change.joined)
            same = (mark.by, mark.grant, by.parent_hash) == (by.hash, handed.hash, handed.parent_hash)
            together = by.hash == handed.hash or by.parent_hash is not None
            return same and together and joined.is_within(Label.parse(mark.label))
        except (TokenError, ValueError):
            return False


def _held(token: str) -> HeldGrant:
    return grant_of(token, parse_compact(token).unverified(GRANT_TYPE))


class _Newest(NamedTuple):
    """The newest mark of a hop.

    Attributes:
        seq: Its number.
        record: Its record.
        label: Its label.
        sources: The inputs that lowered it, at most one more than a ruling can name; ``None`` if not all are here.
        labels: The labels of the hop, each with the number of the first mark that has it.
    """

    seq: int
    record: str
    label: str
    sources: tuple[str, ...] | None
    labels: tuple[tuple[int, str], ...] = ()

    def label_at(self, seq: int) -> str | None:
        """Return the label of the latest mark with this number or a lower one; ``None`` if that is elsewhere."""
        return next((label for first, label in reversed(self.labels) if first <= seq), None)


class _Judged(NamedTuple):
    """The mark in an intent.

    Attributes:
        hop: Whose mark it is.
        seq: Its number.
        limit: What bounds the label of the result: the mark, unless it is in another stream, and arguments that repeat
            untrusted input.
    """

    hop: str
    seq: int
    limit: str


@final
class FlowCheck:
    """The information flow of a ledger, stream after stream.

    Marks are per stream: the mark of a hop in another process stands in the stream of that process. After a failed disk
    or an interruption a process goes on in another stream, where the marks of hops that began before are not checked:
    such a hop must have its first mark in another stream of the ledger.

    Args:
        findings: Takes what is found.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._hops: set[str] = set()
        self._origins: set[str] = set()
        self._begun = spilled(int, near=_NEAR)
        self._elsewhere: dict[str, Place] = {}
        self._not_checked = 0
        self._resumptions: Resumptions | None = None
        self.partial = False
        self._begin()

    def _begin(self) -> None:
        self._marks = spilled(_Newest, near=_NEAR)
        self._intents = spilled(_Judged, near=_NEAR)
        self._answers = AnsweredMarks()
        self._results = spilled(str, near=_NEAR)
        self._isolated = spilled(str, near=_NEAR)
        self._exempted = spilled(list[str], near=_NEAR)
        self._started: set[str] = set()
        self._unmarked: set[str] = set()
        self._continued: set[str] = set()
        self._rules: set[str | None] = set()

    def take(self, record: AnyRecord, place: Place, detail: Detail | None = None) -> None:
        """Follow the next record of a stream.

        Args:
            record: A record in its place.
            place: That place.
            detail: Its detail, if it has one.
        """
        if isinstance(record, Mark):
            self._take_mark(record, place)
        elif isinstance(record, Intent):
            newest = self._take_intent(record, place)
            if record.resumes is not None:
                self._resume(record, newest, place)
        elif isinstance(record, Outcome):
            if record.outcome == "suspended":
                self._suspend(record, detail)
            self._take_outcome(record, place, None if detail is None else detail.claimed)
        elif isinstance(record, TaskStart):
            self._take_start(record, place)
        elif isinstance(record, Grant):
            self._answers.take(record)
        elif isinstance(record, TaskEnd):
            self._take_end(record, place)
        else:
            self._take_other(record)

    def _take_other(self, record: AnyRecord) -> None:
        if isinstance(record, Approval):
            if record.approval.status == "approved" and self._marks:
                self._exempted.put(record.approval.id.encode(), list(record.approval.sources or ()))
        elif isinstance(record, Policy):
            self._rules.add(record.policy.flow)

    def end_of_stream(self) -> None:
        """Forget the marks of a stream: those of another are its own."""
        self._begin()

    def finish(self) -> None:
        """Report what could not be recomputed, and hops that go on from marks of no stream."""
        for hop, place in () if self.partial else self._elsewhere.items():
            if hop.encode() not in self._begun:
                self._report("mark_out_of_order", "a hop goes on from marks that are in no stream", place)
        missing = len(self._origins - self._hops) + self._not_checked
        missing += 0 if self._resumptions is None else self._resumptions.finish()
        if missing:
            message = f"{counted(missing, 'reference')} to marks, hops or policies that are not here: not checked"
            self._findings.add(_LINKS, "flow_not_checked", message)

    def _take_mark(self, record: Mark, place: Place) -> None:
        change = record.mark
        hop, seq, label, joined = change.hop, int(change.seq), Label.parse(change.label), _joined(change)
        self._check_claims(record, label, place)
        before = self._marks.get(hop.encode())
        if before is None and seq > 1 and self._is_elsewhere(hop):
            self._skip(hop, place)
            _keep(self._continued, hop)
        elif (seq, change.prev) != ((1, None) if before is None else (before.seq + 1, before.record)):
            self._report("mark_out_of_order", "a mark does not continue the newest one of its hop", place)
        elif before is None and hop in self._unmarked:
            self._report("mark_out_of_order", "a hop started before its first mark", place)
        elif label != (TRUSTED if before is None else Label.parse(before.label)).meet(joined):
            self._report("mark_mismatch", "a mark is not the meet of the mark before and of what joins it", place)
        added = () if change.joined is None or change.cause == "start" else change.sources or (record.id,)
        self._put(hop, before, _Newest(seq, record.id, change.label, added))
        self._note(change, first=before is None and seq == 1)

    def _note(self, change: MarkChange, *, first: bool) -> None:
        """Note the hops that a mark is about, of which some may be in other streams."""
        if first:
            self._begun.put(change.hop.encode(), 1)
        _keep(self._hops, change.hop)
        if change.origin is not None and change.cause != "answer":
            # A hop is joined by the grant that was presented, which may not be its own.
            _keep(self._origins if change.cause == "join" else self._hops, change.origin)

    def _take_start(self, record: TaskStart, place: Place) -> None:
        """Check that a hop starts at the newest mark; one that was opened here starts at its first."""
        if record.judged_at is None:
            return
        chain = [hop.grant for hop in record.chain]
        if len(chain) == 1:
            _keep(self._started, chain[0])
            if record.judged_at.seq != "1":
                self._report("mark_out_of_order", "a task starts at another mark than its first", place)
        if self._newest(record.judged_at, chain, place) is not None:
            _keep(self._started, chain[-1])  # One that came from elsewhere may have begun before.
        elif record.judged_at.hop == chain[-1]:
            _keep(self._unmarked, chain[-1])

    def _is_elsewhere(self, hop: str) -> bool:
        """Return whether a hop began before the stream, so that its marks may be in another one."""
        return self.partial or hop not in self._started

    def _skip(self, hop: str, place: Place) -> None:
        """Leave out a reference to a mark that may be in another stream."""
        self._not_checked += 1
        if not self.partial and len(self._elsewhere) < _MAX_HOPS:
            self._elsewhere.setdefault(hop, place)

    def _take_end(self, record: TaskEnd, place: Place) -> None:
        """Check that the mark of an isolated hop was joined before the hop ended."""
        hop = record.chain[-1].grant.encode()
        parent = self._isolated.pop(hop) if self._isolated else None
        if parent is None:
            return
        own, above = self._marks.get(hop), self._marks.get(parent.encode())
        if own is not None and above is not None and not Label.parse(above.label).is_within(Label.parse(own.label)):
            self._report("mark_mismatch", "an isolated hop ended before its mark was joined", place)

    def _check_isolated(self, record: Mark, label: Label, place: Place) -> None:
        """Check that an isolated hop begins at the newest mark of the hop that it was delegated from."""
        change, origin = record.mark, record.mark.origin or ""
        above = self._marks.get(origin.encode())
        if change.seq != "1" or origin not in [link.grant for link in record.chain[:-1]]:
            self._report("mark_mismatch", "an isolated hop does not begin at a hop of its chain", place)
        elif above is None and self._is_elsewhere(origin):
            self._skip(origin, place)
        elif above is None:
            self._report("mark_mismatch", "an isolated hop begins at a mark that is not here", place)
        elif not label.is_within(Label.parse(above.label)):
            self._report("mark_mismatch", "an isolated hop begins above the mark that it was delegated at", place)
        self._isolated.put(change.hop.encode(), origin)

    def _check_opened(self, record: Mark, place: Place) -> None:
        """Check that an opened result counts with the label that it was quarantined with."""
        change = record.mark
        kept = "" if change.sources is None else self._results.get(change.sources[0].encode())
        if kept is None:
            self._not_checked += 1
        elif not kept:
            self._report("mark_mismatch", "a result was opened that was not quarantined", place)
        elif not _joined(change).is_within(Label.parse(kept)):
            self._report("mark_mismatch", "a quarantined result was opened above its label", place)

    def _check_join(self, record: Mark, place: Place) -> None:
        """Check that a mark joins no less than what an isolated hop of the stream has."""
        change, origin = record.mark, (record.mark.origin or "").encode()
        part = self._marks.get(origin) if self._isolated.get(origin) is not None else None
        if part is not None and not _joined(change).is_within(Label.parse(part.label)):
            self._report("mark_mismatch", "a mark joins less than an isolated hop has read", place)

    def _check_claims(self, record: Mark, label: Label, place: Place) -> None:
        """Check what a mark says by itself."""
        change = record.mark
        if change.hop not in {link.grant for link in record.chain}:
            self._report("mark_mismatch", "a mark is that of a hop outside the chain of its record", place)
        if change.cause in ("request", "said") and (change.joined is not None or len(record.chain) > 1):
            self._report("mark_mismatch", "a principal speaks in a delegated hop, or changes the mark", place)
        if change.cause == "start" and not label.is_within(UNKNOWN):
            self._report("mark_mismatch", "a task without a request begins at a trusted mark", place)
        if change.cause == "isolated":
            self._check_isolated(record, label, place)
        elif change.cause == "opened":
            self._check_opened(record, place)
        elif change.cause == "answer":
            holds = self._answers.holds(record)
            self._not_checked += holds is None
            if holds is False:
                self._report("mark_mismatch", "an answer of another hop has no mark that this hop signed", place)
        elif change.cause == "join" and self._isolated:
            self._check_join(record, place)

    def _newest(self, seen: MarkSeen, chain: list[str], place: Place) -> _Newest | None:
        """Return the newest mark of a hop, if it is the one that a record names."""
        found = self._marks.get(seen.hop.encode())
        own = seen.hop
        if found is None or chain[-1:] != [own]:  # One of a hop below it would be its own.
            own = next((hop for hop in reversed(chain) if hop.encode() in self._marks), own)
        elsewhere = found is None and self._is_elsewhere(seen.hop)
        if seen.hop not in chain or (own != seen.hop and not elsewhere):
            self._report("mark_mismatch", "a record names the mark of another hop than its own", place)
        elif elsewhere:
            self._skip(seen.hop, place)
        elif found is None or found.seq != int(seen.seq):
            newest = "none" if found is None else f"number {found.seq}"
            message = f"judged at mark number {seen.seq}, and the newest of the hop is {newest}"
            self._report("mark_stale", message, place)
        return found

    def _resumed(self) -> "Resumptions":
        """Return the suspended and resumed calls; few ledgers have some."""
        if self._resumptions is None:
            self._resumptions = Resumptions(self._findings)
        return self._resumptions

    def _resume(self, record: Intent, newest: _Newest | None, place: Place) -> None:
        seen = record.judged_at
        at = None if newest is None or seen is None else newest.label_at(int(seen.seq))
        self._resumed().resume(record, at, place)

    def _suspend(self, record: Outcome, detail: Detail | None) -> None:
        """Keep a suspended call, with the mark at which it was judged if that is in the stream."""
        seen = None if detail is None else detail.judged_at
        judged = None if record.intent is None else self._intents.get(record.intent.encode())
        hop, seq = (judged.hop, judged.seq) if judged is not None else ("", 0) if seen is None else (seen.hop, seen.seq)
        newest = self._marks.get(hop.encode())
        self._resumed().suspend(record, None if newest is None else newest.label_at(int(seq)))

    def _take_intent(self, record: Intent, place: Place) -> _Newest | None:
        """Check the mark of an intent, and return it if it is in the stream."""
        judges = self._rules == {FLOW_RULES}
        if self._intents:
            self._intents.pop(record.id.encode())  # Of two with one id, the later counts.
        if record.judged_at is None and not self._marks and not judges:
            return None
        chain = [hop.grant for hop in record.chain or ()]
        if record.judged_at is None:
            # Where the shipped rules judge, each task has a mark.
            marked = judges or any(hop.encode() in self._marks for hop in chain)
            if marked and record.decision.mode == "enforce":
                self._report("mark_absent", "a call of a task with a mark does not name one", place)
            return None
        newest = self._newest(record.judged_at, chain, place)
        hop, seq = record.judged_at.hop, int(record.judged_at.seq)
        limit = _limit(record, None if newest is None else newest.label_at(seq))
        self._intents.put(record.id.encode(), _Judged(hop, seq, limit))
        if newest is None:
            return None
        self._check_exemption(record, newest, hop, place)
        # Of policies in one stream that differ in this, no one can tell which judged a call.
        self._not_checked += len(self._rules) != 1
        if judges and _ran_against(record, Label.parse(newest.label)):
            self._report(
                "ran_against_mark", f"{record.action.tool!a} ran without the person that its mark needs", place
            )
        return newest

    def _check_exemption(self, record: Intent, newest: _Newest, hop: str, place: Place) -> None:
        """Check that a call that a person approved was approved for the inputs of its mark."""
        approval = record.decision.approval
        exempted = None if approval is None else self._exempted.get(approval.encode())
        if exempted is None:
            return
        if newest.sources is None and (self.partial or hop in self._continued):
            self._not_checked += 1
        elif newest.sources is None or not set(newest.sources) <= set(exempted):  # A ruling names 64 at most.
            self._report("ran_against_mark", "a call was approved for other inputs than those of its mark", place)

    def _take_outcome(self, record: Outcome, place: Place, claimed: str | None) -> None:
        if record.intent is None or (record.label is None and not self._intents):
            return
        judged = self._intents.pop(record.intent.encode())
        if judged is None:
            self._not_checked += record.label is not None
            return
        after = record.mark_after
        kept = record.label if record.error == "content_quarantined" else None
        self._results.put(record.intent.encode(), kept or "")
        if record.label is None:
            if record.action.result is not None or after is not None:
                self._report("label_mismatch", "a result of a task with a mark has no label", place)
            return
        if after is None:
            self._report("label_mismatch", "an outcome has a label and no mark", place)
            return
        label, mark = Label.parse(record.label), Label.parse(after.label)
        self._check_label(judged, label, claimed, place)
        # What was withheld because its mark could not be recorded was not delivered.
        unmarked = record.outcome == "denied" and record.error == _UNRECORDED
        if not unmarked and not mark.is_within(label):
            self._report("label_mismatch", "a result was delivered before it lowered the mark", place)
        self._follow(record, judged, after, place)

    def _check_label(self, judged: _Judged, label: Label, claimed: str | None, place: Place) -> None:
        """Check the label of a result against its call and what its server says."""
        if not label.is_within(Label.parse(judged.limit)):
            self._report("label_mismatch", "a result is less restricted than its mark or its arguments", place)
        if claimed is not None and not label.is_within(Label.parse(claimed)):
            self._report("label_mismatch", "a result is less restricted than its server says", place)

    def _follow(self, record: Outcome, judged: _Judged, after: MarkAfter, place: Place) -> None:
        """Take the mark after a call: a change by its outcome, or one that is on record.

        Args:
            record: The outcome.
            judged: The mark in its intent.
            after: The mark.
            place: The place of the outcome.
        """
        seq, label = int(after.seq), after.label
        newest = self._marks.get(judged.hop.encode())
        if seq < judged.seq or (newest is not None and seq > newest.seq + 1):
            self._report("mark_out_of_order", "an outcome names a mark that its hop has not, or before its call", place)
        elif newest is None and seq == judged.seq:
            self._not_checked += 1
        elif newest is None or seq == newest.seq + 1:
            if newest is None:
                _keep(self._continued, judged.hop)
            elif not Label.parse(label).is_within(Label.parse(newest.label)):
                self._report("mark_mismatch", "a mark is better than the one before", place)
            now = _Newest(seq, record.id, label, (record.intent or "",))
            self._put(judged.hop, newest, now)
        elif (then := newest.label_at(seq)) is None:
            self._not_checked += 1
        elif then != label:
            self._report("mark_mismatch", "an outcome names a mark with another label than it has", place)

    def _put(self, hop: str, before: _Newest | None, mark: _Newest) -> None:
        """Keep the newest mark of a hop, with the labels and sources of those before.

        That a task began as unknown is none of its sources: a call that was approved in an earlier task was made
        before.
        """
        labels = () if before is None else before.labels
        # One with a number out of order counts for that number, though its label is not new.
        if before is None or before.label != mark.label or mark.seq <= before.seq:
            labels = (*labels, (mark.seq, mark.label))
        from agent_identity._authority.registries.rulings import MAX_SOURCES  # Few ledgers have marks.

        known = before.sources if before is not None else () if mark.seq == 1 else None
        sources = None if known is None else tuple(dict.fromkeys((*known, *(mark.sources or ()))))[: MAX_SOURCES + 1]
        self._marks.put(hop.encode(), mark._replace(sources=sources, labels=labels))

    def _report(self, code: str, message: str, place: Place) -> None:
        self._findings.add(_LINKS, code, message, place)


def _ran_against(record: Intent, mark: Label) -> bool:
    """Return whether the shipped rules needed a person for a call that was let through."""
    decision, action = record.decision, record.action
    ran = decision.mode == "enforce" and decision.effect in _RAN and decision.enforced == "allow"
    if not ran or action.kind in MODEL_KINDS:
        return False
    origins = {of.argument: of for of in record.provenance or ()}
    args, destinations = dict[str, str](), dict[str, str]()
    for name, of in origins.items():
        args[name] = of.provenance
        if of.destination is not None:
            destinations[name] = of.provenance
    return is_gated(action.labels, mark.integrity, destinations, args, action.claims or ())


def _limit(record: Intent, mark: str | None) -> str:
    """Return the label that bounds the result of a call whatever the tool declares; its mark may be elsewhere."""
    most = str(TRUSTED) if mark is None or record.endorses is True else mark
    if record.endorses is True:
        return most
    for of in record.provenance or ():
        if of.provenance == "untrusted":
            return str(Label.parse(most).meet(UNTRUSTED))
    return most


def _joined(change: MarkChange) -> Label:
    """Return the label that a mark joins."""
    return TRUSTED if change.joined is None else Label.parse(change.joined)


def _keep(names: set[str], name: str) -> None:
    if len(names) < _MAX_HOPS:
        names.add(name)
