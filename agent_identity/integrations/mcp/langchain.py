"""Guards ``MultiServerMCPClient`` of langchain-mcp-adapters: its tools, resources and prompts use protected sessions.

Needs the package langchain-mcp-adapters, which requires the SDK 1.x.
"""

import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, cast, final

from langchain_core.tools import BaseTool
from langchain_mcp_adapters.callbacks import CallbackContext
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.interceptors import MCPToolCallRequest
from langchain_mcp_adapters.sessions import Connection, create_session
from langchain_mcp_adapters.tools import load_mcp_tools
from mcp import ClientSession, types
from mcp.shared.session import ProgressFnT

from agent_identity import Enforcer
from agent_identity.adapters import CallRequest, off_loop
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.mcp.answers import Answers
from agent_identity.integrations.mcp.binding import Target, target_of
from agent_identity.integrations.mcp.client import guard_session
from agent_identity.integrations.mcp.sdk import refusal_result
from agent_identity.integrations.mcp.servers import McpServer

__all__ = ["protect_client"]

_GUARD: Final = "__agent_identity_sessions__"


def protect_client(
    client: MultiServerMCPClient, enforcer: Enforcer, servers: Mapping[str, McpServer]
) -> MultiServerMCPClient:
    """Guard every session that a client opens, in place: those of its tools, resources and prompts.

    ``get_tools()`` returns the tools with pinned definitions, and a refused call returns an error
    result with code and reference, so the agent continues. Add interceptors of your own to the client before;
    later ones do not run. Tools loaded before are not guarded.

    Args:
        client: The client.
        enforcer: The enforcer of the tasks.
        servers: The server of each connection, by the connection's name. The connection has the server's place,
            again each time it is opened; the url or command of the server must agree with it.

    Returns:
        The argument: the same client.

    Raises:
        ConfigurationError: The client is guarded already, connections and servers do not match, or
            a connection leads to another place than the url or command of its server.
    """
    if hasattr(client, _GUARD):
        raise ConfigurationError("the client is guarded already; guard it once")
    if servers.keys() != client.connections.keys():
        raise ConfigurationError(
            "servers and connections of the client do not match; name a server for each connection, and no others"
        )
    guard = _Sessions(client, enforcer, {name: _agreed(of, client.connections[name]) for name, of in servers.items()})
    client.tool_interceptors = [*client.tool_interceptors, guard.intercept]
    for name, method in (("session", guard.session), ("get_tools", guard.get_tools), (_GUARD, guard)):
        setattr(client, name, method)
    return client


@final
class _Sessions:
    """Opens the sessions of one client."""

    def __init__(self, client: MultiServerMCPClient, enforcer: Enforcer, servers: Mapping[str, McpServer]) -> None:
        self._client = client
        self._enforcer = enforcer
        self._servers = dict(servers)

    @asynccontextmanager
    async def session(self, server_name: str, *, auto_initialize: bool = True) -> AsyncGenerator[ClientSession]:
        """Open a session; see ``MultiServerMCPClient.session``."""
        async with self._opened(server_name, None, None) as (session, _):
            if auto_initialize:
                await session.initialize()
            yield session

    async def get_tools(self, *, server_name: str | None = None) -> list[BaseTool]:
        """Return the pinned tools; see ``MultiServerMCPClient.get_tools``."""
        client, tools = self._client, list[BaseTool]()
        # The client's own options; earlier versions know fewer.
        options = {"handle_tool_errors": client.handle_tool_errors} if hasattr(client, "handle_tool_errors") else {}
        for name in self._servers if server_name is None else (server_name,):
            async with self.session(name) as session:
                # Their session ends here; calls do not use it, since the interceptor opens others.
                tools += await cast("Callable[..., Awaitable[list[BaseTool]]]", load_mcp_tools)(
                    session,
                    callbacks=client.callbacks,
                    tool_interceptors=client.tool_interceptors,
                    server_name=name,
                    tool_name_prefix=client.tool_name_prefix,
                    **options,
                )
        return tools

    async def intercept(
        self,
        request: MCPToolCallRequest,
        handler: Callable[[MCPToolCallRequest], Awaitable[object]],  # noqa: ARG002  The protocol names it.
    ) -> types.CallToolResult:
        """Call a tool in a protected session, instead of the handler, which would open an unprotected one."""
        try:
            await off_loop(partial(self._refuse_early, request))
        except Denied as denied:
            return refusal_result(denied)
        failure: Exception | None = None
        result: types.CallToolResult | None = None
        async with self._opened(request.server_name, request.headers, request.name) as (session, progress):
            await session.initialize()
            try:
                result = await session.call_tool(request.name, request.args, progress_callback=progress)
            except Denied as denied:
                result = refusal_result(denied)
            except Exception as error:  # noqa: BLE001  Raised below: closing the session would group it.
                failure = error
        if failure is not None:
            raise failure
        return cast("types.CallToolResult", result)

    def _refuse_early(self, request: MCPToolCallRequest) -> None:
        """Refuse calls outside any task, and over moved connections, before a server is started or connected.

        Raises:
            Denied: There is no task, or the server was never seen at its current place; it is recorded.
        """
        server = self._servers.get(request.server_name)
        if server is None:
            return
        _, here = self._found(request.server_name)
        moved = self._moved(server, here)
        if moved is None and self._enforcer.current_task is not None:
            return
        target = cast("Target", target_of(server.name, "tools/call", {"name": request.name, "arguments": request.args}))
        touches, flow = server.touches.get(request.name), server.flow.get(request.name)
        guard = self._enforcer.guard(target.name, kind="mcp", server=server.name, touches=touches, flow=flow)
        if guard.mode == "enforce":
            guard.judge(CallRequest(target.values, can_route=False, refusal=moved))

    def _found(self, name: str) -> tuple[dict[str, object], McpServer]:
        """Return a snapshot of a connection, with its server."""
        connection: dict[str, object] = {**self._client.connections[name]}
        if connection["transport"] == "stdio":
            connection["args"] = list(cast("Sequence[object]", connection.get("args") or ()))
        return connection, _placed(self._servers[name], connection)

    def _moved(self, server: McpServer, here: McpServer) -> Denied | None:
        """Return the refusal of a server that has moved since the client was guarded.

        A server in the inventory is compared with its entry, as for every call: there, the new place can be accepted.
        """
        same = (server.transport, server.place) == (here.transport, here.place)
        if same or self._enforcer.inventory.find(server.name) is not None:
            return None
        return Denied(
            f"the connection of {server.name!r} has moved since the client was guarded, to another "
            "address or command; if that is right, make and guard another client",
            code="server_moved",
        )

    @asynccontextmanager
    async def _opened(
        self, name: str, headers: Mapping[str, object] | None, tool: str | None
    ) -> AsyncGenerator[tuple[ClientSession, ProgressFnT | None]]:
        if name not in self._servers:
            raise ConfigurationError(f"the client has no connection {name!r}; name one of its connections")
        connection, here = self._found(name)
        moved = await off_loop(partial(self._moved, self._servers[name], here))
        if moved is not None and self._enforcer.mode == "enforce":
            raise moved
        if headers and connection["transport"] != "stdio":
            known = cast("Mapping[str, object]", connection.get("headers") or {})
            connection = {**connection, "headers": {**known, **headers}}
        context = CallbackContext(server_name=name, tool_name=tool)
        callbacks, answers = self._client.callbacks.to_mcp_format(context=context), Answers(self._enforcer, here)
        options = {**cast("Mapping[str, object]", connection.get("session_kwargs") or {})}
        if callbacks.elicitation_callback is not None:
            options["elicitation_callback"] = callbacks.elicitation_callback
        connection["session_kwargs"] = answers.options(options)
        other = dataclasses.replace(callbacks, elicitation_callback=None)
        async with create_session(cast("Connection", connection), mcp_callbacks=other) as session:
            guard_session(session, self._enforcer, here, answers)
            yield session, callbacks.progress_callback


def _agreed(server: McpServer, connection: Connection) -> McpServer:
    """Return the server with the place of the connection.

    Raises:
        ConfigurationError: The server has another place.
    """
    here = _placed(server, cast("Mapping[str, object]", connection))
    if server.transport != "other" and (server.transport, server.place) != (here.transport, here.place):
        raise ConfigurationError(
            f"the url or command of {server.name!r} differs from its connection; leave it out, "
            "or use that of the connection"
        )
    return here


def _placed(server: McpServer, connection: Mapping[str, object]) -> McpServer:
    """Return the server with the place of the connection."""
    if connection.get("transport") == "stdio":
        words = (connection["command"], *cast("Sequence[object]", connection.get("args") or ()))
        return dataclasses.replace(server, url=None, command=[str(word) for word in words])
    return dataclasses.replace(server, url=str(connection["url"]), command=None)
