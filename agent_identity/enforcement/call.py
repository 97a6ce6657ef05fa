"""One call while it is under way: what came, what was decided, and where its span is."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, final

from opentelemetry import trace
from opentelemetry.context import Context

from agent_identity.canonical import RecordValue
from agent_identity.enforcement.ambience import Attachment, Body, Process
from agent_identity.enforcement.approval import Approval
from agent_identity.enforcement.arguments import Arguments
from agent_identity.enforcement.decisions import WITHIN_SCOPE
from agent_identity.enforcement.limits import Reservation
from agent_identity.enforcement.task import Task
from agent_identity.enforcement.telemetry import UNTRACED, CallSpan
from agent_identity.errors import Denied
from agent_identity.policy import Finding

__all__ = ["NOTHING", "Call"]

NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
"""The arguments of a call of which nothing is known yet."""


@final
class Call:
    """One guarded call while it is under way.

    Attributes:
        tool: The tool's name.
        call_id: The id that the model gave to the call, if any.
        task: The task under which the call runs; ``None`` outside any task (monitor mode only).
        decision: What was decided.
        result: For :meth:`Enforcer.action`: set it to what the block produced, to have it digested.
    """

    __slots__ = (
        "_arguments",
        "_attachment",
        "_given",
        "action",
        "approval",
        "argument",
        "as_given",
        "body",
        "call_id",
        "context",
        "decision",
        "denial",
        "desk",
        "done",
        "enforced",
        "findings",
        "home",
        "intent",
        "marker",
        "reserved",
        "result",
        "route",
        "span",
        "start_ns",
        "task",
        "tool",
        "traced",
    )

    def __init__(self, tool: str, call_id: str | None, task: Task | None, start_ns: int) -> None:
        self.tool = tool
        self.call_id = call_id
        self.task = task
        self.start_ns = start_ns
        self.decision = WITHIN_SCOPE
        self.enforced = "allow"
        self.result: object = None
        self.denial: Denied | None = None
        self.argument: str | None = None
        self.route: Callable[..., object] | None = None
        self.desk: Approval | None = None
        self.approval: str | None = None
        self.findings: tuple[Finding, ...] = ()
        self.span: CallSpan = trace.INVALID_SPAN
        self.traced = UNTRACED
        self.context: Context | None = None
        self.marker: Body | None = None
        self.intent: str | None = None
        self.action: dict[str, RecordValue] = {}
        self.body: Mapping[str, RecordValue] | None = None
        self.as_given: tuple[tuple[object, ...], Mapping[str, object]] | None = None
        self.done = False
        self.home = Process.here
        self.reserved: Reservation | None = None
        self._given: Mapping[str, object] | None = None
        self._arguments: Arguments | None = None
        self._attachment: Attachment | None = None

    @property
    def arguments(self) -> Mapping[str, object]:
        """The checked snapshot of the arguments, by name; read-only. In monitor mode, the arguments as they came."""
        if self._given is not None:
            return MappingProxyType(self._given)
        return NOTHING if self._arguments is None else MappingProxyType(self._arguments.values)

    def captured(self, arguments: Arguments) -> None:
        """Keep the snapshot."""
        self._arguments = arguments

    def let_run(self, values: Mapping[str, object]) -> None:
        """Have the call run as it came, whatever was decided: monitor mode."""
        self._given = values
        if self.denial is not None or self.route is not None or self.desk is not None:
            self.desk = None
            self.enforced = "audit"
            self.route = None

    def snapshot(self) -> Arguments | None:
        """Return the snapshot with what is known about each argument, if it could be taken."""
        return self._arguments

    def release(self) -> None:
        """Give back what was taken from the limits of the task, once: the call does not run."""
        reserved, self.reserved = self.reserved, None
        if reserved is not None:
            reserved.give_back()

    def conclude(self) -> None:
        """Know that the call is over, and its body with it."""
        self.done = True
        if self.marker is not None:
            self.marker.over = True

    def attach(self) -> None:
        """Make the call's span the current one until :meth:`detach`."""
        if self.context is not None:
            self._attachment = Attachment(self.context)

    def detach(self) -> None:
        """Undo :meth:`attach`; idempotent."""
        if self._attachment is not None:
            self._attachment.release()
            self._attachment = None
