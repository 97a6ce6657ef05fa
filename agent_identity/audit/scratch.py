"""Temporary databases: private to a verification, gone with it, and clear about a disk that is full."""

import contextlib
import sqlite3
import weakref
from collections.abc import Generator

from agent_identity.errors import ConfigurationError

__all__ = ["private_file", "room_for"]


def private_file(owner: object, *statements: str, cache_kib: int) -> sqlite3.Connection:
    """Return a database without a name: a file that nobody else sees, and that is deleted as soon as it is open.

    It is in the folder for temporary files (``SQLITE_TMPDIR``, ``TMPDIR``).

    Args:
        owner: With whom it is closed.
        statements: What makes its tables.
        cache_kib: KiB of it that stay in memory.
    """
    file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    weakref.finalize(owner, file.close)  # Whoever drops the one need not know of the other.
    file.execute(f"PRAGMA cache_size = -{cache_kib}")
    file.execute("PRAGMA journal_mode = OFF")
    for statement in statements:
        file.execute(statement)
    return file


@contextlib.contextmanager
def room_for(need: str) -> Generator[None]:
    """Say how to go on if the disk is full.

    Args:
        need: How much room is needed, in words.

    Raises:
        ConfigurationError: The database has failed.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise ConfigurationError(
            f"expected room for temporary files, {need}, got '{type(error).__name__}'; set TMPDIR to a folder with more"
        ) from None
