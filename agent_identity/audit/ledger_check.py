"""Verifying an evidence directory: one signature proves every record up to the last seal."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, final

from agent_identity.audit.approvals_check import ApprovalsCheck
from agent_identity.audit.calls_check import Calls
from agent_identity.audit.certificates_check import certificates_of, with_certificates
from agent_identity.audit.chain_check import Delegations
from agent_identity.audit.checked_records import CheckedBlock, check_block
from agent_identity.audit.executor import Executor, in_process
from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.log_check import Heads, SignedLog, check_log
from agent_identity.audit.outside import Outside
from agent_identity.audit.periods import Life, judge_period, unknown_period
from agent_identity.audit.pruning_check import find_excerpt, find_kept, find_leftovers, find_pruned
from agent_identity.audit.revocation import Doubts
from agent_identity.audit.sources import PathLike
from agent_identity.audit.stream_check import StreamCheck, Visit
from agent_identity.evidence.excerpt import Start
from agent_identity.evidence.lines import Block
from agent_identity.evidence.pruned import Pruned
from agent_identity.evidence.record_codec import decode
from agent_identity.evidence.records import AnyRecord, RecoveredStream
from agent_identity.evidence.streams import LedgerReader, RawLine
from agent_identity.identity import TrustedKey, TrustStore

if TYPE_CHECKING:
    from agent_identity.audit.ledger_index import LedgerIndex

__all__ = ["LEDGER_STEPS", "LedgerCheck", "Progress"]

Progress: TypeAlias = Callable[[int, int], None]
"""Is told how many of how many bytes are read; 0 in all means that it is not known."""

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


@final
class LedgerCheck:
    """Verifies one evidence directory.

    1. The checkpoint of the log is signed by a trusted recorder key and names the trusted origin.
    2. The entries of the log re-derive the root in the checkpoint. What follows is not sealed.
    3. The records of each stream re-derive every head in the log, so that the stream only ever grew.
       This proves every record up to the last head, by the one signature of step 1.
    4. Each record is canonical, of its closed shape, in the stream that it names, and follows the one before
       it; the first starts the stream, and nothing follows its end.
    5. Each outcome of a call that ran has its intent, for the same task, tool and arguments. Intents
       without outcome count as ``unknown``. Tasks did at least what their end states.
    6. Each chain of grants verifies under the trusted issuer keys; the records name the principal and the
       agents of the grants; what was allowed was a tool of the grant and in its lifetime. What a person had to
       approve was approved by somebody else than who asked, for the same task, tool and arguments, in time, once.
    7. Streams that the log knows are there, those that are there are in the log, and each is sealed to
       its end. Where the first records are not there, a trusted recorder key signed that they were pruned.
    8. Arguments are digests here and were compared with the grant before the call: not checked, but for those
       that are disclosed.

    Args:
        reader: The directory.
        trust: The trusted keys, or ``None``.
        findings: Takes what is found.
        disclosures: Files that show arguments of calls.
        executor: Has single records looked at, and chains of grants judged.
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
        self._executor = executor
        self._reader = reader
        self._trust = trust = with_certificates(trust, certificates_of(reader), findings)
        self._findings = findings
        self._denied: AbstractSet[str] = frozenset()
        self._visit: Visit | None = None
        self._excerpt = False
        self._endless = 0
        self._delegations = Delegations(findings, _GRANTS, trust)
        self._approvals = ApprovalsCheck(findings, trust)
        self._disclosures = None
        if disclosures:
            from agent_identity.audit.disclosed import Disclosures  # noqa: PLC0415  Few verifiers have some.

            self._disclosures = Disclosures(disclosures, findings, _ARGUMENTS, self._delegations)
        self._calls = Calls(findings, self._delegations, approvals=self._approvals, disclosures=self._disclosures)

    def run(
        self,
        *,
        outside: Outside | None = None,
        total: int = 0,
        progress: Progress | None = None,
        period: tuple[int, int] | None = None,
        index: "LedgerIndex | None" = None,
        visit: Visit | None = None,
    ) -> None:
        """Check everything.

        Args:
            outside: What the verifier has beside the trusted keys.
            total: Bytes in all streams, for the progress.
            progress: Is told how far it is.
            period: Its first nanosecond since the Unix epoch and the first one after it, to be told what is in it.
            index: Takes each record that stands where it belongs, and is told what is proved.
            visit: Is shown each record that stands where it belongs, as far as the log commits to the stream.
        """
        findings, self._visit = self._findings, visit
        if period is not None:
            findings.period = unknown_period(*period, "there are no records")
        if self._trust is None:
            findings.add(_TRUST, "no_trust", "expected trusted keys, got none; pass the trust file of the recorder")
        closed = self._report_denied()
        if "log" in closed:
            return
        log = check_log(self._reader, self._trust, findings, outside=outside or Outside())
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
        # What the log commits to comes first, so that no forged record beside it is taken at its word before it.
        there = (name for name in self._reader.streams() if name not in self._denied)
        names = sorted(there, key=lambda name: name not in log.heads)
        if not names and not log.heads:
            findings.add(_TRUST, "nothing_to_verify", "expected a ledger with records, got none")
            return
        findings.completeness_checked = True
        starts = self._starts(names, log)
        check = partial(StreamCheck, findings=findings, calls=self._calls, index=index, period=period)
        streams: dict[str, StreamCheck] = {}
        blocks = self._executor(check_block, self._parts(names, starts))
        done = 0
        for name in names:
            heads = log.heads.get(name)
            visit = _showing(heads, log.doubts, self._visit, starts.get(name))
            streams[name] = check(name, heads, visit=visit, start=starts.get(name))
            done = self._follow(streams[name], blocks, done, lambda reached: progress and progress(reached, total))
            if index is not None:  # What nobody doubts who signed it.
                index.prove(streams[name].sealed if log.proved and log.doubts is None else 0)
        missing = set[str]() if self._excerpt else log.heads.keys() - streams.keys() - self._denied
        self._conclude(log, streams, missing)
        self._count(log, streams)
        self._check_completeness(streams, {name: log.heads[name].last_size for name in sorted(missing)})
        findings.done(_ALL, f"{counted(len(streams), 'stream')}{', as of this checkpoint' if log.proved else ''}")
        if period is not None:
            self._judge_period(log, streams, period, starts)

    def _report_denied(self) -> AbstractSet[str]:
        """Report what this user may not read; return the parts of the directory that stay unchecked.

        What is closed is neither there nor missing, and nobody is accused of anything that it may show.
        """
        denied = self._reader.denied()
        for found in denied:
            message = f"expected to read {found.path!r}, got '{found.why}'; verify as a user who may read it"
            step = _TRUST if found.part == "log" else _ALL
            self._findings.add(step, "unreadable", message, Place(stream=found.stream))
        self._denied = frozenset(found.stream for found in denied if found.stream is not None)
        return {found.part for found in denied}

    def _judge_period(
        self,
        log: SignedLog,
        streams: Mapping[str, StreamCheck],
        period: tuple[int, int],
        starts: Mapping[str, Pruned | Start],
    ) -> None:
        findings = self._findings
        if findings.number("contradicted") or findings.number("cannot_tell") or not log.proved:
            findings.period = unknown_period(*period, "the ledger does not verify")
            return
        # A stream without an end is no doubt about the time before its last sign of life.
        doubt = "records may be missing" if findings.number("incomplete") > self._endless else None
        # A stream of which all is pruned shows no time of its own, and no life.
        lives = [
            Life(s.earliest_ns, s.latest_ns, log.heads[name].signs_ns, s.ended, s.within)
            for name, s in streams.items()
            if s.sealed > s.pruned
        ]
        if any(period[0] < _whole_since(self._reader, name, start) for name, start in starts.items()):
            doubt = doubt or "records of that time were pruned"
        findings.period = judge_period(*period, lives, doubt)

    def _starts(self, names: Sequence[str], log: SignedLog) -> Mapping[str, Pruned | Start]:
        """Return where the streams begin that do not begin with their first record."""
        trust = log.trust or self._trust
        pruned = find_pruned(self._reader, names, log.heads, trust, self._findings)
        self._take_kept(pruned, trust)
        given = find_excerpt(self._reader, names, self._findings)
        self._excerpt = given is not None
        self._calls.partial = self._excerpt or bool(self._denied)
        starts: Mapping[str, Pruned | Start] = pruned if given is None else {**pruned, **given}
        find_leftovers(self._reader, starts, self._findings)
        return starts

    def _take_kept(self, pruned: Mapping[str, Pruned], trust: TrustStore | None) -> None:
        """Take what was kept of what was pruned, before the records that need it."""
        if pruned:
            self._calls.gone = {intent for statement in pruned.values() for intent in statement.open}
        for token in find_kept(self._reader, pruned.values(), trust, self._findings):
            self._delegations.add_kept(token)

    def _parts(self, names: Sequence[str], starts: Mapping[str, Pruned | Start]) -> Iterator[Block | RawLine | None]:
        """Yield the lines of the streams as they stand there, with ``None`` behind those of each stream."""
        for name in names:
            start = starts.get(name)
            yield from self._reader.blocks(name, start=1 if start is None else start.size + 1)
            yield None

    def _follow(
        self, stream: StreamCheck, blocks: Iterator[CheckedBlock | None], done: int, tell: Callable[[int], object]
    ) -> int:
        """Take the lines of a stream; return how many bytes of the ledger are read."""
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
            findings.add(_HEADS, "nothing_to_verify", "expected records, got none; nothing can be said about them")
            for step in range(_RECORDS, _ALL):
                findings.skip(step, "there are no records")
            return
        sealed = sum(stream.sealed - stream.pruned for stream in streams.values())
        detail = f"{sealed:,} of {counted(records, 'record')} in {counted(len(streams), 'stream')}"
        if log.proved and not missing and not any(stream.committed for stream in streams.values()):
            message = f"expected records that the log commits to, got {records:,} that it does not know yet"
            findings.add(_HEADS, "nothing_to_verify", f"{message}; nothing proves them")
        if log.proved:
            findings.done(_HEADS, detail)
        else:
            findings.skip(_HEADS, f"{detail} fit the log, but no trusted signature proves the log")
        findings.done(_RECORDS, counted(records - sum(stream.withheld for stream in streams.values()), "record"))
        self._calls.finish()
        self._conclude_doubts(log)
        absent = self._why_absent(missing)
        self._delegations.settle(absent=absent, proved=_proof(log), executor=self._executor)
        self._conclude_approvals(log)
        self._conclude_arguments()
        self._check_key_times(log.signers, max((stream.latest_ns for stream in streams.values()), default=0))
        self._check_first_time(log, streams.values())

    def _why_absent(self, missing: object) -> str | None:
        if missing:
            return "a stream is missing"
        if self._excerpt:
            return "its grant is not in this excerpt"
        if self._denied:
            return "a stream cannot be read"
        return "its grant was pruned" if self._findings.counts["pruned"] else None

    def _conclude_arguments(self) -> None:
        if self._disclosures is not None:
            self._disclosures.settle("the ledger holds digests")
        self._findings.skip(_ARGUMENTS, "the ledger holds keyed digests of them")

    def _conclude_approvals(self, log: SignedLog) -> None:
        if self._denied:
            self._findings.skip(_GRANTS, "approvals were not checked: a stream cannot be read")
        else:
            self._approvals.settle(_proof(log))

    def _conclude_doubts(self, log: SignedLog) -> None:
        if log.doubts is None:
            return
        log.doubts.conclude(self._findings)
        if log.proved:
            message = "a recorder key is revoked, and what it signed is shown to be older, or replaced"
            self._findings.done(_TRUST, message)

    def _check_key_times(self, signers: tuple[TrustedKey, ...], latest_ns: int) -> None:
        """Check that a key signed which was valid at the time of the latest record under it."""
        at = latest_ns // _NS
        if latest_ns and signers and not any(key.in_time(at) for key in signers):
            message = "expected a checkpoint by a key that was valid at the time of its records, got another one"
            self._findings.add(_TRUST, "key_not_valid_then", message)

    def _check_first_time(self, log: SignedLog, streams: Collection[StreamCheck]) -> None:
        """Check, where only certified keys signed, that one was valid at the time of the first record as well.

        A certificate is for its own time, and not for all the time before it.
        """
        there = [stream.earliest_ns for stream in streams if stream.sealed > stream.pruned + stream.withheld]
        if not there or not log.signers or not all(key.certificates for key in log.signers):
            return
        keys = () if log.trust is None else log.trust.keys
        at = min(there) // _NS
        if not any(key.purpose == "recorder" and key.counts(at) for key in keys):
            message = "expected a recorder key that was valid at the time of the first record, got later ones only"
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
        doubted = counts["drafts"] + (log.doubts.records if log.doubts else 0)
        counts["verified"] = max(0, sealed - withheld - doubted) if log.proved else 0
        counts["unsealed"] = sum(max(0, stream.size - stream.committed) for stream in streams.values())
        counts["recovered"] = len(self._calls.recovered)

    def _check_completeness(self, streams: Mapping[str, StreamCheck], missing: Mapping[str, int]) -> None:
        findings = self._findings
        for name, size in missing.items():
            what = f"the stream with {counted(size, 'record')}, which the log commits to"
            findings.add(_ALL, "stream_missing", f"expected {what}, got none; it was removed", Place(stream=name))
        for stream in streams.values():
            self._check_end(stream)
        for name, found in self._calls.recovered.items():
            self._report_recovered(name, found)
        findings.counts["contradicted"] = findings.number("contradicted")

    def _check_end(self, stream: StreamCheck) -> None:
        findings, place = self._findings, Place(stream=stream.stream, seq=stream.committed + 1)
        recovered = stream.stream in self._calls.recovered
        if not stream.lines and not stream.committed and (recovered or not stream.torn):
            findings.add(_ALL, "stream_empty", "a stream that was begun holds no record", place)
            return
        if stream.pruned and not stream.lines:
            return  # To its last record; its end is among them, or what a later start says of it.
        unsealed = stream.size - stream.committed
        if stream.lines and not stream.committed:
            message = (
                f"expected the log to commit to the stream, got {counted(stream.lines, 'record')} that nothing proves"
            )
            findings.add(_ALL, "stream_unknown", message, place)
        elif unsealed > 0:
            message = f"expected a seal over all records, got {unsealed} after the last one; nothing proves them"
            findings.add(_ALL, "tail_unsealed", message, place)
        if stream.torn and not recovered:
            findings.add(_ALL, "torn_tail", "expected whole lines, got a torn one at the end of the stream", place)
        if not stream.ended and not recovered and stream.end is None:
            message = "expected the end of the stream, got none; its process still runs, was killed, or the end was cut"
            self._endless += 1
            findings.add(_ALL, "no_end", message, Place(stream=stream.stream, seq=stream.size))

    def _report_recovered(self, name: str, found: RecoveredStream) -> None:
        place = Place(stream=name)
        if found.rejected_bytes != "0":
            message = "a later start found bytes in the stream that its process did not write, and did not seal them"
            self._findings.add(_ALL, "rejected_tail", message, place)
        self._findings.add(
            _ALL,
            "recovered",
            f"its process died; a later start found {counted(int(found.size), 'record')}, "
            f"{int(found.sealed_before):,} of them sealed",
            place,
        )


def _whole_since(reader: LedgerReader, name: str, start: Pruned | Start) -> int:
    """Return from when on no record of a stream is pruned, as far as what is left tells.

    What is pruned was written before the first record that is left, which may speak of what began long before.
    """
    if not isinstance(start, Pruned):
        return 0
    line = next(reader.entries(name, start=start.size + 1), None)
    if line is None or line.record is None:
        return start.time_ns
    time = decode(line.record).time
    return max(time.start_ns, time.last_ns)


def _showing(
    heads: Heads | None, doubts: Doubts | None, visit: Visit | None = None, start: Pruned | Start | None = None
) -> Visit | None:
    """Return what is to be shown each record of a stream, and shows it to those who want to see what is sealed."""
    if doubts is None and visit is None:
        return None
    sealed = 0 if heads is None else heads.last_size
    if isinstance(start, Start):  # Behind the part that an excerpt gives nothing is proved.
        sealed = min(sealed, start.end)

    def show(record: AnyRecord, leaf: bytes) -> None:
        if record.stream.number > sealed:
            return
        if doubts is not None:
            doubts.visit(record)
        if visit is not None:
            visit(record, leaf)

    return show


def _proof(log: SignedLog) -> Callable[[Place], bool]:
    """Return what tells whether the record at a place is what the log proves, and no revoked key alone."""

    def proved(place: Place) -> bool:
        heads = log.heads.get(place.stream or "")
        sealed = log.proved and heads is not None and (place.seq or 0) <= heads.last_size
        return sealed and (log.doubts is None or log.doubts.proved(place))

    return proved
