"""What a tool of LangChain costs in the hands of others, and in ours, measured in one run.

    python benchmarks/peers/run.py                    all, each in an environment of its own; some minutes
    python benchmarks/peers/run.py tenuo langfuse     the bare tool, ours, and these
    python benchmarks/peers/run.py --newest           the newest releases instead of those that are named here
    python benchmarks/peers/run.py --here             what is installed beside this interpreter, as it is
    python benchmarks/peers/run.py --json FILE        everything that was measured, as well

Needs uv, and the package index for the first run, but for ``--here``. Nothing that is measured needs a network.
"""

import argparse
import datetime as dt
import importlib.util
import json
import os
import platform
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".nox" / "peers-environments"

LANGCHAIN = ("langchain==1.5.2", "langchain-core==1.8.3")
SDK = "opentelemetry-sdk==1.45.2"
AGT = ("agent-governance-toolkit-core==5.0.0", "agent-governance-toolkit-integrations==5.0.0")
PEERS = {
    "nothing": LANGCHAIN,
    "ours": (*LANGCHAIN, SDK, "--editable", f"{ROOT}[langchain]"),
    "opentelemetry": (*LANGCHAIN, SDK, "opentelemetry-instrumentation-genai-langchain==1.3b0"),
    "openinference": (*LANGCHAIN, SDK, "openinference-instrumentation-langchain==0.1.80"),
    "openllmetry": (*LANGCHAIN, SDK, "opentelemetry-instrumentation-langchain==0.62.4"),
    "langfuse": (*LANGCHAIN, SDK, "langfuse==5.0.4"),
    "logfire": (*LANGCHAIN, SDK, "logfire==5.4.0"),
    "tenuo": (*LANGCHAIN, "tenuo[langchain]==0.3.3"),
    "tenuo-receipts": (*LANGCHAIN, "tenuo[langchain]==0.3.3"),
    "agt": (*LANGCHAIN, *AGT),
    "agt-middleware": (*LANGCHAIN, *AGT, "agt-policies==5.0.0"),
}
"""What is installed for each, beside what that needs; ``with_NAME.py`` says how it is used."""

ALWAYS = ("nothing", "ours")
SERVICES = ("LANGSMITH_", "LANGCHAIN_", "LANGFUSE_", "LOGFIRE_", "OTEL_", "TENUO_", "TRACELOOP_")
MICRO = 1e6

Result = dict[str, str | float]


class UnusableError(Exception):
    """A peer that cannot be installed or used; says why."""


def uv() -> list[str]:
    """Return how to start uv."""
    if found := shutil.which("uv"):
        return [found]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise SystemExit("uv was not found; pip install uv, or run nox -s peers, which does")


def install(name: str, *, newest: bool) -> Path:
    """Make the environment of a peer, or bring it up to date; return its interpreter."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = ENVIRONMENTS / "-".join([name, version, *(["newest"] * newest)])
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted = [part.partition("==")[0] if newest else part for part in PEERS[name]]
    if not python.exists():
        _run([*uv(), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    _run([*uv(), "pip", "install", "--quiet", *(["--upgrade"] * newest), "--python", str(python), *wanted])
    return python


def measure(name: str, python: Path, seconds: float, core: int) -> Result:
    """Run a peer once in a fresh process."""
    script = HERE / f"with_{name.replace('-', '_')}.py"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(SERVICES)}
    environment |= {"PYTHONPATH": str(HERE.parent), "PYTHONWARNINGS": "ignore"}
    printed = _run([str(python), str(script), str(seconds), str(core)], environment)
    result: Result = json.loads(printed.splitlines()[-1])
    return result


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a program; return what it printed.

    Raises:
        UnusableError: It failed; with the last line that it said.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise UnusableError(said[-1] if said else f"exit status {done.returncode}")
    return done.stdout


def run(
    names: Sequence[str], repetitions: int, seconds: float, make: Callable[[str], Path]
) -> dict[str, list[Result] | str]:
    """Measure the peers in turns, each with the interpreter made for it; return the results, or why there are none."""
    results: dict[str, list[Result]] = {name: [] for name in names}
    unusable: dict[str, str] = {}
    interpreters: dict[str, Path] = {}
    for name in names:
        _tell(f"installing {name}")
        try:
            interpreters[name] = make(name)
        except UnusableError as reason:
            unusable[name] = f"cannot be installed: {reason}"
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [-1]
    order = random.Random(0)  # noqa: S311  The same order each time.
    for repetition in range(repetitions):
        turns = [name for name in names if name not in unusable]
        order.shuffle(turns)
        for name in turns:
            _tell(f"{repetition + 1}/{repetitions} {name}")
            try:
                result = measure(name, interpreters[name], seconds, cores[repetition % len(cores)])
            except UnusableError as reason:
                unusable[name] = f"cannot be used: {reason}"
            else:
                results[name].append(result)
    _tell("")
    return results | unusable


def _tell(text: str) -> None:
    """Show how far things are."""
    if sys.stderr.isatty():
        print(f"\r{text:<48}\r", end="", file=sys.stderr)


def row(name: str, results: Sequence[Result]) -> str:
    """Return a line of the table: the least of each time, and the median of the ratios."""
    bare, hot = (min(float(result[kind]) for result in results) * MICRO for kind in ("bare", "hot"))
    ratios = sorted(float(result["hot"]) / float(result["bare"]) for result in results)
    everything = median(float(result["cpu"]) / float(result["bare"]) for result in results)
    paced = median(float(result["paced"]) / float(result["paced_bare"]) for result in results)
    label = f"`{results[0]['package']}` {results[0]['version']}"
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    return (
        f"| {name} | {label} | {results[0]['does']} | {bare:.0f} | {hot:.0f} | **{median(ratios):.2f}** "
        f"| {spread} | {everything:.2f} | {paced:.2f} |"
    )


def main() -> int:
    """Measure, print the table, and return 1 if the bare tool or ours could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"one of {', '.join(PEERS)}")
    parser.add_argument("--newest", action="store_true", help="the newest releases from the index")
    parser.add_argument("--here", action="store_true", help="no environments: what is installed here")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repetitions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    chosen = parser.parse_args()
    if unknown := set(chosen.peers) - set(PEERS):
        parser.error(f"there is no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    names = [name for name in PEERS if not chosen.peers or name in (*ALWAYS, *chosen.peers)]
    repetitions, seconds = (2, 0.5) if chosen.quick else (7, 2.0)
    here = Path(sys.executable)
    make = (lambda _: here) if chosen.here else partial(install, newest=chosen.newest)
    found = run(names, repetitions, seconds, make)
    today = dt.datetime.now(tz=dt.UTC).date()
    print(f"{today}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores, ", end="")
    print(f"{repetitions} repetitions of {seconds} s\n")
    print(
        "| with | is | does for each call | bare, µs | with, µs | ratio | of all repetitions | all CPU ÷ bare ", end=""
    )
    print("| wall, at 50/s ÷ bare |\n|---|---|---|---|---|---|---|---|---|")
    for name, results in found.items():
        print(f"| {name} | {results} |" if isinstance(results, str) else row(name, results))
    if chosen.json:
        about = {"date": str(today), "python": platform.python_version(), "platform": platform.platform()}
        chosen.json.write_text(json.dumps({**about, "peers": found}, indent=1), encoding="utf-8")
    return int(any(isinstance(found[name], str) for name in ALWAYS))


if __name__ == "__main__":
    sys.exit(main())
