"""Event loops that are watched for calls that block: as ``langgraph dev`` does, and for everything."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from blockbuster import BlockBuster, BlockingError, blockbuster_ctx

__all__ = ["WATCHES", "Watch", "as_langgraph_dev", "run", "strictly", "unwatched"]

_FREE = (
    *("os.stat", "os.listdir", "os.remove", "threading.Lock.acquire"),
    *("io.BufferedReader.read", "io.BufferedWriter.write", "io.TextIOWrapper.read", "io.TextIOWrapper.write"),
)
"""What ``langgraph dev`` (langgraph-runtime-inmem 0.36) lets happen on its loop, beside all of ``os.path``."""

Watch = Callable[[], AbstractContextManager[None]]


@contextmanager
def as_langgraph_dev() -> Iterator[None]:
    """Watch all code for blocking calls, as ``langgraph dev`` does unless it is told otherwise."""
    watch = BlockBuster(excluded_modules=[])
    for name in [name for name in watch.functions if name in _FREE or name.startswith("os.path.")]:
        del watch.functions[name]
    watch.activate()
    try:
        yield
    finally:
        watch.deactivate()


@contextmanager
def strictly() -> Iterator[None]:
    """Watch all code for every call that blockbuster knows."""
    with blockbuster_ctx():
        yield


WATCHES = pytest.mark.parametrize("watch", [as_langgraph_dev, strictly])


def run(watch: Watch, main: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine on a loop that is watched."""

    async def watched() -> None:
        with watch():
            with pytest.raises(BlockingError):
                time.sleep(0)  # noqa: ASYNC251  The watch is on.
            await main()

    asyncio.run(watched())


@contextmanager
def unwatched() -> Iterator[None]:
    """Hide the running loop from the watch while a test itself reads files."""
    loop = asyncio.get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
