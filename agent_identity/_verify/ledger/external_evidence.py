"""Vouchers of other parties for a log: cosignatures of witnesses and time-stamps of authorities.

The files are in the evidence directory, whose writers choose which of them to show. So none of them counts without a
signature of its party, and the log must contain the state that the signature commits to.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.trust.entries import Witnesses
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import LedgerReader
from agent_identity._ledger.transparency.checkpoint import Checkpoint, KnownKeys, Note, open_note
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import Signature
from agent_identity.errors import VerificationError

Timestamps: TypeAlias = Callable[[bytes, bytes], int]
"""Returns the time at which a time-stamp says that a message existed, in seconds since the Unix epoch.

Its arguments are the message and the token; it raises :class:`~agent_identity.errors.VerificationError` if the token
is not a time-stamp of a trusted authority over this message.
"""

_TRUST: Final = 1


class ExternalEvidence(NamedTuple):
    """Evidence and requirements of a verifier beside the trusted keys.

    Attributes:
        checkpoint: A checkpoint of the log that was kept elsewhere.
        witnesses: The witnesses that must vouch for the log; ``None`` for those that the trust file names.
        timestamps: Verifies time-stamps; ``None`` to ignore them.
    """

    checkpoint: bytes | None = None
    witnesses: Witnesses | None = None
    timestamps: Timestamps | None = None


class Attestor(NamedTuple):
    """A state of the log that another party saw.

    Attributes:
        checkpoint: The state.
        time: The time at which it saw it, in seconds since the Unix epoch.
        witness: The witness; ``None`` for a time-stamp.
        what: The checkpoint, for messages.
    """

    checkpoint: Checkpoint
    time: int
    witness: Cosigner | None
    what: str


def vouchers(
    reader: LedgerReader, origin: str, trust: TrustStore, outside: ExternalEvidence, findings: Findings
) -> list[Attestor]:
    """Return the vouchers of witnesses and authorities for states of the log.

    Args:
        reader: The ledger.
        origin: The name of the log.
        trust: The trusted keys.
        outside: The parties that the verifier asks for.
        findings: Takes what is wrong.
    """
    known = _known(trust, origin)
    witnesses = _witnesses(trust, outside)
    statements: list[Attestor] = []
    if witnesses.keys:
        # Witnesses may have signed the checkpoint of the ledger as well, or the one that was kept elsewhere.
        own = [note for note in (reader.checkpoint(), outside.checkpoint) if note is not None]
        statements += _cosigned([*own, *reader.witnessed()], known, witnesses, findings)
    if outside.timestamps is not None:
        statements += _stamped(reader.anchored(), known, outside.timestamps, findings)
    return statements


def check_witnessed(
    note: bytes, checkpoint: Checkpoint, trust: TrustStore, findings: Findings
) -> tuple[str, list[Attestor]]:
    """Check that the witnesses that a trust file names vouch for one checkpoint.

    Returns the result in words for the step, and the vouchers.

    Args:
        note: The checkpoint, signed by trusted keys of the log.
        checkpoint: Its content.
        trust: The trusted keys.
        findings: Takes what is missing.
    """
    if not trust.witnesses.keys:
        return "", []
    statements = list(_cosigned([note], _known(trust, checkpoint.origin), trust.witnesses, findings))
    return conclude_vouchers(statements, checkpoint.size, trust, ExternalEvidence(), findings), statements


def _known(trust: TrustStore, origin: str) -> dict[str, KnownKeys]:
    return {origin: KnownKeys(key.key for key in trust.of_log(origin).keys if key.purpose == "recorder")}


def _witnesses(trust: TrustStore, outside: ExternalEvidence) -> Witnesses:
    return trust.witnesses if outside.witnesses is None else outside.witnesses


def _cosigned(
    notes: Iterable[bytes], known: dict[str, KnownKeys], witnesses: Witnesses, findings: Findings
) -> Iterator[Attestor]:
    for note in notes:
        try:
            opened, checkpoint = _of_log(note, known, witnesses.keys)
        except VerificationError as error:
            if error.code == "bad_signature":
                message = "a signature does not fit a checkpoint that a witness is said to have cosigned"
                findings.add(_TRUST, "bad_signature", message)
            continue
        for cosignature in opened.cosignatures:
            # Without a time, the witness may have known a larger tree. A signer is no witness of its own log.
            own = cosignature.cosigner.key in opened.signers
            if cosignature.time and not own and witnesses.in_time(cosignature.cosigner, cosignature.time):
                what = f"the checkpoint that {cosignature.cosigner.name!a} cosigned"
                yield Attestor(checkpoint, cosignature.time, cosignature.cosigner, what)


def _of_log(note: bytes, known: dict[str, KnownKeys], witnesses: Sequence[Cosigner] = ()) -> tuple[Note, Checkpoint]:
    """Open a checkpoint of the log.

    Raises:
        VerificationError: The note is not a checkpoint of the log.
    """
    opened = open_note(note, known, witnesses)
    checkpoint = Checkpoint.from_text(opened.text)
    if checkpoint.origin not in known:  # Its key name is that of the log, but its text is of another one.
        raise VerificationError("the checkpoint is of another log", code="wrong_origin")
    return opened, checkpoint


def _stamped(
    anchored: Iterable[tuple[bytes, bytes]],
    known: dict[str, KnownKeys],
    timestamps: Timestamps,
    findings: Findings,
) -> Iterator[Attestor]:
    for note, token in anchored:
        try:
            _, checkpoint = _of_log(note, known)
            time = timestamps(note, token)
        except VerificationError as error:
            findings.add(_TRUST, "anchor_not_counted", f"a time-stamp in log/anchors does not count: {error}")
        else:
            yield Attestor(checkpoint, time, None, "the checkpoint that was time-stamped")


def conclude_vouchers(
    found: Sequence[Attestor], size: int, trust: TrustStore, outside: ExternalEvidence, findings: Findings
) -> str:
    """Report the extent to which other parties vouch for the log, and return it in words for the step.

    Args:
        found: The vouchers; the log has their states, or was reported.
        size: The number of entries under the checkpoint.
        trust: The trusted keys.
        outside: The parties that the verifier asked for.
        findings: Takes what is missing.
    """
    for voucher in found:
        if voucher.witness is not None:
            findings.sign(Signature("witness", voucher.witness.name, "Ed25519", voucher.checkpoint.size, voucher.time))
    words: list[str] = []
    witnesses = _witnesses(trust, outside)
    if witnesses.keys:
        words.append(_quorum(found, size, witnesses, findings))
    if outside.timestamps is not None:
        stamped = [voucher for voucher in found if voucher.witness is None]
        if stamped:
            last = max(stamped, key=lambda voucher: voucher.checkpoint.size)
            findings.sign(Signature("anchor", "", "RFC 3161", last.checkpoint.size, last.time))
            words.append(f"{counted(last.checkpoint.size, 'entry')} time-stamped at {_moment(last.time)}")
        else:
            message = "no time-stamp of a trusted authority over a checkpoint counts"
            findings.add(_TRUST, "not_anchored", message)
    return "".join(f"; {part}" for part in words if part)


def _quorum(statements: Sequence[Attestor], size: int, witnesses: Witnesses, findings: Findings) -> str:
    """Report whether enough witnesses vouch for all of the log."""
    furthest: dict[Cosigner, int] = {}
    for voucher in statements:
        if voucher.witness is not None:
            furthest[voucher.witness] = max(furthest.get(voucher.witness, 0), voucher.checkpoint.size)
    needed, all_of_them = witnesses.quorum, len(witnesses.keys)
    if len(furthest) < needed:
        message = (
            f"{len(furthest)} of {counted(all_of_them, 'witness')} vouch for the log, and {needed} must; "
            "without them, a second history is possible"
        )
        findings.add(_TRUST, "not_witnessed", message)
        return ""
    reached = sorted(furthest.values(), reverse=True)[needed - 1]
    if reached < size:
        message = (
            f"{needed} of {counted(all_of_them, 'witness')} vouch for {reached:,} of the {size:,} entries of the log; "
            "another history may follow those"
        )
        findings.add(_TRUST, "tail_unwitnessed", message)
    latest = max(voucher.time for voucher in statements if voucher.witness is not None)
    parties = f"{needed} of {counted(all_of_them, 'witness')}"
    return f"{min(reached, size):,} of {counted(size, 'entry')} cosigned by {parties}, last at {_moment(latest)}"


def _moment(seconds: int) -> str:
    """Return a time in RFC 3339; a number of seconds where no calendar has the date."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"
