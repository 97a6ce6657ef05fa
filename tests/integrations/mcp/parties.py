"""A calling enforcer and a server that trusts its issuer, connected in memory, by pipes or over loopback."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.memory import create_client_server_memory_streams
from opentelemetry.sdk.trace import TracerProvider
from plain_records import check_record

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._directory.open import prepare
from agent_identity._identity.common.record_bytes import decode_record
from agent_identity._ledger.reader import open_ledger
from agent_identity.errors import Denied
from agent_identity.identity import RandomIds, SystemClock, TrustStore
from agent_identity.integrations.mcp.client import protect_session, protected_session
from agent_identity.integrations.mcp.server import protect_server
from agent_identity.integrations.mcp.servers import McpServer
from agent_identity.options import Telemetry

try:
    from mcp.server.fastmcp import FastMCP as HighLevel
    from mcp.server.lowlevel import Server as LowLevel

    LEGACY = True
except ModuleNotFoundError:
    from mcp.server.lowlevel import Server as LowLevel
    from mcp.server.mcpserver import MCPServer as HighLevel

    LEGACY = False

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
PROGRAM = Path(__file__).with_name("program.py")
NAME = "invoices"
SCOPE = Scope("invoices/read", path="a") | Scope("invoices:resource") | Scope("invoices:prompt/ask", topic="a")


def lower(server: Any) -> Any:
    """Return the low-level server of a server."""
    return getattr(server, "_mcp_server", getattr(server, "_lowlevel_server", server))


def low_level(
    tools: Callable[[], list[types.Tool]], call: Callable[[str, Mapping[str, Any], Any], Any], name: str = NAME
) -> Any:
    """Return a low-level server of this version; ``call`` gets name, arguments and ``_meta``, and returns text."""
    if LEGACY:
        server = LowLevel(name)

        @server.list_tools()
        async def list_tools() -> list[types.Tool]:
            return tools()

        @server.call_tool(validate_input=False)
        async def call_tool(tool: str, arguments: dict[str, Any]) -> Any:
            meta = server.request_context.meta
            text = call(tool, arguments, {} if meta is None else meta.model_dump())
            return [types.TextContent(type="text", text=text)]

        return server

    async def on_list(_: Any, __: Any) -> Any:
        return types.ListToolsResult(tools=tools())

    async def on_call(context: Any, params: Any) -> Any:
        text = call(params.name, params.arguments or {}, dict(context.meta or {}) | dict(params.meta or {}))
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

    return LowLevel(name, on_list_tools=on_list, on_call_tool=on_call)


def fail_with(server: Any, code: int, message: str, data: Any = None, method: str = "tools/call") -> None:
    """Have a low-level server answer each request of a method with an error of the protocol."""
    from mcp.shared import exceptions

    async def fail(*_: Any) -> Any:
        if LEGACY:
            raise exceptions.McpError(types.ErrorData(code=code, message=message, data=data))
        raise exceptions.MCPError(code, message, data)

    if LEGACY:
        kind = types.CallToolRequest if method == "tools/call" else types.ListToolsRequest
        server.request_handlers[kind] = fail
    else:
        find = server.get_request_handler

        def found(asked: str) -> Any:
            entry = find(asked)
            return dataclasses.replace(entry, handler=fail) if asked == method else entry

        server.get_request_handler = found


def tool(name: str, description: str = "Read.", **properties: Any) -> types.Tool:
    """Return the definition of a tool."""
    schema = {"type": "object", "properties": properties}
    return types.Tool.model_validate({"name": name, "description": description, "inputSchema": schema})


@contextlib.asynccontextmanager
async def in_memory(
    server: Any,
    protect: Callable[[ClientSession], object] | None = None,
    make: Callable[..., ClientSession] = ClientSession,
) -> AsyncIterator[Any]:
    """Yield a session that is connected to a server in this process."""
    target = lower(server)
    async with create_client_server_memory_streams() as (ours, theirs), anyio.create_task_group() as group:
        group.start_soon(target.run, theirs[0], theirs[1], target.create_initialization_options())
        async with make(*ours) as session:
            if protect is not None:
                protect(session)
            await session.initialize()
            yield session
        group.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def by_pipes(command: list[str], protect: Callable[[ClientSession], object] | None = None) -> AsyncIterator[Any]:
    """Yield a session that is connected to a child process."""
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        if protect is not None:
            protect(session)
        await session.initialize()
        yield session


@contextlib.asynccontextmanager
async def over_http(url: str, protect: Callable[[ClientSession], object] | None = None) -> AsyncIterator[Any]:
    """Yield a session that is connected over streamable HTTP."""
    async with streamable_http_client(url) as streams, ClientSession(streams[0], streams[1]) as session:
        if protect is not None:
            protect(session)
        await session.initialize()
        yield session


class Pair:
    """A calling enforcer a, and b, the enforcer of a server that trusts the issuer of a; which bodies of b ran."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ran = folder, list[Any]()
        self._stack = contextlib.ExitStack()
        self.outer_elsewhere: set[str] = set()  # Directories with tasks in a task that another one records.
        self.a = self.open("a")
        self.trust("b")
        self.b = self.open("b")

    def open(self, name: str, **options: Any) -> Enforcer:
        """Open an enforcer on a directory, until the end of the test."""
        given = {"telemetry": Telemetry(tracer_provider=TracerProvider()), **options}
        return self._stack.enter_context(Enforcer.open(self.folder / name, **given))

    def trust(self, name: str) -> None:
        """Have a directory trust the issuer of a."""
        theirs = TrustStore.load(self.folder / "a" / "trust.json")
        (key,) = (trusted.key for trusted in theirs.keys if trusted.purpose == "issuer")
        _, _, own = prepare(self.folder / name, SystemClock(), RandomIds())
        own.with_key(key, "issuer", issuer=theirs.issuer).save(self.folder / name / "trust.json")

    def task(self, scope: Scope = SCOPE, **options: Any) -> Any:
        """Return a task of alice and the clerk at a."""
        return self.a.task("books", principal=ALICE, agent=CLERK, scope=scope, **options)

    def server(self, name: str = NAME, protect: Callable[[Any], object] | None = None) -> Any:
        """Return a server with a tool, a resource and a prompt, which nobody guards but ``protect``."""
        server = HighLevel(name)
        if protect is not None:
            protect(server)

        @server.tool(description="Read a file.")
        def read(path: str) -> str:
            self.ran.append(("read", path))
            return f"content of {path}"

        @server.resource("note://{name}")
        def note(name: str) -> str:
            self.ran.append(("note", name))
            return f"note {name}"

        @server.prompt(description="Ask.")
        def ask(topic: str) -> str:
            self.ran.append(("ask", topic))
            return f"about {topic}"

        return server

    def guarded(self, server: Any = None, **options: Any) -> Any:
        """Return a server that b guards, or that one, which has no tools yet or converts nothing."""

        def protect(found: Any) -> Any:
            return protect_server(found, self.b, **{"name": NAME, **options})

        return self.server(protect=protect) if server is None else protect(server)

    @contextlib.asynccontextmanager
    async def connected(self, server: Any, to: McpServer | None = None, **callbacks: Any) -> AsyncIterator[Any]:
        """Yield a session of a to a server in this process."""
        known = McpServer(NAME, receiver=True) if to is None else to
        guard = (
            in_memory(server, make=answering(self.a, known, **callbacks))
            if callbacks
            else in_memory(server, lambda session: protect_session(session, self.a, known))
        )
        async with guard as session:
            yield session

    def records(self, name: str, *kinds: str) -> list[dict[str, Any]]:
        """Return the records of a directory, each of the right shape."""
        reader, found = open_ledger(self.folder / name), []
        for stream in reader.streams():
            for line in reader.entries(stream):
                record = decode_record(line.record)
                check_record(record)
                if record["kind"] in kinds:
                    found.append(record)
        return found

    def last(self, name: str) -> tuple[str, str, str | None]:
        """Return tool, outcome and error of the last outcome of a directory."""
        record = self.records(name, "outcome")[-1]
        return record["action"]["tool"], record["outcome"], record.get("error")

    async def denied(self, code: str, attempt: Callable[[], Awaitable[Any]], tool: str = "invoices/read") -> Denied:
        """Prove that the client refuses a call: nothing ran, nothing was sent, and a signed record has the code."""
        ran = len(self.ran)
        with pytest.raises(Denied) as caught:
            await attempt()
        assert (caught.value.code, self.last("a")) == (code, (tool, "denied", code))
        assert caught.value.reference == self.records("a", "outcome")[-1]["id"]
        assert len(self.ran) == ran
        return caught.value

    def refused(self, result: Any, code: str, tool: str = "invoices/read") -> None:
        """Prove that the server refused a tool call: an error result with code and reference, and a record of it."""
        record = self.records("b", "outcome")[-1]
        assert (record["action"]["tool"], record["outcome"], record["error"]) == (tool, "denied", code)
        told = result.model_dump(by_alias=True, mode="json")
        assert told["isError"] is True
        assert told["_meta"]["io.agent-identity/refusal"] == {"code": code, "reference": record["id"]}
        assert told["content"][0]["text"] == f"Refused: {code} (reference {record['id']})"

    def close(self) -> None:
        """Close the enforcers; their ledgers verify, each under its own trust file."""
        self._stack.close()
        for name in ("a", "b"):
            report = Verifier(TrustStore.load(self.folder / name / "trust.json")).ledger(self.folder / name)
            found = {problem.code for problem in report.findings if problem.severity != "notice"}
            elsewhere = name in self.outer_elsewhere
            assert (report.verdict, found) == (
                ("incomplete", {"outer_task_missing"}) if elsewhere else ("verified", set())
            )


def answering(enforcer: Enforcer, to: McpServer, **callbacks: Any) -> Callable[..., ClientSession]:
    """Return what makes protected sessions that answer their server."""
    return lambda read, write: protected_session(read, write, enforcer, to, **callbacks)


def command(folder: Path, *words: str) -> list[str]:
    """Return what starts the server program on a directory."""
    return [sys.executable, str(PROGRAM), str(folder), *words]
