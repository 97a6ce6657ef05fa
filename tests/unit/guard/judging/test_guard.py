"""The guard: order of checks, inspectors, monitor mode, actions, and what happens when evidence fails."""

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable, Generator, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from plain_records import error_type

from agent_identity import Agent, Decision, Effect, Enforcer, Finding, Human, Request, Rule, RuleSet, Scope, Service
from agent_identity._guard.common.recorded_decisions import decision_fact
from agent_identity._guard.judging.guard import Guard
from agent_identity._identity.common.ids import is_digest
from agent_identity.adapters import CallRequest
from agent_identity.approvals import Approval, ApprovalRequest
from agent_identity.constraints import Contains, Range
from agent_identity.errors import (
    ConfigurationError,
    ContentBlocked,
    Denied,
    EvidenceError,
    NoTask,
    OutOfScope,
    PolicyBlocked,
    Routed,
)
from agent_identity.policy import Content

OPEN = Scope("tool")


class Finds:
    """An inspector that finds a category wherever a word stands in the content."""

    def __init__(self, word: str, category: str = "pii") -> None:
        self.word = word
        self.category = category
        self.seen: list[Content] = []

    def inspect(self, content: Content) -> Sequence[Finding]:
        """Look at content as this inspector does."""
        self.seen.append(content)
        found = self.word in repr(content.value)
        return [Finding(category=self.category, inspector="finds")] if found else []


class Says:
    """A policy that gives one answer, and remembers the questions."""

    name, version, digest = "says", "1", "A" * 43

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[Request] = []

    def decide(self, request: Request) -> Decision:
        """Return the answer of this policy."""
        self.asked.append(request)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[return-value]


def counted(world: Any, **options: Any) -> tuple[Callable[..., Any], list[Any]]:
    ran: list[Any] = []

    @world.enforcer.tool(name="tool", **options)
    def tool(x: Any = 1, **extra: Any) -> Any:
        ran.append((x, extra))
        return x

    return tool, ran


# -------------------------------------------------------------------------------- what the policy sees


def test_the_policy_gets_the_whole_question(opened: Any) -> None:
    """Tool, arguments, parties, chain, task, findings and data labels reach the policy as they are."""
    policy = Says(Decision(effect=Effect.ALLOW, reason="fine"))
    world = opened(policy=policy, inspectors=[Finds("needle")])
    tool, _ = counted(world, kind="http", labels=["destructive"], data=["invoices"])
    with (
        world.task(OPEN, principal=Service("billing", roles=("pay",))) as task,
        world.enforcer.delegate(Agent("helper", owner="it"), scope=OPEN, purpose="part"),
    ):
        tool("needle")
    request = policy.asked[0]
    assert (request.tool.name, request.tool.kind, request.tool.labels) == ("tool", "http", ("destructive",))
    assert dict(request.arguments) == {"x": "needle"}
    assert request.principal == task.principal
    assert (request.agent.id, request.chain_depth) == ("helper", 1)
    assert (request.task_id, request.purpose, request.stage) == (task.id, "part", "call")
    assert request.data == ("invoices",)
    assert [finding.category for finding in request.findings] == ["pii"]
    assert policy.asked[1].stage == "result"


def test_authority_is_checked_before_the_policy_is_asked(opened: Any) -> None:
    """What the grant does not cover is refused without a question; so is a call outside any task."""
    policy = Says(Decision(effect=Effect.ALLOW, reason="fine"))
    world = opened(policy=policy)
    tool, ran = counted(world)
    with pytest.raises(NoTask):
        tool()
    with world.task(Scope("other")), pytest.raises(OutOfScope):
        tool()
    assert policy.asked == []
    assert ran == []


ANSWERS = [
    RuntimeError("amount 100 is too much"),
    None,
    "allow",
    True,
    Effect.ALLOW,
    object(),
]


def _forged(**facts: object) -> Decision:
    decision = Decision(effect=Effect.ALLOW, reason="fine")
    for name, fact in facts.items():
        object.__setattr__(decision, name, fact)
    return decision


FORGED = [
    {"effect": "permit"},
    {"effect": None},
    {"effect": ["allow"]},
    {"rule": 5},
    {"rule": "x" * 257},
    {"rule": "a\nb"},
    {"policy": "\ud800"},
    {"version": b"1"},
    {"version": 1.5},
    {"digest": "md5:1"},
    {"digest": 5},
    {"warnings": ("ok", 3)},
]


@pytest.mark.parametrize(
    "answer",
    [*ANSWERS, *[_forged(**facts) for facts in FORGED]],
    ids=[*(type(answer).__name__ for answer in ANSWERS), *[repr(facts)[:30] for facts in FORGED]],
)
def test_a_policy_that_cannot_decide_blocks(opened: Any, answer: object) -> None:
    """An exception, no decision, an unknown effect or facts that no record can hold: the body does not run."""
    world = opened(policy=Says(answer))
    tool, ran = counted(world)
    with world.task(OPEN), pytest.raises(Denied) as caught:
        tool()
    assert caught.value.code in ("policy_failed", "guard_failed")
    assert "100" not in str(caught.value)
    assert ran == []
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["error"]) == ("denied", caught.value.code)
    assert outcome["id"] == caught.value.reference


def test_every_matched_warning_is_recorded(opened: Any) -> None:
    """The record lists all warn rules that matched, whatever the effect was."""
    warn = [Rule(Effect.WARN, id=name) for name in ("w2", "w1")]
    world = opened(policy=RuleSet(*warn, Rule(Effect.BLOCK, id="b", when={"args.x": 2})))
    tool, ran = counted(world)
    with world.task(OPEN):
        tool(1)
        with pytest.raises(PolicyBlocked):
            tool(2)
    assert len(ran) == 1
    assert [r["decision"].get("warnings") for r in world.records("outcome")] == [["w1", "w2"]] * 2


def test_a_claim_leaves_out_what_is_unknown() -> None:
    """No empty fact stands in a record."""
    bare = decision_fact(Decision(effect=Effect.ALLOW, reason="fine"), "allow", "enforce", None)
    assert msgspec.to_builtins(bare) == {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "fine"}


# ----------------------------------------------------------------------------------------- inspectors


def test_findings_in_arguments_reach_policy_and_record(opened: Any) -> None:
    """A rule on findings blocks what an inspector found going in; the record names the categories, sorted, once."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"findings.categories": Contains("pii")}, id="no-pii"))
    world = opened(policy=policy, inspectors=[Finds("needle"), Finds("needle"), Finds("needle", "api_key")])
    tool, ran = counted(world)
    with world.task(OPEN):
        assert tool("hay") == "hay"
        with pytest.raises(Denied):
            tool("needle")
    assert len(ran) == 1
    fine, denied = world.records("outcome")
    assert "findings" not in fine
    assert denied["findings"] == ["api_key", "pii"]


@pytest.mark.parametrize("kind", ["function", "coroutine", "action"])
def test_a_result_that_the_policy_withholds_does_not_come_out(opened: Any, kind: str) -> None:
    """The body ran, and its intent says so; its result is withheld and the refusal recorded."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"findings.categories": Contains("pii")}, id="no-pii"))
    world = opened(policy=policy, inspectors=[Finds("needle")])
    ran = []

    @world.enforcer.tool(name="tool")
    def function() -> str:
        ran.append(1)
        return "a needle"

    @world.enforcer.tool(name="tool")
    async def coroutine() -> str:
        ran.append(1)
        return "a needle"

    def action() -> None:
        with world.enforcer.action("tool") as call:
            ran.append(1)
            call.result = "a needle"

    calls = {"function": function, "coroutine": lambda: asyncio.run(coroutine()), "action": action}
    with world.task(OPEN), pytest.raises(ContentBlocked) as caught:
        calls[kind]()
    assert caught.value.code == "content_blocked"
    assert "needle" not in str(caught.value)
    assert ran == [1]
    intent, outcome = world.records("intent", "outcome")
    assert (outcome["intent"], outcome["outcome"], outcome["error"]) == (intent["id"], "denied", "content_blocked")
    assert (outcome["findings"], outcome["decision"]["rule"]) == (["pii"], "no-pii")
    assert caught.value.reference == outcome["id"]


def test_items_of_generators_are_inspected_before_the_consumer_gets_them(opened: Any) -> None:
    """A stream is no way round the inspection: without a longest match nothing is delivered before all was seen."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"findings.categories": Contains("pii")}))
    world = opened(policy=policy, inspectors=[Finds("needle")])
    closed = []

    @world.enforcer.tool(name="tool")
    def generator() -> Generator[str]:
        try:
            yield "hay"
            yield "needle"
            yield "more"
        finally:
            closed.append("sync")

    @world.enforcer.tool(name="tool")
    async def async_generator() -> Any:
        try:
            yield "hay"
            yield "needle"
            yield "more"
        finally:
            closed.append("async")

    got: list[str] = []

    def consume_sync() -> None:
        for item in generator():
            got.append(item)  # noqa: PERF402 - One by one, because the iteration ends with an error.

    async def consume() -> None:
        async for item in async_generator():
            got.append(item)  # noqa: PERF401 - As above.

    with world.task(OPEN):
        with pytest.raises(ContentBlocked):
            consume_sync()
        with pytest.raises(ContentBlocked):
            asyncio.run(consume())
    assert got == []
    assert closed == ["sync", "async"]
    assert world.outcomes() == ["denied"] * 2


def test_findings_of_an_endless_stream_do_not_grow(opened: Any) -> None:
    """The same finding in a thousand items is one finding; in monitor mode all items come through."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"findings.categories": Contains("pii")}))
    world = opened(policy=policy, inspectors=[Finds("needle")], mode="monitor")

    @world.enforcer.tool(name="tool")
    def tool() -> Generator[str]:
        for _ in range(1000):
            yield "needle"

    with world.task(OPEN):
        assert len(list(tool())) == 1000
    (outcome,) = world.records("outcome")
    assert (outcome["outcome"], outcome["findings"], outcome["decision"]["enforced"]) == ("success", ["pii"], "audit")


def test_findings_that_the_policy_lets_pass_are_recorded(opened: Any) -> None:
    """A finding alone withholds nothing: the policy decides, and without a policy it is only recorded."""
    world = opened(inspectors=[Finds("needle")])
    tool, _ = counted(world)
    with world.task(OPEN):
        assert tool("needle") == "needle"
    assert [r.get("findings") for r in world.records("intent", "outcome")] == [["pii"], ["pii"]]


class Broken:
    """An inspector with a defect that shows on input, on output or both."""

    def __init__(self, answer: object, direction: str) -> None:
        self.answer = answer
        self.direction = direction

    def inspect(self, content: Content) -> Any:
        """Look at content as this inspector does."""
        if content.direction != self.direction:
            return ()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("answer", [ValueError("canary"), None, 5, ["pii"], [object()], "pii"])
def test_a_broken_inspector_refuses_the_call(opened: Any, answer: object, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be inspected does not run; what the inspector raised is named by class, never quoted."""
    world = opened(inspectors=[Broken(answer, "input")])
    tool, ran = counted(world)
    with world.task(OPEN), pytest.raises(Denied) as caught:
        tool()
    assert caught.value.code == "guard_failed"
    assert ran == []
    assert world.outcomes() == ["denied"]
    assert "canary" not in caplog.text + str(caught.value)
    assert caplog.records[0].levelno == logging.ERROR


@pytest.mark.parametrize("answer", [ValueError("canary"), None, ["pii"]])
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
def test_what_cannot_be_inspected_does_not_come_out(opened: Any, answer: object, mode: str) -> None:
    """A defect while looking at the result withholds it in enforce mode; in monitor mode it is only recorded."""
    world = opened(inspectors=[Broken(answer, "output")], mode=mode)
    tool, ran = counted(world)
    with world.task(OPEN):
        if mode == "monitor":
            assert tool() == 1
        else:
            with pytest.raises(ContentBlocked):
                tool()
    assert len(ran) == 1
    (outcome,) = world.records("outcome")
    assert outcome["decision"]["reason"] == "inspection_failed"
    assert (outcome["outcome"], outcome["decision"]["enforced"]) == {
        "enforce": ("denied", "block"),
        "monitor": ("success", "audit"),
    }[mode]


@pytest.mark.parametrize("kind", [RuleSet, Says])
def test_a_task_that_ends_while_a_policy_is_asked_runs_no_tool(
    opened: Any, monkeypatch: pytest.MonkeyPatch, kind: type[Any]
) -> None:
    """Whoever ends it: the policy itself, or another thread meanwhile."""
    world = opened(policy=RuleSet() if kind is RuleSet else Says(Decision(effect=Effect.ALLOW, reason="fine")))
    tool, ran = counted(world)
    decide = kind.decide

    def ending(self: Any, request: Request) -> Any:
        task.end()
        return decide(self, request)

    monkeypatch.setattr(kind, "decide", ending)
    with world.task(OPEN) as task, pytest.raises(NoTask) as caught:
        tool(1)
    assert caught.value.code == "task_ended"
    assert not ran
    assert world.outcomes() == ["denied"]


def test_after_a_policy_of_others_everything_is_asked_again(opened: Any) -> None:
    """It may take its time: what is revoked meanwhile does not run either."""
    world = opened(policy=Says(Decision(effect=Effect.ALLOW, reason="fine")))
    tool, ran = counted(world)
    policy = world.enforcer._enforcement.policy
    decide = policy.decide
    policy.decide = lambda request: (world.enforcer.revoke("everything", suspend=True), decide(request))[1]
    with world.task(OPEN), pytest.raises(Denied) as caught:
        tool(1)
    assert caught.value.code == "suspended"
    assert not ran


# --------------------------------------------------------------------------------------- monitor mode


def test_in_monitor_mode_everything_runs_with_what_it_got(opened: Any) -> None:
    """No task, an ended task, a tool or argument out of scope, a bad argument: it runs, the record says why not."""
    world = opened(mode="monitor")
    tool, ran = counted(world)
    bad = float("nan")
    tool(1)
    with world.task(Scope("tool", x=2)):
        tool(3)
        tool(bad, y=5)
    with world.task(Scope("other")) as task:
        tool(4)
        task.end()
        tool(5)
    assert [x for x, _ in ran] == [1, 3, bad, 4, 5]
    assert ran[2] == (bad, {"y": 5})
    assert [r["decision"]["reason"] for r in world.records("outcome")] == [
        "no_task",
        "argument_out_of_scope",
        "bad_arguments",
        "tool_not_granted",
        "task_ended",
    ]
    for record in world.records("intent", "outcome"):
        assert (record["decision"]["enforced"], record["decision"]["mode"]) == ("audit", "monitor")
        assert record["decision"]["effect"] == "block"
        assert ("attribution" in record) is ("task" not in record)
    assert world.outcomes() == ["success"] * 5


def test_in_monitor_mode_failing_evidence_stops_nothing(
    opened: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a full disk nor an unreadable digest key stops an application that is only watched."""
    world = opened(mode="monitor")
    tool, ran = counted(world)
    with world.task(OPEN):
        with monkeypatch.context() as patch:
            patch.setattr(type(world.enforcer._enforcement.ledger), "append", _full)
            assert tool(1) == 1
        with monkeypatch.context() as patch:
            patch.setattr(type(world.enforcer._enforcement.digests), "digest", _full)
            assert tool(2) == 2
        assert tool(3) == 3
    assert len(ran) == 3
    assert "without an intent record" in caplog.text
    assert len(world.records("intent")) == 2
    assert [r["decision"]["enforced"] for r in world.records("outcome")] == ["audit", "allow"]
    assert world.records("task_end")[0]["counts"] == {"intents": "2", "outcomes": "2", "open": "0"}


# ------------------------------------------------------------------------------------ failing evidence


def _full(*_: object, **__: object) -> Any:
    raise EvidenceError("could not append a record to the ledger: No space left on device")


class Flaky:
    """Makes ``Ledger.append`` fail for some kinds of records."""

    def __init__(self, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing: set[str] = set()
        self.error: BaseException = EvidenceError("disk full")
        ledger = type(world.enforcer._enforcement.ledger)
        append = ledger.append

        def flaky(this: Any, make: Any, **options: Any) -> Any:
            if error_type(make) in self.failing:
                raise self.error
            return append(this, make, **options)

        monkeypatch.setattr(ledger, "append", flaky)


def test_without_an_intent_the_body_does_not_run(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No evidence, no action: the error is typed, the body did not run, the span is ended."""
    flaky = Flaky(world, monkeypatch)
    tool, ran = counted(world)
    with world.task(OPEN):
        flaky.failing = {"intent"}
        with pytest.raises(EvidenceError) as caught:
            tool()
        assert caught.value.code == "evidence_unavailable"
        assert ran == []
        flaky.failing = set()
        assert tool() == 1
    assert len(world.spans()) == 2
    assert world.outcomes() == ["success"]
    assert world.records("task_end")[0]["counts"] == {"intents": "1", "outcomes": "1", "open": "0"}


def test_without_an_outcome_the_result_is_returned_and_the_next_call_refused(
    world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The act happened, so its result comes back; as long as the ledger does not write, nothing more happens."""
    flaky = Flaky(world, monkeypatch)
    tool, ran = counted(world)
    with world.task(OPEN):
        flaky.failing = {"outcome"}
        assert tool(5) == 5
        assert "could not be recorded" in caplog.text
        flaky.failing = {"outcome", "intent"}
        for _ in range(3):
            with pytest.raises(EvidenceError):
                tool(6)
        assert [x for x, _ in ran] == [5]
        flaky.failing = set()
        assert tool(7) == 7
    assert len(world.records("intent")) == 2
    assert world.outcomes() == ["success"]
    assert world.records("task_end")[0]["counts"] == {"intents": "2", "outcomes": "1", "open": "1"}
    assert len(world.spans()) == 5


def test_the_error_of_the_body_survives_a_failing_outcome(
    world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the body raised and the record fails, the body's exception comes out, and no log quotes it."""
    flaky = Flaky(world, monkeypatch)
    flaky.failing = {"outcome"}

    @world.enforcer.tool(name="tool")
    def tool() -> None:
        raise LookupError("canary")

    with world.task(OPEN), pytest.raises(LookupError):
        tool()
    assert "could not be recorded: disk full" in caplog.text
    assert "canary" not in caplog.text


def test_a_defect_while_recording_the_outcome_does_not_hide_the_result(
    world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not only EvidenceError: whatever goes wrong after the act, the caller gets what the act returned."""
    flaky = Flaky(world, monkeypatch)
    flaky.failing, flaky.error = {"outcome"}, RuntimeError("canary")
    tool, _ = counted(world)
    with world.task(OPEN):
        assert tool(5) == 5
    assert "RuntimeError at" in caplog.text
    assert "canary" not in caplog.text


def test_a_refusal_that_cannot_be_recorded_is_an_evidence_error(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is refused either way, and the span does not stay open."""
    flaky = Flaky(world, monkeypatch)
    flaky.failing = {"outcome"}
    tool, ran = counted(world)
    with world.task(Scope("other")), pytest.raises(EvidenceError):
        tool()
    assert ran == []
    assert len(world.spans()) == 1


def test_a_wait_that_cannot_be_recorded_is_an_evidence_error(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The framework is not told to wait for what is on no record; the body does not run, and the span ends bare."""

    class Interrupted(Exception):
        pass

    def ask(_: ApprovalRequest) -> object:
        raise Interrupted

    route = Rule(Effect.ROUTE, tools="tool", to="desk", reason="money moves", id="money")
    world = opened(policy=RuleSet(route), routes={"desk": Approval(ask=ask, suspends=(Interrupted,))})
    flaky = Flaky(world, monkeypatch)
    guard = world.enforcer.guard("tool", suspends=(Interrupted,))
    with world.task(OPEN):
        flaky.failing = {"outcome"}
        with pytest.raises(EvidenceError):
            guard.run(CallRequest({}, call_id="call-1"), lambda _: pytest.fail("the body ran"))
    (span,) = world.spans()
    assert not [name for name in span.attributes if name.startswith("agent_identity.attestation.")]


def test_a_real_full_disk_refuses_and_recovers(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operating system's own error reaches the caller as EvidenceError; when there is space, calls run again."""
    tool, ran = counted(world)
    files = type(world.enforcer._enforcement.ledger._files)
    with world.task(OPEN):
        tool(1)
        with monkeypatch.context() as patch:

            def write(this: Any, fd: int, data: bytes) -> int:
                raise OSError(28, os.strerror(28))

            patch.setattr(files, "write", write)
            with pytest.raises(EvidenceError, match="No space"):
                tool(2)
            assert world.enforcer._enforcement.ledger.degraded
        tool(3)
    assert [x for x, _ in ran] == [1, 3]
    assert world.outcomes() == ["success", "success"]


@pytest.mark.parametrize("arguments", [(), (1,)], ids=["without", "with arguments"])
def test_a_digest_that_fails_after_the_act_costs_only_the_digest(
    world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, arguments: tuple[int, ...]
) -> None:
    """A key that cannot be had for the result's digest neither hides the result nor loses the outcome."""

    @world.enforcer.tool(name="tool")
    def tool(*args: int) -> str:
        monkeypatch.setattr(type(world.enforcer._enforcement.digests), "digest", _full)
        return "done"

    with world.task(OPEN):
        assert tool(*arguments) == "done"
    (outcome,) = world.records("outcome")
    assert outcome["outcome"] == "success"
    assert "result" not in outcome["action"]
    assert "has no digest" in caplog.text


@pytest.mark.parametrize("error", [EvidenceError("full"), ConfigurationError("run chmod 600"), RuntimeError("canary")])
def test_arguments_that_cannot_be_digested_do_not_run(
    world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """What cannot be described is refused; our own errors tell the operator the way out, others only their place."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(type(world.enforcer._enforcement.digests), "digest", fail)
    tool, ran = counted(world)
    with world.task(OPEN):
        if isinstance(error, EvidenceError):
            with pytest.raises(EvidenceError):
                tool()
        else:
            with pytest.raises(Denied) as caught:
                tool()
            assert caught.value.code == "guard_failed"
            assert world.outcomes() == ["denied"]
            assert ("chmod 600" in caplog.text) is isinstance(error, ConfigurationError)
    assert ran == []
    assert "canary" not in caplog.text
    assert len(world.spans()) == 1


# -------------------------------------------------------------------------------------------- actions


def test_an_action_guards_a_block(world: Any) -> None:
    """The block gets the checked snapshot, its result is digested, its span is current inside and not after."""
    given = {"amount": 5, "to": ["a"]}
    with world.task(Scope("pay", amount=Range(max=10), to=["a"])) as task:
        with world.enforcer.action("pay", **given) as call:
            given["to"].append("b")
            assert dict(call.arguments) == {"amount": 5, "to": ["a"]}
            assert type(call.arguments) is MappingProxyType
            assert trace.get_current_span() is call.execution.span
            assert (call.tool, call.task, call.call_id) == ("pay", task, None)
            call.result = {"paid": True}
        assert trace.get_current_span() is not call.execution.span
    intent, outcome = world.records("intent", "outcome")
    assert (outcome["outcome"], intent["action"]["names"]) == ("success", ["amount:number", "to:array"])
    assert is_digest(outcome["action"]["result"])


def test_an_action_without_result_has_no_digest_of_one(world: Any) -> None:
    """Nothing is recorded as a result that was not set."""
    with world.task(OPEN), world.enforcer.action("tool"):
        pass
    (outcome,) = world.records("outcome")
    assert "result" not in outcome["action"]
    assert "args" not in outcome["action"]


def test_a_refused_action_does_not_enter_its_block(world: Any) -> None:
    """The refusal is raised before the block, for ``with`` and for ``async with``."""
    ran = []

    async def main() -> None:
        async with world.enforcer.action("pay", amount=5):
            ran.append(1)

    with world.task(Scope("pay", amount=4)):
        with pytest.raises(OutOfScope), world.enforcer.action("pay", amount=5):
            ran.append(1)
        with pytest.raises(OutOfScope):
            asyncio.run(main())
    assert ran == []
    assert world.outcomes() == ["denied", "denied"]


@pytest.mark.parametrize("routes", [{}, {"desk": lambda call: "desk"}])
def test_a_routed_action_does_not_enter_its_block(opened: Any, routes: dict[str, Any]) -> None:
    """A block cannot be handed over: it raises Routed, with a handler (``routed``) and without (a refusal)."""
    world, ran = opened(policy=RuleSet(Rule(Effect.ROUTE, to="desk")), routes=routes), []
    with world.task(OPEN), pytest.raises(Routed) as caught, world.enforcer.action("tool"):
        ran.append(1)
    assert caught.value.code == ("routed" if routes else "route_unavailable")
    assert ran == []
    (outcome,) = world.records("outcome")
    assert outcome["outcome"] == ("routed" if routes else "denied")
    assert outcome["action"]["route"] == "desk"
    assert outcome["id"] == caught.value.reference


def test_an_action_whose_block_raises_is_an_error(world: Any) -> None:
    """The block's exception comes out unchanged, also of an async block; the outcome names its class."""

    async def main() -> None:
        async with world.enforcer.action("tool"):
            raise LookupError

    with world.task(OPEN):
        with pytest.raises(LookupError), world.enforcer.action("tool"):
            raise LookupError
        with pytest.raises(LookupError):
            asyncio.run(main())
    assert [(r["outcome"], r["error"]) for r in world.records("outcome")] == [("error", "LookupError")] * 2


def test_an_action_is_used_once(world: Any) -> None:
    """A second block needs a second decision; leaving what was never entered does nothing."""
    with world.task(OPEN):
        action = world.enforcer.action("tool")
        action.__exit__(None, None, None)
        with action:
            pass
        with pytest.raises(Denied) as caught, action:
            pytest.fail("the block ran")
        assert caught.value.code == "already_entered"
    assert world.outcomes() == ["success", "denied"]


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", "\ud800", " a", "\u202e"])
def test_a_tool_has_a_name_that_records_can_hold(world: Any, name: str) -> None:
    """A name that could not be recorded, or would forge a line of a log, is refused before any call."""
    with pytest.raises(ValueError, match="name of a tool"):
        world.enforcer.action(name)
    with pytest.raises(ValueError, match="name of a tool"):
        world.enforcer.tool(name=name)(lambda: None) if name else world.enforcer.guard(name)
    for field in ("kind", "server"):
        with pytest.raises(ValueError, match=field):
            world.enforcer.guard("tool", **{field: name})
    with pytest.raises(TypeError, match="name of a tool"):
        world.enforcer.guard(5)


@pytest.mark.parametrize("server", ["files", "https://mcp.example.com/files", "a/b"])
def test_a_tool_of_a_server_has_one_name(world: Any, server: str) -> None:
    """Its name begins with that of the server, in every record, and the server is no member beside it."""
    guard = world.enforcer.guard(f"{server}/read", kind="mcp", server=server)
    for name in ("read", server, f"{server}read", f"other/{server}/read"):
        with pytest.raises(ConfigurationError, match="named without it"):
            world.enforcer.guard(name, kind="mcp", server=server)
    with world.task(Scope(f"{server}/read")):
        guard.run(CallRequest({}), lambda _: None)
    assert {record["action"]["tool"] for record in world.records("intent", "outcome")} == {f"{server}/read"}
    assert all("server" not in record["action"] for record in world.records("intent", "outcome"))


def test_a_tool_of_one_server_passes_for_no_tool_of_another(world: Any) -> None:
    """The tool ``b/c`` of the server ``a`` would have the name that ``c`` of the server ``a/b`` has in scopes."""
    world.enforcer.guard("a/b/c", kind="mcp", server="a/b")
    with pytest.raises(ConfigurationError, match="slash"):
        world.enforcer.guard("a/b/c", kind="mcp", server="a")
    for name in ("a:prompt/greet", "a:template/terms://{year}"):
        assert world.enforcer.guard(name, kind="mcp", server="a").tool.name == name


# --------------------------------------------------------------------------- integrations' own ways in


def test_an_integration_adds_call_id_and_outcomes(world: Any) -> None:
    """What a framework knows stands in record and span; an exception that is no error has its own outcome."""
    guard = world.enforcer.guard("files.example/tool", kind="mcp", server="files.example", suspends=(EOFError,))
    assert (guard.mode, guard.clock) == ("enforce", world.clock)
    with world.task(Scope("files.example/tool")):
        for error in (EOFError(), LookupError()):
            call = guard.judge(CallRequest({"x": 1, "config": {}}, injected=("config",), call_id="call-1"))
            guard.fail(call, error)
            guard.fail(call, error)
            guard.succeed(call)
    first, second = world.records("outcome")
    assert (first["outcome"], second["outcome"], second["error"]) == ("suspended", "error", "LookupError")
    assert "error" not in first
    assert (first["action"]["tool"], first["action"]["kind"], first["action"]["call"]) == (
        "files.example/tool",
        "mcp",
        "call-1",
    )
    assert world.records("intent")[0]["action"]["names"] == ["config:opaque", "x:number"]
    assert world.spans()[0].attributes["gen_ai.tool.call.id"] == "call-1"
    assert "gen_ai.tool.type" not in world.spans()[0].attributes


@pytest.mark.parametrize("call_id", ["", "x" * 257, "\ud800", "a\x1b[2J", 5, b"x"])
def test_a_call_id_that_no_record_can_hold_is_left_out(world: Any, call_id: Any) -> None:
    """The id comes from a model and decides nothing: an unfit one neither breaks nor forges a record."""
    guard = world.enforcer.guard("tool")
    with world.task(OPEN):
        guard.succeed(guard.judge(CallRequest({}, call_id=call_id)))
    (outcome,) = world.records("outcome")
    assert "call" not in outcome["action"]


def test_a_class_with_an_unprintable_name_is_recorded(world: Any) -> None:
    """The name of an exception class can be any text; in the record it is one printable line, or unnamed."""
    guard = world.enforcer.guard("tool")
    with world.task(OPEN):
        for name in ("a\nb", "x" * 1000, ""):
            guard.fail(guard.judge(CallRequest({})), type(name, (Exception,), {})())
    assert [r.get("error") for r in world.records("outcome")] == ["unnamed", "x" * 128, "unnamed"]


def test_results_that_are_not_json_have_no_digest(world: Any) -> None:
    """An opaque, endless or malformed result comes through without a digest; equal results have equal ones."""
    deep: list[Any] = []
    deep.append(deep)
    results: list[Any] = [object(), {1, 2}, deep, float("nan"), "\ud800", [1, {"a": 2.5}], [1, {"a": 2.5}], False]
    waiting = iter(results)

    @world.enforcer.tool(name="tool")
    def tool() -> Any:
        return next(waiting)

    with world.task(OPEN):
        for result in results:
            assert tool() is result
    digests = [r["action"].get("result") for r in world.records("outcome")]
    assert digests[:5] == [None] * 5
    assert digests[5] == digests[6] != digests[7]


# ------------------------------------------------------------------------------- any arguments at all


class _Text(str):
    __slots__ = ()


class _Number:
    def __int__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    __hash__ = None  # type: ignore[assignment]


def _cycle() -> Any:
    cycle: dict[str, Any] = {}
    cycle["a"] = [cycle]
    return cycle


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=6)
    | st.binary(max_size=4)
    | st.sampled_from([10**400, _Text("x"), object(), {1}, "\ud800", Ellipsis, int])
    | st.builds(_Number)
    | st.builds(_cycle)
)
HOSTILE = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=2)
        | inner.map(lambda value: _wrap(value, 70))
    ),
    max_leaves=6,
)


def _wrap(value: Any, times: int) -> Any:
    for _ in range(times):
        value = [value]
    return value


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Enforcer.open(tmp_path_factory.mktemp("shared") / "evidence") as enforcer:
        yield enforcer


@given(x=HOSTILE, extra=st.dictionaries(st.text(st.characters(), max_size=5), HOSTILE, max_size=2))
def test_any_arguments_either_run_as_copied_or_are_refused(shared: Enforcer, x: Any, extra: dict[str, Any]) -> None:
    """Whatever the arguments, the body gets an equal deep copy, or the call is a Denied with a stable code."""
    got: list[Any] = []
    extra.pop("x", None)

    @shared.tool(name="tool")
    def tool(x: Any, **extra: Any) -> None:
        got.append({"x": x, **extra})

    ledger = shared._enforcement.ledger
    with shared.task("p", principal=Human("alice@example.com"), agent=Agent("a", owner="o"), scope=OPEN):
        before = ledger._stream.seq
        denied = _denial(tool, x, extra)
        if denied is not None:
            assert denied.code == "bad_arguments"
            assert denied.reference
            assert got == []
            assert ledger._stream.seq == before + 1
        else:
            assert ledger._stream.seq == before + 2
            (values,) = got
            for name, value in {"x": x, **extra}.items():
                assert values[name] is value or _equal(values[name], value)


def _denial(tool: Callable[..., None], x: Any, extra: dict[str, Any]) -> Denied | None:
    try:
        tool(x, **extra)
    except Denied as denied:
        return denied
    return None


def _equal(copy: Any, original: Any) -> bool:
    """Compare exact JSON types; a container must be a copy."""
    if type(copy) is not type(original):
        return False
    if type(copy) is dict:
        return (
            copy is not original
            and list(copy) == list(original)
            and all(_equal(copy[key], original[key]) for key in copy)
        )
    if type(copy) in (list, tuple):
        same = len(copy) == len(original) and all(map(_equal, copy, original))
        return same and (copy is not original or type(copy) is tuple)
    return bool(copy == original)


def test_a_point_cannot_be_talked_into_another_mode(world: Any) -> None:
    """What a guard needs is frozen: mode, policy and routes are set once."""
    point = world.enforcer._enforcement
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.mode = "monitor"
    with pytest.raises(TypeError):
        point.routes["x"] = print
    with pytest.raises(AttributeError):
        Guard(point, world.enforcer.guard("tool").tool).mode = "monitor"  # type: ignore[attr-defined]
