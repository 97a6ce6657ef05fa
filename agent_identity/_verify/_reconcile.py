"""Compares spans with the ledger that they are a copy of."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Final, final

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.trust.certificates import Presented
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import open_ledger
from agent_identity._verify.inputs.sources import PathLike, directory_of, size_of_ledger, whole
from agent_identity._verify.ledger.certificates_check import certificates_of
from agent_identity._verify.ledger.index import LedgerIndex, Proofs, ledger_index
from agent_identity._verify.ledger.ledger_check import LEDGER_STEPS, LedgerCheck
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.spans.spans_check import SpansCheck
from agent_identity._verify.store.workers import Executor, in_process
from agent_identity.errors import ConfigurationError

_ALL: Final = 8


@final
class Comparison:
    """Verifies a ledger, and compares the verified records of spans with it.

    Args:
        ledger: The evidence directory.
        trust: The trusted keys.
        findings: Takes what is found.

    Raises:
        ConfigurationError: There is no ledger, or an excerpt of one.
    """

    def __init__(self, ledger: PathLike, trust: TrustStore, findings: Findings) -> None:
        directory = directory_of(ledger)
        if directory is None:
            raise ConfigurationError("the path of the ledger is not an evidence directory; check the path")
        self._reader = whole(open_ledger(directory))
        if self._reader.excerpt() is not None:  # Withheld records would count as removed.
            raise ConfigurationError(
                "the ledger is an excerpt, which says nothing about the records that it leaves out; "
                "compare with the directory that it was made from, or verify the excerpt by itself"
            )
        self._trust = trust
        self._findings = findings
        self._begun: object = None
        self._verdict, self._pruned = "", 0

    @property
    def size(self) -> int:
        """Size of the ledger in bytes."""
        return size_of_ledger(self._reader)

    def certificates(self) -> Iterator[Presented]:
        """Yield the certificates in the records of the ledger, which count for the spans as well."""
        return certificates_of(self._reader)

    @contextmanager
    def read(self, index: LedgerIndex, executor: Executor, tell: Callable[[int], object]) -> Generator[Proofs | None]:
        """Verify the ledger and yield the records that it proves; ``None`` if it does not verify.

        Args:
            index: Stores its records.
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
        """Compare the records of the spans with the ledger.

        Args:
            index: The records of the ledger.
            spans: The spans, read to their end.
        """
        findings = self._findings
        findings.counts["proved_by_ledger"] += 0  # The report shows it also at 0.
        number = index.compare(spans.records())
        self._report_amiss(index)
        if next(index.unmatched(), None) is None or self._state() == self._begun:
            self._report_verdict()
            unmatched = self._report_unmatched(index)
        else:  # The ledger has grown meanwhile, and may have records that are not in the index.
            with ledger_index() as later:
                self._verify(later, in_process, lambda _: None)
                later.compare(spans.records())
                self._report_verdict()
                unmatched = self._report_unmatched(later)
        if self._pruned:  # Missing spans of pruned records cannot be found.
            findings.counts["pruned"] = self._pruned
        findings.completeness_checked = True
        findings.done(_ALL, f"{number - unmatched} of {number} records are in the ledger as well")

    def _state(self) -> object:
        return self._reader.checkpoint(), self.size

    def _verify(self, index: LedgerIndex, executor: Executor, tell: Callable[[int], object]) -> bool:
        own = Findings("ledger", LEDGER_STEPS)
        check = LedgerCheck(self._reader, self._trust, own, executor=executor)

        def report_progress(done: int, _: int) -> None:
            tell(done)

        check.run(index=index, progress=report_progress)
        report = own.report()
        self._verdict, self._pruned = report.verdict, own.counts["pruned"]
        self._findings.complete_until, self._findings.outside = report.complete_until, report.outside
        index.finish(proved=report.integrity == "verified")
        return report.integrity == "verified"

    def _report_verdict(self) -> None:
        if self._verdict == "contradicted":
            message = "the ledger does not verify; run the verification on it"
            self._findings.add(_ALL, "ledger_contradicted", message)
        elif self._verdict != "verified":
            message = f"the ledger is not whole ({self._verdict}); run the verification on it"
            self._findings.add(_ALL, "ledger_not_verified", message)

    def _report_amiss(self, index: LedgerIndex) -> None:
        for record, stream, seq, missing in index.amiss():
            place = Place(b64url_encode(record), stream, seq)
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
        number, streams, older = 0, frozenset(self._reader.streams()), Counter[str]()
        for record, _, of, seq in index.unmatched():
            number += 1
            identifier, stream = b64url_encode(record), b64url_encode(of)
            if seq <= index.starts_behind(stream):
                older[stream] += 1
            elif stream in streams:
                message = "the ledger has the stream but not this record; it was removed there"
                self._findings.add(_ALL, "not_in_ledger", message, Place(identifier, stream))
            else:
                message = "the record is of a stream that the ledger does not have"
                self._findings.add(_ALL, "other_ledger", message, Place(identifier, stream))
        for stream, count in sorted(older.items()):
            message = (
                f"{counted(count, 'record')} on spans are older than the unpruned part of the stream in the ledger"
            )
            self._findings.add(_ALL, "pruned", message, Place(stream=stream, seq=index.starts_behind(stream) + 1))
        return number
