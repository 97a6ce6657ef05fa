"""The invoice story in Microsoft Agent Framework: an agent pays, is refused, and asks a sub-agent.

Only the chat client is scripted, so that the run needs no network and no key.

    pip install '.[agent-framework]'
    python examples/agent_framework_invoice.py
"""

import asyncio
import itertools
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
    tool,
)

import agent_identity as ai
from agent_identity.constraints import Range
from agent_identity.integrations.frameworks.agent_framework import AgentIdentityMiddleware

ALICE = ai.Human("alice@example.com")
CLERK = ai.Agent("invoice-clerk", owner="finance-ops@example.com")
RESEARCHER = ai.Agent("researcher", owner="finance-ops@example.com")
SCOPE = (
    ai.Scope("read_invoice", invoice_id="INV-42")
    | ai.Scope("pay_invoice", invoice_id="INV-42", amount=Range(min=0, max=500))
    | ai.Scope({"researcher": {}, "look_up": {}})
)
NUMBERS = itertools.count(1)


class Script(FunctionInvocationLayer[Any], ChatMiddlewareLayer[Any], BaseChatClient[Any]):
    """A chat client that plays its script, one content after the other."""

    def __init__(self, *steps: Content | str) -> None:
        super().__init__()
        self.steps = iter(Content.from_text(step) if isinstance(step, str) else step for step in steps)

    def _inner_get_response(self, *, stream: bool = False, **_: object) -> Any:
        content = next(self.steps)

        async def response() -> ChatResponse:
            return ChatResponse(messages=[Message("assistant", [content])])

        async def updates() -> AsyncGenerator[ChatResponseUpdate]:
            yield ChatResponseUpdate(contents=[content], role="assistant")

        return ResponseStream(updates(), finalizer=ChatResponse.from_updates) if stream else response()


def call(name: str, **arguments: object) -> Content:
    """Return a call of a tool."""
    return Content.from_function_call(f"call-{next(NUMBERS)}", name, arguments=arguments)


@tool(approval_mode="never_require")
def read_invoice(invoice_id: str) -> str:
    """Read one invoice."""
    return f"{invoice_id}: EUR 120"


@tool(approval_mode="never_require")
def pay_invoice(invoice_id: str, amount: float) -> str:
    """Pay one invoice."""
    return f"paid {amount} for {invoice_id}"


@tool(approval_mode="never_require")
def look_up(vendor: str) -> str:
    """Look up a vendor."""
    return f"{vendor} has been a vendor since 2019"


def build(guard: AgentIdentityMiddleware) -> Agent:
    """Return the clerk, who has a researcher."""
    researcher = Agent(
        client=Script(call("look_up", vendor="Acme"), "since 2019"),
        name="researcher",
        tools=[look_up],
        middleware=[guard],
    )
    steps = (
        call("read_invoice", invoice_id="INV-42"),
        call("pay_invoice", invoice_id="INV-42", amount=120),
        call("pay_invoice", invoice_id="INV-42", amount=9_000),
        call("researcher", task="Who is Acme?"),
        "Paid 120; 9,000 was refused.",
    )
    tools = [read_invoice, pay_invoice, researcher.as_tool(name="researcher")]
    return Agent(client=Script(*steps), name="clerk", tools=tools, middleware=[guard])


async def main() -> None:
    """Run the story, and print what the tools and the agent said."""
    with ai.Enforcer.open("evidence") as enforcer:
        agent = build(AgentIdentityMiddleware(enforcer, agents={"clerk": CLERK, "researcher": RESEARCHER}))
        with enforcer.task("pay INV-42", principal=ALICE, agent=CLERK, scope=SCOPE):
            response = await agent.run("Pay invoice 42")
        for message in response.messages:
            for content in message.contents:
                if content.type == "function_result":
                    print(content.result)
        print(response.text)


if __name__ == "__main__":
    asyncio.run(main())
    for words in (["verify", "evidence"], ["show", "evidence"]):
        subprocess.run([sys.executable, "-m", "agent_identity", *words], check=True)  # noqa: S603
