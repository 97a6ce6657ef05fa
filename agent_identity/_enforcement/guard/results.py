"""Judges results between the body and the caller: inspects them, asks the policy, and meets its obligations."""

from functools import partial
from typing import Final, NamedTuple, final

from agent_identity import canonical
from agent_identity._enforcement.calls import NOTHING, Call, Judgement
from agent_identity._enforcement.common import WITHIN_SCOPE, blocked_by, error_type
from agent_identity._enforcement.guard.context import EnforcementContext
from agent_identity._enforcement.guard.evaluator import PolicyEvaluator
from agent_identity._enforcement.guard.kept_values import keep_text, keep_whole, veil
from agent_identity._enforcement.guard.record_builder import Description
from agent_identity._enforcement.guard.tool_flow import facts_of
from agent_identity._inspection import QUARANTINES, Edits, UnmetError, edits_of, transformed
from agent_identity._policy.decision import Decision, Effect, Finding
from agent_identity.errors import ContentBlocked

__all__ = ["Delivery", "Results"]

_RUNS: Final = (Effect.ALLOW, Effect.WARN)
_TOKEN: Final = 16


class Delivery(NamedTuple):
    """The result for the caller: the value, or the refusal in its place."""

    value: object
    blocked: ContentBlocked | None = None
    audited: bool = False
    """In monitor mode, something would have been withheld or changed."""


@final
class Results:
    """Judges the results of one tool.

    Args:
        point: The enforcement point.
        name: The name of the tool.
        ask: What is asked about it.
        told: What describes its calls.
    """

    __slots__ = ("_ask", "_name", "_point", "_told")

    def __init__(self, point: EnforcementContext, name: str, ask: PolicyEvaluator, told: Description) -> None:
        self._point = point
        self._name = name
        self._ask = ask
        self._told = told

    def judge(self, call: Call, result: object, *, fixed: bool = False) -> Delivery:
        """Return what the caller gets of a result.

        Args:
            call: The call.
            result: What the body returned or yielded, or the text and object of what it raised.
            fixed: The result cannot be changed, so that what would have to be is withheld.
        """
        decision = WITHIN_SCOPE
        try:
            findings = self._ask.inspect("output", result)
            if not findings:
                return self._veiled(call, result, fixed=fixed)
            call.findings = tuple(dict.fromkeys((*call.findings, *findings)))
            decision = self._decide(call, findings)
            if decision.effect in _RUNS:
                edits = edits_of(findings, decision.obligations) if decision.obligations else None
                if edits is None:
                    return self._veiled(call, result, fixed=fixed)
                return self._change(call, result, edits, decision, fixed=fixed)
        except UnmetError as unmet:
            if unmet.reason == QUARANTINES and not fixed and self._point.mode == "enforce":
                return self._quarantined(call, result, _blocked(decision, unmet))
            decision = _blocked(decision, unmet)
        except Exception as error:  # noqa: BLE001 - What could not be inspected is withheld.
            decision = Decision(effect=Effect.BLOCK, reason="inspection_failed", why=error_type(error))
        return self._withheld(result, decision)

    def _decide(self, call: Call, findings: tuple[Finding, ...]) -> Decision:
        view = NOTHING if call.snapshot is None else call.snapshot.view
        facts = None if call.flow is None else facts_of(call.flow)
        return self._ask.decide(self._ask.request(view, call.task, findings, "result", facts), self._told.known[0])

    def _change(self, call: Call, result: object, edits: Edits, decision: Decision, *, fixed: bool) -> Delivery:
        """Return the changed result, if nothing is left in it to be changed or withheld."""
        if self._point.mode == "monitor":
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
        self._told.describe_change(call, result, delivered)
        call.judged(Judgement(decision, "modify"))
        return Delivery(delivered)

    def _veiled(self, call: Call, result: object, *, fixed: bool) -> Delivery:
        """Take the values out of a result that the call was given for the handles of its model."""
        edits = veil(call, result) if call.restored else None
        if edits is None:
            return Delivery(result)
        if self._point.mode == "monitor":
            return Delivery(result, audited=True)
        if fixed:
            raise UnmetError("the result cannot be changed")
        delivered = self._edited(call, result, edits)
        self._told.describe_change(call, result, delivered)
        call.judged(call.judgement._replace(enforced="modify"))
        return Delivery(delivered)

    def _edited(self, call: Call, result: object, edits: Edits) -> object:
        key = self._told.key_of(call)

        def token(category: str, text: str) -> str:
            digest = self._point.digests.digest(key, canonical.encode(["token", category, text], surrogates=True))
            return f"[{category}:{digest.partition(':')[2][:_TOKEN]}]"

        return transformed(result, edits, token, partial(keep_text, call))

    def _quarantined(self, call: Call, result: object, decision: Decision) -> Delivery:
        """Withhold a result, and keep it under a handle for tools that may open it."""
        handle = keep_whole(call, result)
        if handle is None:
            return self._withheld(result, decision)
        self._told.describe_change(call, result, None, name="quarantine")
        text = f"{self._name}: the result is withheld, and kept as {handle}"
        return Delivery(result, ContentBlocked(text, code="content_quarantined", decision=decision))

    def _withheld(self, result: object, decision: Decision) -> Delivery:
        blocked = ContentBlocked(blocked_by(decision, self._name), code="content_blocked", decision=decision)
        return Delivery(result, blocked)


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
