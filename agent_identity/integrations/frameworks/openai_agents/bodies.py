"""The body of a tool under the guards of one or several protections, which may share the tool."""

import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Final, NamedTuple, TypeAlias, cast

from agents import AgentBase, Usage, get_current_trace

from agent_identity import Enforcer, Task
from agent_identity.adapters import Call, ToolCall, guard_failed, refusal
from agent_identity.errors import AgentIdentityError, Denied
from agent_identity.integrations.frameworks.openai_agents.interruptions import Suspended, ruled
from agent_identity.integrations.frameworks.openai_agents.owners import Owner, owner_of

__all__ = ["ACTING", "Caller", "SharedBody", "note_turn", "seen_in", "trace_id"]

Body: TypeAlias = Callable[[Mapping[str, object]], Awaitable[object]]

ACTING: ContextVar[tuple[Owner, str] | None] = ContextVar("agent_identity_openai_agents", default=None)
"""The agent whose tools were listed last in this run, where the context of a call does not name the agent."""


_BEGUN: Final = weakref.WeakKeyDictionary[Task, dict[int, tuple[Usage, int]]]()
"""By task, what had been asked of models when a run was first seen in it, with the counter that tells."""


def note_turn(task: Task | None, usage: Usage) -> None:
    """Note how often models were asked before a run goes on in a task.

    Args:
        task: The open task.
        usage: Counts the requests in the run.
    """
    if task is not None and task.flow is not None:
        _BEGUN.setdefault(task, {}).setdefault(id(usage), (usage, usage.requests))


def trace_id() -> str | None:
    """Return the id of the SDK's trace, which names a run."""
    trace = get_current_trace()
    return None if trace is None else trace.trace_id


class Caller(NamedTuple):
    """Who makes a call. Frozen.

    Attributes:
        owner: The protection that judges it.
        name: The name of the agent.
        places: Where a ruling for it may be.
    """

    owner: Owner
    name: str | None
    places: Sequence[Enforcer | None]


def seen_in(context: object, caller: Caller, asked: ToolCall) -> ToolCall:
    """Return a call that says whether a model has been asked in its run since the open task has the run.

    Args:
        context: The context of the call or of the run.
        caller: Who makes it.
        asked: The call.
    """
    task, usage = caller.owner.guards.enforcer.current_task, cast("object", getattr(context, "usage", None))
    begun = None if task is None else _BEGUN.get(task, {}).get(id(usage))
    if begun is None:
        return asked
    counter, before = begun
    return asked._replace(is_seen=counter.requests > before and counter is usage)


class SharedBody:
    """The owners of a guarded tool, and the steps of its calls."""

    def __init__(self) -> None:
        self.owners: Final = list[Owner]()

    def caller(self, context: object) -> Caller:
        """Return who calls.

        Args:
            context: The context of the call or of the run.
        """
        agent, here = getattr(context, "agent", None), ACTING.get()
        name = agent.name if isinstance(agent, AgentBase) else None
        owner = owner_of(agent)
        if owner is None and here is not None and name in (None, here[1]):
            owner, name = here
        places = None if owner is None and name is None else [None if owner is None else owner.place]
        strict = [one for one in self.owners if one.guards.enforcer.mode == "enforce"]
        if owner not in self.owners or (owner not in strict and not isinstance(agent, AgentBase)):
            owner = (strict or self.owners)[0]  # Nobody knows who calls: the strictest judges.
        return Caller(owner, name, places or [owner.guards.enforcer, None])

    async def answer(
        self, caller: Caller, asked: ToolCall, body: Body, parameters: Mapping[str, object] | None = None
    ) -> object:
        """Run a call, and return its result, or the text of its refusal; only what the body raises is raised.

        Args:
            caller: Who makes it.
            asked: The call.
            body: Runs the tool with the judged arguments.
            parameters: Its arguments, as the model wrote them.
        """
        raised, guards = list[BaseException](), caller.owner.guards

        async def noted(call: Call) -> object:
            try:
                return await body(call.arguments)
            except BaseException as error:
                raised.append(error)
                raise

        try:
            with ruled(guards, asked, parameters, caller.places) if guards.may_suspend else nullcontext():
                return await guards.run_async(asked, noted)
        except Suspended as suspended:
            return suspended.result
        except Denied as denied:
            return refusal(denied)
        except AgentIdentityError as error:
            return refusal(Denied("the call did not run, or its result is withheld", code=error.code))
        except Exception as error:
            if raised and error is raised[-1]:
                raise
            return guard_failed(asked.name, error)
