"""Proof files, which can be checked with the public keys and without the ledger.

That of one record is a proof file of C2SP (c2sp.org/tlog-proof) for the entry of the log that first covers the
record. Its ``extra`` data, canonical JSON, leads from the record to that entry: the record, the hashes of its
inclusion in the stream, the entry. That of a log that grew is the body of C2SP's ``add-checkpoint``
(c2sp.org/tlog-witness): the old size, the hashes, the new checkpoint.

Both come from outside: sizes are bounded, and each value has one accepted spelling.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self, final

from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.common.ids import DIGEST_FORM
from agent_identity._identity.common.record_bytes import RecordValue, decode_record, encode_record
from agent_identity._ledger.transparency.checkpoint import MAX_NOTE, MAX_SIZE, LogProof, format_proof, parse_proof
from agent_identity._ledger.transparency.merkle import HASH_SIZE
from agent_identity.errors import VerificationError

MAX_PROOF_BYTES: Final = 2 * 1024 * 1024
"""A proof file may have this many bytes; the largest record takes two thirds of it."""

_VERSION: Final = "1"
_MAX_HASHES: Final = 63
_MEMBERS: Final = frozenset({"entry", "hashes", "record", "v"})
_HASH: Final = re.compile(DIGEST_FORM)
_OLD: Final = re.compile(rb"old (0|[1-9][0-9]{0,18})")


@final
@dataclass(frozen=True, slots=True)
class RecordProof:
    """Proof that a record is in a log: complete except for the key, unverified.

    Attributes:
        record: The canonical bytes of the record.
        hashes: Its inclusion in its stream up to ``entry``, leaf to root; its place is in the record.
        entry: The entry of the log, canonical JSON: stream, size and root.
        log: The inclusion of the entry in the log, and the signed checkpoint.
    """

    record: bytes
    hashes: tuple[bytes, ...]
    entry: bytes
    log: LogProof

    @classmethod
    def of(cls, record: bytes, hashes: tuple[bytes, ...], entry: bytes, log: LogProof) -> Self:
        """Return the proof whose ``extra`` leads from the record to the entry.

        Raises:
            ValueError: Record or entry is not canonical.
        """
        extra: dict[str, RecordValue] = {
            "v": _VERSION,
            "record": decode_record(record),
            "hashes": [b64url_encode(value) for value in hashes],
            "entry": decode_record(entry),
        }
        return cls(record, hashes, entry, LogProof(log.index, log.hashes, log.note, encode_record(extra)))

    def to_bytes(self) -> bytes:
        """Return the file; its customary extension is ``.tlog-proof``."""
        return format_proof(self.log)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the proof in a file.

        Raises:
            VerificationError: The file is malformed, too large, or proves no record (``bad_proof``).
        """
        log = parse_proof(data, limit=MAX_PROOF_BYTES)
        try:
            record, hashes, entry = _taken_apart(log.extra)
        except ValueError as error:
            raise _bad_proof(str(error)) from None
        return cls(record, hashes, entry, log)


def _taken_apart(extra: bytes | None) -> tuple[bytes, tuple[bytes, ...], bytes]:
    if extra is None:
        raise ValueError("the extra data is missing, which leads from the record to the entry")
    fields = decode_record(extra)
    record, hashes, entry = (fields.get(name) for name in ("record", "hashes", "entry"))
    if fields.keys() != _MEMBERS or fields["v"] != _VERSION:
        raise ValueError(f"the members of the extra data are not entry, hashes, record and v {_VERSION}")
    if isinstance(record, dict) and isinstance(entry, dict) and isinstance(hashes, list):
        return encode_record(record), _hashes(hashes), encode_record(entry)
    raise ValueError("record and entry of the extra data are not objects, or hashes is not an array")


def _hashes(listed: Sequence[RecordValue]) -> tuple[bytes, ...]:
    texts = [text for text in listed if isinstance(text, str) and _HASH.fullmatch(text)]
    if len(listed) > _MAX_HASHES or len(texts) != len(listed):
        raise ValueError(f"the extra data has more than {_MAX_HASHES} hashes, or one in another form")
    return tuple(map(b64url_decode, texts))


@final
@dataclass(frozen=True, slots=True)
class GrowthProof:
    """Proof that a log continues an earlier state of it, unverified.

    Attributes:
        old_size: The number of entries of the earlier state.
        hashes: The consistency proof.
        note: The signed checkpoint of the later one.
    """

    old_size: int
    hashes: tuple[bytes, ...]
    note: bytes

    def to_bytes(self) -> bytes:
        """Return the file."""
        lines = [f"old {self.old_size}", *(b64encode(value).decode("ascii") for value in self.hashes)]
        return "\n".join(lines).encode("ascii") + b"\n\n" + self.note

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the proof in a file.

        Raises:
            VerificationError: The file is malformed or too large (``bad_proof``).
        """
        head, blank, note = data.partition(b"\n\n")
        first, *lines = head.split(b"\n", _MAX_HASHES + 1)
        old = _OLD.fullmatch(first)
        if not blank or old is None or int(old[1]) > MAX_SIZE or len(note) > MAX_NOTE:
            raise _bad_proof("it is not a line 'old <number>', hashes, a blank line and a checkpoint")
        if len(lines) > _MAX_HASHES:
            raise _bad_proof(f"it has more than {_MAX_HASHES} hashes")
        return cls(int(old[1]), tuple(map(_hash, lines)), note)


def _hash(line: bytes) -> bytes:
    try:
        value = b64decode(line, validate=True)
    except ValueError:
        value = b""
    if len(value) != HASH_SIZE or b64encode(value) != line:
        raise _bad_proof(f"a hash is not {HASH_SIZE} bytes in canonical base64")
    return value


def parse_proof_file(data: bytes) -> RecordProof | GrowthProof:
    """Return the proof in a file of either kind.

    Raises:
        VerificationError: The file is malformed or too large (``bad_proof``).
    """
    return GrowthProof.from_bytes(data) if data.startswith(b"old ") else RecordProof.from_bytes(data)


def _bad_proof(message: str) -> VerificationError:
    return VerificationError(f"malformed proof file: {message}", code="bad_proof")
