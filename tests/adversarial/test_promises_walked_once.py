"""A large argument costs what it is large, not that times the number of rules."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from agent_identity import Effect, Request, Rule, RuleSet, Scope
from agent_identity._constraints import values
from agent_identity.constraints import AnyOf, Contains, Exact, NotOneOf, OneOf, Subset, Wildcard
from agent_identity.errors import PolicyBlocked
from agent_identity.policy import Tool

LIST = [f"{'x' * 60}{number}" for number in range(3_000)]
"""198 KB of text."""

NESTED = {"rows": [{"name": text, "number": number} for number, text in enumerate(LIST)]}


def steps(work: Callable[[], object]) -> int:
    """Return how many functions run where values are walked, which is a few for each part of a container."""
    count = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename == values.__file__

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


ASKED: dict[str, tuple[object, Callable[[int], dict[str, object]]]] = {
    "contains": (LIST, lambda number: {"args.x": Contains(f"n{number}")}),
    "subset": (LIST, lambda number: {"args.x": Subset(f"n{number}")}),
    "exact": (LIST, lambda number: {"args.x": Exact([number])}),
    "one_of": (LIST, lambda number: {"args.x": OneOf([number], ["a"])}),
    "any": (LIST, lambda number: {"args.x": AnyOf(Exact([number]), OneOf([number], number))}),
    "wildcard": (NESTED, lambda _: {"args.x": Wildcard()}),
    "not_one_of": (LIST, lambda number: {"args.x": NotOneOf([number])}),
    "member": (NESTED, lambda number: {"args.x.rows": Contains({"name": str(number)})}),
    "too large": ([LIST] * 9, lambda number: {"args.x": Exact([number])}),
}


@pytest.mark.parametrize(("value", "when"), ASKED.values(), ids=ASKED)
def test_an_argument_is_walked_once_for_each_request(value: object, when: Callable[[int], dict[str, object]]) -> None:
    """Four hundred rules about one large argument walk it no more often than one rule does."""
    request = Request(Tool("tool"), {"x": value})
    policies = [
        RuleSet(*(Rule(Effect.WARN, when=when(number), id=f"r{number}") for number in range(count)))
        for count in (1, 400)
    ]
    for policy in policies:
        policy.decide(request._replace(arguments={}))  # What is prepared once for each tool.
    once, often = (steps(lambda policy=policy: policy.decide(request)) for policy in policies)
    assert once > 3_000
    assert often < once + 400 * 10


def test_a_scope_walks_an_argument_once() -> None:
    """Sixty-four alternatives of one constraint walk the argument no more often than one does."""
    scopes = [Scope("tool", x=AnyOf(*map(Exact, range(count)), Contains(LIST[-1]))) for count in (1, 63)]
    once, often = (steps(lambda scope=scope: scope.check("tool", {"x": LIST}, ["x"])) for scope in scopes)
    assert once > 3_000
    assert often < once + 64 * 10


def test_a_rule_that_asks_for_nothing_large_walks_nothing() -> None:
    """What no rule looks at is not walked at all."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"args.y": 5}, id="r"))
    request = Request(Tool("tool"), {"x": LIST, "y": 4})
    assert steps(lambda: policy.decide(request)) < 10


def test_each_request_is_walked_anew(open_world: Any) -> None:
    """Nothing is remembered from one call to the next: the same list with another element is another argument."""
    world = open_world(policy=RuleSet(Rule(Effect.BLOCK, when={"args.x": Contains("evil")}, id="r")))
    given = ["good"]
    with world.task(Scope("tool")):
        world.tool()(given)
        given.append("evil")
        with world.refused("policy_blocks", PolicyBlocked):
            world.tool()(given)
