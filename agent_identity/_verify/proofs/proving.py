"""Makes proof files from a ledger, reading it as a stream."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from agent_identity._ledger.reader import LedgerReader, RawLine, open_ledger
from agent_identity._ledger.transparency.checkpoint import MAX_NOTE, Checkpoint, LogProof
from agent_identity._ledger.transparency.log import Head, unverified_checkpoint
from agent_identity._ledger.transparency.merkle import (
    CompactRange,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    range_roots,
    verify_consistency,
    verify_inclusion,
)
from agent_identity._ledger.transparency.proof_files import GrowthProof, RecordProof
from agent_identity._record.codec import decode, plain_members
from agent_identity._record.schema import AnyRecord
from agent_identity._storage.layout import is_stream_id
from agent_identity._verify.inputs.sources import PathLike, directory_of, kept_note, size_of_ledger, whole
from agent_identity._verify.ledger.ledger_check import Progress
from agent_identity._verify.report.plurals import counted
from agent_identity.errors import ConfigurationError, VerificationError

Wanted: TypeAlias = str | tuple[str, int]
"""A record: by its id, or by its stream and its place in it, from 1."""

_TICK: Final = 4_096


def prove(directory: PathLike, record: Wanted, *, progress: Progress | None = None) -> bytes:
    """Return the proof file for one record of the ledger, for verifiers who have only its public keys.

    It shows that record and no other. Making it checks the parts of the ledger that it needs, so that no proof fails
    to verify; only :meth:`Verifier.proof` checks the key under the checkpoint.

    Args:
        directory: The evidence directory.
        record: The id of the record; or its stream and its place in it, from 1, which is faster.
        progress: Receives the bytes searched and the total, now and then.

    Raises:
        VerificationError: The ledger contradicts its checkpoint, the record was changed, or no checkpoint covers
            it yet (``tail_unsealed``).
        ConfigurationError: There is no such directory or record.
    """
    reader, root = _reader(directory)
    target = _Search(reader, root, progress).find(record)
    log = _Log(reader)
    number, entry, head = log.first_cover(target)
    inclusion = log.inclusion(number)
    hashes = range_roots(_leaves(reader, head), inclusion_ranges(target.place, head.size))
    try:
        verify_inclusion(leaf_hash(target.data), hashes, index=target.place, size=head.size, root=head.root)
        proof = RecordProof.of(target.data, hashes, entry, inclusion)
    except (VerificationError, ValueError):
        message = "the records of the stream differ from the head in the log; verify the ledger"
        raise VerificationError(message, code="head_mismatch") from None
    return proof.to_bytes()


def find_record(directory: PathLike, record: Wanted) -> AnyRecord:
    """Return a record of the ledger, without proving it.

    Args:
        directory: The evidence directory.
        record: The id of the record; or its stream and its place in it, from 1.

    Raises:
        VerificationError: The bytes in its place are malformed (``malformed_record``).
        ConfigurationError: There is no such directory or record.
    """
    reader, root = _reader(directory)
    data = _Search(reader, root, None).find(record).data
    try:
        return decode(data)
    except ValueError as error:
        raise VerificationError(str(error), code="malformed_record") from None


def prove_growth(directory: PathLike, earlier: bytes | PathLike) -> bytes:
    """Return the proof file that the log of a ledger continues the state in an earlier checkpoint.

    Args:
        directory: The evidence directory.
        earlier: A checkpoint of it that was kept elsewhere, as note or path.

    Raises:
        VerificationError: The log does not continue it: the ledger was put back, or has another history
            (``rolled_back``); or it contradicts its own checkpoint.
        ConfigurationError: The directory or the checkpoint cannot be read.
    """
    old = unverified_checkpoint(kept_note(earlier))
    reader, _ = _reader(directory)
    log = _Log(reader)
    new = log.checkpoint
    if new.origin != old.origin:
        raise VerificationError("the checkpoint is of another log", code="wrong_origin")
    if new.size < old.size:
        message = f"the checkpoint of the ledger covers {new.size:,} of at least {counted(old.size, 'entry')}"
        raise VerificationError(message, code="rolled_back")
    ranges = consistency_ranges(old.size, new.size) if old.size else ()
    hashes = range_roots(log.leaves(), ranges)
    try:
        if old.size:
            verify_consistency(hashes, old_size=old.size, old_root=old.root, new_size=new.size, new_root=new.root)
    except VerificationError:
        log.verify()
        message = (
            f"the first {counted(old.size, 'entry')} of the log differ from those of the checkpoint kept elsewhere"
        )
        raise VerificationError(message, code="rolled_back") from None
    return GrowthProof(old.size, hashes, log.note).to_bytes()


def _reader(directory: PathLike) -> tuple[LedgerReader, str]:
    root = directory_of(directory)
    if root is None:
        raise ConfigurationError("the path is not an evidence directory; name the one of the enforcer")
    return whole(open_ledger(root)), root


@final
@dataclass(frozen=True, slots=True)
class _Found:
    """A record in its stream; ``place`` is the number of the records before it."""

    stream: str
    place: int
    data: bytes


@final
class _Search:
    """Searches the streams for one record."""

    def __init__(self, reader: LedgerReader, root: str, progress: Progress | None) -> None:
        self._reader = reader
        self._root = root
        self._progress = progress

    def find(self, wanted: Wanted) -> _Found:
        if isinstance(wanted, str):
            streams, described = self._reader.streams(), "with this id"
        else:
            stream, seq = wanted
            if not is_stream_id(stream) or seq < 1:
                raise ConfigurationError(
                    "the stream or place is malformed; give the id of a stream and a place from 1, as "
                    "agent-identity show prints them"
                )
            streams, described = (stream,), "at this place"
        total = size_of_ledger(self._reader, streams) if self._progress else 0
        done = 0
        for stream in streams:
            offset = 0
            for place, line in enumerate(self._reader.entries(stream)):
                offset = line.offset
                if self._progress is not None and not place % _TICK:
                    self._progress(done + offset, total)
                if line.record is not None and _is_wanted(wanted, place, line.record):
                    return _Found(stream, place, line.record)
            done += offset
        raise ConfigurationError(f"the ledger has no record {described}; agent-identity show lists them")


def _is_wanted(wanted: Wanted, place: int, data: bytes) -> bool:
    if not isinstance(wanted, str):
        return place + 1 == wanted[1]
    if wanted.encode(errors="replace") not in data:  # Rules out most records without parsing.
        return False
    try:
        return plain_members(data).get("id") == wanted
    except ValueError:
        return False


@final
class _Log:
    """The log of a ledger as far as its checkpoint covers it."""

    def __init__(self, reader: LedgerReader) -> None:
        self._reader = reader
        note = reader.checkpoint()
        if note is None:
            raise VerificationError("log/checkpoint is missing or cannot be read", code="no_checkpoint")
        # It is printed later, and its signature lines are not checked yet.
        if not note.decode("utf-8", "replace").replace("\n", "").isprintable():
            raise VerificationError("the checkpoint has characters that cannot be printed", code="bad_checkpoint")
        self.note = _with_cosignatures(note, reader.witnessed())
        self.checkpoint: Checkpoint = unverified_checkpoint(note)

    def entries(self) -> Iterator[bytes]:
        """Yield the entries under the checkpoint.

        Raises:
            VerificationError: The log has fewer entries.
        """
        yield from _whole(self._reader.log_entries(), self.checkpoint.size, "log_cut")

    def leaves(self) -> Iterator[bytes]:
        return map(leaf_hash, self.entries())

    def verify(self) -> None:
        """Check that the entries re-derive the checkpoint.

        Raises:
            VerificationError: The entries differ (``log_changed``).
        """
        if CompactRange(self.leaves()).root() != self.checkpoint.root:
            raise VerificationError(
                "the entries of the log differ from those under the checkpoint; verify the ledger",
                code="log_changed",
            )

    def first_cover(self, target: _Found) -> tuple[int, bytes, Head]:
        """Return the first entry that covers a record: its number from 0, bytes and content.

        Raises:
            VerificationError: No entry covers it (``tail_unsealed``).
        """
        name = target.stream.encode()
        for number, entry in enumerate(self.entries()):
            if name not in entry:
                continue
            try:
                head, _ = Head.from_entry(entry)
            except ValueError:
                continue
            if head.stream == target.stream and head.size > target.place:
                return number, entry, head
        raise VerificationError(
            "the checkpoint is older than the record; its process seals it, or the next start does",
            code="tail_unsealed",
        )

    def inclusion(self, number: int) -> LogProof:
        """Return the proof that the entry with this number, from 0, is in the log.

        Raises:
            VerificationError: The log contradicts its checkpoint.
        """
        self.verify()
        hashes = range_roots(self.leaves(), inclusion_ranges(number, self.checkpoint.size))
        return LogProof(number, hashes, self.note)


def _leaves(reader: LedgerReader, head: Head) -> Iterator[bytes]:
    return map(leaf_hash, _whole(reader.entries(head.stream), head.size, "records_cut"))


def _whole(lines: Iterator[RawLine], size: int, code: str) -> Iterator[bytes]:
    """Yield the content of the first ``size`` lines.

    Raises:
        VerificationError: There are fewer lines, or one of them is malformed.
    """
    read = 0
    while read < size:
        line = next(lines, None)
        if line is None or line.record is None:
            message = f"a gap follows {read:,} of the {counted(size, 'line')} that the checkpoint commits to"
            raise VerificationError(f"{message}; verify the ledger", code=code)
        read += 1
        yield line.record


def _with_cosignatures(note: bytes, witnessed: Iterator[bytes]) -> bytes:
    """Return a checkpoint with the cosignatures of witnesses under the same text."""
    text, _, signatures = note.rpartition(b"\n\n")
    lines = dict.fromkeys(signatures.splitlines(keepends=True))
    for other in witnessed:
        covered, _, more = other.rpartition(b"\n\n")
        if covered == text and more.decode("utf-8", "replace").replace("\n", "").isprintable():
            lines |= dict.fromkeys(more.splitlines(keepends=True))
    whole = text + b"\n\n" + b"".join(lines)
    return whole if len(whole) <= MAX_NOTE else note
