"""``agent-identity approvals``: people at a shell decide about calls of a process that runs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_identity import Agent, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope
from agent_identity.approvals import Approval

Run = Callable[..., tuple[int, str, str]]
ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="two people decide", id="four-eyes", to="desk"))


@pytest.fixture
def enforcer(tmp_path: Path) -> Iterator[Enforcer]:
    with Enforcer.open(tmp_path / "d", policy=POLICY, routes={"desk": Approval()}) as opened:
        yield opened


def _pay(enforcer: Enforcer) -> Callable[..., str]:
    @enforcer.tool
    def pay(invoice: str, amount: float) -> str:
        return f"paid {invoice} {amount}"

    return pay


def test_a_call_is_shown_approved_and_runs(run: Run, enforcer: Enforcer, tmp_path: Path) -> None:
    """The list shows tool and arguments as they will run; after the approval the same call runs, once."""
    directory, pay = tmp_path / "d", _pay(enforcer)
    assert run("approvals", "list", directory) == (0, "nothing waits for an approval\n", "")
    with enforcer.task("pay it", principal=ALICE, agent=CLERK, scope=Scope("pay")):
        with pytest.raises(Denied, match="is pending"):
            pay("INV-1\x1b[2J", 1800.5)
        code, out, _ = run("approvals", "list", directory)
        lines = out.splitlines()
        request = lines[0].split()[0]
        assert (code, lines[1:]) == (
            0,
            [
                "pay on behalf of alice@example.com, by clerk: pay it",
                "  amount = 1800.5",
                '  invoice = "INV-1\\u001b[2J"',
                "  because two people decide",
            ],
        )
        told = json.loads(run("approvals", "list", directory, "--json")[1])
        (asked,) = told["requests"]
        assert (asked["id"], asked["arguments"]["amount"]) == (request, 1800.5)
        assert run("approvals", "approve", directory, request, "--by", "bob", "--role", "finance") == (
            0,
            f"{request}: approved by bob (asserted)\n",
            "",
        )
        assert run("approvals", "list", directory)[1] == "nothing waits for an approval\n"
        code, _, err = run("approvals", "reject", directory, request, "--by", "carol")
        assert (code, "approved by" in err) == (2, True)
        assert pay("INV-1\x1b[2J", 1800.5).startswith("paid")
        with pytest.raises(Denied, match="is pending"):
            pay("INV-1\x1b[2J", 1800.5)


def test_a_request_that_is_too_long_hides_no_other(run: Run, enforcer: Enforcer, tmp_path: Path) -> None:
    """Nobody can keep a request from being seen by one that nobody can look at."""
    pay = _pay(enforcer)
    with enforcer.task("pay it", principal=ALICE, agent=CLERK, scope=Scope("pay")):
        for invoice in ("a", "b" * 20_000, "c"):
            with pytest.raises(Denied):
                pay(invoice, 1.0)
        code, out, err = run("approvals", "list", tmp_path / "d")
        assert (code, err) == (0, "")
        assert [out.count(text) for text in ('invoice = "a"', 'invoice = "c"', "b" * 100)] == [1, 1, 0]
        assert out.count("  not shown: the arguments have more than 10000 characters") == 1
        pending = enforcer.approvals.pending()
        assert [request.id in out for request in pending] == [True, True, True]


def test_a_call_is_rejected_with_a_reason(run: Run, enforcer: Enforcer, tmp_path: Path) -> None:
    """The agent is told why."""
    directory, pay = tmp_path / "d", _pay(enforcer)
    with enforcer.task("pay it", principal=ALICE, agent=CLERK, scope=Scope("pay")):
        with pytest.raises(Denied):
            pay("INV-1", 1.0)
        request = enforcer.approvals.pending()[0].id
        code, out, _ = run("approvals", "reject", directory, request, "--by", "bob", "--reason", "a copy", "--json")
        assert (code, json.loads(out)) == (0, {"request": request, "status": "rejected", "by": "bob"})
        with pytest.raises(Denied, match="rejected by bob: a copy"):
            pay("INV-1", 1.0)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("approve",), "required: REQUEST, --by"),
        (("approve", "nothing"), "required: --by"),
        (("approve", "nothing", "--by", "bob"), "no pending request has this id"),
        (("approve", "nothing", "--by", "b\nob"), "id has a control"),
    ],
)
def test_what_cannot_be_decided_is_said(
    run: Run, enforcer: Enforcer, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    """A missing or unknown request, or approver, is exit code 2 and one line."""
    code, out, err = run("approvals", words[0], tmp_path / "d", *words[1:])
    assert (code, out) == (2, "")
    assert complaint in err


def test_the_principal_cannot_approve_at_the_shell(run: Run, enforcer: Enforcer, tmp_path: Path) -> None:
    """It is refused there and then."""
    pay = _pay(enforcer)
    with enforcer.task("pay it", principal=ALICE, agent=CLERK, scope=Scope("pay")):
        with pytest.raises(Denied):
            pay("INV-1", 1.0)
        request = enforcer.approvals.pending()[0].id
        code, _, err = run("approvals", "approve", tmp_path / "d", request, "--by", "alice@example.com")
        assert (code, "the approver is the principal" in err) == (2, True)


def test_keys_that_are_elsewhere_sign(run: Run, enforcer: Enforcer, tmp_path: Path) -> None:
    """As where an out-of-process signer holds them: the approval comes from whoever has the keys."""
    directory, pay = tmp_path / "d", _pay(enforcer)
    with enforcer.task("pay it", principal=ALICE, agent=CLERK, scope=Scope("pay")):
        with pytest.raises(Denied):
            pay("INV-1", 1.0)
        request = enforcer.approvals.pending()[0].id
        assert run("approvals", "approve", directory, request, "--by", "bob", "--keys", directory)[0] == 0
        assert pay("INV-1", 1.0) == "paid INV-1 1.0"
