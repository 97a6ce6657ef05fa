"""Alternatives of a whole call: one tool on both sides of a union, and the patterns that grant no mixture."""

from typing import Any

import pytest

from agent_identity import Agent, Denied, Scope
from agent_identity.constraints import AnyOf, Exact, OneOf, Range

SMALL = Scope("pay", invoice="INV-1", amount=Range(max=100))
LARGE = Scope("pay", invoice="INV-2", amount=Range(max=5000))
BOTH = Scope("pay", invoice=OneOf("INV-1", "INV-2"), amount=Range(max=5000))
CLERK = Agent("invoice-clerk", owner="finance@example.com")
CALLS = [("INV-1", 100), ("INV-1", 5000), ("INV-2", 5000), ("INV-3", 1)]
MEANT = [("INV-1", 100), ("INV-2", 5000)]


def allowed(pay: Any) -> list[tuple[str, int]]:
    """Return which calls run."""
    ran = []
    for invoice, amount in CALLS:
        try:
            pay(invoice=invoice, amount=amount)
        except Denied:
            continue
        ran.append((invoice, amount))
    return ran


def test_a_tool_on_both_sides_is_refused_without_advice_that_widens() -> None:
    """Constraints joined argument by argument grant calls that neither side grants, so the error names no such way."""
    with pytest.raises(ValueError, match="'pay'") as caught:
        SMALL | LARGE
    assert "AnyOf" not in str(caught.value)
    joined = Scope("pay", invoice=AnyOf(Exact("INV-1"), Exact("INV-2")), amount=AnyOf(Range(max=100), Range(max=5000)))
    mixture = {"invoice": "INV-1", "amount": 5000}
    joined.check("pay", mixture, mixture)
    for scope in (SMALL, LARGE):
        with pytest.raises(Denied):
            scope.check("pay", mixture, mixture)


def test_a_delegation_for_each_alternative_grants_no_mixture(world: Any) -> None:
    """Under a task that covers both, each block grants one alternative and nothing of the other."""
    pay, ran = world.tool("pay"), []
    with world.task(BOTH):
        for scope in (SMALL, LARGE):
            with world.enforcer.delegate(CLERK, scope=scope):
                ran += allowed(pay)
    assert ran == MEANT


def test_a_tool_for_each_alternative_grants_no_mixture(world: Any) -> None:
    """Two names for one body, each with its own constraints, are one scope."""
    small, large = world.tool("pay_small"), world.tool("pay_large")
    scope = Scope("pay_small", **SMALL.tools["pay"]) | Scope("pay_large", **LARGE.tools["pay"])
    with world.task(scope):
        assert allowed(small) + allowed(large) == MEANT
