"""Real stores under faults, while a guarded tool is called all the time: what is refused, and for how long.

Run as ``python benchmarks/state_faults.py [sqlite] [redis] [postgres]``; it needs ``redis-server`` and the programs of
PostgreSQL, and takes three minutes. Each line is one fault: its seconds, the calls that began in it, how many were
refused and with which codes, the longest call, and the seconds from its end to the end of the first call that ran.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Self

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.errors import AgentIdentityError
from agent_identity.state import PostgresState, RedisState, SqliteState, StateStore

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}


def free_port() -> int:
    """Return a port on which no one listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy:
    """A way to a server that can be slow, or swallow everything."""

    def __init__(self, target: int) -> None:
        self.target, self.delay, self.passes = target, 0.0, True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                time.sleep(self.delay)
                while not self.passes:
                    time.sleep(0.01)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Server:
    """A server with a disk, and how to stop it in order."""

    def __init__(self, command: list[str], port: int, stop: signal.Signals, user: str | None = None) -> None:
        self.command, self.port, self._stop = command, port, stop
        self._who = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
        self.start()

    def start(self) -> None:
        """Start it, and return when it listens."""
        self.process = subprocess.Popen(self.command, **QUIET, **self._who)  # noqa: S603  Fixed words.
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it in order."""
        self.process.send_signal(self._stop)
        self.process.wait()


def redis_server(folder: Path) -> Server:
    """Return a Redis server that syncs every write."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "yes"]
    return Server(["redis-server", *options, "--appendfsync", "always"], port, signal.SIGTERM)


def postgres_server(folder: Path) -> Server:
    """Return a PostgreSQL server, which does not run as root."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    user = "nobody" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
        folder.chmod(0o700)
    who = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    data, port = str(folder / "data"), free_port()
    make = [programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres"]
    subprocess.run(make, check=True, **QUIET, **who)  # noqa: S603  Fixed words.
    settings = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=")
    words = [word for setting in settings for word in ("-c", setting)]
    return Server([str(programs / "postgres"), "-D", data, *words], port, signal.SIGINT, user)


class Load:
    """One thread that calls a guarded tool all the time."""

    def __init__(self, enforcer: Enforcer) -> None:
        self.calls: list[tuple[float, float, str]] = []
        self._enforcer, self._over = enforcer, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        work = self._enforcer.tool(lambda: None, name="work")
        agent, scope = Agent("clerk", owner="finance@example.com"), Scope("work")
        options = {"principal": Human("alice"), "agent": agent, "scope": scope, "ttl": timedelta(hours=1)}
        with self._enforcer.task("work", **options):
            while not self._over.wait(0.005):
                begun, result = time.monotonic(), "ok"
                try:
                    work()
                except AgentIdentityError as error:
                    result = error.code
                self.calls.append((begun, time.monotonic(), result))

    def __enter__(self) -> Self:
        self._thread.start()
        time.sleep(1.5)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @contextlib.contextmanager
    def fault(self, name: str) -> Generator[None]:
        """Report the calls of a block, and the first one after it."""
        begun = time.monotonic()
        yield
        end = time.monotonic()
        time.sleep(5)
        during = [call for call in self.calls if begun <= call[0] < end]
        refused = [call[2] for call in during if call[2] != "ok"]
        again = next((call[1] - end for call in self.calls if call[0] >= end and call[2] == "ok"), None)
        line = {
            "fault": name,
            "seconds": round(end - begun, 1),
            "calls": len(during),
            "refused": len(refused),
            "codes": sorted(set(refused)),
            "longest": round(max((call[1] - call[0] for call in during), default=0), 3),
            "again": None if again is None else round(again, 3),
        }
        print(json.dumps(line), flush=True)


@contextlib.contextmanager
def load_on(folder: Path, state: StateStore) -> Iterator[Load]:
    """Yield the load of an enforcer on a store."""
    with contextlib.closing(state), Enforcer.open(folder / "evidence", state=state) as enforcer:
        enforcer.revoke("agent", "other")
        with Load(enforcer) as load:
            yield load


def of_server(kind: str, make: Callable[[Path], Server], store: Callable[[int], StateStore]) -> None:
    """Run the faults of a server."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as own:
        server = make(Path(name))
        proxy = Proxy(server.port)
        with load_on(Path(own), store(proxy.port)) as load:
            with load.fault(f"{kind}: restart"):
                server.stop()
                time.sleep(1.5)
                server.start()
            with load.fault(f"{kind}: partition"):
                proxy.passes = False
                time.sleep(13)
                proxy.passes = True
            for delay in (0.05, 4.0):
                with load.fault(f"{kind}: slow by {2 * delay} s a round trip"):
                    proxy.delay = delay
                    time.sleep(13)
                    proxy.delay = 0.0
            with load.fault(f"{kind}: frozen"):
                os.kill(server.process.pid, signal.SIGSTOP)
                time.sleep(8)
                os.kill(server.process.pid, signal.SIGCONT)
        server.stop()


def of_sqlite() -> None:
    """Run the faults of a file."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "state.sqlite")
        with load_on(Path(name), SqliteState(path)) as load:
            with load.fault("sqlite: locked"), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                time.sleep(7)
                other.execute("ROLLBACK")
            with load.fault("sqlite: removed"):
                path.rename(Path(name, "away"))
                time.sleep(2)
                Path(name, "away").rename(path)


def main() -> None:
    """Run the faults of the named stores, or of all."""
    chosen = sys.argv[1:] or ["sqlite", "redis", "postgres"]
    if "sqlite" in chosen:
        of_sqlite()
    if "redis" in chosen:
        of_server("redis", redis_server, lambda port: RedisState(f"redis://127.0.0.1:{port}/0"))
    if "postgres" in chosen:
        url = "postgresql://postgres@127.0.0.1:{}/postgres"
        of_server("postgres", postgres_server, lambda port: PostgresState(url.format(port)))


if __name__ == "__main__":
    main()
