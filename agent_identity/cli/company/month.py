"""The month: who has what done on which day, and what goes wrong."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Final, final

from agent_identity._authority.grants.grants import issue
from agent_identity._authority.grants.scope import Scope
from agent_identity._directory.agents_file import register_agents
from agent_identity._directory.enforcer import Enforcer
from agent_identity._directory.inventory.server_inventory import InventoryFile, accept, inventory_path
from agent_identity._directory.open import prepare
from agent_identity._directory.options import Sources, Telemetry
from agent_identity._guard.tasks.delegation_bundle import Grants
from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity.cli.company.people import (
    ALICE,
    CAROL,
    CLERK,
    INVOICES,
    NIGHTLY,
    OFFICE,
    PAYER,
    REGISTRATIONS,
    RESEARCH,
    RESEARCHER,
    UPGRADED,
    key_of,
    paying,
)
from agent_identity.cli.company.tools import POLICY, ROUTES, PageInspector, Toolbox, sighting
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.testing import FixedClock, SequentialIds

__all__ = ["STOLEN", "write_month"]

STOLEN: Final = key_of("night")
"""The issuer key of the nightly job, which is stolen on the 21st."""

_FIRST: Final = datetime(2026, 10, 1, tzinfo=UTC)
_WORKDAYS: Final = tuple(day for day in range(1, 32) if _FIRST.replace(day=day).weekday() < 5)
_NS: Final = 1_000_000_000
_DAY: Final = 86_400
_HALF: Final = timedelta(hours=12)
_FORGOTTEN, _PAGE, _CHANGED, _UPGRADE, _THEFT, _CRASH = 6, 13, 15, 19, 21, 27
"""Days on which something is different."""


def write_month(directory: str | os.PathLike[str]) -> None:
    """Write the evidence of the month.

    Args:
        directory: An empty directory, or one to create.

    Raises:
        ConfigurationError: There is something in the directory, or it cannot be written.
    """
    root = Path(directory)
    if root.exists() and any(root.iterdir()):
        raise ConfigurationError(f"{str(root)!r} is not empty; name a new directory")
    clock, ids = FixedClock(int(_FIRST.timestamp()) * _NS), SequentialIds()
    _found(root, clock, ids)
    telemetry = Telemetry(sealing="inline")
    for _, days in groupby(_WORKDAYS, key=lambda day: _FIRST.replace(day=day).isocalendar().week):
        with Enforcer.open(
            root,
            policy=POLICY,
            routes=ROUTES,
            inspectors=[PageInspector()],
            agents="registered",
            telemetry=telemetry,
            sources=Sources(clock=clock, ids=ids),
        ) as enforcer:
            month = _Month(root, enforcer, clock, ids)
            for day in days:
                month.day(day)


def _found(root: Path, clock: FixedClock, ids: SequentialIds) -> None:
    """Put keys, trust file and registry in place."""
    keys = root / "keys"
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    for purpose in ("issuer", "recorder"):
        key_of(purpose).save(keys / f"{purpose}.pem")
    _, _, trust = prepare(root, clock, ids)
    trust.with_keys((*trust.keys, TrustedKey(STOLEN.public_key, "issuer"))).save(root / "trust.json")
    register_agents(root, *REGISTRATIONS, clock=clock, ids=ids)


@final
class _Month:
    """Works one day after the other with an open enforcer."""

    def __init__(self, root: Path, enforcer: Enforcer, clock: FixedClock, ids: SequentialIds) -> None:
        self._root = root
        self._enforcer = enforcer
        self._clock = clock
        self._ids = ids
        self._tools = Toolbox(enforcer)

    def day(self, day: int) -> None:
        """Work a day."""
        self._night(day)
        self._servers(day)
        self._at(day, 8, 30)
        self._invoices(day)
        if day == _FORGOTTEN:
            self._attempt("read_invoice", number="INV-0603")  # Outside any task.
        self._at(day, 10)
        self._suppliers(day)

    def _at(self, day: int, hour: int, minute: int = 0) -> None:
        then = _FIRST.timestamp() + (day - 1) * _DAY + hour * 3_600 + minute * 60
        self._clock.advance(max(0.0, then - self._clock.wall_ns() / _NS))

    def _attempt(self, tool: str, **arguments: object) -> None:
        """Call a tool, whether or not that is allowed; a second or so goes by."""
        self._clock.advance(0.75)
        with suppress(Denied):
            self._tools.call(tool, **arguments)
        self._clock.advance(0.5)

    def _night(self, day: int) -> None:
        self._at(day, 2)
        if day > _THEFT:
            with self._enforcer.task("count open invoices", principal=NIGHTLY, agent=CLERK, scope=INVOICES):
                self._attempt("list_invoices")
            return
        with self._presented("count open invoices", INVOICES):
            self._attempt("list_invoices")
        if day == _THEFT:
            self._theft(day)

    @contextmanager
    def _presented(self, purpose: str, scope: Scope) -> Generator[None]:
        """Work under a root grant that the key of the nightly job signs elsewhere; nothing happens if it is refused."""
        now = self._clock.wall_ns()
        holder = key_of(f"holder {now}")
        grant = issue(
            STOLEN,
            issuer=TrustStore.load(self._root / "trust.json").issuer or "",
            task_id=self._ids.new(now),
            principal=NIGHTLY,
            agent=CLERK,
            holder=holder.public_key,
            scope=scope,
            now=now // _NS,
            ttl=3_600,
            id=uuid_of(self._ids.new(now)),
        )
        with self._enforcer.accept(Grants((grant.token,), purpose), holder=holder):
            yield

    def _theft(self, day: int) -> None:
        """The thief of the key of the nightly job signs grants, until somebody sees it."""
        self._at(day, 3, 12)
        with self._presented("count open invoices", INVOICES | paying(5_000)):
            for number in range(1, 7):
                self._attempt("read_invoice", number=f"INV-21{number:02}")
            self._attempt("pay_invoice", number="INV-2101", amount=4_900)
        self._at(day, 7, 40)
        self._enforcer.revoke("key", STOLEN.public_key.thumbprint, reason="laptop of the night job stolen")
        self._at(day, 7, 55)
        with suppress(Denied), self._presented("count open invoices", INVOICES):
            self._attempt("list_invoices")

    def _servers(self, day: int) -> None:
        self._at(day, 7, 50)
        for name in ("web", "files"):
            self._enforcer.inventory.sight(sighting(name, changed=name == "web" and day >= _CHANGED), pin=True)
        if day == _CHANGED:
            file = InventoryFile(inventory_path(self._root), TrustStore.load(self._root / "trust.json"))
            now = self._clock.wall_ns() // _NS
            accept(file, "web", None, signer=key_of("issuer"), now=now, reason="reviewed by it@example.com")
            self._enforcer.inventory.find("web")

    def _invoices(self, day: int) -> None:
        agent = OFFICE if day < _UPGRADE else UPGRADED
        scope = INVOICES | paying(5_000) | Scope("files/read_file")
        with self._enforcer.task("pay the invoices of the day", principal=ALICE, agent=agent, scope=scope, ttl=_HALF):
            self._attempt("list_invoices")
            if agent is UPGRADED:
                self._attempt("files/read_file", path="rules/payments.md")
            with self._enforcer.delegate(CLERK, scope=INVOICES | paying(2_500), purpose="check invoices"):
                for number in range(1, 4):
                    self._attempt("read_invoice", number=f"INV-{day:02}{number:02}")
                with self._enforcer.delegate(PAYER, scope=paying(2_000), purpose="pay what is right"):
                    self._payments(day)

    def _payments(self, day: int) -> None:
        self._attempt("pay_invoice", number=f"INV-{day:02}01", amount=100 + 7 * day)
        if not day % 4:
            self._attempt("pay_invoice", number=f"INV-{day:02}02", amount=1_990 if day == 20 else 1_200 + day)
        if not day % 7:
            self._attempt("pay_invoice", number=f"INV-{day:02}03", amount=2_600)  # More than was handed on.
        if day == _CRASH:
            self._tools.begin("pay_invoice", number="INV-2704", amount=80)

    def _suppliers(self, day: int) -> None:
        with self._enforcer.task("compare suppliers", principal=CAROL, agent=RESEARCHER, scope=RESEARCH, ttl=_HALF):
            self._attempt("web/search_web", words="paper")
            self._attempt("web/fetch_page", url="https://paper.example.com/prices")
            if day == _PAGE:
                self._injection()
            self._attempt("files/write_file", path=f"suppliers/{day:02}.md", text="paper: 4.10")

    def _injection(self) -> None:
        """The page gives orders, the agent follows them, and somebody stops it for an hour."""
        self._attempt("web/fetch_page", url="https://bargains.example.net/offers")
        self._attempt("pay_invoice", number="INV-9999", amount=4_200)
        self._attempt("send_mail", to="list@bargains.example.net", text="the price list")
        self._enforcer.revoke(RESEARCHER, reason="follows orders of a page", suspend=True)
        self._attempt("web/search_web", words="bargains")
        self._clock.advance(3_600)
        self._enforcer.reinstate(RESEARCHER)
