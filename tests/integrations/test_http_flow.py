"""Signed marks over HTTP: what a service read comes back with a complete response, and with no other."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._directory.open import prepare
from agent_identity.delegation import Peer
from agent_identity.errors import Routed, StateError
from agent_identity.identity import RandomIds, SigningKey, SystemClock, TrustStore
from agent_identity.integrations.http import asgi, wsgi
from agent_identity.integrations.http.httpx import AsyncDelegationTransport, DelegationTransport
from agent_identity.integrations.http.server import Gate
from agent_identity.options import Telemetry
from agent_identity.policy import Flow

KEY = SigningKey.from_seed(b"\x07" * 32)
DESK = Agent("desk", owner="payments@example.com")
BASE = "https://b.example.com"
EVIL = "DE89370400440532013000"
GATE = Gate(audience="service-b", base_url=BASE, holder=KEY)


class Pair:
    """A calling service a, and a service b that trusts the issuer of a; both keep marks, and share nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.paid = folder, list[str]()
        self.a = self._open("a")
        trust = TrustStore.load(folder / "a" / "trust.json")
        (key,) = (trusted.key for trusted in trust.keys if trusted.purpose == "issuer")
        _, _, own = prepare(folder / "b", SystemClock(), RandomIds())
        own.with_key(key, "issuer", issuer=trust.issuer).save(folder / "b" / "trust.json")
        self.b = self._open("b")
        self.peers = {"b.example.com": Peer("service-b", agent=DESK, key=KEY.public_key)}

        @self.a.tool(labels=["payment"], destination="iban", returns="trusted")
        def pay(iban: str) -> str:
            self.paid.append(iban)
            return "paid"

        @self.b.tool(labels=[], returns="untrusted")
        def read() -> str:
            return EVIL

        self.pay, self.read = pay, read

    def _open(self, name: str) -> Enforcer:
        telemetry = Telemetry(tracer_provider=TracerProvider())
        return Enforcer.open(self.folder / name, policy=Flow(), telemetry=telemetry)

    def task(self) -> Any:
        """Return a task at a."""
        clerk = Agent("clerk", owner="finance@example.com")
        scope = Scope("pay") | Scope("read")
        return self.a.task("books", principal=Human("alice@example.com"), agent=clerk, scope=scope, request="Look.")

    def pays(self) -> bool:
        """Return whether a pays a stranger now."""
        try:
            self.pay(EVIL)
        except Routed:
            return False
        return True


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    found = Pair(tmp_path)
    yield found
    for name, enforcer in (("a", found.a), ("b", found.b)):
        enforcer.close()
        report = Verifier(tmp_path / name / "trust.json").ledger(tmp_path / name)
        assert {one.code for one in report.findings} <= {"flow_not_checked"}


def application(body: Callable[[], object], *, lazy: bool = False, parts: int = 1) -> Callable[..., Any]:
    """Return a WSGI application that runs a body before it answers, in one part or as a stream."""

    def answer(_: Any, start: Any) -> Any:
        start("200 OK", [("x-own", "1")])
        body()
        return iter([b"ok"] * parts) if lazy else [b"ok"] * parts

    return answer


def asked(pair: Pair, app: Any) -> httpx.Response:
    """Return the response of b to a request of a."""
    inner = httpx.WSGITransport(wsgi.DelegationMiddleware(app, pair.b, GATE))
    with httpx.Client(transport=DelegationTransport(pair.a, pair.peers, inner)) as client:
        return client.get(f"{BASE}/x")


def test_a_complete_response_carries_the_mark_of_its_task(pair: Pair) -> None:
    """What the service read before it answered counts for the caller, and nothing else does."""
    with pair.task():
        response = asked(pair, application(lambda: None))
        assert (response.text, response.headers["x-own"], pair.pays()) == ("ok", "1", True)
        asked(pair, application(pair.read))
        assert not pair.pays()


@pytest.mark.parametrize(
    "app",
    [
        application(lambda: None, lazy=True),
        lambda environ, start: (start("200 OK", [])(b""), [b"ok"])[1],
        lambda environ, start: (start("500 Oh", []), start("200 OK", [], (None, None, None)), iter([b"ok"]))[2],
    ],
)
def test_a_streamed_response_is_untrusted(pair: Pair, app: Any) -> None:
    """What is read after the head has left cannot be in the head."""
    with pair.task():
        assert asked(pair, app).text == "ok"
        assert not pair.pays()


def test_a_generator_that_starts_late_is_served(pair: Pair) -> None:
    """An application may begin its response with the first part."""

    def app(_: Any, start: Any) -> Any:
        start("200 OK", [])
        yield b"ok"

    with pair.task():
        assert asked(pair, app).text == "ok"
        assert not pair.pays()


def test_a_service_without_a_key_signs_nothing(pair: Pair) -> None:
    """Its answer is untrusted."""
    pair.peers = {"b.example.com": Peer("service-b")}
    with pair.task():
        asked(pair, application(lambda: None))
        assert not pair.pays()


def test_a_mark_that_cannot_be_signed_is_left_out(pair: Pair) -> None:
    """The response goes out, and is untrusted."""

    def fails(_: object) -> None:
        raise StateError("the store does not answer")

    with pair.task(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent_identity._guard.tasks.task_flow.TaskFlow.answer", lambda self, _: fails(self))
        assert asked(pair, application(lambda: None)).text == "ok"
        patch.undo()
        assert not pair.pays()


@pytest.mark.parametrize("parts", [1, 2])
def test_marks_over_asgi(pair: Pair, parts: int) -> None:
    """The same for coroutines: a whole response has the mark, a stream has none."""

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
        for number in range(parts):
            await send({"type": "http.response.body", "body": b"ok", "more_body": number + 1 < parts})

    async def run() -> None:
        inner = httpx.ASGITransport(asgi.DelegationMiddleware(app, pair.b, GATE))
        async with pair.task(), httpx.AsyncClient(transport=AsyncDelegationTransport(pair.a, pair.peers, inner)) as to:
            response = await to.get(f"{BASE}/x")
            assert (response.text, response.headers["x-own"]) == ("ok" * parts, "1")
            assert await asyncio.to_thread(pair.pays) is (parts == 1)

    asyncio.run(run())


def test_the_head_of_a_stream_of_events_is_sent_before_any_event(pair: Pair) -> None:
    """Its client waits for it, maybe before it does what the first event tells; a stream has no mark anyway."""
    seen, first = list[str](), list[list[str]]()
    events = [(b"Content-Type", b"text/event-stream; charset=utf-8")]

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": events})
        first.append([*seen])
        await send({"type": "http.response.body", "body": b"data: ok\n\n", "more_body": False})

    guarded = asgi.DelegationMiddleware(app, pair.b, GATE)

    async def server(scope: Any, receive: Any, send: Any) -> None:
        async def noted(message: Any) -> None:
            seen.append(message["type"])
            await send(message)

        await guarded(scope, receive, noted)

    async def run() -> None:
        transport = AsyncDelegationTransport(pair.a, pair.peers, httpx.ASGITransport(server))
        async with pair.task(), httpx.AsyncClient(transport=transport) as to:
            assert (await to.get(f"{BASE}/x")).text == "data: ok\n\n"
            assert not await asyncio.to_thread(pair.pays)

    asyncio.run(run())
    assert first == [["http.response.start"]]
