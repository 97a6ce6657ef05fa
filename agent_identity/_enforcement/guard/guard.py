"""The guard: one order of checks for every kind of callable.

For each call: the arguments are snapshotted; the task must live and its grant must cover tool and
arguments; inspectors look at them; the policy decides; the intent is in the ledger; only then the body
runs; its outcome is recorded, signed and copied to a span. Whatever fails on the way to the body, the
guard's own defects included, refuses the call.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, NoReturn, TypeAlias, cast, final

from opentelemetry import context as otel

from agent_identity._enforcement.approvals import Held
from agent_identity._enforcement.calls import (
    NOTHING,
    Approval,
    BadArgumentsError,
    Call,
    CallRequest,
    Judgement,
    Limits,
    blocked_by,
    capture,
    is_fact,
)
from agent_identity._enforcement.common import error_type, failure, safe_message
from agent_identity._enforcement.guard.context import EnforcementContext
from agent_identity._enforcement.guard.draft_facts import Workflow
from agent_identity._enforcement.guard.evaluator import PolicyEvaluator, ground_of, refusal_of
from agent_identity._enforcement.guard.record_builder import Description
from agent_identity._enforcement.tasks import Process, Task
from agent_identity._enforcement.telemetry import AdoptedSpan, in_context
from agent_identity._evidence.ledger import Entry
from agent_identity._evidence.record import Ending
from agent_identity._policy import RuleSet
from agent_identity._policy.decision import Decision, Effect, Tool
from agent_identity.errors import (
    AgentIdentityError,
    ContentBlocked,
    Denied,
    EvidenceError,
    NoTask,
    OutOfScope,
    PolicyBlocked,
    Routed,
)

__all__ = ["Guard", "Leaving"]

Leaving: TypeAlias = tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Exceptions by which a body leaves that did not fail: their classes, or what tells for each."""

_LOG: Final = logging.getLogger("agent_identity")
_CANCELLED: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)


@final
class Guard:
    """Guards one tool of one enforcement point.

    Args:
        point: The enforcement point.
        tool: What the policy may know about the tool.
        data: Labels of the data that the tool touches; ``None`` if nobody said.
        suspends: Exceptions by which a body leaves to be called again, as for an interrupt.
        returns: Exceptions that carry a result in place of an error, as a handoff does.
        place: Names the place in which a call is made; a suspended call is made again in the same place.
        workflow: Names the run of the framework in which a call is made; for version 2 of the record.

    Raises:
        TypeError: ``suspends`` or ``returns`` are no exceptions, or ``place`` or ``workflow`` no function.

    Attributes:
        tool: See above.
        data: See above.
        slow: Whether code of others looks at a call, which may take time.
    """

    __slots__ = (
        *("_ask", "_attributes", "_limits", "_name", "_point", "_returns", "_suspends", "_told"),
        *("data", "slow", "tool"),
    )

    def __init__(
        self,
        point: EnforcementContext,
        tool: Tool,
        *,
        data: tuple[str, ...] | None = None,
        suspends: Leaving = (),
        returns: Leaving = (),
        place: Callable[[], str] | None = None,
        workflow: Workflow | None = None,
    ) -> None:
        for name, function in (("place", place), ("workflow", workflow)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} is {type(function).__name__}; give a function without arguments")
        self.tool = tool
        self.data = data
        self._point = point
        self._ask = PolicyEvaluator(point, tool, data)
        # Code of others takes time, so that all is asked again. Rules are like constraints: compiled, ours, and quick.
        self.slow = bool(point.inspectors) or not (point.policy is None or type(point.policy) is RuleSet)
        if workflow is not None and point.pseudonyms is not None and point.ledger.drafts:
            self.slow = True  # Its pseudonym is in a file, which is read each time.
        self._suspends = _check_leaving(suspends, "suspends")
        self._returns = _check_leaving(returns, "returns")
        self._limits = Limits(point.state, point.clock, tool.name, resumable=bool(suspends), place=place)
        self._told = Description(point, tool, workflow)
        self._name = f"execute_tool {tool.name}"
        # Whatever decides on a span when it starts needs these two; the rest is set off the caller's path.
        self._attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool.name}

    @property
    def point(self) -> EnforcementContext:
        """The enforcement point that this guard belongs to."""
        return self._point

    def judge(self, request: CallRequest) -> Call:
        """Judge a call, and record its intent unless it needs an approval first.

        The body must not run before :meth:`settle` has returned. If ``call.route`` is set, that handler runs in its
        place.

        Args:
            request: What is asked.

        Raises:
            Denied: The call is refused; the refusal is in the ledger.
            EvidenceError: Intent or refusal could not be recorded; the body must not run.
        """
        try:
            call = self._judged(request)
            denial = call.judgement.denial
            if denial is None or call.judgement.enforced != "block":  # In monitor mode it runs in spite of one.
                return call
            refusal = self._refuse(call, denial)
        except AgentIdentityError:
            raise
        except Exception as error:  # noqa: BLE001 - As in _decide: whatever our own defect is, the body does not run.
            _LOG.error("the guard of %s failed, the call is refused: %s", self.tool.name, safe_message(error))
            why = f"{self.tool.name}: not recorded, and therefore not run: {failure('the guard', error)}"
            raise EvidenceError(why, code="guard_failed") from None
        raise refusal

    def _judged(self, request: CallRequest) -> Call:
        """Return the call with what was decided; one that may run at once is on record then."""
        point, attributes, call_id = self._point, self._attributes, request.call_id
        if call_id is not None:
            if is_fact(call_id):
                attributes = {**attributes, "gen_ai.tool.call.id": call_id}
            else:  # It comes from a model, decides nothing, and this one fits into no record.
                request = request._replace(call_id=None)
        around = otel.get_current()  # Once, because each look at it goes through four calls.
        call = Call(self.tool.name, request, point.ambience.current(around), point.clock.wall_ns())
        call.span, call.traced = point.spans.start_call(self.tool.name, self._name, attributes, call.start_ns, around)
        try:
            self._decide(call)
            self._describe(call)
            if point.mode == "monitor":
                call.let_run()
            if call.judgement.enforced == "block":
                call.release()
            elif call.desk is None:
                self._intend(call)
        except BaseException:
            point.spans.abandon(call.span)
            call.release()
            raise
        return call

    def settle(self, call: Call, decide: Callable[[], Held] | None = None) -> None:
        """Wait for the approval that the call needs, if it needs one, and record its intent.

        Args:
            call: The call.
            decide: Returns the approval, or raises; by default the approval is asked for here.

        Raises:
            Denied: There is none; the refusal is in the ledger.
            EvidenceError: Something could not be recorded; the body must not run.
        """
        desk = call.desk
        if desk is None:
            return
        with self._settling(call):
            held = self._point.approvals.decide(call, desk) if decide is None else decide()
            self._go_on(call, desk, held)

    def withdraw(self, call: Call) -> None:
        """Record that whoever made the call gave up while it was judged: its body does not run."""
        if not call.done:
            code = "call_cancelled" if call.desk is None and call.approval is None else "approval_cancelled"
            call.release()
            self._deny(call, Denied(f"{self.tool.name}: cancelled while it waited", code=code))
            self._finish(call, "denied", code)

    @contextmanager
    def _settling(self, call: Call) -> Generator[None]:
        """Refuse the call if what happens within fails; a call that is suspended is to be made again."""
        try:
            yield
        except Denied as denied:
            answer = denied
        except EvidenceError:
            self._point.spans.abandon(call.span)
            call.release()
            raise
        except BaseException as error:
            call.release()
            if call.desk is not None and isinstance(error, call.desk.suspends):
                call.conclude()
                self._conclude(call, "suspended", None)
                raise
            if isinstance(error, Exception):
                _LOG.error("asking for an approval of %s failed: %s", self.tool.name, safe_message(error))
                answer = Denied(f"{self.tool.name}: {failure('asking for an approval', error)}", code="approval_failed")
            else:
                self.withdraw(call)
                raise
        else:
            return
        call.release()
        answer.decision = refusal_of(call.judgement.decision, answer)
        self._deny(call, answer)
        raise self._refuse(call, answer) from None

    def _go_on(self, call: Call, desk: Approval, held: Held) -> None:
        """Judge again what took time to be approved, use the approval, and record the intent (threats AC-63)."""
        point, task, snapshot = self._point, call.task, call.snapshot
        if task is None or snapshot is None:
            raise NoTask(f"{self.tool.name}: expected an open task, got none")
        point.check(task)
        again = self._ask.decide(self._ask.request(snapshot.view, task, call.findings, "call"), self._told.known[0])
        if ground_of(again) != ground_of(call.judgement.decision):
            message = f"{self.tool.name}: expected the decision that was approved, got another one since; call again"
            raise Denied(message, code="approval_stale", decision=again)
        if task.limits:
            call.reserved = self._limits.reserve(task, snapshot, call.request.call_id)
            point.look_again(call)  # Before the approval is used up.
        point.approvals.take_up(call, desk, held)
        point.look_again(call)
        call.desk = None
        call.judged(Judgement(call.judgement.decision))
        self._intend(call)

    def refuse(self, arguments: Mapping[str, object], denied: Denied, task: Task | None = None) -> Denied:
        """Record a refusal that was reached without the guard, and return it for raising.

        Args:
            arguments: What is known of the call, by name; the record holds a digest of it.
            denied: The refusal.
            task: The task that it is a part of; ``None`` for one outside any task.

        Raises:
            EvidenceError: It could not be recorded.
        """
        request = CallRequest(arguments)
        call = Call(self.tool.name, request, task, self._point.clock.wall_ns())
        start = self._point.spans.start_call
        call.span, call.traced = start(self.tool.name, self._name, self._attributes, call.start_ns)
        try:
            with suppress(BadArgumentsError):
                call.snapshot = capture(arguments, arguments.keys())
            self._deny(call, denied)
            self._told.describe(call)
        except BaseException:
            self._point.spans.abandon(call.span)
            raise
        return self._refuse(call, denied)

    def _decide(self, call: Call) -> None:
        """Reach a decision; leave the refusal, if any, in the judgement of the call."""
        point, request = self._point, call.request
        try:
            # First the snapshot: even a call outside any task is recorded with what it asked for.
            supplied = _supplied(request) if request.supplied is None else request.supplied
            arguments = call.snapshot = capture(request.arguments, supplied, request.injected)
            task = call.task
            if task is None or request.refusal is not None:
                self._refuse_early(task, request.refusal)
            point.check(task)
            task.chain.grants[-1].scope.check(self.tool.name, arguments.view, arguments.supplied)
            if point.inspectors:
                call.findings = self._ask.inspect("input", arguments.view)
            self._consult(call, arguments.view, task)
            if self.slow or not task.lease.live:
                point.check(task)  # It may have ended meanwhile; inspectors and policies may end it themselves.
            if task.limits and call.route is None and call.desk is None:
                call.reserved = self._limits.reserve(task, arguments, request.call_id)
        except Denied as denied:
            self._deny(call, denied)
        except BadArgumentsError as error:
            self._deny(call, Denied(f"{self.tool.name}: {error}", code="bad_arguments"), error.argument)
        except Exception as error:  # noqa: BLE001 - Authority fails closed: a defect of ours refuses the call.
            self._deny_failed(call, error)

    def _describe(self, call: Call) -> None:
        """Fill in what both records say; then, as everything that may wait is over, look at the task once more."""
        try:
            self._told.describe(call)
            self._point.look_again(call)
        except Denied as denied:
            self._deny(call, denied)
        except Exception as error:  # As in _decide: what is not described does not run.
            if self._point.mode == "enforce" and isinstance(error, EvidenceError):
                raise
            self._deny_failed(call, error)

    def _refuse_early(self, task: Task | None, refusal: Denied | None) -> NoReturn:
        if task is not None:
            self._point.check(task)
        missing = f"{self.tool.name}: expected an open task of this enforcer, {self._point.ambience.missing()}"
        raise NoTask(missing) if task is None or refusal is None else refusal

    def _consult(self, call: Call, view: Mapping[str, object], task: Task) -> None:
        point = self._point
        if point.policy is None:
            return
        decision = self._ask.decide(self._ask.request(view, task, call.findings, "call"), self._told.known[0])
        call.judged(Judgement(decision))
        if decision.effect is Effect.BLOCK:
            raise PolicyBlocked(blocked_by(decision, self.tool.name), code=decision.reason, decision=decision)
        if decision.effect is Effect.ROUTE:
            handler = point.routes.get(decision.route or "")
            call.target = decision.route or "unnamed"
            if isinstance(handler, Approval):
                call.desk = handler
                call.judged(Judgement(decision, "escalate"))
                return
            if handler is None:
                message = f"{self.tool.name}: routed, and no handler has that name; pass routes={{...}} to the enforcer"
                raise Routed(message, code="route_unavailable", decision=decision)
            if not call.request.can_route:
                raise Routed(f"{self.tool.name}: routed elsewhere; this call did not run", decision=decision)
            call.route = handler
            call.judged(Judgement(decision, "escalate"))

    def _deny(self, call: Call, denied: Denied, argument: str | None = None) -> None:
        if not isinstance(denied.decision, Decision):
            denied.decision = Decision(effect=Effect.BLOCK, reason=denied.code)
        if isinstance(denied, OutOfScope):
            argument = denied.argument
        elif argument is None:
            argument = call.judgement.argument
        call.judged(Judgement(denied.decision, "block", denied, argument))

    def _deny_failed(self, call: Call, error: Exception) -> None:
        _LOG.error("the guard of %s failed, the call is refused: %s", self.tool.name, safe_message(error))
        self._deny(call, Denied(f"{self.tool.name}: {failure('the guard', error)}", code="guard_failed"))

    def _intend(self, call: Call) -> None:
        """Write the intent: no evidence, no action."""
        try:
            call.intent = self._point.ledger.append(self._told.intent(call)).id
        except EvidenceError:
            if self._point.mode == "enforce":
                raise
            _LOG.warning("monitor mode: %s runs without an intent record", self.tool.name)
        else:
            if call.task is not None:
                call.task.tally.intent()
        call.context, call.marker = self._point.ambience.running(call.task, in_context(call.span))

    def _refuse(self, call: Call, denied: Denied) -> Denied:
        """Record a refusal and return it for raising."""
        call.conclude()
        routed = isinstance(denied, Routed) and denied.code == Routed.default_code
        try:
            entry = self._conclude(call, "routed" if routed else "denied", None if routed else denied.code)
        except BaseException:
            self._point.spans.abandon(call.span)
            raise
        if entry is not None:
            denied.reference = entry.id
        return denied

    def check(self, call: Call) -> None:
        """Check before a resume of a generator that the task still lives, and in this process.

        Raises:
            Denied: It does not; the refusal is recorded and the call is over. Of a call that was over before, there is
                no further record.
        """
        call.look_back()
        if self._point.mode == "monitor" or call.task is None:
            return
        try:
            if not self._point.ambience.sees(call.context):
                call.intent = None  # It stays with the process that this one was forked from.
                raise NoTask(
                    f"{self.tool.name}: expected to go on in the process that began the call, got a fork of it"
                )
            self._point.check(call.task)
        except Denied as denied:
            raise self._end_by(call, denied) from None

    def _end_by(self, call: Call, denied: Denied) -> Denied:
        """End a call by a refusal and return it for raising; a call that is over keeps the end that it had."""
        if not call.conclude():
            return denied
        self._deny(call, denied)
        return self._refuse(call, denied)

    def succeed(self, call: Call, result: object = None) -> None:
        """Record that the body (or the route's handler) returned.

        Raises:
            ContentBlocked: The policy withholds what an inspector found in the result. The body ran.
        """
        if call.done:
            return
        blocked = self._judge_result(call, result) if self._point.inspectors else None
        self._told.describe_result(call, result)
        if blocked is not None:
            raise self._end_by(call, blocked)
        self._finish(call, "routed" if call.route is not None else "success", None)

    def emit(self, call: Call, item: object) -> None:
        """Judge one item of a generator before the consumer gets it.

        Raises:
            ContentBlocked: The policy withholds what an inspector found in it; the call is over.
            Denied: The call had ended by a refusal before.
        """
        call.look_back()
        blocked = self._judge_result(call, item)
        if blocked is not None:
            raise self._end_by(call, blocked)

    def _judge_result(self, call: Call, result: object) -> ContentBlocked | None:
        """Return the refusal of a result that the policy withholds; monitor mode notes it, and withholds nothing."""
        if not self._point.inspectors:
            return None
        try:
            findings = self._ask.inspect("output", result)
            if not findings:
                return None
            call.findings = tuple(dict.fromkeys((*call.findings, *findings)))
            snapshot = call.snapshot
            view = NOTHING if snapshot is None else snapshot.view
            decision = self._ask.decide(self._ask.request(view, call.task, findings, "result"), self._told.known[0])
        except Exception as error:  # noqa: BLE001 - What could not be inspected is withheld.
            decision = Decision(effect=Effect.BLOCK, reason="inspection_failed", why=error_type(error))
        if decision.effect in (Effect.ALLOW, Effect.WARN):
            return None
        blocked = ContentBlocked(blocked_by(decision, self.tool.name), code="content_blocked", decision=decision)
        if self._point.mode == "enforce":
            return blocked
        self._deny(call, blocked)
        call.judged(call.judgement._replace(enforced="audit"))
        return None

    def fail(self, call: Call, error: BaseException, code: str | None = None) -> None:
        """Record that the body raised, by the class of the error or a code; the caller re-raises."""
        if call.done:
            return
        if self._suspends and self._leaves(error, self._suspends, "suspends"):
            self.suspend(call)
        elif self._returns and self._leaves(error, self._returns, "returns"):
            self._finish(call, "success", None)
        else:
            self._finish(call, "cancelled" if isinstance(error, _CANCELLED) else "error", code or error_type(error))

    def _leaves(self, error: BaseException, leaving: Leaving, what: str) -> bool:
        """Tell whether a body left by an error without having failed; whoever cannot tell does not say so."""
        try:
            return isinstance(error, leaving) if isinstance(leaving, tuple) else bool(leaving(error))
        except Exception as trap:  # noqa: BLE001 - Code of others; the error of the body is what has to come out.
            _LOG.error("%s= of %s failed, and the call counts as failed: %s", what, self.tool.name, safe_message(trap))
            return False

    def suspend(self, call: Call) -> None:
        """Record that the body left to be called again; what the call has is left to itself.

        Args:
            call: The call.
        """
        if call.done:
            return
        if call.reserved is not None:
            call.reserved.suspend()
        self._point.approvals.leave(call)
        self._finish(call, "suspended", None)

    def _finish(self, call: Call, outcome: Ending, error: str | None) -> None:
        """Record an outcome; the act happened, so a failure to record it must not hide its result."""
        if not call.conclude():
            return
        try:
            self._conclude(call, outcome, error)
        except Exception as failure:  # noqa: BLE001 - See above; the intent stays open, which the verifier reports.
            self._point.spans.abandon(call.span)
            # One line without a trace, because a trace shows the texts of the exceptions before this one.
            _LOG.error("the outcome of %s could not be recorded: %s", self.tool.name, safe_message(failure))

    def _conclude(self, call: Call, outcome: Ending, error: str | None) -> Entry | None:
        """Append the outcome of a call that is over, and let the sealing thread sign it and end the span."""
        if call.home is not Process.here and call.intent is not None:
            # Forked inside the body: the process that began the call concludes it, and its span (ADR 0004).
            _LOG.info("%s: a forked child leaves the outcome to its parent", self.tool.name)
            return None
        point = self._point
        end_ns = max(point.clock.wall_ns(), call.start_ns)
        first = call.intent is None
        if type(call.span) is AdoptedSpan and point.spans.lacks(call.span):
            call.span, call.traced = point.spans.regain(call.span, self._name, self._attributes, call.start_ns)
            first = True
        span = call.span
        record = self._told.outcome(call, outcome, error or None, end_ns, first=first)
        detail = self._told.detail(call, end_ns)
        finish = partial(point.spans.finish, span, end_ns=end_ns)
        if not point.spans.records(span):
            entry = point.ledger.append(record, detail=detail)
            point.spans.abandon(span)
        elif point.inline or type(span) is AdoptedSpan:
            entry = point.ledger.append(record, detail=detail)
            finish(entry)
        else:
            entry = point.ledger.append(record, detail=detail, after=finish)
        if call.task is not None:
            call.task.tally.outcome(of_intent=call.intent is not None)
        return entry


def _supplied(request: CallRequest) -> Collection[str]:
    """Return the names that the caller gave, where the request does not say."""
    return [name for name in request.arguments if name not in request.injected]


def _check_leaving(leaving: Leaving, what: str) -> Leaving:
    """Return which exceptions are no errors, if they are classes of exceptions in a tuple, or what tells for each.

    Raises:
        TypeError: They are neither.
    """
    given = cast("object", leaving)
    if callable(given) and not isinstance(given, type):
        return leaving
    kinds = cast("tuple[object, ...]", given) if isinstance(given, tuple) else (None,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise TypeError(f"expected {what} as classes of exceptions in a tuple, or a function of an exception")
    return leaving
