"""Doing the work of a verification in this process or in several, with the results in their order."""

import contextlib
import gc
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Executor", "executor", "in_process"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_MAX: Final = 64
_AHEAD: Final = 2  # Items that wait for each process, of some MiB with their results.


class Executor(Protocol):
    """Applies a function to each item, and yields all that it returns, in the order of the items.

    The function and what it gets and returns can be pickled, and it remembers nothing between two items.
    """

    def __call__(self, function: Callable[[_T], Iterable[_R]], items: Iterable[_T], /) -> Iterator[_R]:
        """Yield the results."""
        ...


def in_process(function: Callable[[_T], Iterable[_R]], items: Iterable[_T], /) -> Iterator[_R]:
    """Do the work in this process, each item when its results are asked for; as any :class:`Executor` does."""
    for item in items:
        yield from function(item)


@contextlib.contextmanager
def executor(number: int | Executor, *, most: int | None = None) -> Generator[Executor]:
    """Yield what has the work done in so many processes.

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
        yield in_process
        return
    with _processes(number) as chosen:
        yield chosen


@contextlib.contextmanager
def _processes(number: int) -> Generator[Executor]:
    import multiprocessing  # noqa: PLC0415  Small sources are verified without.
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415
    from concurrent.futures.process import BrokenProcessPool  # noqa: PLC0415

    # Modules that are loaded already need not be loaded again, unless another thread may hold one of their locks.
    way = "fork" if threading.active_count() == 1 else "spawn"
    with ProcessPoolExecutor(number, multiprocessing.get_context(way), _prepare) as pool:

        def in_processes(function: Callable[[_T], Iterable[_R]], items: Iterable[_T], /) -> Iterator[_R]:
            waiting: deque[Future[list[_R]]] = deque()
            for item in items:
                waiting.append(pool.submit(_all_of, function, item))
                if len(waiting) > number * _AHEAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

        try:
            yield in_processes
        except BrokenProcessPool:
            raise ConfigurationError(
                "expected the processes of the verification to live, got one that was killed; "
                "see whether memory is short, or verify with one process"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _all_of(function: Callable[[_T], Iterable[_R]], item: _T) -> list[_R]:
    return list(function(item))


def _prepare() -> None:
    """Spare a process what pays only in long-lived ones: each item leaves little behind."""
    gc.freeze()
    gc.disable()
