"""The simulated organization at work: each act goes into the ledger of truth before the library judges it."""

import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import anyio
from company.traces import Libraries
from company.truth import NS, Act, Event, Granted, Hop, Truth
from company.world import PlaceSpec, ToolSpec, key_of, party
from mcp import ClientSession, types
from mcp.server.lowlevel import Server
from mcp.shared.memory import create_client_server_memory_streams

from agent_identity import Agent, Enforcer, Human, Scope, Service
from agent_identity._directory.inventory.pinned_servers import Definition
from agent_identity._directory.inventory.server_inventory import InventoryFile, accept, inventory_path
from agent_identity._directory.open import prepare
from agent_identity.errors import AgentIdentityError
from agent_identity.identity import TrustedKey, TrustStore
from agent_identity.integrations.mcp.client import protect_session
from agent_identity.integrations.mcp.servers import McpServer
from agent_identity.options import Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds

SERVED: Final[Mapping[str, Mapping[str, str]]] = {
    "web": {"search": "Search the web.", "fetch": "Fetch a page."},
    "crm": {"find": "Find a person."},
}


class Unexpected(AssertionError):
    """The library did something else than the simulation meant; then the truth itself would be wrong."""


class Servers:
    """The MCP servers, whose definitions change, and the text that each tool returns."""

    def __init__(self) -> None:
        self.said = {name: dict(tools) for name, tools in SERVED.items()}
        self.body: Callable[[str, dict[str, Any]], str] = lambda name, arguments: name

    def tool(self, server: str, name: str) -> types.Tool:
        """Return the definition that a server offers of a tool now."""
        described = {"name": name, "description": self.said[server][name], "inputSchema": {"type": "object"}}
        return types.Tool.model_validate(described)

    def digest(self, server: str, name: str) -> str:
        """Return the digest of that definition."""
        return Definition.of(self.tool(server, name).model_dump(by_alias=True, exclude_none=True, mode="json")).digest

    def made(self, server: str) -> Server:
        """Return a server."""
        found: Server = Server(server)

        @found.list_tools()
        async def list_tools() -> list[types.Tool]:
            return [self.tool(server, name) for name in self.said[server]]

        @found.call_tool(validate_input=False)
        async def call_tool(name: str, arguments: dict[str, Any]) -> Any:
            return [types.TextContent(type="text", text=self.body(f"{server}/{name}", arguments))]

        return found


@contextlib.asynccontextmanager
async def connected(
    server: Server, make: Callable[..., ClientSession], protect: Callable[[ClientSession], object]
) -> AsyncIterator[ClientSession]:
    """Yield a guarded session with a server in this process."""
    async with create_client_server_memory_streams() as (ours, theirs), anyio.create_task_group() as group:
        group.start_soon(server.run, theirs[0], theirs[1], server.create_initialization_options())
        async with make(*ours) as session:
            protect(session)
            await session.initialize()
            yield session
        group.cancel_scope.cancel()


def found(root: Path, name: str, clock: FixedClock, ids: SequentialIds, *others: TrustedKey) -> None:
    """Put the keys and the trust file of a place where they belong."""
    keys = root / "keys"
    keys.mkdir(mode=0o700, parents=True)
    for purpose in ("issuer", "recorder"):
        key_of(f"{purpose} of {name}").save(keys / f"{purpose}.pem")
    _, _, trust = prepare(root, clock, ids)
    trust.with_keys((*trust.keys, *others)).save(root / "trust.json")


@contextlib.contextmanager
def in_service(name: str | None) -> Generator[None]:
    """Give this process the name of a service for a moment."""
    before = os.environ.pop("OTEL_SERVICE_NAME", None)
    if name is not None:
        os.environ["OTEL_SERVICE_NAME"] = name
    try:
        yield
    finally:
        os.environ.pop("OTEL_SERVICE_NAME", None)
        if before is not None:
            os.environ["OTEL_SERVICE_NAME"] = before


class Place:
    """A directory with an open enforcer: what is done there is written down first.

    Args:
        spec: The place.
        root: Its directory.
        clock: The only clock.
        ids: The only source of ids.
        truth: Where everything is written down.
        rng: The seeded source of everything that varies.
        libraries: Other libraries that trace what happens, if any do.
    """

    def __init__(
        self,
        spec: PlaceSpec,
        root: Path,
        clock: FixedClock,
        ids: SequentialIds,
        truth: Truth,
        libraries: Libraries | None = None,
    ) -> None:
        self.spec, self.root, self.clock, self.ids, self.truth = spec, root, clock, ids, truth
        self.libraries = libraries
        self.enforcer: Enforcer = None  # type: ignore[assignment]
        self.sessions: dict[str, ClientSession] = {}
        self.key: str | None = None
        self.stolen: str | None = None
        self._tools: dict[str, Callable[..., object]] = {}
        self._stack: list[tuple[Granted, str]] = []
        self._now: Act | None = None
        self.on_body: Callable[[], None] | None = None

    @contextlib.asynccontextmanager
    async def opened(self, servers: Servers, **more: Any) -> AsyncIterator["Place"]:
        """Open the enforcer, its tools and its sessions, as a process does when it starts."""
        async with contextlib.AsyncExitStack() as stack:
            self.open(stack, **more)
            for name in self.spec.servers:
                servers.body = self._served
                touches = {
                    spec.name.partition("/")[2]: spec.touch
                    for spec in self.spec.tools.values()
                    if spec.server == name and spec.touch is not None
                }
                known = McpServer(name, touches=touches)
                protect = self._protecting(known)
                made = ClientSession if self.libraries is None else self.libraries.session
                self.sessions[name] = await stack.enter_async_context(connected(servers.made(name), made, protect))
            yield self

    def _protecting(self, known: McpServer) -> Callable[[ClientSession], object]:
        return lambda session: protect_session(session, self.enforcer, known)

    def open(self, stack: contextlib.AsyncExitStack | contextlib.ExitStack, **more: Any) -> None:
        """Open the enforcer and its tools."""
        telemetry = Telemetry(sealing="inline")
        if self.libraries is not None:
            telemetry = Telemetry(sealing="inline", tracer_provider=self.libraries.provider, spans="own")
        options = {**self.spec.options, **more}
        with in_service(self.spec.service):
            opened = Enforcer.open(
                self.root,
                sources=Sources(clock=self.clock, ids=self.ids),
                telemetry=telemetry,
                **options,
            )
        self.enforcer = stack.enter_context(opened)
        self.event("opened")
        if self.spec.policy:
            self.event("policy", name=self.spec.policy)
        self.key = key_of(f"issuer of {self.spec.name}").public_key.thumbprint
        self._tools = {spec.name: self._guarded(spec) for spec in self.spec.tools.values() if spec.server is None}

    def _guarded(self, spec: ToolSpec) -> Callable[..., object]:
        more: dict[str, Any] = {}
        if spec.returns is not None:
            more["returns"] = spec.returns
        if spec.destination is not None:
            more["destination"] = spec.destination
        guard = self.enforcer.tool(name=spec.name, labels=spec.labels, data=[], touches=spec.touch, **more)
        return guard(self._body(spec))

    def _body(self, spec: ToolSpec) -> Callable[..., object]:
        """Return the body of a tool, which says itself that it ran; its signature is that of the tool."""

        @functools.wraps(spec.body)
        def body(*args: Any, **arguments: Any) -> str:
            self.ran()
            return spec.body(*args, **arguments)

        return body

    def _served(self, name: str, arguments: dict[str, Any]) -> str:
        self.ran()
        return self.spec.tools[name].body(**arguments)

    def ran(self) -> None:
        """Note that the body of the present call runs."""
        if self._now is None:
            raise Unexpected("a body runs, and nobody called")
        self._now.ran = True
        if self.on_body is not None:
            self.on_body()

    # What happens.

    def act(self, tool: str, arguments: Mapping[str, Any], **stated: Any) -> Act:
        """Write down what is about to happen."""
        self.clock.advance(0.75)
        spec = self.spec.tools[tool]
        chain = list(self._stack[-1][0].chain) if self._stack else []
        act = Act(
            at=self.clock.wall_ns(),
            place=self.spec.name,
            service=self.spec.service,
            tool=tool,
            task=self._stack[-1][0].task if self._stack else None,
            principal=self._stack[-1][0].principal if self._stack else None,
            chain=chain,
            kind="mcp" if spec.server is not None else "function",
            server=spec.server,
            arguments=sorted(arguments),
            touches=spec.touched(arguments),
            monitored=self.spec.monitor,
            stolen=self.stolen,
            key=self._root_key(),
            **{"reason": self.spec.default, "findings": self.spec.findings(tool, arguments), **stated},
        )
        self.truth.acts.append(act)
        self._now = act
        return act

    def _root_key(self) -> str | None:
        return self._stack[0][1] if self._stack else None

    async def do(self, tool: str, /, *, will: Mapping[str, Any] | None = None, **arguments: Any) -> Act:
        """Call a tool; ``will`` is what the simulation knows will become of it, where that is not plain success."""
        act = self.act(tool, arguments, **(will or {}))
        spec, code = self.spec.tools[tool], ""
        with contextlib.ExitStack() as around:
            if self.libraries is not None:
                around.enter_context(self.libraries.around(act))
            try:
                if spec.server is None:
                    self._tools[tool](**arguments)
                else:
                    result = await self.sessions[spec.server].call_tool(tool.partition("/")[2], arguments)
                    if result.isError:
                        raise Unexpected(result.content)
            except AgentIdentityError as error:
                code = str(error.code)
            except ValueError:
                code = "ValueError"
        self._check(act, code)
        self.clock.advance(0.5)
        return act

    def _check(self, act: Act, code: str) -> None:
        self._now = None
        meant = "" if act.outcome == "success" else act.error or act.reason
        if code != meant:
            raise Unexpected(f"{act.tool} at {act.place}: {code or 'success'}, and not {meant or 'success'}")
        if act.ran is not (not act.refused):
            raise Unexpected(f"{act.tool} at {act.place}: ran {act.ran}, refused {act.refused}")

    # Authority.

    @contextlib.contextmanager
    def task(self, purpose: str, principal: Human | Service, agent: Agent, scope: Scope, **more: Any) -> Iterator[Any]:
        """Open a task, and write its grant down."""
        self.settle()
        with self.enforcer.task(purpose, principal=principal, agent=agent, scope=scope, **more) as task:
            with self.inside(task, purpose):
                yield task
            self._close(task)

    @contextlib.contextmanager
    def delegate(self, agent: Agent, scope: Scope, purpose: str) -> Iterator[Any]:
        """Hand a part of the task to another agent."""
        self.settle()
        with self.enforcer.delegate(agent, scope=scope, purpose=purpose) as task:
            with self.inside(task, purpose):
                yield task
            self._close(task)

    def settle(self) -> None:
        """Go on to a whole second: grants have no finer times."""
        self.clock.advance(1 + (-self.clock.wall_ns() % NS) / NS)

    def _close(self, task: Any) -> None:
        self.clock.advance(0.25)

    @contextlib.contextmanager
    def inside(self, task: Any, purpose: str, key: str | None = None) -> Iterator[None]:
        """Be in a task that has just been opened, and write down its begin and its end."""
        grant = self.noted(task, purpose, key)
        self._stack.append((grant, grant.key or self._stack[0][1]))
        try:
            yield
        finally:
            self._stack.pop()
            self.event("ended", task=grant.task, principal=grant.principal, chain=list(grant.chain), ahead=0.25)

    def noted(self, task: Any, purpose: str, key: str | None = None) -> Granted:
        """Write down the grant of a task that has just been opened."""
        above = self._stack[-1][0] if self._stack and self._stack[-1][0].task == task.id else None
        leaf = task.grant
        hop = Hop(agent=leaf.agent.id, owner=leaf.agent.owner, version=leaf.agent.version, grant=leaf.hash)
        grant = Granted(
            hash=leaf.hash,
            parent=None if above is None else above.hash,
            place=self.spec.name,
            service=self.spec.service,
            task=task.id,
            principal=party(task.principal),
            chain=[*([] if above is None else above.chain), hop],
            tools={name: dict(arguments) for name, arguments in leaf.scope.to_claim().items()},
            issued=leaf.issued_at,
            expires=leaf.expires_at,
            noted=self.clock.wall_ns(),
            key=None if above is not None else key or self.key,
            stolen=self.stolen is not None,
        )
        self.truth.grants.append(grant)
        self.event("begun", task=grant.task, principal=grant.principal, chain=list(grant.chain), name=purpose)
        return grant

    def event(self, what: str, *, ahead: float = 0, **stated: Any) -> Event:
        """Write down something that is no call."""
        event = Event(
            at=self.clock.wall_ns() + int(ahead * NS),
            place=self.spec.name,
            service=self.spec.service,
            what=what,
            **stated,
        )
        self.truth.events.append(event)
        return event

    def refused_opening(self, code: str, agent: Agent, open_: Callable[[], Any], tool: str = "invoke_agent") -> None:
        """Try to open a task or a delegation that is refused."""
        self.settle()
        top = self._stack[-1][0] if self._stack else None
        act = Act(
            at=self.clock.wall_ns(),
            place=self.spec.name,
            service=self.spec.service,
            tool=tool,
            task=None if top is None else top.task,
            principal=None if top is None else top.principal,
            chain=[] if top is None else list(top.chain),
            kind="task",
            opened=Hop(agent=agent.id, owner=agent.owner, version=agent.version, grant=""),
            outcome="denied",
            effect="block",
            reason=code,
            error=code,
            key=self._root_key(),
            stolen=self.stolen,
        )
        self.truth.acts.append(act)
        try:
            with open_():
                raise Unexpected("the opening is not refused")
        except AgentIdentityError as error:
            if str(error.code) != code:
                raise Unexpected(f"the opening is refused with {error.code}, and not with {code}") from error
        self.clock.advance(0.5)

    def revoke(self, what: str, name: str, reason: str, *, suspend: bool = False) -> None:
        """Stop somebody or something."""
        self.clock.advance(0.5)
        self.event("suspended" if suspend else "revoked", kind=what, name=name, reason=reason)
        self.enforcer.revoke(what, name, reason=reason, suspend=suspend)
        self.clock.advance(0.5)

    def reinstate(self, what: str, name: str) -> None:
        """Lift a suspension."""
        self.clock.advance(0.5)
        self.event("reinstated", kind=what, name=name)
        self.enforcer.reinstate(what, name)
        self.clock.advance(0.5)

    def settle_definition(self, server: str, reason: str) -> None:
        """Accept what a server offers."""
        file = InventoryFile(inventory_path(self.root), TrustStore.load(self.root / "trust.json"))
        now = self.clock.wall_ns() // NS
        accept(file, server, None, signer=key_of(f"issuer of {self.spec.name}"), now=now, reason=reason)
        self.enforcer.inventory.find(server)

    async def asked(self, tool: str, rule: str, answer: str, by: Human, **arguments: Any) -> None:
        """Call a tool that a person has to approve, let the person answer, and call it again."""
        found = {"rule": rule, "by_person": True, "findings": self.spec.findings(tool, arguments)}
        routed = {**found, "effect": "route", "reason": "policy_routes"}
        blocked = {**found, "effect": "block", "outcome": "denied"}
        pending = {**blocked, "reason": "approval_pending", "error": "approval_pending"}
        first = await self.do(tool, will=pending, **arguments)
        self.asked_about(first, "pending")
        with self.enforcer.no_task():
            (request,) = self.enforcer.approvals.pending()
            if answer == "approved":
                self.enforcer.approvals.approve(request.id, by=by)
            else:
                self.enforcer.approvals.reject(request.id, by=by, reason="paid twice")
        if answer == "approved":
            second = await self.do(tool, will={**routed, "approver": by.id}, **arguments)
        else:
            refusal = {"reason": "approval_rejected", "error": "approval_rejected"}
            second = await self.do(tool, will={**blocked, **refusal}, **arguments)
        self.asked_about(second, answer, by)

    def asked_about(self, act: Act, what: str, by: Human | None = None) -> None:
        """Write down that somebody is asked about a call, or has answered."""
        named = None if by is None else by.id
        told = {"task": act.task, "principal": act.principal, "chain": list(act.chain), "name": act.tool, "by": named}
        event = self.event(what, by_person=act.by_person, **told)
        event.at = act.at
