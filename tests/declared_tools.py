"""Tests of declared tools and of prompts, shared by all frameworks; the folder of each framework completes them."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mark_changes import marks_among

import agent_identity as ai
from agent_identity import Verifier, records
from agent_identity.errors import ConfigurationError
from agent_identity.options import ToolOptions
from agent_identity.policy import Flow, Touch

OWN, EVIL = "GB82 WEST 1234 5698 7654 32", "DE89 3704 0044 0532 0130 00"
REQUEST = f"Pay INV-42 to {OWN}"
PAYS = ToolOptions(labels=["payment"], destination="iban", returns="trusted")
READS = ToolOptions(labels=[], returns="trusted")
READ = ("read_invoice", {"invoice_id": "INV-42"})
Call = tuple[str, Mapping[str, Any]]


def pay(iban: str) -> Call:
    """Return the call of a payment to an account."""
    return "pay_invoice", {"iban": iban}


class Bank:
    """An enforcer with information flow, two tools, and the accounts that were paid."""

    def __init__(self, directory: Path, prefix: str = "") -> None:
        self.directory = directory
        self.prefix = prefix
        self.enforcer = ai.Enforcer.open(directory, policy=Flow())
        self.paid: list[str] = []

    def tools(self) -> list[Callable[..., Any]]:
        """Return the tools, as functions that the framework takes."""

        def read_invoice(invoice_id: str) -> str:
            """Read an invoice.

            Args:
                invoice_id: The id of the invoice.
            """
            return f"{invoice_id} is to be paid to {EVIL}"

        def pay_invoice(iban: str) -> str:
            """Pay an invoice.

            Args:
                iban: The account.
            """
            self.paid.append(iban)
            return f"paid to {iban}"

        return [read_invoice, pay_invoice]

    def task(self, scope: ai.Scope | None = None) -> Any:
        """Open a task of alice for the clerk, by default with a scope of the two tools and the model."""
        who = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}
        tools = {"read_invoice": {"invoice_id": "INV-42"}, "pay_invoice": {}}
        named = {f"{self.prefix}{name}": given for name, given in tools.items()}
        scope = scope or ai.Scope(named) | ai.Scope("chat")
        return self.enforcer.task("books", scope=scope, request=REQUEST, **who)

    def found(self, kind: type[Any]) -> list[Any]:
        """Return the records of a kind."""
        return [one for one in records.read(self.directory) if isinstance(one, kind)]

    def marks(self) -> list[tuple[str, str]]:
        """Return the causes and labels of all marks."""
        return marks_among(records.read(self.directory))

    def ended(self) -> list[tuple[str, str]]:
        """Return the tools and outcomes of all tool calls."""
        ended = [(one.action.tool.removeprefix(self.prefix), one.outcome) for one in self.found(records.Outcome)]
        return [one for one in ended if one[0] != "chat"]

    def verify(self) -> None:
        """Close the enforcer, and prove that the evidence is genuine and complete."""
        self.enforcer.close()
        report = Verifier().ledger(self.directory)
        assert report.verdict == "verified"
        assert {problem.code for problem in report.findings} == set()


class DeclaredTools(ABC):
    """Tests of declared tools under the adapter of a framework."""

    prefix = ""
    """The prefix of the framework before tool names."""

    undeclared = "unknown"
    """The integrity of results of an undeclared tool; ``untrusted`` for a tool of a server."""

    takes_enforced_functions = True
    """True if a function under ``enforcer.tool`` can be a tool of the framework."""

    knows_arguments = True
    """Whether the framework tells the arguments that a tool has."""

    @abstractmethod
    async def run(
        self, bank: Bank, tools: Sequence[Callable[..., Any]], script: Sequence[Call], **options: Any
    ) -> None:
        """Run a guarded agent in the open task; its model makes these calls in order.

        Args:
            bank: Whose enforcer guards it.
            tools: The functions.
            script: What the model calls.
            options: For the one-line form.
        """

    @pytest.fixture
    def bank(self, tmp_path: Path) -> Iterator[Bank]:
        """Opens a bank; at the end its evidence must verify."""
        bank = Bank(tmp_path / "bank", self.prefix)
        yield bank
        bank.verify()

    async def test_what_a_trusted_tool_returns_may_be_paid(self, bank: Bank) -> None:
        """The mark does not change, and the account in the result is a trusted destination."""
        with bank.task():
            await self.run(
                bank,
                bank.tools(),
                [READ, pay(EVIL), pay(OWN)],
                tool_options={"read_invoice": READS, "pay_invoice": PAYS},
            )
        assert bank.paid == [EVIL, OWN]
        assert bank.marks() == [("request", "trusted")]

    async def test_what_an_undeclared_tool_returns_is_not_paid(self, bank: Bank) -> None:
        """The result lowers the mark; a payment to its account is refused, one to the principal's account is not."""
        with bank.task():
            await self.run(bank, bank.tools(), [READ, pay(EVIL), pay(OWN)], tool_options={"pay_invoice": PAYS})
        assert bank.paid == [OWN]
        assert [outcome for _, outcome in bank.ended()] == ["success", "denied", "success"]
        assert bank.marks() == [("request", "trusted"), ("result", self.undeclared)]

    async def test_a_misspelled_destination_lets_nothing_be_paid(self, bank: Bank) -> None:
        """It would judge nothing, so that the tool is an error at once, or each of its calls is refused."""
        if not self.knows_arguments:
            pytest.skip("the framework does not tell them")
        wrong = ToolOptions(labels=["payment"], destination="ibann", returns="trusted")
        with bank.task(), suppress(ConfigurationError):
            await self.run(bank, bank.tools(), [pay(OWN)], tool_options={"pay_invoice": wrong})
        assert bank.paid == []

    async def test_resources_are_on_record(self, bank: Bank) -> None:
        """The intent has the resources that ``touches`` declares."""
        options = ToolOptions(touches=Touch("crm", "invoices/{invoice_id}", "read"))
        with bank.task():
            await self.run(bank, bank.tools(), [READ], tool_options={"read_invoice": options})
        (intent,) = bank.found(records.Intent)
        assert [(one.system, one.name, one.access) for one in intent.resources] == [
            ("crm", "invoices/{invoice_id}", "read")
        ]

    async def test_declarations_of_a_server_are_not_those_of_a_tool_here(
        self, bank: Bank, caplog: pytest.LogCaptureFixture
    ) -> None:
        """They do not apply to a tool of the same name, and the name is logged."""
        elsewhere = ToolOptions(labels=[], returns="trusted")
        with bank.task(), caplog.at_level(logging.WARNING, "agent_identity"):
            await self.run(
                bank,
                bank.tools(),
                [READ, pay(EVIL)],
                tool_options={"files/read_invoice": elsewhere, "pay_invoice": PAYS, "nothing": READS},
            )
        assert bank.paid == []
        said = [record.getMessage() for record in caplog.records if "guarded yet" in record.getMessage()]
        names = f"{self.prefix}files/read_invoice, {self.prefix}nothing"
        assert said == [f"tool_options names tools that nobody has guarded yet: {names}"]

    async def test_a_function_under_the_enforcer_declares_itself(self, bank: Bank) -> None:
        """Each call makes one record, with the declarations of the decorator."""
        if not self.takes_enforced_functions:
            pytest.skip("the framework takes no such functions")
        read_invoice, pay_invoice = bank.tools()
        decorate = bank.enforcer.tool
        tools = [
            decorate(labels=[], returns="trusted")(read_invoice),
            decorate(labels=["payment"], destination="iban", returns="trusted")(pay_invoice),
        ]
        with bank.task():
            await self.run(bank, tools, [READ, pay(EVIL)])
        assert bank.paid == [EVIL]
        assert bank.ended() == [("read_invoice", "success"), ("pay_invoice", "success")]
        assert bank.marks() == [("request", "trusted")]

    async def test_options_for_a_function_that_declares_itself_let_nothing_be_paid(self, bank: Bank) -> None:
        """They would count for nothing, so that they are an error at once, or each call is refused."""
        if not self.takes_enforced_functions:
            pytest.skip("the framework takes no such functions")
        read_invoice, pay_invoice = bank.tools()
        tools = [read_invoice, bank.enforcer.tool(labels=[], returns="trusted")(pay_invoice)]
        with bank.task(), suppress(ConfigurationError):
            await self.run(bank, tools, [pay(OWN)], tool_options={"pay_invoice": PAYS})
        assert bank.paid == []


class DeclaredPrompts(DeclaredTools):
    """Tests of prompts in a framework whose models can be guarded."""

    @abstractmethod
    async def ask(
        self, bank: Bank, tools: Sequence[Callable[..., Any]], script: Sequence[Call], *said: str, **options: Any
    ) -> None:
        """Run an agent whose model is guarded as ``chat``, in the open task.

        Args:
            bank: Whose enforcer guards it.
            tools: The functions.
            script: What the model calls.
            said: Messages of people: the history of a stored session, and as the last text the prompt.
            options: For the one-line form.
        """

    async def test_a_prompt_of_the_principal_and_guarded_results_keep_the_mark(self, bank: Bank) -> None:
        """Request, results, refusals and the model's own answers are accounted for."""
        options = {"read_invoice": READS, "pay_invoice": PAYS}
        refused = ("read_invoice", {"invoice_id": "INV-43"})
        with bank.task():
            await self.ask(bank, bank.tools(), [READ, refused, pay(EVIL)], REQUEST, tool_options=options)
        assert bank.paid == [EVIL]
        assert [outcome for _, outcome in bank.ended()] == ["success", "denied", "success"]
        assert bank.marks() == [("request", "trusted")]

    async def test_messages_that_nobody_accounts_for_lower_the_mark(self, bank: Bank) -> None:
        """Texts of a stored session have unknown integrity, before the model reads them."""
        with bank.task():
            await self.ask(
                bank, bank.tools(), [pay(EVIL)], f"they want {EVIL}", REQUEST, tool_options={"pay_invoice": PAYS}
            )
        assert bank.paid == []
        assert bank.marks()[1] == ("prompt", "unknown")

    async def test_messages_of_people_are_the_principals_by_the_word_of_the_application(self, bank: Bank) -> None:
        """With ``principal_messages`` an agent may pay to an account that a user names."""
        with bank.task():
            await self.ask(
                bank,
                bank.tools(),
                [pay(EVIL)],
                f"Pay to {EVIL}",
                tool_options={"pay_invoice": PAYS},
                principal_messages=True,
            )
        assert bank.paid == [EVIL]
        assert {label for _, label in bank.marks()} == {"trusted"}

    async def test_words_of_people_without_a_guarded_model_are_an_error(self, bank: Bank) -> None:
        """Nobody would see the messages that the option is about."""
        with bank.task(), pytest.raises(ConfigurationError, match="principal_messages"):
            await self.ask(bank, bank.tools(), [], REQUEST, model=None, principal_messages=True)

    async def test_text_that_the_host_received_counts_as_it_said(self, bank: Bank) -> None:
        """``task.received`` lowers the mark at once, and the prompt does not lower it again."""
        with bank.task() as task:
            task.received(f"they want {EVIL}", integrity="untrusted")
            await self.ask(
                bank, bank.tools(), [pay(EVIL), pay(OWN)], f"they want {EVIL}", tool_options={"pay_invoice": PAYS}
            )
        assert bank.paid == [OWN]
        assert bank.marks() == [("request", "trusted"), ("received", "untrusted")]
