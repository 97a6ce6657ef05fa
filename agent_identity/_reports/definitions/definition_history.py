"""History of the definitions of MCP tools: changes, their acceptance, and the calls in between."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Literal, TypeAlias, final

from agent_identity._identity.common.ids import id_order
from agent_identity._record.parts import Offered, Server

_MAX_STATES: Final = 100_000
_MAX_RECORDS: Final = 10

Change: TypeAlias = Literal["waiting", "accepted", "withdrawn"]
"""How a change stands: nobody accepted it, somebody did, or the server offers the accepted definition again."""


@final
@dataclass(frozen=True, slots=True)
class DefinitionChange:
    """A server offered a definition of a tool that nobody had accepted.

    Attributes:
        at_ns: When a record first says so.
        tool: The tool.
        before: The digest of the accepted definition; ``None`` for a tool that was not accepted at all.
        after: The digest of the offered one, if the record has it.
        record: The record.
        status: How the change stands at the end of the evidence.
        settled_ns: When it was accepted or withdrawn; ``None`` while it waits.
        settled_by: The record that says so.
        reason: What was stated at its acceptance, such as who reviewed it.
        calls: Calls of the tool in between whose bodies began.
        refused: Calls of it in between that were refused.
        records: The ids of the first ten of these calls.
    """

    at_ns: int
    tool: str
    before: str | None
    after: str | None
    record: str
    status: Change
    settled_ns: int | None
    settled_by: str | None
    reason: str | None
    calls: int
    refused: int
    records: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class _State:
    """A tool as a record of the inventory has it."""

    at_ns: int
    record: str
    pinned: str
    offered: str
    changed: bool
    reason: str


@final
class _Period:
    """The time between a change and its end, with the calls in it."""

    def __init__(self, change: _State, end: _State | None) -> None:
        self.change, self.end = change, end
        self.calls = self.refused = 0
        self.records: list[tuple[int, str]] = []

    def has(self, at_ns: int) -> bool:
        """Return whether a moment lies in it."""
        return self.change.at_ns <= at_ns and (self.end is None or at_ns < self.end.at_ns)


@final
class DefinitionHistory:
    """Takes the states of tools in any order, then calls, and tells what changed and what was in force.

    Attributes:
        servers: The names of the servers.
        omitted: States without room.
    """

    def __init__(self) -> None:
        self.servers: set[str] = set()
        self._states: dict[str, set[_State]] = {}
        self._periods: dict[str, list[_Period]] | None = None
        self._ordered: dict[str, list[_State]] = {}
        self._number = self.omitted = 0

    def take_state(self, at_ns: int, record: str, server: Server, tools: Iterable[Offered]) -> None:
        """Take the state of a server in the inventory."""
        if self._number < _MAX_STATES:
            self.servers.add(server.name)
        for tool in tools:
            if self._number >= _MAX_STATES:
                self.omitted += 1
                continue
            self._number += 1
            changed = tool.status != "pinned"
            state = _State(at_ns, record, tool.pinned or "", tool.offered or "", changed, server.reason or "")
            self._states.setdefault(tool.name, set()).add(state)

    def take_call(self, at_ns: int, record: str, tool: str, *, ran: bool, refused: bool) -> None:
        """Take a call; all states have to be there before."""
        periods = self._found().get(tool, [])
        at = bisect_right(periods, at_ns, key=lambda period: period.change.at_ns)  # No two of them overlap.
        if at and periods[at - 1].has(at_ns):
            period = periods[at - 1]
            period.calls += ran
            period.refused += refused
            period.records = sorted((*period.records, (at_ns, record)), key=_moment)[:_MAX_RECORDS]

    def in_force(self, digest: str, tool: str, at_ns: int) -> bool:
        """Return whether a server offered a tool under a definition at a moment, accepted or not.

        All states have to be there before.

        Args:
            digest: The digest of the definition.
            tool: The tool.
            at_ns: The moment.
        """
        states = self._ordered.get(tool)
        if states is None:
            states = self._ordered[tool] = _sorted(self._states.get(tool, ()))
        at = bisect_right(states, at_ns, key=lambda state: state.at_ns)
        if not at:
            return False
        # Several records of one moment are one change after the other, as when a change is accepted at once.
        return digest == (states[at - 1].offered or states[at - 1].pinned)

    def changes(self) -> list[DefinitionChange]:
        """Return all changes, in the order of their time."""
        found = [_stated(tool, period) for tool, periods in self._found().items() for period in periods]
        return sorted(found, key=lambda one: (one.at_ns, one.tool, id_order(one.record)))

    def _found(self) -> dict[str, list[_Period]]:
        if self._periods is None:
            self._periods = {tool: list(_periods(_sorted(states))) for tool, states in self._states.items()}
        return self._periods


def _moment(call: tuple[int, str]) -> tuple[int, str]:
    """Return the key that sorts records of one moment by the bytes of their ids."""
    return call[0], id_order(call[1])


def _sorted(states: Iterable[_State]) -> list[_State]:
    """Return states by time, and those of one moment by the bytes of their ids."""
    rest = attrgetter("pinned", "offered", "changed", "reason")
    return sorted(states, key=lambda one: (*_moment((one.at_ns, one.record)), *rest(one)))


def _periods(states: list[_State]) -> Iterator[_Period]:
    """Yield the changes of one tool; one that several records state counts once, from the first of them."""
    waiting: _State | None = None
    for state in states:
        if waiting is not None and not (state.changed and state.offered == waiting.offered):
            yield _Period(waiting, state)
            waiting = None
        if waiting is None and state.changed:
            waiting = state
    if waiting is not None:
        yield _Period(waiting, None)


def _stated(tool: str, period: _Period) -> DefinitionChange:
    change, end = period.change, period.end
    accepted = end is not None and change.offered in (end.pinned, "") and not end.changed
    return DefinitionChange(
        at_ns=change.at_ns,
        tool=tool,
        before=change.pinned or None,
        after=change.offered or None,
        record=change.record,
        status="waiting" if end is None else "accepted" if accepted else "withdrawn",
        settled_ns=None if end is None else end.at_ns,
        settled_by=None if end is None else end.record,
        reason=(end.reason or None) if accepted and end is not None else None,
        calls=period.calls,
        refused=period.refused,
        records=tuple(record for _, record in period.records),
    )
