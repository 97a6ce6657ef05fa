"""What both records of a call say about it: the action, the decision, and who acts for whom."""

import logging
from collections.abc import Mapping
from typing import Final, final

from agent_identity.canonical import RecordValue
from agent_identity.enforcement.arguments import canonical_bytes
from agent_identity.enforcement.call import Call
from agent_identity.enforcement.decisions import WITHIN_SCOPE, decision_claim
from agent_identity.enforcement.failures import trouble
from agent_identity.enforcement.point import Point
from agent_identity.policy import Tool

__all__ = ["Description"]

_LOG: Final = logging.getLogger("agent_identity")
_MAX_CATEGORIES: Final = 1_024


@final
class Description:
    """Describes the calls of one tool.

    Args:
        point: The enforcement point.
        tool: The tool.

    Attributes:
        known: A sound decision that let a call run, and its claim.
    """

    __slots__ = ("_point", "_tool", "known")

    def __init__(self, point: Point, tool: Tool) -> None:
        self._point = point
        self._tool = tool
        # Policies hand out the same few decisions again and again.
        self.known = (WITHIN_SCOPE, decision_claim(WITHIN_SCOPE, "allow", point.mode, None))

    def describe(self, call: Call) -> None:
        """Fill in what both records of the call say about the action."""
        action = call.action
        action["tool"] = self._tool.name
        action["kind"] = self._tool.kind
        if self._tool.server:
            action["server"] = self._tool.server
        call_id = call.request.call_id
        if call_id is not None:
            action["call"] = call_id
        arguments = call.snapshot
        if arguments is not None and arguments.values:
            action["names"] = arguments.kinds()
            key = self._point.ledger.stream if call.task is None else call.task.id
            action["args"] = self._point.digest_of(key, arguments)

    def body(self, call: Call) -> Mapping[str, RecordValue]:
        """Return what both records of the call say; made once, unless the decision or the findings change."""
        if call.body is not None:
            return call.body
        body: dict[str, RecordValue] = {"action": call.action, "decision": self._claim(call)}
        if call.task is None:
            body["attribution"] = "none"
        else:
            body.update(call.task.claims)
        if call.traced.ids:
            body["trace"] = call.traced.ids
        if call.findings:
            body["findings"] = sorted({finding.category for finding in call.findings})[:_MAX_CATEGORIES]
        call.body = body
        return body

    def _claim(self, call: Call) -> Mapping[str, RecordValue]:
        """Return what the record says about the decision."""
        known, claim = self.known  # Read at once, because another thread may be writing another pair.
        decision, enforced, _, argument = call.judgement
        usual = enforced == "allow" and argument is None and call.approval is None
        if usual and decision is known:
            return claim
        claim = decision_claim(decision, enforced, self._point.mode, argument)
        if call.approval is not None:
            claim["approval"] = call.approval
        if usual:
            self.known = (decision, claim)
        return claim

    def describe_result(self, call: Call, result: object) -> None:
        """Add the digest of the result; the act happened, so a failure must hide neither result nor outcome."""
        try:
            data = None if result is None else canonical_bytes(result)
            if data is not None:
                key = self._point.ledger.stream if call.task is None else call.task.id
                call.action["result"] = self._point.digests.digest(key, data)
        except Exception as error:  # noqa: BLE001 - See above.
            _LOG.error("the result of %s has no digest: %s", self._tool.name, trouble(error))
