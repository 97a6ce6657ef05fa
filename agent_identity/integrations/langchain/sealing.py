"""The classes of guarded tools.

A guarded tool is an instance of a subclass of its own class, made for one enforcer. All that guards it
stands in that subclass, so whatever makes a copy of a tool makes a guarded one.
"""

import functools
import inspect
import sys
from abc import ABCMeta
from collections.abc import Awaitable, Callable, Mapping
from types import FunctionType, MethodType
from typing import Final, NamedTuple, Never, NoReturn, cast, final, get_type_hints
from weakref import WeakKeyDictionary, WeakValueDictionary

from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.tools import BaseTool, StructuredTool, Tool

from agent_identity.enforcement import Enforcer, GuardedCall
from agent_identity.enforcement.lazy import Lazy
from agent_identity.enforcement.wrap import check_body, guard_of
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.langchain.entries import arun_of, quiet_entries, run_of, unwrappable
from agent_identity.integrations.langchain.labels import claims_of
from agent_identity.integrations.langchain.passage import Seam, sealed
from agent_identity.integrations.langchain.shortcuts import asks_nothing, shortcuts, stock_runs

__all__ = [
    "FUNCTIONS",
    "METHODS",
    "Stated",
    "base_of",
    "check_results",
    "class_of",
    "enforcer_of",
    "function_enforcer",
    "guards_of",
    "is_sealed",
    "place",
    "returns",
    "seal",
    "stated_of",
    "suspends",
    "unseal",
]

FUNCTIONS: Final = ("func", "coroutine")
"""The fields that hold a tool's functions."""

METHODS: Final = ("_run", "_arun")
"""The methods that run a tool."""

_STOCK: Final = (BaseTool, StructuredTool, Tool)
_MAX_SEAMS: Final = 256
_Body = Callable[..., object]
_AsyncBody = Callable[..., Awaitable[object]]


@final
class Protection:
    """What one enforcer knows about the tools of one class.

    Args:
        base: The class of the tools.
        enforcer: The enforcer; ``None`` for tools that nobody guards any more, which run no more.
        stated: What the application says of the tools.
    """

    __slots__ = ("_layered", "_seams", "base", "bodies", "enforcer", "stated")

    def __init__(self, base: type[BaseTool], enforcer: Enforcer | None, stated: "Stated") -> None:
        self.base = base
        self.enforcer = enforcer
        self.stated = stated
        self.bodies = {name: body for name in METHODS if (body := _own_method(base, name)) is not None}
        functions = [name for name in FUNCTIONS if name in base.model_fields]
        # Stock functions of one tool never call each other, so that a second one is always a second call.
        self._layered = bool(self.bodies) and len(self.bodies) + len(functions) > 1
        self._seams: dict[tuple[str, str], Seam] = {}

    def seam(self, slot: str, body: _Body, tool: BaseTool) -> Seam:
        """Return a new seam of a tool."""
        guard = None if self.enforcer is None else self.guard(self.enforcer, tool)
        return Seam(slot, body, guard, tool, layered=self._layered)

    def method_seam(self, slot: str, tool: BaseTool) -> Seam:
        """Return the seam of a method of a tool."""
        key = slot, tool.name
        seam = self._seams.get(key)
        if seam is None or not seam.fits(tool):
            if len(self._seams) >= _MAX_SEAMS:
                self._seams.clear()
            seam = self._seams[key] = self.seam(slot, self.bodies[slot], tool)
        return seam

    def guard(self, enforcer: Enforcer, tool: BaseTool) -> GuardedCall:
        """Return a new guard of a tool."""
        labels, data, lazy = self.stated
        guard = enforcer.guard(
            tool.name,
            labels=labels,
            data=data,
            claims=claims_of(tool),
            lazy=lazy,
            suspends=suspends,
            returns=returns,
            place=place,
        )
        guard.declare()
        return guard


@final
class Stated(NamedTuple):
    """What the application says of a tool: its labels, those of its data, and its results; ``None`` for nothing."""

    labels: tuple[str, ...] | None = None
    data: tuple[str, ...] | None = None
    lazy: Lazy | None = None


_NOTHING: Final = Stated()


def _own_method(base: type[BaseTool], name: str) -> _Body | None:
    """Return the method if the class runs tools in its own way; LangChain's own methods call the functions."""
    owner = next(cls for cls in base.__mro__ if name in cls.__dict__)
    return None if owner in _STOCK else cast("_Body", getattr(base, name))


def suspends(error: BaseException) -> bool:
    """Tell whether an exception leaves a node of a graph that is to be run again.

    LangGraph need not be there, and where it has not been imported nothing of it can have been raised.
    """
    errors = sys.modules.get("langgraph.errors")
    return errors is not None and isinstance(error, errors.GraphBubbleUp) and not returns(error)


def returns(error: BaseException) -> bool:
    """Tell whether an exception hands the work to another node, which is no error."""
    errors = sys.modules.get("langgraph.errors")
    return errors is not None and isinstance(error, errors.ParentCommand)


def place() -> str:
    """Name the run of the node of a graph in which a tool is called; the same when LangGraph resumes it.

    Ids of calls come from a model, which may give one id to several calls of a turn. Each of them has a run of its own.
    """
    settings = cast("Mapping[str, object]", ensure_config().get("configurable") or {})
    return str(settings.get("checkpoint_ns") or "")


@final
class _Wrapped:
    """What is known about a function that stands in the place of a tool's own."""

    __slots__ = ("body", "direct", "is_async", "protection", "seam")

    def __init__(self, body: _Body, wrapper: _Body, protection: Protection, seam: Seam) -> None:
        self.body = body
        self.direct = asks_nothing(wrapper)
        self.is_async = inspect.iscoroutinefunction(wrapper)
        self.protection = protection
        self.seam = seam


_WRAPPED: Final[WeakKeyDictionary[object, _Wrapped]] = WeakKeyDictionary()
"""By identity: an attribute of the function could be copied to another one, as functools.wraps does."""

_SEALED: Final[WeakKeyDictionary[type, Protection]] = WeakKeyDictionary()
_CLASSES: Final[WeakValueDictionary[tuple[type, int, Stated], type[BaseTool]]] = WeakValueDictionary()


def _wrapped(function: object) -> _Wrapped | None:
    return _WRAPPED.get(function) if type(function) is FunctionType else None


def _replaced(protection: Protection, slot: str, tool: BaseTool) -> _Body | None:
    """Return the guarded function of a tool, whoever last wrote the bare one there."""
    stored = cast("_Body | None", tool.__dict__.get(slot))
    if stored is None:
        return None
    known = _wrapped(stored)
    if known is not None and known.protection.enforcer in (protection.enforcer, None):
        if known.protection is protection and known.seam.fits(tool):
            return stored
        stored = known.body
    seam = protection.seam(slot, stored, tool)
    wrapper = sealed(stored, lambda _args: seam)
    _WRAPPED[wrapper] = _Wrapped(stored, wrapper, protection, seam)
    vars(tool)[slot] = wrapper
    return wrapper


def _direct(protection: Protection, tool: BaseTool, slot: str) -> Seam | None:
    """Return the seam of the function in a field of a tool, if LangChain would hand it the arguments alone."""
    function = cast("_Body | None", tool.__dict__.get(slot))
    known = _wrapped(function)
    if known is None or known.protection is not protection or not known.seam.fits(tool):
        known = _wrapped(_replaced(protection, slot, tool))
    if known is None or not known.direct or (slot == "coroutine" and not known.is_async):
        return None
    return known.seam


@final
class _Function:
    """A field that holds a function of the tool: whatever is put there is guarded when it is read."""

    __slots__ = ("_protection", "_slot")

    def __init__(self, slot: str, protection: Protection) -> None:
        self._slot = slot
        self._protection = protection

    def __get__(self, tool: BaseTool | None, owner: type) -> _Body | None:
        if tool is None:
            # Fields of a pydantic model are no attributes of its class.
            raise AttributeError(self._slot)
        return _replaced(self._protection, self._slot, tool)

    def __set__(self, tool: BaseTool, value: object) -> None:
        vars(tool)[self._slot] = value


@final
class _Fixed:
    """A method that no attribute of an instance can replace."""

    __slots__ = ("_method", "_name")

    def __init__(self, name: str, method: _Body) -> None:
        self._name = name
        self._method = method

    def __get__(self, tool: BaseTool | None, owner: type) -> _Body:
        return self._method if tool is None else MethodType(self._method, tool)

    def __set__(self, tool: BaseTool, value: object) -> NoReturn:
        raise ConfigurationError(
            f"expected {self._name}() of the guarded tool {tool.name!r} to stay; "
            "replace it before protect(), or call unprotect() first"
        )


def class_of(base: type[BaseTool], enforcer: Enforcer | None, stated: Stated = _NOTHING) -> type[BaseTool]:
    """Return the guarded subclass of a class of tools for one enforcer, and for tools of which the same is stated."""
    # While the class lives it holds the enforcer, so that no other enforcer can have the same id.
    key = base, id(enforcer), stated
    found = _CLASSES.get(key)
    if found is None:
        found = _make_class(base, Protection(base, enforcer, stated))
        _CLASSES[key] = found
    return found


def _make_class(base: type[BaseTool], protection: Protection) -> type[BaseTool]:
    namespace: dict[str, object] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__slots__": (),
        "__reduce_ex__": _reduce,
        "__init_subclass__": classmethod(_refuse_subclass),
        "run": _Fixed("run", run_of(base)),
        "arun": _Fixed("arun", arun_of(base)),
        **shortcuts(base),
        **quiet_entries(base, functools.partial(_direct, protection)),
    }
    for name in METHODS:
        own = protection.bodies.get(name)
        namespace[name] = _Fixed(name, _stock(base, name) if own is None else _method(name, own, protection))
    for name in FUNCTIONS:
        if name in base.model_fields:
            namespace[name] = _Function(name, protection)
    # Nothing of the model changes, so pydantic's metaclass must not build it anew.
    made = ABCMeta.__new__(type(base), base.__name__, (base,), namespace)
    _SEALED[made] = protection
    return made


def _method(name: str, body: _Body, protection: Protection) -> _Body:
    return sealed(body, lambda args: protection.method_seam(name, cast("BaseTool", args[0])))


def _stock(base: type[BaseTool], name: str) -> _Body:
    """Return LangChain's own method, or one that does the same sooner."""
    method = _prepared(getattr(base, name))
    if not stock_runs(base, name):
        return method

    def run(
        self: StructuredTool, *args: object, config: object, run_manager: object = None, **kwargs: object
    ) -> object:
        function = self.func
        known = _wrapped(function)
        if known is None or not known.direct:
            return method(self, *args, config=config, run_manager=run_manager, **kwargs)
        return cast("_Body", function)(*args, **kwargs)

    async def arun(
        self: StructuredTool, *args: object, config: object, run_manager: object = None, **kwargs: object
    ) -> object:
        coroutine = self.coroutine
        known = _wrapped(coroutine)
        if known is None or not known.direct:
            return await cast("_AsyncBody", method)(self, *args, config=config, run_manager=run_manager, **kwargs)
        return await cast("_AsyncBody", coroutine)(*args, **kwargs)

    chosen = run if name == "_run" else arun
    functools.update_wrapper(chosen, method)
    # LangChain resolves all annotations at each call and looks for one only.
    chosen.__annotations__ = {"config": RunnableConfig}
    return unwrappable(chosen, method)


def _prepared(method: _Body) -> _Body:
    """Return LangChain's own method, prepared for the introspection that LangChain repeats at each call.

    It resolves all annotations to find the parameter that takes the configuration, and asks for the names of
    the parameters. A copy of the function with resolved annotations and its signature at hand gives the same
    answers sooner.
    """
    if type(method) is not FunctionType:
        return method
    try:
        hints = get_type_hints(method)
    except (NameError, TypeError):
        return method
    if RunnableConfig not in hints.values():
        return method  # LangChain knows BaseTool._arun by its identity.
    copied = FunctionType(method.__code__, method.__globals__, method.__name__, method.__defaults__, method.__closure__)
    functools.update_wrapper(copied, method)
    copied.__kwdefaults__ = method.__kwdefaults__
    copied.__annotations__ = hints
    return unwrappable(copied, method)


def _refuse_subclass(cls: type[Never], /, **_kwargs: object) -> NoReturn:
    raise TypeError(f"expected a subclass of the class of {cls.__name__}, not of that of a guarded tool")


def is_sealed(tool: BaseTool) -> bool:
    """Tell whether the tool is guarded, or closed because nobody guards it any more."""
    return type(tool) in _SEALED


def base_of(tool: BaseTool) -> type[BaseTool]:
    """Return the class of the tool as it is without a guard."""
    protection = _SEALED.get(type(tool))
    return type(tool) if protection is None else protection.base


def enforcer_of(tool: BaseTool) -> Enforcer | None:
    """Return the enforcer that guards the tool, if one does."""
    protection = _SEALED.get(type(tool))
    return None if protection is None else protection.enforcer


def guards_of(tool: BaseTool) -> tuple[GuardedCall, ...]:
    """Return the guards of :meth:`Enforcer.tool` that every call of a bare tool meets; none if it has a way past them.

    A class that runs tools in its own way may never call the functions, so what guards those does not count.
    """
    if any(_own_method(base_of(tool), name) is not None for name in METHODS):
        return ()
    functions = [function for slot in FUNCTIONS if (function := tool.__dict__.get(slot)) is not None]
    guards = [guard for function in functions if (guard := guard_of(function)) is not None]
    return tuple(guards) if len(guards) == len(functions) else ()


def function_enforcer(function: object) -> Enforcer | None:
    """Return the enforcer that guards a function as that of a tool, if one does."""
    known = _wrapped(function)
    return None if known is None else known.protection.enforcer


def stated_of(tool: BaseTool) -> Stated:
    """Return what the application said of a guarded tool."""
    protection = _SEALED.get(type(tool))
    return _NOTHING if protection is None else protection.stated


def check_results(tool: BaseTool, enforcer: Enforcer, lazy: Lazy | None) -> None:
    """Check that no annotation of a bare tool shows results that would be withheld.

    Raises:
        ConfigurationError: With code ``lazy_result``: one does.
    """
    bodies = [tool.__dict__.get(slot) for slot in FUNCTIONS] + [_own_method(base_of(tool), name) for name in METHODS]
    for body in bodies:
        if body is not None:
            check_body(tool.name, cast("_Body", body), lazy, enforcer.guard(tool.name).mode)


def seal(tool: BaseTool, enforcer: Enforcer | None, stated: Stated = _NOTHING) -> None:
    """Guard a tool that no enforcer guards; without an enforcer it refuses every call."""
    kind = class_of(base_of(tool), enforcer, stated)
    if enforcer is not None:
        _SEALED[kind].guard(enforcer, tool)  # So that it is known before its first call.
    object.__setattr__(tool, "__class__", kind)
    for slot in FUNCTIONS:
        # Reading puts the guarded function in the place of the bare one.
        getattr(tool, slot, None)


def unseal(tool: BaseTool) -> None:
    """Make a sealed tool what it was before."""
    object.__setattr__(tool, "__class__", base_of(tool))
    vars(tool).update(_bare(tool))


def _bare(tool: BaseTool) -> dict[str, object]:
    """Return the bare functions of a tool by field."""
    known = {slot: _wrapped(tool.__dict__.get(slot)) for slot in FUNCTIONS}
    return {slot: wrapped.body for slot, wrapped in known.items() if wrapped is not None}


def _reduce(tool: BaseTool, _protocol: object) -> tuple[object, ...]:
    """Pickle the bare tool as a closed one: authority does not travel in pickles."""
    base = base_of(tool)
    if base.__reduce_ex__ is not object.__reduce_ex__ or base.__reduce__ is not object.__reduce__:
        raise TypeError(f"expected {base.__name__} to leave pickling to pydantic; pickle it before protect()")
    state = dict(tool.__getstate__())
    state["__dict__"] = {**state["__dict__"], **_bare(tool)}
    return _closed, (base, state)


def _closed(base: type[BaseTool], state: dict[object, object]) -> BaseTool:
    tool = base.__new__(base)
    tool.__setstate__(state)
    seal(tool, None)
    return tool
