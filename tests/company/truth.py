"""The ledger of truth: what happened in the simulated organization, as the simulation itself saw it.

Plain data. Nothing here is read from records: the simulation writes each fact down when it happens, before the library
judges it, and tool bodies say themselves that they ran.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

NS: Final = 1_000_000_000
DAY: Final = 86_400 * NS


@dataclass(slots=True, kw_only=True)
class Hop:
    """An agent of a chain, and the hash of the grant that it holds."""

    agent: str
    owner: str
    version: str | None
    grant: str


@dataclass(slots=True, kw_only=True)
class Party:
    """On whose behalf something is done, or who approves."""

    id: str
    kind: str
    issuer: str | None = None
    provenance: str = "asserted"


@dataclass(slots=True, kw_only=True)
class Touched:
    """A resource that a call touches if its body begins."""

    system: str
    name: str
    access: str
    labels: list[str] = field(default_factory=list)
    filled: str = ""


@dataclass(slots=True, kw_only=True)
class Act:
    """A call, or the refused opening of a task or delegation. No two begin at the same time.

    ``ran`` is what the body says of itself. ``stolen`` names whose key somebody else used for it: ``issuer`` or
    ``recorder``.
    """

    at: int
    place: str
    service: str | None
    tool: str
    task: str | None = None
    principal: Party | None = None
    chain: list[Hop] = field(default_factory=list)
    kind: str | None = "function"
    server: str | None = None
    arguments: list[str] = field(default_factory=list)
    touches: list[Touched] = field(default_factory=list)
    effect: str = "allow"
    reason: str = "default"
    rule: str | None = None
    argument: str | None = None
    outcome: str = "success"
    error: str | None = None
    approver: str | None = None
    by_person: bool = False
    findings: list[str] = field(default_factory=list)
    opened: Hop | None = None
    monitored: bool = False
    stolen: str | None = None
    key: str | None = None
    definition: str | None = None
    ran: bool = False
    withheld: bool = False

    @property
    def agent(self) -> str:
        """The acting agent; empty outside any task."""
        return self.chain[-1].agent if self.chain else ""

    @property
    def opening(self) -> bool:
        """True if it is no call of a tool."""
        return self.opened is not None

    @property
    def refused(self) -> bool:
        """True if its body was kept from running."""
        return self.outcome == "denied" and not self.withheld

    @property
    def drifted(self) -> bool:
        """True if only monitor mode let it go on."""
        return self.monitored and self.effect in ("block", "route")

    @property
    def human(self) -> bool:
        """True if a human stands behind it."""
        return self.principal is not None and self.principal.kind == "human"


@dataclass(slots=True, kw_only=True)
class Granted:
    """A grant. Times of grants are whole seconds; ``noted`` is when an enforcer first saw it."""

    hash: str
    parent: str | None
    place: str
    service: str | None
    task: str
    principal: Party
    chain: list[Hop]
    tools: dict[str, dict[str, Any]]
    issued: int
    expires: int
    noted: int
    key: str | None
    stolen: bool = False

    @property
    def depth(self) -> int:
        """0 for a root."""
        return len(self.chain) - 1

    @property
    def agent(self) -> str:
        """The holder."""
        return self.chain[-1].agent


@dataclass(slots=True, kw_only=True)
class Event:
    """Something that is no call: a task or a part of one begins or ends, a question is asked or answered, and so on.

    ``what`` is ``begun``, ``ended``, ``pending``, ``approved``, ``rejected``, ``revoked``, ``suspended``,
    ``reinstated``, ``pinned``, ``changed`` or ``accepted``.
    """

    at: int
    place: str
    service: str | None
    what: str
    task: str | None = None
    principal: Party | None = None
    chain: list[Hop] = field(default_factory=list)
    name: str = ""
    kind: str = ""
    by: str | None = None
    reason: str | None = None
    by_person: bool = False
    before: str | None = None
    after: str | None = None


@dataclass(slots=True, kw_only=True)
class Traced:
    """A tool call as another library traced it; ``act`` is the guarded call that it shows, if it shows one."""

    at: int
    service: str
    library: str
    tool: str
    act: int | None
    copies: bool = False


@dataclass(slots=True)
class Truth:
    """Everything that happened."""

    acts: list[Act] = field(default_factory=list)
    grants: list[Granted] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    traced: list[Traced] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def calls(self, places: Iterable[str]) -> list[Act]:
        """Return the calls of tools in some places, by time."""
        return sorted((act for act in self.acts if act.place in places and not act.opening), key=lambda act: act.at)

    def judged(self, places: Iterable[str]) -> list[Act]:
        """Return the calls and the refused openings in some places, by time."""
        return sorted((act for act in self.acts if act.place in places), key=lambda act: act.at)

    def granted(self, places: Iterable[str]) -> list[Granted]:
        """Return the grants in some places."""
        return [grant for grant in self.grants if grant.place in places]

    def of(self, places: Iterable[str], *kinds: str) -> list[Event]:
        """Return the events of some kinds in some places, by time."""
        found = (event for event in self.events if event.place in places and event.what in kinds)
        return sorted(found, key=lambda event: event.at)

    def keep(self, path: Path) -> None:
        """Write it down, for another process."""
        path.write_text("\n".join(self._lines()), encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        for name in ("acts", "grants", "events"):
            for item in getattr(self, name):
                yield json.dumps([name, asdict(item)])

    def join(self, path: Path) -> None:
        """Take over what another process wrote down."""
        for line in path.read_text(encoding="utf-8").splitlines():
            name, stated = json.loads(line)
            getattr(self, name).append(_read(name, stated))


def _read(name: str, stated: dict[str, Any]) -> object:
    stated["chain"] = [Hop(**hop) for hop in stated["chain"]]
    stated["principal"] = _party(stated["principal"])
    if name == "acts":
        stated["touches"] = [Touched(**one) for one in stated["touches"]]
        stated["opened"] = None if stated["opened"] is None else Hop(**stated["opened"])
    kinds: Mapping[str, Any] = {"acts": Act, "grants": Granted, "events": Event}
    return kinds[name](**stated)


def _party(stated: dict[str, Any] | None) -> Party | None:
    return None if stated is None else Party(**stated)
