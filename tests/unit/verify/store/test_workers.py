"""Work in several processes: how many, started how, and with the results in their order."""

import gc
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self

import pytest

from agent_identity._verify.store.workers import _prepare, executor, in_process
from agent_identity.errors import ConfigurationError


def twice(item: int) -> list[int]:
    """Return an item twice."""
    return [item, item]


def once(item: int) -> list[int]:
    """Return an item."""
    return [item]


class Pool:
    """A pool that works in this process, and notes how it is used."""

    def __init__(self, number: int, context: Any, initializer: Callable[[], None]) -> None:
        self.made = (number, context.get_start_method(), initializer)
        self.submitted = 0
        self.ended: list[dict[str, bool]] = []
        pools.append(self)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def submit(self, function: Callable[..., Any], *given: Any) -> "Future[Any]":
        """Do it now."""
        self.submitted += 1
        done: Future[Any] = Future()
        done.set_result(function(*given))
        return done

    def shutdown(self, **how: bool) -> None:
        """End."""
        self.ended.append(how)


pools: list[Pool] = []


@pytest.fixture(autouse=True)
def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start no process."""
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", Pool)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)))
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    yield
    pools.clear()


@pytest.mark.parametrize(
    ("number", "most", "made"), [(2, None, 2), (9, 3, 9), (0, None, 7), (0, 3, 3), (0, 8, 7), (64, None, 64)]
)
def test_so_many_processes_work(number: int, most: int | None, made: int) -> None:
    """As many as are asked for; else as there are processors, but not more than make sense."""
    with executor(number, most=most) as run:
        assert list(run(twice, range(20))) == [item // 2 for item in range(40)]
    assert [pool.made for pool in pools] == [(made, "fork", _prepare)]
    assert pools[0].ended == [{"cancel_futures": True}]


def test_never_more_than_64_processes_unless_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may have many processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(999)))
    for most, made in ((None, 64), (80, 80)):
        with executor(0, most=most):
            assert pools[-1].made[0] == made


@pytest.mark.parametrize(("number", "most"), [(1, None), (0, 1)])
def test_one_process_is_this_one(number: int, most: int | None) -> None:
    """No other one is started for it."""
    with executor(number, most=most) as run:
        assert run is in_process
    assert not pools


def test_beside_threads_processes_are_started_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread may hold a lock that nobody would give back in a copy of this process."""
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    with executor(2):
        assert pools[0].made == (2, "spawn", _prepare)


def test_work_is_done_elsewhere_if_that_is_given() -> None:
    """By whatever does it."""
    with executor(in_process) as run:
        assert run is in_process
    assert list(in_process(twice, [1, 2])) == [1, 1, 2, 2]
    assert not pools


def test_results_come_while_items_are_still_to_be_taken() -> None:
    """Two results for each process are ahead, and no more of them wait in memory."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            yield item

    with executor(3) as run:
        for number, result in enumerate(run(once, items())):
            assert result == number
            assert len(taken) == min(20, number + 7)


@pytest.mark.parametrize("number", [-1, -2])
def test_fewer_than_no_process_are_refused(number: int) -> None:
    """With words."""
    with (
        pytest.raises(ConfigurationError, match="is negative; pass 0"),
        executor(number),
    ):
        pass


def test_what_is_no_number_of_processes_is_named_by_its_type_only() -> None:
    """Its value may be anything."""
    expected = "^the number of processes is str; pass an integer, 0 chooses it automatically$"
    with pytest.raises(TypeError, match=expected), executor("secret"):  # type: ignore[arg-type]
        pass


def lose_a_process() -> None:
    """Have a process die while others work."""
    with executor(2):
        raise BrokenProcessPool


def test_a_process_that_is_killed_ends_the_others() -> None:
    """The message says how to go on, and what waits is not done any more."""
    expected = "^a worker of the verification was killed; see whether memory is short, or verify with one process$"
    with pytest.raises(ConfigurationError, match=expected):
        lose_a_process()
    assert pools[0].ended == [{"cancel_futures": True}]


def test_another_process_does_not_look_for_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would cost time and find nothing."""
    done: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(gc, "disable", lambda: done.append("disable"))
    _prepare()
    assert done == ["freeze", "disable"]


def test_results_in_this_process_come_when_they_are_asked_for() -> None:
    """One item can have millions of them."""
    done: list[int] = []

    def counted(item: int) -> Iterator[int]:
        for number in range(item):
            done.append(number)
            yield number

    results = in_process(counted, iter([3, 2]))
    assert (next(results), done) == (0, [0])
    assert list(results) == [1, 2, 0, 1]
