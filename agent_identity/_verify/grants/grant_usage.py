"""Usage of one grant: the claims of its records and the calls under it, in compact form."""

from typing import Final, Protocol, cast, final

import orjson

from agent_identity._record.codec import decode, encode
from agent_identity._record.parts import Counts, Task, replaced
from agent_identity._record.schema import AnyRecord, Intent, OfTask, Outcome, TaskStart
from agent_identity._verify.report.findings import Place

_MAX_TOOLS: Final = 1_024  # A scope names at most 256; any more are outside it.
_ENDED: Final = frozenset({"success", "error", "cancelled"})
"""Outcomes of finished bodies. Each call spends once: a rerun replaces the suspended call."""


class Placed(Protocol):
    """An object with a place."""

    def place(self) -> Place:
        """Return the place."""
        ...


@final
class GrantUsage:
    """Usage of one grant: the claims of its records and the calls under it.

    Attributes:
        said: The claims of its records about task, parties and chain, in the form of a record that opens the task,
            without the purpose, which only one record states.
        grant: The hash of its leaf grant, as records name it.
        short: Only outcomes were seen, which leave roles and expiry to other records.
        place: Its first record.
        seen_ns: The time of that record, in nanoseconds since the Unix epoch.
        tools: The tools that were allowed, each with the first record of such a call.
        ended: Number of finished bodies of each tool; each spends from the limits.
        intents: The number of intents under it.
        outcomes: The number of outcomes under it.
        stated_intents: The number of intents that the ends of the task state.
        stated_outcomes: The number of outcomes that the ends of the task state.
        end: Where the task ended.
        ran: Whether an intent of an allowed call is under it.
    """

    __slots__ = (
        "_begun",
        "_principal",
        "_stated",
        "_stream",
        "end",
        "ended",
        "first",
        "first_ns",
        "grant",
        "intents",
        "last",
        "last_ns",
        "outcomes",
        "place",
        "ran",
        "said",
        "seen_ns",
        "short",
        "stated_intents",
        "stated_outcomes",
        "tools",
    )

    def __init__(self, record: OfTask | Intent | Outcome, place: Place) -> None:
        self._say(record)
        self.grant = self.said.chain[-1].grant
        self.place = place
        self.seen_ns = record.time.last_ns
        self.tools: dict[str, Place] = {}
        self.ended: dict[str, int] = {}
        self.first_ns = self.last_ns = -1
        self.first: Placed = place
        self.last: Placed = place
        self.intents = self.outcomes = self.stated_intents = self.stated_outcomes = 0
        self.end: Place | None = None
        self.ran = False
        self._stream: str | None = None
        self._begun = 0
        self._stated = (0, 0)

    def _say(self, record: OfTask | Intent | Outcome) -> None:
        """Take the claims of a record."""
        self.said = _opening(record)
        self.short = isinstance(record, Outcome)
        self._principal = replaced(self.said.principal, roles=None)  # As outcomes state it.

    def packed(self) -> bytes:
        """Serialize for the spill; :meth:`unpacked` reverses it."""
        said = (encode(self.said).decode(), self.short, tuple(self.place))
        tools = [(tool, *place) for tool, place in self.tools.items()]
        done = (tools, self.first_ns, tuple(self.first.place()), self.last_ns, tuple(self.last.place()), self.ended)
        # Sums of stated counts may exceed the integers that JSON can hold.
        counts = (self.intents, self.outcomes, str(self.stated_intents), str(self.stated_outcomes))
        begun = (self._stream, self._begun, *map(str, self._stated), self.end and tuple(self.end))
        return orjson.dumps((said, done, counts, begun, self.ran))

    @classmethod
    def unpacked(cls, data: bytes) -> "GrantUsage":
        """Deserialize the bytes of :meth:`packed`."""
        said, done, counts, (stream, begun, intents, outcomes, end), ran = orjson.loads(data)
        opening, short, place = said
        usage = cls(cast("TaskStart", decode(opening.encode())), Place(*place))
        usage.short = short
        tools, usage.first_ns, first, usage.last_ns, last, usage.ended = done
        usage.tools = {tool: Place(*where) for tool, *where in tools}
        usage.first, usage.last = Place(*first), Place(*last)
        usage.intents, usage.outcomes = counts[:2]
        usage.stated_intents, usage.stated_outcomes = map(int, counts[2:])
        usage._stream, usage._begun, usage._stated = stream, begun, (int(intents), int(outcomes))
        usage.end = None if end is None else Place(*end)
        usage.ran = ran
        return usage

    def spend(self, tool: str, count: int) -> None:
        """Count finished bodies of a tool."""
        if count and (tool in self.ended or len(self.ended) < _MAX_TOOLS):
            self.ended[tool] = self.ended.get(tool, 0) + count

    def allow(self, tool: str, at_ns: int, where: Placed) -> None:
        """Store an allowed call of the tool.

        Args:
            tool: The name of the tool.
            at_ns: Its start, in nanoseconds since the Unix epoch.
            where: The place of its record.
        """
        if tool not in self.tools and len(self.tools) < _MAX_TOOLS:
            self.tools[tool] = where.place()
        if at_ns > self.last_ns:
            self.last_ns, self.last = at_ns, where
        if at_ns < self.first_ns or self.first_ns < 0:
            self.first_ns, self.first = at_ns, where

    def begin(self, stream: str) -> None:
        """Count an opening of the task in a stream; a grant can be resumed many times and in many processes."""
        if self._stream != stream:  # The streams are read one after the other.
            self._stream, self._begun = stream, 0
        self._begun += 1

    def is_open_in(self, stream: str | None) -> bool:
        """Return whether the task was opened in a stream, and has not ended there so far."""
        return self._stream == stream and self._begun > 0

    def finish(self, counts: Counts, place: Place, *, partial: bool = False) -> None:
        """Store the counts that an end of the task states.

        Every opening counts for itself, so the evidence must hold their sums. A forked child states an end
        without an opening; its numbers contain those of its parent up to the fork.

        Args:
            counts: The stated counts.
            place: The place of the end.
            partial: Records were pruned, so the calls of pruned openings may be missing as well.
        """
        if partial and not self.is_open_in(place.stream):
            return  # In an excerpt a task is whole or its opening is missing.
        self.end = place
        intents, outcomes = int(counts.intents), int(counts.outcomes)
        if self.is_open_in(place.stream):
            self._begun -= 1
            self._stated = (self._stated[0] + intents, self._stated[1] + outcomes)
            intents, outcomes = self._stated
        self.stated_intents = max(self.stated_intents, intents)
        self.stated_outcomes = max(self.stated_outcomes, outcomes)

    def says_the_same(self, record: OfTask | Intent | Outcome) -> bool:
        """Return whether the record names the same parties, task (but for its purpose) and chain.

        Members that outcomes leave out are compared with the first record that states them.
        """
        said, task, principal = self.said, record.task, record.principal
        if task is None or principal is None:
            return False
        short = isinstance(record, Outcome)
        if short:
            rest = principal == self._principal
        elif self.short:
            rest = replaced(principal, roles=None) == self._principal
        else:
            rest = principal == said.principal and task.expires == said.task.expires
        same = rest and record.chain == said.chain and record.agent == said.agent and task.id == said.task.id
        if same and self.short and not short:
            self._say(record)
        return same


def _opening(record: OfTask | Intent | Outcome) -> TaskStart:
    of = cast("OfTask", record)  # A call with a chain also has the other three members, or it would be malformed.
    return TaskStart(
        v=of.v,
        id=of.id,
        stream=of.stream,
        time=of.time,
        task=Task(id=of.task.id, expires=of.task.expires),
        principal=of.principal,
        agent=of.agent,
        chain=of.chain,
    )


def spent_uses(record: AnyRecord) -> int:
    """Return the uses of a limit that a record shows: 1 for the outcome of a finished body."""
    if not isinstance(record, Outcome) or record.intent is None or record.outcome not in _ENDED:
        return 0
    effect = record.decision.effect  # The handler of a route spends nothing.
    return int(effect in ("allow", "warn") or (effect, record.decision.enforced) == ("route", "allow"))
