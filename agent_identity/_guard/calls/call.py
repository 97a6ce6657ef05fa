"""One call of a guarded tool: its request and its outcome."""

import threading
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, final

from msgspec import Struct, field
from opentelemetry import trace
from opentelemetry.context import Context

from agent_identity._flow.labels import TRUSTED, Label
from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.calls.arguments import Arguments
from agent_identity._guard.calls.limit_debits import Reservation
from agent_identity._guard.calls.stopwatch import Stopwatch
from agent_identity._guard.common.recorded_decisions import WITHIN_SCOPE, is_fact
from agent_identity._guard.tasks.facts import CallFacts
from agent_identity._guard.tasks.judged import Arrived, Judged
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.task_context import Attachment, Body
from agent_identity._guard.tasks.vault import Kept
from agent_identity._guard.telemetry.spans import UNTRACED, CallSpan, Traced
from agent_identity._inspection.held_streams import HeldStream
from agent_identity._policy.decision.decision import Decision
from agent_identity._policy.decision.request import Finding
from agent_identity._policy.decision.resources import Touch
from agent_identity._record.parts import Action, Enforced, Model, Transform
from agent_identity.errors import Denied

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
        model: The model that is asked, where a model is called.
        revise: Takes the arguments as obligations changed them, where they are the prompt of a model; raises
            ``ValueError`` where they cannot be sent so. Without it arguments are never changed.
        turn: What :meth:`GuardedCall.saw` tells when a model asks for the call, where that is not its id; ``None`` of a
            call without an id that no model asks for.
    """

    arguments: Mapping[str, object]
    supplied: Collection[str] | None = None
    injected: Collection[str] = ()
    call_id: str | None = None
    can_route: bool = True
    refusal: Denied | None = None
    model: Model | None = None
    revise: Callable[[Mapping[str, object]], None] | None = None
    turn: str | None = None

    @property
    def asked_in(self) -> str | None:
        """What tells that a model asked for the call in the open task; ``None`` of a call that no model asks for."""
        return self.call_id if self.turn is None else self.turn

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


ALLOWED: Final = Judgement()
"""The judgement of a call about which nothing else was decided."""

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


class Routing(Struct, eq=False):
    """The route of one call; ``None`` unless the policy routes the call.

    Attributes:
        name: The name of the route, for the record.
        channel: The approval channel that the call waits for; ``None`` for a handler, and once it is approved.
        approval: The id of the approval, or of the request for one.
        approver: The id of the person who approved, once that is on record.
    """

    name: str
    channel: Approval | None = None
    approval: str | None = None
    approver: str | None = None


class Execution(Struct, eq=False):
    """The span, contexts and process of one call.

    Attributes:
        around: The context in which the call was made.
        span: The span of the call.
        traced: The ids of the span, for records.
        context: The context of the body, from the intent on.
        marker: The marker of the body in that context; ``None`` outside any task.
        home: The process in which the body may run.
        attachment: The attached context, while the body runs.
        inner: What the body had attached itself when its last step ended, such as a delegation.
    """

    around: Context | None = None
    span: CallSpan = trace.INVALID_SPAN
    traced: Traced = UNTRACED
    context: Context | None = None
    marker: Body | None = None
    home: object = None
    attachment: Attachment | None = None
    inner: tuple[Attachment, ...] = ()


class Inspected(Struct, eq=False):
    """The results of inspection of one call; ``None`` without inspectors.

    Attributes:
        findings: The distinct findings in order; a stream adds those of each batch.
        transforms: The changes that obligations made.
        before: Those that were made before the content that is delivered last.
        stream: The part of a stream that is held back.
    """

    findings: dict[Finding, None] = {}  # msgspec copies it for each value.
    transforms: tuple[Transform, ...] = ()
    before: tuple[Transform, ...] = ()
    stream: HeldStream | None = None


class CallFlow(Struct, eq=False):
    """The information flow of one call; ``None`` if information flow is off.

    Attributes:
        judged: The mark at which the call was judged.
        label: The meet of the labels of its results; ``None`` before the first result.
        limit: The label that the source of the result claims; it only restricts.
        hidden: True if the guard does not see the result of the call.
        arrived: What the outcome is to do to the mark; ``None`` if nothing, or it is on record.
    """

    judged: Judged | None = None
    label: Label | None = None
    limit: Label = TRUSTED
    hidden: bool = False
    arrived: Arrived | None = None

    def returned(self, label: Label) -> None:
        """Meet the label with that of a further result."""
        self.label = label if self.label is None else self.label.meet(label)


class Handles(Struct, eq=False):
    """The kept values of one call; ``None`` if no value is restored in its arguments or kept out of its result.

    Attributes:
        request: The request with the values in place of their handles; ``None`` if it had no handle.
        masked: The arguments as the model wrote them, with handles.
        restored: The values that replaced handles in the arguments.
        kept: The values kept out of its result.
        opened: True once the quarantined results among the restored values count in the mark.
    """

    request: CallRequest | None = None
    masked: Arguments | None = None
    restored: tuple[Kept, ...] = ()
    kept: tuple[Kept, ...] = ()
    opened: bool = False

    def take(self) -> tuple[Kept, ...]:
        """Remove and return the values kept out of a result; the next item of a stream has its own."""
        kept, self.kept = self.kept, ()
        return kept


class TakenUp(NamedTuple):
    """What is remembered of a call that was suspended before. Frozen.

    Attributes:
        hop: The hop at whose mark it was judged; ``None`` without information flow.
        label: That mark.
        sources: The records that lowered that mark, each with its name.
        route: The route to the person who was asked; ``None`` if no one was.
        record: The outcome by which it was suspended.
        is_same: Its arguments are still the same.
    """

    hop: str | None
    label: Label
    sources: Mapping[str, str]
    route: str | None
    record: str | None
    is_same: bool


@final
class Call(Struct, eq=False):
    """One guarded call while it is under way: a frozen request, and its outcome so far.

    Attributes:
        tool: The tool's name.
        request: The request.
        task: The task under which the call runs; ``None`` outside any task (monitor mode only).
        start_ns: The beginning, in nanoseconds since the Unix epoch.
        snapshot: The checked arguments.
        clauses: The clauses of the scope that permit them; ``None`` of a call that is not within it.
        taken_up: What is remembered of it, if it was suspended before.
        unchecked: True if the call runs unchanged whatever the decision is (monitor mode).
        touched: The resources of this call, where a function of the tool declares them.
        judgement: The decision and its effect.
        route: The handler that runs instead of the body, if the policy routes the call to one.
        routing: The route and the approval, if the policy routes the call.
        reserved: The amounts taken from the limits of the task.
        execution: Its span, contexts and process.
        inspected: The results of inspection; ``None`` without inspectors.
        flow: The information flow of the call; ``None`` if information flow is off.
        handles: The kept values of the call, if it has any.
        action: The action member of its records.
        digest: The digest of what the body returned.
        facts: Further members of its intent.
        intent: The id of the intent on record.
        outcome: The id that its outcome gets, if something named it before.
        shown_arguments: The arguments as the span shows them; ``None`` unless it is to show content.
        model: Where a model was called: set it to the one that answered.
        result: For blocks: set it to the result of the block, to have it inspected and digested.
        done: True once the call is over.
        watch: Measures the time that the guard adds; ``None`` if no one observes it.
    """

    tool: str
    request: CallRequest
    task: Task | None
    start_ns: int
    snapshot: Arguments | None = None
    clauses: tuple[str, ...] | None = None
    taken_up: TakenUp | None = None
    unchecked: bool = False
    touched: tuple[Touch, ...] | None = None
    judgement: Judgement = ALLOWED
    route: Callable[["Call"], object] | None = None
    routing: Routing | None = None
    reserved: Reservation | None = None
    execution: Execution = field(default_factory=Execution)
    inspected: Inspected | None = None
    flow: CallFlow | None = None
    handles: Handles | None = None
    action: Action = _UNKNOWN
    digest: str | None = None
    facts: CallFacts | None = None
    intent: str | None = None
    outcome: str | None = None
    shown_arguments: str | None = None
    model: Model | None = None
    result: object = None
    done: bool = False
    watch: Stopwatch | None = None
    _ending: threading.Lock = field(default_factory=threading.Lock)

    def __repr__(self) -> str:
        return f"Call(tool={self.tool!r})"

    @property
    def call_id(self) -> str | None:
        """The id that the model gave to the call, if it gave one that fits into a record."""
        call_id = self.request.call_id
        return call_id if call_id is not None and is_fact(call_id) else None

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
            given = None if self.handles is None else self.handles.request
            return MappingProxyType((given or self.request).arguments)
        return NOTHING if self.snapshot is None else MappingProxyType(self.snapshot.values)

    @property
    def channel(self) -> Approval | None:
        """The approval channel that the call waits for, if it waits for one."""
        return None if self.routing is None else self.routing.channel

    @property
    def approval(self) -> str | None:
        """The id of the approval, or of the request for one, if the call needs any."""
        return None if self.routing is None else self.routing.approval

    @approval.setter
    def approval(self, approval: str | None) -> None:
        if self.routing is not None:
            self.routing.approval = approval

    @property
    def restored(self) -> tuple[Kept, ...]:
        """The kept values that replaced handles in the arguments."""
        return () if self.handles is None else self.handles.restored

    @property
    def displayed(self) -> Arguments | None:
        """The checked arguments to show to people, as the model wrote them: with handles for kept values."""
        masked = None if self.handles is None else self.handles.masked
        return masked or self.snapshot

    def inspection(self) -> Inspected:
        """Return the results of inspection to add to; create them if the call has none."""
        if self.inspected is None:
            self.inspected = Inspected()
        return self.inspected

    def judged(self, judgement: Judgement) -> None:
        """Take a judgement in the place of the one before."""
        self.judgement = judgement

    def let_pass(self) -> None:
        """Note that the approval was given, so the call no longer waits."""
        if self.routing is not None:
            self.routing.channel = None

    def approved_by(self, approver: str) -> None:
        """Note the person who approved, once that is on record."""
        if self.routing is not None:
            self.routing.approver = approver

    def judge_again(self) -> None:
        """Forget what was decided: something changed before that was on record."""
        self.release()
        self.judgement = ALLOWED
        self.route = self.routing = self.inspected = self.flow = None

    def let_run(self) -> None:
        """Have the call run as it came, whatever was decided: monitor mode."""
        self.unchecked = True
        if self.judgement.denial is not None or self.route is not None or self.channel is not None:
            self.route = None
            self.let_pass()
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
        first = self._ending.acquire(blocking=False)  # No one ever waits for it, so that a fork cannot leave it held.
        self.done = True
        marker = self.execution.marker
        if marker is not None:
            marker.over = True
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
        """Make the call's span the current one, and mark what runs as its body, until :meth:`detach`.

        A further step of a body goes on in the tasks and blocks in which its last one ended.
        """
        execution = self.execution
        if execution.context is not None:
            execution.attachment = Attachment(execution.context).attach()
            inner, execution.inner = execution.inner, ()
            for attachment in inner:
                attachment.attach_again()

    def detach(self) -> None:
        """Undo :meth:`attach`; idempotent."""
        attachment, self.execution.attachment = self.execution.attachment, None
        if attachment is not None:
            self.execution.inner = attachment.release()
