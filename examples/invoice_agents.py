"""The main job on real input: a supervisor and a clerk handle invoices for Alice.

Real files, a real SQLite database, a real HTTP API (on loopback) and a real collector; only the chat
model is scripted, so that the run needs no network and no key. Afterwards the evidence is verified
twice: from the ledger, and from what came out of the collector.

    python examples/invoice_agents.py
"""

import json
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from collector import Collector, collector, fresh_folder
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, tool
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from agent_identity import Agent, Denied, Enforcer, Human, Scope
from agent_identity.constraints import OneOf, Range
from agent_identity.integrations.langchain import protect
from agent_identity.options import Telemetry

HERE = Path(__file__).parent
WORK = Path("invoice-demo")

ALICE = Human("alice@example.com")
SUPERVISOR = Agent("invoice-supervisor", owner="finance-ops@example.com")
CLERK = Agent("invoice-clerk", owner="finance-ops@example.com")

INVOICES = OneOf("INV-41", "INV-42", "INV-43")
SUPERVISOR_SCOPE = (
    Scope("find_vendor")
    | Scope("ask_clerk")
    | Scope("read_invoice", invoice_id=INVOICES)
    | Scope("pay_invoice", invoice_id=INVOICES, amount=Range(min=0, max=5000))
    | Scope("delete_invoice", invoice_id=INVOICES)
)
CLERK_SCOPE = (
    Scope("read_invoice", invoice_id=OneOf("INV-41", "INV-42"))
    | Scope("pay_invoice", invoice_id=OneOf("INV-41", "INV-42"), amount=Range(min=0, max=2000))
    | Scope("delete_invoice", invoice_id="INV-41")
)


class ScriptedModel(BaseChatModel):
    """A chat model that plays its script: one step for each answer it has given so far."""

    script: list[list[tuple[str, dict[str, Any]]]]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> "ScriptedModel":
        """Need no tools: the script knows what to call."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        turn = sum(isinstance(message, AIMessage) for message in messages)
        if turn < len(self.script):
            calls = [
                {"name": name, "args": arguments, "id": f"call_{turn}_{index}", "type": "tool_call"}
                for index, (name, arguments) in enumerate(self.script[turn])
            ]
            message = AIMessage(content="", tool_calls=calls)
        else:
            seen = [message for message in messages if isinstance(message, ToolMessage)]
            message = AIMessage(content=f"done, {sum(m.status == 'error' for m in seen)} of {len(seen)} calls refused")
        return ChatResult(generations=[ChatGeneration(message=message)])


SUPERVISOR_SCRIPT = [
    [("find_vendor", {"name": "Acme"})],  # warned: personal data
    [("ask_clerk", {"request": "Please read and pay INV-41 and INV-42."})],
]
CLERK_SCRIPT = [
    [("read_invoice", {"invoice_id": "INV-42"})],  # allowed
    [("read_invoice", {"invoice_id": "INV-43"})],  # beyond the clerk's scope, though within the supervisor's
    [("pay_invoice", {"invoice_id": "INV-42", "amount": 120})],  # allowed
    [("pay_invoice", {"invoice_id": "INV-41", "amount": 1800})],  # routed to the approval desk
    [("delete_invoice", {"invoice_id": "INV-41"})],  # blocked by the policy
]


class Bank(BaseHTTPRequestHandler):
    """The payment API that the example starts on loopback."""

    def do_POST(self) -> None:
        """Accept a payment."""
        payment = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"paid": payment["amount"], "invoice": payment["invoice"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - The name is the base class's.
        """Keep quiet."""


def make_tools(work: Path, bank: str) -> list[BaseTool]:
    """Return the tools, each of which touches something real."""
    database = work / "vendors.db"

    @tool
    def find_vendor(name: str) -> str:
        """Find a vendor in the database."""
        with sqlite3.connect(database) as connection:
            row = connection.execute("SELECT name, iban FROM vendors WHERE name = ?", (name,)).fetchone()
        return f"{row[0]}: {row[1]}" if row else "unknown vendor"

    @tool
    def read_invoice(invoice_id: str) -> str:
        """Read one invoice from the folder."""
        return (work / "invoices" / f"{invoice_id}.txt").read_text(encoding="utf-8")

    @tool
    def pay_invoice(invoice_id: str, amount: float) -> str:
        """Pay one invoice through the bank's API."""
        body = json.dumps({"invoice": invoice_id, "amount": amount}).encode()
        request = urllib.request.Request(bank, data=body, headers={"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - The loopback API of this example.
            return str(answer.read().decode())

    @tool
    def delete_invoice(invoice_id: str) -> str:
        """Delete one invoice from the folder."""
        (work / "invoices" / f"{invoice_id}.txt").unlink()
        return "deleted"

    return [find_vendor, read_invoice, pay_invoice, delete_invoice]


def prepare(work: Path) -> None:
    """Lay out the invoices and the vendor database."""
    invoices = fresh_folder(work / "invoices")
    for number, amount in (("INV-41", 1800), ("INV-42", 120), ("INV-43", 990)):
        (invoices / f"{number}.txt").write_text(f"{number} from Acme: EUR {amount}\n", encoding="utf-8")
    with sqlite3.connect(work / "vendors.db") as connection:
        connection.execute("CREATE TABLE vendors (name TEXT, iban TEXT)")
        connection.execute("CREATE TABLE approvals (tool TEXT, invoice TEXT)")
        connection.execute("INSERT INTO vendors VALUES ('Acme', 'DE02 1203 0000 0000 2020 51')")


def run(work: Path, bank: str, spans: Collector) -> None:
    """Let the agents work for Alice, under one task."""
    provider = TracerProvider(resource=Resource.create({"service.name": "invoice-agents"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=spans.endpoint)))

    def approval_desk(call: Any) -> str:
        """Take over a routed payment: file it for a second person instead of paying."""
        with sqlite3.connect(work / "vendors.db") as connection:
            connection.execute("INSERT INTO approvals VALUES (?, ?)", (call.tool, call.arguments["invoice_id"]))
        return "not paid: filed for approval by a second person"

    with Enforcer.open(
        work / "evidence",
        policy=HERE / "invoice_policy.yaml",
        routes={"approval-desk": approval_desk},
        telemetry=Telemetry(tracer_provider=provider),
    ) as enforcer:
        find_vendor, read_invoice, pay_invoice, delete_invoice = protect(make_tools(work, bank), enforcer)
        clerk = create_agent(ScriptedModel(script=CLERK_SCRIPT), [read_invoice, pay_invoice, delete_invoice])

        @tool
        def ask_clerk(request: str) -> str:
            """Hand invoices to the clerk, with a part of the authority."""
            with enforcer.delegate(CLERK, scope=CLERK_SCOPE, purpose="read and pay invoices of Acme"):
                answer = clerk.invoke({"messages": [("user", request)]})
            return str(answer["messages"][-1].content)

        supervisor = create_agent(ScriptedModel(script=SUPERVISOR_SCRIPT), [find_vendor, protect(ask_clerk, enforcer)])
        with enforcer.task("pay the invoices of Acme", principal=ALICE, agent=SUPERVISOR, scope=SUPERVISOR_SCOPE):
            answer = supervisor.invoke({"messages": [("user", "Pay what we owe Acme.")]})
            kept = copy_context()  # what a careless or rogue program might keep for later
        print(f"supervisor: {answer['messages'][-1].content}")

        try:
            kept.run(read_invoice.invoke, {"invoice_id": "INV-42"})
        except Denied as denied:
            print(f"after the task: {denied.code}")
    provider.shutdown()


def agent_identity(*arguments: str) -> str:
    """Run the command line tool as a user would, show what it prints and return it."""
    print(f"\n$ agent-identity {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "agent_identity", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - Our own command.
    print(done.stdout, end="")
    if done.returncode != 0:
        raise SystemExit(f"{done.stderr}agent-identity exited with {done.returncode}")
    return done.stdout


def record_ids(work: Path, traces: Path) -> tuple[set[str], set[str]]:
    """Return the ids of the outcomes in the ledger, and of those that came out of the collector."""
    ledger = {
        line["record"]["id"]
        for file in (work / "evidence" / "ledger").glob("*/entries.jsonl")
        for line in map(json.loads, file.read_text(encoding="utf-8").splitlines())
        if line["record"]["kind"] == "outcome"
    }
    collected = set()
    for document in map(json.loads, traces.read_text(encoding="utf-8").splitlines()):
        for resource in document["resourceSpans"]:
            handled = {item["key"]: item["value"] for item in resource["resource"]["attributes"]}
            if handled["handled.by"]["stringValue"] != "rotel":
                raise SystemExit("expected every span to have passed the collector")
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    facts = {item["key"]: item["value"].get("stringValue") for item in span["attributes"]}
                    if facts.get("agent_identity.record.kind") == "outcome":
                        collected.add(facts["agent_identity.record.id"])
    return ledger, collected


def main() -> None:
    """Do the job, then prove what happened."""
    work = fresh_folder(WORK)
    prepare(work)
    bank = ThreadingHTTPServer(("127.0.0.1", 0), Bank)
    threading.Thread(target=bank.serve_forever, daemon=True).start()
    with collector(work / "collector") as spans:
        run(work, f"http://127.0.0.1:{bank.server_port}/payments", spans)
    bank.shutdown()
    bank.server_close()

    agent_identity("show", str(work / "evidence"))
    agent_identity("verify", str(work / "evidence"))
    agent_identity("verify", str(spans.traces), "--trust", str(work / "evidence" / "trust.json"))
    ledger, collected = record_ids(work, spans.traces)
    if ledger != collected:
        raise SystemExit("expected the same record ids in the ledger and from the collector")
    print(f"\n{len(ledger)} actions, the same record ids in the ledger and from the collector")


if __name__ == "__main__":
    main()
