"""State in a SQLite file: who may open it, what happens when it is damaged, gone, full or busy."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_identity._authority.stores import sqlite as sqlite_state
from agent_identity._authority.stores.protocol import GRACE
from agent_identity.errors import StateError
from agent_identity.state import Debit, SqliteState

NOW, END = 1_000, 2_000
USE = [Debit("limit:a", 1, 2, None, END)]
STEPS: list[Callable[[SqliteState], object]] = [
    lambda store: store.insert("proof:new", now=NOW, expires_at=END),
    lambda store: store.contains("proof:a", now=NOW),
    lambda store: store.debit(USE, now=NOW),
    lambda store: store.credit(USE, now=NOW),
    lambda store: store.put("list", 9, b""),
    lambda store: store.get("list"),
    lambda store: store.generation(),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evidence" / "state" / "state.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteState]:
    store = SqliteState(path, timeout=0.05)
    yield store
    store.close()


def _refused(store: SqliteState, match: str, code: str = "state_unavailable") -> None:
    """Every way to ask is refused, one line, without a path or a key."""
    for step in STEPS:
        with pytest.raises(StateError, match=match) as caught:
            step(store)
        assert caught.value.code == code
        assert "\n" not in str(caught.value)
        assert "proof" not in str(caught.value).replace("used proofs", "")


def test_nothing_is_made_before_the_first_use(path: Path) -> None:
    """Opening costs nothing, and closing what was never used leaves nothing behind."""
    SqliteState(path).close()
    assert not path.parent.exists()


def test_only_the_owner_can_reach_the_file(store: SqliteState, path: Path) -> None:
    """Folder 0700, file and its companions 0600, whatever the umask; no temporary file is left."""
    before = os.umask(0)
    try:
        store.insert("proof:a", now=NOW, expires_at=END)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = list(path.parent.iterdir())
    assert {file.name for file in files} == {"state.sqlite", "state.sqlite-wal", "state.sqlite-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_file_that_others_can_reach_is_refused(store: SqliteState, path: Path, mode: int) -> None:
    """What others could read or write says nothing about what was used."""
    store.get("list")
    store.close()
    path.chmod(mode)
    again = SqliteState(path)
    _refused(again, "chmod 600")
    path.chmod(0o600)
    assert again.get("list") is None
    again.close()


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever owns the file can change it."""
    first = SqliteState(path)
    first.get("list")
    first.close()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(sqlite_state.stat, "S_ISREG", lambda mode: True)
    real = os.lstat(path)
    monkeypatch.setattr(os, "lstat", lambda name: os.stat_result((real.st_mode, 1, 1, 1, 4_242, *real[5:10])))
    _refused(SqliteState(path), "owner")


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_regular_file_is_refused(store: SqliteState, path: Path, kind: str) -> None:
    """A link must not lead the state elsewhere, and a pipe must not hang it."""
    path.parent.mkdir(parents=True)
    if kind == "link":
        path.symlink_to(path.parent / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    _refused(store, "regular file")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """The words of the system say why."""
    (tmp_path / "file").write_bytes(b"")
    _refused(SqliteState(tmp_path / "file" / "state" / "state.sqlite"), "Not a directory")


def test_a_platform_without_modes_is_refused(store: SqliteState, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be kept private is no place for state."""
    monkeypatch.delattr(os, "geteuid")
    _refused(store, "POSIX")


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to be looked at" * 40])
def test_another_file_is_refused(store: SqliteState, path: Path, content: bytes) -> None:
    """An empty file and a file of another kind stay as they are."""
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    path.chmod(0o600)
    _refused(store, "the state file is")
    assert path.read_bytes() == content


def test_a_newer_version_is_refused(store: SqliteState, path: Path) -> None:
    """A newer library may count in another way."""
    store.get("list")
    store.close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 2")
    other.close()
    _refused(SqliteState(path), "version 1")


def test_a_damaged_file_is_refused(store: SqliteState, path: Path) -> None:
    """Pages of noise are noticed, said to be damage, and never overwritten by a fresh file."""
    for at in range(2_000):
        store.insert(f"proof:{at:0200}", now=NOW, expires_at=END)
    store.close()
    data = path.read_bytes()
    path.write_bytes(data[:4_096] + b"\xa5" * (len(data) - 4_096))
    again = SqliteState(path)
    for step in (STEPS[0], lambda store: store.contains(f"proof:{1_500:0200}", now=NOW)):
        with pytest.raises(StateError, match="damaged"):
            step(again)
    again.close()
    assert len(path.read_bytes()) >= len(data)


@pytest.mark.parametrize(
    ("damage", "step"),
    [
        ("UPDATE versions SET version = 'one'", lambda store: store.get("list")),
        ("UPDATE versions SET data = 'text'", lambda store: store.get("list")),
        ("UPDATE counters SET expires_at = 'late'", lambda store: store.debit(USE, now=NOW)),
        ("UPDATE counters SET parts = x'30'", lambda store: store.debit(USE, now=NOW)),
        ("UPDATE news SET count = 'many'", lambda store: store.generation()),
        ("DELETE FROM news", lambda store: store.generation()),
    ],
)
def test_a_row_of_other_types_is_damage(
    store: SqliteState, path: Path, damage: str, step: Callable[[SqliteState], object]
) -> None:
    """SQLite keeps a text where a number belongs, if somebody writes one; it is not taken for a number."""
    store.put("list", 1, b"one")
    store.debit(USE, now=NOW)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()
    again = SqliteState(path)
    with pytest.raises(StateError, match="damaged"):
        step(again)
    again.close()


def test_a_file_that_was_removed_is_missed_until_it_returns(store: SqliteState, path: Path) -> None:
    """Going on with a file that nobody else can find would forget the others; so would a fresh one."""
    assert store.insert("proof:a", now=NOW, expires_at=END)
    away = path.with_name("away")
    path.rename(away)
    _refused(store, "No such file")
    away.rename(path)
    assert not store.insert("proof:a", now=NOW, expires_at=END)


def test_a_file_that_took_the_place_is_used(store: SqliteState, path: Path) -> None:
    """A copy that was put back counts, and the generation says that everything may be different."""
    assert store.insert("proof:a", now=NOW, expires_at=END)
    generation = store.generation()
    other = SqliteState(path.with_name("other.sqlite"))
    assert other.insert("proof:b", now=NOW, expires_at=END)
    other.close()
    path.with_name("other.sqlite").replace(path)
    for companion in ("-wal", "-shm"):
        path.with_name(path.name + companion).unlink()
    assert store.generation() != generation
    assert store.contains("proof:b", now=NOW)
    assert not store.contains("proof:a", now=NOW)


def test_a_full_file_takes_no_new_keys_and_forgets_to_make_room(path: Path) -> None:
    """At its largest the file says so; what it has stays, and room comes back with time."""
    store = SqliteState(path, max_bytes=200_000)
    keys = (f"proof:{at:0100}" for at in range(10_000))
    with pytest.raises(StateError, match="room") as caught:
        all(store.insert(key, now=NOW, expires_at=END) for key in keys)
    assert caught.value.code == "state_full"
    count = int(next(keys)[6:]) - 1
    assert 300 < count < 3_000
    assert not store.insert(f"proof:{0:0100}", now=NOW, expires_at=END)
    assert store.contains(f"proof:{count - 1:0100}", now=NOW)
    assert not store.contains(f"proof:{count:0100}", now=NOW)
    later = END + GRACE
    assert all(store.insert(f"later:{at:0100}", now=later, expires_at=later + 10) for at in range(count // 2))
    assert path.stat().st_size <= 200_000
    store.close()


def test_the_file_does_not_grow_with_what_has_passed(store: SqliteState, path: Path) -> None:
    """Expired keys and counters make room for new ones."""
    sizes = []
    for at in range(3_000):
        now = NOW + at
        assert store.insert(f"proof:{at}", now=now, expires_at=now + 5)
        assert store.debit([Debit(f"limit:{at}", 1, 1, 60, now + 5)], now=now) is None
        if at in (1_000, 2_999):
            sizes.append(path.stat().st_size)
    with sqlite3.connect(path) as other:
        kept, counters = other.execute("SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM counters)").fetchone()
    other.close()
    assert max(kept, counters) <= GRACE + 10
    assert sizes[1] <= sizes[0] + 8 * 4_096


def test_a_busy_file_is_waited_for_and_then_refused(store: SqliteState, path: Path) -> None:
    """While another process writes, reading goes on; writing waits, for a bounded time, and then goes on."""
    store.get("list")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for step in (STEPS[0], STEPS[2], STEPS[3], STEPS[4]):
        with pytest.raises(StateError, match="all the time") as caught:
            step(store)
        assert caught.value.code == "state_unavailable"
    assert store.get("list") is None
    other.execute("ROLLBACK")
    other.close()
    assert STEPS[0](store)


def test_threads_that_get_no_turn_are_refused(store: SqliteState) -> None:
    """A thread that hangs inside does not hang the others."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with store._lock:
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    _refused(store, "no turn")
    release.set()
    thread.join()
    assert STEPS[0](store)


def test_a_call_within_a_call_is_refused(store: SqliteState) -> None:
    """As a signal handler would make it: the outer call goes on unharmed."""
    with store._writing() as connection:
        for step in STEPS[:-1]:
            with pytest.raises(StateError, match="signal handler"):
                step(store)
        connection.execute("UPDATE news SET count = 42")
    assert store._connected()[0].execute("SELECT count FROM news").fetchone() == (42,)


def test_an_interrupt_leaves_nothing_half_done(store: SqliteState) -> None:
    """What was begun is undone, and the store can be used at once."""

    def interrupted() -> None:
        with store._writing() as connection:
            connection.execute("UPDATE news SET count = 42")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert STEPS[0](store)
    assert store._connected()[0].execute("SELECT count FROM news").fetchone() == (1,)


class _Failing:
    """A connection that fails at one of its statements."""

    def __init__(self, inner: sqlite3.Connection, fails_at: int) -> None:
        self.inner, self.left = inner, fails_at

    def execute(self, *arguments: object) -> sqlite3.Cursor:
        if self.left == 0:
            raise sqlite3.OperationalError("disk I/O error")
        self.left -= 1
        return self.inner.execute(*arguments)

    @property
    def in_transaction(self) -> bool:
        return self.inner.in_transaction

    def close(self) -> None:
        self.inner.close()


def _works(store: SqliteState, step: Callable[[SqliteState], object]) -> bool:
    try:
        step(store)
    except StateError:
        return False
    return True


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_a_failure_at_any_statement_changes_nothing(path: Path, number: int) -> None:
    """Each statement of each call fails once: an error, nothing half done, and the next call works."""
    watcher = SqliteState(path)
    watcher.insert("proof:a", now=NOW, expires_at=END)
    watcher.debit(USE, now=NOW)
    watcher.put("list", 1, b"one")
    store, seen = SqliteState(path), watcher.generation()
    for fails_at in range(20):
        work, watching = store._connected()
        store._connections = (_Failing(work, fails_at), _Failing(watching, fails_at))
        store._seen = (-1, 0)
        if _works(store, STEPS[number]):
            break
        assert not watcher.contains("proof:new", now=NOW)
        assert watcher.get("list") == (1, b"one")
        assert watcher.generation() == seen
        assert watcher._connected()[0].execute("SELECT parts FROM counters").fetchone() == ("0:1",)
    assert 0 < fails_at < 19
    store.close()
    watcher.close()


def test_a_connection_that_cannot_be_set_up_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while opening leaves nothing open, and the next call opens again."""
    real, opened = sqlite_state.plain_connection, []

    def failing(uri: str, timeout: float) -> object:
        connection = real(uri, timeout)
        if "mode=rw" not in uri:
            return connection
        opened.append(_Failing(connection, len(opened)))
        return opened[-1]

    monkeypatch.setattr(sqlite_state, "plain_connection", failing)
    store = SqliteState(path)
    for _ in range(3):
        with pytest.raises(StateError):
            store.get("list")
    monkeypatch.undo()
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.inner.execute("SELECT 1")
    assert store.get("list") is None
    store.close()


def test_two_that_come_first_agree_on_one_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loses the race to make the file uses the winner's."""
    other = SqliteState(path)
    real = os.link

    def late(source: object, target: object) -> None:
        monkeypatch.undo()
        assert other.insert("proof:a", now=NOW, expires_at=END)
        real(source, target)

    store = SqliteState(path)
    monkeypatch.setattr(os, "link", late)
    assert not store.insert("proof:a", now=NOW, expires_at=END)
    store.close()
    other.close()
    assert [file.name for file in path.parent.iterdir()] == ["state.sqlite"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("used_before", [True, False])
def test_a_forked_child_has_connections_of_its_own(store: SqliteState, *, used_before: bool) -> None:
    """Parent and child go on with the same state, and neither disturbs the other."""
    if used_before:
        assert store.insert("proof:parent", now=NOW, expires_at=END)
    child = os.fork()
    if child == 0:
        fresh = store.insert("proof:child", now=NOW, expires_at=END)
        known = store.contains("proof:parent", now=NOW)
        os._exit(0 if fresh and known is used_before else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not store.insert("proof:child", now=NOW, expires_at=END)
    assert store.insert("proof:again", now=NOW, expires_at=END)


def test_what_is_stored_survives_the_death_of_the_process(path: Path) -> None:
    """A process that kills itself right after a call has stored it."""
    script = (
        "import os, signal, sys; from agent_identity._authority.stores.sqlite import SqliteState\n"
        f"store = SqliteState(sys.argv[1]); store.insert('proof:a', now={NOW}, expires_at={END})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    store = SqliteState(path)
    assert not store.insert("proof:a", now=NOW, expires_at=END)
    store.close()


@pytest.mark.parametrize(("sync", "level"), [("process", 1), ("disk", 2)])
def test_what_a_write_survives_can_be_chosen(path: Path, sync: str, level: int) -> None:
    """The disk is waited for on each call, or only for versioned data."""
    store = SqliteState(path, sync=sync)
    assert store.put("list", 1, b"")
    assert store._connected()[0].execute("PRAGMA synchronous").fetchone() == (2,)
    assert store.insert("proof:a", now=NOW, expires_at=END)
    assert store._connected()[0].execute("PRAGMA synchronous").fetchone() == (level,)
    store.close()


@pytest.mark.parametrize("wrong", [{"sync": "never"}, {"timeout": 0}, {"timeout": 61}, {"max_bytes": -1}])
def test_wrong_options_are_refused(path: Path, wrong: dict) -> None:
    """Every option is checked before anything is opened."""
    with pytest.raises(ValueError, match=r" (is|are|has|have|does) "):
        SqliteState(path, **wrong)
