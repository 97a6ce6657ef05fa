"""Guards the tools of a crew of CrewAI in place, and those that CrewAI makes for a run."""

import inspect
import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Final, NamedTuple, TypeVar, cast, final

from crewai import Crew
from crewai.agents.agent_builder.base_agent import BaseAgent
from crewai.agents.tools_handler import ToolsHandler
from crewai.hooks import (
    LLMCallHookContext,
    ToolCallHookContext,
    get_after_tool_call_hooks,
    get_before_llm_call_hooks,
    get_before_tool_call_hooks,
    register_after_tool_call_hook,
    register_before_llm_call_hook,
    register_before_tool_call_hook,
    unregister_after_tool_call_hook,
    unregister_before_llm_call_hook,
    unregister_before_tool_call_hook,
)
from crewai.tools import BaseTool
from crewai.tools.base_tool import Tool
from crewai.tools.structured_tool import CrewStructuredTool
from crewai.tools.tool_failure import ToolFailure
from pydantic import computed_field

from agent_identity import Enforcer
from agent_identity.adapters import (
    Acting,
    Call,
    CallRequest,
    Declared,
    Part,
    Shown,
    ToolCall,
    ToolGuards,
    guard_failed,
    refusal,
    resume_run,
    safe_message,
    saw_calls,
    shown,
)
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied
from agent_identity.integrations.frameworks.crewai.models import contents_of, guard_model, members_of, models_of
from agent_identity.integrations.frameworks.crewai.streams import bound_crews, running_crew
from agent_identity.integrations.frameworks.crewai.tool_facts import ToolFacts, facts_of, schema_of, wanted_call
from agent_identity.integrations.method_patch import MethodPatch
from agent_identity.integrations.narrowing import is_array, is_mapping

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


def forget_results(agent: object) -> None:
    """Turn off the cache of an agent: a cached answer would bypass the tool and its guard.

    Args:
        agent: The agent.
    """
    handler = getattr(agent, "tools_handler", None)
    if isinstance(handler, ToolsHandler):
        handler.cache = None


def listed_tools(guard: Callable[[BaseTool | CrewStructuredTool], None]) -> tuple[MethodPatch, ...]:
    """Return what guards each tool before CrewAI lists it for an agent or runs it.

    Args:
        guard: Guards a tool in place; it raises nothing.
    """

    def guarded_first(original: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(original):

            @wraps(original)
            async def run_async(tool: BaseTool, /, *args: object, **named: object) -> object:
                guard(tool)
                return cast("object", await original(tool, *args, **named))

            return run_async

        @wraps(original)
        def run(tool: BaseTool, /, *args: object, **named: object) -> object:
            guard(tool)
            return cast("object", original(tool, *args, **named))

        return run

    return tuple(
        MethodPatch(kind, dict.fromkeys(names, guarded_first))
        for kind, names in (
            (BaseTool, ("run", "arun", "to_structured_tool")),
            (Tool, ("run", "arun")),
            (CrewStructuredTool, ("invoke", "ainvoke")),
        )
    )


__all__ = ["instrument", "never_cached", "protect"]

T = TypeVar("T")

_LOG: Final = logging.getLogger("agent_identity")
_ACTING: Final[ContextVar["_Caller | None"]] = ContextVar("agent_identity_crewai_acting", default=None)
"""The agent whose call the hook has just announced; the body takes it."""

_REFUSED: Final[ContextVar[str | None]] = ContextVar("agent_identity_crewai_refused", default=None)
"""The answer for the call that the hook has just blocked."""

_CLASSES: Final = weakref.WeakKeyDictionary[type, "weakref.ref[_Protection]"]()
_FUNCTIONS: Final = weakref.WeakKeyDictionary[Callable[..., object], "tuple[_Protection, Callable[..., Any]]"]()
_LOCK: Final = threading.Lock()


def never_cached(_arguments: object = None, _result: object = None) -> bool:
    """Tell CrewAI to cache no result: a second call would pass neither the tool nor the guard."""
    return False


def protect(
    target: T,
    enforcer: Enforcer,
    *,
    agents: Acting | None = None,
    model: str | None = None,
    tool_options: Declared | None = None,
    principal_messages: bool = False,
) -> T:
    """Guard the tools of a crew in place, or a list of tools, and return the same object.

    Each call is one decision, one intent and one outcome, in native and in text mode and by ``run``. A refusal is
    returned to the agent as a ``ToolFailure``, and the run continues. For a crew also the tools that CrewAI makes for a
    run (delegation, MCP servers) are guarded when an agent calls them. Results are not cached.

    Args:
        target: A crew, a tool, or tools.
        enforcer: The enforcer. A task must be open around each run.
        agents: The governed agent for each role; see
            :class:`~agent_identity.adapters.ToolGuards`.
        model: The name of model calls in scopes and rules: prompts and answers of the models of a crew are then
            inspected. ``None`` leaves model calls alone.
        tool_options: Declarations of tools by name, each a :class:`~agent_identity.options.ToolOptions`.
        principal_messages: Count user messages that CrewAI writes, such as the description of a task, as the
            principal's own words, while the mark of the task is trusted, the agent has no memory or knowledge, and no
            output of another run is replayed, because CrewAI puts all of these into one text. With information flow and
            ``model``, other parts of a prompt that no guard of the task delivered have unknown integrity.

    Raises:
        TypeError: Something is of another type.
        ValueError: ``model`` does not have 1 to 256 visible characters.
        ConfigurationError: A tool overrides ``run``, or ``_run`` of ``Tool``; its options name an argument that it
            does not have, or differ from those that it is guarded with already; the crew is protected already, by
            another enforcer or with other ``agents``; or ``principal_messages`` is given without ``model``.
    """
    guard = _Protection(
        ToolGuards(
            enforcer,
            agents=agents,
            tool_options=tool_options,
            model=model,
            principal_messages=principal_messages,
        )
    )
    if isinstance(target, Crew):
        known = _HOOKS.by_crew.get(target.id)
        if known is not None and _loses(known.guards, guard.guards):
            known.guards.refuse_second(guard.guards, f"the crew {target.name!r}")
            return target
        _protect_crew(target, guard)
        if model is not None:
            for llm in models_of(target):
                guard_model(llm, guard.guards, model)
    elif model is not None:
        raise TypeError("model is given without a crew; pass the crew, or leave model out")
    else:
        for tool in _tools(target):
            guard.claim(tool)
        _HOOKS.keep()
    return target


def _loses(first: ToolGuards, second: ToolGuards) -> bool:
    """Return whether second guards of a crew would leave something out that the first ones state of its agents.

    Tools and models compare what is stated of them themselves.
    """
    agents = second.agents
    return first.enforcer is not second.enforcer or any(agents.get(role) != one for role, one in first.agents.items())


def _protect_crew(crew: Crew, guard: "_Protection") -> None:
    members = members_of(crew)
    for tools in (*(member.tools for member in members), *(task.tools for task in crew.tasks)):
        for tool in tools or ():
            guard.claim(tool)
    for member in members:
        forget_results(member)
        _HOOKS.by_agent[member.key] = guard
    _HOOKS.for_managers[crew.key] = guard
    _HOOKS.by_crew[crew.id] = guard
    _HOOKS.install()
    watch_turns(members)


def instrument(enforcer: Enforcer) -> Callable[[], None]:
    """Guard the tools that any agent of this process calls, and return what undoes it.

    Tools that :func:`protect` guards keep their guard. Tools that were called meanwhile stay guarded by class; they
    pass their calls on once this is undone.

    Args:
        enforcer: The enforcer.
    """
    guard = _Protection(ToolGuards(enforcer), everywhere=True)
    _HOOKS.default = guard
    _HOOKS.install()

    def undo() -> None:
        guard.active = False
        if _HOOKS.default is guard:
            _HOOKS.default = None
            _HOOKS.uninstall()

    return undo


class _Caller(NamedTuple):
    """The agent that calls a tool. Frozen.

    Attributes:
        guard: The protection of its crew; ``None`` if the application calls.
        role: Its role.
        turn: What tells that its model was asked in the open task.
    """

    guard: "_Protection | None" = None
    role: str | None = None
    turn: str | None = None


@final
class _Protection:
    """Guards tools and models for one enforcer.

    Args:
        guards: The guards.
        everywhere: It is that of the process, and gives way to others.

    Attributes:
        guards: The guards.
        everywhere: See above.
        active: Calls pass the guards.
    """

    def __init__(self, guards: ToolGuards, *, everywhere: bool = False) -> None:
        self.guards: Final = guards
        self.everywhere: Final = everywhere
        self.active = True
        self._classes: dict[type, type] = {}

    def claim(self, tool: BaseTool) -> None:
        """Guard a tool in place.

        Raises:
            ConfigurationError: Another enforcer guards it, or it runs in a way of its own, or its options are not those
                that it has already.
        """
        self.guard(tool)
        owner = _owner(tool)
        if owner is not None and owner.guards.enforcer is not self.guards.enforcer:
            raise ConfigurationError(f"the tool {tool.name!r} is guarded by another enforcer; make another tool")
        facts = facts_of(tool)
        if owner is not None and owner is not self:
            self._share(tool, owner, facts.name)
        function = _known(tool.func) if isinstance(tool, Tool) else None
        self.guards.of(
            facts.name,
            kind=facts.kind,
            server=facts.server,
            schema=schema_of(facts),
            function=None if function is None else function[1],
            description=facts.description,
        )

    def _share(self, tool: BaseTool, owner: "_Protection", name: str) -> None:
        """Share a tool, which has what is declared for it from whoever declares it first.

        Raises:
            ConfigurationError: Something else was declared for it, which would not count for calls of this crew.
        """
        if owner.guards.options_of(name) is not None:
            owner.guards.agree(self.guards, name)
        elif self.guards.options_of(name) is not None:
            with _LOCK:
                _release(tool)
            self.guard(tool)

    def guard(self, tool: BaseTool) -> None:
        """Guard a tool in place; one that a protection guards already keeps its guard.

        Raises:
            ConfigurationError: The tool runs in a way of its own.
        """
        with _LOCK:
            owner = _owner(tool)
            if owner is not None:
                if not self._replaces(owner):
                    return
                _release(tool)
            kind, base = type(tool), Tool if isinstance(tool, Tool) else BaseTool
            names = ("run", "arun", "_run", "_arun") if base is Tool else ("run", "arun")
            own = [name for name in names if getattr(kind, name) is not getattr(base, name)]
            if own:
                raise ConfigurationError(
                    f"the tool {kind.__name__} overrides {own[0]}, so it could run unguarded; extend BaseTool, and "
                    "override _run instead"
                )
            if isinstance(tool, Tool):
                tool.func = self._function(tool.func, partial(facts_of, tool))
            else:
                object.__setattr__(tool, "__class__", self._class(type(tool)))
            tool.cache_function = never_cached

    def listed(self, tool: BaseTool | CrewStructuredTool) -> None:
        """Guard a tool that is about to be listed or run; one that cannot be guarded refuses from then on."""
        try:
            self.guard(tool) if isinstance(tool, BaseTool) else self.structured(tool)
        except Exception as error:  # noqa: BLE001  The run goes on, and the tool must not run.
            if self.guards.enforcer.mode == "monitor":
                _LOG.warning("monitor mode: a tool runs unguarded: %s", safe_message(error))
                return
            _LOG.error("a tool is refused, because it cannot be guarded: %s", safe_message(error))
            self._shut(tool if isinstance(tool, BaseTool) else getattr(tool.func, "__self__", None))
            if not isinstance(tool, BaseTool):
                tool.func = _refuse

    def _shut(self, tool: object) -> None:
        if isinstance(tool, BaseTool) and _owner(tool) is not self:
            object.__setattr__(tool, "__class__", self._class(type(tool), shut=True))

    def structured(self, tool: CrewStructuredTool) -> None:
        """Guard the tool that a hook was shown of: the one that it was made of, or its function."""
        original = getattr(tool.func, "__self__", None)
        if isinstance(original, BaseTool):
            self.guard(original)
            tool.func = original._run  # noqa: SLF001  What every tool of CrewAI has to override.
        else:
            owner, function = _known(tool.func) or (None, tool.func)
            if owner is None or self._replaces(owner):
                tool.func = self._function(function, partial(facts_of, tool))
        tool.cache_function = never_cached

    def _replaces(self, owner: "_Protection") -> bool:
        """Return whether the guard of another protection gives way: one that was undone, or that of the process."""
        return owner is not self and (not owner.active or (owner.everywhere and not self.everywhere))

    def _of_caller(self, called: "_Protection | None", name: str) -> ToolGuards:
        """Return the guards of the crew that calls, which may share a tool with others of the same enforcer."""
        if called is None or not called.active or called.guards.enforcer is not self.guards.enforcer:
            return self.guards
        called.guards.adopt(self.guards, name)
        return called.guards

    def missing(self, context: ToolCallHookContext, caller: _Caller) -> bool | None:
        """Judge and record the call of a tool that the agent does not have; CrewAI answers it if it may be made."""

        def body(_: Call) -> object:
            raise LookupError("the agent has no such tool")

        request = CallRequest(dict(context.tool_input), can_route=False, turn=caller.turn)
        try:
            self.guards.run(ToolCall(context.tool_name, request, caller.role), body)
        except LookupError:
            return None
        except Denied as denied:
            _REFUSED.set(refusal(denied))
        return False

    def run(
        self, facts: ToolFacts, body: Callable[..., object], args: tuple[object, ...], named: Mapping[str, object]
    ) -> object:
        """Run a tool under guard, and return its result or the refusal."""
        own: list[BaseException] = []
        caller = _taken()
        guards = self._of_caller(caller.guard, facts.name)
        wanted, spread = wanted_call(facts, body, args, named, caller.role, turn=caller.turn)

        def run(call: Call) -> object:
            positional, keywords = spread(call)
            return _collected(own, lambda: body(*positional, **keywords))

        try:
            return guards.run(wanted, run) if self.active else body(*args, **named)
        except AgentIdentityError as error:
            return _failure(error, own)

    async def run_async(
        self, facts: ToolFacts, body: Callable[..., Any], args: tuple[object, ...], named: Mapping[str, object]
    ) -> object:
        """Do what :meth:`run` does without blocking the event loop."""
        own: list[BaseException] = []
        caller = _taken()
        guards = self._of_caller(caller.guard, facts.name)
        wanted, spread = wanted_call(facts, body, args, named, caller.role, turn=caller.turn)

        async def run(call: Call) -> object:
            positional, keywords = spread(call)
            try:
                return _shown(await body(*positional, **keywords))
            except BaseException as error:
                own.append(error)
                raise

        try:
            return await (guards.run_async(wanted, run) if self.active else body(*args, **named))
        except AgentIdentityError as error:
            return _failure(error, own)

    def _function(self, function: Callable[..., Any], facts: Callable[[], ToolFacts]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def guarded_async(*args: object, **named: object) -> object:
                return await self.run_async(facts(), function, args, named)

            _FUNCTIONS[guarded_async] = self, function
            return guarded_async

        @wraps(function)
        def guarded(*args: object, **named: object) -> object:
            return self.run(facts(), function, args, named)

        _FUNCTIONS[guarded] = self, function
        return guarded

    def _class(self, kind: type[BaseTool], *, shut: bool = False) -> type[BaseTool]:
        """Return a subclass whose bodies pass the guard; one of a tool that is shut refuses in every way to run it."""
        if kind not in self._classes:
            members: dict[str, object] = {"__module__": __name__, "__doc__": kind.__doc__}
            for name in ("run", "arun", "_run", "_arun") if shut else ("_run", "_arun"):
                members[name] = self._refusing(kind, name) if shut else self._method(kind, name)
            dotted = f"{kind.__module__}.{kind.__qualname__}"  # By this name CrewAI restores tools from checkpoints.
            members["tool_type"] = computed_field(return_type=str)(property(lambda _: dotted))
            made = cast("type[BaseTool]", cast("Any", type(kind))(f"Guarded{kind.__name__}", (kind,), members))
            made.__qualname__ = f"{kind.__qualname__} (guarded)"
            self._classes[kind] = made
            _CLASSES[made] = weakref.ref(self)  # The class itself keeps it.
        return self._classes[kind]

    def _refusing(self, kind: type[BaseTool], name: str) -> Callable[..., Any]:
        original: Callable[..., Any] = getattr(kind, name)

        def run(tool: BaseTool, /, *args: object, **named: object) -> object:
            return _refuse() if self.active else original(tool, *args, **named)

        async def run_async(tool: BaseTool, /, *args: object, **named: object) -> object:
            return _refuse() if self.active else await original(tool, *args, **named)

        return wraps(original)(run_async if inspect.iscoroutinefunction(original) else run)

    def _method(self, kind: type[BaseTool], name: str) -> Callable[..., Any]:
        original: Callable[..., Any] = getattr(kind, name)
        if inspect.iscoroutinefunction(original):

            @wraps(original)
            async def method_async(tool: BaseTool, /, *args: object, **named: object) -> object:
                return await self.run_async(facts_of(tool), partial(original, tool), args, named)

            return method_async

        @wraps(original)
        def method(tool: BaseTool, /, *args: object, **named: object) -> object:
            return self.run(facts_of(tool), partial(original, tool), args, named)

        return method


@final
class _Hooks:
    """The hooks of the process: they guard what CrewAI makes for a run, and tell the bodies who calls.

    CrewAI lets anyone remove them. Tools are therefore guarded when they are listed, too, and each run begins with the
    hooks in place.

    Attributes:
        by_crew: Protections by the id of a crew, whose agents may be those of another crew, too, or added since.
        by_agent: Protections by the key of an agent, which copies of an agent and of its crew share.
        for_managers: Protections by the key of a crew, for the manager that CrewAI makes for a run.
        default: The protection of all others.
    """

    def __init__(self) -> None:
        self.by_crew: dict[object, _Protection] = {}
        self.by_agent: dict[str, _Protection] = {}
        self.for_managers: dict[str, _Protection] = {}
        self.default: _Protection | None = None
        self._is_kept = False
        self._patches = (bound_crews(self._renew), *listed_tools(self._listed))

    def keep(self) -> None:
        """Register the hooks for good: tools were guarded whose agents are not known."""
        self._is_kept = True
        self.install()

    def install(self) -> None:
        """Register the hooks, behind all others."""
        with _LOCK:
            unregister_before_tool_call_hook(self.before)
            unregister_after_tool_call_hook(self.after)
            register_before_tool_call_hook(self.before)
            register_after_tool_call_hook(self.after)
            for patch in self._patches:
                patch.apply()
            watch_turns()

    def _renew(self) -> None:
        """Register the hooks again if somebody has removed them."""
        with _LOCK:
            if self.before not in get_before_tool_call_hooks():
                register_before_tool_call_hook(self.before)
            if self.after not in get_after_tool_call_hooks():
                register_after_tool_call_hook(self.after)
            watch_turns()

    def _listed(self, tool: BaseTool | CrewStructuredTool) -> None:
        """Guard a tool for the crew that runs."""
        crew = running_crew()
        owner = self.default
        if crew is not None:
            known = (self.by_agent.get(member.key) for member in members_of(crew))
            owner = self.by_crew.get(crew.id) or next(filter(None, known), None) or self.default
        if owner is not None:
            owner.listed(tool)

    def uninstall(self) -> None:
        """Remove the hooks, unless some crew is protected."""
        with _LOCK:
            if not (self.by_agent or self._is_kept):
                unregister_before_tool_call_hook(self.before)
                unregister_after_tool_call_hook(self.after)
                for patch in self._patches:
                    patch.undo()
                forget_turns()

    def before(self, context: ToolCallHookContext) -> bool | None:
        """Guard the tool of a call; CrewAI would run it after an exception, so that none leaves."""
        guard = None
        try:
            guard = self._of(context)
            if guard is not None or getattr(context.tool, "cache_function", None) is never_cached:
                forget_results(context.agent)
            if guard is None:
                _ACTING.set(_Caller(turn=turn_of(context.agent)))
                return None
            _ACTING.set(caller := _Caller(guard, getattr(context.agent, "role", None), turn_of(context.agent)))
            tool = cast("CrewStructuredTool | None", context.tool)
            if tool is None:
                return guard.missing(context, caller)
            guard.structured(tool)
        except Exception as error:  # noqa: BLE001  The tool must not run then, and the run goes on.
            if guard is not None and guard.guards.enforcer.mode == "monitor":
                _LOG.warning("monitor mode: a tool runs unguarded: %s", safe_message(error))
                return None
            _REFUSED.set(guard_failed(context.tool_name, error))
            return False
        return None

    def after(self, _: ToolCallHookContext) -> str | None:
        """Return the answer for a call that was blocked."""
        text = _REFUSED.get()
        _REFUSED.set(None)
        _ACTING.set(None)
        return text

    def _of(self, context: ToolCallHookContext) -> "_Protection | None":
        agent, crew = context.agent, context.crew
        own = None if crew is None else self.by_crew.get(crew.id)
        own = own or self.by_agent.get(getattr(agent, "key", ""))
        if own is None and crew is not None and agent is crew.manager_agent:
            own = self.for_managers.get(crew.key)
        return own or self.default


_HOOKS: Final = _Hooks()


def _owner(tool: BaseTool) -> _Protection | None:
    """Return the protection that guards a tool."""
    known = _known(tool.func) if isinstance(tool, Tool) else None
    of_class = _CLASSES.get(type(tool))
    if known is not None:
        return known[0]
    return None if of_class is None else of_class()


def _refuse(*_: object, **__: object) -> ToolFailure:
    """Return the answer of a tool that cannot be guarded."""
    return ToolFailure(message=refusal(Denied("the call could not be guarded", code="guard_failed")))


def _known(function: object) -> tuple[_Protection, Callable[..., Any]] | None:
    """Return the protection of a guarded function, and the function within."""
    try:
        return _FUNCTIONS.get(cast("Callable[..., object]", function))
    except TypeError:  # It has no hash or no weak references: it is none of ours.
        return None


def _release(tool: BaseTool) -> None:
    """Make a guarded tool again what it was."""
    if type(tool) in _CLASSES:
        object.__setattr__(tool, "__class__", type(tool).__bases__[0])
    elif isinstance(tool, Tool):
        tool.func = _FUNCTIONS[tool.func][1]


def _taken() -> _Caller:
    """Return the agent that calls, once: a later call here may come from no agent.

    If the program has removed the hook, the call may come from an agent, in an unknown turn.
    """
    announced = _ACTING.get()
    _ACTING.set(None)
    return announced or _Caller(turn=None if _HOOKS.before in get_before_tool_call_hooks() else "")


def _tools(target: object) -> Iterable[BaseTool]:
    tools = target if is_array(target) else [target]
    for tool in tools:
        if not isinstance(tool, BaseTool):
            raise TypeError(f"{type(tool).__name__} is no tool of CrewAI; pass a Crew, a BaseTool, or a list of them")
        yield tool


def _collected(own: list[BaseException], body: Callable[[], object]) -> object:
    try:
        return _shown(body())
    except BaseException as error:
        own.append(error)
        raise


def _shown(result: object) -> object:
    """Return a result for the guard; a tool of CrewAI may report by it that it failed."""
    if isinstance(result, ToolFailure):
        return Shown(result, result.as_agent_message(), RuntimeError("the tool answered with a failure"))
    return shown(result)


def _failure(error: AgentIdentityError, own: list[BaseException]) -> ToolFailure:
    """Return the answer in the place of a refused call; an error of the tool itself is raised as ever."""
    if isinstance(error, Denied):
        return ToolFailure(message=refusal(error))
    if error in own:
        raise error
    _LOG.error("a call could not be recorded: %s", safe_message(error))
    return ToolFailure(message=f"refused: {error.code}: the call could not be recorded")
