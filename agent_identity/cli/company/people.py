"""The people, services and agents of the company, and the most that each agent may do."""

import hashlib
from datetime import UTC, datetime
from typing import Final

from agent_identity._authority.grants.scope import Scope
from agent_identity._authority.registries.agents import Registration
from agent_identity._constraints.literals import Range, Wildcard
from agent_identity._identity.keys.keys import SigningKey
from agent_identity._identity.principals.principals import Agent, Human, Service

_LOGIN: Final = "https://login.example.com"
ALICE: Final = Human("alice@example.com", issuer=_LOGIN)
"""Has the invoices paid."""
BOB: Final = Human("bob@example.com", issuer=_LOGIN)
"""Approves large payments."""
CAROL: Final = Human("carol@example.com", issuer=_LOGIN)
"""Has suppliers compared."""
NIGHTLY: Final = Service("nightly")
"""The job that counts the open invoices at night."""

OFFICE: Final = Agent("office", owner="ops@example.com", version="4")
UPGRADED: Final = Agent("office", owner="ops@example.com", version="5")
CLERK: Final = Agent("clerk", owner="finance@example.com", version="2")
PAYER: Final = Agent("payer", owner="finance@example.com", version="1")
RESEARCHER: Final = Agent("researcher", owner="it@example.com", version="1")
ARCHIVIST: Final = Agent("archivist", owner="it@example.com")


def paying(most: int) -> Scope:
    """Return the authority to pay any invoice up to an amount."""
    return Scope("pay_invoice", number=Wildcard(), amount=Range(min=0, max=most))


INVOICES: Final = Scope({"list_invoices": None, "read_invoice": None})
RESEARCH: Final = Scope(
    dict.fromkeys(
        ("web/search_web", "web/fetch_page", "files/read_file", "files/write_file", "files/delete_file", "send_mail")
    )
)
"""Wider than its work: it never deletes a file, and should not send mail."""

_UNTIL: Final = int(datetime(2027, 10, 1, tzinfo=UTC).timestamp())
REGISTRATIONS: Final = tuple(
    Registration(Agent(agent.id, owner=agent.owner), purpose=purpose, maximum=maximum, expires_at=_UNTIL)
    for agent, purpose, maximum in (
        (OFFICE, "hand out the work of the day", INVOICES | paying(5_000) | Scope("files/read_file")),
        (CLERK, "check invoices", INVOICES | paying(5_000)),
        (PAYER, "pay invoices", paying(2_000)),
        (RESEARCHER, "compare suppliers", RESEARCH),
        (ARCHIVIST, "archive old invoices", Scope("read_invoice")),
    )
)


def key_of(name: str) -> SigningKey:
    """Return a key of the company. Everybody can make it, so that each demo has the same thumbprints."""
    return SigningKey.from_seed(hashlib.sha256(f"agent-identity demo: {name}".encode()).digest())
