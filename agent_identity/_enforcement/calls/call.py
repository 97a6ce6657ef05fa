"""One call of a guarded tool: what was asked, and what becomes of it."""

import threading
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, final

from opentelemetry import trace
from opentelemetry.context import Context

from agent_identity._enforcement.calls.approval_request import Approval
from agent_identity._enforcement.calls.arguments import Arguments
from agent_identity._enforcement.calls.limit_debits import Reservation
from agent_identity._enforcement.common import WITHIN_SCOPE
from agent_identity._enforcement.tasks import Attachment, Body, CallFacts, Judged, Kept, Process, Task
from agent_identity._enforcement.telemetry import UNTRACED, CallSpan
from agent_identity._evidence.record import Action, Enforced, Model, Transform
from agent_identity._flow import TRUSTED, Label
from agent_identity._inspection import HeldStream
from agent_identity._policy.decision import Decision, Finding, Touch
from agent_identity.errors import Denied

__all__ = ["NOTHING", "Call", "CallRequest", "Judgement", "Shown"]

NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
"""The arguments of a call of which nothing is known yet."""


class CallRequest(NamedTuple):
    """The request to the guard for one call. Frozen; a tuple, because one is made for each call.

    Attributes:
        arguments: The arguments by name, as the body is to get them, defaults applied.
        supplied: The names that the caller gave; by default all but those that were injected.
        injected: The names that the framework filled in; such values pass by reference, and are no word of the model.
        call_id: The id that the model gave to the call, if it gave one.
        can_route: Whether the handler of a route can run in the place of the body.
        refusal: A refusal that the integration has reached before; it is recorded as that of this call.
        model: The model that is asked, where a model is called; for version 2 of the record.
        revise: Takes the arguments as obligations changed them, where they are the prompt of a model; raises
            ``ValueError`` where they cannot be sent so. Without it arguments are never changed.
    """

    arguments: Mapping[str, object]
    supplied: Collection[str] | None = None
    injected: Collection[str] = ()
    call_id: str | None = None
    can_route: bool = True
    refusal: Denied | None = None
    model: Model | None = None
    revise: Callable[[Mapping[str, object]], None] | None = None

    @property
    def given(self) -> Collection[str]:
        """The names that the caller gave, also where the request does not say."""
        if self.supplied is not None:
            return self.supplied
        return [name for name in self.arguments if name not in self.injected]


class Judgement(NamedTuple):
    """The decision about a call, and its effect. Frozen; another one takes its place.

    Attributes:
        decision: The decision.
        enforced: What the record says of the deed: ``allow``, ``block``, ``modify``, ``escalate`` or ``audit``.
        denial: The refusal, if it is one.
        argument: The argument that the refusal is about, if it is about one.
    """

    decision: Decision = WITHIN_SCOPE
    enforced: Enforced = "allow"
    denial: Denied | None = None
    argument: str | None = None


_ALLOWED: Final = Judgement()
_UNKNOWN: Final = Action(tool="unknown", kind="unknown")  # Until the guard has described the call.


@final
class Shown:
    """A result whose inspected and digested content differs from the value that the caller gets.

    Args:
        value: What the caller gets, as it is; one that is still going to run is withheld like any result.
        content: What inspectors look at, and what the record has a digest of; ``None`` for nothing.
        failure: Set where the result says by itself that the call has failed: that is then recorded.
        rebuild: Makes the value again of content that the policy had changed; without it such a result is withheld.
        label: A flow label from the source of the result; it only restricts.
    """

    __slots__ = ("content", "failure", "label", "rebuild", "value")

    def __init__(
        self,
        value: object,
        content: object,
        failure: BaseException | None = None,
        rebuild: Callable[[object], object] | None = None,
        label: Label = TRUSTED,
    ) -> None:
        self.label: Final = label
        self.value: Final = value
        self.content: Final = content
        self.failure: Final = failure
        self.rebuild: Final = rebuild

    def delivered(self, content: object) -> object:
        """Return what the caller gets of content that was judged.

        Args:
            content: The content, as it is or changed.
        """
        return self.value if content is self.content or self.rebuild is None else self.rebuild(content)


@final
class Call:
    """One guarded call while it is under way.

    Attributes:
        tool: The tool's name.
        request: What was asked.
        task: The task under which the call runs; ``None`` outside any task (monitor mode only).
        result: For blocks: set it to what the block produced, to have it looked at and digested.
        model: Where a model was called: set it to the one that answered, for version 2 of the record.
    """

    # What was asked and where; what was decided; what the call has taken; where it runs; what is on record of it.
    __slots__ = (
        *("home", "request", "snapshot", "start_ns", "task", "tool", "unchecked"),
        *("channel", "findings", "judgement", "route", "target"),
        *("approval", "reserved"),
        *("_attachment", "context", "marker", "span", "traced"),
        *("_ending", "action", "done", "facts", "intent", "model", "result", "stream", "touched", "transforms"),
        *("flow", "hidden", "label", "limit"),
        *("kept", "masked", "opened", "restored"),
    )

    def __init__(self, tool: str, request: CallRequest, task: Task | None, start_ns: int) -> None:
        self.tool = tool
        self.request = request
        self.task = task
        self.start_ns = start_ns
        self.home = Process.here
        self.snapshot: Arguments | None = None
        self.unchecked = False
        self.judgement = _ALLOWED
        self.findings: dict[Finding, None] = {}  # In order, each once; a stream adds to them for each batch.
        self.route: Callable[[Call], object] | None = None
        self.target: str | None = None
        self.channel: Approval | None = None
        self.approval: str | None = None
        self.reserved: Reservation | None = None
        self.span: CallSpan = trace.INVALID_SPAN
        self.traced = UNTRACED
        self.context: Context | None = None
        self.marker: Body | None = None
        self._attachment: Attachment | None = None
        self.action = _UNKNOWN
        self.facts: CallFacts | None = None
        self.model: Model | None = None
        self.touched: tuple[Touch, ...] | None = None  # Where a function of the tool declares its resources.
        self.transforms: tuple[Transform, ...] = ()
        self.stream: HeldStream | None = None
        self.intent: str | None = None
        self.flow: Judged | None = None
        self.label: Label | None = None
        self.limit: Label = TRUSTED
        self.hidden = False  # What it returns is not shown to the guard.
        self.kept: tuple[Kept, ...] = ()
        self.restored: tuple[Kept, ...] = ()  # What its arguments got for handles.
        self.masked: Arguments | None = None  # The arguments as the model wrote them, with handles.
        self.opened = False
        self.done = False
        self._ending = threading.Lock()
        self.result: object = None

    @property
    def call_id(self) -> str | None:
        """The id that the model gave to the call, if any."""
        return self.request.call_id

    @property
    def decision(self) -> Decision:
        """The decision about the call."""
        return self.judgement.decision

    @property
    def denial(self) -> Denied | None:
        """The refusal of the call, if it was refused."""
        return self.judgement.denial

    @property
    def arguments(self) -> Mapping[str, object]:
        """The checked snapshot of the arguments, by name; read-only. In monitor mode, the arguments as they came."""
        if self.unchecked:
            return MappingProxyType(self.request.arguments)
        return NOTHING if self.snapshot is None else MappingProxyType(self.snapshot.values)

    def judged(self, judgement: Judgement) -> None:
        """Take a judgement in the place of the one before."""
        self.judgement = judgement

    def judge_again(self) -> None:
        """Forget what was decided: something changed before that was on record."""
        self.release()
        self.judgement = _ALLOWED
        self.route = self.target = self.channel = self.flow = None
        self.findings = {}
        self.transforms = ()

    def returned(self, label: Label) -> None:
        """Take in the flow label of something that the call returns."""
        self.label = label if self.label is None else self.label.meet(label)

    def let_run(self) -> None:
        """Have the call run as it came, whatever was decided: monitor mode."""
        self.unchecked = True
        if self.denial is not None or self.route is not None or self.channel is not None:
            self.route = self.channel = None
            self.judged(self.judgement._replace(enforced="audit"))

    def release(self) -> None:
        """Give back what was taken from the limits of the task, once: the call does not run."""
        reserved, self.reserved = self.reserved, None
        if reserved is not None:
            reserved.give_back()

    def conclude(self) -> bool:
        """Know that the call is over, and its body with it.

        Returns:
            Whether it was not over before. A step may still run in a thread when whoever waited for it gives up; one
            of them ends the call, and only that one may say how.
        """
        first = self._ending.acquire(blocking=False)  # Nobody ever waits for it, so that a fork cannot leave it held.
        self.done = True
        if self.marker is not None:
            self.marker.over = True
        return first

    def look_back(self) -> None:
        """Raise again the refusal by which the call has ended, if it has; in monitor mode none ends a call.

        Raises:
            Denied: It has.
        """
        denial = self.judgement.denial
        if self.done and denial is not None and self.judgement.enforced == "block":
            raise denial

    def attach(self) -> None:
        """Make the call's span the current one, and mark what runs as its body, until :meth:`detach`."""
        if self.context is not None:
            self._attachment = Attachment(self.context)

    def detach(self) -> None:
        """Undo :meth:`attach`; idempotent."""
        if self._attachment is not None:
            self._attachment.release()
            self._attachment = None
