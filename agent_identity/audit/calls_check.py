"""Steps 5 and 6 record by record: intents and their outcomes, tasks, and what was allowed under which grant."""

from collections import Counter
from collections.abc import Mapping
from typing import Final, cast, final

from agent_identity.audit.approvals_check import ApprovalsCheck, is_approved
from agent_identity.audit.chain_check import Delegations
from agent_identity.audit.disclosed import Disclosures
from agent_identity.audit.erasures import erasure_words
from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.grant_usage import GrantUsage, spent_uses
from agent_identity.audit.open_intents import Call, OpenIntents

__all__ = ["Calls"]

_LINKS: Final = 5
_GRANTS: Final = 6
_ARGUMENTS: Final = 8
_MAX_DEFERRED: Final = 10_000
_OTHERS: Final = frozenset({"approval", "erasure", "recovered"})


@final
class Calls:
    """The calls of a source, stream after stream.

    Args:
        findings: Takes what is found.
        delegations: The grants of the source.
        approvals: The approvals of the source; ``None`` for spans, which do not have them.
        disclosures: Arguments of some of the calls.

    Attributes:
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
        self._open = OpenIntents()
        self._left = OpenIntents()
        self._deferred: list[tuple[str, Call]] = []
        self._outcomes: Counter[str] = Counter()
        self.committed = 0
        self.recovered: dict[str, Mapping[str, str]] = {}
        self.gone: set[str] | None = None
        self.partial = False

    def take(self, record: Mapping[str, object], stream: str, seq: int) -> None:
        """Check what a record says about others.

        Args:
            record: A record of the right shape, in its place.
            stream: Its stream.
            seq: Its place.
        """
        place = Place(cast("str", record["id"]), stream, seq)
        usage = self._delegations.see(record, place) if "chain" in record else None
        kind = record["kind"]
        if "action" in record and "decision" in record:
            self._take_call(record, usage, place)
            if is_approved(cast("dict[str, str]", record["decision"])):
                self._take_other(record, place)
        elif kind in _OTHERS:
            self._take_other(record, place)
        elif usage is not None:
            self._take_task(record, usage, place)

    def _take_other(self, record: Mapping[str, object], place: Place) -> None:
        """Take a record that concerns all of the ledger."""
        kind = record["kind"]
        if kind == "erasure":
            self._take_erasure(cast("dict[str, str]", record["erasure"]), place)
        elif kind == "recovered":
            self._take_recovered(cast("dict[str, str]", record["recovered"]))
        elif self._approvals is not None:
            self._approvals.take(record, place)

    def _take_task(self, record: Mapping[str, object], use: GrantUsage, place: Place) -> None:
        kind = record["kind"]
        if kind == "grant":
            token = cast("dict[str, str]", record["grant"])["token"]
            self._delegations.add_grant(token, use.chain[-1]["grant"], place)
        elif kind == "task_start":
            use.begin(cast("str", place.stream))
        elif kind == "task_end":
            use.finish(cast("dict[str, str]", record["counts"]), place, partial=self.partial or self.gone is not None)

    def _take_erasure(self, erasure: Mapping[str, str], place: Place) -> None:
        words = erasure_words(erasure)
        if words is not None:
            self._findings.add(_ARGUMENTS, "erased", words, place)

    def _take_recovered(self, found: Mapping[str, str]) -> None:
        # A later one says less: of what an earlier start sealed or rejected, it may find nothing any more.
        if found["stream"] not in self.recovered or found["rejected_bytes"] != "0":
            self.recovered[found["stream"]] = found

    def end_of_stream(self) -> None:
        """Keep what the stream leaves open: an outcome may stand in the stream of a forked child."""
        for call in self._open:
            self._left.put(call)
        self._open = OpenIntents()

    def finish(self) -> None:
        """Match across streams what no stream could match for itself, and count what stays open."""
        findings = self._findings
        for intent_id, outcome in self._deferred:
            self._match(self._left.pop(intent_id), outcome)
        findings.counts["unknown"] += 0
        for intent in self._left:
            findings.counts["unknown"] += 1
            message = f"expected an outcome of the call of {intent.tool!a}, got none; how it ended is unknown"
            findings.add(_LINKS, "unknown_outcome", message, intent.place())
        findings.counts.update(self._outcomes)
        intents, outcomes = findings.kinds["intent"], findings.kinds["outcome"]
        findings.done(_LINKS, f"{counted(intents, 'intent')}, {counted(outcomes, 'outcome')}")

    def _take_call(self, record: Mapping[str, object], use: GrantUsage | None, place: Place) -> None:
        action = cast("dict[str, str]", record["action"])
        decision = cast("dict[str, str]", record["decision"])
        tool, (identifier, stream, seq, _) = action["tool"], place
        grant = None if use is None else use.grant
        call = Call(grant, tool, action.get("args"), cast("str", identifier), cast("str", stream), cast("int", seq))
        if "outcome" in record:
            outcome, monitored = cast("str", record["outcome"]), decision["mode"] == "monitor"
            asked = "approval" in decision  # Such a call can be suspended before it has an intent.
            intent = cast("str | None", record.get("intent"))
            self._conclude(call, outcome, intent, monitored=monitored, asked=asked)
        else:
            self._open.put(call)
        if self._disclosures is not None and self._disclosures.want(call.id):
            self._disclosures.take(record, use, place)
        if use is None:
            self._findings.counts["unattributed"] += 1
        else:
            use.count(concluded="outcome" in record)
            if spent := spent_uses(record):
                use.spend(tool, spent)
        if decision["effect"] == "block":
            return
        if use is not None:
            use.allow(tool, int(cast("dict[str, str]", record["time"])["start"]), call)
        else:
            message = "expected only calls of a task to be allowed, got one outside any task"
            self._findings.add(_GRANTS, "allowed_without_task", message, place)

    def _conclude(self, call: Call, outcome: str, intent: str | None, *, monitored: bool, asked: bool = False) -> None:
        if call.seq <= self.committed:  # Anyone may have written the others, which count as unsealed only.
            self._outcomes[outcome] += 1
        if intent is None:
            if outcome not in {"denied", "routed"} and not (outcome == "suspended" and asked):
                # In monitor mode a call runs even if its intent could not be written; then something is missing.
                code = "unrecorded_intent" if monitored else "outcome_without_intent"
                message = "expected an intent before the outcome of a call that ran, got none"
                self._findings.add(_LINKS, code, message, call.place())
            return
        self._resolve(intent, call)

    def _resolve(self, intent: str, call: Call) -> None:
        """Hold an outcome against its intent, or wait for that."""
        found = self._open.pop(intent)
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
