"""Servers that are gone, hang, forget or are full: nothing is guessed, and all goes on when they are back."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agent_identity._authority.stores import _postgres_connection as postgres_connection
from agent_identity._authority.stores import postgres as postgres_state
from agent_identity._authority.stores import redis as redis_state
from agent_identity._authority.stores.protocol import GRACE
from agent_identity.errors import ConfigurationError, StateError
from agent_identity.state import Debit, PostgresState, RedisState, StateStore

NOW, END = 1_000, 2_000
USE = [Debit("limit:a", 1, 2, None, END)]
STEPS: list[Callable[[StateStore], object]] = [
    lambda store: store.insert("proof:new", now=NOW, expires_at=END),
    lambda store: store.contains("proof:a", now=NOW),
    lambda store: store.debit(USE, now=NOW),
    lambda store: store.credit(USE, now=NOW),
    lambda store: store.put("list", 9, b""),
    lambda store: store.get("list"),
    lambda store: store.generation(),
]
SERVERS = ("redis", "postgres")


def _impatient(shared: object, timeout: float = 0.2) -> StateStore:
    """Return a store on the state that waits for a moment only, or for longer where it shall get answers."""
    url, _, prefix = shared.address.rpartition("#")
    kind = RedisState if shared.kind == "redis" else PostgresState
    store = kind(url, prefix=prefix, timeout=timeout)
    shared.stores.append(store)
    return store


def _refused(store: StateStore, match: str = "; ", *, seconds: float = 30) -> None:
    """Every way to ask is refused in bounded time, and the message says nothing that it should not."""
    for step in STEPS:
        begin = time.monotonic()
        with pytest.raises(StateError, match=match) as caught:
            step(store)
        assert time.monotonic() - begin < seconds
        assert caught.value.code == "state_unavailable"
        assert not any(word in str(caught.value) for word in ("127.0.0.1", "proof:", "limit:", "\n"))


@pytest.fixture(params=SERVERS)
def shared(request: pytest.FixtureRequest, share: Callable[[str], object]) -> object:
    return share(request.param)


@pytest.fixture
def redis_client(redis_server: object) -> Iterator[object]:
    import redis

    with redis.Redis(port=redis_server.port) as client:
        yield client


@pytest.fixture
def database(postgres_server: object) -> Iterator[object]:
    import psycopg

    url = f"postgresql://postgres@127.0.0.1:{postgres_server.port}/postgres"
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def test_a_server_that_is_gone_refuses_and_a_server_that_is_back_goes_on(shared: object) -> None:
    """With all that it was told, for stores that were open, and at the very first call."""
    stores = [shared.open(), shared.open()]
    assert stores[0].insert("proof:a", now=NOW, expires_at=END)
    assert stores[1].debit(USE, now=NOW) is None
    assert stores[0].put("list", 1, b"one")
    shared.server.stop()
    try:
        for store in (*stores, shared.open()):
            _refused(store)
    finally:
        shared.server.start()
    assert not stores[1].insert("proof:a", now=NOW, expires_at=END)
    assert [stores[0].debit(USE, now=NOW) for _ in range(2)] == [None, 0]
    assert stores[1].get("list") == (1, b"one")
    assert stores[0].insert("proof:new", now=NOW, expires_at=END)


def test_a_server_that_takes_connections_and_says_nothing_refuses(shared: object) -> None:
    """The wait for the first answer is bounded."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        shared.address = shared.address.replace(str(shared.server.port), str(silent.getsockname()[1]))
        store = _impatient(shared)
        for step in STEPS[:2]:
            begin = time.monotonic()
            with pytest.raises(StateError):
                step(store)
            assert time.monotonic() - begin < 20


def test_what_is_no_server_at_all_refuses(shared: object) -> None:
    """Nobody listens there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared.address = shared.address.replace(str(shared.server.port), str(free.getsockname()[1]))
    _refused(_impatient(shared))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(shared: object) -> None:
    """Parent and child go on with the same state, and neither disturbs the other."""
    store = shared.open()
    assert store.insert("proof:parent", now=NOW, expires_at=END)
    child = os.fork()
    if child == 0:
        fresh = [store.insert(f"proof:child-{at}", now=NOW, expires_at=END) for at in range(20)]
        os._exit(0 if all(fresh) and store.contains("proof:parent", now=NOW) else 1)
    parent = [store.insert(f"proof:parent-{at}", now=NOW, expires_at=END) for at in range(20)]
    assert os.waitpid(child, 0)[1] == 0
    assert all(parent)
    assert not any(store.insert(f"proof:child-{at}", now=NOW, expires_at=END) for at in range(20))


@pytest.mark.parametrize("kind", SERVERS)
def test_a_missing_library_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lacks the extra is told so when the store is made, not when the first call is refused."""
    monkeypatch.setitem(sys.modules, "redis" if kind == "redis" else "psycopg", None)
    with pytest.raises(ConfigurationError, match=rf"\.\[{kind}\]"):
        RedisState("redis://x") if kind == "redis" else PostgresState("postgresql://x")


@pytest.mark.parametrize(
    "make",
    [
        lambda: RedisState("redis://x", prefix=""),
        lambda: RedisState("redis://x", prefix="a{b}"),
        lambda: RedisState("redis://x", prefix="a" * 129),
        lambda: RedisState("redis://x", timeout=0),
        lambda: RedisState("redis://x", timeout=61),
        lambda: PostgresState("", prefix="Robert'); DROP TABLE students;--"),
        lambda: PostgresState("", prefix="1a"),
        lambda: PostgresState("", prefix="a" * 41),
        lambda: PostgresState("", prefix=""),
        lambda: PostgresState("", timeout=0),
        lambda: PostgresState("", timeout=61),
    ],
)
def test_wrong_options_are_refused(make: Callable[[], StateStore]) -> None:
    """Before anything is opened."""
    with pytest.raises(ValueError, match=r"is not |has "):
        make()


# ---------------------------------------------------------------------------------------------- Redis


@pytest.mark.parametrize(
    "answer",
    [
        b":1\r\n",
        b"*2\r\n:1\r\n:1\r\n",
        b"*3\r\n:1\r\n$1\r\n1\r\n$1\r\na\r\n",
        b"*3\r\n:1\r\n:1\r\n:1\r\n",
    ],
    ids=["no list", "too short", "a count as text", "a name as a number"],
)
def test_a_server_that_does_not_run_our_scripts_is_refused(answer: bytes) -> None:
    """What speaks the protocol and answers a script with something else has taken no step."""
    answers = {
        b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n",
        b"INFO": b"$13\r\nmaxmemory:0\r\n\r\n",
        b"EVALSHA": answer,
    }

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as asked:
            while head := asked.readline():
                words = [asked.read(int(asked.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
                connection.sendall(answers.get(words[0].upper(), b"+OK\r\n"))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        store = RedisState(f"redis://127.0.0.1:{server.getsockname()[1]}", timeout=5)
        _refused(store, "answer our scripts")
        store.close()
        thread.join(10)


def test_a_redis_that_hangs_refuses_and_goes_on(share: Callable[[str], object]) -> None:
    """The wait for an answer is bounded; what was on its way is not sent again."""
    shared = share("redis")
    store = _impatient(shared, 1)
    assert store.debit(USE, now=NOW) is None
    os.kill(shared.server.process.pid, signal.SIGSTOP)
    try:
        for step in STEPS[1], STEPS[5], STEPS[6]:
            with pytest.raises(StateError, match="TimeoutError"):
                step(store)
    finally:
        os.kill(shared.server.process.pid, signal.SIGCONT)
    patient = shared.open()
    assert patient.debit(USE, now=NOW) is None
    assert patient.debit(USE, now=NOW) == 0


@pytest.mark.parametrize("lost", ["all", "some", "replaced"])
def test_a_redis_that_forgot_is_refused_until_the_store_is_made_anew(
    share: Callable[[str], object], redis_client: object, lost: str
) -> None:
    """Empty, or as it was some writes ago, it would let everything through again."""
    shared = share("redis")
    store, bystander = shared.open(), shared.open()
    for at in range(5):
        assert store.insert(f"proof:{at}", now=NOW, expires_at=END)
    assert bystander.contains("proof:0", now=NOW)
    prefix = shared.address.rpartition("#")[2]
    facts = f"{{{prefix}}}:facts"
    if lost == "some":
        redis_client.hset(facts, "writes", 2)
    else:
        redis_client.delete(*redis_client.keys(f"{{{prefix}}}*"))
        if lost == "replaced":
            other = shared.open()
            for at in range(9):
                assert other.insert(f"proof:other-{at}", now=NOW, expires_at=END)
    _refused(store, "lost")
    with pytest.raises(StateError, match="lost"):
        bystander.contains("proof:0", now=NOW)
    again = shared.open()
    assert again.insert("proof:new-again", now=NOW, expires_at=END)
    _refused(store, "lost")


def test_a_redis_that_drops_keys_is_refused(share: Callable[[str], object], redis_client: object) -> None:
    """A used proof that was evicted would be unused again; with no limit of memory nothing is evicted."""
    shared = share("redis")
    redis_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert shared.open().insert("proof:a", now=NOW, expires_at=END)
        redis_client.config_set("maxmemory", "1gb")
        _refused(shared.open(), "noeviction")
        redis_client.config_set("maxmemory-policy", "noeviction")
        assert not shared.open().insert("proof:a", now=NOW, expires_at=END)
    finally:
        redis_client.config_set("maxmemory", "0")
        redis_client.config_set("maxmemory-policy", "noeviction")


def test_a_full_redis_takes_no_new_keys(share: Callable[[str], object], redis_client: object) -> None:
    """It says so, keeps what it has, and goes on when there is room."""
    store = share("redis").open()
    assert store.insert("proof:a", now=NOW, expires_at=END)
    redis_client.config_set("maxmemory", "100kb")  # Less than an empty server takes.
    try:
        with pytest.raises(StateError, match="full") as caught:
            store.insert("proof:b", now=NOW, expires_at=END)
        assert caught.value.code == "state_full"
    finally:
        redis_client.config_set("maxmemory", "0")
    assert store.insert("proof:b", now=NOW, expires_at=END)
    assert not store.insert("proof:a", now=NOW, expires_at=END)


def test_redis_may_forget_its_scripts(share: Callable[[str], object], redis_client: object) -> None:
    """As after a restart; they are sent again."""
    store = share("redis").open()
    assert store.insert("proof:a", now=NOW, expires_at=END)
    redis_client.script_flush()
    assert not store.insert("proof:a", now=NOW, expires_at=END)


def test_redis_forgets_what_has_expired(share: Callable[[str], object], redis_client: object) -> None:
    """Keys and counters carry their end, and versions have none; nothing else is kept."""
    shared = share("redis")
    store = shared.open()
    store.insert("proof:a", now=NOW, expires_at=NOW + 30)
    store.debit([Debit("limit:a", 1, 1, 60, NOW + 10)], now=NOW)
    store.debit([Debit("limit:a", 0, 1, 60, NOW + 30)], now=NOW)
    store.debit([Debit("limit:far", 1, 1, None, 2**53)], now=NOW)
    store.put("list", 1, b"")
    prefix = f"{{{shared.address.rpartition('#')[2]}}}"
    lives = {key.decode(): redis_client.pttl(key) for key in redis_client.keys(f"{prefix}*")}
    assert lives.pop(f"{prefix}:facts") == lives.pop(f"{prefix}:version:list") == -1
    assert lives.pop(f"{prefix}:counter:0:limit:far") > 10**12
    assert lives.keys() == {f"{prefix}:kept:proof:a", f"{prefix}:counter:60:limit:a"}
    assert all((GRACE + 20) * 1_000 < life <= (GRACE + 30) * 1_000 for life in lives.values())


def test_a_redis_that_cannot_be_looked_at_is_closed_again(
    share: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not tell whether it evicts is refused, and asked again the next time."""
    store, closed = share("redis").open(), []
    real = redis_state._client

    class Mute:
        def execute_command(self, *arguments: object) -> object:
            from redis.exceptions import NoPermissionError

            raise NoPermissionError

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(redis_state, "_client", lambda url, timeout: Mute())
    with pytest.raises(StateError, match="NoPermissionError"):
        store.get("list")
    assert closed == [True]
    monkeypatch.setattr(redis_state, "_client", real)
    assert store.get("list") is None


# ---------------------------------------------------------------------------------------------- PostgreSQL


def test_a_backend_that_was_ended_is_replaced(share: Callable[[str], object], database: object) -> None:
    """A connection that the server left is not used again; a closed one neither."""
    store = share("postgres").open()
    assert store.insert("proof:a", now=NOW, expires_at=END)
    database.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'agent-identity'"
    )
    assert not store.insert("proof:a", now=NOW, expires_at=END)
    store._idle[0].close()
    assert not store.insert("proof:a", now=NOW, expires_at=END)


def test_a_backend_that_hangs_refuses_and_is_left(share: Callable[[str], object], database: object) -> None:
    """The wait for an answer is bounded even where the server's own timeouts cannot run."""
    shared = share("postgres")
    store = _impatient(shared, 1)
    assert store.insert("proof:a", now=NOW, expires_at=END)
    (pid,) = [store._idle[0].info.backend_pid]
    os.kill(pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        with pytest.raises(StateError, match="TimeoutError"):
            store.insert("proof:b", now=NOW, expires_at=END)
        assert time.monotonic() - begin < 10
        assert store.insert("proof:b", now=NOW, expires_at=END)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert store.contains("proof:a", now=NOW)


def test_a_lock_of_others_is_waited_for_and_then_refused(share: Callable[[str], object], database: object) -> None:
    """The server ends the wait, and says so."""
    shared = share("postgres")
    store = _impatient(shared, 1)
    assert store.debit(USE, now=NOW) is None
    table = f"{shared.address.rpartition('#')[2]}_counters"
    with database.transaction():
        database.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StateError, match=r"LockNotAvailable|QueryCanceled"):
            store.debit(USE, now=NOW)
    assert [store.debit(USE, now=NOW) for _ in range(2)] == [None, 0]


def test_no_more_calls_are_under_way_than_there_are_connections(share: Callable[[str], object]) -> None:
    """Whoever gets no turn in time is refused."""
    store = _impatient(share("postgres"), 5)
    assert store.insert("proof:a", now=NOW, expires_at=END)
    store._timeout = 0.2
    for _ in range(postgres_state._CONNECTIONS):
        store._turns.acquire()
    _refused(store, "turn")
    for _ in range(postgres_state._CONNECTIONS):
        store._turns.release()
    assert not store.insert("proof:a", now=NOW, expires_at=END)


def test_other_tables_are_refused(share: Callable[[str], object], database: object) -> None:
    """A newer version, and tables that somebody has removed; a fresh store makes them anew."""
    shared = share("postgres")
    store = shared.open()
    assert store.insert("proof:a", now=NOW, expires_at=END)
    prefix = shared.address.rpartition("#")[2]
    database.execute(f"UPDATE {prefix}_schema SET version = 2")
    _refused(shared.open(), "version 1")
    for table in ("kept", "counters", "versions", "news", "schema"):
        database.execute(f"DROP TABLE {prefix}_{table}")
    _refused(store, "UndefinedTable")
    assert shared.open().insert("proof:a", now=NOW, expires_at=END)


def test_damaged_sums_are_refused(share: Callable[[str], object], database: object) -> None:
    """What cannot be read is no zero."""
    shared = share("postgres")
    store = shared.open()
    assert store.debit(USE, now=NOW) is None
    database.execute(f"UPDATE {shared.address.rpartition('#')[2]}_counters SET parts = 'nonsense'")
    for step in STEPS[2], STEPS[3]:
        with pytest.raises(StateError, match="damaged"):
            step(store)


def test_what_has_expired_is_forgotten_by_the_clock_of_the_server(
    share: Callable[[str], object], database: object
) -> None:
    """Keys and counters go some calls after their end, and what lives stays."""
    shared = share("postgres")
    store, prefix = shared.open(), shared.address.rpartition("#")[2]
    for at in range(10):
        assert store.insert(f"proof:{at}", now=NOW, expires_at=NOW + 30)
        assert store.debit([Debit(f"limit:{at}", 1, 1, None, NOW + 30)], now=NOW) is None
    due = "extract(epoch FROM clock_timestamp())"
    for table in ("kept", "counters"):
        lives = database.execute(
            f"SELECT min(forget_at - {due}), max(forget_at - {due}) FROM {prefix}_{table}"
        ).fetchone()
        assert GRACE < lives[0] <= lives[1] <= GRACE + 30
        database.execute(f"UPDATE {prefix}_{table} SET forget_at = 0 WHERE key NOT LIKE '%:0'")
    for _ in range(16):
        assert not store.insert("proof:0", now=NOW, expires_at=NOW + 30)
        assert store.debit([Debit("limit:0", 1, 1, None, NOW + 30)], now=NOW) == 0
    for table in ("kept", "counters"):
        assert database.execute(f"SELECT count(*) FROM {prefix}_{table}").fetchone() == (1,)


def test_a_full_disk_is_told_from_other_failures(
    share: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one failure that room mends."""
    import psycopg

    store = share("postgres").open()
    assert store.get("list") is None

    def full(*arguments: object, **named: object) -> None:
        raise psycopg.errors.DiskFull

    monkeypatch.setattr(store, "_row", full)
    with pytest.raises(StateError, match="disk") as caught:
        store.insert("proof:a", now=NOW, expires_at=END)
    assert caught.value.code == "state_full"
    monkeypatch.undo()
    assert store.insert("proof:a", now=NOW, expires_at=END)


def test_a_connection_that_cannot_be_set_up_is_closed(
    share: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a failure of the settings nor an interrupt leaves a connection behind."""
    store, opened = share("postgres").open(), []

    def interrupted(connection: object, *arguments: object) -> None:
        opened.append(connection)
        raise KeyboardInterrupt

    monkeypatch.setattr(postgres_connection.BoundedConnection, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.get("list")
    assert opened[0].closed
    monkeypatch.undo()
    assert store.get("list") is None


def test_closing_while_a_call_is_under_way_leaves_nothing_open(share: Callable[[str], object]) -> None:
    """The call ends as it would have, and its connection with it."""
    store = share("postgres").open()
    with store._using() as connection:
        store.close()
        assert store._row(connection, "get", name="list") is None
    assert connection.closed
    assert store._idle == []
    with pytest.raises(StateError, match="closed"):
        store.get("list")


def test_threads_share_the_connections(share: Callable[[str], object]) -> None:
    """There are as many as calls were under way at once, and no more than eight."""
    store, done = share("postgres").open(), []
    threads = [threading.Thread(target=lambda: done.append(store.get("list"))) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [None] * 30
    assert 1 <= len(store._idle) <= 8
