"""Whether spans and the ledger that they are a copy of hold the same records."""

from collections.abc import Mapping
from typing import Final, cast, final
from uuid import UUID

from agent_identity.audit.findings import Findings, Place
from agent_identity.audit.ledger_check import LEDGER_STEPS, LedgerCheck
from agent_identity.audit.sources import PathLike, directory_of
from agent_identity.audit.spans_check import SpansCheck
from agent_identity.errors import ConfigurationError
from agent_identity.evidence.span_copy import TRAVELLING
from agent_identity.evidence.streams import open_ledger
from agent_identity.identity import TrustStore

__all__ = ["Comparison"]

_ALL: Final = 8


@final
class Comparison:
    """Compares the verified records of spans with a ledger, which is verified itself.

    Args:
        findings: Takes what is found.
        spans: The spans, read to their end.
        trust: The trusted keys.
    """

    def __init__(self, findings: Findings, spans: SpansCheck, trust: TrustStore) -> None:
        self._findings = findings
        self._trust = trust
        self._unmatched = {
            str(UUID(bytes=record)): (str(UUID(bytes=found[8:])), int.from_bytes(found[:8]))
            for record, found in spans.records()
        }
        self._all = len(self._unmatched)

    def run(self, ledger: PathLike) -> None:
        """Read the ledger and compare.

        Raises:
            ConfigurationError: There is no ledger.
        """
        directory = directory_of(ledger)
        if directory is None:
            raise ConfigurationError("expected an evidence directory as ledger, got none at the path")
        own = Findings("ledger", LEDGER_STEPS)
        reader = open_ledger(directory)
        LedgerCheck(reader, self._trust, own).run(visit=self._visit)
        findings = self._findings
        verdict = own.report().verdict
        if verdict == "contradicted":
            findings.add(_ALL, "ledger_contradicted", "the ledger does not verify; run the verification on it")
        elif verdict != "verified":
            message = f"the ledger is not whole ({verdict}); run the verification on it"
            findings.add(_ALL, "ledger_not_verified", message)
        self._report_unmatched(frozenset(reader.streams()))
        findings.completeness_checked = True
        findings.done(_ALL, f"{self._all - len(self._unmatched)} of {self._all} records are in the ledger as well")

    def _visit(self, record: Mapping[str, object], leaf: bytes) -> None:
        identifier = cast("str", record["id"])
        copy = self._unmatched.pop(identifier, None)
        if copy is None:
            if record["kind"] in TRAVELLING:
                self._findings.counts["spans_missing"] += 1
                message = (
                    "expected a span with this record of the ledger, got none; it was not sampled, or was lost: "
                    "'agent-identity replay' sends it again"
                )
                self._findings.add(_ALL, "span_missing", message, _place(record))
        elif copy[1] != int.from_bytes(leaf[:8]):
            message = "expected the record as it is in the ledger, got another of this id"
            self._findings.add(_ALL, "differs_from_ledger", message, _place(record))

    def _report_unmatched(self, streams: frozenset[str]) -> None:
        for identifier, (stream, _) in self._unmatched.items():
            if stream in streams:
                message = "expected the record in the ledger that has its stream, got none; it was removed there"
                self._findings.add(_ALL, "not_in_ledger", message, Place(identifier, stream))
            else:
                message = "expected records of this ledger, got one of a stream that it does not have"
                self._findings.add(_ALL, "other_ledger", message, Place(identifier, stream))


def _place(record: Mapping[str, object]) -> Place:
    stream = cast("dict[str, str]", record["stream"])
    return Place(cast("str", record["id"]), stream["id"], int(stream["seq"]))
