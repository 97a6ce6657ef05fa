"""Guarded wrappers for the four kinds of callables: functions, coroutines, generators, async generators.

All four share one lifecycle, :class:`GuardedCall`; generators begin it at
their first step. A wrapper has no ``__wrapped__``, so the body is not one attribute away.
"""

import functools
import inspect
import logging
import typing
import weakref
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import ParamSpec, TypeGuard, TypeVar, cast

from opentelemetry import context as otel

from agent_identity._guard.calls.arguments import Binder
from agent_identity._guard.calls.call import Call, CallRequest
from agent_identity._guard.lifecycle._generators import drive, drive_async
from agent_identity._guard.lifecycle.deferred_results import Lazy, check_returned
from agent_identity._guard.lifecycle.guarded_call import Body, GuardedCall
from agent_identity._guard.tasks.task_context import attached
from agent_identity._policy.decision.resources import check_parameters
from agent_identity.errors import ConfigurationError

P = ParamSpec("P")
R = TypeVar("R")

_LOG: typing.Final = logging.getLogger("agent_identity")

_GUARDS: typing.Final["weakref.WeakKeyDictionary[FunctionType, GuardedCall]"] = weakref.WeakKeyDictionary()
"""By identity: functools.wraps copies attributes of a wrapper to others, such as a cache around it."""


def known_as_guarded(wrapper: Callable[P, R], guard: GuardedCall) -> Callable[P, R]:
    """Register the guard of a function, and return the function."""
    _GUARDS[cast("FunctionType", wrapper)] = guard
    return wrapper


def guard_of(function: object) -> GuardedCall | None:
    """Return the guard of a function or bound method, if it is known."""
    plain = function.__func__ if isinstance(function, MethodType) else function
    return _GUARDS.get(plain) if isinstance(plain, FunctionType) else None


def guarded(guard: GuardedCall, function: Callable[P, R], *, method: bool = False) -> Callable[P, R]:
    """Return the guarded function, with the same kind, signature and types.

    Args:
        guard: The guard of its calls.
        function: A function, coroutine function, generator function or async generator function.
        method: The first parameter is the receiver, whatever its name.

    Raises:
        ConfigurationError: The annotation names results that would be withheld, see :func:`check_body`; or
            ``touches`` names an argument that is no parameter.
    """
    body = cast("Callable[..., object]", function)
    check_body(guard.tool.name, body, guard.lazy, guard.mode)
    binder = Binder(body, method=method)
    check_parameters(guard.tool.name, guard.tool.touches, binder.parameters)
    ask = _asking(guard, binder, body)
    if inspect.isasyncgenfunction(body):
        wrapper = _async_generator(guard, ask)
    elif inspect.iscoroutinefunction(body):
        wrapper = _coroutine(guard, ask)
    elif inspect.isgeneratorfunction(body):
        wrapper = _generator(guard, ask)
    else:
        wrapper = _function(guard, ask)
    return cast("Callable[P, R]", dressed(wrapper, body, binder.signature))


def check_body(name: str, body: Callable[..., object], lazy: Lazy | None, mode: str) -> None:
    """Check that the annotation of a function names no results that would be withheld; monitor mode only warns.

    Raises:
        ConfigurationError: With code ``lazy_result``: it names one.
    """
    if lazy is not None or inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        return
    try:
        check_returned(hints_of(body).get("return"), name)
    except ConfigurationError as error:
        if mode == "enforce":
            raise
        _LOG.warning("monitor mode: %s", error)


_Ask = Callable[[tuple[object, ...], Mapping[str, object]], tuple[CallRequest, Body]]


def _asking(guard: GuardedCall, binder: Binder, body: Callable[..., object]) -> _Ask:
    """Return the function that turns the arguments of a call into a request and a body for the judged ones."""

    def ask(args: tuple[object, ...], kwargs: Mapping[str, object]) -> tuple[CallRequest, Body]:
        try:
            values, supplied = binder.bind(args, kwargs)
        except TypeError:
            if guard.mode == "enforce":
                raise
            # The body may still accept them. If not, this is its own TypeError.
            inspect.signature(body, follow_wrapped=False).bind(*args, **kwargs)
            return CallRequest({"args": args, "kwargs": dict(kwargs)}), lambda _: body(*args, **kwargs)

        def run(call: Call) -> object:
            if binder.simple:
                return body(**call.arguments)
            positional, keywords = binder.spread(call.arguments, args)
            return body(*positional, **keywords)

        return CallRequest(values, supplied), run

    return ask


def _function(guard: GuardedCall, ask: _Ask) -> Callable[..., object]:
    def wrapper(*args: object, **kwargs: object) -> object:
        return guard.run(*ask(args, kwargs))

    return wrapper


def _coroutine(guard: GuardedCall, ask: _Ask) -> Callable[..., object]:
    async def wrapper(*args: object, **kwargs: object) -> object:
        return await guard.run_async(*ask(args, kwargs))

    return wrapper


def _generator(guard: GuardedCall, ask: _Ask) -> Callable[..., object]:
    def wrapper(*args: object, **kwargs: object) -> object:
        created, (request, body) = otel.get_current(), ask(args, kwargs)
        return drive(guard, lambda: _begin(guard, created, request, body), guard.lazy)

    return wrapper


def _async_generator(guard: GuardedCall, ask: _Ask) -> Callable[..., object]:
    def wrapper(*args: object, **kwargs: object) -> object:
        created, (request, body) = otel.get_current(), ask(args, kwargs)
        return drive_async(guard, lambda: _begin_async(guard, created, request, body), guard.lazy)

    return wrapper


def _begin(guard: GuardedCall, created: otel.Context, request: CallRequest, body: Body) -> tuple[Call, object]:
    """Begin under the task that created a generator, not the one that consumes it."""
    with attached(created):
        call = guard.judge(request)
        guard.settle(call)
    call.attach()
    try:
        return call, (call.route or body)(call)
    except BaseException as error:
        guard.fail(call, error)
        raise
    finally:
        call.detach()


async def _begin_async(
    guard: GuardedCall, created: otel.Context, request: CallRequest, body: Body
) -> tuple[Call, object]:
    """Begin as :func:`_begin` does, without blocking the event loop."""
    with attached(created):
        call = await guard.judge_async(request)
        await guard.settle_async(call)
    call.attach()
    try:
        return call, (call.route or body)(call)
    except BaseException as error:
        await guard.fail_async(call, error)
        raise
    finally:
        call.detach()


_COPIED = ("__module__", "__name__", "__qualname__", "__doc__", "__type_params__")


def dressed(
    wrapper: Callable[..., object], body: Callable[..., object], signature: inspect.Signature
) -> Callable[..., object]:
    """Give the wrapper the metadata of the body, with annotations resolved where the body was defined.

    Args:
        wrapper: The wrapper.
        body: The body.
        signature: The signature of the body.
    """
    for name in _COPIED:
        if hasattr(body, name):
            setattr(wrapper, name, getattr(body, name))
    wrapper.__dict__.update(getattr(body, "__dict__", {}))
    wrapper.__dict__.pop("__wrapped__", None)
    hints = hints_of(body)
    wrapper.__annotations__ = hints
    parameters = [p.replace(annotation=hints.get(n, p.annotation)) for n, p in signature.parameters.items()]
    returns = hints.get("return", signature.return_annotation)
    wrapper.__dict__["__signature__"] = signature.replace(parameters=parameters, return_annotation=returns)
    return wrapper


def _is_partial(source: object) -> TypeGuard[functools.partial[object]]:
    return isinstance(source, functools.partial)


def hints_of(body: Callable[..., object]) -> dict[str, object]:
    """Return the annotations of a callable, resolved where it was defined, as far as possible."""
    source = body
    while _is_partial(source):
        source = source.func
    annotated = _annotated(source)
    explicit = None if inspect.isroutine(source) else getattr(source, "__signature__", None)
    if isinstance(explicit, inspect.Signature) and "__wrapped__" not in getattr(source, "__dict__", {}):
        known = {name: p.annotation for name, p in explicit.parameters.items() if p.annotation is not p.empty}
    else:
        try:
            return typing.get_type_hints(annotated, include_extras=True)
        except _UNRESOLVED:
            known = dict(getattr(annotated, "__annotations__", {}))
    names: dict[str, object] = getattr(annotated, "__globals__", {})
    return {name: _resolved(hint, names) for name, hint in known.items()}


_UNRESOLVED = (NameError, TypeError, AttributeError, SyntaxError)


def _resolved(hint: object, names: dict[str, object]) -> object:
    """Resolve one annotation by itself, so that an unresolvable one does not hide others."""

    def holder() -> None: ...

    holder.__annotations__ = {"hint": hint}
    try:
        resolved: object = typing.get_type_hints(holder, names, include_extras=True)["hint"]
    except _UNRESOLVED:
        return hint
    return resolved


def _annotated(source: Callable[..., object]) -> object:
    """Return the function that has the annotations and globals of a callable."""
    if inspect.isroutine(source):
        return source
    if isinstance(source, type):
        makers = [vars(cls).get(name) for cls in source.__mro__[:-1] for name in ("__new__", "__init__")]
        functions: list[object] = [
            m for m in (type(source).__call__, *makers) if isinstance(m, FunctionType | staticmethod)
        ]
        return inspect.unwrap(cast("FunctionType", functions[0])) if functions else None
    if callable(getattr(source, "__dict__", {}).get("__wrapped__")):
        return inspect.unwrap(source)
    return getattr(source, "__call__", None)  # noqa: B004  Its annotations are wanted.
