"""Tools of crews under guard: what runs, what is refused, and what the agent hears of it."""

from typing import Any

import pytest
from crewai_doubles import ALICE, CLERK, HELPER, WHO, answers, crew_of, member, outcomes, scripted, task, verified

from crewai.tools import BaseTool, tool

from agent_identity import Scope
from agent_identity.constraints import OneOf, Range
from agent_identity.integrations.frameworks.crewai import instrument, protect
from agent_identity.testing import Rehearse

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


def read_tool() -> Any:
    """Return a fresh tool of a function."""

    @tool("read")
    def read(invoice: str) -> str:
        """Read an invoice."""
        ran.append(invoice)
        return f"{invoice} is open"

    return read


class Pay(BaseTool):
    """A tool of a class, with a default."""

    name: str = "pay"
    description: str = "Pay an invoice."

    def _run(self, invoice: str, amount: int = 10) -> str:
        ran.append((invoice, amount))
        return f"paid {invoice} {amount}"


SCOPE = Scope({"read": {"invoice": "INV-42"}, "pay": {"invoice": "INV-42", "amount": Range(max=500)}})


@pytest.mark.parametrize("native", [True, False])
def test_an_allowed_and_a_denied_call_and_the_run_goes_on(rehearse: Rehearse, native: bool) -> None:
    """In native and in text mode each call is one record, and a refusal is an answer for the model."""
    world = rehearse()
    llm = scripted(
        [("read", {"invoice": "INV-42"})],
        [("pay", {"invoice": "INV-42", "amount": 120})],
        [("pay", {"invoice": "INV-42", "amount": 9000})],
        "all done",
        native=native,
    )
    crew = protect(crew_of(member(llm, [read_tool(), Pay()])), world.enforcer)
    with task(world, scope=SCOPE):
        assert str(crew.kickoff()) == "all done"
    assert ran == ["INV-42", ("INV-42", 120)]
    heard = answers(llm)
    assert "INV-42 is open" in heard[0]
    assert "refused: argument_out_of_scope (reference " in heard[-1]
    assert outcomes(world) == ["success", "success", "denied"]
    world.records.assert_attributed(principal="alice@example.com", agent=CLERK, count=2)
    verified(world)
