"""Guarded models of CrewAI: their prompts and answers pass the guard."""

import threading
import weakref
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import takewhile
from typing import Any, Final, cast

from crewai import Crew
from crewai.agents.agent_builder.base_agent import BaseAgent
from crewai.llms.base_llm import BaseLLM, LLMCallBlockedError, call_stream_override

from agent_identity import Enforcer, Task
from agent_identity.adapters import Call, CallRequest, Part, Prompt, Shown, ToolCall, ToolGuards, is_accounted, refusal
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.narrowing import is_list, is_mapping
from agent_identity.records import Model

__all__ = ["contents_of", "guard_model", "members_of", "models_of"]

_CLASSES: Final = weakref.WeakKeyDictionary[type, tuple[Enforcer, str, bool, object]]()
_LOCK: Final = threading.Lock()
_ADDING: Final = ("memory", "knowledge", "knowledge_sources", "a2a")
"""What has CrewAI add to the prompts of an agent; remote agents add their cards and what they have answered."""

_FINAL: Final = "Final Answer:"
"""What a model writes in text mode before its answer."""


def guard_model(llm: BaseLLM, guards: ToolGuards, name: str) -> None:
    """Guard a model in place; one that is guarded already keeps its guard.

    A refused call raises the error by which CrewAI tells that a hook has blocked a model.

    Args:
        llm: The model.
        guards: The guards.
        name: The name of model calls in scopes and rules.

    Raises:
        ConfigurationError: Another enforcer guards it, or it is guarded under another name, for other people or agents.
    """
    wanted = guards.enforcer, name, guards.are_principals, guards.agents
    with _LOCK:
        owner = _CLASSES.get(type(llm))
        if owner is not None and owner[0] is not guards.enforcer:
            raise ConfigurationError(f"the model {llm.model!r} is guarded by another enforcer; make another one")
        if owner is not None and owner != wanted:
            raise ConfigurationError(
                f"the model {llm.model!r} has another model=, agents= or principal_messages= already; make another one"
            )
        if owner is None:
            made = _class(type(llm), guards, name)
            _CLASSES[made] = wanted
            object.__setattr__(llm, "__class__", made)


def members_of(crew: Crew) -> "list[BaseAgent]":
    """Return the agents of a crew, its manager among them."""
    return [*crew.agents, *([crew.manager_agent] if crew.manager_agent else [])]


def models_of(crew: Crew) -> list[BaseLLM]:
    """Return the models of a crew, each once."""
    named = [crew.manager_llm, crew.function_calling_llm]
    for member in members_of(crew):
        named += [member.llm, getattr(member, "function_calling_llm", None)]
    return list({id(llm): llm for llm in named if isinstance(llm, BaseLLM)}.values())


def _class(kind: type[BaseLLM], guards: ToolGuards, name: str) -> type[BaseLLM]:
    def call(llm: BaseLLM, /, messages: object, *args: object, **options: object) -> object:
        wanted, sent = _wanted(llm, messages, options, guards, name)
        ask = cast("Callable[..., object]", kind.call)

        def body(_: Call) -> Shown:
            with _whole(llm, wanted):
                return _shown(ask(llm, sent[0], *args, **options))

        try:
            return guards.run(wanted, body)
        except Denied as denied:
            raise LLMCallBlockedError(refusal(denied)) from None

    async def acall(llm: BaseLLM, /, messages: object, *args: object, **options: object) -> object:
        wanted, sent = _wanted(llm, messages, options, guards, name)
        ask = cast("Callable[..., Awaitable[object]]", kind.acall)

        async def body(_: Call) -> Shown:
            with _whole(llm, wanted):
                return _shown(await ask(llm, sent[0], *args, **options))

        try:
            return await guards.run_async(wanted, body)
        except Denied as denied:
            raise LLMCallBlockedError(refusal(denied)) from None

    members = {"__module__": __name__, "__doc__": kind.__doc__, "call": call, "acall": acall}
    return cast("type[BaseLLM]", cast("Any", type(kind))(f"Guarded{kind.__name__}", (kind,), members))


def _wanted(
    llm: BaseLLM, messages: object, options: Mapping[str, object], guards: ToolGuards, name: str
) -> tuple[ToolCall, list[object]]:
    """Return the call, and the messages that are sent, which obligations may change."""
    sent = [messages]

    def revise(changed: Mapping[str, object]) -> None:
        if changed.get("tools") != options.get("tools"):
            raise ValueError("the tools of a request cannot be changed")
        sent[0] = changed["messages"]

    known = Model(name=llm.model) if llm.model.isprintable() and 0 < len(llm.model) <= 256 else None
    arguments = {"messages": messages, "tools": options.get("tools")}
    request = CallRequest(arguments, can_route=False, model=known, revise=revise)
    streams = bool(llm.stream) and not guards.of(name, kind="model").holds
    agent, current = options.get("from_agent"), guards.enforcer.current_task
    by_person = _can_be_said(agent, options.get("from_task"), current)
    acting: str | None = getattr(agent, "role", None)
    prompt = Prompt(
        lambda: _parts(messages, can_be_said=by_person), _answer_contents, lambda: bool(_provided_tools(llm))
    )
    return ToolCall(name, request, acting, "streamed_model" if streams else "model", prompt=prompt), sent


def _provided_tools(llm: BaseLLM) -> object:
    """Return the tools of a model that its provider runs."""
    return getattr(llm, "builtin_tools", None) or llm.additional_params.get("tools")


def _can_be_said(agent: object, job: object, task: Task | None) -> bool:
    """Return whether a user message of CrewAI can consist of the words of the principal alone.

    CrewAI also writes into it the outputs of earlier jobs, which a replay loads from a store, the contents of memories
    and of knowledge, and what remote agents say.

    Args:
        agent: The agent of CrewAI.
        job: Its task.
        task: The task that is open.
    """
    if task is None or task.flow is None:
        return True
    crew = getattr(agent, "crew", None)
    adds = any(getattr(one, name, None) for one in (agent, crew) for name in _ADDING)
    outputs = [getattr(one, "output", None) for one in _earlier(crew, job)]
    known = all(is_accounted(task, str(output.raw)) for output in outputs if output is not None)
    return known and not adds and task.flow.label.integrity == "trusted"


def _earlier(crew: object, job: object) -> list[object]:
    """Return the tasks of CrewAI whose outputs may be in the prompt of another one."""
    context: object = getattr(job, "context", None)
    named = context if is_list(context) else []
    return [*takewhile(lambda one: one is not job, getattr(crew, "tasks", ())), *named]


def _parts(messages: object, *, can_be_said: bool) -> Generator[Part]:
    """Yield the parts of a prompt, for information flow."""
    listed = messages if is_list(messages) else [{"role": "user", "content": messages}]
    for message in listed:
        one = cast("Mapping[str, object]", message)
        if one.get("role") != "system":
            by = can_be_said and one.get("role") == "user"
            yield from (Part("person" if by else "other", content) for content in contents_of(one))
            yield from (Part("other", file) for file in _listed(one.get("files") or None))


def contents_of(message: Mapping[str, object]) -> Generator[object]:
    """Yield the contents of a message, without call ids.

    Args:
        message: The message, as CrewAI keeps it.
    """
    yield from _contents([*_listed(message.get("content")), *_listed(message.get("tool_calls"))])


def _listed(value: object) -> list[object]:
    return value if is_list(value) else [] if value is None else [value]


def _contents(answer: object) -> Generator[object]:
    """Yield the contents of an answer or a message, without call ids."""
    for part in map(_plain, _listed(answer)):
        one = cast("Mapping[str, Any]", part) if isinstance(part, Mapping) else {}
        called = one.get("function")
        if is_mapping(called):
            yield [called.get("name"), called.get("arguments")]
        else:
            yield one.get("text", part)


def _answer_contents(answer: object) -> Generator[object]:
    """Yield the contents of an answer, and what CrewAI takes of it for the output of a task."""
    for content in _contents(answer):
        yield content
        if isinstance(content, str):
            yield content.rpartition(_FINAL)[2].strip()


def _whole(llm: BaseLLM, wanted: ToolCall) -> AbstractContextManager[None]:
    """Have an answer that is inspected come in one piece: CrewAI publishes the pieces of a stream at once."""
    return nullcontext() if wanted.kind == "streamed_model" else call_stream_override(llm, stream=False)


def _shown(answer: object) -> Shown:
    """Return the answer of a model as it is inspected."""
    if isinstance(answer, str):
        return Shown(answer, answer, rebuild=lambda changed: changed)
    parts = answer if is_list(answer) else [answer]
    return Shown(answer, [_plain(part) for part in parts])


def _plain(part: object) -> object:
    dump: Callable[[], object] | None = getattr(part, "model_dump", None)
    return part if dump is None else dump()
