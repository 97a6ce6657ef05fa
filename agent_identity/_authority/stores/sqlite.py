"""State shared by the processes of one machine, in one SQLite file."""

import contextlib
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeVar, final

from agent_identity._authority.stores._counters import (
    Parts,
    Spending,
    given_back,
    kept_in,
    kept_with,
    read_count,
    read_counter,
    read_version,
    taken,
    write_parts,
)
from agent_identity._authority.stores.forks import renewed_in_children
from agent_identity._authority.stores.protocol import (
    GRACE,
    Debit,
    Horizon,
    check_debits,
    check_key,
    check_number,
    check_version,
    kept_of,
    share_of,
)
from agent_identity._common.typed_calls import typed_calls
from agent_identity.errors import StateError

if TYPE_CHECKING:
    import sqlite3

_T = TypeVar("_T")

_APPLICATION: Final = 0x61696473
_VERSION: Final = 1
_PAGE: Final = 4096
_FORGET: Final = 4
_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE kept (key TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX kept_expiry ON kept (expires_at);
CREATE TABLE counters (
    key TEXT NOT NULL, span INTEGER NOT NULL, parts TEXT NOT NULL, expires_at INTEGER NOT NULL, PRIMARY KEY (key, span)
) WITHOUT ROWID;
CREATE INDEX counters_expiry ON counters (expires_at);
CREATE TABLE versions (name TEXT PRIMARY KEY, version INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE news (count INTEGER NOT NULL);
INSERT INTO news VALUES (0);
COMMIT;
"""
_KEYS: Final[Mapping[str, str]] = MappingProxyType({"kept": "key", "counters": "key, span"})
_ABANDONED: Final["list[sqlite3.Connection]"] = []


@typed_calls("__init__")
@final
class SqliteState(Spending):
    """State in a file of mode 0600 that any number of processes of one machine may open.

    Nothing is opened before the first use. The first process makes the file. If it is removed while
    someone uses it, that process refuses until a file is there again; a file that took its place is used.
    Do not put it on a network file system.

    Args:
        path: The file; its folder is made if it is missing.
        sync: ``"process"``: what is stored survives the death of the process; ``"disk"``: power loss too, at the
            price of a disk write for each call. Versioned data is always safe from power loss.
        timeout: Seconds to wait while others write.
        max_bytes: Size that the file may reach; then new keys are refused with ``state_full``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: Literal["process", "disk"] = "process",
        timeout: float = 5.0,
        max_bytes: int = 2**30,
    ) -> None:
        if sync not in ("process", "disk"):
            raise ValueError("sync is unknown; use sync='process' or sync='disk'")
        if not 0 < timeout <= 60:
            raise ValueError("the timeout is not above 0 and at most 60 seconds")
        self._path = os.path.abspath(path)  # No links are resolved.
        self._sync = "FULL" if sync == "disk" else "NORMAL"
        self._level = self._sync
        self._timeout = timeout
        self._pages = max(16, check_number("max_bytes", max_bytes) // _PAGE)
        # One connection for each process: SQLite lets one writer in at a time anyway, and threads that wait for
        # this lock wake at once, while connections that wait for each other sleep.
        self._lock = threading.RLock()
        self._connections: tuple[sqlite3.Connection, sqlite3.Connection] | None = None
        self._file: tuple[int, int] | None = None
        self._opened = 0
        self._seen = (-1, 0)
        self._closed = False
        self._horizon = Horizon()
        renewed_in_children(self)

    def insert(self, key: str, *, now: int, expires_at: int) -> bool:
        """See :meth:`StateStore.insert`."""
        check_key(key)
        if check_number("expires_at", expires_at) <= self._horizon.of(check_number("now", now)):
            return False
        return self._with_room(now, lambda: self._insert(key, now, expires_at))

    def _insert(self, key: str, now: int, expires_at: int) -> bool:
        with self._writing() as connection:
            _forget(connection, "kept", now, _FORGET)
            added = connection.execute(
                "INSERT INTO kept VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at "
                "WHERE kept.expires_at <= ?",
                (key, expires_at, now),
            )
            if added.rowcount:
                connection.execute("UPDATE news SET count = count + 1")
            return bool(added.rowcount)

    def contains(self, key: str, *, now: int) -> bool:
        """See :meth:`StateStore.contains`."""
        values = (check_key(key), check_number("now", now))
        with self._using() as connection:
            return _row(connection, "SELECT 1 FROM kept WHERE key = ? AND expires_at > ?", values) is not None

    def _spent(self, share: str | None, debits: Sequence[Debit], now: int) -> tuple[int, ...] | int:
        return self._with_room(now, lambda: self._spend_once(share, debits, now))

    def _spend_once(self, share: str | None, debits: Sequence[Debit], now: int) -> tuple[int, ...] | int:
        with self._writing() as connection:
            _forget(connection, "counters", now, _FORGET)
            kept = tuple(_kept(connection, share, debit, now) for debit in debits)
            after: list[tuple[Debit, int, Parts]] = []
            for index, (debit, amount) in enumerate(zip(debits, kept, strict=True)):
                expires_at, parts = _live(connection, debit, now)
                sums = taken(parts, debit.beyond(amount), now)
                if sums is None:
                    return index
                after.append((debit, max(expires_at, debit.expires_at), sums))
                if share is not None and amount:
                    after.append((share_of(share, debit), 0, {}))
            for debit, expires_at, sums in after:
                _set_counter(connection, debit, expires_at, sums)
        return kept

    def keep(self, share: str, debits: Sequence[Debit], *, now: int) -> None:
        """See :meth:`StateStore.keep`."""
        check_key(share)
        if check_debits(debits, now, self._horizon) is None:
            self._with_room(now, lambda: self._keep(share, debits, now))

    def _keep(self, share: str, debits: Sequence[Debit], now: int) -> None:
        with self._writing() as connection:
            _forget(connection, "counters", now, _FORGET)
            for mine in kept_of(share, debits):
                expires_at, parts = _live(connection, mine, now)
                _set_counter(connection, mine, max(expires_at, mine.expires_at), kept_with(parts, mine.amount))

    def credit(self, debits: Sequence[Debit], *, now: int) -> None:
        """See :meth:`StateStore.credit`."""
        check_debits(debits, now, self._horizon)
        with self._writing() as connection:
            for debit in debits:
                counter = _counter(connection, debit)
                if counter is not None:
                    _set_counter(connection, debit, counter[0], given_back(counter[1], debit, now))

    def put(self, name: str, version: int, data: bytes) -> bool:
        """See :meth:`StateStore.put`."""
        check_version(name, version, data)
        with self._writing(sync="FULL") as connection:
            changed = connection.execute(
                "INSERT INTO versions VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
                "SET version = excluded.version, data = excluded.data WHERE versions.version < excluded.version",
                (name, version, data),
            )
            if changed.rowcount:
                connection.execute("UPDATE news SET count = count + 1")
            return bool(changed.rowcount)

    def get(self, name: str) -> tuple[int, bytes] | None:
        """See :meth:`StateStore.get`."""
        check_key(name)
        with self._using() as connection:
            row = _row(connection, "SELECT version, data FROM versions WHERE name = ?", (name,))
        return read_version(row)

    def generation(self) -> int:
        """See :meth:`StateStore.generation`."""
        with self._using(watching=True) as connection:
            # The pragma looks at shared memory alone, and changes when any other connection has written.
            change = read_count(_row(connection, "PRAGMA data_version"))
            if change != self._seen[0]:
                self._seen = (change, read_count(_row(connection, "SELECT count FROM news")))
            return (self._opened << 53) + self._seen[1]

    def close(self) -> None:
        """See :meth:`StateStore.close`. It cannot be used any more."""
        with self._lock:
            self._closed = True
            self._drop()

    def after_fork_in_child(self) -> None:
        """Leave the connections to the parent: SQLite forbids a child even to close them."""
        self._lock = threading.RLock()
        if self._connections is not None:
            _ABANDONED.extend(self._connections)
            self._connections = None

    def _with_room(self, now: int, step: Callable[[], _T]) -> _T:
        """Return the result of the step; if the file is full, forget all expired entries and retry once."""
        try:
            return step()
        except StateError as error:
            if error.code != "state_full":
                raise
        with self._writing() as connection:
            for table in _KEYS:
                _forget(connection, table, now, -1)
        return step()

    @contextlib.contextmanager
    def _using(self, *, watching: bool = False) -> "Generator[sqlite3.Connection]":
        """Hold a connection for the block; any failure becomes a :class:`StateError`."""
        import sqlite3  # Most programs never need it.

        if not self._lock.acquire(timeout=self._timeout):
            raise StateError(f"the state gave no turn within {self._timeout:g} s; try again")
        try:
            connection = self._connected()[watching]
            if connection.in_transaction:
                raise StateError("re-entrant use of the state from a signal handler; set a flag there and act later")
            yield connection
        except sqlite3.Error as error:
            if _kind(error) not in {"SQLITE_BUSY", "SQLITE_FULL"}:
                self._drop()
            raise _explained(error) from error
        except OSError as error:
            self._drop()
            raise StateError(
                f"the state file cannot be used ({os.strerror(error.errno or 0)}); check the folder "
                "'state' of the evidence directory, its owner and its disk"
            ) from error
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _writing(self, *, sync: str | None = None) -> "Generator[sqlite3.Connection]":
        """Hold the connection with the write lock of the file; the block is one transaction."""
        with self._using() as connection:
            level = sync or self._sync
            if level != self._level:
                connection.execute(f"PRAGMA synchronous = {level}")
                self._level = level
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite ends it by itself when the disk is full.
                    connection.execute("ROLLBACK")
                raise

    def _connected(self) -> "tuple[sqlite3.Connection, sqlite3.Connection]":
        """Return the connection for work and the one that watches, on the file now at the path."""
        if self._closed:
            raise StateError("the store of state is closed; open the enforcer again")
        if self._connections is None:
            return self._open()
        status = os.lstat(self._path)
        if (status.st_dev, status.st_ino) != self._file:
            self._drop()
            return self._open()
        return self._connections

    def _open(self) -> "tuple[sqlite3.Connection, sqlite3.Connection]":
        if self._opened == 0 and not os.path.lexists(self._path):
            _create(Path(self._path))
        self._file = _check_file(self._path)
        with contextlib.ExitStack() as stack:
            opened = tuple(stack.enter_context(contextlib.closing(self._connect())) for _ in range(2))
            stack.pop_all()
        self._connections = (opened[0], opened[1])
        self._opened += 1
        self._seen = (-1, 0)
        self._level = self._sync
        return self._connections

    def _connect(self) -> "sqlite3.Connection":
        connection = plain_connection(f"{Path(self._path).as_uri()}?mode=rw", self._timeout)
        try:
            _check_version(connection)
            connection.execute(f"PRAGMA synchronous = {self._sync}")
            connection.execute(f"PRAGMA max_page_count = {self._pages}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        if self._connections is not None:
            for connection in self._connections:
                connection.close()
            self._connections = None


def plain_connection(uri: str, timeout: float) -> "sqlite3.Connection":
    """Return a connection for any thread, with explicit transactions.

    Args:
        uri: The database, as a ``file:`` URI.
        timeout: Seconds to wait while others write.
    """
    import sqlite3  # Most programs never need it.

    # Autocommit, because transactions are begun by hand; any thread, because a lock goes round every use.
    return sqlite3.connect(uri, timeout=timeout, isolation_level=None, check_same_thread=False, uri=True)


def _create(path: Path) -> None:
    """Create the file, whole or not at all, so that every opener finds every table in it."""
    if not hasattr(os, "geteuid"):
        raise StateError(
            "this platform has no POSIX file modes, which keep state private; use Linux or macOS, or another store"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".agent-identity-", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    try:
        with contextlib.closing(plain_connection(Path(temporary).as_uri(), 5.0)) as connection:
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        with contextlib.suppress(FileExistsError):  # Another process was first, and its file is ours too.
            os.link(temporary, path)
    finally:
        os.unlink(temporary)  # noqa: PTH108  The os calls of one protocol stay together.


def _check_file(path: str) -> tuple[int, int]:
    """Return the identity of a regular file that only its owner can access."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise StateError("the state is not a regular file; name the file itself")
    if status.st_uid not in {os.geteuid(), 0} or status.st_mode & 0o077:
        raise StateError(
            f"others can reach the state file, which has mode {stat.S_IMODE(status.st_mode):04o} or "
            "another owner; run chown and chmod 600 on it"
        )
    return (status.st_dev, status.st_ino)


def _check_version(connection: "sqlite3.Connection") -> None:
    facts = [connection.execute(f"PRAGMA {fact}").fetchone()[0] for fact in ("application_id", "user_version")]
    if facts != [_APPLICATION, _VERSION]:
        raise StateError(
            f"the state file is not of version {_VERSION}; use the version of this library that made "
            "it, or name another path"
        )


def _row(connection: "sqlite3.Connection", query: str, values: tuple[object, ...] = ()) -> tuple[object, ...] | None:
    row: tuple[object, ...] | None = connection.execute(query, values).fetchone()
    return row


def _counter(connection: "sqlite3.Connection", debit: Debit) -> tuple[int, Parts] | None:
    """Return the expiry of a counter, and its sums."""
    query = "SELECT expires_at, parts FROM counters WHERE key = ? AND span = ?"
    row = _row(connection, query, (debit.key, debit.window or 0))
    return None if row is None else read_counter(*row)


def _live(connection: "sqlite3.Connection", debit: Debit, now: int) -> tuple[int, Parts]:
    """Return the expiry of a counter, and its sums; an expired one begins anew."""
    expires_at, parts = _counter(connection, debit) or (0, {})
    return (expires_at, parts) if expires_at > now else (0, {})


def _kept(connection: "sqlite3.Connection", share: str | None, debit: Debit, now: int) -> int:
    """Return the amount of a debit that a share holds."""
    if share is None or debit.window is not None:
        return 0
    return kept_in(_live(connection, share_of(share, debit), now)[1])


def _set_counter(connection: "sqlite3.Connection", debit: Debit, expires_at: int, parts: Parts) -> None:
    connection.execute(
        "INSERT INTO counters VALUES (?, ?, ?, ?) ON CONFLICT (key, span) DO UPDATE "
        "SET parts = excluded.parts, expires_at = excluded.expires_at",
        (debit.key, debit.window or 0, write_parts(parts), expires_at),
    )


def _forget(connection: "sqlite3.Connection", table: str, now: int, most: int) -> None:
    """Forget entries that expired a while ago; more at each call than it adds, so that the file stays small."""
    key = _KEYS[table]
    connection.execute(
        f"DELETE FROM {table} WHERE ({key}) IN "  # noqa: S608  Both are names of this module.
        f"(SELECT {key} FROM {table} WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (now - GRACE, most),
    )


def _kind(error: "sqlite3.Error") -> str:
    """Return the primary name of an error: the first two words of an extended one."""
    return "_".join(getattr(error, "sqlite_errorname", "unknown error").split("_")[:2])


def _explained(error: "sqlite3.Error") -> StateError:
    kind = _kind(error)
    if kind == "SQLITE_FULL":
        return StateError(
            "the state file is full: the disk has no room, or the file is at its largest; free the "
            "disk or raise max_bytes",
            code="state_full",
        )
    if kind in {"SQLITE_CORRUPT", "SQLITE_NOTADB"}:
        return StateError(
            "the state file is damaged; restore it from a copy. A new file knows neither used proofs "
            "nor spent limits, so end what is under way before you remove it"
        )
    if kind == "SQLITE_BUSY":
        return StateError("others write to the state file all the time; try again")
    return StateError(f"the state file failed with {kind}; check the file, its folder and the disk")
