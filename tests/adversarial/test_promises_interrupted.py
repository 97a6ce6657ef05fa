"""Exceptions of signal handlers, such as a worker's time limit, in the middle of the end of a task."""

import gc
import sys
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope, Task

_ENDING = ("opening.py", "task.py", "tasks.py", "task_context.py", "ledger.py")
"""The modules in which a task ends."""


class Signal(BaseException):
    """What a signal handler raises."""


@pytest.fixture
def enforcer(tmp_path: Path) -> Iterator[Enforcer]:
    """Return an enforcer that is closed at the end."""
    with Enforcer.open(tmp_path / "evidence") as opened:
        yield opened


def _interrupted(number: int, enforcer: Enforcer) -> tuple[bool, Task, Task | None]:
    """Open and leave a task, and raise at a step of leaving; return whether there was such a step, and the tasks."""
    steps, leaving = 0, False

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal steps, leaving
        here = Path(frame.f_code.co_filename)
        if frame.f_code.co_name == "__exit__" and here.name == "opening.py":
            leaving = event != "return"
        # Python looks for signals where functions begin and after they have returned, and not between all lines.
        if not leaving or event == "line" or here.name not in _ENDING:
            return trace
        steps += 1
        if steps == number:
            sys.settrace(None)
            raise Signal
        return trace

    before, task, found = sys.gettrace(), None, False
    try:
        clerk = Agent("clerk", owner="finance@example.com")
        with enforcer.task("pay", principal=Human("alice"), agent=clerk, scope=Scope("pay")) as task:
            sys.settrace(trace)
    except Signal:
        found = True
    finally:
        sys.settrace(before)
    assert task is not None
    return found, task, enforcer.current_task


def test_a_task_ends_wherever_a_signal_handler_raises_while_it_is_left(enforcer: Enforcer) -> None:
    """Its authority is over, and where its end began at all no other call of the thread finds it."""
    number = 1
    while True:
        found, task, current = copy_context().run(_interrupted, number, enforcer)
        assert not task.lease.live, number
        assert number == 1 or current is None, number
        if not found:
            break
        number += 1
    assert number > 20


@pytest.mark.usefixtures("_own_context")
def test_a_task_whose_block_is_gone_has_no_authority(enforcer: Enforcer) -> None:
    """Nobody can leave it any more, so that it would live on until it expires."""
    clerk = Agent("clerk", owner="finance@example.com")
    opening = enforcer.task("pay", principal=Human("alice"), agent=clerk, scope=Scope("pay"))
    task = opening.__enter__()
    assert task.lease.live
    del opening
    gc.collect()
    assert not task.lease.live
