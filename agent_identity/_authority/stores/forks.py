"""Stores after a fork: a child must not wait for its parent's locks nor use its connections."""

import os
import weakref
from typing import Final, Protocol


class Forked(Protocol):
    """An object to reset in a forked child."""

    def after_fork_in_child(self) -> None:
        """Replace locks, and leave connections to the parent without closing them."""
        ...


_FORKED: Final["weakref.WeakSet[Forked]"] = weakref.WeakSet()


def renewed_in_children(store: Forked) -> None:
    """Register the store so that each forked child calls its :meth:`Forked.after_fork_in_child`, while it lives."""
    _FORKED.add(store)


def _after_fork_in_child() -> None:
    for store in list(_FORKED):
        store.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(after_in_child=_after_fork_in_child)
