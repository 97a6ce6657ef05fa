"""The client of a signer: it answers with a signature of its key, or with an error, in bounded time."""

import contextlib
import copy
import os
import pickle
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_identity._identity.trust.socket_signer import MAX_FRAME
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.identity import SigningKey, SocketSigner

KEY = SigningKey.from_seed(b"k" * 32)
Answer = Callable[[bytes], bytes | None]


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def honest(request: bytes) -> bytes:
    """Answer as a signer does."""
    if request[:1] == b"S":
        return frame(b"\0" + KEY.sign(request[33:]))
    return frame(b"\0" + (KEY.public_key.raw if request[:1] == b"K" else b"{}"))


class Server:
    """A signer whose answers a test decides; ``None`` closes the connection."""

    def __init__(self, path: str) -> None:
        self.path, self.answer, self.accepted = path, honest, 0
        self.requests: list[bytes] = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen(8)
        self.threads = [threading.Thread(target=self.serve)]
        self.threads[0].start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.accepted += 1
            self.threads.append(threading.Thread(target=self.attend, args=(connection,)))
            self.threads[-1].start()

    def attend(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            self.converse(connection)

    def converse(self, connection: socket.socket) -> None:
        while head := connection.recv(4, socket.MSG_WAITALL):
            request = connection.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL)
            self.requests.append(request)
            answer = self.answer(request)
            if answer is None:
                return
            connection.sendall(answer)

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for thread in self.threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self.threads), "a client left its connection open"


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="ai-") as folder:
        one = Server(f"{folder}/s")
        yield one
        one.close()


@pytest.fixture
def signer(server: Server) -> Iterator[SocketSigner]:
    one = SocketSigner(Path(server.path), "issuer", timeout=5)
    yield one
    one.close()


def test_it_signs_with_the_key_of_the_signer(server: Server, signer: SocketSigner) -> None:
    """The request names the key and has the message; one connection serves all requests."""
    assert signer.public_key == KEY.public_key
    assert signer.sign(b"message") == KEY.sign(b"message")
    assert signer.trust_file() == b"{}"
    assert server.requests == [b"Ki", b"S" + KEY.public_key.raw + b"message", b"T"]
    assert server.accepted == 1
    assert SocketSigner(server.path, "recorder").public_key == KEY.public_key
    assert server.requests[-1] == b"Kr"


def test_it_connects_again(server: Server, signer: SocketSigner) -> None:
    """A signer that was started anew, or closed an idle connection, costs nothing but a connection."""
    server.answer = lambda _: None
    with pytest.raises(EvidenceError):
        signer.sign(b"lost")
    server.answer = honest
    assert signer.sign(b"a") == KEY.sign(b"a")
    signer.close()
    assert signer.sign(b"b") == KEY.sign(b"b")
    closed = [False]

    def once(request: bytes) -> bytes | None:
        if closed[0]:
            return honest(request)
        closed[0] = True
        return None

    server.answer = once
    assert signer.sign(b"c") == KEY.sign(b"c")


def test_many_threads_get_their_own_signatures(signer: SocketSigner) -> None:
    """Answers are never mixed up."""
    wrong: list[bytes] = []

    def ask(name: bytes) -> None:
        for number in range(20):
            message = name + b"%d" % number
            if signer.sign(message) != KEY.sign(message):
                wrong.append(message)

    threads = [threading.Thread(target=ask, args=(b"%d:" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda _: frame(b"\1not_recognised"), "signer_refused"),
        (lambda _: frame(b"\1\xff\x1b"), "signer_refused"),
        (lambda _: frame(b""), "signer_refused"),
        (lambda _: frame(b"\0" + b"x" * 64), "signer_unavailable"),
        (lambda _: frame(b"\0" + b"x"), "signer_unavailable"),
        (lambda _: frame(b"\0" + KEY.sign(b"other")), "signer_unavailable"),
        (lambda _: struct.pack(">I", MAX_FRAME + 1), "signer_unavailable"),
        (lambda _: None, "signer_unavailable"),
    ],
)
def test_what_is_no_signature_is_an_error(server: Server, signer: SocketSigner, answer: Answer, code: str) -> None:
    """Refusals, garbage, signatures of something else, endless answers and closed connections; nothing is shown raw."""
    server.answer = answer
    with pytest.raises(EvidenceError) as failed:
        signer.sign(b"message")
    assert failed.value.code == code
    assert "\x1b" not in str(failed.value)


@pytest.mark.parametrize("part", [b"", b"\0\0", frame(b"\0" + b"x" * 64)[:20]])
def test_a_signer_that_does_not_answer_in_time_is_an_error(server: Server, part: bytes) -> None:
    """A part of an answer is none, and the next request has a connection of its own."""
    signer = SocketSigner(server.path, "issuer", timeout=0.5)
    server.answer = lambda _: part
    with pytest.raises(EvidenceError, match="timed out") as failed:
        signer.sign(b"message")
    assert failed.value.code == "signer_unavailable"
    server.answer = honest
    assert signer.sign(b"a") == KEY.sign(b"a")
    signer.close()


def test_an_interruption_costs_the_connection(
    server: Server, signer: SocketSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that comes after Ctrl-C is never taken for that to the next question."""
    from agent_identity._identity.trust import socket_signer

    def interrupt(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(socket_signer, "receive_frame", interrupt)
        with pytest.raises(KeyboardInterrupt):
            signer.sign(b"a")
    assert signer.sign(b"b") == KEY.sign(b"b")
    assert server.accepted == 2


@pytest.mark.parametrize("answer", [lambda _: frame(b"\0short"), lambda _: frame(b"\0" + bytes(32))])
def test_what_is_no_key_is_no_signer(server: Server, answer: Answer) -> None:
    """Another service at the socket is told apart."""
    server.answer = answer
    with pytest.raises(ConfigurationError, match="is not a signer") as failed:
        SocketSigner(server.path, "issuer")
    assert failed.value.code == "signer_unavailable"


def test_a_missing_signer_is_a_mistake_of_the_set_up(tmp_path: Path) -> None:
    """The message names the path."""
    with pytest.raises(ConfigurationError, match="none'") as failed:
        SocketSigner(tmp_path / "none", "issuer")
    assert failed.value.code == "signer_unavailable"


def test_a_platform_without_unix_sockets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says so."""
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(ConfigurationError, match="no Unix sockets"):
        SocketSigner("s", "issuer")


def test_a_forked_child_connects_anew(server: Server, signer: SocketSigner, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shares neither the connection nor a lock that another thread of its parent holds."""
    signer._lock.acquire()
    process = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: process)
    assert signer.sign(b"child") == KEY.sign(b"child")
    assert server.accepted == 2


def test_it_is_neither_shown_nor_copied(signer: SocketSigner) -> None:
    """It names path and key."""
    assert repr(signer) == f"SocketSigner({signer._path!r}, {KEY.public_key.thumbprint!r})"
    for copied in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            copied(signer)


def test_it_hands_over_the_successors(server: Server, signer: SocketSigner) -> None:
    """The signed successors of the trust file are words, oldest first."""
    server.answer = lambda _: frame(b"\0a.b.c d.e.f\n")
    assert signer.successors() == ("a.b.c", "d.e.f")
