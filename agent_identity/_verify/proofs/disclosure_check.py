"""Checks the arguments in a disclosure file against the proved record that the file names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast, final

from agent_identity._identity.trust.store import TrustStore
from agent_identity._record.codec import as_dict
from agent_identity._record.disclosures import action_of
from agent_identity._record.schema import AnyRecord
from agent_identity._spans.otlp_json import SpanData
from agent_identity._spans.otlp_reader import read_spans
from agent_identity._verify.grants.disclosed_arguments import load_disclosure
from agent_identity._verify.inputs.sources import PathLike, Trust, opened, to_trust
from agent_identity._verify.proofs.proof_check import check_proof
from agent_identity._verify.proofs.proving import prove
from agent_identity._verify.report.findings import CODES, Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import Report
from agent_identity._verify.spans.attestations import ATTESTATION, open_record
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError, VerificationError

_STEPS: Final = (
    "the file is a disclosure",
    "the record that it names is proved",
    "the arguments are those that the record commits to",
)
_FILE, _RECORD, _ARGUMENTS = 1, 2, 3


@final
@dataclass(frozen=True, slots=True)
class Shown:
    """The result of :meth:`Verifier.disclosure`.

    Attributes:
        record: The record, once it is proved.
        arguments: The arguments of the call, once they match the record; otherwise empty.
        hidden: Number of arguments of the call that are not shown.
        report: Steps and findings.
    """

    record: AnyRecord | None
    arguments: Mapping[str, JSON]
    hidden: int
    report: Report

    @property
    def exit_code(self) -> int:
        """0 verified, 1 contradicted, 2 cannot tell."""
        return self.report.exit_code

    def to_json(self) -> dict[str, object]:
        """Return the result in plain values, as the command line prints it."""
        record, arguments = None if self.record is None else as_dict(self.record), dict(self.arguments)
        return {"record": record, "arguments": arguments, "hidden": self.hidden, **self.report.to_json()}


def check_disclosure(
    disclosure: bytes | PathLike,
    trust: Trust,
    *,
    ledger: PathLike | None = None,
    proof: bytes | PathLike | None = None,
    spans: PathLike | None = None,
) -> Shown:
    """Check a disclosure; see :meth:`Verifier.disclosure`."""
    sources = sum(source is not None for source in (ledger, proof, spans))
    if sources != 1:
        raise ConfigurationError(f"{sources} sources of the record were given; give one: a ledger, a proof or spans")
    keys = to_trust(trust)
    findings = Findings("disclosure", _STEPS)
    findings.trust = "none" if keys is None else "given"
    try:
        loaded = load_disclosure(disclosure)
    except VerificationError as error:
        findings.add(_FILE, error.code, str(error))
        return Shown(None, {}, 0, findings.report())
    findings.done(_FILE, f"{counted(len(loaded.shown), 'argument')} shown, {loaded.hidden} not")
    record = _record(loaded.record, keys, findings, ledger=ledger, proof=proof, spans=spans)
    arguments: Mapping[str, JSON] = {}
    if record is not None:
        findings.done(_RECORD, f"record {loaded.record}")
        try:
            loaded.check(record)
        except VerificationError as error:
            findings.add(_ARGUMENTS, error.code, str(error), Place(loaded.record))
        else:
            arguments = loaded.shown
            action = action_of(record)
            findings.done(_ARGUMENTS, "" if action is None else f"of the call of {action.tool!a}")
    return Shown(record, arguments, loaded.hidden, findings.report())


def _record(
    wanted: str,
    trust: TrustStore | None,
    findings: Findings,
    *,
    ledger: PathLike | None,
    proof: bytes | PathLike | None,
    spans: PathLike | None,
) -> AnyRecord | None:
    """Return the record of this id, if it is proved."""
    if trust is None:
        findings.add(_RECORD, "no_trust", "there are no trusted keys; pass the trust file of the recorder")
        return None
    try:
        if spans is not None:
            return _record_of_span(wanted, trust, spans)
        checked = check_proof(
            prove(ledger, wanted) if ledger is not None else cast("bytes", proof),
            trust,
            record=wanted,
        )
    except VerificationError as error:
        contradicted = CODES.get(error.code) == "contradicted"
        findings.add(_RECORD, error.code if contradicted else "record_not_proved", str(error), Place(wanted))
        return None
    for problem in checked.report.findings:
        findings.add(_RECORD, problem.code, problem.message, Place(problem.record, problem.stream, problem.seq))
    return checked.record if checked.verdict == "verified" and checked.kind == "record" else None


def _record_of_span(wanted: str, trust: TrustStore, spans: PathLike) -> AnyRecord:
    """Return the signed record on a span; the rest of the span is not checked.

    Raises:
        VerificationError: No span has it, or its signature does not hold.
    """
    name = "agent_identity.record.id"
    failure: VerificationError | None = None
    with opened(spans) as file:
        for item in read_spans(file):
            if not isinstance(item, SpanData) or f"{ATTESTATION}payload" not in item.attributes:
                continue
            try:
                record = open_record(item.attributes, trust)
            except VerificationError as error:
                # The unsigned id only decides which failure is reported.
                if item.attributes.get(name) == wanted:
                    failure = error
                continue
            if record.id == wanted:
                return record
    raise failure or VerificationError(
        "no span carries the record that the disclosure names; spans carry outcomes, not intents"
    )
