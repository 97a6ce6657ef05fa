"""What an event loop may ask: answers that wait for nothing, and that are never older than they may be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity._authority.registries.tasks import TaskRegistry
from agent_identity._authority.stores.directory import DirectoryState
from agent_identity.state import MemoryState
from agent_identity.testing import FixedClock

MODULE = "agent_identity._authority.stores.directory"


class Background(list[Callable[[], object]]):
    """What was started in the background, and runs when a test says so."""

    def __call__(self, step: Callable[[], object]) -> None:
        """Take a step."""
        self.append(step)


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the time in milliseconds, which stands still."""
    now = [10_000]
    monkeypatch.setattr(f"{MODULE}.time.monotonic_ns", lambda: now[0] * 1_000_000)
    return now


def test_the_directory_is_looked_at_in_the_background(tmp_path: Path, moment: list[int]) -> None:
    """What was seen lately counts; a look is under way once at a time, and one that is late has to be waited for."""
    state, started = DirectoryState(tmp_path / "state"), Background()
    assert state.generation_at_once(started) is None  # Nobody has looked yet.
    assert state.generation() == 0
    moment[0] += 200
    assert (state.generation_at_once(started), started) == (0, [])
    moment[0] += 1
    assert [state.generation_at_once(started) for _ in range(2)] == [0, 0]
    assert len(started) == 1
    started.pop()()
    moment[0] += 200
    assert (state.generation_at_once(started), started) == (0, [])
    moment[0] += 801
    assert state.generation_at_once(started) is None
    state.close()


def test_a_directory_that_is_gone_is_found_out_by_the_next_look(tmp_path: Path, moment: list[int]) -> None:
    """A look that fails has the next caller look for itself, who meets what is wrong; so does a closed store."""
    state, started = DirectoryState(tmp_path / "state"), Background()
    state.generation()
    moment[0] += 201
    assert state.generation_at_once(started) == 0
    (tmp_path / "state" / "news").unlink()
    with pytest.raises(Exception, match="removed or replaced"):
        started.pop()()
    assert state.generation_at_once(started) is None
    state.close()
    assert state.generation_at_once(started) is None


def test_a_child_looks_for_itself(tmp_path: Path, moment: list[int]) -> None:
    """What a parent saw is not what the child sees, and the look that it had under way is not the child's."""
    state, started = DirectoryState(tmp_path / "state"), Background()
    state.generation()
    moment[0] += 201
    state.generation_at_once(started)
    state.after_fork_in_child()
    assert state.generation_at_once(started) is None
    assert state.generation() == 0
    moment[0] += 201
    assert state.generation_at_once(started) == 0
    assert len(started) == 2
    state.close()


def test_memory_tells_at_once() -> None:
    """State of the process never waits, and starts nothing."""
    state, started = MemoryState(), Background()
    assert state.generation_at_once(started) == state.generation() == 0
    state.put("list", 1, b"")
    assert state.generation_at_once(started) == state.generation() == 1
    assert started == []


def test_a_lease_from_elsewhere_is_watched() -> None:
    """Checks of a resumed task ask whether it has ended where it was opened; those of a task of this process do not."""
    registry, clock = TaskRegistry(), FixedClock()
    deadline = clock.wall_ns() + 1_000_000_000
    assert not registry.open("a", deadline, clock=clock).watched
    assert registry.resume("b", deadline, clock=clock, id="b", watch=lambda: False).watched
