"""The time-stamps of an evidence directory, as anchors store them and a verifier finds them."""

import hashlib
import os
from pathlib import Path
from typing import final

from agent_identity._identity.common.private_files import PathLike, check_path, create_public_file
from agent_identity._ledger.transparency.log import unverified_checkpoint
from agent_identity._storage.layout import Layout
from agent_identity.errors import ConfigurationError, EvidenceError


@final
class TimestampFolder:
    """Stores time-stamps over checkpoints of a directory, in ``log/anchors``; for anchors of any kind.

    Args:
        directory: The evidence directory.

    Raises:
        ConfigurationError: The directory is no path.
    """

    def __init__(self, directory: PathLike) -> None:
        check_path(directory)
        self._folder = Path(os.fspath(Layout.of(directory).anchors))

    def size(self, note: bytes) -> int:
        """Return the number of entries under a signed checkpoint, without verifying its signature.

        Args:
            note: The checkpoint.

        Raises:
            VerificationError: The bytes are no checkpoint.
        """
        return unverified_checkpoint(note).size

    def keep(self, note: bytes, token: bytes) -> None:
        """Store a time-stamp.

        Args:
            note: The checkpoint.
            token: What proves its time to the ``timestamps=`` of a :class:`~agent_identity.Verifier`.

        Raises:
            EvidenceError: It cannot be stored.
            VerificationError: The bytes are no checkpoint.
        """
        name = f"{self.size(note):019d}-{hashlib.sha256(token).hexdigest()[:16]}"
        try:
            self._folder.mkdir(mode=0o755, exist_ok=True)
            for suffix, data in ((".checkpoint", note), (".tsr", token)):
                create_public_file(self._folder / f"{name}{suffix}", data)
        except OSError as error:
            raise EvidenceError(f"cannot store the time-stamp: '{error.strerror or error}'") from error
        except ConfigurationError as error:
            raise EvidenceError(str(error)) from None
