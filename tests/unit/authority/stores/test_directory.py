"""The counter of news beside the state of a directory: cheap to ask, and never taken for older than it is."""

import os
import shutil
from pathlib import Path

import pytest

from agent_identity._authority.stores.directory import DirectoryState
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
    seen = state.generation()
    assert state.generation() == seen
    state._tell(11)
    assert not state.insert("ended:a", now=NOW, expires_at=END)
    assert state.generation() == state.generation() != seen
    state.close()


def test_a_lock_that_cannot_be_had_refuses(tmp_path: Path) -> None:
    """What cannot be told to others is not stored."""
    state = DirectoryState(tmp_path / "state")
    descriptor, state._fd = state._fd, -1
    with pytest.raises(StateError, match="the lock on the state"):
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
    state.after_fork_in_child()
    state.close()
    state.after_fork_in_child()
    with pytest.raises(StateError, match="closed"):
        state.generation()


@pytest.mark.parametrize("put_there", [False, True], ids=["nothing", "another"])
def test_a_child_of_a_folder_that_was_replaced_refuses_at_once(tmp_path: Path, put_there: bool) -> None:
    """A counter that is not the parent's tells the child nothing, however short a time ago the parent looked."""
    state = DirectoryState(tmp_path / "state")
    state.insert("ended:a", now=NOW, expires_at=END)
    state.generation()
    (tmp_path / "state" / "news").rename(tmp_path / "moved")
    if put_there:
        shutil.copy(tmp_path / "moved", tmp_path / "state" / "news")
    state.after_fork_in_child()
    with pytest.raises(StateError):
        state.generation()
    assert state.generation_at_once(lambda step: None) is None
    with pytest.raises(StateError):
        state.insert("ended:b", now=NOW, expires_at=END)
    assert (tmp_path / "state" / "news").exists() is put_there
    state.close()


def test_a_counter_that_was_put_back_comes_to_no_number_again(tmp_path: Path) -> None:
    """What is kept after a restore is news also to a process that did not look in between."""
    folder = tmp_path / "state"
    state, other = DirectoryState(folder), DirectoryState(folder)
    state.put("list", 1, b"a")
    early = (folder / "news").read_bytes()
    state.put("list", 2, b"b")
    seen = state.generation()
    (folder / "news").write_bytes(early)
    other.put("list", 3, b"c")
    assert state.generation() != seen
    state.close()
    other.close()


def test_a_closed_store_tells_no_news(tmp_path: Path) -> None:
    """Also to whoever asked a moment before, and is not looked up on the disk again."""
    state = DirectoryState(tmp_path / "state")
    state.generation()
    state.close()
    with pytest.raises(StateError, match="closed"):
        state.generation()


def test_a_state_that_was_replaced_refuses(tmp_path: Path) -> None:
    """A copy at the place of the counter is not the counter, and nor is nothing."""
    state = DirectoryState(tmp_path / "state")
    news = tmp_path / "state" / "news"
    copy = tmp_path / "copy"
    shutil.copy(news, copy)
    copy.replace(news)
    with pytest.raises(StateError, match="was replaced; open the directory again"):
        state._check_there()
    news.unlink()
    with pytest.raises(StateError, match="was removed or replaced"):
        state._check_there()
    state.close()


@pytest.mark.parametrize(("name", "mode", "what"), [(".", 0o777, "folder"), ("news", 0o604, "file")])
def test_a_state_that_others_can_change_is_refused(tmp_path: Path, name: str, mode: int, what: str) -> None:
    """Shared state is private, and the message has the cure."""
    DirectoryState(tmp_path / "state").close()
    (tmp_path / "state" / name).chmod(mode)
    with pytest.raises(ConfigurationError, match=f"others can change the {what} for shared state, .*chmod 700"):
        DirectoryState(tmp_path / "state")
