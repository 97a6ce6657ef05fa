"""The tour of the code: its stops are reached in its order, and every name in it exists."""

import ast
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from opentelemetry.sdk.trace import TracerProvider

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope, answers, verify
from agent_identity.options import Telemetry

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "contributing" / "read-the-code.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "agent_identity"
STOP = re.compile(r"`([\w/]+\.py)`, `([\w.]+)`")


class Stop(NamedTuple):
    """A file of the package, and a function or class in it."""

    path: str
    name: str


def stops(heading: str) -> list[Stop]:
    """Return the numbered stops under a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [Stop(*found) for line in section.splitlines() if line[:1].isdigit() for found in STOP.findall(line)[:1]]


def visited(work: Callable[[], object]) -> list[Stop]:
    """Return each function of the package that ran, in order, those of other threads included."""
    import agent_identity

    root, seen = f"{Path(agent_identity.__file__).parent}/", []

    def see(frame: object, event: str, _: object) -> None:
        code = frame.f_code  # type: ignore[attr-defined]
        if event == "call" and code.co_filename.startswith(root):
            seen.append(Stop(code.co_filename[len(root) :], code.co_qualname))

    before = sys.getprofile()
    threading.setprofile(see)
    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(before)
        threading.setprofile(before)  # type: ignore[arg-type]
    return seen


def missed(tour: Sequence[Stop], seen: Sequence[Stop]) -> Stop | None:
    """Return the first stop that was not reached after those before it."""
    left: Iterator[Stop] = iter(seen)
    return next((stop for stop in tour if stop not in left), None)


def work(directory: Path) -> None:
    """Guard one call of one task; records are signed at once, so that the order is always the same."""
    telemetry = Telemetry(tracer_provider=TracerProvider(), sealing="inline")
    policy = RuleSet(Rule(Effect.WARN, tools="pay", reason="money moves", id="money"))
    with Enforcer.open(directory, policy=policy, telemetry=telemetry) as enforcer:

        @enforcer.tool(labels=["payment"])
        def pay(number: str) -> str:
            return f"paid {number}"

        alice, clerk = Human("alice@example.com"), Agent("clerk", owner="fin@example.com")
        with enforcer.task("pay", principal=alice, agent=clerk, scope=Scope("pay")):
            pay("INV-1")


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tour") / "evidence"
    work(directory)
    return directory


def test_a_call_passes_the_stops_in_their_order(tmp_path: Path) -> None:
    """From the opening of the directory to the checkpoint."""
    tour = stops("A call")
    assert len(tour) > 20
    assert missed(tour, visited(lambda: work(tmp_path / "evidence"))) is None


def test_a_verification_passes_the_stops_in_their_order(evidence: Path) -> None:
    """From the entry to the verdict."""
    tour = stops("A verification")
    assert len(tour) > 10
    assert missed(tour, visited(lambda: verify(evidence, trust=evidence / "trust.json").verdict)) is None


def test_a_report_passes_the_stops_in_their_order(evidence: Path) -> None:
    """It reads the evidence by verifying it."""
    tour = stops("A report")
    asked = answers.Evidence(sources=str(evidence), trust=str(evidence / "trust.json"))
    assert len(tour) > 3
    assert missed(tour, visited(lambda: answers.data(asked))) is None


def names_of(node: ast.AST) -> set[str]:
    """Return what a statement defines: a function, a class or a constant."""
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    return {getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)} - {None}


@pytest.mark.parametrize("stop", sorted({Stop(*found) for found in STOP.findall(PAGE)}))
def test_every_name_is_where_the_tour_says(stop: Stop) -> None:
    """Also those that the run does not reach."""
    node: ast.AST | None = ast.parse((PACKAGE / stop.path).read_text(encoding="utf-8"))
    for part in stop.name.split("."):
        body = getattr(node, "body", [])
        node = next((inner for inner in body if part in names_of(inner)), None)
    assert node is not None


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w/]+/[\w.-]+)`", PAGE))))
def test_every_path_exists(path: str) -> None:
    """Those of the package are relative to it."""
    assert (ROOT / path).exists() or (PACKAGE / path).exists()
