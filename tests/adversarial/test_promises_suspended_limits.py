"""Limits of tasks whose calls are suspended and made again: a body that began has its share for as long as they live.

A body that leaves a graph by an interrupt is made again with the same id of the call. Its share of a sum or of uses is
kept for it, and it debits what it asks beyond that; a rate is about the moment, and is debited anew.
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest

from agent_identity import Agent, Effect, Human, Rule, RuleSet, Scope
from agent_identity.adapters import CallRequest
from agent_identity.approvals import Approval, ApprovalRequest
from agent_identity.constraints import Range
from agent_identity.errors import Denied, LimitExceeded, StateError
from agent_identity.limits import Limit
from agent_identity.state import Debit, MemoryState

PAY = Scope("pay")
BOB = Human("bob@example.com")


class Interrupted(Exception):
    """What a framework raises to leave a body that it will make again."""


class Desk:
    """Makes calls of one tool as a framework does, which gives each an id and may suspend its body."""

    def __init__(self, world: object, name: str = "pay", **options: object) -> None:
        self.world = world
        self.guard = world.enforcer.guard(name, suspends=(Interrupted,), **options)

    def begin(self, call_id: str | None, amount: object) -> object:
        """Begin a body."""
        call = self.guard.judge(CallRequest({"amount": amount}, call_id=call_id))
        self.guard.settle(call)
        self.world.ran.append(amount)
        return call

    def suspend(self, call_id: str | None, amount: object) -> None:
        """Have a body begin, and leave before its end."""
        self.guard.fail(self.begin(call_id, amount), Interrupted())

    def run(self, call_id: str | None, amount: object) -> None:
        """Have a body begin and end."""
        self.guard.succeed(self.begin(call_id, amount))

    def refuse(self, call_id: str | None, amount: object, code: str = "limit_exceeded") -> None:
        """Prove that a call is refused with a record, and that its body does not begin."""
        with self.world.refused(code, LimitExceeded, tool=self.guard.tool.name):
            self.begin(call_id, amount)


def _sum(most: int) -> dict[str, object]:
    return {"limits": (Limit.sum("pay", "amount", most),)}


@pytest.mark.parametrize("kind", [int, float, Decimal])
def test_ac_06_a_suspended_call_that_comes_back_for_more_pays_the_difference(
    world: object, kind: Callable[[int], object]
) -> None:
    """Five calls begin with 1 and come back for 5: a limit of 5 pays 5, whether the amount is JSON or not."""
    desk = Desk(world)
    names = [f"c{number}" for number in range(5)]
    with world.task(PAY, **_sum(5)):
        for name in names:
            desk.suspend(name, kind(1))
        for name in names:
            desk.refuse(name, kind(5))
        for name in names:
            desk.run(name, kind(1))
            desk.refuse(name, kind(1))


def test_ac_06_what_fits_beyond_the_share_is_debited(world: object) -> None:
    """A call that comes back for 8 after 5 debits 3 more, exactly: of a limit of 9 there is 1 left."""
    desk = Desk(world)
    with world.task(PAY, **_sum(9)):
        desk.suspend("c1", Decimal("5.5"))
        desk.run("c1", Decimal("8.000001"))
        desk.refuse("c2", 1)
        desk.run("c2", Decimal("0.999999"))
        desk.refuse("c3", Decimal("0.000001"))


def test_ac_06_a_smaller_amount_frees_nothing(world: object) -> None:
    """It acted with 5, was suspended, came back with 3 and then with more: its share was 5 throughout."""
    desk = Desk(world)
    with world.task(PAY, **_sum(10)):
        desk.suspend("c1", 5)
        desk.suspend("c1", 3)
        desk.refuse("c2", 6)
        desk.suspend("c1", 5)
        desk.refuse("c2", 6)
        desk.suspend("c1", 8)
        desk.suspend("c1", 0)
        desk.refuse("c2", 3)
        desk.run("c2", 2)
        desk.run("c1", 8)
        desk.refuse("c1", 1)


def test_ac_06_of_two_reruns_at_once_the_second_debits_in_full(world: object) -> None:
    """The share is used by one body at a time; what the second takes is its own."""
    desk = Desk(world)
    with world.task(PAY, **_sum(9)):
        desk.suspend("c1", 5)
        first = desk.begin("c1", 5)
        desk.refuse("c1", 5)
        second = desk.begin("c1", 4)
        desk.guard.succeed(second)
        desk.guard.succeed(first)
        desk.refuse("c1", 1)


@pytest.mark.parametrize("limit", [Limit.uses("pay", 3), Limit.sum("pay", "amount", 3)])
def test_ac_06_ten_parallel_calls_that_suspend_begin_no_more_bodies_than_the_limit(world: object, limit: Limit) -> None:
    """Three of ten begin; each of these, and no other, begins again."""
    desk, barrier = Desk(world), threading.Barrier(10)
    began: list[str] = []

    def one(name: str) -> None:
        barrier.wait()
        try:
            call = desk.begin(name, 1)
        except LimitExceeded:
            return
        began.append(name)
        desk.guard.fail(call, Interrupted())

    names = [f"c{number}" for number in range(10)]
    with world.task(PAY, limits=(limit,)):
        threads = [threading.Thread(target=world.enforcer.bind(one), args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(began) == 3
        for name in names:
            if name in began:
                desk.run(name, 1)
            else:
                desk.refuse(name, 1)
    assert len(world.ran) == 6


def test_ac_06_an_id_that_is_repeated_in_another_place_takes_nothing_over(world: object) -> None:
    """A model that gives one id to ten calls of a turn begins one body under a limit of one."""
    places = iter(["tools:1", "tools:2", "tools:3", "tools:1"])
    desk = Desk(world, place=lambda: next(places))
    with world.task(PAY, **_sum(5)):
        desk.suspend("c1", 5)
        desk.refuse("c1", 5)
        desk.refuse("c1", 1)
        desk.run("c1", 5)
    assert world.ran == [5, 5]


def test_ac_06_the_share_of_a_call_is_not_that_of_others(world: object) -> None:
    """Neither another id, nor none, nor another tool, nor another task takes it over."""
    desk, other = Desk(world), Desk(world, "other")
    scope, limits = Scope({"pay": None, "other": None}), (Limit.uses("*", 1),)
    with world.task(scope, limits=limits):
        desk.suspend("c1", 1)
        other.refuse("c1", 1)
        desk.refuse("c2", 1)
        desk.refuse(None, 1)
        with world.task(scope, limits=limits):
            desk.run("c1", 1)
            desk.refuse("c1", 1)
        desk.run("c1", 1)
        desk.refuse("c1", 1)


def test_ac_06_a_call_without_an_id_has_no_share_to_come_back_to(world: object) -> None:
    """Nobody could tell whose it is, so that what it took stays taken."""
    desk = Desk(world)
    with world.task(PAY, limits=(Limit.uses("pay", 1),)):
        desk.suspend(None, 1)
        desk.refuse(None, 1)


def test_ac_06_a_child_goes_on_with_the_share_of_the_root(world: object) -> None:
    """The account is that of the root grant, and so is the share; under two grants it is still one."""
    desk, child = Desk(world), Agent("child", owner="finance@example.com")
    with world.task(PAY, **_sum(5)):
        desk.suspend("c1", 5)
        with world.enforcer.delegate(child, scope=PAY):
            desk.suspend("c1", 5)
        desk.run("c1", 5)
        desk.refuse("c1", 1)


def test_ac_06_a_body_that_fails_or_ends_leaves_no_share(world: object) -> None:
    """Only what is suspended is made again; what ran is used, whatever came of it."""
    desk = Desk(world)
    with world.task(PAY, **_sum(5)):
        desk.guard.fail(desk.begin("c1", 2), ValueError())
        desk.refuse("c1", 4)
        desk.run("c1", 3)
        desk.refuse("c1", 1)


class Dying(MemoryState):
    """State whose process dies after the share is taken, and before anything else happens."""

    dies = False

    def resume(self, share: str, debits: list[Debit], *, now: int) -> tuple[int, ...] | int:
        answer = super().resume(share, debits, now=now)
        if self.dies:
            raise SystemExit
        return answer


def test_ac_06_a_crash_between_taking_and_intent_frees_nothing(open_world: Callable[..., object]) -> None:
    """What the dead process had taken is neither free nor spent twice: the call has to debit anew."""
    state = Dying()
    world = open_world(state=state)
    desk = Desk(world)
    with world.task(PAY, **_sum(9)):
        desk.suspend("c1", 5)
        state.dies = True
        with pytest.raises(SystemExit):
            desk.begin("c1", 6)
        state.dies = False
        desk.refuse("c1", 4)
        desk.run("c1", 3)
        desk.refuse("c1", 1)
    assert world.ran == [5, 3]


class Forgetful(MemoryState):
    """State that fails where it is told to."""

    fails: str | None = None

    def keep(self, share: str, debits: list[Debit], *, now: int) -> None:
        if self.fails == "keep":
            raise StateError("down")
        super().keep(share, debits, now=now)

    def resume(self, share: str, debits: list[Debit], *, now: int) -> tuple[int, ...] | int:
        if self.fails == "resume":
            raise StateError("down")
        return super().resume(share, debits, now=now)


def test_ac_06_a_store_that_fails_while_a_call_is_suspended_frees_nothing(open_world: Callable[..., object]) -> None:
    """A share that could not be kept is lost to its call, and one that cannot be looked for refuses it."""
    state = Forgetful()
    world = open_world(state=state)
    desk = Desk(world)
    with world.task(PAY, **_sum(9)):
        state.fails = "keep"
        desk.suspend("c1", 5)
        state.fails = "resume"
        with world.refused("state_unavailable", tool="pay"):
            desk.begin("c1", 5)
        state.fails = None
        desk.refuse("c1", 5)
        desk.run("c1", 4)


class Nonsense(MemoryState):
    """State of somebody else, which answers a rerun with what is no answer."""

    answer: object = None

    def resume(self, share: str, debits: list[Debit], *, now: int) -> object:
        return self.answer


@pytest.mark.parametrize("answer", [None, (), (1, 2), [], "x", True, False, 7, 1.5])
def test_ac_06_a_store_that_answers_nonsense_to_a_rerun_refuses(
    open_world: Callable[..., object], answer: object
) -> None:
    """Anything but one amount for each debit is a refusal."""
    state = Nonsense()
    state.answer = answer
    world = open_world(state=state)
    with world.task(PAY, **_sum(5)), pytest.raises(Denied):
        Desk(world).begin("c1", 1)
    assert not world.ran
    assert [record["outcome"] for record in world.records("outcome")] == ["denied"]


class Watched(MemoryState):
    """State in which something happens once, right after a share was taken."""

    then: Callable[[], None] | None = None

    def resume(self, share: str, debits: list[Debit], *, now: int) -> tuple[int, ...] | int:
        answer, then, self.then = super().resume(share, debits, now=now), self.then, None
        if then is not None:
            then()
        return answer


def test_ac_06_a_rerun_whose_body_does_not_begin_gives_back_what_it_debited(
    open_world: Callable[..., object],
) -> None:
    """It is suspended before its intent: the difference is free again, and the share is still that of the call."""
    state = Watched()
    world = open_world(state=state)
    desk = Desk(world)
    with world.task(PAY, **_sum(9)) as task:
        desk.suspend("c1", 5)
        state.then = lambda: world.enforcer.revoke(task, suspend=True)
        with pytest.raises(Denied) as caught:
            desk.begin("c1", 8)
        assert caught.value.code == "suspended"
        world.enforcer.reinstate(task)
        desk.refuse("c2", 5)
        desk.run("c2", 4)
        desk.run("c1", 5)
        desk.refuse("c1", 1)
    assert world.ran == [5, 4, 5]


def test_ac_06_a_rate_saves_up_no_shares_of_suspended_calls(world: object) -> None:
    """Six calls of six minutes that come back in one moment: one body begins under one a minute."""
    desk = Desk(world)
    names = [f"c{number}" for number in range(6)]
    with world.task(PAY, ttl=timedelta(hours=1), limits=(Limit.rate("pay", 1, per=timedelta(minutes=1)),)):
        for name in names:
            desk.suspend(name, 1)
            desk.refuse(name, 1)
            world.clock.advance(63)
        desk.run(names[0], 1)
        for name in names[1:]:
            desk.refuse(name, 1)
        world.clock.advance(63)
        desk.run(names[1], 1)
        desk.refuse(names[2], 1)
    assert len(world.ran) == 8


def test_ac_06_a_rate_that_refuses_a_rerun_leaves_its_share_of_a_sum(world: object) -> None:
    """All limits or none: a moment later the call goes on with what it had, and debits no more."""
    desk, minute = Desk(world), timedelta(minutes=1)
    with world.task(PAY, limits=(Limit.sum("pay", "amount", 5), Limit.rate("pay", 1, per=minute))):
        desk.suspend("c1", 5)
        desk.refuse("c1", 5)
        world.clock.advance(63)
        desk.run("c1", 5)
        world.clock.advance(63)
        desk.refuse("c1", 1)


def _over(amount: int) -> RuleSet:
    rule = Rule(Effect.ROUTE, tools="pay", when={"args.amount": Range(min=amount + 1)}, reason="a lot", to="desk")
    return RuleSet(rule)


def test_ac_06_an_approval_after_a_begun_body_debits_the_difference(open_world: Callable[..., object]) -> None:
    """What waits for a person has nothing reserved, and what it had stays its own; approved, it pays the rest."""
    answers: list[object] = [Interrupted(), None, None, None]  # Once asked about, it needs a person for less as well.

    def ask(request: ApprovalRequest) -> object:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return request.approve(by=BOB)

    routes = {"desk": Approval(ask=ask, suspends=(Interrupted,))}
    world = open_world(policy=_over(5), routes=routes)
    desk = Desk(world)
    with world.task(PAY, **_sum(9)):
        desk.suspend("c1", 5)
        with pytest.raises(Interrupted):
            desk.begin("c1", 8)
        desk.refuse("c2", 5)
        desk.run("c2", 1)
        desk.suspend("c1", 8)
        desk.refuse("c2", 1)
        desk.run("c1", 5)
        desk.refuse("c1", 1)
    assert world.ran == [5, 1, 8, 5]


def test_ac_06_a_call_that_waits_for_an_approval_has_nothing_reserved(open_world: Callable[..., object]) -> None:
    """Ten that are suspended before their bodies leave the whole limit to others."""

    def ask(request: ApprovalRequest) -> object:
        raise Interrupted

    world = open_world(policy=_over(5), routes={"desk": Approval(ask=ask, suspends=(Interrupted,))})
    desk = Desk(world)
    with world.task(PAY, **_sum(9)):
        for number in range(10):
            with pytest.raises(Interrupted):
                desk.begin(f"c{number}", 9)
        desk.run("d1", 5)
        desk.run("d2", 4)


def test_a_store_that_cannot_keep_shares_is_refused_when_the_enforcer_opens(
    open_world: Callable[..., object],
) -> None:
    """One that was written for an earlier version is told which methods it lacks, before anything runs."""

    class Early:
        """What a store needed before shares were kept."""

        insert = contains = debit = credit = put = get = generation = close = lambda self: None

    with pytest.raises(TypeError, match="it lacks keep, resume; make one of"):
        open_world(state=Early())
