"""Type checks of arguments at public entry points: the error names the parameter and the expected type.

Python reports a wrong type where it is used, which may be far from the call that passed it. Public functions outside
the path of guarded calls check their arguments against their annotations first.
"""

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, Literal, ParamSpec, TypeVar, cast, get_args, get_origin

from agent_identity._common.narrowing import is_array

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

_FUNCTION: Final[object] = get_origin(Callable[..., object])
_MANY: Final = (collections.abc.Sequence, collections.abc.Collection, collections.abc.Iterable)
_FORMS: Final[Mapping[object, str]] = {
    None: "None",
    type(None): "None",
    _FUNCTION: "a function",
    timedelta: "a datetime.timedelta, for example timedelta(seconds=60)",
}
_MAX_ITEMS: Final = 1_000
"""Elements of one argument that are checked; functions that take more have a limit of their own."""


class _Wrapping(typing.Protocol):
    """A class method and the function in it."""

    __func__: Callable[..., object]


class _Abstract(typing.Protocol):
    """An abstract class."""

    __abstractmethods__: frozenset[str]


def typed(function: Callable[P, R], /, **cures: str) -> Callable[P, R]:
    """Return the function with checks of its arguments against their annotations.

    Elements of lists and tuples are checked as well. The function itself checks everything that an annotation leaves
    open, and the words of a ``Literal``.

    Args:
        function: The function; its annotations are resolved when it is first called.
        cures: The cure in the message, by parameter, where the type alone does not say it.
    """
    signature = inspect.signature(function)
    hints: dict[str, object] = {}

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not hints:
            hints.update(_hints(function, signature))
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own error names the function and suggests a parameter.
        for name, value in bound.arguments.items():
            if name in hints:
                _check(name, value, hints[name], cures.get(name))
        return function(*args, **kwargs)

    return checked


def typed_calls(*names: str, **cures: str) -> Callable[[C], C]:
    """Return a class decorator that applies :func:`typed` to the named methods."""

    def decorate(cls: C) -> C:
        for name in names:
            member = vars(cls)[name]
            if isinstance(member, classmethod):
                setattr(
                    cls,
                    name,
                    classmethod(typed(cast("_Wrapping", member).__func__, **cures)),
                )
            else:
                setattr(cls, name, typed(cast("Callable[..., object]", member), **cures))
        return cls

    return decorate


def _hints(function: Callable[..., object], signature: inspect.Signature) -> dict[str, object]:
    """Return the resolvable annotations by parameter, without those of ``*values`` and ``**options``."""
    names: dict[str, object] = getattr(inspect.unwrap(function), "__globals__", {})
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: _resolved(parameter.annotation, names)
        for name, parameter in signature.parameters.items()
        if parameter.kind not in several and parameter.annotation is not inspect.Parameter.empty
    }


def _resolved(annotation: object, names: dict[str, object]) -> object:
    def holder() -> None: ...

    holder.__annotations__ = {"hint": annotation}
    try:
        resolved: object = typing.get_type_hints(holder, names)["hint"]
    except NameError:  # Imported for type checkers only.
        return object
    return resolved


def _check(name: str, value: object, hint: object, cure: str | None) -> None:
    unfit = _unfit(name, value, hint)
    if unfit is not None:
        place, item, wanted = unfit
        lacking = _lacking(item, wanted)
        lacks = f"; it lacks {', '.join(lacking)}" if lacking else ""
        raise TypeError(f"{place} is {_shown(item)}; give {_form(wanted)}{lacks}{f'; {cure}' if cure else ''}")


def _lacking(value: object, hint: object) -> list[str]:
    """Return the methods of a protocol that a value lacks, if it has some of them."""
    for arm in _arms(hint):
        if isinstance(arm, type) and typing.Protocol in arm.__mro__:
            needed = _members(arm)
            missing = sorted(name for name in needed if not hasattr(value, name))
            if 0 < len(missing) < len(needed):
                return missing
    return []


def _unfit(name: str, value: object, hint: object) -> tuple[str, object, object] | None:
    """Return the first misfit: its place, the value, and the annotation."""
    if not _fits(value, hint):
        return name, value, hint
    element = _element(value, hint)
    if element is not None and is_array(value):
        for index, item in enumerate(value):
            if index < _MAX_ITEMS and not _fits(item, element):
                return f"{name}[{index}]", item, element
    return None


def _element(value: object, hint: object) -> object:
    """Return the common annotation of the elements of a list or tuple, if any."""
    if not isinstance(value, list | tuple):
        return None
    for arm in _arms(hint):
        parts = get_args(arm)
        if get_origin(arm) in _MANY or (get_origin(arm) is tuple and parts[-1:] == (...,)):
            element: object = parts[0]
            return element
    return None


def _arms(hint: object) -> tuple[object, ...]:
    is_union = get_origin(hint) in (typing.Union, types.UnionType)
    return tuple(arm for part in get_args(hint) for arm in _arms(part)) if is_union else (hint,)


def _fits(value: object, hint: object) -> bool:
    return any(_fits_one(value, arm) for arm in _arms(hint))


def _fits_one(value: object, hint: object) -> bool:
    kind = get_origin(hint) or hint
    if kind is Literal:
        return type(value) in {type(word) for word in get_args(hint)}
    if kind is _FUNCTION:
        return callable(value)
    if hint is None or not isinstance(kind, type) or kind is object or kind.__module__ == "typing":
        return hint is not None or value is None
    if kind in _MANY and isinstance(value, str | bytes | Mapping):
        return False
    return _is(value, kind)


def _is(value: object, kind: type) -> bool:
    """Return whether a value is of a class; a bool is not a number here.

    For a protocol or a foreign abstract class, the members are checked instead of the class.
    """
    if kind in (int, float):
        return isinstance(value, kind | int) and not isinstance(value, bool)
    if getattr(kind, "__final__", False):
        return type(value) is kind  # A subclass could override the decisions of the class.
    try:
        if isinstance(value, kind) or not inspect.isabstract(kind) or kind.__module__ == "collections.abc":
            return isinstance(value, kind)
        needed = cast("_Abstract", kind).__abstractmethods__
    except TypeError:
        needed = _members(kind)
    # A class object has the methods of its instances, but only a callable protocol accepts it.
    return (not isinstance(value, type) or needed == frozenset({"__call__"})) and all(
        hasattr(value, name) for name in needed
    )


def _members(protocol: type) -> frozenset[str]:
    names = {name for base in protocol.__mro__[:-1] for name in (*vars(base), *getattr(base, "__annotations__", {}))}
    return frozenset(name for name in names if not name.startswith("_") or name == "__call__")


def _form(hint: object) -> str:
    return " or ".join(dict.fromkeys(map(_form_of_one, _arms(hint))))


def _form_of_one(hint: object) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin in _MANY:
        return f"a list or tuple of {_form(parts[0])}"
    if origin is tuple:
        return f"a tuple of {', '.join(_form(part) for part in parts if part is not ...)}"
    kind = hint if origin is None else origin
    return _FORMS.get(kind) or str(getattr(kind, "__name__", kind))


def _shown(value: object) -> str:
    """Return a number unchanged, and the class of any other value: texts may be secret."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)[:32]
    return type(value).__name__
