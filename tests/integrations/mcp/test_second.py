"""What only the SDK 2.x and fastmcp have: their clients, both eras of the protocol, and inputs that are asked for."""

import asyncio
import dataclasses
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mcp_parties import CLERK, LEGACY, NAME, Pair, tool

if LEGACY:
    pytest.skip("these need the SDK 2.x", allow_module_level=True)

from mcp import Client, types
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError

from agent_identity import Effect, Human, Rule, RuleSet, Scope
from agent_identity.constraints import Contains
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.mcp import conversion
from agent_identity.integrations.mcp.client import protect_session
from agent_identity.integrations.mcp.server import protect_server
from agent_identity.integrations.mcp.servers import McpServer

RECEIVER = McpServer(NAME, receiver=True)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_client_of_the_sdk(pair: Pair, mode: str) -> None:
    """In both eras of the protocol, tools, resources and prompts pass the session that the client holds."""
    async with Client(pair.guarded(), mode=mode, cache=None) as client:
        assert protect_session(client, pair.a, RECEIVER) is client
        with pair.task():
            assert (await client.call_tool("read", {"path": "a"})).content[0].text == "content of a"
            assert (await client.read_resource("note://a")).contents[0].text == "note a"
            assert await client.get_prompt("ask", {"topic": "a"})
        await pair.denied("no_task", lambda: client.call_tool("read", {"path": "a"}))
    assert pair.ran == [("read", "a"), ("note", "a"), ("ask", "a")]
    (server,) = [record["server"] for record in pair.records("a", "registration")]
    assert server["title"] == NAME


async def test_a_client_that_answers_from_a_cache_is_refused(pair: Pair) -> None:
    """A cache that knows no principals would give one what another was given, past every guard."""
    async with Client(pair.guarded()) as client:
        with pytest.raises(ConfigurationError, match="cache=None"):
            protect_session(client, pair.a, RECEIVER)
    with pytest.raises(ConfigurationError, match="no connected client"):
        protect_session(Client(pair.server(), cache=None), pair.a, RECEIVER)


async def test_each_round_of_a_call_that_asks_for_input_is_a_call(pair: Pair) -> None:
    """Where a tool asks for input, each round has its own proof, over the answers as well."""
    rounds: list[Any] = []

    async def on_list(*_: Any) -> Any:
        return types.ListToolsResult(tools=[tool("read")])

    async def on_call(_: Any, params: Any) -> Any:
        rounds.append(params.request_state)
        if params.request_state is None:
            return types.InputRequiredResult(request_state="asked")
        return types.CallToolResult(content=[types.TextContent(type="text", text="done")])

    server = protect_server(Server(NAME, on_list_tools=on_list, on_call_tool=on_call), pair.b, name=NAME)
    async with Client(server, cache=None) as client:
        protect_session(client, pair.a, RECEIVER)
        with pair.task():
            assert (await client.call_tool("read", {"path": "a"})).content[0].text == "done"
    assert rounds == [None, "asked"]
    for name in "ab":
        assert [record["outcome"] for record in pair.records(name, "outcome")] == ["success", "success"]


class Rewriting:
    """Middleware of an application: what it saw, and what it makes of a call."""

    def __init__(self, change: Mapping[str, Any]) -> None:
        self.seen: list[str] = []
        self._change = change

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        self.seen.append(f"{ctx.params} {ctx.meta}")
        return await call_next(dataclasses.replace(ctx, params={**ctx.params, **self._change}))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"arguments": {"path": "b"}}, "argument_out_of_scope"),
        ({"arguments": {"path": ["a"]}}, "bad_arguments"),
        ({"name": "other"}, "wrong_tool"),
        ({"task": {}}, "not_a_call"),
    ],
)
async def test_what_middleware_makes_of_a_call_is_judged(pair: Pair, change: dict[str, Any], code: str | None) -> None:
    """The proof is of what was sent, and the decision about what the handler gets; middleware sees no authority."""
    middleware = Rewriting(change)
    server = MCPServer(NAME, middleware=[middleware])
    protect_server(server, pair.b, name=NAME)

    @server.tool(description="Read.")
    def read(path: str) -> str:
        pair.ran.append(path)
        return "done"

    async with Client(server, cache=None) as client:
        protect_session(client, pair.a, RECEIVER)
        with pair.task():
            await client.call_tool("read", {"path": "a"})
    tool = f"{NAME}/{change.get('name', 'read')}"
    assert pair.last("b") == (tool, "success" if code is None else "denied", code)
    assert (len(middleware.seen), len(pair.ran)) == (1, int(code is None))
    assert "eyJ" not in middleware.seen[0]


async def test_a_call_is_guarded_with_one_half_of_the_guard_alone(pair: Pair) -> None:
    """Whoever takes the outer middleware away does not take the inner one's authority, which is in the message."""
    server = pair.guarded()
    server.middleware.pop(0)
    async with Client(server, cache=None) as client:
        protect_session(client, pair.a, RECEIVER)
        with pair.task():
            assert (await client.call_tool("read", {"path": "a"})).content[0].text == "content of a"
    assert protect_server(server, pair.b, name=NAME) is server
    assert [type(of).__name__ for of in server.middleware if "most" in type(of).__name__] == [
        "_Outermost",
        "_Innermost",
    ]


@pytest.mark.parametrize("package", ["mcp", "fastmcp"])
async def test_each_round_counts_where_the_server_seals_its_state(pair: Pair, package: str) -> None:
    """The state that a client repeats is proved as it was sent, sealed, and the tool gets it as it was."""
    rounds: list[Any] = []
    server = MCPServer(NAME) if package == "mcp" else pytest.importorskip("fastmcp").FastMCP(NAME)
    context = Context if package == "mcp" else pytest.importorskip("fastmcp").Context
    protect_server(server, pair.b, name=NAME)

    async def read(path: str, ctx: Any) -> Any:
        rounds.append(ctx.request_state)
        if ctx.request_state is None:
            return types.InputRequiredResult(request_state="asked")
        return "done" if package == "fastmcp" else types.CallToolResult(content=[])

    read.__annotations__ |= {"ctx": context, "return": types.CallToolResult | types.InputRequiredResult}
    if package == "fastmcp":
        read.__annotations__.pop("return")
    server.tool(description="Read.")(read)
    asking = (
        Client(server, cache=None) if package == "mcp" else pytest.importorskip("fastmcp").Client(server, mode="auto")
    )
    async with asking as client:
        protect_session(client, pair.a, RECEIVER)
        with pair.task():
            await client.call_tool("read", {"path": "a"})
    assert rounds == [None, "asked"]
    for name in "ab":
        assert [record["outcome"] for record in pair.records(name, "outcome")] == ["success", "success"]


async def test_no_cache_of_a_client_keeps_what_one_principal_was_shown(pair: Pair) -> None:
    """The cache of fastmcp, of which its client says nothing, is given nothing to keep."""
    fastmcp = pytest.importorskip("fastmcp")
    server = fastmcp.FastMCP(NAME, cache_ttl=60_000)
    listed: list[bool] = []

    class Counting(fastmcp.server.middleware.Middleware):
        async def on_list_tools(self, context: Any, call_next: Any) -> Any:
            listed.append(True)
            return await call_next(context)

    server.add_middleware(Counting())
    for guarded in (False, True):
        listed.clear()
        async with fastmcp.Client(server, mode="auto", cache=True) as client:
            if guarded:
                protect_session(client, pair.a, RECEIVER)
            for _ in range(3):
                await client.list_tools()
        assert len(listed) == (3 if guarded else 1)


async def test_what_is_asked_for_in_place_of_a_result_is_a_call_of_the_caller(pair: Pair) -> None:
    """It belongs to whoever called, also while another principal's call is under way, and to nobody a second time."""
    asked: list[str] = []
    gate, waits = asyncio.Event(), asyncio.Event()
    ask = types.ElicitRequest.model_validate(
        {
            "method": "elicitation/create",
            "params": {"message": "IBAN?", "requestedSchema": {"type": "object", "properties": {}}},
        }
    )

    async def on_list(*_: Any) -> Any:
        return types.ListToolsResult(tools=[tool("read")])

    async def on_call(_: Any, params: Any) -> Any:
        if params.arguments == {"path": "slow"}:
            waits.set()
            await gate.wait()
        elif params.input_responses is None:
            return types.InputRequiredResult(input_requests={"iban": ask}, request_state="asked")
        return types.CallToolResult(content=[types.TextContent(type="text", text="done")])

    async def elicit(_: Any, __: Any) -> Any:
        asked.append(pair.a.current_task.principal.id)
        return types.ElicitResult(action="accept", content={})

    server = Server(NAME, on_list_tools=on_list, on_call_tool=on_call)
    scope = Scope("invoices/read") | Scope("invoices:elicitation")
    async with Client(server, cache=None, elicitation_callback=elicit) as client:
        protect_session(client, pair.a, McpServer(NAME))
        with pair.task(scope):
            slow = asyncio.ensure_future(client.call_tool("read", {"path": "slow"}))
            await waits.wait()
        with pair.a.task("his", principal=Human("bob@example.com"), agent=CLERK, scope=scope):
            assert (await client.call_tool("read", {"path": "a"})).content[0].text == "done"
        with pair.task(Scope("invoices/read")), pytest.raises(MCPError, match="tool_not_granted"):
            await client.call_tool("read", {"path": "a"})
        gate.set()
        await slow
        told = await client.session.dispatch_input_request(None, ask)  # type: ignore[arg-type]
    assert asked == ["bob@example.com"]
    assert told.message.startswith("Refused: no_task")
    found = [(r["action"]["tool"], r["outcome"]) for r in pair.records("a", "outcome") if "principal" in r]
    assert ("invoices:elicitation", "success") in found
    assert ("invoices:elicitation", "denied") in found


async def test_fastmcp(pair: Pair) -> None:
    """A server and a client of the package fastmcp; the tool sees no authority in its context."""
    fastmcp = pytest.importorskip("fastmcp")
    server = fastmcp.FastMCP(NAME)
    seen: list[str] = []

    @server.tool(description="Read.")
    def read(path: str, ctx: fastmcp.Context) -> str:
        seen.append(str(ctx.request_context.meta))
        return f"content of {path}"

    protect_server(server, pair.b, name=NAME)
    async with fastmcp.Client(server) as client:
        protect_session(client, pair.a, RECEIVER)
        with pair.task():
            assert (await client.call_tool("read", {"path": "a"})).data == "content of a"
        with pytest.raises(Denied):
            await client.call_tool("read", {"path": "a"})
    assert len(seen) == 1
    assert "agent-identity" not in seen[0]
    assert pair.last("b") == ("invoices/read", "success", None)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"ids": [1]}, None),
        ({"ids": [1], "more": {"a": 1}}, None),
        ({"ids": [42]}, "policy_blocks"),
        ({"ids": ["42"]}, "bad_arguments"),
        ({"ids": "[42]"}, "bad_arguments"),
        ({"ids": [1], "limit": 100}, "policy_blocks"),
        ({"ids": [1], "limit": "100"}, "bad_arguments"),
    ],
)
async def test_fastmcp_runs_what_was_judged(pair: Pair, sent: dict[str, Any], code: str | None) -> None:
    """Another spelling of a value that a rule blocks passes no rule here either, and its dependencies are no matter."""
    fastmcp = pytest.importorskip("fastmcp")
    server = fastmcp.FastMCP(NAME)

    @server.tool(description="Pay.")
    def pay(ids: list[int], ctx: fastmcp.Context, limit: int = 5, more: dict[str, int] | None = None) -> str:
        pair.ran.append(ids)
        return "paid"

    rules = [
        Rule(Effect.BLOCK, when={"args.ids": Contains(42)}, reason="no 42", id="no-42"),
        Rule(Effect.BLOCK, when={"args.limit": 100}, reason="no 100", id="no-100"),
    ]
    protect_server(server, pair.open("b", policy=RuleSet(*rules)), name=NAME)
    async with fastmcp.Client(server) as client:
        protect_session(client, pair.a, RECEIVER)
        with pair.task(Scope("invoices/pay")):
            await client.call_tool("pay", sent, raise_on_error=False)
    assert pair.last("b") == ("invoices/pay", "success" if code is None else "denied", code)
    assert len(pair.ran) == (code is None)


OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "pay", "version": "1"},
    "paths": {
        "/pay/{amount}": {
            "post": {
                "operationId": "pay",
                "parameters": [
                    {"name": "amount", "in": "path", "required": True, "schema": {"type": "integer"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 100}},
                ],
                "responses": {"200": {"description": "paid"}},
            }
        }
    },
}


class Ways:
    """Servers of fastmcp on which one tool, ``pay``, is reached in different ways."""

    def __init__(self, pair: Pair) -> None:
        self.fastmcp = pytest.importorskip("fastmcp")
        self._ran = pair.ran
        self.base = self.fastmcp.FastMCP("base")

        @self.base.tool(description="Pay.")
        def pay(amount: int, limit: int = 100) -> str:
            pair.ran.append(amount)
            return "paid"

    def mounted(self) -> Any:
        """Two servers below."""
        between, top = self.fastmcp.FastMCP("between"), self.fastmcp.FastMCP(NAME)
        between.mount(self.base)
        top.mount(between)
        return top

    def proxied(self) -> Any:
        """At another server, as far as this one knows."""
        return self.fastmcp.server.create_proxy(self.base, name=NAME)

    async def transformed(self, **change: Any) -> Any:
        """Under another name of an argument, on a server below."""
        from fastmcp.tools import Tool
        from fastmcp.tools.tool_transform import ArgTransform

        changes = change.pop("arguments", {"sum": {"name": "amount"}, "secret": {"hide": True, "default": 7}})
        server = self.fastmcp.FastMCP(NAME)

        def hidden(sum: int, secret: int, limit: int = 100) -> str:  # noqa: A002
            self._ran.append(sum)
            return "paid"

        known = {name: ArgTransform(**of) for name, of in changes.items()}
        below = self.fastmcp.FastMCP("below")
        below.tool(hidden, name="hidden", description="Pay.")
        middle = self.fastmcp.FastMCP("middle")
        middle.mount(below)
        parent = await middle.get_tool("hidden")
        server.add_tool(Tool.from_tool(parent, name="pay", transform_args=known, **change))
        return server

    def api(self) -> Any:
        """An API."""
        import httpx2

        def answer(request: Any) -> Any:
            self._ran.append(int(request.url.path.rpartition("/")[2]))
            return httpx2.Response(200, json={"paid": True})

        client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer), base_url="https://pay.example.com")
        return self.fastmcp.FastMCP.from_openapi(OPENAPI, client=client, name=NAME)


async def _custom(ways: Ways) -> Any:
    async def forwarding(amount: int, limit: int = 100) -> Any:
        from fastmcp.tools.tool_transform import forward

        return await forward(amount=amount, limit=limit)

    return await ways.transformed(transform_fn=forwarding)


async def _by_factory(ways: Ways) -> Any:
    return await ways.transformed(
        arguments={"sum": {"name": "amount"}, "secret": {"hide": True, "default_factory": lambda: 7}}
    )


@pytest.mark.parametrize(
    "way", [Ways.mounted, Ways.proxied, Ways.transformed, _custom, _by_factory, Ways.api], ids=lambda way: way.__name__
)
async def test_ac_42_what_leads_elsewhere_runs_what_was_judged(pair: Pair, way: Any) -> None:
    """A mounted, proxied or transformed tool and one of an API: another spelling of a blocked value passes no rule."""
    server = way(Ways(pair))
    if asyncio.iscoroutine(server):
        server = await server
    rules = [
        Rule(Effect.BLOCK, when={"args.amount": 42}, reason="no 42", id="no-42"),
        Rule(Effect.BLOCK, when={"args.limit": 100}, reason="no 100", id="no-100"),
    ]
    protect_server(server, pair.open("b", policy=RuleSet(*rules)), name=NAME)
    client = pytest.importorskip("fastmcp").Client(server)
    found: list[Any] = []
    async with client:
        protect_session(client, pair.a, RECEIVER)
        with pair.task(Scope("invoices/pay")):
            for sent in (
                {"amount": 41, "limit": 1},
                {"amount": 42, "limit": 1},
                {"amount": "42", "limit": 1},
                {"amount": 41, "limit": "100"},
                {"amount": 41},
            ):
                await client.call_tool("pay", sent, raise_on_error=False)
                found.append(pair.last("b")[1:])
    blocked, bad = ("denied", "policy_blocks"), ("denied", "bad_arguments")
    assert found == [("success", None), blocked, bad, bad, blocked]
    assert pair.ran == [41]


async def test_ac_42_what_is_not_known_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool behind too many others is refused, and one that went meanwhile."""
    ways = Ways(pair)
    server = await ways.transformed()
    protect_server(server, pair.b, name=NAME)
    async with ways.fastmcp.Client(server) as client:
        protect_session(client, pair.a, RECEIVER)
        with pair.task(Scope("invoices/pay")):
            with monkeypatch.context() as patch:
                patch.setattr(conversion, "_DEEPEST", 0)
                await client.call_tool("pay", {"amount": 41}, raise_on_error=False)
                assert pair.last("b")[2] == "bad_arguments"
            server.local_provider.remove_tool("pay")
            await client.call_tool("pay", {"amount": 41}, raise_on_error=False)
            assert pair.last("b")[2] == "bad_arguments"
    assert pair.ran == []


ACCOUNT = "c0ffee00-0000-4000-8000-00000000000a"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"accounts": [ACCOUNT.replace("c0", "d0")], "amount": 1.5, "day": "2026-01-02", "path": "a/b"}, None),
        ({"accounts": [], "at": "2026-01-02T03:04:05Z", "note": "42 of them"}, None),
        ({"accounts": [], "amount": None}, None),
        ({"accounts": [ACCOUNT]}, "policy_blocks"),
        ({"accounts": [ACCOUNT.upper()]}, "bad_arguments"),
        ({"accounts": [ACCOUNT.replace("-", "")]}, "bad_arguments"),
        ({"accounts": [], "amount": "7"}, "bad_arguments"),
        ({"accounts": [], "amount": " 7"}, "bad_arguments"),
        ({"accounts": [], "at": "2026-01-02T03:04:05+00:00"}, "bad_arguments"),
        ({"accounts": [], "day": "20260102"}, "bad_arguments"),
        ({"accounts": [], "path": "a//b"}, "bad_arguments"),
    ],
)
async def test_ac_42_a_mounted_tool_gets_formats_in_one_spelling(
    pair: Pair, sent: dict[str, Any], code: str | None
) -> None:
    """Its function is not known here, but its schema says what is converted."""
    fastmcp = pytest.importorskip("fastmcp")
    below, server = fastmcp.FastMCP("below"), fastmcp.FastMCP(NAME)

    @below.tool(description="Pay.")
    def pay(
        accounts: list[UUID],
        amount: Decimal | None = None,
        at: datetime | None = None,
        day: date | None = None,
        path: Path | None = None,
        note: str = "",
    ) -> str:
        pair.ran.append(accounts)
        return "paid"

    server.mount(below, namespace="below")
    rule = Rule(Effect.BLOCK, when={"args.accounts": Contains(ACCOUNT)}, reason="frozen", id="frozen")
    protect_server(server, pair.open("b", policy=RuleSet(rule)), name=NAME)
    async with fastmcp.Client(server) as client:
        protect_session(client, pair.a, RECEIVER)
        with pair.task(Scope("invoices/below_pay")):
            await client.call_tool("below_pay", sent, raise_on_error=False)
    assert pair.last("b") == ("invoices/below_pay", "success" if code is None else "denied", code)
    assert len(pair.ran) == (code is None)
