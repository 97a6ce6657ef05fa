"""Verifies an evidence directory: one signature proves every record up to the last seal."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, final

from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import LedgerReader, RawLine
from agent_identity._record.codec import decode
from agent_identity._record.parts import RecoveredStream
from agent_identity._record.schema import AnyRecord, Detail
from agent_identity._storage.lines import Block
from agent_identity._verify.grants.approvals_check import ApprovalsCheck
from agent_identity._verify.grants.chain_check import Delegations
from agent_identity._verify.grants.revoked_keys import Doubts
from agent_identity._verify.inputs.sources import PathLike
from agent_identity._verify.ledger._calls_check import Calls
from agent_identity._verify.ledger.certificates_check import certificates_of, with_certificates
from agent_identity._verify.ledger.external_evidence import ExternalEvidence
from agent_identity._verify.ledger.log_check import Heads, SignedLog, check_log
from agent_identity._verify.ledger.record_check import CheckedBlock, check_block
from agent_identity._verify.ledger.stream_check import StreamCheck, Visit
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.periods import Life, judge_period, unknown_period
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.store.workers import Executor, in_process

if TYPE_CHECKING:
    from agent_identity._ledger.excerpt_starts import Start
    from agent_identity._ledger.prune_statement import PruneStatement
    from agent_identity._verify.ledger._closure_check import ClosureCheck
    from agent_identity._verify.ledger.index import LedgerIndex

Progress: TypeAlias = Callable[[int, int], None]
"""Receives the bytes read and the total; a total of 0 is unknown."""

LEDGER_STEPS: Final = (
    "trust and signature of the checkpoint",
    "the log re-derives its checkpoint",
    "the records re-derive the heads in the log",
    "each record is in form and in place",
    "intents and outcomes belong together",
    "grants and chains, and tools within them",
    "everything is there",
    "arguments within the grants",
)
_TRUST, _HEADS, _RECORDS, _GRANTS, _ALL, _ARGUMENTS = 1, 3, 4, 6, 7, 8
_NS: Final = 1_000_000_000
_PRUNED: Final = "it was pruned"


@final
class LedgerCheck:
    """Verifies one evidence directory.

    1. The checkpoint of the log is signed by a trusted recorder key and names the trusted origin.
    2. The entries of the log re-derive the root in the checkpoint. Later entries are not sealed.
    3. The records of each stream re-derive every head in the log, so that the stream only ever grew.
       This proves every record up to the last head, by the one signature of step 1.
    4. Each record is canonical, of its closed shape, in the stream that it names, and follows the one before
       it; the first starts the stream, and nothing follows its end.
    5. Each outcome of a call that ran has its intent, for the same task, tool and arguments. Intents
       without outcome count as ``unknown``. A task has at least the calls that its end states.
    6. Each chain of grants verifies under the trusted issuer keys; the records name the principal and the
       agents of the grants; allowed calls are of tools of the grant and within its lifetime. A call that needed an
       approval has one by a person other than the requester, for the same task, tool and arguments, in time, used once.
    7. The directory has every stream that the log names and no other, and each is sealed to its end. Where the
       first records are missing, a trusted recorder key signed that they were pruned.
    8. Arguments are digests in the ledger and were compared with the grant before the call: only disclosed
       arguments are checked.

    Args:
        reader: The directory.
        trust: The trusted keys, or ``None``.
        findings: Takes what is found.
        disclosures: Files that show arguments of calls.
        executor: Runs the checks of single records and of chains.

    Attributes:
        log: The log as :meth:`run` found it; ``None`` if it cannot be read.
    """

    def __init__(
        self,
        reader: LedgerReader,
        trust: TrustStore | None,
        findings: Findings,
        disclosures: Sequence[bytes | PathLike] = (),
        *,
        executor: Executor = in_process,
    ) -> None:
        self.log: SignedLog | None = None
        self._executor = executor
        self._reader = reader
        self._trust = trust = with_certificates(trust, certificates_of(reader), findings)
        self._findings = findings
        self._denied: AbstractSet[str] = frozenset()
        self._visit: Visit | None = None
        self._excerpt = False
        self._kept = True
        self._endless = 0
        self._delegations = Delegations(findings, _GRANTS, trust)
        self._approvals = ApprovalsCheck(findings, trust)
        self._disclosures = None
        if disclosures:
            from agent_identity._verify.grants.disclosed_arguments import Disclosures  # Few verifiers have some.

            self._disclosures = Disclosures(disclosures, findings, _ARGUMENTS, self._delegations)
        self._calls = Calls(findings, self._delegations, approvals=self._approvals, disclosures=self._disclosures)

    def run(
        self,
        *,
        outside: ExternalEvidence | None = None,
        total: int = 0,
        progress: Progress | None = None,
        period: tuple[int, int] | None = None,
        index: "LedgerIndex | None" = None,
        visit: Visit | None = None,
    ) -> None:
        """Verify the directory.

        Args:
            outside: Evidence and requirements of the verifier beside the trusted keys.
            total: Bytes in all streams, for the progress.
            progress: Receives the progress.
            period: A period to judge: its first nanosecond since the Unix epoch, and the first one after it.
            index: Stores each record in its place, and the number of proved ones.
            visit: Receives each record in its place that the log commits to.
        """
        findings, self._visit = self._findings, visit
        if period is not None:
            findings.period = unknown_period(*period, "there are no records")
        if self._trust is None:
            findings.add(_TRUST, "no_trust", "there are no trusted keys; pass the trust file of the recorder")
        closed = self._report_denied()
        if "log" in closed:
            return
        log = self.log = check_log(self._reader, self._trust, findings, outside=outside or ExternalEvidence())
        if log.trust is not None:
            self._delegations.narrow(log.trust)
            self._approvals.narrow(log.trust)
        if "ledger" not in closed:
            self._check_streams(log, total, progress, period, index)

    def _check_streams(
        self,
        log: SignedLog,
        total: int,
        progress: Progress | None,
        period: tuple[int, int] | None,
        index: "LedgerIndex | None",
    ) -> None:
        findings = self._findings
        # Streams in the log come first, so that no forged record of another stream counts before them.
        there = (name for name in self._reader.streams() if name not in self._denied)
        names = sorted(there, key=lambda name: name not in log.heads)
        if not names and not log.heads:
            findings.add(_TRUST, "nothing_to_verify", "the ledger has no records")
            return
        findings.completeness_checked = log.proved  # Without a trusted signature, all may be another log.
        starts = self._starts(names, log)
        closings = self._closings(names, log, starts)
        check = partial(StreamCheck, findings=findings, calls=self._calls, index=index, period=period)
        streams: dict[str, StreamCheck] = {}
        blocks = self._executor(check_block, self._parts(names, starts))
        done = 0
        for name in names:
            heads = log.heads.get(name)
            visit = _showing(heads, log.doubts, self._visit, starts.get(name))
            streams[name] = check(name, heads, visit=visit, start=starts.get(name), closing=closings.get(name))
            done = self._follow(streams[name], blocks, done, lambda reached: progress and progress(reached, total))
            if index is not None:  # Only records that no revoked key leaves in doubt.
                index.prove(streams[name].sealed if log.proved and log.doubts is None else 0)
        missing = set[str]() if self._excerpt else log.heads.keys() - streams.keys() - self._denied
        self._conclude(log, streams, missing)
        self._count(log, streams)
        self._check_completeness(streams, {name: log.heads[name].last_size for name in sorted(missing)})
        self._conclude_completeness(len(streams), proved=log.proved)
        if period is not None:
            self._judge_period(log, streams, period, starts)

    def _report_denied(self) -> AbstractSet[str]:
        """Report the parts of the directory that this user may not read, and return their kinds.

        An unreadable part is neither present nor missing, and causes no other finding.
        """
        denied = self._reader.denied()
        for part in denied:
            message = f"{part.path!r} cannot be read ({part.why}); verify as a user who may read it"
            step = _TRUST if part.part == "log" else _ALL
            self._findings.add(step, "unreadable", message, Place(stream=part.stream))
        self._denied = frozenset(part.stream for part in denied if part.stream is not None)
        return {part.part for part in denied}

    def _judge_period(
        self,
        log: SignedLog,
        streams: Mapping[str, StreamCheck],
        period: tuple[int, int],
        starts: "Mapping[str, PruneStatement | Start]",
    ) -> None:
        findings = self._findings
        if findings.number("contradicted") or findings.number("cannot_tell") or not log.proved:
            findings.period = unknown_period(*period, "the ledger does not verify")
            return
        # A stream without an end casts no doubt on the time before its last sign of life.
        doubt = "records may be missing" if findings.number("incomplete") > self._endless else None
        # A stream that is pruned to its end shows no times.
        lives = [
            Life(s.earliest_ns, s.latest_ns, log.heads[name].signs_ns, s.ended, s.within)
            for name, s in streams.items()
            if s.sealed > s.pruned
        ]
        if any(period[0] < _whole_since(self._reader, name, start) for name, start in starts.items()):
            doubt = doubt or "records of that time were pruned"
        findings.period = judge_period(*period, lives, doubt)

    def _starts(self, names: Sequence[str], log: SignedLog) -> "Mapping[str, PruneStatement | Start]":
        """Return the starts of the streams that do not begin with their first record."""
        self._calls.partial = bool(self._denied)
        if self._reader.excerpt() is None and all(self._reader.pruned(name) is None for name in names):
            return {}
        from agent_identity._verify.ledger._pruning_check import find_excerpt, find_kept, find_leftovers, find_pruned

        trust = log.trust or self._trust
        pruned = find_pruned(self._reader, names, log.heads, trust, self._findings)
        if pruned:
            self._calls.gone = {intent for statement in pruned.values() for intent in statement.open}
        for token in find_kept(self._reader, pruned.values(), trust, self._findings):
            if token is None:
                self._kept = False
            else:
                self._delegations.add_kept(token)  # Before the records that need it.
        excerpt = find_excerpt(self._reader, names, self._findings)
        self._excerpt = excerpt is not None
        self._calls.partial = self._excerpt or bool(self._denied)
        starts: Mapping[str, PruneStatement | Start] = pruned if excerpt is None else {**pruned, **excerpt}
        find_leftovers(self._reader, starts, self._findings)
        return starts

    def _closings(
        self, names: Sequence[str], log: SignedLog, starts: "Mapping[str, PruneStatement | Start]"
    ) -> "Mapping[str, ClosureCheck]":
        """Return what closers saw of streams; an excerpt says nothing of how a stream ended."""
        if self._excerpt or all(self._reader.closure(name) is None for name in names):
            return {}
        from agent_identity._verify.ledger._closure_check import find_closures

        return find_closures(self._reader, names, starts, log.trust or self._trust, self._findings)

    def _parts(
        self, names: Sequence[str], starts: "Mapping[str, PruneStatement | Start]"
    ) -> Iterator[Block | RawLine | None]:
        """Yield the raw lines of the streams, with ``None`` after each stream."""
        for name in names:
            start = starts.get(name)
            yield from self._reader.blocks(name, start=1 if start is None else start.size + 1)
            yield None

    def _follow(
        self, stream: StreamCheck, blocks: Iterator[CheckedBlock | None], done: int, tell: Callable[[int], object]
    ) -> int:
        """Check the lines of a stream; return the bytes of the ledger read so far."""
        end = 0
        for block in iter(partial(next, blocks), None):
            for line in block.lines:
                stream.take(line)
            end = block.end
            tell(done + end)
        stream.finish()
        tell(done + end)
        return done + end

    def _conclude(self, log: SignedLog, streams: Mapping[str, StreamCheck], missing: object) -> None:
        findings = self._findings
        records = sum(stream.lines for stream in streams.values())
        if not records:
            findings.add(_HEADS, "nothing_to_verify", "the ledger has no records; nothing can be verified")
            for step in range(_RECORDS, _ALL):
                findings.skip(step, "there are no records")
            return
        sealed = sum(stream.sealed - stream.pruned for stream in streams.values())
        detail = f"{sealed:,} of {counted(records, 'record')} in {counted(len(streams), 'stream')}"
        if log.proved and not missing and not any(stream.committed for stream in streams.values()):
            message = f"the log does not commit to any of the {counted(records, 'record')} yet"
            findings.add(_HEADS, "nothing_to_verify", f"{message}; nothing proves them")
        if log.proved:
            findings.done(_HEADS, detail)
        else:
            findings.skip(_HEADS, f"{detail} fit the log, but no trusted signature proves the log")
        findings.done(_RECORDS, counted(records - sum(stream.withheld for stream in streams.values()), "record"))
        self._calls.finish()
        self._conclude_doubts(log)
        absent = self._why_absent(missing)
        # A pruning keeps every grant under which a call may follow it.
        kept = self._kept and absent == _PRUNED
        proved = _proof(log, streams)
        self._delegations.settle(absent=absent, kept=kept, proved=proved, executor=self._executor)
        self._conclude_approvals(proved, absent)
        self._conclude_arguments()
        latest_ns = max((stream.latest_ns for stream in streams.values()), default=0)
        findings.complete_until = latest_ns // _NS or None
        self._check_key_times(log.signers, latest_ns)
        self._check_first_time(log, streams.values())

    def _why_absent(self, missing: object) -> str | None:
        if missing:
            return "a stream is missing"
        if self._excerpt:
            return "it is not in this excerpt"
        if self._denied:
            return "a stream cannot be read"
        return _PRUNED if self._findings.counts["pruned"] else None

    def _conclude_arguments(self) -> None:
        if self._disclosures is not None:
            self._disclosures.settle("the ledger holds digests")
        self._findings.skip(_ARGUMENTS, "the ledger holds keyed digests of them")

    def _conclude_approvals(self, proved: Callable[[Place], bool], absent: str | None) -> None:
        if self._denied:
            self._findings.skip(_GRANTS, "approvals were not checked: a stream cannot be read")
        else:
            self._approvals.settle(proved, absent=absent)

    def _conclude_doubts(self, log: SignedLog) -> None:
        if log.doubts is None:
            return
        log.doubts.conclude(self._findings)
        if log.proved:
            message = "a recorder key is revoked, and what it signed is shown to be older, or replaced"
            self._findings.done(_TRUST, message)

    def _check_key_times(self, signers: tuple[TrustedKey, ...], latest_ns: int) -> None:
        """Check that a signer's key was valid at the time of the latest record."""
        at = latest_ns // _NS
        if latest_ns and signers and not any(key.in_time(at) for key in signers):
            message = "no key under the checkpoint was valid at the time of its latest record"
            self._findings.add(_TRUST, "key_not_valid_then", message)

    def _check_first_time(self, log: SignedLog, streams: Collection[StreamCheck]) -> None:
        """Check that a recorder key was valid at the time of the first record, where only certified keys signed.

        A certificate does not cover the time before its validity.
        """
        times = [stream.earliest_ns for stream in streams if stream.sealed > stream.pruned + stream.withheld]
        if not times or not log.signers or not all(key.certificates for key in log.signers):
            return
        keys = () if log.trust is None else log.trust.keys
        at = min(times) // _NS
        if not any(key.purpose == "recorder" and key.counts(at) for key in keys):
            message = "no recorder key was valid at the time of the first record, only later ones"
            self._findings.add(_TRUST, "key_not_valid_then", message)

    def _count(self, log: SignedLog, streams: Mapping[str, StreamCheck]) -> None:
        counts = self._findings.counts
        records = sum(stream.lines for stream in streams.values())
        sealed = sum(stream.sealed - stream.pruned for stream in streams.values())
        withheld = sum(stream.withheld for stream in streams.values())
        counts["records"] = records - withheld
        if withheld:
            counts["withheld"] = withheld
        counts["streams"] = len(streams)
        doubted = log.doubts.records if log.doubts else 0
        counts["verified"] = max(0, sealed - withheld - doubted) if log.proved else 0
        counts["unsealed"] = sum(max(0, stream.size - stream.committed) for stream in streams.values())
        counts["recovered"] = len(self._calls.recovered)

    def _check_completeness(self, streams: Mapping[str, StreamCheck], missing: Mapping[str, int]) -> None:
        findings = self._findings
        for name, size in missing.items():
            what = f"the stream with {counted(size, 'record')}, which the log commits to"
            findings.add(_ALL, "stream_missing", f"{what}, is missing; it was removed", Place(stream=name))
        for stream in streams.values():
            self._check_end(stream)
        for name, recovery in self._calls.recovered.items():
            self._report_recovered(name, recovery)
        findings.counts["contradicted"] = findings.number("contradicted")

    def _conclude_completeness(self, streams: int, *, proved: bool) -> None:
        if self._findings.number("contradicted"):
            self._findings.skip(_ALL, "what is here was changed, so that nothing shows what is missing")
        elif proved:
            self._findings.done(_ALL, f"{counted(streams, 'stream')}, as of this checkpoint")
        else:
            self._findings.skip(_ALL, f"{counted(streams, 'stream')}, but no trusted signature proves the log")

    def _check_end(self, stream: StreamCheck) -> None:
        findings, place = self._findings, Place(stream=stream.stream, seq=stream.committed + 1)
        recovery = self._calls.recovered.get(stream.stream)
        recovered = recovery is not None
        # What a recovery found at the end is no news; of a tail that it rejected, it counts all bytes together.
        told = recovery is not None and (recovery.rejected_bytes != "0" or recovery.torn_bytes == str(stream.torn))
        closing = stream.closing
        if closing is not None and not closing.judge(stream.size, stream.committed, findings):
            closing = None
        torn = bool(stream.torn) and not told and (closing is None or closing.closure.torn != stream.torn)
        if not stream.lines and not stream.committed and not torn:
            findings.add(_ALL, "stream_empty", "a stream that was begun holds no record", place)
            return
        if stream.pruned and not stream.lines and stream.end is None:
            return  # Pruned to its last record, the end or a recovery included.
        unsealed = stream.size - stream.committed
        if closing is not None:
            pass  # It was told what is sealed of the stream, and what is not.
        elif stream.lines and not stream.committed:
            message = f"the log does not commit to the stream; nothing proves its {counted(stream.lines, 'record')}"
            findings.add(_ALL, "stream_unknown", message, place)
        elif stream.lines and unsealed > 0:
            message = f"{counted(unsealed, 'record')} after the last seal; nothing proves them"
            findings.add(_ALL, "tail_unsealed", message, place)
        if torn:
            findings.add(_ALL, "torn_tail", "the last line of the stream is torn", place)
        if not stream.ended and not recovered and stream.end is None and closing is None:
            message = "the stream has no end; its process still runs, was killed, or the end was cut"
            self._endless += 1
            findings.add(_ALL, "no_end", message, Place(stream=stream.stream, seq=stream.size))

    def _report_recovered(self, name: str, recovery: RecoveredStream) -> None:
        place = Place(stream=name)
        if recovery.rejected_bytes != "0":
            message = "a later start found bytes in the stream that its process did not write, and did not seal them"
            self._findings.add(_ALL, "rejected_tail", message, place)
        self._findings.add(
            _ALL,
            "recovered",
            f"its process died; a later start found {counted(int(recovery.size), 'record')}, "
            f"{int(recovery.sealed_before):,} of them sealed",
            place,
        )


def _whole_since(reader: LedgerReader, name: str, start: "PruneStatement | Start") -> int:
    """Return the earliest time from which no record of a stream is pruned, as far as the rest shows.

    Pruned records were written before the first remaining record, whose call may have begun long before that.
    """
    from agent_identity._ledger.prune_statement import PruneStatement  # Few streams are pruned.

    if not isinstance(start, PruneStatement):
        return 0
    line = next(reader.entries(name, start=start.size + 1), None)
    if line is None or line.record is None:
        return start.time_ns
    time = decode(line.record).time
    return max(time.start_ns, time.last_ns)


def _showing(
    heads: Heads | None,
    doubts: Doubts | None,
    visit: Visit | None = None,
    start: "PruneStatement | Start | None" = None,
) -> Visit | None:
    """Return a callback for each record of a stream that passes the sealed ones to ``doubts`` and ``visit``."""
    if doubts is None and visit is None:
        return None
    # An excerpt proves nothing after its own end.
    sealed = 0 if heads is None else heads.size_up_to(None if start is None else start.end)

    def show(record: AnyRecord, leaf: bytes, detail: Detail | None) -> None:
        if record.stream.number > sealed:
            return
        if doubts is not None:
            doubts.visit(record)
        if visit is not None:
            visit(record, leaf, detail)

    return show


def _proof(log: SignedLog, streams: Mapping[str, StreamCheck]) -> Callable[[Place], bool]:
    """Return a predicate: whether the log proves the record at a place, by more than a revoked key."""

    def proved(place: Place) -> bool:
        stream = streams.get(place.stream or "")
        sealed = log.proved and stream is not None and (place.seq or 0) <= stream.sealed
        return sealed and (log.doubts is None or log.doubts.proved(place))

    return proved
