"""Verifying on Spark (extra ``spark``).

``check(directory, processes=on_spark(context))`` finds what it finds on one machine: the driver reads the files, the
executors look at blocks of records or spans, each by itself, and judge chains of grants, and the driver follows their
results in order, by the same code as one process. What executors say of a record is believed, as it is of this program.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from typing import Final, Protocol, TypeVar, cast, final

from agent_identity.audit.executor import Executor
from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

__all__ = ["Context", "on_spark"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_MAX: Final = 256  # Blocks of up to some MiB that the driver holds for one job.
_JOBS: Final = 2  # One is followed while the next is computed.


class _Partitions(Protocol):
    """What is used of ``pyspark.RDD``."""

    def map(self, f: object, /) -> "_Partitions":
        """Apply a function to each."""
        ...

    def collect(self) -> object:
        """Return them all, in their order."""
        ...


class Context(Protocol):
    """What is used of ``pyspark.SparkContext``."""

    @property
    def defaultParallelism(self) -> int:  # noqa: N802  Its name there.
        """How many tasks run at once."""
        ...

    def parallelize(self, c: Iterable[object], numSlices: int | None = None) -> object:  # noqa: N803  Its name there.
        """Hand items to the executors, in so many partitions."""
        ...


def on_spark(context: Context, *, partitions: int | None = None) -> Executor:
    """Return what has the work of a verification done on Spark; ``check(processes=...)`` takes it.

    Each block is a partition. The executors need this version of the package, and no file of the ledger.

    Args:
        context: The context of a session, ``spark.sparkContext``.
        partitions: The number of blocks in one job, at most 256; by default twice as many as run at once.

    Raises:
        ConfigurationError: The number is out of bounds; later, while it works: the job failed, and there is no verdict.
    """
    number = min(_MAX, 2 * context.defaultParallelism) if partitions is None else partitions
    if not 1 <= number <= _MAX:
        raise ConfigurationError(f"expected 1 to {_MAX} partitions in one job, got another number")
    return _OnSpark(context, number)


@final
class _OnSpark:
    """Does the work in jobs of a bounded number of partitions, of which the next runs while one is followed."""

    def __init__(self, context: Context, number: int) -> None:
        self._context = context
        self._number = number

    def __call__(self, function: Callable[[_T], Iterable[_R]], items: Iterable[_T], /) -> Iterator[_R]:
        """Yield the results, in the order of the items."""
        left = iter(items)
        task = partial(_apply, function, VERSION)
        jobs: deque[Future[list[list[_R]]]] = deque()
        with ThreadPoolExecutor(_JOBS) as pool:
            try:
                # The items are taken by this thread alone: some come from a file of its own.
                while batch := list(islice(left, self._number)):
                    jobs.append(pool.submit(self._run, task, batch))
                    if len(jobs) >= _JOBS:
                        yield from chain.from_iterable(_finished(jobs.popleft()))
                while jobs:
                    yield from chain.from_iterable(_finished(jobs.popleft()))
            finally:
                pool.shutdown(cancel_futures=True)

    def _run(self, task: Callable[[_T], list[_R]], batch: list[_T]) -> list[list[_R]]:
        partitions = cast("_Partitions", self._context.parallelize(batch, len(batch)))
        return cast("list[list[_R]]", partitions.map(task).collect())


def _finished(job: Future[list[list[_R]]]) -> list[list[_R]]:
    try:
        return job.result()
    except Exception as error:
        raise ConfigurationError(
            "expected the job on Spark to end well, got one that failed; see its log, and whether the executors have "
            f"version {VERSION} of agent-identity-otel"
        ) from error


def _apply(function: Callable[[_T], Iterable[_R]], version: str, item: _T) -> list[_R]:
    """Do the work, on an executor.

    Raises:
        ConfigurationError: It has another version of the package, whose findings may be others.
    """
    if version != VERSION:
        raise ConfigurationError(f"expected version {version} of agent-identity-otel on the executor, got {VERSION}")
    return list(function(item))
