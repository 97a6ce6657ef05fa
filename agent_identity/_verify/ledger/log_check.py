"""Checks the checkpoint of a ledger, and its log against it (steps 1 and 2)."""

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias, final

from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import LedgerReader, RawLine
from agent_identity._ledger.transparency.checkpoint import Checkpoint, Note, open_note
from agent_identity._ledger.transparency.log import Head, loss_entry, unverified_checkpoint
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._verify.grants.revoked_keys import Doubts, Reach, reach_of, taken_over
from agent_identity._verify.ledger.certificates_check import (
    certificates_proved,
    conclude_clock,
    reach_of_roots,
    sound_signers,
    without_doubt,
)
from agent_identity._verify.ledger.external_evidence import Attestor, ExternalEvidence, conclude_vouchers, vouchers
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import Signature
from agent_identity.errors import VerificationError

_TRUST: Final = 1
_LOG: Final = 2
_HEAD: Final = struct.Struct(">Q32s")

_OWN: Final = "the checkpoint"
_NOTHING: Final = ExternalEvidence()

_Pins: TypeAlias = dict[int, dict[bytes, str]]
"""The roots that the log must have had, by size, each with its source in words; two roots of one size conflict."""
_Opened: TypeAlias = tuple[Checkpoint | None, tuple[TrustedKey, ...]]
_UNKNOWN: Final[_Opened] = (None, ())


@final
class Heads:
    """The heads of one stream in log order, 40 bytes each."""

    __slots__ = ("_packed", "last_root", "last_size", "signs_ns")

    def __init__(self) -> None:
        self._packed = bytearray()
        self.last_size: int = 0
        self.last_root: bytes = b""
        self.signs_ns: list[int] = []  # Times at which its process repeated a head.

    def add(self, head: Head) -> None:
        """Append a head.

        Raises:
            ValueError: The head is of a smaller or changed stream.
        """
        if head.size < self.last_size or (head.size == self.last_size and head.root != self.last_root):
            raise ValueError("a head of the log takes back records of the stream")
        if head.size == self.last_size:
            self.signs_ns.append(head.time_ns)
        else:
            self._packed += _HEAD.pack(head.size, head.root)
            self.last_size, self.last_root = head.size, head.root

    def size_up_to(self, end: int | None) -> int:
        """Return the size of the last head that is no larger than ``end``; of the very last for ``None``."""
        return self.last_size if end is None else max((size for size, _ in self if size <= end), default=0)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return iter(_HEAD.iter_unpack(bytes(self._packed)))


class SignedLog(NamedTuple):
    """The streams as the log states them.

    Attributes:
        heads: The heads of each stream that the checkpoint covers.
        proved: Whether a trusted key signed the checkpoint and the log is the one it commits to.
        signers: The trusted keys that signed.
        doubts: Counts the records in doubt, if a recorder key is revoked.
        trust: The trusted keys, without recorder keys of other logs.
    """

    heads: Mapping[str, Heads]
    proved: bool
    signers: tuple[TrustedKey, ...]
    doubts: Doubts | None
    trust: TrustStore | None = None


def check_log(
    reader: LedgerReader, trust: TrustStore | None, findings: Findings, *, outside: ExternalEvidence = _NOTHING
) -> SignedLog:
    """Check the log of a ledger against its checkpoint.

    1. The checkpoint is signed by a trusted recorder key and names the trusted origin (C2SP signed-note). Where the
       trust file names witnesses, enough of them cosigned states of this log (C2SP tlog-cosignature), the last of
       them the one in the checkpoint.
    2. The entries of the log re-derive its root (RFC 6962 §2.1); later entries are not sealed. The log went through
       every checkpoint that was kept elsewhere, cosigned by a witness or time-stamped, and through the states of the
       log that the trust file names.

    Args:
        reader: The ledger.
        trust: The trusted keys, or ``None``.
        findings: Takes what is found.
        outside: Evidence and requirements of the verifier beside the trusted keys.
    """
    checkpoint, signers = _open_own(reader, trust, findings)
    kept, kept_by = _open_kept(outside.checkpoint, trust, findings)
    statements: list[Attestor] = []
    trust = _of_log(trust, checkpoint)
    if trust is not None and checkpoint is not None:
        statements = vouchers(reader, checkpoint.origin, trust, outside, findings)
    reach, roots, marks = _reaches(trust, signers, (kept.size if kept else 0, kept_by), statements)
    pins = _pins(checkpoint, kept if kept_by else None, trust, statements)
    log = _derive(reader, checkpoint, pins, findings, marks)
    findings.outside = _outside(kept if kept_by else None, statements)
    older = {since: log.marked.get(size, {}) for since, size in roots.items()}
    if trust is not None and older:
        places = certificates_proved(reader, log.heads)
        signers = without_doubt(signers, older, places)
        trust = replace(trust, keys=without_doubt(trust.keys, older, places))
    signers = sound_signers(signers, findings)
    if trust is not None and checkpoint is not None and signers:
        words = conclude_vouchers(statements, checkpoint.size, trust, outside, findings)
        conclude_clock(signers, checkpoint.size, statements, findings)
        _accept(checkpoint, findings, words, doubted=reach is not None)
    proved = log.whole and checkpoint is not None and bool(signers)
    return SignedLog(log.heads, proved, signers, _doubts(reach, log.marked), trust)


def _reaches(
    trust: TrustStore | None,
    signers: tuple[TrustedKey, ...],
    kept: tuple[int, tuple[TrustedKey, ...]],
    statements: Sequence[Attestor],
) -> "tuple[Reach | None, Mapping[int, int], Collection[int | None]]":
    """Return the parts of the log beyond doubt, by recorder keys and by roots, and the log sizes where they end."""
    if trust is None:
        return None, {}, ()
    reach = reach_of(trust, signers, *kept, [(voucher.checkpoint.size, voucher.time) for voucher in statements])
    if reach is not None:  # Then nothing proves the age of the records with certificates.
        return reach, {}, {reach.shown, reach.sound}
    roots = reach_of_roots(trust, statements)
    return None, roots, {*roots.values()}


def _doubts(reach: Reach | None, marked: Mapping[int | None, Mapping[str, int]]) -> Doubts | None:
    if reach is None:
        return None
    before = None if reach.sound is None else marked.get(reach.sound, {})
    return Doubts(reach, marked.get(reach.shown, {}), before)


def _of_log(trust: TrustStore | None, checkpoint: Checkpoint | None) -> TrustStore | None:
    """Return the trusted keys for the log, once its origin is known."""
    return trust if trust is None or checkpoint is None else trust.of_log(checkpoint.origin)


def _open_own(reader: LedgerReader, trust: TrustStore | None, findings: Findings) -> _Opened:
    """Open the checkpoint of the ledger itself."""
    removed = reader.log_was_removed()  # Before the checkpoint is read: a process may be writing it at this moment.
    note = reader.checkpoint()
    if note is None and removed:
        message = "log/checkpoint is missing, which is older than all other files; the log was removed"
        findings.add(_TRUST, "log_missing", message)
        return _UNKNOWN
    return open_checkpoint(note, trust, findings, "the checkpoint of the ledger")


def _pins(
    checkpoint: Checkpoint | None, kept: Checkpoint | None, trust: TrustStore | None, statements: Sequence[Attestor]
) -> "_Pins":
    """Return the states that the log must have gone through, with the source of each in words."""
    pins: _Pins = {}
    if checkpoint is not None:
        kept_elsewhere = "the checkpoint kept elsewhere"
        pairs = [(state, kept_elsewhere) for state in taken_over(trust, checkpoint.origin)]
        pairs += [] if kept is None else [(kept, kept_elsewhere)]
        pairs += [(voucher.checkpoint, voucher.what) for voucher in statements]
        for state, what in ((checkpoint, _OWN), *pairs):
            pins.setdefault(state.size, {}).setdefault(state.root, what)
    elif kept is not None:
        pins[kept.size] = {kept.root: "the checkpoint kept elsewhere"}
    return pins


def _outside(kept: Checkpoint | None, statements: Sequence[Attestor]) -> str | None:
    """Return the newest state that others know, in words; the caller's own comes first."""
    states = [] if kept is None else [(kept, "the checkpoint kept elsewhere")]
    states += [(voucher.checkpoint, voucher.what) for voucher in statements]
    if not states:
        return None
    newest, what = max(states, key=lambda state: state[0].size)
    return f"{what}, of {counted(newest.size, 'entry')}"


def _accept(checkpoint: Checkpoint, findings: Findings, words: str, *, doubted: bool) -> None:
    if doubted:
        return
    key = "the recorder key beside the ledger" if findings.trust == "self-asserted" else "a trusted recorder key"
    findings.done(_TRUST, f"signed by {key} for the origin {checkpoint.origin}{words}")


def _open_kept(
    earlier: bytes | None, trust: TrustStore | None, findings: Findings
) -> tuple[Checkpoint | None, tuple[TrustedKey, ...]]:
    if earlier is None:
        return None, ()
    return open_checkpoint(earlier, trust, findings, "the checkpoint kept elsewhere")


def open_checkpoint(note: bytes | None, trust: TrustStore | None, findings: Findings, what: str) -> _Opened:
    """Return a checkpoint and the trusted keys that signed it; report what is wrong with it (step 1).

    Args:
        note: The signed checkpoint, or ``None``.
        trust: The trusted keys, or ``None``.
        findings: Takes what is found.
        what: The checkpoint in words, for messages.
    """
    if note is None:
        findings.add(_TRUST, "no_checkpoint", f"{what} is missing at log/checkpoint; nothing proves the records")
        return _UNKNOWN
    try:
        checkpoint = unverified_checkpoint(note)
    except VerificationError as error:
        findings.add(_TRUST, "bad_checkpoint", f"{what}: {error}")
        return _UNKNOWN
    if trust is None:
        return checkpoint, ()
    return _verified(note, checkpoint, trust, findings, what)


def _verified(note: bytes, checkpoint: Checkpoint, trust: TrustStore, findings: Findings, what: str) -> _Opened:
    """Verify the signatures of a checkpoint."""
    keys = [trusted for trusted in trust.keys if trusted.purpose == "recorder"]
    other = _other_log("this trust file", trust, keys, checkpoint)
    try:
        opened = open_note(note, {checkpoint.origin: [trusted.key for trusted in keys]})
    except VerificationError as error:
        code = error.code if error.code in {"bad_signature", "unknown_key"} else "bad_checkpoint"
        findings.add(_TRUST, code, f"{what}: {(code == 'unknown_key' and other) or error}")
        return checkpoint, ()
    signed = _of_signers(keys, opened)
    advice = other or _other_log("the key under it", trust, signed, checkpoint)
    if advice:
        findings.add(_TRUST, "wrong_origin", f"{what}: {advice}")
    findings.sign(Signature("recorder", checkpoint.origin, "Ed25519", checkpoint.size))
    return checkpoint, _of_signers(trust.recorders(checkpoint.origin), opened) or signed


def _of_signers(keys: Sequence[TrustedKey], opened: Note) -> tuple[TrustedKey, ...]:
    return tuple(trusted for trusted in keys if trusted.key in opened.signers)


def _other_log(what: str, trust: TrustStore, keys: Sequence[TrustedKey], checkpoint: Checkpoint) -> str:
    """Return the advice for keys of other logs; empty if one of the keys may sign for this log."""
    logs = {log for key in keys for log in key.logs(trust.origin)} or {trust.origin}
    if any(key.of_log(checkpoint.origin, trust.origin) for key in keys):
        return ""
    if not keys and trust.origin in (None, checkpoint.origin):
        return ""
    names = " and ".join(sorted(map(ascii, logs)))
    return (
        f"{what} is for the log{'s' if len(logs) > 1 else ''} {names}, the evidence is of the log "
        f"{checkpoint.origin!a}; take the trust file that was kept of that log"
    )


@final
class _Derivation:
    """The log as far as it was read, and the state derived from it."""

    def __init__(
        self, checkpoint: Checkpoint | None, pins: _Pins, findings: Findings, marks: Collection[int | None]
    ) -> None:
        self.heads: dict[str, Heads] = {}
        self.marked: dict[int | None, Mapping[str, int]] = {}  # The records of each stream, by the size of the log.
        self._marks = marks
        self.tree = CompactRange()
        self.whole = True
        self.ahead = False
        self._checkpoint = checkpoint
        self._pins = pins
        self._findings = findings

    def take(self, entry: bytes, line: int) -> None:
        self.tree.append(leaf_hash(entry))
        if self._checkpoint is not None:
            if self.tree.size <= self._checkpoint.size:
                self._keep(entry, line, self._checkpoint.origin)
            else:
                self._look_ahead(entry)
        self.compare()
        if self.tree.size in self._marks:
            self.marked[self.tree.size] = {stream: heads.last_size for stream, heads in self.heads.items()}

    def take_broken(self, line: RawLine, number: int) -> None:
        place = Place(line=number)
        if line.problem == "torn":
            self._findings.add(_LOG, "log_unsealed", "the last line of the log is torn", place)
        elif line.problem == "unreadable":
            if line.offset:
                self._findings.add(_LOG, "unreadable", "the log cannot be read to its end", place)
        elif self._checkpoint is not None and self.tree.size >= self._checkpoint.size:
            message = "after its checkpoint, the log has a line that is not an entry; the next seal moves it"
            self._findings.add(_LOG, "log_rejected", message, place)
        else:
            self.whole = False
            self._findings.add(_LOG, "log_malformed", "this line of the log is not an entry", place)

    def _keep(self, entry: bytes, line: int, origin: str) -> None:
        place = Place(line=line)
        if entry == loss_entry(origin):
            message = "the log lost its checkpoint here; the lost part is not known, and records may be missing"
            self._findings.add(_LOG, "log_lost", message, place)
            return
        try:
            head, named = Head.from_entry(entry)
        except ValueError as error:
            self._findings.add(_LOG, "log_malformed", f"an entry of the log is malformed: {error}", place)
            return
        place = Place(line=line, stream=head.stream)
        if named != origin:
            self._findings.add(_LOG, "wrong_origin", "the entry names the origin of another log", place)
        try:
            self.heads.setdefault(head.stream, Heads()).add(head)
        except ValueError as error:
            self._findings.add(_LOG, "log_shrank", str(error), place)

    def _look_ahead(self, entry: bytes) -> None:
        """Note an unsealed entry that names more records than the earlier entries."""
        with suppress(ValueError):
            head, _ = Head.from_entry(entry)
            known = self.heads.get(head.stream)
            self.ahead = self.ahead or known is None or head.size > known.last_size

    def compare(self) -> None:
        roots = self._pins.get(self.tree.size)
        if roots is None:
            return
        root = self.tree.root()
        for expected, what in roots.items():
            if expected != root and self.whole:
                self._contradict(what)

    def _contradict(self, what: str) -> None:
        entries = f"the first {counted(self.tree.size, 'entry')} of the log differ from"
        if what is _OWN:
            self.whole = False
            self._findings.add(_LOG, "log_changed", f"{entries} those under the checkpoint")
        else:
            self._findings.add(_TRUST, "rolled_back", f"{entries} those of {what}")

    def finish(self) -> None:
        for size, what in ((size, what) for size, roots in self._pins.items() for what in roots.values()):
            if size <= self.tree.size:
                continue
            shortfall = f"the log has {self.tree.size:,} of at least {counted(size, 'entry')}"
            if what is _OWN:
                self.whole = False
                self._findings.add(_LOG, "log_cut", f"{shortfall}; the checkpoint proves that there were more")
            else:
                self._findings.add(_TRUST, "rolled_back", f"{shortfall}; {what} proves that there were")


def _report_rejected(reader: LedgerReader, findings: Findings) -> None:
    """Report the lines that a seal moved out of the log."""
    rejected = reader.rejected_bytes()
    if rejected:
        message = (
            f"another process wrote {counted(rejected, 'byte')} into the log, which are in log/rejected.jsonl now; "
            "look at them, then move that file away"
        )
        findings.add(_LOG, "log_rejected", message)


def _derive(
    reader: LedgerReader,
    checkpoint: Checkpoint | None,
    pins: _Pins,
    findings: Findings,
    marks: Collection[int | None],
) -> _Derivation:
    log = _Derivation(checkpoint, pins, findings, marks)
    for number, line in enumerate(reader.log_entries(), 1):
        if line.record is not None:
            log.take(line.record, number)
        else:
            log.take_broken(line, number)
    log.finish()
    _report_rejected(reader, findings)
    covered = 0 if checkpoint is None else checkpoint.size
    unsealed = log.tree.size - covered
    if unsealed > 0:
        findings.counts["log_unsealed"] = unsealed
        findings.add(
            _LOG,
            "log_unsealed",
            f"the log has {counted(unsealed, 'entry')} after its checkpoint; nothing proves them yet",
        )
    if log.ahead:
        message = "the checkpoint is older than the log; it was put back or left behind"
        findings.add(_LOG, "log_ahead", message)
    if checkpoint is None:
        findings.skip(_LOG, "there is no checkpoint to compare with")
    else:
        findings.done(_LOG, counted(covered, "entry"))
    return log
