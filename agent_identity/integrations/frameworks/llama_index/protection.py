"""Tools under guard: copies of the tools of an agent, or all of a process."""

import copy
import inspect
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Final, NamedTuple, cast, final
from weakref import WeakKeyDictionary

from llama_index.core.tools import AsyncBaseTool, BaseTool, FunctionTool, ToolOutput
from llama_index.core.tools.types import adapt_to_async_tool
from workflows.runtime.types.results import WaitingForEvent

from agent_identity import Enforcer
from agent_identity.adapters import Acting, Declared, ToolGuards
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.frameworks.llama_index.guarded_calls import CONTEXT, GuardedCalls, Origin, within
from agent_identity.integrations.frameworks.llama_index.turns import watch_turns
from agent_identity.integrations.method_patch import MethodPatch

GUARDED: Final = "agent_identity_guarded"
"""The attribute of a class whose own methods are those of the guard."""

_METHODS: Final = ("call", "acall", "__call__")


class _Step(NamedTuple):
    """A method of a tool that runs. Frozen.

    Attributes:
        tool: The tool.
        name: The name of the method.
        kind: The class that has it.
    """

    tool: AsyncBaseTool
    name: str
    kind: type


_RUNNING: Final = ContextVar[_Step | None]("agent_identity_llama_index_step", default=None)
"""The judged method that runs here: what it calls of the same tool belongs to the same call, but itself."""


@final
class EveryTool:
    """Guards every class of tools that has a method of its own to run them, now or later.

    Args:
        origin: Where their tools come from.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._known = WeakKeyDictionary[AsyncBaseTool, GuardedCalls]()
        self._patches = list[MethodPatch]()
        self._on = False
        self._later = MethodPatch(AsyncBaseTool, {"__init_subclass__": self._watched})

    def apply(self) -> None:
        """Begin to guard."""
        self._on = True
        self._later.apply()
        for kind in _below(AsyncBaseTool):
            self._guard(kind)

    def undo(self) -> None:
        """Guard no more, and put back what was there."""
        self._on = False
        self._later.undo()
        for patch in reversed(self._patches):
            patch.undo()
        self._patches.clear()

    def _watched(self, before: Any) -> object:  # noqa: ANN401  A class method.
        def init_subclass(kind: type[AsyncBaseTool], /, **options: object) -> None:
            before.__get__(None, kind)(**options)
            if self._on:
                self._guard(kind)

        return classmethod(init_subclass)

    def _guard(self, kind: type[AsyncBaseTool]) -> None:
        names = [name for name in _METHODS if name in vars(kind)]
        if not names or GUARDED in vars(kind):
            return
        ways = {name: self._acall if name == "acall" else self._call for name in names}
        patch = MethodPatch(kind, {name: partial(way, kind, name) for name, way in ways.items()})
        self._patches.append(patch)
        patch.apply()

    def _calls_of(self, step: _Step) -> GuardedCalls | None:
        """Return the guarded calls of a tool; ``None`` where a guard calls it, or a judged call goes on."""
        running, tool = _RUNNING.get(), step.tool
        if not self._on or within.get() is tool:
            return None
        if running is not None and running.tool is tool and running[1:] != step[1:]:
            return None
        if tool not in self._known:
            self._known[tool] = GuardedCalls(tool, self._origin)
        return self._known[tool]

    def _call(self, kind: type, name: str, before: Any) -> Callable[..., ToolOutput]:  # noqa: ANN401
        @wraps(before)
        def call(tool: AsyncBaseTool, /, *args: object, **kwargs: object) -> ToolOutput:
            step = _Step(tool, name, kind)

            def body(*args: object, **kwargs: object) -> ToolOutput:
                with _running(step):
                    return cast("ToolOutput", before.__get__(tool)(*args, **kwargs))

            calls = self._calls_of(step)
            return body(*args, **kwargs) if calls is None else calls.run(args, kwargs, body)

        return call

    def _acall(self, kind: type, name: str, before: Any) -> Callable[..., Awaitable[ToolOutput]]:  # noqa: ANN401
        @wraps(before)
        async def acall(tool: AsyncBaseTool, /, *args: object, **kwargs: object) -> ToolOutput:
            step = _Step(tool, name, kind)

            async def body(*args: object, **kwargs: object) -> ToolOutput:
                with _running(step):
                    return cast("ToolOutput", await before.__get__(tool)(*args, **kwargs))

            calls = self._calls_of(step)
            return await (body(*args, **kwargs) if calls is None else calls.run_async(args, kwargs, body))

        return acall


@contextmanager
def _running(step: _Step) -> Generator[None]:
    """Run a method of a tool; one that runs within another of the same call leaves that in its place."""
    running = _RUNNING.get()
    outermost = running if running is not None and running.tool is step.tool and running[1:] != step[1:] else step
    inside, here = within.set(None), _RUNNING.set(outermost)
    try:
        yield
    finally:
        _RUNNING.reset(here)
        within.reset(inside)


def _below(kind: type[AsyncBaseTool]) -> Iterator[type[AsyncBaseTool]]:
    """Yield all classes below a class, each once."""
    waiting, seen = [kind], set[type]()
    while waiting:
        for one in waiting.pop().__subclasses__():
            if one not in seen:
                seen.add(one)
                waiting.append(one)
                yield one


__all__ = ["instrument", "protect"]

_CALLS: Final = "agent_identity_calls"
"""The attribute of a guarded tool that holds its guarded calls."""

_classes: Final[dict[type, type]] = {}


def protect(
    tools: Sequence[BaseTool | Callable[..., object]],
    enforcer: Enforcer,
    *,
    agents: Acting | None = None,
    tool_options: Declared | None = None,
    acting: str | None = None,
    server: str | None = None,
    use_context: bool = True,
) -> list[AsyncBaseTool]:
    """Return tools under guard; those that were passed stay as they are.

    A refused call is a :class:`ToolOutput` with ``is_error``, and the run continues.

    Args:
        tools: The tools, or functions, as ``FunctionAgent(tools=…)`` takes them.
        enforcer: The enforcer. A task must be open around each run.
        agents: The governed agent by the name that LlamaIndex gives an agent: its calls run under authority that the
            task delegates to it for that call.
        tool_options: Declarations of tools by name, each a :class:`~agent_identity.options.ToolOptions`.
        acting: The name of the agent that has these tools, for agents outside any ``AgentWorkflow``.
        server: The name of the MCP server whose tools these are.
        use_context: Let LlamaIndex hand its context to the guard, which agents and approvals by events need.
            ``False`` for a ``CodeActAgent``, which accepts no tools with a context.

    Raises:
        TypeError: Enforcer, agents or options are of another type.
        ConfigurationError: A tool cannot be guarded, or options name an argument that it does not have; or options,
            ``agents``, ``acting`` or ``server`` differ from those that it is guarded with already.
    """
    guards = ToolGuards(enforcer, agents=agents, suspends=(WaitingForEvent,), tool_options=tool_options)
    origin = Origin(guards, acting, server)
    watch_turns()
    return [_protected(tool, origin, use_context=use_context) for tool in tools]


def instrument(enforcer: Enforcer) -> Callable[[], None]:
    """Guard all tools of this process, and return the function that undoes it.

    Tools that :func:`protect` returned keep their guard.

    Args:
        enforcer: The enforcer.
    """
    watch_turns()
    every = EveryTool(Origin(ToolGuards(enforcer, suspends=(WaitingForEvent,))))
    every.apply()
    return every.undo


def _calls(tool: object) -> GuardedCalls:
    return cast("GuardedCalls", vars(tool)[_CALLS])


def _call(self: object, /, *args: object, **kwargs: object) -> ToolOutput:
    return _calls(self).run(args, kwargs)


async def _acall(self: object, /, *args: object, **kwargs: object) -> ToolOutput:
    return await _calls(self).run_async(args, kwargs)


def _fn(self: object) -> Callable[..., object]:
    """Return the function of a tool under guard, for code that calls it itself."""
    calls = _calls(self)
    tool = cast("FunctionTool", calls.tool)

    @wraps(tool.fn)
    def guarded(*args: object, **kwargs: object) -> object:
        return calls.compute(args, kwargs, tool.fn)

    return guarded


def _async_fn(self: object) -> Callable[..., Awaitable[object]]:
    calls = _calls(self)
    tool = cast("FunctionTool", calls.tool)

    @wraps(tool.async_fn)
    async def guarded(*args: object, **kwargs: object) -> object:
        return await calls.compute_async(args, kwargs, tool.async_fn)

    return guarded


def _real_fn(self: object) -> Callable[..., object]:
    real = cast("FunctionTool", _calls(self).tool).real_fn
    return wraps(real)(_async_fn(self) if inspect.iscoroutinefunction(real) else _fn(self))


def _protected(tool: BaseTool | Callable[..., object], origin: Origin, *, use_context: bool) -> AsyncBaseTool:
    """Return one tool under guard."""
    given = tool if isinstance(tool, BaseTool) else FunctionTool.from_defaults(tool)
    inner = adapt_to_async_tool(given)
    if _CALLS in vars(inner):
        if _calls(inner).origin.guards.enforcer is not origin.guards.enforcer:
            raise ConfigurationError(f"{inner.metadata.name}: another enforcer guards the tool; pass the tool itself")
        name, known = _calls(inner).name, _calls(inner).origin
        pairs = ((origin.acting, known.acting), (origin.server, known.server))
        if any(new and new != old for new, old in (*pairs, (origin.guards.agents, known.guards.agents))):
            known.guards.refuse_second(origin.guards, f"the tool {name!r}")
        if origin.guards.options_of(name) is not None:
            origin.guards.agree(_calls(inner).origin.guards, name)
        return inner
    guarded = copy.copy(inner)
    try:
        guarded.__class__ = _class_of(type(inner))
        vars(guarded)[_CALLS] = GuardedCalls(inner, origin)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"a {type(inner).__name__} cannot be guarded: {type(error).__name__}") from None
    _calls(guarded).declare()
    if use_context and isinstance(guarded, FunctionTool) and not guarded.requires_context:
        guarded.requires_context, guarded.ctx_param_name = True, CONTEXT
    return guarded


def _class_of(kind: type) -> type:
    """Return the guarded subclass of a class of tools."""
    if kind not in _classes:
        # Methods rather than a base class: an object cannot change into a class with another first base.
        members: dict[str, object] = {"__module__": kind.__module__, "call": _call, "acall": _acall, "__call__": _call}
        members[GUARDED] = True
        if issubclass(kind, FunctionTool):
            members |= {"fn": property(_fn), "async_fn": property(_async_fn), "real_fn": property(_real_fn)}
        _classes[kind] = type(kind.__name__, (kind,), members)
    return _classes[kind]
