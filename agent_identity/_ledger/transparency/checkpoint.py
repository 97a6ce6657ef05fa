"""Signed statements about a log: C2SP signed notes, checkpoints and proof files.

A *note* is text with signatures below (c2sp.org/signed-note). A *checkpoint* is the note by which a log
commits to its size and root (c2sp.org/tlog-checkpoint). A *proof file* shows offline that an entry is in
the log of a checkpoint (c2sp.org/tlog-proof). Any tool of that ecosystem reads them.

What is read here comes from outside: sizes are bounded, and each value has one accepted spelling.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self, final

from agent_identity._identity.common.encoding import b64_decode, b64_encode
from agent_identity._identity.keys.cosigners import Cosigner, note_key_id, split_vkey
from agent_identity._identity.keys.cosigners import check_note_name as check_name
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._ledger.transparency._cosignatures import Cosignature, read_cosignature
from agent_identity._ledger.transparency.merkle import EMPTY_ROOT, HASH_SIZE
from agent_identity.errors import TokenError, VerificationError

MAX_NOTE: Final = 65_536
"""A note may have this many bytes."""

MAX_SIZE: Final = 2**63 - 1
"""A log may have this many entries, so that every reader's integers hold the number."""

_MAX_PROOF: Final = 2 * MAX_NOTE
_MAX_HASHES: Final = 63  # The depth of a tree of MAX_SIZE entries.
_ED25519: Final = b"\x01"
_SIGNATURE_LINE: Final = "— "
_PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_FORBIDDEN: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def _key_id(name: str, key: PublicKey) -> bytes:
    return note_key_id(name, _ED25519, key.raw)


def vkey(name: str, key: PublicKey) -> str:
    """Return the verifier key, the line by which note tools know a key: ``<name>+<key id>+<base64>``.

    Raises:
        ValueError: The name breaks a rule of :func:`check_name`.
    """
    check_name(name)
    return f"{name}+{_key_id(name, key).hex()}+{b64_encode(_ED25519 + key.raw)}"


def parse_vkey(text: str) -> tuple[str, PublicKey]:
    """Return the name and the key of a verifier key.

    Raises:
        ValueError: The text is no verifier key for Ed25519, or its key id is another key's.
    """
    name, key_id, kind, raw = split_vkey(text)
    if kind != _ED25519:
        raise ValueError("the verifier key is not of type 1 (Ed25519); copy the Ed25519 key of the log")
    key = PublicKey(raw)
    if key_id != _key_id(name, key).hex():
        raise ValueError("the key id is not that of this name and key; copy the verifier key again")
    return name, key


class Note(NamedTuple):
    """An opened note: at least one signature by a known key was verified, and none failed.

    Attributes:
        text: The signed text, ending in a newline.
        signers: The known keys that signed it.
        cosignatures: Statements of known cosigners about it.
        lines: The lines of the signatures that were verified, each with its newline.
    """

    text: str
    signers: tuple[PublicKey, ...]
    cosignatures: tuple[Cosignature, ...] = ()
    lines: tuple[str, ...] = ()


def sign_note(text: str, name: str, signer: Signer) -> bytes:
    """Return the text with the signature of one key below it.

    Args:
        text: Lines, the last one ended as well, without control characters.
        name: The name of the key; for checkpoints the origin of the log.
        signer: Signs the bytes of the text.

    Raises:
        ValueError: The text or the name breaks a rule, or the note would be larger than :data:`MAX_NOTE`.
    """
    check_name(name)
    if not text.endswith("\n") or _FORBIDDEN.search(text):
        raise ValueError("the text has a control character, or no newline at its end; correct the text")
    body = text.encode("utf-8")
    signature = _key_id(name, signer.public_key) + signer.sign(body)
    note = body + f"\n{_SIGNATURE_LINE}{name} {b64_encode(signature)}\n".encode()
    if len(note) > MAX_NOTE:
        raise ValueError(f"the note has {len(note)} bytes, more than {MAX_NOTE}; shorten its text")
    return note


@final
class KnownKeys:
    """Verification keys for many notes, cached by note name.

    Args:
        keys: The keys.
    """

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        self._keys = tuple(keys)
        self._named: tuple[str, Mapping[bytes, PublicKey]] | None = None

    def named(self, name: str) -> Mapping[bytes, PublicKey]:
        """Return the keys of a name by key id. Only the table of the last name is cached."""
        if self._named is None or self._named[0] != name:
            self._named = name, {_key_id(name, key): key for key in self._keys}
        return self._named[1]


def open_note(
    data: bytes, known: Mapping[str, PublicKey | Sequence[PublicKey] | KnownKeys], cosigners: Collection[Cosigner] = ()
) -> Note:
    """Return the note if a known key signed it.

    Signatures of unknown keys are ignored, as the format demands, so that witnesses can add theirs. A
    signature that claims a known key and does not verify is never ignored.

    Args:
        data: The note.
        known: The accepted keys by name; several where the key of a log was replaced, as :class:`KnownKeys` where many
            notes are opened.
        cosigners: Whose cosignatures are looked for; only a checkpoint has any (C2SP tlog-cosignature). They stand in
            for the signature of a known key only where no key is known at all.

    Raises:
        VerificationError: The note is malformed (``bad_note``), a signature of a known key or cosigner does not
            verify (``bad_signature``), no known key signed it (``unknown_key``), or cosigners are looked for on what
            is no checkpoint (``bad_checkpoint``).
    """
    text, lines = _split_note(data)
    keys = {name: _known(some).named(name) for name, some in known.items()}
    others = {(cosigner.name, cosigner.key_id): cosigner for cosigner in cosigners}
    if others:
        Checkpoint.from_text(text)
    state = _Found(text.encode("utf-8"))
    for line in lines:
        name, signature = _signature(line)
        key = keys.get(name, {}).get(signature[:4]) or others.get((name, signature[:4]))
        if key is None:
            continue
        try:
            state.take(key, signature[4:], line)
        except TokenError:
            raise VerificationError(
                "the signature of a known key does not fit the note; the note was changed", code="bad_signature"
            ) from None
    if not state.signers and (known or not state.cosignatures):
        raise VerificationError(
            "no known key signed the note; add the key of the log to the trust file",
            code="unknown_key",
        )
    return Note(text, tuple(state.signers), tuple(state.cosignatures), tuple(state.lines))


class _Found:
    """Verification state of the signatures of a note."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.signers: list[PublicKey] = []
        self.cosignatures: list[Cosignature] = []
        self.lines: list[str] = []

    def take(self, key: PublicKey | Cosigner, signature: bytes, line: str) -> None:
        """Verify a signature.

        Raises:
            TokenError: It does not fit.
        """
        if isinstance(key, PublicKey):
            key.verify(signature, self._body)
            self.signers.append(key)
        else:
            self.cosignatures.append(read_cosignature(key, signature, self._body))
        self.lines.append(f"{line}\n")


def _known(keys: PublicKey | Sequence[PublicKey] | KnownKeys) -> KnownKeys:
    if isinstance(keys, KnownKeys):
        return keys
    return KnownKeys((keys,) if isinstance(keys, PublicKey) else keys)


def _split_note(data: bytes) -> tuple[str, list[str]]:
    if len(data) > MAX_NOTE:
        raise _bad_note(f"it has {len(data)} bytes, more than {MAX_NOTE}")
    try:
        note = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad_note("it is not UTF-8") from None
    if _FORBIDDEN.search(note):
        raise _bad_note("it has a control character other than newline")
    text, blank, signatures = note.rpartition("\n\n")
    if not blank or not text or not signatures.endswith("\n"):
        raise _bad_note("it is not text, a blank line and signature lines, each ended by a newline")
    return text + "\n", signatures[:-1].split("\n")


def unverified_text(note: bytes) -> str:
    """Return the text of a note of which no signature is verified.

    Raises:
        VerificationError: It is malformed, in one of its signature lines perhaps (``bad_checkpoint``).
    """
    try:
        text, lines = _split_note(note)
        for line in lines:
            _signature(line)
    except VerificationError as error:
        raise VerificationError(str(error), code="bad_checkpoint") from None
    return text


def _signature(line: str) -> tuple[str, bytes]:
    """Return the key name, and the key id with the signature."""
    name, _, encoded = line.removeprefix(_SIGNATURE_LINE).partition(" ")
    try:
        check_name(name)
        signature = b64_decode(encoded)
    except ValueError as error:
        raise _bad_note(str(error)) from None
    if not line.startswith(_SIGNATURE_LINE) or len(signature) < 5:
        raise _bad_note("a signature line is not of the form '— <name> <base64>'")
    return name, signature


@final
@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed commitment of a log: the root of its first ``size`` entries.

    Args:
        origin: The name of the log.
        size: The number of entries, from 0 to :data:`MAX_SIZE`.
        root: The 32 bytes of the Merkle root.

    Attributes:
        extensions: Further signed lines, as they were read; we write none.

    Raises:
        ValueError: A value is out of range, or the empty log has another root than :data:`EMPTY_ROOT`.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        check_name(self.origin)
        if not 0 <= self.size <= MAX_SIZE:
            raise ValueError(f"the log size {self.size} is not from 0 to 2^63 - 1")
        if len(self.root) != HASH_SIZE:
            raise ValueError(f"the root has {len(self.root)} bytes instead of {HASH_SIZE}")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise ValueError("the root of a log of size 0 is not that of the empty tree")
        for line in self.extensions:
            if not line or "\n" in line or _FORBIDDEN.search(line):
                raise ValueError("an extension line is empty, or has a control character")

    def to_text(self) -> str:
        """Return the text to sign with :func:`sign_note`."""
        lines = (self.origin, str(self.size), b64_encode(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the checkpoint of the text of an opened note.

        Raises:
            VerificationError: The text is no checkpoint in its one spelling (``bad_checkpoint``).
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop():
            raise _bad_checkpoint("it does not begin with the lines origin, size and root, each ended by a newline")
        origin, size, root, *extensions = lines
        try:
            return cls(origin, _decimal(size), b64_decode(root), extensions=tuple(extensions))
        except ValueError as error:
            raise _bad_checkpoint(str(error)) from None


@final
@dataclass(frozen=True, slots=True)
class LogProof:
    """Proof that the entry at an index is in a log: complete except for the entry and the key.

    Args:
        index: The place of the entry, from 0.
        hashes: The inclusion proof, leaf to root.
        note: The signed checkpoint, not yet verified.
        extra: Data that the log adds for applications, not signed.

    Raises:
        ValueError: A value is out of range.
    """

    index: int
    hashes: tuple[bytes, ...]
    note: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_SIZE:
            raise ValueError(f"the index {self.index} is not from 0 to 2^63 - 2")
        if len(self.hashes) > _MAX_HASHES or any(len(value) != HASH_SIZE for value in self.hashes):
            raise ValueError(f"there are more than {_MAX_HASHES} hashes, or one is not {HASH_SIZE} bytes long")
        if len(self.note) > MAX_NOTE:
            raise ValueError(f"the checkpoint has {len(self.note)} bytes, more than {MAX_NOTE}")


def format_proof(proof: LogProof) -> bytes:
    """Return the proof file (c2sp.org/tlog-proof@v1); its customary extension is ``.tlog-proof``."""
    lines = [_PROOF_HEADER]
    if proof.extra is not None:
        lines.append(f"extra {b64_encode(proof.extra)}")
    lines.append(f"index {proof.index}")
    lines.extend(map(b64_encode, proof.hashes))
    return "\n".join(lines).encode("ascii") + b"\n\n" + proof.note


def parse_proof(data: bytes, *, limit: int = _MAX_PROOF) -> LogProof:
    """Return the content of a proof file, unverified.

    Args:
        data: The file.
        limit: Bytes that it may have; more than by default where a record travels in ``extra``.

    Verify it by :func:`open_note` on ``note``, :meth:`Checkpoint.from_text`, and
    :func:`verify_inclusion`.

    Raises:
        VerificationError: The file is malformed or too large (``bad_proof``).
    """
    if len(data) > limit:
        raise _bad_proof(f"it has {len(data)} bytes, more than {limit}")
    head, blank, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
        if not blank or lines.pop(0) != _PROOF_HEADER:
            raise _bad_proof(f"it is not '{_PROOF_HEADER}', lines, a blank line and a checkpoint")
        extra = b64_decode(lines.pop(0).removeprefix("extra ")) if lines and lines[0].startswith("extra ") else None
        if not lines or not lines[0].startswith("index "):
            raise _bad_proof("the line 'index <number>' is missing")
        index = _decimal(lines.pop(0).removeprefix("index "))
        return LogProof(index, tuple(map(b64_decode, lines)), note, extra)
    except ValueError as error:
        raise _bad_proof(str(error)) from None


def _decimal(text: str) -> int:
    if not _DECIMAL.fullmatch(text):
        raise ValueError("a number is not decimal without sign, spaces or leading zeros")
    return int(text)


def _bad_note(message: str) -> VerificationError:
    return VerificationError(f"malformed note: {message}", code="bad_note")


def _bad_checkpoint(message: str) -> VerificationError:
    return VerificationError(f"malformed checkpoint: {message}", code="bad_checkpoint")


def _bad_proof(message: str) -> VerificationError:
    return VerificationError(f"malformed proof file: {message}", code="bad_proof")
