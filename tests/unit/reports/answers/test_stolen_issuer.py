"""A stolen issuer key as the seed of an incident: the ledger dates what it signed, and the thief does not."""

from pathlib import Path

import pytest
from small_company import ALICE, CLERK, DAY, START

from agent_identity import Enforcer, Scope
from agent_identity._authority.grants.grants import issue
from agent_identity._identity.common.ids import uuid_of
from agent_identity.answers import Evidence, Seed, incident
from agent_identity.cli import main
from agent_identity.delegation import Grants
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds

THEFT = START + 5 * DAY
STOLEN, HOLDER = (SigningKey.from_seed(bytes([number]) * 32) for number in (7, 8))
HONEST, FORGED = 3, 2


class Company:
    """A directory that trusts a second issuer key, and processes with clocks of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ids = SequentialIds()
        self._open(START).close()
        trust = TrustStore.load(directory / "trust.json")
        trust.with_keys((*trust.keys, TrustedKey(STOLEN.public_key, "issuer"))).save(directory / "trust.json")

    def _open(self, second: int) -> Enforcer:
        clock = FixedClock(second * 10**9)
        return Enforcer.open(
            self.directory, sources=Sources(clock=clock, ids=self._ids), telemetry=Telemetry(sealing="inline")
        )

    def work(self, second: int, *, calls: int = 1, dated: int | None = None) -> None:
        """Let the clerk call a tool, each time under a grant of the key, which may have another date."""
        with self._open(second) as enforcer:
            tool = enforcer.tool(name="pay")(lambda: None)
            for _ in range(calls):
                with enforcer.accept(Grants((self._grant(second if dated is None else dated),), "t"), holder=HOLDER):
                    tool()

    def own(self, second: int) -> None:
        """Let the clerk call a tool under the key of the directory."""
        with self._open(second) as enforcer:
            tool = enforcer.tool(name="pay")(lambda: None)
            with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")):
                tool()

    def _grant(self, second: int) -> str:
        return issue(
            STOLEN,
            issuer=TrustStore.load(self.directory / "trust.json").issuer or "",
            task_id=self._ids.new(second * 10**9),
            principal=ALICE,
            agent=CLERK,
            holder=HOLDER.public_key,
            scope=Scope("pay"),
            now=second,
            ttl=3_600,
            id=uuid_of(self._ids.new(second * 10**9)),
        ).token


@pytest.fixture
def company(tmp_path: Path) -> Company:
    """Return a company in which the key was used three times before its theft."""
    found = Company(tmp_path / "e")
    found.work(START + DAY, calls=HONEST)
    (tmp_path / "kept").write_bytes((tmp_path / "e" / "log" / "checkpoint").read_bytes())
    return found


def calls(company: Company, **options: Path) -> tuple[int, int]:
    """Return the calls after the theft, and how many grants are left out without evidence from outside."""
    seed = Seed("key", STOLEN.public_key.thumbprint, THEFT * 10**9)
    found = incident(Evidence(sources=company.directory), seed, **options)
    assert found.frame.verdict == "verified"
    return found.calls, found.undated


def test_a_grant_that_the_thief_dated_back_is_found(company: Company) -> None:
    """An honest recorder noted it after the theft, and dates it so in the timeline."""
    company.work(THEFT + 60, calls=FORGED, dated=THEFT - 1_800)
    assert calls(company) == (FORGED, HONEST)
    found = incident(Evidence(sources=company.directory), Seed("key", STOLEN.public_key.thumbprint, THEFT * 10**9))
    assert {entry.at_ns // 10**9 for entry in found.timeline if entry.kind == "grant"} == {THEFT + 60}
    assert {(hop.issued_ns // 10**9, hop.noted_ns // 10**9) for hop in found.authority} == {(THEFT - 1_800, THEFT + 60)}


def test_the_place_in_the_log_counts_more_than_a_date(company: Company) -> None:
    """A thief with a recorder at hand sets its clock back; what others wrote after the theft stands before it."""
    company.own(THEFT + 60)
    company.work(START + 2 * DAY, calls=FORGED)
    assert calls(company) == (FORGED, HONEST)


def test_a_checkpoint_shows_what_is_older(company: Company, tmp_path: Path) -> None:
    """Nothing written after it is left out, whatever its date; what it covers was not the thief's."""
    company.work(START + 2 * DAY, calls=FORGED)
    assert calls(company) == (0, HONEST + FORGED)
    assert calls(company, checkpoint=tmp_path / "kept") == (FORGED, 0)


def test_what_nothing_outside_dates_is_said(company: Company, capsys: pytest.CaptureFixture[str]) -> None:
    """The report names the number of grants that only records date before the theft; a checkpoint may be given."""
    company.work(THEFT + 60, calls=FORGED)
    words = [
        "ask",
        "16",
        str(company.directory),
        f"--of={STOLEN.public_key.thumbprint}",
        "--since",
        "2025-11-29T16:00:00Z",
    ]
    assert main(words) == 0
    assert f"{HONEST} root grants of the key" in capsys.readouterr().out
    kept = company.directory.parent / "kept"
    assert main([*words, f"--checkpoint={kept}"]) == 0
    assert "root grants of the key" not in capsys.readouterr().out
