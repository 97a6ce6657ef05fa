"""What records say and do under one grant, in compact form."""

from typing import Final, Protocol, cast, final

import orjson

from agent_identity.audit.findings import Place
from agent_identity.evidence.record_codec import decode, encode
from agent_identity.evidence.records import (
    VERSION,
    AnyRecord,
    Counts,
    Decision,
    Intent,
    OfTask,
    Outcome,
    Principal,
    Task,
    TaskStart,
)

__all__ = ["GrantUsage", "spent_uses"]

_MAX_TOOLS: Final = 1_024  # A scope names at most 256; whoever uses more is outside it.
_ENDED: Final = frozenset({"success", "error", "cancelled"})
"""Outcomes of bodies that came to an end. Each such call had a share of its own: a rerun ends in place of the first."""


class _Placed(Protocol):
    """What has a place."""

    def place(self) -> Place:
        """Return it."""
        ...


@final
class GrantUsage:
    """What records say and do under one grant.

    Attributes:
        said: What its records say of the task, the parties and the chain, as a record that opens the task says it;
            the purpose, which only one of them states, is left out.
        grant: The hash of its leaf grant, as records name it.
        short: Only outcomes of version 2 were seen, which leave roles and expiry to other records.
        place: Its first record.
        seen_ns: When that was made, in nanoseconds since the Unix epoch.
        tools: What was let through, each tool with the first record that says so.
        ended: How many bodies of each tool came to an end, each with a share of the limits of its own.
        intents: The number of intents under it.
        outcomes: The number of outcomes under it.
        stated_intents: The number of intents that the ends of the task state.
        stated_outcomes: The number of outcomes that the ends of the task state.
        end: Where the task ended.
    """

    __slots__ = (
        "_begun",
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
        "said",
        "seen_ns",
        "short",
        "stated_intents",
        "stated_outcomes",
        "tools",
    )

    def __init__(self, record: OfTask | Intent | Outcome, place: Place) -> None:
        self.said = _opening(record)
        self.short = _is_short(record)
        self.grant = self.said.chain[-1].grant
        self.place = place
        self.seen_ns = record.time.last_ns
        self.tools: dict[str, Place] = {}
        self.ended: dict[str, int] = {}
        self.first_ns = self.last_ns = -1
        self.first: _Placed = place
        self.last: _Placed = place
        self.intents = self.outcomes = self.stated_intents = self.stated_outcomes = 0
        self.end: Place | None = None
        self._stream: str | None = None
        self._begun = 0
        self._stated = (0, 0)

    def packed(self) -> bytes:
        """Return the bytes from which :meth:`unpacked` makes it again."""
        said = (encode(self.said).decode(), self.short, tuple(self.place))
        tools = [(tool, *place) for tool, place in self.tools.items()]
        done = (tools, self.first_ns, tuple(self.first.place()), self.last_ns, tuple(self.last.place()), self.ended)
        # Sums of what is stated may be larger than numbers in JSON can be.
        counts = (self.intents, self.outcomes, str(self.stated_intents), str(self.stated_outcomes))
        begun = (self._stream, self._begun, *map(str, self._stated), self.end and tuple(self.end))
        return orjson.dumps((said, done, counts, begun))

    @classmethod
    def unpacked(cls, data: bytes) -> "GrantUsage":
        """Return the usage that :meth:`packed` kept."""
        said, done, counts, (stream, begun, intents, outcomes, end) = orjson.loads(data)
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
        return usage

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

    def begin(self, stream: str) -> None:
        """Keep that the task was opened in a stream; a grant can be resumed many times and in many processes."""
        if self._stream != stream:  # The streams are read one after the other.
            self._stream, self._begun = stream, 0
        self._begun += 1

    def finish(self, counts: Counts, place: Place, *, partial: bool = False) -> None:
        """Keep what an end of the task states.

        Every opening counts for itself, so that their sums have to be there. A forked child states an end
        without an opening; its numbers contain those of its parent up to the fork.

        Args:
            counts: What it states.
            place: Where the end is.
            partial: Records were pruned, so that calls of openings that are not there may be missing as well.
        """
        if partial and not (self._stream == place.stream and self._begun):
            return  # In an excerpt a task is whole or its opening is missing.
        self.end = place
        intents, outcomes = int(counts.intents), int(counts.outcomes)
        if self._stream == place.stream and self._begun:
            self._begun -= 1
            self._stated = (self._stated[0] + intents, self._stated[1] + outcomes)
            intents, outcomes = self._stated
        self.stated_intents = max(self.stated_intents, intents)
        self.stated_outcomes = max(self.stated_outcomes, outcomes)

    def says_the_same(self, record: OfTask | Intent | Outcome) -> bool:
        """Return whether the record names the same parties, task (but for its purpose) and chain.

        What outcomes of version 2 leave out is compared with the first record that states it.
        """
        said, task, principal = self.said, record.task, record.principal
        if task is None or principal is None:
            return False
        short = _is_short(record)
        rest = (principal, task.expires) == (said.principal, said.task.expires)
        if not rest and (short or self.short):
            rest = _without_roles(principal) == _without_roles(said.principal)
        same = rest and record.chain == said.chain and record.agent == said.agent and task.id == said.task.id
        if same and self.short and not short:
            self.said, self.short = _opening(record), False
        return same


def _is_short(record: OfTask | Intent | Outcome) -> bool:
    return isinstance(record, Outcome) and record.v != VERSION


def _without_roles(principal: Principal) -> Principal:
    """Return a principal as outcomes of version 2 have it."""
    kind, provenance = principal.kind, principal.provenance
    return Principal(id=principal.id, kind=kind, provenance=provenance, issuer=principal.issuer, via=principal.via)


def _opening(record: OfTask | Intent | Outcome) -> TaskStart:
    of = cast("OfTask", record)  # A call with a chain has the other three facts as well, or it would be no record.
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
    """Return how many uses of a limit a record shows: 1 for the outcome of a body that came to an end."""
    if not isinstance(record, Outcome) or record.intent is None or record.outcome not in _ENDED:
        return 0
    return int(_takes_a_share(record.decision))


def _takes_a_share(decision: Decision) -> bool:
    """Return whether a body that runs under a decision takes from the limits; the handler of a route does not."""
    effect = decision.effect
    return effect in ("allow", "warn") or (effect, decision.enforced) == ("route", "allow")
