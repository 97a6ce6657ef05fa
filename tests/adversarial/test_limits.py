"""Limits and used proofs under attack: split budgets, races, and stores that fill up."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity import Agent, Scope
from agent_identity.errors import AttenuationError, Denied, LimitExceeded, StateError
from agent_identity.limits import Limit
from agent_identity.state import Debit, MemoryState, SqliteState, StateStore

NOW, END = 1_764_000_000, 1_764_000_060
THREADS, ROUNDS = 16, 300


@pytest.fixture(params=["memory", "sqlite"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> StateStore:
    if request.param == "memory":
        yield MemoryState()
    else:
        store = SqliteState(tmp_path / "state" / "state.sqlite", timeout=60)
        yield store
        store.close()


def _race(threads: int, body: Callable[[int], None]) -> None:
    running = [threading.Thread(target=body, args=(at,)) for at in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def test_ac_06_children_cannot_each_spend_the_whole_budget(
    open_world: Callable[..., object], state: StateStore
) -> None:
    """Sixteen threads, each under a child of its own, pay what they can: the sum stays within the root's budget."""
    world = open_world(state=state)
    paid: list[int] = []
    codes: list[str] = []

    @world.enforcer.tool
    def pay(amount: int) -> None:
        paid.append(amount)

    scope, barrier = Scope("pay"), threading.Barrier(THREADS)
    with world.task(scope, limits=(Limit.sum("pay", "amount", 100), Limit.uses("*", 40))):

        def spend(at: int) -> None:
            with world.enforcer.delegate(Agent(f"child-{at}", owner="finance@example.com"), scope=scope):
                barrier.wait()
                for _ in range(5):
                    try:
                        pay(7)
                    except LimitExceeded as error:
                        codes.append(error.code)

        _race(THREADS, world.enforcer.bind(spend))
        assert sum(paid) == 98
        assert codes == ["limit_exceeded"] * (THREADS * 5 - 14)
        with world.enforcer.delegate(Agent("late", owner="finance@example.com"), scope=scope), pytest.raises(Denied):
            pay(7)
        assert len(paid) == 14
    refusals = [record for record in world.records("outcome") if record["outcome"] == "denied"]
    assert len(refusals) == len(codes) + 1
    assert {record["error"] for record in refusals} == {"limit_exceeded"}
    assert {len(record["chain"]) for record in refusals} == {2}


def test_ac_06_a_child_is_refused_with_a_record_of_its_own_chain(world: object) -> None:
    """The refusal names who was refused, and nothing ran."""
    body = world.tool()
    with world.task(Scope("tool"), limits=(Limit.uses("tool", 1),)):
        with world.enforcer.delegate(Agent("child", owner="finance@example.com"), scope=Scope("tool")):
            body()
            with world.refused("limit_exceeded", LimitExceeded, chain=("invoice-clerk", "child")):
                body()
        with world.refused("limit_exceeded", LimitExceeded):
            body()


def test_ac_06_a_task_inside_cannot_take_the_outer_account(world: object) -> None:
    """A delegation cannot be given limits of its own, and an inner task without limits is no child."""
    with world.task(Scope("tool"), limits=(Limit.uses("tool", 1),)) as task:
        with pytest.raises(TypeError, match="limits"):
            world.enforcer.delegate(Agent("child", owner="o"), scope=Scope("tool"), limits=())
        with pytest.raises(AttenuationError), world.enforcer.delegate(Agent("c", owner="o"), scope=Scope("other")):
            pytest.fail("opened")
        with world.task(Scope("tool")) as inner:
            assert inner.chain.root.id != task.chain.root.id


@pytest.mark.parametrize("kind", ["insert", "debit"])
def test_ac_30_of_sixteen_that_race_with_one_proof_exactly_one_is_let_in(state: StateStore, kind: str) -> None:
    """In each of three hundred rounds; the same for the last use of a limit."""
    barrier, won = threading.Barrier(THREADS), [[] for _ in range(ROUNDS)]

    def present(at: int) -> None:
        for round_ in range(ROUNDS):
            barrier.wait()
            if kind == "insert":
                first = state.insert(f"proof:{round_}", now=NOW, expires_at=END)
            else:
                first = state.debit([Debit(f"limit:{round_}", 1, 1, None, END)], now=NOW) is None
            if first:
                won[round_].append(at)

    _race(THREADS, present)
    assert [len(winners) for winners in won] == [1] * ROUNDS


def test_ac_31_a_full_store_refuses_new_proofs_and_stays_full(world: object) -> None:
    """Flooding the store with ids buys nothing: no new one is let in, and no old one is forgotten early."""
    store = MemoryState(capacity=10_000)
    for at in range(10_000):
        assert store.insert(f"proof:{at}", now=NOW, expires_at=END)
    for attempt in range(100):
        with pytest.raises(StateError) as caught:
            store.insert(f"proof:flood-{attempt}", now=NOW + attempt % 60, expires_at=END + 60)
        assert caught.value.code == "state_full"
    assert not any(store.insert(f"proof:{at}", now=END - 1, expires_at=END) for at in range(10_000))


def test_ac_31_a_call_is_refused_when_the_store_of_limits_is_full(open_world: Callable[..., object]) -> None:
    """Nothing runs that cannot be counted, and the refusal is on record."""
    state = MemoryState(capacity=1)
    world = open_world(state=state)
    body = world.tool()
    assert state.insert("proof:a", now=NOW, expires_at=NOW + 3_600)
    with world.task(Scope("tool"), limits=(Limit.uses("tool", 5),)), world.refused("state_unavailable"):
        body()
