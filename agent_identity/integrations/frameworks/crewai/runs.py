"""Runs of CrewAI: streams stay in the task in which they were made, and a resumed run has read earlier texts."""

import itertools
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator
from functools import wraps
from typing import Any, Final, cast

from crewai import Crew
from crewai.agents.agent_builder.base_agent import BaseAgent
from crewai.hooks import (
    LLMCallHookContext,
    get_before_llm_call_hooks,
    register_before_llm_call_hook,
    unregister_before_llm_call_hook,
)
from crewai.types.streaming import CrewStreamingOutput, StreamChunk
from opentelemetry import context as otel

from agent_identity.adapters import Part, bind_stream, resume_run, resumed, saw_calls
from agent_identity.integrations.frameworks.crewai.models import contents_of
from agent_identity.integrations.method_patch import MethodPatch
from agent_identity.integrations.narrowing import is_mapping

__all__ = ["bound_crews", "forget_turns", "running_crew", "turn_of", "watch_turns"]

_CREW: Final = otel.create_key("agent_identity_crewai_crew")


def running_crew() -> Crew | None:
    """Return the crew that runs here; ``None`` outside any."""
    return cast("Crew | None", otel.get_value(_CREW))


def bound_crews(begin: Callable[[], None]) -> MethodPatch:
    """Return what has the streams of all crews run under the task in which ``kickoff`` was called.

    CrewAI starts a streaming run when it is consumed, in the context of the consumer.

    Args:
        begin: Called before each run.
    """

    def bound(original: Callable[..., object]) -> Callable[..., object]:
        @wraps(original)
        def kickoff(crew: Crew, /, *args: object, **kwargs: object) -> object:
            if not patch.is_active:
                return original(crew, *args, **kwargs)
            begin()
            with resumed(otel.set_value(_CREW, crew)):
                return _kept(original(crew, *args, **kwargs))

        return kickoff

    def bound_async(original: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        @wraps(original)
        async def kickoff(crew: Crew, /, *args: object, **kwargs: object) -> object:
            if not patch.is_active:
                return await original(crew, *args, **kwargs)
            begin()
            with resumed(otel.set_value(_CREW, crew)):
                return _kept(await original(crew, *args, **kwargs))

        return kickoff

    patch = MethodPatch(Crew, {"kickoff": bound, "kickoff_async": bound_async, "akickoff": bound_async})
    return patch


def _kept(result: object) -> object:
    if type(result) is CrewStreamingOutput:
        result.__class__ = _BoundOutput
        cast("_BoundOutput", result).made_in = otel.get_current()
    return result


class _BoundOutput(CrewStreamingOutput):
    """The stream of a crew.

    Attributes:
        made_in: The context in which it was made.
    """

    made_in: otel.Context

    def __iter__(self) -> Iterator[StreamChunk]:
        with resumed(self.made_in):
            return bind_stream(super().__iter__())

    def __aiter__(self) -> AsyncIterator[StreamChunk]:
        with resumed(self.made_in):
            return bind_stream(super().__aiter__())


_ANSWERS: Final = ("assistant", "tool", "function")
"""The roles of messages that a run has brought about."""

_RUNS: Final = weakref.WeakKeyDictionary[Any, str]()
"""Ids of runs that began without a history, by their executors."""

_NUMBERS: Final = itertools.count()


def turn_of(agent: object) -> str:
    """Return what tells that a run of an agent began in a task; CrewAI tells no ids of calls.

    Args:
        agent: The agent.
    """
    return f"crewai/{getattr(agent, 'id', '')}"


def watch_turns(members: Iterable[BaseAgent] = ()) -> None:
    """Have CrewAI tell when agents of this process ask their models.

    Args:
        members: Agents that may have run before, and then do not notice new hooks by themselves.
    """
    if _note not in get_before_llm_call_hooks():
        register_before_llm_call_hook(_note)
    for member in members:
        hooks = getattr(getattr(member, "agent_executor", None), "before_llm_call_hooks", None)
        if isinstance(hooks, list) and _note not in hooks:
            hooks.append(_note)


def forget_turns() -> None:
    """Undo :func:`watch_turns`, for agents that have not run yet."""
    unregister_before_llm_call_hook(_note)


def _note(context: LLMCallHookContext) -> None:
    """Note a run in the open tasks if the model has not answered in it yet; called by CrewAI.

    A run that is resumed, or that begins with a history, has messages of a model or of tools. Unless it began in the
    task, their origin is unknown: the mark falls before the model reads them.
    """
    executor = context.executor if isinstance(context.executor, Hashable) else None
    answers = [message for message in context.messages if _role(message) in _ANSWERS]
    if not answers and not context.iterations:
        run = f"crewai/run/{next(_NUMBERS)}"
        if executor is not None:
            _RUNS[executor] = run
        saw_calls((turn_of(context.agent), run))
    elif executor is not None:
        resume_run(_RUNS.get(executor, ""), lambda: _parts(answers or context.messages))


def _parts(messages: Iterable[object]) -> Iterator[Part]:
    """Yield the parts of messages of unknown origin."""
    for message in messages:
        contents = contents_of(message) if is_mapping(message) else (message,)
        yield from (Part("other", content) for content in contents)


def _role(message: object) -> object:
    return message.get("role") if is_mapping(message) else _ANSWERS[0]
