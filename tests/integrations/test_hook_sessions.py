"""The hooks of a coding agent: sessions, judgements and outcomes, without a process of the agent."""

import json
from collections.abc import Iterator
from contextvars import Context
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope, Verifier
from agent_identity._ledger.reader import open_ledger
from agent_identity.adapters import ToolGuards
from agent_identity.approvals import Approval, ApprovalRequest
from agent_identity.constraints import Contains, Range
from agent_identity.errors import ConfigurationError
from agent_identity.inspection import Canaries
from agent_identity.integrations.frameworks.coding_agents.calls import HookCalls
from agent_identity.integrations.frameworks.coding_agents.sessions import (
    PROBE,
    PROBE_ALLOWED,
    PROBE_DENIED,
    HookSessions,
)
from agent_identity.limits import Limit
from agent_identity.options import Sources
from agent_identity.testing import FixedClock, SequentialIds

ALICE, BOB = Human("alice@example.com"), Human("bob@example.com")
CODER = Agent("coder", owner="alice@example.com")
HELPER = Agent("helper", owner="it@example.com")
SCOPE = Scope(
    {
        "Bash": None,
        "Read": None,
        "Pay": {"amount": Range(max=100)},
        "desk/pay": None,
        "Other": None,
        "AskUserQuestion": None,
    }
)
SECRET = "a-planted-secret"


class Desk:
    """Sessions, and what is on record of them."""

    def __init__(self, folder: Path, *, scope: Scope = SCOPE, agents: Any = None, **options: Any) -> None:
        self.folder = folder
        self.clock = FixedClock()
        self.enforcer = Enforcer.open(folder, sources=Sources(clock=self.clock, ids=SequentialIds()), **options)
        self.sessions = HookSessions(
            self.enforcer, principal=ALICE, agent=CODER, scope=scope, agents=agents, ttl=timedelta(hours=1)
        )

    def send(self, name: str, tool: str = "Bash", number: int = 1, session: str = "s-1", **more: Any) -> dict[str, Any]:
        """Answer one event."""
        event = {
            "hook_event_name": name,
            "session_id": session,
            "tool_name": tool,
            "tool_use_id": f"toolu_{number}",
            "tool_input": {"command": "ls"},
            **more,
        }
        return dict(self.sessions.answer(event))

    def close(self) -> None:
        self.sessions.close()
        self.enforcer.close()

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of a kind."""
        reader = open_ledger(self.folder)
        lines = [line.record for stream in reader.streams() for line in reader.entries(stream)]
        return [record for line in lines if line is not None and (record := json.loads(line))["kind"] == kind]

    def outcomes(self) -> list[tuple[str, str | None]]:
        """Return outcome and error of each call."""
        return [(record["outcome"], record.get("error")) for record in self.records("outcome")]

    def verified(self) -> None:
        """Close, and check that the evidence is complete."""
        self.close()
        report = Verifier(self.folder / "trust.json").ledger(self.folder)
        assert (report.integrity, report.completeness) == ("verified", "complete"), report


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "evidence")
    yield made
    made.close()


def decision(answer: dict[str, Any]) -> tuple[Any, Any]:
    """Return the decision and the updated input of an answer before a tool."""
    inner = answer.get("hookSpecificOutput", {})
    return inner.get("permissionDecision"), inner.get("updatedInput")


def reason(answer: dict[str, Any]) -> str:
    """Return the code of a refusal before a tool."""
    text = answer["hookSpecificOutput"]["permissionDecisionReason"]
    return str(text).split(":")[1].split()[0]


def test_an_allowed_call_is_pinned_and_recorded(desk: Desk) -> None:
    """The judged input goes back without a decision, so that the agent asks its user as before; the result is kept."""
    assert desk.send("SessionStart") == {}
    assert decision(desk.send("PreToolUse")) == (None, {"command": "ls"})
    assert desk.send("PostToolUse", tool_response={"stdout": "x"}) == {}
    assert desk.send("SessionEnd") == {}
    assert desk.outcomes() == [("success", None)]
    (start,) = desk.records("task_start")
    assert "s-1" in start["task"]["purpose"]
    desk.verified()


@pytest.mark.parametrize(
    ("tool", "given", "code"),
    [
        ("Write", {"file_path": "x"}, "tool_not_granted"),
        ("Pay", {"amount": 101}, "argument_out_of_scope"),
        ("Pay", {"amount": 1, "to": "x"}, "argument_not_granted"),
        ("", {}, "tool_not_granted"),
        ("x" * 300, {}, "tool_not_granted"),
    ],
)
def test_a_call_beyond_the_scope_is_denied_and_recorded(desk: Desk, tool: str, given: Any, code: str) -> None:
    """What the grant does not cover is refused, also under a name that no record could hold."""
    answer = desk.send("PreToolUse", tool, tool_input=given)
    assert (decision(answer)[0], reason(answer)) == ("deny", code)
    assert desk.outcomes() == [("denied", code)]
    desk.verified()


@pytest.mark.parametrize(
    "more",
    [
        {"tool_name": None},
        {"tool_input": "ls"},
        {"tool_input": None},
        {"tool_use_id": None},
        {"session_id": ""},
        {"session_id": "../x"},
        {"session_id": 7},
    ],
)
def test_a_malformed_event_is_denied(desk: Desk, more: Any) -> None:
    """An event that does not say what is asked lets nothing run."""
    answer = desk.send("PreToolUse", **more)
    assert (decision(answer)[0], reason(answer)) == ("deny", "bad_arguments")


@pytest.mark.parametrize("name", ["PermissionRequest", "", None])
def test_another_event_is_blocked(desk: Desk, name: Any) -> None:
    """A hook that was installed for an event that is not known refuses it."""
    assert desk.send(name)["decision"] == "block"


def test_a_changed_input_is_a_failure_and_its_result_is_withheld(desk: Desk) -> None:
    """Research 3, Claude: where another hook wins, the contradiction is recorded, and the model does not see more."""
    desk.send("PreToolUse")
    answer = desk.send("PostToolUse", tool_input={"command": "evil"}, tool_response={"stdout": SECRET, "type": "x"})
    assert SECRET not in json.dumps(answer)
    assert answer["hookSpecificOutput"]["updatedToolOutput"] == {"stdout": "withheld", "type": "x"}
    desk.send("PreToolUse", number=2)
    desk.send("PostToolUseFailure", number=2, tool_input={"command": "evil"}, error="x")
    assert desk.outcomes() == [("error", "InputChangedError")] * 2
    desk.verified()


def test_another_tool_under_the_id_of_a_judged_call_is_a_failure(desk: Desk) -> None:
    """The outcome of a call is that of its own tool; what ran in its place is withheld."""
    desk.send("PreToolUse", "Read")
    answer = desk.send("PostToolUse", "Bash", tool_response={"stdout": SECRET})
    assert SECRET not in json.dumps(answer)
    assert "input_changed" in answer["reason"]
    assert desk.outcomes() == [("error", "InputChangedError")]
    desk.verified()


@pytest.mark.parametrize("more", [{"agent_id": "a-1"}, {"agent_type": ["helper"]}, {"agent_type": 1}])
def test_a_sub_agent_without_a_type_does_not_act_as_the_agent_of_the_session(tmp_path: Path, more: Any) -> None:
    """A sub-agent whose type is missing or malformed has nobody's authority."""
    desk = Desk(tmp_path / "evidence", agents={"helper": (HELPER, Scope("Read"))})
    answer = desk.send("PreToolUse", **more)
    assert (decision(answer)[0], reason(answer)) == ("deny", "bad_arguments")
    desk.verified()


def test_arguments_too_deep_to_compare_still_get_an_outcome(tmp_path: Path) -> None:
    """In monitor mode arguments of any depth run, and the end of the call is on record."""
    desk = Desk(tmp_path / "evidence", mode="monitor")
    for name in ("PreToolUse", "PostToolUse"):
        value: Any = {}
        for _ in range(5_000):
            value = {"a": value}
        assert desk.send(name, tool_input={"command": value}, tool_response={}) == {}
    assert desk.outcomes() == [("error", "InputChangedError")]
    desk.verified()


@pytest.mark.parametrize(
    ("judged", "ran", "same"),
    [
        ({"n": 1}, {"n": 1.0}, True),
        ({"n": 1}, {"n": True}, False),
        ({"n": [1, {"x": "y"}]}, {"n": [1, {"x": "y"}]}, True),
        ({"n": [1]}, {"n": [1, 2]}, False),
        ({"n": None}, {}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    ],
)
def test_inputs_are_compared_as_json(desk: Desk, judged: Any, ran: Any, same: bool) -> None:
    """Another process may write numbers in another way, and members in another order; nothing else is the same."""
    desk.send("PreToolUse", tool_input=judged)
    desk.send("PostToolUse", tool_input=ran, tool_response={})
    assert desk.outcomes()[0][0] == ("success" if same else "error")


def test_a_call_that_was_not_judged_is_recorded_as_such(desk: Desk) -> None:
    """A tool that ran past the hook leaves a failure, and its result is withheld."""
    answer = desk.send("PostToolUse", tool_response={"stdout": SECRET})
    assert SECRET not in json.dumps(answer)
    assert desk.outcomes() == [("error", "NotJudgedError")]
    assert desk.send("PostToolUse", "Write", 2, tool_response={"content": SECRET})["continue"] is False
    assert desk.outcomes()[1] == ("denied", "tool_not_granted")
    desk.verified()


def test_failures_and_interrupts_are_told_apart(desk: Desk) -> None:
    """An error of a tool is an error; what its user interrupted is cancelled."""
    desk.send("PreToolUse")
    assert desk.send("PostToolUseFailure", error="Exit code 3") == {}
    desk.send("PreToolUse", number=2)
    desk.send("PostToolUseFailure", number=2, error="", is_interrupt=True)
    assert desk.outcomes() == [("error", "ToolFailedError"), ("cancelled", "CancelledError")]
    desk.verified()


def test_open_calls_end_with_their_agent_and_their_session(desk: Desk) -> None:
    """A call that its user did not let run ends when the agent stops, and others when the session ends."""
    desk.send("PreToolUse", number=1)
    desk.send("PreToolUse", number=2, agent_id="a-1", agent_type="helper")
    desk.send("Stop")
    assert desk.outcomes() == [("error", "NoOutcomeError")]
    desk.send("SubagentStop", agent_id="a-2")
    assert len(desk.outcomes()) == 1
    desk.send("SubagentStop", agent_id="a-1")
    assert len(desk.outcomes()) == 2
    desk.send("PreToolUse", number=3)
    desk.send("SessionEnd")
    assert desk.outcomes() == [("error", "NoOutcomeError")] * 3
    desk.verified()


def test_many_ends_of_others_do_not_open_an_ended_session_again(desk: Desk) -> None:
    """A sub-agent that works on gets no authority by thousands of other sessions that end."""
    desk.send("PreToolUse")
    for number in range(5_000):
        desk.send("SessionEnd", session=f"other-{number}")
    desk.send("SessionEnd")
    for number in range(5_000, 10_000):
        desk.send("SessionEnd", session=f"other-{number}")
    assert reason(desk.send("PreToolUse")) == "task_ended"


def test_an_ended_session_gets_no_task_but_by_its_start(desk: Desk) -> None:
    """The authority ends with the session; calls of a sub-agent that works on are refused."""
    desk.send("PreToolUse")
    desk.send("SessionEnd")
    answer = desk.send("PreToolUse", number=2)
    assert (decision(answer)[0], reason(answer)) == ("deny", "task_ended")
    assert desk.outcomes()[-1] == ("denied", "task_ended")  # Outside any task.
    desk.send("SessionStart", source="resume")
    assert decision(desk.send("PreToolUse", number=3))[0] is None
    assert len(desk.records("task_start")) == 2
    desk.verified()


def test_sessions_have_tasks_of_their_own(desk: Desk) -> None:
    """A call belongs to the session that made it, and an outcome in another session is none of it."""
    desk.send("PreToolUse", session="s-1")
    desk.send("PreToolUse", session="s-2")
    first, second = (record["task"]["id"] for record in desk.records("intent"))
    assert first != second
    desk.send("SessionEnd", session="s-1")
    assert desk.send("PostToolUse", session="s-2", tool_response={}) == {}
    assert sorted(desk.outcomes()) == [("error", "NoOutcomeError"), ("success", None)]
    desk.verified()


def test_the_authority_of_a_session_ends_in_time(desk: Desk) -> None:
    """After its time a session may do nothing more, until it starts again."""
    desk.send("PreToolUse")
    desk.clock.advance(3_601)
    assert reason(desk.send("PreToolUse", number=2)) == "grant_expired"
    desk.send("SessionStart", source="resume")
    assert decision(desk.send("PreToolUse", number=3))[0] is None
    desk.verified()


def test_answers_of_the_user_are_no_change(desk: Desk) -> None:
    """A tool that asks the user gets the answers beside its input; what was judged stays as it was."""
    question = {"questions": [{"question": "Which?"}]}
    for number, ran in enumerate(({**question, "answers": {"Which?": "A"}}, {"questions": [], "answers": {}})):
        desk.send("PreToolUse", "AskUserQuestion", number, tool_input=question)
        desk.send("PostToolUse", "AskUserQuestion", number, tool_input=ran, tool_response={})
    assert desk.outcomes() == [("success", None), ("error", "InputChangedError")]
    desk.verified()


def test_sub_agents_act_by_delegation(tmp_path: Path) -> None:
    """A named type of sub-agents acts under its own name and scope, in a chain from the coding agent."""
    desk = Desk(tmp_path / "evidence", agents={"helper": (HELPER, Scope("Read"))})
    who = {"agent_id": "a-1", "agent_type": "helper"}
    assert decision(desk.send("PreToolUse", "Read", **who))[0] is None
    desk.send("PostToolUse", "Read", tool_response={}, **who)
    assert reason(desk.send("PreToolUse", "Bash", 2, **who)) == "tool_not_granted"
    assert decision(desk.send("PreToolUse", "Bash", 3, agent_id="a-2", agent_type="other"))[0] is None
    (read, bash) = desk.records("intent")
    assert [hop["id"] for hop in read["chain"]] == ["coder", "helper"]
    assert [hop["id"] for hop in bash["chain"]] == ["coder"]
    desk.verified()


@pytest.mark.parametrize(
    ("tool", "described", "name", "kind"),
    [
        ("mcp__desk__pay", None, "desk/pay", "mcp"),
        ("mcp__desk__pay", {"name": "desk", "source": "x"}, "desk/pay", "mcp"),
        ("mcp__my_desk__pay", {"name": "my desk"}, "my_desk/pay", "mcp"),
        ("mcp__a__b__c", {"name": "a__b"}, "a__b/c", "mcp"),
        ("mcp__a__b__c", None, "mcp__a__b__c", "mcp"),
        ("mcp__desk__pay", {"name": "other"}, "mcp__desk__pay", "mcp"),
        ("mcp__desk__", None, "mcp__desk__", "mcp"),
        ("mcp____pay", None, "mcp____pay", "mcp"),
        ("Agent", None, "Agent", "agent"),
        ("desk/pay", None, "desk/pay", "function"),
    ],
)
def test_tools_of_servers_have_the_names_that_they_have_elsewhere(
    desk: Desk, tool: str, described: Any, name: str, kind: str
) -> None:
    """A tool is named by server and tool; where the name could be read in two ways, by the name of the agent."""
    desk.send("PreToolUse", tool, mcp_server=described)
    (action,) = [record["action"] for record in [*desk.records("intent"), *desk.records("outcome")]][:1]
    assert (action["tool"], action["kind"]) == (name, kind)


def test_results_are_withheld_or_the_agent_stops(tmp_path: Path) -> None:
    """A built-in tool gets its result without texts, another one ends the run, and one of a server gets the reason."""
    policy = RuleSet(
        Rule(
            Effect.BLOCK,
            when={"findings.stage": "result", "findings.categories": Contains("canary")},
            id="no-secret",
        )
    )
    desk = Desk(tmp_path / "evidence", policy=policy, inspectors=[Canaries(SECRET)])
    answers = []
    for number, tool in enumerate(("Bash", "Other", "mcp__desk__pay", "Read")):
        desk.send("PreToolUse", tool, number)
        response = {"type": "image", "file": {"base64": SECRET}, "size": 3}
        answers.append(desk.send("PostToolUse", tool, number, tool_response=response))
    assert SECRET not in json.dumps(answers)
    bash, other, server, image = answers
    assert bash["hookSpecificOutput"]["updatedToolOutput"] == {**response, "file": {"base64": "withheld"}}
    assert (other["continue"], image["continue"]) == (False, False)
    assert "content_blocked" in server["hookSpecificOutput"]["updatedToolOutput"][0]["text"]
    assert {outcome for outcome, _ in desk.outcomes()} == {"denied"}
    desk.verified()


def test_prompts_are_judged_where_that_is_wanted(tmp_path: Path) -> None:
    """A prompt is inspected and recorded like a call, and a refused one is blocked; otherwise prompts are let be."""
    rule = Rule(Effect.BLOCK, when={"findings.categories": Contains("canary")}, id="no-secret")
    desk = Desk(tmp_path / "evidence", policy=RuleSet(rule), inspectors=[Canaries(SECRET)])
    assert desk.send("UserPromptSubmit", prompt=SECRET) == {}
    assert desk.outcomes() == []
    options = {"principal": ALICE, "agent": CODER, "scope": Scope("prompt"), "prompts": "prompt"}
    desk.sessions = HookSessions(desk.enforcer, **options)
    assert desk.send("UserPromptSubmit", prompt="hello") == {}
    answer = desk.send("UserPromptSubmit", prompt=f"say {SECRET}")
    assert (answer["decision"], SECRET in answer["reason"]) == ("block", False)
    assert [outcome for outcome, _ in desk.outcomes()] == ["success", "denied"]
    assert {record["action"]["kind"] for record in desk.records("outcome")} == {"prompt"}
    desk.close()


def test_a_record_names_the_session(tmp_path: Path) -> None:
    """The conversation of a call is the session of the agent."""
    desk = Desk(tmp_path / "evidence")
    desk.send("PreToolUse", session="s-7")
    desk.send("PostToolUse", session="s-7", tool_response={})
    assert [record["workflow"] for record in desk.records("intent")] == ["s-7"]
    desk.close()


def test_monitor_mode_answers_nothing(tmp_path: Path) -> None:
    """In monitor mode no answer refuses or changes anything, whatever fails."""
    desk = Desk(tmp_path / "evidence", mode="monitor")
    assert desk.send("PreToolUse", "Write") == {}
    assert desk.send("PostToolUse", "Write", tool_input={"other": 1}, tool_response={"x": "y"}) == {}
    assert desk.send("PreToolUse", tool_input=None) == {}
    assert desk.send("PostToolUse", number=9, tool_response={}) == {}
    assert desk.outcomes()[0] == ("error", "InputChangedError")
    desk.verified()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_defect_denies(desk: Desk, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Research 0.5: whatever is raised on the way to an answer refuses the call, and stops the agent after one."""

    def broken(*_: Any, **__: Any) -> Any:
        raise error

    desk.send("PreToolUse")
    monkeypatch.setattr(ToolGuards, "acting", broken)
    monkeypatch.setattr(HookCalls, "_take", broken)
    assert reason(desk.send("PreToolUse", number=2)) == "guard_failed"
    assert desk.send("PostToolUse", tool_response={})["continue"] is False


def test_a_task_that_cannot_be_recorded_does_not_begin(desk: Desk) -> None:
    """Without evidence no session starts, and its calls are refused."""
    desk.enforcer.close()
    assert decision(desk.send("PreToolUse"))[0] == "deny"


def test_repeated_and_too_many_calls_lose_no_outcome(desk: Desk) -> None:
    """The table of open calls is bounded: what leaves it ends on record, and so does a call whose id comes again."""
    desk.send("PreToolUse", number=0)
    desk.send("PreToolUse", number=0)
    assert desk.outcomes() == [("error", "NoOutcomeError")]
    for number in range(1, 257):
        desk.send("PreToolUse", number=number)
    assert desk.outcomes() == [("error", "NoOutcomeError")] * 2
    desk.verified()
    assert len(desk.outcomes()) == 258


def test_sessions_are_bounded(desk: Desk) -> None:
    """There are at most 64 sessions; those whose time is over make room."""
    for number in range(64):
        desk.send("SessionStart", session=f"s-{number}")
    assert reason(desk.send("PreToolUse", session="more")) == "limit_exceeded"
    desk.clock.advance(3_601)
    assert decision(desk.send("PreToolUse", session="more"))[0] is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ttl", timedelta(days=2)),
        ("ttl", timedelta(0)),
        ("limits", [Limit.uses("Absent", 1)]),
        ("purpose", " "),
        ("agents", {"helper": "helper"}),
    ],
)
def test_options_that_cannot_hold_are_refused_at_once(desk: Desk, option: str, value: Any) -> None:
    """A mistake is an error when the sessions are made, and not a refusal of every call."""
    options = {"principal": ALICE, "agent": CODER, "scope": SCOPE, option: value}
    with pytest.raises((TypeError, ValueError)):
        HookSessions(desk.enforcer, **options)


def test_nothing_is_answered_after_the_end(desk: Desk) -> None:
    """After close no session opens."""
    desk.sessions.close()
    assert reason(desk.send("PreToolUse")) == "task_ended"


def test_a_probe_has_a_scope_of_its_own(desk: Desk) -> None:
    """The session of the doctor may use one tool, which no agent has."""
    session = f"{PROBE}1"
    assert decision(desk.send("PreToolUse", PROBE_ALLOWED, session=session))[0] is None
    assert reason(desk.send("PreToolUse", PROBE_DENIED, 2, session=session)) == "tool_not_granted"
    assert reason(desk.send("PreToolUse", "Bash", 3, session=session)) == "tool_not_granted"
    assert reason(desk.send("PreToolUse", PROBE_ALLOWED, 4)) == "tool_not_granted"
    desk.verified()


def test_a_call_is_claimed_once_and_with_its_arguments(desk: Desk) -> None:
    """A tool of this process runs a judged call once; other arguments are refused and recorded."""
    event = {
        "hook_event_name": "PreToolUse",
        "tool_name": "mcp__desk__pay",
        "tool_input": {"n": 1},
        "tool_use_id": "toolu_1",
    }
    with desk.enforcer.task("work", principal=ALICE, agent=CODER, scope=SCOPE):
        calls = HookCalls(ToolGuards(desk.enforcer))
        calls.answer(event)
        with pytest.raises(Denied):
            calls.claim("desk", "pay", {"n": 2})
        with pytest.raises(Denied):
            calls.claim("desk", "other", {"n": 1})
        assert dict(calls.claim("desk", "pay", {"n": 1}).arguments) == {"n": 1}
        with pytest.raises(Denied):
            calls.claim("desk", "pay", {"n": 1})
        calls.answer({**event, "hook_event_name": "PostToolUse", "tool_response": {}})
        calls.close()
        assert calls.answer(event)["hookSpecificOutput"]["permissionDecision"] == "deny"
    assert desk.outcomes()[:4] == [("denied", "input_changed")] * 3 + [("success", None)]
    desk.verified()


def test_calls_follow_the_task_that_is_bound(desk: Desk) -> None:
    """A client that works on several tasks binds each in turn; after the end of one, its calls are refused."""
    event = {"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {}, "tool_use_id": "1"}
    with desk.enforcer.task("first", principal=ALICE, agent=CODER, scope=SCOPE):
        calls = HookCalls(ToolGuards(desk.enforcer))
    assert reason(dict(calls.answer(event))) == "task_ended"
    with desk.enforcer.task("second", principal=ALICE, agent=CODER, scope=SCOPE) as task:
        calls.bind()
        assert decision(dict(calls.answer(event)))[0] is None
        assert desk.records("intent")[0]["task"]["id"] == task.id
        calls.close()
    desk.verified()


def test_a_call_is_not_claimed_after_its_task(desk: Desk) -> None:
    """A tool of this process does not begin once the authority has ended, whenever its call was judged."""
    event = {
        "hook_event_name": "PreToolUse",
        "tool_name": "mcp__desk__pay",
        "tool_input": {"n": 1},
        "tool_use_id": "toolu_1",
    }
    with desk.enforcer.task("work", principal=ALICE, agent=CODER, scope=SCOPE):
        calls = HookCalls(ToolGuards(desk.enforcer))
        calls.answer(event)
    with pytest.raises(Denied) as caught:
        calls.claim("desk", "pay", {"n": 1})
    assert (caught.value.code, bool(caught.value.reference)) == ("task_ended", True)
    calls.close()
    assert desk.outcomes() == [("denied", "task_ended")]
    desk.verified()


def test_a_call_that_never_ran_is_not_claimed_for_the_next_task(desk: Desk) -> None:
    """An interrupted call has no end in the hooks; an equal call of the next person runs as their own."""
    event = {"hook_event_name": "PreToolUse", "tool_name": "mcp__desk__pay", "tool_input": {"n": 1}}
    with desk.enforcer.task("first", principal=ALICE, agent=CODER, scope=SCOPE):
        calls = HookCalls(ToolGuards(desk.enforcer))
        calls.answer({**event, "tool_use_id": "toolu_1"})
        with desk.enforcer.no_task(), desk.enforcer.task("next", principal=BOB, agent=CODER, scope=SCOPE) as task:
            calls.bind()
            calls.answer({**event, "tool_use_id": "toolu_2"})
            assert calls.claim("desk", "pay", {"n": 1}).task is task
            calls.close()
    desk.verified()


def test_a_call_is_claimed_under_the_name_that_the_agent_makes_of_its_server(desk: Desk) -> None:
    """The names of tools hold no space and no dot of the name of their server."""
    event = {
        "hook_event_name": "PreToolUse",
        "tool_name": "mcp__my_desk__pay",
        "tool_input": {"n": 1},
        "tool_use_id": "toolu_1",
        "mcp_server": {"name": "my desk"},
    }
    with desk.enforcer.task("work", principal=ALICE, agent=CODER, scope=Scope("my_desk/pay")):
        calls = HookCalls(ToolGuards(desk.enforcer))
        calls.answer(event)
        assert dict(calls.claim("my desk", "pay", {"n": 1}).arguments) == {"n": 1}
        calls.close()
    desk.verified()


def test_servers_that_the_agent_names_alike_are_not_taken_for_each_other(desk: Desk) -> None:
    """The calls of the second one are refused on record: its tools have the names of those of the first."""
    answers = list[Any]()
    with desk.enforcer.task("work", principal=ALICE, agent=CODER, scope=Scope("my_desk/pay")):
        calls = HookCalls(ToolGuards(desk.enforcer))
        for number, server in enumerate(("my desk", "my.desk", "my desk")):
            event = {
                "hook_event_name": "PreToolUse",
                "tool_name": "mcp__my_desk__pay",
                "tool_input": {"n": number},
                "tool_use_id": f"toolu_{number}",
                "mcp_server": {"name": server},
            }
            answers.append(calls.answer(event))
        with pytest.raises(ConfigurationError, match=r"my\.desk"):
            calls.claim("my.desk", "pay", {"n": 0})
        calls.close()
    assert ["permissionDecision" in answer["hookSpecificOutput"] for answer in answers] == [False, True, False]
    assert desk.outcomes().count(("denied", "bad_arguments")) == 1
    desk.verified()


def test_a_call_that_was_rejected_is_asked_about_anew_in_a_session_that_resumes(tmp_path: Path) -> None:
    """A hook waits for the person, so nothing is suspended: the same call in a new task needs a ruling of its own."""
    asked = list[str]()

    def ask(request: ApprovalRequest) -> str:
        asked.append(request.tool)
        decide = desk.enforcer.approvals.reject if len(asked) < 3 else desk.enforcer.approvals.approve
        return Context().run(decide, request, by=Human("bob@example.com"))

    rule = Rule(Effect.ROUTE, tools="Bash", reason="two people decide", id="four-eyes", to="desk")
    desk = Desk(tmp_path / "evidence", policy=RuleSet(rule), routes={"desk": Approval(ask=ask)})
    for _ in range(2):
        desk.send("SessionStart", source="resume")
        assert reason(desk.send("PreToolUse")) == "approval_rejected"
        desk.send("SessionEnd")
    desk.send("SessionStart", source="resume")
    assert decision(desk.send("PreToolUse")) == (None, {"command": "ls"})
    desk.send("PostToolUse", tool_response={})
    assert (len(asked), desk.outcomes()[-1]) == (3, ("success", None))
    desk.verified()
