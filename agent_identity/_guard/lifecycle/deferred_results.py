"""Unfinished results: those that the guard runs step by step, and those that it withholds.

A tool that returns a generator, an awaitable, an iterator or a context manager has only begun. A result with one way
to continue is *driven*: each step is a step of the call. A result with several ways, or one that runs by itself, is
*other*: its steps would bypass the guard, so it is withheld unless the tool declares ``lazy="resource"``.
"""

import asyncio
import concurrent.futures
import contextlib
import io
import sys
import threading
import types
import typing
import weakref
from collections.abc import AsyncGenerator, Collection, Coroutine, Generator, Iterator
from pathlib import PurePath
from typing import Annotated, Final, Literal, TypeAlias, TypeGuard, get_args, get_origin

from agent_identity._common.narrowing import is_collection, is_plain_dict
from agent_identity.errors import ConfigurationError

Lazy: TypeAlias = Literal["resource"]
"""Results that live on by themselves, like a connection, and are handed out unchanged."""

Nature: TypeAlias = Literal[
    "coroutine",
    "generator",
    "async generator",
    "awaitable",
    "iterator",
    "async iterator",
    "manager",
    "async manager",
    "manager of both kinds",
    "other",
]
"""The way in which a value continues to run."""

CODE: Final = "lazy_result"

ATOMS: Final[frozenset[type]] = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))
"""Classes of plain data, which need no check."""

_CONTAINERS: Final = (dict, list, tuple, set, frozenset)
_VALUES: Final = (io.BytesIO, io.StringIO, PurePath, memoryview)
"""Iterators and context managers in form only: their content is in memory."""

_RUNNING: Final = (concurrent.futures.Future, threading.Thread)
_STEPPED: Final[tuple[tuple[type, Nature], ...]] = (
    (Coroutine, "coroutine"),
    (Generator, "generator"),
    (AsyncGenerator, "async generator"),
)
_WAYS: Final = ("__await__", "__next__", "__anext__", "__enter__", "__aenter__")
_NATURES: Final[dict[tuple[str, ...], Nature]] = {
    ("__await__",): "awaitable",
    ("__next__",): "iterator",
    ("__anext__",): "async iterator",
    ("__enter__",): "manager",
    ("__aenter__",): "async manager",
    ("__enter__", "__aenter__"): "manager of both kinds",
}
_OF_ITERATORS: Final = frozenset({"aclose", "asend", "athrow", "close", "send", "throw"})
_BARE_MODULES: Final = frozenset({"builtins", "itertools"})
_MANAGERS: Final = ("manager", "async manager", "manager of both kinds")


_KNOWN: Final["weakref.WeakKeyDictionary[type, Nature | None]"] = weakref.WeakKeyDictionary()


def nature_of(kind: type) -> Nature | None:
    """Return how values of a class continue to run; ``None`` for values that do not.

    By the class alone, because a value may misstate its class, or raise when asked. A generator or awaitable is
    driven whatever else it can do, unless it is a context manager as well; an iterator or context manager only if it
    is nothing else, because a caller needs the other methods of a file or a connection.
    """
    try:
        return _KNOWN[kind]
    except KeyError:
        return _KNOWN.setdefault(kind, _nature(kind))


def _nature(kind: type) -> Nature | None:
    if issubclass(kind, _running()):
        return "other"
    members = {name for base in kind.__mro__ for name in vars(base)}
    ways = () if issubclass(kind, _VALUES) else tuple(filter(members.__contains__, _WAYS))
    stepped: Nature | None = next((nature for base, nature in _STEPPED if issubclass(kind, base)), None)
    if stepped is not None:
        return "other" if {"__enter__", "__aenter__"} & members else stepped
    if not ways:
        return None
    way = _NATURES.get(ways, "other")
    return way if _is_bare(way, members, kind.__module__) else "other"


def _is_bare(way: Nature, members: Collection[str], module: str) -> bool:
    """Return whether values of a class are iterators or context managers and nothing else."""
    own = {name for name in members if not name.startswith("_")}
    if way in ("iterator", "async iterator"):
        return module in _BARE_MODULES or own <= _OF_ITERATORS
    return not own or way not in _MANAGERS


def _running() -> tuple[type, ...]:
    """Return the classes that run by themselves; without ``multiprocessing`` no process can be returned."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is None:
        return _RUNNING
    process: type = processes.BaseProcess
    return (*_RUNNING, process)


def holds_lazy(value: object) -> bool:
    """Return whether a value, or one in its lists, tuples, sets and dicts, is unfinished."""
    visited: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        kind = type(item)
        if kind in ATOMS:
            continue
        held = _held(item, kind)
        if held is None:
            if nature_of(kind) is not None:
                return True
        elif id(item) not in visited:
            visited.add(id(item))
            waiting.extend(member for member in held if type(member) not in ATOMS)
    return False


def _held(item: object, kind: type) -> tuple[object, ...] | None:
    """Return the items of a built-in container; a subclass could run code of its own."""
    if is_plain_dict(item):
        return tuple(item.values())
    return tuple(item) if kind in _CONTAINERS and is_collection(item) else None


def drop(pending: object) -> None:
    """Cancel a coroutine or future; errors of the cancellation are ignored in favor of the refusal."""
    with contextlib.suppress(Exception):
        if asyncio.isfuture(pending) or _is_future(pending):
            pending.cancel()
        elif _is_coroutine(pending):
            pending.close()


def _is_future(pending: object) -> TypeGuard["concurrent.futures.Future[object]"]:
    return issubclass(type(pending), concurrent.futures.Future)


def _is_coroutine(pending: object) -> TypeGuard[Coroutine[object, object, object]]:
    return issubclass(type(pending), Coroutine)


def lazy_result(tool: str) -> ConfigurationError:
    """Return the error for a withheld result."""
    return ConfigurationError(
        f"{tool}: the result is unfinished (a future, an open file, a connection, or an iterator with methods "
        "of its own), and the end of the task would not stop it; read it inside the tool, make the tool a generator, "
        'or declare the tool with lazy="resource"',
        code=CODE,
    )


def check_lazy(lazy: object) -> Lazy | None:
    """Return the declared kind of a tool's results, if it is valid.

    Raises:
        TypeError: The value is no text.
        ConfigurationError: The value is another text.
    """
    if lazy is None or (type(lazy) is str and lazy == "resource"):
        return None if lazy is None else "resource"
    if type(lazy) is not str:
        raise TypeError(f'lazy is {type(lazy).__name__}; use lazy="resource" or lazy=None')
    raise ConfigurationError('lazy has an unknown value; use lazy="resource" or lazy=None')


def check_returned(hint: object, tool: str) -> None:
    """Check that the return annotation names no class that would be withheld.

    Raises:
        ConfigurationError: With code ``lazy_result``: it names one.
    """
    for kind, nested in _classes(hint, nested=False):
        if (nature := nature_of(kind)) == "other" or (nested and nature is not None):
            raise ConfigurationError(
                f"{tool}: results of class {kind.__name__} are unfinished when the tool returns them, and the "
                "end of the task would not stop them; return the data itself, make the tool a generator, or declare it "
                'with lazy="resource"',
                code=CODE,
            )


def _classes(hint: object, *, nested: bool) -> Iterator[tuple[type, bool]]:
    """Yield the classes in an annotation, and whether each is inside a container."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        yield from _classes(parts[0], nested=nested)
    elif origin is typing.Union or origin is types.UnionType or origin in _CONTAINERS:
        within = nested or origin in _CONTAINERS
        for part in parts:
            yield from _classes(part, nested=within)
    elif isinstance(kind := hint if origin is None else origin, type):
        yield kind, nested
