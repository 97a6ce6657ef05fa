"""Steps 5 and 6 record by record: intents and their outcomes, tasks, and what was allowed under which grant."""

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias, cast, final

from agent_identity.audit.approvals_check import ApprovalsCheck, is_approved
from agent_identity.audit.chain_check import Delegations, Use
from agent_identity.audit.disclosed import Disclosures
from agent_identity.audit.erasures import erasure_words
from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.patterns import Pattern, Patterns, Slots
from agent_identity.audit.shapes import RecordReader

__all__ = ["Call", "Calls", "Known"]

_LINKS: Final = 5
_GRANTS: Final = 6
_ARGUMENTS: Final = 8
_MAX_DEFERRED: Final = 10_000


class Call(NamedTuple):
    """What intent and outcome of a call must agree on, and where the record is.

    Attributes:
        use: The use of the grant that the call is under; ``None`` outside any task.
        tool: The tool.
        arguments: The digest of the arguments, or ``None`` without any.
        id: The id of the record.
        stream: Its stream.
        seq: Its place.
    """

    use: Use | None
    tool: str
    arguments: bytes | None
    id: bytes
    stream: str
    seq: int

    def place(self) -> Place:
        """Return where the record is."""
        return Place(self.id.decode(), self.stream, self.seq)


Known: TypeAlias = tuple[Pattern, Slots, Use]
"""A record that fits a pattern: what its slots say, and the use of the grant that it is under."""


@final
class Calls:
    """The calls of a source, stream after stream.

    Args:
        findings: Takes what is found.
        delegations: The grants of the source.
        approvals: The approvals of the source; ``None`` for spans, which do not have them.
        disclosures: Arguments of some of the calls.

    Attributes:
        reader: Reads records, and knows the shapes of earlier ones, whatever their stream.
        committed: How many records of the stream that is being read the log commits to.
        recovered: What is said about recovered streams, by their ids.
        gone: Intents that were pruned before their outcomes; ``None`` if nothing was pruned at all.
        partial: Only a part of the ledger is given, so that any intent may be missing.
    """

    def __init__(
        self,
        findings: Findings,
        delegations: Delegations,
        *,
        approvals: ApprovalsCheck | None = None,
        disclosures: Disclosures | None = None,
    ) -> None:
        self._findings = findings
        self._approvals = approvals
        self._delegations = delegations
        self._disclosures = disclosures
        self._patterns = Patterns()
        self.reader = RecordReader()
        self._open: dict[bytes, Call] = {}
        self._left: dict[bytes, Call] = {}
        self._deferred: list[tuple[bytes, Call]] = []
        self._outcomes: Counter[str] = Counter()
        self.committed = 0
        self.recovered: dict[str, Mapping[str, str]] = {}
        self.gone: set[bytes] | None = None
        self.partial = False

    def recognise(self, data: bytes, place: Slots) -> Known | None:
        """Return what a record says if it is a call like earlier ones, right behind the record before it.

        ``None`` means only that the full checks must decide.

        Args:
            data: The bytes of the record.
            place: Its stream, the leaf hash of the record before it in hex, and its place in the stream.
        """
        found = self._patterns.find(data)
        if found is None:
            return None
        pattern, slots = found
        grants = slots[pattern.grants]
        use = self._delegations.find(grants[-1])
        if (
            use is None
            or slots[pattern.place] != place
            or slots[pattern.task] != use.task_facts
            or grants != use.grants
            or pattern.parties != use.parties
            or (pattern.intent >= 0 and slots[pattern.intent] not in self._open)
        ):
            return None
        if self._disclosures is not None and self._disclosures.want(slots[pattern.id]):
            return None
        return pattern, slots, use

    def take_known(self, known: Known, stream: str, seq: int) -> int:
        """Check what a recognised call says about others, and return its time in nanoseconds since the epoch.

        Args:
            known: The call.
            stream: Its stream.
            seq: Its place.
        """
        pattern, slots, use = known
        arguments = slots[pattern.arguments] if pattern.arguments >= 0 else None
        call = Call(use, pattern.tool, arguments, slots[pattern.id], stream, seq)
        if pattern.outcome is None:
            self._intend(call)
        else:
            intent = slots[pattern.intent] if pattern.intent >= 0 else None
            self._conclude(call, pattern.outcome, intent, monitored=pattern.monitored)
        start_ns = int(slots[pattern.start])
        if pattern.effect != "block":
            use.allow(pattern.tool, start_ns, call.place)
        return start_ns

    def take(self, record: Mapping[str, object], data: bytes, stream: str, seq: int) -> None:
        """Check what a record says about others, and remember it as a pattern.

        Args:
            record: A record of the right shape, in its place.
            data: Its bytes.
            stream: Its stream.
            seq: Its place.
        """
        place = Place(cast("str", record["id"]), stream, seq)
        use = self._delegations.see(record, place) if "chain" in record else None
        kind = record["kind"]
        if "action" in record and "decision" in record:
            self._take_call(record, use, place)
            if is_approved(cast("dict[str, str]", record["decision"])):
                self._take_approval(record, place)
            else:
                self._patterns.learn(record, data)
        elif kind == "approval":
            self._take_approval(record, place)
        elif kind == "grant" and use is not None:
            token = cast("dict[str, str]", record["grant"])["token"]
            self._delegations.add_grant(token, use.chain[-1]["grant"], place)
        elif kind == "task_start" and use is not None:
            use.begin(stream)
        elif kind == "task_end" and use is not None:
            use.finish(cast("dict[str, str]", record["counts"]), place, partial=self.partial or self.gone is not None)
        elif kind == "erasure":
            self._take_erasure(cast("dict[str, str]", record["erasure"]), place)
        elif kind == "recovered":
            self._take_recovered(cast("dict[str, str]", record["recovered"]))

    def _take_erasure(self, erasure: Mapping[str, str], place: Place) -> None:
        words = erasure_words(erasure)
        if words is not None:
            self._findings.add(_ARGUMENTS, "erased", words, place)

    def _take_recovered(self, found: Mapping[str, str]) -> None:
        # A later one says less: of what an earlier start sealed or rejected, it may find nothing any more.
        if found["stream"] not in self.recovered or found["rejected_bytes"] != "0":
            self.recovered[found["stream"]] = found

    def _take_approval(self, record: Mapping[str, object], place: Place) -> None:
        if self._approvals is not None:
            self._approvals.take(record, place)

    def end_of_stream(self) -> None:
        """Keep what the stream leaves open: an outcome may stand in the stream of a forked child."""
        self._left.update(self._open)
        self._open = {}

    def finish(self) -> None:
        """Match across streams what no stream could match for itself, and count what stays open."""
        findings = self._findings
        for intent_id, outcome in self._deferred:
            self._match(self._left.pop(intent_id, None), outcome)
        for intent in self._left.values():
            message = f"expected an outcome of the call of {intent.tool!a}, got none; how it ended is unknown"
            findings.add(_LINKS, "unknown_outcome", message, intent.place())
        findings.counts.update(self._outcomes)
        findings.counts["unknown"] += len(self._left)
        self._delegations.check_counts(_LINKS)
        intents, outcomes = findings.kinds["intent"], findings.kinds["outcome"]
        findings.done(_LINKS, f"{counted(intents, 'intent')}, {counted(outcomes, 'outcome')}")

    def _take_call(self, record: Mapping[str, object], use: Use | None, place: Place) -> None:
        action = cast("dict[str, str]", record["action"])
        decision = cast("dict[str, str]", record["decision"])
        tool, digest, (identifier, stream, seq, _) = action["tool"], action.get("args"), place
        arguments = None if digest is None else digest.encode()
        call = Call(use, tool, arguments, cast("str", identifier).encode(), cast("str", stream), cast("int", seq))
        if "outcome" in record:
            intent = cast("str | None", record.get("intent"))
            outcome, monitored = cast("str", record["outcome"]), decision["mode"] == "monitor"
            asked = "approval" in decision  # Such a call can be suspended before it has an intent.
            self._conclude(call, outcome, intent.encode() if intent else None, monitored=monitored, asked=asked)
        else:
            self._intend(call)
        if self._disclosures is not None and self._disclosures.want(call.id):
            self._disclosures.take(record, use, place)
        if use is None:
            self._findings.counts["unattributed"] += 1
        if decision["effect"] == "block":
            return
        if use is not None:
            use.allow(tool, int(cast("dict[str, str]", record["time"])["start"]), call.place)
        else:
            message = "expected only calls of a task to be allowed, got one outside any task"
            self._findings.add(_GRANTS, "allowed_without_task", message, place)

    def _intend(self, call: Call) -> None:
        self._open[call.id] = call
        if call.use is not None:
            call.use.intents += 1

    def _conclude(
        self, call: Call, outcome: str, intent: bytes | None, *, monitored: bool, asked: bool = False
    ) -> None:
        if call.seq <= self.committed:  # Anyone may have written the others, which count as unsealed only.
            self._outcomes[outcome] += 1
        if call.use is not None:
            call.use.outcomes += 1
        if intent is None:
            if outcome not in {"denied", "routed"} and not (outcome == "suspended" and asked):
                # In monitor mode a call runs even if its intent could not be written; then something is missing.
                code = "unrecorded_intent" if monitored else "outcome_without_intent"
                message = "expected an intent before the outcome of a call that ran, got none"
                self._findings.add(_LINKS, code, message, call.place())
            return
        found = self._open.pop(intent, None)
        if found is None and self.gone is not None and intent in self.gone:
            self._findings.counts["intents_pruned"] += 1
        elif found is None and len(self._deferred) < _MAX_DEFERRED:
            self._deferred.append((intent, call))
        else:
            self._match(found, call)

    def _match(self, intent: Call | None, outcome: Call) -> None:
        if intent is None and self.partial:
            self._findings.counts["intents_withheld"] += 1
        elif intent is None:
            message = "expected the intent that the outcome names, and no other outcome of it, got none"
            self._findings.add(_LINKS, "intent_missing", message, outcome.place())
        elif intent[:3] != outcome[:3]:
            message = "expected grant, tool and arguments of the intent in its outcome, got others"
            self._findings.add(_LINKS, "intent_mismatch", message, outcome.place())
