"""Read-only access to the state of a directory through a private copy."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from agent_identity._authority.stores.memory import MemoryState
from agent_identity._authority.stores.protocol import StateStore
from agent_identity._authority.stores.sqlite import SqliteState, plain_connection
from agent_identity._identity.common.private_files import is_there
from agent_identity.errors import StateError

if TYPE_CHECKING:
    import sqlite3

_TIMEOUT = 5.0


@contextlib.contextmanager
def copied_state(folder: str | os.PathLike[str]) -> Generator[StateStore]:
    """Yield a private copy of the state of a directory; work on it never changes the directory.

    Args:
        folder: The folder ``state`` of the directory; a missing one has an empty state.

    Raises:
        StateError: It cannot be read.
    """
    source = Path(folder) / "state.sqlite"
    try:
        there = is_there(source)
    except OSError as error:
        raise _unreadable(source, error.strerror) from None
    if not there:
        yield MemoryState()
        return
    with tempfile.TemporaryDirectory(prefix="agent-identity-") as copied:
        target = Path(copied) / source.name
        _copy(source, target)
        with contextlib.closing(SqliteState(target)) as state:
            yield state


def _copy(source: Path, target: Path) -> None:
    """Copy the database at one moment, without creating a file beside it."""
    import sqlite3  # Most programs never need it.

    journal, shared = (source.with_name(f"{source.name}{suffix}") for suffix in ("-wal", "-shm"))
    try:
        for path in (source, journal, shared):
            if is_there(path) and not stat.S_ISREG(path.lstat().st_mode):  # To open a pipe would take forever.
                raise _unreadable(path, "no regular file")
        target.touch(0o600)
        if journal.exists() and not shared.exists():  # No one uses it: a killed process, or a copy, left both files.
            shutil.copyfile(source, target)
            shutil.copyfile(journal, target.with_name(journal.name))
            return
        mode = "mode=ro" if shared.exists() else "mode=ro&immutable=1"
        with contextlib.closing(plain_connection(f"{source.absolute().as_uri()}?{mode}", _TIMEOUT)) as opened:
            _back_up(opened, target)
    except (OSError, sqlite3.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _unreadable(source, why) from None


def _unreadable(path: Path, why: str | None) -> StateError:
    return StateError(f"the state at {str(path)!r} cannot be read ({why}); check its mode and owner")


def _back_up(opened: "sqlite3.Connection", target: Path) -> None:
    with contextlib.closing(plain_connection(target.absolute().as_uri(), _TIMEOUT)) as copy:
        opened.backup(copy)
