"""Authority over HTTP: what clients send to whom, and what the two kinds of middleware let in."""

import asyncio
import contextvars
import hashlib
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._directory.open import prepare
from agent_identity._identity.common.record_bytes import decode_record
from agent_identity._ledger.reader import open_ledger
from agent_identity.delegation import Peer, Presentation
from agent_identity.errors import AttenuationError, ConfigurationError, Denied, EvidenceError, NoTask, TokenError
from agent_identity.identity import RandomIds, SigningKey, SystemClock, TrustStore
from agent_identity.integrations.http import asgi, wsgi
from agent_identity.integrations.http.binding import (
    CHAIN,
    HEADERS,
    MAX_HEADERS,
    NEXT,
    PROOF,
    TOOL,
    absolute_url,
    origin_of,
    presentation_of,
    to_headers,
)
from agent_identity.integrations.http.client import delegation_headers
from agent_identity.integrations.http.httpx import AsyncDelegationTransport, DelegationTransport
from agent_identity.integrations.http.requests import DelegationAdapter
from agent_identity.integrations.http.server import Gate
from agent_identity.options import Telemetry

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
DESK = Agent("desk", owner="payments@example.com")
KEY = SigningKey.from_seed(b"\x07" * 32)
SCOPE = Scope("read", path="a") | Scope("pay", amount=5)
BASE = "https://b.example.com"
PEERS = {"b.example.com": Peer("service-b")}
ARGUMENTS = {"audience": "service-b", "base_url": BASE}


class Pair:
    """A calling service a, and a service b that trusts the issuer of a; what b's application was called with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, list[object]()
        self.a = Enforcer.open(folder / "a", telemetry=Telemetry(tracer_provider=TracerProvider()))
        trust = TrustStore.load(folder / "a" / "trust.json")
        (key,) = (trusted.key for trusted in trust.keys if trusted.purpose == "issuer")
        _, _, own = prepare(folder / "b", SystemClock(), RandomIds())
        own.with_key(key, "issuer", issuer=trust.issuer).save(folder / "b" / "trust.json")
        self.b = Enforcer.open(folder / "b", telemetry=Telemetry(tracer_provider=TracerProvider()))

        @self.b.tool
        def read(path: str) -> str:
            self.calls.append(path)
            return f"{path} of {self.b.current_task.principal.id}"

        self.read = read

    def task(self) -> object:
        """Return a task of alice and the clerk at a."""
        return self.a.task("books", principal=ALICE, agent=CLERK, scope=SCOPE)

    def headers(self, method: str = "GET", url: str = f"{BASE}/x", body: bytes = b"") -> dict[str, str]:
        """Return what a sends with one request."""
        return delegation_headers(self.a, method, url, body, PEERS)

    def refusals(self) -> list[tuple[str, str]]:
        """Return tool and code of each refusal that b recorded outside any task."""
        reader, found = open_ledger(self.folder / "b"), []
        for stream in reader.streams():
            for line in reader.entries(stream):
                record = decode_record(line.record)
                if record["kind"] == "outcome" and "attribution" in record:
                    assert (record["outcome"], record["decision"]["enforced"]) == ("denied", "block")
                    found.append((record["action"]["tool"], record["error"]))
        return found

    def wsgi(self, environ: dict[str, object]) -> list[bytes]:
        """The application of b."""
        body = environ["wsgi.input"].read()
        return [self.read(path="a").encode(), b" ", body]

    async def asgi(self, scope: dict[str, object], receive: Callable, send: Callable) -> None:
        """The application of b, asynchronous."""
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.read(path="a").encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b" " + body})


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    found = Pair(tmp_path)
    yield found
    for enforcer in (found.a, found.b):
        enforcer.close()
    for name in ("a", "b"):
        report = Verifier(tmp_path / name / "trust.json").ledger(tmp_path / name)
        assert (report.verdict, report.findings) == ("verified", ())
    assert dict(otel.get_current()) == {}


def call_wsgi(app: object, environ: dict[str, object]) -> tuple[str, dict[str, str], bytes]:
    """Call a WSGI application as a server does."""
    started: list = []
    result = app(environ, lambda status, headers: started.append((status, dict(headers))))
    try:
        body = b"".join(result)
    finally:
        getattr(result, "close", lambda: None)()
    return (*started[0], body)


def environ_of(headers: dict[str, str], **more: object) -> dict[str, object]:
    """Return the environment of a request."""
    names = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    base = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/x", "wsgi.input": io.BytesIO(b"")}
    return {**base, **names, **more}


def wrapped(pair: Pair, app: object = None, **options: object) -> wsgi.DelegationMiddleware:
    """Return the WSGI application of b behind its gate."""
    inner = app or (lambda environ, start: (start("200 OK", []), pair.wsgi(environ))[1])
    return wsgi.DelegationMiddleware(inner, pair.b, Gate(**{**ARGUMENTS, **options}))


# --- the binding


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://B.Example.com", "https://b.example.com/"),
        ("HTTPS://b.example.com:443/", "https://b.example.com/"),
        ("https://b.example.com:8443/a?b=%2F#c", "https://b.example.com:8443/a?b=%2F"),
        ("http://127.0.0.1:80/a%2fb%20c?", "http://127.0.0.1/a/b%20c"),
        ("http://[::1]:8080/%C3%A4%zz", "http://[::1]:8080/%C3%A4%25zz"),
        ("https://b.example.com/~x;y=1,(2)", "https://b.example.com/~x;y=1,(2)"),
    ],
)
def test_one_spelling_of_a_url(url: str, canonical: str) -> None:
    """What sender and receiver sign is the same, whatever they were given, and spelling it again changes nothing."""
    assert absolute_url(url) == canonical
    assert absolute_url(canonical.replace("%25zz", "")) == canonical.replace("%25zz", "")


@pytest.mark.parametrize(
    "url",
    [
        "b.example.com", "ftp://b.example.com/", "https:///x", "https://b.example.com\\@evil.example/", "//b/x",
        "https://user@b.example.com/", "https://b.example.com:x/", "https://b.example.com /", "https://b/\n", "",
        "https://b.example.com?\u00e4", "https://b\u00e4r.example/", "https://[::1/", "https://b.example.com:123456/",
    ],
)  # fmt: skip
def test_what_readers_of_urls_disagree_about_is_no_url(url: str) -> None:
    """Nothing is sent to a host that another parser would not see."""
    with pytest.raises(ValueError, match="the URL is malformed"):
        origin_of(url)
    with pytest.raises(ValueError, match="the URL is malformed"):
        absolute_url(url)


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(min_codepoint=33, max_codepoint=126)),
)
def test_the_receiver_spells_a_url_as_the_sender(path: str, query: str) -> None:
    """From the decoded path and the raw query comes what the sender made from the encoded URL."""
    from urllib.parse import quote

    query = query.replace("#", "")
    url = f"{BASE}/{quote(path, safe='')}" + (f"?{query}" if query else "")
    assert absolute_url(BASE, f"/{path}", query) == absolute_url(url)
    assert absolute_url(BASE, f"/{path}".encode(), query) == absolute_url(url)


@pytest.mark.parametrize("query", ["a b", "ä", "a#b", "a\n"])
def test_a_query_that_no_request_line_holds_is_refused(query: str) -> None:
    """A server that hands on anything else is not believed."""
    with pytest.raises(ValueError, match="query"):
        absolute_url(BASE, "/", query)


def test_headers_come_back_as_they_went() -> None:
    """Tokens, proof and further grant survive, in any order and beside other headers."""
    shown = Presentation(("a.b.c", "d.e.f"), "g.h.i", "j.k.l")
    headers = to_headers(shown)
    assert set(headers) == {CHAIN, PROOF, NEXT}
    pairs = [("cookie", "x"), *((name.lower(), value) for name, value in reversed(headers.items()))]
    assert presentation_of(pairs) == shown
    assert presentation_of([("cookie", "x")]) is None
    with pytest.raises(TokenError) as refused:
        to_headers(Presentation(("a" * MAX_HEADERS,), "b"))
    assert refused.value.code == "too_large"


C, P, N = (name.lower() for name in (CHAIN, PROOF, NEXT))


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([(C, "a"), (C, "a"), (P, "b")], "malformed_header"),
        ([(C, "a")], "malformed_header"),
        ([(P, "a")], "malformed_header"),
        ([(N, "a")], "malformed_header"),
        ([(C, ""), (P, "b")], "malformed_header"),
        ([(C, "a, b"), (P, "b")], "malformed_header"),
        ([(C, "a"), (P, "b\u00e4")], "malformed_header"),
        ([(C, "a" * MAX_HEADERS), (P, "b")], "too_large"),
    ],
)
def test_malformed_headers_are_refused(pairs: list[tuple[str, str]], code: str) -> None:
    """Twice, alone, empty, joined by a proxy or too long: none is read leniently."""
    with pytest.raises(TokenError) as refused:
        presentation_of(pairs)
    assert refused.value.code == code


# --- clients


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://b.example.com/x", True),
        ("https://B.EXAMPLE.com:443/x", True),
        ("https://b.example.com:8443/x", False),
        ("http://b.example.com/x", False),
        ("https://b.example.com.evil.example/x", False),
        ("https://evil.example/?b.example.com", False),
        ("https://b.example.com@evil.example/", False),
        ("https://b.example.com\\@evil.example/", False),
        ("https://xb.example.com/", False),
        ("http://127.0.0.1:9000/", True),
        ("http://127.0.0.1/", False),
        ("http://[::1]/", True),
        ("http://localhost:9001/", True),
        ("http://10.0.0.1/", False),
        ("https://other.example.com:8443/", True),
        ("https://other.example.com/", False),
    ],
)
def test_authority_goes_to_listed_hosts_only(pair: Pair, url: str, sent: bool) -> None:
    """Host and port have to be listed, and the connection encrypted unless it stays on the machine."""
    hosts = ("b.example.com", "127.0.0.1:9000", "[::1]", "localhost:9001", "10.0.0.1", "other.example.com:8443")
    peers = {host: Peer("service-b") for host in hosts}
    with pair.task():
        headers = delegation_headers(pair.a, "GET", url, b"", peers)
    assert (CHAIN in headers) is sent
    assert not {"baggage", "authorization"} & {name.lower() for name in headers}


def test_plain_http_to_a_listed_host_says_so(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """A misconfigured peer is logged, and without any token."""
    with pair.task(), caplog.at_level(logging.WARNING):
        assert delegation_headers(pair.a, "GET", "http://b.example.com/", b"", PEERS) == {}
    assert [record.getMessage() for record in caplog.records if "plain" in record.getMessage()] == [
        "no authority is sent to service-b over plain http; use https"
    ]


@pytest.mark.parametrize("peers", [{"B.example.com": Peer("b")}, {"https://b": Peer("b")}, {"b": "b"}, {"": Peer("b")}])
def test_a_list_that_can_match_nothing_is_a_mistake(pair: Pair, peers: dict[str, object]) -> None:
    """An entry in another form would send nothing without a word."""
    with pytest.raises(ConfigurationError):
        delegation_headers(pair.a, "GET", BASE, b"", peers)
    for make in (DelegationTransport, AsyncDelegationTransport, DelegationAdapter):
        with pytest.raises(ConfigurationError):
            make(pair.a, peers)


def test_the_trace_goes_along_and_nothing_else(pair: Pair) -> None:
    """With a span there is a traceparent; baggage stays at home."""
    from opentelemetry import baggage

    token = otel.attach(baggage.set_baggage("principal", "alice"))
    try:
        with pair.task():
            assert set(pair.headers()) == {CHAIN, PROOF, "traceparent"}
    finally:
        otel.detach(token)
    with pytest.raises(NoTask):
        pair.headers()


class Redirecting(httpx.MockTransport):
    """Notes what is sent, and redirects the first request to another host."""

    def __init__(self, location: str) -> None:
        self.seen: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            self.seen.append(request)
            return httpx.Response(307, headers={"location": location}) if len(self.seen) == 1 else httpx.Response(200)

        super().__init__(answer)


@pytest.mark.parametrize(("location", "again"), [("https://evil.example/", False), ("https://b.example.com/y", True)])
def test_httpx_sends_nothing_on_to_where_a_redirect_leads(pair: Pair, location: str, again: bool) -> None:
    """Another host gets no header of ours, the same one a fresh proof, and no request object shows any."""
    inner = Redirecting(location)
    with (
        pair.task(),
        httpx.Client(transport=DelegationTransport(pair.a, PEERS, inner), follow_redirects=True) as client,
    ):
        response = client.post(
            f"{BASE}/x", content=iter([b"a", b"b"]), headers={PROOF: "forged", "traceparent": "kept"}
        )
    first, second = inner.seen
    assert first.read() == b"ab"
    assert first.headers["traceparent"] == "kept"
    assert first.headers.get(PROOF) not in {None, "forged"}
    assert (CHAIN in second.headers) is again
    assert second.headers.get(PROOF) not in {"forged", first.headers[PROOF]}
    for request in (response.request, *(before.request for before in response.history)):
        assert CHAIN not in request.headers


async def test_httpx_does_the_same_asynchronously(pair: Pair) -> None:
    """The asynchronous transport adds to the copy for the listed host only."""
    inner = Redirecting("https://evil.example/")
    transport = AsyncDelegationTransport(pair.a, PEERS, inner)
    with pair.task():
        async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:
            response = await client.post(f"{BASE}/x?q=1", json={"a": 1})
    first, second = inner.seen
    assert CHAIN in first.headers
    assert CHAIN not in second.headers
    assert CHAIN not in response.request.headers


def test_transports_have_a_default(pair: Pair) -> None:
    """Without a transport of their own they send over the network."""
    DelegationTransport(pair.a, PEERS).close()
    asyncio.run(AsyncDelegationTransport(pair.a, PEERS).aclose())


@pytest.mark.parametrize("body", [b"x", "x", None])
def test_requests_sends_to_listed_hosts_only(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, body: bytes | str | None
) -> None:
    """The adapter adds to a copy; a body that cannot be read beforehand is refused for a peer only."""
    seen: list[requests.PreparedRequest] = []

    def send(self: object, request: requests.PreparedRequest, **options: object) -> requests.Response:
        seen.append(request)
        response = requests.Response()
        response.status_code, response.request, response.raw = 200, request, io.BytesIO()
        return response

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    session = requests.Session()
    session.mount("https://", DelegationAdapter(pair.a, PEERS))
    with pair.task():
        listed = session.post(f"{BASE}/x", data=body)
        session.post("https://evil.example/", data=body, headers={CHAIN.lower(): "forged"})
        with pytest.raises(TypeError, match="read it into bytes"):
            session.post(f"{BASE}/x", data=iter([b"x"]))
        session.post("https://evil.example/", data=iter([b"x"]))
    assert [CHAIN in request.headers for request in seen] == [True, False, False]
    assert CHAIN not in listed.request.headers


# --- WSGI


def test_wsgi_runs_the_application_inside_the_task(pair: Pair) -> None:
    """Body, task and principal are there, our headers are not, and nothing is left in the thread."""
    seen: dict[str, object] = {}

    def app(environ: dict[str, object], start: Callable) -> list[bytes]:
        seen.update(environ)
        start("200 OK", [])
        return pair.wsgi(environ)

    with pair.task():
        headers = pair.headers("POST", f"{BASE}/a%20b?q=1", b"body")
    environ = environ_of(
        headers, REQUEST_METHOD="POST", PATH_INFO="/a b", QUERY_STRING="q=1", CONTENT_LENGTH="4",
        **{"wsgi.input": io.BytesIO(b"bodymore")},
    )  # fmt: skip
    assert call_wsgi(wrapped(pair, app), environ)[::2] == ("200 OK", b"a of alice@example.com body")
    assert not [name for name in seen if "DELEGATION" in name]
    assert seen["CONTENT_LENGTH"] == "4"
    assert pair.b.current_task is None


def test_a_streamed_response_is_within_the_task_until_it_is_closed(pair: Pair) -> None:
    """Each step runs in the task, in whichever thread; after close there is none."""
    closed: list[object] = []

    class Stream:
        def __iter__(self) -> Iterator[bytes]:
            for _ in range(2):
                yield pair.read(path="a").encode()

        def close(self) -> None:
            closed.append(pair.b.current_task.lease.live)

    def app(environ: dict[str, object], start: Callable) -> Stream:
        start("200 OK", [])
        return Stream()

    with pair.task():
        headers = pair.headers()
    result = wrapped(pair, app)(environ_of(headers), lambda *_: None)
    assert pair.b.current_task is None
    parts = [next(result)]
    thread = threading.Thread(target=lambda: parts.extend(result))
    thread.start()
    thread.join()
    assert parts == [b"a of alice@example.com"] * 2
    result.close()
    assert closed == [True]


def test_an_error_of_the_application_is_its_own(pair: Pair) -> None:
    """It reaches the server as it was, and the task ends with it, before and within a response."""

    def early(environ: object, start: object) -> list[bytes]:
        raise KeyError("early")

    def late(environ: object, start: object) -> Iterator[bytes]:
        yield b""
        raise Denied("late")

    with pair.task():
        first, second = pair.headers(), pair.headers()
    with pytest.raises(KeyError):
        wrapped(pair, early)(environ_of(first), lambda *_: None)
    result = wrapped(pair, late)(environ_of(second), lambda *_: None)
    assert next(result) == b""
    with pytest.raises(Denied, match="late"):
        next(result)
    result.close()
    pair.b.close()
    ends = [
        record.get("error")
        for stream in open_ledger(pair.folder / "b").streams()
        for record in (decode_record(line.record) for line in open_ledger(pair.folder / "b").entries(stream))
        if record["kind"] == "task_end"
    ]
    assert ends == ["KeyError", "Denied"]


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"CONTENT_LENGTH": "x"}, "401", "malformed_header"),
        ({"CONTENT_LENGTH": "9" * 30}, "401", "malformed_header"),
        ({"CONTENT_LENGTH": "11"}, "413", "body_too_large"),
        ({"wsgi.input_terminated": True}, "413", "body_too_large"),
        ({"QUERY_STRING": "a b"}, "401", "malformed_header"),
        ({"QUERY_STRING": "a=b"}, "401", "wrong_arguments"),
        ({"PATH_INFO": "/y"}, "401", "wrong_arguments"),
        ({"REQUEST_METHOD": "DELETE"}, "401", "wrong_arguments"),
        ({"CONTENT_LENGTH": "5"}, "401", "wrong_arguments"),
        ({"HTTP_AGENT_DELEGATION_NEXT": "a.b.c"}, "401", "wrong_next_grant"),
        ({"HTTP_AGENT_DELEGATION": "a.b.c"}, "401", None),
        ({"HTTP_AGENT_DELEGATION": ""}, "401", "malformed_header"),
    ],
)
def test_wsgi_refuses_whatever_does_not_fit(pair: Pair, more: dict[str, object], status: str, code: str | None) -> None:
    """The application does not run, the answer has the code and the id of the record, and the record is there."""
    with pair.task():
        headers = pair.headers()
    environ = environ_of(headers, **{"wsgi.input": io.BytesIO(b"x" * 20), **more})
    answered, sent, body = call_wsgi(wrapped(pair, max_body=10), environ)
    assert (answered[:3], pair.calls) == (status, [])
    told = json.loads(body)
    assert code in {told["code"], None}
    assert sent["content-length"] == str(len(body))
    assert ("www-authenticate" in sent) is (status == "401")
    assert pair.refusals() == [("http.request", told["code"])]
    assert told["reference"]


def test_requests_without_authority_are_refused_or_run_without_a_task(pair: Pair) -> None:
    """Nobody's request runs no tool, also where the server itself was started inside a task."""
    assert call_wsgi(wrapped(pair), environ_of({}))[0][:3] == "401"
    with pair.b.task("server", principal=ALICE, agent=CLERK, scope=SCOPE), pytest.raises(NoTask):
        call_wsgi(wrapped(pair, required=False), environ_of({}))
    assert (pair.calls, [code for _, code in pair.refusals()]) == ([], ["no_delegation", "no_task"])

    def open_page(environ: object, start: Callable) -> Iterator[bytes]:
        start("200 OK", [])
        yield str(pair.b.current_task).encode()

    with pair.b.task("server", principal=ALICE, agent=CLERK, scope=SCOPE):
        assert call_wsgi(wrapped(pair, open_page, required=False), environ_of({}))[2] == b"None"


def test_what_cannot_be_recorded_is_answered_and_does_not_run(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without evidence there is no service, and no reference either."""

    def refuse(*_: object) -> None:
        raise EvidenceError("full")

    with pair.task():
        headers = pair.headers()
    with monkeypatch.context() as patch:
        patch.setattr(type(pair.b._enforcement.ledger), "append", refuse)
        answered, _, body = call_wsgi(wrapped(pair), environ_of(headers))
    told = json.loads(body)
    assert (answered[:3], told["code"], told["reference"]) == ("503", "evidence_unavailable", None)
    assert pair.calls == []


@pytest.mark.parametrize(
    "options",
    [
        {"audience": ""}, {"base_url": "b.example.com"}, {"base_url": f"{BASE}/?q=1"},
        {"base_url": f"{BASE}/#f"}, {"max_body": -1}, {"max_body": 1 << 40}, {"base_url": f"{BASE}/?"},
    ],
)  # fmt: skip
def test_a_gate_is_checked_when_it_is_built(pair: Pair, options: dict[str, object]) -> None:
    """A service that nobody could address does not start."""
    with pytest.raises(ConfigurationError):
        Gate(**{**ARGUMENTS, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"audience": 5}, "audience is 5; give str"),
        ({"base_url": BASE.encode()}, "base_url is bytes; give str"),
        ({"holder": "key"}, "holder is str; give Signer"),
        ({"agent": "desk"}, "agent is str; give Agent"),
        ({"required": "no"}, "required is str; give bool"),
        ({"max_body": 1.5}, "max_body is 1.5; give int"),
        ({"purpose": 1}, "purpose is 1; give str"),
        ({"exempt": "/healthz"}, "exempt is str; give a list or tuple of str"),
        ({"exempt": [7]}, r"exempt\[0\] is 7"),
    ],
)
def test_a_wrong_type_is_named_when_the_gate_is_built(options: dict[str, object], message: str) -> None:
    """And not when the first request comes."""
    with pytest.raises(TypeError, match=message):
        Gate(**{**ARGUMENTS, **options})


def test_one_gate_serves_several_applications(pair: Pair) -> None:
    """It is frozen, and its paths do not change with the list that they came from."""
    paths = ["/healthz"]
    gate = Gate(**ARGUMENTS, exempt=paths)
    paths.append("/x")
    assert gate == Gate(**ARGUMENTS, exempt=("/healthz",))
    assert hash(gate) == hash(Gate(**ARGUMENTS, exempt=("/healthz",)))
    with pytest.raises(AttributeError):
        gate.required = False  # type: ignore[misc]
    for middleware in (asgi.DelegationMiddleware, wsgi.DelegationMiddleware):
        with pytest.raises(TypeError, match="gate is dict; give Gate"):
            middleware(pair.wsgi, pair.b, ARGUMENTS)  # type: ignore[arg-type]
        middleware(pair.wsgi, pair.b, gate)


class Quiet(WSGIRequestHandler):
    """A handler that logs nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("client", ["httpx", "requests"])
def test_real_clients_and_a_real_server_agree(pair: Pair, client: str) -> None:
    """Over a socket, with query, odd path and body: the service runs on behalf of alice and can go on."""
    server = make_server("127.0.0.1", 0, None, handler_class=Quiet)
    where = f"127.0.0.1:{server.server_port}"

    def inner(environ: dict[str, object], start: Callable) -> list[bytes]:
        start("200 OK", [])
        with pair.b.delegate(Agent("helper", owner="x"), scope=Scope("read", path="a")):
            return pair.wsgi(environ)

    app = wrapped(pair, inner, base_url=f"http://{where}", holder=KEY, agent=DESK)
    server.set_app(app)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    peers = {where: Peer("service-b", agent=DESK, key=KEY.public_key)}
    url, body = f"http://{where}/a%20b/%C3%A4;x?q=%2F&r=a+b", b"\x00\xff"
    try:
        with pair.task():
            if client == "httpx":
                with httpx.Client(transport=DelegationTransport(pair.a, peers)) as caller:
                    answer = caller.post(url, content=body).content
            else:
                with requests.Session() as session:
                    session.mount("http://", DelegationAdapter(pair.a, peers))
                    answer = session.post(url, data=body).content
    finally:
        server.shutdown()
        server.server_close()
    assert answer == b"a of alice@example.com \x00\xff"


# --- ASGI


def asgi_client(pair: Pair, app: object = None, **options: object) -> httpx.AsyncClient:
    """Return a client of b's asynchronous application behind its gate, called by a."""
    inner = asgi.DelegationMiddleware(app or pair.asgi, pair.b, Gate(**{**ARGUMENTS, **options}))
    transport = AsyncDelegationTransport(pair.a, PEERS, httpx.ASGITransport(inner))
    return httpx.AsyncClient(transport=transport, base_url=BASE)


async def test_asgi_runs_the_application_inside_the_task(pair: Pair) -> None:
    """A streamed response is within the task, and the context of the server is left as it was."""
    with pair.task():
        answer = await asgi_client(pair).post("/a%20b?q=1", content=b"body")
    assert answer.content == b"a of alice@example.com body"
    assert pair.b.current_task is None


async def test_the_application_behind_asgi_sees_no_header_of_ours_and_the_body_once(pair: Pair) -> None:
    """What it could log is gone; after the body come the messages of the server."""
    seen: list = []

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        seen.extend([dict(scope["headers"]), await receive()])
        await pair.asgi(scope, lambda: asyncio.sleep(0, {"body": b""}), send)
        seen.append(await receive())

    with pair.task():
        await asgi_client(pair, app).post("/", content=b"body")
    assert not {name.decode() for name in seen[0]} & HEADERS
    assert (seen[1]["body"], seen[1]["more_body"], seen[2]["type"]) == (b"body", False, "http.disconnect")


async def test_asgi_refuses_and_answers_as_wsgi_does(pair: Pair) -> None:
    """Missing, too large, for another: refused with a code and a record; the application does not run."""
    with pair.task():
        large = await asgi_client(pair, max_body=3).post("/", content=b"body")
        other = await asgi_client(pair, audience="service-c").get("/")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(asgi.DelegationMiddleware(pair.asgi, pair.b, Gate(**ARGUMENTS))), base_url=BASE
    ) as plain:
        missing = await plain.get("/", headers={"baggage": "principal=ceo", "x-principal": "ceo"})
    assert [answer.status_code for answer in (large, other, missing)] == [413, 403, 401]
    codes = [answer.json()["code"] for answer in (large, other, missing)]
    assert codes == ["body_too_large", "wrong_audience", "no_delegation"]
    assert pair.calls == []
    assert pair.refusals() == [("http.request", code) for code in codes]


async def test_asgi_without_authority_runs_without_a_task_if_told_to(pair: Pair) -> None:
    """Guarded tools then refuse, whatever task the server was started in."""
    app = asgi.DelegationMiddleware(pair.asgi, pair.b, Gate(required=False, **ARGUMENTS))
    with pair.b.task("server", principal=ALICE, agent=CLERK, scope=SCOPE):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as plain:
            with pytest.raises(NoTask):
                await plain.get("/")
    assert pair.calls == []


async def test_a_client_that_goes_away_leaves_nothing(pair: Pair) -> None:
    """An unfinished request is neither answered nor run."""
    sent: list = []

    async def gone() -> dict[str, object]:
        return {"type": "http.disconnect"}

    with pair.task():
        headers = [(name.lower().encode(), value.encode()) for name, value in pair.headers().items()]
    scope = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": headers}
    await asgi.DelegationMiddleware(pair.asgi, pair.b, Gate(**ARGUMENTS))(scope, gone, sent.append)
    assert (sent, pair.calls) == ([], [])


@pytest.mark.parametrize(("required", "present"), [(True, False), (True, True), (False, True), (False, False)])
async def test_a_web_socket_gets_no_authority(pair: Pair, required: bool, present: bool) -> None:
    """A proof covers one request; a socket that wants more is closed, one that wants nothing runs without a task."""
    sent, ran = [], []

    async def app(scope: object, receive: object, send: object) -> None:
        ran.append(pair.b.current_task)

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    headers = [(C.encode(), b"a"), (P.encode(), b"b")] if present else []
    scope = {"type": "websocket", "path": "/", "headers": headers}
    await asgi.DelegationMiddleware(app, pair.b, Gate(required=required, **ARGUMENTS))(scope, receive, send)
    if required or present:
        assert (sent, ran) == ([{"type": "websocket.close", "code": 1008}], [])
        assert pair.refusals() == [("http.request", "not_a_request" if present else "no_delegation")]
    else:
        assert (sent, ran) == ([], [None])


async def test_asgi_passes_the_life_of_the_server_on_and_nothing_unknown(pair: Pair) -> None:
    """Start and stop of a server are nobody's request."""
    ran: list = []

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        ran.append(scope["type"])

    wrapped_app = asgi.DelegationMiddleware(app, pair.b, Gate(**ARGUMENTS))
    await wrapped_app({"type": "lifespan"}, None, None)
    with pytest.raises(ValueError, match="websocket"):
        await wrapped_app({"type": "webtransport"}, None, None)
    assert ran == ["lifespan"]


def test_a_service_without_its_key_cannot_go_on(pair: Pair) -> None:
    """The gate without a holder lets tools run, and its application delegates nothing."""

    def app(environ: object, start: Callable) -> list[bytes]:
        start("200 OK", [])
        with pytest.raises(AttenuationError), pair.b.delegate(DESK, scope=SCOPE):
            pass
        return [b"done"]

    with pair.task():
        headers = pair.headers()
    assert call_wsgi(wrapped(pair, app), environ_of(headers))[2] == b"done"


def test_spans_of_both_services_are_of_one_trace(pair: Pair) -> None:
    """The caller's trace goes on at the receiver, unless an instrumentation has made a span already."""
    traces: list[int] = []

    def app(environ: object, start: Callable) -> list[bytes]:
        start("200 OK", [])
        traces.append(trace.get_current_span().get_span_context().trace_id)
        return []

    with pair.task():
        headers = pair.headers()
        traces.append(trace.get_current_span().get_span_context().trace_id)
    contextvars.Context().run(call_wsgi, wrapped(pair, app), environ_of(headers))
    assert traces[0] == traces[1] != 0
    assert hashlib.sha256(b"").hexdigest()  # The proof is over the digest of the body, here of none.
    assert TOOL == "http.request"
