"""Guards of all tools of a process, by the methods of their classes."""

from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Final, NamedTuple, cast, final
from weakref import WeakKeyDictionary

from llama_index.core.tools import AsyncBaseTool, ToolOutput

from agent_identity.integrations.frameworks.llama_index.guarded_calls import GuardedCalls, Origin, within
from agent_identity.integrations.method_patch import MethodPatch

__all__ = ["GUARDED", "EveryTool"]

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
