"""Approvals under attack: reuse for another call, self-approval, forgery, races, and what changes while one waits."""

import asyncio
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from plain_records import error_type

from agent_identity import (
    Agent,
    Decision,
    Denied,
    Effect,
    Enforcer,
    EvidenceError,
    Human,
    Request,
    Rule,
    RuleSet,
    Scope,
    Verifier,
)
from agent_identity._authority.registries.rulings import Ruling, trusted_ruling
from agent_identity._authority.stores.memory import MemoryState
from agent_identity._identity.common.ids import id_of
from agent_identity._identity.principals.principals import principal_from_claim
from agent_identity.approvals import Answer, Approval, ApprovalRequest, Approvers
from agent_identity.constraints import Range
from agent_identity.errors import AgentIdentityError, ConfigurationError, PolicyBlocked
from agent_identity.identity import SigningKey
from agent_identity.limits import Limit
from agent_identity.options import Sources
from agent_identity.testing import FixedClock

ALICE, BOB = Human("alice@example.com"), Human("bob@example.com", roles=("finance",))
POLICY = RuleSet(Rule(Effect.ROUTE, tools="tool", reason="two people decide", id="four-eyes", to="desk"))


def _yes(request: ApprovalRequest) -> Answer:
    return request.approve(by=BOB)


def _world(open_world: Callable[..., object], ask: object = None, /, **options: object) -> object:
    routes = {"desk": Approval(ask=ask, approvers=Approvers(**options))}
    return open_world(policy=POLICY, routes=routes)


def _refused(world: object, code: str, call: Callable[[], object], kind: type[Denied] = Denied) -> Denied:
    """Prove that the call is refused: coded, nothing ran, and a record of it that names rule and approval."""
    ran = len(world.ran)
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.code == code
    assert len(world.ran) == ran
    record = world.records("outcome")[-1]
    assert (record["id"], record["outcome"], record["error"]) == (caught.value.reference, "denied", code)
    assert record["decision"]["enforced"] == "block"
    assert "intent" not in record
    return caught.value


def _approve_all(world: object, by: Human = BOB) -> list[str]:
    with world.enforcer.no_task():
        return [world.enforcer.approvals.approve(request.id, by=by) for request in world.enforcer.approvals.pending()]


def _verdict(world: object) -> str:
    world.enforcer.close()
    return Verifier().ledger(world.directory).verdict


def test_an_approved_call_runs_once_and_the_records_say_who_approved_it(open_world: Callable[..., object]) -> None:
    """Request, approval and call follow each other; approver, digest and the one use are in signed records."""
    world = _world(open_world, _yes)
    body = world.tool()
    with world.task(Scope("tool")):
        assert body(1) == 1
    pending, approved = world.records("approval")
    intent, outcome = world.records("intent", "outcome")
    assert [pending["approval"]["status"], approved["approval"]["status"]] == ["pending", "approved"]
    assert approved["approval"]["approver"] == {
        "id": "bob@example.com",
        "kind": "human",
        "provenance": "asserted",
        "roles": ["finance"],
    }
    assert (intent["decision"]["effect"], intent["decision"]["enforced"]) == ("route", "allow")
    assert (
        pending["approval"]["id"]
        == approved["approval"]["id"]
        == intent["decision"]["approval"]
        == outcome["decision"]["approval"]
    )
    assert pending["action"]["args"] == approved["action"]["args"] == intent["action"]["args"]
    assert outcome["outcome"] == "success"
    ruling = trusted_ruling(approved["approval"]["token"], world.enforcer._enforcement.approvals._trust.now)
    assert (ruling.args, ruling.task, ruling.approver.id) == (
        intent["action"]["args"],
        intent["task"]["id"],
        "bob@example.com",
    )
    assert _verdict(world) == "verified"


def test_ac_64_an_approval_for_one_call_does_not_let_another_run(open_world: Callable[..., object]) -> None:
    """With one argument, the tool or the task changed, the approval of before counts for nothing."""
    policy = RuleSet(Rule(Effect.ROUTE, tools="*", id="four-eyes", to="desk"))
    world = open_world(policy=policy, routes={"desk": Approval()})
    body, other = world.tool(), world.tool("other")
    scope = Scope("tool") | Scope("other")
    with world.task(scope):
        _refused(world, "approval_pending", lambda: body(1, y="a"))
        _approve_all(world)
        _refused(world, "approval_pending", lambda: body(2, y="a"))
        _refused(world, "approval_pending", lambda: body(1, y="b"))
        _refused(world, "approval_pending", lambda: body(1))
        _refused(world, "approval_pending", lambda: other(1, y="a"))
        with world.task(scope):
            _refused(world, "approval_pending", lambda: body(1, y="a"))
        with world.enforcer.delegate(Agent("child", owner="finance@example.com"), scope=scope):
            _refused(world, "approval_pending", lambda: body(1, y="a"))
        assert body(1, y="a") == 1
    assert len(world.ran) == 1
    assert _verdict(world) == "verified"


def test_an_approval_that_ends_while_the_store_answers_is_not_used(open_world: Callable[..., object]) -> None:
    """The call is refused, and a verifier accuses nobody of a late use."""

    class Slow(MemoryState):
        def insert(self, key: str, *, now: int, expires_at: int) -> bool:
            if key.startswith("approval:"):
                world.clock.advance(seconds=5)
            return super().insert(key, now=now, expires_at=expires_at)

    Slow.__slots__ = ()

    def ask(request: ApprovalRequest) -> Answer:
        answer = _yes(request)
        world.clock.advance(seconds=8)
        return answer

    routes = {"desk": Approval(ask=ask, approvers=Approvers(ttl=timedelta(seconds=10)))}
    world = open_world(policy=POLICY, routes=routes, state=Slow())
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_expired", lambda: body(1))
    assert _verdict(world) == "verified"


@pytest.mark.parametrize("change", ["arguments", "tool", "task", "principal", "agent", "request"])
def test_ac_64_a_ruling_that_is_handed_to_another_call_is_refused(
    open_world: Callable[..., object], change: str
) -> None:
    """A desk that returns a good, signed and unused ruling of another call gets a refusal, not a run."""
    kept: list[str] = []

    def ask(request: ApprovalRequest) -> "Answer | str":
        return kept[0] if kept else world.enforcer.approvals.approve(request, by=BOB)

    policy = RuleSet(Rule(Effect.ROUTE, to="desk"))
    world = open_world(policy=policy, routes={"desk": Approval(ask=ask)})
    body, other, scope = world.tool(), world.tool("other"), Scope("tool") | Scope("other")
    with world.task(scope):
        body(1)
        assert len(world.ran) == 1
        record = world.records("approval")[1]
        ruling = trusted_ruling(record["approval"]["token"], world.enforcer._enforcement.approvals._trust.now)
        fresh = {name: getattr(ruling, name) for name in ruling.__slots__ if name != "kid"}
        fresh["id"] = id_of(world.clock.wall_ns(), b"another.")
        signer = world.enforcer._enforcement.approvals._signer
        kept.append(Ruling(**fresh).sign(signer, issuer=world.enforcer._enforcement.approvals._trust.now.issuer))
        if change == "arguments":
            _refused(world, "approval_mismatch", lambda: body(2))
        elif change == "tool":
            _refused(world, "approval_mismatch", lambda: other(1))
        elif change == "agent":
            with world.enforcer.delegate(Agent("child", owner="finance@example.com"), scope=scope):
                _refused(world, "approval_mismatch", lambda: body(1))
        elif change == "request":
            kept.append(record["approval"]["token"])
            del kept[0]
            _refused(world, "approval_used", lambda: body(1))
        elif change == "principal":
            with world.task(scope, principal=Human("carol@example.com")):
                _refused(world, "approval_mismatch", lambda: body(1))
        else:
            with world.task(scope):
                _refused(world, "approval_mismatch", lambda: body(1))
    assert _verdict(world) == "verified"


def test_ac_64_an_answer_to_another_request_is_refused(open_world: Callable[..., object]) -> None:
    """Whoever kept the yes of an earlier call cannot say it again for the next."""
    kept: list[Answer] = []

    def ask(request: ApprovalRequest) -> Answer:
        kept.append(request.approve(by=BOB))
        return kept[0]

    world = _world(open_world, ask)
    body = world.tool()
    with world.task(Scope("tool")):
        body(1)
        _refused(world, "approval_mismatch", lambda: body(1))
        _refused(world, "approval_mismatch", lambda: body(2))


def test_ac_64_an_approval_is_used_once(open_world: Callable[..., object]) -> None:
    """The same call a second time waits for an approval of its own."""
    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_pending", lambda: body(1))
        _approve_all(world)
        body(1)
        _refused(world, "approval_pending", lambda: body(1))
    assert len(world.ran) == 1


@pytest.mark.parametrize(
    "approver", ["alice@example.com", "ALICE@example.com", "invoice-clerk", "\uff41lice@example.com"]
)
def test_ac_64_nobody_approves_their_own_request(open_world: Callable[..., object], approver: str) -> None:
    """Neither the principal, in any spelling and from any issuer, nor the agent by its name."""
    person = Human(approver, issuer="https://other.example")
    world = _world(open_world, lambda request: request.approve(by=person))
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_self", lambda: body(1))


def test_ac_64_the_principal_cannot_approve_out_of_band_either(open_world: Callable[..., object]) -> None:
    """The ruling is not even signed."""
    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_pending", lambda: body(1))
        with pytest.raises(Denied) as caught:
            _approve_all(world, ALICE)
        assert caught.value.code == "approval_self"
        _refused(world, "approval_pending", lambda: body(1))


def test_ac_64_an_owner_of_the_agent_approves_only_where_the_desk_says_so(open_world: Callable[..., object]) -> None:
    """By default the owner is refused, because the agent acts in the owner's interest."""
    owner = Human("finance@example.com")
    for allowed in (False, True):
        world = _world(open_world, lambda request: request.approve(by=owner), owners_may_approve=allowed)
        body = world.tool()
        with world.task(Scope("tool")):
            if allowed:
                body(1)
            else:
                _refused(world, "approval_by_owner", lambda body=body: body(1))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"people": ("carol@example.com",)}, "approver_not_permitted"),
        ({"roles": ("board",)}, "approver_not_permitted"),
        ({"verified": True}, "approver_not_verified"),
    ],
)
def test_ac_64_only_who_may_approve_does(
    open_world: Callable[..., object], options: dict[str, object], code: str
) -> None:
    """A desk that names people, roles or verified identities takes no other approver."""
    world = _world(open_world, _yes, **options)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, code, lambda: body(1))


def _verified(issuer: str, name: str = "bob@example.com") -> Human:
    """Return a person whom an identity provider verified."""
    claim = {"id": name, "kind": "human", "provenance": "verified", "issuer": issuer}
    return cast("Human", principal_from_claim(claim))


def test_ac_64_the_same_id_at_another_issuer_is_another_person(open_world: Callable[..., object]) -> None:
    """Who has the id of an approver at an identity provider of their own may not approve; the one who is meant may."""
    named = Human("bob@example.com", issuer="https://login.example.com")
    said = [_verified("https://login.elsewhere.example")]
    world = _world(open_world, lambda request: request.approve(by=said[0]), verified=True, people=(named,))
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approver_not_permitted", lambda: body(1))
        said[0] = Human("bob@example.com", issuer="https://login.example.com")
        _refused(world, "approver_not_verified", lambda: body(1))
        said[:] = [_verified("https://login.example.com")]
        body(1)


def test_ac_64_nobody_approves_their_own_call_through_another_issuer(open_world: Callable[..., object]) -> None:
    """The id of the principal never approves, whichever identity provider vouches for it."""
    other = _verified("https://login.elsewhere.example", "alice@example.com")
    world = _world(open_world, lambda request: request.approve(by=other), verified=True)
    body = world.tool()
    with world.task(Scope("tool"), principal=_verified("https://login.example.com", "alice@example.com")):
        _refused(world, "approval_self", lambda: body(1))


def test_ac_64_an_agent_cannot_approve_from_inside_a_task(open_world: Callable[..., object]) -> None:
    """Code of a tool that has the enforcer at hand is refused: people decide outside tasks."""
    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_pending", lambda: body(1))
        (request,) = world.enforcer.approvals.pending()
        for decide in (world.enforcer.approvals.approve, world.enforcer.approvals.reject):
            with pytest.raises(Denied) as caught:
                decide(request.id, by=BOB)
            assert caught.value.code == "approval_in_task"
        _refused(world, "approval_pending", lambda: body(1))


@pytest.mark.parametrize("forged", ["other key", "garbage", "dict", "true", "agent", "changed"])
def test_ac_64_a_forged_approval_is_refused(open_world: Callable[..., object], forged: str) -> None:
    """A yes without the issuer's signature, whatever it looks like, is none."""

    def ask(request: ApprovalRequest) -> object:
        if forged in ("other key", "changed"):
            approvals = world.enforcer._enforcement.approvals
            key = SigningKey.generate() if forged == "other key" else approvals._signer
            ruling = Ruling(
                id=request.id,
                status="approved",
                task=request.task,
                tool=request.tool,
                args=request.args,
                principal=request.principal,
                agent=request.agent,
                approver=BOB,
                decided_at=request.requested_at,
                expires_at=request.expires_at,
            )
            token = ruling.sign(key, issuer=approvals._trust.now.issuer)
            return token if forged == "other key" else token[:-8] + "AAAAAAAA"
        if forged == "agent":
            return request.approve(by=Agent("x", owner="y"))
        return {"garbage": "yes", "dict": {"approved": True, "by": "bob"}, "true": True}[forged]

    world = _world(open_world, ask)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_failed" if forged == "agent" else "approval_forged", lambda: body(1))


def test_ac_64_a_ruling_that_somebody_put_into_the_folder_is_refused(open_world: Callable[..., object]) -> None:
    """Whoever can write a file there, but has no key, approves nothing, and the request is gone."""
    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_pending", lambda: body(1))
        (path,) = (world.directory / "approvals").glob("*.request")
        forged = path.with_suffix(".ruling")
        forged.write_text("e30.e30.e30")
        forged.chmod(0o600)
        _refused(world, "approval_forged", lambda: body(1))
        _refused(world, "approval_pending", lambda: body(1))


def test_ac_64_what_the_approver_sees_is_what_runs(open_world: Callable[..., object]) -> None:
    """A request that is altered in the folder is not signed; an approver's callback cannot change the arguments."""
    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_pending", lambda: body(1_000_000))
        (path,) = (world.directory / "approvals").glob("*.request")
        shown = json.loads(path.read_bytes())
        shown["arguments"]["x"] = 1
        path.write_bytes(json.dumps(shown, sort_keys=True, separators=(",", ":")).encode())
        with pytest.raises(ConfigurationError) as caught:
            _approve_all(world)
        assert caught.value.code == "approval_altered"
        _refused(world, "approval_pending", lambda: body(1_000_000))

    def tamper(request: ApprovalRequest) -> Answer:
        request.arguments["x"].append("more")
        return request.approve(by=BOB)

    world = _world(open_world, tamper)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_failed", lambda: body(["a"]))


def test_ac_64_an_expired_approval_is_refused(open_world: Callable[..., object]) -> None:
    """Both a request that nobody answered and an approval that came in time but was not used in time."""
    world = _world(open_world, ttl=timedelta(seconds=60))
    body = world.tool()
    with world.task(Scope("tool"), ttl=timedelta(minutes=10)):
        _refused(world, "approval_pending", lambda: body(1))
        _refused(world, "approval_pending", lambda: body(2))
        with world.enforcer.no_task():
            (request,) = [r for r in world.enforcer.approvals.pending() if r.arguments["x"] == 1]
            world.enforcer.approvals.approve(request.id, by=BOB)
        world.clock.advance(seconds=60)
        _refused(world, "approval_expired", lambda: body(1))
        _refused(world, "approval_expired", lambda: body(2))
        with world.enforcer.no_task(), pytest.raises(Denied) as caught:
            world.enforcer.approvals.approve(request, by=BOB)
        assert caught.value.code == "approval_expired"
    statuses = [record["approval"]["status"] for record in world.records("approval")]
    assert statuses == ["pending", "pending", "expired", "expired"]
    assert [path.name for path in (world.directory / "approvals").iterdir()] == [".gitignore"]


def test_ac_64_an_answer_that_comes_too_late_is_none(open_world: Callable[..., object]) -> None:
    """Whoever thinks for longer than the request waits has to be asked again."""
    world = _world(open_world, lambda request: (world.clock.advance(60), _yes(request))[1], ttl=timedelta(seconds=60))
    body = world.tool()
    with world.task(Scope("tool"), ttl=timedelta(minutes=10)):
        _refused(world, "approval_expired", lambda: body(1))
    assert [record["approval"]["status"] for record in world.records("approval")] == ["pending", "expired"]


def test_ac_64_a_forked_child_takes_no_request_with_it(open_world: Callable[..., object]) -> None:
    """It ends with nothing of its parent's: the request waits on, and is approved."""
    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_pending", lambda: body(1))
        world.enforcer._enforcement.approvals.after_fork_in_child()
        world.enforcer._enforcement.approvals.end()
        _approve_all(world)
        assert body(1) == 1


def test_ac_64_a_call_that_is_delegated_by_itself_finds_its_approval(open_world: Callable[..., object]) -> None:
    """Each attempt has a grant of its own; the same call of another agent is another call."""
    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool")):
        with world.enforcer.delegate(Agent("helper", owner="o"), scope=Scope("tool")):
            _refused(world, "approval_pending", lambda: body(1))
        _approve_all(world)
        with world.enforcer.delegate(Agent("other", owner="o"), scope=Scope("tool")):
            _refused(world, "approval_pending", lambda: body(1))
        with world.enforcer.delegate(Agent("helper", owner="else"), scope=Scope("tool")):
            _refused(world, "approval_pending", lambda: body(1))
        _refused(world, "approval_pending", lambda: body(1))
        with world.enforcer.delegate(Agent("helper", owner="o"), scope=Scope("tool")):
            assert body(1) == 1
            _refused(world, "approval_pending", lambda: body(1))
    assert len(world.ran) == 1


def test_ac_64_requests_end_with_their_task(open_world: Callable[..., object]) -> None:
    """They hold arguments in clear: those of the task go, others wait on; the end of a delegation ends none."""
    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool")) as first:
        with world.enforcer.delegate(Agent("helper", owner="o"), scope=Scope("tool")):
            _refused(world, "approval_pending", lambda: body(1))
        assert len(world.enforcer.approvals.pending()) == 1
        with world.enforcer.no_task(), world.task(Scope("tool")) as second:
            _refused(world, "approval_pending", lambda: body(2))
            first.end()
            assert [request.task for request in world.enforcer.approvals.pending()] == [second.id]
    assert [path.name for path in (world.directory / "approvals").iterdir()] == [".gitignore"]


def test_ac_64_what_a_killed_process_left_is_cleared_away(open_world: Callable[..., object]) -> None:
    """By the next that opens the directory, once it has expired; what cannot be read stops nobody."""
    world = _world(open_world, ttl=timedelta(seconds=60))
    body, folder = world.tool(), world.directory / "approvals"
    with world.task(Scope("tool")):
        _refused(world, "approval_pending", lambda: body(1))
        (path,) = folder.glob("*.request")
        left = path.read_bytes()
    world.enforcer.close()
    assert [found.name for found in folder.iterdir()] == [".gitignore"]
    for moment, there in ((59, True), (60, False)):
        path.touch(0o600)
        path.write_bytes(left)
        clock = FixedClock()
        clock.advance(moment)
        Enforcer.open(world.directory, sources=Sources(clock=clock), policy=POLICY, routes={"desk": Approval()}).close()
        assert path.exists() is there
    path.touch(0o600)
    Enforcer.open(world.directory, policy=POLICY, routes={"desk": Approval()}).close()
    assert path.exists()


def test_ac_64_an_approval_after_the_end_of_the_task_lets_nothing_run(open_world: Callable[..., object]) -> None:
    """The task ended while the person thought, or before they began: nothing runs, whatever they say."""
    world = _world(open_world, lambda request: (task.end(), request.approve(by=BOB))[1])
    body = world.tool()
    with world.task(Scope("tool")) as task:
        _refused(world, "task_ended", lambda: body(1))

    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_pending", lambda: body(1))
    _approve_all(world)
    with pytest.raises(Denied) as caught:
        body(1)
    assert caught.value.code == "no_task"
    with world.task(Scope("tool")):
        _refused(world, "approval_pending", lambda: body(1))
    assert not world.ran


def test_ac_63_what_is_revoked_while_an_approval_waits_does_not_run(open_world: Callable[..., object]) -> None:
    """The kill switch holds between the decision and the body."""

    def ask(request: ApprovalRequest) -> Answer:
        world.enforcer.revoke("task", request.task, reason="stop")
        return request.approve(by=BOB)

    world = _world(open_world, ask)
    body = world.tool()
    with world.task(Scope("tool")), pytest.raises(Denied) as caught:
        body(1)
    assert caught.value.code == "revoked"
    assert not world.ran
    assert not [r for r in world.records("approval") if r["approval"]["status"] == "approved"]


@pytest.mark.parametrize("effect", [Effect.BLOCK, Effect.ALLOW, Effect.ROUTE])
def test_ac_63_a_policy_that_changes_its_mind_meanwhile_is_heard(
    open_world: Callable[..., object], effect: Effect
) -> None:
    """What was approved is the call under the decision of before; under another decision it does not run."""

    class Moody:
        name, version, digest = "moody", "1", "A" * 43
        asked = 0

        def decide(self, request: Request) -> Decision:
            self.asked += 1
            if self.asked == 1:
                return Decision(effect=Effect.ROUTE, reason="policy_routes", route="desk")
            return Decision(effect=effect, reason="changed", route="other" if effect is Effect.ROUTE else None)

    world = open_world(policy=Moody(), routes={"desk": Approval(ask=_yes)})
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_stale", lambda: body(1))


def test_ac_64_of_many_who_race_with_one_approval_exactly_one_runs(open_world: Callable[..., object]) -> None:
    """Sixteen threads make the approved call at the same time: the body runs once."""
    world = _world(open_world)
    body = world.tool()
    codes: list[str] = []
    barrier = threading.Barrier(16)
    with world.task(Scope("tool")):
        with pytest.raises(Denied):
            body(1)
        _approve_all(world)

        def run() -> None:
            barrier.wait()
            try:
                body(1)
            except Denied as denied:
                codes.append(denied.code)

        threads = [threading.Thread(target=world.enforcer.bind(run)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(world.ran) == 1
    assert len(codes) == 15
    assert set(codes) <= {"approval_used", "approval_pending"}
    assert _verdict(world) == "verified"


def _race(directory: str, carried: str, token: str, barrier: object, results: object) -> None:
    routes = {"desk": Approval(ask=lambda _request: token)}
    with Enforcer.open(directory, policy=POLICY, routes=routes) as enforcer:

        @enforcer.tool(name="tool")
        def body(x: int) -> int:
            return x

        with enforcer.accept(carried):
            barrier.wait()
            try:
                results.put(f"ran {body(1)}")
            except AgentIdentityError as error:
                results.put(error.code)


def test_ac_64_two_processes_that_race_with_one_approval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same signed approval in two processes of the same task: one runs, the other is refused, and both verify."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])  # The children import this file.
    context = multiprocessing.get_context("spawn")
    barrier, results, tokens = context.Barrier(2), context.Queue(), []
    with Enforcer.open(tmp_path / "evidence", policy=POLICY, routes={"desk": Approval()}) as enforcer:

        @enforcer.tool(name="tool")
        def body(x: int) -> int:
            raise AssertionError

        with enforcer.task("a purpose", principal=ALICE, agent=Agent("clerk", owner="f@x"), scope=Scope("tool")):
            with pytest.raises(Denied):
                body(1)
            carried = [enforcer.current_task.export() for _ in range(2)]
            with enforcer.no_task():
                tokens.append(enforcer.approvals.approve(enforcer.approvals.pending()[0].id, by=BOB))
            processes = [
                context.Process(target=_race, args=(str(tmp_path / "evidence"), one, tokens[0], barrier, results))
                for one in carried
            ]
            for process in processes:
                process.start()
            found = sorted(results.get(timeout=60) for _ in processes)
            for process in processes:
                process.join(60)
    assert found == ["approval_used", "ran 1"]
    assert Verifier().ledger(tmp_path / "evidence").verdict == "verified"


def test_ac_64_a_rejected_call_does_not_run_and_the_reason_reaches_the_agent(
    open_world: Callable[..., object],
) -> None:
    """The rejection is recorded with who rejected it, signed."""
    world = _world(open_world, lambda request: request.reject(by=BOB, reason="the invoice is a copy"))
    body = world.tool()
    with world.task(Scope("tool")):
        refused = _refused(world, "approval_rejected", lambda: body(1))
    assert "the invoice is a copy" in str(refused)
    pending, rejected = world.records("approval")
    assert rejected["approval"]["status"] == "rejected"
    assert rejected["approval"]["reason"] == "the invoice is a copy"
    assert world.records("outcome")[-1]["decision"]["approval"] == pending["approval"]["id"]
    assert _verdict(world) == "verified"


def test_ac_64_a_desk_that_fails_lets_nothing_run(open_world: Callable[..., object]) -> None:
    """Whatever asking raises, a refusal is recorded, and nothing of the arguments is in it."""

    def ask(request: ApprovalRequest) -> Answer:
        raise RuntimeError(str(request.arguments))

    world = _world(open_world, ask)
    body = world.tool()
    with world.task(Scope("tool")):
        refused = _refused(world, "approval_failed", lambda: body("a canary"))
    assert "canary" not in str(refused)


def test_ac_64_arguments_wait_in_private_and_leave_no_trace(open_world: Callable[..., object]) -> None:
    """They are in one file of mode 0600 until the call is decided, and in no record ever."""
    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_pending", lambda: body("a canary"))
        (path,) = (world.directory / "approvals").glob("*.request")
        assert b"a canary" in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        _approve_all(world)
        body("a canary")
        assert [left.name for left in path.parent.iterdir()] == [".gitignore"]
        _refused(world, "approval_pending", lambda: body("another canary"))
    world.enforcer.close()
    assert [left.name for left in path.parent.iterdir()] == [".gitignore"]
    for file in world.directory.rglob("*"):
        assert not file.is_file() or b"canary" not in file.read_bytes(), file


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of somebody else")
def test_ac_64_a_folder_that_others_can_write_is_refused(open_world: Callable[..., object]) -> None:
    """Requests that others could exchange are neither written nor read."""
    world = _world(open_world)
    (world.directory / "approvals").mkdir(mode=0o755)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_failed", lambda: body(1))
    with pytest.raises(ConfigurationError, match="is open to others"):
        world.enforcer.approvals.pending()


def test_ac_64_a_call_that_is_cancelled_while_it_waits_is_refused(open_world: Callable[..., object]) -> None:
    """The cancellation goes on to whoever cancelled, and the record says that nothing ran."""
    started = asyncio.Event()

    async def ask(request: ApprovalRequest) -> Answer:
        started.set()
        await asyncio.Event().wait()
        return request.approve(by=BOB)

    world = _world(open_world, ask)

    @world.enforcer.tool(name="tool")
    async def body(x: int) -> None:
        world.ran.append(x)

    async def main() -> None:
        with world.task(Scope("tool")):
            running = asyncio.create_task(body(1))
            await started.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(main())
    assert not world.ran
    record = world.records("outcome")[-1]
    assert (record["outcome"], record["error"]) == ("denied", "approval_cancelled")
    assert _verdict(world) == "verified"


def test_ac_64_an_approval_that_cannot_be_recorded_lets_nothing_run(
    open_world: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No evidence, no action: neither without the request's record nor without the approval's."""
    for status in ("pending", "approved"):
        world = _world(open_world, _yes)
        body, append = world.tool(), type(world.enforcer._enforcement.ledger).append

        def failing(self: object, make: object, append: object = append, status: str = status, **k: object) -> object:
            if error_type(make) == "approval" and make.keywords["approval"].status == status:
                raise EvidenceError("full")
            return append(self, make, **k)

        with world.task(Scope("tool")), monkeypatch.context() as patch:
            patch.setattr(type(world.enforcer._enforcement.ledger), "append", failing)
            with pytest.raises((EvidenceError, Denied)):
                body(1)
        assert not world.ran


def test_ac_64_limits_and_grant_hold_for_approved_calls_too(open_world: Callable[..., object]) -> None:
    """An approval widens nothing: outside the grant nobody is asked, and limits are counted when the call runs."""
    world = _world(open_world, _yes)
    body = world.tool()
    with world.task(Scope("tool", x=Range(max=5)), limits=(Limit.uses("tool", 1),)):
        with pytest.raises(Denied) as caught:
            body(6)
        assert caught.value.code == "argument_out_of_scope"
        assert not world.records("approval")
        body(1)
        _refused(world, "limit_exceeded", lambda: body(2))
    assert world.records("approval")[-1]["approval"]["status"] == "pending"


def test_ac_64_in_monitor_mode_nobody_is_asked(open_world: Callable[..., object]) -> None:
    """The call runs, and the record says what would have happened."""
    world = open_world(policy=POLICY, routes={"desk": Approval(ask=_yes)}, mode="monitor")
    body = world.tool()
    with world.task(Scope("tool")):
        body(1)
    assert not world.records("approval")
    assert world.records("intent")[0]["decision"]["enforced"] == "audit"


def test_a_blocked_call_asks_nobody(open_world: Callable[..., object]) -> None:
    """Block comes before route."""
    asked: list[ApprovalRequest] = []
    policy = RuleSet(Rule(Effect.ROUTE, to="desk"), Rule(Effect.BLOCK, id="never"))
    world = open_world(policy=policy, routes={"desk": Approval(ask=asked.append)}, clock=FixedClock())
    body = world.tool()
    with world.task(Scope("tool")), pytest.raises(PolicyBlocked):
        body(1)
    assert not asked
