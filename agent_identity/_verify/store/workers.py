"""Runs the work of a verification in this process or in worker processes, with the results in order."""

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

_T = TypeVar("_T")
_R = TypeVar("_R")

_MAX: Final = 64
_AHEAD: Final = 2  # Items queued for each worker, of some MiB with their results.


class Executor(Protocol):
    """Applies a function to each item, and yields all results in the order of the items.

    The function, its arguments and its results must support pickle, and it must keep no state between items.
    """

    def __call__(self, function: Callable[[_T], Iterable[_R]], items: Iterable[_T], /) -> Iterator[_R]:
        """Yield the results."""
        ...


def in_process(function: Callable[[_T], Iterable[_R]], items: Iterable[_T], /) -> Iterator[_R]:
    """Run the work in this process, each item when its results are consumed, as any :class:`Executor` does."""
    for item in items:
        yield from function(item)


@contextlib.contextmanager
def executor(number: int | Executor, *, most: int | None = None) -> Generator[Executor]:
    """Yield an executor with this number of worker processes.

    Args:
        number: Number of worker processes; 0 for one per processor. Or an executor, which is yielded itself.
        most: Upper limit for 0.

    Raises:
        TypeError: The number is not an integer.
        ConfigurationError: The number is negative, or a worker was killed.
    """
    if not isinstance(number, int):
        if not callable(number):
            raise TypeError(
                f"the number of processes is {type(number).__name__}; pass an integer, 0 chooses it automatically"
            )
        yield number
        return
    if number < 0:
        raise ConfigurationError("the number of processes is negative; pass 0 to choose it automatically")
    number = number or min(most or _MAX, len(os.sched_getaffinity(0)))
    if number == 1:
        yield in_process
        return
    with _processes(number) as chosen:
        yield chosen


@contextlib.contextmanager
def _processes(number: int) -> Generator[Executor]:
    import multiprocessing  # Small sources are verified without.
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # A fork does not load modules again, but is unsafe where another thread may hold a lock.
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
                "a worker of the verification was killed; see whether memory is short, or verify with one process"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _all_of(function: Callable[[_T], Iterable[_R]], item: _T) -> list[_R]:
    return list(function(item))


def _prepare() -> None:
    """Turn off the garbage collector of a worker: each item leaves little garbage."""
    gc.freeze()
    gc.disable()
