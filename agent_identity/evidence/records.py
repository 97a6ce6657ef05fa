"""The record as a type: which facts each kind states, and in which form.

The shape is closed at every level: what is not known here is refused, because an auditor must not have to guess what
a field means. Decoding checks shape, types, bounds and the canonical form in one step. What records say about each
other (order, counts, chains) is the verifier's business.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, TypeAlias, cast, get_args

import msgspec
import orjson

from agent_identity import canonical
from agent_identity.canonical import RecordValue
from agent_identity.evidence.record_forms import (
    ArgsDigest,
    Argument,
    Category,
    Count,
    Hash,
    Hmac,
    Id,
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
from agent_identity.evidence.record_refusals import ABSENT, UNKNOWN, explained

__all__ = [
    "EFFECTS",
    "KINDS",
    "OUTCOMES",
    "VERSION",
    "Action",
    "Agent",
    "AgentRegistration",
    "AnyRecord",
    "Approval",
    "ApprovalState",
    "Counts",
    "Decision",
    "End",
    "Erased",
    "Erasure",
    "Grant",
    "GrantToken",
    "Hop",
    "Intent",
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
    "Revocation",
    "RevocationChange",
    "Sdk",
    "Server",
    "Stream",
    "StreamEnd",
    "StreamStart",
    "Task",
    "TaskEnd",
    "TaskStart",
    "Time",
    "Trace",
    "as_dict",
    "check_record",
    "decode",
    "encode",
]

VERSION: Final = "1"
"""The value of ``v`` in each record."""

EffectName: TypeAlias = Literal["allow", "warn", "block", "route"]
Ending: TypeAlias = Literal["success", "error", "denied", "routed", "cancelled", "suspended", "unknown"]

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
    """The task: its id (``txn`` of its grants), when its authority ends at the latest, and what it is for."""

    id: Id
    expires: Nanoseconds | None = None
    purpose: Annotated[str, text(1024)] | None = None

    def __post_init__(self) -> None:
        check_ids(id=self.id)


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


class Action(_Part, frozen=True, kw_only=True):
    """What was called, with which arguments: names, kinds and a keyed digest, never values."""

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


class Decision(_Part, frozen=True, kw_only=True):
    """What was decided, by which rule of which policy, and what was done about it."""

    effect: EffectName
    enforced: Literal["allow", "block", "modify", "escalate", "audit"]
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
    """The policy that decides."""

    name: Name
    version: Name
    digest: Sha256


class ApprovalState(_Part, frozen=True, kw_only=True):
    """What a person was asked, and answered."""

    id: Uuid7
    status: Literal["pending", "approved", "rejected", "expired"]
    approver: Principal | None = None
    expires: Nanoseconds | None = None
    token: Token | None = None
    reason: Name | None = None


class RevocationChange(_Part, frozen=True, kw_only=True):
    """A change of the list of revocations."""

    kind: Literal["task", "grant", "agent", "owner", "human", "service", "key", "everything"]
    name: Id
    status: Literal["revoked", "suspended", "reinstated"]
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
    v: Literal["1"]

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


class OfTask(Record, frozen=True, kw_only=True):
    """What the records of a task say besides: the task, on whose behalf, who acts, and the chain from root to leaf."""

    task: Task
    principal: Principal
    agent: Agent
    chain: Annotated[tuple[Hop, ...], items(33)]
    trace: Trace | None = None


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
            raise ValueError(f"record: {UNKNOWN}")


class StreamStart(Record, frozen=True, kw_only=True, tag="stream_start"):
    """The first record of each stream."""

    sdk: Sdk


class Grant(OfTask, frozen=True, kw_only=True, tag="grant"):
    """A task or a delegation opens, under this grant."""

    grant: GrantToken


class TaskStart(OfTask, frozen=True, kw_only=True, tag="task_start"):
    """A task or a delegation has begun."""


class Intent(_Call, frozen=True, kw_only=True, tag="intent"):
    """A body is about to run."""


class Outcome(_Call, frozen=True, kw_only=True, tag="outcome"):
    """A body has run, or was refused."""

    outcome: Ending
    intent: Uuid7 | None = None
    error: Name | None = None


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


class Approval(OfTask, frozen=True, kw_only=True, tag="approval"):
    """A person is asked, or an answer is taken up."""

    action: Action
    approval: ApprovalState


class Revocation(Record, frozen=True, kw_only=True, tag="revocation"):
    """The list of revocations has changed."""

    revocation: RevocationChange


class Erasure(Record, frozen=True, kw_only=True, tag="erasure"):
    """Keys of digests are erased, or records pruned."""

    erasure: Erased


class Recovered(Record, frozen=True, kw_only=True, tag="recovered"):
    """A start found the stream of a process that died."""

    recovered: RecoveredStream


class StreamEnd(Record, frozen=True, kw_only=True, tag="stream_end"):
    """The last record of a stream that was closed."""

    end: End


AnyRecord: TypeAlias = (
    StreamStart
    | Grant
    | TaskStart
    | Intent
    | Outcome
    | TaskEnd
    | Registration
    | Policy
    | Approval
    | Revocation
    | Erasure
    | Recovered
    | StreamEnd
)
"""A record of any kind."""

_KINDS: Final[Mapping[str, type[Record]]] = {
    cast("str", kind.__struct_config__.tag): kind for kind in cast("tuple[type[Record], ...]", get_args(AnyRecord))
}

KINDS: Final = frozenset(_KINDS)
"""What a record can be about."""

_DECODER: Final = cast("msgspec.json.Decoder[AnyRecord]", msgspec.json.Decoder(AnyRecord))
_ENCODER: Final = msgspec.json.Encoder(order="sorted")  # Keys are ASCII, so this is the order of RFC 8785.


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


def decode(data: bytes) -> AnyRecord:
    """Return the record of its canonical bytes.

    Duplicate keys, white space, other spellings of a string and other orders of keys do not re-encode to the same
    bytes and are refused with the rest.

    Raises:
        ValueError: The bytes are not the canonical form of a record, or a fact is missing, unknown, malformed or
            contradicts another; the message starts with the path to it, for example ``record.decision.effect``. It
            shows no value.
    """
    try:
        record = _DECODER.decode(data)
    except msgspec.ValidationError as error:
        raise ValueError(_refusal(str(error), data)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("record: expected a record in JSON, got something else") from None
    if _ENCODER.encode(record) != data:
        raise ValueError("record: expected the canonical form of the record, got another spelling")
    return record


def _refusal(message: str, data: bytes) -> str:
    """Return what a refused record says; the place is known where each member is there once."""
    try:
        members = canonical.decode(data)
    except ValueError:
        return "record: expected the canonical form of a record, got other bytes"
    return explained(message, members, _KINDS)


def encode(record: Record) -> bytes:
    """Return the canonical bytes of a record.

    Raises:
        ValueError: It holds a lone surrogate.
    """
    try:
        return _ENCODER.encode(record)
    except UnicodeEncodeError:
        raise ValueError("expected Unicode text in a record, got a lone surrogate") from None


def as_dict(record: Record) -> dict[str, RecordValue]:
    """Return the members of a record as plain dicts and lists, as its bytes spell them."""
    return cast("dict[str, RecordValue]", orjson.loads(_ENCODER.encode(record)))


def check_record(record: Mapping[str, object]) -> None:
    """Check members that are to become a record; see :func:`decode`.

    Args:
        record: The members, in plain dicts and lists or tuples.

    Raises:
        ValueError: As for :func:`decode`.
    """
    try:
        data = canonical.encode(cast("canonical.JSON", record))
    except ValueError as error:
        raise ValueError(f"record: {error}") from None
    decode(data)
