"""Limits at run time: reserved before the intent, shared by all that is delegated, given back if nothing ran."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_records import error_type

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope
from agent_identity._directory.open import open_directory
from agent_identity.errors import Denied, EvidenceError, LimitExceeded, Routed, StateError
from agent_identity.limits import Limit
from agent_identity.options import Durability, Sources
from agent_identity.state import Debit, MemoryState, SqliteState
from agent_identity.testing import FixedClock, SequentialIds

PAY = Scope("pay")
HELPER = Agent("helper", owner="finance@example.com")


class Spy:
    """State that notes every call about limits, and fails where it is told to."""

    def __init__(self, **failures: Exception) -> None:
        self.inner, self.failures, self.calls = MemoryState(), failures, []

    def __getattr__(self, name: str) -> object:
        def call(*arguments: object, **named: object) -> object:
            if name not in ("generation", "get"):  # What every call asks because of revocations.
                self.calls.append(name)
            if name in self.failures:
                raise self.failures[name]
            return getattr(self.inner, name)(*arguments, **named)

        return call


class Nonsense(Spy):
    """State that says the same to every debit."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def debit(self, debits: object, *, now: int) -> object:
        return self.answer


@pytest.fixture
def ran() -> list[object]:
    return []


def _pay(world: object, ran: list[object]) -> Callable[..., object]:
    @world.enforcer.tool
    def pay(amount: object = 1, **more: object) -> object:
        ran.append(amount)
        return amount

    return pay


def _refused(world: object, code: str, call: Callable[[], object], kind: type[Denied] = LimitExceeded) -> Denied:
    """The call is denied with the code, and one signed refusal says so; there is no intent."""
    before = len(world.records())
    with pytest.raises(kind) as caught:
        call()
    (record,) = world.records()[before:]
    assert (record["kind"], record["outcome"], record["error"]) == ("outcome", "denied", code)
    assert (record["decision"]["effect"], record["decision"]["reason"]) == ("block", code)
    assert "intent" not in record
    assert (caught.value.code, caught.value.reference) == (code, record["id"])
    return caught.value


def test_as_many_calls_run_as_the_limit_says(world: object, ran: list[object]) -> None:
    """The next one is refused before its body, with a record, and other tools go on."""
    pay, other = _pay(world, ran), world.enforcer.tool(name="other")(lambda: ran.append("other"))
    with world.task(Scope({"pay": None, "other": None}), limits=(Limit.uses("pay", 2),)) as task:
        assert task.limits == task.grant.limits == (Limit.uses("pay", 2),)
        pay(1)
        pay(2)
        denied = _refused(world, "limit_exceeded", lambda: pay(3))
        assert str(denied).startswith("pay: the uses of this tool in the task are used up")
        other()
    assert ran == [1, 2, "other"]


def test_each_task_has_an_account_of_its_own(world: object, ran: list[object]) -> None:
    """What one has used leaves the next one as it was."""
    pay = _pay(world, ran)
    for _ in range(2):
        with world.task(PAY, limits=[Limit.uses("*", 1)]):
            pay()
            _refused(world, "limit_exceeded", pay)
    assert len(ran) == 2


@pytest.mark.parametrize("amount", [Decimal("33.5"), 33.5])
def test_amounts_add_up_to_the_limit(world: object, ran: list[object], amount: object) -> None:
    """Numbers of any kind are counted exactly, also where constraints cannot judge them."""
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.sum("pay", "amount", 100),)):
        pay(amount)
        pay(amount)
        _refused(world, "limit_exceeded", lambda: pay(amount))
        pay(33)
        pay(0)
        _refused(world, "limit_exceeded", lambda: pay(Decimal("0.0000001")))
    assert ran == [amount, amount, 33, 0]


@pytest.mark.parametrize("amount", [-5, "5", None, True, [5], object(), Decimal(-5)])
def test_an_amount_that_is_no_number_is_refused(world: object, ran: list[object], amount: object) -> None:
    """Nothing that cannot be counted runs, and nothing is counted for it."""
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 1), Limit.sum("pay", "amount", 100))):
        _refused(world, "amount_invalid", lambda: pay(amount))
        pay(100)
    assert ran == [100]


def test_a_missing_amount_is_refused_and_a_default_counts(world: object, ran: list[object]) -> None:
    """The argument is looked for among those that the body gets, defaults included."""
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.sum("pay", "total", 100),)):
        _refused(world, "amount_missing", pay)
        pay(total=100)
        _refused(world, "limit_exceeded", lambda: pay(total=1))
    with world.task(PAY, limits=(Limit.sum("pay", "amount", 1),)):
        pay()
        _refused(world, "limit_exceeded", pay)
    assert len(ran) == 2


def test_a_rate_lets_calls_through_again_with_time(world: object, ran: list[object]) -> None:
    """By the enforcer's clock."""
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.rate("pay", 2, per=timedelta(minutes=1)),)):
        pay()
        world.clock.advance(30)
        pay()
        world.clock.advance(30)
        _refused(world, "limit_exceeded", pay)
        world.clock.advance(2)
        pay()
        _refused(world, "limit_exceeded", pay)
    assert len(ran) == 3


def test_what_is_delegated_spends_from_the_same_account(world: object, ran: list[object]) -> None:
    """A child of a child has the limits of the root, and what it uses is gone for everyone."""
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 3),)):
        pay("root")
        with world.enforcer.delegate(HELPER, scope=PAY) as child:
            assert child.limits == (Limit.uses("pay", 3),)
            pay("child")
            with world.enforcer.delegate(Agent("third", owner="o"), scope=PAY):
                pay("grandchild")
                _refused(world, "limit_exceeded", pay)
        _refused(world, "limit_exceeded", pay)
    assert ran == ["root", "child", "grandchild"]


def test_a_limit_that_cannot_hold_is_refused_when_the_task_opens(world: object) -> None:
    """A misspelt tool would be a limit that never limits."""
    with pytest.raises(ValueError, match="'pya'"), world.task(PAY, limits=(Limit.uses("pya", 1),)):
        pytest.fail("opened")
    assert world.records() == world.records("stream_start")


def test_a_task_without_limits_never_asks_the_state(opened: Callable[..., object], ran: list[object]) -> None:
    """The state is left alone, in memory or on disk: no file is made."""
    spy = Spy()
    for world in (opened(state=spy), opened()):
        with world.task(PAY):
            _pay(world, ran)()
        world.enforcer.close()
        assert not (world.directory / "state" / "state.sqlite").exists()
    assert spy.calls == []


def test_the_state_of_a_directory_is_a_file_in_it(world: object, ran: list[object]) -> None:
    """Made when a limit is first counted, and let go of when the enforcer closes."""
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 1),)):
        pay()
    assert (world.directory / "state" / "state.sqlite").exists()
    world.enforcer.close()
    with pytest.raises(StateError, match="closed"):
        world.enforcer._enforcement.state.get("x")


def test_state_of_others_is_left_open(opened: Callable[..., object], ran: list[object], tmp_path: Path) -> None:
    """Whoever passes state may share it between enforcers."""
    state = SqliteState(tmp_path / "shared.sqlite")
    world = opened(state=state)
    with world.task(PAY, limits=(Limit.uses("pay", 1),)):
        _pay(world, ran)()
    world.enforcer.close()
    assert state.get("x") is None
    state.close()


def test_an_enforcer_of_parts_counts_in_memory(tmp_path: Path, ran: list[object]) -> None:
    """Without a directory of its own there is no file, and the limits hold in the process."""
    clock, ids = FixedClock(), SequentialIds()
    found = open_directory(tmp_path, clock=clock, ids=ids, durability=Durability())
    parts = {name: getattr(found, name) for name in ("keys", "trust", "ledger", "digests")}
    with Enforcer(**parts, sources=Sources(clock=clock, ids=ids)) as enforcer:
        pay = enforcer.tool(name="pay")(lambda: ran.append("ran"))
        options = {"principal": Human("alice"), "agent": HELPER, "scope": PAY}
        with enforcer.task("spend", **options, limits=(Limit.uses("pay", 1),)):
            pay()
            with pytest.raises(LimitExceeded):
                pay()
    assert ran == ["ran"]
    assert not (tmp_path / "state" / "state.sqlite").exists()


def test_what_the_policy_blocks_takes_nothing(opened: Callable[..., object], ran: list[object]) -> None:
    """Only an allowed call is counted, and one that is only warned about is allowed."""
    block = Rule(Effect.BLOCK, tools="pay", when={"args.amount": 5})
    warn = Rule(Effect.WARN, tools="pay", when={"args.amount": 6})
    spy = Spy()
    world = opened(policy=RuleSet(block, warn), state=spy)
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 2),)):
        with pytest.raises(Denied, match="blocked"):
            pay(5)
        assert spy.calls == []
        pay(6)
        pay(7)
        _refused(world, "limit_exceeded", lambda: pay(8))
    assert ran == [6, 7]


def test_what_is_out_of_scope_takes_nothing(opened: Callable[..., object], ran: list[object]) -> None:
    """The grant is asked before the limits."""
    spy = Spy()
    world = opened(state=spy)
    pay = _pay(world, ran)
    with world.task(Scope("pay", amount=5), limits=(Limit.uses("pay", 1),)):
        with pytest.raises(Denied):
            pay(6)
        assert spy.calls == []
        pay(5)
    with pytest.raises(Denied):
        pay(5)
    assert spy.calls == ["debit"]


def test_a_routed_call_takes_nothing_from_the_original(opened: Callable[..., object], ran: list[object]) -> None:
    """The original does not run; what the handler calls is counted for itself."""
    spy = Spy()
    route = RuleSet(Rule(Effect.ROUTE, tools="pay", when={"args.amount": 5}, to="elsewhere"))
    world = opened(policy=route, state=spy, routes={"elsewhere": lambda call: "routed"})
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 1),)):
        assert [pay(5), pay(5)] == ["routed", "routed"]
        with pytest.raises(Routed), world.enforcer.action("pay", amount=5):
            pytest.fail("ran")
        assert spy.calls == []
        pay(6)
        _refused(world, "limit_exceeded", lambda: pay(6))


def test_a_use_is_given_back_when_the_intent_could_not_be_written(
    opened: Callable[..., object], ran: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No evidence, no action, and no use either."""
    spy = Spy()
    world = opened(state=spy)
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 1), Limit.sum("pay", "amount", 9))):
        ledger = type(world.enforcer._enforcement.ledger)
        real = ledger.append
        for error in (EvidenceError("no"), RuntimeError("no"), KeyboardInterrupt()):

            def failing(
                self: object, make: object, *rest: object, error: BaseException = error, **more: object
            ) -> object:
                if error_type(make) == "intent":
                    raise error
                return real(self, make, **more)

            monkeypatch.setattr(ledger, "append", failing)
            with pytest.raises((EvidenceError, KeyboardInterrupt)):
                pay(9)
            monkeypatch.undo()
        assert spy.calls == ["debit", "credit"] * 3
        pay(9)
    assert ran == [9]


def test_a_use_is_given_back_when_the_call_is_blocked_later(
    opened: Callable[..., object], ran: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that cannot be described does not run."""
    spy = Spy()
    world = opened(state=spy)
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 1),)):
        digests = type(world.enforcer._enforcement.digests)
        real = digests.digest
        failures = iter([RuntimeError("once")])

        def failing(self: object, *rest: object) -> str:
            for error in failures:
                raise error
            return real(self, *rest)

        monkeypatch.setattr(digests, "digest", failing)
        with pytest.raises(Denied) as caught:
            pay(1)
        assert caught.value.code == "guard_failed"
        assert spy.calls == ["debit", "credit"]
        pay(1)
    assert ran == [1]


def test_what_cannot_be_given_back_stays_taken(
    opened: Callable[..., object], ran: list[object], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal stays the one that it was, and the task may do less than it could."""
    world = opened(state=Spy(credit=StateError("down")))
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 1),)):
        ledger = type(world.enforcer._enforcement.ledger)

        def failing(*arguments: object, **named: object) -> None:
            raise EvidenceError("no disk")

        monkeypatch.setattr(ledger, "append", failing)
        with pytest.raises(EvidenceError, match="no disk"):
            pay(1)
        monkeypatch.undo()
        assert "stay debited: down" in caplog.text
        _refused(world, "limit_exceeded", lambda: pay(1))
    assert ran == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StateError("down"), "state_unavailable"),
        (StateError("full", code="state_full"), "state_unavailable"),
        (RuntimeError("a store of somebody else"), "guard_failed"),
        (LimitExceeded("a store that lies", code="limit_exceeded"), "limit_exceeded"),
    ],
)
def test_a_store_that_does_not_answer_refuses(
    opened: Callable[..., object], ran: list[object], error: Exception, code: str
) -> None:
    """Nobody knows how much is left, so nothing runs; when it answers again, calls go on."""
    spy = Spy(debit=error)
    world = opened(state=spy)
    pay, other = _pay(world, ran), world.enforcer.tool(name="other")(lambda: ran.append("other"))
    with world.task(Scope({"pay": None, "other": None}), limits=(Limit.uses("pay", 1),)):
        denied = _refused(world, code, pay, Denied)
        assert "somebody else" not in str(denied)
        other()
        spy.failures.clear()
        pay()
        _refused(world, "limit_exceeded", pay)
    assert ran == ["other", 1]


@pytest.mark.parametrize("answer", [7, "x", True])
def test_a_store_that_answers_nonsense_refuses(
    opened: Callable[..., object], ran: list[object], answer: object
) -> None:
    """Anything but None is a refusal."""
    world = opened(state=Nonsense(answer))
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 1),)), pytest.raises(Denied):
        pay()
    assert ran == []


def test_a_generator_is_counted_when_it_starts(world: object, ran: list[object]) -> None:
    """Made and never advanced, it has used nothing; advanced many times, it is one use."""

    @world.enforcer.tool
    def pay() -> Iterator[int]:
        ran.append("started")
        yield from range(3)

    with world.task(PAY, limits=(Limit.uses("pay", 2),)):
        unused = [pay() for _ in range(5)]
        assert list(pay()) == [0, 1, 2]
        assert list(unused[0]) == [0, 1, 2]
        _refused(world, "limit_exceeded", lambda: next(unused[1]))
    assert ran == ["started", "started"]


async def test_coroutines_and_async_generators_are_counted(world: object, ran: list[object]) -> None:
    """Every kind of callable, and blocks."""

    @world.enforcer.tool
    async def pay() -> None:
        await asyncio.sleep(0)
        ran.append("ran")

    @world.enforcer.tool(name="pay")
    async def stream() -> object:
        ran.append("streamed")
        yield 1

    async with world.task(PAY, limits=(Limit.uses("pay", 3),)):
        await pay()
        assert [item async for item in stream()] == [1]
        with world.enforcer.action("pay"):
            ran.append("block")
        results = await asyncio.gather(pay(), pay(), return_exceptions=True)
        assert [type(result) for result in results] == [LimitExceeded, LimitExceeded]
        with pytest.raises(LimitExceeded), world.enforcer.action("pay"):
            ran.append("never")
    assert ran == ["ran", "streamed", "block"]


def test_what_ran_is_not_given_back(world: object, ran: list[object]) -> None:
    """A body that fails has been used."""

    @world.enforcer.tool
    def pay() -> None:
        ran.append("ran")
        raise OSError

    with world.task(PAY, limits=(Limit.uses("pay", 1),)):
        with pytest.raises(OSError):  # noqa: PT011  There is no message.
            pay()
        _refused(world, "limit_exceeded", pay)
    assert ran == ["ran"]


def test_monitor_mode_records_what_would_have_been_refused(opened: Callable[..., object], ran: list[object]) -> None:
    """Everything runs, and the records say which calls were beyond the limit."""
    world = opened(mode="monitor")
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 1),)):
        pay(1)
        pay(2)
    assert ran == [1, 2]
    decisions = [record["decision"] for record in world.records("outcome")]
    assert [(d["reason"], d["enforced"]) for d in decisions] == [("within_scope", "allow"), ("limit_exceeded", "audit")]


def test_threads_share_the_account(world: object, ran: list[object]) -> None:
    """Of many threads that are bound to the task, exactly as many calls run as may."""
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 10), Limit.sum("pay", "amount", 1_000))):
        denials: list[str] = []

        def spend() -> None:
            for _ in range(5):
                try:
                    pay(1)
                except LimitExceeded as error:
                    denials.append(error.code)

        threads = [threading.Thread(target=world.enforcer.bind(spend)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(ran), len(denials)) == (10, 30)
    assert world.outcomes().count("denied") == 30


def test_enforcers_that_share_state_share_the_account(opened: Callable[..., object], ran: list[object]) -> None:
    """Two enforcers on one store count the same root together: what one has used, the other misses."""
    state = MemoryState()
    world = opened(state=state)
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 2),)) as task:
        pay()
        root = task.chain.root
        elsewhere = [Debit(f"limit:{root.id}:0", 1, 2, None, root.expires_at)]
        assert state.debit(elsewhere, now=world.clock.wall_ns() // 10**9) is None
        _refused(world, "limit_exceeded", pay)
    assert len(ran) == 1


@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.decimals(0, 40, places=2)), max_size=25),
    budget=st.integers(0, 100),
)
def test_no_interleaving_of_delegations_spends_more_than_the_budget(
    steps: list[tuple[int, Decimal]], budget: int
) -> None:
    """Whoever of a task, its child and its grandchild pays what: the sum stays within, and what fits is paid."""
    with (
        TemporaryDirectory() as folder,
        Enforcer.open(
            folder, sources=Sources(clock=FixedClock(), ids=SequentialIds()), state=MemoryState()
        ) as enforcer,
    ):
        paid = []

        @enforcer.tool
        def pay(amount: Decimal) -> None:
            paid.append(amount)

        options = {"principal": Human("alice"), "agent": HELPER, "scope": PAY}

        def go(steps: list[tuple[int, Decimal]], depth: int) -> None:
            for at, (kind, amount) in enumerate(steps):
                if kind == 0 and depth < 2:
                    with enforcer.delegate(HELPER, scope=PAY):
                        go(steps[at + 1 :], depth + 1)
                    return
                fits = sum(paid) + amount <= budget
                if fits:
                    pay(amount)
                else:
                    with pytest.raises(LimitExceeded):
                        pay(amount)

        with enforcer.task("spend", **options, limits=(Limit.sum("pay", "amount", budget),)):
            go(steps, 0)
        assert sum(paid) <= budget


def test_a_call_asks_the_state_once(opened: Callable[..., object], ran: list[object]) -> None:
    """A task with limits debits once for each call, and asks nothing else."""
    spy = Spy()
    world = opened(state=spy)
    pay = _pay(world, ran)
    with world.task(PAY, limits=(Limit.uses("pay", 5), Limit.rate("*", 5, per=timedelta(seconds=1)))):
        pay()
        pay()
    assert spy.calls == ["debit", "debit"]
