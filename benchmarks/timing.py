"""The method of measuring: how one repetition of one contender is timed, in a process of its own."""

import asyncio
import gc
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from statistics import median

WARM_UP = 0.2
"""Seconds that a contender runs before anything counts."""

SAMPLE = 0.010
"""Seconds that one sample lasts at least."""

FEWEST = 10
"""Samples that a repetition takes at least."""

LOW = 0.1
"""The quantile of interleaved samples that counts: on a busy machine the middle is that of its other load."""


def nothing() -> None:
    """Settle nothing."""


def rates(call: Callable[[], object], seconds: float, settle: Callable[[], object] = nothing) -> dict[str, float]:
    """Return the seconds per call, the caller never pausing.

    Args:
        call: What is measured.
        seconds: How long a repetition lasts.
        settle: Waits until everything that the calls left to other threads is done.

    Returns:
        ``hot``: CPU time of the calling thread, the median of the samples; ``cpu``: CPU time of the
        whole process until all is settled; ``wall``: what a clock on the wall says, the median.
    """
    size = _warm_up(call)
    settle()
    gc.collect()
    hot: list[float] = []
    wall: list[float] = []
    began, ends = time.process_time(), time.perf_counter() + seconds
    while len(hot) < FEWEST or time.perf_counter() < ends:
        wall_began, hot_began = time.perf_counter(), time.thread_time()
        for _ in repeat(None, size):
            call()
        hot.append((time.thread_time() - hot_began) / size)
        wall.append((time.perf_counter() - wall_began) / size)
    settle()
    cpu = (time.process_time() - began) / (size * len(hot))
    return {"hot": median(hot), "cpu": cpu, "wall": median(wall)}


def interleaved(
    bare: Callable[[], object],
    call: Callable[[], object],
    seconds: float,
    *,
    off: Callable[[], object] = nothing,
    on: Callable[[], object] = nothing,
    settle: Callable[[], object] = nothing,
) -> dict[str, float]:
    """Return the seconds per call of two that take turns in one process, a sample of each in a round.

    Args:
        bare: What the other is compared with.
        call: What is compared.
        seconds: How long all rounds last.
        off: Called before each sample of ``bare``, unmeasured.
        on: Called before each sample of ``call``, unmeasured.
        settle: Waits until everything that the calls left to other threads is done.

    Returns:
        ``bare`` and ``hot``: CPU time of the calling thread; ``bare_cpu`` and ``cpu``: CPU time of the whole process
        until all is settled; ``calls``: how many of ``call`` were measured. The times are low quantiles of the rounds.
    """
    off()
    bare_size = _warm_up(bare)
    on()
    size = _warm_up(call)
    settle()
    gc.collect()
    found: dict[str, list[float]] = {"bare": [], "bare_cpu": [], "hot": [], "cpu": []}
    ends = time.perf_counter() + seconds
    while len(found["hot"]) < FEWEST or time.perf_counter() < ends:
        off()
        all_began, began = time.process_time(), time.thread_time()
        for _ in repeat(None, bare_size):
            bare()
        found["bare"].append((time.thread_time() - began) / bare_size)
        settle()
        found["bare_cpu"].append((time.process_time() - all_began) / bare_size)
        on()
        all_began, began = time.process_time(), time.thread_time()
        for _ in repeat(None, size):
            call()
        found["hot"].append((time.thread_time() - began) / size)
        settle()
        found["cpu"].append((time.process_time() - all_began) / size)
    lowest = {kind: quantile(sorted(samples), LOW) for kind, samples in found.items()}
    return {**lowest, "calls": size * len(found["hot"])}


def _warm_up(call: Callable[[], object]) -> int:
    """Run the contender for a while; return how many calls make a sample."""
    size, ends = 1, time.perf_counter() + WARM_UP
    while True:
        began = time.thread_time()
        for _ in repeat(None, size):
            call()
        took = time.thread_time() - began
        if took >= SAMPLE and time.perf_counter() >= ends:
            return size
        if took < SAMPLE:
            size = max(size + 1, int(size * min(10, 1.3 * SAMPLE / max(took, 1e-6))))


def latencies(
    call: Callable[[], object],
    seconds: float,
    *,
    pace: float | None = None,
    burst: int = 0,
    settle: Callable[[], object] = nothing,
) -> dict[str, float]:
    """Return the wall time of single calls in seconds: ``p50``, ``p99`` and ``worst``.

    Args:
        call: What is measured.
        seconds: How long a repetition lasts.
        pace: Calls per second; ``None`` for one after the other.
        burst: Calls after which all is settled before the next ones.
        settle: Waits until everything that the calls left to other threads is done.
    """
    _warm_up(call)
    settle()
    took: list[float] = []
    due = time.perf_counter()
    ends = due + seconds
    while due < ends:
        if pace:
            due += 1 / pace
            time.sleep(max(0, due - time.perf_counter()))
        began = time.perf_counter()
        call()
        after = time.perf_counter()
        took.append(after - began)
        if burst and not len(took) % burst:
            settle()
        due = due if pace else after
    took.sort()
    return {"p50": quantile(took, 0.5), "p99": quantile(took, 0.99), "worst": took[-1]}


def paced(
    calls: Sequence[Callable[[], object]],
    seconds: float,
    pace: float,
    before: Sequence[Callable[[], object]] = (),
) -> list[float]:
    """Return the wall time of single calls that take turns, the median of each, with a pause before every one.

    Args:
        calls: What is measured.
        seconds: How long all last.
        pace: Calls per second, of all together.
        before: What is called before each of them, unmeasured, and before the pause.
    """
    took: list[list[float]] = [[] for _ in calls]
    for due, turn in _turns(len(calls), seconds, pace):
        if before:
            before[turn]()
        time.sleep(max(0, due - time.perf_counter()))
        began = time.perf_counter()
        calls[turn]()
        took[turn].append(time.perf_counter() - began)
    return [median(each) for each in took]


async def paced_later(calls: Sequence[Callable[[], Awaitable[object]]], seconds: float, pace: float) -> list[float]:
    """Return the same of coroutines in one event loop."""
    took: list[list[float]] = [[] for _ in calls]
    for due, turn in _turns(len(calls), seconds, pace):
        await asyncio.sleep(max(0, due - time.perf_counter()))
        began = time.perf_counter()
        await calls[turn]()
        took[turn].append(time.perf_counter() - began)
    return [median(each) for each in took]


def _turns(count: int, seconds: float, pace: float) -> Iterator[tuple[float, int]]:
    """Yield when a call is due and whose turn it is; whoever is late is not made up for."""
    began = time.perf_counter()
    due, turn = began, 0
    while due < began + seconds or turn % count:
        due = max(due + 1 / pace, time.perf_counter())
        yield due, turn % count
        turn += 1


def quantile(ordered: Sequence[float], part: float) -> float:
    """Return the quantile of values in rising order."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def resident() -> int:
    """Return the bytes of memory that the process holds now; on other systems than Linux, the most it ever held."""
    gc.collect()
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
