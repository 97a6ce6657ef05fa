"""The signed pruning statement of a stream: the proof that remains of removed records.

It lies beside the stream, as a signed note under the recorder key. With it the records after the border verify as
before: its compact range stands for the records before, and leads together with those that are left to the heads
that the log commits to. Without a signature that counts it says nothing, and the records are missing.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, Self, TypeAlias, final

from agent_identity._common.narrowing import is_array, is_object
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode, digest_of
from agent_identity._identity.common.ids import DIGEST_FORM
from agent_identity._identity.common.record_bytes import RecordValue, decode_record, encode_record
from agent_identity._identity.keys.cosigners import check_note_name as check_name
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._ledger.transparency.checkpoint import KnownKeys, open_note, sign_note
from agent_identity._ledger.transparency.merkle import CompactRange
from agent_identity._storage.layout import is_stream_id
from agent_identity._storage.lines import read_lines
from agent_identity._storage.os_files import READ, Files, open_regular
from agent_identity.errors import VerificationError

MAX_OPEN: Final = 1_024
"""Intents that may be open where a stream is cut."""

MAX_PEAKS: Final = 64
"""Hashes that a compact range may have."""

_TITLE: Final = (
    "agent-identity pruned v1\n"  # No origin has spaces: no checkpoint is taken for this, and none of these for one.
)
_HASH: Final = re.compile(DIGEST_FORM)
_TOKEN: Final = re.compile(rb"[A-Za-z0-9_.-]{1,65536}")
_COUNT: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_MEMBERS: Final = frozenset({"grants", "last", "log", "origin", "peaks", "size", "stream", "time"})

KeptState: TypeAlias = Literal["named", "missing", "changed"]
"""Comparison of the kept grants with the statement."""


@final
@dataclass(frozen=True, slots=True)
class Kept:
    """The kept grants: their number and the digest of their file, which is in its name.

    Attributes:
        count: Their number; without any there is no file.
        digest: The SHA-256 of the file.
    """

    count: int
    digest: str

    @classmethod
    def of(cls, tokens: Collection[str]) -> Self:
        """Return the description of these grants."""
        return cls(len(tokens), digest_of(grants_file(tokens)))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PruneStatement:
    """The pruned first records of a stream, described by position and root.

    Attributes:
        origin: The name of the log that commits to them.
        stream: The id of the stream.
        size: The number of pruned records: those from 1 to this place.
        last: The leaf hash of the last one.
        peaks: The compact range over them, the largest subtree first.
        open: The ids of the intents among them whose outcome was not, at most :data:`MAX_OPEN`.
        log_size: The number of entries under the checkpoint after which they were pruned.
        log_root: The root in that checkpoint.
        time_ns: When, in nanoseconds since the Unix epoch.
        kept: The kept grants.
    """

    origin: str
    stream: str
    size: int
    last: bytes
    peaks: tuple[bytes, ...]
    open: tuple[str, ...]
    log_size: int
    log_root: bytes
    time_ns: int
    kept: Kept

    @property
    def end(self) -> None:
        """No place, as the kept records reach to the end of the stream; an excerpt's part has one."""

    def tree(self) -> CompactRange:
        """Return the tree over the pruned records."""
        return CompactRange.of_peaks(self.size, self.peaks)

    def to_claim(self) -> dict[str, RecordValue]:
        """Return the statement in plain values."""
        claim: dict[str, RecordValue] = {
            "grants": {"count": str(self.kept.count), "digest": self.kept.digest},
            "last": b64url_encode(self.last),
            "log": {"root": b64url_encode(self.log_root), "size": str(self.log_size)},
            "origin": self.origin,
            "peaks": tuple(b64url_encode(peak) for peak in self.peaks),
            "size": str(self.size),
            "stream": self.stream,
            "time": str(self.time_ns),
        }
        if self.open:
            claim["open"] = self.open
        return claim

    @classmethod
    def from_claim(cls, claim: Mapping[str, object]) -> Self:
        """Return the statement of plain values.

        Raises:
            ValueError: They make none.
        """
        if not _MEMBERS <= claim.keys() <= _MEMBERS | {"open"}:
            raise ValueError("the members are not those of a pruning statement")
        log = claim["log"]
        if not is_object(log) or set(log) != {"root", "size"}:
            raise ValueError("the log does not have exactly root and size")
        origin, stream = _text(claim["origin"]), _text(claim["stream"])
        check_name(origin)
        opened = texts_of(claim.get("open", ()), MAX_OPEN)
        if not is_stream_id(stream) or not all(map(is_stream_id, opened)):
            raise ValueError("the stream or an open intent is not an id")
        statement = cls(
            origin=origin,
            stream=stream,
            size=count_of(claim["size"]),
            last=hash_of(claim["last"]),
            peaks=tuple(map(hash_of, texts_of(claim["peaks"], MAX_PEAKS))),
            open=opened,
            log_size=count_of(log["size"]),
            log_root=hash_of(log["root"]),
            time_ns=count_of(claim["time"]),
            kept=_kept(claim["grants"]),
        )
        if not statement.size:
            raise ValueError("the statement covers no record")
        statement.tree()
        return statement


def sign_pruned(pruned: PruneStatement, signer: Signer) -> bytes:
    """Return the statement as a note signed by the recorder key."""
    return sign_note(f"{_TITLE}{encode_record(pruned.to_claim()).decode()}\n", pruned.origin, signer)


def unverified_pruned(note: bytes) -> PruneStatement:
    """Return the content of a statement without verifying its signature.

    Raises:
        VerificationError: The bytes are no such statement (``bad_pruning``).
    """
    text = note.decode(errors="replace").rpartition("\n\n")[0]
    if not text.startswith(_TITLE):
        raise VerificationError("the bytes are not a pruning statement", code="bad_pruning")
    try:
        return PruneStatement.from_claim(decode_record(text.removeprefix(_TITLE).encode()))
    except ValueError as error:
        raise VerificationError(f"malformed pruning statement: {error}", code="bad_pruning") from None


def open_pruned(note: bytes, keys: Sequence[PublicKey] | KnownKeys) -> tuple[PruneStatement, tuple[PublicKey, ...]]:
    """Return the verified statement and the known keys that signed it.

    Raises:
        VerificationError: It is malformed (``bad_pruning``, ``bad_note``), changed (``bad_signature``), or signed by
            no known key (``unknown_key``).
    """
    pruned = unverified_pruned(note)
    return pruned, open_note(note, {pruned.origin: keys}).signers


def grants_file(tokens: Iterable[str]) -> bytes:
    """Return the file of kept grants: one a line, in their order."""
    return "".join(f"{token}\n" for token in sorted(tokens)).encode()


def read_kept(files: Files, path: str, kept: Kept) -> tuple[tuple[str, ...], KeptState]:
    """Return the grants that a statement names, all of them or none, and the problem with their file.

    Raises:
        OSError: The file cannot be read.
    """
    count, digest = 0, hashlib.sha256()
    try:
        # Only a file that is the one that was named is taken into memory, whatever its size.
        for token in _tokens(files, path):
            if token is None or count == kept.count:
                return (), "changed"
            count += 1
            digest.update(token + b"\n")
    except FileNotFoundError:
        return (), "missing" if kept.count else "named"
    if count < kept.count:
        return (), "missing"
    if b64url_encode(digest.digest()) != kept.digest:
        return (), "changed"
    again = (token for token in _tokens(files, path) if token is not None)
    tokens = tuple(token.decode() for token in islice(again, count))
    return (tokens, "named") if Kept.of(tokens) == kept else ((), "changed")


def _tokens(files: Files, path: str) -> Iterator[bytes | None]:
    """Return the tokens in a file of grants, and ``None`` for each other line."""
    fd = open_regular(files, path, READ)
    try:
        for line in read_lines(files, fd):
            yield line.data if line.data is not None and _TOKEN.fullmatch(line.data) else None
    finally:
        files.close(fd)


def _kept(value: object) -> Kept:
    if not is_object(value) or set(value) != {"count", "digest"}:
        raise ValueError("the kept grants do not have exactly count and digest")
    return Kept(count_of(value["count"]), b64url_encode(hash_of(value["digest"])))


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueError("a value is not text")
    return value


def texts_of(value: object, most: int) -> tuple[str, ...]:
    """Return the texts in an untrusted array.

    Raises:
        ValueError: It is no array, has other items than texts, or more than ``most`` of them.
    """
    if not is_array(value) or len(value) > most:
        raise ValueError(f"a value is not an array of at most {most} items")
    return tuple(map(_text, value))


def count_of(value: object) -> int:
    """Return the number in an untrusted text.

    Raises:
        ValueError: It is no decimal number of at most 19 digits in its one spelling.
    """
    if not _COUNT.fullmatch(text := _text(value)):
        raise ValueError("a value is not a decimal number")
    return int(text)


def hash_of(value: object) -> bytes:
    """Return the hash in an untrusted text.

    Raises:
        ValueError: It is not 43 base64url characters.
    """
    if not _HASH.fullmatch(text := _text(value)):
        raise ValueError("a value is not 43 base64url characters")
    return b64url_decode(text)
