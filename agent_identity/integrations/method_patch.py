"""Methods of a framework's class that ours replace for a time."""

import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar, final
from weakref import WeakSet

from agent_identity.adapters import renewed_in_children

__all__ = ["Installed", "MethodPatch"]

_Guard = TypeVar("_Guard")

_INHERITED: Final = object()
_MAX_WRAPPED: Final = 100


@final
class MethodPatch:
    """Replaces methods of a class from :meth:`apply` until :meth:`undo`. Safe to share between threads.

    Others may patch the same methods meanwhile. Then ours stay below theirs when they are undone, and must do nothing
    but call the original; :attr:`is_active` tells them.

    Args:
        kind: The class.
        replacements: For each method, the function that makes its replacement of the original, as the class holds it.

    Attributes:
        is_active: True from the first step of :meth:`apply` to that of :meth:`undo`.
    """

    def __init__(self, kind: type, replacements: Mapping[str, Callable[..., object]]) -> None:
        self.is_active = False
        self._kind = kind
        self._replacements = replacements
        self._originals: dict[str, object] = {}
        self._ours: dict[str, object] = {}
        self._lock = threading.Lock()
        renewed_in_children(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def apply(self) -> None:
        """Replace the methods, unless ours are still there, which others may have wrapped or taken away."""
        with self._lock:
            self.is_active = True
            for name, replace in self._replacements.items():
                current = inspect.getattr_static(self._kind, name)
                if name not in self._ours or not _is_within(self._ours[name], current):
                    self._originals[name] = vars(self._kind).get(name, _INHERITED)
                    self._ours[name] = replace(current)
                    setattr(self._kind, name, self._ours[name])

    def undo(self) -> None:
        """Restore the originals, where nobody else has patched the class since."""
        with self._lock:
            self.is_active = False
            if all(vars(self._kind).get(name) is ours for name, ours in self._ours.items()):
                for name, original in self._originals.items():
                    delattr(self._kind, name) if original is _INHERITED else setattr(self._kind, name, original)
                self._originals, self._ours = {}, {}


class Installed(Generic[_Guard]):
    """The guards of this process for one framework, whose methods are replaced while there is one.

    Args:
        patches: The replacements.

    Attributes:
        everywhere: The guard of what has none of its own.
    """

    def __init__(self, *patches: MethodPatch) -> None:
        self.everywhere: _Guard | None = None
        self._patches = patches
        self._guards = WeakSet[_Guard]()

    def bind(self, guard: _Guard) -> None:
        """Replace the methods, once, while there is a guard."""
        self._guards.add(guard)
        for patch in self._patches:
            patch.apply()

    def leave(self, guard: _Guard) -> None:
        """Take a guard out; the last one restores the methods where nobody else has patched them since."""
        self._guards.discard(guard)
        if not self._guards:
            for patch in self._patches:
                patch.undo()
        if self.everywhere is guard:
            self.everywhere = None


def _is_within(ours: object, current: object) -> bool:
    """Return whether a method is ours or wraps it, by what :func:`functools.wraps` and others leave behind."""
    for _ in range(_MAX_WRAPPED):
        if current is ours:
            return True
        current = getattr(current, "__wrapped__", None)
    return False
