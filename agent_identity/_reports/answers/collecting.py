"""Collects items from facts: each agent, principal, tool, server, model, host and resource once."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Final, Literal, NamedTuple, TypeAlias, final

from agent_identity._authority.registries.agents import Registration
from agent_identity._identity.common.tool_names import names_at_servers, server_of, tool_name
from agent_identity._record.parts import Agent, Principal
from agent_identity._reports.answers.declared import Declared
from agent_identity._reports.answers.facts import (
    ApprovalFact,
    CallFact,
    Fact,
    GrantFact,
    RegistrationFact,
    ServerFact,
    SpanFact,
    StreamFact,
    TaskFact,
)
from agent_identity._verify.store.spill_store import SpillStore

ItemKind: TypeAlias = Literal["agent", "principal", "tool", "server", "model", "host", "data"]
"""The kind of an item."""

MAX_ITEMS: Final = 200_000
"""Items that an inventory has, at most; what further ones are named is counted."""

_MAX_VALUES: Final = 64
_TRACED_MCP: Final = "traced mcp"
_NEAR: Final = 50_000

Key: TypeAlias = tuple[ItemKind, str | None, str]
"""Key of an item: kind, service and name."""

CodeStatus: TypeAlias = Literal["configured", "declared", "installed"]
"""Kind of a hint of code: ``configured`` for a client, ``declared`` in code, ``installed`` as a package."""

SightingKey: TypeAlias = tuple[Literal["ledger", "registry", "pins", "traces"] | CodeStatus, int]
"""Key of a sighting of an item: the kind of source, and the number of the source; -1 for hints of code."""


class CodeHint(NamedTuple):
    """An agent, tool, model or server that code or a configuration names; a hint, since nobody saw it at work.

    Attributes:
        kind: What it is.
        name: Its name.
        status: How it is known.
        place: File and line.
        via: The framework, client or package that names it.
        guarded: Whether the code guards it; ``None`` if that is not known.
    """

    kind: ItemKind
    name: str
    status: CodeStatus
    place: str
    via: str
    guarded: bool | None = None


@final
class CollectedItem:
    """An item while it is collected."""

    __slots__ = ("calls", "details", "owners", "refused", "seen", "spans", "versions")

    def __init__(self) -> None:
        self.calls = self.refused = self.spans = 0
        self.owners: set[str] = set()
        self.versions: set[str] = set()
        self.details: dict[str, set[str]] = {}
        self.seen: dict[SightingKey, list[int]] = {}

    def see(self, key: SightingKey, at_ns: int) -> None:
        """Count a statement of a source, at a time or at none (0)."""
        found = self.seen.get(key)
        if found is None:
            self.seen[key] = [at_ns, at_ns, 1]
            return
        if at_ns:
            found[0] = min(found[0] or at_ns, at_ns)
            found[1] = max(found[1], at_ns)
        found[2] += 1

    def say(self, name: str, value: str | None) -> None:
        """Keep a detail, at most so many different ones of a name."""
        if value:
            values = self.details.setdefault(name, set())
            if len(values) < _MAX_VALUES:
                values.add(value)

    def add(self, other: "CollectedItem") -> None:
        """Take over what is known of the same item."""
        self.calls += other.calls
        self.refused += other.refused
        self.spans += other.spans
        self.owners |= other.owners
        self.versions |= other.versions
        for name, values in other.details.items():
            for value in sorted(values):
                self.say(name, value)
        self.add_seen(other.seen)

    def add_seen(self, seen: "Mapping[SightingKey, list[int]]") -> None:
        """Take over sightings."""
        for key, (first, last, count) in seen.items():
            mine = self.seen.setdefault(key, [first, last, 0])
            mine[0] = min(filter(None, (mine[0], first)), default=0)
            mine[1] = max(mine[1], last)
            mine[2] += count


@final
class ItemCollector:
    """Takes facts, and keeps each item once."""

    def __init__(self) -> None:
        self.items: dict[Key, CollectedItem] = {}
        self.omitted = 0
        self.registered = self.pinned = self.traced = self.models = False
        self._services: dict[str, str] = {}
        self._traces = SpillStore(bytes, bytes, near=_NEAR)

    def take(self, fact: Fact) -> None:
        """Take a fact."""
        if isinstance(fact, CallFact):
            self._take_call(fact)
        elif isinstance(fact, TaskFact):
            self._take_task(fact)
        elif isinstance(fact, SpanFact):
            self._take_span(fact)
        elif isinstance(fact, StreamFact):
            if fact.resource is not None and fact.resource.service is not None:
                self._services[fact.where.stream] = fact.resource.service
        elif isinstance(fact, ApprovalFact):
            self._take_approval(fact)
        elif isinstance(fact, GrantFact | RegistrationFact | ServerFact):
            self._take_stated(fact)

    def _item(self, kind: ItemKind, service: str | None, name: str) -> CollectedItem:
        """Return an item; without room one that is counted and not kept."""
        item = self.items.get((kind, service, name))
        if item is None:
            item = CollectedItem()
            if len(self.items) >= MAX_ITEMS:
                self.omitted += 1
            else:
                self.items[kind, service, name] = item
        return item

    def _agent(self, agent: Agent, service: str | None, source: int, at_ns: int) -> CollectedItem:
        item = self._item("agent", service, agent.id)
        item.see(("ledger", source), at_ns)
        item.owners.add(agent.owner)
        if agent.version is not None:
            item.versions.add(agent.version)
        return item

    def _principal(self, principal: Principal, service: str | None, source: int, at_ns: int) -> CollectedItem:
        item = self._item("principal", service, principal.id)
        item.see(("ledger", source), at_ns)
        item.say("kind", principal.kind)
        item.say("identity", principal.provenance)
        item.say("issuer", principal.issuer)
        return item

    def _take_task(self, fact: TaskFact) -> None:
        service, source = self._services.get(fact.where.stream), fact.where.source
        item = self._agent(fact.agent, service, source, fact.at_ns)
        item.say("role", "sub-agent" if len(fact.agents) > 1 else "root agent")
        principal = self._principal(fact.principal, service, source, fact.at_ns)
        principal.say("role", "principal")
        for above, below in zip(fact.agents, fact.agents[1:], strict=False):
            orchestrator = self._item("agent", service, above)
            orchestrator.see(("ledger", source), fact.at_ns)
            orchestrator.say("role", "orchestrator")
            orchestrator.say("delegates to", below)

    def _take_call(self, fact: CallFact) -> None:
        service = self._services.get(fact.where.stream)
        if fact.opened is not None:
            opened = self._agent(fact.opened, service, fact.where.source, fact.at_ns)
            opened.refused += fact.refused
        for item in self._involved(fact, service):
            if not fact.opening:
                item.calls += 1
                item.refused += fact.refused

    def _involved(self, fact: CallFact, service: str | None) -> Iterator[CollectedItem]:
        """Yield who and what takes part in a call."""
        if fact.agent is not None:
            yield self._agent(fact.agent, service, fact.where.source, fact.at_ns)
        if fact.principal is not None:
            yield self._principal(fact.principal, service, fact.where.source, fact.at_ns)
        if fact.of_model:
            yield self._model(fact, service)
        elif not fact.opening:
            yield self._tool(fact, service)
        for resource in dict.fromkeys((*fact.resources, *fact.observed)):
            yield self._data(f"{resource.system} {resource.name}", resource.access, fact, service)

    def _tool(self, fact: CallFact, service: str | None) -> CollectedItem:
        tool = self._item("tool", service, fact.tool)
        tool.see(("ledger", fact.where.source), fact.at_ns)
        tool.say("type", fact.kind)
        for label in fact.labels:
            tool.say("label", label)
        return tool

    def _model(self, fact: CallFact, service: str | None) -> CollectedItem:
        self.models = True
        name = fact.tool if fact.model is None else fact.model.name
        item = self._item("model", service, name)
        item.see(("ledger", fact.where.source), fact.at_ns)
        if fact.model is None:
            item.say("name", "given by the program, not the model's own")
        else:
            item.say("provider", fact.model.provider)
        return item

    def _data(self, name: str, access: str, fact: CallFact, service: str | None) -> CollectedItem:
        item = self._item("data", service, name)
        item.see(("ledger", fact.where.source), fact.at_ns)
        item.say("access", access)
        return item

    def _take_approval(self, fact: ApprovalFact) -> None:
        approver = fact.approval.approver
        if approver is not None:
            service = self._services.get(fact.where.stream)
            item = self._principal(approver, service, fact.where.source, fact.at_ns)
            item.say("role", "approver")

    def _take_stated(self, fact: GrantFact | RegistrationFact | ServerFact) -> None:
        service, source = self._services.get(fact.where.stream), fact.where.source
        if isinstance(fact, GrantFact):
            self._agent(fact.agent, service, source, fact.issued_ns)
        elif isinstance(fact, RegistrationFact):
            self.registered = True
            item = self._item("agent", service, fact.agent.id)
            item.see(("registry", source), 0)
            item.owners.add(fact.agent.owner)
            item.say("registered for", fact.registration.purpose)
        else:
            self.pinned = True
            item = self._item("server", service, fact.server.name)
            item.see(("pins", source), 0)
            item.say("transport", fact.server.transport)
            item.say("pin", fact.server.status)
            if fact.server.version is not None:
                item.versions.add(fact.server.version)
            for tool in fact.tools:
                if tool.status != "pinned":
                    item.say(f"{tool.status} tool", tool.name)

    def _take_span(self, fact: SpanFact) -> None:
        self.traced = True
        self.models = self.models or fact.kind == "model"
        item = self._item(fact.kind, fact.service, fact.name)
        for name, value in fact.details.items():
            item.say(f"traced {name}", value)
        item.say("traced by", fact.library)
        if fact.offered:
            item.say("traced as offered by", fact.library)
        if fact.kind == "agent" and not self._first_in_trace(fact):
            return
        item.see(("traces", fact.source), fact.at_ns)
        item.spans += not fact.offered

    def _first_in_trace(self, fact: SpanFact) -> bool:
        """Return whether the agent was not seen in this trace: some libraries make two spans of one run."""
        named = "\0".join((fact.trace, fact.service or "", fact.name))
        key = sha256(named.encode("utf-8", "surrogatepass")).digest()[:16]
        if key in self._traces:
            return False
        self._traces.put(key, b"")
        return True

    def hint(self, hint: CodeHint) -> None:
        """Take a hint of code."""
        item = self._item(hint.kind, None, hint.name)
        item.see((hint.status, -1), 0)
        item.say("scanned in", hint.place)
        item.say("scanned as", hint.via)
        if hint.guarded is not None:
            item.say("scanned guard", "guarded" if hint.guarded else "not guarded")

    def declare(self, source: int, declared: Declared) -> None:
        """Take what stands beside a ledger."""
        current: dict[str, Registration] = {entry.agent.id: entry for entry in declared.registrations}
        for entry in current.values():
            self._declare_agent(source, entry)
        for server in declared.servers:
            item = self._item("server", None, server.name)
            item.see(("pins", source), 0)
            item.say("transport", server.transport)
            item.say("pin", "moved" if server.moved else "pinned")
            if server.version is not None:
                item.versions.add(server.version)
            for own, state in server.tools:
                tool = self._item("tool", None, tool_name(server.name, own))
                tool.see(("pins", source), 0)
                tool.say("pin", state)

    def _name_traced(self) -> None:
        """Give tools in spans of MCP, which have the name at the server, their whole name where one tool has it."""
        tools = {key: item for key, item in self.items.items() if key[0] == "tool"}
        recorded = {key[2] for key, item in tools.items() if any(kind == "ledger" for kind, _ in item.seen)}
        ends: dict[str, set[str]] = {}
        for name in recorded:
            for end in names_at_servers(name):
                ends.setdefault(end, set()).add(name)
        for key, item in tools.items():
            named = ends.get(key[2], set()) if _TRACED_MCP in item.details else set[str]()
            if len(named) == 1 and key[2] not in recorded:
                (name,) = named
                del self.items[key]
                self.items.setdefault(("tool", key[1], name), CollectedItem()).add(item)

    def _find_servers(self) -> None:
        """Say which known server a tool is of, and count its calls as those of the server; a span makes none known."""
        servers = {
            name
            for (kind, _, name), item in self.items.items()
            if kind == "server" and any(source != "traces" for source, _ in item.seen)
        }
        for (kind, service, name), tool in list(self.items.items()):
            found = server_of(name, servers) if kind == "tool" else None
            if found is None:
                continue
            tool.say("server", found)
            server = self._item("server", service, found) if tool.calls else None
            if server is not None:
                server.calls += tool.calls
                server.refused += tool.refused
                server.add_seen({key: seen for key, seen in tool.seen.items() if key[0] == "ledger"})

    def _declare_agent(self, source: int, entry: Registration) -> None:
        item = self._item("agent", None, entry.agent.id)
        item.see(("registry", source), 0)
        if entry.status != "orphaned":
            item.owners.add(entry.agent.owner)
        if entry.agent.version is not None:
            item.versions.add(entry.agent.version)
        item.say("registration", entry.status)
        item.say("registered for", entry.purpose)
        item.say("model", entry.model)
        for tool in entry.maximum.tools:
            named = self._item("tool", None, tool)
            named.see(("registry", source), 0)

    def fold(self) -> None:
        """Put together what is named without a service and what is named with one, where only one has the name.

        A service that only unsigned spans name does not become that of an item that records show. A tool of a server
        has the name that calls give it, also where spans have the name that it has at its server.
        """
        self._name_traced()
        self._find_servers()
        services: dict[tuple[ItemKind, str], list[str]] = {}
        for kind, service, name in self.items:
            if service is not None:
                services.setdefault((kind, name), []).append(service)
        for (kind, name), named in services.items():
            if len(named) != 1 or (kind, None, name) not in self.items:
                continue
            service = named[0]
            recorded = any(sighting[0] == "ledger" for sighting in self.items[kind, service, name].seen)
            kept, dropped = (service, None) if recorded else (None, service)
            item = self.items[kind, kept, name]
            item.add(self.items.pop((kind, dropped, name)))
            if not recorded:
                item.say("traced service", service)
