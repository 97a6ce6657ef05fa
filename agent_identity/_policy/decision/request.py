"""Policy requests, and the two protocols that users may implement."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, final

from agent_identity._common.typed_calls import typed_calls
from agent_identity._identity.principals.principals import Agent, Human, Service
from agent_identity._policy.decision.decision import Decision, check_name
from agent_identity._policy.decision.resources import Touch

Direction: TypeAlias = Literal["input", "output"]
"""Direction of content: into a tool or a model, or out of it."""

Severity: TypeAlias = Literal["low", "medium", "high"]
"""Severity of a finding."""

_LEVELS: Final = frozenset({"low", "medium", "high"})

Stage: TypeAlias = Literal["call", "result"]
"""Stage at which the policy is asked: before the call runs, or about its result."""


@final
class Claims(NamedTuple):
    """Labels that someone else than application and operator says, such as the server of a tool.

    They can only make the decision about a call stricter: no one knows who wrote them.

    Attributes:
        labels: Labels of the tool.
        data: Labels of the data that it touches.
    """

    labels: tuple[str, ...] = ()
    data: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Tool:
    """The tool that is about to be called; build it once per tool.

    Attributes:
        name: The name that scopes and rules know it by.
        kind: What it is, such as ``function``, ``mcp`` or ``api``.
        server: The server that offers it, or ``None`` for a tool of this process.
        labels: What its owner says about it, such as ``destructive``; empty for no label, ``None`` if no one said.
        claims: What others say about it; ``None`` for nothing.
        touches: The resources that it touches, as its owner declares them.
    """

    name: str
    kind: str = "function"
    server: str | None = None
    labels: tuple[str, ...] | None = None
    claims: Claims | None = None
    touches: tuple[Touch, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The content that an inspector examines.

    Attributes:
        direction: ``"input"`` on the way into the tool, ``"output"`` on the way out.
        tool: The name of the tool.
        value: The arguments by name, or the result. Never shown in the representation.
        injected: Names of arguments that the framework filled in, so that no model wrote them.
    """

    direction: Direction
    tool: str
    value: object = field(repr=False)
    injected: Collection[str] = ()


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that an inspector found in content. It says where and what kind, never the value.

    Attributes:
        category: Name of the kind of thing found, such as ``api_key``.
        inspector: Name of the inspector that found it.
        field: The argument or member it was found in, if that is known.
        severity: ``"low"``, ``"medium"`` or ``"high"``.
        path: JSON pointer (RFC 6901) to the text in the inspected value; ``""`` is the value itself. In memory only:
            the members of a result may be content, so that no record has it.
        span: Code-point offsets of the match in that text, the end not included; needs a path.
        confidence: ``"low"``, ``"medium"`` or ``"high"``.

    Raises:
        ValueError: A name, the severity, the path, the span or the confidence is malformed.
    """

    category: str
    inspector: str
    field: str | None = None
    severity: Severity = "medium"
    path: str | None = dataclasses.field(default=None, repr=False)
    span: tuple[int, int] | None = None
    confidence: Severity | None = None

    def __post_init__(self) -> None:
        check_name(self.category, "the category of a finding")
        check_name(self.inspector, "the inspector of a finding")
        if self.severity not in _LEVELS:
            raise ValueError("unknown severity; use low, medium or high")
        if self.confidence is not None and self.confidence not in _LEVELS:
            raise ValueError("unknown confidence; use low, medium or high")
        if self.path is not None and not (self.path == "" or self.path.startswith("/")):
            raise ValueError("the path is no JSON pointer; write '' for the whole value or '/name/0' for a part")
        if self.span is not None:
            _check_span(self.span, self.path)


def _check_span(span: Sequence[object], path: str | None) -> None:
    if path is None:
        raise ValueError("a span has no path; give the path of the text that it counts in")
    start, end = span if len(span) == 2 else (None, None)
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise ValueError("the span is no pair of offsets; give (start, end) with 0 <= start <= end")


@final
class FlowFacts(NamedTuple):
    """Flow facts about the inputs of a task at the judgement of one of its calls.

    Attributes:
        integrity: ``trusted``, ``unknown`` or ``untrusted``: the low-water mark of everything the agent has seen.
        readers: The ids of those who may read all of it; ``("public",)`` for everyone.
        sources: The names of the tools, and other causes, that lowered the mark.
        args: By argument, where its value comes from: ``principal``, ``trusted``, ``unknown`` or ``untrusted``.
        destinations: The same of the arguments that decide where the call leads; empty if no one declared any.
    """

    integrity: str
    readers: tuple[str, ...] = ("public",)
    sources: tuple[str, ...] = ()
    args: Mapping[str, str] = MappingProxyType({})
    destinations: Mapping[str, str] = MappingProxyType({})


@final
class Request(NamedTuple):
    """One question to a policy. A named tuple, because one is built for every call.

    Attributes:
        tool: The tool to be called.
        arguments: Its arguments by name.
        principal: On whose behalf, or ``None`` for a call outside any task.
        agent: Who acts, or ``None`` for a call outside any task.
        chain_depth: How many times the authority was delegated on; 0 is the first agent.
        task_id: The task, or ``None`` outside any.
        purpose: What the task is for, or ``None`` outside any.
        findings: What inspectors found.
        data: Labels of the data that the call touches; empty for no label, ``None`` if no one said.
        stage: ``"call"`` before the call runs, ``"result"`` about what it returned.
        flow: The inputs of the task; ``None`` where information flow is off.
    """

    tool: Tool
    arguments: Mapping[str, object]
    principal: Human | Service | None = None
    agent: Agent | None = None
    chain_depth: int = 0
    task_id: str | None = None
    purpose: str | None = None
    findings: tuple[Finding, ...] = ()
    data: tuple[str, ...] | None = None
    stage: Stage = "call"
    flow: FlowFacts | None = None

    def __repr__(self) -> str:
        """Name the tool and the arguments, but show no argument value."""
        return f"Request(tool={self.tool.name!r}, arguments={sorted(self.arguments)!r}, stage={self.stage!r})"


class Policy(Protocol):
    """The policy decision point. Whatever it raises refuses the call."""

    @property
    def name(self) -> str:
        """The name of the policy."""
        ...

    @property
    def version(self) -> str:
        """The version of the policy; it stands in every record."""
        ...

    @property
    def digest(self) -> str:
        """The SHA-256, in 43 base64url characters, of what the policy was made from."""
        ...

    def decide(self, request: Request) -> Decision:
        """Return the answer to a request."""
        ...


class Inspector(Protocol):
    """Looks at content that goes into a tool or comes out of one."""

    def inspect(self, content: Content) -> Sequence[Finding]:
        """Return what was found; an empty sequence if nothing was."""
        ...
