"""The world of the simulated organization: its people, agents, tools, servers and policies."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from company.truth import NS, Party, Touched

from agent_identity import Agent, Effect, Human, Rule, RuleSet, Scope, Service
from agent_identity.adapters import DeclaredFlow
from agent_identity.approvals import Approval
from agent_identity.constraints import Contains, EmailDomain, Range, Wildcard
from agent_identity.identity import Registration, SigningKey
from agent_identity.inspection import PersonalData
from agent_identity.policy import All, Flow, Touch

FIRST: Final = datetime(2026, 3, 2, tzinfo=UTC)  # A Monday.
START: Final = int(FIRST.timestamp()) * NS
DAYS: Final = 35

LOGIN: Final = "https://login.example.com"
PARTNER: Final = "https://id.partner.example.net"
DORA: Final = Human("dora@example.com")
CAROL: Final = Human("carol@partner.example.net", issuer=PARTNER)
DAVE: Final = Human("dave@example.com")
GINA: Final = Human("gina@example.com", issuer=LOGIN)
NIGHTLY: Final = Service("nightly")


def key_of(name: str) -> SigningKey:
    """Return a key of the organization; the same in every run."""
    return SigningKey.from_seed(hashlib.sha256(f"simulated organization: {name}".encode()).digest())


APPROVERS: Final = {
    "bob@example.com": Party(id="bob@example.com", kind="human", issuer=LOGIN, provenance="verified"),
    "dora@example.com": Party(id="dora@example.com", kind="human"),
    "gina@example.com": Party(id="gina@example.com", kind="human", issuer=LOGIN),
}
"""Who approves: a verified person, a person whom the program asserts, and one in whose name a program approves."""


def party(principal: Human | Service) -> Party:
    """Return the party that a principal is."""
    kind = "human" if isinstance(principal, Human) else "service"
    return Party(id=principal.id, kind=kind, issuer=principal.issuer, provenance=principal.provenance)


OFFICE: Final = Agent("office", owner="ops@example.com", version="4")
OFFICE_5: Final = Agent("office", owner="ops@example.com", version="5")
CLERK: Final = Agent("clerk", owner="finance@example.com", version="2")
PAYER: Final = Agent("payer", owner="finance@example.com", version="1")
NOTARY: Final = Agent("notary", owner="legal@example.com")
RESEARCHER: Final = Agent("researcher", owner="it@example.com", version="1")
SCANNER: Final = Agent("scanner", owner="it@example.com")
TESTER: Final = Agent("tester", owner="it@example.com")
ARCHIVIST: Final = Agent("archivist", owner="it@example.com")
STRANGER: Final = Agent("stranger", owner="somebody@example.com")
DESK: Final = Agent("desk", owner="support@example.com", version="1")
MAILER: Final = Agent("mailer", owner="support@example.com")
PROBE: Final = Agent("probe", owner="lab@example.com")
COUNTER: Final = Agent("counter", owner="finance@example.com")
KEEPER: Final = Agent("keeper", owner="records@example.com")
WORKER: Final = Agent("worker", owner="support@example.com")

SHOP: Final = "postgres://db.example.com:5432"
BANK: Final = "https://bank.example.com"


@dataclass(frozen=True)
class ToolSpec:
    """A tool: what it touches, what it says to its policy, and what its body returns."""

    name: str
    body: Callable[..., str]
    touch: Touch | None = None
    server: str | None = None
    labels: Sequence[str] | None = ()
    returns: str | None = None
    destination: str | None = None

    def touched(self, arguments: Mapping[str, Any]) -> list[Touched]:
        """Return what one call touches."""
        if self.touch is None:
            return []
        touch = self.touch
        filled = touch.name.format(**arguments) if "{" in touch.name else ""
        labels = sorted(touch.data)
        return [Touched(system=touch.system, name=touch.name, access=touch.access, labels=labels, filled=filled)]


def _list_invoices() -> str:
    return "3 invoices are open"


def _read_invoice(number: str) -> str:
    return f"{number}: paper"


def _pay_invoice(number: str, amount: int) -> str:
    if amount == 13:
        raise ValueError("the bank refuses the amount")
    return f"{number} is paid with {amount}"


def _file_receipt(number: str) -> str:
    return f"{number} is filed"


def _path(path: str) -> str:
    return path


def _to(to: str) -> str:
    return to


def _words(words: str) -> str:
    return words


def _url(url: str) -> str:
    return f"the text of {url}"


def _name(name: str) -> str:
    return f"{name} lives in Bern"


def _ticket(number: str) -> str:
    return f"ticket {number}: please refund to {FOREIGN}"


def _customer(name: str) -> str:
    return f"{name}, customer since 2019"


def _reply(to: str, text: str) -> str:
    return f"to {to}: {len(text)}"


def _refund(account: str, amount: int) -> str:
    return f"{amount} to {account}"


def _export() -> str:
    return KEPT


def _count() -> str:
    return "7"


OWN, FOREIGN, KEPT = "CH9300762011623852957", "DE02120300000000202051", "DE89 3704 0044 0532 0130 00"
ACCOUNTS: Final = (OWN, FOREIGN, KEPT)


def _spec(*found: ToolSpec) -> dict[str, ToolSpec]:
    return {spec.name: spec for spec in found}


FINANCE_TOOLS: Final = _spec(
    ToolSpec("list_invoices", _list_invoices, Touch(SHOP, "shop.invoices", "read")),
    ToolSpec("read_invoice", _read_invoice, Touch(SHOP, "shop.invoices/{number}", "read", data=["personal"])),
    ToolSpec("pay_invoice", _pay_invoice, Touch(BANK, "payments", "send"), labels=("payment",)),
    ToolSpec("file_receipt", _file_receipt, Touch("file", "receipts/{number}", "write")),
    ToolSpec("delete_file", _path, Touch("file", "{path}", "delete"), labels=("destructive",)),
    ToolSpec("send_mail", _to, Touch("smtp://mail.example.com", "outbox", "send"), labels=("egress",)),
    ToolSpec("web/search", _words, server="web", labels=None),
    ToolSpec("web/fetch", _url, Touch("https", "{url}", "read"), server="web", labels=None),
    ToolSpec(
        "crm/find", _name, Touch("https://crm.example.com", "people/{name}", "read", data=["personal"]), server="crm"
    ),
)
SUPPORT_TOOLS: Final = _spec(
    ToolSpec("read_ticket", _ticket, Touch(SHOP, "desk.tickets/{number}", "read"), returns="untrusted"),
    ToolSpec(
        "read_customer", _customer, Touch(SHOP, "crm.customers/{name}", "read", data=["personal"]), returns="trusted"
    ),
    ToolSpec(
        "send_reply",
        _reply,
        Touch("smtp://mail.example.com", "outbox", "send"),
        labels=("egress",),
        returns="trusted",
        destination="to",
    ),
    ToolSpec(
        "refund",
        _refund,
        Touch(BANK, "payments", "send"),
        labels=("payment",),
        returns="trusted",
        destination="account",
    ),
    ToolSpec("export_accounts", _export, Touch(SHOP, "crm.accounts", "read", data=["secret"]), returns="trusted"),
)
LAB_TOOLS: Final = _spec(ToolSpec("look", _words), ToolSpec("shred", _path, labels=("destructive",)))
BATCH_TOOLS: Final = _spec(
    ToolSpec("count_invoices", _count, Touch(SHOP, "shop.invoices", "read")),
    ToolSpec("read_invoice", _read_invoice, Touch(SHOP, "shop.invoices/{number}", "read", data=["personal"])),
    ToolSpec("pay_invoice", _pay_invoice, Touch(BANK, "payments", "send")),
)
VAULT_TOOLS: Final = _spec(ToolSpec("store", _path, Touch("s3://vault", "{path}", "write")))


def paying(most: int) -> Scope:
    """Return the authority to pay any invoice up to an amount."""
    return Scope("pay_invoice", number=Wildcard(), amount=Range(min=0, max=most))


READING: Final = Scope({"list_invoices": None, "read_invoice": None})
OFFICE_SCOPE: Final = READING | paying(5_000) | Scope("file_receipt")
CLERK_SCOPE: Final = READING | paying(2_500) | Scope("file_receipt")
PAYER_SCOPE: Final = paying(2_000) | Scope("file_receipt")
NOTARY_SCOPE: Final = Scope("file_receipt")
RESEARCH: Final = Scope(
    {"web/search": None, "web/fetch": None, "crm/find": None, "delete_file": None, "send_mail": None}
)
"""Wider than the work: nothing is ever deleted, and mail is only tried to strangers."""
SUPPORT_SCOPE: Final = Scope(dict.fromkeys(SUPPORT_TOOLS))
MAIL_SCOPE: Final = Scope({"send_reply": None, "refund": None})

UNTIL: Final = int(datetime(2027, 10, 1, tzinfo=UTC).timestamp())
MAXIMA: Final[Mapping[str, tuple[Agent, str, Scope]]] = {
    "office": (OFFICE, "hand out the work of the day", OFFICE_SCOPE),
    "clerk": (CLERK, "check invoices", READING | paying(5_000) | Scope("file_receipt")),
    "payer": (PAYER, "pay invoices", paying(2_000) | Scope("file_receipt")),
    "notary": (NOTARY, "file receipts", NOTARY_SCOPE),
    "researcher": (RESEARCHER, "compare suppliers", RESEARCH),
    "scanner": (SCANNER, "look for stale pages", Scope({"web/search": None})),
    "tester": (TESTER, "try new suppliers", Scope({"web/search": None, "crm/find": None})),
    "archivist": (ARCHIVIST, "archive old invoices", Scope("read_invoice")),
}


def registrations() -> list[Registration]:
    """Return what the registry of finance says."""
    return [
        Registration(Agent(agent.id, owner=agent.owner), purpose=purpose, maximum=maximum, expires_at=UNTIL)
        for agent, purpose, maximum in MAXIMA.values()
    ]


FINANCE_POLICY: Final = RuleSet(
    Rule(
        Effect.BLOCK,
        tools="send_mail",
        when={"not": {"args.to": EmailDomain("example.com")}},
        reason="mail stays inside the company",
        id="mail-stays-inside",
    ),
    Rule(
        Effect.ROUTE,
        tools="pay_invoice",
        when={"args.amount": Range(min=1_000, min_inclusive=False)},
        reason="payments over 1,000 need a second person",
        id="four-eyes",
        to="desk",
    ),
    Rule(
        Effect.ROUTE,
        tools="pay_invoice",
        when={"args.amount": Range(min=800, max=900)},
        reason="a program looks at payments of 800 to 900",
        id="robot-eyes",
        to="robot",
    ),
    Rule(Effect.WARN, tools="file_receipt", id="receipts-are-seen", reason="somebody looks at receipts"),
    name="house",
    version="7",
)
FINANCE_ROUTES: Final = {"desk": Approval(), "robot": Approval(ask=lambda request: request.approve(by=GINA))}

SUPPORT_POLICY: Final = All(
    Flow(),
    RuleSet(
        Rule(
            Effect.BLOCK,
            when={"findings.stage": "result", "findings.categories": Contains("pii.iban")},
            tools="export_accounts",
            reason="accounts stay here",
            id="accounts-stay",
        ),
        name="desk",
        version="2",
    ),
)
SUPPORT_ROUTES: Final = {"person": Approval()}

LAB_POLICY: Final = RuleSet(
    Rule(Effect.BLOCK, tools="shred", reason="nothing is shredded", id="keep-all"), name="lab", version="1"
)
BATCH_POLICY: Final = RuleSet(
    Rule(
        Effect.BLOCK,
        tools="pay_invoice",
        when={"principal.kind": "service"},
        reason="only people have invoices paid",
        id="people-pay",
    ),
    name="batch",
    version="3",
)


@dataclass
class PlaceSpec:
    """A directory of the organization, and how its enforcers are opened."""

    name: str
    tools: Mapping[str, ToolSpec]
    service: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    servers: Sequence[str] = ()

    @property
    def policy(self) -> str:
        """The name and the version of its policy, as records have them."""
        named = {"finance": "house 7", "support": "flow+desk flow-1+2", "lab": "lab 1", "batch": "batch 3"}
        return named.get(self.name, "")

    @property
    def default(self) -> str:
        """The reason for which a call goes on that no rule is about."""
        return "default" if "policy" in self.options else "within_scope"

    def findings(self, tool: str, arguments: Mapping[str, Any]) -> list[str]:
        """Return what the inspectors find in the arguments and in the result of one call: numbers of accounts."""
        if "inspectors" not in self.options:
            return []
        texts = (*map(str, arguments.values()), self.tools[tool].body(**arguments))
        found = any(account in text for text in texts for account in ACCOUNTS)
        return ["pii.iban"] if found else []

    @property
    def monitor(self) -> bool:
        """True if nothing is refused here."""
        return self.options.get("mode") == "monitor"


PLACES: Final = {
    spec.name: spec
    for spec in (
        PlaceSpec(
            "finance",
            FINANCE_TOOLS,
            "finance",
            options={"policy": FINANCE_POLICY, "routes": FINANCE_ROUTES, "agents": "registered"},
            servers=("web", "crm"),
        ),
        PlaceSpec(
            "support",
            SUPPORT_TOOLS,
            "support",
            options={
                "policy": SUPPORT_POLICY,
                "routes": SUPPORT_ROUTES,
                "inspectors": [PersonalData("iban")],
            },
        ),
        PlaceSpec("lab", LAB_TOOLS, options={"policy": LAB_POLICY, "mode": "monitor"}),
        PlaceSpec("batch", BATCH_TOOLS, "batch", options={"policy": BATCH_POLICY}),
        PlaceSpec("vault", VAULT_TOOLS),
    )
}
ALL: Final = tuple(PLACES)


def flow_of(spec: ToolSpec) -> DeclaredFlow:
    """Return the flow of a tool of a server."""
    return DeclaredFlow(spec.returns, spec.destination)
