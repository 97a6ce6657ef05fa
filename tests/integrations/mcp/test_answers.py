"""What a server asks of its client: guarded like a call, for the task of the call that the server is answering."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from mcp import ClientSession, types
from mcp.shared.memory import create_client_server_memory_streams
from mcp.shared.message import SessionMessage
from mcp_parties import ALICE, CLERK, LEGACY, NAME, HighLevel, Pair, answering, in_memory, lower
from pydantic import BaseModel

from agent_identity import Effect, Enforcer, Finding, Human, Rule, RuleSet, Scope
from agent_identity.constraints import Contains
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.integrations.mcp.client import protect_session, protected_session
from agent_identity.integrations.mcp.servers import McpServer
from agent_identity.options import Ledger
from agent_identity.policy import Content

if LEGACY:
    from mcp.server.fastmcp import Context
    from mcp.shared.exceptions import McpError as ProtocolError
else:
    from mcp.server.mcpserver import Context
    from mcp.shared.exceptions import MCPError as ProtocolError

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated.*")

THIRD = McpServer(NAME)
TOOLS = [Scope(f"{NAME}/{name}") for name in ("think", "ask", "look", "wait")]
CALLS = TOOLS[0] | TOOLS[1] | TOOLS[2] | TOOLS[3]
ALL = CALLS | Scope(f"{NAME}:sampling") | Scope(f"{NAME}:elicitation") | Scope(f"{NAME}:roots")


class Answer(BaseModel):
    """What a person is asked for."""

    iban: str


class Client:
    """The callbacks of an application, and what they were asked."""

    def __init__(self, enforcer: Enforcer) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self._enforcer = enforcer
        self.decline = False

    def _hear(self, what: str) -> None:
        task = self._enforcer.current_task
        self.asked.append((what, None if task is None else task.principal.id))

    async def sample(self, _: Any, params: Any) -> Any:
        self._hear(params.messages[0].content.text)
        if self.decline:
            return types.ErrorData(code=-1, message="not today")
        content = types.TextContent(type="text", text="an answer")
        return types.CreateMessageResult.model_validate(
            {"role": "assistant", "content": content.model_dump(), "model": "small"}
        )

    async def elicit(self, _: Any, params: Any) -> Any:
        self._hear(params.message)
        return types.ElicitResult(action="accept", content={"iban": "DE02"})

    async def roots(self, _: Any) -> Any:
        self._hear("roots")
        return types.ListRootsResult.model_validate({"roots": [{"uri": "file:///home"}]})

    @property
    def callbacks(self) -> dict[str, Any]:
        """As a session takes them."""
        return {
            "sampling_callback": self.sample,
            "elicitation_callback": self.elicit,
            "list_roots_callback": self.roots,
        }


def curious() -> Any:
    """Return a server whose tools ask their client."""
    server = HighLevel(NAME)

    @server.tool(description="Think.")
    async def think(ctx: Context, about: str = "cats") -> str:
        content = types.TextContent(type="text", text=about)
        message = types.SamplingMessage(role="user", content=content)
        try:
            result = await ctx.session.create_message([message], max_tokens=10)
        except ProtocolError as error:
            return f"{error.error.code} {error.error.message}"
        return result.content.text

    @server.tool(description="Ask.")
    async def ask(ctx: Context) -> str:
        try:
            result = await ctx.elicit("Your IBAN?", schema=Answer)
        except ProtocolError as error:
            return f"{error.error.code} {error.error.message}"
        return result.data.iban

    @server.tool(description="Look.")
    async def look(ctx: Context) -> str:
        try:
            result = await ctx.session.list_roots()
        except ProtocolError as error:
            return f"{error.error.code} {error.error.message}"
        return str(result.roots[0].uri)

    return server


def guarded_by(made: Any, streams: Any, pair: Pair, options: dict[str, Any]) -> Any:
    """Return a guarded session, made in one of the two ways."""
    if made is protected_session:
        return protected_session(*streams, pair.a, THIRD, **options)
    return protect_session(ClientSession(*streams, **options), pair.a, THIRD)


@contextlib.asynccontextmanager
async def unconnected(pair: Pair, made: Any, options: dict[str, Any]) -> AsyncIterator[Any]:
    """Yield a guarded session to the curious server that is not initialized yet, made in one of the two ways."""
    target = lower(curious())
    async with create_client_server_memory_streams() as (ours, theirs), anyio.create_task_group() as group:
        group.start_soon(target.run, theirs[0], theirs[1], target.create_initialization_options())
        async with guarded_by(made, ours, pair, options) as session:
            yield session
        group.cancel_scope.cancel()


async def said(session: Any, tool: str, **arguments: Any) -> str:
    """Return what a tool of the curious server heard."""
    return (await session.call_tool(tool, arguments)).content[0].text


async def test_what_a_server_asks_is_a_call_of_the_task(pair: Pair) -> None:
    """Each is recorded with the server as the one who asks, under the principal of the call that it answers."""
    client = Client(pair.a)
    async with pair.connected(curious(), THIRD, **client.callbacks) as session:
        with pair.task(ALL):
            assert await said(session, "think") == "an answer"
            assert await said(session, "ask") == "DE02"
            assert await said(session, "look") == "file:///home"
    assert client.asked == [("cats", ALICE.id), ("Your IBAN?", ALICE.id), ("roots", ALICE.id)]
    records = pair.records("a", "outcome")
    assert [record["action"]["tool"] for record in records] == [
        *(f"{NAME}:sampling", f"{NAME}/think"),
        *(f"{NAME}:elicitation", f"{NAME}/ask"),
        *(f"{NAME}:roots", f"{NAME}/look"),
    ]
    for record in records:
        assert (record["outcome"], record["principal"]["id"]) == ("success", ALICE.id)
        assert "DE02" not in str(record)
    assert {"args", "result"} <= records[2]["action"].keys()


async def test_what_the_scope_does_not_cover_reaches_no_callback(pair: Pair) -> None:
    """A scope for tools is none for what their server asks; the server is told, and the person is not asked."""
    client = Client(pair.a)
    async with pair.connected(curious(), THIRD, **client.callbacks) as session:
        with pair.task(CALLS | Scope(f"{NAME}:sampling", maxTokens=5)):
            for tool, name, code in (
                ("think", "sampling", "argument_not_granted"),
                ("ask", "elicitation", "tool_not_granted"),
                ("look", "roots", "tool_not_granted"),
            ):
                heard = await said(session, tool)
                record = pair.records("a", "outcome")[-2]
                assert heard == f"-32010 Refused: {code} (reference {record['id']})"
                found = (record["action"]["tool"], record["outcome"], record["error"])
                assert found == (f"{NAME}:{name}", "denied", code)
    assert client.asked == []


class Word:
    """Finds a word in what comes in or goes out."""

    def __init__(self, word: str, direction: str) -> None:
        self._word, self._direction = word, direction

    def inspect(self, content: Content) -> list[Finding]:
        """Report the word."""
        hit = content.direction == self._direction and self._word in str(content.value)
        return [Finding(category="found", inspector="word")] if hit else []


@pytest.mark.parametrize(
    ("word", "direction", "tool", "asked", "code"),
    [
        ("cats", "input", "think", 0, "policy_blocks"),
        ("an answer", "output", "think", 1, "content_blocked"),
        ("DE02", "output", "ask", 1, "content_blocked"),
        ("not today", "output", "think", 1, "content_blocked"),
    ],
)
async def test_what_comes_in_and_goes_out_is_inspected(
    pair: Pair, word: str, direction: str, tool: str, asked: int, code: str
) -> None:
    """A prompt of the server, an answer of the model, and what a person typed can each be held back."""
    found = {"findings.categories": Contains("found")}
    rule = Rule(Effect.BLOCK, when=found, tools=f"{NAME}:*", reason="kept in", id="no")
    enforcer = pair.open("a2", policy=RuleSet(rule), inspectors=[Word(word, direction)])
    client = Client(enforcer)
    client.decline = word == "not today"
    session = in_memory(curious(), make=answering(enforcer, THIRD, **client.callbacks))
    async with session as it:
        with enforcer.task("x", principal=ALICE, agent=CLERK, scope=ALL):
            heard = await said(it, tool)
    assert heard.startswith(f"-32010 Refused: {code}")
    assert len(client.asked) == asked
    assert pair.records("a2", "outcome")[0]["error"] == code


async def test_ac_37_a_server_asks_for_nobody_but_whom_it_answers(pair: Pair) -> None:
    """On one session of two principals, it asks for the one whose call is under way; for neither if both are."""
    client, server, gates = Client(pair.a), curious(), [asyncio.Event(), asyncio.Event()]

    @server.tool(description="Wait.")
    async def wait() -> str:
        gates[0].set()
        await gates[1].wait()
        return "done"

    async def bob(tool: str) -> str:
        with pair.a.task("his", principal=Human("bob@example.com"), agent=CLERK, scope=ALL):
            return await said(session, tool)

    with pair.task(ALL):  # The session is opened under a task of alice, which is none of what bob's calls bring.
        async with pair.connected(server, THIRD, **client.callbacks) as session:
            assert await bob("think") == "an answer"
            assert await said(session, "think") == "an answer"
            waiting = asyncio.ensure_future(said(session, "wait"))
            await gates[0].wait()
            heard = await bob("think")
            assert heard.startswith("-32010 Refused: several_tasks (reference ")
            assert await said(session, "think") == "an answer"
            gates[1].set()
            await waiting
    assert client.asked == [("cats", "bob@example.com"), ("cats", ALICE.id), ("cats", ALICE.id)]
    (refused,) = [record for record in pair.records("a", "outcome") if record.get("error") == "several_tasks"]
    assert (refused["action"]["tool"], refused.get("principal")) == (f"{NAME}:sampling", None)


async def test_without_a_call_there_is_no_task(pair: Pair) -> None:
    """A server that asks by itself is refused, whatever task the session was opened in."""
    client, server = Client(pair.a), curious()
    gate, heard = asyncio.Event(), asyncio.get_running_loop().create_future()
    waiting: list[Any] = []

    @server.tool(description="Think later.")
    async def think_later(ctx: Context) -> str:
        async def later() -> None:
            await gate.wait()
            content = types.TextContent(type="text", text="cats")
            message = types.SamplingMessage(role="user", content=content)
            try:
                await session_of_server.create_message([message], max_tokens=10)
            except ProtocolError as error:
                heard.set_result(error.error.message)

        session_of_server = ctx.session
        waiting.append(asyncio.ensure_future(later()))
        return "later"

    with pair.task(ALL | Scope(f"{NAME}/think_later")):
        async with pair.connected(server, THIRD, **client.callbacks) as session:
            await session.list_tools()
            if LEGACY:
                assert await said(session, "think_later") == "later"
                gate.set()
                told = await heard
            else:
                message = {"role": "user", "content": {"type": "text", "text": "cats"}}
                request = types.CreateMessageRequest.model_validate(
                    {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": 5}}
                )
                told = (await session.dispatch_input_request(None, request)).message
    assert "Refused: no_task" in told
    assert client.asked == []


async def test_in_monitor_mode_requests_run_and_are_recorded(pair: Pair) -> None:
    """Outside the scope the callback runs, and the record says what would have been."""
    enforcer = pair.open("a2", mode="monitor")
    client = Client(enforcer)
    session = in_memory(curious(), make=answering(enforcer, THIRD, **client.callbacks))
    async with session as it:
        with enforcer.task("x", principal=ALICE, agent=CLERK, scope=CALLS):
            assert await said(it, "think") == "an answer"
    record = pair.records("a2", "outcome")[0]
    assert (record["action"]["tool"], record["outcome"]) == (f"{NAME}:sampling", "success")
    assert record["decision"]["enforced"] == "audit"


async def test_a_client_that_declines_or_fails_is_recorded_so(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a callback passes as it is; what cannot be recorded is refused."""
    client = Client(pair.a)
    client.decline = True

    async def fail(*_: Any) -> Any:
        raise LookupError("nobody there")

    async with pair.connected(curious(), THIRD, **{**client.callbacks, "list_roots_callback": fail}) as session:
        with pair.task(ALL):
            assert await said(session, "think") == "-1 not today"
            assert "Refused" not in await said(session, "look")
            append = Ledger.append

            def forget(self: Any, make: Any, **more: Any) -> Any:
                if "elicitation" in str(make):
                    raise EvidenceError("the disk is full", code="ledger_unwritable")
                return append(self, make, **more)

            with monkeypatch.context() as patch:
                patch.setattr(Ledger, "append", forget)
                assert await said(session, "ask") == "-32010 Refused: ledger_unwritable"
    found = [(record["action"]["tool"], record.get("error")) for record in pair.records("a", "outcome")]
    assert found[0] == (f"{NAME}:sampling", "DeclinedError")
    assert (f"{NAME}:roots", "LookupError") in found
    assert client.asked == [("cats", ALICE.id)]


async def test_what_nobody_supports_is_not_offered(pair: Pair) -> None:
    """Without callbacks of the application, the session says so as it always did, and nothing is recorded of it."""
    async with pair.connected(curious(), THIRD) as session:
        with pair.task(ALL):
            heard = await said(session, "think")
    assert heard in ("-32600 Sampling not supported", "-32601 Method not found"), heard
    assert [record["action"]["tool"] for record in pair.records("a", "outcome")] == [f"{NAME}/think"]


@pytest.mark.filterwarnings("ignore:The experimental:DeprecationWarning")
@pytest.mark.parametrize("made", [protect_session, protected_session], ids=lambda made: made.__name__)
async def test_a_session_that_would_answer_in_the_background_is_refused(pair: Pair, made: Any) -> None:
    """Where 1.x lets a server ask for what outlives its task, the session is refused; other tasks are fine."""
    if not LEGACY:
        pytest.skip("2.x has no requests that go on in the background")
    from mcp.client.experimental.task_handlers import ExperimentalTaskHandlers

    async def background(*_: Any) -> Any:
        return None

    options = {"experimental_task_handlers": ExperimentalTaskHandlers(list_tasks=background)}
    async with unconnected(pair, made, options) as session:
        await session.initialize()
    for name in ("augmented_sampling", "augmented_elicitation"):
        options = {"experimental_task_handlers": ExperimentalTaskHandlers(**{name: background})}
        async with create_client_server_memory_streams() as (ours, _):
            with pytest.raises(ConfigurationError, match="answers in the background"):
                guarded_by(made, ours, pair, options)


REQUESTS = {
    "sampling_callback": {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}},
    "elicitation_callback": {
        "method": "elicitation/create",
        "params": {"message": "IBAN?", "requestedSchema": {"type": "object", "properties": {}}},
    },
    "list_roots_callback": {"method": "roots/list"},
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_callbacks_that_nobody_guards_answer_no_server(pair: Pair, name: str) -> None:
    """In 1.x such a session is refused when it is guarded, and stays as it was; in 2.x whoever made it is guarded."""
    client = Client(pair.a)
    options = {name: client.callbacks[name]}
    if LEGACY:
        async with create_client_server_memory_streams() as (ours, theirs), ClientSession(*ours, **options) as session:
            with pytest.raises(ConfigurationError, match="protected_session"):
                protect_session(session, pair.a, THIRD)
            assert type(session) is ClientSession
            assert theirs[0].statistics().current_buffer_used == 0
        return
    async with unconnected(pair, protect_session, options) as session:
        await session.initialize()
        with pair.task(CALLS):
            for tool in ("think", "ask", "look"):
                assert await said(session, tool)
    assert client.asked == []
    outcomes = [record["error"] for record in pair.records("a", "outcome") if ":" in record["action"]["tool"]]
    assert outcomes == ["tool_not_granted"]


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("failed", [False, True], ids=["never", "failed"])
async def test_a_server_that_asks_before_the_session_is_initialized_is_refused(
    pair: Pair, name: str, failed: bool
) -> None:
    """No callback runs and the refusal is recorded, whether the session is never initialized or that has failed."""
    if not LEGACY:
        pytest.skip("2.x sends every request of a server through its own method, whatever was before")
    client = Client(pair.a)
    async with create_client_server_memory_streams() as (ours, theirs):
        session = protected_session(*ours, pair.a, THIRD, **{name: client.callbacks[name]})
        async with session, anyio.create_task_group() as group:
            if failed:
                refusal = types.JSONRPCError(jsonrpc="2.0", id=0, error=types.ErrorData(code=1, message="no"))
                group.start_soon(theirs[1].send, SessionMessage(types.JSONRPCMessage(refusal)))
                with pytest.raises(ProtocolError):
                    await session.initialize()
                await theirs[0].receive()
            request = types.JSONRPCRequest(jsonrpc="2.0", id=7, **REQUESTS[name])
            await theirs[1].send(SessionMessage(types.JSONRPCMessage(request)))
            answer = (await theirs[0].receive()).message.root
    assert (answer.id, answer.error.code) == (7, -32010)
    assert client.asked == []
    assert [record["error"] for record in pair.records("a", "outcome")] == ["no_task"]


class Silent(ClientSession):
    """A session that connects in a way of its own, and tells nothing of what it was made with."""

    async def initialize(self) -> Any:
        """Connect."""
        raise NotImplementedError


async def test_a_subclass_tells_no_other_callbacks(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked as the SDK has it; where that cannot be asked, as perhaps in a later version, it is refused."""
    if not LEGACY:
        pytest.skip("2.x sends every request of a server through its own method")
    async with create_client_server_memory_streams() as (ours, _):
        with pytest.raises(ConfigurationError, match="protected_session"):
            protect_session(Silent(*ours, **Client(pair.a).callbacks), pair.a, THIRD)
        assert protect_session(Silent(*ours), pair.a, THIRD)

        async def later(_: Any) -> None:
            await asyncio.sleep(0)

        monkeypatch.setattr(ClientSession, "initialize", later)
        for make in (ClientSession, Silent):
            with pytest.raises(ConfigurationError, match="which callbacks"):
                protect_session(make(*ours), pair.a, THIRD)


async def test_a_session_that_is_initialized_already_is_not_guarded_in_1_x(pair: Pair) -> None:
    """Nobody knows any more which callbacks it has; in 2.x every request that they answer is guarded."""
    client = Client(pair.a)
    async with in_memory(curious(), make=lambda *ours: ClientSession(*ours, **client.callbacks)) as session:
        if LEGACY:
            with pytest.raises(ConfigurationError, match="before initialize"):
                protect_session(session, pair.a, THIRD)
            return
        protect_session(session, pair.a, THIRD)
        with pair.task(CALLS):
            assert "Refused: tool_not_granted" in await said(session, "think")
    assert client.asked == []
