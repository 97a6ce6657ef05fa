"""Record types: the facts that each kind states, and their forms.

The shape is closed at every level: an unknown member is refused, because an auditor must not have to guess what a
field means.
``record_codec`` turns records into bytes and back. What records say about each other (order, counts, chains) is the
verifier's business.
"""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, TypeAlias, cast, get_args

import msgspec

from agent_identity._record._member_forms import (
    Argument,
    Category,
    Clause,
    Digest,
    FlowLabel,
    Id,
    Id128,
    Name,
    Token,
    check_ids,
    is_label,
    items,
    stated,
)
from agent_identity._record._refusals import ABSENT, UNKNOWN
from agent_identity._record.parts import (
    FIRST,
    Action,
    Agent,
    AgentRegistration,
    ApprovalState,
    ArgumentOrigin,
    Counts,
    Decision,
    End,
    Ending,
    Erased,
    Examined,
    Form,
    Found,
    GrantToken,
    Hop,
    KeyTrust,
    MarkAfter,
    MarkChange,
    MarkSeen,
    Offered,
    Part,
    PolicyState,
    Principal,
    RecoveredStream,
    Resource,
    RevocationChange,
    Sdk,
    Server,
    Stream,
    StreamResource,
    Task,
    Time,
    Trace,
    Transform,
    Version,
    check_forms,
)


class Record(Part, frozen=True, tag_field="kind"):
    """The members of every record; each kind is a subclass.

    Attributes:
        id: The record; the same wherever it is copied to.
        stream: Its place in the stream.
        time: Begin and end of the recorded event.
        v: The version of the format.
    """

    FORMS: ClassVar[tuple[Form, ...]] = ()
    """The forms of this kind, where it has several."""

    REFUSED: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Members of parts that this kind must not have."""

    id: Id128
    stream: Stream
    time: Time
    v: Version

    @property
    def kind(self) -> str:
        """The kind, as the record spells it."""
        return _KIND_NAMES[type(self)]

    def __post_init__(self) -> None:
        place, kind = self.stream, type(self)
        first = place.seq == FIRST
        if first is not (place.prev is None):
            raise ValueError("record.stream.prev: missing after the first record, or present in it")
        if first is not (kind is StreamStart):
            raise ValueError(
                "record.kind: stream_start is not the first record, or the first record is of another kind"
            )
        usual = _USUAL.get(kind)
        if usual is not None and (None in usual.stated(self) or usual.left_out(self) != usual.nothing):
            _check_members(self)


class OfTask(Record, frozen=True, kw_only=True):
    """The members that records of a task add: task, principal, agent, and the chain from root to leaf."""

    task: Task
    principal: Principal
    agent: Agent
    chain: Annotated[tuple[Hop, ...], items(33)]
    trace: Trace | None = None

    REFUSED: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": ("outer",)}


class _Call(Record, frozen=True):
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

    FORMS: ClassVar[tuple[Form, ...]] = ((("attribution",), ()), (("task", "principal", "agent", "chain"), ()))
    REFUSED: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": ("outer",)}


class StreamStart(Record, frozen=True, kw_only=True, tag="stream_start"):
    """The first record of each stream: its writer, the process, and the certificate of its recorder key."""

    sdk: Sdk
    resource: StreamResource | None = None
    certificate: Token | None = None


class Grant(OfTask, frozen=True, kw_only=True, tag="grant"):
    """A task or a delegation opens, under this grant."""

    grant: GrantToken

    REFUSED: ClassVar[Mapping[str, tuple[str, ...]]] = {}


class TaskStart(OfTask, frozen=True, kw_only=True, tag="task_start"):
    """A task or a delegation has begun.

    ``workflow`` is the run of the framework around it, and ``judged_at`` the low-water mark that it begins at.
    """

    workflow: Name | None = None
    judged_at: MarkSeen | None = None

    REFUSED: ClassVar[Mapping[str, tuple[str, ...]]] = {}


class Intent(_Call, frozen=True, tag="intent"):
    """A body is about to run.

    ``resources`` are declared ones; ``clauses`` give, by argument, the branch of the constraint that allowed it. Of
    information flow are ``judged_at`` (the mark), ``provenance`` (of its arguments) and ``endorses``
    (its result has the label that its owner declares, whatever the mark is). ``resumes`` is the outcome by which the
    call was suspended before.
    """

    resources: Annotated[tuple[Resource, ...], items(64)] | None = None
    clauses: Annotated[tuple[Clause, ...], items(1024)] | None = None
    workflow: Name | None = None
    judged_at: MarkSeen | None = None
    provenance: Annotated[tuple[ArgumentOrigin, ...], items(256)] | None = None
    endorses: bool | None = None
    resumes: Id128 | None = None

    def __post_init__(self) -> None:
        Record.__post_init__(self)
        if self.endorses is False:
            raise ValueError("record.endorses: false is written out; leave the member out")


class Outcome(_Call, frozen=True, kw_only=True, tag="outcome"):
    """A body has run, or was refused.

    Of information flow are ``label`` (of what was returned) and ``mark_after`` (the low-water mark that covers it).
    """

    outcome: Ending
    intent: Id128 | None = None
    error: Name | None = None
    detail: Digest | None = None
    label: FlowLabel | None = None
    mark_after: MarkAfter | None = None

    REFUSED: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "action": ("names", "labels", "claims"),
        "decision": ("policy", "version"),
        "task": ("expires", "purpose", "outer"),
        "principal": ("roles",),
    }
    """All of them belong to the intent, and not on a span."""

    def __post_init__(self) -> None:
        Record.__post_init__(self)
        if not is_label(self.label):
            raise ValueError("label")


class Detail(Part, frozen=True, kw_only=True):
    """Facts of a call that do not fit on its span: a second object in the line of its outcome.

    ``outcome.detail`` commits to it, as the SHA-256 of its canonical bytes. These begin with the salt, so that no one
    who has only the outcome can guess the rest. For a refused call it says what an intent would have said.

    Attributes:
        salt: 128 random bits; ``_salt`` in the bytes, which sorts before all others.
        claimed: The flow label that the server of the tool gives what it returned; it only restricts.
    """

    salt: Id128 = msgspec.field(name="_salt")
    names: Annotated[tuple[Argument, ...], items(100_000)] | None = None
    labels: Annotated[tuple[Name, ...], stated(64)] | None = None
    claims: Annotated[tuple[Name, ...], items(64)] | None = None
    claimed: FlowLabel | None = None
    policy: Name | None = None
    version: Name | None = None
    roles: Annotated[tuple[Id, ...], items(64)] | None = None
    resources: Annotated[tuple[Resource, ...], items(64)] | None = None
    workflow: Name | None = None
    findings: Annotated[tuple[Found, ...], items(1024)] | None = None
    transforms: Annotated[tuple[Transform, ...], items(256)] | None = None
    judged_at: MarkSeen | None = None
    provenance: Annotated[tuple[ArgumentOrigin, ...], items(256)] | None = None

    def __post_init__(self) -> None:
        if not is_label(self.claimed):
            raise ValueError("claimed")
        if self.roles is not None:
            check_ids(**{f"roles[{index}]": role for index, role in enumerate(self.roles)})


class Mark(OfTask, frozen=True, kw_only=True, tag="mark"):
    """The low-water mark of a task changes, before what changes it is delivered."""

    mark: MarkChange


class TaskEnd(OfTask, frozen=True, kw_only=True, tag="task_end"):
    """A task or a delegation has ended."""

    counts: Counts
    outcome: Ending | None = None
    error: Name | None = None


class Registration(Record, frozen=True, kw_only=True, tag="registration"):
    """First use of a registration of an agent, or of the accepted state of an MCP server and its tools."""

    agent: Agent | None = None
    registration: AgentRegistration | None = None
    server: Server | None = None
    tools: Annotated[tuple[Offered, ...], items(1024)] | None = None

    FORMS: ClassVar[tuple[Form, ...]] = ((("server",), ("tools",)), (("agent",), ("registration",)))


class Policy(Record, frozen=True, kw_only=True, tag="policy"):
    """An enforcer with a policy opens."""

    policy: PolicyState


class Approval(OfTask, frozen=True, kw_only=True, tag="approval"):
    """A request to a person for approval, or its answer."""

    action: Action
    approval: ApprovalState


class Revocation(Record, frozen=True, kw_only=True, tag="revocation"):
    """The list of revocations has changed."""

    revocation: RevocationChange


class Erasure(Record, frozen=True, kw_only=True, tag="erasure"):
    """Keys of digests are erased, or records pruned."""

    erasure: Erased


class Recovered(Record, frozen=True, kw_only=True, tag="recovered"):
    """Recovery of the stream of a process that died."""

    recovered: RecoveredStream


class Examination(Record, frozen=True, kw_only=True, tag="examination"):
    """A question to the evidence."""

    examination: Examined


class Trust(Record, frozen=True, kw_only=True, tag="trust"):
    """A key or certificate is trusted, renewed, or trusted no longer."""

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
    | Mark
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

OF_TASKS: Final = (Outcome, Intent, OfTask)
"""The types of records that may name a task, its parties and a span; a call outside any task leaves them out."""

KIND_TYPES: Final[Mapping[str, type[Record]]] = {
    cast("str", kind.__struct_config__.tag): kind for kind in cast("tuple[type[Record], ...]", get_args(AnyRecord))
}
"""The type of each kind, by its name in records."""

_KIND_NAMES: Final[Mapping[type[Record], str]] = {kind: name for name, kind in KIND_TYPES.items()}

KINDS: Final = frozenset(KIND_TYPES)
"""The names of the kinds."""


class _Usual(NamedTuple):
    """The usual members of a kind, which are looked at all at once, since nearly all records end here.

    Attributes:
        stated: Reads members that are there.
        left_out: Reads members that are not, of parts as well.
        nothing: What that reads then.
    """

    stated: Callable[[object], tuple[object, ...]]
    left_out: Callable[[object], tuple[object, ...]]
    nothing: tuple[None, ...]


def _usual(kind: type[Record]) -> _Usual | None:
    """Return the usual members of a kind that has rules about them: those of the last of its forms."""
    own = kind.FORMS[-1] if kind.FORMS else ((), ())
    left_out = [f"{part}.{name}" for part, names in kind.REFUSED.items() for name in names]
    left_out += [name for form in kind.FORMS for name in (*form[0], *form[1]) if name not in (*own[0], *own[1])]
    if not left_out:
        return None
    stated = ["action.kind"] if "action" in kind.__struct_fields__ else []
    # Of one name attrgetter makes no tuple, so there are always more.
    reads = attrgetter("id", "stream", *own[0], *stated), attrgetter(*left_out, left_out[-1])
    return _Usual(*reads, (None,) * (len(left_out) + 1))


_USUAL: Final = {kind: usual for kind in KIND_TYPES.values() if (usual := _usual(kind)) is not None}


def _check_members(record: Record) -> None:
    """Check a record whose members are not the usual ones, and name the place of what is wrong."""
    if record.FORMS:
        check_forms(record, record.FORMS)
    for name, names in record.REFUSED.items():
        part: object = getattr(record, name)
        if part is not None and any(getattr(part, refused) is not None for refused in names):
            raise ValueError(f"record.{name}: {UNKNOWN}")
    action: Action | None = getattr(record, "action", None)
    if action is not None and all(getattr(action, name) is None for name in Action.NEEDS_ONE):
        raise ValueError(f"record.action.{Action.NEEDS_ONE[0]}: {ABSENT}")
