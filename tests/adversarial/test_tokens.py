"""Tokens for other services: nothing of a credential gets out, and none is had without a live task of its own."""

import asyncio
import base64
import contextvars
import http.server
import json
import logging
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from agent_identity import Agent, Human, Scope, Task
from agent_identity._authority.tokens.exchange import ACCESS_TOKEN
from agent_identity._authority.tokens.source import TokenOrder
from agent_identity._identity.keys.jwt_keys import JwtKey
from agent_identity.constraints import Wildcard
from agent_identity.errors import AgentIdentityError, Denied, ExchangeError, NoTask, OutOfScope
from agent_identity.identity import SigningKey
from agent_identity.options import Telemetry
from agent_identity.tokens import DownstreamToken, IssuedToken, LocalTokens, TokenExchange

CANARIES = {name: f"CANARY-{name}-hunter2" for name in ("inbound", "client", "downstream", "nonce", "refresh")}
API = "https://api.example.com"
OPEN = Scope({"token_exchange": None, "tool": None})
GOOD = {
    "access_token": CANARIES["downstream"],
    "issued_token_type": ACCESS_TOKEN,
    "token_type": "Bearer",
    "expires_in": 60,
    "refresh_token": CANARIES["refresh"],
}


class Endpoint:
    """A token endpoint on loopback that answers as it is told, and may echo whatever it got."""

    def __init__(self) -> None:
        self.answer: Callable[[str], tuple[int, dict[str, str], bytes]] = lambda got: good()
        self.seen: list[dict[str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.seen.append({name: values[0] for name, values in parse_qs(got).items()})
                status, headers, body = outer.answer(f"{got} {self.headers}")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 64

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        """Stop the server."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def good(**changes: object) -> tuple[int, dict[str, str], bytes]:
    """Return a good answer, or one with changes."""
    body = json.dumps({**GOOD, **changes}).encode()
    return 200, {"Content-Type": "application/json", "DPoP-Nonce": CANARIES["nonce"]}, body


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.close()


def exchange(endpoint: Endpoint, **options: Any) -> TokenExchange:
    """Return an exchange at the endpoint, full of canaries."""
    given: dict[str, Any] = {
        "client_secret": CANARIES["client"],
        "subject_token": lambda grant: CANARIES["inbound"],
        "timeout": 5,
        "revocation_endpoint": endpoint.url,
        **options,
    }
    return TokenExchange(endpoint.url, "agents", **given)


def everything(world: Any, caplog: pytest.LogCaptureFixture) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of everything that leaves, keys on disk too."""
    for path in sorted(world.directory.rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes().decode("utf-8", "replace")
    world.enforcer._enforcement.ledger.drain(10)
    for span in world.exporter.get_finished_spans():
        yield span.name, span.to_json()
        payload = span.attributes.get("agent_identity.attestation.payload", "")
        yield span.name, base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    yield "log", caplog.text


def told(error: BaseException) -> str:
    """Return what error trackers show of an error: its chain, and each variable of each frame of the library."""
    stack = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    texts = [f"{one.name} {one.locals}" for one in stack if "agent_identity" in one.filename]
    seen: list[BaseException | None] = [error, error.__cause__, error.__context__]
    texts += [f"{e!r}{getattr(e, 'args', '')}{getattr(e, '__dict__', '')}" for e in seen if e is not None]
    assert texts
    return "\n".join(texts)


def leaks(texts: list[tuple[str, str]]) -> list[str]:
    """Return where a canary is, in clear or in base64."""
    wanted = [*CANARIES.values(), *(base64.b64encode(v.encode()).decode()[:-4] for v in CANARIES.values())]
    return [name for name, text in texts if any(canary in text for canary in wanted)]


def echo(status: int) -> Callable[[str], tuple[int, dict[str, str], bytes]]:
    """Return an answer that repeats the request wherever it can."""

    def answer(got: str) -> tuple[int, dict[str, str], bytes]:
        body = {"error": got, "error_description": got, "access_token": got, "scope": got, got: got}
        return (
            status,
            {"Content-Type": "application/json", "X-Echo": got[:200].partition("\n")[0]},
            json.dumps(body).encode(),
        )

    return answer


HOSTILE: dict[str, Callable[[str], tuple[int, dict[str, str], bytes]]] = {
    "echo as refusal": echo(400),
    "echo as success": echo(200),
    "echo as failure": echo(500),
    "echo as text": lambda got: (200, {"Content-Type": "text/plain"}, got.encode()),
    "redirect": lambda got: (302, {"Location": "https://evil.example/token"}, got.encode()),
    "huge": lambda got: (200, {"Content-Type": "application/json"}, json.dumps({**GOOD, "x": "y" * 10**6}).encode()),
    "half": lambda got: (200, {"Content-Type": "application/json"}, json.dumps(GOOD).encode()[:-9]),
    "negative": lambda got: good(expires_in=-1),
    "for ever": lambda got: good(expires_in=10**9),
    "another kind": lambda got: good(token_type="N_A"),
    "bound": lambda got: good(token_type="DPoP"),
    "another type": lambda got: good(issued_token_type="urn:ietf:params:oauth:token-type:refresh_token"),
    "wider": lambda got: good(scope="read admin"),
    "two headers": lambda got: good(access_token=f"{CANARIES['downstream']}\r\nX-Evil: 1"),
    "nothing": lambda got: (204, {}, b""),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_ac_102_a_hostile_endpoint_gets_nothing_into_errors(
    open_world: Any, endpoint: Endpoint, hostile: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever an endpoint answers, the error is typed, and no credential is in any output, trace or variable."""
    endpoint.answer = HOSTILE[hostile]
    world = open_world(tokens=exchange(endpoint))
    with caplog.at_level(logging.DEBUG), world.task(OPEN) as task, pytest.raises(ExchangeError) as caught:
        task.token(audience=API, scope="read")
    assert caught.value.code in ("exchange_refused", "exchange_malformed")
    assert leaks([("error", told(caught.value)), *everything(world, caplog)]) == []
    (record,) = world.records("outcome")
    assert (record["outcome"], record["error"]) == ("error", "ExchangeError")
    assert [form["subject_token"] for form in endpoint.seen] == [CANARIES["inbound"]]


def test_ac_102_credentials_stay_out_of_all_outputs(
    open_world: Any, endpoint: Endpoint, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    """After exchanges, calls, refusals and revocation, only the grant is in the evidence, and no other credential."""
    source = exchange(endpoint)
    world = open_world(tokens=source)
    with caplog.at_level(logging.DEBUG):
        with world.task(OPEN) as task:
            token = task.token(audience=API)
            assert token.value == CANARIES["downstream"]
            assert token.headers("GET", API) == {"Authorization": f"Bearer {CANARIES['downstream']}"}
            world.tool()(token, more=[token, {"token": token}])
            with pytest.raises(ValueError, match="nonce") as caught:
                token.headers("GET", API, nonce='"')
            texts = [("error", told(caught.value))]
            with pytest.raises(OutOfScope) as refused:
                world.tool("other")(token)
            texts.append(("refusal", told(refused.value)))
        with pytest.raises(NoTask) as late:
            _ = token.value
        texts.append(("late", told(late.value)))
    printed = capfd.readouterr()
    texts += [("repr", repr((token, task, task.tokens, source, world.enforcer)))]
    texts += [("stdout", printed.out), ("stderr", printed.err), *everything(world, caplog)]
    assert leaks(texts) == []
    assert endpoint.seen[1]["token"] == CANARIES["downstream"]  # It was revoked.
    assert len(texts) > 12


def test_ac_102_a_token_is_opaque_as_an_argument(open_world: Any, endpoint: Endpoint) -> None:
    """It passes by reference and is recorded as opaque; no constraint takes it for a value."""
    world = open_world(tokens=exchange(endpoint))
    with world.task(Scope({"token_exchange": None, "tool": None})) as task:
        token = task.token(audience=API)
        assert world.tool()(token) is token
    intent = world.records("intent")[-1]
    assert intent["action"]["names"] == ["x:opaque"]
    with world.task(Scope({"tool": {"x": Wildcard()}, "token_exchange": None})) as task:
        token = task.token(audience=API)
        with world.refused("argument_out_of_scope", OutOfScope):
            world.tool()(token)


def test_ac_102_what_the_application_raises_is_not_quoted(
    open_world: Any, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """The function that finds the principal's token may fail with it in its mouth."""

    def subject(grant: object) -> str:
        raise LookupError(CANARIES["inbound"])

    world = open_world(tokens=exchange(endpoint, subject_token=subject))
    with caplog.at_level(logging.DEBUG), world.task(OPEN) as task, pytest.raises(ExchangeError) as caught:
        task.token(audience=API)
    assert leaks([("error", told(caught.value)), *everything(world, caplog)]) == []


def test_ac_102_an_error_on_a_span_of_the_application_holds_nothing(
    open_world: Any, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Recorded on a span with its trace, as instrumentation does, the error quotes no credential."""
    endpoint.answer = echo(400)
    provider = TracerProvider()
    world = open_world(tokens=exchange(endpoint), telemetry=Telemetry(tracer_provider=provider))
    provider.add_span_processor(SimpleSpanProcessor(world.exporter))
    tracer = provider.get_tracer("app")
    with world.task(OPEN) as task, pytest.raises(ExchangeError), tracer.start_as_current_span("app"):
        task.token(audience=API)
    assert "app" in [span.name for span in world.exporter.get_finished_spans()]
    assert leaks(list(everything(world, caplog))) == []


def test_ac_102_private_keys_of_proofs_are_shown_nowhere(open_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A bound token and its order show neither key nor value."""
    orders: list[TokenOrder] = []

    class Keeps:
        def issue(self, order: TokenOrder, /) -> IssuedToken:
            orders.append(order)
            return IssuedToken(CANARIES["downstream"], expires_at=order.now + 60, key=order.proof_key("EdDSA"))

    world = open_world(tokens=Keeps())
    with world.task(OPEN) as task:
        token = task.token(audience=API)
        key = orders[0].proof_key("EdDSA")
        assert isinstance(key, JwtKey)
        seed = key._key.private_bytes_raw()
        shown = repr((orders, token, key, task.tokens))
    for text in (seed.hex(), base64.b64encode(seed).decode(), base64.urlsafe_b64encode(seed).decode().rstrip("=")):
        assert text not in shown
        assert not any(text in output for _, output in everything(world, caplog))
    assert leaks([("repr", shown)]) == []


# ---------------------------------------------------------------------------- authority over tokens ends with the task


def test_ac_23_a_token_dies_with_its_task(open_world: Any, endpoint: Endpoint) -> None:
    """What was kept is refused at once, and what is asked for anew leaves a signed refusal and reaches nobody."""
    world = open_world(tokens=exchange(endpoint))
    with world.task(OPEN) as task:
        token = task.token(audience=API)
    for attempt in (lambda: token.value, lambda: token.headers("GET", API)):
        with pytest.raises(NoTask) as caught:
            attempt()
        assert caught.value.code == "task_ended"
    before = len(endpoint.seen)
    with world.refused("no_task", NoTask, tool="token_exchange", chain=None):
        task.token(audience=API)
    assert len(endpoint.seen) == before


def test_ac_24_a_copied_context_gets_no_token_after_the_end(open_world: Any, endpoint: Endpoint) -> None:
    """The context finds the task, and the registry says that it is over."""
    world = open_world(tokens=exchange(endpoint))
    with world.task(OPEN) as task:
        task.token(audience=API)
        copied = contextvars.copy_context()
    with world.refused("task_ended", NoTask, tool="token_exchange"):
        copied.run(task.token, audience=API)


async def test_ac_25_a_detached_coroutine_gets_no_token_after_the_end(open_world: Any, endpoint: Endpoint) -> None:
    """An asyncio task that outlives its task is refused, though the token was cached while it lived."""
    world = open_world(tokens=exchange(endpoint))
    over = asyncio.Event()

    async def late(task: Task) -> DownstreamToken:
        await over.wait()
        return await asyncio.to_thread(task.token, audience=API)

    async with world.task(OPEN) as task:
        await asyncio.to_thread(task.token, audience=API)
        pending = asyncio.create_task(late(task))
        await asyncio.sleep(0)
    over.set()
    with world.refused("task_ended", NoTask, tool="token_exchange"):
        await pending


def test_ac_18_what_is_revoked_gets_and_keeps_no_token(open_world: Any, endpoint: Endpoint) -> None:
    """The kill switch takes hold on tokens that were cached or handed out, and lets nothing reach the endpoint."""
    world = open_world(tokens=exchange(endpoint))
    with world.task(OPEN) as task:
        token = task.token(audience=API)
        world.enforcer.revoke(task)
        for attempt in (lambda: token.value, lambda: token.headers("GET", API)):
            with pytest.raises(Denied) as caught:
                attempt()
            assert caught.value.code == "revoked"
        with world.refused("revoked", tool="token_exchange"):
            task.token(audience=API)
    assert [form.get("token") for form in endpoint.seen] == [None, CANARIES["downstream"]]  # Revoked there at the end.


FORK = """
import json, os, sys
from agent_identity import Agent, Denied, Enforcer, Human, Scope
from agent_identity.tokens import IssuedToken

class Source:
    def __init__(self):
        self.revoked = []
    def issue(self, order, /):
        return IssuedToken("t", expires_at=order.now + 60, revoke=self.revoked.append)

source = Source()
enforcer = Enforcer.open(sys.argv[1], tokens=source)
who = {"principal": Human("alice"), "agent": Agent("clerk", owner="o"), "scope": Scope("token_exchange")}
answers = []
with enforcer.task("p", **who) as task:
    token = task.token(audience="a")
    child = not os.fork()
    if child:
        try:
            task.token(audience="a")
        except Denied as denied:
            answers.append(denied.code)
        with enforcer.task("own", **who) as own:
            answers.append(own.token(audience="a").value)
        answers.append(len(source.revoked))
        task.end()
        enforcer.close()
        answers.append(len(source.revoked))
        print(json.dumps(answers), flush=True)
        os._exit(0)
    os.wait()
    answers.append(token.value)
enforcer.close()
answers.append(len(source.revoked))
print(json.dumps(answers), flush=True)
"""


def test_ac_34_a_forked_child_has_no_tokens_of_its_parent(tmp_path: Any) -> None:
    """It gets none from the inherited task, revokes none of the parent's, and its own tasks work."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path / "e")], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    child, parent = map(json.loads, done.stdout.splitlines())
    assert child == ["no_task", "t", 1, 1]
    assert parent == ["t", 1]


def test_ac_37_the_token_of_one_user_is_never_another_ones(open_world: Any, endpoint: Endpoint) -> None:
    """Fifty users at once over one enforcer: each exchange is made with the token of its own principal."""
    endpoint.answer = lambda got: good(access_token=f"for-{parse_qs(got)['subject_token'][0]}")
    world = open_world(
        tokens=exchange(endpoint, revocation_endpoint=None, subject_token=lambda grant: f"of-{grant.principal.id}")
    )
    agent = Agent("clerk", owner="finance@example.com")

    def use(number: int) -> str:
        user = Human(f"user{number}")
        with world.enforcer.task("p", principal=user, agent=agent, scope=OPEN) as task:
            return task.token(audience=API).value

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(use, range(50))) == [f"for-of-user{number}" for number in range(50)]


def test_ac_38_a_verdict_on_one_audience_is_none_on_another(open_world: Any, endpoint: Endpoint) -> None:
    """What is cached for one order answers no other: not another audience, resource or scope, nor a part delegated."""
    world = open_world(tokens=exchange(endpoint))
    scope = Scope("token_exchange", audience=API)
    narrow = Scope("token_exchange", audience=API)
    with world.task(scope) as task:
        task.token(audience=API)
        for wanted in ({"audience": "other"}, {"audience": API, "scope": "a"}, {"audience": API, "resource": API}):
            with pytest.raises(OutOfScope):
                task.token(**wanted)
        with world.enforcer.delegate(Agent("auditor", owner="o"), scope=narrow) as part:
            part.token(audience=API)
    exchanges = [form for form in endpoint.seen if "subject_token" in form]
    assert [parts["audience"] for parts in exchanges] == [API, API]
    assert exchanges[0]["actor_token"] != exchanges[1]["actor_token"]


def test_ac_13_a_local_token_is_no_grant(open_world: Any) -> None:
    """Though the same key signs both, a chain verifier takes none of them for the other."""
    from agent_identity._authority.grants.chain import verify_chain

    key = SigningKey.generate()
    world = open_world(tokens=LocalTokens(key, "https://issuer.example.com"))
    with world.task(OPEN) as task:
        value = task.token(audience=API).value
    with pytest.raises(AgentIdentityError) as caught:
        verify_chain([value], anchors=lambda _: key.public_key, issuer="https://issuer.example.com", now=None)
    assert caught.value.code == "algorithm_not_allowed"


def test_a_refused_order_never_reaches_the_endpoint(open_world: Any, endpoint: Endpoint) -> None:
    """Out of scope means out of reach: no request, no credential on the wire, one signed refusal."""
    world = open_world(tokens=exchange(endpoint))
    with (
        world.task(Scope("token_exchange", audience="other")),
        world.refused("argument_out_of_scope", Denied, tool="token_exchange"),
    ):
        world.enforcer.current_task.token(audience=API)
    assert endpoint.seen == []
