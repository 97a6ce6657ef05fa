"""What others say about a log: witnesses that cosigned its checkpoints, and authorities that time-stamped them.

The files lie in the evidence directory, and whoever can write there chooses which of them are shown. So none of them
counts without a signature of its party, and what such a signature commits to must be in the log.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias, final

from agent_identity.audit.findings import Findings, counted
from agent_identity.audit.report import Signature
from agent_identity.errors import VerificationError
from agent_identity.evidence.checkpoint import Checkpoint, KnownKeys, Note, open_note
from agent_identity.evidence.streams import LedgerReader
from agent_identity.identity import Cosigner, TrustStore, Witnesses

__all__ = ["Outside", "Timestamps", "Voucher", "conclude_vouchers", "second_signature", "vouchers"]

Timestamps: TypeAlias = Callable[[bytes, bytes], int]
"""Returns the second, since the Unix epoch, at which a time-stamp says that a message was there.

Its arguments are the message and the token; it raises :class:`~agent_identity.errors.VerificationError` if the token
is not one of a trusted authority over this message.
"""

_TRUST: Final = 1


@final
@dataclass(frozen=True, slots=True)
class Outside:
    """What a verifier brings along, beside the trusted keys.

    Attributes:
        checkpoint: A checkpoint of the log that was kept elsewhere.
        witnesses: Who must vouch for the log; ``None`` for those that the trust file names.
        timestamps: Verifies time-stamps; ``None`` to leave them alone.
    """

    checkpoint: bytes | None = None
    witnesses: Witnesses | None = None
    timestamps: Timestamps | None = None


@final
@dataclass(frozen=True, slots=True)
class Voucher:
    """That a party saw a state of the log.

    Attributes:
        checkpoint: The state.
        time: When, in seconds since the Unix epoch.
        witness: The witness; ``None`` for a time-stamp.
        what: The checkpoint, for messages.
    """

    checkpoint: Checkpoint
    time: int
    witness: Cosigner | None
    what: str


def second_signature(note: Note, checkpoint: Checkpoint, trust: TrustStore, findings: Findings, what: str) -> bool:
    """Return whether a checkpoint has the second signature, if the trust file demands one of it.

    Args:
        note: The opened note.
        checkpoint: What it says.
        trust: The trusted keys.
        findings: Takes what is missing.
        what: The checkpoint, for messages.
    """
    needed = trust.second_keys_for(checkpoint.size) if trust.origin == checkpoint.origin else ()
    if not needed or any(said.cosigner in needed for said in note.cosignatures):
        return True
    if any(cosigner in needed for cosigner in note.unchecked):
        message = (
            f"{what}: expected to check its second signature (ML-DSA-44), got a version of cryptography that cannot; "
            "install its newest version"
        )
        findings.add(_TRUST, "second_signature_unchecked", message)
    else:
        message = f"{what}: expected the second signature that the trust file demands, got none; it was taken off"
        findings.add(_TRUST, "second_signature_missing", message)
    return False


def vouchers(
    reader: LedgerReader, origin: str, trust: TrustStore, outside: Outside, findings: Findings
) -> list[Voucher]:
    """Return what witnesses and authorities say about states of the log.

    Args:
        reader: The ledger.
        origin: The name of the log.
        trust: The trusted keys.
        outside: Whom to ask for.
        findings: Takes what is wrong.
    """
    known = _known(trust, origin)
    witnesses = _witnesses(trust, outside)
    found: list[Voucher] = []
    if witnesses.keys:
        # Witnesses may have signed the checkpoint of the ledger as well, or the one that was kept elsewhere.
        own = [note for note in (reader.checkpoint(), outside.checkpoint) if note is not None]
        found += _cosigned([*own, *reader.witnessed()], known, witnesses, findings)
    if outside.timestamps is not None:
        found += _stamped(reader.anchored(), known, outside.timestamps, findings)
    return found


def check_witnessed(
    note: bytes, checkpoint: Checkpoint, trust: TrustStore, findings: Findings
) -> tuple[str, list[Voucher]]:
    """Check that the witnesses whom a trust file names vouch for one checkpoint.

    Returns it in words for the step, and what the witnesses say.

    Args:
        note: The signed checkpoint, which trusted keys of the log have signed.
        checkpoint: What it says.
        trust: The trusted keys.
        findings: Takes what is missing.
    """
    if not trust.witnesses.keys:
        return "", []
    found = list(_cosigned([note], _known(trust, checkpoint.origin), trust.witnesses, findings))
    return conclude_vouchers(found, checkpoint.size, trust, Outside(), findings), found


def _known(trust: TrustStore, origin: str) -> dict[str, KnownKeys]:
    return {origin: KnownKeys(key.key for key in trust.of_log(origin).keys if key.purpose == "recorder")}


def _witnesses(trust: TrustStore, outside: Outside) -> Witnesses:
    return trust.witnesses if outside.witnesses is None else outside.witnesses


def _cosigned(
    notes: Iterable[bytes], known: dict[str, KnownKeys], witnesses: Witnesses, findings: Findings
) -> Iterator[Voucher]:
    for note in notes:
        try:
            opened, checkpoint = _of_log(note, known, witnesses.keys)
        except VerificationError as error:
            if error.code == "bad_signature":
                message = "a checkpoint that a witness is said to have cosigned: a signature does not fit"
                findings.add(_TRUST, "bad_signature", message)
            continue
        for cosigner in opened.unchecked:
            message = f"expected to check the cosignature of {cosigner.name!a} (ML-DSA-44), got no library that can"
            findings.add(_TRUST, "witness_unchecked", message)
        for said in opened.cosignatures:
            # Without a time it does not say that the witness knew no larger tree. Nobody is a witness of his own log.
            own = said.cosigner.key in opened.signers
            if said.time and not own and witnesses.in_time(said.cosigner, said.time):
                what = f"the checkpoint that {said.cosigner.name!a} cosigned"
                yield Voucher(checkpoint, said.time, said.cosigner, what)


def _of_log(note: bytes, known: dict[str, KnownKeys], witnesses: Sequence[Cosigner] = ()) -> tuple[Note, Checkpoint]:
    """Open a checkpoint of the log.

    Raises:
        VerificationError: It is none.
    """
    opened = open_note(note, known, witnesses)
    checkpoint = Checkpoint.from_text(opened.text)
    if checkpoint.origin not in known:  # The name of its key is that of the log, what it says is not.
        raise VerificationError("expected a checkpoint of this log, got one of another", code="wrong_origin")
    return opened, checkpoint


def _stamped(
    anchored: Iterable[tuple[bytes, bytes]],
    known: dict[str, KnownKeys],
    timestamps: Timestamps,
    findings: Findings,
) -> Iterator[Voucher]:
    for note, token in anchored:
        try:
            _, checkpoint = _of_log(note, known)
            time = timestamps(note, token)
        except VerificationError as error:
            findings.add(_TRUST, "anchor_not_counted", f"a time-stamp in log/anchors does not count: {error}")
        else:
            yield Voucher(checkpoint, time, None, "the checkpoint that was time-stamped")


def conclude_vouchers(
    found: Sequence[Voucher], size: int, trust: TrustStore, outside: Outside, findings: Findings
) -> str:
    """Report how far other parties vouch for the log, and return it in words for the step.

    Args:
        found: What they say; all of it is in the log, or was reported.
        size: The number of entries under the checkpoint.
        trust: The trusted keys.
        outside: Who was asked for.
        findings: Takes what is missing.
    """
    for voucher in found:
        if voucher.witness is not None:
            party, seen = voucher.witness, voucher.checkpoint.size
            findings.sign(Signature("witness", party.name, party.algorithm, seen, voucher.time))
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
            message = "expected a time-stamp of a trusted authority over a checkpoint, got none that counts"
            findings.add(_TRUST, "not_anchored", message)
    return "".join(f"; {part}" for part in words if part)


def _quorum(found: Sequence[Voucher], size: int, witnesses: Witnesses, findings: Findings) -> str:
    """Report whether enough witnesses vouch for all of the log."""
    furthest: dict[Cosigner, int] = {}
    for voucher in found:
        if voucher.witness is not None:
            furthest[voucher.witness] = max(furthest.get(voucher.witness, 0), voucher.checkpoint.size)
    needed, all_of_them = witnesses.quorum, len(witnesses.keys)
    if len(furthest) < needed:
        message = (
            f"expected {needed} of {counted(all_of_them, 'witness')} to vouch for the log, got {len(furthest)}; "
            "nobody else says that there is no second history"
        )
        findings.add(_TRUST, "not_witnessed", message)
        return ""
    reached = sorted(furthest.values(), reverse=True)[needed - 1]
    if reached < size:
        message = (
            f"expected {needed} of {counted(all_of_them, 'witness')} to vouch for all {size:,} entries of the log, "
            f"got {reached:,}; another history may follow those"
        )
        findings.add(_TRUST, "tail_unwitnessed", message)
    latest = max(voucher.time for voucher in found if voucher.witness is not None)
    parties = f"{needed} of {counted(all_of_them, 'witness')}"
    return f"{min(reached, size):,} of {counted(size, 'entry')} cosigned by {parties}, last at {_moment(latest)}"


def _moment(seconds: int) -> str:
    """Return a time as people write it; what no calendar has, as a number."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"
