"""The seed of an incident: what is known at first, and which grants, calls, tasks and approvals it concerns."""

import os
import shlex
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, TypeAlias, final, get_args

from agent_identity._common.typed_calls import typed_calls
from agent_identity._identity.common.tool_names import is_of_server
from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import LedgerReader, open_ledger
from agent_identity._ledger.transparency.log import Head
from agent_identity._record.parts import Principal
from agent_identity._reports.answers.facts import (
    ApprovalFact,
    CallFact,
    CallSpanFact,
    Fact,
    GrantFact,
    ServerFact,
    SpanFact,
    TaskFact,
)
from agent_identity._reports.answers.reading import Evidence
from agent_identity._reports.definitions.definition_history import DefinitionChange, DefinitionHistory
from agent_identity._verify.fleet.places import Place, find_places, own_trust
from agent_identity._verify.inputs.sources import (
    STANDARD_INPUT,
    PathLike,
    directory_of,
    is_bundle,
    kept_note,
    size_of_ledger,
    to_trust,
)
from agent_identity._verify.ledger.external_evidence import ExternalEvidence
from agent_identity._verify.ledger.ledger_check import LEDGER_STEPS, LedgerCheck, Progress
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.report.findings import Place as RecordPlace
from agent_identity._verify.store.spill_store import SpillStore, spilled
from agent_identity._verify.store.workers import executor
from agent_identity.errors import ConfigurationError


@final
class LedgerOrder:
    """The places of records in the log of a ledger.

    Args:
        reader: The ledger; whether its log is genuine, its verification says.
        moment_ns: The moment that matters, in nanoseconds since the Unix epoch.

    Attributes:
        alive: The number of the first entry that states a time from that moment on.
    """

    def __init__(self, reader: LedgerReader, moment_ns: int) -> None:
        self._sizes: dict[str, list[int]] = {}
        self._numbers: dict[str, list[int]] = {}
        self.alive = _LAST
        for number, line in enumerate(reader.log_entries()):
            with suppress(ValueError):
                head = Head.from_entry(line.record or b"")[0]
                if head.time_ns >= moment_ns:
                    self.alive = min(self.alive, number)
                sizes = self._sizes.setdefault(head.stream, [])
                if not sizes or head.size > sizes[-1]:
                    sizes.append(head.size)
                    self._numbers.setdefault(head.stream, []).append(number)

    def entry(self, stream: str, seq: int) -> int:
        """Return the number of the first entry that commits to a record; a number after all others without one."""
        at = bisect_left(self._sizes.get(stream, ()), seq)
        numbers = self._numbers.get(stream, ())
        return numbers[at] if at < len(numbers) else _LAST


Doubted: TypeAlias = Callable[[str, int], bool]
"""Returns whether the record of a stream at a place, from 1, is in doubt."""

_WORTH: Final = 16 * 1024 * 1024  # Bytes of records for which a process is worth while.


SeedKind: TypeAlias = Literal[
    "record",
    "span",
    "task",
    "principal",
    "agent",
    "owner",
    "grant",
    "key",
    "tool",
    "server",
    "definition",
    "resource",
    "approval",
    "rule",
    "policy",
    "everything",
]
"""Kind of a seed."""

SEEDS: Final[tuple[SeedKind, ...]] = get_args(SeedKind)
"""The kinds of seeds."""

_INDIRECT: Final = frozenset({"record", "span", "owner", "key", "definition"})
_NEAR: Final = 20_000
_LAST: Final = 2**63
_NS: Final = 1_000_000_000
_MAX_SEED: Final = 2_048
_BAD_SEED: Final = (
    f"bad seed; give one of {', '.join(SEEDS[:-1])}, a colon and the name or id, such as agent:clerk, or everything"
)


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True)
class Seed:
    """The starting point of an incident report.

    Attributes:
        kind: What it names.
        name: The id, hash, thumbprint or name; empty for ``everything``.
        after_ns: For a key: the moment of the theft. Of an issuer key, only root grants count that records note from
            this moment on, or later in the ledger than such a record; of a recorder key, the order of the log decides
            which records it leaves in doubt.

    Raises:
        ConfigurationError: It names nothing, or ``after_ns`` comes with something else than a key.
    """

    kind: SeedKind
    name: str
    after_ns: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in SEEDS or (not self.name) is not (self.kind == "everything"):
            raise ConfigurationError(_BAD_SEED)
        if self.after_ns is not None and self.kind != "key":
            raise ConfigurationError("after_ns= goes with a seed of kind key; use from_ns= of Evidence for others")

    @classmethod
    def parse(cls, text: str) -> "Seed":
        """Return the seed that a text such as ``agent:clerk`` names.

        Raises:
            ConfigurationError: It names none.
        """
        kind, _, name = text.partition(":")
        if kind not in SEEDS or (not name) is not (kind == "everything") or len(text) > _MAX_SEED:
            raise ConfigurationError(f"{text[:80]!r} is a {_BAD_SEED}")
        return cls(kind, name)

    @property
    def indirect(self) -> bool:
        """True if the evidence is read twice: first to learn which tasks or grants it concerns."""
        return self.kind in _INDIRECT

    def is_about(self, change: DefinitionChange) -> bool:
        """Return whether the seed names a changed definition, its tool or its server."""
        return (
            self.kind == "everything"
            or (self.kind == "definition" and change.after == self.name)
            or (self.kind == "tool" and _is_named(change.tool, self.name))
            or (self.kind == "server" and is_of_server(change.tool, self.name))
        )

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


@final
class Resolver:
    """Takes the facts of a first pass, and learns which tasks or grants an indirect seed concerns.

    Attributes:
        tasks: The tasks.
        calls: Records of calls outside any task.
        grants: Hashes of grants.
        definitions: The definitions of tools, for a seed that is one.
        doubted: By the number of a source, which of its records are in doubt if somebody else had the recorder key.
        outside: The same if somebody else had all recorder keys: what nothing outside shows to be older.
        strict: For an issuer key: only what something outside shows to be older than the theft is left out.
        undated: Root grants that are left out, and that nothing outside shows to be older.
    """

    def __init__(self, seed: Seed) -> None:
        self._seed = seed
        self.doubted: Mapping[int, Doubted] = {}
        self.outside: Mapping[int, Doubted] = {}
        self.strict = False
        self.undated = 0
        self._earlier = spilled(tuple[int, str, int], near=_NEAR)
        self._late: dict[tuple[int, str], int] = {}
        self.definitions = DefinitionHistory()
        self.tasks: set[str] = set()
        self.calls: set[str] = set()
        self.grants = SpillStore(bytes, bytes, near=_NEAR)

    def take(self, fact: Fact) -> None:
        """Take a fact."""
        seed = self._seed
        self._see_date(fact)
        if isinstance(fact, GrantFact):
            if self._owns(fact) or self._signed(fact):
                self._take_grant(fact)
            if seed.kind == "record" and fact.where.record == seed.name:
                self.tasks.add(fact.task)
        elif isinstance(fact, CallFact):
            if self._is_call(fact):
                self._add(fact)
        elif isinstance(fact, ServerFact) and seed.kind == "definition":
            self.definitions.take_state(fact.at_ns, fact.where.record, fact.server, fact.tools)
        elif isinstance(fact, TaskFact | ApprovalFact) and seed.kind == "record" and fact.where.record == seed.name:
            self.tasks.add(fact.task)

    def _owns(self, fact: GrantFact) -> bool:
        return self._seed.kind == "owner" and fact.agent.owner == self._seed.name

    def _signed(self, fact: GrantFact) -> bool:
        return self._seed.kind == "key" and fact.parent is None and fact.kid == self._seed.name

    def _take_grant(self, fact: GrantFact) -> None:
        """Take a grant, or keep one for later that its record dates before the theft of its key."""
        after, where, key = self._seed.after_ns, fact.where, fact.hash.encode()
        if after is None or max(fact.noted_ns, fact.issued_ns) >= after:
            self.grants.put(key, b"")
        else:
            self._earlier.put(key, (where.source, where.stream, where.seq))

    def _see_date(self, fact: Fact) -> None:
        """Remember the first record of each stream that is dated after the theft."""
        after = self._seed.after_ns
        if after is None or isinstance(fact, SpanFact | CallSpanFact):
            return
        if (fact.noted_ns if isinstance(fact, GrantFact) else fact.at_ns) >= after:
            key = fact.where.source, fact.where.stream
            self._late[key] = min(self._late.get(key, fact.where.seq), fact.where.seq)

    def finish(self, orders: Callable[[int], Sequence[LedgerOrder | None]]) -> None:
        """Take the grants that stand in a ledger after a record from after the theft, whatever their dates say.

        Args:
            orders: Returns the order of each source for a moment.
        """
        after = self._seed.after_ns
        if after is None or not self._earlier:
            return
        ordered = orders(after)
        firsts = [_LAST if order is None else order.alive for order in ordered]
        for (source, stream), seq in self._late.items():
            order = ordered[source]
            if order is not None:
                firsts[source] = min(firsts[source], order.entry(stream, seq))
        for key, (source, stream, seq) in self._earlier.items():
            order, doubted = ordered[source], self.outside.get(source)
            undated = doubted is None or doubted(stream, seq)
            late = order is not None and order.entry(stream, seq) > firsts[source]
            if late or seq > self._late.get((source, stream), _LAST) or (undated and self.strict):
                self.grants.put(key, b"")
            else:
                self.undated += undated

    def _is_call(self, fact: CallFact) -> bool:
        if self._seed.kind == "record":
            return self._seed.name in (fact.where.record, fact.intent)
        return self._seed.kind == "span" and fact.span is not None and self._seed.name in fact.span

    def _add(self, fact: CallFact) -> None:
        if fact.task is None:
            self.calls.add(fact.where.record)
        else:
            self.tasks.add(fact.task)


def refuse_standard_input(evidence: Evidence, seed: Seed) -> None:
    """Refuse what can be read once, where it has to be read twice.

    Raises:
        ConfigurationError: Standard input is among the sources.
    """
    sources = evidence.sources
    if sources == STANDARD_INPUT or (not isinstance(sources, str | os.PathLike) and STANDARD_INPUT in sources):
        raise ConfigurationError(
            f"a seed {seed.kind}: reads the evidence twice, and standard input can be read once; write it into a file"
        )


def in_doubt(
    evidence: Evidence, seed: Seed, checkpoint: bytes | PathLike | None, *, of_all: bool = False
) -> Mapping[int, Doubted]:
    """Return, by the number of a ledger among the sources, which records a stolen recorder key leaves in doubt.

    Args:
        evidence: What is read.
        seed: The key, and the moment from which on others may have had it.
        checkpoint: A checkpoint of the log that was kept elsewhere, as note or path.
        of_all: As if all recorder keys were stolen: what nothing outside shows to be older.

    Returns:
        Nothing where the key is none of a recorder.

    Raises:
        ConfigurationError: A source or the trust file cannot be read, or nothing is to be verified.
    """
    if of_all and evidence.unverified:
        return {}
    note = None if checkpoint is None else kept_note(checkpoint)
    trust, found = to_trust(evidence.trust), dict[int, Doubted]()
    since = 0 if seed.after_ns is None else seed.after_ns // _NS
    places = find_places(evidence.sources)
    for number, place in enumerate(places):
        if place.kind == "traces" or place.problem is not None:
            continue
        look = partial(
            find_doubted,
            place.paths[0],
            trust,
            None if of_all else seed.name,
            since,
            checkpoint=note,
            processes=evidence.processes,
            progress=evidence.progress,
        )
        doubted = look() if len(places) == 1 else _of_several(look)
        if doubted is not None:
            found[number] = doubted
    if found and evidence.unverified:
        raise ConfigurationError("the log decides what a stolen recorder key leaves in doubt; verify the evidence")
    return found


def _of_several(look: Callable[[], Doubted | None]) -> Doubted | None:
    """Return what a host leaves in doubt: everything, if it cannot be read, as the frame says."""
    try:
        return look()
    except (ConfigurationError, OSError):
        return lambda _stream, _seq: True


def key_commands(seed: Seed, places: Sequence[Place]) -> Iterator[str]:
    """Yield the commands that take a stolen recorder key out of use.

    Args:
        seed: The key, and the moment of the theft.
        places: The sources.
    """
    since = str((seed.after_ns or 0) // _NS)
    for place in places:
        if place.kind == "ledger" and place.problem is None:
            named = ["--", place.paths[0]]
            yield shlex.join(["agent-identity", "keys", "revoke", "--since", since, *named, seed.name])
            yield shlex.join(["agent-identity", "keys", "rotate", "--all", *named])


@final
class Selection:
    """Tells which facts a seed concerns.

    Args:
        seed: The seed.
        resolved: What a first pass learned of an indirect one.
    """

    def __init__(self, seed: Seed, resolved: Resolver | None = None) -> None:
        self._seed, self._resolved = seed, resolved

    def takes(self, fact: GrantFact | CallFact | TaskFact | ApprovalFact) -> bool:
        """Return whether the seed concerns a fact."""
        kind, name, resolved = self._seed.kind, self._seed.name, self._resolved
        if kind == "everything":
            return True
        if resolved is not None:
            return self._is_resolved(fact, resolved)
        if kind == "task":
            return fact.task == name
        if kind == "principal":
            return _is_of(fact.principal, name) or _approver(fact) == name
        return self._is_named(fact, name)

    def _is_resolved(self, fact: GrantFact | CallFact | TaskFact | ApprovalFact, resolved: Resolver) -> bool:
        doubted = resolved.doubted.get(fact.where.source)
        if doubted is not None and doubted(fact.where.stream, fact.where.seq):
            return True
        if fact.task in resolved.tasks or (isinstance(fact, CallFact) and fact.where.record in resolved.calls):
            return True
        if self._seed.kind == "definition":
            named = self._seed.name
            return isinstance(fact, CallFact) and resolved.definitions.in_force(named, fact.tool, fact.at_ns)
        if self._seed.kind == "owner" and isinstance(fact, CallFact) and _owned(fact, self._seed.name):
            return True
        return any(hop.grant.encode() in resolved.grants for hop in fact.chain)

    def _is_named(self, fact: GrantFact | CallFact | TaskFact | ApprovalFact, name: str) -> bool:
        kind = self._seed.kind
        if kind == "agent":
            return name in _agents(fact)
        if kind == "grant":
            return any(hop.grant == name for hop in fact.chain)
        if kind == "tool":
            return any(_is_named(tool, name) for tool in _tools(fact))
        if isinstance(fact, ApprovalFact):
            return kind == "approval" and fact.approval.id == name
        return isinstance(fact, CallFact) and self._is_call(fact, name)

    def _is_call(self, fact: CallFact, name: str) -> bool:
        decision = fact.decision
        if self._seed.kind == "server":
            return is_of_server(fact.tool, name)
        named: dict[str, tuple[str | None, ...]] = {
            "approval": (decision.approval,),
            "rule": (decision.rule, *(decision.warnings or ())),
            "policy": (decision.digest, decision.policy),
        }
        if self._seed.kind == "resource":
            return any(
                name in (one.digest, one.name, f"{one.system} {one.name}") for one in (*fact.resources, *fact.observed)
            )
        return name in named.get(self._seed.kind, ())


def _is_named(tool: str, name: str) -> bool:
    """Return whether a seed names a tool: by its name, or by the end of it after a slash."""
    return tool == name or tool.endswith(f"/{name}")


def _is_of(principal: Principal | None, name: str) -> bool:
    return principal is not None and (principal.id == name or name in (principal.via or ()))


def _approver(fact: Fact) -> str | None:
    approver = fact.approver if isinstance(fact, CallFact) else None
    if isinstance(fact, ApprovalFact):
        approver = fact.approval.approver
    return None if approver is None else approver.id


def _owned(fact: CallFact, owner: str) -> bool:
    return any(agent is not None and agent.owner == owner for agent in (fact.agent, fact.opened))


def _agents(fact: GrantFact | CallFact | TaskFact | ApprovalFact) -> tuple[str, ...]:
    opened = (fact.opened.id,) if isinstance(fact, CallFact) and fact.opened is not None else ()
    return (*(hop.id for hop in fact.chain), *opened)


def _tools(fact: GrantFact | CallFact | TaskFact | ApprovalFact) -> Iterable[str]:
    """Return the tools that a fact names."""
    if isinstance(fact, TaskFact):
        return ()
    return fact.tools if isinstance(fact, GrantFact) else (fact.tool,)


def find_doubted(
    path: PathLike,
    trust: TrustStore | None,
    thumbprint: str | None,
    since: int,
    *,
    checkpoint: bytes | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Doubted | None:
    """Verify a ledger as if a recorder key were revoked since a moment, and return which records that leaves in doubt.

    The order of the log decides, and states of it that others saw: a checkpoint that was kept elsewhere, cosignatures
    of witnesses, and the states that the trust file names for keys that took over. Dates in records do not count. See
    decision 0003.

    Args:
        path: The evidence directory, or a bundle of one.
        trust: The trusted keys; ``None`` for those beside the ledger.
        thumbprint: The recorder key; ``None`` for all of them.
        since: The moment, in seconds since the Unix epoch.
        checkpoint: A checkpoint of the log that was kept elsewhere.
        processes: Number of worker processes; 0 chooses.
        progress: Is told now and then how many of how many bytes are read.

    Returns:
        ``None`` if the trusted keys do not list the key as that of a recorder.

    Raises:
        ConfigurationError: The ledger cannot be read.
    """
    if is_bundle(path):
        from agent_identity._verify.proofs.bundle import unpacked

        with unpacked(path) as directory:
            return _find(directory, trust, thumbprint, since, (checkpoint, processes, progress))
    found = directory_of(path)
    if found is None:
        return None
    return _find(found, trust, thumbprint, since, (checkpoint, processes, progress))


def _find(
    directory: str,
    trust: TrustStore | None,
    thumbprint: str | None,
    since: int,
    options: tuple[bytes | None, int, Progress | None],
) -> Doubted | None:
    checkpoint, processes, progress = options
    keys = _revoked(own_trust(directory) if trust is None else trust, thumbprint, since)
    if keys is None:
        return None
    reader = open_ledger(directory)
    size = size_of_ledger(reader)
    with executor(processes, most=1 + size // _WORTH) as chosen:
        check = LedgerCheck(reader, keys, Findings("ledger", LEDGER_STEPS), executor=chosen)
        # The records are followed for their doubts alone.
        check.run(outside=ExternalEvidence(checkpoint), total=size, progress=progress)
    log = check.log
    if log is None:
        return lambda _stream, _seq: True
    doubts = log.doubts
    if doubts is None:
        return lambda _stream, _seq: False
    return lambda stream, seq: not doubts.proved(RecordPlace(stream=stream, seq=seq))


def _revoked(trust: TrustStore | None, thumbprint: str | None, since: int) -> TrustStore | None:
    """Return the trusted keys with some of them revoked since then, or since earlier if they are already."""
    keys = () if trust is None else trust.keys
    stolen = [key for key in keys if key.purpose == "recorder" and thumbprint in (None, key.key.thumbprint)]
    if trust is None or not stolen:
        return None
    return trust.with_keys(tuple(_since(key, since) if key in stolen else key for key in keys))


def _since(key: TrustedKey, since: int) -> TrustedKey:
    return replace(key, revoked_since=since if key.revoked_since is None else min(since, key.revoked_since))


def order_of(place: Place, moment_ns: int) -> LedgerOrder | None:
    """Return the order of a source, or nothing for spans, which nothing orders.

    Args:
        place: The source.
        moment_ns: As for :class:`LedgerOrder`.
    """
    if place.kind == "traces" or place.problem is not None:
        return None
    if is_bundle(place.paths[0]):
        from agent_identity._verify.proofs.bundle import unpacked

        with unpacked(place.paths[0]) as directory:
            return LedgerOrder(open_ledger(directory), moment_ns)
    found = directory_of(place.paths[0])
    return None if found is None else LedgerOrder(open_ledger(found), moment_ns)
