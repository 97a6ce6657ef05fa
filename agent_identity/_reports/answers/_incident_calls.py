"""The calls of an incident: counted as they come, and kept in groups on disk for what is known at the end only."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, TypeAlias, final

import msgspec

from agent_identity._identity.common.ids import id_order
from agent_identity._identity.common.tool_names import server_of
from agent_identity._record.parts import Hop, Principal, Resource
from agent_identity._reports.answers.facts import CallFact
from agent_identity._verify.store.spill_store import spilled

CallState: TypeAlias = Literal["ok", "refused", "open"]
"""``ok``: it succeeded. ``refused``: it was refused. ``open``: it failed, or nothing says how it ended."""

_BATCH: Final = 10_000  # Calls in memory, of some 200 bytes each.
_MAX_REACH: Final = 100_000
_MAX_PATHS: Final = 10_000
_MAX_REFUSALS: Final = 1_000
_OTHERS: Final = ("", ())

MAX_OPEN: Final = 1_000
"""Calls without an outcome that are listed, at most."""

_RAN, _SUCCEEDED, _REFUSED = 1, 2, 4


class CallRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A call, in compact form.

    Attributes:
        at_ns: When it began.
        record: Its record.
        state: Whether its body began, whether it succeeded, and whether it was refused.
    """

    at_ns: int
    record: str
    state: int

    @property
    def ran(self) -> bool:
        """True if its body began."""
        return bool(self.state & _RAN)

    @property
    def succeeded(self) -> bool:
        """True if it ended without an error."""
        return bool(self.state & _SUCCEEDED)

    @property
    def refused(self) -> bool:
        """True if it was refused."""
        return bool(self.state & _REFUSED)

    @property
    def kind(self) -> CallState:
        """How it went."""
        return "refused" if self.refused else "ok" if self.succeeded else "open"


class CallGroup(NamedTuple):
    """Calls of one tool, by the same parties under the same grants.

    Attributes:
        source: The number of the source.
        task: The task.
        principal: On whose behalf.
        principal_kind: ``human`` or ``service``.
        agents: The agents of the chain.
        grants: Their grants.
        tool: The tool.
        opening: It is no call of a tool.
        resources: What they touch, each with the access.
        calls: The calls.
    """

    source: int
    task: str | None
    principal: str | None
    principal_kind: str | None
    agents: tuple[str, ...]
    grants: tuple[str, ...]
    tool: str
    opening: bool
    resources: tuple[str, ...]
    calls: list[CallRow]


class _OpenRow(NamedTuple):
    """A call without an outcome: when, its record, task, agent and tool."""

    at_ns: int
    record: str
    task: str | None
    agent: str | None
    tool: str


@final
@dataclass(frozen=True, slots=True)
class Reach:
    """One party or thing that an incident reached.

    Attributes:
        count: Calls.
        first_ns: The first one.
        last_ns: The last one.
        record: The record of the first one.
    """

    count: int
    first_ns: int
    last_ns: int
    record: str

    def with_more(self, other: "Reach") -> "Reach":
        """Return both together."""
        first = min(self, other, key=lambda one: (one.first_ns, id_order(one.record)))
        return Reach(self.count + other.count, first.first_ns, max(self.last_ns, other.last_ns), first.record)


@final
@dataclass(frozen=True, slots=True)
class Refusal:
    """Refused calls of one tool by the same parties, for the same reason.

    Attributes:
        principal: On whose behalf; empty outside any task.
        agents: The agents of the chain, root first.
        tool: The tool, or the opening.
        reason: The reason, with rule and argument.
        count: How many.
        first_ns: When the first one began.
        last_ns: When the last one began.
        record: The record of the first one.
        opening: It is no call of a tool, but the opening of a task or a delegation.
    """

    principal: str
    agents: tuple[str, ...]
    tool: str
    reason: str
    count: int
    first_ns: int
    last_ns: int
    record: str
    opening: bool = False

    def with_more(self, other: "Refusal") -> "Refusal":
        """Return both together."""
        first_ns, record = min((self.first_ns, self.record), (other.first_ns, other.record))
        count, last_ns = self.count + other.count, max(self.last_ns, other.last_ns)
        return replace(self, count=count, first_ns=first_ns, last_ns=last_ns, record=record)


@final
@dataclass(frozen=True, slots=True)
class PathCalls:
    """What agents of one chain did for one principal, in all tasks.

    Attributes:
        principal: On whose behalf; empty outside any task.
        agents: The agents of the chain, root first; the last one acted.
        calls: Calls whose bodies began, by tool.
        refused: Refused calls, by tool.
    """

    principal: str
    agents: tuple[str, ...]
    calls: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])


class _Key(msgspec.Struct, frozen=True, gc=False):
    """What the calls of a group have in common; equal parts of records are mostly the same object."""

    source: int
    task: str | None
    principal: Principal | None
    chain: tuple[Hop, ...]
    tool: str
    opening: bool
    resources: tuple[Resource, ...]


_Batch = list[CallGroup]


@final
class IncidentCalls:
    """Takes the calls that a seed concerns.

    Attributes:
        number: The number of calls of tools and models.
        tools: By tool, how many calls ran, succeeded, and were refused.
        under: By leaf grant, the calls that ran, by tool.
        refused: By leaf grant, the refused calls.
        sources: By leaf grant, the sources of its calls.
        reach: What calls reached, by kind and name.
        open: The first calls without an outcome.
        paths: The calls by principal and chain; chains without room are together.
        refusals: The refused calls by parties, tool and reason, as far as there was room.
        omitted: Parties and open calls without room.
        last_ns: The time of the last call.
    """

    def __init__(self) -> None:
        self.number = self.omitted = self.last_ns = 0
        self.tools: dict[str, list[int]] = {}
        self.under: dict[str, Counter[str]] = {}
        self.refused: Counter[str] = Counter()
        self.sources: dict[str, set[int]] = {}
        self.reach: dict[tuple[str, str], Reach] = {}
        self.open: list[_OpenRow] = []
        self.paths: dict[tuple[str, tuple[str, ...]], PathCalls] = {}
        self.refusals: dict[tuple[str, tuple[str, ...], str, str], Refusal] = {}
        self._waiting: dict[_Key, list[CallRow]] = {}
        self._room = _BATCH
        self._batches = spilled(_Batch, near=1)
        self._batch = 0

    def take(self, fact: CallFact) -> None:
        """Take a call."""
        where, chain = fact.where, fact.chain
        self.number += not fact.opening
        touched = fact.resources + fact.observed
        key = _Key(where.source, fact.task, fact.principal, chain, fact.tool, fact.opening, touched)
        state = fact.ran * _RAN + fact.succeeded * _SUCCEEDED + fact.refused * _REFUSED
        calls = self._waiting.get(key)
        if calls is None:
            calls = self._waiting[key] = []
        calls.append(CallRow(fact.at_ns, where.record, state))
        if fact.outcome == "unknown":
            self._take_open(fact)
        if fact.refused:
            self._take_refusal(fact)
        self._room -= 1
        if not self._room:
            self._close()

    def groups(self) -> Iterator[CallGroup]:
        """Yield all calls, in groups; several groups may have the same parties."""
        for batch in self._batches.values():
            yield from batch

    def finish(self) -> None:
        """Count the calls that are still waiting."""
        if self._waiting:
            self._close()

    def with_servers(self, servers: Iterable[str]) -> Iterable[tuple[tuple[str, str], Reach]]:
        """Return what calls reached, with the registered servers of the tools.

        Args:
            servers: The names of the servers on record.
        """
        reach, known = dict(self.reach), frozenset(servers)
        for (kind, name), found in self.reach.items():
            server = server_of(name, known) if kind == "tool" else None
            if server is not None:
                before = reach.get(("server", server))
                reach["server", server] = found if before is None else before.with_more(found)
        return reach.items()

    def _take_open(self, fact: CallFact) -> None:
        if len(self.open) < MAX_OPEN:
            agent = fact.chain[-1].id if fact.chain else None
            self.open.append(_OpenRow(fact.at_ns, fact.where.record, fact.task, agent, fact.tool))
        else:
            self.omitted += 1

    def _take_refusal(self, fact: CallFact) -> None:
        principal = "" if fact.principal is None else fact.principal.id
        agents = tuple(hop.id for hop in fact.chain)
        tool = fact.tool if fact.opened is None else f"{fact.tool} {fact.opened.id}"
        at, record = fact.at_ns, fact.where.record
        one = Refusal(principal, agents, tool, _reason_of(fact), 1, at, at, record, opening=fact.opening)
        key = (principal, agents, tool, one.reason)
        found = self.refusals.get(key)
        if found is not None or len(self.refusals) < _MAX_REFUSALS:
            self.refusals[key] = one if found is None else found.with_more(one)

    def _close(self) -> None:
        """Count the waiting calls, and put them aside."""
        batch = [_group(key, calls) for key, calls in self._waiting.items()]
        for group in batch:
            self._count(group)
        self._batches.put(str(self._batch).encode(), batch)
        self._batch += 1
        self._waiting, self._room = {}, _BATCH

    def _count(self, group: CallGroup) -> None:
        ran = [call for call in group.calls if call.state & _RAN]
        refused = sum(call.refused for call in group.calls)
        if not group.opening:
            counts = self.tools.setdefault(group.tool, [0, 0, 0])
            counts[0] += len(ran)
            counts[1] += sum(call.succeeded for call in group.calls)
            counts[2] += refused
        self.last_ns = max(self.last_ns, *(call.at_ns for call in group.calls))
        self._count_path(group, len(ran), refused)
        if group.grants:
            self._count_authority(group, group.grants[-1], len(ran), refused)
        if ran:
            first = min(ran, key=lambda call: (call.at_ns, id_order(call.record)))
            last = max(call.at_ns for call in ran)
            for kind, name in _reached(group):
                self._reach(kind, name, Reach(len(ran), first.at_ns, last, first.record))

    def _count_authority(self, group: CallGroup, leaf: str, ran: int, refused: int) -> None:
        if ran:
            self.under.setdefault(leaf, Counter())[group.tool] += ran
        self.refused[leaf] += refused
        self.sources.setdefault(leaf, set()).add(group.source)

    def _count_path(self, group: CallGroup, ran: int, refused: int) -> None:
        key = (group.principal or "", group.agents)
        if key not in self.paths and len(self.paths) >= _MAX_PATHS:
            key = _OTHERS
        path = self.paths.setdefault(key, PathCalls(*key))
        if ran and not group.opening:
            path.calls[group.tool] += ran
        if refused:
            path.refused[group.tool] += refused

    def _reach(self, kind: str, name: str, more: Reach) -> None:
        found = self.reach.get((kind, name))
        if found is None and len(self.reach) >= _MAX_REACH:
            self.omitted += more.count
        else:
            self.reach[kind, name] = more if found is None else found.with_more(more)


def _reason_of(fact: CallFact) -> str:
    """Return why a call was refused: the reason, and the rule or argument that it is about."""
    decision = fact.decision
    rule = f", rule {decision.rule}" if decision.rule else ""
    argument = f", argument {decision.argument}" if decision.argument else ""
    return f"{decision.reason.replace('_', ' ')}{rule}{argument}"


def _group(key: _Key, calls: list[CallRow]) -> CallGroup:
    principal, chain = key.principal, key.chain
    return CallGroup(
        source=key.source,
        task=key.task,
        principal=None if principal is None else principal.id,
        principal_kind=None if principal is None else principal.kind,
        agents=tuple([hop.id for hop in chain]),
        grants=tuple([hop.grant for hop in chain]),
        tool=key.tool,
        opening=key.opening,
        resources=tuple([f"{one.access} {one.system} {one.name}" for one in key.resources]),
        calls=calls,
    )


def _reached(group: CallGroup) -> Iterator[tuple[str, str]]:
    """Yield what calls that ran reached."""
    if group.task is not None:
        yield "task", group.task
    if group.principal is not None:
        yield "principal", group.principal
    yield from (("agent", agent) for agent in dict.fromkeys(group.agents))
    if not group.opening:
        yield "tool", group.tool
    yield from (("resource", resource) for resource in dict.fromkeys(group.resources))
