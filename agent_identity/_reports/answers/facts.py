"""The facts that one pass over evidence yields: grants, calls, tasks, approvals, registrations, servers, and others.

A fact is what records say, decoded and joined. Whether it is proved is a property of its source, and known only at the
end of the pass: :attr:`~agent_identity.answers.SourceFrame.proved`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import msgspec

from agent_identity._record.parts import (
    Agent,
    AgentRegistration,
    ApprovalState,
    ArgumentOrigin,
    Decision,
    Ending,
    Hop,
    Model,
    Offered,
    PolicyState,
    Principal,
    Resource,
    RevocationChange,
    Server,
    StreamResource,
)
from agent_identity.canonical import JSON

Tools: TypeAlias = Mapping[str, Mapping[str, JSON]]
"""The tools of a grant, each with the constraints of its arguments as the grant spells them; empty: an open tool."""


@final
class Where(msgspec.Struct, frozen=True, gc=False):
    """The place of a record.

    Attributes:
        source: The number of its source in the frame, from 0.
        record: The id of the record.
        stream: Its stream.
        seq: Its place there, from 1.
    """

    source: int
    record: str
    stream: str
    seq: int


@final
@dataclass(frozen=True, slots=True)
class StreamFact:
    """A stream begins.

    Attributes:
        where: Its first record.
        at_ns: The time of that, in nanoseconds since the Unix epoch, as all times of facts.
        library: The library that wrote it, with its version.
        resource: The process, if the record says which.
    """

    where: Where
    at_ns: int
    library: str
    resource: StreamResource | None


@final
@dataclass(frozen=True, slots=True)
class GrantFact:
    """A grant, decoded.

    Attributes:
        where: The record that holds it.
        hash: Its hash, by which records name it.
        parent: The hash of the grant that it was derived from; ``None`` for a root.
        root: The hash of the root of its chain; its own for a root.
        task: The task.
        outer: The task in which that was opened.
        principal: On whose behalf.
        agent: The holder.
        chain: The agents from the root to the holder, each with its grant.
        depth: 0 for a root, one more at each hop.
        kid: The thumbprint of the issuer key that signed the root; ``None`` for a delegation.
        issuer: The issuer that it names.
        tools: What it permits.
        issued_ns: From when on it permits that, as its issuer says.
        expires_ns: From when on it permits nothing.
        noted_ns: When the record noted it, as its recorder says.
    """

    where: Where
    hash: str
    parent: str | None
    root: str
    task: str
    outer: str | None
    principal: Principal
    agent: Agent
    chain: tuple[Hop, ...]
    depth: int
    kid: str | None
    issuer: str
    tools: Tools
    issued_ns: int
    expires_ns: int
    noted_ns: int


@final
@dataclass(frozen=True, slots=True)
class TaskFact:
    """A task or a delegation begins or ends.

    Attributes:
        where: The record.
        at_ns: When.
        status: Which of the two.
        task: The task.
        principal: On whose behalf.
        agent: The agent of this part.
        chain: The agents from the root to that one, each with its grant.
        purpose: What for, where the record says so.
        workflow: The run of the framework around it.
    """

    where: Where
    at_ns: int
    status: Literal["begun", "ended"]
    task: str
    principal: Principal
    agent: Agent
    chain: tuple[Hop, ...]
    purpose: str | None
    workflow: str | None

    @property
    def agents(self) -> tuple[str, ...]:
        """The agents of the chain, root first."""
        return tuple(hop.id for hop in self.chain)


@final
class CallFact(msgspec.Struct, frozen=True, gc=False):
    """A call: its intent and its outcome, joined.

    Attributes:
        where: The outcome, or the intent if there is no outcome.
        intent: The id of the intent; ``None`` for a call that was refused before it had one.
        begun: Whether the intent is at hand.
        at_ns: When it began.
        end_ns: When it ended, if that is known.
        task: The task; ``None`` outside any.
        workflow: The run of the framework around it.
        principal: On whose behalf; ``None`` outside any task.
        agent: Who acted.
        chain: The agents from the root to that one, each with its grant.
        tool: The tool; of an opening, ``invoke_agent``.
        kind: What the tool is, such as ``function``, ``mcp`` or ``model``; ``None`` where the record leaves it out.
        stage: ``None`` for a call; for another thing that was judged, which.
        opened: The agent that an opening is about.
        model: The model that answered, or was asked.
        labels: The labels of the tool.
        decision: What was decided, and why.
        outcome: How it ended; ``unknown`` if nothing says so.
        error: The class of an error, or the code of a refusal.
        findings: The categories that inspectors found.
        resources: What it touches, as its owner declares.
        observed: What was seen to be touched while it ran.
        approver: Who approved it, if somebody had to.
        call: The id that a model gave the call.
        arguments: The names of its arguments.
        span: The trace and the span of the call.
        above: The span above that one.
        inputs: Where the values of its arguments came from, as far as it was recorded.
    """

    where: Where
    intent: str | None
    begun: bool
    at_ns: int
    end_ns: int | None
    task: str | None
    workflow: str | None
    principal: Principal | None
    agent: Agent | None
    chain: tuple[Hop, ...]
    tool: str
    kind: str | None
    stage: str | None
    opened: Agent | None
    model: Model | None
    labels: tuple[str, ...]
    decision: Decision
    outcome: Ending | Literal["unknown"]
    error: str | None
    findings: tuple[str, ...]
    resources: tuple[Resource, ...]
    observed: tuple[Resource, ...]
    approver: Principal | None
    call: str | None
    arguments: tuple[str, ...]
    span: tuple[str, str] | None
    above: str | None = None
    inputs: tuple[ArgumentOrigin, ...] = ()

    @property
    def duration_ns(self) -> int | None:
        """The duration, if it is known."""
        return None if self.end_ns is None else max(0, self.end_ns - self.at_ns)

    @property
    def opening(self) -> bool:
        """True if it is no call of a tool: an opening of a task, a delegation, or text for or from a model."""
        refused = self.kind == "task" and self.intent is None  # The opening of a grant from elsewhere names no agent.
        return self.stage is not None or self.opened is not None or refused

    @property
    def of_model(self) -> bool:
        """True if it is a call of a model."""
        return self.kind in _MODELS or self.stage in ("prompt", "completion")

    @property
    def withheld(self) -> bool:
        """True if its body ran and an inspector kept the result from the caller."""
        return self.outcome == "denied" and self.intent is not None and self.error in _WITHHELD

    @property
    def refused(self) -> bool:
        """True if it was refused, before its body began or while it was under way."""
        return self.outcome == "denied" and not self.withheld

    @property
    def ran(self) -> bool:
        """True if its body, or that of a route in its place, began or may have begun."""
        return self.intent is not None or self.outcome in _ENDED

    @property
    def succeeded(self) -> bool:
        """True if its body came to its end without an error."""
        return self.outcome == "success"

    @property
    def would_be_refused(self) -> bool:
        """True if only monitor mode let it go on: enforcement would have refused or routed it."""
        monitored = self.decision.mode == "monitor" or self.decision.enforced == "audit"
        return monitored and self.decision.effect in ("block", "route")


_MODELS: Final = frozenset({"model", "streamed_model"})
_ENDED: Final = frozenset({"success", "error", "cancelled"})
_WITHHELD: Final = frozenset({"content_blocked", "content_quarantined"})


@final
@dataclass(frozen=True, slots=True)
class ApprovalFact:
    """A person is asked, or has answered.

    Attributes:
        where: The record.
        at_ns: When.
        task: The task.
        agent: Who asked.
        principal: On whose behalf.
        chain: The agents from the root to the one that asked, each with its grant.
        tool: What is to be called.
        approval: The question, and the answer.
    """

    where: Where
    at_ns: int
    task: str
    agent: Agent
    principal: Principal
    chain: tuple[Hop, ...]
    tool: str
    approval: ApprovalState


@final
@dataclass(frozen=True, slots=True)
class RegistrationFact:
    """A registration of an agent was used for the first time in a stream.

    Attributes:
        where: The record.
        at_ns: When.
        agent: The agent as registered.
        registration: What for, and where it stands.
    """

    where: Where
    at_ns: int
    agent: Agent
    registration: AgentRegistration


@final
@dataclass(frozen=True, slots=True)
class ServerFact:
    """An MCP server as the inventory has it.

    Attributes:
        where: The record.
        at_ns: When.
        server: The server.
        tools: Its tools, each with the pinned definition and the offered one.
    """

    where: Where
    at_ns: int
    server: Server
    tools: tuple[Offered, ...]


@final
@dataclass(frozen=True, slots=True)
class RevocationFact:
    """The list of revocations has changed.

    Attributes:
        where: The record.
        at_ns: When.
        change: What is revoked, suspended or reinstated.
    """

    where: Where
    at_ns: int
    change: RevocationChange


@final
@dataclass(frozen=True, slots=True)
class ErasureFact:
    """The key of digests was erased, or the keys of all tasks of a principal.

    Attributes:
        where: The record.
        at_ns: When.
        key: The task or stream, or ``resources`` for the key of the names of resources.
        principal: The principal.
    """

    where: Where
    at_ns: int
    key: str | None
    principal: str | None


@final
@dataclass(frozen=True, slots=True)
class PolicyFact:
    """A policy decides from now on, in one stream.

    Attributes:
        where: The record.
        at_ns: When.
        policy: The policy.
    """

    where: Where
    at_ns: int
    policy: PolicyState


@final
@dataclass(frozen=True, slots=True)
class SpanFact:
    """One fact from a span of any library about one thing; a hint, since nobody signed it.

    Attributes:
        source: The number of its source in the frame.
        at_ns: When the span began; 0 if it does not say.
        kind: What the thing is.
        name: Its name.
        service: The service that the span came from.
        library: The instrumentation that made the span.
        details: More about it, by name.
        trace: The id of the trace.
        span: The id of the span.
        parent: The id of the span above; empty for a root.
        offered: It was offered to a model, and not called.
        serving: It is the span of the party that was called.
    """

    source: int
    at_ns: int
    kind: Literal["agent", "tool", "model", "server", "host", "data", "principal"]
    name: str
    service: str | None
    library: str
    details: Mapping[str, str]
    trace: str
    span: str
    parent: str
    offered: bool = False
    serving: bool = False


@final
@dataclass(frozen=True, slots=True)
class CallSpanFact:
    """The span of a call whose record verifies; its other facts are those of the record.

    Attributes:
        source: The number of its source in the frame.
        at_ns: When the call began.
        trace: The id of the trace.
        span: The id of the span.
        parent: The id of the span above; empty for a root.
        tool: The tool.
    """

    source: int
    at_ns: int
    trace: str
    span: str
    parent: str
    tool: str


Fact: TypeAlias = (
    StreamFact
    | GrantFact
    | TaskFact
    | CallFact
    | ApprovalFact
    | RegistrationFact
    | ServerFact
    | RevocationFact
    | PolicyFact
    | ErasureFact
    | SpanFact
    | CallSpanFact
)
"""Any fact."""
