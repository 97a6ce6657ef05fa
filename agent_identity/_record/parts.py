"""The objects inside records: stream, time, parties, action, decision, and the subjects of each kind.

Each is frozen and closed.
"""

from typing import Annotated, ClassVar, Final, Literal, TypeAlias, cast, get_args

import msgspec

from agent_identity._record._member_forms import (
    ArgsDigest,
    Argument,
    Category,
    Count,
    Digest,
    FlowLabel,
    Id,
    Id128,
    Label,
    Name,
    Nanoseconds,
    Position,
    Slug,
    SpanId,
    Token,
    TraceId,
    Why,
    check_ids,
    check_why,
    is_id,
    is_label,
    items,
    stated,
    text,
)

VERSION: Final = "1"
"""The value of ``v`` in each record."""

FIRST: Final = "1"
"""The ``seq`` of what follows nothing, and so has no ``prev``."""

Form: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""One of several forms of an object: the members that it requires, and those that it permits in addition."""

Version: TypeAlias = Literal["1"]
"""The version of the format."""

EffectName: TypeAlias = Literal["allow", "warn", "block", "route"]
"""An effect of a policy."""

Ending: TypeAlias = Literal["success", "error", "denied", "routed", "cancelled", "suspended"]
"""Results of a call that are written."""

ApprovalStatus: TypeAlias = Literal["pending", "approved", "rejected", "expired"]
"""States of a question to a person."""

RevocationKind: TypeAlias = Literal["task", "grant", "agent", "owner", "human", "service", "key", "everything"]
"""Kinds of revocable names."""

RevocationState: TypeAlias = Literal["revoked", "suspended", "reinstated"]
"""Results of a change of the list of revocations."""

Enforced: TypeAlias = Literal["allow", "block", "modify", "escalate", "audit"]
"""Enforced effects of a decision."""

MarkCause: TypeAlias = Literal[
    "start",
    "request",
    "said",
    "received",
    "read",
    "chunk",
    "join",
    "accept",
    "prompt",
    "isolated",
    "answer",
    "opened",
]
"""Why a low-water mark was recorded."""

ValueProvenance: TypeAlias = Literal["principal", "trusted", "unknown", "untrusted"]
"""Origin of the value of an argument."""

EFFECTS: Final = frozenset(cast("tuple[str, ...]", get_args(EffectName)))
"""Effects that a policy can decide."""

OUTCOMES: Final = frozenset({*cast("tuple[str, ...]", get_args(Ending)), "unknown"})
"""Results of a call, as readers show them: an intent without an outcome is ``unknown``, which no one writes."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False):
    """Base of every object in a record: frozen and closed; unknown members are refused."""


# Parts and records that most lines have take their members by position as well: pickle, by which workers hand on
# records, names keyword-only members in each object.
class Stream(Part, frozen=True):
    """The place of a record: the stream, its number there from 1, and the leaf hash of the record before it."""

    id: Id128
    seq: Position
    prev: Digest | None = None

    @property
    def number(self) -> int:
        """The place as a number, from 1."""
        return int(self.seq)


class Time(Part, frozen=True):
    """Begin and end of the recorded event, in nanoseconds since the Unix epoch, as decimal text."""

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


class Trace(Part, frozen=True, kw_only=True):
    """The span that a call or task had, and the one above it."""

    trace: TraceId
    span: SpanId | None = None
    parent: SpanId | None = None


class Task(Part, frozen=True, kw_only=True):
    """The task: its id (``txn`` of its grants), the latest end of its authority, and its purpose.

    ``outer`` is the task in which this one was opened.
    """

    id: Id
    expires: Nanoseconds | None = None
    purpose: Annotated[str, text(1024)] | None = None
    outer: Id | None = None

    def __post_init__(self) -> None:
        if not (is_id(self.id) and is_id(self.outer)):
            check_ids(id=self.id, outer=self.outer)


class Principal(Part, frozen=True, kw_only=True):
    """The principal: a human or a service, asserted by the program or verified by an issuer."""

    id: Id
    kind: Literal["human", "service"]
    provenance: Literal["asserted", "verified"]
    issuer: Id | None = None
    roles: Annotated[tuple[Id, ...], items(64)] | None = None
    via: Annotated[tuple[Id, ...], items(32)] | None = None

    def __post_init__(self) -> None:
        if not (is_id(self.id) and is_id(self.issuer)):
            check_ids(id=self.id, issuer=self.issuer)
        for name, many in (("roles", self.roles), ("via", self.via)):
            if many is not None:
                check_ids(**{f"{name}[{index}]": value for index, value in enumerate(many)})


class Agent(Part, frozen=True, kw_only=True):
    """The acting agent, and its owner: the accountable human or team."""

    id: Id
    owner: Id
    version: Id | None = None

    def __post_init__(self) -> None:
        if not (is_id(self.id) and is_id(self.owner) and is_id(self.version)):
            check_ids(id=self.id, owner=self.owner, version=self.version)


class Hop(Part, frozen=True, kw_only=True):
    """One agent of the chain, and the SHA-256 of the signing input of its grant."""

    id: Id
    grant: Digest

    def __post_init__(self) -> None:
        if not is_id(self.id):
            raise ValueError("id")


class Model(Part, frozen=True, kw_only=True):
    """A model: the requested one (in the intent), or the one that answered (in the outcome)."""

    name: Name
    provider: Name | None = None


class Resource(Part, frozen=True, kw_only=True):
    """Something that a tool touches.

    Attributes:
        system: Its system, by the naming rule of OpenLineage, such as ``postgres://db.example.com:5432``.
        name: Its name there. A name that arguments fill is the template, literally.
        access: The tool's access to it.
        data: Labels of the data in it.
        digest: The keyed digest of the filled name, under the resource key of the directory.
    """

    system: Name
    name: Name
    access: Literal["read", "write", "delete", "execute", "send"]
    data: Annotated[tuple[Name, ...], items(64)] | None = None
    digest: Digest | None = None


class Found(Part, frozen=True, kw_only=True):
    """A finding of an inspector, never the match."""

    category: Category
    inspector: Name
    severity: Literal["low", "medium", "high"]
    field: Name | None = None


class Transform(Part, frozen=True, kw_only=True):
    """A change of a result before its delivery: by what, and the keyed digests of both where known."""

    name: Name
    version: Name
    original: Digest | None = None
    delivered: Digest | None = None


class Action(Part, frozen=True):
    """The called tool and its arguments: their names, kinds and keyed digest, never values.

    The name of the tool is an identifier: ``server/tool`` where a server offers it.

    A call of a tool has no ``stage``. ``labels`` are empty where the owner of the tool states that it has none, and
    absent where no one states any. ``claims`` are labels that the tool comes with, which only restrict.
    """

    tool: Id
    kind: Name | None = None
    call: Name | None = None
    args: ArgsDigest | None = None
    names: Annotated[tuple[Argument, ...], items(100_000)] | None = None
    result: Digest | None = None
    route: Name | None = None
    agent: Agent | None = None
    principal: Principal | None = None
    stage: Literal["prompt", "completion", "open", "delegate"] | None = None
    model: Model | None = None
    labels: Annotated[tuple[Name, ...], stated(64)] | None = None
    claims: Annotated[tuple[Name, ...], items(64)] | None = None

    NEEDS_ONE: ClassVar[tuple[str, ...]] = ("kind", "stage")
    """Members that it has one of at least. The record checks it, so that it can name the place."""

    def __post_init__(self) -> None:
        if not is_id(self.tool):
            raise ValueError("tool")


class Decision(Part, frozen=True, kw_only=True):
    """The decision, the rule and policy that made it, and the effect that was enforced."""

    effect: EffectName
    enforced: Enforced
    mode: Literal["enforce", "monitor"]
    reason: Slug
    rule: Name | None = None
    why: Why | None = None
    argument: Name | None = None
    policy: Name | None = None
    version: Name | None = None
    digest: Digest | None = None
    warnings: Annotated[tuple[Name, ...], items(1024)] | None = None
    approval: Id128 | None = None

    def __post_init__(self) -> None:
        if self.why is not None:
            check_why(why=self.why)


class MarkSeen(Part, frozen=True, kw_only=True):
    """The low-water mark at which a call is judged or a task begins: whose it is, and its number."""

    hop: Digest
    seq: Position


class MarkAfter(Part, frozen=True, kw_only=True):
    """The low-water mark of the hop of a call when its result is delivered: its label and number.

    One more than the newest number is a change: by the outcome itself, whose intent is the source.
    """

    label: FlowLabel
    seq: Position

    def __post_init__(self) -> None:
        if not is_label(self.label):
            raise ValueError("label")


class MarkChange(Part, frozen=True, kw_only=True):
    """A change of a low-water mark.

    Attributes:
        hop: The grant under which the mark began.
        seq: The number of the change, from 1.
        label: The mark from now on.
        cause: Why it is recorded.
        prev: The record of the change before, a mark or an outcome; absent in the first.
        joined: The label that lowered the mark, the mark being the meet of all of them.
        sources: The intents whose results it comes from; without any, this record itself is the source.
        origin: The grant of another hop, whose mark is joined or continued.
        digest: Keyed digest of what the principal said, or of what was handed over.
        token: The mark that the hop ``origin`` has signed, a compact JWS.
    """

    hop: Digest
    seq: Position
    label: FlowLabel
    cause: MarkCause
    prev: Id128 | None = None
    joined: FlowLabel | None = None
    sources: Annotated[tuple[Id128, ...], items(64)] | None = None
    origin: Digest | None = None
    digest: Digest | None = None
    token: Token | None = None

    def __post_init__(self) -> None:
        if (self.seq == FIRST) is not (self.prev is None):
            raise ValueError("prev" if self.prev is None else "+")
        if not is_label(self.label) or not is_label(self.joined):
            raise ValueError("joined" if is_label(self.label) else "label")


class ArgumentOrigin(Part, frozen=True, kw_only=True):
    """The origin of the value of an argument.

    Attributes:
        argument: Its name.
        provenance: Its weakest part.
        source: The intent or mark of the input that has that part, where it is known.
        destination: Whether the argument decides where the call leads.
    """

    argument: Name
    provenance: ValueProvenance
    source: Id128 | None = None
    destination: bool | None = None

    def __post_init__(self) -> None:
        if self.destination is False:  # Left out instead: a fact has one spelling.
            raise ValueError("destination")


class Sdk(Part, frozen=True, kw_only=True):
    """The library that wrote a stream."""

    name: Name
    version: Name


class GrantToken(Part, frozen=True, kw_only=True):
    """The grant itself, a compact JWS."""

    token: Token


class Counts(Part, frozen=True, kw_only=True):
    """Intents and outcomes under a grant so far, and what is still open; decimal text."""

    intents: Count
    outcomes: Count
    open: Count


class AgentRegistration(Part, frozen=True, kw_only=True):
    """The registration of an agent: the hash of its line, the agent's purpose, and its status."""

    hash: Digest
    purpose: Name
    status: Literal["registered", "suspended", "retired", "orphaned"]


class Server(Part, frozen=True, kw_only=True):
    """An MCP server as it stands in the inventory."""

    name: Name
    transport: Literal["stdio", "http", "other"]
    status: Literal["pinned", "moved"]
    place: Name | None = None
    title: Name | None = None
    version: Name | None = None
    reason: Name | None = None


class Offered(Part, frozen=True, kw_only=True):
    """A definition that a server offers, beside the accepted one."""

    name: Name
    status: Literal["pinned", "changed", "new"]
    pinned: Digest | None = None
    offered: Digest | None = None


class PolicyState(Part, frozen=True, kw_only=True):
    """The policy that decides, its engine, and the flow rules of ours that are part of it."""

    name: Name
    version: Name
    digest: Digest
    engine: Label | None = None
    flow: Label | None = None


class ApprovalState(Part, frozen=True, kw_only=True):
    """A question to a person, and the answer.

    ``request`` is the keyed digest of the whole request, ``channel`` the way of asking, and ``sources`` are the
    sources of the mark that the answer exempts for this one call.
    """

    id: Id128
    status: ApprovalStatus
    approver: Principal | None = None
    expires: Nanoseconds | None = None
    token: Token | None = None
    reason: Name | None = None
    request: Digest | None = None
    channel: Label | None = None
    sources: Annotated[tuple[Id128, ...], items(64)] | None = None


class RevocationChange(Part, frozen=True, kw_only=True):
    """A change of the list of revocations."""

    kind: RevocationKind
    name: Id
    status: RevocationState
    version: Position
    reason: Name | None = None

    def __post_init__(self) -> None:
        check_ids(name=self.name)


class PrunedRange(Part, frozen=True, kw_only=True):
    """Pruned records of a stream: their range, and the root over 1 to the last."""

    stream: Id128
    first: Position
    last: Position
    root: Digest
    checkpoint: Count


class Erased(Part, frozen=True, kw_only=True):
    """An erasure: of the key of a task or stream, of those of all tasks of a principal, or of records."""

    key: Id | None = None
    principal: Id | None = None
    keys: Count | None = None
    pruned: PrunedRange | None = None
    by: Id | None = None
    reason: Why | None = None

    FORMS: ClassVar[tuple[Form, ...]] = (
        (("pruned",), ()),
        (("principal", "keys"), ("by", "reason")),
        (("key",), ("by", "reason")),
    )

    def __post_init__(self) -> None:
        check_ids(key=self.key, principal=self.principal, by=self.by)
        check_why(reason=self.reason)
        check_forms(self, self.FORMS)


class RecoveredStream(Part, frozen=True, kw_only=True):
    """The recovered stream of a process that died."""

    stream: Id128
    size: Count
    sealed_before: Count
    torn_bytes: Count
    rejected_bytes: Count
    open_count: Count
    open: Annotated[tuple[Id128, ...], items(64)] | None = None


class StreamResource(Part, frozen=True, kw_only=True):
    """The process that writes a stream, by the conventions of OpenTelemetry for resources."""

    service: Name | None = None
    namespace: Name | None = None
    version: Name | None = None
    instance: Name | None = None
    environment: Name | None = None
    host: Name | None = None
    frameworks: Annotated[tuple[Name, ...], items(32)] | None = None


class Examined(Part, frozen=True, kw_only=True):
    """A question to the evidence, the range of log entries that it covers, and the digest of the answer."""

    question: Name
    digest: Digest
    size: Count
    by: Id | None = None

    def __post_init__(self) -> None:
        check_ids(by=self.by)


class KeyTrust(Part, frozen=True, kw_only=True):
    """A key or certificate that is trusted, renewed, or trusted no longer."""

    key: Name
    purpose: Literal["recorder", "issuer", "root", "policy", "witness", "approver"]
    status: Literal["trusted", "renewed", "distrusted"]
    certificate: Token | None = None


class End(Part, frozen=True, kw_only=True):
    """The number of records of a stream, its last one included."""

    size: Position


def check_forms(part: msgspec.Struct, forms: tuple[Form, ...]) -> None:
    """Check the members where one shape has several forms: the first whose leading member is there, or the last."""
    required, optional = next((form for form in forms if getattr(part, form[0][0]) is not None), forms[-1])
    for name in required:
        if getattr(part, name) is None:
            raise ValueError(f"-{name}")
    for names in forms:
        for name in (*names[0], *names[1]):
            if name not in required and name not in optional and getattr(part, name) is not None:
                raise ValueError("+")


replaced: Final = msgspec.structs.replace
"""Return a part of a record with some members replaced; the new values are not checked."""
