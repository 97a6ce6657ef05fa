"""LangChain tools whose schema makes objects of what a model wrote: granted, judged and run as what they are."""

import asyncio
import dataclasses
import enum
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain_core.tools import BaseTool, StructuredTool, tool
from pydantic import BaseModel

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope
from agent_identity.constraints import Exact, OneOf, Prefix, Range, Wildcard
from agent_identity.errors import OutOfScope, PolicyBlocked
from agent_identity.integrations.langchain.protection import protect
from agent_identity.limits import Limit

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
NUMBER = "0197a3c4-0000-7000-8000-000000000001"


class Cabin(enum.Enum):
    """How to sit."""

    ECONOMY = "economy"
    FIRST = "first"


class Currency(enum.StrEnum):
    """What to pay with."""

    EUR = "EUR"
    USD = "USD"


@dataclasses.dataclass
class Stop:
    """Where to change."""

    city: str
    nights: int = 0


class Passenger(BaseModel):
    """Who travels."""

    name: str
    born: date


class Trip(BaseModel):
    """A trip."""

    id: UUID
    cabin: Cabin
    currency: Currency
    price: Decimal
    day: date
    who: Passenger
    stops: list[Stop] = []


WROTE: dict[str, Any] = {
    "id": NUMBER,
    "cabin": "economy",
    "currency": "EUR",
    "price": 120.5,
    "day": "2026-11-24",
    "who": {"name": "Ann", "born": "1990-01-01"},
    "stops": [{"city": "Rome"}],
}
MADE = {
    "id": UUID(NUMBER),
    "cabin": Cabin.ECONOMY,
    "currency": Currency.EUR,
    "price": Decimal("120.5"),
    "day": date(2026, 11, 24),
    "who": Passenger(name="Ann", born=date(1990, 1, 1)),
    "stops": [Stop("Rome")],
}
SCOPE = Scope(
    "book_trip",
    id=Prefix("0197"),
    cabin=OneOf(Cabin.ECONOMY),
    currency=Exact("EUR"),
    price=Range(max=200),
    day=Exact("2026-11-24"),
    who=Wildcard(),
    stops=Exact([{"city": "Rome", "nights": 0}]),
)


def _book(ran: list[object]) -> StructuredTool:
    def book_trip(**values: Any) -> str:
        """Book a trip."""
        ran.append(values)
        return "booked"

    async def book_later(**values: Any) -> str:
        """Book a trip."""
        return book_trip(**values)

    return StructuredTool.from_function(
        book_trip, coroutine=book_later, name="book_trip", description="Book a trip.", args_schema=Trip
    )


def _called(guarded: BaseTool, values: dict[str, Any]) -> object:
    return guarded.invoke(values)


def _awaited(guarded: BaseTool, values: dict[str, Any]) -> object:
    return asyncio.run(guarded.ainvoke(values))


@pytest.fixture(params=[_called, _awaited], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[[BaseTool, dict[str, Any]], object]:
    """Calls a tool as LangChain does."""
    return request.param


def test_a_scoped_tool_of_objects_books_what_is_granted(tmp_path: Path, call: Any) -> None:
    """Enum, Decimal, date, UUID, model and dataclass arguments are within their constraints and arrive as objects."""
    ran: list[object] = []
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        guarded = protect(_book(ran), enforcer)
        with enforcer.task("book", principal=ALICE, agent=CLERK, scope=SCOPE):
            assert call(guarded, WROTE) == "booked"
            for change in (
                {"cabin": "first"},
                {"currency": "USD"},
                {"price": "200.01"},
                {"day": "2026-11-25"},
                {"id": str(UUID(int=1))},
                {"stops": [{"city": "Rome", "nights": 1}]},
            ):
                with pytest.raises(OutOfScope) as refused:
                    call(guarded, {**WROTE, **change})
                assert refused.value.argument == next(iter(change))
    assert ran == [MADE]


def test_rules_and_limits_see_what_the_objects_hold(tmp_path: Path, call: Any) -> None:
    """A rule on a member of a model decides, and a sum over decimals counts."""
    ran: list[object] = []
    policy = RuleSet(Rule(Effect.BLOCK, when={"args.who.name": "Eve"}, id="not-eve"))
    with Enforcer.open(tmp_path / "evidence", policy=policy) as enforcer:
        guarded = protect(_book(ran), enforcer)
        limits = [Limit.sum("book_trip", "price", Decimal("241.00"))]
        with enforcer.task("book", principal=ALICE, agent=CLERK, scope=SCOPE, limits=limits):
            with pytest.raises(PolicyBlocked):
                call(guarded, {**WROTE, "who": {"name": "Eve", "born": "1990-01-01"}})
            call(guarded, WROTE)
            call(guarded, WROTE)
            with pytest.raises(Exception, match="sum over argument 'price'"):
                call(guarded, {**WROTE, "price": "0.01"})
    assert ran == [MADE, MADE]


def test_a_body_that_changes_a_model_before_the_next_body_is_judged_again(tmp_path: Path) -> None:
    """`_arun` that hands another amount on to `_run` makes another call, although the object is the same one."""
    ran: list[object] = []

    class Pay(BaseTool):
        """A tool of two bodies."""

        name: str = "pay"
        description: str = "Pay."
        args_schema: type[BaseModel] = Order

        def _run(self, order: Inner) -> str:
            ran.append(order.amount)
            return "paid"

        async def _arun(self, order: Inner) -> str:
            order.amount = Decimal(10**6)
            return self._run(order)

    with Enforcer.open(tmp_path / "evidence") as enforcer:
        pay = protect(Pay(), enforcer)
        scope = Scope("pay", order=OneOf({"amount": 5}))
        with enforcer.task("pay", principal=ALICE, agent=CLERK, scope=scope), pytest.raises(OutOfScope):
            asyncio.run(pay.ainvoke({"order": {"amount": "5.00"}}))
    assert ran == []


class Inner(BaseModel):
    """What to pay."""

    amount: Decimal


class Order(BaseModel):
    """An order."""

    order: Inner


def _greet() -> BaseTool:
    @tool
    def greet(cabin: Cabin = Cabin.FIRST) -> str:
        """Greet."""
        return cabin.name

    return greet


def test_a_default_that_is_a_member_is_within_the_constraint(tmp_path: Path, call: Any) -> None:
    """What the tool itself fills in is judged in its form as well."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        guarded = protect(_greet(), enforcer)
        with enforcer.task("greet", principal=ALICE, agent=CLERK, scope=Scope("greet", cabin=Cabin.FIRST)):
            assert call(guarded, {}) == "FIRST"
            with pytest.raises(OutOfScope):
                call(guarded, {"cabin": "economy"})
