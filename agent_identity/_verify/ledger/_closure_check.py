"""Verifies the closures beside streams: what a closer saw of a dead process, which is no word of its recorder."""

from collections.abc import Iterable, Mapping
from typing import Final, final

from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.closure import Closure, unverified_closure
from agent_identity._ledger.excerpt_starts import Start
from agent_identity._ledger.prune_statement import PruneStatement
from agent_identity._ledger.reader import LedgerReader
from agent_identity._ledger.transparency.checkpoint import open_note
from agent_identity._ledger.transparency.merkle import CompactRange
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity.errors import VerificationError

_ALL: Final = 7
_NS: Final = 1_000_000_000


@final
class ClosureCheck:
    """Compares the records of one stream with what a closer saw of it.

    Args:
        closure: What it saw.
        tree: The tree over the records before the first that is here; it grows here.

    Attributes:
        closure: What it saw.
    """

    def __init__(self, closure: Closure, tree: CompactRange) -> None:
        self.closure = closure
        self._tree = tree
        self._compared = tree.size <= closure.size

    def take(self, leaf: bytes) -> None:
        """Add the leaf hash of the next record."""
        if self._tree.size < self.closure.size:
            self._tree.append(leaf)

    def judge(self, size: int, committed: int, findings: Findings) -> bool:
        """Report what of the stream is sealed, what only the closer saw, and what came later.

        Args:
            size: The place of the last record that is here.
            committed: The number of records that the log commits to.
            findings: Takes what is found.

        Returns:
            Whether the records are those that it saw, or its last one was pruned.
        """
        closure, place = self.closure, Place(stream=self.closure.stream, seq=self.closure.size)
        if self._compared and (self._tree.size, self._tree.root()) != (closure.size, closure.root):
            message = f"the records differ from the {closure.size:,} that a closer saw; some were changed or cut"
            findings.add(_ALL, "bad_closure", message, Place(stream=closure.stream))
            return False
        seen, left = f"its process died; a closer saw record {closure.size:,} as the last one", closure.size - committed
        if left > 0:
            message = f"{seen}, {counted(left, 'record')} after the last seal: recovered, and not the recorder's word"
            findings.add(_ALL, "closed_tail", message, place)
        else:
            findings.add(_ALL, "closed", f"{seen}, and all up to there is sealed", place)
        after = size - max(closure.size, committed)
        if after > 0:
            message = f"{counted(after, 'record')} after what a closer saw; its process lived, or others added them"
            findings.add(_ALL, "after_closure", message, Place(stream=closure.stream, seq=size))
        return True


def find_closures(
    reader: LedgerReader,
    names: Iterable[str],
    starts: Mapping[str, PruneStatement | Start],
    trust: TrustStore | None,
    findings: Findings,
) -> dict[str, ClosureCheck]:
    """Return the checks of streams that have a closure which counts.

    1. The note is about this stream, under the trusted origin, and no signature of a known closer key fails.
    2. A trusted closer key signed it that may close this log, is not revoked, and was valid then.

    Args:
        reader: The directory.
        names: Its streams.
        starts: The starts of those that do not begin with their first record.
        trust: The trusted keys, or ``None``.
        findings: Takes what is found.
    """
    closings: dict[str, ClosureCheck] = {}
    for name in names:
        note = reader.closure(name)
        if note is None:
            continue
        try:
            closure = _about(note, name, trust)
            counts = trust is not None and _counts(note, closure, trust)
        except VerificationError as error:
            message = f"the closure beside the stream does not hold: {error}"
            findings.add(_ALL, "bad_closure", message, Place(stream=name))
            continue
        if counts:
            start = starts.get(name)
            closings[name] = ClosureCheck(closure, CompactRange() if start is None else start.tree())
        else:
            message = "no closer key that counts signed the closure beside the stream; it says nothing"
            findings.add(_ALL, "closure_not_counted", message, Place(stream=name))
    return closings


def _about(note: bytes, name: str, trust: TrustStore | None) -> Closure:
    closure = unverified_closure(note)
    if closure.stream != name or (trust is not None and trust.origin not in (None, closure.origin)):
        raise VerificationError("it is about another stream or log", code="bad_closure")
    return closure


def _counts(note: bytes, closure: Closure, trust: TrustStore) -> bool:
    """Return whether a closer key that may close the log signed the closure.

    Raises:
        VerificationError: A signature of a listed closer key does not fit.
    """
    listed = [entry for entry in trust.keys if entry.purpose == "closer"]
    try:
        signers = open_note(note, {closure.origin: [entry.key for entry in listed]}).signers
    except VerificationError as error:
        if error.code != "unknown_key":
            raise
        return False
    signed = [entry for entry in listed if entry.key in signers]
    at = closure.time_ns // _NS
    return any(entry.counts(at) and entry.of_log(closure.origin, trust.origin) is not None for entry in signed)
