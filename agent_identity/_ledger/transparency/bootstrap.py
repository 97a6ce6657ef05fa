"""First step in a new directory: sign its empty log before it holds any record.

The checkpoint is there before the key of the MACs, before the first stream and before the first entry of the
log. So no crash leaves one of these without a checkpoint: a reader that finds them so knows that it was removed.
"""

import contextlib
import errno
from typing import Final

from agent_identity._identity.common.ids import bytes_of_id
from agent_identity._identity.keys.keys import Signer
from agent_identity._ledger.transparency.checkpoint import Checkpoint
from agent_identity._ledger.transparency.log import publish, read_checkpoint, signed_note, unverified_checkpoint
from agent_identity._ledger.transparency.merkle import EMPTY_ROOT
from agent_identity._storage.layout import Layout, is_stream_id
from agent_identity._storage.os_files import EDIT, EXTEND, READ, Files, locked, open_regular, sync_folder
from agent_identity.errors import ConfigurationError, VerificationError

_NO_FILE: Final = frozenset({None, errno.ELOOP, errno.ENXIO})
"""System errors for a folder or device, for a link, and for a socket."""


def sign_empty_log(files: Files, layout: Layout, *, signer: Signer, origin: str) -> None:
    """Sign the empty log of a new directory.

    Killed at any moment, this leaves a directory in which the next start does the same. Of a directory that
    was used and has no checkpoint, the next seal says so.

    Args:
        files: The operating system.
        layout: The evidence directory, whose folders exist.
        signer: The recorder key.
        origin: The name of the log.

    Raises:
        EvidenceError: The signer failed.
        OSError: The directory cannot be read or written.
    """
    if not _is_fresh(files, layout):
        return  # Without the lock, which a sealing process may hold.
    lock_fd = open_regular(files, layout.log_lock, EDIT)
    try:
        with locked(files, lock_fd):
            if _is_fresh(files, layout):
                # Once in the life of a directory the disk is waited for, lest its streams survive a power loss and
                # the checkpoint does not, or a checkpoint and the name of the log's file does not.
                files.close(open_regular(files, layout.log_entries, EXTEND))
                publish(files, layout, signed_note(Checkpoint(origin, 0, EMPTY_ROOT), signer), durable=True)
                sync_folder(files, layout.root)
    finally:
        files.close(lock_fd)


def check_origin(files: Files, layout: Layout, origin: str) -> None:
    """Check that the log of a directory, if it has a checkpoint, has this origin.

    Raises:
        ConfigurationError: It has another one.
        OSError: The checkpoint cannot be read.
    """
    data = read_checkpoint(files, layout.checkpoint)
    with contextlib.suppress(VerificationError):  # Sealing says what is wrong with it, and refuses.
        if data is not None and unverified_checkpoint(data).origin != origin:
            raise ConfigurationError(
                f"the log in {layout.root!r} has another origin; open the directory with the origin it "
                "was made with, or use another directory"
            )


def log_was_removed(files: Files, layout: Layout) -> bool:
    """Return whether a directory was used and has no checkpoint.

    Raises:
        OSError: This cannot be told.
    """
    # In this order, because a process may be making both meanwhile.
    return _was_used(files, layout) and read_checkpoint(files, layout.checkpoint) is None


def stream_names(files: Files, layout: Layout) -> tuple[str, ...]:
    """Return the ids of the streams that have a folder, sorted, which is the order of their start.

    Raises:
        OSError: They cannot be listed.
    """
    return tuple(sorted(filter(is_stream_id, files.listdir(layout.streams)), key=bytes_of_id))


def _is_fresh(files: Files, layout: Layout) -> bool:
    return not _was_used(files, layout) and read_checkpoint(files, layout.checkpoint) is None


def _was_used(files: Files, layout: Layout) -> bool:
    """Return whether the directory has files that no start makes before the log has a checkpoint."""
    with contextlib.suppress(FileNotFoundError):
        if stream_names(files, layout):
            return True
    # Keys that are kept elsewhere outlive the directory, as on the empty volume of a container that starts again.
    with contextlib.suppress(FileNotFoundError):
        if layout.keys_inside and layout.ledger_key.rpartition("/")[2] in files.listdir(layout.keys):
            return True
    try:
        fd = open_regular(files, layout.log_entries, READ)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in _NO_FILE:
            return True  # What is no file is no entries, and none of our doing.
        raise  # It cannot be told: to take it for used now would be held against the log for good.
    try:
        return files.status(fd).st_size > 0
    finally:
        files.close(fd)
