"""The serving side: what is let in, what is refused and how, and what handlers and logs never see."""

import asyncio
import importlib
import logging
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from mcp import types
from mcp.shared import exceptions
from mcp_parties import ALICE, LEGACY, NAME, HighLevel, Pair, in_memory, low_level, lower, tool
from pydantic import BaseModel, SecretStr

from agent_identity import Agent, Effect, Finding, Rule, RuleSet, Scope, Service
from agent_identity.constraints import Contains
from agent_identity.delegation import Peer
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.identity import SigningKey
from agent_identity.integrations.mcp.binding import NEXT, OURS, PRESENTATION, target_of, to_meta
from agent_identity.integrations.mcp.conversion import _as_the_schema_says
from agent_identity.integrations.mcp.sdk import unwrapped, wrapped_like
from agent_identity.integrations.mcp.server import Anonymous, protect_server
from agent_identity.integrations.mcp.servers import McpServer
from agent_identity.options import Ledger
from agent_identity.policy import Content

DESK = Agent("desk", owner="payments@example.com")
KEY = SigningKey.from_seed(b"\x07" * 32)
ProtocolError = getattr(exceptions, "MCPError", None) or exceptions.McpError


def call_request(meta: dict[str, Any] | None, name: str = "read", **arguments: Any) -> Any:
    """Return a request of a tool call with exactly this ``_meta``."""
    params: dict[str, Any] = {"name": name, "arguments": arguments}
    if meta is not None:
        params["_meta"] = meta
    inner = types.CallToolRequest.model_validate({"method": "tools/call", "params": params})
    return types.ClientRequest(inner) if LEGACY else inner


async def send(session: Any, meta: dict[str, Any] | None, name: str = "read", **arguments: Any) -> Any:
    """Send a tool call as it is, through nothing of ours."""
    return await session.send_request(call_request(meta, name, **arguments), types.CallToolResult)


def chain_of(meta: dict[str, Any]) -> list[str]:
    """Return the chain in ``_meta``."""
    chain: list[str] = meta[PRESENTATION]["aat_chain"]
    return chain


def proof_of(meta: dict[str, Any]) -> str:
    """Return the proof in ``_meta``."""
    proof: str = meta[PRESENTATION]["aat_pop"]
    return proof


def shown(meta: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return ``_meta`` with another presentation."""
    return {**meta, PRESENTATION: meta[PRESENTATION] | changes}


def meta_for(pair: Pair, name: str = "read", peer: str = NAME, **arguments: Any) -> dict[str, Any]:
    """Return what a sends for one call of a tool."""
    params = {"name": name, "arguments": arguments}
    return to_meta(pair.a.present(Peer(peer), tool=f"{NAME}/{name}", arguments=params))


async def test_tools_resources_and_prompts_run_inside_the_task_of_the_caller(pair: Pair) -> None:
    """Both ledgers have the calls, under one task and one principal, with a chain that grew by a link."""
    async with pair.connected(pair.guarded()) as session:
        with pair.task() as task:
            assert (await session.call_tool("read", {"path": "a"})).content[0].text == "content of a"
            assert (await session.read_resource("note://a")).contents[0].text == "note a"
            assert "about a" in (await session.get_prompt("ask", {"topic": "a"})).messages[0].content.text
    assert pair.ran == [("read", "a"), ("note", "a"), ("ask", "a")]
    for name, links in (("a", 1), ("b", 2)):
        found = pair.records(name, "outcome")
        assert [r["action"]["tool"] for r in found] == ["invoices/read", "invoices:resource", "invoices:prompt/ask"]
        for record in found:
            assert record["action"]["kind"] == "mcp"
            assert record["task"]["id"] == task.id
            assert record["principal"]["id"] == ALICE.id
            assert len(record["chain"]) == links
    (trace,) = {record["trace"]["trace"] for name in "ab" for record in pair.records(name, "intent")}
    assert trace


async def test_a_call_without_authority_is_refused(pair: Pair) -> None:
    """Tools answer with an error result, resources and prompts with an error of the protocol; nothing ran."""
    async with in_memory(pair.guarded()) as session:
        pair.refused(await session.call_tool("read", {"path": "a"}), "no_delegation")
        for attempt, name in (
            (lambda: session.read_resource("note://a"), "invoices:resource"),
            (lambda: session.get_prompt("ask", {"topic": "a"}), "invoices:prompt/ask"),
        ):
            with pytest.raises(ProtocolError, match="Refused: no_delegation") as caught:
                await attempt()
            reference = pair.records("b", "outcome")[-1]["id"]
            assert caught.value.error.data == {"code": "no_delegation", "reference": reference}
            assert pair.last("b") == (name, "denied", "no_delegation")
        assert [found.name for found in (await session.list_tools()).tools] == ["read"]
    assert pair.ran == []


async def test_completions_are_guarded_on_both_sides(pair: Pair) -> None:
    """What a server would suggest is data of its own: it tells nobody without authority, and nobody out of scope."""
    server = pair.guarded()

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Any:
        pair.ran.append((argument.name, argument.value, context and context.arguments))
        return types.Completion(values=["apples"])

    ask = types.PromptReference(type="ref/prompt", name="ask")
    note = types.ResourceTemplateReference(type="ref/resource", uri="note://{name}")
    topic = {"name": "topic", "value": "a"}
    async with in_memory(server) as session:
        with pytest.raises(ProtocolError, match="Refused: no_delegation"):
            await session.complete(ask, topic)
    assert pair.last("b") == ("invoices:completion", "denied", "no_delegation")
    scope = Scope("invoices:completion", prompt="ask", argument="topic", value="a")
    async with pair.connected(server) as session:
        await pair.denied("no_task", lambda: session.complete(ask, topic), "invoices:completion")
        with pair.task(scope):
            assert (await session.complete(ask, topic)).completion.values == ["apples"]
            name = {"name": "name", "value": "a"}
            await pair.denied("argument_not_granted", lambda: session.complete(note, name), "invoices:completion")
    assert pair.ran == [("topic", "a", None)]
    assert pair.last("b") == ("invoices:completion", "success", None)
    odd = {"ref": 1, "argument": {}, "context": {"arguments": {"a": 1}}}
    assert target_of("s", "completion/complete", odd) == ("s:completion", {"given": {"a": 1}}, None, None)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda m: shown(m, aat_pop=proof_of(m)[:-4] + "AAAA"), {"bad_signature", "malformed_token", "not_canonical"}),
        (lambda m: shown(m, aat_chain=chain_of(m)[:1]), {"wrong_audience", "bad_signature"}),
        (lambda m: {PRESENTATION: {"aat_pop": proof_of(m)}}, {"malformed_meta"}),
        (lambda m: {PRESENTATION: {"aat_chain": chain_of(m)}}, {"malformed_meta"}),
        (lambda m: {**m, PRESENTATION: [m[PRESENTATION]]}, {"malformed_meta"}),
        (lambda m: {**m, PRESENTATION: None}, {"malformed_meta", "no_delegation"}),
        (lambda m: shown(m, aat_chain=["a b"]), {"malformed_meta"}),
        (lambda m: {**m, NEXT: 1}, {"malformed_meta"}),
        (lambda m: shown(m, aat_chain=["A" * 70_000]), {"too_large"}),
        (lambda m: {**m, NEXT: chain_of(m)[-1]}, {"wrong_next_grant"}),
    ],
)
async def test_damaged_authority_is_refused(
    pair: Pair, change: Callable[[dict[str, Any]], dict[str, Any]], code: set[str]
) -> None:
    """Whatever is cut, missing, repeated or of another type: an error result, and the body does not run."""
    async with in_memory(pair.guarded()) as session:
        with pair.task():
            meta = change(meta_for(pair, path="a"))
        result = await send(session, meta, path="a")
    assert pair.last("b")[2] in code
    pair.refused(result, pair.last("b")[2])
    assert pair.ran == []


async def test_a_proof_counts_once_and_for_exactly_one_call(pair: Pair) -> None:
    """Replay, other arguments, another tool and another server: each is refused, also over a new connection."""
    server = pair.guarded()
    async with in_memory(server) as session:
        with pair.task():
            meta = meta_for(pair, path="a")
            pair.refused(await send(session, meta, path="b"), "wrong_arguments")
            pair.refused(await send(session, meta, path="a", more=1), "wrong_arguments")
            pair.refused(await send(session, meta, "other", path="a"), "wrong_tool", "invoices/other")
            assert (await send(session, meta, path="a")).content[0].text == "content of a"
            pair.refused(await send(session, meta, path="a"), "replay")
            async with in_memory(server) as again:
                pair.refused(await send(again, meta, path="a"), "replay")
    assert pair.ran == [("read", "a")]


async def test_authority_for_one_server_is_useless_at_another(pair: Pair) -> None:
    """A server that hands on what it got, in whatever combination, gets nothing from a second one."""
    pair.trust("c")
    other = pair.server("ledgers", lambda of: protect_server(of, pair.open("c"), name="ledgers"))
    async with in_memory(other) as session:
        with pair.task():
            for meta in (meta_for(pair, path="a"), meta_for(pair, peer="others", path="a")):
                result = await send(session, meta, path="a")
                assert result.model_dump(by_alias=True)["isError"] is True
                assert pair.last("c") == ("ledgers/read", "denied", "wrong_audience")
    assert pair.ran == []


async def test_the_scope_holds_at_the_server_as_well(pair: Pair) -> None:
    """A client that does not check is refused by the grant, under the record of the task."""
    async with in_memory(pair.guarded()) as session:
        with pair.task():
            result = await send(session, meta_for(pair, path="b"), path="b")
    pair.refused(result, "argument_out_of_scope")
    assert pair.records("b", "outcome")[-1]["principal"]["id"] == ALICE.id
    assert pair.ran == []


async def test_the_policy_of_the_server_decides(pair: Pair) -> None:
    """What the caller may do, the server may still block, by its own rules."""
    policy = RuleSet(Rule(Effect.BLOCK, tools="invoices/*", when={"args.path": "a"}, reason="closed", id="no-a"))
    server = pair.server(protect=lambda of: protect_server(of, pair.open("b", policy=policy), name=NAME))
    async with in_memory(server) as session:
        with pair.task():
            pair.refused(await send(session, meta_for(pair, path="a"), path="a"), "policy_blocks")
    assert pair.ran == []


class Row(BaseModel):
    """A member of an argument, with a default."""

    number: int
    kind: str = "bill"


ACCOUNT = "c0ffee00-0000-4000-8000-00000000000a"
PAYMENTS = RuleSet(
    Rule(Effect.BLOCK, when={"args.ids": Contains(42)}, reason="no 42", id="no-42"),
    Rule(Effect.BLOCK, when={"args.account": ACCOUNT}, reason="frozen", id="frozen"),
    Rule(Effect.BLOCK, when={"args.amount": 7}, reason="no 7", id="no-7"),
    Rule(Effect.BLOCK, when={"args.row.kind": "void"}, reason="void", id="void"),
)
GOOD: dict[str, Any] = {"ids": [1], "account": ACCOUNT.replace("c0", "d0")}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"ids": [2, 1], "amount": 1.5, "tags": ["z", "b", "a"], "row": {"number": 1}, "day": "2026-01-02"}, None),
        ({"secret": "s", "path": "a/b", "unknown": 1}, None),
        ({"ids": [42]}, "policy_blocks"),
        ({"ids": ["42"]}, "bad_arguments"),
        ({"ids": "[42]"}, "bad_arguments"),
        ({"ids": [True]}, "bad_arguments"),
        ({"ids": ["x"]}, "bad_arguments"),
        ({"account": ACCOUNT}, "policy_blocks"),
        ({"account": ACCOUNT.upper()}, "bad_arguments"),
        ({"account": ACCOUNT.replace("-", "")}, "bad_arguments"),
        ({"amount": 7}, "policy_blocks"),
        ({"amount": "7"}, "bad_arguments"),
        ({"amount": "7.0"}, "bad_arguments"),
        ({"row": {"number": "1"}}, "bad_arguments"),
        ({"row": {"number": 1, "kind": "void"}}, "policy_blocks"),
        ({"tags": ["a", "a"]}, "bad_arguments"),
        ({"path": "a//b"}, "bad_arguments"),
    ],
)
async def test_what_is_judged_is_what_the_tool_gets(pair: Pair, change: dict[str, Any], code: str | None) -> None:
    """Another spelling of a value that a rule blocks passes no rule, and what has one spelling is let through."""
    enforcer = pair.open("b", policy=PAYMENTS)
    server = pair.server(protect=lambda of: protect_server(of, enforcer, name=NAME))

    @server.tool(description="Pay.")
    def pay(
        ids: list[int],
        account: UUID,
        amount: Decimal = Decimal("1.0"),
        tags: frozenset[str] = frozenset(),
        row: Row = Row(number=1),  # noqa: B008
        day: date | None = None,
        secret: SecretStr | None = None,
        path: PurePosixPath = PurePosixPath("x"),  # noqa: B008
    ) -> str:
        pair.ran.append(ids)
        return "paid"

    async with pair.connected(server) as session:
        with pair.task(Scope("invoices/pay")):
            result = await session.call_tool("pay", {**GOOD, **change})
    if code is None:
        assert result.content[0].text == "paid"
    else:
        pair.refused(result, code, "invoices/pay")
    assert len(pair.ran) == (code is None)


@pytest.mark.parametrize(("default", "code"), [(42, "policy_blocks"), (41, None)])
async def test_the_defaults_of_a_tool_are_judged(pair: Pair, default: int, code: str | None) -> None:
    """What nobody sent counts too, as the tool gets it."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"args.amount": 42}, reason="no 42", id="no-42"))
    server = pair.server(protect=lambda of: protect_server(of, pair.open("b", policy=policy), name=NAME))

    def pay(amount: int = default) -> str:
        return f"{amount}"

    server.add_tool(pay, description="Pay.")
    async with pair.connected(server) as session:
        with pair.task(Scope("invoices/pay")):
            result = await session.call_tool("pay", {})
    if code is None:
        assert result.content[0].text == "41"
    else:
        pair.refused(result, code, "invoices/pay")


async def test_a_server_can_go_on_with_the_authority(pair: Pair) -> None:
    """With its key it delegates on, and a grant for another agent is refused."""
    names: list[str] = []

    def call(*_: Any) -> str:
        with pair.b.delegate(DESK, scope=Scope("invoices/read", path="a")) as task:
            names.extend(grant.agent.id for grant in task.chain.grants)
        return "done"

    def offer() -> Any:
        return low_level(lambda: [tool("read")], call)

    to = McpServer(NAME, receiver=True, agent=DESK, key=KEY.public_key)
    async with pair.connected(pair.guarded(offer(), holder=KEY, agent=DESK), to) as session:
        with pair.task():
            assert (await session.call_tool("read", {"path": "a"})).content[0].text == "done"
    assert names == ["clerk", "desk", "desk"]
    async with pair.connected(pair.guarded(offer(), holder=KEY, agent=Agent("x", owner="y")), to) as session:
        with pair.task():
            pair.refused(await session.call_tool("read", {"path": "a"}), "wrong_agent")


async def test_anonymous_callers_run_as_what_is_named_and_no_more(pair: Pair) -> None:
    """Let in on purpose, they have a principal, an agent with an owner and a scope; broken authority is refused."""
    stand_in = Anonymous(DESK, Scope("invoices/read", path="a"))
    async with in_memory(pair.guarded(dangerously_let_in_anonymous=stand_in)) as session:
        assert (await session.call_tool("read", {"path": "a"})).content[0].text == "content of a"
        record = pair.records("b", "outcome")[-1]
        assert record["principal"] == {"id": "anonymous", "kind": "service", "provenance": "asserted"}
        assert record["agent"] == {"id": "desk", "owner": "payments@example.com"}
        pair.refused(await session.call_tool("read", {"path": "b"}), "argument_out_of_scope")
        pair.refused(
            await send(session, {PRESENTATION: {"aat_chain": ["x"], "aat_pop": "y"}}, path="a"), "malformed_token"
        )
    assert stand_in.principal == Service("anonymous")
    assert pair.ran == [("read", "a")]


async def test_handlers_see_no_authority(pair: Pair) -> None:
    """What came in _meta is not there when the handler runs; what is others' stays."""
    seen: list[dict[str, Any]] = []

    def call(_: str, __: Any, meta: dict[str, Any]) -> str:
        seen.append(meta)
        return "done"

    async with in_memory(pair.guarded(low_level(lambda: [tool("read")], call))) as session:
        with pair.task():
            await send(session, {**meta_for(pair, path="a"), "com.example/mine": "1"}, path="a")
    (meta,) = seen
    assert meta["com.example/mine"] == "1"
    assert not set(OURS) & set(meta)


async def test_tokens_reach_no_log_and_no_text(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """At every level, of whatever library, and in results and refusals, there is no token."""
    with caplog.at_level(logging.DEBUG):
        async with pair.connected(pair.guarded()) as session:
            with pair.task():
                shown = [await session.call_tool("read", {"path": "a"})]
                meta = meta_for(pair, path="a")
                shown += [await send(session, meta, path="a") for _ in range(2)]
    assert proof_of(meta).startswith("eyJ")
    texts = [record.getMessage() for record in caplog.records] + [result.model_dump_json() for result in shown]
    assert texts
    assert not [text for text in texts if "eyJ" in text]


async def test_a_failing_tool_is_an_error_without_a_trace(pair: Pair) -> None:
    """What a tool answers as an error is recorded as one, and no stack trace leaves."""

    def call(*_: Any) -> str:
        raise RuntimeError("no such file")

    server = low_level(lambda: [tool("read")], call)
    async with pair.connected(pair.guarded(server)) as session:
        with pair.task():
            if LEGACY:
                result = await session.call_tool("read", {"path": "a"})
                assert result.isError
                assert "Traceback" not in result.model_dump_json()
            else:
                with pytest.raises(ProtocolError) as caught:
                    await session.call_tool("read", {"path": "a"})
                assert "Traceback" not in str(caught.value)
    error = "ToolFailedError" if LEGACY else {"a": "MCPError", "b": "RuntimeError"}
    for name in "ab":
        assert pair.last(name) == ("invoices/read", "error", error if isinstance(error, str) else error[name])


class Iban:
    """Finds one word."""

    def inspect(self, content: Content) -> list[Finding]:
        """Report results that contain it."""
        found = content.direction == "output" and "content of" in str(content.value)
        return [Finding(category="iban", inspector="iban")] if found else []


BLOCK = RuleSet(Rule(Effect.BLOCK, when={"findings.stage": "result"}, reason="stays inside", id="keep"))


async def test_results_are_inspected_before_they_leave(pair: Pair) -> None:
    """What the policy of the server withholds does not reach the client; the tool ran, and the record says why."""
    enforcer = pair.open("b", policy=BLOCK, inspectors=[Iban()])
    server = pair.server(protect=lambda of: protect_server(of, enforcer, name=NAME))
    async with in_memory(server) as session:
        with pair.task():
            result = await send(session, meta_for(pair, path="a"), path="a")
    pair.refused(result, "content_blocked")
    assert "content of" not in result.model_dump_json()


async def test_errors_are_inspected_too(pair: Pair) -> None:
    """An error result is no way past the inspectors."""

    def call(*_: Any) -> str:
        raise ValueError("content of a")

    if not LEGACY:
        pytest.skip("in 2.x a low-level handler that raises answers with an error of the protocol")
    server = low_level(lambda: [tool("read")], call)
    protect_server(server, pair.open("b", policy=BLOCK, inspectors=[Iban()]), name=NAME)
    async with in_memory(server) as session:
        with pair.task():
            result = await send(session, meta_for(pair, path="a"), path="a")
    pair.refused(result, "content_blocked")


async def test_without_evidence_nothing_runs(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that cannot be written refuses, with a code and no reference."""
    async with in_memory(pair.guarded()) as session:
        with pair.task():
            meta = meta_for(pair, path="a")

            def fail(*_: Any, **__: Any) -> None:
                raise EvidenceError("the disk is full", code="ledger_unwritable")

            with monkeypatch.context() as patch:
                patch.setattr(Ledger, "append", fail)
                result = await send(session, meta, path="a")
    told = result.model_dump(by_alias=True)
    assert told["_meta"]["io.agent-identity/refusal"] == {"code": "ledger_unwritable"}
    assert told["content"][0]["text"] == "Refused: ledger_unwritable"
    assert pair.ran == []


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 300])
async def test_a_name_that_is_none_is_refused(pair: Pair, name: str) -> None:
    """What no record could hold is refused under a name of ours."""
    async with in_memory(pair.guarded()) as session:
        with pair.task():
            params = {"name": name, "arguments": {}}
            presented = pair.a.present(Peer(NAME), tool="invoices:unnamed", arguments=params)
            result = await send(session, to_meta(presented), name)
    pair.refused(result, "bad_arguments", "invoices:unnamed")


async def test_a_call_that_would_outlive_its_task_is_refused(pair: Pair) -> None:
    """Where 1.x lets calls go on in the background, after their answer, they are refused."""
    if not LEGACY:
        pytest.skip("2.x has no calls that go on in the background")
    async with in_memory(pair.guarded()) as session:
        with pair.task():
            params = {"name": "read", "arguments": {"path": "a"}, "task": {"ttl": 1000}}
            presented = pair.a.present(Peer(NAME), tool="invoices/read", arguments=params)
            request = types.CallToolRequest.model_validate(
                {"method": "tools/call", "params": {**params, "_meta": to_meta(presented)}}
            )
            result = await session.send_request(types.ClientRequest(request), types.CallToolResult)
    pair.refused(result, "not_a_call")
    assert pair.ran == []


async def test_a_cancelled_call_is_recorded_as_such(pair: Pair) -> None:
    """A client that goes away cancels; the record says so, and the task is over."""
    started = asyncio.Event()

    async def wait() -> str:
        started.set()
        await asyncio.sleep(60)
        return "never"

    server = pair.guarded()
    server.add_tool(wait, name="wait", description="Wait.")
    async with pair.connected(server) as session:
        with pair.task(Scope("invoices/wait")):
            attempt = asyncio.ensure_future(session.call_tool("wait", {}))
            await started.wait()
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt

    def ended(name: str) -> str | None:
        try:
            return pair.last(name)[1]
        except IndexError:
            return None

    async with asyncio.timeout(30):  # A worker thread writes the record when the call is gone already.
        while [ended(name) for name in "ab"] != ["cancelled", "cancelled"]:  # noqa: ASYNC110  As above.
            await asyncio.sleep(0)


def test_a_server_is_guarded_once(pair: Pair) -> None:
    """Again by the same enforcer under the same name changes nothing; by another, or as another, is an error."""
    server = pair.guarded()
    assert protect_server(server, pair.b, name=NAME) is server
    for enforcer, name in ((pair.a, NAME), (pair.b, "other")):
        with pytest.raises(ConfigurationError, match="guard it once"):
            protect_server(server, enforcer, name=name)
    for bad in (object(), "server"):
        with pytest.raises(ConfigurationError, match="is no MCP server"):
            protect_server(bad, pair.b, name=NAME)
    for bad_name in ("", "a/b", "a:b", "-a", 5):
        with pytest.raises(ConfigurationError, match="the name of the MCP server"):
            protect_server(pair.server(), pair.b, name=bad_name)


async def test_ac_66_a_handler_that_is_swapped_is_guarded(pair: Pair) -> None:
    """Handlers are guarded as they are looked up, so that one that is registered later is, too."""
    server = lower(pair.guarded())

    async def evil(*_: Any) -> Any:
        pair.ran.append("evil")
        result = types.CallToolResult(content=[])
        return types.ServerResult(result) if LEGACY else result

    if LEGACY:
        server.request_handlers[types.CallToolRequest] = evil
        with pytest.raises(KeyError):
            server.request_handlers[types.CompleteRequest]
        assert server.request_handlers.get(types.CompleteRequest, 5) == 5
    else:
        server.add_request_handler("tools/call", types.CallToolRequestParams, evil)
    async with in_memory(server) as session:
        pair.refused(await session.call_tool("read", {"path": "a"}), "no_delegation")
    assert pair.ran == []


async def test_ac_66_handlers_that_were_replaced_wholesale_are_guarded_again(pair: Pair) -> None:
    """Guarding again guards again, if the guarded handlers are gone."""
    server = pair.guarded()
    low = lower(server)
    if LEGACY:
        low.request_handlers = dict(low.request_handlers)
    else:
        server.middleware.clear()
    for _ in range(2):
        assert protect_server(server, pair.b, name=NAME) is server
    async with in_memory(server) as session:
        pair.refused(await session.call_tool("read", {"path": "a"}), "no_delegation")
    assert pair.ran == []
    async with pair.connected(server) as session:
        with pair.task():
            assert (await session.call_tool("read", {"path": "a"})).content[0].text == "content of a"
    assert len(pair.records("b", "intent")) == 1


async def test_ac_66_a_tool_that_is_swapped_is_guarded(pair: Pair) -> None:
    """A tool that is replaced behind the guard runs only inside a task, and with what it is given as it takes it."""
    server = pair.guarded()
    server.remove_tool("read")

    def swapped(path: int) -> None:
        pair.ran.append(path)

    server.add_tool(swapped, name="read", description="Read a file.")
    server.add_tool(lambda path: pair.ran.append(f"second {path}"), name="read", description="Read a file.")
    async with in_memory(server) as session:
        pair.refused(await session.call_tool("read", {"path": 1}), "no_delegation")
        with pair.task(Scope("invoices/read")):
            pair.refused(await send(session, meta_for(pair, path="1"), path="1"), "bad_arguments")
            await send(session, meta_for(pair, path=1), path=1)
    assert pair.ran == [1]


def made_with_a_tool(kind: Any = HighLevel) -> Any:
    """Return a server that has a tool from the beginning."""

    def pay(account: UUID) -> str:
        return str(account)

    tools = importlib.import_module(HighLevel.__module__.rpartition(".")[0]).tools
    return kind(NAME, tools=[tools.Tool.from_function(pay, description="Pay.")])


class Hiding(HighLevel):
    """A server that shows its tools to some callers alone."""

    async def list_tools(self) -> Any:
        await asyncio.sleep(0)
        return []


def test_ac_42_a_server_that_has_tools_already_is_not_guarded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what they make of their arguments, whichever way they were registered; the error says the cure."""
    for server in (pair.server(), made_with_a_tool(), made_with_a_tool(Hiding)):
        with pytest.raises(ConfigurationError, match="guard it before its tools are registered"):
            protect_server(server, pair.b, name=NAME)
    hiding = Hiding(NAME)
    assert pair.guarded(hiding) is hiding
    monkeypatch.setattr(HighLevel, "list_tools", Hiding.list_tools)  # As if a later version had to wait.
    with pytest.raises(ConfigurationError, match="guard it before its tools are registered"):
        pair.guarded(HighLevel(NAME))


async def test_ac_42_a_server_whose_low_level_one_was_guarded_before(pair: Pair) -> None:
    """Handed in itself, it has one guard, and its tools get what was judged."""
    server = HighLevel(NAME)
    pair.guarded(lower(server))
    pair.guarded(server)

    @server.tool(name="read", description="Read.")
    def read(path: int) -> str:
        pair.ran.append(path)
        return "done"

    async with pair.connected(server) as session:
        with pair.task(Scope("invoices/read")):
            pair.refused(await session.call_tool("read", {"path": "1"}), "bad_arguments")
            assert (await session.call_tool("read", {"path": 1})).content[0].text == "done"
    assert pair.ran == [1]
    assert len(pair.records("b", "intent")) == 1


def test_guarding_a_server_begins_nothing_in_it(pair: Pair) -> None:
    """What it serves over HTTP with is made when it serves, with the settings of then."""
    server = pair.guarded()
    with pytest.raises(RuntimeError, match="streamable_http_app"):
        _ = server.session_manager
    if LEGACY:
        server.settings.stateless_http = True
        server.streamable_http_app()
        assert server.session_manager.stateless is True


def test_results_keep_the_wrapping_of_their_version() -> None:
    """A root model of 1.x stays one; plain models stay plain."""
    request = call_request(None, path="a")
    inner = unwrapped(request)
    assert type(inner) is types.CallToolRequest
    assert wrapped_like(request, inner) == request
    assert wrapped_like(inner, inner) is inner


@pytest.mark.parametrize(("sent", "code"), [(42, "policy_blocks"), ("42", "rule_error"), (41, None)])
async def test_ac_42_a_low_level_server_gets_what_was_sent_and_judged(pair: Pair, sent: Any, code: str | None) -> None:
    """It converts nothing, whatever its schema says, so that what was sent is judged and is what the tool gets."""

    def call(_: str, arguments: Any, __: Any) -> str:
        pair.ran.append(arguments)
        return "done"

    policy = RuleSet(Rule(Effect.BLOCK, when={"args.amount": 42}, reason="no 42", id="no-42"))
    server = low_level(lambda: [tool("pay", amount={"type": "integer"}, limit={"default": 42})], call)
    protect_server(server, pair.open("b", policy=policy), name=NAME)
    async with pair.connected(server) as session:
        with pair.task(Scope("invoices/pay")):
            result = await session.call_tool("pay", {"amount": sent})
    if code is None:
        assert result.content[0].text == "done"
        assert pair.ran == [{"amount": sent}]
    else:
        pair.refused(result, code, "invoices/pay")


def test_schemas_of_others_fetch_nothing_and_match_no_patterns() -> None:
    """A schema may come from another server: what it names elsewhere is not asked for, and no pattern of it runs."""
    slow = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(a+)+$"}}}
    assert _as_the_schema_says(slow, {"a": "a" * 100 + "!"}) == {"a": "a" * 100 + "!"}
    with pytest.raises(Exception, match="Unresolvable"):
        _as_the_schema_says({"properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}}, {"a": 1})
    assert _as_the_schema_says({"properties": {"a": True, "b": {"default": None}}}, {"a": 1}) == {"a": 1, "b": None}
