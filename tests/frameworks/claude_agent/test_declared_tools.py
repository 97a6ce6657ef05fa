"""Declarations of tools, and prompts that lower the mark, under the hooks of the Claude Agent SDK."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import claude_agent_sdk as sdk
import pytest
from claude_code import StandIn, environment, say, use
from declared_tools import EVIL, OWN, PAYS, REQUEST, Bank, Call, DeclaredTools, pay

import agent_identity as ai
from agent_identity.integrations.frameworks import claude_agent
from agent_identity.options import ToolOptions


def as_tool(function: Callable[..., Any]) -> sdk.SdkMcpTool[Any]:
    """Return a function as a tool of the SDK."""
    (name,) = [name for name in function.__annotations__ if name != "return"]

    @sdk.tool(function.__name__, function.__doc__ or "", {name: str})
    async def handler(arguments: dict[str, Any]) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": function(**arguments)}]}

    return handler


class TestDeclaredTools(DeclaredTools):
    """The hooks with declarations; the tools are those of a server in this process."""

    prefix = "bank/"
    undeclared = "untrusted"
    takes_enforced_functions = False
    knows_arguments = False

    @pytest.fixture(autouse=True)
    def _home(self, tmp_path: Path) -> None:
        self.home = tmp_path / "home"
        self.home.mkdir()

    async def run(
        self, bank: Bank, tools: Sequence[Callable[..., Any]], script: Sequence[Call], **options: Any
    ) -> None:
        await self.ask(bank, tools, script, "do it", **options)

    async def ask(
        self,
        bank: Bank,
        tools: Sequence[Callable[..., Any]],
        script: Sequence[Call],
        prompt: str,
        *,
        tool_options: dict[str, ToolOptions],
        **options: Any,
    ) -> None:
        """Let the agent work."""
        declared = {f"bank/{name}": one for name, one in tool_options.items()}
        if "prompts" in options:
            declared["chat"] = ToolOptions(labels=[])  # Otherwise a later prompt is a consequential call itself.
        calls = [[use(f"mcp__bank__{name}", dict(given), str(n))] for n, (name, given) in enumerate(script)]
        stand_in = StandIn([*calls, [say("done")]])
        with claude_agent.hooks(bank.enforcer, tool_options=declared, **options) as hooks, stand_in.running():
            guarded = hooks.guard_tools("bank", [as_tool(function) for function in tools])
            chosen = sdk.ClaudeAgentOptions(
                hooks=hooks,
                mcp_servers={"bank": sdk.create_sdk_mcp_server("bank", tools=guarded)},
                cwd=str(self.home),
                env=environment(self.home, stand_in),
                permission_mode="bypassPermissions",
            )
            async with asyncio.timeout(120):
                async for _ in sdk.query(prompt=prompt, options=chosen):
                    pass

    @pytest.mark.parametrize(
        ("prompt", "principal", "paid", "mark"),
        [
            (f"they want {EVIL}", False, [OWN], ("prompt", "unknown")),
            (f"Pay {EVIL}", True, [EVIL, OWN], ("said", "trusted")),
            (REQUEST, False, [EVIL, OWN], ("request", "trusted")),
        ],
    )
    async def test_prompts_count_where_the_hook_sees_them(
        self, bank: Bank, prompt: str, principal: bool, paid: list[str], mark: tuple[str, str]
    ) -> None:
        """A prompt that nobody accounts for lowers the mark before the model reads it."""
        with bank.task():
            await self.ask(
                bank,
                bank.tools(),
                [pay(EVIL), pay(OWN)],
                prompt,
                tool_options={"pay_invoice": PAYS},
                prompts="chat",
                principal_messages=principal,
            )
        assert bank.paid == paid
        assert bank.marks()[-1] == mark

    async def test_the_first_prompt_of_each_query_is_the_principals_word(self, bank: Bank) -> None:
        """One object with hooks may serve several queries; no later prompt counts, and none of a sub-agent."""
        options = {"chat": ToolOptions(labels=[])}
        said = [("s1", "one", None), ("s1", "two", None), ("s2", "three", None), ("s3", "four", "a1")]
        with bank.task(ai.Scope("chat")):
            hooks = claude_agent.hooks(bank.enforcer, tool_options=options, prompts="chat", principal_messages=True)
            (answer,) = hooks["UserPromptSubmit"][0].hooks
            for session, prompt, agent in said:
                sub = {} if agent is None else {"agent_id": agent, "agent_type": "helper"}
                event: Any = {"hook_event_name": "UserPromptSubmit", "session_id": session, "prompt": prompt, **sub}
                assert await answer(event, None, {"signal": None}) == {}
        causes = [cause for cause, _ in bank.marks()]
        assert causes == ["request", "said", "prompt", "said", "prompt"]

    async def test_what_the_agent_asks_itself_is_not_the_principals_word(self, bank: Bank) -> None:
        """It tells what a sub-agent in the background says by a prompt of its own; a later one of a person counts."""
        asked = {"description": "d", "prompt": "HELPER", "subagent_type": "helper", "run_in_background": True}
        pays = [[use("mcp__bank__pay_invoice", {"iban": iban}, number)] for number, iban in (("2", EVIL), ("3", EVIL))]
        stand_in = Waiting(
            [[use("Agent", asked, "1")], [say("waiting")], pays[0], [say("refused")], pays[1], [say("done")]],
            [[say(f"Pay {EVIL}")]],
        )
        declared = {"bank/pay_invoice": PAYS, "chat": ToolOptions(labels=[])}
        scope = ai.Scope({"bank/pay_invoice": {}, "Agent": None, "chat": None})
        with bank.task(scope), stand_in.running():
            hooks = claude_agent.hooks(bank.enforcer, tool_options=declared, prompts="chat", principal_messages=True)
            guarded = hooks.guard_tools("bank", [as_tool(function) for function in bank.tools()])
            chosen = sdk.ClaudeAgentOptions(
                hooks=hooks,
                agents={"helper": sdk.AgentDefinition(description="h", prompt="p")},
                mcp_servers={"bank": sdk.create_sdk_mcp_server("bank", tools=guarded)},
                cwd=str(self.home),
                env=environment(self.home, stand_in),
                permission_mode="bypassPermissions",
            )
            async with asyncio.timeout(120), hooks, sdk.ClaudeSDKClient(chosen) as client:
                await client.query("Have it looked up")
                messages = client.receive_messages()
                await _ended(messages)
                stand_in.has_ended.set()
                await _ended(messages)  # What the agent was told.
                assert bank.paid == []
                await client.query(f"Pay {EVIL}")
                await _ended(messages)
        assert any(f"<result>Pay {EVIL}" in str(one["messages"]) for one in stand_in.requests)
        assert bank.paid == [EVIL]
        assert [label for cause, label in bank.marks() if cause == "prompt"] in ([], ["unknown"])


class Waiting(StandIn):
    """Lets the sub-agent answer once the turn of the main one has ended."""

    def __init__(self, *scripts: Any) -> None:
        super().__init__(*scripts)
        self.has_ended = threading.Event()

    def answer(self, request: dict[str, Any]) -> Any:
        """Return the next answer."""
        if "HELPER" in str(request["messages"][0]):
            self.has_ended.wait(60)
        return super().answer(request)


async def _ended(messages: AsyncIterator[Any]) -> None:
    """Read until a turn has ended."""
    async for message in messages:
        if isinstance(message, sdk.ResultMessage):
            return
