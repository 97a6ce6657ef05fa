"""Granted against used: what is counted where, what is noteworthy, and what a suggestion may rest on."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from small_company import ALICE, CLERK, DAY, HELPER, ROUTED, START, forged, tools_of, work

from agent_identity import Agent, Enforcer, Scope, records
from agent_identity._reports.answers import _scope_usage as scope_usage
from agent_identity._reports.answers.scope_report import ScopeReport, ScopeRow, SuggestedTool, Suggestion
from agent_identity.answers import Evidence, scope
from agent_identity.audit import export_tables, query_tables
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.identity import TrustStore
from agent_identity.options import Sources, Telemetry
from agent_identity.policy import Touch, file_touches
from agent_identity.testing import FixedClock, SequentialIds


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company that worked for a month."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory, tasks=4, days=10)
    return directory


def asked(*sources: Path, **options: Any) -> ScopeReport:
    """Ask about scopes."""
    since, least = options.pop("since_ns", None), options.pop("least", 1)
    return scope(Evidence(sources=sources, **options), since_ns=since, least=least)


def row(found: ScopeReport, agent: str, tool: str) -> ScopeRow:
    """Return the one row of an agent and a tool."""
    (one,) = (row for row in found.rows if (row.agent, row.tool) == (agent, tool))
    return one


def suggestion(found: ScopeReport, agent: str) -> Suggestion:
    """Return the suggestion for an agent."""
    (one,) = (one for one in found.suggestions if one.agent == agent)
    return one


def line(found: ScopeReport, agent: str, tool: str) -> SuggestedTool:
    """Return one line of a suggestion."""
    (one,) = (line for line in suggestion(found, agent).tools if line.tool == tool)
    return one


def gaps(found: ScopeReport, code: str) -> list[tuple[str, str, int]]:
    """Return what is noteworthy for one reason."""
    return [(gap.agent, gap.tool, gap.count) for gap in found.gaps if gap.code == code]


def test_direct_use_and_use_by_descendants_are_two_numbers(company: Path) -> None:
    """The clerk was granted pay four times and never called it; its helper did, each time."""
    found = asked(company)
    clerk, helper = row(found, "clerk", "pay"), row(found, "helper", "pay")
    assert (clerk.root_grants, clerk.grants_used, clerk.grants_used_by_descendants) == (4, 0, 4)
    assert (clerk.calls, clerk.calls_by_descendants) == (0, 4)
    assert (helper.delegations, helper.root_grants, helper.grants_used, helper.calls) == (4, 0, 4, 4)
    assert gaps(found, "used_by_descendants_only") == [("clerk", "pay", 4)]


def test_a_grant_that_only_a_descendant_used_is_kept(company: Path) -> None:
    """Only what nobody used is dropped, with its constraints as granted and the records behind it."""
    found = asked(company)
    assert gaps(found, "never_used") == [("clerk", "delete", 4)]
    assert [(one.tool, one.change) for one in suggestion(found, "clerk").tools] == [
        ("delete", "drop"),
        ("pay", "keep"),
        ("read", "keep"),
    ]
    paid = line(found, "clerk", "pay")
    assert (paid.used, paid.calls, len(paid.records)) == (4, 4, 3)
    assert paid.constraints == {"amount": {"constraint_type": "range", "max": 100}}


def test_the_records_cited_are_those_of_the_first_calls(tmp_path: Path) -> None:
    """Calls keep the order of their times where the texts of their ids sort in another order."""
    work(tmp_path / "evidence", tasks=9, days=10, start=START + 2 * DAY)
    paid = [
        one.id
        for one in records.read(tmp_path / "evidence")
        if isinstance(one, records.Outcome) and (one.action.tool, one.outcome) == ("pay", "success")
    ]
    found = asked(tmp_path / "evidence")
    assert sorted(paid) != paid
    assert line(found, "clerk", "pay").records == row(found, "helper", "pay").records == tuple(paid[:3])


def test_refusals_are_counted_and_widen_nothing(company: Path) -> None:
    """Refused for an argument, by name; a tool that was only ever refused is in no suggestion."""
    found = asked(company)
    refused = row(found, "helper", "pay")
    (reason,) = refused.refusals
    assert (refused.refused, reason.reason, reason.argument, reason.count) == (4, "argument_out_of_scope", "amount", 4)
    assert row(found, "clerk", "read").warned == 9


def test_an_agent_that_asks_for_more_is_suggested_no_more(tmp_path: Path) -> None:
    """A hundred refused calls of a tool that was never granted change no suggestion."""
    clock = FixedClock(START * 10**9)
    with Enforcer.open(
        tmp_path / "e", sources=Sources(clock=clock, ids=SequentialIds()), telemetry=Telemetry(sealing="inline")
    ) as enforcer:
        tools = tools_of(enforcer)
        for _ in range(2):
            with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("read")):
                tools["read"]("1")
                for _ in range(50):
                    with suppress(Denied):
                        tools["delete"]("1")
            clock.advance(10 * DAY)
    found = asked(tmp_path / "e")
    assert gaps(found, "never_granted") == [("clerk", "delete", 100)]
    assert [one.tool for one in suggestion(found, "clerk").tools] == ["read"]


def test_monitor_mode_is_no_use_of_a_grant(tmp_path: Path) -> None:
    """What only monitor mode let through counts as would be refused, and keeps no tool in a suggestion."""
    clock = FixedClock(START * 10**9)
    options: dict[str, Any] = {
        "sources": Sources(clock=clock, ids=SequentialIds()),
        "telemetry": Telemetry(sealing="inline"),
        "mode": "monitor",
    }
    with Enforcer.open(tmp_path / "e", **options) as enforcer:
        tools = tools_of(enforcer)
        for _ in range(2):
            with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay", amount=5)):
                tools["pay"](amount=700)
            clock.advance(10 * DAY)
    found = asked(tmp_path / "e")
    paid = row(found, "clerk", "pay")
    assert (paid.calls, paid.would_be_refused, paid.succeeded, paid.grants_used) == (2, 2, 0, 0)
    assert line(found, "clerk", "pay").change == "drop"
    assert suggestion(found, "clerk").would_refuse == 2
    assert len(suggestion(found, "clerk").refused_records) == 2


def test_young_evidence_judges_nobody(tmp_path: Path) -> None:
    """Under seven days nothing is dropped, however idle."""
    work(tmp_path / "e", tasks=2, days=1)
    found = asked(tmp_path / "e")
    assert suggestion(found, "clerk").confidence == "not judged"
    assert {one.change for one in suggestion(found, "clerk").tools} == {"keep"}


def test_a_period_is_what_the_evidence_covers(company: Path) -> None:
    """Of a month, the last two days judge nobody: grants from before do not make the evidence older."""
    found = asked(company, from_ns=(START + 38 * DAY) * 10**9)
    assert all(one.confidence == "not judged" for one in found.suggestions)


@pytest.mark.parametrize(
    ("tasks", "days", "expected"), [(3, 10.0, "low"), (10, 1.0, "medium"), (31, 1.0, "high"), (31, 0.5, "medium")]
)
def test_confidence_follows_the_stated_thresholds(tmp_path: Path, tasks: int, days: float, expected: str) -> None:
    """30 grants over 30 days, 10 grants, fewer."""
    work(tmp_path / "e", tasks=tasks, days=days)
    assert suggestion(asked(tmp_path / "e"), "clerk").confidence == expected


def test_nothing_unverified_is_sure(tmp_path: Path) -> None:
    """Without a verification nothing is suggested, and the report says so."""
    work(tmp_path / "e", tasks=31, days=1)
    found = asked(tmp_path / "e", unverified=True)
    assert found.suggestions == ()
    assert any("suggested scope of 2 agents" in note for note in found.frame.notes)
    assert {one.proof for one in found.rows} == {"recorded"}


def test_a_tool_under_too_few_grants_is_dropped_on_request(company: Path) -> None:
    """With a threshold above the number of grants everything goes, and the calls that it would refuse are counted."""
    found = asked(company, least=6)
    assert {one.change for one in suggestion(found, "clerk").tools} == {"drop"}
    assert suggestion(found, "clerk").would_refuse == 9 + 4
    with pytest.raises(ConfigurationError):
        asked(company, least=0)


def test_the_registered_maximum_is_a_ceiling_of_its_own(tmp_path: Path) -> None:
    """A grant beyond what is registered now is named; without a registration nothing is said."""
    directory = tmp_path / "e"
    work(directory, tasks=1)
    assert row(asked(directory), "clerk", "pay").registered is None
    owned = ("--owner", "finance@example.com", "--purpose", "books", "--tool", "read")
    assert main(["agents", "add", str(directory), "clerk", *owned]) == 0
    found = asked(directory)
    assert (row(found, "clerk", "read").registered, row(found, "clerk", "pay").registered) == (True, False)
    assert {one[:2] for one in gaps(found, "beyond_maximum")} == {("clerk", "pay"), ("clerk", "delete")}
    assert row(found, "helper", "pay").registered is None


def test_versions_of_an_agent_are_compared(tmp_path: Path) -> None:
    """Version 3 pays, which version 2 did not, and reads no more."""
    clock = FixedClock(START * 10**9)
    with Enforcer.open(
        tmp_path / "e", sources=Sources(clock=clock, ids=SequentialIds()), telemetry=Telemetry(sealing="inline")
    ) as enforcer:
        tools = tools_of(enforcer)
        for version, tool in (("2", "read"), ("3", "pay")):
            agent = Agent("clerk", owner="finance@example.com", version=version)
            with enforcer.task("t", principal=ALICE, agent=agent, scope=Scope(tool)):
                tools[tool](1)
            clock.advance(60)
    (change,) = asked(tmp_path / "e").versions
    assert (change.version, change.before, change.added, change.gone) == ("3", "2", ("pay",), ("read",))


def test_first_seen_is_the_first_time(company: Path) -> None:
    """Agent and tool, agent and principal, parent and child: each once, with its first record and its count."""
    found = asked(company)
    seen = {(one.relation, one.agent, one.other): one.count for one in found.events if one.relation != "active at"}
    assert seen == {
        ("calls", "clerk", "read"): 9,
        ("calls", "helper", "pay"): 4,
        ("acts for", "clerk", "alice@example.com"): 8,
        ("acts for", "clerk", "nightly"): 1,
        ("acts for", "helper", "alice@example.com"): 4,
        ("delegates to", "clerk", "helper"): 4,
        ("passes", "clerk", "read(number)"): 9,
        ("passes", "helper", "pay(amount)"): 4,
        ("reads", "clerk", "postgres://db.example.com:5432 shop.invoices/{number}"): 9,
        ("sends to", "helper", "https://bank.example.com payments"): 4,
    }
    late = asked(company, since_ns=(START + 35 * DAY) * 10**9)
    assert [(one.relation, one.other) for one in late.events] == [
        ("active at", "Saturday 16:00 UTC"),
        ("acts for", "nightly"),
    ]


def test_resources_are_first_seen_with_their_access(tmp_path: Path) -> None:
    """An agent and a resource count once a call; a failed declaration is the unknown resource."""
    with Enforcer.open(tmp_path / "e", telemetry=Telemetry(sealing="inline")) as enforcer:
        touches = [Touch("s3://archive", "log", "send"), file_touches("path", "read")]
        read = enforcer.tool(name="read", touches=touches)(lambda path: path)
        with enforcer.task("t", principal=ALICE, agent=Agent("clerk", owner="o"), scope=Scope("read")):
            for path in ("/a", "/a", "/b", "~/c"):
                read(path)
    found = scope(Evidence(sources=tmp_path / "e"))
    accesses = {"reads", "writes", "deletes", "executes", "sends to"}
    seen = {(one.relation, one.other): one.count for one in found.events if one.relation in accesses}
    assert seen == {("sends to", "s3://archive log"): 4, ("reads", "file {path}"): 3, ("reads", "file unknown"): 1}


def test_a_call_that_was_handed_to_a_route_did_not_succeed(tmp_path: Path) -> None:
    """What the route did instead of the body is no success of the tool."""
    work(tmp_path / "e", tasks=2, days=10, policy=ROUTED, routes={"desk": lambda *_: None})
    paid = row(asked(tmp_path / "e"), "helper", "pay")
    assert paid.succeeded == 0


def test_two_directories_are_the_sum_of_their_parts(company: Path, tmp_path: Path) -> None:
    """Counts add up; first and last times reach over both."""
    work(tmp_path / "other", tasks=2, days=5, start=START + 60 * DAY)
    one, two, both = asked(company), asked(tmp_path / "other"), asked(company, tmp_path / "other")
    for name in ("root_grants", "delegations", "grants_used", "calls", "calls_by_descendants", "refused", "warned"):
        for total in both.rows:
            parts = (row(part, total.agent, total.tool) for part in (one, two))
            assert getattr(total, name) == sum(getattr(part, name) for part in parts), (name, total)


def test_one_bad_source_takes_the_proof_from_shared_rows(company: Path, tmp_path: Path) -> None:
    """A row that rests on two sources is proved only if both are."""
    work(tmp_path / "good", start=START + 60 * DAY)
    bad = shutil.copytree(company, tmp_path / "bad")
    warned = b'"effect":"warn"'
    entries = next(path for path in sorted(bad.glob("ledger/*/entries*.jsonl")) if warned in path.read_bytes())
    entries.write_bytes(entries.read_bytes().replace(warned, b'"effect":"allow"', 1))
    found = asked(bad, tmp_path / "good")
    assert row(found, "clerk", "read").proof == "recorded"
    assert found.frame.exit_code == 1


def test_memory_may_go_to_the_disk(company: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two grants in memory, the answer is the same."""
    whole = asked(company)
    monkeypatch.setattr(scope_usage, "_NEAR", 2)
    assert asked(company).rows == whole.rows


def test_the_delegator_of_a_delegator_counts_too(tmp_path: Path) -> None:
    """Use at the third hop is use below the first and the second."""
    third = Agent("third", owner="it@example.com")
    options: dict[str, Any] = {
        "sources": Sources(clock=FixedClock(START * 10**9), ids=SequentialIds()),
        "telemetry": Telemetry(sealing="inline"),
    }
    with Enforcer.open(tmp_path / "e", **options) as enforcer:
        tools = tools_of(enforcer)
        with (
            enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("read")),
            enforcer.delegate(HELPER, scope=Scope("read")),
            enforcer.delegate(third, scope=Scope("read")),
        ):
            tools["read"]("1")
    found = asked(tmp_path / "e")
    assert [row(found, agent, "read").calls_by_descendants for agent in ("clerk", "helper", "third")] == [1, 1, 0]
    assert [row(found, agent, "read").grants_used for agent in ("clerk", "helper", "third")] == [0, 0, 1]


def test_use_that_another_source_records_is_not_proved(tmp_path: Path) -> None:
    """A call under a proved grant by another agent, in another source, counts as its use, and takes the proof."""
    with Enforcer.open(tmp_path / "good", telemetry=Telemetry(sealing="inline")) as enforcer:
        tools = tools_of(enforcer)
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope({"read": None, "delete": None})):
            tools["read"]("1")
    forged(tmp_path / "good", tmp_path / "bad", agent=Agent("mallory", owner="m@example.com"), tool="delete")
    trust = tmp_path / "good" / "trust.json"
    alone = row(asked(tmp_path / "good", trust=trust), "clerk", "delete")
    both = row(asked(tmp_path / "good", tmp_path / "bad", trust=trust), "clerk", "delete")
    assert (alone.grants_used, alone.proof) == (0, "proved")
    assert (both.grants_used, both.proof) == (1, "recorded")
    events = asked(tmp_path / "good", tmp_path / "bad", trust=trust).events
    assert {(event.agent, event.proof) for event in events} == {("clerk", "proved"), ("mallory", "recorded")}


@pytest.mark.parametrize("reinstated", [False, True], ids=["revoked", "reinstated"])
def test_calls_under_a_revoked_issuer_are_no_use(tmp_path: Path, *, reinstated: bool) -> None:
    """What the thief of an issuer key did keeps no scope alive: the tool is unused, and its use has no date."""
    clock = FixedClock(START * 10**9)
    with Enforcer.open(
        tmp_path / "e", sources=Sources(clock=clock, ids=SequentialIds()), telemetry=Telemetry(sealing="inline")
    ) as enforcer:
        pay = enforcer.tool(name="pay")(lambda: None)
        for _ in range(3):
            with (
                enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")),
                enforcer.delegate(HELPER, scope=Scope("pay")),
            ):
                pay()
            clock.advance(5 * DAY)
        (key,) = (one for one in TrustStore.load(tmp_path / "e" / "trust.json").keys if one.purpose == "issuer")
        enforcer.revoke("key", key.key.thumbprint, suspend=reinstated)
        clock.advance(DAY)
        if reinstated:
            enforcer.reinstate("key", key.key.thumbprint)
    found = scope(Evidence(sources=tmp_path / "e"))
    rows = {row.agent: row for row in found.rows}
    assert [rows["helper"].calls, rows["clerk"].calls_by_descendants] == [3, 3]
    assert rows["helper"].revoked_calls == rows["clerk"].revoked_calls_by_descendants == (0 if reinstated else 3)
    assert (rows["helper"].last_used_ns > 0) is reinstated
    assert [gap.agent for gap in found.gaps if gap.code == "never_used"] == ([] if reinstated else ["clerk", "helper"])
    changes = {(one.agent, line.change) for one in found.suggestions for line in one.tools}
    change = "keep" if reinstated else "drop"
    assert changes == {("clerk", change), ("helper", change)}
    cited = {line.records for one in found.suggestions for line in one.tools} | {row.records for row in found.rows}
    assert {len(records) for records in cited} == {3 if reinstated else 0}
    export_tables(tmp_path / "e", tmp_path / "tables")
    tables = {row["agent"]: row for row in query_tables(tmp_path / "tables", "scope")}
    for agent, row in rows.items():
        assert {name: getattr(row, name) for name in tables[agent]} == tables[agent]
