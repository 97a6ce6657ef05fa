"""Large ledgers, as processes of an application write them: ``python benchmarks/ledgers.py DIR --records 1000000``."""

import argparse
import math
import multiprocessing
import time
from pathlib import Path
from typing import Final

from opentelemetry.trace import NoOpTracerProvider

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.options import Durability, Segments, Telemetry

CALLS: Final = 20
"""Calls of each task, which has 43 records with its grant, its start and its end."""

PRINCIPALS: Final = tuple(Human(f"person-{n}@example.com", issuer="https://id.example.com") for n in range(50))
AGENTS: Final = tuple(Agent(f"agent-{n}", owner="finance-ops@example.com") for n in range(10))
TOOLS: Final = ("get_invoice", "list_orders", "send_reminder", "book_payment")


def get_invoice(number: str, limit: int = 10) -> str:
    """Return an invoice."""
    return f"{number}: {limit}"


def write(directory: Path, tasks: int, first: int, *, seconds: float = math.inf) -> None:
    """Write the records of one process.

    Args:
        directory: The evidence directory.
        tasks: How many tasks to run.
        first: The number of the first.
        seconds: How long it may take; no task begins later.
    """
    until = time.monotonic() + seconds
    segments = Segments(max_bytes=16 * 1024 * 1024, compression="none")
    with Enforcer.open(
        directory, telemetry=Telemetry(tracer_provider=NoOpTracerProvider()), durability=Durability(segments=segments)
    ) as enforcer:
        tools = [enforcer.tool(get_invoice, name=name) for name in TOOLS]
        scope = Scope(TOOLS[0]) | Scope(TOOLS[1]) | Scope(TOOLS[2]) | Scope(TOOLS[3])
        for number in range(first, first + tasks):
            if time.monotonic() > until:
                break
            who, agent = PRINCIPALS[number % len(PRINCIPALS)], AGENTS[number % len(AGENTS)]
            with enforcer.task("invoices", principal=who, agent=agent, scope=scope):
                for call in range(CALLS):
                    tools[call % len(tools)](f"C-{number}", limit=call)


def generate(directory: Path, records: int, processes: int = 4) -> None:
    """Write a ledger with about so many records.

    Args:
        directory: A new evidence directory.
        records: How many.
        processes: How many processes write them, one after the other.
    """
    tasks = max(1, records // (2 * CALLS + 3) // processes)
    context = multiprocessing.get_context("spawn")
    for process in range(processes):
        child = context.Process(target=write, args=(directory, tasks, process * tasks))
        child.start()
        child.join()


def main() -> None:
    """Write the ledger that the arguments name."""
    parser = argparse.ArgumentParser(description="Write a large ledger.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args()
    began = time.monotonic()
    generate(options.directory, options.records, options.processes)
    print(f"{time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
