"""The totals of all reports and of the tables agree with each other over one evidence set."""

from contextlib import suppress
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from small_company import ALICE, CLERK, HELPER, SCOPE, START, span, traces, work

from agent_identity import Enforcer, Scope
from agent_identity.adapters import CallRequest
from agent_identity.answers import Evidence, overview
from agent_identity.audit import export_tables, query_tables
from agent_identity.delegation import Grants
from agent_identity.errors import AttenuationError, Denied
from agent_identity.options import Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds

TRACED = (1, 2)
OUTSIDE = 1
PROMPTS = 1
"""What a model is asked: a prompt that was judged, and no call."""
OPENINGS = 2
FOREIGN = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "shell"}


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a ledger with all that could be taken for a tool call, foreign traces, and the calls of models."""
    folder = tmp_path_factory.mktemp("totals")
    directory = folder / "evidence"
    work(directory, tasks=2, days=3)
    clock = FixedClock((START + 20 * 86_400) * 10**9)
    spans = Telemetry(sealing="inline", tracer_provider=TracerProvider())
    with Enforcer.open(directory, sources=Sources(clock=clock, ids=SequentialIds()), telemetry=spans) as enforcer:
        fetch = enforcer.guard("web/fetch", kind="mcp", server="web")
        chat = enforcer.guard("chat", kind="model")
        scope = SCOPE | Scope("web/fetch") | Scope("chat")
        with enforcer.task("books", principal=ALICE, agent=CLERK, scope=scope) as task:
            for guard in (fetch, fetch, chat):
                guard.run(CallRequest({}), lambda _: None)
            with suppress(AttenuationError), enforcer.delegate(HELPER, scope=Scope("unknown")):
                pass
            with suppress(Denied), enforcer.accept(Grants(task.export().tokens)):
                pass
            fetch.begin(CallRequest({}))
    return directory, traces(folder / "t.jsonl", [span(FOREIGN, number=number) for number in TRACED])


TOOLS = 13
"""Calls of tools with a record: four a task of the company and two after them, and three of the server."""
REFUSED = 3
"""One payment a task, and one call outside any task."""


def test_totals_agree(evidence: tuple[Path, Path, int]) -> None:
    """Refused openings are no calls; what a model is asked is no tool call; each report says so alike."""
    found = overview(Evidence(sources=evidence[:2]))
    items = {kind: [one for one in found.inventory.items if one.kind == kind] for kind in ("tool", "model")}
    models = sum(one.calls for one in items["model"])
    assert models == 0
    assert found.coverage.total.calls - len(TRACED) == TOOLS
    assert found.controls.recorded == TOOLS
    assert found.controls.share == found.coverage.total
    assert sum(one.calls for one in items["tool"]) == TOOLS
    assert sum(one.spans for one in items["tool"]) == len(TRACED)
    assert found.incident.calls == TOOLS + models
    assert sum(one.calls + one.refused for one in found.incident.tools) == TOOLS + models
    assert found.data.calls == TOOLS - REFUSED
    ran = sum(row.calls for row in found.scope.rows)
    assert ran == TOOLS - REFUSED + models
    refused = (
        found.coverage.total.refused,
        sum(one.refused for one in items["tool"]),
        sum(one.refused for one in found.incident.tools),
        sum(row.refused for row in found.scope.rows) + OUTSIDE,
    )
    assert set(refused) == {REFUSED}
    assert {one.name for one in items["tool"]} == {"read", "pay", "delete", "web/fetch", "shell"}
    assert {one.tool for one in found.incident.tools} <= {"read", "pay", "delete", "web/fetch", "chat"}
    openings = [entry for entry in found.incident.timeline if entry.kind == "call"]
    assert len(openings) == TOOLS + PROMPTS + OPENINGS


def test_the_tables_agree_with_the_reports(evidence: tuple[Path, Path, int], tmp_path: Path) -> None:
    """Over the ledger alone, since tables have no spans of other libraries."""
    found = overview(Evidence(sources=evidence[0]))
    export_tables(evidence[0], tmp_path / "tables")
    (total,) = (row for row in query_tables(tmp_path / "tables", "coverage") if row["dimension"] == "total")
    assert total["calls"] == found.coverage.total.calls == TOOLS
    assert total["refused"] == found.coverage.total.refused == REFUSED
    (counted,) = query_tables(tmp_path / "tables", "SELECT count(*) AS calls FROM calls WHERE NOT opening")
    assert counted["calls"] == found.incident.calls
