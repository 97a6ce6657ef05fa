"""Doing the work of a verification in several processes, with the results in their order."""

import contextlib
import gc
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final, Protocol, TypeVar

from agent_identity.errors import ConfigurationError

__all__ = ["Spread", "here", "processes"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_MAX: Final = 64
_AHEAD: Final = 2  # Results that wait for each process; of some 4 MiB each.


class Spread(Protocol):
    """Applies a function to each item, like ``map``, and yields the results in the same order."""

    def __call__(self, function: Callable[[_T], _R], items: Iterable[_T], /) -> Iterator[_R]:
        """Return the results."""
        ...


def here(function: Callable[[_T], _R], items: Iterable[_T], /) -> Iterator[_R]:
    """Do the work in this process; as any :class:`Spread` does."""
    return map(function, items)


@contextlib.contextmanager
def processes(number: int | Spread, *, most: int | None = None) -> Generator[Spread | None]:
    """Yield what has the work done in so many processes; ``None`` for one, which is this one.

    Args:
        number: How many; 0 for as many as there are processors, or what has the work done elsewhere,
        most: and not more than this.

    Raises:
        TypeError: It is no whole number.
        ConfigurationError: The number is negative, or a process was killed.
    """
    if not isinstance(number, int):
        if not callable(number):
            raise TypeError(
                f"expected a whole number of processes, got {type(number).__name__}; 0 takes as many as fit"
            )
        yield number
        return
    if number < 0:
        raise ConfigurationError("expected a number of processes from 0 on, got another")
    number = number or min(most or _MAX, len(os.sched_getaffinity(0)))
    if number == 1:
        yield None
        return
    # Modules that are loaded already need not be loaded again, unless another thread may hold one of their locks.
    way = "fork" if threading.active_count() == 1 else "spawn"
    with ProcessPoolExecutor(number, multiprocessing.get_context(way), _prepare) as pool:

        def spread(function: Callable[[_T], _R], items: Iterable[_T], /) -> Iterator[_R]:
            waiting: deque[Future[_R]] = deque()
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > number * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield spread
        except BrokenProcessPool:
            raise ConfigurationError(
                "expected the processes of the verification to live, got one that was killed; "
                "see whether memory is short, or verify with one process"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    """Spare a process what pays only in long-lived ones: each part leaves little behind."""
    gc.freeze()
    gc.disable()
