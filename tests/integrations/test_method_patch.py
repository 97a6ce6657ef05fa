"""Methods of a class that ours replace for a time."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent_identity.integrations.method_patch import MethodPatch


class Base:
    """A class that defines one of the methods of another."""

    def inherited(self) -> list[str]:
        """Return the names of what ran."""
        return ["inherited"]


class Kind(Base):
    """A class of a framework."""

    def method(self) -> list[str]:
        """Return the names of what ran."""
        return ["method"]


class Other(Base):
    """Another class that inherits the same method."""


@pytest.fixture
def kind() -> type[Kind]:
    """Return a class of its own for a test."""
    return type("Mine", (Kind,), dict(vars(Kind)))


def around(name: str, patch: Callable[[], MethodPatch] | None = None) -> Callable[[Any], Callable[[Any], list[str]]]:
    """Return what makes a replacement that adds a name while its patch is active."""

    def replaced(original: Any) -> Callable[[Any], list[str]]:
        @functools.wraps(original)
        def method(self: Any) -> list[str]:
            return [name, *original(self)] if patch is None or patch().is_active else original(self)

        return method

    return replaced


def patch_of(kind: type[Kind], name: str = "method") -> MethodPatch:
    """Return a patch of one method."""
    patch = MethodPatch(kind, {name: around("ours", lambda: patch)})
    return patch


def test_methods_are_replaced_until_they_are_restored(kind: type[Kind]) -> None:
    """The class then has the same method as before; each step may be repeated."""
    patch, original = patch_of(kind), vars(kind)["method"]
    assert kind().method() == ["method"]
    for _ in range(2):
        patch.apply()
        assert kind().method() == ["ours", "method"]
    for _ in range(2):
        patch.undo()
        assert vars(kind)["method"] is original
    patch.apply()
    assert kind().method() == ["ours", "method"]


def test_the_patch_of_somebody_else_stays(kind: type[Kind]) -> None:
    """Ours stays below it without effect, and works again without a second one."""
    patch = patch_of(kind)
    patch.apply()
    theirs: Any = around("theirs")(vars(kind)["method"])
    kind.method = theirs  # type: ignore[method-assign]
    patch.undo()
    assert vars(kind)["method"] is theirs
    assert kind().method() == ["theirs", "method"]
    patch.apply()
    assert kind().method() == ["theirs", "ours", "method"]


def test_threads_that_apply_it_at_once_make_one_replacement(kind: type[Kind]) -> None:
    """A second one would stay when the first is undone."""
    made, both = list[Any](), threading.Event()

    def replaced(original: Any) -> Any:
        made.append(original)
        both.wait(0.2)  # Nobody else comes here meanwhile.
        if len(made) > 1:
            both.set()
        return around("ours")(original)

    patch = MethodPatch(kind, {"method": replaced})
    threads = [threading.Thread(target=patch.apply) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [vars(Kind)["method"]]
    patch.undo()
    assert kind().method() == ["method"]


def test_two_patches_are_undone_in_any_order(kind: type[Kind]) -> None:
    """What is undone first stays below the other one, and does nothing."""
    first, second = patch_of(kind), patch_of(kind)
    first.apply()
    second.apply()
    assert kind().method() == ["ours", "ours", "method"]
    first.undo()
    assert kind().method() == ["ours", "method"]
    second.undo()
    assert kind().method() == ["method"]


def test_an_inherited_method_is_replaced_in_the_class_alone(kind: type[Kind]) -> None:
    """Other classes that inherit it keep theirs, and afterwards this one inherits it again."""
    patch = patch_of(kind, "inherited")
    patch.apply()
    assert (kind().inherited(), Other().inherited()) == (["ours", "inherited"], ["inherited"])
    patch.undo()
    assert kind().inherited() == ["inherited"]
    assert "inherited" not in vars(kind)


def test_a_patch_that_somebody_else_has_removed_is_applied_again(kind: type[Kind]) -> None:
    """Whoever patched before and restores what was there takes ours away, before or after ours is undone."""
    original = kind.method
    for is_undone in (False, True):
        patch = patch_of(kind)
        kind.method = around("theirs")(original)  # type: ignore[method-assign]
        patch.apply()
        kind.method = original  # type: ignore[method-assign]
        if is_undone:
            patch.undo()
        assert kind().method() == ["method"]
        patch.apply()
        assert kind().method() == ["ours", "method"]
        patch.undo()
        assert kind().method() == ["method"]


def test_an_inherited_method_is_inherited_again(kind: type[Kind], monkeypatch: pytest.MonkeyPatch) -> None:
    """The class holds none of its own afterwards, which would hide what others do to its base."""
    patch = patch_of(kind, "inherited")
    patch.apply()
    patch.undo()
    monkeypatch.setattr(Base, "inherited", around("theirs")(Base.inherited))
    assert kind().inherited() == ["theirs", "inherited"]
