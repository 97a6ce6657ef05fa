"""An invoice clerk in CrewAI, with a scripted model: one payment goes out, one is refused, evidence remains.

Run: CREWAI_DISABLE_TELEMETRY=true python examples/crewai_invoice.py [DIRECTORY]
"""

import json
import subprocess
import sys

from crewai import Agent, Crew, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools import tool

import agent_identity as ai
from agent_identity.constraints import Range
from agent_identity.integrations.frameworks.crewai import protect

Step = str | tuple[str, dict[str, object]]


class Scripted(BaseLLM):
    """Stands in for a model, so that the example runs without one."""

    script: list[Step]

    def supports_function_calling(self) -> bool:
        """Return that calls are native."""
        return True

    def call(self, *args: object, **kwargs: object) -> object:
        """Return the next step of the script."""
        step = self.script.pop(0)
        if isinstance(step, str):
            return step
        return [{"id": "c", "type": "function", "function": {"name": step[0], "arguments": json.dumps(step[1])}}]


def scripted(*script: Step) -> Scripted:
    """Return a model with a script."""
    return Scripted(model="scripted", script=list(script))


@tool
def read_invoice(invoice_id: str) -> str:
    """Read an invoice."""
    return f"{invoice_id}: EUR 120 to Acme"


@tool
def pay_invoice(invoice_id: str, amount: int) -> str:
    """Pay an invoice."""
    return f"paid EUR {amount} for {invoice_id}"


@tool
def look_up(company: str) -> str:
    """Look up a company."""
    return f"{company} has existed since 1969"


def main(directory: str) -> None:
    """Run the story, then verify the evidence and show it."""
    alice = ai.Human("alice@example.com")
    clerk = ai.Agent("invoice-clerk", owner="finance-ops@example.com")
    researcher = ai.Agent("researcher", owner="finance-ops@example.com")
    scope = ai.Scope(
        {
            "read_invoice": {"invoice_id": "INV-42"},
            "pay_invoice": {"invoice_id": "INV-42", "amount": Range(min=0, max=500)},
            "ask_question_to_coworker": None,
            "look_up": None,
        }
    )
    question = {"question": "Is Acme well known?", "context": "an invoice", "coworker": "researcher"}
    worker = Agent(
        role="invoice-clerk",
        goal="pay what is due",
        backstory="works in finance",
        llm=scripted(
            ("read_invoice", {"invoice_id": "INV-42"}),
            ("ask_question_to_coworker", question),
            ("pay_invoice", {"invoice_id": "INV-42", "amount": 120}),
            ("pay_invoice", {"invoice_id": "INV-42", "amount": 9000}),
            "I paid EUR 120; EUR 9000 was refused.",
        ),
        tools=[read_invoice, pay_invoice],
        allow_delegation=True,
    )
    helper = Agent(
        role="researcher",
        goal="find out",
        backstory="reads a lot",
        llm=scripted(("look_up", {"company": "Acme"}), "Acme is well known."),
        tools=[look_up],
    )
    job = Task(description="Pay INV-42", expected_output="what was paid", agent=worker)
    crew = Crew(agents=[worker, helper], tasks=[job])
    with ai.Enforcer.open(directory) as enforcer:
        protect(crew, enforcer, agents={"researcher": researcher})
        with enforcer.task("pay INV-42", principal=alice, agent=clerk, scope=scope):
            print(crew.kickoff())
    for command in ("verify", "show"):
        subprocess.run([sys.executable, "-m", "agent_identity", command, directory], check=True)  # noqa: S603  Our own.


if __name__ == "__main__":
    main(*sys.argv[1:] or ["evidence"])
