"""Desks, requests and answers; every kind of callable waits; the terminal; waiting for a decision."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope, Service, canonical, verify
from agent_identity._guard.approvals import terminal as terminal_desk
from agent_identity._guard.approvals.inbox import ApprovalInbox
from agent_identity._guard.tasks.suspensions import leave, mark_of, taken_over
from agent_identity.approvals import Answer, Approval, ApprovalRequest, Approvers, ask_in_the_terminal
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied, NoTask, StateError
from agent_identity.options import Privacy
from agent_identity.state import MemoryState

BOB = Human("bob@example.com")
POLICY = RuleSet(Rule(Effect.ROUTE, tools="tool", reason="two people decide", id="four-eyes", to="desk"))


def yes(request: ApprovalRequest) -> Answer:
    """Approve everything."""
    return request.approve(by=BOB)


async def yes_later(request: ApprovalRequest) -> Answer:
    """Approve everything, after a turn of the event loop."""
    await asyncio.sleep(0)
    return request.approve(by=BOB)


def request_of(**changes: Any) -> ApprovalRequest:
    """A request that nobody made."""
    given = {
        "id": "AYkKXayWd0u8zrMCCZqAVw",
        "tool": "tool",
        "arguments": {"x": 1},
        "args": "A" * 43,
        "task": "AYkKXayWd0u8zrMCCZqAWA",
        "purpose": "pay",
        "principal": Human("alice@example.com"),
        "agent": Agent("clerk", owner="finance@example.com"),
        "route": "desk",
        "requested_at": 1,
        "expires_at": 2,
    }
    return ApprovalRequest(**{**given, **changes})


@pytest.mark.parametrize("ask", [yes, yes_later])
def test_each_kind_of_callable_waits_for_its_approval(opened: Callable[..., Any], ask: Any) -> None:
    """Functions, coroutines, generators, async generators and blocks; a coroutine function asks only where it can."""
    world = opened(policy=POLICY, routes={"desk": Approval(ask=ask)})
    ran: list[str] = []

    @world.enforcer.tool(name="tool")
    def function(x: int) -> int:
        ran.append("function")
        return x

    @world.enforcer.tool(name="tool")
    async def coroutine(x: int) -> int:
        ran.append("coroutine")
        return x

    @world.enforcer.tool(name="tool")
    def generator(x: int) -> Iterator[int]:
        ran.append("generator")
        yield x

    @world.enforcer.tool(name="tool")
    async def async_generator(x: int) -> AsyncIterator[int]:
        ran.append("async generator")
        yield x

    async def later() -> None:
        assert await coroutine(1) == 1
        assert [item async for item in async_generator(2)] == [2]
        async with world.enforcer.action("tool", x=3) as call:
            ran.append(f"async block {call.arguments['x']}")

    with world.task(Scope("tool")):
        asyncio.run(later())
        assert ran == ["coroutine", "async generator", "async block 3"]
        for run in (lambda: function(4), lambda: list(generator(5))):
            if ask is yes:
                run()
            else:
                with pytest.raises(Denied) as caught:
                    run()
                assert caught.value.code == "approval_failed"
        if ask is yes:
            with world.enforcer.action("tool", x=7):
                ran.append("block")
            assert ran[3:] == ["function", "generator", "block"]


@pytest.mark.parametrize("ask", [yes, yes_later])
async def test_an_approved_generator_runs_under_the_task_that_created_it(opened: Callable[..., Any], ask: Any) -> None:
    """Its body gets no authority of the task whose code consumes it, also where a person had to be asked first."""
    world = opened(policy=POLICY, routes={"desk": Approval(ask=ask)})
    other = world.enforcer.tool(name="other")(lambda: "ran")

    @world.enforcer.tool(name="tool")
    async def generator() -> AsyncIterator[object]:
        yield other()

    with world.task(Scope("tool")):
        stream = generator()
        with world.task(Scope("tool") | Scope("other")), pytest.raises(Denied) as caught:
            await anext(stream)
    assert caught.value.code == "tool_not_granted"


def test_who_asks_acts_outside_the_task(opened: Callable[..., Any]) -> None:
    """A guarded tool that the desk calls is refused, and so is the call that was to be approved."""

    def ask(request: ApprovalRequest) -> Answer:
        other()
        return request.approve(by=BOB)

    world = opened(policy=POLICY, routes={"desk": Approval(ask=ask)})
    other = world.enforcer.tool(name="other")(lambda: None)
    body = world.enforcer.tool(name="tool")(lambda: None)
    with world.task(Scope("tool") | Scope("other")), pytest.raises(Denied) as caught:
        body()
    assert caught.value.code == "approval_failed"
    assert [record["error"] for record in world.records("outcome")] == ["no_task", "approval_failed"]


def test_arguments_that_nobody_can_be_shown_are_not_approved(opened: Callable[..., Any]) -> None:
    """An object passes by reference: an approver would sign for what they did not see."""
    world = opened(policy=POLICY, routes={"desk": Approval(ask=yes)})
    body = world.enforcer.tool(name="tool")(lambda x: x)
    with world.task(Scope("tool")), pytest.raises(Denied) as caught:
        body(object())
    assert caught.value.code == "approval_unbindable"


def test_a_call_without_arguments_is_approved_as_such(opened: Callable[..., Any]) -> None:
    """There is no digest, in the ruling as in the record."""
    world = opened(policy=POLICY, routes={"desk": Approval(ask=yes)})
    body = world.enforcer.tool(name="tool")(lambda: "ran")
    with world.task(Scope("tool")):
        assert body() == "ran"
    assert "args" not in world.records("approval")[-1]["action"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_call_waits_for_the_decision_of_another_thread(opened: Callable[..., Any], mode: str) -> None:
    """It goes on as soon as somebody has decided."""
    world = opened(policy=POLICY, routes={"desk": Approval(wait=timedelta(seconds=60))})
    approvals, put = world.enforcer.approvals, ApprovalInbox.put
    asked = threading.Event()

    def noted(self: ApprovalInbox, name: str, request: ApprovalRequest, *, now: int) -> ApprovalRequest:
        kept = put(self, name, request, now=now)
        asked.set()
        return kept

    def decide() -> None:
        assert asked.wait(30)
        approvals.approve(approvals.pending()[0].id, by=BOB)

    person = threading.Thread(target=decide)
    with pytest.MonkeyPatch.context() as patch, world.task(Scope("tool")):
        patch.setattr(ApprovalInbox, "put", noted)
        person.start()
        if mode == "sync":
            assert world.enforcer.tool(name="tool")(lambda x: x)(1) == 1
        else:

            @world.enforcer.tool(name="tool")
            async def body(x: int) -> int:
                return x

            assert asyncio.run(body(1)) == 1
    person.join()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_wait_that_is_over_refuses_as_pending(opened: Callable[..., Any], mode: str) -> None:
    """The request stays, and the next call finds it."""
    world = opened(policy=POLICY, routes={"desk": Approval(wait=timedelta(milliseconds=100))})

    @world.enforcer.tool(name="tool")
    async def later(x: int) -> int:
        return x

    body = world.enforcer.tool(name="tool")(lambda x: x)
    with world.task(Scope("tool")):
        for _ in range(2):
            with pytest.raises(Denied) as caught:
                asyncio.run(later(1)) if mode == "async" else body(1)
            assert caught.value.code == "approval_pending"
    assert len(world.records("approval")) == 1


def test_a_desk_of_files_needs_a_directory(opened: Callable[..., Any]) -> None:
    """An enforcer of parts has none, and says so."""
    world = opened(policy=POLICY, routes={"desk": Approval()})
    world.enforcer.approvals._box = None
    body = world.enforcer.tool(name="tool")(lambda x: x)
    with world.task(Scope("tool")), pytest.raises(Denied) as caught:
        body(1)
    assert caught.value.code == "approval_failed"
    with pytest.raises(ConfigurationError, match=r"Enforcer\.open"):
        world.enforcer.approvals.pending()


def test_a_store_that_does_not_answer_approves_nothing(opened: Callable[..., Any]) -> None:
    """Whether the approval was used is then not known."""

    class Deaf(MemoryState):
        def insert(self, key: str, *, now: int, expires_at: int) -> bool:
            if key.startswith("approval:"):
                raise StateError("away")
            return super().insert(key, now=now, expires_at=expires_at)

    Deaf.__slots__ = ()
    world = opened(policy=POLICY, routes={"desk": Approval(ask=yes)}, state=Deaf())
    body = world.enforcer.tool(name="tool")(lambda x: x)
    with world.task(Scope("tool")), pytest.raises(Denied) as caught:
        body(1)
    assert caught.value.code == "state_unavailable"


@pytest.mark.parametrize("key", ["approve", "issuer"])
def test_requests_are_taken_as_dictionaries_and_nothing_else_is(opened: Callable[..., Any], key: str) -> None:
    """What travelled elsewhere as JSON is signed, as long as it is whole."""
    world = opened(policy=POLICY, routes={"desk": Approval()})
    body = world.enforcer.tool(name="tool")(lambda x: x)
    with world.task(Scope("tool")):
        with pytest.raises(Denied):
            body(1)
        with world.enforcer.no_task():
            (request,) = world.enforcer.approvals.pending()
            token = world.enforcer.approvals.approve(request.to_dict(), by=BOB)
            assert token.count(".") == 2
            with pytest.raises(TypeError, match="request"):
                world.enforcer.approvals.approve(1, by=BOB)
            for wrong in ({}, {**request.to_dict(), "extra": 1}):
                with pytest.raises(ConfigurationError):
                    world.enforcer.approvals.approve(wrong, by=BOB)
            with pytest.raises(TypeError, match="only people approve"):
                world.enforcer.approvals.approve(request, by=Service("svc") if key == "issuer" else BOB.id)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"approvers": ("bob",)}, r"write Approvers\(people="),
        ({"wait": timedelta(seconds=-1)}, "wait"),
        ({"wait": timedelta(seconds=1), "ask": yes}, "wait"),
    ],
)
def test_a_desk_that_breaks_a_rule_is_not_made(options: dict[str, Any], message: str) -> None:
    """Slips show where they are made."""
    with pytest.raises((TypeError, ValueError), match=message):
        Approval(**options)


class Names(tuple[str, ...]):
    """Could change what it holds."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"people": "bob"}, "a tuple of"),
        ({"people": ["bob"]}, r"people is list; give a tuple of .*; write \(…,\)"),
        ({"people": Names(("bob",))}, "people must be in a tuple, not Names"),
        ({"people": ()}, "people is empty, so that no one could approve"),
        ({"people": ("",)}, "each of people has 0 characters"),
        ({"people": (Agent("bob", owner="finance"),)}, r"people\[0\] is Agent"),
        ({"roles": ["finance"]}, "a tuple of"),
        ({"roles": ()}, "roles is empty, so that no one could approve"),
        ({"roles": (" board",)}, "each of roles has spaces"),
        ({"verified": 1}, "verified is 1; give bool"),
        ({"owners_may_approve": "no"}, "owners_may_approve is str"),
        ({"ttl": 60}, "ttl is 60; give a datetime.timedelta"),
        ({"ttl": timedelta(0)}, "ttl is out of range"),
        ({"ttl": timedelta(seconds=-60)}, "ttl is out of range"),
        ({"ttl": timedelta(days=31)}, "ttl is out of range"),
    ],
)
def test_approvers_that_break_a_rule_are_not_made(options: dict[str, Any], message: str) -> None:
    """An empty list lets no one approve, rather than everyone."""
    with pytest.raises((TypeError, ValueError), match=message):
        Approvers(**options)


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": 1},
        {"requested_at": "1"},
        {"tool": 1},
        {"principal": {}},
        {"agent": "clerk"},
        {"why": None},
        {"surplus": "x"},
    ],
)
def test_a_request_that_is_none_is_not_read(change: dict[str, Any]) -> None:
    """Every member has its form."""
    with pytest.raises(ValueError, match="approval request"):
        ApprovalRequest.from_dict({**request_of().to_dict(), **change})
    with pytest.raises(ValueError, match="object"):
        ApprovalRequest.from_dict([])


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.integers(-(2**53), 2**53) | st.text(max_size=5)))
def test_a_request_comes_back_as_it_was(arguments: dict[str, Any]) -> None:
    """Through JSON, for whatever arguments; its representation shows none of them."""
    request = request_of(arguments=arguments, why="because", rule="r")
    assert ApprovalRequest.from_dict(request.to_dict()) == request
    assert "arguments" not in repr(request)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("y {digest}\n", "approved"),
        (" YES  {digest} \n", "approved"),
        ("y\n", "rejected"),
        ("y 0000\n", "rejected"),
        ("y {digest} y\n", "rejected"),
        ("{digest}\n", "rejected"),
        ("", "rejected"),
        ("n\n", "rejected"),
    ],
)
def test_the_terminal_shows_what_will_run_and_takes_a_yes(said: str, status: str) -> None:
    """Anything but a yes that repeats the short digest is a no; nothing that is shown can steer the terminal."""
    target = io.StringIO()
    request = request_of(arguments={"note": "\x1b[2J", "x": 1}, why="two people\x07")
    ask = ask_in_the_terminal(BOB, streams=(io.StringIO(said.format(digest=request.short_digest)), target))
    answer = ask(request)
    assert (answer.status, answer.approver) == (status, BOB)
    assert target.getvalue() == (
        "tool on behalf of alice@example.com, by clerk: pay\n"
        '  note = "\\u001b[2J"\n'
        "  x = 1\n"
        "  because two people\\x07\n"
        f"approve request {request.short_digest} as bob@example.com? [y {request.short_digest}/N] "
    )


def test_the_name_of_an_argument_passes_for_nothing_else() -> None:
    """A name that an agent makes up cannot look like another argument, another line, or the end of the question."""
    target = io.StringIO()
    names = ("amount = 1\n  note", "x\x1b[2J", 'because "ok"', "", "a b", "a.b", "class", "é", "\u202ex", "\ud800")
    ask_in_the_terminal(BOB, streams=(io.StringIO("y\n"), target))(request_of(arguments=dict.fromkeys(names, "\udfff")))
    lines = target.getvalue().splitlines()
    assert lines[1:-1] == [
        '  "" = "\\udfff"',
        '  "a b" = "\\udfff"',
        '  "a.b" = "\\udfff"',
        '  "amount = 1\\n  note" = "\\udfff"',
        '  "because \\"ok\\"" = "\\udfff"',
        '  class = "\\udfff"',
        '  "x\\u001b[2J" = "\\udfff"',
        '  é = "\\udfff"',
        '  "\\u202ex" = "\\udfff"',
        '  "\\ud800" = "\\udfff"',
    ]


@pytest.mark.parametrize(
    "named", ["bob@example.com", Human("bob@example.com"), Human("carol@example.com", issuer="https://a.example")]
)
def test_a_verified_approver_is_named_with_an_issuer(named: str | Human) -> None:
    """A bare id would be whoever any issuer calls so; and nothing but ids and people names an approver."""
    good = Human("bob@example.com", issuer="https://a.example")
    assert Approvers(verified=True, people=(good,)).people == (good,)
    assert Approvers(people=(named, good)).people == (named, good)
    if getattr(named, "issuer", None) is None:
        with pytest.raises(ValueError, match="issuer="):
            Approvers(verified=True, people=(good, named))
    with pytest.raises(TypeError):
        Approvers(roles=(good,))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Approvers(people=(Service("bob"),))  # type: ignore[arg-type]


def test_the_terminal_of_the_process_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not its standard input; without a terminal, or with too much to look at, nothing is approved."""
    terminal = tmp_path / "tty"
    terminal.write_text("y\n")
    monkeypatch.setattr(terminal_desk, "_TERMINAL", terminal)
    ask = ask_in_the_terminal(BOB)
    ask(request_of())
    assert "as bob@example.com?" in terminal.read_text()
    with pytest.raises(ConfigurationError, match="characters"):
        ask(request_of(arguments={"x": "y" * 20_000}))
    monkeypatch.setattr(terminal_desk, "_TERMINAL", tmp_path / "none" / "tty")
    with pytest.raises(AgentIdentityError, match="has no terminal"):
        ask(request_of())


def test_files_that_are_no_requests_are_named(tmp_path: Path) -> None:
    """Somebody wrote something else there, or too much."""
    box = ApprovalInbox(tmp_path / "approvals")
    assert list(box.waiting()) == []
    first = box.put("a", request_of(), now=1)
    assert box.put("a", request_of(purpose="other"), now=1) == first
    path = tmp_path / "approvals" / "a.request"
    path.write_bytes(b"{}")
    with pytest.raises(ConfigurationError, match=r"approvals/a\.request"):
        box.find("a")
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to group"):
        box.find("a")
    box.remove("a")
    assert box.find("a") is None


def test_the_box_is_full_some_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that asks for ever fills no disk; what has expired makes room."""
    monkeypatch.setattr("agent_identity._guard.approvals.inbox.MAX_WAITING", 1)
    box = ApprovalInbox(tmp_path / "approvals")
    request = request_of()
    box.put("a", request, now=1)
    with pytest.raises(Denied) as caught:
        box.put("b", request, now=request.expires_at - 1)
    assert caught.value.code == "approval_quota"
    box.put("b", request, now=request.expires_at)
    assert [name for name, _ in box.waiting()] == ["b"]


def test_expired_requests_are_cleared_away(opened: Callable[..., Any]) -> None:
    """By whoever looks."""
    world = opened(policy=POLICY, routes={"desk": Approval(approvers=Approvers(ttl=timedelta(seconds=5)))})
    body = world.enforcer.tool(name="tool")(lambda x: x)
    with world.task(Scope("tool")):
        with pytest.raises(Denied):
            body(1)
        world.clock.advance(5)
        assert world.enforcer.approvals.pending() == ()
    assert [path.name for path in (world.directory / "approvals").iterdir()] == [".gitignore"]


def test_what_is_left_is_taken_over_once() -> None:
    """As often as it was left, and no more often; a store that fails loses it."""
    state, mark = MemoryState(), mark_of("a", None)
    assert not taken_over(state, mark, now=1, expires_at=9)
    for _ in range(2):
        leave(state, mark, now=1, expires_at=9)
    assert [taken_over(state, mark, now=1, expires_at=9) for _ in range(3)] == [True, True, False]
    for _ in range(70):
        leave(state, mark, now=1, expires_at=9)
    assert sum(taken_over(state, mark, now=1, expires_at=9) for _ in range(70)) == 62

    class Deaf(MemoryState):
        def insert(self, key: str, *, now: int, expires_at: int) -> bool:
            raise StateError("away")

    leave(Deaf(), mark, now=1, expires_at=9)


def test_outside_any_task_nobody_is_asked(opened: Callable[..., Any]) -> None:
    """The refusal comes before the policy."""
    asked: list[object] = []
    world = opened(policy=POLICY, routes={"desk": Approval(ask=asked.append)})
    assert isinstance(world.enforcer, Enforcer)
    with pytest.raises(NoTask):
        world.enforcer.tool(name="tool")(lambda: None)()
    assert not asked


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab\u00e9", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", min_size=1, max_size=1), inner),
    max_leaves=4,
)


def test_an_approval_fits_its_arguments_and_no_others(opened: Callable[..., Any]) -> None:
    """Of any two calls, the approval of the first lets the second run exactly if they have one canonical form."""
    kept: list[ApprovalRequest] = []
    approved: list[str] = []

    def ask(request: ApprovalRequest) -> "Answer | str":
        if approved:
            return approved.pop()
        kept.append(request)
        return request.reject(by=BOB)

    world = opened(policy=POLICY, routes={"desk": Approval(ask=ask)})
    body = world.enforcer.tool(name="tool")(lambda x: True)

    @given(JSON, JSON)
    def holds(first: object, second: object) -> None:
        with pytest.raises(Denied):
            body(first)
        with world.enforcer.no_task():
            approved.append(world.enforcer.approvals.approve(kept[-1], by=BOB))
        if canonical.encode({"x": first}) == canonical.encode({"x": second}):  # type: ignore[dict-item]
            assert body(second)
            return
        with pytest.raises(Denied) as caught:
            body(second)
        assert caught.value.code == "approval_mismatch"

    with world.task(Scope("tool"), ttl=timedelta(hours=1)):
        holds()


@pytest.mark.parametrize(
    "private", [Privacy(disclosable=True), Privacy(pseudonyms=True)], ids=["disclosable", "pseudonyms"]
)
@pytest.mark.parametrize("elsewhere", [True, False], ids=["directory", "asked"])
def test_approvals_work_with_hidden_names_and_arguments(tmp_path: Path, private: Privacy, elsewhere: bool) -> None:
    """The approver sees names and values; records and rulings have pseudonyms and digests, and verify."""
    shown: list[ApprovalRequest] = []

    def ask(request: ApprovalRequest) -> Answer:
        shown.append(request)
        return request.approve(by=BOB)

    channel = Approval(ask=None if elsewhere else ask, approvers=Approvers(people=(BOB.id,)))
    evidence, alice, clerk = tmp_path / "evidence", Human("alice@example.com"), Agent("clerk", owner="finance")
    with Enforcer.open(evidence, policy=POLICY, routes={"desk": channel}, privacy=private) as enforcer:

        @enforcer.tool(name="tool")
        def tool(amount: int, to: str) -> str:
            return f"{amount} to {to}"

        with enforcer.task("pay", principal=alice, agent=clerk, scope=Scope("tool")):
            if elsewhere:
                with pytest.raises(Denied):
                    tool(5, to="eve@example.com")
                with enforcer.no_task(), Enforcer.open(evidence, privacy=private) as other:
                    shown.extend(other.approvals.pending())
                    with pytest.raises(Denied) as caught:
                        other.approvals.approve(shown[0].id, by=alice)
                    assert caught.value.code == "approval_self"
                    other.approvals.approve(shown[0].id, by=BOB)
            assert tool(5, to="eve@example.com") == "5 to eve@example.com"
    assert (shown[0].principal.id, shown[0].arguments) == (alice.id, {"amount": 5, "to": "eve@example.com"})
    report = verify(evidence, evidence / "trust.json")
    assert (report.verdict, [one for one in report.findings if one.severity != "notice"]) == ("verified", [])
    written = b"".join(path.read_bytes() for path in evidence.glob("ledger/*/entries.jsonl"))
    assert b"eve@example.com" not in written
    assert (alice.id.encode() in written) is not private.pseudonyms


def test_an_approver_whose_name_was_erased_meanwhile_approves_nothing(tmp_path: Path) -> None:
    """Nobody can tell then whether that person may."""
    evidence, alice, clerk = tmp_path / "evidence", Human("alice@example.com"), Agent("clerk", owner="finance")
    given = {"policy": POLICY, "routes": {"desk": Approval()}, "privacy": Privacy(pseudonyms=True)}
    with Enforcer.open(evidence, **given) as enforcer:
        tool = enforcer.tool(name="tool")(lambda: "done")
        with enforcer.task("pay", principal=alice, agent=clerk, scope=Scope("tool")):
            with pytest.raises(Denied):
                tool()
            with enforcer.no_task():
                enforcer.approvals.approve(enforcer.approvals.pending()[0].id, by=BOB)
            (evidence / "keys" / "pseudonyms.jsonl").write_bytes(b"")
            with pytest.raises(Denied) as caught:
                tool()
            assert caught.value.code == "approval_mismatch"


CHANNELS = [
    (Approval(approvers=Approvers(people=("bob@example.com",))), Human("mallory"), "approver_not_permitted"),
    (Approval(approvers=Approvers(roles=("finance",))), Human("mallory"), "approver_not_permitted"),
    (Approval(approvers=Approvers(verified=True)), BOB, "approver_not_verified"),
    (Approval(), Human("finance"), "approval_by_owner"),
    (Approval(), Human("alice@example.com"), "approval_self"),
    (Approval(), Human("clerk"), "approval_self"),
]


@pytest.mark.parametrize(("channel", "who", "code"), CHANNELS)
@pytest.mark.parametrize("act", ["approve", "reject"])
@pytest.mark.parametrize("form", ["id", "request", "dict"])
def test_who_may_not_answer_is_refused_then_and_burns_nothing(
    tmp_path: Path, channel: Approval, who: Human, code: str, act: str, form: str
) -> None:
    """The request carries the conditions of its route; it waits on for somebody who may, in every form of it."""
    evidence, alice, clerk = tmp_path / "evidence", Human("alice@example.com"), Agent("clerk", owner="finance")
    entitled = Human("bob@example.com", roles=("finance",))
    with Enforcer.open(evidence, policy=POLICY, routes={"desk": channel}) as enforcer:
        tool = enforcer.tool(name="tool")(lambda: "done")
        with enforcer.task("pay", principal=alice, agent=clerk, scope=Scope("tool")):
            with pytest.raises(Denied):
                tool()
            with enforcer.no_task(), Enforcer.open(evidence) as other:
                (request,) = other.approvals.pending()
                given = {"id": request.id, "request": request, "dict": request.to_dict()}[form]
                with pytest.raises(Denied) as caught:
                    getattr(other.approvals, act)(given, by=who)
                assert caught.value.code == code
                assert other.approvals.pending() == (request,)
                if channel.approvers.verified:
                    return
                other.approvals.approve(request.id, by=entitled)
                with pytest.raises(ConfigurationError, match=r"approved by 'bob@example\.com'") as again:
                    other.approvals.reject(request.id, by=entitled)
                assert again.value.code == "already_decided"
            assert tool() == "done"


def test_a_rejection_by_somebody_who_may_not_is_none(opened: Callable[..., Any]) -> None:
    """A handler that hands on such a rejection has not decided either."""
    approvers = Approvers(people=("bob@example.com",))
    channel = Approval(ask=lambda request: request.reject(by=Human("mallory")), approvers=approvers)
    world = opened(policy=POLICY, routes={"desk": channel})
    tool = world.enforcer.tool(name="tool")(lambda: "done")
    with world.task(Scope("tool")), pytest.raises(Denied) as caught:
        tool()
    assert caught.value.code == "approver_not_permitted"


@pytest.mark.parametrize("change", [{"verified": 1}, {"roles": "finance"}, {"more": []}, {"approvers": [5]}])
def test_conditions_that_are_none_are_not_read(change: dict[str, Any]) -> None:
    """The conditions of a request are read as strictly as its other members."""
    claim = request_of().to_dict()
    claim["conditions"] = {**claim["conditions"], **change}  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="request"):
        ApprovalRequest.from_dict(claim)
