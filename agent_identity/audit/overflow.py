"""What a verification has to remember of a large source goes to the disk, so that memory does not grow with it."""

import sqlite3
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final, final

from agent_identity.audit.scratch import private_file, room_for

__all__ = ["Overflow"]

_CACHE_KIB: Final = 8_192
_room: Final = partial(room_for, "about 4 KiB for each task that is verified")
# Values stand one behind the other, as they came; what is searched and sorted is small.
_TABLES: Final = (
    "CREATE TABLE kept (place INTEGER PRIMARY KEY, key BLOB NOT NULL, number INTEGER NOT NULL, value BLOB NOT NULL)",
    "CREATE TABLE places (key BLOB PRIMARY KEY, place INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX numbers ON kept (number)",
)
_PLACE: Final = "INSERT INTO places VALUES (?, ?) ON CONFLICT DO NOTHING"
_KEEP: Final = "INSERT OR REPLACE INTO kept SELECT place, key, ?, ? FROM places WHERE key = ?"
_FIND: Final = "SELECT number, value FROM places JOIN kept USING (place) WHERE places.key = ?"
_HAS: Final = "SELECT 1 FROM places WHERE key = ?"
_FORGET: Final = (
    "DELETE FROM kept WHERE place = (SELECT place FROM places WHERE key = ?)",
    "DELETE FROM places WHERE key = ?",
)


@final
class Overflow:
    """Values by key in a file that nobody else sees and that is gone with the process.

    The file is made with the first value, in the folder for temporary files (``SQLITE_TMPDIR``, ``TMPDIR``).
    """

    def __init__(self) -> None:
        self._open: sqlite3.Connection | None = None
        self._count = self._next = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: bytes) -> bool:
        """Return whether there is a value with a key, without reading it.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        if not self._count:
            return False
        with _room():
            return self._file().execute(_HAS, (key,)).fetchone() is not None

    def put(self, items: Iterable[tuple[bytes, int, bytes]]) -> None:
        """Keep values, each with its key and a number that orders them; a value with a key that is there replaces it.

        Raises:
            ConfigurationError: There is no room for them.
        """
        with _room(), self._file() as file:
            rows, first, before = list(items), self._next, file.total_changes
            self._next += len(rows)
            file.execute("BEGIN")  # Each row by itself would cost twice as much.
            file.executemany(_PLACE, ((key, place) for place, (key, _, _) in enumerate(rows, first)))
            self._count += file.total_changes - before
            file.executemany(_KEEP, ((number, value, key) for key, number, value in rows))

    def get(self, key: bytes) -> tuple[int, bytes] | None:
        """Return number and value of a key, or ``None`` if there is none.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        if not self._count:
            return None
        with _room():
            row = self._file().execute(_FIND, (key,)).fetchone()
        return None if row is None else (row[0], row[1])

    def pop(self, key: bytes) -> tuple[int, bytes] | None:
        """Return number and value of a key and keep them no longer; ``None`` if there is none.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        found = self.get(key)
        if found is not None:
            with _room():
                for statement in _FORGET:
                    self._file().execute(statement, (key,))
            self._count -= 1
        return found

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Return keys and values in the order of their numbers; nothing may be kept meanwhile.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        if self._count:
            with _room():
                yield from self._file().execute("SELECT key, value FROM kept ORDER BY number")

    def _file(self) -> sqlite3.Connection:
        if self._open is None:
            self._open = private_file(self, *_TABLES, cache_kib=_CACHE_KIB)
        return self._open
