"""Effect of a revoked key on evidence: the records that only it vouches for, and other proofs of their age.

The holder of a recorder key can write records and checkpoints of any date. Three things limit the doubt, none of them
a date by the signer: a checkpoint from before the revocation that was kept, cosigned or time-stamped elsewhere; the
state of the log that the trust file names for a key that took it over before the revocation; and that of the sound key
that took it over afterwards. See decision 0003.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, final

from agent_identity._identity.trust.entries import Purpose, TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.transparency.checkpoint import Checkpoint
from agent_identity._record.schema import AnyRecord
from agent_identity._verify.report.findings import Findings, Place
from agent_identity.errors import VerificationError

LATE: Final = "signed_after_revocation"
"""Code of evidence dated after the revocation of its key, which never counts."""

REVOKED: Final = frozenset({"key_revoked", LATE})
"""Codes of findings about revoked keys."""

_TRUST: Final = 1
_NS: Final = 1_000_000_000
_OLD_RECORDS: Final = (
    "only the signature of the revoked key shows that the {} records from here on are older than its revocation; "
    "give an earlier checkpoint that was kept, cosigned or time-stamped elsewhere"
)
_LATE_RECORDS: Final = "{} records from here on are dated after the revocation of their key; others may have made them"


def refuse_late(trust: TrustStore, thumbprint: str, purpose: Purpose, at: int) -> None:
    """Refuse a signature that is dated after the revocation of its key.

    Raises:
        VerificationError: The key is revoked since before that date.
    """
    entry = trust.get(thumbprint, purpose)
    if entry is not None and entry.revoked_since is not None and at >= entry.revoked_since:
        raise VerificationError("the signature is dated after the revocation of its key", code=LATE)


def taken_over(trust: TrustStore | None, origin: str) -> list[Checkpoint]:
    """Return the states of the log that the trust file names for keys that took it over."""
    if trust is None or trust.origin != origin:
        return []
    pins = [key.takes_over for key in trust.keys if key.takes_over is not None]
    return [Checkpoint(origin, pin.size, pin.root) for pin in pins if pin.size]


class Reach(NamedTuple):
    """The entries of a log that are beyond doubt.

    Attributes:
        since: The second from which recorder keys are revoked, the earliest of them.
        shown: The number of entries that are proved older than that, by evidence kept elsewhere.
        sound: The number of the first entry that keys vouch for which are not revoked; ``None`` without one.
    """

    since: int
    shown: int
    sound: int | None


def reach_of(
    trust: TrustStore,
    signers: Sequence[TrustedKey],
    kept: int,
    kept_by: Sequence[TrustedKey],
    timed: Sequence[tuple[int, int]] = (),
) -> Reach | None:
    """Return the entries beyond doubt, or ``None`` if no recorder key is revoked.

    Args:
        trust: The trusted keys.
        signers: The trusted keys that signed the checkpoint of the ledger.
        kept: The number of entries under the checkpoint that was kept elsewhere; 0 without one.
        kept_by: The trusted keys that signed that checkpoint.
        timed: Numbers of entries, each with the second at which another party saw them under a checkpoint.
    """
    revoked = [key for key in trust.keys if key.purpose == "recorder" and key.revoked_since is not None]
    if not revoked:
        return None
    since = min(key.revoked_since or 0 for key in revoked)
    pins = [(key, key.takes_over.size) for key in trust.keys if key.takes_over is not None]
    older = [size for key, size in (*pins, *((key, kept) for key in kept_by)) if _start(key) < since]
    older += [size for size, time in timed if time < since]
    # Keys from before the revocation may have signed a log that continues a forgery.
    last = max(map(_start, revoked))
    after = {key: size for key, size in pins if _start(key) > last}
    sound = min(after.values()) if after.keys() & set(signers) else None
    return Reach(since, max(older, default=0), sound)


def _start(key: TrustedKey) -> int:
    if key.certificates:
        return min(voucher.certificate.not_before for voucher in key.certificates)
    return -1 if key.not_before is None else key.not_before


@final
class Doubts:
    """Counts, stream by stream, the records that only a revoked key vouches for.

    Args:
        reach: The entries of the log that are beyond doubt.
        shown: Number of records of each stream under the entries that are proved older.
        before: Number of records of each stream under the entries before a sound key took over; ``None`` for all.
    """

    def __init__(self, reach: Reach, shown: Mapping[str, int], before: Mapping[str, int] | None) -> None:
        self.records = 0
        self._since_ns = reach.since * _NS
        self._shown = shown
        self._before = before
        self._late_cover = False
        self._first: dict[tuple[str, str, bool], int] = {}
        self._counts: dict[tuple[str, str, bool], int] = {}

    def visit(self, record: AnyRecord) -> None:
        """Add a sealed record in its place."""
        stream, seq = record.stream.id, record.stream.number
        if self._before is not None and seq > self._before.get(stream, 0):
            return
        late = record.time.last_ns >= self._since_ns
        covered = seq <= self._shown.get(stream, 0)
        self._late_cover = self._late_cover or (late and covered)
        name = (stream, LATE if late else "key_revoked", covered)
        self._first.setdefault(name, seq)
        self._counts[name] = self._counts.get(name, 0) + 1

    def proved(self, place: Place) -> bool:
        """Return whether the record at a place is beyond doubt; call it when all records are read."""
        stream, seq = place.stream or "", place.seq or 0
        if self._before is not None and seq > self._before.get(stream, 0):
            return True
        return not self._late_cover and seq <= self._shown.get(stream, 0)

    def conclude(self, findings: Findings) -> None:
        """Report the records in doubt, and count them in :attr:`records`."""
        if self._late_cover:
            message = (
                "the checkpoint is dated before the revocation of the key but covers later records; it does not show "
                "that any record is older, give an earlier one"
            )
            findings.add(_TRUST, "key_revoked", message)
        for name, first in sorted(self._first.items()):
            stream, code, covered = name
            if covered and not self._late_cover:
                continue
            count = self._counts[name]
            self.records += count
            message = _LATE_RECORDS if code == LATE else _OLD_RECORDS
            findings.add(_TRUST, code, message.format(count), Place(stream=stream, seq=first))
