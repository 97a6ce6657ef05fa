"""Classes of guarded tools.

A guarded tool is an instance of a subclass of its own class, made for one enforcer. That subclass
contains the whole guard, so every copy of a guarded tool is guarded.
"""

import functools
import inspect
import sys
from abc import ABCMeta
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from types import FunctionType, MethodType
from typing import Final, Never, NoReturn, cast, final, get_type_hints
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.tools import BaseTool, StructuredTool, Tool

from agent_identity import Enforcer
from agent_identity.adapters import GuardedCall, claims_from, guard_of
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.langchain.invocation import (
    InterceptedMethod,
    guarded_async_entry,
    guarded_entry,
    intercepted,
)
from agent_identity.integrations.langchain.parameters import asks_nothing
from agent_identity.integrations.langchain.turns import thread_of, watch_turns
from agent_identity.integrations.narrowing import is_mapping
from agent_identity.options import ToolOptions
from agent_identity.policy import Claims

METADATA_KEY: Final = "agent_identity"
"""The ``metadata`` key of a mapping with ``labels`` and ``data``."""


def claims_of(tool: BaseTool) -> Claims | None:
    """Return the labels that a tool claims: its tags, ``metadata["agent_identity"]``, and its MCP annotations."""
    metadata = _mapping(tool.metadata)
    own = _mapping(metadata.get(METADATA_KEY))
    labels = (*_items(tool.tags), *_items(own.get("labels")))
    return claims_from(labels, _items(own.get("data")), annotations=metadata)


def _mapping(value: object) -> Mapping[str, object]:
    return value if is_mapping(value) else {}


def _items(value: object) -> Iterable[object]:
    return cast("Iterable[object]", value) if isinstance(value, list | tuple | set | frozenset) else ()


__all__ = [
    "FUNCTIONS",
    "METHODS",
    "PARTS",
    "base_of",
    "check_stated",
    "class_of",
    "enforcer_of",
    "function_enforcer",
    "guard_for",
    "guards_of",
    "is_wrapped",
    "noting",
    "place",
    "returns",
    "stated_of",
    "suspends",
    "thread",
    "unwrap_tool",
    "workflow",
    "wrap_tool",
]

METHODS: Final = ("_run", "_arun")
"""Methods that run a tool."""

FUNCTIONS: Final = ("func", "coroutine")
"""Fields with functions of a tool; each is called by the method at the same position."""

PARTS: Final = ("__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")
"""Members of a pydantic model beside its ``__dict__``."""

watch_turns()

_STOCK: Final = (BaseTool, StructuredTool, Tool)
_MAX_METHODS: Final = 256
_Body = Callable[..., object]
_AsyncBody = Callable[..., Awaitable[object]]


@final
class Protection:
    """The guard of one enforcer for the tools of one class.

    Args:
        base: The class of the tools.
        enforcer: The enforcer; ``None`` for closed tools, which refuse every call.
        stated: The statements of the application about the tools.
    """

    __slots__ = ("_layered", "_methods", "base", "bodies", "enforcer", "stated")

    def __init__(self, base: type[BaseTool], enforcer: Enforcer | None, stated: ToolOptions) -> None:
        self.base = base
        self.enforcer = enforcer
        self.stated = stated
        self.bodies = {name: body for name in METHODS if (body := _own_method(base, name)) is not None}
        functions = [name for name in FUNCTIONS if name in base.model_fields]
        # LangChain's own functions of one tool never call each other, so a second one is always a second call.
        self._layered = bool(self.bodies) and len(self.bodies) + len(functions) > 1
        self._methods: dict[tuple[str, str], InterceptedMethod] = {}

    def intercept(self, slot: str, body: _Body, tool: BaseTool) -> InterceptedMethod:
        """Return a new interception of one body of a tool."""
        guard = None if self.enforcer is None else self.guard(self.enforcer, tool)
        return InterceptedMethod(slot, body, guard, tool, layered=self._layered)

    def method(self, slot: str, tool: BaseTool) -> InterceptedMethod:
        """Return the interception of a method of a tool."""
        key = slot, tool.name
        method = self._methods.get(key)
        if method is None or not method.fits(tool):
            if len(self._methods) >= _MAX_METHODS:
                self._methods.clear()
            method = self._methods[key] = self.intercept(slot, self.bodies[slot], tool)
        return method

    def guard(self, enforcer: Enforcer, tool: BaseTool) -> GuardedCall:
        """Return a new guard of a tool."""
        make = partial(
            enforcer.guard,
            claims=claims_of(tool),
            suspends=suspends,
            returns=returns,
            place=place,
            workflow=workflow,
            thread=thread,
        )
        schema, hints = _arguments_of(tool)
        guard = self.stated.guard(
            make,
            tool.name,
            kind="function",
            server=None,
            schema=schema,
            hints=hints,
            description=tool.description,
        )
        guard.declare()
        return guard


def _arguments_of(tool: BaseTool) -> tuple[Mapping[str, object] | None, Mapping[str, object] | None]:
    """Return what is known of the arguments of a tool: their JSON Schema, or their annotations."""
    schema: object = tool.args_schema
    if is_mapping(schema):
        return schema, None
    fields: object = getattr(schema, "model_fields", None)
    if not is_mapping(fields):
        return None, None
    known = fields
    return None, {name: getattr(field, "annotation", None) for name, field in known.items()}


_NOTHING: Final = ToolOptions()


def _own_method(base: type[BaseTool], name: str) -> _Body | None:
    """Return the method if the class runs tools in its own way; LangChain's own methods call the functions."""
    owner = next(cls for cls in base.__mro__ if name in cls.__dict__)
    return None if owner in _STOCK else cast("_Body", getattr(base, name))


def suspends(error: BaseException) -> bool:
    """Return whether an exception suspends a graph node, to be run again.

    LangGraph is optional, and without its import nothing of it can have been raised.
    """
    errors = sys.modules.get("langgraph.errors")
    return errors is not None and isinstance(error, errors.GraphBubbleUp) and not returns(error)


def returns(error: BaseException) -> bool:
    """Return whether an exception hands the work to another node, which is no error."""
    errors = sys.modules.get("langgraph.errors")
    return errors is not None and isinstance(error, errors.ParentCommand)


def place() -> str:
    """Return the run id of the graph node in which a tool is called; the same when LangGraph resumes it.

    Call ids come from a model, which may give one id to several calls of a turn. Each of them has a run of its own.
    """
    settings = cast("Mapping[str, object]", ensure_config().get("configurable") or {})
    return str(settings.get("checkpoint_ns") or "")


def workflow() -> str | None:
    """Return the id of the LangGraph thread in which a tool is called, if any."""
    settings = cast("Mapping[str, object]", ensure_config().get("configurable") or {})
    thread = settings.get("thread_id")
    return None if thread is None else str(thread)


def thread() -> str | None:
    """Return the name of the LangGraph thread in which a tool is called, if any, for the mark that goes on in it."""
    return thread_of(ensure_config().get("configurable"))


@final
class _Wrapped:
    """The record of a function that replaces a tool's own."""

    __slots__ = ("body", "is_direct", "method", "protection")

    def __init__(self, body: _Body, wrapper: _Body, protection: Protection, method: InterceptedMethod) -> None:
        self.body = body
        self.is_direct = asks_nothing(wrapper)
        self.method = method
        self.protection = protection


_WRAPPED: Final[WeakKeyDictionary[object, _Wrapped]] = WeakKeyDictionary()
"""By identity: functools.wraps could copy an attribute of the function to another one."""

_SEALED: Final[WeakKeyDictionary[type, Protection]] = WeakKeyDictionary()
_NOTES: Final[WeakValueDictionary[type, type[BaseTool]]] = WeakValueDictionary()
_NOTING: Final[WeakSet[type]] = WeakSet()
_CLASSES: Final[WeakValueDictionary[tuple[type, int, ToolOptions], type[BaseTool]]] = WeakValueDictionary()


def _wrapped(function: object) -> _Wrapped | None:
    return _WRAPPED.get(function) if type(function) is FunctionType else None


def _guarded(protection: Protection, slot: str, tool: BaseTool) -> _Wrapped | None:
    """Replace a bare function in a tool's field by its guarded one, and return that."""
    stored: _Body | None = tool.__dict__.get(slot)
    if stored is None:
        return None
    known = _wrapped(stored)
    if known is not None:
        if known.protection is protection and known.method.fits(tool):
            return known
        if known.protection.enforcer in (protection.enforcer, None):
            stored = known.body
    method = protection.intercept(slot, stored, tool)
    wrapper = intercepted(stored, lambda _args: method)
    vars(tool)[slot] = wrapper
    made = _WRAPPED[wrapper] = _Wrapped(stored, wrapper, protection, method)
    return made


@final
class _Function:
    """A field with a function of the tool: its current function is guarded on each read."""

    __slots__ = ("_protection", "_slot")

    def __init__(self, slot: str, protection: Protection) -> None:
        self._slot = slot
        self._protection = protection

    def __get__(self, tool: BaseTool | None, owner: type) -> _Body | None:
        if tool is None:
            # Fields of a pydantic model are no attributes of its class.
            raise AttributeError(self._slot)
        _guarded(self._protection, self._slot, tool)
        return cast("_Body | None", tool.__dict__.get(self._slot))

    def __set__(self, tool: BaseTool, value: object) -> None:
        vars(tool)[self._slot] = value


@final
class _Fixed:
    """A method that no instance attribute can replace."""

    __slots__ = ("_method", "_name")

    def __init__(self, name: str, method: _Body) -> None:
        self._name = name
        self._method = method

    def __get__(self, tool: BaseTool | None, owner: type) -> _Body:
        return self._method if tool is None else MethodType(self._method, tool)

    def __set__(self, tool: BaseTool, value: object) -> NoReturn:
        raise ConfigurationError(
            f"{self._name}() of the guarded tool {tool.name!r} cannot be replaced; "
            "replace it before protect(), or call unprotect() first"
        )


def class_of(base: type[BaseTool], enforcer: Enforcer | None, stated: ToolOptions = _NOTHING) -> type[BaseTool]:
    """Return the guarded subclass of a class of tools, for one enforcer and the same statements."""
    # While the class lives it holds the enforcer, so no other enforcer can have the same id.
    key = base, id(enforcer), stated
    made = _CLASSES.get(key)
    if made is None:
        made = _make_class(base, Protection(base, enforcer, stated))
        _CLASSES[key] = made
    return made


def _make_class(base: type[BaseTool], protection: Protection) -> type[BaseTool]:
    namespace: dict[str, object] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__slots__": (),
        "__reduce_ex__": _reduce,
        "__init_subclass__": classmethod(_refuse_subclass),
        **{name: _Fixed(name, _entry(base, name)) for name in ("run", "arun")},
        **{name: _Fixed(name, _runner(protection, base, name)) for name in METHODS},
    }
    for name in FUNCTIONS:
        if name in base.model_fields:
            namespace[name] = _Function(name, protection)
    # The model is unchanged, so pydantic's metaclass must not rebuild it.
    made = ABCMeta.__new__(type(base), base.__name__, (base,), namespace)
    _SEALED[made] = protection
    return made


def noting(tool: BaseTool) -> BaseTool:
    """Return a copy of a tool with guarded functions: the same state, and its deliveries are noted."""
    base = type(tool)
    if base in _NOTING:
        return tool
    kind = _NOTES.get(base)
    if kind is None:
        namespace: dict[str, object] = {name: _entry(base, name) for name in ("run", "arun")}
        namespace.update({name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")})
        namespace["__slots__"] = ()
        kind = _NOTES[base] = ABCMeta.__new__(type(base), base.__name__, (base,), namespace)
        _NOTING.add(kind)
    copy = kind.__new__(kind)
    object.__setattr__(copy, "__dict__", vars(tool))
    for name in PARTS:
        object.__setattr__(copy, name, getattr(tool, name))
    return copy


def _entry(base: type[BaseTool], name: str) -> _Body:
    """Return the guarded ``run`` of a class of tools, or its ``arun``."""
    # The class's own is looked up at each call, because instrumentations replace it.
    find = partial(getattr, base, name)
    return _looking_like(find(), guarded_async_entry(find) if name == "arun" else guarded_entry(find))


def _runner(protection: Protection, base: type[BaseTool], name: str) -> _Body:
    """Return ``_run`` or ``_arun`` of a guarded class.

    A class that overrides the method keeps its own, guarded; for all others, ours calls the function of the tool.
    LangChain resolves all annotations of these methods at each call, to find the configuration parameter,
    which takes half of a bare call. So ours have that annotation only.
    """
    body = protection.bodies.get(name)
    if body is not None:
        return intercepted(body, lambda args: protection.method(name, cast("BaseTool", args[0])))
    slot = FUNCTIONS[METHODS.index(name)]
    stock: _Body = getattr(base, name)
    if slot not in base.model_fields:
        return stock  # LangChain knows BaseTool._arun by its identity.
    later = cast("_AsyncBody", stock)
    replaced = not _is_langchains(stock)

    def run(self: BaseTool, *args: object, config: object, run_manager: object = None, **kwargs: object) -> object:
        known = _guarded(protection, slot, self)
        if known is None or replaced or not known.is_direct:
            return stock(self, *args, config=config, run_manager=run_manager, **kwargs)
        return known.method.start(self, args, kwargs)

    async def arun(
        self: BaseTool, *args: object, config: object, run_manager: object = None, **kwargs: object
    ) -> object:
        known = _guarded(protection, slot, self)
        if known is None or replaced or not known.is_direct:
            return await later(self, *args, config=config, run_manager=run_manager, **kwargs)
        return await cast("Awaitable[object]", known.method.start(self, args, kwargs))

    made = _looking_like(stock, arun if inspect.iscoroutinefunction(stock) else run)
    if base.model_fields["args_schema"].is_required():
        made.__annotations__ = {"config": RunnableConfig}
    else:  # Without a schema, LangChain makes one from the annotations of this method.
        with suppress(NameError, TypeError):
            made.__annotations__ = get_type_hints(stock)
    return made


def _is_langchains(method: object) -> bool:
    """Return whether a method is LangChain's own, and not a replacement or wrapper."""
    return (
        type(method) is FunctionType
        and method.__module__.partition(".")[0] == "langchain_core"
        and "__wrapped__" not in method.__dict__
    )


def _looking_like(original: _Body, wrapper: _Body) -> _Body:
    """Give a wrapper the metadata of the original, without the attribute that leads past it."""
    functools.update_wrapper(wrapper, original)
    del wrapper.__dict__["__wrapped__"]
    wrapper.__dict__["__signature__"] = inspect.signature(original)
    return wrapper


def _refuse_subclass(cls: type[Never], /, **_kwargs: object) -> NoReturn:
    raise TypeError(
        f"the class of the guarded tool {cls.__name__} has no subclasses; subclass the class of the bare tool"
    )


def is_wrapped(tool: BaseTool) -> bool:
    """Return whether the tool is guarded, or closed without a guard."""
    return type(tool) in _SEALED


def base_of(tool: BaseTool) -> type[BaseTool]:
    """Return the tool's class without the guard."""
    protection = _SEALED.get(type(tool))
    return type(tool) if protection is None else protection.base


def enforcer_of(tool: BaseTool) -> Enforcer | None:
    """Return the enforcer that guards the tool, if any."""
    protection = _SEALED.get(type(tool))
    return None if protection is None else protection.enforcer


def guards_of(tool: BaseTool) -> tuple[GuardedCall, ...]:
    """Return the guards of :meth:`Enforcer.tool` that every call of a bare tool passes; none if it can bypass them.

    A class that runs tools in its own way may never call the functions, so guards of those do not count.
    """
    if any(_own_method(base_of(tool), name) is not None for name in METHODS):
        return ()
    functions = [function for slot in FUNCTIONS if (function := tool.__dict__.get(slot)) is not None]
    guards = [guard for function in functions if (guard := guard_of(function)) is not None]
    return tuple(guards) if len(guards) == len(functions) else ()


def guard_for(tool: BaseTool) -> GuardedCall | None:
    """Return a guard for calls of a guarded tool, with what is stated about it; ``None`` for a closed tool."""
    protection = _SEALED.get(type(tool))
    if protection is not None:
        return None if protection.enforcer is None else protection.guard(protection.enforcer, tool)
    return next(iter(guards_of(tool)), None)


def function_enforcer(function: object) -> Enforcer | None:
    """Return the enforcer that guards a function as that of a tool, if any."""
    known = _wrapped(function)
    return None if known is None else known.protection.enforcer


def stated_of(tool: BaseTool) -> ToolOptions:
    """Return the statements of the application about a guarded tool."""
    protection = _SEALED.get(type(tool))
    return _NOTHING if protection is None else protection.stated


def check_stated(tool: BaseTool, enforcer: Enforcer, stated: ToolOptions) -> None:
    """Check that a bare tool has no results that would be withheld, and has the arguments that ``touches`` names.

    Raises:
        ConfigurationError: With code ``lazy_result``: it has such results; or ``touches`` names an argument that is
            no parameter.
    """
    for slot in (*FUNCTIONS, *METHODS):
        body = tool.__dict__.get(slot) if slot in FUNCTIONS else _own_method(base_of(tool), slot)
        if body is not None:
            stated.check_function(tool.name, cast("_Body", body), enforcer.mode, method=slot in METHODS)


def wrap_tool(tool: BaseTool, enforcer: Enforcer | None, stated: ToolOptions = _NOTHING) -> None:
    """Guard a bare tool; without an enforcer it refuses every call."""
    kind = class_of(base_of(tool), enforcer, stated)
    if enforcer is not None:
        _SEALED[kind].guard(enforcer, tool)  # It is thereby known before its first call.
    object.__setattr__(tool, "__class__", kind)
    for slot in FUNCTIONS:
        # Reading replaces the bare function by the guarded one.
        getattr(tool, slot, None)


def unwrap_tool(tool: BaseTool) -> None:
    """Restore the bare tool."""
    object.__setattr__(tool, "__class__", base_of(tool))
    vars(tool).update(_bare(tool))


def _bare(tool: BaseTool) -> dict[str, object]:
    """Return the bare functions of a tool by field."""
    known = {slot: _wrapped(tool.__dict__.get(slot)) for slot in FUNCTIONS}
    return {slot: wrapped.body for slot, wrapped in known.items() if wrapped is not None}


def _reduce(tool: BaseTool, _protocol: object) -> tuple[object, ...]:
    """Pickle the bare tool as a closed one: pickles carry no authority."""
    base = base_of(tool)
    if base.__reduce_ex__ is not object.__reduce_ex__ or base.__reduce__ is not object.__reduce__:
        raise TypeError(f"{base.__name__} has its own pickling; pickle it before protect()")
    state = dict(tool.__getstate__())
    state["__dict__"] = {**state["__dict__"], **_bare(tool)}
    return _closed, (base, state)


def _closed(base: type[BaseTool], state: dict[object, object]) -> BaseTool:
    tool = base.__new__(base)
    tool.__setstate__(state)
    wrap_tool(tool, None)
    return tool
