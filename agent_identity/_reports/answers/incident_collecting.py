"""Collects what an incident concerns: grants, calls, tasks, approvals, revocations; what is many goes to the disk."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast, final

import orjson

from agent_identity._identity.common.ids import id_order
from agent_identity._reports.answers._flow_causes import FlowCauses
from agent_identity._reports.answers._incident_calls import IncidentCalls
from agent_identity._reports.answers.facts import (
    ApprovalFact,
    CallFact,
    Fact,
    GrantFact,
    PolicyFact,
    RevocationFact,
    ServerFact,
    TaskFact,
    Where,
)
from agent_identity._reports.answers.incident_seed import Selection
from agent_identity._reports.definitions.definition_history import DefinitionHistory
from agent_identity._verify.store.spill_store import SpillStore
from agent_identity.canonical import JSON, decode, encode

MAX_ENTRIES: Final = 10_000
"""Entries of a timeline, at most: the earliest."""

_NEAR: Final = 5_000
_MAX_REACH: Final = 100_000
_MAX_REVOCATIONS: Final = 10_000

EntryKind: TypeAlias = Literal["grant", "begun", "ended", "call", "approval", "revocation", "policy"]
"""Kind of an entry of a timeline."""


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a timeline.

    Attributes:
        at_ns: When, by the record's own date.
        record: The record.
        kind: What it is about.
        task: The task.
        principal: On whose behalf.
        agents: The agents of the chain, root first.
        what: The tool, the purpose, or what was revoked.
        outcome: How it ended.
        why: The reason, rule and argument, or who approved.
        source: The number of the source.
        stream: The stream.
    """

    at_ns: int
    record: str
    kind: EntryKind
    task: str
    principal: str
    agents: tuple[str, ...]
    what: str
    outcome: str
    why: str
    source: int
    stream: str


class GrantRow(NamedTuple):
    """A grant, in compact form.

    Attributes:
        hash: Its hash.
        parent: The hash of the grant before it.
        task: The task.
        principal: On whose behalf.
        agent: The holder.
        owner: The owner of that.
        depth: 0 for a root.
        kid: The issuer key of a root.
        issued_ns: From when on it permits something.
        expires_ns: From when on it permits nothing.
        noted_ns: When its record noted it.
        tools: What it permits.
        selected: Whether the seed concerns it.
        source: The number of the source.
    """

    hash: str
    parent: str | None
    task: str
    principal: str
    agent: str
    owner: str
    depth: int
    kid: str | None
    issued_ns: int
    expires_ns: int
    noted_ns: int
    tools: dict[str, dict[str, JSON]]
    selected: bool
    source: int


class Revoked(NamedTuple):
    """A change of the list of revocations.

    Attributes:
        at_ns: When.
        kind: What kind of thing.
        name: Its name.
        status: ``revoked``, ``suspended`` or ``reinstated``.
        reason: Why.
        where: The record.
    """

    at_ns: int
    kind: str
    name: str
    status: str
    reason: str | None
    where: Where


def _pack_grant(row: GrantRow) -> bytes:
    """Return a grant with its constraints in canonical form, which has numbers of any size."""
    stated = {name: value for name, value in row._asdict().items() if name != "tools"}
    return orjson.dumps((encode(row.tools).decode(), stated))


def _unpack_grant(data: bytes) -> GrantRow:
    tools, stated = cast("tuple[str, dict[str, Any]]", orjson.loads(data))
    return GrantRow(tools=cast("dict[str, dict[str, JSON]]", decode(tools.encode())), **stated)


@final
class IncidentCollector:
    """Takes the facts of a pass.

    Args:
        selection: Tells which of them the seed concerns.

    Attributes:
        grants: All grants by hash, also those that the seed does not concern: ancestors are among them.
        calls: The calls that it concerns.
        revocations: All changes of revocations.
        begun: The tasks that it concerns, with the time of their begin.
        ended: Those of them that ended.
        sources: The sources of what it concerns.
        definitions: The definitions of the tools of servers.
        defining: The sources of these.
        omitted: Entries and revocations without room.
        last_ns: The time of the last fact of all.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self.grants: SpillStore[GrantRow] = SpillStore(_pack_grant, _unpack_grant, near=_NEAR)
        self.calls = IncidentCalls()
        self._causes = FlowCauses()
        self.revocations: list[Revoked] = []
        self.begun: dict[str, int] = {}
        self.ended: set[str] = set()
        self.sources: set[int] = set()
        self.definitions = DefinitionHistory()
        self.defining: set[int] = set()
        self.omitted = self.last_ns = 0
        self._entries: list[Entry] = []
        self._until: int | None = None  # The time after which the timeline has no room.
        self._context: list[Entry] = []

    def take(self, fact: Fact) -> None:
        """Take a fact."""
        if isinstance(fact, GrantFact):
            self._take_grant(fact)
        elif isinstance(fact, CallFact | TaskFact | ApprovalFact):
            if isinstance(fact, CallFact):
                self._causes.take(fact)
            self.last_ns = max(self.last_ns, fact.at_ns)
            if self._selection.takes(fact):
                self.sources.add(fact.where.source)
                self._take_selected(fact)
        elif isinstance(fact, RevocationFact):
            self._take_revocation(fact)
        elif isinstance(fact, ServerFact):
            self.definitions.take_state(fact.at_ns, fact.where.record, fact.server, fact.tools)
            self.defining.add(fact.where.source)
        elif isinstance(fact, PolicyFact):
            policy = fact.policy
            self._context.append(_entry(fact.where, fact.at_ns, "policy", what=f"{policy.name} {policy.version}"))

    def _take_grant(self, fact: GrantFact) -> None:
        selected = self._selection.takes(fact)
        tools = {tool: dict(arguments) for tool, arguments in fact.tools.items()}
        row = GrantRow(
            hash=fact.hash,
            parent=fact.parent,
            task=fact.task,
            principal=fact.principal.id,
            agent=fact.agent.id,
            owner=fact.agent.owner,
            depth=fact.depth,
            kid=fact.kid,
            issued_ns=fact.issued_ns,
            expires_ns=fact.expires_ns,
            noted_ns=fact.noted_ns,
            tools=tools,
            selected=selected,
            source=fact.where.source,
        )
        self.grants.put(fact.hash.encode(), row)
        if selected:
            self.sources.add(fact.where.source)
        if selected and self._has_room(fact.noted_ns):
            agents = tuple(hop.id for hop in fact.chain)
            self._add(
                _entry(
                    fact.where,
                    fact.noted_ns,
                    "grant",
                    task=fact.task,
                    principal=fact.principal.id,
                    agents=agents,
                    what=", ".join(sorted(fact.tools)),
                )
            )

    def _take_selected(self, fact: CallFact | TaskFact | ApprovalFact) -> None:
        if isinstance(fact, CallFact):
            self._take_call(fact)
        elif isinstance(fact, TaskFact):
            self._take_task(fact)
        elif self._has_room(fact.at_ns):
            approver = fact.approval.approver
            self._add(
                _entry(
                    fact.where,
                    fact.at_ns,
                    "approval",
                    task=fact.task,
                    principal=fact.principal.id,
                    agents=tuple(hop.id for hop in fact.chain),
                    what=fact.tool,
                    outcome=fact.approval.status,
                    why="" if approver is None else f"by {approver.id}",
                )
            )

    def _take_task(self, fact: TaskFact) -> None:
        begun = fact.status == "begun"
        if len(fact.agents) == 1:
            if begun and len(self.begun) < _MAX_REACH:
                self.begun.setdefault(fact.task, fact.at_ns)
            elif not begun and len(self.ended) < _MAX_REACH:
                self.ended.add(fact.task)
        if self._has_room(fact.at_ns):
            self._add(
                _entry(
                    fact.where,
                    fact.at_ns,
                    "begun" if begun else "ended",
                    task=fact.task,
                    principal=fact.principal.id,
                    agents=fact.agents,
                    what=fact.purpose or "",
                )
            )

    def _take_call(self, fact: CallFact) -> None:
        self.calls.take(fact)
        if self._has_room(fact.at_ns):
            self._add(_entry_of(fact))

    def _take_revocation(self, fact: RevocationFact) -> None:
        change = fact.change
        if len(self.revocations) >= _MAX_REVOCATIONS:
            self.omitted += 1
            return
        self.revocations.append(Revoked(fact.at_ns, change.kind, change.name, change.status, change.reason, fact.where))
        what = f"{change.kind} {change.name}" if change.kind != "everything" else "everything"
        self._context.append(
            _entry(fact.where, fact.at_ns, "revocation", what=what, outcome=change.status, why=change.reason or "")
        )

    def _has_room(self, at_ns: int) -> bool:
        """Return whether the timeline has room for an entry; count it as omitted otherwise."""
        if self._until is None or at_ns <= self._until:
            return True
        self.omitted += 1
        return False

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        if len(self._entries) >= 2 * MAX_ENTRIES:
            self._shorten()

    def _shorten(self) -> None:
        self._entries.sort(key=_order)
        self.omitted += max(0, len(self._entries) - MAX_ENTRIES)
        del self._entries[MAX_ENTRIES:]
        if len(self._entries) == MAX_ENTRIES:
            self._until = self._entries[-1].at_ns

    def timeline(self) -> tuple[Entry, ...]:
        """Return the entries by time, with the changes of policies and revocations that fall between them."""
        self._shorten()
        if not self._entries:
            return ()
        first, last = self._entries[0].at_ns, self._entries[-1].at_ns
        # What was revoked after the last call belongs to the incident as well.
        around = (entry for entry in self._context if entry.at_ns >= first and (entry.at_ns <= last or _is_end(entry)))
        ordered = sorted((*self._entries, *around), key=_order)[: 2 * MAX_ENTRIES]
        return tuple(map(self._caused, ordered))

    def _caused(self, entry: Entry) -> Entry:
        """Return the entry with the content that a refusal under the flow rules goes back to."""
        words = self._causes.words(entry.record) if entry.kind == "call" else ""
        return replace(entry, why=f"{entry.why}, {words}" if entry.why else words) if words else entry


def _entry_of(fact: CallFact) -> Entry:
    return _entry(
        fact.where,
        fact.at_ns,
        "call",
        task=fact.task or "",
        principal="" if fact.principal is None else fact.principal.id,
        agents=tuple(hop.id for hop in fact.chain),
        what=fact.tool if fact.opened is None else f"{fact.tool} {fact.opened.id}",
        outcome=fact.outcome,
        why=", ".join(filter(None, _reasons(fact))),
    )


def _reasons(fact: CallFact) -> Iterator[str | None]:
    decision = fact.decision
    yield fact.error if fact.outcome == "error" else None
    yield decision.reason
    yield f"rule {decision.rule}" if decision.rule else None
    yield f"argument {decision.argument}" if decision.argument else None
    yield None if fact.approver is None else f"approved by {fact.approver.id}"
    yield "let through by monitor mode only" if fact.would_be_refused else None


def _order(entry: Entry) -> tuple[object, ...]:
    """Return the key that sorts by time, then by the bytes of the id, then by all else."""
    return entry.at_ns, id_order(entry.record), *astuple(entry)[2:]


def _is_end(entry: Entry) -> bool:
    return entry.kind == "revocation"


def _entry(
    where: Where,
    at_ns: int,
    kind: EntryKind,
    *,
    task: str = "",
    principal: str = "",
    agents: tuple[str, ...] = (),
    what: str = "",
    outcome: str = "",
    why: str = "",
) -> Entry:
    return Entry(at_ns, where.record, kind, task, principal, agents, what, outcome, why, where.source, where.stream)
