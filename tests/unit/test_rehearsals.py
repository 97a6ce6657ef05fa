"""What users test with: a real enforcer, what it recorded, assertions about that, and an agent with a script."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Effect, Human, Rule, RuleSet, Scope, Service, Verifier
from agent_identity.errors import Denied, NoTask
from agent_identity.testing import Records, Rehearsal, ScriptedAgent

ALICE = Human("alice@example.com", issuer="https://login.example")
CLERK = Agent("clerk", owner="finance", version="2")
HELPER = Agent("helper", owner="it")
SCOPE = Scope("pay", invoice="INV-1")


@pytest.fixture
def rehearsal(tmp_path: Path) -> Iterator[Rehearsal]:
    with Rehearsal.open(tmp_path / "evidence") as opened:
        yield opened


def payer(rehearsal: Rehearsal) -> Callable[..., object]:
    """Return a guarded tool."""

    @rehearsal.enforcer.tool
    def pay(invoice: str) -> str:
        return f"paid {invoice}"

    return pay


def worked(rehearsal: Rehearsal) -> Denied:
    """Let the clerk pay, be refused, and hand over to the helper, who pays; return the refusal."""
    pay = payer(rehearsal)
    with rehearsal.enforcer.task("books", principal=ALICE, agent=CLERK, scope=SCOPE):
        pay("INV-1")
        with pytest.raises(Denied) as refused:
            pay("SECRET")
        with rehearsal.enforcer.delegate(HELPER, scope=SCOPE):
            pay("INV-1")
    return refused.value


# ---------------------------------------------------------------------------------------- rehearsals


def test_the_records_are_the_same_in_every_run(tmp_path: Path) -> None:
    """Ids and times do not depend on the run; keys, and what is signed or digested with them, do."""
    found = []
    for name in ("one", "two"):
        with Rehearsal.open(tmp_path / name) as rehearsal:
            worked(rehearsal)
        records = list(rehearsal.records)
        found.append([(record.id, record.kind, record.time, getattr(record, "task", None)) for record in records])
    assert found[0] == found[1]
    assert len(found[0]) > 10


def test_a_rehearsal_keeps_real_evidence(rehearsal: Rehearsal) -> None:
    """Its directory verifies like any other; time passes only when it is told to."""
    worked(rehearsal)
    begun = rehearsal.clock.wall_ns()
    with rehearsal.enforcer.task("late", principal=ALICE, agent=CLERK, scope=SCOPE):
        rehearsal.clock.advance(3_600)
        with pytest.raises(Denied, match="grant"):
            rehearsal.enforcer.action("pay", invoice="INV-1").__enter__()
    rehearsal.close()
    assert rehearsal.clock.wall_ns() == begun + 3_600 * 10**9
    assert Verifier().ledger(rehearsal.directory).verdict == "verified"
    assert Verifier().ledger(rehearsal.directory).completeness == "complete"
    rehearsal.records.assert_denied(code="grant_expired", tool="pay", count=1)


def test_options_are_those_of_the_enforcer(tmp_path: Path) -> None:
    """A policy and a mode are handed on; what there is none of is refused as there."""
    rules = RuleSet(Rule(Effect.BLOCK, tools="pay", reason="not today", id="closed"))
    with Rehearsal.open(tmp_path / "evidence", policy=rules, mode="monitor") as rehearsal:
        pay = payer(rehearsal)
        with rehearsal.enforcer.task("books", principal=ALICE, agent=CLERK, scope=SCOPE):
            assert pay("INV-1") == "paid INV-1"
    rehearsal.records.assert_attributed(principal=ALICE, agent=CLERK, tool="pay", count=1)
    with pytest.raises(AssertionError, match=r"success, policy_blocks, would be block for alice@example\.com"):
        rehearsal.records.assert_denied(code="policy_blocks")
    with pytest.raises(TypeError, match="unknown"):
        Rehearsal.open(tmp_path / "other", unknown=1)  # type: ignore[call-arg]


# ------------------------------------------------------------------------------------------- records


def test_calls_are_told_as_they_ended(rehearsal: Rehearsal) -> None:
    """Each call has its tool, outcome, code, argument, principal and chain; its record is the one of the refusal."""
    denied = worked(rehearsal)
    with pytest.raises(NoTask):
        rehearsal.enforcer.action("ask").__enter__()
    first, refused, second, outside = rehearsal.records.calls()
    assert (first.tool, first.outcome, first.code, first.argument) == ("pay", "success", "within_scope", None)
    assert (first.principal, first.agents, second.agents) == ("alice@example.com", ("clerk",), ("clerk", "helper"))
    assert (refused.outcome, refused.code, refused.argument) == ("denied", "argument_out_of_scope", "invoice")
    assert refused.record.id == denied.reference
    assert (outside.tool, outside.code, outside.principal, outside.agents) == ("ask", "no_task", None, ())
    assert rehearsal.records.calls("pay") == (first, refused, second)
    assert rehearsal.records.calls("none") == ()


def test_refusals_are_found(rehearsal: Rehearsal) -> None:
    """By code, of a tool or of any, so many or at least one."""
    worked(rehearsal)
    records = rehearsal.records
    (found,) = records.assert_denied(code="argument_out_of_scope")
    assert records.assert_denied(code="argument_out_of_scope", tool="pay", count=1) == (found,)
    assert records.assert_denied(code="no_task", count=0) == ()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"code": "no_task"}, "expected a call refused with no_task, found none among 3 calls ("),
        ({"code": "within_scope"}, "expected a call refused with within_scope, found none among 3 calls ("),
        (
            {"code": "argument_out_of_scope", "tool": "read"},
            "expected a call of read refused with argument_out_of_scope, found none among 0 calls of read\n",
        ),
        (
            {"code": "argument_out_of_scope", "tool": "pay", "count": 2},
            "expected 2 calls of pay refused with argument_out_of_scope, found 1 among 3 calls of pay (",
        ),
        (
            {"code": "argument_out_of_scope", "count": 0},
            "expected 0 calls refused with argument_out_of_scope, found 1 ",
        ),
    ],
)
def test_a_refusal_that_is_not_there_is_told(rehearsal: Rehearsal, wanted: dict[str, Any], message: str) -> None:
    """The message says what was expected and what was found, and lists the records without a value of an argument."""
    worked(rehearsal)
    with pytest.raises(AssertionError) as failed:
        rehearsal.records.assert_denied(**wanted)
    text = str(failed.value)
    assert text.startswith(message)
    assert str(rehearsal.records) in text
    assert "SECRET" not in text
    assert "INV-1" not in text


def test_the_list_of_records_says_who_did_what(rehearsal: Rehearsal) -> None:
    """Each record has a line: its kind, the call and how it was judged or ended, for whom, by whom, through whom."""
    worked(rehearsal)
    with pytest.raises(NoTask):
        rehearsal.enforcer.action("ask").__enter__()
    alice = "for alice@example.com (kind human, issuer https://login.example)"
    clerk = "by clerk (owner finance, version 2)"
    assert str(rehearsal.records).splitlines() == [
        "13 records:",
        "    1 stream_start",
        f"    2 grant {alice} {clerk}",
        f"    3 task_start {alice} {clerk}",
        f"    4 intent pay: allow, within_scope {alice} {clerk}",
        f"    5 outcome pay: success, within_scope {alice} {clerk}",
        f"    6 outcome pay: denied, argument_out_of_scope of invoice {alice} {clerk}",
        f"    7 grant {alice} by helper (owner it) through clerk",
        f"    8 task_start {alice} by helper (owner it) through clerk",
        f"    9 intent pay: allow, within_scope {alice} by helper (owner it) through clerk",
        f"   10 outcome pay: success, within_scope {alice} by helper (owner it) through clerk",
        f"   11 task_end {alice} by helper (owner it) through clerk",
        f"   12 task_end {alice} {clerk}",
        "   13 outcome ask: denied, no_task",
    ]


def test_long_lists_end_with_the_latest(rehearsal: Rehearsal) -> None:
    """Of many records the last hundred are listed, and the number of those before."""
    pay = payer(rehearsal)
    with rehearsal.enforcer.task("books", principal=ALICE, agent=CLERK, scope=SCOPE):
        for _ in range(60):
            pay("INV-1")
    lines = str(rehearsal.records).splitlines()
    assert lines[:2] == ["124 records:", "    … 24 before"]
    assert lines[2].startswith("   25 ")
    assert len(lines) == 102


def test_what_is_no_record_is_left_to_verification(rehearsal: Rehearsal) -> None:
    """A line that is torn, or is no record, stops no question; such a directory is believed in nothing."""
    worked(rehearsal)
    rehearsal.close()
    before = str(rehearsal.records)
    (ledger,) = rehearsal.directory.glob("ledger/*/entries.jsonl")
    with ledger.open("ab") as lines:
        lines.write(b'{"mac":"%s","record":{"v":"1"}}\n{"mac":"' % (b"A" * 43))
    assert str(rehearsal.records) == before
    with pytest.raises(AssertionError, match=r"^the grants do not verify \(.*malformed_record"):
        rehearsal.records.assert_attributed(principal=ALICE, agent=CLERK)


def test_the_list_of_records_cannot_steer_a_terminal(rehearsal: Rehearsal) -> None:
    """A name that is not printable is escaped; a record that someone gave one is no record."""
    worked(rehearsal)
    rehearsal.close()
    (ledger,) = rehearsal.directory.glob("ledger/*/entries.jsonl")
    ledger.write_bytes(ledger.read_bytes().replace(b'"tool":"pay"', rb'"tool":"\u001b[2J"'))
    assert "\x1b" not in str(rehearsal.records)
    text = rehearsal.records._message("", "\x1b[2J", None, ())
    assert r"\x1b[2J" in text
    assert "\x1b" not in text


# --------------------------------------------------------------------------------------- attribution


@pytest.mark.parametrize("principal", [ALICE, ALICE.id], ids=["object", "id"])
@pytest.mark.parametrize(("agent", "number"), [(CLERK, 1), (CLERK.id, 1), (HELPER, 1), (HELPER.id, 1)])
def test_calls_are_attributed(rehearsal: Rehearsal, principal: Any, agent: Any, number: int) -> None:
    """To whom they were made for and by the agent that acted, while the enforcer is open and afterwards."""
    worked(rehearsal)
    found = rehearsal.records.assert_attributed(principal=principal, agent=agent, tool="pay", count=number)
    assert [call.outcome for call in found] == ["success"]
    rehearsal.close()
    assert rehearsal.records.assert_attributed(principal=principal, agent=agent) == found


@pytest.mark.parametrize(
    "other",
    [
        {"principal": "bob@example.com"},
        {"principal": Human(ALICE.id)},
        {"principal": Human(ALICE.id, issuer="https://other.example")},
        {"principal": Service(ALICE.id, issuer=ALICE.issuer)},
        {"agent": "clerk2"},
        {"agent": Agent("clerk", owner="it", version="2")},
        {"agent": Agent("clerk", owner="finance")},
        {"tool": "read"},
        {"count": 2},
        {"count": 0},
    ],
    ids=str,
)
def test_calls_of_others_are_told_apart(rehearsal: Rehearsal, other: dict[str, Any]) -> None:
    """Another id, kind, issuer, owner, version, tool or number is another call; the message shows each."""
    worked(rehearsal)
    wanted = {"principal": ALICE, "agent": CLERK, "tool": "pay", **other}
    with pytest.raises(AssertionError, match=r"^expected .*let through for .* by .*, found (none|1) among ") as failed:
        rehearsal.records.assert_attributed(**wanted)
    assert "SECRET" not in str(failed.value)
    assert str(rehearsal.records) in str(failed.value)


def test_refused_calls_are_not_attributed_as_if_they_had_run(rehearsal: Rehearsal) -> None:
    """A call that was refused is found by ``assert_denied`` only."""
    with (
        rehearsal.enforcer.task("books", principal=ALICE, agent=CLERK, scope=SCOPE),
        pytest.raises(Denied),
    ):
        payer(rehearsal)("INV-2")
    with pytest.raises(AssertionError, match="found none among 1 call"):
        rehearsal.records.assert_attributed(principal=ALICE, agent=CLERK)


def test_records_that_nobody_granted_are_not_attributed(rehearsal: Rehearsal, tmp_path: Path) -> None:
    """What the records say is not believed: under another trust file no grant leads to the issuer."""
    worked(rehearsal)
    rehearsal.close()
    rehearsal.records.assert_attributed(principal=ALICE, agent=CLERK)
    with Rehearsal.open(tmp_path / "other") as other:
        shutil.copy(other.directory / "trust.json", rehearsal.directory / "trust.json")
    with pytest.raises(AssertionError, match=r"^the grants do not verify"):
        rehearsal.records.assert_attributed(principal=ALICE, agent=CLERK)


@given(calls=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "y"]), st.booleans()), max_size=12))
def test_every_call_is_either_attributed_or_denied(calls: list[tuple[str, str, bool]]) -> None:
    """Whatever runs, inside a task or outside: both assertions count exactly what was let through and refused."""
    with TemporaryDirectory() as folder, Rehearsal.open(folder) as rehearsal:
        ran, refused, outside = 0, 0, 0
        for tool, value, inside in calls:
            agent = ScriptedAgent((tool, {"value": value}))
            guarded = {tool: rehearsal.enforcer.tool(name=tool)(lambda value: value)}
            if not inside:
                agent.run(guarded)
                outside += 1
                continue
            with rehearsal.enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("a", value="x") | Scope("b")):
                agent.run(guarded)
            allowed = (tool, value) == ("a", "x") or tool == "b"
            ran, refused = ran + allowed, refused + (not allowed)
        records = Records(folder)
        records.assert_attributed(principal=ALICE, agent=CLERK, count=ran)
        records.assert_denied(code="argument_out_of_scope", tool="a", count=refused)
        records.assert_denied(code="no_task", count=outside)
        assert len(records.calls()) == ran + refused + outside == len(calls)


# ---------------------------------------------------------------------------------- scripted agents


def test_a_scripted_agent_goes_on_after_a_refusal(rehearsal: Rehearsal) -> None:
    """It returns answers and refusals in the order of its script, and may run again."""
    pay = payer(rehearsal)
    agent = ScriptedAgent(("pay", {"invoice": "INV-1"}), ("pay", {"invoice": "INV-2"}), ("pay", {"invoice": "INV-1"}))
    with rehearsal.enforcer.task("books", principal=ALICE, agent=CLERK, scope=SCOPE):
        first, refused, last = agent.run([pay])
    assert (first, last) == ("paid INV-1", "paid INV-1")
    assert isinstance(refused, Denied)
    assert [answer.code for answer in agent.run([pay])] == ["no_task"] * 3
    assert ScriptedAgent().run([]) == ()


def test_a_scripted_agent_awaits_coroutines(rehearsal: Rehearsal) -> None:
    """``run_async`` takes both kinds of functions, and ``run`` says where it is needed."""

    @rehearsal.enforcer.tool
    async def fetch(url: str) -> str:
        await asyncio.sleep(0)
        return f"text of {url}"

    tools = [payer(rehearsal), fetch]
    agent = ScriptedAgent(("fetch", {"url": "a"}), ("pay", {"invoice": "INV-1"}), ("fetch", {"url": "b"}))
    with rehearsal.enforcer.task("books", principal=ALICE, agent=CLERK, scope=SCOPE | Scope("fetch", url="a")):
        first, second, refused = asyncio.run(agent.run_async(tools))
        with pytest.raises(TypeError, match="use run_async"):
            agent.run(tools)
    assert (first, second) == ("text of a", "paid INV-1")
    assert isinstance(refused, Denied)


def test_what_a_tool_raises_ends_the_run() -> None:
    """A defect of a tool is one of the test's subject, and no refusal."""

    def breaks() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ScriptedAgent(("breaks", {})).run([breaks])
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ScriptedAgent(("breaks", {})).run_async([breaks]))


@pytest.mark.parametrize("script", ["pay", ("pay",), ("pay", 1), (1, {}), {"pay": {}}, ("pay", {}, {})])
def test_a_script_of_another_form_is_refused(script: Any) -> None:
    """The message shows the form, and no argument."""
    with pytest.raises(TypeError, match="a call of the script has another form"):
        ScriptedAgent(script)


def test_a_tool_that_is_missing_is_named_before_anything_runs() -> None:
    """A slip in the name of a tool is no refusal of the library."""
    ran: list[int] = []
    agent = ScriptedAgent(("first", {"object": 1}), ("secnod", {}))
    with pytest.raises(LookupError, match="not passed: secnod"):
        agent.run({"first": ran.append, "second": print})
    assert ran == []


def test_a_script_does_not_change_with_what_it_was_made_from() -> None:
    """Arguments are taken as they were when the agent was made."""
    arguments: dict[str, object] = {"obj": [1]}
    agent = ScriptedAgent(("echo", arguments))
    arguments["obj"] = [2]
    assert agent.run({"echo": json.dumps}) == ("[1]",)
