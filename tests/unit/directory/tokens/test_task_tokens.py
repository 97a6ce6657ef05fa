"""Tokens of tasks: judged and recorded like calls, cached, one request at a time, and gone with their task."""

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from plain_records import error_type

from agent_identity import Agent, Effect, Finding, Rule, RuleSet, Scope, Task
from agent_identity._authority.tokens.source import TokenOrder
from agent_identity._directory.tokens import task_tokens
from agent_identity._guard.tasks.task_context import Process
from agent_identity.constraints import OneOf, Subset
from agent_identity.errors import (
    ConfigurationError,
    ContentBlocked,
    EvidenceError,
    ExchangeError,
    GrantExpired,
    NoTask,
    OutOfScope,
    PolicyBlocked,
    Routed,
)
from agent_identity.options import Ledger
from agent_identity.policy import Content
from agent_identity.tokens import DownstreamToken, IssuedToken

API = "https://api.example.com"
OPEN = Scope("token_exchange")
Opened = Callable[..., Any]


class Source:
    """A source that counts and does what it is told."""

    def __init__(self, *, life: int = 100, revocable: bool = False) -> None:
        self.life = life
        self.revocable = revocable
        self.orders: list[TokenOrder] = []
        self.revoked: list[tuple[int, float]] = []
        self.during: Callable[[TokenOrder], object] = lambda order: None
        self.while_revoking: Callable[[], object] = lambda: None

    def issue(self, order: TokenOrder, /) -> IssuedToken:
        """Return the next token."""
        self.orders.append(order)
        number = len(self.orders)
        self.during(order)

        def revoke(timeout: float) -> None:
            self.revoked.append((number, timeout))
            self.while_revoking()

        return IssuedToken(
            f"token-{number}", expires_at=order.now + self.life, revoke=revoke if self.revocable else None
        )


def ask(task: Task, **options: Any) -> str:
    """Return the value of a token of the task."""
    return task.token(**{"audience": API, **options}).value


def test_a_token_is_an_action_with_evidence(opened: Opened) -> None:
    """The intent names tool and arguments, the outcome the tool; taking it again leaves nothing."""
    source = Source()
    world = opened(tokens=source)
    with world.task(OPEN) as task:
        token = task.token(audience=API, resource=f"{API}/v1", scope="write read write")
        assert isinstance(token, DownstreamToken)
        assert task.token(audience=API, resource=f"{API}/v1", scope=["read", "write"]) is token
    (intent,), (outcome,) = world.records("intent"), world.records("outcome")
    for record in (intent, outcome):
        assert (record["action"]["tool"], record["action"]["kind"]) == ("token_exchange", "token")
        assert "result" not in record["action"]
        assert record["principal"]["id"] == "alice@example.com"
    assert intent["action"]["names"] == ["audience:string", "resource:string", "scope:array"]
    assert "names" not in outcome["action"]
    assert (outcome["outcome"], outcome["intent"]) == ("success", intent["id"])
    (order,) = source.orders
    assert (order.audience, order.resource, order.scope) == (API, f"{API}/v1", ("read", "write"))
    assert order.grant is task.grant
    assert len(world.spans("execute_tool token_exchange")) == 1


def test_different_tokens_are_kept_apart(opened: Opened) -> None:
    """Each audience, resource and scope has a token of its own."""
    world = opened(tokens=Source())
    with world.task(OPEN) as task:
        kinds: list[dict[str, Any]] = [{}, {"scope": "a"}, {"scope": "a b"}, {"resource": API}, {"audience": "other"}]
        values = [ask(task, **kind) for kind in kinds]
        assert len(set(values)) == len(kinds)
        assert [ask(task, **kind) for kind in kinds] == values


@pytest.mark.parametrize(
    ("scope", "wanted", "code"),
    [
        (Scope("read_invoice"), {}, "tool_not_granted"),
        (Scope("token_exchange", audience="other"), {}, "argument_out_of_scope"),
        (Scope("token_exchange", audience=API), {"scope": "a"}, "argument_not_granted"),
        (Scope("token_exchange", audience=API), {"resource": API}, "argument_not_granted"),
        (Scope("token_exchange", audience=API, resource=API), {}, "argument_missing"),
        (Scope("token_exchange", audience=API, scope=Subset("a")), {}, "argument_missing"),
        (Scope("token_exchange", audience=API, scope=Subset("a")), {"scope": "a admin"}, "argument_out_of_scope"),
    ],
)
def test_a_token_has_to_be_in_the_scope(opened: Opened, scope: Scope, wanted: dict[str, Any], code: str) -> None:
    """What the grant does not name is refused with a record, and nobody is asked."""
    source = Source()
    world = opened(tokens=source)
    with world.task(scope) as task, pytest.raises(OutOfScope) as caught:
        ask(task, **wanted)
    (record,) = world.records("outcome")
    assert (caught.value.code, record["error"], record["id"]) == (code, code, caught.value.reference)
    assert (source.orders, world.records("intent")) == ([], [])


def test_a_scope_can_name_what_may_be_asked(opened: Opened) -> None:
    """Audiences by constraint, scopes as a subset."""
    world = opened(tokens=Source())
    scope = Scope("token_exchange", audience=OneOf(API, "other"), scope=Subset("a", "b"))
    with world.task(scope) as task:
        assert ask(task, scope="b a")
        assert ask(task, scope="a", audience="other")


def test_the_policy_judges(opened: Opened) -> None:
    """A rule can block an audience, and one that routes is refused, since nothing stands in for a token."""
    source = Source()
    rules = RuleSet(
        Rule(Effect.BLOCK, tools="token_exchange", when={"args.audience": "https://blocked.example.com"}),
        Rule(Effect.ROUTE, tools="token_exchange", when={"args.audience": "https://routed.example.com"}, to="desk"),
    )
    world = opened(tokens=source, policy=rules, routes={"desk": lambda call: None})
    with world.task(OPEN) as task:
        for name, kind in (("blocked", PolicyBlocked), ("routed", Routed)):
            with pytest.raises(kind):
                ask(task, audience=f"https://{name}.example.com")
        assert source.orders == []
        assert ask(task)
    assert world.outcomes() == ["denied", "routed", "success"]


def test_without_a_source_there_are_no_tokens(world: Any) -> None:
    """The message says what to pass."""
    with world.task(OPEN) as task, pytest.raises(ConfigurationError, match="tokens="):
        ask(task)


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"audience": ""}, ValueError), ({"resource": "relative"}, ValueError), ({"scope": 'a"'}, ValueError)],
)
def test_a_malformed_order_is_wrong_use(opened: Opened, options: dict[str, Any], kind: type[Exception]) -> None:
    """What could never be sent is refused before anything is judged or recorded."""
    world = opened(tokens=Source())
    with world.task(OPEN) as task, pytest.raises(kind):
        ask(task, **options)
    assert world.records("outcome") == []


@pytest.mark.parametrize(("life", "kept", "renewed"), [(200, 169, 170), (40, 29, 30), (4, 2, 3)])
def test_a_token_is_replaced_shortly_before_its_end(opened: Opened, life: int, kept: int, renewed: int) -> None:
    """30 seconds before, or after three quarters of a short life."""
    world = opened(tokens=Source(life=life))
    with world.task(OPEN) as task:
        assert ask(task) == "token-1"
        world.clock.advance(kept)
        assert ask(task) == "token-1"
        world.clock.advance(renewed - kept)
        assert ask(task) == "token-2"


def test_a_token_that_ends_with_the_grant_is_not_replaced(opened: Opened) -> None:
    """No other one would live longer; and none outlives the grant."""
    world = opened(tokens=Source(life=1000))
    with world.task(OPEN, ttl=timedelta(seconds=60)) as task:
        token = task.token(audience=API)
        assert token.expires_at == task.expires_at
        world.clock.advance(59)
        assert task.token(audience=API) is token
        world.clock.advance(1)
        with pytest.raises(GrantExpired):
            ask(task)
        with pytest.raises(GrantExpired):
            _ = token.value


def test_a_clock_that_goes_back_keeps_no_token_alive(opened: Opened) -> None:
    """Time is measured by the monotonic clock as well."""
    world = opened(tokens=Source(life=40))
    with world.task(OPEN) as task:
        ask(task)
        start = world.clock.wall_ns()
        world.clock.advance(30)
        world.clock.set_wall(start)
        assert ask(task) == "token-2"


def test_after_the_end_there_are_no_tokens(opened: Opened) -> None:
    """The refusal is recorded, what was handed out is dead, and the cache is empty."""
    source = Source()
    world = opened(tokens=source)
    with world.task(OPEN) as task:
        token = task.token(audience=API)
        task.end()
        with pytest.raises(NoTask) as caught:
            ask(task)
        assert caught.value.code == "task_ended"
    with pytest.raises(NoTask) as outside:
        ask(task)
    assert outside.value.code == "no_task"
    with pytest.raises(NoTask):
        _ = token.value
    assert world.outcomes() == ["success", "denied", "denied"]
    assert len(source.orders) == 1
    assert task.tokens._cached == {}


def test_another_task_than_the_open_one_gets_none(opened: Opened) -> None:
    """Inside a delegated part, the wider task is still in reach as an object, and gives no authority."""
    source = Source()
    world = opened(tokens=source)
    sub = Agent("auditor", owner="finance@example.com")
    with world.task(OPEN) as outer:
        ask(outer)
        with world.enforcer.delegate(sub, scope=Scope("token_exchange", audience="other")) as inner:
            with pytest.raises(NoTask, match="not the current one") as caught:
                ask(outer)
            with pytest.raises(OutOfScope):
                ask(inner)
            assert ask(inner, audience="other") == "token-2"
    assert len(source.orders) == 2
    refused = next(r for r in world.records("outcome") if r["id"] == caught.value.reference)
    assert (refused["outcome"], refused["error"], refused["attribution"]) == ("denied", "no_task", "none")
    assert "task" not in refused


def test_a_thread_needs_the_task_in_its_context(opened: Opened) -> None:
    """A bare thread gets nothing, a bound function and ``asyncio.to_thread`` do."""
    world = opened(tokens=Source())
    caught: list[str] = []

    def bare(task: Task) -> None:
        try:
            ask(task)
        except NoTask as error:
            caught.append(error.code)

    with world.task(OPEN) as task:
        for target in (bare, world.enforcer.bind(lambda task: caught.append(ask(task)))):
            thread = threading.Thread(target=target, args=(task,))
            thread.start()
            thread.join()

        async def use() -> str:
            return (await asyncio.to_thread(task.token, audience=API)).value

        caught.append(asyncio.run(use()))
    assert caught == ["no_task", "token-1", "token-1"]


def in_threads(world: Any, task: Task, count: int, results: list[object]) -> list[threading.Thread]:
    """Start threads that ask for the same token; each leaves the value or the error."""

    def use() -> None:
        try:
            results.append(ask(task))
        except (ExchangeError, NoTask, OutOfScope, PolicyBlocked) as error:
            results.append(error)

    threads = [threading.Thread(target=world.enforcer.bind(use)) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def flights(task: Task) -> int:
    """Return how many threads wait for requests of the task."""
    return sum(len(flight.done._cond._waiters) for flight in task.tokens._flights.values())


def test_one_request_at_a_time(opened: Opened) -> None:
    """Sixteen threads that want the same token make one request, with one record, and all get its token."""
    source, waiting = Source(), threading.Event()
    source.during = lambda order: waiting.wait(10)
    world, results = opened(tokens=source), []
    with world.task(OPEN) as task:
        threads = in_threads(world, task, 16, results)
        while flights(task) < 15:
            threading.Event().wait(0.01)
        waiting.set()
        for thread in threads:
            thread.join()
    assert results == ["token-1"] * 16
    assert world.outcomes() == ["success"]


def test_who_waits_for_a_failure_gets_it_too(opened: Opened) -> None:
    """A server that is down is not asked once for each waiting thread."""
    source, waiting = Source(), threading.Event()

    def fail(order: TokenOrder) -> None:
        waiting.wait(10)
        raise ExchangeError("down", code="exchange_unreachable", reason="server_error")

    source.during = fail
    world, results = opened(tokens=source), []
    with world.task(OPEN) as task:
        threads = in_threads(world, task, 4, results)
        while flights(task) < 3:
            threading.Event().wait(0.01)
        waiting.set()
        for thread in threads:
            thread.join()
        assert len({id(error) for error in results}) == 4
        assert {(str(e), e.code, e.reason) for e in results} == {("down", "exchange_unreachable", "server_error")}
        assert len(source.orders) == 1
        source.during = lambda order: None
        assert ask(task) == "token-2"
    assert [record.get("error") for record in world.records("outcome")] == ["ExchangeError", None]


def test_who_waits_for_a_refusal_asks_for_itself(opened: Opened) -> None:
    """A decision about one call is none about another."""
    waiting, calls = threading.Event(), []

    class First:
        name, version, digest = "first", "1", "A" * 43

        def decide(self, request: Any) -> Any:
            calls.append(request)
            if len(calls) == 1:
                waiting.wait(10)
                return RuleSet(Rule(Effect.BLOCK, tools="*")).decide(request)
            return RuleSet().decide(request)

    world, results = opened(tokens=Source(), policy=First()), []
    with world.task(OPEN) as task:
        threads = in_threads(world, task, 2, results)
        while flights(task) < 1:
            threading.Event().wait(0.01)
        waiting.set()
        for thread in threads:
            thread.join()
    assert sorted(map(type, results), key=str) == [PolicyBlocked, str]
    assert sorted(world.outcomes()) == ["denied", "success"]


def test_the_end_of_the_task_ends_the_waiting(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for a slow server are refused as soon as the task has ended."""
    monkeypatch.setattr(task_tokens, "_WAIT_SECONDS", 0.01)
    source, waiting = Source(revocable=True), threading.Event()
    source.during = lambda order: waiting.wait(10)
    world, results = opened(tokens=source), []
    with world.task(OPEN) as task:
        threads = in_threads(world, task, 3, results)
        while flights(task) < 2 or not source.orders:
            threading.Event().wait(0.01)
        task.end()
        while len(results) < 2:
            threading.Event().wait(0.01)
        assert {error.code for error in results} == {"task_ended"}
        waiting.set()
        for thread in threads:
            thread.join()
    # What came after the end is revoked and handed to nobody.
    assert [error.code for error in results] == ["task_ended"] * 3
    task.tokens.settle(10)
    assert [number for number, _ in source.revoked] == [1]
    assert task.tokens._cached == {}
    assert world.records("outcome")[0]["error"] == "NoTask"


def test_a_request_inside_itself_is_a_defect(opened: Opened) -> None:
    """A source that asks the task for the same token would wait for itself."""
    source = Source()
    world = opened(tokens=source)
    with world.task(OPEN) as task:
        source.during = lambda order: ask(task)
        with pytest.raises(ExchangeError, match="RuntimeError") as caught:
            ask(task)
        assert caught.value.code == "exchange_failed"
        source.during = lambda order: None if len(source.orders) > 2 else ask(task, audience="other")
        assert ask(task) == "token-2"


@pytest.mark.parametrize(
    "answer", [None, "token", lambda order: IssuedToken("x", expires_at=order.now), lambda order: order]
)
def test_a_source_that_answers_something_else_fails(opened: Opened, answer: Any) -> None:
    """Only a token that lives is taken from a source of one's own."""

    class Odd:
        def issue(self, order: TokenOrder, /) -> Any:
            return answer(order) if callable(answer) else answer

    world = opened(tokens=Odd())
    with world.task(OPEN) as task, pytest.raises(ExchangeError, match="no unexpired IssuedToken") as caught:
        ask(task)
    assert caught.value.code == "exchange_failed"
    assert world.outcomes() == ["error"]


def test_what_interrupts_is_let_through(opened: Opened) -> None:
    """An interrupt is no failure of the source; the outcome says so, and the next request is a new one."""
    source = Source()

    def interrupt(order: TokenOrder) -> None:
        raise KeyboardInterrupt

    source.during = interrupt
    world = opened(tokens=source)
    with world.task(OPEN) as task:
        with pytest.raises(KeyboardInterrupt):
            ask(task)
        source.during = lambda order: None
        assert ask(task) == "token-2"
    assert world.outcomes() == ["cancelled", "success"]


def test_no_evidence_no_token(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the intent cannot be written, nobody is asked."""
    source = Source()
    world = opened(tokens=source)
    append = Ledger.append

    def refuse(self: Ledger, make: Any, *args: Any, **options: Any) -> Any:
        if error_type(make) == "intent":
            raise EvidenceError("disk full")
        return append(self, make, *args, **options)

    with world.task(OPEN) as task:
        monkeypatch.setattr(Ledger, "append", refuse)
        with pytest.raises(EvidenceError):
            ask(task)
        monkeypatch.undo()
    assert source.orders == []


def test_tokens_are_revoked_when_their_task_ends(opened: Opened) -> None:
    """All of them, replaced ones that still live too, before the block is left."""
    source = Source(life=60, revocable=True)
    world = opened(tokens=source)
    with world.task(OPEN) as task:
        ask(task)
        ask(task, audience="other")
        world.clock.advance(46)
        ask(task)
        assert source.revoked == []
    assert [number for number, _ in source.revoked] == [1, 2, 3]
    assert all(0 < timeout <= task_tokens.REVOKE_SECONDS for _, timeout in source.revoked)
    task.end()
    assert len(source.revoked) == 3


async def test_tokens_are_revoked_in_async_code(opened: Opened) -> None:
    """Leaving an ``async with`` waits without blocking the loop."""
    source = Source(revocable=True)
    world = opened(tokens=source)
    async with world.task(OPEN) as task:
        await asyncio.to_thread(ask, task)
    assert [number for number, _ in source.revoked] == [1]


def test_what_has_expired_is_not_revoked(opened: Opened) -> None:
    """Tokens that died by themselves leave the list when the next one is asked for."""
    source = Source(life=10, revocable=True)
    world = opened(tokens=source)
    with world.task(OPEN) as task:
        ask(task)
        world.clock.advance(10)
        ask(task)
    assert [number for number, _ in source.revoked] == [2]


def test_a_revocation_that_fails_is_logged_without_its_words(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    """One that fails keeps no other from being tried; the log names the code or the class."""
    source, errors = Source(revocable=True), [ExchangeError("x", code="exchange_unreachable"), ValueError("token-2")]

    def fail() -> None:
        if errors:
            raise errors.pop(0)

    source.while_revoking = fail
    world = opened(tokens=source)
    with world.task(OPEN) as task:
        for name in ("a", "b", "c"):
            ask(task, audience=name)
    assert [number for number, _ in source.revoked] == [1, 2, 3]
    said = [record.getMessage() for record in caplog.records if record.name == "agent_identity"]
    assert said == [
        "a token of a task could not be revoked: exchange_unreachable",
        "a token of a task could not be revoked: ValueError",
    ]


def test_a_slow_revocation_delays_the_program_for_a_bounded_time(
    opened: Opened, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is over at once; leaving it waits for a bounded time, after which nothing more is tried."""
    for module in ("_directory.tokens.task_tokens", "_guard.sessions.opening"):
        monkeypatch.setattr(f"agent_identity.{module}.REVOKE_SECONDS", 0.05)
    source, release = Source(revocable=True), threading.Event()
    source.while_revoking = lambda: release.wait(10)
    world = opened(tokens=source)
    with world.task(OPEN) as task:
        ask(task, audience="a")
        ask(task, audience="b")
    with pytest.raises(NoTask):
        ask(task)
    assert len(source.revoked) == 1  # The first one is still under way.
    release.set()
    task.tokens._work.join(10)
    assert len(source.revoked) == 1
    assert "1 tokens of a task could not be revoked in time" in caplog.text


def test_a_second_end_waits_for_the_first(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that came after the end is revoked after those before it."""
    source, release = Source(revocable=True), threading.Event()
    world = opened(tokens=source)
    with world.task(OPEN) as task:
        ask(task)
        source.while_revoking = lambda: release.wait(10)
        task.end()
        first = task.tokens._work
        task.tokens._revokes.append((2**40, lambda timeout: source.revoked.append((2, timeout))))
        task.tokens.drop()
        assert task.tokens._work is not first
        release.set()
    assert [number for number, _ in source.revoked] == [1, 2]


def test_a_program_on_its_way_out_says_that_it_did_not_revoke(
    opened: Opened, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter that starts no more threads still ends the task."""
    source = Source(revocable=True)
    world = opened(tokens=source)
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name == "agent-identity-revoke":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with world.task(OPEN) as task:
        ask(task)
    assert source.revoked == []
    assert "1 tokens of a task could not be revoked: the program ends" in caplog.text


def test_closing_the_enforcer_revokes_what_is_left(opened: Opened) -> None:
    """Tasks that nobody left lose their tokens as well."""
    source = Source(revocable=True)
    world = opened(tokens=source)
    opening = world.task(OPEN)
    task = opening.__enter__()
    token = task.token(audience=API)
    world.enforcer.close()
    assert [number for number, _ in source.revoked] == [1]
    with pytest.raises(NoTask):
        _ = token.value
    with pytest.raises(EvidenceError):  # The ledger is closed.
        opening.__exit__(None, None, None)


def test_a_forked_child_revokes_nothing(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens belong to the parent, and so does whatever its locks are held for."""
    source = Source(revocable=True)
    world = opened(tokens=source)
    with world.task(OPEN) as task:
        ask(task)
        tokens = task.tokens
        revokes = list(tokens._revokes)
        with monkeypatch.context() as child:
            child.setattr(Process, "here", object())
            tokens.drop()
            tokens.settle(10)
        assert (source.revoked, tokens._cached, tokens._revokes) == ([], {}, [])
        tokens._revokes = revokes  # As the parent still has them.
    assert [number for number, _ in source.revoked] == [1]


def test_the_desk_of_a_forked_child_is_empty(opened: Opened) -> None:
    """An enforcer in a child does not close what the parent has open."""
    source = Source(revocable=True)
    world = opened(tokens=source)
    with world.task(OPEN) as task:
        ask(task)
        desk = world.enforcer._tasks.supply
        world.enforcer.after_fork_in_child()
        assert world.enforcer._tasks.supply is not desk
        world.enforcer._tasks.supply.close()
        assert source.revoked == []


def test_monitor_mode_lets_tokens_through(opened: Opened) -> None:
    """What would have been refused is recorded and happens; without a live task there is still no token."""
    source = Source()
    world = opened(tokens=source, mode="monitor")
    with world.task(Scope("read_invoice")) as task:
        assert ask(task) == "token-1"
    with pytest.raises(NoTask):
        ask(task)
    assert [r["decision"]["enforced"] for r in world.records("intent")] == ["audit", "audit"]
    assert world.outcomes() == ["success", "error"]
    assert len(source.orders) == 1


def test_a_withheld_result_is_kept_by_nobody(opened: Opened) -> None:
    """If the policy withholds what came back, the token is not in the cache and is revoked with the task."""

    class Finds:
        def inspect(self, content: Content) -> list[Finding]:
            assert content.value is None or content.direction == "input"  # It is not shown the token.
            return [Finding("odd", "test")] if content.direction == "output" else []

    source = Source(revocable=True)
    rules = RuleSet(Rule(Effect.BLOCK, tools="*", when={"findings.categories": {"contains": ["odd"]}}))
    world = opened(tokens=source, policy=rules, inspectors=(Finds(),))
    with world.task(OPEN) as task:
        with pytest.raises(ContentBlocked):
            ask(task)
        assert task.tokens._cached == {}
    assert [number for number, _ in source.revoked] == [1]


def test_a_task_has_so_many_tokens(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that asks for ever new audiences fills no memory; expired ones make room."""
    monkeypatch.setattr(task_tokens, "MAX_TOKENS", 2)
    world = opened(tokens=Source(life=50))
    with world.task(OPEN) as task:
        ask(task, audience="a")
        ask(task, audience="b")
        with pytest.raises(ExchangeError, match="has 2 tokens") as caught:
            ask(task, audience="c")
        assert caught.value.code == "exchange_failed"
        world.clock.advance(50)
        assert ask(task, audience="c")


def test_proof_keys_belong_to_the_task(opened: Opened) -> None:
    """One key for each task and algorithm, and none for two tasks."""
    source = Source()
    world = opened(tokens=source)
    keys = []
    for _ in range(2):
        with world.task(OPEN) as task:
            ask(task)
            ask(task, audience="other")
            orders = source.orders[-2:]
            assert orders[0].proof_key("EdDSA") is orders[1].proof_key("EdDSA")
            assert orders[0].new_id() != orders[1].new_id()
            keys.append(orders[0].proof_key("EdDSA"))
    assert len({id(key) for key in keys}) == 2
    assert source.orders[0].proof_key("ES256").algorithm == "ES256"


def test_what_a_source_logs_about_failures(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of a source is told by class and place only, in log and error."""
    source = Source()

    def fail(order: TokenOrder) -> None:
        raise LookupError("CANARY")

    source.during = fail
    world = opened(tokens=source)
    with caplog.at_level(logging.DEBUG), world.task(OPEN) as task, pytest.raises(ExchangeError) as caught:
        ask(task)
    assert "LookupError" in str(caught.value)
    assert "CANARY" not in caplog.text + str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
