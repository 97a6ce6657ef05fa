"""Checks proof files with nothing but the public keys of the ledger."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from agent_identity._identity.common.private_files import read_public_file
from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.transparency.checkpoint import Checkpoint
from agent_identity._ledger.transparency.log import Head
from agent_identity._ledger.transparency.merkle import leaf_hash, verify_consistency, verify_inclusion
from agent_identity._ledger.transparency.proof_files import MAX_PROOF_BYTES, GrowthProof, RecordProof, parse_proof_file
from agent_identity._record.codec import as_dict, decode
from agent_identity._record.schema import AnyRecord
from agent_identity._verify.grants.revoked_keys import LATE, reach_of
from agent_identity._verify.inputs.sources import PathLike, Trust, to_trust
from agent_identity._verify.inputs.versions import malformed
from agent_identity._verify.ledger.certificates_check import conclude_clock, sound_signers
from agent_identity._verify.ledger.external_evidence import check_witnessed
from agent_identity._verify.ledger.log_check import open_checkpoint
from agent_identity._verify.ledger.record_check import conclude_unseen_details, count_unseen_detail
from agent_identity._verify.proofs.proving import kept_note
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import Report
from agent_identity.errors import ConfigurationError, VerificationError

ProofKind: TypeAlias = Literal["record", "growth", "unknown"]
"""The claim of a proof file: a record in a log, a log that continues an earlier state, or neither."""

_RECORD_STEPS: Final = (
    "trust and signature of the checkpoint",
    "the entry is in the log of the checkpoint",
    "the record is in the stream of the entry",
    "the record is in form and in place",
)
_GROWTH_STEPS: Final = ("trust and signature of both checkpoints", "the later log continues the earlier one")
_FORM_STEPS: Final = ("the file is a proof",)
_TRUST, _ENTRY, _STREAM, _RECORD = 1, 2, 3, 4
_GROWS: Final = 2
_NS: Final = 1_000_000_000


@final
@dataclass(frozen=True, slots=True)
class Checked:
    """The result of :meth:`Verifier.proof`.

    Attributes:
        kind: ``record``, ``growth``, or ``unknown`` if the file is not a proof.
        record: The record in the file; only a verdict ``verified`` makes it evidence. ``None`` without a record, or
            for a malformed one.
        origin: The name of the log in the checkpoint; ``None`` without a checkpoint.
        size: The number of entries under the checkpoint; 0 without one.
        report: Findings and steps.
    """

    kind: ProofKind
    record: AnyRecord | None
    origin: str | None
    size: int
    report: Report

    @property
    def verdict(self) -> str:
        """``verified``, ``contradicted`` or ``cannot_tell``."""
        return self.report.verdict

    @property
    def exit_code(self) -> int:
        """0 verified, 1 contradicted, 2 cannot tell."""
        return self.report.exit_code

    def to_json(self) -> dict[str, object]:
        """Return the result in plain values, as the command line prints it."""
        return {
            "proof": self.kind,
            "record": None if self.record is None else as_dict(self.record),
            "origin": self.origin,
            "size": str(self.size),
            **self.report.to_json(),
        }


def check_proof(
    proof: bytes | PathLike,
    trust: Trust,
    *,
    record: str | None = None,
    checkpoint: bytes | PathLike | None = None,
) -> Checked:
    """Check a proof file; see :meth:`Verifier.proof`."""
    keys = to_trust(trust)
    data = proof if isinstance(proof, bytes) else read_public_file(proof, limit=MAX_PROOF_BYTES)
    try:
        parsed = parse_proof_file(data)
    except VerificationError as error:
        findings = Findings("proof", _FORM_STEPS)
        findings.add(1, "bad_proof", str(error))
        return Checked("unknown", None, None, 0, findings.report())
    if isinstance(parsed, RecordProof):
        if checkpoint is not None:
            raise ConfigurationError("an earlier checkpoint goes with a proof of growth only; leave it out")
        return _check_record(parsed, keys, record)
    if record is not None:
        raise ConfigurationError("a record id goes with the proof of a record only; leave it out")
    return _check_growth(parsed, keys, None if checkpoint is None else kept_note(checkpoint))


def _findings(steps: tuple[str, ...], trust: TrustStore | None) -> Findings:
    findings = Findings("proof", steps)
    findings.trust = "none" if trust is None else "given"
    if trust is None:
        findings.add(_TRUST, "no_trust", "there are no trusted keys; pass the trust file of the recorder")
    return findings


def _check_record(proof: RecordProof, trust: TrustStore | None, wanted: str | None) -> Checked:
    findings = _findings(_RECORD_STEPS, trust)
    record = _check_form(proof.record, findings, wanted)
    place = None if record is None else _place(record)
    checkpoint, signers = open_checkpoint(proof.log.note, trust, findings, "the checkpoint of the proof")
    signers = sound_signers(signers, findings)
    if checkpoint is not None:
        trust = None if trust is None else trust.of_log(checkpoint.origin)
        _check_signers(proof, record, signers, trust, findings)
        _check_entry(proof, checkpoint, findings)
        if signers and trust is not None:
            words, statements = check_witnessed(proof.log.note, checkpoint, trust, findings)
            conclude_clock(signers, checkpoint.size, statements, findings)
            findings.done(_TRUST, f"signed by a trusted recorder key for the origin {checkpoint.origin}{words}")
    _check_stream(proof, place, findings)
    origin, size = (None, 0) if checkpoint is None else (checkpoint.origin, checkpoint.size)
    return Checked("record", record, origin, size, findings.report())


def _check_form(data: bytes, findings: Findings, wanted: str | None) -> AnyRecord | None:
    """Return the record, or ``None`` for malformed bytes, which are reported."""
    try:
        record = decode(data)
    except ValueError as error:
        findings.add(_RECORD, *malformed(data, str(error)))
        return None
    place = _place(record)
    count_unseen_detail(findings, record)
    conclude_unseen_details(findings, _RECORD)
    if wanted not in (None, place.record):
        findings.add(_RECORD, "other_record", "the proof is of another record; ask for the right one", place)
    findings.done(_RECORD, f"record {place.seq:,} of stream {place.stream}")
    return record


def _place(record: AnyRecord) -> Place:
    return Place(record.id, record.stream.id, record.stream.number)


def _check_signers(
    proof: RecordProof,
    record: AnyRecord | None,
    signers: tuple[TrustedKey, ...],
    trust: TrustStore | None,
    findings: Findings,
) -> None:
    """Check that a key under the checkpoint counts for this record."""
    if record is None or trust is None or not signers:
        return
    at = record.time.last_ns // _NS
    if not any(key.in_time(record.time.start_ns // _NS) for key in signers):
        message = "no key under the checkpoint was valid at the time of the record"
        findings.add(_TRUST, "key_not_valid_then", message)
    reach = reach_of(trust, signers, 0, ())
    if reach is None or (reach.sound is not None and proof.log.index >= reach.sound):
        return
    code = LATE if at >= reach.since else "key_revoked"
    message = "only a revoked key vouches for the record; verify the ledger itself"
    findings.add(_TRUST, code, message)


def _check_entry(proof: RecordProof, checkpoint: Checkpoint, findings: Findings) -> None:
    log = proof.log
    try:
        verify_inclusion(
            leaf_hash(proof.entry), log.hashes, index=log.index, size=checkpoint.size, root=checkpoint.root
        )
    except VerificationError as error:
        findings.add(_ENTRY, "bad_inclusion_proof", str(error))
    with_origin = _head(proof)
    if with_origin is not None and with_origin[1] != checkpoint.origin:
        findings.add(_ENTRY, "wrong_origin", "the entry names the origin of another log")
    findings.done(_ENTRY, f"entry {log.index + 1:,} of {checkpoint.size:,}")


def _head(proof: RecordProof) -> tuple[Head, str] | None:
    try:
        return Head.from_entry(proof.entry)
    except ValueError:
        return None


def _check_stream(proof: RecordProof, place: Place | None, findings: Findings) -> None:
    with_origin = _head(proof)
    if with_origin is None:
        findings.add(_STREAM, "log_malformed", "the entry in the proof is not an entry of a log")
        return
    if place is None:
        findings.skip(_STREAM, "the record does not say where it stands")
        return
    head = with_origin[0]
    if head.stream != place.stream:
        findings.add(_STREAM, "wrong_stream", "the record is of another stream than the entry", place)
    try:
        verify_inclusion(
            leaf_hash(proof.record), proof.hashes, index=(place.seq or 0) - 1, size=head.size, root=head.root
        )
    except VerificationError as error:
        findings.add(_STREAM, "bad_inclusion_proof", str(error), place)
    findings.done(_STREAM, f"record {place.seq:,} of {head.size:,}")


def _check_growth(proof: GrowthProof, trust: TrustStore | None, earlier: bytes | None) -> Checked:
    findings = _findings(_GROWTH_STEPS, trust)
    new, new_by = open_checkpoint(proof.note, trust, findings, "the checkpoint of the proof")
    new_by = sound_signers(new_by, findings)
    old: Checkpoint | None = None
    old_by: tuple[TrustedKey, ...] = ()
    if earlier is None:
        message = "there is no earlier checkpoint that was kept elsewhere; without it, nothing is shown"
        findings.add(_TRUST, "no_checkpoint", message)
    else:
        old, old_by = open_checkpoint(earlier, trust, findings, "the checkpoint kept elsewhere")
        old_by = sound_signers(old_by, findings)
    if new is not None and old is not None:
        _compare(proof, old, new, findings)
        if new_by and old_by and trust is not None:
            _check_revoked(trust, (*old_by, *new_by), findings)
            words, statements = check_witnessed(proof.note, new, trust, findings)
            conclude_clock(new_by, new.size, statements, findings)
            findings.done(_TRUST, f"signed by a trusted recorder key for the origin {new.origin}{words}")
    origin, size = (None, 0) if new is None else (new.origin, new.size)
    return Checked("growth", None, origin, size, findings.report())


def _check_revoked(trust: TrustStore | None, signers: tuple[TrustedKey, ...], findings: Findings) -> None:
    if trust is not None and any(key.revoked_since is not None for key in signers):
        message = "a key under the checkpoints is revoked, and others may have it; verify the ledger itself"
        findings.add(_TRUST, "key_revoked", message)


def _compare(proof: GrowthProof, old: Checkpoint, new: Checkpoint, findings: Findings) -> None:
    if old.origin != new.origin:
        findings.add(_GROWS, "wrong_origin", "the two checkpoints are of different logs")
        return
    if proof.old_size != old.size:
        message = (
            f"the proof starts at {counted(proof.old_size, 'entry')}, and the checkpoint kept elsewhere covers "
            f"{old.size:,}"
        )
        findings.add(_GROWS, "bad_consistency_proof", message)
    elif old.size:
        try:
            verify_consistency(proof.hashes, old_size=old.size, old_root=old.root, new_size=new.size, new_root=new.root)
        except VerificationError as error:
            findings.add(_GROWS, "bad_consistency_proof", str(error))
    elif proof.hashes:
        findings.add(_GROWS, "bad_consistency_proof", "a proof from the empty log on has hashes")
    findings.done(_GROWS, f"from {old.size:,} to {counted(new.size, 'entry')}")
