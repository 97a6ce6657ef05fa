"""The guard: one order of checks for every kind of callable."""  # budget: the order is one idea, read at one sitting

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Final, NoReturn, final

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan

from agent_identity._guard.approvals.records import Held
from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.calls.arguments import Arguments, BadArgumentsError, capture
from agent_identity._guard.calls.call import Call, CallRequest, Inspected, Judgement
from agent_identity._guard.calls.limit_debits import Limits
from agent_identity._guard.calls.stopwatch import Stopwatch
from agent_identity._guard.common.failures import error_type, failure, safe_message
from agent_identity._guard.common.leaving import Leaving, check_leaving, leaves, says_something
from agent_identity._guard.judging._evaluator import PolicyEvaluator, ground_of, refusal_of, take_effect
from agent_identity._guard.judging._kept_values import restore
from agent_identity._guard.judging._results import Delivery, Rebuild, Results, StreamDelivery
from agent_identity._guard.judging._resumed_calls import ResumedCalls, Thread
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.judging.record_builder import RecordBuilder, Workflow
from agent_identity._guard.judging.span_facts import SpanFacts, SpanOptions
from agent_identity._guard.judging.tool_flow import DeclaredFlow, Delivered, ToolFlow
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.task_context import Process
from agent_identity._guard.telemetry.foreign_spans import AdoptedSpan
from agent_identity._ledger.sealer import After
from agent_identity._ledger.writer import Entry
from agent_identity._policy.composed import is_built_in
from agent_identity._policy.decision.decision import Decision, Effect
from agent_identity._policy.decision.request import Tool
from agent_identity._policy.decision.resources import CallTouches
from agent_identity._record.parts import Ending
from agent_identity._record.schema import Detail, Outcome
from agent_identity.errors import (
    AgentIdentityError,
    ContentBlocked,
    Denied,
    EvidenceError,
    NoTask,
    OutOfScope,
    Routed,
)

_LOG: Final = logging.getLogger("agent_identity")
_TRIES: Final = 8
"""Judgements of one call under which the mark of its task may move."""

_FINISHED_HERE: Final = (AdoptedSpan, NonRecordingSpan)
"""Types of spans that their owner may end at once, and of spans that are not recorded."""

_CANCELLED: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)


@final
class Guard:
    """Guards one tool of one enforcement point.

    For each call: the arguments are snapshotted; the task must live and its grant must cover tool and arguments;
    inspectors look at them; the policy decides, at the mark of the task; the intent is in the ledger; only then the
    body runs; what its result does to the mark is recorded, then its outcome, signed and copied to a span. Whatever
    fails on the way to the body, the guard's own defects included, refuses the call.

    Args:
        enforcement: The enforcement point.
        tool: What the policy may know about the tool.
        data: Labels of the data that the tool touches; ``None`` if no one said.
        suspends: Exceptions by which a body leaves to be called again, as for an interrupt.
        returns: Exceptions that carry a result in place of an error, as a handoff does.
        place: Names the place in which a call is made; a suspended call is made again in the same place.
        workflow: Names the run of the framework in which a call is made.
        thread: Names the thread of the framework in which a call is made.
        flow: What the code declares of the results and the destinations of the tool.
        touching: Functions that declare further resources of each call.
        spans: What the spans of its calls show beside their records.

    Raises:
        TypeError: ``suspends`` or ``returns`` are no exceptions, or ``place``, ``workflow`` or ``thread`` no function.

    Attributes:
        enforcement: The enforcement point that this guard belongs to.
        tool: See above.
        data: See above.
        declared: What the code declares of its flow.
        slow: Whether code of others looks at a call, which may take time.
        inspects: Whether results are inspected.
        inspects_slowly: Whether that may take time, so that it never takes place on an event loop.
    """

    __slots__ = (
        *(
            "_ask",
            "_attributes",
            "_flow",
            "_limits",
            "_name",
            "enforcement",
            "_restores",
            "_results",
            "_resumed",
            "_returns",
        ),
        *("_shown", "_suspends", "_records", "_touching"),
        *("data", "declared", "inspects", "inspects_slowly", "slow", "tool"),
    )

    def __init__(
        self,
        enforcement: EnforcementContext,
        tool: Tool,
        *,
        data: tuple[str, ...] | None = None,
        suspends: Leaving = (),
        returns: Leaving = (),
        place: Callable[[], str] | None = None,
        workflow: Workflow | None = None,
        thread: Thread | None = None,
        flow: DeclaredFlow | None = None,
        touching: tuple[CallTouches, ...] = (),
        spans: SpanOptions | None = None,
    ) -> None:
        for name, function in (("place", place), ("workflow", workflow), ("thread", thread)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} is {type(function).__name__}; give a function without arguments")
        self.tool, self.data, self.declared = tool, data, flow or DeclaredFlow()
        self.enforcement: Final = enforcement
        self._ask = PolicyEvaluator(enforcement, tool, data)
        # Code of others takes time, so that all is asked again. Rules are like constraints: compiled, ours, and quick.
        self.inspects, self.inspects_slowly = self._ask.inspects, self._ask.inspects and self._ask.waits
        self.slow = self._ask.waits or not is_built_in(enforcement.policy) or bool(touching)
        self._touching = touching
        if workflow is not None and enforcement.pseudonyms is not None:
            self.slow = True  # Its pseudonym is in a file, which is read each time.
        self._suspends = check_leaving(suspends, "suspends")
        self._returns = check_leaving(returns, "returns")
        state, clock, spent = enforcement.state, enforcement.clock, enforcement.spent
        self._limits = Limits(state, clock, tool.name, resumable=bool(suspends), place=place, spent=spent)
        self._resumed = ResumedCalls(enforcement, tool.name, thread, resumable=bool(suspends))
        # Without a policy that asks about it, nothing of information flow is computed.
        self._flow = None if enforcement.flows is None else ToolFlow(tool, enforcement.policy, self.declared)
        self._restores = dict(self.declared.restores)
        self._records = RecordBuilder(enforcement, tool, workflow, endorses=self.endorses)
        self._results = Results(enforcement, tool.name, self._ask, self._records)
        self._shown = SpanFacts(tool.name, self._ask, spans or SpanOptions(), captures=enforcement.spans.shows_content)
        self._name = f"execute_tool {tool.name}"
        # Whatever decides on a span when it starts needs these two; the rest is set off the caller's path.
        self._attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool.name}

    @property
    def endorses(self) -> bool:
        """True if results have the declared flow label whatever the mark of the task is."""
        return self._flow is not None and self._flow.endorses

    @property
    def declares_by_call(self) -> bool:
        """True if functions of the application declare resources of each call."""
        return bool(self._touching)

    @property
    def knows_threads(self) -> bool:
        """True if the framework names the thread of a call, whose mark goes on in later tasks."""
        return self._resumed.knows_threads

    def asks_state(self, request: CallRequest) -> bool:
        """Return whether the shared state is asked about suspended calls and threads when a call is judged."""
        return self._resumed.is_asked(request)

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
                if call.watch is not None:
                    call.watch.stop()
                return call
            refusal = self._record_refusal(call, denial)
        except AgentIdentityError:
            raise
        except Exception as error:  # noqa: BLE001 - As in _decide: whatever our own defect is, the body does not run.
            _LOG.error("the guard of %s failed, the call is refused: %s", self.tool.name, safe_message(error))
            why = f"{self.tool.name}: not recorded, and therefore not run: {failure('the guard', error)}"
            raise EvidenceError(why, code="guard_failed") from None
        raise refusal

    def _judged(self, request: CallRequest) -> Call:
        """Return the call with what was decided; one that may run at once is on record then."""
        enforcement, attributes, around = self.enforcement, self._attributes, otel.get_current()
        call = Call(self.tool.name, request, enforcement.task_context.current(around), enforcement.clock.wall_ns())
        if request.call_id is not None and (call_id := call.call_id) is not None:
            attributes = {**attributes, "gen_ai.tool.call.id": call_id}
        if enforcement.timings.observers:
            call.watch = Stopwatch(enforcement.clock)
        run = call.execution
        run.around = around
        run.span, run.traced = enforcement.spans.start_call(
            self.tool.name, self._name, attributes, call.start_ns, around
        )
        try:
            for _ in range(_TRIES):
                if self._reach(call):
                    return call
                call.judge_again()
            self._give_up(call)
        except BaseException:
            enforcement.spans.end_unsigned(run.span)
            call.release()
            raise
        return call

    def _reach(self, call: Call) -> bool:
        """Decide about a call, and record its intent if it may run at once; return whether that is valid.

        It is not if the mark of the task moved meanwhile.
        """
        enforcement = self.enforcement
        self._decide(call)
        try:  # Nothing after the description blocks, so the task is checked again here.
            self._records.describe(call)
            enforcement.look_again(call)
        except Denied as denied:
            self._set_denial(call, denied)
        except Exception as error:  # As in _decide: a call that cannot be described does not run.
            if enforcement.mode == "enforce" and isinstance(error, EvidenceError):
                raise
            self._deny_failed(call, error)
        if enforcement.mode == "monitor":
            call.let_run()
        if call.judgement.enforced == "block":
            call.release()
            return True
        if call.routing is not None and call.routing.channel is not None:
            return True
        try:
            return self._intend(call)
        except Denied as denied:  # The task ended after it was looked at.
            self._set_denial(call, denied)
            call.release()
            return True

    def _give_up(self, call: Call) -> None:
        """Refuse a call under whose judgements the mark moved again and again."""
        message = f"{self.tool.name}: the inputs of the task change faster than a call can be judged; call again"
        self._set_denial(call, Denied(message, code="mark_moved"))
        if self.enforcement.mode == "monitor":
            call.let_run()
            self._intend(call)

    def channel_of(self, request: CallRequest) -> Approval | None:
        """Return the approval channel to which the policy would route a call now; nothing is recorded.

        For frameworks that ask before they make a call whether a person has to approve it. The call is judged again.

        Args:
            request: What would be asked.
        """
        call = Call(self.tool.name, request, self.enforcement.task_context.current(), self.enforcement.clock.wall_ns())
        try:
            self._decide(call)
            return call.channel
        finally:
            call.release()

    def settle(self, call: Call, decide: Callable[[], Held] | None = None) -> None:
        """Wait for the approval that the call needs, if it needs one, and record its intent.

        Args:
            call: The call.
            decide: Returns the approval, or raises; by default the approval is asked for here.

        Raises:
            Denied: There is none; the refusal is in the ledger.
            EvidenceError: Something could not be recorded; the body must not run.
        """
        channel = call.channel
        if channel is None:
            return
        with self._settling(call):
            held = self.enforcement.approvals.decide(call, channel) if decide is None else decide()
            with _measured(call):
                self._go_on(call, channel, held)

    def withdraw(self, call: Call) -> None:
        """Record that whoever made the call gave up while it was judged: its body does not run."""
        if not call.done:
            code = "call_cancelled" if call.channel is None and call.approval is None else "approval_cancelled"
            call.release()
            self._set_denial(call, Denied(f"{self.tool.name}: cancelled while it waited", code=code))
            self._finish(call, "denied", code)

    @contextmanager
    def _settling(self, call: Call) -> Generator[None]:
        """Refuse the call if what happens within fails; a call that is suspended is to be made again."""
        try:
            yield
        except Denied as denied:
            answer = denied
        except EvidenceError:
            self.enforcement.spans.end_unsigned(call.execution.span)
            call.release()
            raise
        except BaseException as error:
            call.release()
            if call.channel is not None and isinstance(error, call.channel.suspends):
                unkept = self._resumed.keep(call)
                if unkept is None:
                    self._record_suspended(call)
                    raise
                answer = unkept
            elif isinstance(error, Exception):
                _LOG.error("asking for an approval of %s failed: %s", self.tool.name, safe_message(error))
                answer = Denied(f"{self.tool.name}: {failure('asking for an approval', error)}", code="approval_failed")
            else:
                self.withdraw(call)
                raise
        else:
            return
        call.release()
        answer.decision = refusal_of(call.judgement.decision, answer)
        self._set_denial(call, answer)
        raise self._record_refusal(call, answer) from None

    def _record_suspended(self, call: Call) -> None:
        call.conclude()
        try:
            self._record_outcome(call, "suspended", None)
        except BaseException:
            self.enforcement.spans.end_unsigned(call.execution.span)
            raise

    def _go_on(self, call: Call, channel: Approval, held: Held) -> None:
        """Judge again what took time to be approved, use the approval, and record the intent (threats AC-63)."""
        enforcement, task, snapshot = self.enforcement, call.task, call.snapshot
        if task is None or snapshot is None:
            raise NoTask(f"{self.tool.name}: no task is open")
        enforcement.check(task)
        with task.flow.lock if self._flow is not None and task.flow is not None else nullcontext():
            asked = None if call.flow is None else call.flow.judged
            if self._resumed.remembers:
                self._resumed.look(call, task)
            facts = None if self._flow is None else self._flow.look(call, task, snapshot)
            found = () if call.inspected is None else tuple(call.inspected.findings)
            request = self._ask.request(snapshot.view, task, found, "call", facts, touched=call.touched)
            again = self._resumed.bound(call, self._ask.decide(request, self._records.known.decision))
            same = ground_of(again) == ground_of(call.judgement.decision)
            if not same or (asked is not None and (call.flow is None or not asked.covers(call.flow.judged))):
                message = f"{self.tool.name}: what was approved has changed, the decision or its inputs; ask again"
                raise Denied(message, code="approval_stale", decision=again)
            if task.limits:
                call.reserved = self._limits.reserve(task, snapshot, call.call_id)
                enforcement.look_again(call)  # Before the approval is used up.
            enforcement.approvals.take_up(call, channel, held, look_again=enforcement.look_again)
            enforcement.look_again(call)
            call.let_pass()
            call.judged(Judgement(call.judgement.decision))
            if not self._intend(call):  # Code of others that was asked meanwhile has read something for the task.
                message = f"{self.tool.name}: the inputs of what was approved have changed; ask again"
                raise Denied(message, code="approval_stale", decision=again)

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
        call = Call(self.tool.name, request, task, self.enforcement.clock.wall_ns())
        start, run = self.enforcement.spans.start_call, call.execution
        run.span, run.traced = start(self.tool.name, self._name, self._attributes, call.start_ns)
        try:
            with suppress(BadArgumentsError):
                call.snapshot = capture(arguments, arguments.keys())
            self._set_denial(call, denied)
            self._records.describe(call)
        except BaseException:
            self.enforcement.spans.end_unsigned(run.span)
            raise
        return self._record_refusal(call, denied)

    def _decide(self, call: Call) -> None:
        """Reach a decision; leave the refusal, if any, in the judgement of the call."""
        enforcement, request = self.enforcement, call.request
        try:
            request = restore(call, self._restores) if self._restores else request
            # First the snapshot: even a call outside any task is recorded with what it asked for.
            arguments = call.snapshot = capture(request.arguments, request.supplied or request.given, request.injected)
            if self._touching:
                call.touched = self._ask.touched(self.tool.touches, self._touching, arguments.view)
            task = call.task
            if task is None or request.refusal is not None:
                self._refuse_early(task, request.refusal)
            enforcement.check(task)
            if self._resumed.remembers:
                self._resumed.look(call, task)
            scope = task.chain.grants[-1].scope
            call.clauses = scope.check(self.tool.name, arguments.view, arguments.supplied)
            if enforcement.inspectors:
                found = self._ask.inspect("input", arguments.view, request.injected)
                call.inspected = Inspected(dict.fromkeys(found))
            self._consult(call, arguments, task)
            if self.slow or task.limits or not task.lease.live:
                self._reserve(call, task, arguments)
        except Denied as denied:
            self._set_denial(call, denied)
        except BadArgumentsError as error:
            self._set_denial(call, Denied(f"{self.tool.name}: {error}", code="bad_arguments"), error.argument)
        except Exception as error:  # noqa: BLE001 - Authority fails closed: a defect of ours refuses the call.
            self._deny_failed(call, error)

    def _reserve(self, call: Call, task: Task, arguments: Arguments) -> None:
        """Check again that the task has not ended, and reserve what a call needs of its limits."""
        if self.slow or not task.lease.live:  # Inspectors and policies may have ended it.
            self.enforcement.check(task)
        if task.limits and call.route is None and call.channel is None:
            call.reserved = self._limits.reserve(task, arguments, call.call_id)

    def _refuse_early(self, task: Task | None, refusal: Denied | None) -> NoReturn:
        if task is not None:
            self.enforcement.check(task)
        missing = f"{self.tool.name}: {self.enforcement.task_context.missing()}"
        raise NoTask(missing) if task is None or refusal is None else refusal

    def _consult(self, call: Call, arguments: Arguments, task: Task) -> None:
        facts = None if self._flow is None else self._flow.look(call, task, arguments)
        if self.enforcement.policy is None and call.taken_up is None:
            return
        found, known = () if call.inspected is None else tuple(call.inspected.findings), self._records.known
        request = self._ask.request(arguments.view, task, found, "call", facts, touched=call.touched)
        decision = self._ask.decide(request, known.decision)
        if call.taken_up is not None:
            decision = self._resumed.bound(call, decision)
        if decision is known.decision:
            call.judgement = known.judgement
        else:
            take_effect(call, decision, self.enforcement.routes)
        if decision.obligations and found:
            changed = self._results.change_prompt(call, decision)
            scope = task.chain.grants[-1].scope
            call.clauses = scope.check(self.tool.name, changed.view, changed.supplied)

    def _set_denial(self, call: Call, denied: Denied, argument: str | None = None) -> None:
        if not isinstance(denied.decision, Decision):
            denied.decision = Decision(effect=Effect.BLOCK, reason=denied.code)
        if isinstance(denied, OutOfScope):
            argument = denied.argument
        elif argument is None:
            argument = call.judgement.argument
        call.judged(Judgement(denied.decision, "block", denied, argument))

    def _deny_failed(self, call: Call, error: Exception) -> None:
        _LOG.error("the guard of %s failed, the call is refused: %s", self.tool.name, safe_message(error))
        self._set_denial(call, Denied(f"{self.tool.name}: {failure('the guard', error)}", code="guard_failed"))

    def _intend(self, call: Call) -> bool:
        """Write the intent, unless the mark at which the call was judged has moved; return whether it was written."""
        return self._write_intent(call) if self._flow is None else self._flow.intend(call, self._write_intent)

    def _write_intent(self, call: Call) -> bool:
        """Write the intent: no evidence, no action; return true, for where no mark can have moved.

        Raises:
            Denied: The task has ended, so that the intent would be after its ``task_end``.
        """
        check = None if call.task is None or self.enforcement.mode == "monitor" else call.task.lease.check_live
        try:
            call.intent = self.enforcement.ledger.append(self._records.intent(call), check=check).record.id
        except EvidenceError:
            if self.enforcement.mode == "enforce":
                raise
            _LOG.warning("monitor mode: %s runs without an intent record", self.tool.name)
        else:
            if call.task is not None:
                call.task.tally.intent()
        if self._shown.shows_content:
            call.shown_arguments = self._shown.arguments_of(call)
        run = call.execution
        span = run.span.span if type(run.span) is AdoptedSpan else run.span
        context = trace.set_span_in_context(span, run.around)
        run.context, run.marker = self.enforcement.task_context.running(call.task, context)
        run.home = Process.here
        if self._flow is not None:
            self._flow.begins(call)
        return True

    def _record_refusal(self, call: Call, denied: Denied) -> Denied:
        """Record a refusal and return it for raising."""
        call.conclude()
        routed = isinstance(denied, Routed) and denied.code == Routed.default_code
        try:
            entry = self._record_outcome(call, "routed" if routed else "denied", None if routed else denied.code)
        except BaseException:
            self.enforcement.spans.end_unsigned(call.execution.span)
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
        if self.enforcement.mode == "monitor" or call.task is None:
            return
        with _measured(call):
            try:
                if not self.enforcement.task_context.sees(call.execution.context):
                    call.intent = None  # It stays with the process that this one was forked from.
                    raise NoTask(f"{self.tool.name}: this process is a fork; go on in the process that began the call")
                self.enforcement.check(call.task)
            except Denied as denied:
                raise self._end_by(call, denied) from None

    def check_sent(self, call: Call, sent: object) -> None:
        """Refuse a value that the consumer of a generator sends into its body, where information flow is on.

        It would be an argument that no one judges.

        Raises:
            Denied: With code ``sent_value``; the call is over.
        """
        if sent is None or self._flow is None or self.enforcement.mode == "monitor":
            return
        message = (
            f"{self.tool.name}: a value sent into a generator is not judged; pass it as an argument of another call"
        )
        raise self._end_by(call, Denied(message, code="sent_value"))

    def _end_by(self, call: Call, denied: Denied) -> Denied:
        """End a call by a refusal and return it for raising; a call that is over keeps the end that it had."""
        if not call.conclude():
            return denied
        self._set_denial(call, denied)
        return self._record_refusal(call, denied)

    def succeed(
        self, call: Call, result: object = None, *, fixed: bool = False, rebuild: Rebuild | None = None
    ) -> object:
        """Record that the body (or the route's handler) returned, and return what the caller gets.

        Args:
            call: The call.
            result: What it returned.
            fixed: The caller gets something else, so that the result cannot be changed.
            rebuild: Makes what the caller gets of a changed result; what it raises withholds the result.

        Raises:
            ContentBlocked: The policy withholds what an inspector found in the result. The body ran.
        """
        if call.done:
            return result
        if call.watch is not None:
            call.watch.start()
        shown = result
        if self.inspects or self._flow is not None or call.handles is not None:
            delivery = self._delivery(call, result, "result", fixed=fixed, rebuild=rebuild)
            result = delivery.value
            shown = None if delivery.audited or delivery.blocked is not None else result
            self._records.describe_result(call, result)
            self._deliver(call, delivery)
        else:
            self._records.describe_result(call, result)
        self._finish(call, "routed" if call.route is not None else "success", None, shown)
        return result

    def emit(self, call: Call, item: object, *, fixed: bool = False, rebuild: Rebuild | None = None) -> object:
        """Judge one item of a generator before the consumer gets it, and return what the consumer gets.

        Args:
            call: The call.
            item: What the body yielded.
            fixed: See :meth:`succeed`.
            rebuild: See :meth:`succeed`.

        Raises:
            ContentBlocked: The policy withholds what an inspector found in it; the call is over.
            Denied: The call had ended by a refusal before.
        """
        call.look_back()
        with _measured(call):
            delivery = self._delivery(call, item, "chunk", fixed=fixed, rebuild=rebuild)
            self._deliver(call, delivery)
        return delivery.value

    def offer(self, call: Call, items: Sequence[object], *, last: bool = False) -> list[object]:
        """Judge items of a generator, and return those that the consumer gets by now.

        What may be a part of a match that goes on is held back, until so much follows that it cannot.

        Args:
            call: The call.
            items: What the body yielded.
            last: It yields nothing more.

        Raises:
            ContentBlocked: The policy withholds what an inspector found, or too much is held back; the call is over.
            Denied: The call had ended by a refusal before.
        """
        if not self.inspects:
            return [self.emit(call, item) for item in items]
        call.look_back()
        with _measured(call):
            return self._offered(call, items, last=last)

    def _offered(self, call: Call, items: Sequence[object], *, last: bool) -> list[object]:
        inspected = call.inspection()
        stream = inspected.stream
        if stream is None:
            stream = inspected.stream = self._results.stream()
        before = inspected.transforms
        ready = self._results.hold(call, stream, items, last=last)
        if self.enforcement.mode == "monitor":
            return self._noted(call, items, ready)
        if ready.blocked is not None:  # It says something as well that there was something to withhold.
            unmarked = None if self._flow is None else self._flow.mark(call, None, "error", original=None)
            self._deliver(call, Delivery(None, unmarked or ready.blocked))
        delivered: list[object] = []
        for original, item in ready.items:
            delivery = self._results.veil(call, item)
            marked = self._marked(call, delivery.value, "chunk", original, delivery)
            if marked.blocked is not None:
                inspected.transforms = before  # Nothing of these items is delivered.
            self._deliver(call, marked)
            delivered.append(delivery.value)
        return delivered

    def _noted(self, call: Call, items: Sequence[object], ready: StreamDelivery) -> list[object]:
        """Note what would have been done about a stream, and return its items as they are: monitor mode."""
        if ready.blocked is not None:
            call.inspection().stream = None  # The rest is inspected separately.
        self._deliver(call, Delivery(None, ready.blocked, ready.audited))
        for item in items:
            self._deliver(call, self._marked(call, item, "chunk", item, self._results.veil(call, item)))
        return list(items)

    def _delivery(
        self, call: Call, content: object, cause: Delivered, *, fixed: bool, rebuild: Rebuild | None
    ) -> Delivery:
        """Inspect content and meet the obligations, then record the effect of the delivery on the mark."""
        if not self.inspects and call.handles is None:
            return self._marked(call, content, cause, content, Delivery(content))
        inspected = call.inspection()
        before = inspected.before = inspected.transforms
        delivery = self._results.judge(call, content, fixed=fixed, rebuild=rebuild)
        marked = self._marked(call, delivery.value, cause, content, delivery)
        if marked is not delivery:
            inspected.transforms = before  # Nothing of this content is delivered.
        return marked

    def _marked(self, call: Call, value: object, cause: Delivered, original: object, delivery: Delivery) -> Delivery:
        """Record the effect of a delivery on the mark; return a refusal in its place if that fails."""
        if self._flow is None:
            return delivery
        unmarked = self._flow.mark(call, value, cause, original=original)
        return delivery if unmarked is None else Delivery(original, unmarked)

    def _deliver(self, call: Call, delivery: Delivery) -> None:
        """Raise the refusal of what is withheld; monitor mode notes it, and withholds nothing."""
        if delivery.blocked is None and not delivery.audited:
            return
        if delivery.blocked is not None:
            if self.enforcement.mode == "enforce":
                raise self._end_by(call, delivery.blocked) from None  # The error of a body is not shown with it.
            self._set_denial(call, delivery.blocked)
        call.judged(call.judgement._replace(enforced="audit"))

    def fail(self, call: Call, error: BaseException, code: str | None = None, *, judged: bool = False) -> None:
        """Record that the body raised, by the class of the error or a code; the caller re-raises.

        Args:
            call: The call.
            error: What the body raised.
            code: What the record says in place of the class of the error.
            judged: What the error says was inspected before.

        Raises:
            ContentBlocked: The policy withholds what an inspector found in the error.
        """
        if call.done:
            return
        if call.watch is not None:
            call.watch.start()
        if self._suspends and leaves(self.tool.name, error, self._suspends, "suspends"):
            self.suspend(call)
            return
        returned = bool(self._returns) and leaves(self.tool.name, error, self._returns, "returns")
        looks = (self.inspects or call.handles is not None) and says_something(error) and not judged
        self._deliver(call, self._judge_error(call, error, looks=looks))
        if returned:
            self._finish(call, "success", None)
        else:
            self._finish(call, "cancelled" if isinstance(error, _CANCELLED) else "error", code or error_type(error))

    def _judge_error(self, call: Call, error: BaseException, *, looks: bool) -> Delivery:
        """Inspect the texts of an error, then record its effect on the mark.

        An error whose texts would have to change is withheld: no class can be trusted to take others.
        """
        delivery = Delivery(error)
        if looks:
            try:
                text: object = str(error)
            except Exception:  # noqa: BLE001 - Code of others, whose answer no one can look at.
                text = error
            delivery = self._results.judge(call, (text, error), fixed=True)
        says = self._flow is not None and says_something(error)
        unmarked = self._flow.mark(call, error, "error", original=error) if self._flow is not None and says else None
        return delivery if unmarked is None else Delivery(error, unmarked)

    def suspend(self, call: Call) -> None:
        """Record that the body left to be called again; what the call has is left to itself.

        Args:
            call: The call.
        """
        if call.done:
            return
        if call.watch is not None:
            call.watch.start()
        if call.reserved is not None:
            call.reserved.suspend()
        self._resumed.keep(call)
        self.enforcement.approvals.leave(call)
        self._finish(call, "suspended", None)

    def _finish(self, call: Call, outcome: Ending, error: str | None, shown: object = None) -> None:
        """Record an outcome; the act happened, so a failure to record it must not hide its result.

        Raises:
            ContentBlocked: What the result does to the mark could not be recorded.
        """
        if call.conclude():
            try:
                self._record_outcome(call, outcome, error, shown)
            except ContentBlocked as blocked:
                self._set_denial(call, blocked)
                if blocked.reference is None:
                    if call.inspected is not None:
                        call.inspected.transforms = call.inspected.before
                    raise self._record_refusal(call, blocked) from None
                self.enforcement.spans.end_unsigned(call.execution.span)  # What may not be on the disk is not signed.
                raise
            except Exception as failure:  # noqa: BLE001 - See above; the intent stays open, which the verifier reports.
                self.enforcement.spans.end_unsigned(call.execution.span)
                # One line without a trace, because a trace shows the texts of the exceptions before this one.
                _LOG.error("the outcome of %s could not be recorded: %s", self.tool.name, safe_message(failure))
        unmarked = None if self._flow is None else self._flow.catch_up(call)
        if unmarked is not None:
            self._set_denial(call, unmarked)
            raise unmarked

    def _record_outcome(self, call: Call, outcome: Ending, error: str | None, shown: object = None) -> Entry | None:
        """Append the outcome of a call that is over, and let the sealing thread sign it and end the span."""
        run = call.execution
        if run.home is not Process.here and call.intent is not None:
            # Forked inside the body: the process that began the call concludes it, and its span (decision 0006).
            _LOG.info("%s: a forked child leaves the outcome to its parent", self.tool.name)
            return None
        enforcement = self.enforcement
        if call.watch is not None:
            call.watch.start()
        end_ns = max(enforcement.clock.wall_ns(), call.start_ns)
        first = call.intent is None
        if type(run.span) is AdoptedSpan and enforcement.spans.lacks(run.span):
            run.span, run.traced = enforcement.spans.regain(run.span, self._name, self._attributes, call.start_ns)
            first = True
        span = run.span
        record = self._records.outcome(call, outcome, error or None, end_ns, first=first)
        finish = partial(enforcement.spans.finish, span, end_ns=end_ns)
        # Whether a result is withheld, and so not shown, is known only after it has lowered the mark.
        late = self._flow is not None and self._shown.shows_content
        here = late or enforcement.inline or type(span) in _FINISHED_HERE
        append = partial(
            self._append,
            call,
            detail=self._records.detail(call),
            after=None if here else partial(finish, extra=self._shown.of(call, shown)),
        )
        entry = append(record) if self._flow is None else self._flow.conclude(call, record, append)
        if here:
            finish(entry, extra=self._shown.of(call, shown))
        if call.task is not None:
            call.task.tally.outcome(of_intent=call.intent is not None)
        if outcome == "denied":
            _LOG.info("%s refused: %s, record %s", self.tool.name, error, entry.id)
        if call.watch is not None:
            enforcement.timings.report(call, call.watch, outcome)
        return entry

    def _append(
        self, call: Call, outcome: partial[Outcome], *, detail: partial[Detail] | None, after: After | None
    ) -> Entry:
        """Append an outcome; one that no ledger can hold gets short."""
        ledger = self.enforcement.ledger
        try:
            return ledger.append(outcome, detail=detail, record_id=call.outcome, after=after)
        except EvidenceError as error:
            if error.code != "bad_record":
                raise
            _LOG.error("the outcome of %s is recorded without what no record can hold: %s", self.tool.name, error)
            return ledger.append(self._records.shortened(outcome), record_id=call.outcome, after=after)


@contextmanager
def _measured(call: Call) -> Generator[None]:
    """Measure the time that the guard adds, until the block ends well; what fails goes on to be recorded."""
    if call.watch is not None:
        call.watch.start()
    yield
    if call.watch is not None:
        call.watch.stop()
