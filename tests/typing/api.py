"""The public API as a type checker sees it. Never run; checked by mypy and pyright in strict mode."""

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from typing import Literal, assert_type

from agent_identity import (
    Agent,
    Decision,
    Denied,
    Effect,
    Enforcer,
    Finding,
    Grant,
    Human,
    Inspector,
    Policy,
    Report,
    Request,
    Rule,
    RuleSet,
    Scope,
    Service,
    Task,
    Verifier,
    verify,
)
from agent_identity._authority.tokens.source import TokenOrder
from agent_identity._verify.proofs.disclosure_check import Shown as Disclosed
from agent_identity._verify.proofs.proof_check import Checked
from agent_identity.adapters import Call, CallRequest, GuardedCall, Shown
from agent_identity.approvals import Answer, Approval, ApprovalRequest, Approvers, ask_in_the_terminal
from agent_identity.constraints import OneOf, PathWithin, Range
from agent_identity.delegation import DelegationBundle, Grants
from agent_identity.errors import VerificationError
from agent_identity.identity import JwksSource, KeySet, PublicKey, SigningKey, SpiffeBundle, TrustStore, read_inbound
from agent_identity.inspection import Label
from agent_identity.options import Durability, Privacy, Telemetry, Transparency
from agent_identity.policy import All, Content, Flow
from agent_identity.tokens import DownstreamToken, IssuedToken, LocalTokens, TokenExchange, TokenSource

enforcer = Enforcer.open("evidence", policy=RuleSet(Rule(Effect.BLOCK, tools="delete_*", reason="kept")))
assert_type(enforcer, Enforcer)


@enforcer.tool
def plain(invoice_id: str, limit: int = 10) -> str:
    """Return text."""
    return f"{invoice_id}{limit}"


@enforcer.tool(name="fetch", data=["personal"], kind="http")
async def coroutine(url: str) -> bytes:
    """Return bytes."""
    return url.encode()


@enforcer.tool
def generator(count: int) -> Generator[int, str, bool]:
    """Yield numbers."""
    text = yield count
    return bool(text)


@enforcer.tool
async def async_generator(count: int) -> AsyncGenerator[int, None]:
    """Yield numbers."""
    yield count


async def use() -> None:
    """Use what the decorators return."""
    assert_type(plain("INV-42", limit=3), str)
    assert_type(await coroutine("x"), bytes)
    assert_type(generator(3), Generator[int, str, bool])
    assert_type(async_generator(3), AsyncGenerator[int, None])
    plain(42)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(enforcer.bind(plain)("INV-42"), str)


scope = Scope("plain", invoice_id=OneOf("INV-1", "INV-2")) | Scope({"pay": {"amount": Range(max=100)}, "open": {}})
assert_type(scope, Scope)
scope_of_paths = Scope("read", path=PathWithin("/data"))

with enforcer.task("pay", principal=Human("a"), agent=Agent("b", owner="o"), scope=scope) as task:
    assert_type(task, Task)
    assert_type(task.grant, Grant)
    assert_type(task.expires_at, int)
    task.end()
    with enforcer.delegate(Agent("c", owner="o"), scope=scope) as child:
        assert_type(child, Task)
    with enforcer.action("http_get", url="http://localhost") as call:
        assert_type(call.arguments, Mapping[str, object])
        call.result = 1


async def run() -> None:
    """Open a task in async code."""
    async with enforcer.task("pay", principal=Service("a"), agent=Agent("b", owner="o"), scope=scope) as opened:
        assert_type(opened, Task)


class MyPolicy:
    """A policy as users write one."""

    name = "mine"
    version = "1"
    digest = "sha256:00"

    def decide(self, request: Request) -> Decision:
        """Allow everything."""
        return Decision(effect=Effect.ALLOW, reason=request.tool.name)


class MyInspector:
    """An inspector as users write one."""

    def inspect(self, content: Content) -> list[Finding]:
        """Find nothing."""
        return [Finding(category="any", inspector="mine")] if content.value else []


class Reader:
    """Guarding a method keeps its signature."""

    @enforcer.tool
    def read(self, name: str) -> Iterator[str]:
        """Return an iterator."""
        return iter(name)


policy: Policy = MyPolicy()
inspector: Inspector = MyInspector()
handler: Callable[..., object] = print
assert_type(Reader().read("x"), Iterator[str])
assert_type(verify("traces.jsonl", TrustStore.load("trust.json")).exit_code, int)
verifier = Verifier("trust.json", processes=0)
assert_type(verifier.ledger("evidence", period=(1, 2)), Report)
assert_type(verifier.fleet("one", "two").hosts, tuple[Report, ...])
assert_type(verifier.traces("a.jsonl", ledger=["one", "two"]), Report)
assert_type(verifier.traces("a.jsonl", "b.jsonl", ledger="evidence").raise_for_status(), Report)
assert_type(verifier.pasted('{"spans": []}', b"{}"), Report)
assert_type(verifier.proof("a.tlog-proof"), Checked)
assert_type(verifier.disclosure("d.json", ledger="evidence"), Disclosed)
verifier.traces("a.jsonl", checkpoint=b"")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
verifier.processes = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
try:
    verify("evidence")
except VerificationError as error:
    assert_type(error.report, Report | None)
assert_type(SigningKey.generate(), SigningKey)
Agent("no owner")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
try:
    plain("INV-42")
except Denied as denied:
    assert_type(denied.code, str)
    assert_type(denied.reference, str | None)
    assert_type(denied.decision, Decision | None)


def handed(task: Task, key: PublicKey, holder: SigningKey) -> None:
    """Authority for other processes."""
    assert_type(task.export(), DelegationBundle)
    assert_type(task.export(to=key, audience="billing"), Grants)
    task.export(to=key)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    with enforcer.accept(task.export()) as there:
        assert_type(there, Task)
    enforcer.accept(task.export(to=key, audience="billing"), holder=holder, audience="billing")
    enforcer.accept(
        enforcer.job("work", principal=Human("h"), agent=Agent("a", owner="o"), scope=scope, to=key), once=True
    )
    enforcer.job("work", principal=Human("h"), agent=Agent("a", owner="o"), scope=scope)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    enforcer.accept("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def options() -> None:
    """Options of an enforcer, each in its object."""
    Enforcer.open(
        "evidence",
        agents="registered",
        keys=(SigningKey.generate(), SigningKey.generate()),
        durability=Durability(sync="disk"),
        privacy=Privacy(disclosable=True),
        telemetry=Telemetry(otlp="http://localhost:4318", on_record=print),
        transparency=Transparency(witnesses={"https://w.example": "w.example+1+x"}, checkpoints=print),
    )
    assert_type(enforcer.mode, Literal["enforce", "monitor"])
    Durability(sync="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Enforcer.open("evidence", sync="disk")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Privacy().disclosable = True  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def known(token: str, chain: bytes, keys: Mapping[str, object]) -> Human:
    """Principals out of what others signed."""
    bundle = SpiffeBundle("example.org", JwksSource("https://bundle.example"))
    assert_type(Service.from_jwt_svid(token, bundle=bundle, audience="a"), Service)
    assert_type(Service.from_x509_svid(chain, bundle=bundle), Service)
    assert_type(Service.from_access_token(token, jwks=keys, issuer="i", audience="a"), Service)
    inbound = read_inbound(token, jwks=None, issuer="i", audience="a", subject=Human)
    assert_type(inbound.principal, Human | Service)
    Human.from_id_token(token, jwks=JwksSource.discover("https://i.example"), issuer="i", audience="a")
    Human.from_id_token(token, jwks=KeySet.load("jwks.json"), issuer="i", audience="a")
    return Human.from_id_token(token, jwks="jwks.json", issuer="i", audience="a", roles_claim=("a", "b"))


def approving(enforcer: Enforcer) -> Approval:
    """People who decide about calls."""

    async def ask(request: ApprovalRequest) -> Answer:
        assert_type(request.principal, Human | Service)
        return request.reject(by=Human("bob"), reason="no")

    waiting = enforcer.approvals.pending()
    assert_type(waiting, tuple[ApprovalRequest, ...])
    assert_type(enforcer.approvals.approve(waiting[0], by=Human("bob")), str)
    agent = Agent("a", owner="o")
    enforcer.approvals.approve("id", by=agent)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Approval(ask=lambda request: request.approve(by=Human("bob")), approvers=Approvers(roles=("finance",)))
    Enforcer.open("evidence", routes={"desk": Approval(ask=ask), "sandbox": handler})
    return Approval(ask=ask_in_the_terminal(Human("bob")))


class MySource:
    """A source of tokens written by a user."""

    def issue(self, order: TokenOrder, /) -> IssuedToken:
        """Return a token."""
        return IssuedToken(order.audience, expires_at=order.now + 60)


def downstream(task: Task) -> dict[str, str]:
    """Tokens for other services."""
    sources: list[TokenSource] = [
        MySource(),
        LocalTokens(SigningKey.generate(), "https://issuer.example", dpop="ES256"),
        TokenExchange("https://login.example/token", "me", subject_token=lambda grant: grant.principal.id),
    ]
    Enforcer.open("evidence", tokens=sources[0])
    token = task.token(audience="https://api.example", scope=["read"])
    assert_type(token, DownstreamToken)
    assert_type(token.value, str)
    token.value = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    return token.headers("GET", "https://api.example")


async def adapter(enforcer: Enforcer) -> object:
    """What authors of adapters write."""

    def body(call: Call) -> str:
        assert_type(call.arguments, Mapping[str, object])
        return "done"

    async def later(call: Call) -> Shown:
        return Shown(call, body(call), None)

    guard = enforcer.guard("tool", suspends=(TimeoutError,), returns=lambda error: isinstance(error, StopIteration))
    assert_type(guard, GuardedCall)
    enforcer.guard("tool", suspends=TimeoutError())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    request = CallRequest({"x": 1}, supplied=["x"], call_id="call-1")
    request.arguments = {}  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with guard.block(request) as call:
        assert_type(call, Call)
    assert_type(await guard.run_async(request, later), object)
    guard.run(body, request)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return guard.run(request, body)


governed = Enforcer.open("evidence", policy=All(Flow(to="finance"), "policy.yaml"))


@governed.tool(returns={"": "trusted", "/note": Label("untrusted", {"finance"})}, destination=("to",), endorses=True)
def send(to: str) -> str:
    return to


assert_type(send("x"), str)

with governed.task(
    "send",
    request="Send it",
    principal=Human("alice@example.com"),
    agent=Agent("clerk", owner="finance@example.com"),
    scope=Scope("send"),
) as sending:
    assert_type(sending.said("yes"), None)
    assert_type(sending.received("text", integrity="unknown"), None)
