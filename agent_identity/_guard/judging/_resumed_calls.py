"""Calls that are made again in another task or process: they keep their mark, and wait for the person who was asked.

The shared state keeps a suspended call by its tool and its id: in its thread with any arguments, and elsewhere with the
same ones, because some models reuse ids. The resumed call goes on at the mark at which it was suspended. A call that
was suspended for a person needs the ruling of a person, whatever the policy says by then.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast, final

from agent_identity._authority.registries.rulings import MAX_WAIT
from agent_identity._common.narrowing import is_object
from agent_identity._flow.labels import UNKNOWN, UNTRUSTED, Label
from agent_identity._guard.approvals.inbox import party_of
from agent_identity._guard.approvals.names import args_of
from agent_identity._guard.approvals.refusals import mismatch
from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.calls.call import Call, CallRequest, TakenUp
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.tasks.remembered import Fact, Remembered, key_of
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.task_flow import TaskFlow
from agent_identity._identity.common.ids import is_id128
from agent_identity._policy.decision.decision import Decision, Effect
from agent_identity.errors import Denied, EvidenceError

Thread = Callable[[], str | None]
"""Names the thread of the framework in which a call is made, the same when that goes on in another task."""

_LOG: Final = logging.getLogger("agent_identity")


@final
class ResumedCalls:
    """Suspended calls of one tool, and calls of models that no one saw ask for them.

    Args:
        enforcement: The enforcement point.
        tool: The name of the tool.
        thread: Names the thread in which a call is made.
        resumable: The framework makes suspended calls again, also those without an id.

    Attributes:
        remembers: Something may be kept of the calls of this tool. Where not, no call has to be looked for.
    """

    __slots__ = ("_asks_people", "_calls", "_enforcement", "_resumable", "_thread", "_tool", "remembers")

    def __init__(self, enforcement: EnforcementContext, tool: str, thread: Thread | None, *, resumable: bool) -> None:
        self._enforcement = enforcement
        self._tool = tool
        self._thread = thread
        self._calls = Remembered(enforcement.state, enforcement.clock, "suspended")
        channels = (route for route in enforcement.routes.values() if isinstance(route, Approval))
        self._asks_people = any(channel.suspends for channel in channels)
        self._resumable = resumable
        self.remembers = resumable or self._asks_people or thread is not None or enforcement.flows is not None

    @property
    def knows_threads(self) -> bool:
        """True if the framework names the threads of calls."""
        return self._thread is not None

    def is_asked(self, request: CallRequest) -> bool:
        """Return whether the shared state is asked about a call."""
        if self._enforcement.flows is not None and (self._thread is not None or request.asked_in is not None):
            return True
        if request.call_id is not None:
            return self._resumable or self._asks_people or self._thread is not None
        return self._is_told_by_arguments(None if self._thread is None else self._thread())

    def _is_told_by_arguments(self, thread: str | None) -> bool:
        """Return whether a call without an id may be a suspended one, by what every process knows of it."""
        return self._resumable and (self._thread is None or thread is not None)

    def _keys(self, call: Call, task: Task, thread: str | None) -> tuple[str, str] | None:
        """Return the keys of a call here and elsewhere; one without an id is known by its arguments."""
        call_id, parties = call.request.call_id or "", _parties(task)
        values = None if call.snapshot is None else call.snapshot.canonical().decode("utf-8", "replace")
        elsewhere = key_of(None, self._tool, call_id, values, *parties)
        if call_id:
            return key_of(thread, self._tool, call_id, *(parties if thread is None else ())), elsewhere
        if values is None or not self._is_told_by_arguments(thread):
            return None
        return key_of(thread, self._tool, call_id, values, *parties), elsewhere

    def look(self, call: Call, task: Task) -> None:
        """Find out whether a call was suspended before, and go on at the mark of that.

        Raises:
            Denied: It was that of another principal or agent (``approval_mismatch``), or the state does not answer
                (``state_unavailable``).
            EvidenceError: A mark could not be recorded.
        """
        if not self.is_asked(call.request):
            return
        try:
            thread = None if self._thread is None else self._thread()
            keys = self._keys(call, task, thread)
            call.taken_up = None if keys is None else self._find(call, task, keys, thread)
            if task.flow is not None:
                self._join(task.flow, call, None if thread is None else key_of(thread))
        except (Denied, EvidenceError):
            raise
        except Exception as error:  # noqa: BLE001 - Of any store: what it would have said is unknown.
            _LOG.error("the state of suspended calls cannot be read: %s", safe_message(error))
            raise _unanswered(self._tool) from None

    def bound(self, call: Call, decision: Decision) -> Decision:
        """Return the decision about a call, which asks the person again if the call was suspended for one.

        Args:
            call: The call.
            decision: The answer of the policy; what is as strict stays.
        """
        route = None if call.taken_up is None else call.taken_up.route
        if route is None or decision.effect in (Effect.BLOCK, Effect.ROUTE):
            return decision
        why = "a person was asked about this call before"
        changes: dict[str, Any] = {"effect": Effect.ROUTE, "reason": "call_suspended", "rule": None, "why": why}
        return dataclasses.replace(decision, **changes, route=route, obligations=())

    def keep(self, call: Call) -> Denied | None:
        """Remember a call that is suspended; return its refusal if that cannot be, and a person was asked.

        Args:
            call: The call.
        """
        task = call.task
        if task is None:
            return None
        try:
            thread = None if self._thread is None else self._thread()
            call.outcome = self._enforcement.ledger.new_id()
            by, new = key_of(*_parties(task)), _fact_of(call, task)
            ttl = MAX_WAIT if call.channel is None else int(call.channel.ttl.total_seconds())
            # A process that asks no one looks only where the framework makes calls again, or has threads.
            keys = self._keys(call, task, thread) if self._resumable or self._thread is not None else None
            if keys is None and call.routing is not None:
                return _unknowable(self._tool)
            for key in dict.fromkeys(keys or ()):
                self._calls.change(key, partial(_with, by, new, call.taken_up), seconds=ttl + MAX_WAIT)
        except Exception as error:  # noqa: BLE001 - As above.
            _LOG.error("a suspended call of %s cannot be remembered: %s", self._tool, safe_message(error))
            return None if call.routing is None else _unanswered(self._tool)
        return None

    def _find(self, call: Call, task: Task, keys: tuple[str, str], thread: str | None) -> TakenUp | None:
        """Return what is remembered of a call.

        Models may reuse an id: a call that a model asked for in this task is not a suspended call of another thread or
        of another party. Nor is a call with other arguments.

        Raises:
            Denied: It was suspended for a person by another principal or agent.
            StateError: The state cannot be asked.
        """
        here, elsewhere = keys
        by, facts = key_of(*_parties(task)), self._calls.find(here) or {}
        own = facts.get(by)
        is_seen = task.flow is not None and task.flow.shared.has_seen(call.request.asked_in or "")
        is_own_id = call.request.call_id not in (None, "", self._tool)  # Some models give the name of the tool.
        if own is None and not is_seen and self._thread is not None and (thread is None or is_own_id):
            own = (self._calls.find(elsewhere) or {}).get(by)
        if is_object(own):
            return self._read(call, own)
        others = [other for other in facts.values() if is_object(other) and other.get("route") is not None]
        if thread is not None and not is_seen and not all(self._differs(call, other) for other in others):
            raise mismatch(self._tool)
        return None

    def _differs(self, call: Call, fact: Mapping[str, object]) -> bool:
        """Return whether a call certainly has other arguments than the one that is remembered."""
        args = fact.get("args")
        if call.snapshot is None or not isinstance(args, str):
            return False
        return args_of(call, str(fact.get("task")), args, self._enforcement.digests) != args

    def _read(self, call: Call, fact: Mapping[str, object]) -> TakenUp:
        task, args, route, hop, sources = (fact.get(name) for name in ("task", "args", "route", "hop", "sources"))
        record = fact.get("record")
        try:
            label = Label.parse(str(fact.get("label")))
        except ValueError:
            label = UNTRUSTED
        return TakenUp(
            hop=hop if isinstance(hop, str) else None,
            label=label,
            sources={k: str(v) for k, v in sources.items()} if is_object(sources) else {},
            route=None if route is None else str(route),
            record=record if isinstance(record, str) and is_id128(record) else None,
            is_same=isinstance(args, str) and args_of(call, str(task), args, self._enforcement.digests) == args,
        )

    @staticmethod
    def _join(flow: TaskFlow, call: Call, thread: str | None) -> None:
        """Lower the mark of the task to where a call comes from, of which the task itself may know nothing."""
        turn, is_known, before = call.request.asked_in, False, call.taken_up
        seen = flow.shared.has_seen(turn) if turn is not None else thread is None or not flow.shared.goes_on(thread)
        if before is not None and before.hop is not None:
            flow.take_up(before.hop, before.label, before.sources)
            is_known = before.is_same and not seen
        if not seen and not is_known and not flow.label.is_within(UNKNOWN):
            flow.join(UNKNOWN, intent=None, name="prompt", cause="prompt")
        if thread is not None:  # What the thread has read since, a call that was made before does not come from.
            flow.enter(thread, joins=not is_known)


def _parties(task: Task) -> tuple[str | None, ...]:
    return (*party_of(task.principal), task.agent.id, task.agent.owner)


def _fact_of(call: Call, task: Task) -> Fact:
    """Return what is remembered of a call."""
    judged, flow = None if call.flow is None else call.flow.judged, task.flow
    route = None if call.routing is None else call.routing.name
    fact: Fact = {"task": task.id, "args": call.action.args, "route": route, "record": call.outcome}
    if judged is None or flow is None:
        return fact
    mark = judged.mark
    sources = dict(mark.sources) if mark.complete else {}
    if call.taken_up is not None:  # That this task began as unknown is no input of a call that was made before.
        sources.pop(flow.begun or "", None)
    return {**fact, "hop": judged.seen.hop, "seq": judged.seen.seq, "label": str(mark.label), "sources": {**sources}}


def _with(by: str, new: Fact, taken_up: TakenUp | None, before: Fact | None) -> Fact:
    """Return what is remembered of the calls with one key; one that is suspended again keeps the mark that it had."""
    known, sources = None if before is None else before.get(by), new.get("sources")
    if taken_up is not None and is_object(known) and is_object(sources) and sources.keys() <= taken_up.sources.keys():
        new = {**cast("Fact", known), "route": new["route"]}
    if is_object(known) and new["route"] is None:  # Once a person was asked, only a ruling lets it run.
        new = {**new, "route": cast("str | None", known.get("route"))}
    merged: Fact = {**(before or {})}
    merged[by] = new
    return merged


def _unknowable(tool: str) -> Denied:
    return Denied(
        f"{tool}: the call would be suspended for a person, and no other process could know it again; guard the tool "
        "by the adapter of its framework, or ask with an Approval that waits",
        code="approval_failed",
    )


def _unanswered(tool: str) -> Denied:
    return Denied(
        f"{tool}: the shared state with the suspended calls does not answer; see the log, and try again when it does",
        code="state_unavailable",
    )
