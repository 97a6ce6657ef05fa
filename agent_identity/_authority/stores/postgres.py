"""State shared by many machines, in a PostgreSQL database."""

import contextlib
import importlib
import re
import threading
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, final

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
from agent_identity.errors import ConfigurationError, StateError

if TYPE_CHECKING:
    from agent_identity._authority.stores._postgres_connection import BoundedConnection

_VERSION: Final = 1
_CONNECTIONS: Final = 8
_FORGET_EVERY: Final = 16
_PREFIX: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_ABANDONED: Final["list[BoundedConnection]"] = []

_CLOCK: Final = "floor(extract(epoch FROM clock_timestamp()))::bigint"
# Created under a lock of its own, because two that create the same table at once fail. The news are many rows, so
# that those who store at the same time do not wait for each other; what is told is their sum.
_SCHEMA: Final = """
SELECT pg_advisory_xact_lock(hashtext('{p}'));
CREATE TABLE IF NOT EXISTS {p}_kept (
    key text COLLATE "C" PRIMARY KEY, expires_at bigint NOT NULL, forget_at bigint NOT NULL);
CREATE INDEX IF NOT EXISTS {p}_kept_forget ON {p}_kept (forget_at);
CREATE TABLE IF NOT EXISTS {p}_counters (
    key text COLLATE "C", span bigint, parts text NOT NULL, expires_at bigint NOT NULL, forget_at bigint NOT NULL,
    PRIMARY KEY (key, span));
CREATE INDEX IF NOT EXISTS {p}_counters_forget ON {p}_counters (forget_at);
CREATE TABLE IF NOT EXISTS {p}_versions (
    name text COLLATE "C" PRIMARY KEY, version bigint NOT NULL, data bytea NOT NULL);
CREATE TABLE IF NOT EXISTS {p}_news (slot integer PRIMARY KEY, count bigint NOT NULL);
INSERT INTO {p}_news SELECT slot, 0 FROM generate_series(0, 31) AS slot ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS {p}_schema (version integer PRIMARY KEY);
INSERT INTO {p}_schema SELECT {v} WHERE NOT EXISTS (SELECT 1 FROM {p}_schema);
"""
_TOLD: Final = (
    "told AS (UPDATE {p}_news SET count = count + 1 "
    "WHERE slot = pg_backend_pid() %% 32 AND EXISTS (SELECT 1 FROM won)) SELECT count(*) FROM won"
)
_QUERIES: Final[Mapping[str, str]] = {
    "insert": "WITH won AS (INSERT INTO {p}_kept AS kept VALUES (%(key)s, %(expires_at)s, {c} + %(life)s) "
    "ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at, forget_at = excluded.forget_at "
    "WHERE kept.expires_at <= %(now)s RETURNING 1), " + _TOLD,
    "contains": "SELECT 1 FROM {p}_kept WHERE key = %(key)s AND expires_at > %(now)s",
    # The rows are locked in one order by everyone, so that no two wait for each other.
    "lock": "INSERT INTO {p}_counters AS counter SELECT key, span, '', 0, {c} + life "
    "FROM unnest(%(keys)s::text[], %(spans)s::bigint[], %(lives)s::bigint[]) AS wanted (key, span, life) "
    'ORDER BY key COLLATE "C", span ON CONFLICT (key, span) DO UPDATE '
    "SET forget_at = greatest(counter.forget_at, excluded.forget_at) RETURNING key, span, expires_at, parts",
    "look": "SELECT key, span, expires_at, parts FROM {p}_counters WHERE (key, span) IN "
    "(SELECT * FROM unnest(%(keys)s::text[], %(spans)s::bigint[])) ORDER BY key, span FOR UPDATE",
    "count": "UPDATE {p}_counters AS counter SET parts = new.parts, expires_at = new.expires_at "
    "FROM unnest(%(keys)s::text[], %(spans)s::bigint[], %(parts)s::text[], %(ends)s::bigint[]) "
    "AS new (key, span, parts, expires_at) WHERE counter.key = new.key AND counter.span = new.span",
    "put": "WITH won AS (INSERT INTO {p}_versions AS known VALUES (%(name)s, %(version)s, %(data)s) "
    "ON CONFLICT (name) DO UPDATE SET version = excluded.version, data = excluded.data "
    "WHERE known.version < excluded.version RETURNING 1), " + _TOLD,
    "get": "SELECT version, data FROM {p}_versions WHERE name = %(name)s",
    "generation": "SELECT sum(count)::bigint FROM {p}_news",
    "forget_keys": "DELETE FROM {p}_kept WHERE key IN "
    "(SELECT key FROM {p}_kept WHERE forget_at <= {c} ORDER BY forget_at LIMIT 64 FOR UPDATE SKIP LOCKED)",
    "forget_counters": "DELETE FROM {p}_counters WHERE (key, span) IN "
    "(SELECT key, span FROM {p}_counters WHERE forget_at <= {c} ORDER BY forget_at LIMIT 64 FOR UPDATE SKIP LOCKED)",
    "present": "SELECT to_regclass('{p}_schema') IS NOT NULL",
    "version": "SELECT max(version) FROM {p}_schema",
}


@typed_calls("__init__")
@final
class PostgresState(Spending):
    """State shared by many machines, in a PostgreSQL database (12 or newer). Needs the extra ``postgres``.

    Nothing is opened before the first use; then the tables are made if they are missing. At most eight calls are
    under way at once; others wait for their turn. Connect to the server itself, or by a pool that keeps sessions.

    Args:
        conninfo: As ``psycopg.connect`` takes it: ``postgresql://…`` or ``host=… dbname=…``.
        prefix: Begins the name of every table; 1 to 40 of ``a-z 0-9 _``. Those who share state use the same one.
        timeout: Seconds to wait for a connection, for each answer, and for a turn.

    Raises:
        ConfigurationError: The client library is not installed.
    """

    def __init__(self, conninfo: str, *, prefix: str = "agent_identity", timeout: float = 5.0) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError("the prefix is not 1 to 40 characters a-z 0-9 _ without a digit at its beginning")
        if not 0 < timeout <= 60:
            raise ValueError("the timeout is not above 0 and at most 60 seconds")
        _require_library()
        self._conninfo = conninfo
        self._queries = {name: query.format(p=prefix, c=_CLOCK).encode() for name, query in _QUERIES.items()}
        self._schema = _SCHEMA.format(p=prefix, v=_VERSION).encode()
        self._timeout = timeout
        self._horizon = Horizon()
        self._idle: list[BoundedConnection] = []
        self._turns = threading.Semaphore(_CONNECTIONS)
        self._ready = False
        self._closed = False
        self._steps = 0
        renewed_in_children(self)

    def insert(self, key: str, *, now: int, expires_at: int) -> bool:
        """See :meth:`StateStore.insert`."""
        check_key(key)
        if check_number("expires_at", expires_at) <= self._horizon.of(check_number("now", now)):
            return False
        with self._using() as connection:
            self._forget(connection)
            life = expires_at - now + GRACE
            won = self._row(connection, "insert", key=key, expires_at=expires_at, life=life, now=now)
        return won == (1,)

    def contains(self, key: str, *, now: int) -> bool:
        """See :meth:`StateStore.contains`."""
        values = {"key": check_key(key), "now": check_number("now", now)}
        with self._using() as connection:
            return self._row(connection, "contains", **values) is not None

    def _spent(self, share: str | None, debits: Sequence[Debit], now: int) -> tuple[int, ...] | int:
        with self._using() as connection:
            self._forget(connection)
            with connection.transaction() as transaction:
                # The shares before the counters, so that no two who resume wait for each other.
                shares = [] if share is None else [share_of(share, d) for d in debits if d.window is None]
                held = self._counters(connection, "look", shares) if shares else {}
                known = self._counters(connection, "lock", debits, lives=_lives(debits, now))
                after: dict[tuple[str, int], tuple[int, Parts]] = {}
                kept: list[int] = []
                for index, debit in enumerate(debits):
                    kept.append(_kept(held, share, debit, now))
                    expires_at, parts = _live(known, (debit.key, debit.window or 0), now)
                    sums = taken(parts, debit.beyond(kept[-1]), now)
                    if sums is None:
                        transaction.force_rollback = True
                        return index
                    after[debit.key, debit.window or 0] = (max(expires_at, debit.expires_at), sums)
                    if share is not None and kept[-1]:
                        after[share_of(share, debit).key, 0] = (0, {})
                self._count(connection, after)
        return tuple(kept)

    def keep(self, share: str, debits: Sequence[Debit], *, now: int) -> None:
        """See :meth:`StateStore.keep`."""
        check_key(share)
        if check_debits(debits, now, self._horizon) is not None:
            return
        shares = kept_of(share, debits)
        with self._using() as connection, connection.transaction():
            known = self._counters(connection, "lock", shares, lives=_lives(shares, now))
            after: dict[tuple[str, int], tuple[int, Parts]] = {}
            for mine in shares:
                expires_at, parts = _live(known, (mine.key, 0), now)
                after[mine.key, 0] = (max(expires_at, mine.expires_at), kept_with(parts, mine.amount))
            self._count(connection, after)

    def credit(self, debits: Sequence[Debit], *, now: int) -> None:
        """See :meth:`StateStore.credit`."""
        check_debits(debits, now, self._horizon)
        with self._using() as connection, connection.transaction():
            known = self._counters(connection, "look", debits)
            after = {
                counter: (known[counter][0], given_back(known[counter][1], debit, now))
                for debit in debits
                if (counter := (debit.key, debit.window or 0)) in known
            }
            self._count(connection, after)

    def put(self, name: str, version: int, data: bytes) -> bool:
        """See :meth:`StateStore.put`."""
        check_version(name, version, data)
        with self._using() as connection:
            return self._row(connection, "put", name=name, version=version, data=data) == (1,)

    def get(self, name: str) -> tuple[int, bytes] | None:
        """See :meth:`StateStore.get`."""
        check_key(name)
        with self._using() as connection:
            row = self._row(connection, "get", name=name)
        return read_version(row)

    def generation(self) -> int:
        """See :meth:`StateStore.generation`; this one queries the server."""
        with self._using() as connection:
            row = self._row(connection, "generation")
        return read_count(row)

    def close(self) -> None:
        """See :meth:`StateStore.close`. It cannot be used any more."""
        self._closed = True
        while (connection := self._rested()) is not None:
            connection.close()

    def after_fork_in_child(self) -> None:
        """Leave the connections to the parent; closing them here would end them there."""
        _ABANDONED.extend(self._idle)
        self._idle = []
        self._turns = threading.Semaphore(_CONNECTIONS)

    def _row(self, connection: "BoundedConnection", query: str, **values: object) -> tuple[object, ...] | None:
        return connection.execute(self._queries[query], values).fetchone()

    def _counters(
        self, connection: "BoundedConnection", query: str, debits: Sequence[Debit], **more: object
    ) -> dict[tuple[str, int], tuple[int, Parts]]:
        """Lock the counters of debits; return the expiry and sums of each."""
        keys, spans = [debit.key for debit in debits], [debit.window or 0 for debit in debits]
        rows = connection.execute(self._queries[query], {"keys": keys, "spans": spans, **more}).fetchall()
        counters = {(key, span): read_counter(expires_at, parts) for key, span, expires_at, parts in rows}
        return {counter: counters[counter] for counter in zip(keys, spans, strict=True) if counter in counters}

    def _count(self, connection: "BoundedConnection", after: Mapping[tuple[str, int], tuple[int, Parts]]) -> None:
        values = {
            "keys": [key for key, _ in after],
            "spans": [span for _, span in after],
            "parts": [write_parts(parts) for _, parts in after.values()],
            "ends": [expires_at for expires_at, _ in after.values()],
        }
        connection.execute(self._queries["count"], values)

    def _forget(self, connection: "BoundedConnection") -> None:
        """From time to time, forget entries that expired a while ago by the server's clock, more than come in."""
        self._steps += 1
        if self._steps % _FORGET_EVERY == 0:
            connection.execute(self._queries["forget_keys"])
            connection.execute(self._queries["forget_counters"])

    @contextlib.contextmanager
    def _using(self) -> "Generator[BoundedConnection]":
        """Hold a connection for the block; any failure becomes a :class:`StateError` and closes the connection."""
        import psycopg  # Only who has the extra gets here.

        turns = self._turns
        if not turns.acquire(timeout=self._timeout):
            raise StateError(f"the database gave no turn within {self._timeout:g} s; try again")
        try:
            with contextlib.ExitStack() as stack:
                connection = self._connection()
                stack.callback(connection.close)
                yield connection
                stack.pop_all()
                self._idle.append(connection)
                if self._closed:  # Someone closed the store meanwhile.
                    self.close()
        except psycopg.errors.DiskFull as error:
            raise StateError("the disk of the database is full; free it", code="state_full") from error
        except (psycopg.Error, OSError) as error:
            raise StateError(
                f"the database failed with {type(error).__name__}; check the server, the way to it and "
                "the rights of the user"
            ) from error
        finally:
            turns.release()

    def _connection(self) -> "BoundedConnection":
        """Return an idle connection, the youngest first; drop one that the server closed."""
        from agent_identity._authority.stores._postgres_connection import connect  # It imports the extra.

        if self._closed:
            raise StateError("the store of state is closed; open the enforcer again")
        while (rested := self._rested()) is not None:
            if rested.quiet:
                return rested
            rested.close()
        connection = connect(self._conninfo, self._timeout)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _rested(self) -> "BoundedConnection | None":
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _prepare(self, connection: "BoundedConnection") -> None:
        """Create missing tables once; tables that vanish later are lost state."""
        if not self._ready and self._row(connection, "present") == (False,):
            with connection.transaction():
                connection.execute(self._schema)
        if self._row(connection, "version") != (_VERSION,):
            raise StateError(
                f"the tables are not of version {_VERSION}; use the version of this library that made "
                "them, or another prefix"
            )
        self._ready = True


def _lives(debits: Sequence[Debit], now: int) -> list[int]:
    return [debit.expires_at - now + GRACE for debit in debits]


def _live(known: Mapping[tuple[str, int], tuple[int, Parts]], counter: tuple[str, int], now: int) -> tuple[int, Parts]:
    """Return the expiry of a counter, and its sums; an expired one begins anew."""
    expires_at, parts = known.get(counter, (0, {}))
    return (expires_at, parts) if expires_at > now else (0, {})


def _kept(known: Mapping[tuple[str, int], tuple[int, Parts]], share: str | None, debit: Debit, now: int) -> int:
    """Return the amount of a debit that a share holds."""
    if share is None or debit.window is not None:
        return 0
    return kept_in(_live(known, (share_of(share, debit).key, 0), now)[1])


def _require_library() -> None:
    try:
        importlib.import_module("psycopg")
    except ImportError:
        raise ConfigurationError(
            "psycopg, which PostgresState needs, is missing or does not work; run pip "
            "install '.[postgres]' in the checkout, and psycopg[binary] where libpq is missing"
        ) from None
