"""An incident from a seed: timeline, chain with effective authority, could against did, open calls, what to revoke."""

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, final

from agent_identity._common.typed_calls import typed
from agent_identity._identity.common.ids import id_order
from agent_identity._reports.answers._incident_calls import MAX_OPEN, CallGroup, CallRow, CallState, PathCalls, Refusal
from agent_identity._reports.answers.facts import Tools
from agent_identity._reports.answers.incident_collecting import MAX_ENTRIES, Entry, GrantRow, IncidentCollector, Revoked
from agent_identity._reports.answers.incident_seed import (
    Resolver,
    Seed,
    Selection,
    in_doubt,
    key_commands,
    order_of,
    refuse_standard_input,
)
from agent_identity._reports.answers.reading import Evidence, Reading, read
from agent_identity._reports.answers.report_frame import FOR_PAGES, Frame, Proof
from agent_identity._reports.definitions.definition_history import DefinitionChange
from agent_identity._verify.inputs.sources import PathLike
from agent_identity._verify.report.plurals import counted

BINS: Final = 100
"""The parts into which the time of an incident is divided."""

_LANES: Final = 13
_MAX_HOPS: Final = 1_000
_MAX_COMMANDS: Final = 50
_MAX_REASON: Final = 256  # That revocations have.


@final
@dataclass(frozen=True, slots=True)
class Authority:
    """The effective authority at one hop: what a grant permits, and what was lost there.

    Attributes:
        grant: The hash of the grant.
        parent: The hash of the grant before it; ``None`` for a root.
        task: The task.
        principal: On whose behalf.
        agent: The holder.
        owner: The owner of that.
        depth: 0 for a root.
        key: The issuer key of a root.
        issued_ns: From when on it permits something, as its issuer says.
        noted_ns: When the record noted it, as its recorder says.
        expires_ns: From when on it permits nothing.
        tools: What it permits.
        lost: Tools that the grant before it has and this one has not.
        narrowed: Tools whose constraints are others than in the grant before it.
        calls: Calls of the holder under it whose bodies began, by tool.
        refused: How many of its calls were refused.
        selected: The seed concerns it; otherwise it is an ancestor.
        proof: The weight of it.
    """

    grant: str
    parent: str | None
    task: str
    principal: str
    agent: str
    owner: str
    depth: int
    key: str | None
    issued_ns: int
    noted_ns: int
    expires_ns: int
    tools: Tools
    lost: tuple[str, ...]
    narrowed: tuple[str, ...]
    calls: Mapping[str, int]
    refused: int
    selected: bool
    proof: Proof


@final
@dataclass(frozen=True, slots=True)
class ToolReach:
    """One tool: what the grants allowed, and what was done.

    Attributes:
        tool: The tool.
        grants: Grants that the seed concerns and that permit it.
        open_grants: Those that permit it with any arguments.
        until_ns: When the last of them expires; 0 without any.
        calls: Calls whose bodies began.
        succeeded: How many of these ended without an error.
        refused: Refused calls.
    """

    tool: str
    grants: int
    open_grants: int
    until_ns: int
    calls: int
    succeeded: int
    refused: int


@final
@dataclass(frozen=True, slots=True)
class Reached:
    """Somebody or something that calls of the incident reached.

    Attributes:
        kind: ``task``, ``principal``, ``agent``, ``tool``, ``server`` or ``resource``.
        name: Its name.
        count: Calls whose bodies began.
        first_ns: The first one.
        last_ns: The last one.
        record: The record of the first one.
    """

    kind: str
    name: str
    count: int
    first_ns: int
    last_ns: int
    record: str


@final
@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that began, and of which nothing says how it ended.

    Attributes:
        at_ns: When it began.
        record: Its intent.
        task: The task.
        agent: Who acted.
        tool: The tool.
    """

    at_ns: int
    record: str
    task: str | None
    agent: str | None
    tool: str


@final
@dataclass(frozen=True, slots=True)
class RevocationEffect:
    """A revocation or suspension that concerns the incident, and what happened afterwards.

    Attributes:
        kind: What was revoked.
        name: Its name.
        status: ``revoked`` or ``suspended``.
        at_ns: When, by the record's own date.
        lifted_ns: When it was reinstated; ``None`` if it was not.
        record: The record.
        before: Calls that it would have stopped and that began before it.
        after: Calls that it should have stopped, and that began while it was in force.
        last_ns: When the last of these began; 0 without any.
        refused: Refused calls while it was in force.
        since_first_ns: Nanoseconds from the first call that it concerns to it; ``None`` without such a call.
        records: The ids of the first ten calls that began while it was in force.
    """

    kind: str
    name: str
    status: str
    at_ns: int
    lifted_ns: int | None
    record: str
    before: int
    after: int
    last_ns: int
    refused: int
    since_first_ns: int | None
    records: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Bin:
    """Calls of one agent in one part of the time of the incident.

    Attributes:
        agent: Who acted; the number of the others where they have no lane of their own.
        number: Which part, from 0.
        kind: How they went.
        count: How many.
    """

    agent: str
    number: int
    kind: CallState
    count: int


@final
@dataclass(frozen=True, slots=True)
class IncidentReport:
    """The answer.

    Attributes:
        frame: Sources, verdicts, keys, period, and what is not shown.
        seed: What was asked about.
        proof: The weight of everything in the answer.
        first_ns: The first time in it; 0 if the seed concerns nothing.
        last_ns: The last time.
        calls: Calls of tools and models that the seed concerns; refused openings are in the timeline only.
        timeline: The entries by time.
        omitted: Entries, grants and parties that had no room.
        authority: The grants, by task and depth: ancestors first.
        tools: Could and did, by tool.
        reached: Who and what was reached.
        open_calls: Calls without an outcome.
        revocations: Revocations that concern it.
        definitions: Changed definitions of tools of MCP servers that concern it.
        open_tasks: Tasks without an end whose authority had not expired at the last fact of the evidence.
        commands: What to run to stop it, ready to be pasted.
        undated: For an issuer key and the moment of its theft: root grants that it signed, that records note before
            that moment and that nothing outside shows to be older; they are not in the answer.
        refusals: Refused calls by parties, tool and reason, the earliest first.
        paths: What was called and refused, by principal and chain of agents.
        ends_ns: The last time of all, that of calls included that the timeline has no room for.
        bins: All calls in time, by the agent that acted, from the first time to ``ends_ns``.
    """

    frame: Frame
    seed: Seed
    proof: Proof
    first_ns: int
    last_ns: int
    calls: int
    timeline: tuple[Entry, ...]
    omitted: int
    authority: tuple[Authority, ...]
    tools: tuple[ToolReach, ...]
    reached: tuple[Reached, ...]
    open_calls: tuple[OpenCall, ...]
    revocations: tuple[RevocationEffect, ...]
    definitions: tuple[DefinitionChange, ...]
    open_tasks: tuple[str, ...]
    commands: tuple[str, ...]
    undated: int = 0
    refusals: tuple[Refusal, ...] = field(default=(), metadata=FOR_PAGES)
    paths: tuple[PathCalls, ...] = field(default=(), metadata=FOR_PAGES)
    ends_ns: int = field(default=0, metadata=FOR_PAGES)
    bins: tuple[Bin, ...] = field(default=(), metadata=FOR_PAGES)


@typed
def incident(evidence: Evidence, seed: Seed, *, checkpoint: bytes | PathLike | None = None) -> IncidentReport:
    """Reconstruct an incident from what is known of it at first.

    A seed that names a record, span, owner or key needs the evidence twice; both passes verify. A recorder key leads to
    the records that its theft leaves in doubt, by the order of the log and states of it that others saw (decision
    0017), and an issuer key to what was done under the grants that it signed. From the theft of an issuer key on, those
    count that records note from then on, or that stand in the ledger after such a record; the dates of grants are those
    of the thief.

    Args:
        evidence: What is read.
        seed: What is known.
        checkpoint: For a key: a checkpoint of the log that was kept elsewhere, as note or path. For an issuer key, only
            what it shows to be older than the theft is left out.

    Raises:
        ConfigurationError: A source or the trust file cannot be read, or has to be read twice and cannot.
    """
    resolver: Resolver | None = None
    if seed.indirect:
        refuse_standard_input(evidence, seed)
        resolver = Resolver(seed)
        if seed.kind == "key":
            resolver.doubted = in_doubt(evidence, seed, checkpoint)
            if not resolver.doubted and seed.after_ns is not None:
                resolver.strict = checkpoint is not None
                resolver.outside = in_doubt(evidence, seed, checkpoint, of_all=True)
        if not resolver.doubted:
            places = read(evidence, resolver).places
            resolver.finish(lambda moment: [order_of(place, moment) for place in places])
    question = IncidentQuestion(seed, resolver)
    return question.answer(read(evidence, question), evidence)


@final
class IncidentQuestion:
    """An incident as a consumer of a pass that other questions may share.

    Args:
        seed: What is known.
        resolver: What an earlier pass learned of an indirect seed.
    """

    def __init__(self, seed: Seed, resolver: Resolver | None = None) -> None:
        self._seed, self._collector = seed, IncidentCollector(Selection(seed, resolver))
        self._recorder = resolver is not None and bool(resolver.doubted)
        self._undated = 0 if resolver is None else resolver.undated
        self.take = self._collector.take

    def answer(self, reading: Reading, evidence: Evidence) -> IncidentReport:
        """Return the answer at the end of the pass."""
        frame = reading.frame("incident", evidence, ())
        report = _Conclusion(self._seed, self._collector, reading, frame, recorder=self._recorder).report()
        if not self._undated:
            return report
        notes = (*report.frame.not_shown, _UNDATED.format(counted(self._undated, "root grant")))
        return replace(report, undated=self._undated, frame=replace(report.frame, not_shown=notes))


_UNDATED: Final = (
    "{} of the key that records date before the theft and nothing outside does (a witness, a time-stamp, or "
    "--checkpoint): leave out --after to get them all"
)


def _not_shown(seed: Seed, omitted: int, *, recorder: bool) -> Iterator[str]:
    yield "what passed no guard; content of arguments and results, of which records have keyed digests"
    yield "the order of events of different streams beyond the dates in records, which their writers set"
    if recorder:
        yield (
            "whether the records in doubt are genuine: they are all those that no witness, time-stamp, kept checkpoint "
            "or later key shows to be older than the theft; spans without their ledger, which nothing orders"
        )
    if seed.kind == "resource":
        yield "calls of tools that declare no resource"
    if omitted:
        yield (
            f"{omitted:,} lines: the timeline ends after {MAX_ENTRIES:,} entries, and {_MAX_HOPS:,} grants and "
            f"{MAX_OPEN:,} calls without an outcome are listed; numbers count all"
        )


@final
class _Conclusion:
    """Draws the report from what was collected."""

    def __init__(
        self, seed: Seed, collector: IncidentCollector, reading: Reading, frame: Frame, *, recorder: bool
    ) -> None:
        self._recorder = recorder
        self._seed, self._collector, self._reading, self._frame = seed, collector, reading, frame
        self._omitted = 0
        self._effects = [_Effect(one) for one in _in_force(collector.revocations)]
        self._authority: tuple[Authority, ...] = ()
        self._above: set[int] = set()

    def report(self) -> IncidentReport:
        """Return the report."""
        collector = self._collector
        calls = collector.calls
        calls.finish()
        for group in calls.groups() if self._effects or collector.defining else ():
            self._take_calls(group)
        self._authority = tuple(self._hops())
        timeline = collector.timeline()
        definitions = tuple(one for one in collector.definitions.changes() if self._is_concerned(one))
        if definitions:
            self._above |= collector.defining
        open_tasks = self._open_tasks()
        effects = tuple(effect.result() for effect in self._effects if effect.concerns)
        times = [entry.at_ns for entry in timeline if entry.kind not in ("policy", "revocation")]
        first, last = min(times, default=0), max((*times, calls.last_ns))
        omitted = collector.omitted + calls.omitted + collector.definitions.omitted + self._omitted
        return IncidentReport(
            frame=replace(self._frame, not_shown=tuple(_not_shown(self._seed, omitted, recorder=self._recorder))),
            seed=self._seed,
            proof=self._proof(self._rests_on(timeline)),
            first_ns=first,
            last_ns=max(times, default=0),
            calls=calls.number,
            timeline=timeline,
            omitted=omitted,
            authority=self._authority,
            tools=tuple(self._reach_of_tools()),
            reached=tuple(self._reached()),
            open_calls=tuple(
                OpenCall(*row) for row in sorted(calls.open, key=lambda row: (row.at_ns, id_order(row.record)))
            ),
            revocations=effects,
            definitions=definitions,
            open_tasks=open_tasks,
            commands=tuple(self._advice(open_tasks)),
            refusals=tuple(sorted(calls.refusals.values(), key=lambda one: (one.first_ns, one.record))),
            paths=tuple(one for one in calls.paths.values() if one.calls or one.refused),
            ends_ns=last,
            bins=tuple(_bins(calls.groups(), first, last)),
        )

    def _is_concerned(self, change: DefinitionChange) -> bool:
        return self._seed.is_about(change) or bool(change.calls or change.refused)

    def _proof(self, sources: Collection[int]) -> Proof:
        """Return the weight of what sources say; what a stolen recorder key leaves in doubt is not proved."""
        return "recorded" if self._recorder else self._frame.proof(sources)

    def _rests_on(self, timeline: Sequence[Entry]) -> set[int]:
        """Return the sources of all that the report says, that of ancestors and of revocations included."""
        effects = {effect.source for effect in self._effects if effect.concerns}
        return {*self._collector.sources, *self._above, *effects, *(entry.source for entry in timeline)}

    def _take_calls(self, group: CallGroup) -> None:
        """Take calls against the changes of definitions and revocations, which are known at the end only."""
        definitions = self._collector.definitions
        for call in group.calls:
            definitions.take_call(call.at_ns, call.record, group.tool, ran=call.ran, refused=call.refused)
        if self._effects:
            owners, key = self._owners_of(group)
            for effect in self._effects:
                effect.take(group, owners, key)

    def _owners_of(self, group: CallGroup) -> tuple[set[str], str | None]:
        grants = [self._collector.grants.get(grant.encode()) for grant in group.grants]
        owners = {grant.owner for grant in grants if grant is not None}
        return owners, grants[0].kid if grants and grants[0] is not None else None

    def _hops(self) -> Iterator[Authority]:
        """Yield the grants that the seed concerns, with their ancestors, by task and depth."""
        grants = self._collector.grants
        chosen: dict[str, GrantRow] = {}
        for row in grants.values():
            if row.selected and len(chosen) < _MAX_HOPS:
                chosen[row.hash] = row
            elif row.selected:
                self._omitted += 1
        for row in list(chosen.values()):
            above = row.parent
            while above is not None and above not in chosen:
                parent = grants.get(above.encode())
                if parent is None:
                    break
                chosen[above] = parent
                self._above.add(parent.source)
                above = parent.parent
        for row in sorted(chosen.values(), key=lambda row: (row.task, row.depth, row.issued_ns, row.hash)):
            yield self._hop(row, None if row.parent is None else chosen.get(row.parent))

    def _hop(self, row: GrantRow, parent: GrantRow | None) -> Authority:
        before = {} if parent is None else parent.tools
        return Authority(
            grant=row.hash,
            parent=row.parent,
            task=row.task,
            principal=row.principal,
            agent=row.agent,
            owner=row.owner,
            depth=row.depth,
            key=row.kid,
            issued_ns=row.issued_ns,
            noted_ns=row.noted_ns,
            expires_ns=row.expires_ns,
            tools=row.tools,
            lost=tuple(sorted(before.keys() - row.tools.keys())),
            narrowed=tuple(sorted(tool for tool in row.tools if tool in before and row.tools[tool] != before[tool])),
            calls=dict(sorted(self._collector.calls.under.get(row.hash, Counter[str]()).items())),
            refused=self._collector.calls.refused[row.hash],
            selected=row.selected,
            proof=self._proof({row.source, *self._collector.calls.sources.get(row.hash, ())}),
        )

    def _reach_of_tools(self) -> Iterator[ToolReach]:
        could, did = dict[str, list[int]](), self._collector.calls.tools
        for row in self._collector.grants.values():
            if row.selected:
                for tool, arguments in row.tools.items():
                    counts = could.setdefault(tool, [0, 0, 0])
                    counts[0] += 1
                    counts[1] += not arguments
                    counts[2] = max(counts[2], row.expires_ns)
        for tool in sorted({*could, *did}):
            yield ToolReach(tool, *could.get(tool, [0, 0, 0]), *did.get(tool, [0, 0, 0]))

    def _reached(self) -> Iterator[Reached]:
        for (kind, name), found in sorted(self._collector.calls.with_servers(self._collector.definitions.servers)):
            yield Reached(kind, name, found.count, found.first_ns, found.last_ns, found.record)

    def _open_tasks(self) -> tuple[str, ...]:
        """Return the tasks that may still act: begun, not ended, and with a grant that has not expired."""
        collector = self._collector
        now = collector.last_ns
        live = {row.task for row in collector.grants.values() if row.depth == 0 and row.expires_ns > now}
        return tuple(sorted(task for task in collector.begun if task not in collector.ended and task in live))

    def _advice(self, open_tasks: Sequence[str]) -> Iterator[str]:
        """Yield the commands, with a comment first if the evidence that they rest on is not proved."""
        named = key_commands(self._seed, self._reading.places) if self._recorder else self._commands(open_tasks)
        commands = list(islice(named, _MAX_COMMANDS))
        if commands and self._frame.proof(self._rests_on(())) != "proved":
            yield "# a hint: the evidence is not proved; check each command before you run it"
        yield from commands

    def _commands(self, open_tasks: Sequence[str]) -> Iterator[str]:
        """Yield commands that stop what the seed names, or else the agents and tasks that it concerns."""
        seed, reach = self._seed, self._collector.calls.reach
        targets: list[tuple[str, str]] = []
        if seed.kind in ("agent", "owner", "task", "grant", "key"):
            targets.append((seed.kind, seed.name))
        elif seed.kind == "principal":
            targets += [(kind, seed.name) for kind in sorted(self._kinds_of(seed.name))]
        else:
            targets += [("agent", name) for kind, name in sorted(reach) if kind == "agent"]
        targets += [("task", task) for task in open_tasks if ("task", task) not in targets]
        directories = [place.paths[0] for place in self._reading.places if place.kind == "ledger" and not place.problem]
        for directory in directories:
            for kind, name in targets:
                reason = f"incident {seed}"[:_MAX_REASON]
                words = ["agent-identity", "revoke", "--reason", reason, "--", directory, kind, name]
                yield shlex.join(words)

    def _kinds_of(self, principal: str) -> set[str]:
        groups = self._collector.calls.groups()
        return {one.principal_kind for one in groups if one.principal == principal and one.principal_kind is not None}


def _bins(groups: Iterable[CallGroup], first_ns: int, last_ns: int) -> Iterator[Bin]:
    """Yield the calls in time; the busiest agents and those that were refused have lanes, and the others share one."""
    span = max(1, last_ns - first_ns + 1)
    counts: dict[str, Counter[tuple[int, CallState]]] = {}
    for group in groups:
        lane = counts.setdefault(group.agents[-1] if group.agents else "", Counter())
        for call in group.calls:
            lane[max(0, call.at_ns - first_ns) * BINS // span, call.kind] += 1
    refused = {agent: sum(n for (_, kind), n in lane.items() if kind == "refused") for agent, lane in counts.items()}
    order = sorted(counts, key=lambda agent: (-refused[agent], -counts[agent].total(), agent))
    others = Counter[tuple[int, CallState]]()
    for agent in order[_LANES:]:
        others.update(counts.pop(agent))
    lanes = [*((agent, counts[agent]) for agent in order[:_LANES]), (f"{len(order) - _LANES:,} others", others)]
    for agent, lane in lanes:
        yield from (Bin(agent, number, kind, count) for (number, kind), count in sorted(lane.items()))


def _in_force(changes: Sequence[Revoked]) -> Iterator[tuple[Revoked, int | None]]:
    """Yield each revocation and suspension, with the time when it was lifted."""
    waiting: dict[tuple[str, str], Revoked] = {}
    for change in sorted(changes, key=lambda one: (one.at_ns, id_order(one.where.stream), one.where.seq)):
        key = (change.kind, change.name)
        if change.status != "reinstated":
            waiting.setdefault(key, change)
        elif (before := waiting.pop(key, None)) is not None:
            yield before, change.at_ns
    yield from ((change, None) for change in waiting.values())


@final
class _Effect:
    """Counts the calls that a revocation concerns."""

    def __init__(self, change: tuple[Revoked, int | None]) -> None:
        self._change, self._lifted = change
        self._before = self._after = self._last = self._refused = 0
        self._first: int | None = None
        self._records: list[tuple[int, str]] = []

    @property
    def source(self) -> int:
        """The number of the source that has the revocation."""
        return self._change.where.source

    @property
    def concerns(self) -> bool:
        """True if it concerns a call of the incident."""
        return bool(self._before or self._after or self._refused)

    def take(self, group: CallGroup, owners: set[str], key: str | None) -> None:
        """Count calls of the same parties."""
        if self._matches(group, owners, key):
            for call in group.calls:
                self._take_call(call)

    def _take_call(self, call: CallRow) -> None:
        change, ran = self._change, call.ran
        in_force = call.at_ns > change.at_ns and (self._lifted is None or call.at_ns < self._lifted)
        if ran:
            self._first = call.at_ns if self._first is None else min(self._first, call.at_ns)
        if in_force:
            self._refused += call.refused
            self._after += ran
            if ran:
                self._last = max(self._last, call.at_ns)
                records = (*self._records, (call.at_ns, call.record))
                self._records = sorted(records, key=lambda one: (one[0], id_order(one[1])))[:10]
        elif call.at_ns <= change.at_ns:
            self._before += ran

    def _matches(self, group: CallGroup, owners: set[str], key: str | None) -> bool:
        kind, name = self._change.kind, self._change.name
        if kind in ("human", "service"):
            return (group.principal_kind, group.principal) == (kind, name)
        named: dict[str, bool] = {
            "everything": True,
            "task": group.task == name,
            "grant": name in group.grants,
            "agent": name in group.agents,
            "owner": name in owners,
            "key": key == name,
        }
        return named.get(kind, False)

    def result(self) -> RevocationEffect:
        """Return what was counted."""
        change = self._change
        earlier = self._first is not None and self._first <= change.at_ns
        return RevocationEffect(
            kind=change.kind,
            name=change.name,
            status=change.status,
            at_ns=change.at_ns,
            lifted_ns=self._lifted,
            record=change.where.record,
            before=self._before,
            after=self._after,
            last_ns=self._last,
            refused=self._refused,
            since_first_ns=change.at_ns - self._first if earlier and self._first is not None else None,
            records=tuple(record for _, record in self._records),
        )
