"""The speed budgets: what a guarded call costs, as ratios of baselines measured in the same run.

    python benchmarks/run.py                    about six minutes
    python benchmarks/run.py --quick            about one; enough to see a ratio double
    python benchmarks/run.py --only chain       the rows whose names contain this
    python benchmarks/run.py --json FILE        everything that was measured, as well

Needs the libraries of the project; README.md beside this file says how to read the table.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
EVIDENCE = HERE.parent / "tests" / "vectors" / "evidence"
COMMAND = "import sys; sys.stdout = open('/dev/null', 'w'); from agent_identity.cli import main; main({})"
IMPORTS = {
    "start-up": "pass",
    "import-root": "import agent_identity",
    "import-enforcer": "from agent_identity import Enforcer",
    "cli-help": COMMAND.format(["--help"]),
    "cli-show": COMMAND.format(["show", str(EVIDENCE)]),
    "cli-verify": COMMAND.format(["verify", str(EVIDENCE), "--trust", str(EVIDENCE / "trust.json")]),
}
UNPINNED = ("latency", "turns", "saturation", "import", "cli")
MICRO, MILLI, KILO = 1e6, 1e3, 1e-3

Numbers = Mapping[str, float]
Measured = Mapping[str, Numbers]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: What ``--only`` looks for.
        text: What is measured.
        needs: The contenders.
        value: Makes the number from what was measured.
        goal: Met with a tick.
        floor: Missed with a cross.
        unit: The unit; empty for a ratio.
        high: The number should be high.
    """

    name: str
    text: str
    needs: tuple[str, ...]
    value: Callable[[Measured], float]
    goal: float | None = None
    floor: float | None = None
    unit: str = ""
    high: bool = False

    def mark(self, value: float) -> str:
        """Return whether goal (``✓``), floor (``·``) or neither (``✗``) is met."""
        if self.goal is None or self.floor is None:
            return " "
        sign = -1 if self.high else 1
        return "✓" if sign * value <= sign * self.goal else "·" if sign * value <= sign * self.floor else "✗"


def ratio(over: str, under: str, kind: str = "hot") -> Callable[[Measured], float]:
    """Return what divides one contender by another."""
    return lambda m: m[over][kind] / m[under][kind]


def amount(contender: str, kind: str, factor: float) -> Callable[[Measured], float]:
    """Return what gives one number of a contender in another unit."""
    return lambda m: m[contender][kind] * factor


def beyond(contender: str, base: str, under: str) -> Callable[[Measured], float]:
    """Return what divides the hot time that a contender adds to its base by that of another."""
    return lambda m: (m[contender]["hot"] - m[base]["hot"]) / m[under]["hot"]


def imported(contender: str) -> Callable[[Measured], float]:
    """Return what gives the CPU time of an import without that of the bare start."""
    return lambda m: (m[contender]["cpu"] - m["start-up"]["cpu"]) * MILLI


def own_cost(m: Measured) -> float:
    """Divide the guard's own cost in LangChain by what a stock span adds to the same call."""
    own = m["invoke-guarded"]["hot"] - m["invoke-shell"]["hot"]
    return own / (m["invoke-span"]["hot"] - m["invoke"]["hot"])


def within(contender: str, kind: str, base: str) -> Callable[[Measured], float]:
    """Return what divides two numbers of one contender, which were measured in turns."""
    return lambda m: m[contender][kind] / m[contender][base]


def added_at_a_pace(m: Measured) -> float:
    """Return the overhead of the guard divided by that of a stock span, with pauses between calls."""
    turns = m["turns-function"]
    return (turns["guarded"] - turns["bare"]) / (turns["span"] - turns["bare"])


def beside_opentelemetry(m: Measured) -> float:
    """Divide all CPU of a guarded call by that of an instrumented one, each as a ratio to the bare call beside it."""
    ours, theirs = m["turns-invoke"], m["turns-opentelemetry"]
    return (ours["cpu"] / ours["bare"]) / (theirs["cpu"] / theirs["bare"])


def task(kind: str) -> Callable[[Measured], float]:
    """Return what divides opening and ending a task by two signatures and a verification."""
    return lambda m: m["task"][kind] / (2 * m["sign"]["hot"] + m["verify"]["hot"])


SHAPES = (
    ("invoke", "LangChain invoke"), ("ainvoke", "LangChain ainvoke"), ("node", "a graph of one ToolNode"),
    ("agent", "an agent that calls five times"),
)  # fmt: skip
FLOWS = (
    ("", "results of 1 kB"), ("-short", "results of 100 B"), ("-long", "results of 10 kB"),
    ("-trusted", "trusted results of 1 kB"), ("-unknown", "1 kB, and an argument that is new each time"),
    ("-unknown-long", "10 kB, and an argument that is new each time"),
)  # fmt: skip
PLAIN = ("function", "guarded", "span")
TASK = ("task", "sign", "verify")
ROWS = (
    *(
        Row(f"langchain-{what}-paced", f"{text}, guarded ÷ bare: wall, 50 calls/s", (f"turns-{what}",),
            within(f"turns-{what}", "paced", "paced_bare"), 1.0, 1.2)
        for what, text in SHAPES
    ),
    Row("langchain-cpu", "guarded invoke ÷ under OpenTelemetry's instrumentation: all CPU",
        ("turns-invoke", "turns-opentelemetry"), beside_opentelemetry, 0.8, 1.1),
    *(
        Row(f"langchain-{what}-{kind}", f"{text}, guarded ÷ bare: {said}", (f"turns-{what}",),
            within(f"turns-{what}", kind, "bare"))
        for kind, said in (("hot", "calling thread, no pause"), ("cpu", "all CPU, no pause"))
        for what, text in SHAPES
    ),
    Row("langchain-unannotated", "LangChain invoke with a _run without annotations ÷ bare, nothing of ours",
        ("invoke-unannotated", "invoke"), ratio("invoke-unannotated", "invoke")),
    Row("langchain-own", "its own cost ÷ what a stock span adds",
        ("invoke-guarded", "invoke-shell", "invoke-span", "invoke"), own_cost, 0.75, 1.5),
    Row("function-paced", "guarded function: added ÷ a stock span's: wall, 50 calls/s", ("turns-function",),
        added_at_a_pace, 1.5, 3),
    Row("function", "guarded function: added hot time ÷ span", PLAIN, beyond("guarded", "function", "span"), 1.3, 2.0),
    Row("function-cpu", "guarded function: all CPU ÷ span", PLAIN, ratio("guarded", "span", "cpu"), 3, 5),
    *(
        Row(f"flow-{what}{part}", f"information flow ÷ none, {text}: {said}", (f"turns-flow{what}",),
            within(f"turns-flow{what}", over, under), 1.15, 1.3)
        for what, text in FLOWS
        for part, said, over, under in (
            ("-cpu", "all CPU", "cpu", "bare_cpu"),
            ("-paced", "wall, 50 calls/s", "paced", "paced_bare"),
        )
    ),
    Row("chain", "chain of 16 grants ÷ of 1", ("guarded-depth-16", "guarded"),
        ratio("guarded-depth-16", "guarded"), 1.05, 1.2),
    Row("rules", "1,000 rules ÷ 1, for other tools", ("guarded-rules-1000", "guarded"),
        ratio("guarded-rules-1000", "guarded"), 1.05, 1.5),
    Row("rules-matching", "1,000 rules ÷ 1, 100 for this tool", ("guarded-rules-1000-matching-100", "guarded"),
        ratio("guarded-rules-1000-matching-100", "guarded")),
    Row("asyncio", "100 concurrent asyncio calls ÷ bare", ("gather-guarded", "gather"),
        ratio("gather-guarded", "gather"), 0.8, 1.25),
    Row("argument-nested", "100 kB nested argument, added ÷ json.dumps",
        ("argument-nested", "argument-small", "dumps-nested"),
        beyond("argument-nested", "argument-small", "dumps-nested"), 2.5, 5),
    Row("argument-text", "100 kB of text, added ÷ json.dumps",
        ("argument-text", "argument-small", "dumps-text"), beyond("argument-text", "argument-small", "dumps-text"),
        2.5, 5),
    Row("task", "opening and ending a task: all CPU ÷ (2 signs + 1 verify)", TASK, task("cpu"), 1.5, 3),
    Row("task-hot", "  of it on the caller's path", TASK, task("hot")),
    Row("task-wall", "  by the clock on the wall", ("task",), amount("task", "wall", MICRO), unit="µs"),
    Row("verify-ledger", "ledger verification rate ÷ that of parse + SHA-256", ("verify-ledger",),
        lambda m: m["verify-ledger"]["simplest"] / m["verify-ledger"]["each"], 0.6, 0.3, high=True),
    Row("verify-ledger-signatures", "ledger record verified ÷ one Ed25519 verification",
        ("verify-ledger", "verify"), lambda m: m["verify-ledger"]["each"] / m["verify"]["hot"], 1 / 20, 1 / 10),
    Row("verify-spans", "span verified ÷ one Ed25519 verification", ("verify-spans", "verify"),
        lambda m: m["verify-spans"]["each"] / m["verify"]["hot"], 1.3, 2),
    Row("import-root", "import agent_identity", ("start-up", "import-root"), imported("import-root"), 20, 50, "ms"),
    Row("import-enforcer", "from agent_identity import Enforcer", ("start-up", "import-enforcer"),
        imported("import-enforcer"), 150, 250, "ms"),
    *(
        Row(f"cli-{command}", f"agent-identity {command} ÷ a bare Python: all CPU", ("start-up", f"cli-{command}"),
            ratio(f"cli-{command}", "start-up", "cpu"), 8, 15)
        for command in ("help", "show", "verify")
    ),
    Row("memory-task", "memory of an open task", ("memory-task",), amount("memory-task", "each", KILO), 20, 50, "kB"),
    Row("memory-record", "memory of a queued record", ("memory-record",),
        amount("memory-record", "each", KILO), 3, 8, "kB"),
    Row("saturation", "records lost at saturation", ("saturation",), amount("saturation", "lost", 1), 0, 0),
    *(
        Row(f"latency-{how}{what}-{part}", f"{text} {when}: {part}", (f"latency-{how}{what}",),
            amount(f"latency-{how}{what}", part, MICRO), unit="µs")
        for how, when in (("paced", "at 200/s"), ("burst", "in a burst"))
        for what, text in (("", "guarded call"), ("-span", "  stock span"))
        for part in ("p50", "p99")
    ),
)  # fmt: skip


def measure(contender: str, seconds: float, repetition: int) -> dict[str, float]:
    """Run one repetition of one contender in a fresh process."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONHASHSEED": str(repetition)}
    if contender in IMPORTS:
        return {"cpu": _cpu_of([sys.executable, "-c", IMPORTS[contender]], environment)}
    command = [sys.executable, str(HERE / "contenders.py"), contender, str(seconds)]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores and not contender.startswith(UNPINNED):
        command.append(str(cores[repetition % len(cores)]))
    found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    numbers: dict[str, float] = json.loads(found.stdout)
    return numbers


def _cpu_of(command: list[str], environment: Mapping[str, str]) -> float:
    """Return the CPU time of a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as elsewhere:
        subprocess.run(command, env=environment, cwd=elsewhere, check=True)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def best(repetitions: list[dict[str, float]]) -> dict[str, float]:
    """Return the smallest of each number: noise only adds."""
    return {kind: min(numbers[kind] for numbers in repetitions) for kind in repetitions[0]}


def run(rows: list[Row], repetitions: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Measure what the rows need, the contenders taking turns in an order that changes."""
    names = list(dict.fromkeys(name for row in rows for name in row.needs))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    order = random.Random(0)  # noqa: S311  The same order each time.
    for repetition in range(repetitions):
        order.shuffle(names)
        for done, name in enumerate(names):
            _tell(f"{repetition + 1}/{repetitions} {done}/{len(names)} {name}")
            found[name].append(measure(name, seconds, repetition))
    _tell("")
    return found


def _tell(text: str) -> None:
    """Show how far things are."""
    if sys.stderr.isatty():
        print(f"\r{text:<48}\r", end="", file=sys.stderr)


def limit(row: Row, value: float | None) -> str:
    """Return a goal or floor as the table shows it."""
    return "" if value is None else f"{'≥' if row.high else '≤'} {value:g}"


def main() -> int:
    """Measure, print the table, and return 1 if a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repetitions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--only", action="append", metavar="NAME", help="only rows whose names contain this")
    chosen = parser.parse_args()
    rows = [row for row in ROWS if not chosen.only or any(part in row.name for part in chosen.only)]
    if not rows:
        parser.error(f"no row has that name; there are {', '.join(row.name for row in ROWS)}")
    repetitions, seconds = (2, 0.2) if chosen.quick else (7, 0.5)
    found = run(rows, repetitions, seconds)
    smallest = {name: best(numbers) for name, numbers in found.items()}
    results = [(row, row.value(smallest)) for row in rows]
    print(f"Python {platform.python_version()}, {platform.platform()}, {repetitions} repetitions of {seconds} s\n")
    print(f"{'what':<76}{'measured':>10} {'':<2}  {'goal':<8}{'floor':<8}")
    for row, value in results:
        shown = f"{value:.3g}" if value < 100 else f"{value:.0f}"
        limits = f"{limit(row, row.goal):<8}{limit(row, row.floor)}"
        print(f"{row.text:<76}{shown:>10} {row.unit:<2} {row.mark(value)} {limits}")
    print("\n✓ goal met   · floor met   ✗ floor missed")
    if chosen.json:
        table = [
            {"name": row.name, "value": value, "unit": row.unit, "goal": row.goal, "floor": row.floor}
            | {"mark": row.mark(value)}
            for row, value in results
        ]
        document = {"python": platform.python_version(), "platform": platform.platform(), "rows": table}
        chosen.json.write_text(json.dumps({**document, "contenders": found}, indent=1), encoding="utf-8")
    return int(any(row.mark(value) == "✗" for row, value in results))


if __name__ == "__main__":
    sys.exit(main())
