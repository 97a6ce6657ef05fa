"""Stores after a fork: a child must neither wait for a lock of its parent's threads nor use its connections."""

import os
import weakref
from typing import Final, Protocol

__all__ = ["Forked", "renewed_in_children"]


class Forked(Protocol):
    """What has to start anew in a forked child."""

    def after_fork_in_child(self) -> None:
        """Replace locks, and leave connections to the parent without closing them."""
        ...


_FORKED: Final["weakref.WeakSet[Forked]"] = weakref.WeakSet()


def renewed_in_children(store: Forked) -> None:
    """Have the store's :meth:`Forked.after_fork_in_child` called in each forked child, while it lives."""
    _FORKED.add(store)


def _after_fork_in_child() -> None:
    for store in list(_FORKED):
        store.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(after_in_child=_after_fork_in_child)
