"""Isolated delegations: what the delegate reads counts for its task when it ends, and cannot be kept from it."""

import contextvars
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_identity import Agent, Effect, Rule, RuleSet, Scope
from agent_identity._guard.tasks.task_flow import Flows, TaskFlow
from agent_identity.errors import Denied, EvidenceError, Routed
from agent_identity.inspection import PersonalData
from agent_identity.policy import All, Flow, Obligation

_spec = importlib.util.spec_from_file_location("flow_worlds", Path(__file__).with_name("flow_worlds.py"))
assert _spec is not None
assert _spec.loader is not None
flow = sys.modules.setdefault("flow_worlds", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(flow)

EVIL, OWN, REQUEST = flow.EVIL, flow.OWN, flow.REQUEST
EVERYTHING = Scope({name: {} for name in ("pay", "read", "other")})
HELPER = Agent("helper", owner="it@example.com")


@pytest.fixture
def office(open_world: Callable[..., Any]) -> Any:
    return flow.open_office(open_world)


def isolated(world: Any, **options: Any) -> Any:
    """Return the opening of an isolated delegation to the helper."""
    return world.enforcer.delegate(HELPER, scope=EVERYTHING, isolated=True, **options)


def test_the_mark_of_an_isolated_delegate_joins_at_its_end(office: Any) -> None:
    """While the delegate reads, its task is judged at its own mark; after that at the meet of both."""
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        above = contextvars.copy_context()
        with isolated(office):
            read()
            with pytest.raises(Routed):
                pay(EVIL)
            pay(OWN)
            above.run(pay, EVIL)
        with pytest.raises(Routed):
            pay(EVIL)
    assert flow.paid(office) == [OWN, EVIL]
    assert flow.marks(office) == [
        ("request", "trusted"),
        ("isolated", "trusted"),
        ("result", "untrusted"),
        ("join", "untrusted"),
    ]
    assert flow.codes(flow.verified(office)) == set()


def test_an_isolated_delegate_begins_at_the_mark_of_its_task(office: Any) -> None:
    """Its instructions come from an agent that has read, so that delegating washes nothing."""
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        read()
        with isolated(office), pytest.raises(Routed):
            pay(EVIL)
    detail = flow.details(office)[-1]
    assert next((of.argument, of.provenance) for of in detail.provenance) == ("iban", "untrusted")
    assert flow.codes(flow.verified(office)) == set()


def test_a_second_delegate_adds_its_sources_alone(office: Any) -> None:
    """A mark that has fallen is joined again for new inputs, and not for none."""
    read, other = flow.reads(office, EVIL, returns="untrusted"), flow.reads(office, "x", "other")
    with office.task(EVERYTHING, request=REQUEST) as task:
        for _ in range(2):
            with isolated(office):
                read()
        assert len([name for name in task.flow.mark.sources.values() if name == "read"]) == 2
        with isolated(office):
            other()
    assert [cause for cause, _ in flow.marks(office)].count("join") == 2
    assert flow.codes(flow.verified(office)) == set()


def test_a_result_of_the_task_takes_the_marks_of_open_delegates_along(office: Any) -> None:
    """A tool that returns while a delegate is still at work may return what that has read."""
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    found: list[object] = []
    other = flow.reads(office, lambda _: found[0], "other", endorses=True)
    with office.task(EVERYTHING, request=REQUEST):
        above = contextvars.copy_context()
        with isolated(office):
            found.append(read())
            above.run(other)
            with pytest.raises(Routed):
                above.run(pay, EVIL)
    assert flow.codes(flow.verified(office)) == set()


def test_laundering_by_a_handle_of_an_isolated_delegate(open_world: Callable[..., Any]) -> None:
    """What stands behind a handle has the label that it was read with, in every hop that the handle reaches."""
    keep = Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("placeholder")], id="keep")
    office = flow.open_office(open_world, policy=All(Flow(), RuleSet(keep)), inspectors=[PersonalData("iban")])
    pay = flow.pays(office, restores={"iban": "pii.iban"})
    read = flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        above = contextvars.copy_context()
        with isolated(office):
            handle = read()
            with pytest.raises(Routed):
                above.run(pay, handle)
    assert flow.paid(office) == []
    assert flow.codes(flow.verified(office)) == set()


def test_delegates_of_delegates_are_joined_all_the_way_up(office: Any) -> None:
    """Neither a shared nor an isolated hop below an isolated one keeps what it read to itself."""
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    for below in (isolated(office), office.enforcer.delegate(HELPER, scope=EVERYTHING)):
        with office.task(EVERYTHING, request=REQUEST):
            with isolated(office):
                with below:
                    read()
                with pytest.raises(Routed):
                    pay(EVIL)
            with pytest.raises(Routed):
                pay(EVIL)
    assert flow.codes(flow.verified(office)) == set()


def test_the_sources_of_an_isolated_delegate_keep_their_names(open_world: Callable[..., Any]) -> None:
    """Rules about what a task has read apply across the delegation, in both directions."""
    own = RuleSet(Rule(Effect.BLOCK, tools="pay", when={"flow.sources": {"contains": ["read"]}}, id="no-read"))
    world = flow.open_office(open_world, policy=All(Flow(), own))
    pay, read = flow.pays(world), flow.reads(world, EVIL, returns="untrusted")
    with world.task(EVERYTHING, request=REQUEST):
        with isolated(world):
            read()
        for opening in (isolated(world), isolated(world)):
            with opening, pytest.raises(Denied) as caught:
                pay(OWN)
            assert caught.value.decision.rule == "no-read"
        with pytest.raises(Denied) as caught:
            pay(OWN)
    assert caught.value.decision.rule == "no-read"


def test_a_body_that_outlives_its_isolated_delegation(office: Any) -> None:
    """What it still returns lowers the mark of the task as well."""
    pay = flow.pays(office)
    ends: list[Any] = []

    def content(_: object) -> str:
        ends.pop().__exit__(None, None, None)
        return EVIL

    read = flow.reads(office, content, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        above = contextvars.copy_context()
        opening = isolated(office)
        opening.__enter__()
        ends.append(opening)
        contextvars.copy_context().run(read)
        with pytest.raises(Routed):
            above.run(pay, EVIL)


@pytest.mark.parametrize("below", ["isolated", "shared"])
def test_a_body_that_outlives_the_delegations_of_delegations(office: Any, below: str) -> None:
    """What it still returns lowers the mark of the task, however many isolated hops have ended between the two."""
    pay = flow.pays(office)
    ends: list[Any] = []

    def content(_: object) -> str:
        while ends:
            ends.pop().__exit__(None, None, None)
        return EVIL

    read = flow.reads(office, content, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        above = contextvars.copy_context()
        for kind in ("isolated", below):
            opening = isolated(office) if kind == "isolated" else office.enforcer.delegate(HELPER, scope=EVERYTHING)
            opening.__enter__()
            ends.append(opening)
        contextvars.copy_context().run(read)
        with pytest.raises(Routed):
            above.run(pay, EVIL)
    assert flow.paid(office) == []
    assert flow.codes(flow.verified(office)) == set()


def test_a_join_that_cannot_be_written_counts_all_the_same(office: Any) -> None:
    """The mark of the task has fallen, and the next record that can be written says so."""
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    append = Flows.record

    def failing(self: Flows, facts: Any, change: Any) -> Any:
        if change.cause == "join":
            raise EvidenceError("the disk is full")
        return append(self, facts, change)

    with office.task(EVERYTHING, request=REQUEST):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Flows, "record", failing)
            with isolated(office):
                read()
        with pytest.raises(Routed):
            pay(EVIL)


def test_an_isolated_delegate_does_not_speak_for_the_principal(office: Any) -> None:
    """Its own mark makes it no task of its own."""
    with office.task(EVERYTHING, request=REQUEST), isolated(office) as part, pytest.raises(Denied) as caught:
        part.said(EVIL)
    assert caught.value.code == "said_by_delegate"


def test_without_information_flow_isolation_changes_nothing(open_world: Callable[..., Any]) -> None:
    """No mark is computed or recorded."""
    world = open_world()
    with world.task(EVERYTHING), isolated(world) as part:
        assert part.flow is None
    assert flow.marks(world) == []


@pytest.mark.parametrize(
    ("cause", "change"),
    [
        ("isolated", {"label": "trusted", "joined": None}),
        ("isolated", {"origin": "A" * 43}),
        ("isolated", {"origin": None}),
        ("join", {"joined": "unknown", "label": "unknown"}),
        ("join", {"origin": "A" * 43, "joined": "unknown", "label": "unknown"}),
    ],
)
def test_an_edited_mark_of_an_isolated_hop_contradicts(office: Any, cause: str, change: dict[str, Any]) -> None:
    """A hop that claims to begin higher, or elsewhere, or a join that leaves out what was read, is found."""
    read = flow.reads(office, EVIL, returns="untrusted")
    append = Flows.record

    def edited(self: Flows, facts: Any, of: Any) -> Any:
        return append(self, facts, msgspec.structs.replace(of, **change) if of.cause == cause else of)

    with office.task(EVERYTHING, request=REQUEST) as task, pytest.MonkeyPatch.context() as patch:
        if cause == "isolated":
            task.received("text of others")
        patch.setattr(Flows, "record", edited)
        with isolated(office):
            read()
    assert "mark_mismatch" in flow.codes(flow.verified(office))


def test_a_join_that_was_left_out_contradicts(office: Any) -> None:
    """An isolated hop does not end before its task has its mark."""
    read = flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskFlow, "take_part", lambda *_: None)
        with isolated(office):
            read()
    assert flow.codes(flow.verified(office)) == {"mark_mismatch"}
