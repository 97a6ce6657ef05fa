"""The counter of news beside the state of a directory: cheap to ask, and never taken for older than it is."""

import os
import shutil
from pathlib import Path

import pytest

from agent_identity.authority import DirectoryState
from agent_identity.errors import ConfigurationError, StateError

NOW, END = 1_000, 2_000


def test_nothing_is_made_before_something_is_kept(tmp_path: Path) -> None:
    """To ask makes no database."""
    state = DirectoryState(tmp_path / "state")
    assert state.generation() == 0
    assert state.get("list") is None
    assert not state.contains("ended:a", now=NOW)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [".gitignore", "news"]
    state.close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A file in its place is a mistake of the configuration."""
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigurationError, match="repair the folder 'state'"):
        DirectoryState(tmp_path / "state")


def test_a_writer_that_died_hides_nothing(tmp_path: Path) -> None:
    """While the counter is odd every answer is news, and the next writer makes it even again."""
    state = DirectoryState(tmp_path / "state")
    state._tell(7)
    assert state.generation() != state.generation()
    assert state.insert("ended:a", now=NOW, expires_at=END)
    assert state.generation() == state.generation() == 10
    state._tell(11)
    assert not state.insert("ended:a", now=NOW, expires_at=END)
    assert state.generation() == state.generation() == 14
    state.close()


def test_a_lock_that_cannot_be_had_refuses(tmp_path: Path) -> None:
    """What cannot be told to others is not stored."""
    state = DirectoryState(tmp_path / "state")
    descriptor, state._fd = state._fd, -1
    with pytest.raises(StateError, match="expected a lock"):
        state.insert("ended:a", now=NOW, expires_at=END)
    state._fd = descriptor
    assert not state.contains("ended:a", now=NOW)
    state.close()


def test_a_child_has_a_lock_of_its_own(tmp_path: Path) -> None:
    """Locks of one descriptor are shared by all who inherited it, so a child opens the file anew."""
    state = DirectoryState(tmp_path / "state")
    before = state._fd
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if state.insert("ended:a", now=NOW, expires_at=END) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert state._fd == before
    assert state.contains("ended:a", now=NOW)
    assert not state.insert("ended:a", now=NOW, expires_at=END)
    state.close()


def test_a_child_without_the_folder_refuses_later(tmp_path: Path) -> None:
    """A fork must not fail; whatever the child does with the state then does."""
    state = DirectoryState(tmp_path / "state")
    shutil.rmtree(tmp_path / "state")
    state.after_fork_in_child()
    with pytest.raises(StateError):
        state.insert("ended:a", now=NOW, expires_at=END)
    with pytest.raises(StateError):
        state._check_there()
    state._fd = os.open(os.devnull, os.O_RDONLY)
    state.close()
    state.after_fork_in_child()
    with pytest.raises(StateError, match="closed"):
        state.generation()


def test_a_closed_store_tells_no_news(tmp_path: Path) -> None:
    """Also to whoever asked a moment before, and is not looked up on the disk again."""
    state = DirectoryState(tmp_path / "state")
    state.generation()
    state.close()
    with pytest.raises(StateError, match="closed"):
        state.generation()
