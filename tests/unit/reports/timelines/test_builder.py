"""Stories: who did what on whose behalf, and what was refused and why."""

import io
import itertools
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from plain_records import append

from agent_identity import Agent, Effect, Enforcer, Finding, Human, Rule, RuleSet, Scope
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._reports.timelines import builder as stories_module
from agent_identity._reports.timelines.builder import Action, Delegation, TaskTimeline
from agent_identity._verify.ledger.erasures import Erasures
from agent_identity.answers import Evidence, scope
from agent_identity.audit import story
from agent_identity.constraints import Contains
from agent_identity.errors import Denied
from agent_identity.inspection import HiddenText, PersonalData
from agent_identity.options import Sources, Telemetry
from agent_identity.policy import Content, Obligation
from agent_identity.records import AnyRecord, decode
from agent_identity.testing import FixedClock, SequentialIds

FileSpanExporter = pytest.importorskip("opentelemetry.exporter.otlp.json.file").FileSpanExporter

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
READER = Agent("reader", owner="team:archive")
START = 1_764_000_000_000_000_000


@pytest.fixture
def told(tmp_path: Path) -> tuple[Path, io.StringIO]:
    """Two tasks, one with a helper, and refusals of every kind."""
    text = io.StringIO()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(stream=text)))
    clock = FixedClock(START)
    rules = RuleSet(Rule(Effect.BLOCK, tools="delete", reason="nothing is deleted here", id="no-delete"))
    telemetry = Telemetry(tracer_provider=provider)
    with Enforcer.open(
        tmp_path / "e", sources=Sources(clock=clock, ids=SequentialIds()), policy=rules, telemetry=telemetry
    ) as enforcer:
        scope = Scope("read", id="1") | Scope("delete")

        def act(tool: str, **arguments: object) -> None:
            clock.advance(1)
            with suppress(Denied), enforcer.action(tool, **arguments):
                pass

        with enforcer.task("first", principal=ALICE, agent=CLERK, scope=scope):
            act("read", id="1")
            act("read", id="2")
            act("delete")
            with enforcer.delegate(READER, scope=Scope("read", id="1"), purpose="look"):
                act("read", id="1")
        with enforcer.task("second", principal=ALICE, agent=CLERK, scope=scope):
            act("read", id="1")
        act("read", id="1")
        act("read", id="1")
    return tmp_path / "e", text


def outline(some: TaskTimeline) -> list[tuple[str, tuple[str, ...], str, str]]:
    return [(a.tool, a.agents, a.outcome, a.reason) for a in some.actions]


def test_stories_tell_who_did_what_on_whose_behalf(told: tuple[Path, io.StringIO]) -> None:
    """A story has principal, agent, owner, purpose, each call with its chain, and each refusal with its reason."""
    first, second, outside = story(told[0])
    assert (first.purpose, first.principal, first.principal_kind) == ("first", "alice@example.com", "human")
    assert (first.agent, first.owner, first.refused) == ("clerk", "finance@example.com", 2)
    assert (first.started_ns, first.ended_ns) == (START, START + 4 * 10**9)
    assert outline(first) == [
        ("read", ("clerk",), "success", first.actions[0].reason),
        ("read", ("clerk",), "denied", "argument_out_of_scope"),
        ("delete", ("clerk",), "denied", "policy_blocks"),
        ("read", ("clerk", "reader"), "success", first.actions[3].reason),
    ]
    blocked = first.actions[2]
    assert (blocked.rule, blocked.why, blocked.effect) == ("no-delete", "nothing is deleted here", "block")
    assert first.actions[1].argument == "id"
    assert (second.purpose, len(second.actions)) == ("second", 1)
    assert (outside.task, outside.principal, outside.agent) == (None, None, None)
    assert outline(outside) == [("read", (), "denied", "no_task")] * 2


def test_a_story_is_whole(told: tuple[Path, io.StringIO]) -> None:
    """Every member of the story of a task, and of its calls."""
    first, second, outside = story(told[0])
    records = {
        record["id"]: record
        for path in told[0].glob("ledger/*/entries.jsonl")
        for record in (orjson.loads(line)["record"] for line in path.read_bytes().splitlines())
    }
    empty = {"rule": None, "why": None, "argument": None, "route": None, "error": None}
    allowed = Action(
        record=first.actions[0].record,
        at_ns=START + 10**9,
        tool="read",
        agents=("clerk",),
        effect="allow",
        outcome="success",
        reason="default",
        **empty,
    )
    assert first.actions[0] == allowed
    assert records[allowed.record]["kind"] == "outcome"
    outcome = {**empty, "error": "argument_out_of_scope", "argument": "id"}
    assert first.actions[1] == replace(
        allowed,
        record=first.actions[1].record,
        at_ns=START + 2 * 10**9,
        effect="block",
        outcome="denied",
        reason="argument_out_of_scope",
        **outcome,
    )
    assert replace(first, actions=()) == TaskTimeline(
        task=first.task,
        purpose="first",
        principal="alice@example.com",
        principal_kind="human",
        provenance="asserted",
        agent="clerk",
        owner="finance@example.com",
        started_ns=START,
        expires_ns=START + 300 * 10**9,
        ended_ns=START + 4 * 10**9,
        actions=(),
        omitted=0,
        refused=2,
        delegations=(Delegation(("clerk", "reader"), "look"),),
    )
    assert (second.purpose, second.refused, second.delegations) == ("second", 0, ())
    assert replace(outside, actions=()) == TaskTimeline(
        *(None,) * 7, started_ns=START + 6 * 10**9, expires_ns=None, ended_ns=None, actions=(), omitted=0, refused=2
    )


ID = "AZV6P04jewGp0Q{:07d}A"
NUMBERS = itertools.count(1)


def record_of(kind: str, second: int, **members: Any) -> AnyRecord:
    """Return a record of a kind, with what a story does not look at as well."""
    start = str(START + second * 10**9)
    head = {
        "v": "1",
        "kind": kind,
        "id": ID.format(next(NUMBERS)),
        "stream": {"id": ID.format(0), "seq": "2", "prev": "A" * 43},
        "time": {"start": start, "end": str(int(start) + 7)},
    }
    if kind == "task_end":
        members["counts"] = {"intents": "0", "outcomes": "0", "open": "0"}
    return decode(encode_record({**head, **members}))


def party(*agents: str, task: str = "t", **of_task: str) -> dict[str, Any]:
    """Return the members of a record of a task."""
    return {
        "task": {"id": task, **of_task},
        "principal": {"id": "alice", "kind": "human", "provenance": "verified", "via": ["a", "b"]},
        "agent": {"id": agents[-1], "owner": f"owner of {agents[-1]}"},
        "chain": [{"id": agent, "grant": "A" * 43} for agent in agents],
    }


def registered(second: int, name: str, purpose: str, letter: str) -> AnyRecord:
    """Return the record of a registration."""
    registration = {"purpose": purpose, "hash": letter * 43, "status": "registered"}
    return record_of("registration", second, agent={"id": name, "owner": "o"}, registration=registration)


def told_of(*records: AnyRecord) -> list[TaskTimeline]:
    """Return the stories that records make."""
    teller = stories_module._TimelineBuilder(Erasures([]))
    return [item for record in records for item in teller.take(record)] + list(teller.finish())


DECIDED = {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "r"}
REFUSED = {"outcome": "denied", "error": "e"}


def test_what_a_registration_says_stands_in_the_story() -> None:
    """The last one before the task began, of its agent."""
    (told,) = told_of(
        registered(0, "clerk", "old", "A"),
        registered(0, "other", "no", "I"),
        registered(0, "clerk", "pays", "E"),
        record_of("task_start", 3, **party("clerk", purpose="p", expires="9")),
        registered(4, "clerk", "late", "M"),
        record_of("task_end", 5, **party("clerk")),
    )
    assert (told.registered_for, told.registration, told.via) == ("pays", "E" * 43, ("a", "b"))
    assert (told.expires_ns, told.ended_ns, told.owner) == (9, START + 5 * 10**9 + 7, "owner of clerk")


def test_a_task_ends_where_it_was_opened() -> None:
    """The end of a part is not that of the task; where it was opened elsewhere, the first that is here counts."""
    (told,) = told_of(
        record_of("task_start", 1, **party("root", "clerk", purpose="p")),
        record_of("task_start", 2, **party("root", "clerk", "reader", purpose="q")),
        record_of("task_end", 3, **party("root", "clerk", "reader")),
        record_of("intent", 4, action={"tool": "pay", "kind": "function"}, decision=DECIDED, **party("root", "clerk")),
    )
    assert (told.purpose, told.ended_ns, told.agent) == ("p", None, None)
    assert told.delegations == (Delegation(("root", "clerk", "reader"), "q"),)
    assert [(action.tool, action.agents, action.outcome) for action in told.actions] == [
        ("pay", ("root", "clerk"), "unknown")
    ]
    (told,) = told_of(
        record_of("task_start", 1, **party("root", "clerk", purpose="p")),
        record_of("task_start", 2, **party("root", purpose="q")),
        record_of("task_end", 3, **party("root", "clerk")),
        record_of("task_end", 4, **party("root")),
    )
    assert (told.purpose, told.ended_ns, told.agent) == ("q", START + 4 * 10**9 + 7, "root")


def test_an_opening_that_was_refused_names_the_agent_and_a_call_its_approver() -> None:
    """An approver counts for a call that ran, and if the approval was given."""
    one, two = ID.format(1), ID.format(2)
    person = {"kind": "human", "provenance": "asserted"}
    approved = {"id": one, "status": "approved", "approver": {"id": "bob", **person}}
    rejected = {"id": two, "status": "rejected", "approver": {"id": "carol", **person}}
    asked = {"action": {"tool": "pay", "kind": "function"}, **party("clerk")}
    call = {"action": {"tool": "pay", "kind": "function", "route": "desk"}, "outcome": "success", **party("clerk")}
    (told,) = told_of(
        record_of("approval", 1, approval=approved, **asked),
        record_of("approval", 1, approval=rejected, **asked),
        record_of("outcome", 2, decision={**DECIDED, "approval": one}, **call),
        record_of("outcome", 3, decision={**DECIDED, "approval": two}, **call),
        record_of("outcome", 4, decision={**DECIDED, "approval": one, "enforced": "block"}, **call),
        record_of(
            "outcome",
            5,
            decision=DECIDED,
            **{
                **call,
                "action": {"tool": "invoke_agent", "kind": "function", "agent": {"id": "x", "owner": "o"}},
                "outcome": "denied",
                "error": "e",
            },
        ),
    )
    assert [action.approver for action in told.actions] == ["bob", None, None, None]
    assert [action.tool for action in told.actions] == ["pay", "pay", "pay", "invoke_agent x"]
    assert [action.route for action in told.actions] == ["desk", "desk", "desk", None]
    assert (told.refused, told.withheld) == (1, 0)


def test_a_story_tells_that_its_keys_were_erased(tmp_path: Path) -> None:
    """Of a task by its id, of a principal by all that began until then; the record stands behind both."""
    clock = FixedClock(START)
    with Enforcer.open(tmp_path, sources=Sources(clock=clock, ids=SequentialIds())) as enforcer:
        ledger, bob = enforcer._enforcement.ledger, Human("bob@example.com")
        for who in (ALICE, ALICE, bob):
            with enforcer.task("t", principal=who, agent=CLERK, scope=Scope("pay")) as task:
                if who is ALICE:
                    first = task.id
        append(ledger, "erasure", {"erasure": {"key": first}})
        append(ledger, "erasure", {"erasure": {"principal": bob.id, "keys": "1"}})
        clock.advance(1)
        with enforcer.task("t", principal=bob, agent=CLERK, scope=Scope("pay")):
            pass
    assert [(told.principal, told.erased) for told in story(tmp_path)] == [
        (ALICE.id, False),
        (ALICE.id, True),
        (bob.id, True),
        (bob.id, False),
    ]


def test_calls_that_are_not_wanted_are_counted_and_nothing_else(tmp_path: Path) -> None:
    """Neither the refused ones nor those that may be told at most have them; a call without an end is one as well."""
    with Enforcer.open(tmp_path, sources=Sources(clock=FixedClock(START), ids=SequentialIds())) as enforcer:

        @enforcer.tool
        def pay() -> None:
            """Pay."""

        @enforcer.tool
        def other() -> None:
            """Do something that the scope has not."""

        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")):
            pay()
            with pytest.raises(Denied):
                other()
    (first,) = story(tmp_path, wanted=lambda action: action.tool == "pay")
    assert ([action.tool for action in first.actions], first.refused, first.left_out) == (["pay"], 0, 1)
    (second,) = story(tmp_path, wanted=lambda action: action.effect == "block")
    assert ([action.tool for action in second.actions], second.refused, second.left_out) == (["other"], 1, 1)
    (every,) = story(tmp_path)
    assert (len(every.actions), every.refused, every.left_out) == (2, 1, 0)


def test_a_task_that_ended_waits_for_late_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as no more have ended since than are kept."""
    monkeypatch.setattr(stories_module, "_MAX_ENDED", 2)
    late = record_of(
        "outcome",
        9,
        action={"tool": "pay", "kind": "function"},
        decision=DECIDED,
        outcome="denied",
        **party("clerk", task="a"),
    )
    ends = [record_of("task_end", second, **party("clerk", task=name)) for second, name in enumerate("abc")]
    assert [len(told.actions) for told in told_of(*ends[:2], late)] == [1, 0]
    assert [(told.task, len(told.actions)) for told in told_of(*ends, late)] == [("a", 0), ("b", 0), ("c", 0), ("a", 1)]


def test_spans_tell_the_same_story_without_the_purpose(told: tuple[Path, io.StringIO]) -> None:
    """Traces tell what the ledger tells, save for the purpose and the times of the starts."""
    directory, text = told
    file = directory / "traces.jsonl"
    file.write_text(text.getvalue())
    for source in (file, [file], io.BytesIO(text.getvalue().encode())):
        stories = list(story(source))
        assert [s.purpose for s in stories] == [None, None, None]
        assert [s.actions for s in stories] == [s.actions for s in story(directory)]
        assert [(s.owner, s.ended_ns) for s in stories] == [(s.owner, s.ended_ns) for s in story(directory)]


def test_what_cannot_be_read_is_left_out(told: tuple[Path, io.StringIO]) -> None:
    """Damage costs the story of the damaged record and no other."""
    directory, text = told
    (entries,) = directory.glob("ledger/*/entries.jsonl")
    entries.write_bytes(b'garbage\n{"mac":"' + b"A" * 43 + b'","record":{"a":"b"}}\n' + entries.read_bytes() + b"torn")
    assert len(list(story(directory))) == 3
    lines = text.getvalue().splitlines()
    damaged = lines[0].replace('"agent_identity.attestation.signature"', '"x"')
    assert damaged != lines[0]
    spans = "\n".join(["{", damaged, *lines[1:]]).encode()
    first = next(story(io.BytesIO(spans)))
    assert len(first.actions) == 3
    # What is signed need not be a record.
    whole = (
        lines[0].partition('"agent_identity.attestation.payload"')[2].partition('"stringValue":"')[2].partition('"')[0]
    )
    no_record = lines[0].replace(whole, b64url_encode(b"[]"))
    assert no_record != lines[0]
    first = next(story(io.BytesIO("\n".join([no_record, *lines[1:]]).encode())))
    assert len(first.actions) == 3


def test_a_call_without_an_end_is_told_as_unknown(tmp_path: Path) -> None:
    """An intent alone is a call of which nobody knows the end; so is a task without one."""
    enforcer = Enforcer.open(tmp_path, sources=Sources(clock=FixedClock(START), ids=SequentialIds()))
    with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")), enforcer.action("pay", amount=1):
        (told,) = story(tmp_path)
        assert [(a.tool, a.outcome) for a in told.actions] == [("pay", "unknown")]
        assert told.ended_ns is None
    enforcer.close()


def test_a_refusal_after_the_end_belongs_to_its_task(tmp_path: Path) -> None:
    """What was refused because the task had ended is told with the task."""
    with Enforcer.open(tmp_path, sources=Sources(clock=FixedClock(START), ids=SequentialIds())) as enforcer:
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")) as task:

            @enforcer.bind
            def late() -> None:
                with suppress(Denied), enforcer.action("pay"):
                    pass

        late()
        assert task.id
    (told,) = story(tmp_path)
    assert outline(told) == [("pay", ("clerk",), "denied", "task_ended")]


def test_stories_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long tasks and many tasks at once are told in bounded memory, and what is left out is counted."""
    monkeypatch.setattr("agent_identity._reports.timelines.builder.MAX_ACTIONS", 3)
    monkeypatch.setattr("agent_identity._reports.timelines.builder._MAX_ENDED", 2)
    monkeypatch.setattr("agent_identity._reports.timelines.builder._MAX_UNDER_WAY", 2)
    with Enforcer.open(tmp_path, sources=Sources(clock=FixedClock(START), ids=SequentialIds())) as enforcer:
        for count in (5, 1, 1, 1):
            with enforcer.task(f"{count}", principal=ALICE, agent=CLERK, scope=Scope("pay")):
                for _ in range(count):
                    with enforcer.action("pay"):
                        pass
    stories = list(story(tmp_path))
    assert [s.purpose for s in stories] == ["5", "1", "1", "1"]
    assert (len(stories[0].actions), stories[0].omitted) == (3, 2)
    # A program that forgot its outcomes.
    with Enforcer.open(tmp_path / "x", sources=Sources(clock=FixedClock(START), ids=SequentialIds())) as enforcer:
        with enforcer.task("5", principal=ALICE, agent=CLERK, scope=Scope("pay")):
            for _ in range(5):
                enforcer.action("pay").__enter__()
        (told,) = story(tmp_path / "x")
        assert [action.outcome for action in told.actions] == ["unknown"] * 3
    # Without their ends, tasks wait until too many are under way.
    (entries,) = tmp_path.glob("ledger/*/entries.jsonl")
    lines = entries.read_bytes().splitlines(keepends=True)
    entries.write_bytes(b"".join(line for line in lines if orjson.loads(line)["record"]["kind"] != "task_end"))
    assert [(s.purpose, s.ended_ns) for s in story(tmp_path)] == [("5", None), ("1", None), ("1", None), ("1", None)]


def test_monitor_mode_and_withheld_results_are_told(tmp_path: Path) -> None:
    """A call that ran is no refused one, whether the result was withheld or nothing was enforced."""

    class Finder:
        def inspect(self, content: Content) -> tuple[Finding, ...]:
            return (Finding(category="pii", inspector="finder"),) if content.direction == "output" else ()

    rules = RuleSet(
        Rule(Effect.BLOCK, tools="pay", when={"findings.categories": Contains("pii")}, id="no-pii"),
        Rule(Effect.BLOCK, tools="delete", id="no-delete"),
    )
    found = {}
    for mode in ("enforce", "monitor"):
        options: dict[str, Any] = {"mode": mode, "policy": rules, "inspectors": (Finder(),)}
        with (
            Enforcer.open(
                tmp_path / mode, sources=Sources(clock=FixedClock(START), ids=SequentialIds()), **options
            ) as enforcer,
            enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope({"pay": None, "delete": None})),
        ):
            for tool in ("pay", "delete"):
                with suppress(Denied), enforcer.action(tool) as call:
                    call.result = "x"
        (found[mode],) = story(tmp_path / mode)
    refusing, watching = found["enforce"], found["monitor"]
    assert (refusing.refused, refusing.withheld, watching.refused, watching.withheld) == (1, 1, 0, 0)
    assert {(a.tool, a.withheld, a.monitored) for a in refusing.actions} == {
        ("pay", True, False),
        ("delete", False, False),
    }
    assert all(a.monitored and not a.withheld for a in watching.actions)


def test_a_quarantined_result_is_withheld_and_not_refused(tmp_path: Path) -> None:
    """A call whose result the task keeps has run, in timelines and in reports."""

    class Finder:
        def inspect(self, content: Content) -> tuple[Finding, ...]:
            return (Finding(category="pii", inspector="finder", path=""),) if content.direction == "output" else ()

    keep = Rule(
        Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("quarantine", "pii")], id="keep"
    )
    options: dict[str, Any] = {"policy": RuleSet(keep), "inspectors": (Finder(),)}
    with Enforcer.open(
        tmp_path / "e", sources=Sources(clock=FixedClock(START), ids=SequentialIds()), **options
    ) as enforcer:
        pay = enforcer.tool(name="pay")(lambda: "x")
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")), pytest.raises(Denied) as raised:
            pay()
    assert raised.value.code == "content_quarantined"
    (found,) = story(tmp_path / "e")
    assert (found.refused, found.withheld) == (0, 1)
    (row,) = scope(Evidence(sources=tmp_path / "e")).rows
    assert (row.tool, row.calls, row.refused) == ("pay", 1, 0)


def test_a_redacted_result_is_told(tmp_path: Path) -> None:
    """A call whose result a rule changed says so; another call of the task does not."""
    clean = Rule(
        Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("redact", "pii.*")], id="clean"
    )
    options: dict[str, Any] = {"policy": RuleSet(clean), "inspectors": (PersonalData("email"),)}
    with Enforcer.open(
        tmp_path / "e", sources=Sources(clock=FixedClock(START), ids=SequentialIds()), **options
    ) as enforcer:
        read = enforcer.tool(name="read")(lambda text: text)
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("read")):
            assert [read("bob@example.com"), read("nothing")] == ["[redacted:pii.email]", "nothing"]
    (found,) = story(tmp_path / "e")
    assert [action.changed for action in found.actions] == [True, False]


def test_what_was_not_inspected_is_told(tmp_path: Path) -> None:
    """Without a rule for it such a result is delivered, and its call says so."""
    sources = Sources(clock=FixedClock(START), ids=SequentialIds())
    with (
        Enforcer.open(tmp_path, inspectors=[HiddenText()], sources=sources) as enforcer,
        enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("look")),
    ):
        look = enforcer.tool(name="look")(lambda kind: b"\xff\xfe" if kind else "text")
        assert (look(1), look(0)) == (b"\xff\xfe", "text")
    (told,) = story(tmp_path)
    assert [(action.outcome, action.uninspected) for action in told.actions] == [("success", True), ("success", False)]


def test_parts_with_a_purpose_of_their_own_are_told_once(tmp_path: Path) -> None:
    """The purpose of a delegation stands beside that of its task, unless it is the same."""
    with (
        Enforcer.open(tmp_path, sources=Sources(clock=FixedClock(START), ids=SequentialIds())) as enforcer,
        enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")),
    ):
        for purpose in ("look", None, "look"):
            with enforcer.delegate(READER, scope=Scope("pay"), purpose=purpose):
                pass
    (told,) = story(tmp_path)
    assert (told.purpose, told.delegations) == ("t", (Delegation(("clerk", "reader"), "look"),))
