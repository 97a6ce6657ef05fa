"""Jobs: authority of a task that a worker does later, which ends with the work and not with the request."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._directory.open import prepare
from agent_identity.audit import story
from agent_identity.constraints import Range
from agent_identity.delegation import Grants
from agent_identity.errors import AgentIdentityError, Denied, EvidenceError
from agent_identity.identity import RandomIds, SigningKey, TrustStore
from agent_identity.limits import Limit
from agent_identity.options import Sources, Telemetry
from agent_identity.state import MemoryState
from agent_identity.testing import FixedClock

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
KEY = SigningKey.from_seed(b"\x07" * 32)
PAY = Scope("pay", amount=Range(max=100))
HOUR = timedelta(hours=1)
NAMES = ("web", "worker", "spare")


class Fleet:
    """A web service that takes orders and two workers that do them; one state, each with its own ledger."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.folder, self.state, self.opened = FixedClock(), folder, MemoryState(), list[Enforcer]()
        for name in NAMES:
            prepare(folder / name, self.clock, RandomIds())
        stores = [TrustStore.load(folder / name / "trust.json") for name in NAMES]
        issuers = [key for store in stores for key in store.keys if key.purpose == "issuer"]
        for name, store in zip(NAMES, stores, strict=True):  # One issuer, since all share one list of revocations.
            keys = (*issuers, *(key for key in store.keys if key.purpose == "recorder"))
            shared = TrustStore(keys=keys, issuer="https://agents.example.com", origin=store.origin)
            shared.save(folder / name / "trust.json")
        self.web, self.worker, self.spare = self.open("web"), self.open("worker"), self.open("spare")
        self.paid: list[int] = []

    def open(self, name: str) -> Enforcer:
        """Open an enforcer on a directory of the fleet."""
        telemetry = Telemetry(tracer_provider=TracerProvider())
        enforcer = Enforcer.open(
            self.folder / name, state=self.state, sources=Sources(clock=self.clock), telemetry=telemetry
        )
        self.opened.append(enforcer)
        return enforcer

    def job(self, **options: object) -> Grants:
        """Return a job of alice for the worker, as it came out of the queue."""
        given = {"principal": ALICE, "agent": CLERK, "scope": PAY, "to": KEY.public_key, "audience": "payments"}
        return Grants.from_text(self.web.job("pay the invoices", **given | options).to_text())

    def pay(self, enforcer: Enforcer) -> Callable[[int], None]:
        """Return the guarded tool of one worker."""

        @enforcer.tool
        def pay(amount: int) -> None:
            self.paid.append(amount)

        return pay

    def work(self, job: Grants, amount: int = 5, *, by: Enforcer | None = None, **options: object) -> None:
        """Do a job, or another part of one."""
        enforcer = by or self.worker
        given = {"holder": KEY, "audience": "payments", "once": True, **options}
        with enforcer.accept(job, **given):
            self.pay(enforcer)(amount=amount)

    def refused(self, job: Grants, **options: object) -> str:
        """Return the code with which a job is refused."""
        with pytest.raises(AgentIdentityError) as refused:
            self.work(job, **options)
        return refused.value.code


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    for enforcer in made.opened:
        enforcer.close()
    for name in NAMES:
        report = Verifier(tmp_path / name / "trust.json").ledger(tmp_path / name)
        assert (report.verdict, report.findings) == ("verified", ())


def test_a_job_runs_after_the_request_has_ended_in_the_name_of_whoever_ordered_it(fleet: Fleet) -> None:
    """The request is over and its task with it; half an hour later the worker acts for the same person."""
    job = fleet.job(ttl=HOUR)
    assert fleet.web.current_task is None
    fleet.clock.advance(1_800)
    with fleet.worker.accept(job, holder=KEY, audience="payments") as task:
        assert (task.principal, task.agent, task.purpose) == (ALICE, CLERK, "pay the invoices")
        fleet.pay(fleet.worker)(amount=5)
    assert fleet.paid == [5]
    fleet.worker.close()
    (told,) = story(fleet.folder / "worker")
    assert told.principal == ALICE.id


def test_ac_25_a_job_is_refused_everywhere_once_its_work_is_done(fleet: Fleet) -> None:
    """A message that the queue delivers again finds no authority, here or in another process."""
    job = fleet.job()
    fleet.work(job)
    assert fleet.refused(job) == fleet.refused(job, by=fleet.spare) == "task_ended"
    assert fleet.paid == [5]


def test_a_job_that_failed_may_be_tried_again_by_another_worker(fleet: Fleet) -> None:
    """An error ends the authority of this attempt alone."""
    job = fleet.job()
    with pytest.raises(ZeroDivisionError), fleet.worker.accept(job, holder=KEY, audience="payments", once=True):
        raise ZeroDivisionError
    fleet.work(job, by=fleet.spare)
    assert fleet.refused(job) == "task_ended"
    assert fleet.paid == [5]


def test_without_once_the_authority_lasts_until_its_time_is_over(fleet: Fleet) -> None:
    """A job in several parts is accepted for each; the time that it got ends it."""
    job = fleet.job(ttl=HOUR)
    fleet.work(job, once=False)
    fleet.work(job, once=False)
    fleet.clock.advance(3_601)
    assert fleet.refused(job) == "expired"
    assert fleet.paid == [5, 5]


def test_the_end_of_one_job_leaves_another_of_the_same_person(fleet: Fleet) -> None:
    """Each job is a task of its own."""
    first, second = fleet.job(), fleet.job()
    fleet.work(first)
    fleet.work(second)
    assert fleet.paid == [5, 5]


@pytest.mark.parametrize("what", [ALICE, CLERK, "task", "everything"])
def test_what_is_revoked_or_suspended_stops_a_job_that_waits(fleet: Fleet, what: object) -> None:
    """The store tells the worker, however long the message lies in the queue."""
    job = fleet.job()
    if what == "task":
        with fleet.worker.accept(job, holder=KEY, audience="payments") as task:
            pass
        fleet.web.revoke(task)
    else:
        fleet.web.revoke(what, suspend=True)
    code = fleet.refused(job)
    assert code in {"revoked", "suspended"}
    if what != "task":
        fleet.web.reinstate(what)
        fleet.work(job)


def test_a_job_covers_what_was_ordered_and_nothing_else(fleet: Fleet) -> None:
    """Scope and limits are those of the order, counted over all attempts."""
    job = fleet.job(limits=[Limit.uses("pay", 2)])
    assert fleet.refused(job, amount=101) == "argument_out_of_scope"
    fleet.work(job, once=False)
    fleet.work(job, once=False, by=fleet.spare)
    assert fleet.refused(job) == "limit_exceeded"
    assert fleet.paid == [5, 5]


def test_a_job_is_for_one_worker_under_one_name(fleet: Fleet) -> None:
    """Who reads the queue has nothing without the key."""
    job = fleet.job()
    assert fleet.refused(job, holder=SigningKey.generate()) == "not_the_holder"
    assert fleet.refused(job, audience="mails") == "wrong_audience"
    assert fleet.refused(job, holder=None) == "not_the_holder"


def test_a_guarded_body_orders_no_job(fleet: Fleet) -> None:
    """It would get authority that outlives its task."""

    @fleet.web.tool
    def order() -> None:
        fleet.job()

    task = fleet.web.task("order", principal=ALICE, agent=CLERK, scope=Scope("order"))
    with task, pytest.raises(Denied) as refused:
        order()
    assert refused.value.code == "task_in_body"


@pytest.mark.parametrize("last", range(4))
def test_a_job_that_cannot_be_recorded_is_not_handed_over(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """Without evidence of its grants, its beginning and its end there is no authority."""
    ledger = type(fleet.web._enforcement.ledger)
    append, written = ledger.append, list[object]()

    def full(this: object, make: object, **options: object) -> object:
        if len(written) == last:
            raise EvidenceError("disk full")
        written.append(make)
        return append(this, make, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", full)
        with pytest.raises(EvidenceError):
            fleet.job()
    assert len(written) == last


async def test_an_async_worker_ends_its_job_too(fleet: Fleet) -> None:
    """``async with`` is the same block."""
    job = fleet.job()
    async with fleet.worker.accept(job, holder=KEY, audience="payments", once=True):
        fleet.pay(fleet.worker)(amount=5)
    assert fleet.refused(job) == "task_ended"
