"""Declarations of tools under ``protect`` of LlamaIndex."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from declared_tools import EVIL, PAYS, READ, READS, Bank, Call, DeclaredTools, pay
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM

from agent_identity.errors import ConfigurationError
from agent_identity.integrations.frameworks.llama_index import protect
from agent_identity.options import ToolOptions


class TestDeclaredTools(DeclaredTools):
    """``protect`` with declarations."""

    async def run(
        self, bank: Bank, tools: Sequence[Callable[..., Any]], script: Sequence[Call], **options: Any
    ) -> None:
        calls = list(script)

        def answer(messages: Sequence[ChatMessage], **_: Any) -> ChatMessage:
            if not calls:
                return ChatMessage(role=MessageRole.ASSISTANT, content="done")
            name, arguments = calls.pop(0)
            block = ToolCallBlock(tool_call_id=f"c{len(calls)}", tool_name=name, tool_kwargs=dict(arguments))
            return ChatMessage(role=MessageRole.ASSISTANT, blocks=[block])

        model = MockFunctionCallingLLM(response_generator=answer)
        await FunctionAgent(tools=protect(tools, bank.enforcer, **options), llm=model).run("go")

    def test_a_misspelled_argument_is_an_error_at_once(self, bank: Bank) -> None:
        """A destination that is no parameter would judge nothing."""
        wrong = ToolOptions(labels=["payment"], destination=["iban", "cc"])
        with pytest.raises(ConfigurationError, match="'cc'"):
            protect(bank.tools(), bank.enforcer, tool_options={"pay_invoice": wrong})
        protect(bank.tools(), bank.enforcer, tool_options={"pay_invoice": PAYS})

    def test_other_options_for_a_guarded_tool_are_an_error(self, bank: Bank) -> None:
        """A tool keeps its guard, which would ignore them."""
        tools = protect(bank.tools(), bank.enforcer, tool_options={"pay_invoice": PAYS})
        assert protect(tools, bank.enforcer) == tools
        assert protect(tools, bank.enforcer, tool_options={"pay_invoice": replace(PAYS)}) == tools
        with pytest.raises(ConfigurationError, match="pay_invoice"):
            protect(tools, bank.enforcer, tool_options={"pay_invoice": READS})
        with pytest.raises(ConfigurationError, match="read_invoice"):
            protect(tools, bank.enforcer, tool_options={"read_invoice": READS})

    async def test_a_tool_of_a_server_without_a_name_is_no_tool_here(self, bank: Bank) -> None:
        """A server that offers a tool of a declared name gets nothing of what is declared."""
        tools = bank.tools()
        tools[0].__module__ = "llama_index.tools.mcp.base"  # There LlamaIndex makes the functions of such tools.
        with bank.task():
            options = {"read_invoice": READS, "pay_invoice": PAYS}
            await self.run(bank, tools, [READ, pay(EVIL)], tool_options=options)
        assert bank.paid == []
        assert bank.marks()[-1] == ("result", "untrusted")
