"""What records say and do under one grant, in compact form."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias, cast, final

import orjson

from agent_identity.audit.findings import Place
from agent_identity.audit.patterns import Context, context_of
from agent_identity.authority import Grant

__all__ = ["Use"]

_MAX_TOOLS: Final = 1_024  # A scope names at most 256; whoever uses more is outside it.


class _Placed(Protocol):
    """What has a place."""

    def place(self) -> Place:
        """Return it."""
        ...


_Event: TypeAlias = tuple[Mapping[str, str], Place, bool] | None
"""The end of a task: what it states, where, and whether records were pruned; or, as ``None``, its opening."""


@final
class Use:
    """What records say and do under one grant.

    Attributes:
        grant: The hash of its leaf grant, in the bytes of the records.
        number: Its place in the order in which uses came.
        principal: The member ``principal`` of its records.
        agent: The member ``agent`` of its records.
        chain: The member ``chain`` of its records.
        task: The member ``task`` of its records, without the purpose.
        context: How these members are written in its calls.
        place: Its first record.
        seen_ns: When that was made, in nanoseconds since the Unix epoch.
        tools: What was let through, each tool with the first record that says so.
        ended: How many bodies of each tool came to an end, each with a share of the limits of its own.
        intents: The number of intents under it.
        outcomes: The number of outcomes under it.
        stated_intents: The number of intents that the ends of the task state.
        stated_outcomes: The number of outcomes that the ends of the task state.
        end: Where the task ended.
        leaf: The grant, once its chain is found to hold.
        kept: It stays in memory, because something else refers to it.
        events: Of a part of a ledger, its openings (``None``) and its ends, in their order.
    """

    __slots__ = (
        "_begun",
        "_stated",
        "_stream",
        "agent",
        "chain",
        "context",
        "end",
        "ended",
        "events",
        "first",
        "first_ns",
        "grant",
        "intents",
        "kept",
        "last",
        "last_ns",
        "leaf",
        "number",
        "outcomes",
        "place",
        "principal",
        "seen_ns",
        "stated_intents",
        "stated_outcomes",
        "task",
        "tools",
    )

    def __init__(
        self, record: Mapping[str, object], place: Place, number: int = 0, context: Context | None = None
    ) -> None:
        self.number = number
        self.principal = record["principal"]
        self.agent = record["agent"]
        self.chain = cast("Sequence[Mapping[str, str]]", record["chain"])
        self.grant = self.chain[-1]["grant"].encode()
        self.task = _without_purpose(record)
        self.context = context or context_of(record, self.task)
        self.place = place
        times = cast("dict[str, str]", record["time"])
        self.seen_ns = int(times.get("end", times["start"]))
        self.tools: dict[str, Place] = {}
        self.ended: dict[str, int] = {}
        self.first_ns = self.last_ns = -1
        self.first: _Placed = place
        self.last: _Placed = place
        self.intents = self.outcomes = self.stated_intents = self.stated_outcomes = 0
        self.end: Place | None = None
        self.leaf: Grant | None = None
        self.kept = False
        self.events: list[_Event] | None = None
        self._stream: str | None = None
        self._begun = 0
        self._stated = (0, 0)

    def packed(self) -> bytes:
        """Return the bytes from which :meth:`unpacked` makes it again."""
        said = (self.number, self.principal, self.agent, self.chain, self.task, self.seen_ns, tuple(self.place))
        tools = [(tool, *place) for tool, place in self.tools.items()]
        done = (tools, self.first_ns, tuple(self.first.place()), self.last_ns, tuple(self.last.place()))
        # Sums of what is stated may be larger than numbers in JSON can be.
        counts = (self.intents, self.outcomes, str(self.stated_intents), str(self.stated_outcomes))
        begun = (self._stream, self._begun, *map(str, self._stated))
        events = [event and (event[0], tuple(event[1]), event[2]) for event in self.events or ()]
        ends = (self.end and tuple(self.end), None if self.events is None else events)
        return orjson.dumps((said, done, counts, begun, ends, [part.decode() for part in self.context], self.ended))

    @classmethod
    def unpacked(cls, data: bytes) -> "Use":
        """Return the use that :meth:`packed` kept."""
        said, done, counts, begun, (end, events), parts, ended = orjson.loads(data)
        number, principal, agent, chain, task, seen_ns, place = said
        record = {"principal": principal, "agent": agent, "chain": chain, "task": task, "time": {"start": seen_ns}}
        use = cls(record, Place(*place), number, Context(*(part.encode() for part in parts)))
        tools, use.first_ns, first, use.last_ns, last = done
        use.tools = {tool: Place(*where) for tool, *where in tools}
        use.first, use.last, use.ended = Place(*first), Place(*last), ended
        use.intents, use.outcomes = counts[:2]
        use.stated_intents, use.stated_outcomes = map(int, counts[2:])
        use._stream, use._begun, *stated = begun
        use._stated = (int(stated[0]), int(stated[1]))
        use.end = None if end is None else Place(*end)
        use.events = None if events is None else [event and (event[0], Place(*event[1]), event[2]) for event in events]
        return use

    def recognise(self, record: Mapping[str, object], context: Context | None) -> None:
        """Keep how a call is written that says the same as the others; later ones can be recognised by it."""
        if context is not None and self.says_the_same(record):
            self.context = context

    def agrees_with(self, other: "Use") -> bool:
        """Return whether another use of the same grant, in another part of the source, says the same."""
        return (self.chain, self.principal, self.agent, self.task) == (
            other.chain,
            other.principal,
            other.agent,
            other.task,
        )

    def absorb(self, later: "Use") -> None:
        """Take over what was done under the grant in a part of the source that comes later."""
        for tool, place in later.tools.items():
            if tool not in self.tools and len(self.tools) < _MAX_TOOLS:
                self.tools[tool] = place
        if later.last_ns > self.last_ns:
            self.last_ns, self.last = later.last_ns, later.last
        if later.first_ns >= 0 and (later.first_ns < self.first_ns or self.first_ns < 0):
            self.first_ns, self.first = later.first_ns, later.first
        for tool, count in later.ended.items():
            self.spend(tool, count)
        self.intents += later.intents
        self.outcomes += later.outcomes
        for event in later.events or ():
            if event is None:
                self.begin(cast("str", later.place.stream))
            else:
                self.finish(event[0], event[1], partial=event[2])

    def count(self, *, concluded: bool) -> None:
        """Count an outcome, or an intent."""
        if concluded:
            self.outcomes += 1
        else:
            self.intents += 1

    def spend(self, tool: str, count: int) -> None:
        """Count bodies of a tool that came to an end."""
        if count and (tool in self.ended or len(self.ended) < _MAX_TOOLS):
            self.ended[tool] = self.ended.get(tool, 0) + count

    def allow(self, tool: str, at_ns: int, where: "_Placed") -> None:
        """Keep that a call of the tool was let through.

        Args:
            tool: The name of the tool.
            at_ns: When it began, in nanoseconds since the Unix epoch.
            where: The record that says so.
        """
        if tool not in self.tools and len(self.tools) < _MAX_TOOLS:
            self.tools[tool] = where.place()
        if at_ns > self.last_ns:
            self.last_ns, self.last = at_ns, where
        if at_ns < self.first_ns or self.first_ns < 0:
            self.first_ns, self.first = at_ns, where

    def allow_all(self, tools: Sequence[str], times: Sequence[int], where: Callable[[int], _Placed]) -> None:
        """Keep that calls were let through, as :meth:`allow` does for one after the other.

        Args:
            tools: The names of their tools.
            times: When they began, in nanoseconds since the Unix epoch.
            where: Returns the record that says so, by the number of the call.
        """
        for tool in dict.fromkeys(tools):
            if tool not in self.tools and len(self.tools) < _MAX_TOOLS:
                self.tools[tool] = where(tools.index(tool)).place()
        latest, earliest = max(times), min(times)
        if latest > self.last_ns:
            self.last_ns, self.last = latest, where(times.index(latest))
        if earliest < self.first_ns or self.first_ns < 0:
            self.first_ns, self.first = earliest, where(times.index(earliest))

    def begin(self, stream: str) -> None:
        """Keep that the task was opened in a stream; a grant can be resumed many times and in many processes."""
        if self.events is not None:
            self.events.append(None)
        if self._stream != stream:  # The streams are read one after the other.
            self._stream, self._begun = stream, 0
        self._begun += 1

    def finish(self, counts: Mapping[str, str], place: Place, *, partial: bool = False) -> None:
        """Keep what an end of the task states.

        Every opening counts for itself, so that their sums have to be there. A forked child states an end
        without an opening; its numbers contain those of its parent up to the fork.

        Args:
            counts: What it states.
            place: Where the end is.
            partial: Records were pruned, so that calls of openings that are not there may be missing as well.
        """
        if self.events is not None:
            self.events.append((counts, place, partial))
        if partial and not (self._stream == place.stream and self._begun):
            return  # In an excerpt a task is whole or its opening is missing.
        self.end = place
        intents, outcomes = int(counts["intents"]), int(counts["outcomes"])
        if self._stream == place.stream and self._begun:
            self._begun -= 1
            self._stated = (self._stated[0] + intents, self._stated[1] + outcomes)
            intents, outcomes = self._stated
        self.stated_intents = max(self.stated_intents, intents)
        self.stated_outcomes = max(self.stated_outcomes, outcomes)

    def says_the_same(self, record: Mapping[str, object]) -> bool:
        """Return whether the record names the same parties, task (but for its purpose) and chain."""
        return (
            record["chain"] == self.chain
            and record["principal"] == self.principal
            and record["agent"] == self.agent
            and _without_purpose(record) == self.task
        )


def _without_purpose(record: Mapping[str, object]) -> dict[str, str]:
    task = cast("dict[str, str]", record["task"])
    return {name: fact for name, fact in task.items() if name != "purpose"} if "purpose" in task else task
