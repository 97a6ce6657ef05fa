"""One request to an endpoint that may be hostile: bounded in time and size, verified, and never redirected."""

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent_identity._authority.tokens.exchange import MAX_ANSWER
from agent_identity.errors import ConfigurationError, ExchangeError
from agent_identity.tokens import HttpTransport, Reply

CANARY = "CANARY-4711-hunter2"
Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that read a request and then do what they are told with the connection."""
    stack = contextlib.ExitStack()

    def start(answer: Callable[[socket.socket], None]) -> str:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def run() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    read_request(connection)
                    answer(connection)

        thread = threading.Thread(target=run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(listener.shutdown, socket.SHUT_RDWR)  # Wakes a thread that nobody has connected to.
        return f"http://127.0.0.1:{listener.getsockname()[1]}/token?tenant=1"

    yield start
    stack.close()


def read_request(connection: socket.socket) -> bytes:
    """Return a request, head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def post(url: str, *, timeout: float = 5.0, transport: HttpTransport | None = None) -> Reply:
    """Send a request with credentials in it."""
    headers = {"Authorization": f"Basic {CANARY}", "Content-Type": "application/x-www-form-urlencoded"}
    return (transport or HttpTransport()).post(url, headers=headers, body=CANARY.encode(), timeout=timeout)


def unreachable(url: str, *, timeout: float = 5.0, transport: HttpTransport | None = None) -> str:
    """Send a request that gets no answer; return the message of the error, which quotes nothing."""
    with pytest.raises(ExchangeError) as caught:
        post(url, timeout=timeout, transport=transport)
    assert caught.value.code == "exchange_unreachable"
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert CANARY not in str(caught.value)
    assert "tenant" not in str(caught.value)
    return str(caught.value)


def test_a_request_is_sent_and_an_answer_read(serve: Serve) -> None:
    """Method, query, headers and body arrive; status, headers in lower case and body come back."""
    seen: list[bytes] = []
    url = serve(lambda c: c.sendall(b"HTTP/1.1 201 x\r\nDPoP-Nonce: n\r\nContent-Length: 2\r\n\r\n{}"))

    def listen(connection: socket.socket) -> None:
        seen.append(b"")
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-A: first\r\nX-A: second\r\n\r\nbody")

    assert post(url) == Reply(201, {"dpop-nonce": "n", "content-length": "2"}, b"{}")
    reply = post(serve(listen))
    assert (reply.status, reply.headers, reply.body, seen) == (200, {"x-a": "first"}, b"body", [b""])
    assert repr(reply) == "Reply(status=200)"


def test_what_is_sent(serve: Serve) -> None:
    """A POST to path and query, without compression, which could be a bomb."""
    seen: list[bytes] = []

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.append(read_request(connection))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=run)
        thread.start()
        post(f"http://localhost:{listener.getsockname()[1]}?a=b")
        thread.join()
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /?a=b HTTP/1.1\r\n")
    assert b"Accept-Encoding: identity" in head
    assert b"gzip" not in head
    assert body == CANARY.encode()


def test_a_redirect_is_an_answer_like_any_other(serve: Serve) -> None:
    """Nothing is sent to where an endpoint points."""
    asked: list[bool] = []
    other = serve(lambda c: asked.append(True))
    url = serve(lambda c: c.sendall(f"HTTP/1.1 307 x\r\nLocation: {other}\r\nContent-Length: 0\r\n\r\n".encode()))
    assert post(url).status == 307
    assert asked == []


def test_a_huge_body_is_read_up_to_a_limit(serve: Serve) -> None:
    """However much an endpoint sends, little more than a large token is kept."""

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x" * 65_536)

    assert len(post(serve(flood)).body) == MAX_ANSWER + 1


def test_a_huge_chunked_body_is_read_up_to_a_limit(serve: Serve) -> None:
    """The same where no length is announced."""

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")

    assert len(post(serve(flood)).body) == MAX_ANSWER + 1


@pytest.mark.parametrize(
    ("first", "drip"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    ],
    ids=["silence", "headers", "continue", "body", "chunks", "no length"],
)
def test_a_slow_answer_is_waited_for_no_longer_than_the_time(serve: Serve, first: bytes, drip: bytes) -> None:
    """Whether silent or dripping, in the head or the body: the time is for all of it."""
    stop = threading.Event()

    def slowly(connection: socket.socket) -> None:
        connection.sendall(first)
        with contextlib.suppress(OSError):
            while not stop.wait(0.02):
                connection.sendall(drip)

    start = time.monotonic()
    message = unreachable(serve(slowly), timeout=0.3)
    stop.set()
    assert time.monotonic() - start < 5
    assert "within 0.3 s" in message or "no answer" in message


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no HTTP\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        f"HTTP/1.1 {CANARY}\r\n\r\n".encode(),
    ],
    ids=["nothing", "no HTTP", "no status", "headers", "header", "chunk", "echo"],
)
def test_what_is_no_answer_is_an_error(serve: Serve, answer: bytes) -> None:
    """Whatever is not HTTP, or without end, gives the typed error without a word of it."""
    assert "no answer" in unreachable(serve(lambda c: c.sendall(answer)))


def test_nobody_there_is_an_error() -> None:
    """A closed port is told as such, without what should have been sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    unreachable(f"http://127.0.0.1:{port}/x?tenant=1")


def test_nothing_goes_in_clear_to_another_machine() -> None:
    """A URL without TLS to elsewhere is refused before anything is sent."""
    with pytest.raises(ValueError, match="https"):
        post("http://example.com/token")


def test_a_name_of_this_machine_that_leads_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``localhost`` resolves to is looked at before anything is sent."""
    sent: list[bytes] = []

    class Elsewhere(socket.socket):
        def getpeername(self) -> tuple[str, int]:
            return ("192.0.2.1", 80)

        def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
            sent.append(data)

    left, right = socket.socketpair()
    with right:
        fake = Elsewhere(left.family, left.type, left.proto, left.detach())
        monkeypatch.setattr(socket, "create_connection", lambda *_, **__: fake)
        monkeypatch.setattr(Elsewhere, "setsockopt", lambda *_: None)
        unreachable("http://localhost/x?tenant=1")
    assert sent == []


def test_time_that_is_over_before_the_request_is_an_error(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that took all the time leaves none to wait for an answer."""
    url = serve(lambda c: None)
    times = iter([0.0, 100.0])
    monkeypatch.setattr("agent_identity._common.http_post.time.monotonic", lambda: next(times, 100.0))
    assert "within 5 s" in unreachable(url)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the key and the certificate of 127.0.0.1, signed by itself."""
    key, path = generate_private_key(SECP256R1()), tmp_path_factory.mktemp("tls") / "server.pem"
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + built.public_bytes(Encoding.PEM)
    )
    return path


@pytest.mark.parametrize("trusted", [True, False])
def test_the_server_is_verified(certificate: Path, *, trusted: bool) -> None:
    """Over TLS, a server whose certificate nobody trusts gets nothing; one that the context trusts gets the request."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ssl.SSLError), server.wrap_socket(connection, server_side=True) as tls:
                got.append(read_request(tls))
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=run)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/token"
        if trusted:
            context = ssl.create_default_context(cafile=str(certificate))
            assert post(url, transport=HttpTransport(context)).body == b"ok"
        else:
            assert "TLS" in unreachable(url)
        thread.join()
    assert [CANARY.encode() in request for request in got] == ([True] if trusted else [])


def test_a_context_that_verifies_nobody_is_refused() -> None:
    """Switching verification off is no option."""
    careless = ssl.create_default_context()
    careless.check_hostname = False
    with pytest.raises(ConfigurationError, match="does not verify the server"):
        HttpTransport(careless)
    careless.verify_mode = ssl.CERT_NONE
    with pytest.raises(ConfigurationError, match="does not verify the server"):
        HttpTransport(careless)
