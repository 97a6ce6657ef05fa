"""Certificates of recorders in a verification: which count, and what but the recorder's own clock dates them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.outside import Voucher
from agent_identity.audit.revocation import Reach
from agent_identity.errors import TokenError
from agent_identity.evidence.streams import LedgerReader
from agent_identity.identity import Presented, TrustedKey, TrustStore, Vouched, certified, refuse_doubted

__all__ = [
    "certificates_of",
    "certificates_on",
    "certified_record",
    "conclude_clock",
    "conclude_clock_of_spans",
    "reach_of_roots",
    "sound_signers",
    "with_certificates",
]

_TRUST: Final = 1
_SIGNED: Final = 2  # Of the steps for spans.
_KEYID: Final = "agent_identity.attestation.keyid"


def certificates_of(reader: LedgerReader) -> Iterable[Presented]:  # noqa: ARG001  Version 2 of the record needs it.
    """Return the certificates that stand in the records of a ledger, each with its place.

    Records of version 1 have no member for one, so that there are none. Version 2 has ``stream_start.certificate`` and
    the kind ``trust``; its reader is to be connected here, and nowhere else for ledgers.
    """
    return ()


def certificates_on(sources: Sequence[object]) -> Iterable[Presented]:  # noqa: ARG001  As above.
    """Return the certificates on spans of tasks, which say nothing of a place in a log.

    No span has one yet. Version 2 of the record puts it there; its reader is to be connected here for spans.
    """
    return ()


def with_certificates(trust: TrustStore | None, found: Iterable[Presented], findings: Findings) -> TrustStore | None:
    """Return the trusted keys, and those that their roots certify; say which certificates do not count.

    A certificate that does not count gives nothing and takes nothing: anyone can put one there.

    Args:
        trust: The trusted keys, or ``None``.
        found: The certificates.
        findings: Takes what does not count.
    """
    if trust is None:
        return None

    def refused(presented: Presented, error: TokenError) -> None:
        place = Place(stream=presented.stream, seq=presented.seq or None)
        findings.add(_TRUST, "certificate_not_counted", f"a certificate does not count ({error.code}): {error}", place)

    return certified(trust, found, refused=refused)


def reach_of_roots(signers: Sequence[TrustedKey], vouchers: Sequence[Voucher], recorders: Reach | None) -> Reach | None:
    """Return how far others saw the log before a root was revoked, if certificates of such a root are all there is.

    What is in the log so far is older than the revocation, certificates among it. See decision 0017.

    Args:
        signers: The trusted keys that signed the checkpoint.
        vouchers: What others say about states of the log.
        recorders: The same of a recorder key that is revoked itself; certificates stay in doubt then.
    """
    if recorders is not None:
        return None
    since = [voucher.revoked_since for key in signers for voucher in key.certificates if not key.sound]
    if not since or any(key.sound for key in signers):
        return None
    earliest = min(time for time in since if time is not None)
    shown = [voucher.checkpoint.size for voucher in vouchers if voucher.time < earliest]
    return Reach(earliest, max(shown, default=0), None)


def sound_signers(
    signers: tuple[TrustedKey, ...], shown: Mapping[str, int], findings: Findings
) -> tuple[TrustedKey, ...]:
    """Return the signers that count, having reported why none does, if only a revoked root certified them.

    Args:
        signers: The trusted keys that signed a checkpoint.
        shown: How many records of each stream were there before the root was revoked.
        findings: Takes what is found.
    """
    sound = tuple(signer for key in signers if (signer := _without_doubt(key, shown)) is not None)
    if signers and not sound:
        try:
            refuse_doubted([voucher for key in signers for voucher in key.certificates])
        except TokenError as error:
            findings.add(_TRUST, error.code, str(error))
    return sound


def _without_doubt(key: TrustedKey, shown: Mapping[str, int]) -> TrustedKey | None:
    """Return the entry with those certificates only of which is shown that the root made them; listed keys as is."""
    if not key.certificates:
        return key
    sound = tuple(voucher for voucher in key.certificates if not voucher.doubted or _is_shown(voucher, shown))
    return replace(key, certificates=sound) if sound else None


def _is_shown(voucher: Vouched, shown: Mapping[str, int]) -> bool:
    return voucher.stream is not None and not voucher.late and voucher.seq <= shown.get(voucher.stream, 0)


def conclude_clock(signers: Sequence[TrustedKey], size: int, vouchers: Sequence[Voucher], findings: Findings) -> None:
    """Say so if certificates are valid by the clock of the recorder alone.

    Whoever has a recorder key dates its records. That a checkpoint is from the time in which its certificate is valid
    is shown by others who saw it then.

    Args:
        signers: The trusted keys that signed the checkpoint.
        size: The number of entries under it.
        vouchers: What others say about states of the log.
        findings: Takes the notice.
    """
    if not signers or not all(key.certificates for key in signers):
        return
    seen = [v.checkpoint.size for v in vouchers if any(key.in_time(v.time) for key in signers)]
    reached = max(seen, default=0)
    if reached < size or not seen:
        message = (
            f"the certificate under the checkpoint is valid by its own clock: of {size:,} entries of the log, others "
            f"saw {reached:,} while it was valid"
        )
        findings.add(_TRUST, "valid_by_own_clock", message)


def certified_record(attributes: Mapping[str, object], trust: TrustStore) -> Sequence[str]:
    """Return what to count for a verified record on a span: ``certified`` if certificates are why its key counts.

    Args:
        attributes: The attributes of the span.
        trust: The trusted keys.
    """
    key = trust.lookup(str(attributes.get(_KEYID)), "recorder")
    return () if key is None or not key.certificates else ("certified",)


def conclude_clock_of_spans(findings: Findings) -> None:
    """Say so if certificates are valid by the clock of the recorder alone, as on all spans that have some."""
    number = findings.counts["certified"]
    if number:
        message = f"the certificates of {counted(number, 'record')} on spans are valid by their own clock"
        findings.add(_SIGNED, "valid_by_own_clock", message)
