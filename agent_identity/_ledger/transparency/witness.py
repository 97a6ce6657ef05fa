"""A witness (C2SP tlog-witness): stores the latest state of each log and cosigns only its continuations.

This is the part that decides; HTTP is around it in ``agent-identity witness``.
"""

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, final

from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.encoding import b64_decode, b64_encode
from agent_identity._identity.common.private_files import (
    PathLike,
    check_path,
    create_private_file,
    read_private_file,
    replace_private_file,
)
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._ledger.transparency._cosignatures import cosign
from agent_identity._ledger.transparency.checkpoint import MAX_NOTE, Checkpoint, Note, open_note
from agent_identity._ledger.transparency.log import unverified_checkpoint
from agent_identity._ledger.transparency.merkle import HASH_SIZE, verify_consistency
from agent_identity._storage.os_files import EDIT, Files, open_regular
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError, VerificationError

MAX_REQUEST: Final = MAX_NOTE + 4_096
"""Bytes that a request to a witness may have."""

_MAX_HASHES: Final = 63
_MAX_STATE: Final = 64 << 20
_NS: Final = 1_000_000_000


class Answer(NamedTuple):
    """The answer of a witness.

    Attributes:
        status: The status of HTTP.
        body: The body.
        kind: Its type.
    """

    status: Literal[200, 400, 403, 404, 409, 422]
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"


class AddCheckpoint(NamedTuple):
    """A request to cosign.

    Attributes:
        old_size: The size that the witness is thought to know.
        proof: That the checkpoint continues the tree of that size.
        note: The checkpoint.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes


_MALFORMED: Final = Answer(
    400,
    b"malformed; send an old size, a proof, an empty line and a checkpoint\n",
)


def request_for(old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """Return the body of a request to cosign a checkpoint."""
    lines = [f"old {old_size}", *map(b64_encode, proof)]
    return "\n".join(lines).encode("ascii") + b"\n\n" + note


def parse_request(body: bytes) -> AddCheckpoint:
    """Return the content of a request, unverified.

    Raises:
        ValueError: It has not the form that the protocol demands.
    """
    head, blank, note = body.partition(b"\n\n")
    if len(body) > MAX_REQUEST or not blank:
        raise ValueError(f"the request is larger than {MAX_REQUEST} bytes, or has no empty line before the checkpoint")
    first, *lines = head.decode("ascii").split("\n")
    size = first.removeprefix("old ")
    if first == size or not size.isdigit() or len(size) > 19 or str(int(size)) != size:
        raise ValueError("the first line is not 'old <size>'")
    if len(lines) > _MAX_HASHES:
        raise ValueError(f"the proof has more than {_MAX_HASHES} lines")
    proof = tuple(map(b64_decode, lines))
    if any(len(value) != HASH_SIZE for value in proof):
        raise ValueError(f"a hash is not {HASH_SIZE} bytes long")
    return AddCheckpoint(int(size), proof, note)


@final
class WitnessState:
    """The latest cosigned checkpoint of each log, in one synced file that is replaced atomically.

    Args:
        path: The file.
        new: Make it. Without this a missing file is refused: a witness that forgot what it saw signs a second history.

    Raises:
        ConfigurationError: The file is missing or damaged, another witness uses it, or it exists although a new one
            was asked for.
    """

    def __init__(self, path: PathLike, *, new: bool) -> None:
        self._path = path
        self._files = Files()
        self._lock_fd = self._locked()
        try:
            self._load(new=new)
        except BaseException:
            self.close()
            raise

    def _locked(self) -> int:
        """Take the lock beside the file; two witnesses over one state would forget each other's checkpoints."""
        check_path(self._path)
        try:
            fd = open_regular(self._files, f"{os.fspath(self._path)}.lock", EDIT, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the folder for the state of the witness cannot be used ({error.strerror or error}); "
                "choose another path"
            ) from error
        try:
            self._files.lock(fd)
        except BlockingIOError:
            self._files.close(fd)
            raise ConfigurationError("another process uses the state of the witness; stop that one first") from None
        return fd

    def close(self) -> None:
        """Release the state for another process."""
        self._files.close(self._lock_fd)

    def _load(self, *, new: bool) -> None:
        path = self._path
        if new:
            create_private_file(path, _written({}))
        try:
            content: JSON = json.loads(read_private_file(path, limit=_MAX_STATE))
            self._notes = _read(content)
        except (ValueError, RecursionError):
            raise ConfigurationError(
                "the state of the witness is damaged; restore it, or start a witness of another name"
            ) from None

    def get(self, origin: str) -> bytes | None:
        """Return the latest checkpoint of a log with the cosignature, or ``None``."""
        return self._notes.get(origin)

    def put(self, origin: str, note: bytes) -> None:
        """Store a checkpoint; once this returns, it is on disk.

        Raises:
            ConfigurationError: It could not be written; the one before is still remembered.
        """
        notes = {**self._notes, origin: note}
        replace_private_file(self._path, _written(notes))
        self._notes = notes


def _written(notes: Mapping[str, bytes]) -> bytes:
    logs = {origin: note.decode("utf-8") for origin, note in sorted(notes.items())}
    return (json.dumps({"version": "1", "logs": logs}, indent=1, ensure_ascii=False) + "\n").encode()


def _read(content: JSON) -> dict[str, bytes]:
    """Return the checkpoints of a state.

    Raises:
        ValueError: It is none.
    """
    members = content if isinstance(content, dict) else {}
    logs = members.get("logs")
    if members.keys() == {"version", "logs"} and members["version"] == "1" and isinstance(logs, dict):
        pairs = logs.items()
        notes = {origin: note.encode("utf-8") for origin, note in pairs if isinstance(note, str)}
        if len(notes) == len(pairs) and all(_is_of(origin, note) for origin, note in notes.items()):
            return notes
    raise ValueError("the state is not that of a witness")


def _is_of(origin: str, note: bytes) -> bool:
    try:
        return unverified_checkpoint(note).origin == origin
    except VerificationError:
        return False


@final
class Witness:
    """Decides which checkpoints to cosign. Safe to share between threads.

    Args:
        name: The name of the witness.
        key: Its key.
        logs: The logs that it knows, by origin.
        state: The latest checkpoints.
        clock: Tells the time of cosignatures.
    """

    def __init__(
        self, name: str, key: Signer, logs: Mapping[str, Sequence[PublicKey]], state: WitnessState, clock: Clock
    ) -> None:
        self.cosigner = Cosigner(name, key.public_key)
        self._key = key
        self._logs = dict(logs)
        self._state = state
        self._clock = clock
        self._turn = threading.Lock()

    def add_checkpoint(self, body: bytes) -> Answer:
        """Cosign a checkpoint if it continues the latest state of its log.

        1. The request has the form that the protocol demands (400).
        2. The origin is known (404), and a key of that log signed; none of its signatures fails (403).
        3. The size that the client names as known is at most that of the checkpoint (400), and is the one of the
           latest checkpoint that was cosigned (409, with the size that is).
        4. The proof shows that the checkpoint continues that one (422); between equal sizes the roots are equal.
        5. The checkpoint is remembered, on the disk, before the answer leaves.

        Raises:
            ConfigurationError: The state could not be written; nothing was cosigned.
        """
        try:
            request = parse_request(body)
            origin = request.note.partition(b"\n")[0].decode("utf-8")
        except ValueError:
            return _MALFORMED
        keys = self._logs.get(origin)
        if keys is None:
            return Answer(404, b"unknown log; add its key to the witness\n")
        try:
            note = open_note(request.note, {origin: tuple(keys)})
        except VerificationError as error:
            signed = error.code in {"bad_signature", "unknown_key"}
            return Answer(403, b"no valid signature by a key of the log\n") if signed else _MALFORMED
        try:
            checkpoint = Checkpoint.from_text(note.text)
        except VerificationError:
            empty = note.text.split("\n")[1] == "0"
            return Answer(422, b"size 0 has another root than the empty tree\n") if empty else _MALFORMED
        if request.old_size > checkpoint.size:
            return Answer(400, b"the old size is greater than that of the checkpoint\n")
        with self._turn:
            return self._cosign(request, checkpoint, note)

    def _cosign(self, request: AddCheckpoint, checkpoint: Checkpoint, note: Note) -> Answer:
        known = self._state.get(checkpoint.origin)
        latest = None if known is None else unverified_checkpoint(known)
        size = 0 if latest is None else latest.size
        if request.old_size != size:
            return Answer(409, b"%d\n" % size, "text/x.tlog.size")
        if not _continues(request.proof, latest, checkpoint):
            return Answer(422, b"the proof does not show that the checkpoint continues the latest one of its log\n")
        at = self._clock.wall_ns() // _NS
        line = cosign(note.text, self.cosigner.name, self._key, at=at)
        # Of the signatures only those that were verified, so that strangers cannot fill the state.
        self._state.put(checkpoint.origin, "".join((note.text, "\n", *note.lines, line)).encode("utf-8"))
        return Answer(200, line.encode("utf-8"))

    def logs(self) -> Sequence[str]:
        """Return the origins of the known logs."""
        return tuple(self._logs)

    def latest(self, origin_hash: str) -> bytes | None:
        """Return the latest cosigned checkpoint of the log whose origin has this SHA-256 in hex, or ``None``."""
        for origin in self._logs:
            if hashlib.sha256(origin.encode("utf-8")).hexdigest() == origin_hash:
                return self._state.get(origin)
        return None


def _continues(proof: Sequence[bytes], latest: Checkpoint | None, checkpoint: Checkpoint) -> bool:
    if latest is None or latest.size == 0:
        return not proof
    try:
        verify_consistency(
            proof, old_size=latest.size, old_root=latest.root, new_size=checkpoint.size, new_root=checkpoint.root
        )
    except VerificationError:
        return False
    return True
