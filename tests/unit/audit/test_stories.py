"""Stories: who did what on whose behalf, and what was refused and why."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from agent_identity.audit import Delegation, Story, story
from agent_identity.authority import Scope
from agent_identity.constraints import Contains
from agent_identity.enforcement import Enforcer
from agent_identity.errors import Denied
from agent_identity.identity import Agent, Human, b64url_encode
from agent_identity.policy import Content, Effect, Finding, Rule, RuleSet
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
    options: dict[str, Any] = {"clock": clock, "ids": SequentialIds(), "policy": rules, "tracer_provider": provider}
    with Enforcer.open(tmp_path / "e", **options) as enforcer:
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


def outline(some: Story) -> list[tuple[str, tuple[str, ...], str, str]]:
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
    entries.write_bytes(b'garbage\n{"mac":"' + b"0" * 64 + b'","record":{"a":"b"}}\n' + entries.read_bytes() + b"torn")
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
    enforcer = Enforcer.open(tmp_path, clock=FixedClock(START), ids=SequentialIds())
    with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")), enforcer.action("pay", amount=1):
        (told,) = story(tmp_path)
        assert [(a.tool, a.outcome) for a in told.actions] == [("pay", "unknown")]
        assert told.ended_ns is None
    enforcer.close()


def test_a_refusal_after_the_end_belongs_to_its_task(tmp_path: Path) -> None:
    """What was refused because the task had ended is told with the task."""
    with Enforcer.open(tmp_path, clock=FixedClock(START), ids=SequentialIds()) as enforcer:
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
    monkeypatch.setattr("agent_identity.audit.stories.MAX_ACTIONS", 3)
    monkeypatch.setattr("agent_identity.audit.stories._MAX_ENDED", 2)
    monkeypatch.setattr("agent_identity.audit.stories._MAX_UNDER_WAY", 2)
    with Enforcer.open(tmp_path, clock=FixedClock(START), ids=SequentialIds()) as enforcer:
        for count in (5, 1, 1, 1):
            with enforcer.task(f"{count}", principal=ALICE, agent=CLERK, scope=Scope("pay")):
                for _ in range(count):
                    with enforcer.action("pay"):
                        pass
    stories = list(story(tmp_path))
    assert [s.purpose for s in stories] == ["5", "1", "1", "1"]
    assert (len(stories[0].actions), stories[0].omitted) == (3, 2)
    # A program that forgot its outcomes.
    with Enforcer.open(tmp_path / "x", clock=FixedClock(START), ids=SequentialIds()) as enforcer:
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
            Enforcer.open(tmp_path / mode, clock=FixedClock(START), ids=SequentialIds(), **options) as enforcer,
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


def test_parts_with_a_purpose_of_their_own_are_told_once(tmp_path: Path) -> None:
    """The purpose of a delegation stands beside that of its task, unless it is the same."""
    with (
        Enforcer.open(tmp_path, clock=FixedClock(START), ids=SequentialIds()) as enforcer,
        enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")),
    ):
        for purpose in ("look", None, "look"):
            with enforcer.delegate(READER, scope=Scope("pay"), purpose=purpose):
                pass
    (told,) = story(tmp_path)
    assert (told.purpose, told.delegations) == ("t", (Delegation(("clerk", "reader"), "look"),))
