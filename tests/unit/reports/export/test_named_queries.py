"""The tables of facts and the named queries over them: the same answers as the reports, whatever names there are."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from small_company import ALICE, DESK, ROUTED, work

from agent_identity import Agent, Denied, Enforcer, Human, Scope
from agent_identity._reports.export.tables import FACTS
from agent_identity.answers import Evidence, Seed, coverage, data, incident, inventory, scope
from agent_identity.audit import export_tables, named_queries, query_tables
from agent_identity.cli import main
from agent_identity.constraints import OneOf, Range
from agent_identity.errors import ConfigurationError
from agent_identity.options import Telemetry
from agent_identity.policy import Touch

NASTY = ("a'; DROP TABLE calls; --", '"quoted"', "../up", "=1+1", "line\nbreak", "\u202egnp", "ünï", "null", "\\N")
SCOPE_COLUMNS = (
    *("agent", "tool", "root_grants", "delegations", "grants_used", "grants_used_by_descendants", "open_grants"),
    *("calls", "succeeded", "calls_by_descendants", "calls_of_open_tool", "warned", "would_be_refused"),
    *("revoked_calls", "revoked_calls_by_descendants", "refused"),
    *("first_granted_ns", "last_granted_ns", "first_used_ns", "last_used_ns", "principals"),
)


def nasty(directory: Path) -> None:
    """Write evidence in which every name is an attempt at the reader."""
    with Enforcer.open(directory, telemetry=Telemetry(sealing="inline")) as enforcer:
        for number, name in enumerate(NASTY):
            touched = Touch(f"postgres://{number}", "t'/{key}", "read")
            tool = enforcer.tool(name=f"tool-{number}", touches=touched)(lambda key: key)
            shown = "".join(one for one in name if one.isprintable())  # Names of parties may have no other.
            who, agent = Human(f"{shown}@example.com"), Agent(f"{shown}'--", owner="o'x")
            allowed = Scope(f"tool-{number}", key=OneOf([name, "it's"]))
            with enforcer.task(f"for '{number}'", principal=who, agent=agent, scope=allowed):
                for key in (name, "other"):
                    with suppress(Denied):
                        tool(key)


def company(directory: Path) -> None:
    """Write the evidence of the small company, with approvals and a call that only monitor mode lets through."""
    work(directory, tasks=3, days=4, policy=ROUTED, routes=DESK)


def demo(directory: Path) -> None:
    """Write the evidence that the documentation shows."""
    assert main(["demo", "--evidence", str(directory)]) == 0


def monitored(directory: Path) -> None:
    """Write evidence of monitor mode, of grants of grants, and of a call that never ended."""
    with Enforcer.open(directory, mode="monitor", telemetry=Telemetry(sealing="inline")) as enforcer:
        scope_ = Scope({"pay": {"amount": Range(max=10)}, "read": None})
        pay = enforcer.tool(name="pay")(lambda amount: amount)
        first, second, third = (Agent(name, owner="o") for name in ("first", "second", "third"))
        with (
            enforcer.task("t", principal=ALICE, agent=first, scope=scope_),
            enforcer.delegate(second, scope=scope_),
        ):
            pay(amount=5)
            with enforcer.delegate(third, scope=scope_):
                pay(amount=50)
                pay(amount=7)


@pytest.fixture(scope="module", params=[company, demo, nasty, monitored], ids=lambda make: str(make.__name__))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Path]:
    """Return evidence, and the tables that were made of it."""
    folder = tmp_path_factory.mktemp("exported")
    request.param(folder / "evidence")
    export_tables(folder / "evidence", folder / "tables", verify=True)
    return Evidence(sources=folder / "evidence"), folder / "tables"


def test_every_table_has_its_columns(exported: tuple[Evidence, Path]) -> None:
    """Each table has the columns that it states, with rows or without."""
    for name, columns in FACTS.items():
        found = query_tables(exported[1], f"DESCRIBE {name}")
        assert {row["column_name"] for row in found} - {"day"} == {*columns, "time"}


def test_the_scope_is_that_of_the_report(exported: tuple[Evidence, Path]) -> None:
    """Granted, used, refused and first seen: row for row."""
    evidence, tables = exported
    report = scope(evidence)
    assert report.rows
    rows = [{name: getattr(row, name) for name in SCOPE_COLUMNS} for row in report.rows]
    assert _sorted(query_tables(tables, "scope")) == _sorted(rows)
    refused = [
        {"agent": row.agent, "tool": row.tool, "reason": one.reason, "rule": one.rule, "argument": one.argument}
        | {"count": one.count}
        for row in report.rows
        for one in row.refusals
    ]
    assert _sorted(query_tables(tables, "refusals")) == _sorted(refused)
    columns = ("relation", "agent", "other", "since_ns", "count", "record")
    events = [{name: getattr(event, name) for name in columns} for event in report.events]
    assert _sorted(query_tables(tables, "events")) == _sorted(events)


def test_the_coverage_is_that_of_the_report(exported: tuple[Evidence, Path]) -> None:
    """Total, by agent, by service and by week."""
    evidence, tables = exported
    report = coverage(evidence)
    shares = [("total", "", report.total), *((one.dimension, one.name, one.share) for one in report.groups)]
    numbers = ("calls", "attributed", "human", "verified_human", "refused")
    rows = [
        {"dimension": dimension, "name": name} | {number: getattr(share, number) for number in numbers}
        for dimension, name, share in shares
        if share.calls
    ]
    assert _sorted(query_tables(tables, "coverage")) == _sorted(rows)


def test_the_inventory_counts_what_the_report_counts(exported: tuple[Evidence, Path]) -> None:
    """Agents, principals, tools, servers, models and data that took part in calls, with calls and refusals."""
    evidence, tables = exported
    columns = ("kind", "service", "name", "calls", "refused")
    items = [item for item in inventory(evidence).items if item.calls or item.refused]
    assert {"agent", "principal", "tool"} <= {item.kind for item in items}
    rows = [{name: getattr(item, name) for name in columns} for item in items]
    assert _sorted(query_tables(tables, "inventory")) == _sorted(rows)


def test_the_data_and_the_open_calls_are_those_of_the_reports(exported: tuple[Evidence, Path]) -> None:
    """Systems and resources by agent; calls without an outcome."""
    evidence, tables = exported
    columns = ("agent", "system", "name", "access", "basis", "calls", "refused", "first_ns", "last_ns")
    rows = [{name: getattr(row, name) for name in columns} for row in data(evidence).rows]
    assert _sorted(query_tables(tables, "data")) == _sorted(rows)
    found = [
        {"at_ns": one.at_ns, "record": one.record, "task": one.task, "agent": one.agent, "tool": one.tool}
        for one in incident(evidence, Seed("everything", "")).open_calls
    ]
    assert _sorted(query_tables(tables, "open_calls")) == _sorted(found)


def test_an_approval_names_who_approved(tmp_path: Path) -> None:
    """Calls, approvals and records name the approver, the route, and the arguments by name."""
    company(tmp_path / "evidence")
    export_tables(tmp_path / "evidence", tmp_path / "tables")
    asked = query_tables(tmp_path / "tables", "SELECT DISTINCT approver, tool FROM approvals WHERE status = 'approved'")
    assert asked == [{"approver": "bob@example.com", "tool": "pay"}]
    calls = query_tables(
        tmp_path / "tables", "SELECT DISTINCT approver, arguments FROM calls WHERE tool = 'pay' AND outcome = 'success'"
    )
    assert calls == [{"approver": "bob@example.com", "arguments": ["amount"]}]
    bounds = query_tables(
        tmp_path / "tables", "SELECT DISTINCT argument, constraint_type FROM grants WHERE tool = 'pay'"
    )
    assert bounds == [{"argument": "amount", "constraint_type": "range"}]


def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    """No tables, a folder that the engine takes for a pattern, and bad SQL are errors."""
    with pytest.raises(ConfigurationError, match="no table records"):
        query_tables(tmp_path, "scope")
    with pytest.raises(ConfigurationError, match="pattern"):
        query_tables(tmp_path / "a*", "scope")
    company(tmp_path / "evidence")
    export_tables(tmp_path / "evidence", tmp_path / "tables")
    with pytest.raises(ConfigurationError, match="query fails"):
        query_tables(tmp_path / "tables", "SELECT nothing FROM nowhere")
    assert set(named_queries()) == {"coverage", "data", "events", "inventory", "open_calls", "refusals", "scope"}


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=repr)
