"""The record as a type: the facts that each kind states, and their forms.

The shape is closed at every level: an unknown member is refused, because an auditor must not have to guess what a
field means. Both versions of the format have these types; a member that version 2 added is refused in version 1.
``record_codec`` turns records into bytes and back. What records say about each other (order, counts, chains) is the
verifier's business.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Final, Literal, TypeAlias, cast, get_args

import msgspec

from agent_identity.evidence.record_forms import (
    ArgsDigest,
    Argument,
    Category,
    Clause,
    Count,
    Hash,
    Hmac,
    Id,
    Label,
    Name,
    Nanoseconds,
    Position,
    Sha256,
    Slug,
    SpanId,
    Token,
    TraceId,
    Uuid7,
    Why,
    check_ids,
    check_why,
    items,
    text,
)
from agent_identity.evidence.record_refusals import ABSENT, UNKNOWN

__all__ = [
    "DRAFT",
    "DRAFT_KINDS",
    "EFFECTS",
    "KINDS",
    "KIND_TYPES",
    "OUTCOMES",
    "VERSION",
    "Action",
    "Agent",
    "AgentRegistration",
    "AnyRecord",
    "Approval",
    "ApprovalState",
    "ApprovalStatus",
    "Counts",
    "Decision",
    "Detail",
    "EffectName",
    "End",
    "Ending",
    "Enforced",
    "Erased",
    "Erasure",
    "Examination",
    "Examined",
    "Found",
    "Grant",
    "GrantToken",
    "Hop",
    "Intent",
    "KeyTrust",
    "Model",
    "OfTask",
    "Offered",
    "Outcome",
    "Policy",
    "PolicyState",
    "Principal",
    "PrunedRange",
    "Record",
    "Recovered",
    "RecoveredStream",
    "Registration",
    "Resource",
    "Revocation",
    "RevocationChange",
    "RevocationKind",
    "RevocationState",
    "Sdk",
    "Server",
    "Stream",
    "StreamEnd",
    "StreamResource",
    "StreamStart",
    "Task",
    "TaskEnd",
    "TaskStart",
    "Time",
    "Trace",
    "Trust",
    "Version",
]

VERSION: Final = "1"
"""The value of ``v`` in each record of the first version."""

DRAFT: Final = "2-draft"
"""The value of ``v`` while version 2 is a draft: its shapes may still change, so readers refuse it unless asked."""

Version: TypeAlias = Literal["1", "2-draft"]
"""A version of the format."""

EffectName: TypeAlias = Literal["allow", "warn", "block", "route"]
"""An effect of a policy."""

Ending: TypeAlias = Literal["success", "error", "denied", "routed", "cancelled", "suspended", "unknown"]
"""How a call ended."""

ApprovalStatus: TypeAlias = Literal["pending", "approved", "rejected", "expired"]
"""Where a question to a person stands."""

RevocationKind: TypeAlias = Literal["task", "grant", "agent", "owner", "human", "service", "key", "everything"]
"""What can be revoked."""

RevocationState: TypeAlias = Literal["revoked", "suspended", "reinstated"]
"""What a change of the list of revocations came to."""

Enforced: TypeAlias = Literal["allow", "block", "modify", "escalate", "audit"]
"""What was done about a decision."""

EFFECTS: Final = frozenset(cast("tuple[str, ...]", get_args(EffectName)))
"""What a policy can decide."""

OUTCOMES: Final = frozenset(cast("tuple[str, ...]", get_args(Ending)))
"""How a call can end."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False):
    """What every object in a record is: frozen, closed, and without members that are not known."""


class Stream(_Part, frozen=True, kw_only=True):
    """The place of a record: the stream, its number there from 1, and the leaf hash of the record before it."""

    id: Uuid7
    seq: Position
    prev: Hash | None = None

    @property
    def number(self) -> int:
        """The place as a number, from 1."""
        return int(self.seq)


class Time(_Part, frozen=True, kw_only=True):
    """When what a record speaks of began and ended, in nanoseconds since the Unix epoch, as decimal text."""

    start: Nanoseconds
    end: Nanoseconds | None = None

    @classmethod
    def at(cls, start_ns: int, end_ns: int | None = None) -> "Time":
        """Return the member for two numbers of nanoseconds."""
        return cls(start=str(start_ns), end=None if end_ns is None else str(end_ns))

    @property
    def start_ns(self) -> int:
        """The beginning as a number."""
        return int(self.start)

    @property
    def end_ns(self) -> int | None:
        """The end as a number, if it is known."""
        return None if self.end is None else int(self.end)

    @property
    def last_ns(self) -> int:
        """The end as a number, or else the beginning."""
        return int(self.start if self.end is None else self.end)


class Trace(_Part, frozen=True, kw_only=True):
    """The span that a call or task had, and the one above it."""

    trace: TraceId
    span: SpanId | None = None
    parent: SpanId | None = None


class Task(_Part, frozen=True, kw_only=True):
    """The task: its id (``txn`` of its grants), the latest end of its authority, and its purpose.

    ``outer``, in version 2, is the task in which this one was opened.
    """

    id: Id
    expires: Nanoseconds | None = None
    purpose: Annotated[str, text(1024)] | None = None
    outer: Id | None = None

    def __post_init__(self) -> None:
        check_ids(id=self.id, outer=self.outer)


class Principal(_Part, frozen=True, kw_only=True):
    """On whose behalf: a human or a service, named by the program or proved by an issuer."""

    id: Id
    kind: Literal["human", "service"]
    provenance: Literal["asserted", "verified"]
    issuer: Id | None = None
    roles: Annotated[tuple[Id, ...], items(64)] | None = None
    via: Annotated[tuple[Id, ...], items(32)] | None = None

    def __post_init__(self) -> None:
        check_ids(id=self.id, issuer=self.issuer)
        for name, many in (("roles", self.roles), ("via", self.via)):
            if many is not None:
                check_ids(**{f"{name}[{index}]": value for index, value in enumerate(many)})


class Agent(_Part, frozen=True, kw_only=True):
    """Who acts, and the accountable human or team."""

    id: Id
    owner: Id
    version: Id | None = None

    def __post_init__(self) -> None:
        check_ids(id=self.id, owner=self.owner, version=self.version)


class Hop(_Part, frozen=True, kw_only=True):
    """One agent of the chain, and the SHA-256 of the signing input of its grant."""

    id: Id
    grant: Hash

    def __post_init__(self) -> None:
        check_ids(id=self.id)


class Model(_Part, frozen=True, kw_only=True):
    """A model, in version 2: the one that was asked (in the intent), or the one that answered (in the outcome)."""

    name: Name
    provider: Name | None = None


class Resource(_Part, frozen=True, kw_only=True):
    """Something that a tool touches, in version 2.

    Attributes:
        system: Its system, by the naming rule of OpenLineage, such as ``postgres://db.example.com:5432``.
        name: Its name there. A name that arguments fill is the template, literally.
        access: What the tool does to it.
        data: Labels of the data in it.
        digest: The keyed digest of the filled name, under the resource key of the directory.
    """

    system: Name
    name: Name
    access: Literal["read", "write", "delete", "execute", "send"]
    data: Annotated[tuple[Name, ...], items(64)] | None = None
    digest: Hmac | None = None


class Found(_Part, frozen=True, kw_only=True):
    """What an inspector found, in version 2: never the match."""

    category: Category
    inspector: Name
    severity: Literal["low", "medium", "high"]
    field: Name | None = None
    count: Count | None = None


class Action(_Part, frozen=True, kw_only=True):
    """The called tool and its arguments: their names, kinds and keyed digest, never values.

    Version 2 adds ``stage`` (a call of a tool has none), ``model`` and ``labels``.
    """

    tool: Name
    kind: Name | None = None
    server: Name | None = None
    call: Name | None = None
    args: ArgsDigest | None = None
    names: Annotated[tuple[Argument, ...], items(100_000)] | None = None
    result: Hmac | None = None
    route: Name | None = None
    agent: Agent | None = None
    principal: Principal | None = None
    stage: Literal["prompt", "completion", "open", "delegate"] | None = None
    model: Model | None = None
    labels: Annotated[tuple[Name, ...], items(64)] | None = None


class Decision(_Part, frozen=True, kw_only=True):
    """What was decided, by which rule of which policy, and what was done about it."""

    effect: EffectName
    enforced: Enforced
    mode: Literal["enforce", "monitor"]
    reason: Slug
    rule: Name | None = None
    why: Why | None = None
    argument: Name | None = None
    policy: Name | None = None
    version: Name | None = None
    digest: Sha256 | None = None
    warnings: Annotated[tuple[Name, ...], items(1024)] | None = None
    approval: Uuid7 | None = None

    def __post_init__(self) -> None:
        if self.why is not None:
            check_why(why=self.why)


class Sdk(_Part, frozen=True, kw_only=True):
    """The library that wrote a stream."""

    name: Name
    version: Name


class GrantToken(_Part, frozen=True, kw_only=True):
    """The grant itself, a compact JWS."""

    token: Token


class Counts(_Part, frozen=True, kw_only=True):
    """Intents and outcomes under a grant so far, and what is still open; decimal text."""

    intents: Count
    outcomes: Count
    open: Count


class AgentRegistration(_Part, frozen=True, kw_only=True):
    """The registration of an agent: the hash of its line, what the agent is for, and where it stands."""

    hash: Hash
    purpose: Name
    status: Literal["registered", "suspended", "retired", "orphaned"]


class Server(_Part, frozen=True, kw_only=True):
    """An MCP server as it stands in the inventory."""

    name: Name
    transport: Literal["stdio", "http", "other"]
    status: Literal["pinned", "moved"]
    place: Name | None = None
    title: Name | None = None
    version: Name | None = None
    reason: Name | None = None


class Offered(_Part, frozen=True, kw_only=True):
    """A definition that a server offers, beside the one that counts."""

    name: Name
    status: Literal["pinned", "changed", "new"]
    pinned: Sha256 | None = None
    offered: Sha256 | None = None


class PolicyState(_Part, frozen=True, kw_only=True):
    """The policy that decides; version 2 adds the engine that evaluates it."""

    name: Name
    version: Name
    digest: Sha256
    engine: Label | None = None


class ApprovalState(_Part, frozen=True, kw_only=True):
    """A question to a person, and the answer.

    Version 2 adds ``request``, the keyed digest of the whole request, and ``channel``, the way of asking.
    """

    id: Uuid7
    status: ApprovalStatus
    approver: Principal | None = None
    expires: Nanoseconds | None = None
    token: Token | None = None
    reason: Name | None = None
    request: Hmac | None = None
    channel: Label | None = None


class RevocationChange(_Part, frozen=True, kw_only=True):
    """A change of the list of revocations."""

    kind: RevocationKind
    name: Id
    status: RevocationState
    version: Position
    reason: Name | None = None

    def __post_init__(self) -> None:
        check_ids(name=self.name)


class PrunedRange(_Part, frozen=True, kw_only=True):
    """Records that were pruned: of which stream, from which to which, and the root over 1 to the last."""

    stream: Uuid7
    first: Position
    last: Position
    root: Hash
    checkpoint: Count


class Erased(_Part, frozen=True, kw_only=True):
    """What was erased: the key of a task or stream, those of all tasks of a principal, or records."""

    key: Id | None = None
    principal: Id | None = None
    keys: Count | None = None
    pruned: PrunedRange | None = None
    by: Id | None = None
    reason: Why | None = None

    def __post_init__(self) -> None:
        check_ids(key=self.key, principal=self.principal, by=self.by)
        check_why(reason=self.reason)
        if self.pruned is not None:
            _check_form(self, ("pruned",))
        elif self.principal is not None:
            _check_form(self, ("principal", "keys"), ("by", "reason"))
        else:
            _check_form(self, ("key",), ("by", "reason"))


class RecoveredStream(_Part, frozen=True, kw_only=True):
    """The stream of a process that died, as a later start found it."""

    stream: Uuid7
    size: Count
    sealed_before: Count
    torn_bytes: Count
    rejected_bytes: Count
    open_count: Count
    open: Annotated[tuple[Uuid7, ...], items(64)] | None = None


class StreamResource(_Part, frozen=True, kw_only=True):
    """The process behind a stream, by the conventions of OpenTelemetry for resources; version 2."""

    service: Name | None = None
    namespace: Name | None = None
    version: Name | None = None
    instance: Name | None = None
    environment: Name | None = None
    host: Name | None = None
    frameworks: Annotated[tuple[Name, ...], items(32)] | None = None


class Examined(_Part, frozen=True, kw_only=True):
    """A question to the evidence, the range of entries of the log that it covers, and the digest of the answer."""

    question: Name
    digest: Sha256
    size: Count
    by: Id | None = None

    def __post_init__(self) -> None:
        check_ids(by=self.by)


class KeyTrust(_Part, frozen=True, kw_only=True):
    """A key or certificate that is trusted, renewed, or trusted no longer."""

    key: Name
    purpose: Literal["recorder", "issuer", "root", "policy", "witness", "approver"]
    status: Literal["trusted", "renewed", "distrusted"]
    certificate: Token | None = None


class End(_Part, frozen=True, kw_only=True):
    """The number of records of a stream, its last one included."""

    size: Position


class Record(_Part, frozen=True, kw_only=True, tag_field="kind"):
    """What every record says; each kind is a subclass.

    Attributes:
        id: The record; the same wherever it is copied to.
        stream: Where it stands.
        time: When what it speaks of began, and ended.
        v: The version of the format.
    """

    id: Uuid7
    stream: Stream
    time: Time
    v: Version

    _added: ClassVar[tuple[str, ...]] = ()  # The members that came with version 2.

    @property
    def kind(self) -> str:
        """What the record is about, as it is spelled in the record."""
        return cast("str", self.__struct_config__.tag)

    def __post_init__(self) -> None:
        first = self.stream.seq == "1"
        if first is not (self.stream.prev is None):
            raise ValueError("record.stream.prev: expected the hash of the previous record, except in the first one")
        if first is not (type(self) is StreamStart):
            raise ValueError("record.kind: expected stream_start in the first record of a stream and only there")
        if self.v == VERSION and any(getattr(self, name) is not None for name in self._added):
            raise ValueError("+")


class OfTask(Record, frozen=True, kw_only=True):
    """What the records of a task say besides: the task, on whose behalf, who acts, and the chain from root to leaf."""

    task: Task
    principal: Principal
    agent: Agent
    chain: Annotated[tuple[Hop, ...], items(33)]
    trace: Trace | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task.outer is not None and (self.v == VERSION or not isinstance(self, Grant | TaskStart)):
            raise ValueError(f"record.task: {UNKNOWN}")


class _Call(Record, frozen=True, kw_only=True):
    """A call, in a task or outside any."""

    action: Action
    decision: Decision
    attribution: Literal["none"] | None = None
    task: Task | None = None
    principal: Principal | None = None
    agent: Agent | None = None
    chain: Annotated[tuple[Hop, ...], items(33)] | None = None
    trace: Trace | None = None
    findings: Annotated[tuple[Category, ...], items(1024)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        facts = (self.task, self.principal, self.agent, self.chain)
        if self.attribution is None:
            if None in facts:
                missing = ("task", "principal", "agent", "chain")[facts.index(None)]
                raise ValueError(f"record.{missing}: {ABSENT}")
        elif any(fact is not None for fact in facts):
            raise ValueError("+")
        if self.task is not None and self.task.outer is not None:
            raise ValueError(f"record.task: {UNKNOWN}")
        _check_action(self.action, self.v)


class StreamStart(Record, frozen=True, kw_only=True, tag="stream_start"):
    """The first record of each stream.

    Version 2 adds ``resource``, the process, and ``certificate``, that of its recorder key.
    """

    sdk: Sdk
    resource: StreamResource | None = None
    certificate: Token | None = None

    _added: ClassVar[tuple[str, ...]] = ("resource", "certificate")


class Grant(OfTask, frozen=True, kw_only=True, tag="grant"):
    """A task or a delegation opens, under this grant."""

    grant: GrantToken


class TaskStart(OfTask, frozen=True, kw_only=True, tag="task_start"):
    """A task or a delegation has begun; version 2 adds ``workflow``, the run of the framework around it."""

    workflow: Name | None = None

    _added: ClassVar[tuple[str, ...]] = ("workflow",)


class Intent(_Call, frozen=True, kw_only=True, tag="intent"):
    """A body is about to run.

    Version 2 adds ``resources`` (declared ones), ``clauses`` (by argument, the branch of the constraint that allowed
    it) and ``workflow``.
    """

    resources: Annotated[tuple[Resource, ...], items(64)] | None = None
    clauses: Annotated[tuple[Clause, ...], items(1024)] | None = None
    workflow: Name | None = None

    _added: ClassVar[tuple[str, ...]] = ("resources", "clauses", "workflow")


class Outcome(_Call, frozen=True, kw_only=True, tag="outcome"):
    """A body has run, or was refused."""

    outcome: Ending
    intent: Uuid7 | None = None
    error: Name | None = None
    detail: Hash | None = None

    _added: ClassVar[tuple[str, ...]] = ("detail",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.v != VERSION:
            _check_short(self)


class Detail(Record, frozen=True, kw_only=True, tag="detail"):
    """The facts of a call that do not fit on its span; version 2 only.

    Written together with the outcome of the call and directly before it; ``outcome.detail`` is its leaf hash. For a
    refused call it says what an intent would have said.

    Attributes:
        call: The id of the intent of the call, or of its outcome where it has no intent.
    """

    v: Literal["2-draft"]
    call: Uuid7
    names: Annotated[tuple[Argument, ...], items(100_000)] | None = None
    labels: Annotated[tuple[Name, ...], items(64)] | None = None
    policy: Name | None = None
    version: Name | None = None
    roles: Annotated[tuple[Id, ...], items(64)] | None = None
    resources: Annotated[tuple[Resource, ...], items(64)] | None = None
    workflow: Name | None = None
    findings: Annotated[tuple[Found, ...], items(1024)] | None = None


class TaskEnd(OfTask, frozen=True, kw_only=True, tag="task_end"):
    """A task or a delegation has ended."""

    counts: Counts
    outcome: Ending | None = None
    error: Name | None = None


class Registration(Record, frozen=True, kw_only=True, tag="registration"):
    """A registration of an agent, or what counts of an MCP server and its tools, was used for the first time."""

    agent: Agent | None = None
    registration: AgentRegistration | None = None
    server: Server | None = None
    tools: Annotated[tuple[Offered, ...], items(1024)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server is None:
            _check_form(self, ("agent",), ("registration",), of=("agent", "registration", "tools"))
        elif self.agent is not None or self.registration is not None:
            raise ValueError(f"record: {UNKNOWN}")


class Policy(Record, frozen=True, kw_only=True, tag="policy"):
    """An enforcer with a policy opens."""

    policy: PolicyState

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.v == VERSION and self.policy.engine is not None:
            raise ValueError(f"record.policy: {UNKNOWN}")


class Approval(OfTask, frozen=True, kw_only=True, tag="approval"):
    """A person is asked, or an answer is taken up."""

    action: Action
    approval: ApprovalState

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_action(self.action, self.v)
        if self.v == VERSION and not (self.approval.request is None and self.approval.channel is None):
            raise ValueError(f"record.approval: {UNKNOWN}")


class Revocation(Record, frozen=True, kw_only=True, tag="revocation"):
    """The list of revocations has changed."""

    revocation: RevocationChange


class Erasure(Record, frozen=True, kw_only=True, tag="erasure"):
    """Keys of digests are erased, or records pruned."""

    erasure: Erased


class Recovered(Record, frozen=True, kw_only=True, tag="recovered"):
    """A start found the stream of a process that died."""

    recovered: RecoveredStream


class Examination(Record, frozen=True, kw_only=True, tag="examination"):
    """Someone asked the evidence a question; version 2 only."""

    v: Literal["2-draft"]
    examination: Examined


class Trust(Record, frozen=True, kw_only=True, tag="trust"):
    """A key or certificate is trusted, renewed, or trusted no longer; version 2 only."""

    v: Literal["2-draft"]
    trust: KeyTrust


class StreamEnd(Record, frozen=True, kw_only=True, tag="stream_end"):
    """The last record of a stream that was closed."""

    end: End


AnyRecord: TypeAlias = (
    StreamStart
    | Grant
    | TaskStart
    | Intent
    | Outcome
    | Detail
    | TaskEnd
    | Registration
    | Policy
    | Approval
    | Revocation
    | Erasure
    | Recovered
    | Examination
    | Trust
    | StreamEnd
)
"""A record of any kind."""

KIND_TYPES: Final[Mapping[str, type[Record]]] = {
    cast("str", kind.__struct_config__.tag): kind for kind in cast("tuple[type[Record], ...]", get_args(AnyRecord))
}
"""The type of each kind, by its name in records."""

DRAFT_KINDS: Final = frozenset({"detail", "examination", "trust"})
"""The names of the kinds that version 2 adds."""

KINDS: Final = frozenset(KIND_TYPES) - DRAFT_KINDS
"""The names of the kinds of version 1."""


def _check_form(
    part: msgspec.Struct, required: Sequence[str], optional: Sequence[str] = (), *, of: Sequence[str] | None = None
) -> None:
    """Check which members are there, where one shape has several forms."""
    for name in of or part.__struct_fields__:
        present = getattr(part, name) is not None
        if name in required and not present:
            raise ValueError(f"-{name}")
        if present and name not in (*required, *optional):
            raise ValueError("+")


def _check_action(action: Action, version: Version) -> None:
    """Check the members of an action on which the versions differ."""
    if version != VERSION:
        if action.kind is None and action.stage is None:
            raise ValueError(f"record.action.kind: {ABSENT}")
    elif not (action.stage is None and action.model is None and action.labels is None):
        raise ValueError(f"record.action: {UNKNOWN}")


def _check_short(outcome: Outcome) -> None:
    """Check that an outcome of version 2 leaves to the intent what must not be on its span."""
    action, decision, task, principal = outcome.action, outcome.decision, outcome.task, outcome.principal
    if action.names is not None or action.labels is not None:
        raise ValueError(f"record.action: {UNKNOWN}")
    if decision.policy is not None or decision.version is not None:
        raise ValueError(f"record.decision: {UNKNOWN}")
    if task is not None and (task.expires is not None or task.purpose is not None):
        raise ValueError(f"record.task: {UNKNOWN}")
    if principal is not None and principal.roles is not None:
        raise ValueError(f"record.principal: {UNKNOWN}")
