"""The promises on purposes, approvals, labels, nested tasks and forms: each stands in one record, or in a detail."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from langchain_core.tools import StructuredTool
from pydantic import BaseModel, SecretStr

from agent_identity import Agent, Denied, Effect, Human, Rule, RuleSet, Scope, records
from agent_identity._record.schema import Detail
from agent_identity.adapters import CallRequest
from agent_identity.approvals import Approval, ApprovalRequest
from agent_identity.integrations.langchain.protection import protect
from agent_identity.policy import Claims, Touch

BOB, HELPER = Human("bob@example.com"), Agent("helper", owner="it@example.com")
ROUTED = RuleSet(Rule(Effect.ROUTE, tools="tool", to="desk", id="four-eyes"))


def read(world: Any, *kinds: type) -> list[Any]:
    """Return the records of these kinds, in their order."""
    return [one for one in records.read(world.directory) if isinstance(one, kinds)]


def test_the_purpose_is_folded_once_and_stands_in_the_start_alone(open_world: Callable[..., Any]) -> None:
    """The start of a task and of a part of it has the text that policy and approver saw; no outcome repeats it."""
    seen: list[str] = []

    def ask(request: ApprovalRequest) -> Any:
        seen.append(request.purpose)
        return request.approve(by=BOB)

    world = open_world(policy=ROUTED, routes={"desk": Approval(ask=ask)})
    opening = {"principal": Human("alice@example.com"), "agent": HELPER, "scope": Scope("tool")}
    with world.enforcer.task(" pay\n\t42 ", **opening):
        world.tool()(1)
        with world.enforcer.delegate(HELPER, scope=Scope("tool"), purpose="second\u2028half"):
            pass
    assert [start.task.purpose for start in read(world, records.TaskStart)] == ["pay 42", "second half"]
    assert seen == ["pay 42"]
    assert {one.task.purpose for one in read(world, records.Outcome, records.Intent)} == {None}


def test_ac_64_the_digest_of_a_request_is_that_of_nothing_else(open_world: Callable[..., Any]) -> None:
    """The record has the digest of the request that the person saw, which no arguments and no other request have."""
    shown: list[ApprovalRequest] = []

    def ask(request: ApprovalRequest) -> Any:
        shown.append(request)
        return request.approve(by=BOB)

    world = open_world(policy=ROUTED, routes={"desk": Approval(ask=ask)})
    body = world.tool()
    with world.task(Scope("tool")):
        body(1)
        members = {name: value for name, value in shown[0].to_dict().items() if name != "digest"}
        body("approval request", request=members)
        body(members)
    asked = [one.approval.request for one in read(world, records.Approval)]
    assert asked == [request.digest for request in shown for _ in ("pending", "approved")]
    assert len(set(asked)) == 3
    assert not set(asked) & {one.action.args for one in read(world, records.Intent, records.Outcome)}


def test_a_request_that_was_altered_is_not_recorded_as_the_one_that_was_made(open_world: Callable[..., Any]) -> None:
    """An answer to other arguments is refused, and no record says that it was approved."""

    def ask(request: ApprovalRequest) -> Any:
        other = ApprovalRequest.from_dict({**request.to_dict(), "purpose": "another"})
        return other.approve(by=BOB)

    world = open_world(policy=ROUTED, routes={"desk": Approval(ask=ask)})
    with world.task(Scope("tool")), pytest.raises(Denied) as caught:
        world.tool()(1)
    assert caught.value.code == "approval_altered"
    assert [one.approval.status for one in read(world, records.Approval)] == ["pending"]


def test_only_stated_labels_are_on_record(open_world: Callable[..., Any]) -> None:
    """Labels of code and policy file stand in the intent, whatever wraps the tool; claims of strangers stand apart."""
    world = open_world(policy=RuleSet(tools={"to*": {"labels": ["operator"]}}))
    made = StructuredTool.from_function(lambda x: x, name="tool", description="runs", tags=["stranger"])
    protect(made, world.enforcer, labels=["code"])
    guard = world.enforcer.guard("other", claims=Claims(("stranger",), ("stranger",)))
    with world.task(Scope("tool") | Scope("other")):
        world.tool(labels=["code"])(1)
        made.invoke({"x": 1})
        guard.run(CallRequest({}), lambda _: None)
    assert [one.action.labels for one in read(world, records.Intent)] == [
        ("code", "operator"),
        ("code", "operator"),
        None,
    ]
    assert [one.action.claims for one in read(world, records.Intent)] == [None, ("stranger",), ("stranger",)]
    assert not any("stranger" in (one.action.labels or ()) for one in read(world, records.Outcome))


def test_a_refused_opening_names_who_it_was_for(open_world: Callable[..., Any]) -> None:
    """The record of a task that a body was not to open names the principal as refused, not as a party."""
    world = open_world()

    @world.enforcer.tool(name="tool")
    def body() -> None:
        with world.enforcer.task("for bob", principal=BOB, agent=HELPER, scope=Scope("tool")):
            world.ran.append("opened")

    with world.task(Scope("tool")) as task, pytest.raises(Denied) as caught:
        body()
    (record,) = [one for one in read(world, records.Outcome) if one.error == "task_in_body" and one.action.stage]
    assert record.id == caught.value.reference
    assert (record.action.stage, record.action.principal.id) == ("open", "bob@example.com")
    assert (record.principal.id, record.task.id) == ("alice@example.com", task.id)
    assert world.ran == []


@pytest.mark.parametrize("way", ["plain", "no_task", "thread"])
def test_no_way_out_of_a_body_hides_the_outer_task(open_world: Callable[..., Any], way: str) -> None:
    """Whoever is listed gets a task of their own, and its records name the one in whose body it was opened."""
    world = open_world(nested=[BOB])

    def opening() -> None:
        with world.enforcer.task("for bob", principal=BOB, agent=HELPER, scope=Scope("tool")) as inner:
            world.ran.append(inner.id)

    @world.enforcer.tool(name="tool")
    def body() -> None:
        if way == "plain":
            opening()
        elif way == "no_task":
            with world.enforcer.no_task():
                opening()
        else:
            thread = threading.Thread(target=world.enforcer.bind(opening))
            thread.start()
            thread.join()

    with world.task(Scope("tool")) as outer:
        body()
    named = [one for one in read(world, records.Grant, records.TaskStart) if one.task.id == world.ran[0]]
    assert [one.task.outer for one in named] == [outer.id, outer.id]


@dataclass
class Invoice:
    """A dataclass, whose form is an object."""

    number: int


class Hidden(BaseModel):
    """A model that hides something."""

    secret: SecretStr


def test_the_form_of_an_argument_fills_a_name(open_world: Callable[..., Any]) -> None:
    """A value and the text of its form are one resource; objects and what hides something are none."""
    world = open_world()
    body = world.tool(touches=Touch("file", "/{x}", "read"))
    same = [
        (Decimal("1.50"), "1.5"),
        (date(2026, 11, 28), "2026-11-28"),
        (UUID(int=7), str(UUID(int=7))),
        (12, "12"),
    ]
    none = [Invoice(7), Hidden(secret="s3cret"), ["1"], None]
    with world.task(Scope("tool")):
        for value, text in same:
            body(value)
            body(text)
        for value in none:
            body(value)
    found = [one.resources[0].digest for one in read(world, records.Intent)]
    for at in range(0, 8, 2):
        assert found[at] == found[at + 1] is not None
    assert found[8:] == [None] * 4
    assert len(set(found[:8])) == 4


def test_resources_and_clauses_show_no_value(open_world: Callable[..., Any]) -> None:
    """Neither a value that fills a name nor one that a branch of the scope names stands in any record of the call."""
    world = open_world()
    secret = "IBAN-DE89370400440532013000"
    body = world.tool(touches=Touch("file", "/{x}", "read"))
    with world.task(Scope("tool", x=secret)):
        body(secret)
        with pytest.raises(Denied):
            body(f"{secret}-other")
    shown = [one for line in records.read_lines(world.directory) for one in line if one is not None]
    assert any(isinstance(one, Detail) for one in shown)
    assert not any(secret in str(records.as_dict(one)) for one in shown)
    assert read(world, records.Intent)[0].clauses == ("x:exact",)
