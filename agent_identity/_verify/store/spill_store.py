"""Spills verification state to a temporary SQLite database to bound memory."""

import contextlib
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast, final

import msgspec

from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    import sqlite3

_T = TypeVar("_T")

_ENCODER: Final = msgspec.msgpack.Encoder()
_BITS: Final = 1 << 23  # 1 MiB.
_CACHE_KIB: Final = 4_096
_NEED: Final = "about 4 KiB for each task, and 300 bytes for each record on spans"
_TABLE: Final = "CREATE TABLE kept (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL)"
_KEEP: Final = "INSERT INTO kept (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


@final
class BloomFilter:
    """Bloom filter over keys: rules out most missing keys without a read from disk."""

    def __init__(self) -> None:
        self._bits = bytearray(_BITS // 8)

    def __contains__(self, key: bytes) -> bool:
        return all(self._bits[at >> 3] & (1 << (at & 7)) for at in _places(key))

    def add(self, key: bytes) -> None:
        """Add a key."""
        for at in _places(key):
            self._bits[at >> 3] |= 1 << (at & 7)


def _places(key: bytes) -> tuple[int, int]:
    value = hash(key)
    return value % _BITS, (value >> 32) % _BITS


@final
class SpillStore(Generic[_T]):
    """Values by key in insertion order, with bounded memory.

    Values beyond the limit spill to an unnamed file that ends with the process. It is created on demand, in the
    folder for temporary files (``SQLITE_TMPDIR``, ``TMPDIR``).

    Args:
        pack: Returns a value as bytes.
        unpack: Returns a value from its bytes.
        near: Number of values in memory.
    """

    def __init__(self, pack: Callable[[_T], bytes], unpack: Callable[[bytes], _T], *, near: int) -> None:
        self._pack, self._unpack, self._most = pack, unpack, near
        self._near: dict[bytes, _T] = {}
        self._far: sqlite3.Connection | None = None
        self._spilled: BloomFilter | None = None

    def __bool__(self) -> bool:
        """Return whether the store may hold a value."""
        return bool(self._near) or self._far is not None

    def __contains__(self, key: bytes) -> bool:
        """Return whether the key is stored, without reading its value.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        if key in self._near or self._far is None:
            return key in self._near
        return self._look("SELECT 1 FROM kept WHERE key = ?", key) is not None

    def get(self, key: bytes) -> _T | None:
        """Return a value for reading only, or ``None``.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        value = self._near.get(key)
        return value if value is not None or self._far is None else self._get_far(key)

    def hold(self, key: bytes) -> _T | None:
        """Return a value that may be changed until another one is held or put, or ``None``.

        Raises:
            ConfigurationError: The file cannot be read, or the disk is full.
        """
        value = self._near.get(key)
        if value is None:
            value = self._get_far(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: bytes, value: _T) -> None:
        """Store a value under its key, in place of an earlier one.

        Raises:
            ConfigurationError: The disk is full.
        """
        if len(self._near) >= self._most and key not in self._near:
            self._spill()
            self._near.clear()
        self._near[key] = value

    def pop(self, key: bytes) -> _T | None:
        """Remove a value and return it, or ``None``.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        value = self._near.pop(key, None)
        if self._far is None:
            return value
        if value is None:
            value = self._get_far(key)
            if value is None:
                return None
        with room_for(_NEED):
            self._far.execute("DELETE FROM kept WHERE key = ?", (key,))
        return value

    def items(self) -> Iterator[tuple[bytes, _T]]:
        """Yield keys and values in order; the store must not change meanwhile.

        Raises:
            ConfigurationError: The file cannot be read, or the disk is full.
        """
        if self._far is None:
            yield from self._near.items()
            return
        self._spill()
        with room_for(_NEED):
            for key, value in self._far.execute("SELECT key, value FROM kept ORDER BY number"):
                yield key, self._unpack(value)

    def values(self) -> Iterator[_T]:
        """Yield the values, as :meth:`items` does."""
        return (value for _, value in self.items())

    def _get_far(self, key: bytes) -> _T | None:
        row = self._look("SELECT value FROM kept WHERE key = ?", key)
        return None if row is None else self._unpack(row[0])

    def _look(self, question: str, key: bytes) -> tuple[bytes] | None:
        if self._far is None or self._spilled is None or key not in self._spilled:
            return None
        with room_for(_NEED):
            return cast("tuple[bytes] | None", self._far.execute(question, (key,)).fetchone())

    def _spill(self) -> None:
        """Write the values in memory to the file."""
        with room_for(_NEED):
            if self._far is None or self._spilled is None:
                self._spilled, self._far = BloomFilter(), _private_file()
                weakref.finalize(self, self._far.close)
            add = self._spilled.add
            for key in self._near:
                add(key)
            self._far.execute("BEGIN")  # One transaction costs half as much as single rows.
            self._far.executemany(_KEEP, ((key, self._pack(value)) for key, value in self._near.items()))
            self._far.execute("COMMIT")


def spilled(kind: type[_T], *, near: int) -> SpillStore[_T]:
    """Return a store of values of a type that msgpack can write, whose integers have at most 64 bits.

    Args:
        kind: The type of the values.
        near: Number of values in memory.
    """
    return SpillStore(_ENCODER.encode, msgspec.msgpack.Decoder(kind).decode, near=near)


def _private_file() -> "sqlite3.Connection":
    """Return a database without a name, whose file is deleted as soon as it is open."""
    import sqlite3  # Small sources need no file.

    file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    file.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    file.execute("PRAGMA journal_mode = OFF")
    file.execute(_TABLE)
    return file


@contextlib.contextmanager
def room_for(need: str) -> Generator[None]:
    """Translate database failures into an error that says how to free space.

    Args:
        need: The space needed, in words.

    Raises:
        ConfigurationError: The database has failed.
    """
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        raise ConfigurationError(
            f"out of space for temporary files ({need}; {type(error).__name__}); set TMPDIR to a larger volume"
        ) from None
