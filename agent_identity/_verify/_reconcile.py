"""Compares spans with the ledger that they are a copy of."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Final, final

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.trust.certificates import Presented
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import LedgerReader, open_ledger
from agent_identity._verify.fleet.hosts_check import Checked, Host, completed, in_turn
from agent_identity._verify.fleet.logs import compare_logs
from agent_identity._verify.fleet.merging import named
from agent_identity._verify.fleet.places import Place, find_places
from agent_identity._verify.inputs.sources import PathLike, directory_of, size_of_ledger, whole
from agent_identity._verify.ledger.certificates_check import certificates_of
from agent_identity._verify.ledger.index import LedgerIndex, Proofs, ledger_index
from agent_identity._verify.ledger.ledger_check import LEDGER_STEPS, LedgerCheck, Progress
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.report.findings import Place as RecordPlace
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import Report
from agent_identity._verify.spans.spans_check import SpansCheck
from agent_identity._verify.store.workers import Executor, in_process
from agent_identity.errors import ConfigurationError

_ALL: Final = 8
_LOG: Final = 2


@final
class _Ledger:
    """One of the ledgers.

    Attributes:
        host: Its place, and what others say about its log.
        reader: The ledger.
        verdict: The verdict on it, once it is verified.
        pruned: The number of its pruned records.
    """

    def __init__(self, host: Host, reader: LedgerReader) -> None:
        self.host, self.reader = host, reader
        self.verdict, self.pruned = "", 0


@final
class Comparison:
    """Verifies ledgers, and compares the verified records of spans with them.

    Args:
        ledgers: The evidence directories, or folders with such directories below them.
        trust: The trusted keys.
        findings: Takes what is found.

    Raises:
        ConfigurationError: There is no ledger, or the only one is an excerpt.
    """

    def __init__(self, ledgers: Sequence[PathLike], trust: TrustStore, findings: Findings) -> None:
        self._trust = trust
        self._findings = findings
        self._begun: object = None
        self._places = _places(ledgers)
        compared = compare_logs(self._places if len(self._places) > 1 else (), trust)
        hosts = [Host(place, trust, known=compared.known.get(place.name, ())) for place in self._places]
        # Of copies of one log, the newest has all.
        newest = (host for host in hosts if host.place.name not in compared.copies)
        self._ledgers = [ledger for host in newest for ledger in self._open(host)]

    def _open(self, host: Host) -> Iterator[_Ledger]:
        """Yield the ledger of a host; of several hosts, one that cannot be read hides no other.

        Raises:
            ConfigurationError: It is the only one, and cannot be read, or is an excerpt.
        """
        place = host.place
        try:
            yield _Ledger(host, _reader(place))
        except (ConfigurationError, OSError) as error:
            if len(self._places) == 1:
                raise
            self._findings.add(_ALL, "unreadable", f"{place.name}: {error}")

    @property
    def size(self) -> int:
        """Size of the ledgers in bytes."""
        return sum(size_of_ledger(ledger.reader) for ledger in self._ledgers)

    def certificates(self) -> Iterator[Presented]:
        """Yield the certificates in the records of the ledgers, which count for the spans as well."""
        for ledger in self._ledgers:
            yield from certificates_of(ledger.reader)

    @contextmanager
    def read(self, index: LedgerIndex, executor: Executor, tell: Callable[[int], object]) -> Generator[Proofs | None]:
        """Verify the ledgers and yield the records that they prove; ``None`` if none of them verifies.

        Args:
            index: Stores their records.
            executor: Runs the work.
            tell: Receives the number of bytes read, now and then.
        """
        self._begun = self._state()
        if not self._verify(index, executor, tell):
            yield None
            return
        with closing(Proofs(index.path)) as proofs:
            yield proofs

    def conclude(self, index: LedgerIndex, spans: SpansCheck) -> None:
        """Compare the records of the spans with the ledgers.

        Args:
            index: The records of the ledgers.
            spans: The spans, read to their end.
        """
        findings = self._findings
        findings.counts["proved_by_ledger"] += 0  # The report shows it also at 0.
        number = index.compare(spans.records())
        self._report_amiss(index)
        if next(index.unmatched(), None) is None or self._state() == self._begun:
            self._report_verdict()
            unmatched = self._report_unmatched(index)
        else:  # A ledger has grown meanwhile, and may have records that are not in the index.
            with ledger_index() as later:
                self._verify(later, in_process, lambda _: None)
                later.compare(spans.records())
                self._report_verdict()
                unmatched = self._report_unmatched(later)
        pruned = sum(ledger.pruned for ledger in self._ledgers)
        if pruned:  # Missing spans of pruned records cannot be found.
            findings.counts["pruned"] = pruned
        findings.completeness_checked = True
        found = f"{number - unmatched} of {number} records are in the ledger as well"
        findings.done(_ALL, found if len(self._places) == 1 else found.replace("the ledger", "the ledgers"))

    def _state(self) -> object:
        return [ledger.reader.checkpoint() for ledger in self._ledgers], self.size

    def _verify(self, index: LedgerIndex, executor: Executor, tell: Callable[[int], object]) -> bool:
        """Verify the ledgers; return whether the records of one of them are proved."""
        reports: list[Report] = []
        done = 0
        for ledger in self._ledgers:
            report = self._verify_one(ledger, index, executor, partial(_tell_after, tell, done))
            index.end(proved=report.integrity == "verified")
            done += size_of_ledger(ledger.reader)
            reports.append(report)
        index.finish()
        self._conclude_times(reports)
        return any(report.integrity == "verified" for report in reports)

    def _verify_one(self, ledger: _Ledger, index: LedgerIndex, executor: Executor, progress: Progress) -> Report:
        own = Findings("ledger", LEDGER_STEPS)
        for code, message in ledger.host.known:
            own.add(_LOG, code, message)
        check = LedgerCheck(ledger.reader, self._trust, own, executor=executor)
        check.run(index=index, progress=progress)
        report = own.report()
        if len(self._ledgers) > 1:
            checked = Checked(named(report, ledger.host.place), frozenset(own.elsewhere.asked))
            hosts = [other.host for other in self._ledgers]
            report = next(iter(completed([checked], hosts, partial(in_turn, processes=executor, sizes={})))).report
        ledger.verdict, ledger.pruned = report.verdict, own.counts["pruned"]
        return report

    def _conclude_times(self, reports: Sequence[Report]) -> None:
        """State up to when all ledgers are complete, and what outside of the only one knows that."""
        until = [report.complete_until for report in reports]
        known = [time for time in until if time is not None]
        self._findings.complete_until = min(known) if known and len(known) == len(until) else None
        self._findings.outside = reports[0].outside if len(reports) == 1 else None

    def _report_verdict(self) -> None:
        for ledger in self._ledgers:
            name = "the ledger" if len(self._places) == 1 else f"the ledger {ledger.host.place.name}"
            if ledger.verdict == "contradicted":
                message = f"{name} does not verify; run the verification on it"
                self._findings.add(_ALL, "ledger_contradicted", message)
            elif ledger.verdict != "verified":
                message = f"{name} is not whole ({ledger.verdict}); run the verification on it"
                self._findings.add(_ALL, "ledger_not_verified", message)

    def _report_amiss(self, index: LedgerIndex) -> None:
        for record, stream, seq, missing in index.amiss():
            place = RecordPlace(b64url_encode(record), stream, seq)
            if missing:
                self._findings.counts["spans_missing"] += 1
                message = (
                    "no span carries this record of the ledger; it was not sampled, or was lost: "
                    "'agent-identity replay' sends it again"
                )
                self._findings.add(_ALL, "span_missing", message, place)
            else:
                message = "the record differs from the one of this id in the ledger"
                self._findings.add(_ALL, "differs_from_ledger", message, place)

    def _report_unmatched(self, index: LedgerIndex) -> int:
        number, streams, older = 0, self._streams(), Counter[str]()
        for record, _, of, seq in index.unmatched():
            number += 1
            identifier, stream = b64url_encode(record), b64url_encode(of)
            if seq <= index.starts_behind(stream):
                older[stream] += 1
            elif stream in streams:
                message = "the ledger has the stream but not this record; it was removed there"
                self._findings.add(_ALL, "not_in_ledger", message, RecordPlace(identifier, stream))
            else:
                message = "the record is of a stream that the ledger does not have"
                self._findings.add(_ALL, "other_ledger", message, RecordPlace(identifier, stream))
        for stream, count in sorted(older.items()):
            message = (
                f"{counted(count, 'record')} on spans are older than the unpruned part of the stream in the ledger"
            )
            self._findings.add(_ALL, "pruned", message, RecordPlace(stream=stream, seq=index.starts_behind(stream) + 1))
        return number

    def _streams(self) -> frozenset[str]:
        return frozenset(stream for ledger in self._ledgers for stream in ledger.reader.streams())


def _places(ledgers: Sequence[PathLike]) -> list[Place]:
    """Return the places of ledgers.

    Raises:
        ConfigurationError: There are none.
    """
    if len(ledgers) == 1 and directory_of(ledgers[0]) is None:
        raise ConfigurationError("the path of the ledger is not an evidence directory; check the path")
    places = [place for place in find_places(ledgers) if place.kind != "traces"]
    for place in places:
        if place.kind == "bundle":
            raise ConfigurationError(f"the ledger {place.name} is a bundle; unpack it, and name its folder evidence/")
    return places


def _reader(place: Place) -> LedgerReader:
    """Open a ledger.

    Raises:
        ConfigurationError: It cannot be read, or is an excerpt.
    """
    if place.problem is not None:
        raise ConfigurationError(place.problem)
    reader = whole(open_ledger(directory_of(place.paths[0]) or place.paths[0]))
    if reader.excerpt() is not None:  # Withheld records would count as removed.
        raise ConfigurationError(
            "the ledger is an excerpt, which says nothing about the records that it leaves out; "
            "compare with the directory that it was made from, or verify the excerpt by itself"
        )
    return reader


def _tell_after(tell: Callable[[int], object], before: int, done: int, _: int) -> None:
    tell(before + done)
