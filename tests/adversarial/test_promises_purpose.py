"""What a task is for: one text in the record, for the policy, the agent and the approver."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from agent_identity import Agent, Denied, Effect, Human, Request, Rule, RuleSet, Scope, Verifier
from agent_identity.approvals import Approval, ApprovalRequest, ask_in_the_terminal
from agent_identity.audit import story
from agent_identity.delegation import DelegationBundle
from agent_identity.errors import TokenError
from agent_identity.testing import FixedClock

HELPER = Agent("helper", owner="it@example.com")
REQUEST = "  Pay Acme's invoice 42,\r\nthen\ttell\u2028Bob.\x0b\n\n Thanks \u00a0!  "
FOLDED = "Pay Acme's invoice 42, then tell Bob. Thanks !"
FAMILY = "👨‍👩‍👧 ❤️‍🔥 🙂‍↔️"
ISOLATED = "pay \u2068שלום\u2069 and \u2066(\u2067a\u2069)\u2069"  # noqa: RUF001  Hebrew is what isolates are for.


def purposes(world: Any) -> list[str]:
    return [record["task"]["purpose"] for record in world.records("task_start")]


def test_everybody_sees_the_same_folded_purpose(open_world: Callable[..., Any]) -> None:
    """Line breaks and runs of white space become one space, once, for record, policy, approver and sub-task alike."""
    seen: list[str] = []

    def ask(request: ApprovalRequest) -> Any:
        seen.append(request.purpose)
        return request.approve(by=Human("bob@example.com"))

    class Policy:
        name, version, digest = "seen", "1", "A" * 43
        rules = RuleSet(Rule(Effect.ROUTE, to="desk"))

        def decide(self, request: Request) -> Any:
            seen.append(request.purpose or "")
            return self.rules.decide(request)

    world = open_world(policy=Policy(), routes={"desk": Approval(ask=ask)})
    tool, opening = world.tool(), {"principal": Human("alice@example.com"), "agent": HELPER, "scope": Scope("tool")}
    with world.enforcer.task(REQUEST, **opening) as task:
        tool(1)
        with world.enforcer.delegate(HELPER, scope=Scope("tool"), purpose="the\nsecond  half") as part:
            tool(2)
        carried = world.enforcer.current_task.export()
        assert DelegationBundle.from_text(carried.to_text()).purpose == FOLDED
        with world.enforcer.accept(carried, purpose="over\nthere"):
            pass
    assert (task.purpose, part.purpose) == (FOLDED, "the second half")
    assert purposes(world) == [FOLDED, "the second half", "over there"]
    assert set(seen) == {FOLDED, "the second half"}
    world.enforcer.close()
    assert [problem for problem in Verifier().ledger(world.directory).findings if problem.severity != "notice"] == []
    assert next(story(world.directory)).purpose == FOLDED


@pytest.mark.parametrize(
    "purpose",
    [
        pytest.param(FAMILY, id="emoji"),
        pytest.param(ISOLATED, id="isolates"),
        pytest.param("x" * 1_024, id="long"),
        pytest.param("é" * 1_024, id="long in other letters"),
        pytest.param(("x" * 100 + "\n   \n") * 10, id="long before it is folded"),
    ],
)
def test_what_people_write_is_text(world: Any, purpose: str) -> None:
    """Joined emoji, closed bidi isolates and 1,024 characters stand in the record as they came."""
    opening = {"principal": Human("alice@example.com"), "agent": HELPER, "scope": Scope("tool")}
    with world.enforcer.task(purpose, **opening):
        pass
    assert purposes(world) == [" ".join(purpose.split())]


@pytest.mark.parametrize(
    "purpose",
    [
        pytest.param("", id="empty"),
        pytest.param(" \n\t", id="white space"),
        pytest.param("x" * 1_025, id="too long"),
        pytest.param("pay\u202e001", id="override"),
        pytest.param("pay\u200d it", id="joiner of letters"),
        pytest.param("\u200d🙂", id="joiner at the start"),
        pytest.param("🙂\u200d", id="joiner at the end"),
        pytest.param("🙂\u200d\u200d🙂", id="two joiners"),
        pytest.param("pay \u2068it", id="open isolate"),
        pytest.param("pay\u2069 it", id="end without isolate"),
        pytest.param("\u2069\u2068", id="ends before it begins"),
        pytest.param("p\u200bay", id="zero width"),
        pytest.param("p\ufeffay", id="byte order mark"),
        pytest.param("pay\x1b[2J", id="escape"),
        pytest.param("pay\x00", id="nul"),
        pytest.param("\ud800", id="surrogate"),
    ],
)
def test_ac_104_what_steers_a_reader_is_no_purpose(world: Any, purpose: str) -> None:
    """Other invisible characters are refused before anything is recorded, in every call that takes a purpose."""
    opening = {"principal": Human("alice@example.com"), "agent": HELPER, "scope": Scope("tool")}
    with pytest.raises(ValueError, match="purpose"):
        world.enforcer.task(purpose, **opening)
    with pytest.raises(ValueError, match="purpose"):
        world.enforcer.delegate(HELPER, scope=Scope("tool"), purpose=purpose)
    with world.task(Scope("tool")):
        carried = world.enforcer.current_task.export()
    if purpose.isprintable() and purpose:
        with pytest.raises(ValueError, match="purpose"):
            world.enforcer.accept(carried, purpose=purpose)
    if "\ud800" not in purpose:
        with pytest.raises(TokenError):
            DelegationBundle.from_text(DelegationBundle(carried.tokens, carried.seed, purpose).to_text())


def test_ac_104_an_approver_sees_invisible_characters_escaped(open_world: Callable[..., Any]) -> None:
    """In the terminal, joiners and isolates are shown by their code points, so that nothing reorders the line."""
    shown = io.StringIO()
    ask = ask_in_the_terminal(Human("bob@example.com"), streams=(io.StringIO("n\n"), shown))
    policy = RuleSet(Rule(Effect.ROUTE, to="desk"))
    world = open_world(policy=policy, routes={"desk": Approval(ask=ask)}, clock=FixedClock())
    opening = {"principal": Human("alice@example.com"), "agent": HELPER, "scope": Scope("tool")}
    with world.enforcer.task(f"{ISOLATED} {FAMILY}", **opening), pytest.raises(Denied) as caught:
        world.tool()(1)
    assert caught.value.code == "approval_rejected"
    text = shown.getvalue()
    assert "\\u2068" in text
    assert "\\u2069" in text
    assert "\\u200d" in text
    assert {"\u2066", "\u2067", "\u2068", "\u2069", "\u200d"}.isdisjoint(text)
