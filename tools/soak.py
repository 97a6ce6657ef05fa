"""A day of guarded calls in an hour: `python tools/soak.py [--calls N] [--processes N] [--minutes M] [--spans]`.

Processes share one evidence directory, each opens task after task and makes guarded calls in it as fast as it can. The
report says whether memory, descriptors and threads stayed as they were after the warm-up, whether the calls of the
last tenth were as fast as those of the first, and whether every record can be read back and verified. The exit status
is 1 where a target is missed.
"""

import argparse
import array
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DAY = 8_640_000
"""Calls of a day at a hundred a second."""

TASK = 500
"""Calls in a task."""

TENTHS = 10
GROWTH = 1.05
"""Most memory at the end, as a multiple of that after the warm-up, which is the first tenth."""

SLOWER = 1.2
"""Most time of a call in a hundred in the last tenth, as a multiple of that in the first."""

BUCKETS = 4_000
STEP = 1.01
"""A bucket of the histogram of times is so many times as wide as the one before it; the first is a microsecond."""


class Times:
    """Times of calls in buckets, so that what measures the memory does not grow itself."""

    def __init__(self) -> None:
        self._counts = array.array("Q", bytes(8 * BUCKETS))
        self._limits = [int(1_000 * STEP**number) for number in range(BUCKETS) if 1_000 * STEP**number < 2**62]

    def add(self, ns: int) -> None:
        """Count a call that took so many nanoseconds."""
        low, high = 0, len(self._limits) - 1
        while low < high:
            middle = (low + high) // 2
            if self._limits[middle] < ns:
                low = middle + 1
            else:
                high = middle
        self._counts[low] += 1

    def quantile(self, part: float) -> int:
        """Return the time in nanoseconds that this part of the calls did not exceed."""
        left = part * sum(self._counts)
        for number, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return self._limits[number]
        return 0


@dataclass
class Sample:
    """What a process holds at one moment."""

    rss: int
    fds: int
    threads: int
    queued: int

    @classmethod
    def now(cls, queued: int) -> "Sample":
        """Return what this process holds."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return cls(
            pages * os.sysconf("SC_PAGE_SIZE"),
            len(list(Path("/proc/self/fd").iterdir())),
            threading.active_count(),
            queued,
        )


def work(directory: str, calls: int, *, spans: bool) -> None:
    """Make guarded calls, and print what was measured, a line of JSON for each hundredth."""
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  The parent stays small.

    from agent_identity import Agent, Enforcer, Human, Scope  # noqa: PLC0415
    from agent_identity.constraints import Range  # noqa: PLC0415
    from agent_identity.options import Telemetry  # noqa: PLC0415

    clerk, alice = Agent("invoice-clerk", owner="finance@example.com"), Human("alice@example.com")
    provider = TracerProvider() if spans else None
    tenths = [Times() for _ in range(TENTHS)]
    done, hundredth = 0, max(1, calls // 100)
    with Enforcer.open(directory, telemetry=Telemetry(tracer_provider=provider)) as enforcer:
        waiting = enforcer._enforcement.ledger.sealing.queue  # noqa: SLF001  What must not grow.

        @enforcer.tool
        def pay(number: int) -> str:
            """Pay an invoice."""
            return f"paid {number}"

        while done < calls:
            with enforcer.task("pay", principal=alice, agent=clerk, scope=Scope("pay", number=Range(min=0))):
                for _ in range(min(TASK, calls - done)):
                    before = time.perf_counter_ns()
                    pay(done)
                    tenths[done * TENTHS // calls].add(time.perf_counter_ns() - before)
                    done += 1
                    if not done % hundredth or done == calls:
                        print(json.dumps({"done": done, **vars(Sample.now(len(waiting)))}), flush=True)
    p50 = [times.quantile(0.5) for times in tenths]
    print(json.dumps({"p50": p50, "p99": [times.quantile(0.99) for times in tenths]}), flush=True)


@dataclass
class Worker:
    """What the parent knows of one process."""

    process: "subprocess.Popen[str]"
    samples: list[dict[str, int]]
    times: dict[str, list[int]]

    def follow(self) -> None:
        """Read what it prints until it ends."""
        for line in self.process.stdout or ():
            found = json.loads(line)
            if "done" in found:
                self.samples.append(found)
            else:
                self.times = found


def shown(seconds: float) -> str:
    """Return a duration for people."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def started(directory: str, calls: int, processes: int, *, spans: bool) -> Iterator[tuple[Worker, threading.Thread]]:
    """Start the processes, and for each a thread that follows it."""
    for _ in range(processes):
        command = [sys.executable, __file__, "--work", directory, "--calls", str(calls // processes)]
        process = subprocess.Popen([*command, *(["--spans"] if spans else [])], stdout=subprocess.PIPE, text=True)  # noqa: S603
        worker = Worker(process, [], {})
        thread = threading.Thread(target=worker.follow)
        thread.start()
        yield worker, thread


def ran(directory: str, calls: int, processes: int, *, spans: bool) -> tuple[list[Worker], float]:
    """Run the processes to their end, with progress and an estimate; return them and the seconds it took."""
    begun = time.monotonic()
    running = list(started(directory, calls, processes, spans=spans))
    said = begun
    while any(thread.is_alive() for _, thread in running):
        for _, thread in running:
            thread.join(1)
        done = sum(worker.samples[-1]["done"] for worker, _ in running if worker.samples)
        now = time.monotonic()
        if done and now - said >= 15:
            said, rate = now, done / (now - begun)
            left = shown((calls - done) / rate)
            print(f"  {done:,} of {calls:,} calls, {rate:,.0f} a second, {left} left", file=sys.stderr, flush=True)
    if any(worker.process.wait() for worker, _ in running):
        sys.exit("a process failed")
    return [worker for worker, _ in running], time.monotonic() - begun


def judged(workers: Sequence[Worker]) -> Iterator[tuple[str, bool]]:
    """Yield a line for each thing that must not grow, and whether it did not."""
    for number, worker in enumerate(workers, 1):
        tenth = max(1, len(worker.samples) // TENTHS)
        after, last = worker.samples[tenth : 2 * tenth] or worker.samples, worker.samples[-tenth:]
        first_rss = max(sample["rss"] for sample in after)
        last_rss = max(sample["rss"] for sample in last)
        growth = last_rss / first_rss - 1
        memory = f"{first_rss / 2**20:.1f} MiB after the warm-up, {last_rss / 2**20:.1f} MiB at the end ({growth:+.1%})"
        yield f"process {number}: memory {memory}", last_rss <= GROWTH * first_rss
        for name, what in (("fds", "descriptors"), ("threads", "threads")):
            # The least of several samples, because one may fall into a seal, which has two more files open.
            before, now = min(s[name] for s in after), min(s[name] for s in last)
            yield f"process {number}: {what} {before} after the warm-up, {now} at the end", now <= before
        queued = max(sample["queued"] for sample in worker.samples)
        yield f"process {number}: at most {queued:,} records waited for the sealing thread", True
        p50, p99 = worker.times["p50"], worker.times["p99"]
        begun, ended = (f"{p50[n] / 1e3:.0f} µs (p50) and {p99[n] / 1e3:.0f} µs (p99)" for n in (0, -1))
        text = f"a call took {begun} in the first tenth, {ended} in the last ({p99[-1] / p99[0]:.2f} times)"
        yield f"process {number}: {text}", p99[-1] <= SLOWER * p99[0]


def read_back(directory: str, calls: int) -> tuple[str, bool]:
    """Verify every record; return a line and whether all of them are proved."""
    from agent_identity import Verifier  # noqa: PLC0415

    begun = time.monotonic()
    report = Verifier().ledger(directory)
    took = time.monotonic() - begun
    counts, kinds = report.counts, report.kinds
    size = sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())
    whole = report.verdict == "verified" and counts["verified"] == counts["records"] and kinds["intent"] == calls
    text = f"{report.verdict}: {counts['verified']:,} of {counts['records']:,} records proved in {shown(took)}"
    rate = f"{counts['records'] / took:,.0f} a second"
    found = f"{kinds['intent']:,} intents, {kinds['outcome']:,} outcomes, {size / 2**30:.2f} GiB"
    return f"{text} ({rate}), {found}", whole and kinds["outcome"] == calls


def main() -> int:
    """Run the soak, or one process of it."""
    parser = argparse.ArgumentParser(description="Make guarded calls for a long time and see what grows.")
    parser.add_argument("--calls", type=int, default=DAY, help=f"how many in all; by default {DAY:,}")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=60.0, help="the time that the calls may take")
    parser.add_argument("--spans", action="store_true", help="record and sign a span for each call")
    parser.add_argument("--folder", help="where the evidence is made, and removed afterwards; 3 KiB for each call")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.calls, spans=options.spans)
        return 0
    calls = options.calls // options.processes * options.processes
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        directory = str(Path(folder) / "evidence")
        workers, took = ran(directory, calls, options.processes, spans=options.spans)
        rate = f"{calls / took:,.0f} a second, {'with' if options.spans else 'without'} spans"
        text = f"{calls:,} guarded calls in {shown(took)} over {options.processes} processes, {rate}"
        lines = [
            (text, took <= 60 * options.minutes),
            *judged(workers),
            read_back(directory, calls),
        ]
    for text, good in lines:
        print(f"{'ok    ' if good else 'MISSED'} {text}")
    return 0 if all(good for _, good in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
