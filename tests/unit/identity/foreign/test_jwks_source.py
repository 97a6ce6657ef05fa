"""Keys from an address: bounded in time, size and number of requests, and from nowhere else."""

import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent_identity import Human
from agent_identity._identity.foreign.jwks_source import check_address, fetch
from agent_identity.errors import TokenError
from agent_identity.identity import JwksSource, KeySet
from agent_identity.testing import FixedClock

WALL = 1_764_000_000_000_000_000


@dataclass
class Site:
    """A server on this machine, what it answers at each path, and which paths were asked."""

    port: int
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"

    def serve(self, document: object, *, path: str = "/keys", status: int = 200, **headers: str) -> None:
        """Answer with this document from now on."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answers[path] = (status, headers, body)


@pytest.fixture
def site() -> Iterator[Site]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            status, headers, body = found.answers.get(self.path, (404, {}, b""))
            if status == 0:
                found.hold.wait(10)
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    found = Site(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


def _refused(make: Callable[[], object], code: str = "keys_unavailable") -> str:
    with pytest.raises(TokenError) as caught:
        make()
    assert caught.value.code == code
    return str(caught.value)


def test_keys_are_asked_for_once_and_kept(issuer: Any, site: Site, clock: FixedClock) -> None:
    """Nothing before the first token, one request for many, and another when they are too old."""
    site.serve(issuer.jwks())
    source = JwksSource(site.url, max_age=100, clock=clock)
    assert site.asked == []
    for _ in range(3):
        human = Human.from_id_token(issuer.token(), **issuer.expects(jwks=source))
        assert human.provenance == "verified"
    assert site.asked == ["/keys"]
    clock.advance(99)
    source.keys_for(None)
    assert len(site.asked) == 1
    clock.advance(1)
    source.keys_for(None)
    assert len(site.asked) == 2
    assert repr(source) == f"JwksSource({site.url!r})"


def test_a_new_key_is_found_when_a_token_names_it(issuer: Any, site: Site, clock: FixedClock) -> None:
    """Rotation: a name that is not in the set is looked for, but not before retry_after is over."""
    site.serve(issuer.jwks("ec"))
    source = JwksSource(site.url, retry_after=30, clock=clock)
    assert "rsa" not in source.keys_for("ec")
    site.serve(issuer.jwks("ec", "rsa"))
    assert "rsa" not in source.keys_for("rsa")
    clock.advance(30)
    assert "rsa" in source.keys_for("rsa")
    assert len(site.asked) == 2


def test_ac_15_ten_thousand_unknown_keys_cost_one_request(issuer: Any, site: Site, clock: FixedClock) -> None:
    """A flood of invented names is refused without a request for each, and nothing is remembered about them."""
    site.serve(issuer.jwks("ec"))
    source = JwksSource(site.url, retry_after=30, clock=clock)
    source.keys_for("ec")
    before = source.__dict__.copy()
    for number in range(10_000):
        assert f"k{number}" not in source.keys_for(f"k{number}")
    assert source.__dict__ == before
    for _ in range(3):
        token = issuer.token(header={"kid": "invented"})
        _refused(lambda token=token: Human.from_id_token(token, **issuer.expects(jwks=source)), "unknown_key")  # type: ignore[misc]
    assert len(site.asked) == 1
    clock.advance(30)
    for number in range(100):
        source.keys_for(f"k{number}")
    assert len(site.asked) == 2


def test_old_keys_bridge_a_failure_for_a_while(issuer: Any, site: Site, clock: FixedClock) -> None:
    """After max_age they count for stale_if_error at most, and the address is asked no more often than allowed."""
    site.serve(issuer.jwks("ec"))
    source = JwksSource(site.url, max_age=100, stale_if_error=50, retry_after=20, clock=clock)
    source.keys_for("ec")
    site.serve(b"", status=500)
    clock.advance(100)
    for _ in range(5):
        assert "ec" in source.keys_for("ec")
    assert len(site.asked) == 2
    clock.advance(49)
    assert "ec" in source.keys_for("ec")
    assert len(site.asked) == 3
    clock.advance(1)
    _refused(lambda: source.keys_for("ec"))
    site.serve(issuer.jwks("ec384"))
    clock.advance(20)
    assert "ec384" in source.keys_for("ec384")


def test_a_clock_that_goes_back_keeps_no_key_alive(issuer: Any, site: Site, clock: FixedClock) -> None:
    """The older age of two clocks counts: one may be set back, the other stands still while a machine sleeps."""
    site.serve(issuer.jwks())
    source = JwksSource(site.url, max_age=100, retry_after=1, clock=clock)
    source.keys_for(None)
    clock.advance(100)
    clock.set_wall(0)
    source.keys_for(None)
    assert len(site.asked) == 2
    clock.advance(2)
    clock.set_wall(WALL)
    source.keys_for(None)
    assert len(site.asked) == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, {}, b'{"keys":[]}'), "another status"),
        ((204, {}, b""), "another status"),
        ((302, {"Location": "/elsewhere"}, b""), "another status"),
        ((307, {"Location": "file:///etc/passwd"}, b""), "another status"),
        ((200, {}, b" " * (1 << 20) + b"{}"), "more than 1048576 bytes"),
        ((200, {}, b"no json"), "key set"),
        ((200, {}, b'{"keys":[{"kty":"oct","k":"AA"}]}'), "private"),
        ((200, {"Content-Length": "50"}, b'{"keys":[]'), "key set"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_another_answer_gives_no_keys(
    issuer: Any, site: Site, clock: FixedClock, answer: tuple[int, dict[str, str], bytes], said: str
) -> None:
    """Other statuses, redirects, too many bytes and bad content leave the source without keys."""
    site.answers["/keys"] = answer
    site.serve(issuer.jwks(), path="/elsewhere")
    source = JwksSource(site.url, clock=clock)
    assert said in _refused(lambda: source.keys_for("ec"))
    assert "tried again" in _refused(lambda: source.keys_for("ec"))
    assert site.asked == ["/keys"]


def test_a_server_that_says_nothing_is_left(site: Site, clock: FixedClock) -> None:
    """The time limit bounds the whole request, whatever the server does."""
    site.answers["/keys"] = (0, {}, b"")
    source = JwksSource(site.url, timeout=0.1, clock=clock)
    # Who notices first, the socket or the caller who waits, is a matter of chance.
    assert _refused(lambda: source.keys_for("ec")).startswith("the configured address returned no keys: ")


def test_a_server_that_drips_is_left_in_time() -> None:
    """A byte now and then, which starts the clock of a socket again each time, does not hold the caller."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        enough = threading.Event()

        def drip() -> None:
            peer, _ = listener.accept()
            with peer:
                try:
                    peer.sendall(b"HTTP/1.1 200 OK\r\n")
                    while not enough.wait(0.02):
                        peer.sendall(b"X-Drip: 1\r\n")
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        started = time.monotonic()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert "in time" in _refused(lambda: fetch(url, limit=100, timeout=0.2))
        assert time.monotonic() - started < 2
        assert "not answered" in _refused(lambda: fetch(url, limit=100, timeout=9))
        enough.set()
        thread.join()


def test_nobody_there_is_said_without_addresses() -> None:
    """A refused connection is a TokenError that names the class of the failure."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    message = _refused(lambda: fetch(f"http://127.0.0.1:{port}/private-path", limit=100, timeout=2))
    assert "URLError" in message or "ConnectionRefusedError" in message
    assert "private-path" not in message


def test_the_proxy_of_the_environment_is_not_asked_about_this_machine(
    issuer: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on this machine is asked directly; what is elsewhere goes by the proxy, if there is one."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    site.serve(issuer.jwks())
    assert "ec" in JwksSource(site.url).keys_for("ec")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{site.port}")
    _refused(lambda: fetch("https://login.invalid/keys", limit=100, timeout=2))


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example/keys",
        "http://127.0.0.1.evil.example/keys",
        "http://localhost.evil.example/keys",
        "http://10.0.0.1/keys",
        "http://0.0.0.0/keys",
        "ftp://127.0.0.1/keys",
        "file:///etc/passwd",
        "data:application/json,{}",
        "https://",
        "https:///keys",
        "login.example/keys",
        "https://user@login.example/keys",
        "https://login.example/keys#fragment",
        "https://login.example/ keys",
        "https://login.example/\nkeys",
        "https://lögin.example/keys",
        "https://login.example/" + "k" * 2048,
        "",
    ],
)
def test_keys_come_from_https_or_this_machine_only(url: str) -> None:
    """Every other address is refused before anything is sent."""
    with pytest.raises(ValueError, match=r" (is|are|has|have|does) "):
        JwksSource(url)


def test_addresses_that_are_accepted() -> None:
    """Https anywhere, http on this machine."""
    for url in (
        "https://login.example/keys?x=1",
        "http://localhost:80/k",
        "http://127.9.9.9/k",
        "http://[::1]:1/k",
    ):
        assert check_address(url) == url
    with pytest.raises(TypeError):
        check_address(b"https://login.example")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("max_age", 0, ValueError),
        ("max_age", 86_401, ValueError),
        ("max_age", float("nan"), ValueError),
        ("max_age", "1", TypeError),
        ("max_age", True, TypeError),
        ("stale_if_error", -1, ValueError),
        ("retry_after", 0, ValueError),
        ("timeout", 0, ValueError),
    ],
)
def test_bounds_are_bounded(option: str, value: Any, kind: type[Exception]) -> None:
    """No option switches a bound off."""
    with pytest.raises(kind, match=option):
        JwksSource("https://login.example/keys", **{option: value})


def test_threads_share_one_request(issuer: Any, site: Site) -> None:
    """Many first callers at once lead to one request, and all get its keys."""
    site.serve(issuer.jwks())
    source = JwksSource(site.url)
    start, results = threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        results.append(source.keys_for("ec"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.asked) == 1
    assert results == [KeySet.parse(issuer.jwks())] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parent(issuer: Any, site: Site) -> None:
    """A lock that a thread of the parent held at the fork does not hold the child."""
    site.serve(issuer.jwks())
    source = JwksSource(site.url)
    with source._own_lock():
        child = os.fork()
        if child == 0:  # pragma: no cover  The child reports by its status.
            os._exit(0 if "ec" in source.keys_for("ec") else 1)
        _, status = os.waitpid(child, 0)
    assert status == 0


def test_a_private_authority_for_tls(issuer: Any, tmp_path: Path) -> None:
    """An https server is asked under the context that was given, and refused without it."""
    key, name = issuer.keys["ec"], x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    pem = certificate.public_bytes(Encoding.PEM)
    path.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(issuer.jwks()).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        url = f"https://localhost:{server.server_port}/keys"
        trusting = ssl.create_default_context(cadata=pem.decode())
        assert "ec" in JwksSource(url, context=trusting).keys_for("ec")
        _refused(lambda: JwksSource(url).keys_for("ec"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_issuer_says_where_its_keys_are(issuer: Any, site: Site) -> None:
    """Discovery asks the well-known address of the issuer once; the source asks later."""
    name = f"http://127.0.0.1:{site.port}"
    site.serve({"issuer": name, "jwks_uri": site.url}, path="/.well-known/openid-configuration")
    site.serve(issuer.jwks())
    source = JwksSource.discover(name, max_age=60)
    assert source.url == site.url
    assert site.asked == ["/.well-known/openid-configuration"]
    assert "ec" in source.keys_for("ec")


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({"issuer": "https://evil.example"}, "wrong_issuer"),
        ({"issuer": None}, "wrong_issuer"),
        ({"jwks_uri": "http://evil.example/keys"}, "bad_key_set"),
        ({"jwks_uri": "file:///etc/passwd"}, "bad_key_set"),
        ({"jwks_uri": None}, "bad_key_set"),
        (b"no json", "bad_key_set"),
    ],
)
def test_metadata_of_others_is_refused(site: Site, metadata: Any, code: str) -> None:
    """The metadata has to be that of the issuer, and to name an acceptable address."""
    name = f"http://127.0.0.1:{site.port}"
    good = {"issuer": name, "jwks_uri": site.url}
    document = metadata if isinstance(metadata, bytes) else good | metadata
    site.serve(document, path="/.well-known/openid-configuration")
    _refused(lambda: JwksSource.discover(name), code)
    assert len(site.asked) == 1


def test_ac_14_no_address_in_a_token_is_asked(issuer: Any, stranger: Any, site: Site) -> None:
    """Whatever a token names in its header, nothing is fetched from there."""
    site.serve(stranger.jwks(), path="/evil")
    site.serve(issuer.jwks())
    source = JwksSource(site.url)
    for member in ("jku", "x5u"):
        token = stranger.token(header={member: f"http://127.0.0.1:{site.port}/evil"})
        _refused(lambda token=token: Human.from_id_token(token, **issuer.expects(jwks=source)), "unknown_header")  # type: ignore[misc]
    for member in ("iss", "jku", "jwks_uri"):
        token = stranger.token(**{member: f"http://127.0.0.1:{site.port}/evil"})
        _refused(lambda token=token: Human.from_id_token(token, **issuer.expects(jwks=source)), "bad_signature")  # type: ignore[misc]
    assert "/evil" not in site.asked
