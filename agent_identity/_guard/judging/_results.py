"""Judges results between the body and the caller: inspects them, asks the policy, and meets its obligations."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias, TypeVar, cast, final

from agent_identity import canonical
from agent_identity._guard.calls.arguments import Arguments, BadArgumentsError, capture
from agent_identity._guard.calls.call import NOTHING, Call, Judgement
from agent_identity._guard.common.failures import error_type
from agent_identity._guard.common.recorded_decisions import WITHIN_SCOPE, blocked_by
from agent_identity._guard.judging._evaluator import PolicyEvaluator
from agent_identity._guard.judging._kept_values import keep_text, keep_whole, veil
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.judging.record_builder import RecordBuilder
from agent_identity._guard.judging.tool_flow import facts_of
from agent_identity._inspection.held_streams import HeldStream, ReadyItems
from agent_identity._inspection.transform import QUARANTINES, Edits, Tokenize, UnmetError, edits_of, transformed
from agent_identity._policy.decision.decision import Decision, Effect
from agent_identity._policy.decision.obligations import Obligation
from agent_identity._policy.decision.request import Finding, FlowFacts
from agent_identity.errors import ContentBlocked, PolicyBlocked

_T = TypeVar("_T")

Rebuild: TypeAlias = Callable[[object], object]
"""Makes what a caller gets of content that was changed."""

_RUNS: Final = (Effect.ALLOW, Effect.WARN)
_TOKEN: Final = 16
_ROUNDS: Final = 3
"""Times that items of a stream are changed before they are withheld, because each change makes another match."""


class Delivery(NamedTuple):
    """The result for the caller: the value, or the refusal in its place."""

    value: object
    blocked: ContentBlocked | None = None
    audited: bool = False
    """In monitor mode, something would have been withheld or changed."""


class StreamDelivery(NamedTuple):
    """Items of a stream for the caller: each as the body yielded it and as it is delivered, or a refusal."""

    items: Sequence[tuple[object, object]] = ()
    blocked: ContentBlocked | None = None
    audited: bool = False
    """In monitor mode, something would have been withheld or changed."""


@final
class Results:
    """Judges the results of one tool.

    Args:
        enforcement: The enforcement point.
        name: The name of the tool.
        ask: What is asked about it.
        records: What describes its calls.
    """

    __slots__ = ("_ask", "_enforcement", "_name", "_records")

    def __init__(
        self, enforcement: EnforcementContext, name: str, ask: PolicyEvaluator, records: RecordBuilder
    ) -> None:
        self._enforcement = enforcement
        self._name = name
        self._ask = ask
        self._records = records

    def judge(self, call: Call, result: object, *, fixed: bool = False, rebuild: Rebuild | None = None) -> Delivery:
        """Return what the caller gets of a result.

        Args:
            call: The call.
            result: What the body returned or yielded, or the text and object of what it raised.
            fixed: The result cannot be changed, so that what would have to be is withheld.
            rebuild: Makes what the caller gets of a changed result; what it raises withholds.
        """
        decision, before = WITHIN_SCOPE, call.inspection().transforms
        try:
            findings = self._ask.inspect("output", result)
            if not findings:
                return self._veiled(call, result, fixed=fixed)
            call.inspection().findings |= dict.fromkeys(findings)
            decision = self._decide(call, findings)
            if decision.effect in _RUNS:
                edits = edits_of(findings, decision.obligations) if decision.obligations else None
                if edits is None:
                    return self._veiled(call, result, fixed=fixed)
                delivery = self._change(call, result, edits, decision, fixed=fixed)
                if rebuild is not None and delivery.value is not result:
                    _fit(rebuild, delivery.value)
                return delivery
        except UnmetError as unmet:
            if unmet.reason == QUARANTINES and not fixed and self._enforcement.mode == "enforce":
                return self._quarantined(call, result, _blocked(decision, unmet))
            decision = _blocked(decision, unmet)
        except Exception as error:  # noqa: BLE001 - What could not be inspected is withheld.
            decision = Decision(effect=Effect.BLOCK, reason="inspection_failed", why=error_type(error))
        call.inspection().transforms = before
        return self._withheld(result, decision)

    def stream(self) -> HeldStream:
        """Return a new stream of results."""
        return self._ask.stream()

    def hold(self, call: Call, stream: HeldStream, items: Sequence[object], *, last: bool) -> StreamDelivery:
        """Hold back items of a stream, and return those that may be delivered by now.

        Args:
            call: The call.
            stream: The stream.
            items: The next items.
            last: The stream has ended.
        """
        decision = WITHIN_SCOPE
        try:
            for item in items:
                self._ask.hold(stream, item)
            ready = self._ask.ready(stream, last=last)
            if not ready.items:
                return StreamDelivery()
            decision, audited = self._judge_ready(call, ready)
            if decision.effect in _RUNS:
                stream.release(ready)
                return StreamDelivery(ready.pairs, audited=audited)
        except UnmetError as unmet:
            decision = _blocked(decision, unmet)
        except Exception as error:  # noqa: BLE001 - What could not be inspected is withheld.
            decision = Decision(effect=Effect.BLOCK, reason="inspection_failed", why=error_type(error))
        return StreamDelivery(blocked=self._withheld(None, decision).blocked)

    def _judge_ready(self, call: Call, ready: ReadyItems) -> tuple[Decision, bool]:
        """Ask the policy about items, and change them until nothing is left to be changed."""
        first: Decision | None = None
        for _ in range(_ROUNDS + 1):
            findings = ready.findings
            if not findings:
                break
            call.inspection().findings |= dict.fromkeys(findings)
            decision = self._decide(call, findings)
            if decision.effect not in _RUNS:
                return decision, False
            owed: tuple[Obligation, ...] = decision.obligations or (first.obligations if first is not None else ())
            edits = ready.edits(owed) if owed else None
            if edits is None:
                break
            first = first or decision
            if self._enforcement.mode == "monitor":
                return decision, True
            inspect = partial(self._ask.inspect, "output")
            ready.change(edits, self._tokens(call), inspect, keep=partial(keep_text, call))
        else:
            raise UnmetError("the changed items still hold what has to be changed")
        for original, delivered in ready.changes:
            self._records.describe_change(call, original, delivered)
        if first is not None:
            call.judged(Judgement(first, "modify"))
        return first or WITHIN_SCOPE, False

    def change_prompt(self, call: Call, decision: Decision) -> Arguments:
        """Change the prompt of a model as obligations ask for, and return the arguments of the call.

        Args:
            call: The call, with what was found in its arguments.
            decision: The decision, with the obligations.

        Raises:
            PolicyBlocked: An obligation cannot be met, so that the model is not asked.
        """
        arguments = call.snapshot
        if arguments is None:
            raise TypeError("a call without arguments has nothing to change")
        try:
            changed = self._changed_prompt(call, arguments, decision)
        except (UnmetError, BadArgumentsError) as error:
            unmet = error if isinstance(error, UnmetError) else UnmetError("the changed prompt is no argument")
            blocked = _blocked(decision, unmet)
            raise PolicyBlocked(blocked_by(blocked, self._name), code=blocked.reason, decision=blocked) from None
        call.snapshot = changed
        return changed

    def _changed_prompt(self, call: Call, arguments: Arguments, decision: Decision) -> Arguments:
        original = dict(arguments.view)
        value, findings, again = original, tuple(call.inspection().findings), decision
        for _ in range(_ROUNDS + 1):
            edits = edits_of(findings, again.obligations or decision.obligations)
            if edits is None:
                break
            if self._enforcement.mode == "monitor":
                call.judged(Judgement(decision, "audit"))
                return arguments
            if call.request.revise is None:
                raise UnmetError("the arguments of a call are never changed")
            value = cast("dict[str, object]", transformed(value, edits, self._tokens(call)))
            findings = self._ask.inspect("input", value)
            again = self._ask.decide(
                self._ask.request(value, call.task, findings, "call", _flow_of(call), touched=call.touched),
                self._records.known.decision,
            )
            if again.effect not in _RUNS:
                raise UnmetError("the changed prompt is blocked")
        else:
            raise UnmetError("the changed prompt still holds what has to be changed")
        if value is original or call.request.revise is None:
            return arguments
        _fit(call.request.revise, value)
        self._records.describe_change(call, original, value, name="prompt_redaction")
        call.judged(Judgement(decision, "modify"))
        return capture(value, arguments.supplied, call.request.injected)

    def _tokens(self, call: Call) -> Tokenize:
        key = self._records.key_of(call)

        def token(category: str, text: str) -> str:
            digest = self._enforcement.digests.digest(key, canonical.encode(["token", category, text], surrogates=True))
            return f"[{category}:{digest[:_TOKEN]}]"

        return token

    def _decide(self, call: Call, findings: tuple[Finding, ...]) -> Decision:
        view = NOTHING if call.snapshot is None else call.snapshot.view
        request = self._ask.request(view, call.task, findings, "result", _flow_of(call), touched=call.touched)
        return self._ask.decide(request, self._records.known.decision)

    def _change(self, call: Call, result: object, edits: Edits, decision: Decision, *, fixed: bool) -> Delivery:
        """Return the changed result, if nothing is left in it to be changed or withheld."""
        if self._enforcement.mode == "monitor":
            return Delivery(result, audited=True)
        if fixed:
            raise UnmetError("the result cannot be changed")
        delivered = self._edited(call, result, edits)
        veiled = veil(call, delivered)
        if veiled is not None:
            delivered = self._edited(call, delivered, veiled)
        left = self._ask.inspect("output", delivered)
        if left:
            again = self._decide(call, left)
            if again.effect not in _RUNS or edits_of(left, again.obligations or decision.obligations) is not None:
                raise UnmetError("the changed result still holds what has to be changed")
        self._records.describe_change(call, result, delivered)
        call.judged(Judgement(decision, "modify"))
        return Delivery(delivered)

    def veil(self, call: Call, item: object) -> Delivery:
        """Return what the caller gets of an item of a stream that was judged: without values given for handles.

        Args:
            call: The call.
            item: The item.
        """
        if not call.restored:
            return Delivery(item)
        try:
            return self._veiled(call, item, fixed=False)
        except UnmetError as unmet:
            decision = _blocked(WITHIN_SCOPE, unmet)
        except Exception as error:  # noqa: BLE001 - What could not be looked at is withheld.
            decision = Decision(effect=Effect.BLOCK, reason="inspection_failed", why=error_type(error))
        return self._withheld(item, decision)

    def _veiled(self, call: Call, result: object, *, fixed: bool) -> Delivery:
        """Take the values out of a result that the call was given for the handles of its model."""
        edits = veil(call, result) if call.restored else None
        if edits is None:
            return Delivery(result)
        if self._enforcement.mode == "monitor":
            return Delivery(result, audited=True)
        if fixed:
            raise UnmetError("the result cannot be changed")
        delivered = self._edited(call, result, edits)
        self._records.describe_change(call, result, delivered)
        call.judged(call.judgement._replace(enforced="modify"))
        return Delivery(delivered)

    def _edited(self, call: Call, result: object, edits: Edits) -> object:
        return transformed(result, edits, self._tokens(call), partial(keep_text, call))

    def _quarantined(self, call: Call, result: object, decision: Decision) -> Delivery:
        """Withhold a result, and keep it under a handle for tools that may open it."""
        handle = keep_whole(call, result)
        if handle is None:
            return self._withheld(result, decision)
        self._records.describe_change(call, result, None, name="quarantine")
        text = f"{self._name}: the result is withheld, and kept as {handle}"
        return Delivery(result, ContentBlocked(text, code="content_quarantined", decision=decision))

    def _withheld(self, result: object, decision: Decision) -> Delivery:
        blocked = ContentBlocked(blocked_by(decision, self._name), code="content_blocked", decision=decision)
        return Delivery(result, blocked)


def _flow_of(call: Call) -> FlowFacts | None:
    """Return what is known of the information flow into a call, as it was judged."""
    judged = None if call.flow is None else call.flow.judged
    return None if judged is None else facts_of(judged)


def _fit(rebuild: Callable[[_T], object], changed: _T) -> None:
    """Check that something can be made again of changed content.

    Raises:
        UnmetError: It cannot.
    """
    try:
        rebuild(changed)
    except Exception as error:  # noqa: BLE001 - Code of an integration, which says so by an exception.
        raise UnmetError(f"what has to be changed cannot be changed there ({error_type(error)})") from None


def _blocked(decision: Decision, unmet: UnmetError) -> Decision:
    return Decision(
        effect=Effect.BLOCK,
        reason=unmet.reason,
        why=str(unmet),
        rule=decision.rule,
        policy=decision.policy,
        version=decision.version,
        digest=decision.digest,
    )
