"""Certificates of recorder keys in a verification: which ones count, and who besides the recorder dates them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeAlias

from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.trust.certificates import Presented, certified
from agent_identity._identity.trust.entries import TrustedKey, Vouched, refuse_doubted
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import LedgerReader, RawLine
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._record.codec import decode
from agent_identity._record.schema import StreamStart, Trust
from agent_identity._verify.ledger._stream_growth import Growth
from agent_identity._verify.ledger.external_evidence import Attestor
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity.errors import TokenError

_TRUST: Final = 1
_SIGNED: Final = 2  # Of the steps for spans.
_CERTIFICATE: Final = b'"certificate":'
_Places: TypeAlias = Sequence[tuple[str, int]]


def certificates_of(reader: LedgerReader) -> Iterator[Presented]:
    """Yield the certificates in the records of a ledger, each with its unproved place.

    :func:`certificates_proved` proves the places; each certificate proves itself.
    """
    for stream in reader.streams():
        before = reader.begins_behind(stream)
        first = 1 if before is None else before.size + 1
        for place, line in enumerate(reader.entries(stream, start=first), first):
            token = certificate_in(line.record or b"")  # It may be withheld, or no record.
            if token is not None:
                yield Presented(token, stream, place)


def certificates_proved(
    reader: LedgerReader, heads: Mapping[str, Iterable[tuple[int, bytes]]]
) -> Mapping[str, _Places]:
    """Return the places of certificates in the streams that the heads of the log prove.

    The place in a record is a claim, and anyone can add a record; only the tree proves places.

    Args:
        reader: The directory.
        heads: The sizes and roots of each stream that the log commits to.
    """
    places: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for stream, committed in heads.items():
        growth, here = Growth(committed, reader.begins_behind(stream)), list[tuple[str, int]]()
        for line in reader.entries(stream, start=growth.size + 1):
            leaf = _leaf(line)
            if leaf is None:
                break
            growth.leaves.append(leaf)
            token = certificate_in(line.record or b"")
            if token is not None:
                here.append((token, growth.size))
            if not growth.look():
                break
        for token, place in here:
            if place <= growth.sealed:
                places[token].append((stream, place))
    return places


def _leaf(line: RawLine) -> bytes | None:
    if line.problem == "withheld":
        return b64url_decode(line.mac or "")
    return None if line.record is None else leaf_hash(line.record)


def certificate_in(data: bytes) -> str | None:
    """Return the certificate in a record that starts a stream or renews the trust in its recorder key.

    Args:
        data: The bytes of the record, or of anything else.
    """
    if _CERTIFICATE in data:
        with suppress(ValueError):
            record = decode(data)
            if isinstance(record, StreamStart):
                return record.certificate
            if isinstance(record, Trust) and record.trust.purpose == "recorder":
                return None if record.trust.status == "distrusted" else record.trust.certificate
    return None


def with_certificates(trust: TrustStore | None, found: Iterable[Presented], findings: Findings) -> TrustStore | None:
    """Return the trusted keys and those that their roots certify; report the certificates that do not count.

    A certificate that does not count has no effect: anyone can put one there. Without a trusted root, no certificate
    is read.

    Args:
        trust: The trusted keys, or ``None``.
        found: The certificates.
        findings: Takes the certificates that do not count.
    """
    if trust is None or not any(key.purpose == "root" for key in trust.keys):
        return trust

    def report(presented: Presented, error: TokenError) -> None:
        place = Place(stream=presented.stream, seq=presented.seq or None)
        findings.add(_TRUST, "certificate_not_counted", f"a certificate does not count ({error.code}): {error}", place)

    return certified(trust, found, refused=report)


def reach_of_roots(trust: TrustStore, vouchers: Sequence[Attestor]) -> Mapping[int, int]:
    """Return how many log entries others saw before each revocation of a root, by its second.

    These entries, certificates among them, are older than the revocation. See decision 0003.

    Args:
        trust: The trusted keys of the log.
        vouchers: Statements of other parties about states of the log.
    """
    revoked = {v.root.revoked_since for key in trust.keys for v in key.certificates if v.doubted}
    return {
        since: max((voucher.checkpoint.size for voucher in vouchers if voucher.time < since), default=0)
        for since in revoked
        if since is not None
    }


def without_doubt(
    keys: tuple[TrustedKey, ...], older: Mapping[int, Mapping[str, int]], proved: Mapping[str, _Places]
) -> tuple[TrustedKey, ...]:
    """Mark the certificates of each entry that are proved older than the theft of their root.

    Args:
        keys: The entries.
        older: For each second from which a root is revoked, the number of older records of each stream.
        proved: The proved places of each certificate; the place that its record claims does not count.
    """
    return tuple(
        replace(key, certificates=tuple(_placed(voucher, older, proved) for voucher in key.certificates))
        if key.certificates
        else key
        for key in keys
    )


def _placed(voucher: Vouched, older: Mapping[int, Mapping[str, int]], proved: Mapping[str, _Places]) -> Vouched:
    places, since = tuple(proved.get(voucher.token, ())), voucher.root.revoked_since
    shown: Mapping[str, int] = {} if since is None else older.get(since, {})
    return replace(voucher, places=places, older=any(seq <= shown.get(stream, 0) for stream, seq in places))


def sound_signers(signers: Sequence[TrustedKey], findings: Findings) -> tuple[TrustedKey, ...]:
    """Return the signers that count; report the reason if only a revoked root certified them.

    Args:
        signers: The trusted keys that signed a checkpoint; listed ones stay as they are.
        findings: Takes what is found.
    """
    sound = tuple(signer for key in signers if (signer := _of_sound_roots(key)) is not None)
    if signers and not sound:
        try:
            refuse_doubted([voucher for key in signers for voucher in key.certificates])
        except TokenError as error:
            findings.add(_TRUST, error.code, str(error))
    return sound


def _of_sound_roots(key: TrustedKey) -> TrustedKey | None:
    """Return the entry with only those certificates that are known to come from the root."""
    if not key.certificates:
        return key
    sound = tuple(voucher for voucher in key.certificates if not voucher.doubted)
    return replace(key, certificates=sound) if sound else None


def conclude_clock(signers: Sequence[TrustedKey], size: int, vouchers: Sequence[Attestor], findings: Findings) -> None:
    """Report certificates that are valid only by the clock of the recorder.

    The holder of a recorder key dates its records, so only other parties who saw the checkpoint can show that it is
    from the validity of its certificate.

    Args:
        signers: The trusted keys that signed the checkpoint.
        size: The number of entries under it.
        vouchers: What others say about states of the log.
        findings: Takes the notice.
    """
    if not signers or not all(key.certificates for key in signers):
        return
    sizes = [v.checkpoint.size for v in vouchers if any(key.in_time(v.time) for key in signers)]
    reached = max(sizes, default=0)
    if reached < size or not sizes:
        message = (
            f"the certificate under the checkpoint is valid by its own clock: of {size:,} entries of the log, others "
            f"saw {reached:,} while it was valid"
        )
        findings.add(_TRUST, "valid_by_own_clock", message)


def is_certified(keyid: str, trust: TrustStore) -> bool:
    """Return whether the recorder key of a verified record on a span is trusted through a certificate.

    Args:
        keyid: The thumbprint of the key.
        trust: The trusted keys.
    """
    key = trust.lookup(keyid, "recorder")
    return key is not None and bool(key.certificates)


def conclude_clock_of_spans(findings: Findings) -> None:
    """Report certificates that are valid only by the clock of the recorder, as all certificates on spans are."""
    number = findings.counts["certified"]
    if number:
        message = f"the certificates of {counted(number, 'record')} on spans are valid by their own clock"
        findings.add(_SIGNED, "valid_by_own_clock", message)
