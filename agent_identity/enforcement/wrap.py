"""The guard round the four kinds of callables: functions, coroutines, generators, async generators.

All four share one logic in :class:`~agent_identity.enforcement.guard.Guard`; they differ only in how
they call. A wrapper has no ``__wrapped__``: what it guards is not one attribute away.
"""

import functools
import inspect
import logging
import typing
import weakref
from collections.abc import Callable, Collection, Mapping
from types import FunctionType, MethodType
from typing import ParamSpec, TypeVar, cast

from opentelemetry import context as otel

from agent_identity.enforcement.ambience import attached
from agent_identity.enforcement.arguments import Binder
from agent_identity.enforcement.call import Call
from agent_identity.enforcement.driven import continued, continued_async, drive, drive_async
from agent_identity.enforcement.guard import Guard
from agent_identity.enforcement.lazy import ATOMS, Lazy, check_returned
from agent_identity.enforcement.on_loop import OnLoop
from agent_identity.errors import ConfigurationError

__all__ = ["Entering", "check_body", "dressed", "guard_of", "guarded", "known_as_guarded"]

P = ParamSpec("P")
R = TypeVar("R")

_LOG: typing.Final = logging.getLogger("agent_identity")

_GUARDS: typing.Final["weakref.WeakKeyDictionary[FunctionType, Guard]"] = weakref.WeakKeyDictionary()
"""By identity: an attribute of a wrapper is copied to whatever functools.wraps puts round it, a cache for one."""


def known_as_guarded(wrapper: Callable[P, R], guard: Guard) -> Callable[P, R]:
    """Keep by which guard every call of a function is judged, and return the function."""
    _GUARDS[cast("FunctionType", wrapper)] = guard
    return wrapper


def guard_of(function: object) -> Guard | None:
    """Return the guard that every call of a function or bound method meets, if it is known."""
    plain = function.__func__ if isinstance(function, MethodType) else function
    return _GUARDS.get(plain) if isinstance(plain, FunctionType) else None


class Entering(typing.Protocol):
    """How a call is judged: :meth:`Guard.judge`, or what an integration puts before it."""

    def __call__(self, values: Mapping[str, object], supplied: Collection[str], /, *, can_route: bool) -> Call:
        """Return the call; see :meth:`Guard.judge`."""
        ...


def guarded(
    guard: Guard,
    function: Callable[P, R],
    *,
    entering: Entering | None = None,
    method: bool = False,
    lazy: Lazy | None = None,
) -> Callable[P, R]:
    """Return the function under guard, of the same kind, signature and types.

    Args:
        guard: The guard.
        function: A function, coroutine function, generator function or async generator function.
        entering: What judges a call in place of :meth:`Guard.judge`, which it must call.
        method: The first parameter is the receiver, whatever its name.
        lazy: See :meth:`Enforcer.tool`.

    Raises:
        ConfigurationError: The annotation shows results that would be withheld; see :func:`check_body`.
    """
    body = cast("Callable[..., object]", function)
    check_body(guard.tool.name, body, lazy, guard.point.mode)
    binder = Binder(body, method=method)
    judge: Entering = guard.judge if entering is None else entering

    def enter(args: tuple[object, ...], kwargs: Mapping[str, object]) -> Callable[[], Call]:
        """Bind at once, as calling the body would, and return what judges: a generator is judged later."""
        try:
            values, supplied = binder.bind(args, kwargs)
        except TypeError:
            if guard.point.mode == "enforce":
                raise
            # The body may still be called so. If not, this is the TypeError that it would have raised.
            inspect.signature(body, follow_wrapped=False).bind(*args, **kwargs)
            return lambda: _enter_as_given(judge, args, kwargs)
        return lambda: judge(values, supplied, can_route=True)

    def start(call: Call, args: tuple[object, ...]) -> object:
        """Call what is to run: the route's handler, or the body with the checked snapshot."""
        if call.route is not None:
            return call.route(call)
        if call.as_given is not None:
            return body(*call.as_given[0], **call.as_given[1])
        positional, keywords = binder.spread(call.arguments, args)
        return body(*positional, **keywords)

    if inspect.isasyncgenfunction(body):
        wrapper = _async_generator(guard, enter, start, lazy)
    elif inspect.iscoroutinefunction(body):
        wrapper = _coroutine(guard, _at_once(binder, judge, enter), start, lazy)
    elif inspect.isgeneratorfunction(body):
        wrapper = _generator(guard, enter, start, lazy)
    else:
        wrapper = _function(guard, _at_once(binder, judge, enter), start, lazy)
    return cast("Callable[P, R]", dressed(wrapper, body, binder.signature))


def check_body(name: str, body: Callable[..., object], lazy: Lazy | None, mode: str) -> None:
    """Check that the annotation of a function shows no results that would be withheld; monitor mode only warns.

    Raises:
        ConfigurationError: With code ``lazy_result``: it does.
    """
    if lazy is not None or inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        return
    try:
        check_returned(_hints(body).get("return"), name)
    except ConfigurationError as error:
        if mode == "enforce":
            raise
        _LOG.warning("monitor mode: %s", error)


def _at_once(binder: Binder, judge: Entering, enter: "_Enter") -> "_Judge":
    """Return what binds and judges in one step, where a call begins at once."""

    def judged(args: tuple[object, ...], kwargs: Mapping[str, object]) -> Call:
        try:
            values, supplied = binder.bind(args, kwargs)
        except TypeError:
            return enter(args, kwargs)()
        return judge(values, supplied, can_route=True)

    return judged


def _enter_as_given(judge: Entering, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Call:
    """Enter with arguments that have no single name each; in monitor mode the body gets them nevertheless."""
    call = judge({"args": args, "kwargs": dict(kwargs)}, ("args", "kwargs"), can_route=True)
    call.as_given = (args, kwargs)
    return call


class _Enter(typing.Protocol):
    def __call__(self, args: tuple[object, ...], kwargs: Mapping[str, object], /) -> Callable[[], Call]: ...


_Judge = Callable[[tuple[object, ...], Mapping[str, object]], Call]
_Start = Callable[[Call, tuple[object, ...]], object]


def _function(guard: Guard, judge: _Judge, start: _Start, lazy: Lazy | None) -> Callable[..., object]:
    def wrapper(*args: object, **kwargs: object) -> object:
        call = judge(args, kwargs)
        if call.desk is not None:
            guard.settle(call)
        call.attach()
        try:
            result = start(call, args)
        except BaseException as error:
            call.detach()
            guard.fail(call, error)
            raise
        call.detach()
        if type(result) not in ATOMS:
            later = continued(guard, call, result, lazy)
            if later is not None:
                return later
        guard.succeed(call, result)
        return result

    return wrapper


def _coroutine(guard: Guard, judge: _Judge, start: _Start, lazy: Lazy | None) -> Callable[..., object]:
    on_loop = OnLoop(guard)

    async def wrapper(*args: object, **kwargs: object) -> object:
        call = await on_loop.judge(judge, args, kwargs)
        if call.desk is not None:
            await on_loop.settle(call)
        call.attach()
        try:
            result = start(call, args)
            if inspect.isawaitable(result):
                result = await result
        except BaseException as error:
            call.detach()
            await on_loop.fail(call, error)
            raise
        call.detach()
        if type(result) not in ATOMS:
            later = await continued_async(on_loop, call, result, lazy)
            if later is not None:
                return later
        await on_loop.succeed(call, result)
        return result

    return wrapper


def _generator(guard: Guard, enter: _Enter, start: _Start, lazy: Lazy | None) -> Callable[..., object]:
    def wrapper(*args: object, **kwargs: object) -> object:
        created, judge = otel.get_current(), enter(args, kwargs)
        return drive(guard, lambda: _begin(guard, created, judge, lambda call: start(call, args)), lazy)

    return wrapper


def _async_generator(guard: Guard, enter: _Enter, start: _Start, lazy: Lazy | None) -> Callable[..., object]:
    on_loop = OnLoop(guard)

    def wrapper(*args: object, **kwargs: object) -> object:
        created, judge = otel.get_current(), enter(args, kwargs)
        return drive_async(on_loop, lambda: _begin_async(on_loop, created, judge, lambda call: start(call, args)), lazy)

    return wrapper


def _begin(
    guard: Guard, created: otel.Context, judge: Callable[[], Call], start: Callable[[Call], object]
) -> tuple[Call, object]:
    """Enter under the task of whoever created a generator, not of whoever consumes it."""
    with attached(created):
        call = judge()
        guard.settle(call)
    call.attach()
    try:
        return call, start(call)
    except BaseException as error:
        call.detach()
        guard.fail(call, error)
        raise
    finally:
        call.detach()


async def _begin_async(
    guard: OnLoop, created: otel.Context, judge: Callable[[], Call], start: Callable[[Call], object]
) -> tuple[Call, object]:
    """Enter as :func:`_begin` does, without blocking the event loop."""
    with attached(created):
        call = await guard.judge(judge)
    await guard.settle(call)
    call.attach()
    try:
        return call, start(call)
    except BaseException as error:
        call.detach()
        await guard.fail(call, error)
        raise
    finally:
        call.detach()


_COPIED = ("__module__", "__name__", "__qualname__", "__doc__", "__type_params__")


def dressed(
    wrapper: Callable[..., object], body: Callable[..., object], signature: inspect.Signature
) -> Callable[..., object]:
    """Return the wrapper with the looks of the body, annotations resolved where the body was defined.

    Args:
        wrapper: What stands in the place of the body.
        body: The body.
        signature: The signature of the body.
    """
    for name in _COPIED:
        if hasattr(body, name):
            setattr(wrapper, name, getattr(body, name))
    wrapper.__dict__.update(getattr(body, "__dict__", {}))
    wrapper.__dict__.pop("__wrapped__", None)
    hints = _hints(body)
    wrapper.__annotations__ = hints
    parameters = [p.replace(annotation=hints.get(n, p.annotation)) for n, p in signature.parameters.items()]
    returns = hints.get("return", signature.return_annotation)
    wrapper.__dict__["__signature__"] = signature.replace(parameters=parameters, return_annotation=returns)
    return wrapper


def _hints(body: Callable[..., object]) -> dict[str, object]:
    """Return the annotations of a callable, as far as they can be resolved where it was defined."""
    source = body
    while isinstance(source, functools.partial):
        source = cast("functools.partial[object]", source).func
    annotated = _annotated(source)
    given = None if inspect.isroutine(source) else getattr(source, "__signature__", None)
    if isinstance(given, inspect.Signature) and "__wrapped__" not in getattr(source, "__dict__", {}):
        known = {name: p.annotation for name, p in given.parameters.items() if p.annotation is not p.empty}
    else:
        try:
            return typing.get_type_hints(annotated, include_extras=True)
        except _UNRESOLVED:
            known = dict(getattr(annotated, "__annotations__", {}))
    names = cast("dict[str, object]", getattr(annotated, "__globals__", {}))
    return {name: _resolved(hint, names) for name, hint in known.items()}


_UNRESOLVED = (NameError, TypeError, AttributeError, SyntaxError)


def _resolved(hint: object, names: dict[str, object]) -> object:
    """Return one annotation by itself, because another one that has no meaning here must not hide it."""

    def holder() -> None: ...

    holder.__annotations__ = {"hint": hint}
    try:
        return cast("object", typing.get_type_hints(holder, names, include_extras=True)["hint"])
    except _UNRESOLVED:
        return hint


def _annotated(source: Callable[..., object]) -> object:
    """Return the function whose annotations and globals are those of a callable."""
    if inspect.isroutine(source):
        return source
    if isinstance(source, type):
        makers = [vars(cls).get(name) for cls in source.__mro__[:-1] for name in ("__new__", "__init__")]
        found: list[object] = [
            m for m in (type(source).__call__, *makers) if isinstance(m, FunctionType | staticmethod)
        ]
        return inspect.unwrap(cast("FunctionType", found[0])) if found else None
    if callable(getattr(source, "__dict__", {}).get("__wrapped__")):
        return inspect.unwrap(source)
    return getattr(source, "__call__", None)  # noqa: B004  Its annotations are wanted.
