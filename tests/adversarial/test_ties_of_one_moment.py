"""Answers about records of one moment: the order in which sources are read decides nothing."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from evidence_cases import write_files
from vectors.insider import BEGIN, BLOCKED, Ledger, digest

from agent_identity import Agent, Human
from agent_identity.cli import main

MOMENT = str(BEGIN * 10**9 + 500)
REPORTS = (
    ("inventory",),
    ("scope",),
    ("coverage",),
    ("data",),
    *(("incident", seed) for seed in ("everything", "agent:clerk", "tool:read", "principal:alice@example.com")),
)


def ledger_of(number: int) -> Ledger:
    """Return a ledger in which everything happens at one moment; each has names of its own, and common ones."""
    ledger = Ledger()
    for _ in range(1_000 * number):
        ledger.id()  # Ids are those of no other ledger.
    for part in range(2):
        stream = ledger.stream(resource={"service": f"service-{number}", "version": f"{part}"})
        ledger.policy(stream)
        agent = Agent("clerk", owner=f"owner-{number}@example.com", version=f"{(number + part) % 3}")
        task = ledger.task(stream, "read", "pay", principal=Human("alice@example.com"), agent=agent)
        task.facts["task"]["purpose"] = f"purpose {number} {part}"
        task.open()
        touched = [{"system": "file", "name": f"name-{part}", "access": "read", "data": [f"label-{number}"]}]
        task.call("read", resources=touched, args=str(number), workflow=f"flow-{number}")
        task.call("pay", action={"model": {"name": f"model-{number}"}, "route": f"route-{part}"})
        task.denied("pay", decision={**BLOCKED, "why": f"reason {number}", "rule": f"rule-{part}"})
        task.intent("read")
        offered = {"name": "web", "transport": "http", "status": "moved", "place": f"https://{number}.example/"}
        tools = [
            {"name": "web/read", "status": "changed", "pinned": digest("one"), "offered": digest(f"{number}{part}")}
        ]
        ledger.add(stream, "registration", server={**offered, "version": f"{number}"}, tools=tools)
        change = {"kind": "agent", "name": "clerk", "status": ("revoked", "reinstated")[part], "version": "1"}
        ledger.add(stream, "revocation", revocation={**change, "reason": f"reason {number}"})
        task.end()
        ledger.close(stream)
        for line in stream:
            line.record["time"] = dict.fromkeys(line.record["time"], MOMENT)
    return ledger


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three directories; the ids of the second precede those of the first in no way but by their number."""
    root = tmp_path_factory.mktemp("moments")
    for number in range(3):
        write_files(ledger_of(number).content(), root / str(number))
    return [root / str(number) for number in range(3)]


def neutral(answer: Any, order: Sequence[Path], name: str = "") -> Any:
    """Return an answer that names its sources instead of their numbers, with nothing in the order of the sources."""
    if isinstance(answer, dict):
        told = {name: value for name, value in answer.items() if name not in ("sources", "command")}
        return {name: neutral(value, order, name) for name, value in told.items()}
    if isinstance(answer, list):
        values = [neutral(value, order) for value in answer if "a later source" not in str(value)]
        return sorted(values) if name == "commands" else values
    return order[answer].name if name == "source" else answer


@pytest.mark.parametrize("words", REPORTS, ids=" ".join)
def test_the_order_of_reading_decides_no_answer(
    words: tuple[str, ...], sources: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever source is read first, the same is first, last, newest and an example."""
    answers = dict[str, Any]()
    for order in itertools.permutations(sources):
        main(["report", *words, *map(str, order), "--json"])
        answers[" ".join(path.name for path in order)] = neutral(json.loads(capsys.readouterr().out), order)
    first, *others = answers.values()
    assert first
    for other in others:
        assert other == first
