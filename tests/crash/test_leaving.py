"""Processes that end in every way: what they did has its intent, their streams end where the interpreter lets them."""

import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

import agent_identity
from agent_identity import Enforcer, Verifier
from agent_identity._ledger.reader import open_ledger

LONG = "AGENT_IDENTITY_CRASH" in os.environ
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(agent_identity.__file__).parents[1])}
SCRIPT = Path(__file__).with_name("leavers.py")

spec = importlib.util.spec_from_file_location("leavers", SCRIPT)
assert spec is not None
assert spec.loader is not None
leavers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(leavers)

MODULES = ("agent_identity", "opentelemetry.sdk.trace", "logging.handlers", "concurrent.futures.thread", "asyncio")


@pytest.fixture(scope="module")
def process() -> Iterator["subprocess.Popen[str]"]:
    """Starts the process that has the children."""
    command = [sys.executable, str(SCRIPT)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()


def kinds(directory: Path) -> list[list[str]]:
    """Return the kinds of the records of each stream."""
    reader = open_ledger(directory)
    lines = [[line.record for line in reader.entries(stream)] for stream in reader.streams()]
    return [[orjson.loads(record)["kind"] for record in stream if record is not None] for stream in lines]


@pytest.mark.sample(4)
@pytest.mark.parametrize("way", leavers.WAYS)
def test_ac_75_every_way_out_keeps_what_was_done(process: "subprocess.Popen[str]", tmp_path: Path, way: str) -> None:
    """Each effect has an intent, whoever can ends its stream sealed, nothing is printed, and the next start works."""
    _, status, effects, unended = leavers.WAYS[way]
    directory = tmp_path / "evidence"
    assert process.stdin is not None
    assert process.stdout is not None
    print(f"{way}|{directory}", file=process.stdin, flush=True)
    assert process.stdout.readline().strip() == str(status), directory.with_suffix(".errors").read_text()
    said = directory.with_suffix(".errors").read_text()
    assert all(line.startswith(leavers.SAYS.get(way, ())) for line in said.splitlines()), said
    found = kinds(directory)
    done = (tmp_path / "effects").read_text().count("x")
    assert done >= effects if way == "busy daemons" else done == effects
    assert sum(stream.count("intent") for stream in found) >= done
    assert sum(stream[-1] != "stream_end" for stream in found) == unended
    before = Verifier().ledger(directory)
    # Whether a seal came before the end of whoever does not end his stream, only the clock knows.
    assert before.integrity == "verified" or (unended and before.integrity == "cannot_tell"), before.findings
    assert unended or before.counts["unsealed"] == 0
    Enforcer.open(directory).close()
    report = Verifier().ledger(directory)
    assert report.integrity == "verified", report.findings
    assert report.counts["verified"] == report.counts["records"]
    assert report.counts["recovered"] == unended


def test_ac_74_an_action_that_still_runs_at_exit_is_known(process: "subprocess.Popen[str]", tmp_path: Path) -> None:
    """Its intent is sealed with the end of the stream, and the auditor counts it as an outcome that nobody knows."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(f"daemon|{tmp_path / 'evidence'}", file=process.stdin, flush=True)
    assert process.stdout.readline().strip() == "0"
    (stream,) = kinds(tmp_path / "evidence")
    assert stream[-2:] == ["intent", "stream_end"]
    report = Verifier().ledger(tmp_path / "evidence")
    assert report.integrity == "verified"
    assert report.counts["unknown"] == 1
    assert report.counts["unsealed"] == 0


ORDERS = list(itertools.permutations(MODULES))


@pytest.mark.parametrize("order", ORDERS if LONG else ORDERS[:: len(ORDERS) // 2], ids=",".join)
def test_ac_75_the_order_of_imports_does_not_matter_at_the_end(tmp_path: Path, order: tuple[str, ...]) -> None:
    """Whose exit handlers run first depends on who was imported first; the stream ends and is sealed in any order."""
    program = f"""
import atexit, importlib, sys
for name in {order!r}:
    importlib.import_module(name)
from agent_identity import Agent, Enforcer, Human, Scope
from opentelemetry.sdk.trace import TracerProvider
from concurrent.futures import ThreadPoolExecutor
provider = TracerProvider()
from agent_identity.options import Telemetry
enforcer = Enforcer.open(sys.argv[1], telemetry=Telemetry(tracer_provider=provider), agents=None)
pool = ThreadPoolExecutor(1)
tool = enforcer.tool(name="tool")(lambda: None)
def act():
    given = dict(principal=Human("a@example.com"), agent=Agent("c", owner="o@example.com"), scope=Scope("tool"))
    with enforcer.task("act", **given):
        tool()
pool.submit(act)
atexit.register(act)
act()
"""
    command = [sys.executable, "-c", program, str(tmp_path / "evidence")]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stderr == ""
    (stream,) = kinds(tmp_path / "evidence")
    assert [stream.count("intent"), stream.count("outcome"), stream[-1]] == [3, 3, "stream_end"]
    report = Verifier().ledger(tmp_path / "evidence")
    assert (report.verdict, report.counts["unsealed"]) == ("verified", 0)


def test_ac_76_a_subinterpreter_cannot_load_the_keys_and_harms_nobody(tmp_path: Path) -> None:
    """Where the library for keys refuses a second interpreter, nothing is opened there, and the first one goes on."""
    program = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
from agent_identity import Enforcer
with Enforcer.open(sys.argv[1]) as enforcer:
    other = interpreters.create()
    code = f"try:\\n import sys\\n sys.path[:] = {sys.path!r}\\n from agent_identity import Enforcer\\n"
    code += f" Enforcer.open({sys.argv[1]!r}).close()\\nexcept ImportError: pass\\n"
    problem = (getattr(interpreters, "run_string", None) or interpreters.exec)(other, code)
    assert problem is None or "ImportError" in str(problem), problem
    interpreters.destroy(other)
"""
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "evidence")]
    subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=True)
    report = Verifier().ledger(tmp_path / "evidence")
    assert (report.verdict, report.counts["unsealed"]) == ("verified", 0)
