"""Client of C2SP tlog-witness: gets checkpoints cosigned over an injected HTTP function."""

import contextlib
import hashlib
import re
from collections.abc import Callable
from typing import Final, final

from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._ledger.transparency._log_tree import LogTree
from agent_identity._ledger.transparency.checkpoint import Checkpoint, open_note
from agent_identity._ledger.transparency.log import read_checkpoint, unverified_checkpoint
from agent_identity._ledger.transparency.witness import request_for
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import EDIT, Files, locked, open_regular, recording, write_beside
from agent_identity.errors import EvidenceError, VerificationError

__all__ = ["WitnessClient", "cosigned_file"]

_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_ATTEMPTS: Final = 3  # The witness may get checkpoints of other processes between the answer and the next question.


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
