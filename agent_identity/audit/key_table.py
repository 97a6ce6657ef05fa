"""What is kept of many spans, a few bytes each: beyond some ten thousand it is in a file that nobody else sees."""

import sqlite3
from collections.abc import Collection, Iterator
from functools import partial
from typing import Final, final

from agent_identity.audit.scratch import private_file, room_for

__all__ = ["KeyTable", "RowFile"]

_MAX_NEAR: Final = 20_000  # Entries in memory, of some 250 bytes each.
_AT_ONCE: Final = 500  # Keys in one question.
_CACHE_KIB: Final = 4_096
_room: Final = partial(room_for, "about 300 bytes for each record that is verified")


@final
class KeyTable:
    """Values by key, each put once.

    Keys that grow with time are quick: that one beyond all on the disk is not there, shows without a look at it.

    Args:
        group: So many bytes of a key name the group within which keys grow.
    """

    def __init__(self, group: int = 0) -> None:
        self._group = group
        self._near: dict[bytes, bytes] = {}
        self._highest: dict[bytes, bytes] = {}
        self._far: sqlite3.Connection | None = None

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or ``None`` if there is none.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        found = self._near.get(key)
        if found is not None or self._far is None or not self._may_be_far(key):
            return found
        with _room():
            row = self._far.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def found(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the values of those keys that are there.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        near = self._near
        found = {key: near[key] for key in keys if key in near}
        if self._far is None:
            return found
        far = [key for key in keys if self._may_be_far(key)]
        with _room():
            for first in range(0, len(far), _AT_ONCE):
                some = far[first : first + _AT_ONCE]
                asked = f"SELECT key, value FROM kept WHERE key IN ({','.join('?' * len(some))})"  # noqa: S608  Marks.
                found.update(self._far.execute(asked, some))
        return found

    def put(self, key: bytes, value: bytes) -> None:
        """Keep the value of a key that is not there yet.

        Raises:
            ConfigurationError: There is no room for it.
        """
        self._near[key] = value
        if len(self._near) > _MAX_NEAR:
            self._spill()

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Return keys and values in the order of the keys; nothing may be put meanwhile.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        if self._far is None:
            yield from sorted(self._near.items())
            return
        self._spill()
        with _room():
            yield from self._far.execute("SELECT key, value FROM kept ORDER BY key")

    def _may_be_far(self, key: bytes) -> bool:
        return key <= self._highest.get(key[: self._group], b"")

    def _spill(self) -> None:
        rows = sorted(self._near.items())
        with _room():
            if self._far is None:
                self._far = private_file(
                    self, "CREATE TABLE kept (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID", cache_kib=_CACHE_KIB
                )
            self._far.executemany("INSERT INTO kept VALUES (?, ?)", rows)
        for key, _ in rows:
            group = key[: self._group]
            self._highest[group] = max(key, self._highest.get(group, b""))
        self._near.clear()


@final
class RowFile:
    """Pairs of bytes in the order in which they came; the first of a pair may come several times."""

    def __init__(self) -> None:
        self._near: list[tuple[bytes, bytes]] = []
        self._far: sqlite3.Connection | None = None
        self._indexed = False

    def add(self, row: tuple[bytes, bytes]) -> None:
        """Keep a pair.

        Raises:
            ConfigurationError: There is no room for it.
        """
        self._near.append(row)
        if len(self._near) > _MAX_NEAR:
            self._spill()

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Return all pairs; none may be added meanwhile.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        if self._far is not None:
            with _room():
                yield from self._far.execute("SELECT key, value FROM kept ORDER BY rowid")
        yield from self._near

    def one(self, key: bytes, *, last: bool = False) -> bytes | None:
        """Return the second of the first pair with a key, or of the last one; ``None`` if there is none.

        No pair may be added afterwards.

        Raises:
            ConfigurationError: The file cannot be read, or there is no room for an index.
        """
        with _room():
            if not self._indexed:
                self._spill().execute("CREATE INDEX by_key ON kept (key)")
                self._indexed = True
            order = "DESC" if last else "ASC"
            asked = f"SELECT value FROM kept WHERE key = ? ORDER BY rowid {order} LIMIT 1"  # noqa: S608  A word of ours.
            row = self._spill().execute(asked, (key,)).fetchone()
        return None if row is None else row[0]

    def _spill(self) -> sqlite3.Connection:
        with _room():
            if self._far is None:
                self._far = private_file(self, "CREATE TABLE kept (key BLOB, value BLOB)", cache_kib=_CACHE_KIB)
            if self._near:
                self._far.executemany("INSERT INTO kept VALUES (?, ?)", self._near)
        self._near.clear()
        return self._far
