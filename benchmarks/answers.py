"""Time and memory of answers about a large ledger: ``python benchmarks/answers.py DIR``; a new DIR is written first.

Processor time and memory are sums over all processes of a command, and can be compared on a busy machine. The time by
the clock means something only if the load, which is printed beside it, is low before the command begins.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from ledgers import generate

COMMANDS: Final = (
    ("verify",),
    ("report", "inventory"),
    ("report", "scope"),
    ("report", "data"),
    ("report", "incident", "everything"),
    ("report", "coverage"),
    ("report", "controls"),
    ("report", "all"),
)
PAUSE: Final = 0.2
"""Seconds between looks at the memory."""


class Cost(NamedTuple):
    """The cost of one command.

    Attributes:
        code: Its exit code.
        wall: Seconds by the clock.
        processor: Seconds of processor time of all processes.
        memory: The highest sum of their proportional memory (PSS), in MiB.
    """

    code: int
    wall: float
    processor: float
    memory: float


def measure(words: Sequence[str]) -> Cost:
    """Return the cost of a command of ours.

    Args:
        words: Its words.
    """
    before, began = os.times(), time.monotonic()
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "agent_identity", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        highest = 0
        while process.poll() is None:
            highest = max(highest, _memory(process.pid))
            time.sleep(PAUSE)
    after = os.times()  # Children count once they have ended, and workers end before their parent.
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(process.returncode, time.monotonic() - began, used, highest / 1024)


def _memory(process: int) -> int:
    """Return the memory of a process and of those below it, in KiB; pages that they share count once."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text("ascii")
        below = Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split()
    except OSError:  # It has ended.
        return 0
    own = next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return own + sum(map(_memory, map(int, below)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure answers about a large ledger.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--records", type=int, default=1_000_000, help="of a new ledger")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", metavar="WORD", help="commands with one of these words")
    options = parser.parse_args()
    if not options.directory.exists():
        generate(options.directory, options.records)
    print(f"{'command':36} {'wall s':>7} {'CPU s':>7} {'MiB':>6} {'exit':>4} {'load':>5}")
    for processes in options.processes:
        for command in COMMANDS:
            if options.only and not set(options.only) & set(command):
                continue
            load = os.getloadavg()[0]  # Before: the command itself adds to it.
            with TemporaryDirectory() as room:
                pages = ["--html", f"{room}/pages"] if command[-1] == "all" else []
                trust = str(options.directory / "trust.json")
                given = [str(options.directory), "--trust", trust, "--processes", str(processes), *pages]
                cost = measure([*command, *given])
            name = f"{' '.join(command)} --processes {processes}"
            numbers = f"{cost.wall:7.1f} {cost.processor:7.1f} {cost.memory:6.0f} {cost.code:4} {load:5.1f}"
            print(f"{name:36} {numbers}", flush=True)


if __name__ == "__main__":
    main()
