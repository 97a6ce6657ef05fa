"""The verifier counts what ran against the limits that the grants state."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent_identity import Agent, Denied, Enforcer, Human, Scope, Verifier
from agent_identity.adapters import CallRequest
from agent_identity.audit import disclose
from agent_identity.limits import Limit
from agent_identity.options import Privacy
from agent_identity.state import MemoryState
from agent_identity.testing import Records

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")


def _apart(directory: Path, limits: tuple[Limit, ...], work: Callable[[Callable[..., object], int], None]) -> None:
    """Run work in three processes of one task, as it were, whose states know nothing of each other."""
    with ExitStack() as stack:
        enforcers = [
            stack.enter_context(Enforcer.open(directory, state=MemoryState(), privacy=Privacy(disclosable=True)))
            for _ in range(3)
        ]
        pay, *others = [enforcer.tool(name="pay")(lambda amount=1: None) for enforcer in enforcers]
        with enforcers[0].task("pay", principal=ALICE, agent=CLERK, scope=Scope("pay"), limits=limits):
            carried = [enforcers[0].current_task.export() for _ in others]
            work(pay, 0)
            with enforcers[0].delegate(Agent("helper", owner="finance@example.com"), scope=Scope("pay")):
                work(pay, 1)
        for number, (enforcer, tool, bundle) in enumerate(zip(enforcers[1:], others, carried, strict=True), 2):
            with enforcer.accept(bundle):
                work(tool, number)


@pytest.mark.parametrize("tool", ["pay", "*"])
def test_ac_06_uses_beyond_the_limit_are_found(tmp_path: Path, tool: str) -> None:
    """Where processes shared no state, more bodies ran than the grant allows, which its records show."""
    _apart(tmp_path / "d", (Limit.uses(tool, 3),), lambda pay, number: pay())
    report = Verifier().ledger(tmp_path / "d")
    assert (report.verdict, {found.code for found in report.findings}) == ("contradicted", {"limit_exceeded"})


@pytest.mark.parametrize("processes", [1, 2])
def test_uses_within_the_limit_verify(tmp_path: Path, processes: int) -> None:
    """As many as the grant allows, over a delegation and other processes, verify; a refused call is no use."""
    _apart(tmp_path / "d", (Limit.uses("pay", 4),), lambda pay, number: pay())
    assert Verifier(processes=processes).ledger(tmp_path / "d").verdict == "verified"

    def once(pay: Callable[..., object], number: int) -> None:
        if number == 0:
            pay()
        elif number == 1:
            with pytest.raises(Denied):
                pay()

    _apart(tmp_path / "e", (Limit.uses("pay", 1),), once)
    report = Verifier(processes=processes).ledger(tmp_path / "e")
    assert (report.verdict, report.counts["denied"]) == ("verified", 1)


def test_ac_06_disclosed_amounts_beyond_a_sum_are_found(tmp_path: Path) -> None:
    """What was paid can be shown call by call, and adds up to more than the grant allows, or does not."""
    directory = tmp_path / "d"
    _apart(directory, (Limit.sum("pay", "amount", 100),), lambda pay, number: pay(amount=50) if number != 1 else None)
    assert Verifier().ledger(directory).verdict == "verified"  # Nobody can tell from digests.
    outcomes = [record.id for record in Records(directory) if record.kind == "outcome"]
    shown = [disclose(directory, outcome, {"amount": 50}) for outcome in outcomes]
    assert len(shown) == 3
    assert Verifier().ledger(directory, disclosures=shown[:2]).verdict == "verified"
    report = Verifier().ledger(directory, disclosures=shown)
    assert (report.verdict, {found.code for found in report.findings}) == ("contradicted", {"limit_exceeded"})


def test_a_suspension_that_nobody_recorded_accuses_nobody(tmp_path: Path) -> None:
    """The process died after its call had left its share and before the outcome was written: the rerun ends once."""

    class Interrupted(BaseException):
        pass

    directory = tmp_path / "d"
    with Enforcer.open(directory) as enforcer:
        guard = enforcer.guard("pay", suspends=(Interrupted,))
        scope, limits = Scope("pay"), (Limit.uses("pay", 1),)
        with enforcer.task("pay", principal=ALICE, agent=CLERK, scope=scope, limits=limits):
            call = guard.judge(CallRequest({}, call_id="call-1"))
            call.reserved.suspend()  # What is left of a process that ended before it recorded the suspension.
            guard.succeed(guard.judge(CallRequest({}, call_id="call-1")))
            with pytest.raises(Denied):
                guard.judge(CallRequest({}, call_id="call-2"))
    report = Verifier().ledger(directory)
    assert (report.verdict, report.counts["unknown"], report.counts["denied"]) == ("verified", 1, 1)
