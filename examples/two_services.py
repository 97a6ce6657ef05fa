"""Authority across services: Alice's assistant asks a report service, which asks an invoice service.

Three processes with keys, trust store, policy and ledger of their own; two of them are HTTP servers on loopback.
The invoice service runs its tool for Alice, through the chain assistant → reporter, and records that itself. A
request that was overheard and is sent again, and one that was made for another service, are refused. At the end
all three ledgers are verified, each under its own trust store.

    python examples/two_services.py
"""

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from agent_identity import Agent, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope
from agent_identity import verify as verify_ledger
from agent_identity.audit import story
from agent_identity.constraints import OneOf
from agent_identity.delegation import Peer
from agent_identity.identity import SigningKey, TrustStore
from agent_identity.integrations.http.client import delegation_headers
from agent_identity.integrations.http.server import Gate
from agent_identity.integrations.http.wsgi import DelegationMiddleware

WORK = Path("two-services")

ALICE = Human("alice@example.com")
ASSISTANT = Agent("assistant", owner="finance-ops@example.com")
REPORTER = Agent("reporter", owner="reporting@example.com")
SCOPE = Scope("make_report") | Scope("read_invoice", invoice_id=OneOf("INV-41", "INV-42"))

DRAFTS = Rule(
    Effect.BLOCK,
    tools="read_invoice",
    when={"args.invoice_id": "INV-41"},
    reason="INV-41 is a draft",
    id="no-drafts",
)


class Server(ThreadingMixIn, WSGIServer):
    """A server with a thread for each request."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """A handler that logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  The name of the base class.
        """Say nothing."""


def fetch(url: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
    """Send a request and return status and content."""
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310  On loopback.
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def serve(name: str, enforcer: Enforcer, answer: Callable[[str], object], **gate: Any) -> None:
    """Run a service until standard input ends; its application calls guarded tools and nothing else."""

    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        try:
            status, result = "200 OK", answer(json.load(environ["wsgi.input"]))
        except Denied as denied:
            status, result = "403 Forbidden", {"code": denied.code, "reference": denied.reference}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(result).encode()]

    with make_server("127.0.0.1", 0, None, server_class=Server, handler_class=Quiet) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        server.set_app(DelegationMiddleware(application, enforcer, Gate(audience=name, base_url=url, **gate)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(url, flush=True)
        sys.stdin.read()
        server.shutdown()
    enforcer.close()


def invoices() -> None:
    """The invoice service: it delegates nothing, and has a rule of its own."""
    enforcer = Enforcer.open(WORK / "invoices", policy=RuleSet(DRAFTS, name="invoices"))

    @enforcer.tool
    def read_invoice(invoice_id: str) -> str:
        return f"{invoice_id}: EUR 120"

    serve("invoices", enforcer, read_invoice)


def reports(url: str) -> None:
    """The report service: it goes on under its own name and key to the invoice service."""
    enforcer = Enforcer.open(WORK / "reports")
    peers = {url.removeprefix("http://"): Peer("invoices", tools=["read_invoice"])}

    @enforcer.tool
    def make_report(invoice_id: str) -> dict[str, object]:
        body = json.dumps(invoice_id).encode()
        status, found = fetch(url, delegation_headers(enforcer, "POST", url, body, peers), body)
        return {"status": status, "invoice": found}

    serve("reports", enforcer, make_report, holder=SigningKey.load(WORK / "reports" / "holder.pem"), agent=REPORTER)


def prepare() -> Peer:
    """Make keys and trust: both services trust the issuer of the client, and nobody else."""
    for name in ("client", "reports", "invoices"):
        Enforcer.open(WORK / name).close()
    client = TrustStore.load(WORK / "client" / "trust.json")
    (issuer,) = (trusted.key for trusted in client.keys if trusted.purpose == "issuer")
    for name in ("reports", "invoices"):
        path = WORK / name / "trust.json"
        TrustStore.load(path).with_key(issuer, "issuer", issuer=client.issuer).save(path)
    key = SigningKey.generate()
    key.save(WORK / "reports" / "holder.pem")
    return Peer("reports", agent=REPORTER, key=key.public_key)


def start(*command: str) -> tuple[subprocess.Popen[str], str]:
    """Start a service and return it with its URL."""
    process = subprocess.Popen(  # noqa: S603  Itself.
        [sys.executable, __file__, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip() if process.stdout else ""


def use(enforcer: Enforcer, url: str, peers: dict[str, Peer], other: str) -> None:
    """Act for Alice: three reports, then what an eavesdropper and a curious service could try."""
    for invoice_id in ("INV-42", "INV-41", "INV-43"):
        body = json.dumps(invoice_id).encode()
        _, answer = fetch(url, delegation_headers(enforcer, "POST", url, body, peers), body)
        found = answer["invoice"]
        print(f"report on {invoice_id}: {answer['status']} {found if isinstance(found, str) else found['code']}")
    body = b'"INV-42"'
    headers = delegation_headers(enforcer, "POST", url, body, peers)
    fetch(url, headers, body)
    status, answer = fetch(url, headers, body)
    print(f"the same request again: {status} {answer['code']}")
    headers = delegation_headers(enforcer, "POST", url, body, peers)
    status, answer = fetch(other, headers, body)
    print(f"the same authority at the invoice service: {status} {answer['code']}")


def main() -> None:
    """Run everything and verify it."""
    peer = prepare()
    second, invoices_url = start("invoices")
    first, reports_url = start("reports", invoices_url)
    try:
        with (
            Enforcer.open(WORK / "client") as enforcer,
            enforcer.task("report on invoices", principal=ALICE, agent=ASSISTANT, scope=SCOPE),
        ):
            use(enforcer, reports_url, {reports_url.removeprefix("http://"): peer}, invoices_url)
    finally:
        for process in (first, second):
            process.communicate()  # Ends its input, and so the service.
    for name in ("client", "reports", "invoices"):
        report = verify_ledger(WORK / name, WORK / name / "trust.json")
        print(f"{name}: {report.verdict}, {report.completeness}, {report.counts['chains_verified']} chains")
    print("at the invoice service:")
    for told in story(WORK / "invoices"):
        whose = f"for {told.principal} ({told.principal_kind})" if told.task else "for nobody"
        for action in told.actions:
            chain = " → ".join(action.agents) or "nobody"
            print(f"  {action.tool} {whose} through {chain}: {action.outcome}, {action.reason}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["invoices"]:
        invoices()
    elif sys.argv[1:2] == ["reports"]:
        reports(sys.argv[2])
    else:
        main()
