"""Excerpts of tasks with information flow: what a period cuts off contradicts nothing."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Scope, Verifier
from agent_identity._verify.proofs.bundle import Choice, collect

_spec = importlib.util.spec_from_file_location("flow_worlds", Path(__file__).with_name("flow_worlds.py"))
assert _spec is not None
assert _spec.loader is not None
flow = sys.modules.setdefault("flow_worlds", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(flow)

EVERYTHING = Scope({name: {} for name in ("read", "slow")})


@pytest.mark.parametrize("until", [True, False], ids=["until", "from"])
def test_a_call_over_the_edge_of_a_period_is_given_with_what_stands_beside_it(
    open_world: Callable[..., Any], tmp_path: Path, *, until: bool
) -> None:
    """A slow call begins before the edge and lowers the mark after it, as other calls of its task do meanwhile."""
    office = flow.open_office(open_world)
    read = flow.reads(office, "x", returns="unknown")
    edges = list[int]()

    @office.enforcer.tool(name="slow", labels=[], returns="untrusted")
    def slow() -> str:
        office.clock.advance(10)
        edges.append(office.clock.wall_ns())
        office.clock.advance(10)
        read()
        return "y"

    with office.task(EVERYTHING, request="look"):
        slow()
        read()
    assert flow.codes(flow.verified(office)) == set()
    part = tmp_path / "part"
    part.mkdir()
    collect(office.directory, part, Choice(until_ns=edges[0]) if until else Choice(from_ns=edges[0]))
    report = Verifier(office.directory / "trust.json").ledger(part)
    assert report.integrity == "verified"
    assert "excerpt" in flow.codes(report)
