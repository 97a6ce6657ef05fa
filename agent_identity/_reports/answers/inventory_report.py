"""The inventory: agents, principals, tools, servers, models, hosts and data, each with its sources and its status.

The answers are the differences: traced and not guarded, registered and idle, observed and not registered, without an
owner, new, gone.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias, final

from agent_identity._common.typed_calls import typed
from agent_identity._reports.answers.collecting import (
    MAX_ITEMS,
    CodeHint,
    CodeStatus,
    CollectedItem,
    ItemCollector,
    ItemKind,
    Key,
)
from agent_identity._reports.answers.declared import Declared, declared_in
from agent_identity._reports.answers.reading import Evidence, Reading, read
from agent_identity._reports.answers.report_frame import Frame, Proof
from agent_identity._verify.report.plurals import counted

KINDS: Final[tuple[ItemKind, ...]] = ("agent", "principal", "tool", "server", "model", "host", "data")
"""The kinds, in the order in which they are shown."""

Status: TypeAlias = Literal["registered", "observed", "traced"] | CodeStatus
"""``registered``: in the registry of agents or the pins of servers. ``observed``: in records. ``traced``: in spans.

The others come from a scan: ``configured`` for a client, ``declared`` in code, ``installed`` as a package.
"""

DifferenceCode: TypeAlias = Literal[
    "traced_not_guarded",
    "configured_not_guarded",
    "declared_not_observed",
    "observed_not_registered",
    "registered_idle",
    "no_owner",
    "new",
    "gone",
]
"""Code of a noteworthy fact about an item."""

_STATUSES: Final[tuple[Status, ...]] = (
    "registered",
    "observed",
    "traced",
    "configured",
    "declared",
    "installed",
)
_AT_WORK: Final = frozenset({"observed", "traced"})
_GUARDED: Final = frozenset({"agent", "tool", "server"})
_REGISTRABLE: Final = frozenset({"agent", "server"})


@final
@dataclass(frozen=True, slots=True)
class Observation:
    """A sighting of an item in one source.

    Attributes:
        kind: ``ledger``, ``registry``, ``pins`` or ``traces``; of a scan ``configured``, ``declared`` or ``installed``.
        source: The number of the source in the frame; -1 for a scan.
        first_ns: The first time; 0 if unknown.
        last_ns: The last time; 0 if unknown.
        count: The number of records or spans that say so.
        proof: The weight of it.
    """

    kind: Literal["ledger", "registry", "pins", "traces"] | CodeStatus
    source: int
    first_ns: int
    last_ns: int
    count: int
    proof: Proof


@final
@dataclass(frozen=True, slots=True)
class Item:
    """One agent, principal, tool, server, model, host or resource.

    Attributes:
        kind: What it is.
        service: The service that it is part of, where a source says it.
        name: Its name.
        statuses: How it is known.
        proof: The weight of what the sources say together, apart from ``traced`` details and spans.
        sightings: The sources.
        owners: The owners that records and the registry name.
        versions: Its versions.
        first_ns: The first time that a record shows it, or a span if only spans and a scan do; 0 if none does.
        last_ns: The last time.
        calls: Calls in records: of the tool or server, by the agent, or on behalf of the principal.
        refused: How many of these were refused.
        spans: Spans of other libraries that show it; an agent counts once in each trace.
        details: More about it, by name; what unsigned spans and a scan say, under names that begin with ``traced`` and
            ``scanned``.
    """

    kind: ItemKind
    service: str | None
    name: str
    statuses: tuple[Status, ...]
    proof: Proof
    sightings: tuple[Observation, ...]
    owners: tuple[str, ...]
    versions: tuple[str, ...]
    first_ns: int
    last_ns: int
    calls: int
    refused: int
    spans: int
    details: Mapping[str, tuple[str, ...]]


@final
@dataclass(frozen=True, slots=True)
class Difference:
    """A noteworthy fact about an item.

    Attributes:
        code: What.
        kind: The kind of the item.
        service: Its service.
        name: Its name.
    """

    code: DifferenceCode
    kind: ItemKind
    service: str | None
    name: str


@final
@dataclass(frozen=True, slots=True)
class Inventory:
    """The answer.

    Attributes:
        frame: Sources, verdicts, keys, period, and what is not shown.
        items: The items, by kind, name and service.
        differences: What is noteworthy, by code, kind and name.
        since_ns: The moment from which on an item is new, or before which it is gone; ``None`` if nobody asked.
    """

    frame: Frame
    items: tuple[Item, ...]
    differences: tuple[Difference, ...]
    since_ns: int | None


@typed
def inventory(
    evidence: Evidence, *, since_ns: int | None = None, hints: Sequence[CodeHint] = (), unnamed: int = 0
) -> Inventory:
    """Take the inventory of evidence.

    Args:
        evidence: What is read.
        since_ns: Also say what is first seen from this moment on, and what is not seen any more from then on.
        hints: What code and configurations name, from a scan.
        unnamed: Declarations of that scan whose names only running code knows.

    Raises:
        ConfigurationError: A source or the trust file cannot be read.
    """
    question = InventoryQuestion(since_ns, hints=hints, unnamed=unnamed)
    return question.answer(read(evidence, question), evidence)


@final
class InventoryQuestion:
    """The inventory as a consumer of a pass that other questions may share.

    Args:
        since_ns: As for :func:`inventory`.
        hints: As for :func:`inventory`.
        unnamed: As for :func:`inventory`.
    """

    def __init__(self, since_ns: int | None, *, hints: Sequence[CodeHint] = (), unnamed: int = 0) -> None:
        self._collector, self._since_ns = ItemCollector(), since_ns
        self._hints, self._unnamed = hints, unnamed
        self.take = self._collector.take

    def answer(self, reading: Reading, evidence: Evidence) -> Inventory:
        """Return the answer at the end of the pass."""
        collector = self._collector
        declared = [declared_in(*pair) for pair in zip(reading.places, reading.trusts, strict=True)]
        for number, one in enumerate(declared):
            collector.declare(number, one)
        for hint in self._hints:
            collector.hint(hint)
        collector.fold()
        notes = list(_not_shown(collector, declared))
        if self._hints or self._unnamed:
            unnamed = counted(self._unnamed, "declaration")
            notes.append(f"{unnamed} whose names only running code knows; a scan gives hints")
        frame = reading.frame("inventory", evidence, notes)
        items = tuple(_items(collector, reading))
        differences = tuple(_differences(items, declared, collector, self._since_ns))
        return Inventory(frame, items, differences, self._since_ns)


def _not_shown(collector: ItemCollector, declared: Sequence[Declared]) -> Iterator[str]:
    yield "what neither passed a guard nor was traced"
    if not any(one.registry for one in declared) and not collector.registered:
        yield "which agents are not registered: there is no registry of agents"
    if not any(one.inventory for one in declared) and not collector.pinned:
        yield "which servers are not pinned: there is no inventory of servers"
    if not collector.traced:
        yield "what runs without a guard: no traces of other libraries were given"
    else:
        yield "spans that were sampled away or dropped; spans are unsigned hints"
    if not collector.models:
        yield "models: no record or span names one"
    for one in declared:
        yield from one.problems
    if collector.omitted:
        yield f"{counted(collector.omitted, 'statement')} about further items: more than {MAX_ITEMS:,} are there"


def _items(collector: ItemCollector, reading: Reading) -> Iterator[Item]:
    order = {kind: number for number, kind in enumerate(KINDS)}
    for key in sorted(collector.items, key=lambda key: (order[key[0]], key[2], key[1] or "")):
        yield _item(key, collector.items[key], reading)


def _item(key: Key, collected: CollectedItem, reading: Reading) -> Item:
    sightings = tuple(
        Observation(kind, source, first, last, count, _proof(kind, source, reading))
        for (kind, source), (first, last, count) in sorted(collected.seen.items())
    )
    found = {_STATUS_OF[sighting.kind] for sighting in sightings}
    first_ns, last_ns = _seen(sightings)
    return Item(
        kind=key[0],
        service=key[1],
        name=key[2],
        statuses=tuple(status for status in _STATUSES if status in found),
        proof=_weight([sighting.proof for sighting in sightings]),
        sightings=sightings,
        owners=tuple(sorted(collected.owners)),
        versions=tuple(sorted(collected.versions)),
        first_ns=first_ns,
        last_ns=last_ns,
        calls=collected.calls,
        refused=collected.refused,
        spans=collected.spans,
        details=MappingProxyType({name: tuple(sorted(collected.details[name])) for name in sorted(collected.details)}),
    )


def _seen(sightings: Sequence[Observation]) -> tuple[int, int]:
    """Return the first and the last time of sightings that have one; hints date only what hints alone show."""
    signed = [seen for seen in sightings if seen.proof != "hint"]
    times = [time for seen in signed or sightings for time in (seen.first_ns, seen.last_ns) if time]
    return min(times, default=0), max(times, default=0)


def _weight(proofs: Sequence[Proof]) -> Proof:
    """Return the weight of what several sources say together: one that is not proved takes the proof from all."""
    if "recorded" in proofs:
        return "recorded"
    return "proved" if "proved" in proofs else "hint"


_STATUS_OF: Final[Mapping[str, Status]] = MappingProxyType(
    {
        "ledger": "observed",
        "registry": "registered",
        "pins": "registered",
        "traces": "traced",
        "configured": "configured",
        "declared": "declared",
        "installed": "installed",
    }
)


def _proof(kind: str, source: int, reading: Reading) -> Proof:
    if source < 0 or kind == "traces":
        return "hint"
    return "proved" if reading.sources[source].proved else "recorded"


def _differences(
    items: Sequence[Item], declared: Sequence[Declared], collector: ItemCollector, since_ns: int | None
) -> Iterator[Difference]:
    seen, registrable = _seen_in(items), _registrable(declared, collector)
    found = [
        Difference(code, item.kind, item.service, item.name)
        for item in items
        for code in _codes(item, seen, registrable, since_ns)
    ]
    order = {code: number for number, code in enumerate(_CODES)}
    yield from sorted(found, key=lambda one: order[one.code])


def _registrable(declared: Sequence[Declared], collector: ItemCollector) -> set[str]:
    """Return the kinds of items of which the evidence has a registry."""
    kinds: set[str] = set()
    if collector.registered or any(one.registry for one in declared):
        kinds.add("agent")
    if collector.pinned or any(one.inventory for one in declared):
        kinds.add("server")
    return kinds


_CODES: Final[tuple[DifferenceCode, ...]] = (
    "traced_not_guarded",
    "configured_not_guarded",
    "declared_not_observed",
    "observed_not_registered",
    "registered_idle",
    "no_owner",
    "new",
    "gone",
)


class _Seen(NamedTuple):
    """The items by how they are known; registrations and pins name no service, and hold in each."""

    observed: AbstractSet[Key]
    recorded: AbstractSet[tuple[ItemKind, str]]
    working: AbstractSet[tuple[ItemKind, str]]
    registered: AbstractSet[tuple[ItemKind, str]]


def _seen_in(items: Sequence[Item]) -> _Seen:
    return _Seen(
        observed=frozenset((item.kind, item.service, item.name) for item in items if "observed" in item.statuses),
        recorded=frozenset((item.kind, item.name) for item in items if "observed" in item.statuses),
        working=frozenset((item.kind, item.name) for item in items if _AT_WORK.intersection(item.statuses)),
        registered=frozenset((item.kind, item.name) for item in items if "registered" in item.statuses),
    )


def _codes(item: Item, seen: _Seen, registrable: AbstractSet[str], since_ns: int | None) -> Iterator[DifferenceCode]:
    named = (item.kind, item.name)
    guarded = "observed" in item.statuses or (item.kind, None, item.name) in seen.observed
    if item.kind in _GUARDED and "traced" in item.statuses and item.spans and not guarded:
        yield "traced_not_guarded"
    yield from _codes_of_scan(item, working=named in seen.working, guarded=guarded)
    if item.kind in registrable and "observed" in item.statuses and named not in seen.registered:
        yield "observed_not_registered"
    if item.kind in _REGISTRABLE and "registered" in item.statuses and named not in seen.recorded:
        yield "registered_idle"
    if item.kind == "agent" and not item.owners and _KNOWN.intersection(item.statuses):
        yield "no_owner"
    if since_ns is not None and item.first_ns:
        if item.first_ns >= since_ns:
            yield "new"
        elif item.last_ns < since_ns:
            yield "gone"


_KNOWN: Final = frozenset({"registered", *_AT_WORK})


def _codes_of_scan(item: Item, *, working: bool, guarded: bool) -> Iterator[DifferenceCode]:
    """Yield what a scan and the evidence say differently."""
    if item.kind == "server" and "configured" in item.statuses and not guarded:
        yield "configured_not_guarded"
    if "declared" in item.statuses and not working:
        yield "declared_not_observed"
