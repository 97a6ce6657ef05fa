"""Controls: the status of each row over known evidence, and what takes a status away."""

import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import pytest
from msgspec import structs
from small_company import ALICE, CLERK, DESK, POLICY, ROUTED, START, span, traces, work

from agent_identity import Enforcer, Human, Scope
from agent_identity._record.parts import Agent as RecordedAgent
from agent_identity._record.parts import AgentRegistration, Offered, PolicyState, Principal, Server, StreamResource
from agent_identity._reports.answers.coverage_report import CoverageQuestion
from agent_identity._reports.answers.facts import CallFact, Fact, PolicyFact, RegistrationFact, ServerFact, StreamFact
from agent_identity._reports.answers.incident_report import IncidentQuestion
from agent_identity._reports.answers.reading import Distributor, Reading, read
from agent_identity._reports.answers.report_frame import SourceFrame
from agent_identity._reports.controls import controls_report
from agent_identity._reports.controls._signals import QUERIES, SIGNALS, Signals
from agent_identity._reports.controls.control_rows import ControlRow, standard_tables
from agent_identity._reports.controls.controls_report import (
    ControlsQuestion,
    ControlsReport,
    RowResult,
    SignalCollector,
)
from agent_identity._verify.report.report import Signature
from agent_identity.answers import Evidence, Seed, controls, overview
from agent_identity.approvals import Approval
from agent_identity.cli import main
from agent_identity.options import Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds

EXPECTED: Final = cast(
    "Mapping[str, Mapping[str, Mapping[str, str]]]",
    tomllib.loads(Path(__file__).with_name("expected.toml").read_text("utf-8")),
)
ROWS: Final = [row for table in standard_tables() for row in table.rows]
IDS: Final = [f"{row.framework} {row.clause}" for row in ROWS]
INLINE: Final = Telemetry(sealing="inline")

each_row = pytest.mark.parametrize("row", ROWS, ids=IDS)


def asked(directory: Path, *more: Path, **options: Any) -> ControlsReport:
    """Ask about controls with keys that were kept elsewhere."""
    trust = options.pop("trust", directory.parent / "kept.json")
    return controls(Evidence(sources=(directory, *more), trust=trust, **options))


def kept(directory: Path) -> Path:
    """Keep the keys of a directory elsewhere, and return the directory."""
    shutil.copy(directory / "trust.json", directory.parent / "kept.json")
    return directory


def made(folder: Path, work_: Callable[[Path], object]) -> Path:
    """Return evidence of some work."""
    directory = folder / "evidence"
    work_(directory)
    return kept(directory)


def nothing(directory: Path) -> None:
    """Open a directory with a policy, and do nothing."""
    Enforcer.open(directory, telemetry=INLINE, policy=POLICY).close()


def noise(directory: Path) -> None:
    """Let one agent make 25 calls that are allowed."""
    clock = FixedClock(START * 10**9)
    with Enforcer.open(directory, sources=Sources(clock=clock, ids=SequentialIds()), telemetry=INLINE) as enforcer:
        look = enforcer.tool(name="look")(lambda: "result")
        with enforcer.task("look around", principal=ALICE, agent=CLERK, scope=Scope("look")):
            for _ in range(25):
                look()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return evidence of each kind."""
    found = {
        "empty": made(tmp_path_factory.mktemp("empty"), nothing),
        "noise": made(tmp_path_factory.mktemp("noise"), noise),
        "company": made(tmp_path_factory.mktemp("company"), lambda directory: work(directory, tasks=2, days=10)),
    }
    forged = made(tmp_path_factory.mktemp("forged"), work)
    (lines,) = forged.glob("ledger/*/entries.jsonl")
    lines.write_bytes(lines.read_bytes().replace(b'"pay"', b'"buy"'))
    found["forged"] = forged
    return found


@pytest.fixture(scope="module")
def reports(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ControlsReport]:
    """Return the report on evidence of each kind."""
    found = {name: asked(directory) for name, directory in folders.items()}
    spans = [span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "browse"}, number=7)]
    unguarded = traces(tmp_path_factory.mktemp("traces") / "traces.jsonl", spans)
    found["unguarded"] = asked(folders["company"], unguarded)
    found["unverified"] = asked(folders["company"], unverified=True)
    found["own keys"] = asked(folders["company"], trust=None)
    return found


def of(report: ControlsReport, row: ControlRow) -> RowResult:
    """Return the result of a row."""
    return next(one for one in report.rows if one.row == row)


def first(report: ControlsReport, query: str) -> RowResult:
    """Return the result of a row with a query that may be shown as a whole, or else of any row with it."""
    rows = [one for one in report.rows if one.row.query == query]
    return min(rows, key=lambda one: one.row.at_most == "partly")


@each_row
def test_an_empty_ledger_shows_nothing(reports: dict[str, ControlsReport], row: ControlRow) -> None:
    """Without a call nothing is shown, not even in part, although the ledger verifies."""
    report = reports["empty"]
    assert report.frame.verdict == "verified"
    assert of(report, row).status == ("not shown" if row.query else "out of scope")


@each_row
@pytest.mark.parametrize("kind", ["noise", "company"])
def test_a_row_shows_what_it_should(reports: dict[str, ControlsReport], row: ControlRow, kind: str) -> None:
    """25 allowed calls, and the work of a small company, show of each row what somebody thought about, and no more."""
    result = of(reports[kind], row)
    assert result.status == EXPECTED[row.framework][row.clause][kind]
    if result.status == "shown":
        assert row.at_most == "shown"
    if result.status in ("shown", "partly"):
        needed = [one for one in result.evidence if one.role == "needs"]
        assert all(one.count for one in needed)


@each_row
def test_a_failed_verification_contradicts_every_row(reports: dict[str, ControlsReport], row: ControlRow) -> None:
    """One changed record, and no row has another status."""
    report = reports["forged"]
    assert (report.frame.verdict, report.frame.exit_code) == ("contradicted", 1)
    assert of(report, row).status == "contradicted"


@each_row
def test_coverage_stands_beside_a_status(reports: dict[str, ControlsReport], row: ControlRow) -> None:
    """A call that only traces show stands beside each row that is shown or shown in part."""
    report = reports["unguarded"]
    result = of(report, row)
    assert (report.recorded, report.share.calls) == (10, 11)
    if result.status in ("shown", "partly"):
        assert "10 of 11" in result.coverage
    else:
        assert result.coverage == ""
    assert of(reports["company"], row).coverage == ""


@each_row
def test_nothing_is_shown_without_verification(reports: dict[str, ControlsReport], row: ControlRow) -> None:
    """With --unverified no row is shown, and the exit code is 2."""
    report = reports["unverified"]
    assert report.frame.exit_code == 2
    assert of(report, row).status in ("not shown", "out of scope")


@each_row
def test_keys_from_beside_the_evidence_show_a_part(reports: dict[str, ControlsReport], row: ControlRow) -> None:
    """What only self-asserted keys prove is never shown as a whole."""
    result, given = of(reports["own keys"], row), of(reports["company"], row)
    assert result.status == ("partly" if given.status == "shown" else given.status)


def test_every_query_and_signal_is_used() -> None:
    """Each query has a row, and each signal of a query exists."""
    assert {row.query for row in ROWS if row.query} == set(QUERIES)
    for query in QUERIES.values():
        assert {*query.needs, *query.wants, *query.lacks, *query.against} <= set(SIGNALS)


def test_expectations_are_about_the_rows() -> None:
    """No expectation is left over from a row that went."""
    assert {(name, clause) for name, clauses in EXPECTED.items() for clause in clauses} == {
        (row.framework, row.clause) for row in ROWS
    }


def test_people_and_changes_show_in_records(tmp_path: Path) -> None:
    """A refusal after a suspension is shown with its records; those by a function are no people's."""
    clock = FixedClock(START * 10**9)

    def busy(directory: Path) -> None:
        work(directory, policy=ROUTED, routes=DESK)
        clock.advance(3_600)
        with Enforcer.open(directory, sources=Sources(clock=clock), telemetry=INLINE) as enforcer:
            read = enforcer.tool(name="read")(lambda: "result")
            with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("read")):
                with enforcer.no_task():
                    enforcer.revoke("agent", "clerk", suspend=True)
                clock.advance(1)
                with pytest.raises(Exception, match="suspended"):
                    read()

    report = asked(made(tmp_path, busy))
    approval, stop = first(report, "human_approval"), first(report, "stop")
    assert approval.status == "not shown"
    assert {one.signal: one.count for one in approval.evidence} == {
        "approved_calls": 0,
        "asserted_approvals": 1,
        "owner_approved_calls": 0,
        "self_approved_calls": 0,
    }
    assert stop.status == "partly"
    assert [(one.signal, one.count) for one in stop.evidence] == [
        ("revocations", 1),
        ("revoked_refusals", 1),
        ("calls_after_revocation", 0),
    ]
    assert all(one.records for one in stop.evidence if one.count)
    assert first(report, "changes").status == "partly"


def test_a_call_after_a_revocation_contradicts(tmp_path: Path) -> None:
    """A call that another ledger has from a time when the agent was revoked is named, and contradicts the row."""
    first_, second = tmp_path / "a", tmp_path / "b"
    clock = FixedClock(START * 10**9)
    with Enforcer.open(first_, sources=Sources(clock=clock, ids=SequentialIds()), telemetry=INLINE) as enforcer:
        enforcer.revoke("agent", "clerk")
    work(second, start=START + 3_600)
    report = controls(Evidence(sources=(first_, second)))
    stop = first(report, "stop")
    assert stop.status == "contradicted"
    (after,) = [one for one in stop.evidence if one.role == "against"]
    assert after.count > 0
    assert after.records
    assert first(report, "short_authority").status == "contradicted"


def test_a_verified_human_is_told_from_an_asserted_one(tmp_path: Path) -> None:
    """Calls for humans whom nobody verified keep accountability from being shown."""

    def both(directory: Path) -> None:
        verified = Human("bob@example.com", issuer="https://login.example.com")
        object.__setattr__(verified, "provenance", "verified")
        with Enforcer.open(directory, telemetry=INLINE) as enforcer:
            look = enforcer.tool(name="look")(lambda: "result")
            for principal in (ALICE, verified):
                with enforcer.task("t", principal=principal, agent=CLERK, scope=Scope("look")):
                    look()

    result = first(asked(made(tmp_path, both)), "verified_people")
    counts = {one.signal: one.count for one in result.evidence}
    assert result.status == "partly"
    assert (counts["verified_calls"], counts["asserted_calls"]) == (1, 1)


def test_only_the_named_frameworks_are_reported(reports: dict[str, ControlsReport], folders: dict[str, Path]) -> None:
    """A framework may have several tables; the others are left out."""
    directory = folders["company"]
    evidence = Evidence(sources=directory, trust=directory.parent / "kept.json")
    report = controls(evidence, frameworks=["nist"])
    assert [table.title for table in report.tables] == ["NIST SP 800-53", "NIST AI RMF"]
    assert {one.row.framework for one in report.rows} == {"nist"}
    assert len({one.row.framework for one in reports["company"].rows}) == 5


def test_a_period_bounds_the_evidence(folders: dict[str, Path]) -> None:
    """Before the first call of the company nothing is shown."""
    report = asked(folders["company"], until_ns=START * 10**9)
    assert {one.status for one in report.rows} <= {"not shown", "out of scope"}


def test_what_happened_before_the_period_is_no_decision_or_change_in_it(tmp_path: Path) -> None:
    """A revocation of the first day holds in the next week and happened before it; report all says the same."""
    directory = tmp_path / "evidence"
    clock = FixedClock(START * 10**9)
    with Enforcer.open(directory, sources=Sources(clock=clock, ids=SequentialIds()), telemetry=INLINE) as enforcer:
        look = enforcer.tool(name="look")(lambda: "result")
        enforcer.revoke("agent", "other", reason="an exercise")
        for _ in range(2):
            with enforcer.task("look around", principal=ALICE, agent=CLERK, scope=Scope("look")):
                look()
            clock.advance(7 * 86_400)
    kept(directory)
    week = {"from_ns": (START + 86_400) * 10**9}
    whole, late = asked(directory), asked(directory, **week)
    both = overview(Evidence(sources=directory, trust=tmp_path / "kept.json", **week)).controls
    for report, count in ((whole, 1), (late, 0), (both, 0)):
        found = {one.signal: one.count for row in report.rows for one in row.evidence}
        assert (found["revocations"], found["changes"], found["recorded_calls"]) == (count, count, count + 1)


Changed = Callable[[SourceFrame], SourceFrame]


def answered(directory: Path, change: Changed, **signals: int) -> ControlsReport:
    """Ask about controls over sources that are changed, with further signals."""
    evidence = Evidence(sources=directory, trust=directory.parent / "kept.json")
    question, of_coverage = ControlsQuestion(), CoverageQuestion()
    of_incident = IncidentQuestion(Seed("everything", ""))
    reading = read(evidence, Distributor((question.take, of_coverage.take, of_incident.take)))
    for name, count in signals.items():
        question._collector.signals.add(name, count=count)
    changed = replace(reading, sources=tuple(map(change, reading.sources)))
    others = of_coverage.answer(changed, evidence), of_incident.answer(changed, evidence)
    return question.answer(changed, evidence, *others)


def seen(*seconds: int) -> Changed:
    """Let a witness have seen the log at some times."""
    signatures = tuple(Signature("witness", "w", "Ed25519", 1, second) for second in seconds)

    def change(source: SourceFrame) -> SourceFrame:
        assert source.report is not None
        return replace(source, report=replace(source.report, signatures=signatures))

    return change


HALF: Final = 184 * 86_400


@pytest.fixture(scope="module")
def half_a_year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two tasks, between which the clock was set by half a year."""
    return made(tmp_path_factory.mktemp("half"), lambda directory: work(directory, tasks=2, days=184))


@pytest.mark.parametrize("times", [(), (START,), (START + HALF,), (START, START + 182 * 86_400)])
def test_a_clock_shows_no_retention(half_a_year: Path, times: tuple[int, ...]) -> None:
    """Two tasks with dates half a year apart are no logs of half a year, unless others saw the log for that long."""
    for row in answered(half_a_year, seen(*times)).rows:
        if row.row.query == "retention":
            assert row.status == "partly"
            assert any("only the records themselves" in why for why in row.why) is (row.row.days is not None)


def test_logs_of_half_a_year_are_shown(half_a_year: Path) -> None:
    """A witness saw them at both ends of the days that a row asks for."""
    report = answered(half_a_year, seen(START, START + HALF))
    assert {(one.row.clause, one.status) for one in report.rows if one.row.days is not None} == {
        ("19(1)", "shown"),
        ("26(6)", "shown"),
    }


def test_pruned_records_weaken_retention(half_a_year: Path) -> None:
    """Nobody can tell from what is left whether what was pruned was old enough."""
    result = first(answered(half_a_year, seen(START, START + HALF), pruned_records=3), "retention")
    assert result.status == "partly"
    assert result.why[0].startswith("3 records")


def test_a_scripted_examination_shows_no_review(half_a_year: Path) -> None:
    """One command that a script can run makes no row; nor does it say of a person that it was dated from outside."""
    assert main(["demo", "--evidence", str(half_a_year.parent / "examiner")]) == 0
    examiner = kept(half_a_year.parent / "examiner")
    words = ["--record-examination", str(examiner), "--by", "auditor@example.com", str(half_a_year)]
    assert main(["report", "inventory", *words]) == 0
    (alone,) = {one.status for one in answered(examiner, seen()).rows if one.row.query == "examinations"}
    assert alone == "not shown"
    witnessed = first(answered(examiner, seen(START)), "examinations")
    assert (witnessed.status, witnessed.evidence[0].count) == ("partly", 1)
    assert any("who examined" in note for note in witnessed.row.not_shown)
    shutil.copy(half_a_year / "trust.json", half_a_year.parent / "kept.json")


@pytest.mark.parametrize("provenance", ["asserted", "verified"])
def test_only_approvals_of_verified_people_are_of_people(tmp_path: Path, provenance: str) -> None:
    """A function in the process can name anybody, so that its approvals show nothing of people."""
    bob = Human("bob@example.com", issuer="https://login.example.com")
    object.__setattr__(bob, "provenance", provenance)
    desk = {"desk": Approval(ask=lambda request: request.approve(by=bob))}
    report = asked(made(tmp_path, lambda directory: work(directory, policy=ROUTED, routes=desk)))
    found = {one.row.query: one.status for one in report.rows}
    assert (
        found["human_approval"] == found["human_decisions"] == ("partly" if provenance == "verified" else "not shown")
    )


def test_a_witness_is_no_separate_system(half_a_year: Path) -> None:
    """It keeps states of the log and no records, so that no row about copies elsewhere rests on it."""
    report = answered(half_a_year, seen(START))
    (row,) = (one for one in report.rows if one.row.clause == "AU-9(2)")
    assert row.status == "out of scope"


class Kept:
    """Keeps the facts of a pass."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def take(self, fact: Fact) -> None:
        """Keep a fact."""
        self.facts.append(fact)


@pytest.fixture(scope="module")
def pass_(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sequence[Fact], Reading]:
    """Return the facts of a company in which somebody approves, and the end of the pass."""
    directory = tmp_path_factory.mktemp("desk") / "evidence"
    work(directory, policy=ROUTED, routes=DESK)
    kept_ = Kept()
    return kept_.facts, read(Evidence(sources=directory), kept_)


def counted(pass_: tuple[Sequence[Fact], Reading], change: Callable[[Fact], Fact], *more: Fact) -> Signals:
    """Return the signals of facts, each changed, and of some more."""
    facts, reading = pass_
    collector, of_coverage, of_incident = (
        SignalCollector(),
        CoverageQuestion(),
        IncidentQuestion(Seed("everything", "")),
    )
    taken = Distributor((collector.take, of_coverage.take, of_incident.take))
    for fact in (*map(change, facts), *more):
        taken.take(fact)
    evidence = Evidence(sources="x")
    revocations = of_incident.answer(reading, evidence).revocations
    collector.finish(reading, of_coverage.answer(reading, evidence).total.calls, revocations)
    return collector.signals


def of_calls(**members: Any) -> Callable[[Fact], Fact]:
    """Return what changes members of calls."""
    return lambda fact: structs.replace(fact, **members) if isinstance(fact, CallFact) and not fact.opening else fact


BOB_HIMSELF: Final = Principal(id="bob@example.com", kind="human", provenance="asserted")


@pytest.mark.parametrize(
    ("change", "signal"),
    [
        (of_calls(principal=BOB_HIMSELF), "self_approved_calls"),
        (of_calls(agent=RecordedAgent(id="helper", owner="bob@example.com")), "owner_approved_calls"),
        (of_calls(kind="mcp", tool="files/read"), "unpinned_tools"),
        (of_calls(kind="model"), "model_calls"),
        (of_calls(findings=("secret",)), "finding_calls"),
        (of_calls(principal=None), "unattributed_calls"),
        (of_calls(outcome="unknown"), "open_calls"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_signals_follow_from_single_members(
    pass_: tuple[Sequence[Fact], Reading], change: Callable[[Fact], Fact], signal: str
) -> None:
    """A changed member of the calls gives a signal that the unchanged ones do not give."""
    assert counted(pass_, lambda fact: fact).get(signal).count == 0
    found = counted(pass_, change).get(signal)
    assert found.count > 0
    assert str(found.count) in found.words


def test_changes_are_told_from_first_sightings(pass_: tuple[Sequence[Fact], Reading]) -> None:
    """The first policy and the first version are no changes; the second of each is, and so is a changed tool."""
    policy = next(fact for fact in pass_[0] if isinstance(fact, PolicyFact))
    call = next(fact for fact in pass_[0] if isinstance(fact, CallFact) and fact.agent is not None)
    assert call.agent is not None
    server = Server(name="files", transport="stdio", status="pinned")
    offered = Offered(name="read", status="changed", pinned="M" * 43, offered="Q" * 43)
    again = replace(policy, policy=PolicyState(name=policy.policy.name, version="4", digest="A" * 43))
    newer = structs.replace(call, agent=RecordedAgent(id=call.agent.id, owner=call.agent.owner, version="9"))
    other = structs.replace(call, agent=RecordedAgent(id=call.agent.id, owner=call.agent.owner, version="2"))
    assert counted(pass_, lambda fact: fact).get("changes").count == 0
    more: Sequence[Fact] = (again, other, newer, ServerFact(call.where, call.at_ns, server, (offered,)))
    found = counted(pass_, lambda fact: fact, *more)
    assert found.get("changes").count == 3
    assert found.get("pinned_servers").count == 1


def test_an_agent_of_several_services_is_shared(pass_: tuple[Sequence[Fact], Reading]) -> None:
    """One identity in two services is told, and each stream with service and host counts."""
    call = next(fact for fact in pass_[0] if isinstance(fact, CallFact) and fact.agent is not None)
    more: list[Fact] = []
    for number in (1, 2):
        where = structs.replace(call.where, stream=f"stream-{number}", record=f"record-{number}")
        more += [
            StreamFact(where, 1, "x", StreamResource(service=f"service-{number}", host="host")),
            structs.replace(call, where=where),
        ]
    found = counted(pass_, lambda fact: fact, *more)
    assert (found.get("shared_agents").count, found.get("placed_streams").count) == (1, 2)


def test_registrations_count_by_their_last_status(pass_: tuple[Sequence[Fact], Reading]) -> None:
    """A registered agent, and one that was taken out of service."""
    call = next(fact for fact in pass_[0] if isinstance(fact, CallFact) and fact.agent is not None)
    more: list[Fact] = []
    for name, status in (("clerk", "registered"), ("old", "retired")):
        state = AgentRegistration(hash="A" * 43, purpose="p", status=cast("Any", status))
        more.append(RegistrationFact(call.where, 1, RecordedAgent(id=name, owner="o"), state))
    found = counted(pass_, lambda fact: fact, *more)
    assert found.get("registered_agents").count == 2
    assert found.get("retired_agents").count == 1
    assert found.get("unregistered_agents").count == 1


@pytest.mark.parametrize(("status", "count"), [("retired", 1), ("suspended", 1), ("registered", 0)])
def test_an_agent_that_acts_after_its_end_contradicts_offboarding(
    pass_: tuple[Sequence[Fact], Reading], status: str, count: int
) -> None:
    """The registry took the agent out of service, and it went on; its latest status counts."""
    call = next(fact for fact in pass_[0] if isinstance(fact, CallFact) and fact.agent is not None)
    more: list[Fact] = []
    for at, each in ((2, status), (1, "registered")):
        state = AgentRegistration(hash="A" * 43, purpose="p", status=cast("Any", each))
        more.append(RegistrationFact(call.where, at, RecordedAgent(id="clerk", owner="o"), state))
    found = counted(pass_, lambda fact: fact, *more).get("agents_after_their_end")
    assert (found.count, len(found.records)) == (count, count)
    assert "agents_after_their_end" in QUERIES["offboarding"].against


def test_names_beyond_the_room_are_counted(
    pass_: tuple[Sequence[Fact], Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded: what has no room is counted, and said."""
    monkeypatch.setattr(controls_report, "_MAX_NAMES", 1)
    facts, _ = pass_
    collector = SignalCollector()
    for fact in facts:
        collector.take(fact)
    assert collector.omitted > 0
