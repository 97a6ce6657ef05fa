"""A fleet of hosts, and how long it takes to verify and to report on them in one verdict, and in what memory.

``python benchmarks/fleet.py DIR --hosts 200 --records 10000000 --seconds 900`` writes so many records in all, or fewer
if the time is over, with the keys of all hosts in ``DIR.json``; then it runs ``agent-identity verify`` and ``report
coverage`` over them. ``--keep`` leaves the folder in place.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import ledgers

from agent_identity.identity import TrustStore, merged


class Host(NamedTuple):
    """A host to write.

    Attributes:
        directory: Its new evidence directory.
        tasks: How many tasks it runs at most.
        seconds: How long it may take.
    """

    directory: Path
    tasks: int
    seconds: float


def write(host: Host) -> None:
    """Write the records of a host."""
    ledgers.write(host.directory, host.tasks, 0, seconds=host.seconds)


def generate(root: Path, hosts: int, records: int, seconds: float, processes: int) -> None:
    """Write a fleet, and the keys of all hosts beside it.

    Args:
        root: A new folder.
        hosts: How many hosts.
        records: About how many records in all.
        seconds: How long it may take.
        processes: How many processes write at a time, each one host after the other.
    """
    root.mkdir()
    tasks = max(1, records // hosts // (2 * ledgers.CALLS + 3))
    every = [Host(root / f"host-{number:04d}", tasks, seconds * processes / hosts) for number in range(hosts)]
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        pool.map(write, every, chunksize=1)
    merged(*(TrustStore.load(host.directory / "trust.json") for host in every)).save(root.with_suffix(".json"))


def size_of(root: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def measure(*words: str) -> None:
    """Run a command, and print what it took."""
    begun = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "agent_identity", *words], stdout=subprocess.PIPE)  # noqa: S603
    out = b"" if child.stdout is None else child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - begun
    processor, largest = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(
        f"{' '.join(words[:2])}: exit code {os.waitstatus_to_exitcode(status)}, {wall:.1f} s, processor "
        f"{processor:.1f} s, memory {largest:.0f} MiB for the largest process"
    )
    print(out.decode().splitlines()[0])


def main() -> None:
    """Write and measure the fleet that the arguments describe."""
    parser = argparse.ArgumentParser(description="Write a fleet, verify it, and report on it.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="leave the folder in place")
    options = parser.parse_args()
    begun = time.perf_counter()
    try:
        generate(options.root, options.hosts, options.records, options.seconds, options.processes)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"written in {time.perf_counter() - begun:.1f} s, processor {used.ru_utime + used.ru_stime:.1f} s, "
            f"{size_of(options.root):,} bytes on disk",
            flush=True,
        )
        trust = ("--trust", str(options.root.with_suffix(".json")), "--processes", str(options.processes))
        measure("verify", str(options.root), *trust)
        measure("report", "coverage", str(options.root), *trust)
    finally:
        if not options.keep:
            shutil.rmtree(options.root, ignore_errors=True)
            options.root.with_suffix(".json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
