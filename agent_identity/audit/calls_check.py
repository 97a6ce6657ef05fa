"""Steps 5 and 6 record by record: intents and their outcomes, tasks, and what was allowed under which grant."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Final, NamedTuple, TypeAlias, cast, final

from agent_identity.audit.approvals_check import ApprovalsCheck, is_approved
from agent_identity.audit.batches import Batch, Cut, Told
from agent_identity.audit.chain_check import Delegations, Use
from agent_identity.audit.disclosed import Disclosures
from agent_identity.audit.erasures import erasure_words
from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.pairing import Paired, pair
from agent_identity.audit.patterns import Patterns, Said, spent_uses
from agent_identity.audit.shapes import RecordReader
from agent_identity.audit.use_store import Packed
from agent_identity.audit.waiting import Call, Waiting

__all__ = ["Call", "Calls", "CallsPart", "Known"]

_LINKS: Final = 5
_GRANTS: Final = 6
_ARGUMENTS: Final = 8
_MAX_DEFERRED: Final = 10_000
_MAX_LATER: Final = 10_000
_MUCH_LATER: Final = 16 * 1024 * 1024  # Bytes of these records; a part holds them, which in order nobody does.
_OTHERS: Final = frozenset({"approval", "erasure", "recovered"})


def _place_of(cuts: Sequence[Cut], ids: Sequence[bytes], stream: str, number: int) -> Place:
    return Place(ids[number].decode(), stream, cuts[number][1])


Known: TypeAlias = tuple[Said, Use]
"""What a recognised call says, and the use of the grant that it is under."""


class Taken(NamedTuple):
    """What there is to say about calls that were checked together.

    Attributes:
        times: When they began, in nanoseconds since the Unix epoch.
        ids: Their ids.
        kinds: Their kinds.
    """

    times: list[int]
    ids: list[bytes]
    kinds: list[str]


class CallsPart(NamedTuple):
    """What the records of a part of a stream say about calls.

    Attributes:
        uses: What was done under each grant, packed, in the order in which they came.
        tokens: The grants that it holds.
        open: Its intents without an outcome, packed.
        deferred: Its outcomes of other intents, packed, each behind the id of its intent.
        outcomes: How many of its calls ended how.
        counts: What else was counted.
        later: Its records that concern all of the ledger, each with its place.
        lowest: The lowest id of its intents.
        highest: The highest one.
    """

    uses: list[Packed]
    tokens: list[tuple[str, str]]
    open: list[bytes]
    deferred: list[tuple[bytes, bytes]]
    outcomes: Mapping[str, int]
    counts: Mapping[str, int]
    later: list[tuple[Mapping[str, object], tuple[object, ...]]]
    lowest: bytes
    highest: bytes


@final
class Calls:
    """The calls of a source, stream after stream.

    Args:
        findings: Takes what is found.
        delegations: The grants of the source.
        approvals: The approvals of the source; ``None`` for spans, which do not have them.
        disclosures: Arguments of some of the calls.
        part: Only a part of a stream is read, and others will be merged.
        patterns: Those that were learned from other sources.
        reader: One that knows the shapes of other sources.

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
        part: bool = False,
        patterns: Patterns | None = None,
        reader: RecordReader | None = None,
    ) -> None:
        self._later: list[tuple[Mapping[str, object], tuple[object, ...]]] | None = [] if part else None
        self._later_bytes = 0
        self._findings = findings
        self._approvals = approvals
        self._delegations = delegations
        self._disclosures = disclosures
        self._patterns = patterns or Patterns()
        self.reader = reader or RecordReader()
        self._open = Waiting()
        self._left = Waiting()
        self._use: Use | None = None
        self._deferred: list[tuple[bytes, Call]] = []
        self._outcomes: Counter[str] = Counter()
        self.committed = 0
        self.recovered: dict[str, Mapping[str, str]] = {}
        self.gone: set[bytes] | None = None
        self.partial = False

    def recognise(self, data: bytes, place: bytes) -> Known | None:
        """Return what a record says if it is a call like earlier ones, right behind the record before it.

        ``None`` means only that the full checks must decide.

        Args:
            data: The bytes of the record.
            place: The bytes that name its place; see :func:`~agent_identity.audit.patterns.place_of`.
        """
        first = data.find(b',"agent":{') + 1
        use = self._use
        if use is None or not data.startswith(use.context.agent, first):
            use = self._use_at(data, first)
            if use is None:
                return None
        agent, principal, task = use.context
        second = first + len(agent)
        third = data.find(b',"principal":{', second) + 1
        fourth = third + len(principal)
        fifth = fourth + len(place)
        if not (data.startswith(principal, third) and data.startswith(place, fourth) and data.startswith(task, fifth)):
            return None
        found = self._patterns.find(data[:first] + data[second:third] + data[fifth + len(task) :])
        if found is None:
            return None
        said = found[0].said(found[1])
        if (
            (said[0].first, said[0].second) != (first, third - second)
            or (said[2] is not None and said[2] not in self._open.near)
            or (self._disclosures is not None and self._disclosures.want(said[1]))
        ):
            return None
        return said, use

    def use_of(self, data: bytes) -> Use | None:
        """Return the use whose context a call seems to have."""
        return self._use_at(data, data.find(b',"agent":{') + 1)

    def take_batch(self, batch: Batch, stream: str) -> Taken:
        """Check calls of a part that were cut, and remember new ones as patterns.

        Args:
            batch: The calls, at least one.
            stream: Their stream.

        Raises:
            ValueError: One of them has not the form of a record.
        """
        cuts, told = batch.cuts, batch.told(self._patterns)
        self._use = None  # Looking for others may move it to the disk.
        paired = pair(cuts, told, self._open, stream)
        if paired is None:
            return self._take_each(cuts, told, stream)
        self._count_uses(cuts, paired, stream, told)
        for one in told:
            committed = sum(cuts[number][1] <= self.committed for number in one.numbers)
            if one.pattern.outcome is not None and committed:
                self._outcomes[one.pattern.outcome] += committed
        self._open.exchange(paired.opened, paired.ended)
        return Taken(paired.times, paired.ids, ["intent" if opens else "outcome" for opens in paired.intents])

    def _count_uses(self, cuts: Sequence[Cut], paired: Paired, stream: str, told: Sequence[Told]) -> None:
        """Count calls under their grants."""
        begun, spent = 0, [0] * len(cuts)
        for one in told:
            if worth := one.pattern.spent:
                for number in one.numbers:
                    spent[number] = worth
        for grant, run in groupby(cut[0] for cut in cuts):
            behind = begun + sum(1 for _ in run)
            use = self._delegations.find(grant)
            if use is None:
                raise ValueError("expected the use of a grant that a call was cut by, got none")
            intents = paired.intents.count(1, begun, behind)
            use.intents += intents
            use.outcomes += behind - begun - intents
            for (tool, worth), times in Counter(
                zip(paired.tools[begun:behind], spent[begun:behind], strict=True)
            ).items():
                use.spend(tool, worth * times)
            where = partial(_place_of, cuts[begun:behind], paired.ids[begun:behind], stream)
            use.allow_all(paired.tools[begun:behind], paired.times[begun:behind], where)
            begun = behind

    def _take_each(self, cuts: Sequence[Cut], told: Sequence[Told], stream: str) -> Taken:
        """Do what :meth:`take_batch` does for one call after the other."""
        known = {number: said for one in told for number, said in one.each()}
        taken, use = Taken([], [], []), None
        for number, (grant, seq, prev, line) in enumerate(cuts):
            if use is None or use.grant != grant:
                use = self._delegations.find(grant)
            said = known.get(number)
            if said is None or use is None or (said[2] is not None and said[2] not in self._open.near):
                record = self._take_unlike(line[83:-1], {"id": stream, "prev": prev.decode(), "seq": str(seq)})
                taken.times.append(int(cast("dict[str, str]", record["time"])["start"]))
                taken.ids.append(cast("str", record["id"]).encode())
                taken.kinds.append(cast("str", record["kind"]))
                use = None  # It may have been moved to the disk.
            else:
                taken.times.append(self.take_known(said, use, stream, seq))
                taken.ids.append(said[1])
                taken.kinds.append(said[0].kind)
        return taken

    def _take_unlike(self, data: bytes, place: Mapping[str, str]) -> Mapping[str, object]:
        """Take a record of a task through all checks."""
        record = self.reader.read(data)
        # Its place was found among its bytes; now it is known what they mean.
        if record["stream"] != place or record["kind"] == "stream_end":
            raise ValueError("expected a record of a task in its place, got another")
        self.take(record, data, place["id"], int(place["seq"]))
        return record

    def _use_at(self, data: bytes, first: int) -> Use | None:
        """Return the use whose context a record has."""
        end = data.find(b'],"decision":{', first)
        grant = data.rfind(b'"grant":"', first, end) + 9
        self._use = None  # It may be moved to the disk, to make room for the other one.
        use = self._delegations.find(data[grant : grant + 64])
        if use is None or not data.startswith(use.context.agent, first):
            return None
        self._use = use
        return use

    def take_known(self, said: Said, use: Use, stream: str, seq: int) -> int:
        """Check what a recognised call says about others, and return its time in nanoseconds since the epoch.

        Args:
            said: What it says.
            use: The use of the grant that it is under.
            stream: Its stream.
            seq: Its place.
        """
        pattern, identifier, intent, arguments, start = said
        tool, waiting = pattern.tool, self._open
        call = Call(use.grant, tool, arguments, identifier, stream, seq)
        if pattern.outcome is None:
            waiting.put(call)
            use.intents += 1
        else:
            use.outcomes += 1
            found = None if intent is None else waiting.near.get(intent)
            if found is None or waiting.far or found[:3] != call[:3]:
                self._conclude(call, pattern.outcome, intent, monitored=pattern.monitored)
            else:
                del waiting.near[found.id]
                if seq <= self.committed:
                    self._outcomes[pattern.outcome] += 1
        start_ns = int(start)
        if pattern.spent:
            use.spend(tool, pattern.spent)
        if pattern.effect != "block":
            if start_ns > use.last_ns and use.first_ns >= 0 and tool in use.tools:
                use.last_ns, use.last = start_ns, call
            else:
                use.allow(tool, start_ns, call)
        return start_ns

    def take(self, record: Mapping[str, object], data: bytes, stream: str, seq: int) -> None:
        """Check what a record says about others, and remember it as a pattern.

        Args:
            record: A record of the right shape, in its place.
            data: Its bytes.
            stream: Its stream.
            seq: Its place.

        Raises:
            ValueError: A part has too much that concerns all of the ledger.
        """
        place = Place(cast("str", record["id"]), stream, seq)
        use = self._delegations.see(record, place) if "chain" in record else None
        self._use = None  # It may have been moved to the disk, to make room for that one.
        kind = record["kind"]
        if "action" in record and "decision" in record:
            self._take_call(record, use, place)
            if is_approved(cast("dict[str, str]", record["decision"])):
                self._take_other(record, place, len(data))
            elif use is not None:
                use.recognise(record, self._patterns.learn(record, data))
        elif kind in _OTHERS:
            self._take_other(record, place, len(data))
        elif use is not None:
            self._take_task(record, use, place)

    def _take_other(self, record: Mapping[str, object], place: Place, size: int = 0) -> None:
        """Take a record that concerns all of the ledger; of a part, with its size in bytes."""
        kind = record["kind"]
        if self._later is not None:
            self._later.append((record, tuple(place)))
            self._later_bytes += size
            if self._later_bytes > _MUCH_LATER:
                raise ValueError("expected less in a part that concerns all of the ledger, got too much to be merged")
        elif kind == "erasure":
            self._take_erasure(cast("dict[str, str]", record["erasure"]), place)
        elif kind == "recovered":
            self._take_recovered(cast("dict[str, str]", record["recovered"]))
        elif self._approvals is not None:
            self._approvals.take(record, place)

    def _take_task(self, record: Mapping[str, object], use: Use, place: Place) -> None:
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

    def shipped(self) -> CallsPart | None:
        """Return what a part of a stream says, or ``None`` if that is too much to be merged."""
        later, waiting = self._later or [], self._open
        if len(later) > _MAX_LATER:
            return None
        uses, tokens = self._delegations.shipped()
        return CallsPart(
            uses,
            tokens,
            [call.packed() for call in waiting.calls()],
            [(intent, outcome.packed()) for intent, outcome in self._deferred],
            dict(self._outcomes),
            dict(self._findings.counts),
            later,
            waiting.lowest,
            waiting.highest,
        )

    def merge(self, part: CallsPart) -> bool:
        """Take over what the next part of a stream says; return whether that is possible, and changes nothing if not.

        Args:
            part: What a part says in which nothing was found to report.
        """
        outcomes = [(intent, Call.unpacked(outcome)) for intent, outcome in part.deferred]
        # An intent that is there twice would take the place of the first one, and the part does not know that one.
        if (
            not self._open.none_between(part.lowest, part.highest)
            or not self._open.fit(outcomes)
            or len(self._deferred) + len(outcomes) > _MAX_DEFERRED
            or not self._delegations.merge(part.uses, part.tokens)
        ):
            return False
        for intent, outcome in outcomes:
            self._resolve(intent, outcome)
        for call in part.open:
            self._open.put(Call.unpacked(call))
        self._outcomes.update(part.outcomes)
        self._findings.counts.update(part.counts)
        for record, place in part.later:
            self._take_other(record, Place(*cast("tuple[str, str, int, None]", place)))
        self._use = None
        return True

    def end_of_stream(self) -> None:
        """Keep what the stream leaves open: an outcome may stand in the stream of a forked child."""
        for call in self._open.calls():
            self._left.put(call)
        self._open = Waiting()

    def finish(self) -> None:
        """Match across streams what no stream could match for itself, and count what stays open."""
        findings = self._findings
        for intent_id, outcome in self._deferred:
            self._match(self._left.pop(intent_id), outcome)
        findings.counts["unknown"] += 0
        for intent in self._left.calls():
            findings.counts["unknown"] += 1
            message = f"expected an outcome of the call of {intent.tool!a}, got none; how it ended is unknown"
            findings.add(_LINKS, "unknown_outcome", message, intent.place())
        findings.counts.update(self._outcomes)
        intents, outcomes = findings.kinds["intent"], findings.kinds["outcome"]
        findings.done(_LINKS, f"{counted(intents, 'intent')}, {counted(outcomes, 'outcome')}")

    def _take_call(self, record: Mapping[str, object], use: Use | None, place: Place) -> None:
        action = cast("dict[str, str]", record["action"])
        decision = cast("dict[str, str]", record["decision"])
        tool, digest, (identifier, stream, seq, _) = action["tool"], action.get("args"), place
        arguments = None if digest is None else digest.encode()
        grant = None if use is None else use.grant
        call = Call(grant, tool, arguments, cast("str", identifier).encode(), cast("str", stream), cast("int", seq))
        if "outcome" in record:
            intent = cast("str | None", record.get("intent"))
            outcome, monitored = cast("str", record["outcome"]), decision["mode"] == "monitor"
            asked = "approval" in decision  # Such a call can be suspended before it has an intent.
            self._conclude(call, outcome, intent.encode() if intent else None, monitored=monitored, asked=asked)
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

    def _conclude(
        self, call: Call, outcome: str, intent: bytes | None, *, monitored: bool, asked: bool = False
    ) -> None:
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

    def _resolve(self, intent: bytes, call: Call) -> None:
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
