"""The Sigma rules of the documentation: each parses, converts to SQL, and matches the events that it is for.

They run in a session of their own, ``python3 dev.py test sigma``, with the SQLite back end of pySigma.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_identity import Agent, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope
from agent_identity._ledger.reader import open_ledger
from agent_identity.approvals import Approval
from agent_identity.cli.company.month import write_month
from agent_identity.identity import Registration, register_agents
from agent_identity.options import Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds

sigma = pytest.importorskip("sigma", reason="the session sigma has pySigma")
from sigma.backends.sqlite import sqliteBackend  # noqa: E402
from sigma.collection import SigmaCollection  # noqa: E402

RULES = Path(__file__).resolve().parents[2] / "docs" / "sigma"
FILES = sorted(path.stem for path in RULES.glob("*.yml"))
ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
DAY = 86_400
START = 1_764_000_000

IN_THE_MONTH: Mapping[str, frozenset[str]] = {
    # The page gives orders on the 13th, and somebody stops the agent.
    "tool_never_granted": frozenset({"01a134b4-7694-7000-8000-00000000019f"}),
    "refusals_burst": frozenset(
        {
            "01a134b4-7694-7000-8000-00000000019f",
            "01a134b4-7b76-7000-8000-0000000001a0",
            "01a134b4-8058-7000-8000-0000000001a2",
        }
    ),
    # The same, and the thief of a key comes again after its revocation.
    "call_after_revocation": frozenset(
        {"01a134b4-8058-7000-8000-0000000001a2", "01a15d74-d420-7000-8000-0000000002ab"}
    ),
}
"""Records of the demo that each rule matches; the rules that are not here match none of that month."""


def members(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the members of a record by dotted names; the values of an array have one name."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from members(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for item in value:
            yield from members(item, name)
    else:
        yield name, str(value)


def table(directory: Path) -> sqlite3.Connection:
    """Return the records of a directory as a log store has them."""
    rows: list[dict[str, str]] = []
    reader = open_ledger(directory)
    for record in (line.record for stream in reader.streams() for line in reader.entries(stream)):
        row: dict[str, str] = {}
        for name, value in members(json.loads(record or b"{}")):
            row[name] = f"{row[name]}, {value}" if name in row else value
        row["timestamp"] = f"{int(row['time.start']) / 10**9 / DAY + 2440587.5:.9f}"
        rows.append(row)
    columns = sorted({name for row in rows for name in row} | FIELDS)
    found = sqlite3.connect(":memory:")
    named = ", ".join(f'"{name}" TEXT' for name in columns)
    found.execute(f"CREATE TABLE logs ({named})")
    marks = ", ".join("?" for _ in columns)
    found.executemany(f"INSERT INTO logs VALUES ({marks})", [[row.get(name) for name in columns] for row in rows])  # noqa: S608
    found.row_factory = sqlite3.Row
    return found


def fields() -> set[str]:
    """Return all fields that the rules name."""
    documents = [one for path in RULES.glob("*.yml") for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    selections = [one for document in documents for one in document.get("detection", {}).values()]
    named = {name.partition("|")[0] for one in selections if isinstance(one, dict) for name in one}
    return named | {"agent.id", "task.id", "server.name", "registration.hash", "principal.id"}


FIELDS = fields()


def matched(rule: str, logs: sqlite3.Connection) -> frozenset[str]:
    """Return the ids of the records that a rule matches."""
    collection = SigmaCollection.from_yaml((RULES / f"{rule}.yml").read_text(encoding="utf-8"))
    assert not collection.errors
    found: set[str] = set()
    for query in sqliteBackend().convert(collection):
        for row in logs.execute(query):
            if "event_ids" not in row.keys():  # noqa: SIM118  A row of SQLite contains values.
                found.add(row["id"])
                continue
            numbers = [int(one.rpartition(":")[2]) for one in json.loads(row["event_ids"])]
            marks = ", ".join("?" for _ in numbers)
            found |= {one["id"] for one in logs.execute(f"SELECT id FROM logs WHERE rowid IN ({marks})", numbers)}  # noqa: S608
    return frozenset(found)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    """Return the records of the demo."""
    directory = tmp_path_factory.mktemp("month") / "evidence"
    write_month(directory)
    return table(directory)


def test_there_are_eight_rules_that_nothing_else_shares_an_id_with() -> None:
    """Each document has an id of its own, a title, a status, a level, and what else can look like it."""
    assert len(FILES) == 8
    seen: list[str] = []
    for path in RULES.glob("*.yml"):
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        seen += [document["id"] for document in documents]
        assert all({"title", "status", "level", "description"} <= document.keys() for document in documents)
        assert documents[-1]["falsepositives"]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("rule", [name for name in FILES if name != "changed_tool_definition_used"])
def test_a_rule_matches_its_events_of_the_month_and_no_other(rule: str, month: sqlite3.Connection) -> None:
    """The month is benign but for what the demo tells; a rule for what did not happen matches nothing."""
    assert matched(rule, month) == IN_THE_MONTH.get(rule, frozenset())


def test_a_changed_definition_is_followed_to_the_calls_of_that_day(month: sqlite3.Connection) -> None:
    """The web server changed a tool on the 15th, and was called that day; no other day and no other server."""
    found = matched("changed_tool_definition_used", month)
    rows = [dict(row) for row in month.execute("SELECT * FROM logs") if row["id"] in found]
    changes = [row for row in rows if row["kind"] == "registration"]
    assert [row["id"] for row in changes] == ["01a13e8a-1840-7000-8000-0000000001d8"]
    called = [row for row in rows if row["kind"] == "outcome"]
    assert called
    assert {row["action.server"] for row in called} == {"web"}
    first = int(changes[0]["time.start"])
    assert all(first < int(row["time.start"]) < first + DAY * 10**9 for row in called)


def opened(directory: Path, *, start: int = START, **options: Any) -> Enforcer:
    """Open an enforcer with a clock and ids of its own."""
    telemetry = Telemetry(sealing="inline")
    return Enforcer.open(
        directory, sources=Sources(clock=FixedClock(start * 10**9), ids=SequentialIds()), telemetry=telemetry, **options
    )


def outcomes(logs: sqlite3.Connection, tool: str) -> frozenset[str]:
    """Return the outcomes of the calls of a tool."""
    rows = logs.execute("SELECT id FROM logs WHERE kind = 'outcome' AND \"action.tool\" = ?", [tool])
    return frozenset(row["id"] for row in rows)


def call(enforcer: Enforcer, *tools: str) -> None:
    """Call tools, whether or not that is allowed."""
    for tool in tools:
        with suppress(Denied), enforcer.action(tool):
            pass


def test_what_only_monitor_mode_lets_through_is_matched(tmp_path: Path) -> None:
    """The call that enforcement would have refused, and not the one beside it."""
    policy = RuleSet(Rule(Effect.BLOCK, tools="delete", id="no"))
    with (
        opened(tmp_path / "e", policy=policy, mode="monitor") as enforcer,
        enforcer.task("tidy", principal=ALICE, agent=CLERK, scope=Scope("read") | Scope("delete")),
    ):
        call(enforcer, "read", "delete")
    logs = table(tmp_path / "e")
    assert matched("monitor_mode_would_refuse", logs) == outcomes(logs, "delete") != frozenset()


def test_an_approval_by_the_requester_is_matched(tmp_path: Path) -> None:
    """What Alice approves for herself, and not what Bob approves."""
    policy = RuleSet(Rule(Effect.ROUTE, tools=["pay", "send"], to="desk", id="four-eyes"))
    people = {"pay": ALICE, "send": Human("bob@example.com")}
    routes = {"desk": Approval(ask=lambda request: request.approve(by=people[request.tool]))}
    with (
        opened(tmp_path / "e", policy=policy, routes=routes) as enforcer,
        enforcer.task("pay", principal=ALICE, agent=CLERK, scope=Scope("pay") | Scope("send")),
    ):
        call(enforcer, "pay", "send")
    logs = table(tmp_path / "e")
    assert matched("approval_by_requester", logs) == outcomes(logs, "pay") != frozenset()
    logs.execute('UPDATE logs SET "approval.approver.id" = "principal.id" WHERE "approval.status" = \'approved\'')
    assert len(matched("approval_by_requester", logs)) == 2


def test_a_deep_delegation_is_matched(tmp_path: Path) -> None:
    """Four agents in one task, and not three."""
    agents = [Agent(name, owner="it@example.com") for name in ("two", "three", "four")]
    with opened(tmp_path / "e") as enforcer:
        for most in (2, 3):
            with enforcer.task("work", principal=ALICE, agent=CLERK, scope=Scope("read")):
                delegate(enforcer, agents[:most])
    logs = table(tmp_path / "e")
    found = matched("delegation_depth", logs)
    tasks = {row["task.id"] for row in logs.execute("SELECT * FROM logs") if row["id"] in found}
    counts = {row[0]: row[1] for row in logs.execute(COUNTED)}
    assert {counts[task] for task in tasks} == {4}
    assert sorted(counts.values()) == [3, 4]


COUNTED = 'SELECT "task.id", COUNT(DISTINCT "agent.id") FROM logs WHERE kind = \'task_start\' GROUP BY "task.id"'


def delegate(enforcer: Enforcer, agents: Sequence[Agent]) -> None:
    """Hand a task on from agent to agent."""
    if agents:
        with enforcer.delegate(agents[0], scope=Scope("read")):
            delegate(enforcer, agents[1:])


def test_the_first_use_after_a_changed_registration_is_matched(tmp_path: Path) -> None:
    """The clerk was registered again with a larger maximum and then used; another agent was not."""
    helper, expires = Agent("helper", owner="it@example.com"), START + 300 * DAY
    opened(tmp_path / "e").close()
    for number, most in enumerate((Scope("read"), Scope("read") | Scope("pay")), 1):
        known = [Registration(CLERK, purpose="read", maximum=most, expires_at=expires)]
        if number == 1:
            known.append(Registration(helper, purpose="help", maximum=most, expires_at=expires))
        start = START + number * DAY
        clock = FixedClock(start * 10**9)
        register_agents(tmp_path / "e", *known, clock=clock, ids=SequentialIds())
        with opened(tmp_path / "e", start=start + 1, agents="registered") as enforcer:
            for agent in (CLERK, helper):
                with enforcer.task("read", principal=ALICE, agent=agent, scope=Scope("read")):
                    call(enforcer, "read")
    logs = table(tmp_path / "e")
    found = matched("first_use_after_registration_change", logs)
    rows = [dict(row) for row in logs.execute("SELECT * FROM logs") if row["id"] in found]
    assert {row["agent.id"] for row in rows} == {"clerk"}
    assert len({row["registration.hash"] for row in rows}) == 2
