"""Four kinds of stores for one suite; the servers are real, on loopback, with folders of their own."""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_identity._authority.stores.directory import DirectoryState
from agent_identity.state import MemoryState, SqliteState, StateStore

_FRESH = itertools.count()
_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _program(name: str, package: str) -> str:
    """Return the path of a server, or skip; in CI, where it is installed, its absence is a failure."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, _DEBIAN)))
    if found is None:
        message = f"{name} is not installed; on Debian: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _as(user: str | None) -> dict:
    """Return what has a child run as another user."""
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


@dataclass
class Server:
    """One server that can be stopped, frozen and started again with the data that it has."""

    command: list[str]
    port: int
    answers: Callable[[], object]
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        who = _as(self.user)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        self.process = subprocess.Popen(self.command, cwd="/", **quiet, **who)
        waiting = threading.Event()
        for _ in range(600):
            with contextlib.suppress(Exception):
                self.answers()
                return
            assert self.process.poll() is None, f"{self.command[0]} ended with {self.process.returncode}"
            waiting.wait(0.05)
        pytest.fail(f"{self.command[0]} does not answer")

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self.process.send_signal(self.stop_signal)
        self.process.wait(30)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """A Redis server that writes every command to its disk."""
    redis = pytest.importorskip("redis")
    program = _program("redis-server", "redis-server")
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "yes"}
        command = [program, *itertools.chain(*((f"--{name}", str(value)) for name, value in options.items()))]

        def answers() -> None:
            with redis.Redis(port=port) as client:
                client.ping()

        server = Server(command, port, answers)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server; it refuses to run as root."""
    psycopg = pytest.importorskip("psycopg")
    programs = [_program(name, "postgresql") for name in ("initdb", "postgres")]
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="agent-identity-postgres-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        make = [programs[0], "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(make, check=True, cwd="/", stdout=subprocess.DEVNULL, **_as(user))
        port = _free_port()
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        command = [programs[1], "-D", str(data), *itertools.chain(*(("-c", f"{n}={v}") for n, v in settings.items()))]

        def answers() -> None:
            psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres", connect_timeout=2).close()

        server = Server(command, port, answers, stop_signal=signal.SIGINT, user=user)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Shared:
    """State of one kind that any number of stores can share."""

    kind: str
    address: str
    make: Callable[[], StateStore]
    server: Server | None = None
    stores: list[StateStore] = field(default_factory=list)

    def open(self) -> StateStore:
        """Return another store on the same state."""
        store = self.make()
        self.stores.append(store)
        return store


KINDS = ("memory", "sqlite", "directory", "redis", "postgres")


@pytest.fixture
def share(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Shared]]:
    """Return what makes fresh state of a kind, and close every store at the end."""
    made: list[Shared] = []

    def make(kind: str) -> Shared:
        fresh = f"t{os.getpid()}_{next(_FRESH)}"
        if kind == "memory":
            one = MemoryState()
            shared = Shared(kind, "", lambda: one)
        elif kind == "sqlite":
            path = tmp_path / f"{fresh}.sqlite"
            shared = Shared(kind, str(path), lambda: SqliteState(path))
        elif kind == "directory":
            folder = tmp_path / fresh
            shared = Shared(kind, str(folder), lambda: DirectoryState(folder))
        elif kind == "redis":
            server = request.getfixturevalue("redis_server")
            from agent_identity.state import RedisState

            url = f"redis://127.0.0.1:{server.port}/0"
            shared = Shared(kind, f"{url}#{fresh}", lambda: RedisState(url, prefix=fresh), server)
        else:
            server = request.getfixturevalue("postgres_server")
            from agent_identity.state import PostgresState

            url = f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
            shared = Shared(kind, f"{url}#{fresh}", lambda: PostgresState(url, prefix=fresh), server)
        made.append(shared)
        return shared

    yield make
    for shared in made:
        for store in shared.stores:
            store.close()


@pytest.fixture(params=KINDS)
def shared(request: pytest.FixtureRequest, share: Callable[[str], Shared]) -> Shared:
    """State of each kind."""
    return share(request.param)


@pytest.fixture
def store(shared: Shared) -> StateStore:
    """A store of each kind."""
    return shared.open()
