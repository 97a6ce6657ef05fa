"""Approval by interruptions of the SDK: the run stops, and the saved run carries the request there and the ruling back.

The SDK's own approval names nobody and is not signed. It only lets the call reach its guard, which asks for the ruling.
"""

import json
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from agents import Agent, RunContextWrapper, RunResult, RunResultStreaming, RunState, ToolApprovalItem

from agent_identity import Enforcer, Human
from agent_identity.adapters import ToolCall, ToolGuards, task_in
from agent_identity.approvals import Approval, ApprovalRequest, Approvers
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.carried_approvals import carried_approval, request_from, rulings
from agent_identity.integrations.frameworks.openai_agents.arguments import call_key, parse
from agent_identity.integrations.frameworks.openai_agents.owners import owner_of

__all__ = [
    "Suspended",
    "answer",
    "approval_by_interruption",
    "load_run",
    "requests_of",
    "ruled",
    "save_run",
    "suspend_for_approval",
]

_MEMBER: Final = "agent_identity"
_MAX_KEPT: Final = 1_024
_MAX_EQUAL: Final = 64
_K = TypeVar("_K")
_V = TypeVar("_V")
AnyAgent: TypeAlias = "Agent[Any]"
AnyRun: TypeAlias = "RunState[Any, Agent[Any]]"
_Context: TypeAlias = RunContextWrapper[Any]
_Key: TypeAlias = tuple[str, str, str]


class _Waiting(NamedTuple):
    """A call that waits for an approval. Frozen.

    Attributes:
        request: The request.
        enforcer: The enforcer that asks; ``None`` for an agent that is not protected itself.
        run: The context of its run; ``None`` for a loaded run, whose context is not accessible.
    """

    request: ApprovalRequest
    enforcer: Enforcer | None
    run: weakref.ref[_Context] | None = None


# Models choose call ids, so calls of several runs may have the same key.
_WAITING: Final = dict[_Key, list[_Waiting]]()
_RULINGS: Final = dict[tuple[Enforcer | None, str, *_Key], list[str]]()
"""By enforcer, principal and call, because the context of a loaded run is not accessible."""


class Suspended(Exception):
    """A call leaves to be made again.

    Args:
        result: What its body returned meanwhile.
    """

    def __init__(self, result: object = None) -> None:
        super().__init__("the call waits for an approval")
        self.result = result


@dataclass(slots=True)
class _Asking:
    """The call whose approval is asked for: its ruling if there is one, or its request if the run may stop."""

    ruling: str | None = None
    may_stop: bool = False
    request: ApprovalRequest | None = None


_ASKING: ContextVar[_Asking | None] = ContextVar("agent_identity_openai_agents_asking", default=None)


def approval_by_interruption(approvers: Approvers = Approvers()) -> Approval:
    """Return an approval channel that interrupts the run until somebody decides; for ``routes`` of an enforcer.

    Save the interrupted run with :func:`save_run`, have it decided with :func:`answer`, and go on with
    :func:`load_run`, in any process, inside a task of the same principal and agent. The saved run gives no authority:
    its rulings are bound to one call each.

    Args:
        approvers: Who may approve, and how long the request lives; the requesting task may end meanwhile.
    """
    return carried_approval(_ask, approvers, Suspended, channel="interrupt")


def requests_of(interruptions: Iterable[ToolApprovalItem]) -> dict[str, ApprovalRequest]:
    """Return the approval requests among the interruptions of a run of this process, by call id.

    Args:
        interruptions: ``result.interruptions``.

    Raises:
        ConfigurationError: Several principals wait for approval of equal calls. Call it inside the task of one of
            them, or use :func:`save_run`.
    """
    return _requests(interruptions, None)


def save_run(result: RunResult | RunResultStreaming) -> str:
    """Return the state of an interrupted run as JSON text, with its approval requests.

    The text holds the conversation and the arguments of the calls. It holds no key, grant or token.

    Args:
        result: The result with ``interruptions``.

    Raises:
        ConfigurationError: As for :func:`requests_of`, about calls of agents that ran as tools.
    """
    saved = result.to_state().to_json()
    waiting = _requests(result.interruptions, result.context_wrapper)
    requests = {name: request.to_dict() for name, request in waiting.items()}
    return json.dumps({**saved, _MEMBER: {"requests": requests, "rulings": {}}})


def answer(saved: str, enforcer: Enforcer, *, by: Human, reject: bool = False, reason: str | None = None) -> str:
    """Return a saved run with a person's signed decision on all its requests.

    Call it outside any task, because people decide, not agents.

    Args:
        saved: What :func:`save_run` returned.
        enforcer: Signs the rulings.
        by: The approver; not the principal.
        reject: Reject the calls.
        reason: The reason of the rejection, shown to the agent.

    Raises:
        ConfigurationError: The run has no request, or a request was altered.
        Denied: The approver is the principal or the agent, a task is open here, or a request has expired.
    """
    state, ours = _read(saved)
    requests = {call_id: request_from(claim) for call_id, claim in ours["requests"].items()}
    missing = "no interruption asks for an approval of ours; save a run that was interrupted by one"
    given = rulings(enforcer, requests, by=by, reject=reject, reason=reason, missing=missing)
    return json.dumps({**state, _MEMBER: {**ours, "rulings": {**ours["rulings"], **given}}})


async def load_run(agent: AnyAgent, saved: str) -> AnyRun:
    """Return a saved run for ``Runner.run(agent, state)``; calls that were decided go on to their guards.

    Args:
        agent: The agent that the run began with, protected anew.
        saved: What :func:`save_run` or :func:`answer` returned.

    Raises:
        ConfigurationError: It is no saved run.
    """
    state, ours = _read(saved)
    run: AnyRun = await RunState.from_string(agent, json.dumps(state))
    for item in run.get_interruptions():
        call_id = item.call_id or ""
        ruling, request = ours["rulings"].get(call_id), ours["requests"].get(call_id)
        if request is None:
            continue
        owner, key = owner_of(item.agent), _key_of(item)
        waiting = _Waiting(request_from(request), None if owner is None else owner.place)
        if isinstance(ruling, str):
            _keep(_RULINGS, (waiting.enforcer, waiting.request.principal.id, *key), ruling)
            run.approve(item)
        else:  # The run will stop again, without a new request.
            _keep(_WAITING, key, waiting)
    return run


async def suspend_for_approval(
    guards: ToolGuards,
    asked: ToolCall,
    parameters: Mapping[str, object],
    run: _Context,
    places: Sequence[Enforcer | None],
) -> bool:
    """Return whether a call has to wait for an approval; then its request is on record, and kept for :func:`save_run`.

    Args:
        guards: The guards.
        asked: The call.
        parameters: Its arguments, as the model wrote them.
        run: The context of its run.
        places: Where a ruling for it may be.
    """
    key = call_key(asked.own, asked.request.call_id or "", parameters)
    if _brought(guards, key, places):
        return False
    try:
        async with guards.acting_async(asked) as guard:
            if not await guard.waits_async(asked.request):
                return False
            with _asked(_Asking(may_stop=True)) as slot:
                try:
                    call = await guard.begin_async(asked.request)
                except Suspended:
                    if slot.request is not None:
                        _keep(_WAITING, key, _Waiting(slot.request, guards.enforcer, weakref.ref(run)))
                    return True
            await guard.fail_async(call, Suspended())  # The policy has changed meanwhile: the call itself decides.
    except Denied:  # On record. The call asks again, and is refused again.
        return False
    return False


@contextmanager
def _asked(slot: _Asking) -> Iterator[_Asking]:
    """Ask for the approval of one call in this block.

    Args:
        slot: The call.
    """
    token = _ASKING.set(slot)
    try:
        yield slot
    finally:
        _ASKING.reset(token)


@contextmanager
def ruled(
    guards: ToolGuards, asked: ToolCall, parameters: Mapping[str, object] | None, places: Sequence[Enforcer | None]
) -> Iterator[None]:
    """Answer the question for an approval of a call with the ruling that the loaded run brought, if it brought one.

    Args:
        guards: The guards.
        asked: The call.
        parameters: Its arguments, as the model wrote them.
        places: Where the ruling may be.
    """
    key, ruling = call_key(asked.own, asked.request.call_id or "", parameters), None
    for place in _brought(guards, key, places)[:1]:
        ruling, *rest = _RULINGS.pop(place)
        if rest:
            _RULINGS[place] = rest
        others = [one for one in _WAITING.pop(key, ()) if not _is_of(one, guards)]
        if others:
            _WAITING[key] = others
    with _asked(_Asking(ruling)):
        yield


def _ask(request: ApprovalRequest) -> str:
    slot = _ASKING.get()
    if slot is not None and slot.may_stop:
        slot.request = request
        raise Suspended
    # The SDK's approval alone is none, nor is another framework one: without a ruling the call is refused.
    ruling = None if slot is None else slot.ruling
    if slot is not None:
        slot.ruling = None  # What the body calls is another call.
    return ruling or ""


def _keep(kept: dict[_K, list[_V]], key: _K, value: _V) -> None:
    while len(kept) >= _MAX_KEPT:
        kept.pop(next(iter(kept)))
    others = [one for one in kept.get(key, ()) if one != value]
    kept[key] = [*others[-_MAX_EQUAL:], value]


def _requests(interruptions: Iterable[ToolApprovalItem], run: _Context | None) -> dict[str, ApprovalRequest]:
    """Return the approval requests among interruptions, by call id.

    Raises:
        ConfigurationError: Several principals wait for approval of equal calls.
    """
    requests, task = dict[str, ApprovalRequest](), task_in()
    for item in interruptions:
        waiting = _WAITING.get(_key_of(item), [])
        own = [one for one in waiting if run is not None and one.run is not None and one.run() is run]
        here = [one for one in waiting if task is not None and one.request.principal.id == task.principal.id]
        going_on = [one for one in waiting if one.run is None or one.run() is not None]
        found = own or here or going_on or waiting
        if len({one.request.principal for one in found}) > 1:
            raise ConfigurationError("several principals await approval of equal calls; save each run inside its task")
        if found:  # A resumed run may make the same request again; take the last one.
            requests[item.call_id or ""] = found[-1].request
    return requests


def _brought(
    guards: ToolGuards, key: _Key, places: Sequence[Enforcer | None]
) -> list[tuple[Enforcer | None, str, *_Key]]:
    """Return where there are rulings for a call of the principal of the open task."""
    possible = [(enforcer, _principal(guards), *key) for enforcer in places]
    return [place for place in possible if place in _RULINGS]


def _is_of(waiting: _Waiting, guards: ToolGuards) -> bool:
    """Return whether a call waits for the principal of the open task."""
    return waiting.request.principal.id == _principal(guards) and waiting.enforcer in (guards.enforcer, None)


def _principal(guards: ToolGuards) -> str:
    """Return the id of the principal of the open task."""
    task = guards.enforcer.current_task
    return "" if task is None else task.principal.id


def _key_of(item: ToolApprovalItem) -> _Key:
    return call_key(item.name or "", item.call_id or "", parse(item.arguments))


def _read(saved: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the state of the SDK and what we added.

    Raises:
        ConfigurationError: It is something else.
    """
    try:
        state = json.loads(saved)
        ours = state.pop(_MEMBER)
        if isinstance(ours["requests"], dict) and isinstance(ours["rulings"], dict):
            return state, ours
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ConfigurationError("this is no saved run; pass what save_run or answer returned")
