"""The invoice story in the Google ADK: an agent pays, is refused, and asks a sub-agent.

Only the model is scripted, so that the run needs no network and no key.

    pip install '.[google-adk]'
    python examples/google_adk_invoice.py
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.adk.tools import AgentTool
from google.genai import types

import agent_identity as ai
from agent_identity.constraints import Range
from agent_identity.integrations.frameworks.google_adk import AgentIdentityPlugin

ALICE = ai.Human("alice@example.com")
CLERK = ai.Agent("invoice-clerk", owner="finance-ops@example.com")
RESEARCHER = ai.Agent("researcher", owner="finance-ops@example.com")
SCOPE = (
    ai.Scope("read_invoice", invoice_id="INV-42")
    | ai.Scope("pay_invoice", invoice_id="INV-42", amount=Range(min=0, max=500))
    | ai.Scope({"researcher": {}, "look_up": {}})
)


class Script(BaseLlm):
    """A model that plays its script, one part after the other."""

    model: str = "scripted"
    parts: Iterator[Any]

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: FBT001, FBT002  As in the base class.
    ) -> AsyncGenerator[LlmResponse]:
        """Answer with the next part."""
        yield LlmResponse(content=types.Content(role="model", parts=[next(self.parts)]))


def script(*steps: types.Part | str) -> Script:
    """Return a model with a script."""
    return Script(parts=iter([types.Part(text=step) if isinstance(step, str) else step for step in steps]))


def call(name: str, **arguments: object) -> types.Part:
    """Return a call of a tool."""
    return types.Part(function_call=types.FunctionCall(name=name, args=arguments))


def read_invoice(invoice_id: str) -> str:
    """Read one invoice."""
    return f"{invoice_id}: EUR 120"


def pay_invoice(invoice_id: str, amount: float) -> str:
    """Pay one invoice."""
    return f"paid {amount} for {invoice_id}"


def look_up(vendor: str) -> str:
    """Look up a vendor."""
    return f"{vendor} has been a vendor since 2019"


def build() -> LlmAgent:
    """Return the clerk, who has a researcher."""
    researcher = LlmAgent(
        name="researcher", model=script(call("look_up", vendor="Acme"), "since 2019"), tools=[look_up]
    )
    steps = (
        call("read_invoice", invoice_id="INV-42"),
        call("pay_invoice", invoice_id="INV-42", amount=120),
        call("pay_invoice", invoice_id="INV-42", amount=9_000),
        call("researcher", request="Who is Acme?"),
        "Paid 120; 9,000 was refused.",
    )
    return LlmAgent(name="clerk", model=script(*steps), tools=[read_invoice, pay_invoice, AgentTool(researcher)])


async def main() -> None:
    """Run the story, and print what the tools and the agent said."""
    with ai.Enforcer.open("evidence") as enforcer:
        plugin = AgentIdentityPlugin(enforcer, agents={"clerk": CLERK, "researcher": RESEARCHER})
        runner = InMemoryRunner(app=App(name="invoices", root_agent=build(), plugins=[plugin]))
        session = await runner.session_service.create_session(app_name="invoices", user_id="alice")
        message = types.UserContent("Pay invoice 42")
        with enforcer.task("pay INV-42", principal=ALICE, agent=CLERK, scope=SCOPE):
            run = runner.run_async(user_id="alice", session_id=session.id, new_message=message)
            async for event in run:
                for part in event.content.parts if event.content else ():
                    if part.function_response:
                        print(part.function_response.name, part.function_response.response)
                    elif part.text:
                        print(part.text)


if __name__ == "__main__":
    asyncio.run(main())
    for words in (["verify", "evidence"], ["show", "evidence"]):
        subprocess.run([sys.executable, "-m", "agent_identity", *words], check=True)  # noqa: S603
