"""Incidents: what a seed concerns, authority at each hop, could and did, open calls, and what revocations stopped."""

import shlex
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from small_company import ALICE, CLERK, DAY, DESK, HELPER, INVOICES, ROUTED, START, forged, tools_of, work

from agent_identity import Agent, Enforcer, Scope
from agent_identity._reports.answers import _incident_calls as incident_calls
from agent_identity._reports.answers import incident_collecting
from agent_identity._reports.answers.incident_report import IncidentReport
from agent_identity.answers import Evidence, Seed, incident
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.identity import TrustStore
from agent_identity.options import Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company that worked for a while."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory, tasks=2, days=10)
    return directory


def asked(seed: str, *sources: Path, **options: Any) -> IncidentReport:
    """Ask about an incident."""
    return incident(Evidence(sources=sources, **options), Seed.parse(seed))


def calls(found: IncidentReport) -> Counter[tuple[str, str]]:
    """Return the calls of a timeline, by tool and outcome."""
    return Counter((entry.what, entry.outcome) for entry in found.timeline if entry.kind == "call")


def reached(found: IncidentReport, kind: str) -> dict[str, int]:
    """Return what of a kind was reached, with the number of calls."""
    return {one.name: one.count for one in found.reached if one.kind == kind}


ALL = {("read", "success"): 5, ("pay", "success"): 2, ("pay", "denied"): 2, ("delete", "denied"): 1}
OF_ALICE = {("read", "success"): 4, ("pay", "success"): 2, ("pay", "denied"): 2}
PAID = {("pay", "success"): 2, ("pay", "denied"): 2}


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        ("everything", ALL),
        ("principal:alice@example.com", OF_ALICE),
        ("principal:nightly", {("read", "success"): 1}),
        ("agent:helper", PAID),
        ("agent:clerk", {**OF_ALICE, ("read", "success"): 5}),
        ("owner:it@example.com", PAID),
        ("tool:delete", {("delete", "denied"): 1}),
        ("rule:seen", {("read", "success"): 5}),
        ("policy:house", {("read", "success"): 5, ("pay", "success"): 2}),
        ("agent:nobody", {}),
    ],
)
def test_a_seed_concerns_what_it_names(company: Path, seed: str, expected: dict[tuple[str, str], int]) -> None:
    """Principal, agent with its descendants, owner, tool, rule and policy."""
    found = asked(seed, company)
    assert calls(found) == expected
    assert found.calls == sum(expected.values())


def test_a_record_leads_to_its_task(company: Path) -> None:
    """Any record of a task, an intent, an outcome or a grant, leads to all of the task."""
    whole = asked("everything", company)
    paid = next(entry for entry in whole.timeline if (entry.what, entry.outcome) == ("pay", "success"))
    grant = next(entry for entry in whole.timeline if entry.kind == "grant" and entry.task == paid.task)
    by_task = asked(f"task:{paid.task}", company)
    assert calls(by_task) == {("read", "success"): 2, ("pay", "success"): 1, ("pay", "denied"): 1}
    for record in (paid.record, grant.record):
        assert asked(f"record:{record}", company).timeline == by_task.timeline


def test_a_grant_leads_to_what_was_done_under_it_and_below(company: Path) -> None:
    """The root grant of a task concerns its delegations, and a delegation not its root."""
    whole = asked("everything", company)
    root, child = whole.authority[0], whole.authority[1]
    assert (root.depth, child.depth, child.parent) == (0, 1, root.grant)
    assert sum(calls(asked(f"grant:{root.grant}", company)).values()) == 4
    below = asked(f"grant:{child.grant}", company)
    assert calls(below) == {("pay", "success"): 1, ("pay", "denied"): 1}
    assert [(hop.agent, hop.selected) for hop in below.authority] == [("clerk", False), ("helper", True)]


def test_the_timeline_of_a_grant_has_the_parts_handed_on_under_it(company: Path) -> None:
    """A delegation that begins and ends under a grant, or under a key, is part of what was done under it."""
    root = next(hop for hop in asked("everything", company).authority if hop.agent == "clerk" and hop.depth == 0)
    for seed in (f"grant:{root.grant}", f"task:{root.task}"):
        parts = [(one.kind, one.agents) for one in asked(seed, company).timeline if one.kind in ("begun", "ended")]
        assert parts == [
            ("begun", ("clerk",)),
            ("begun", ("clerk", "helper")),
            ("ended", ("clerk", "helper")),
            ("ended", ("clerk",)),
        ]
    of_key = asked(f"key:{root.key}", company).timeline
    assert Counter(one.agents for one in of_key if one.kind == "begun") == {("clerk",): 3, ("clerk", "helper"): 2}


def test_each_hop_says_what_was_lost_there(company: Path) -> None:
    """The helper got pay alone, narrowed, and called it once; the clerk had more and did other things."""
    root, child, *_ = asked("principal:alice@example.com", company).authority
    assert set(root.tools) == {"read", "pay", "delete"}
    assert (child.lost, child.narrowed, dict(child.calls), child.refused) == (
        ("delete", "read"),
        ("pay",),
        {"pay": 1},
        1,
    )
    assert dict(root.calls) == {"read": 2}
    assert root.key is not None
    assert (root.proof, child.proof) == ("proved", "proved")


def test_could_stands_beside_did(company: Path) -> None:
    """The clerk could delete and did not; what was reached has counts."""
    found = asked("agent:clerk", company)
    tools = {one.tool: one for one in found.tools}
    assert (tools["delete"].grants, tools["delete"].open_grants, tools["delete"].calls) == (2, 2, 0)
    assert (tools["pay"].grants, tools["pay"].open_grants, tools["pay"].succeeded, tools["pay"].refused) == (4, 0, 2, 2)
    assert tools["read"].calls == 5
    assert reached(found, "agent") == {"clerk": 7, "helper": 2}
    assert reached(found, "principal") == {"alice@example.com": 6, "nightly": 1}


def test_a_key_leads_to_all_grants_that_it_signed(company: Path) -> None:
    """The issuer key of the directory signed every root; from a time on, only later ones count."""
    trust = TrustStore.load(company / "trust.json")
    (key,) = (entry.key.thumbprint for entry in trust.keys if entry.purpose == "issuer")
    found = asked(f"key:{key}", company)
    assert found.calls == 9
    late = incident(Evidence(sources=company), Seed("key", key, (START + 5 * DAY) * 10**9))
    assert late.calls == 5
    assert (found.undated, late.undated) == (0, 1)
    assert asked("key:other", company).calls == 0


def test_an_approver_and_an_approval_are_seeds(tmp_path: Path) -> None:
    """Who approved leads to what was approved, and so does the approval."""
    work(tmp_path / "e", policy=ROUTED, routes=DESK)
    found = asked("principal:bob@example.com", tmp_path / "e")
    assert calls(found) == {("pay", "success"): 1}
    (answer,) = (entry for entry in found.timeline if entry.kind == "approval" and entry.outcome == "approved")
    assert "bob@example.com" in answer.why
    assert any("approved by bob@example.com" in entry.why for entry in found.timeline)


def test_a_resource_leads_to_what_touched_it(tmp_path: Path) -> None:
    """By its template, by system and template, or by its digest; the note says what declares nothing."""
    work(tmp_path / "e")
    for seed in ("shop.invoices/{number}", f"{INVOICES} shop.invoices/{{number}}"):
        found = asked(f"resource:{seed}", tmp_path / "e")
        assert calls(found) == {("read", "success"): 3}
    assert any("declare no resource" in note for note in found.frame.notes)


def test_a_call_without_an_outcome_is_open(tmp_path: Path) -> None:
    """A call that is under way has an intent alone; the report names it, and its task may still act."""
    clock = FixedClock(START * 10**9)
    with Enforcer.open(
        tmp_path / "e", sources=Sources(clock=clock, ids=SequentialIds()), telemetry=Telemetry(sealing="inline")
    ) as enforcer:

        def look() -> IncidentReport:
            clock.advance(1)
            with suppress(Denied), enforcer.no_task():
                enforcer.tool(name="other")(lambda: None)()
            return asked("agent:clerk", tmp_path / "e", unverified=True)

        body = enforcer.tool(name="look")(look)
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("look")) as task:
            found = body()
    (opened,) = found.open_calls
    assert (opened.tool, opened.agent, opened.task) == ("look", "clerk", task.id)
    assert found.open_tasks == (task.id,)
    assert any(task.id in command for command in found.commands)
    after = asked("agent:clerk", tmp_path / "e")
    assert (after.open_calls, after.open_tasks) == ((), ())


def test_what_came_after_a_revocation_is_counted(tmp_path: Path) -> None:
    """Calls before it, refusals while it was in force, and the time from the first call to it."""
    clock = FixedClock(START * 10**9)
    with Enforcer.open(
        tmp_path / "e", sources=Sources(clock=clock, ids=SequentialIds()), telemetry=Telemetry(sealing="inline")
    ) as enforcer:
        tools = tools_of(enforcer)
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("read")):
            tools["read"]("1")
            clock.advance(60)
            with enforcer.no_task():
                enforcer.revoke("agent", "clerk", reason="leaked", suspend=True)
            clock.advance(1)
            with suppress(Denied):
                tools["read"]("2")
            clock.advance(1)
            with enforcer.no_task():
                enforcer.reinstate("agent", "clerk")
            clock.advance(1)
            tools["read"]("3")
    found = asked("agent:clerk", tmp_path / "e")
    (effect,) = found.revocations
    assert (effect.kind, effect.name, effect.status) == ("agent", "clerk", "suspended")
    assert (effect.before, effect.after, effect.refused) == (1, 0, 1)
    assert effect.since_first_ns == 60 * 10**9
    assert effect.lifted_ns == (START + 62) * 10**9
    assert asked("principal:nobody", tmp_path / "e").revocations == ()


@pytest.mark.parametrize(
    ("kind", "name", "concerns"),
    [
        ("owner", "it@example.com", True),
        ("human", "alice@example.com", True),
        ("service", "alice@example.com", False),
        ("agent", "clerk", True),
        ("agent", "other", False),
        ("task", "other", False),
    ],
)
def test_revocations_of_every_kind_are_matched(tmp_path: Path, kind: Any, name: str, concerns: bool) -> None:
    """Of a chain, each agent and each owner counts; a principal counts by its kind."""
    clock = work(tmp_path / "e")
    clock.advance(60)
    with Enforcer.open(
        tmp_path / "e", sources=Sources(clock=clock, ids=SequentialIds()), telemetry=Telemetry(sealing="inline")
    ) as enforcer:
        enforcer.revoke(kind, name)
    found = asked("agent:helper", tmp_path / "e")
    assert [(one.kind, one.name, one.before) for one in found.revocations] == ([(kind, name, 1)] if concerns else [])


def test_a_period_bounds_the_incident(company: Path) -> None:
    """Only calls of the period, under grants that lived in it."""
    found = asked("everything", company, until_ns=(START + DAY) * 10**9)
    assert sum(calls(found).values()) == 4
    assert {one.depth for one in found.authority} == {0, 1}


def test_unverified_evidence_proves_no_incident(company: Path) -> None:
    """Without a verification everything is recorded only."""
    found = asked("everything", company, unverified=True)
    assert found.proof == "recorded"
    assert {one.proof for one in found.authority} == {"recorded"}


def test_two_directories_have_one_timeline(company: Path, tmp_path: Path) -> None:
    """The timeline over two directories is that of both, by time, and each keeps its source."""
    work(tmp_path / "other", start=START + 3 * DAY)
    both = asked("agent:helper", company, tmp_path / "other")
    assert calls(both) == calls(asked("agent:helper", company)) + calls(asked("agent:helper", tmp_path / "other"))
    assert [entry.at_ns for entry in both.timeline] == sorted(entry.at_ns for entry in both.timeline)
    assert {entry.source for entry in both.timeline} == {0, 1}


def test_a_long_timeline_is_cut_and_says_so(company: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for three entries and two calls in memory, the numbers still count everything."""
    whole = asked("everything", company)
    monkeypatch.setattr(incident_collecting, "MAX_ENTRIES", 3)
    monkeypatch.setattr(incident_collecting, "_NEAR", 2)
    monkeypatch.setattr(incident_calls, "_BATCH", 2)
    short = asked("everything", company)
    assert (short.calls, short.tools, short.reached, short.authority) == (
        whole.calls,
        whole.tools,
        whole.reached,
        whole.authority,
    )
    assert sum(entry.kind != "policy" for entry in short.timeline) == 3
    assert short.omitted == len(whole.timeline) - 1 - 3
    assert any("the timeline ends" in note for note in short.frame.notes)


def test_an_agent_that_delegates_to_itself_counts_once(tmp_path: Path) -> None:
    """An agent that is in a chain twice was reached once by each call."""
    with Enforcer.open(tmp_path / "e") as enforcer:
        tools = tools_of(enforcer)
        with (
            enforcer.task("t", principal=ALICE, agent=HELPER, scope=Scope("read")),
            enforcer.delegate(Agent("helper", owner="it@example.com"), scope=Scope("read")),
        ):
            tools["read"]("1")
    assert reached(asked("agent:helper", tmp_path / "e"), "agent") == {"helper": 1}


def test_a_seed_has_a_bound() -> None:
    """A seed of any length is no seed."""
    with pytest.raises(ConfigurationError):
        Seed.parse("agent:" + "x" * 10_000)


def test_calls_of_another_source_take_the_proof_from_their_hop(tmp_path: Path) -> None:
    """Calls that somebody else records under a proved grant do not become proved by that."""
    work(tmp_path / "good")
    forged(tmp_path / "good", tmp_path / "bad")
    trust = tmp_path / "good" / "trust.json"
    alone = asked("principal:alice@example.com", tmp_path / "good", trust=trust)
    both = asked("principal:alice@example.com", tmp_path / "good", tmp_path / "bad", trust=trust)
    assert [sum(hop.calls.values()) for hop in both.authority] == [
        2 * sum(hop.calls.values()) for hop in alone.authority
    ]
    assert {hop.proof for hop in alone.authority} == {"proved"}
    assert {hop.proof for hop in both.authority} == {"recorded"}
    assert both.proof == "recorded"


def test_a_revocation_of_another_source_is_not_proved(tmp_path: Path) -> None:
    """What an incident says of a revocation rests on the source that has the revocation."""
    clock = work(tmp_path / "good")
    with Enforcer.open(
        tmp_path / "bad", sources=Sources(clock=clock), telemetry=Telemetry(sealing="inline")
    ) as enforcer:
        enforcer.revoke("agent", "helper")
    found = asked("agent:helper", tmp_path / "good", tmp_path / "bad", trust=tmp_path / "good" / "trust.json")
    assert [effect.name for effect in found.revocations] == ["helper"]
    assert [source.proved for source in found.frame.sources] == [True, False]
    assert found.proof == "recorded"


def test_a_long_seed_fits_the_reason_of_a_command(tmp_path: Path) -> None:
    """A command can be run as it stands: revocations take reasons of 256 characters."""
    owner = "o" * 250
    with (
        Enforcer.open(tmp_path / "e", telemetry=Telemetry(sealing="inline")) as enforcer,
        enforcer.task("t", principal=ALICE, agent=Agent("a", owner=owner), scope=Scope("read")),
    ):
        pass
    (command,) = asked(f"owner:{owner}", tmp_path / "e").commands
    assert main(shlex.split(command)[1:]) == 0


@pytest.mark.parametrize(
    ("kind", "name", "after_ns"),
    [("bogus", "x", None), ("agent", "", None), ("everything", "x", None), ("agent", "clerk", 5)],
)
def test_a_seed_that_names_nothing_is_refused(kind: Any, name: str, after_ns: int | None) -> None:
    """A misspelled kind does not answer that nothing happened, and no option is left out silently."""
    with pytest.raises(ConfigurationError):
        Seed(kind, name, after_ns)


def test_arguments_of_other_types_are_named(company: Path) -> None:
    """As everywhere, the error says which parameter it is about."""
    wrong: Any = "agent:clerk"
    with pytest.raises(TypeError, match="seed is"):
        incident(Evidence(sources=company), wrong)
    with pytest.raises(TypeError, match="evidence is"):
        incident(wrong, Seed("agent", "clerk"))
    with pytest.raises(TypeError, match="until_ns is"):
        Evidence(sources=company, until_ns=wrong)
