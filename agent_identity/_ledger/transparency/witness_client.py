"""Client of C2SP tlog-witness: gets checkpoints cosigned over an injected HTTP function.

The proof over the log takes 32 bytes of memory for each 256 entries. Nothing that it reads was authenticated: a proof
over other bytes than the log signed leads to another root.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Final, final

from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._ledger.transparency.checkpoint import Checkpoint, open_note
from agent_identity._ledger.transparency.log import read_checkpoint, unverified_checkpoint
from agent_identity._ledger.transparency.merkle import CompactRange, consistency_of, leaf_hash, node_hash
from agent_identity._ledger.transparency.witness import request_for
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import log_parts, read_lines
from agent_identity._storage.os_files import EDIT, READ, Files, locked, open_regular, recording, write_beside
from agent_identity.errors import EvidenceError, VerificationError

_BLOCK: Final = 256
"""Leaves of which only the root and the place are kept; a power of two, so that the blocks are subtrees."""

_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_ATTEMPTS: Final = 3  # The witness may get checkpoints of other processes between the answer and the next question.


@final
class LogTree:
    """The Merkle tree over the lines of ``log/entries.jsonl``, read on as it grows. One thread at a time uses it."""

    def __init__(self, files: Files, layout: Layout) -> None:
        self._files = files
        self._path = layout.log_entries
        self._roots: list[bytes] = []  # Of the full blocks.
        self._places: list[int] = [0]  # The byte at which each block begins, and the one after the last.
        self._rest: list[bytes] = []  # The leaves after the last full block.
        self._end = 0

    @property
    def size(self) -> int:
        """The number of entries read so far."""
        return len(self._roots) * _BLOCK + len(self._rest)

    def read_on(self) -> None:
        """Read the entries appended since the last time.

        Raises:
            OSError: The log cannot be read.
        """
        for leaf, end in self._leaves(self._end):
            self._rest.append(leaf)
            self._end = end
            if len(self._rest) == _BLOCK:
                self._roots.append(CompactRange(self._rest).root())
                self._places.append(end)
                self._rest = []

    def root(self, size: int) -> bytes:
        """Return the root over the first ``size`` entries, at most those read so far.

        Raises:
            OSError: The log cannot be read.
        """
        return self._range_root(0, size)

    def consistency(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree over ``size`` entries continues the one over ``old_size`` (RFC 6962 §2.1.2).

        Raises:
            OSError: The log cannot be read.
            ValueError: ``old_size`` is not from 1 to ``size``.
        """
        return consistency_of(self._range_root, old_size, size)

    def _range_root(self, start: int, stop: int) -> bytes:
        full = len(self._roots)
        first, last = start // _BLOCK, stop // _BLOCK
        if not start % _BLOCK and not stop % _BLOCK and last <= full:
            return CompactRange(self._roots[first:last]).root()
        if stop - start <= _BLOCK:
            # No subtree of this size reaches over the end of a block.
            return CompactRange(self._block(first)[start - first * _BLOCK : stop - first * _BLOCK]).root()
        middle = start + (1 << ((stop - start - 1).bit_length() - 1))
        return node_hash(self._range_root(start, middle), self._range_root(middle, stop))

    def _block(self, number: int) -> list[bytes]:
        if number >= len(self._roots):
            return self._rest
        return [leaf for leaf, _ in zip(self._leaves_of(number), range(_BLOCK), strict=False)]

    def _leaves_of(self, number: int) -> Iterator[bytes]:
        return (leaf for leaf, _ in self._leaves(self._places[number]))

    def _leaves(self, start: int) -> Iterator[tuple[bytes, int]]:
        fd = open_regular(self._files, self._path, READ)
        try:
            for line in read_lines(self._files, fd, start):
                parts = None if line.torn or line.data is None else log_parts(line.data)
                if parts is None:
                    return  # What follows is no part of the log yet, or is broken; then no root fits.
                yield leaf_hash(parts[0]), line.end
        finally:
            self._files.close(fd)


def cosigned_file(layout: Layout, witness: Cosigner) -> str:
    """Return the path of the latest checkpoint that a witness cosigned."""
    return f"{layout.witnesses}/{hashlib.sha256(witness.vkey.encode()).hexdigest()[:16]}.checkpoint"


@final
class WitnessClient:
    """Requests cosignatures for checkpoints of a directory, and stores the latest in ``log/witnesses``.

    Args:
        files: The operating system.
        layout: The directory.
        witness: The expected cosigner.
        post: Posts a body to the witness and returns status and body of the answer.
    """

    def __init__(
        self, files: Files, layout: Layout, witness: Cosigner, post: Callable[[bytes], tuple[int, bytes]]
    ) -> None:
        self._files = files
        self._layout = layout
        self._witness = witness
        self._post = post
        self._tree = LogTree(files, layout)
        self._known: int | None = None  # The size that the witness cosigned last.

    def __call__(self, note: bytes) -> None:
        """Request a cosignature, unless the witness knows a later checkpoint of the log.

        Raises:
            EvidenceError: The witness cannot be reached or refuses (``witness_refused``), or its answer cannot be kept.
        """
        with recording("have a checkpoint cosigned"):
            checkpoint = unverified_checkpoint(note)
            self._read_log(checkpoint)
            if self._known is None:
                self._known = self._last_known()
            cosigned = self._ask(note, checkpoint)
            if cosigned is not None:
                self._known = checkpoint.size
                self._keep(cosigned, checkpoint)

    def _read_log(self, checkpoint: Checkpoint) -> None:
        for _ in range(2):
            self._tree.read_on()
            if self._tree.size >= checkpoint.size and self._tree.root(checkpoint.size) == checkpoint.root:
                return
            # What was read before may have been a line that was torn, or the reading was cut in two by a fork.
            self._tree = LogTree(self._files, self._layout)
        raise EvidenceError("the log is not the one of the checkpoint; verify the directory")

    def _last_known(self) -> int:
        with contextlib.suppress(VerificationError):
            kept = read_checkpoint(self._files, cosigned_file(self._layout, self._witness))
            return 0 if kept is None else unverified_checkpoint(kept).size
        return 0

    def _ask(self, note: bytes, checkpoint: Checkpoint) -> bytes | None:
        """Return the checkpoint with the cosignature, or ``None`` if the witness knows a later one."""
        old = min(self._known or 0, checkpoint.size)
        for _ in range(_ATTEMPTS):
            proof = self._tree.consistency(old, checkpoint.size) if old else ()
            status, body = self._post(request_for(old, proof, note))
            if status == 200:
                return self._cosigned(note, body)
            size = _SIZE.fullmatch(body) if status == 409 else None
            if size is None:
                raise _refused(status)
            old = self._known = int(size[1])
            if old > checkpoint.size:
                self._refuse_shorter_log(old)
                return None
        raise _refused(409)

    def _refuse_shorter_log(self, size: int) -> None:
        """Refuse a log with fewer entries than the witness saw; all processes of the directory share its file."""
        self._tree.read_on()
        if self._tree.size < size:
            raise EvidenceError(
                f"the log has {self._tree.size:,} entries, but the witness saw {size:,}; the log was put "
                "back, verify the directory",
                code="witness_refused",
            )

    def _cosigned(self, note: bytes, lines: bytes) -> bytes:
        cosigned = note + lines
        try:
            open_note(cosigned, {}, [self._witness])
        except VerificationError:
            raise EvidenceError(
                "the witness did not return its cosignature over the checkpoint; compare its verifier key",
                code="witness_refused",
            ) from None
        return cosigned

    def _keep(self, note: bytes, checkpoint: Checkpoint) -> None:
        path = cosigned_file(self._layout, self._witness)
        self._files.mkdir(self._layout.witnesses, 0o755)
        lock_fd = open_regular(self._files, f"{self._layout.witnesses}/lock", EDIT)
        try:
            with locked(self._files, lock_fd):
                if self._last_known() > checkpoint.size:
                    return  # Another process was faster with a later one.
                write_beside(self._files, path, note)
        finally:
            self._files.close(lock_fd)


def _refused(status: int) -> EvidenceError:
    reasons = {
        400: "it does not understand the request",
        403: "it does not know the recorder key",
        404: "it does not know the log",
        409: "it has another checkpoint each time it is asked",
        422: "the log does not continue what it saw before, so somebody has a second history",
    }
    return EvidenceError(
        f"the witness refused with status {status}: {reasons.get(status, 'see what its operator says')}",
        code="witness_refused",
    )
