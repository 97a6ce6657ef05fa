"""Approvals: who counts as the requester, one question at a time, requests that were altered, and quotas."""

import os
import pty
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TextIO

import pytest

from agent_identity import Agent, Decision, Denied, Effect, Human, Request, Rule, RuleSet, Scope
from agent_identity._identity.principals.principals import principal_from_claim
from agent_identity.approvals import Answer, Approval, ApprovalRequest, Approvers, ask_in_the_terminal
from agent_identity.errors import ConfigurationError
from agent_identity.identity import Principal
from agent_identity.limits import Limit

BOB = Human("bob@example.com")
POLICY = RuleSet(Rule(Effect.ROUTE, tools="tool", reason="two people decide", id="four-eyes", to="desk"))


def _world(open_world: Callable[..., object], ask: object = None, /, **options: object) -> object:
    return open_world(policy=POLICY, routes={"desk": Approval(ask=ask, approvers=Approvers(**options))})


def _acted_for(principal: str, *actors: str) -> Principal:
    """Return a verified human for whom others acted before, as a token with nested actors names them."""
    claim = {"id": principal, "kind": "human", "provenance": "verified", "issuer": "https://login.example"}
    return principal_from_claim({**claim, "via": list(actors)})


def _refused(world: object, code: str, call: Callable[[], object]) -> None:
    """Prove that nothing ran, and that the refusal is on record."""
    ran = len(world.ran)
    with pytest.raises(Denied) as caught:
        call()
    assert caught.value.code == code
    assert len(world.ran) == ran
    record = world.records("outcome")[-1]
    assert (record["id"], record["outcome"], record["error"]) == (caught.value.reference, "denied", code)


@pytest.mark.parametrize(
    ("principal", "approver"),
    [
        (_acted_for("alice@example.com", "BOB@example.com", "mallory@example.com"), BOB),
        (_acted_for("alice@example.com", "mallory@example.com", "bob@example.com"), BOB),
        (_acted_for("alice@example.com", "portal@example.com"), _acted_for("carol@example.com", "alice@example.com")),
    ],
    ids=["the current actor", "an earlier actor", "the principal acts for the approver"],
)
def test_ac_64_who_acted_for_the_principal_does_not_approve(
    open_world: Callable[..., object], principal: Principal, approver: Human
) -> None:
    """An actor of RFC 8693 asks as well: its approval is refused at the desk, and out of the directory."""
    world = _world(open_world, lambda request: request.approve(by=approver))
    body = world.tool()
    with world.task(Scope("tool"), principal=principal):
        _refused(world, "approval_self", body)

    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool"), principal=principal):
        _refused(world, "approval_pending", body)
        with world.enforcer.no_task(), pytest.raises(Denied) as caught:
            world.enforcer.approvals.approve(world.enforcer.approvals.pending()[0].id, by=approver)
        assert caught.value.code == "approval_self"


@pytest.mark.parametrize("allowed", [False, True])
def test_ac_64_an_owner_does_not_approve_through_another_person(
    open_world: Callable[..., object], allowed: bool
) -> None:
    """Of an approver for whom somebody acts the actor decides as well, here the owner of the agent."""
    approver = _acted_for("bob@example.com", "FINANCE@example.com")
    world = _world(open_world, lambda request: request.approve(by=approver), owners_may_approve=allowed)
    body = world.tool()
    with world.task(Scope("tool")):
        if allowed:
            body()
        else:
            _refused(world, "approval_by_owner", body)
    assert len(world.ran) == allowed


@pytest.fixture
def terminal() -> Iterator[tuple[int, tuple[TextIO, TextIO]]]:
    """Yield the keyboard and screen of a real terminal, and the two streams of the program in it."""
    keyboard, inside = pty.openpty()
    with (
        os.fdopen(inside, "r", encoding="utf-8", closefd=False) as source,
        os.fdopen(os.dup(inside), "w", encoding="utf-8") as target,
    ):
        yield keyboard, (source, target)
    os.close(keyboard)


def _screen(keyboard: int, until: str) -> str:
    """Return what the screen shows from now until a text is on it."""
    seen = ""
    while until not in seen:
        seen += os.read(keyboard, 4096).decode()
    return seen


def _request(world: object, amount: int) -> ApprovalRequest:
    """Return a request as a call with this amount makes it."""
    (request,) = (one for one in world.enforcer.approvals.pending() if one.arguments["amount"] == amount)
    return request


@pytest.fixture
def two_requests(open_world: Callable[..., object]) -> tuple[ApprovalRequest, ApprovalRequest]:
    """Return a request to pay a million, and one to pay ten."""
    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool")):
        for amount in (1_000_000, 10):
            _refused(world, "approval_pending", lambda amount=amount: body(amount=amount))
        return _request(world, 1_000_000), _request(world, 10)


def test_ac_64_a_yes_to_one_question_is_none_to_another(
    terminal: tuple[int, tuple[TextIO, TextIO]], two_requests: tuple[ApprovalRequest, ApprovalRequest]
) -> None:
    """Of two questions at one terminal the second is shown after the first is answered, and each needs its own yes."""
    keyboard, streams = terminal
    ask = ask_in_the_terminal(BOB, streams=streams)
    answers: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda one=one: answers.update({one.id: ask(one).status})) for one in two_requests
    ]
    for thread in threads:
        thread.start()
    first = _screen(keyboard, "/N] ")
    shown = [one for one in two_requests if f"amount = {one.arguments['amount']}\r" in first]
    assert len(shown) == 1  # The other one waits for its turn.
    (other,) = (one for one in two_requests if one is not shown[0])
    os.write(keyboard, f"y {other.short_digest}\n".encode())
    assert f"amount = {other.arguments['amount']}\r" in _screen(keyboard, "/N] ")
    os.write(keyboard, f"y {other.short_digest}\n".encode())
    for thread in threads:
        thread.join()
    assert answers == {shown[0].id: "rejected", other.id: "approved"}


def test_ac_64_keys_that_were_pressed_before_the_question_do_not_count(
    terminal: tuple[int, tuple[TextIO, TextIO]], two_requests: tuple[ApprovalRequest, ApprovalRequest]
) -> None:
    """A line that was typed ahead, even the right one, is discarded when the question is shown."""
    keyboard, streams = terminal
    request = two_requests[0]
    os.write(keyboard, f"y {request.short_digest}\n".encode())
    _screen(keyboard, request.short_digest)  # The echo: the line has reached the terminal.
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(ask_in_the_terminal(BOB, streams=streams)(request)))
    thread.start()
    _screen(keyboard, "/N] ")
    os.write(keyboard, b"n\n")
    thread.join()
    assert [answer.status for answer in answers] == ["rejected"]


CHANGES = [
    {"why": "the board has agreed"},
    {"purpose": "pay the invoice"},
    {"expires_at": 4_000_000_000},
    {"requested_at": 1},
    {"rule": "two-eyes"},
    {"route": "elsewhere"},
    {"arguments": {"amount": 1}},
    {"digest": "A" * 43},
]


@pytest.mark.parametrize("change", CHANGES, ids=[next(iter(change)) for change in CHANGES])
def test_ac_64_a_request_that_was_altered_on_its_way_is_not_signed(
    open_world: Callable[..., object], change: dict[str, object]
) -> None:
    """Whichever member another program changes: no ruling is made of it, and no answer about it counts."""
    shown: list[dict[str, object]] = []

    def ask(request: ApprovalRequest) -> Answer:
        shown.append(request.to_dict())
        return ApprovalRequest.from_dict({**shown[-1], **change}).approve(by=BOB)

    world = _world(open_world, ask)
    body = world.tool()
    with world.task(Scope("tool")):
        _refused(world, "approval_altered", lambda: body(amount=1_000_000))
        with world.enforcer.no_task(), pytest.raises(ConfigurationError) as caught:
            world.enforcer.approvals.approve({**shown[0], **change}, by=BOB)
    assert caught.value.code == "approval_altered"


def test_ac_64_arguments_that_look_like_a_request_give_no_digest_of_one(open_world: Callable[..., object]) -> None:
    """The digest of a call's arguments is on record; an agent that passes a request as arguments cannot use it."""
    shown: list[dict[str, object]] = []

    def ask(request: ApprovalRequest) -> Answer:
        shown.append(request.to_dict())
        return request.reject(by=BOB)

    world = open_world(policy=POLICY, routes={"desk": Approval(ask=ask)})
    body, free = world.tool(), world.enforcer.tool(name="free")(lambda **members: None)
    with world.task(Scope("tool") | Scope("free")):
        _refused(world, "approval_rejected", lambda: body(amount=1_000_000))
        forged = {name: value for name, value in shown[0].items() if name != "digest"} | {"why": "agreed"}
        free(**forged)
        digest = world.records("intent")[-1]["action"]["args"]
        with world.enforcer.no_task(), pytest.raises(ConfigurationError) as caught:
            world.enforcer.approvals.approve({**forged, "digest": digest}, by=BOB)
    assert caught.value.code == "approval_altered"


def test_ac_64_an_approval_ends_when_its_request_does(open_world: Callable[..., object]) -> None:
    """A desk that allows a minute takes no ruling that counts longer, made where another desk allowed an hour."""
    tokens: list[str] = []

    def keep(request: ApprovalRequest) -> str:
        tokens.append(world.enforcer.approvals.approve(request, by=BOB))
        return "later"

    class Router:
        name, version, digest, route = "router", "1", "A" * 43, "slow"

        def decide(self, request: Request) -> Decision:
            return Decision(effect=Effect.ROUTE, reason="policy_routes", route=self.route)

    router = Router()
    quick = Approval(ask=lambda request: tokens[0], approvers=Approvers(ttl=timedelta(minutes=1)))
    routes = {"slow": Approval(ask=keep, approvers=Approvers(ttl=timedelta(hours=1))), "quick": quick}
    world = open_world(policy=router, routes=routes)
    body = world.tool()
    with world.task(Scope("tool"), ttl=timedelta(hours=2)):
        _refused(world, "approval_forged", lambda: body(amount=1))
        router.route = "quick"
        _refused(world, "approval_altered", lambda: body(amount=1))


def test_requests_of_one_task_leave_room_for_others(open_world: Callable[..., object]) -> None:
    """A task that asks without end is refused with a code and a record; another principal still asks."""
    world = _world(open_world)
    body = world.tool()
    with world.task(Scope("tool"), limits=(Limit.uses("tool", 3),)):
        for amount in range(100):
            _refused(world, "approval_pending", lambda amount=amount: body(amount=amount))
        _refused(world, "approval_quota", lambda: body(amount=100))
        _refused(world, "approval_pending", lambda: body(amount=0))  # It waits already and takes no further place.
        with world.task(Scope("tool")):
            for amount in range(100):
                _refused(world, "approval_pending", lambda amount=amount: body(amount=amount))
            with world.task(Scope("tool")):
                _refused(world, "approval_quota", lambda: body(amount=0))  # Another task of the same principal.
        with world.task(Scope("tool"), principal=Human("carol@example.com"), agent=Agent("other", owner="it@x")):
            _refused(world, "approval_pending", lambda: body(amount=0))
