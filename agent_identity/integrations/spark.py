"""Verification on Spark (extra ``spark``).

``Verifier(processes=on_spark(context)).ledger(directory)`` has the same findings as one machine: the driver reads the
files, the executors check blocks of records or spans, each by itself, and chains of grants, and the driver merges
their results in order, with the code for one process. ``fleet(*directories)`` hands whole hosts to the executors,
which read the files themselves; what merges their reports is what merges them on one machine. The executors are
trusted like this program.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from typing import Final, Protocol, TypeVar, cast, final

from agent_identity.audit import Executor
from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

__all__ = ["Context", "on_spark"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_MAX: Final = 256  # Blocks of up to some MiB that the driver holds for one job.
_JOBS: Final = 2  # One is merged while the next is computed.


class _Partitions(Protocol):
    """The used part of ``pyspark.RDD``."""

    def map(self, f: object, /) -> "_Partitions":
        """Apply a function to each item."""
        ...

    def collect(self) -> object:
        """Return all items in order."""
        ...


class Context(Protocol):
    """The used part of ``pyspark.SparkContext``."""

    @property
    def defaultParallelism(self) -> int:  # noqa: N802  Its name there.
        """The number of concurrent tasks."""
        ...

    def parallelize(self, c: Iterable[object], numSlices: int | None = None) -> object:  # noqa: N803  Its name there.
        """Distribute items to the executors, in a number of partitions."""
        ...


def on_spark(context: Context, *, partitions: int | None = None) -> Executor:
    """Return the executor that runs a verification on Spark; for ``Verifier(processes=...)``.

    Each block is a partition, of a fleet each host. The executors need this version of the package; they read files
    only of the hosts of a fleet, under the paths that the driver has.

    Args:
        context: The context of a session, ``spark.sparkContext``.
        partitions: The number of blocks in one job, at most 256; by default twice the number of concurrent tasks.

    Raises:
        ConfigurationError: The number is out of bounds; later, during the work: the job failed, without a verdict.
    """
    number = min(_MAX, 2 * context.defaultParallelism) if partitions is None else partitions
    if not 1 <= number <= _MAX:
        raise ConfigurationError(f"partitions is out of range; use 1 to {_MAX}")
    return _OnSpark(context, number)


@final
class _OnSpark:
    """Runs the work in jobs of a bounded number of partitions; the next job runs while one is merged."""

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
                # Only this thread reads the items: some come from a file that it has open.
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
            f"the job on Spark failed; see its log, and whether the executors have version {VERSION} of "
            "agent-identity-otel"
        ) from error


def _apply(function: Callable[[_T], Iterable[_R]], version: str, item: _T) -> list[_R]:
    """Run the work on an executor.

    Raises:
        ConfigurationError: The executor has another version of the package, whose findings may differ.
    """
    if version != VERSION:
        raise ConfigurationError(f"the executor has agent-identity-otel {VERSION}; install {version} on it")
    return list(function(item))
