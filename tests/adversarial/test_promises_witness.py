"""Clients that are slow on purpose: a witness answers the others, and no request takes longer than its deadline."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_identity._ledger.transparency.witness import Witness, WitnessState
from agent_identity.cli.trust.witness import WitnessServer
from agent_identity.identity import SigningKey
from agent_identity.testing import FixedClock

MOST = 64
BEGUN = b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 1000\r\n\r\nold "
ASKED = b"GET /00/checkpoint HTTP/1.1\r\nHost: x\r\n\r\n"


class Seconds:
    """A clock that goes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Watched(WitnessServer):
    """Tells when a connection has its thread, and when that has ended."""

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)
        self.begun = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Serve, and tell."""
        self.begun.release()
        super().process_request_thread(request, client_address)
        self.ended.release()


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def server(tmp_path: Path, seconds: Seconds) -> Iterator[Watched]:
    """Serve a witness that knows no log."""
    state = WitnessState(tmp_path / "state", new=True)
    witness = Witness("w.example", SigningKey.generate(), {}, state, FixedClock())
    with Watched(("127.0.0.1", 0), witness, seconds=seconds) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            state.close()


@contextlib.contextmanager
def slow_clients(server: Watched, number: int) -> Iterator[list[socket.socket]]:
    """Connect clients that begin a request and do not end it."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(number):
            clients.append(stack.enter_context(connected(server)))
            clients[-1].sendall(BEGUN)
            assert server.begun.acquire(timeout=30)
        yield clients


def connected(server: WitnessServer) -> socket.socket:
    """Connect a client."""
    return socket.create_connection(server.server_address, timeout=30)


def answer(server: WitnessServer, request: bytes = ASKED) -> bytes:
    """Return what an honest client gets for a request."""
    with connected(server) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(4_096), b""))


def test_clients_that_drip_lock_nobody_out(server: Watched) -> None:
    """With as many of them as there is room for, whoever comes next is answered at once, and so are many after it."""
    with slow_clients(server, MOST) as clients:
        for _ in range(3):
            assert answer(server).startswith(b"HTTP/1.1 404 ")
        # The oldest ones had to go, the others wait as before.
        assert clients[0].recv(100) == b""
        clients[-1].sendall(b"x")


def test_clients_that_go_on_sending_end_at_the_deadline(server: Watched, seconds: Seconds) -> None:
    """Each byte comes in time, and the request as a whole does not."""
    with slow_clients(server, 3) as clients:
        for moment in (4.0, 8.0, 9.9):
            seconds.now = moment
            server.service_actions()
            for client in clients:
                client.sendall(b"x")
        assert server.ended.acquire(blocking=False) is False
        seconds.now = 10.0
        server.service_actions()
        for _ in clients:
            assert server.ended.acquire(timeout=30)
        for client in clients:
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(100) == b""
    assert answer(server).startswith(b"HTTP/1.1 404 ")


def test_a_connection_has_one_request(server: Watched) -> None:
    """A second one on the same connection would begin a new deadline, again and again."""
    text = answer(server, ASKED + ASKED)
    assert text.count(b"HTTP/1.1 404 ") == 1
    assert b"Connection: close" in text


def test_more_connections_than_threads_are_closed(server: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system, or our own bound, has no thread for a connection, it ends, and later ones are served."""
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", failing)
        with connected(server) as client:
            assert client.recv(100) == b""
    assert answer(server).startswith(b"HTTP/1.1 404 ")
    held = 0
    while server._room.acquire(blocking=False):
        held += 1
    with connected(server) as client:
        assert client.recv(100) == b""
    for _ in range(held):
        server._room.release()
    assert answer(server).startswith(b"HTTP/1.1 404 ")


def failing(_: threading.Thread) -> None:
    """Start no thread."""
    raise RuntimeError("can't start new thread")
