"""The registry: ending is immediate everywhere, and no clock revives what is over."""

import gc
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._authority.registries.tasks import Lease, TaskRegistry
from agent_identity.errors import AgentIdentityError, GrantExpired, NoTask


class Clocks:
    """Two clocks that tests set."""

    def __init__(self, wall: int = 1_000_000, monotonic: int = 5_000) -> None:
        self.wall = wall
        self.monotonic = monotonic
        self.reads = 0

    def wall_ns(self) -> int:
        """Return the wall time."""
        self.reads += 1
        return self.wall

    def monotonic_ns(self) -> int:
        """Return the monotonic time."""
        self.reads += 1
        return self.monotonic

    def advance(self, by: int) -> None:
        """Let time pass on both clocks."""
        self.wall += by
        self.monotonic += by


def code_of(lease: Lease, clock: Clocks) -> str | None:
    """Return why the lease refuses, or None."""
    try:
        lease.check(clock)
    except AgentIdentityError as refused:
        return refused.code
    return None


def opened(clock: Clocks, life: int = 100) -> tuple[TaskRegistry, Lease]:
    """Return a registry with one open task."""
    registry = TaskRegistry()
    return registry, registry.open("task", clock.wall + life, clock=clock)


def test_a_lease_lives_until_its_deadline() -> None:
    """It is open before the deadline and over from the deadline on."""
    clock = Clocks()
    _, lease = opened(clock)
    clock.advance(99)
    lease.check(clock)
    assert lease.live
    clock.advance(1)
    with pytest.raises(GrantExpired):
        lease.check(clock)
    assert not lease.live


def test_either_clock_ends_it() -> None:
    """The wall clock alone, or the monotonic one alone, is enough."""
    clock = Clocks()
    _, lease = opened(clock)
    clock.wall += 100
    assert code_of(lease, clock) == "grant_expired"
    clock = Clocks()
    _, lease = opened(clock)
    clock.monotonic += 100
    assert code_of(lease, clock) == "grant_expired"


def test_a_wall_clock_that_goes_back_gives_no_time() -> None:
    """Setting the clock back neither prolongs nor revives a lease."""
    clock = Clocks()
    _, lease = opened(clock)
    clock.wall -= 1_000_000
    clock.monotonic += 100
    assert code_of(lease, clock) == "grant_expired"
    clock.monotonic -= 100
    assert code_of(lease, clock) == "grant_expired"


def test_time_seen_by_one_lease_counts_for_the_whole_task() -> None:
    """What a child saw of the wall clock is not forgotten by its parent or sibling."""
    clock = Clocks()
    registry, lease = opened(clock)
    child = registry.open("task", clock.wall + 500, lease, clock=clock)
    clock.wall += 100
    assert code_of(child, clock) == "grant_expired"
    clock.wall -= 100
    assert code_of(lease, clock) == "grant_expired"


def test_a_jump_of_the_clock_does_not_stop_later_tasks() -> None:
    """Time seen by one task is no time for the next, or one bad reading would stop the process."""
    clock = Clocks()
    registry, lease = opened(clock)
    clock.wall += 10**18
    assert code_of(lease, clock) == "grant_expired"
    clock.wall -= 10**18
    registry.open("task-2", clock.wall + 100, clock=clock).check(clock)


def test_ending_is_immediate_and_final() -> None:
    """After the end every check refuses, also before the deadline, and ending again changes nothing."""
    clock = Clocks()
    _, lease = opened(clock)
    assert repr(lease) == "Lease(id='task', open)"
    lease.end()
    lease.end()
    with pytest.raises(NoTask) as refused:
        lease.check(clock)
    assert refused.value.code == "task_ended"
    assert repr(lease) == "Lease(id='task', ended)"


def test_ended_wins_over_expired() -> None:
    """A lease that expired and was ended says that the task has ended, whichever came first."""
    clock = Clocks()
    _, lease = opened(clock)
    clock.advance(100)
    assert code_of(lease, clock) == "grant_expired"
    lease.end()
    assert code_of(lease, clock) == "task_ended"


def test_ending_reaches_descendants_and_nobody_else() -> None:
    """Children and grandchildren end with their ancestor; parents and siblings go on."""
    clock = Clocks()
    registry, lease = opened(clock)
    first = registry.open("task", clock.wall + 50, lease, clock=clock, id="first")
    second = registry.open("task", clock.wall + 50, lease, clock=clock, id="second")
    grandchild = registry.open("task", clock.wall + 50, first, clock=clock)
    assert (first.id, grandchild.id, grandchild.task_id, grandchild.parent) == ("first", "task", "task", first)
    first.end()
    assert [code_of(each, clock) for each in (lease, first, second, grandchild)] == [
        None,
        "task_ended",
        None,
        "task_ended",
    ]
    lease.end()
    assert code_of(second, clock) == "task_ended"


def test_expiry_of_an_ancestor_reaches_descendants() -> None:
    """A child never outlives its parent, by deadline or by what the parent saw."""
    clock = Clocks()
    registry, lease = opened(clock)
    child = registry.open("task", clock.wall + 500, lease, clock=clock)
    assert child.deadline_wall_ns == lease.deadline_wall_ns
    clock.wall += 100
    assert code_of(lease, clock) == "grant_expired"
    clock.wall -= 100
    assert not child.live
    assert code_of(child, clock) == "grant_expired"


def test_a_child_inherits_the_monotonic_deadline() -> None:
    """Between the opening of parent and child a wall clock set back gives the child no more time."""
    clock = Clocks()
    registry, lease = opened(clock)
    clock.wall -= 1_000
    clock.monotonic += 50
    child = registry.open("task", lease.deadline_wall_ns, lease, clock=clock)
    clock.monotonic += 50
    assert code_of(child, clock) == "grant_expired"


def test_opening_needs_a_live_parent_and_a_future() -> None:
    """No lease opens under one that is over, past its deadline, in another task, or twice."""
    clock = Clocks()
    registry, lease = opened(clock)
    refused: list[tuple[Callable[[], Lease], type[Exception]]] = [
        (lambda: registry.open("task", clock.wall + 9, clock=clock), ValueError),
        (lambda: registry.open("other", clock.wall + 9, lease, clock=clock), ValueError),
        (lambda: registry.open("late", clock.wall, clock=clock), GrantExpired),
        (lambda: registry.open("", clock.wall + 9, clock=clock), ValueError),
    ]
    for attempt, kind in refused:
        with pytest.raises(kind):
            attempt()
    lease.end()
    with pytest.raises(NoTask):
        registry.open("task", clock.wall + 9, lease, clock=clock)


def test_end_all_ends_every_task() -> None:
    """Closing the registry leaves no task open."""
    clock = Clocks()
    registry, lease = opened(clock)
    other = registry.open("other", clock.wall + 100, clock=clock)
    child = registry.open("other", clock.wall + 100, other, clock=clock)
    registry.end_all()
    assert [code_of(each, clock) for each in (lease, other, child)] == ["task_ended"] * 3


def test_a_task_that_nobody_holds_is_forgotten() -> None:
    """The registry keeps nothing alive, and a child keeps its ancestors."""
    clock = Clocks()
    registry, lease = opened(clock)
    child = registry.open("task", clock.wall + 100, lease, clock=clock)
    grandchild = registry.open("task", clock.wall + 100, child, clock=clock)
    del child
    gc.collect()
    lease.end()
    assert code_of(grandchild, clock) == "task_ended"
    del lease, grandchild
    gc.collect()
    registry.open("task", clock.wall + 100, clock=clock).check(clock)


def test_depth_costs_nothing_at_the_check() -> None:
    """A check reads each clock once, at the root as 30 levels below."""
    clock = Clocks()
    registry, lease = opened(clock)
    leaves = [lease]
    for _ in range(30):
        leaves.append(registry.open("task", clock.wall + 100, leaves[-1], clock=clock))
    for each in (leaves[0], leaves[-1]):
        clock.reads = 0
        each.check(clock)
        assert clock.reads == 2


def test_all_threads_see_the_end() -> None:
    """Once end() has returned, no thread passes a check any more, and none opens a live child."""
    clock = Clocks()
    registry, lease = opened(clock)
    ended = threading.Event()
    late: list[str] = []
    ready = threading.Barrier(9)

    def work() -> None:
        ready.wait()
        while True:
            over = ended.is_set()
            try:
                child = registry.open("task", clock.wall + 100, lease, clock=clock)
                child.check(clock)
            except NoTask:
                if over:
                    return
            else:
                if over:
                    late.append("passed")
                    return

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    ready.wait()
    lease.end()
    ended.set()
    for thread in threads:
        thread.join(20)
    assert late == []


STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "end", "wall", "advance", "check"]), st.integers(0, 9), st.integers(-200, 200)),
    max_size=40,
)


@given(steps=STEPS)
def test_what_is_over_stays_over_with_all_its_descendants(steps: list[tuple[str, int, int]]) -> None:
    """Under any order of openings, ends and clock jumps nothing comes back, and no child outlives its parent."""
    clock = Clocks()
    registry, first = opened(clock, 300)
    leases = [first]
    over: set[int] = set()
    for what, which, amount in steps:
        lease = leases[which % len(leases)]
        if what == "open":
            try:
                leases.append(registry.open("task", clock.wall + 150, lease, clock=clock))
            except (NoTask, GrantExpired):
                over.add(leases.index(lease))
        elif what == "end":
            lease.end()
            over.add(leases.index(lease))
        elif what == "wall":
            clock.wall += amount
        elif what == "advance":
            clock.advance(abs(amount))
        elif code_of(lease, clock):
            over.add(leases.index(lease))
        for index, each in enumerate(leases):
            parent_over = each.parent is not None and leases.index(each.parent) in over
            if index in over or parent_over:
                over.add(index)
                assert code_of(each, clock) is not None


def test_a_task_of_another_process_ends_when_it_ends_there() -> None:
    """Each check asks; what has ended there is over here for good, with everything under it."""
    clock, registry, answers = Clocks(), TaskRegistry(), [False]
    first, second = (
        registry.resume("task", 1_000_100, clock=clock, id=name, watch=lambda: answers[0]) for name in ("g1", "g2")
    )
    child = registry.open("task", 1_000_100, first, clock=clock, id="g3")
    assert [code_of(lease, clock) for lease in (first, second, child)] == [None] * 3
    answers[0] = True
    assert [code_of(lease, clock) for lease in (child, first)] == ["task_ended"] * 2
    answers[0] = False
    assert [code_of(lease, clock) for lease in (first, second, child)] == ["task_ended", None, "task_ended"]
    assert (first.id, first.task_id) == ("g1", "task")


def test_a_resumed_task_expires_and_ends_as_every_other() -> None:
    """Its deadline holds on both clocks, ending all tasks ends it, and a passed deadline opens nothing."""
    clock, registry = Clocks(), TaskRegistry()
    first, second = (
        registry.resume("task", 1_000_000 + life, clock=clock, id="g", watch=lambda: False) for life in (50, 100)
    )
    clock.advance(50)
    assert [code_of(lease, clock) for lease in (first, second)] == ["grant_expired", None]
    registry.after_fork_in_child()
    registry.end_all()
    assert code_of(second, clock) == "task_ended"
    with pytest.raises(GrantExpired):
        registry.resume("task", 1_000_050, clock=clock, id="g", watch=lambda: False)


def test_what_cannot_be_told_about_a_resumed_task_is_raised() -> None:
    """A check that cannot ask refuses, and the lease is as it was."""
    clock, registry, answers = Clocks(), TaskRegistry(), ["down"]

    def watch() -> bool:
        if answers:
            raise AgentIdentityError("no answer", code=answers.pop())
        return False

    lease = registry.resume("task", 1_000_100, clock=clock, id="g", watch=watch)
    assert [code_of(lease, clock), code_of(lease, clock)] == ["down", None]


def test_what_happens_while_it_is_asked_elsewhere_is_seen() -> None:
    """The question may take long: a lease that expires or is ended meanwhile is over."""
    clock, registry, meanwhile = Clocks(), TaskRegistry(), [lambda: clock.advance(100)]

    def watch() -> bool:
        meanwhile.pop()()
        return False

    first = registry.resume("task", 1_000_100, clock=clock, id="g1", watch=watch)
    second = registry.resume("task", 1_000_200, clock=clock, id="g2", watch=watch)
    assert code_of(first, clock) == "grant_expired"
    meanwhile.append(second.end)
    assert code_of(second, clock) == "task_ended"


def test_other_tasks_end_while_it_is_asked_elsewhere() -> None:
    """Asking may take long, and what answers may hold a lock in which a finalizer ends a task."""
    clock, registry = Clocks(), TaskRegistry()
    other = registry.open("other", 1_000_100, clock=clock)

    def watch() -> bool:
        ending = threading.Thread(target=other.end, daemon=True)
        ending.start()
        ending.join(5)
        assert not other.live
        return False

    lease = registry.resume("task", 1_000_100, clock=clock, id="g", watch=watch)
    assert registry.open("task", 1_000_100, lease, clock=clock, id="part").live


def test_a_task_that_ended_while_it_was_asked_elsewhere_has_no_parts() -> None:
    """The answer of before does not count."""
    clock, registry = Clocks(), TaskRegistry()

    def watch() -> bool:
        registry.end_all()
        return False

    lease = registry.resume("task", 1_000_100, clock=clock, id="g", watch=watch)
    with pytest.raises(NoTask):
        registry.open("task", 1_000_100, lease, clock=clock, id="part")


def test_a_look_asks_nobody_elsewhere() -> None:
    """It tells what this process knows: the clocks, and whether the lease was ended here."""
    clock, registry = Clocks(), TaskRegistry()
    lease = registry.resume("task", 1_000_100, clock=clock, id="g", watch=lambda: pytest.fail("asked"))
    lease.look(clock)
    clock.advance(100)
    with pytest.raises(GrantExpired):
        lease.look(clock)
    lease.end()
    with pytest.raises(NoTask):
        lease.look(clock)


def test_the_count_has_the_tasks_that_live() -> None:
    """A task counts once, whatever it delegated, from its opening to its end or its deadline."""
    clock = Clocks()
    registry, lease = opened(clock)
    child = registry.open("task", clock.wall + 50, lease, clock=clock)
    other = registry.open("other", clock.wall + 10, clock=clock)
    elsewhere = registry.resume("elsewhere", clock.wall + 100, clock=clock, id="grant", watch=lambda: False)
    assert registry.count(clock) == 3
    clock.advance(10)
    assert (registry.count(clock), other.live) == (2, True)
    elsewhere.end()
    assert registry.count(clock) == 1
    lease.end()
    assert (registry.count(clock), child.live) == (0, False)


def test_what_is_over_is_told_without_a_clock() -> None:
    """A lease that ended is refused; one that only is past its deadline is, once someone looked."""
    clock = Clocks()
    registry, lease = opened(clock)
    clock.advance(100)
    lease.check_live()
    with pytest.raises(GrantExpired):
        lease.check(clock)
    with pytest.raises(GrantExpired):
        lease.check_live()
    other = registry.open("other", clock.wall + 100, clock=clock)
    other.check_live()
    other.end()
    with pytest.raises(NoTask):
        other.check_live()
