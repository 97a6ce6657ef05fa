"""Methods of a framework's class that ours replace for a time."""

import inspect
import threading
from collections.abc import Callable, Mapping
from typing import final

from agent_identity._authority.stores import renewed_in_children

__all__ = ["MethodPatch"]


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
        self._lock = threading.Lock()
        self._kind = kind
        self._replacements = replacements
        self._originals: dict[str, object] = {}
        self._ours: dict[str, object] = {}
        renewed_in_children(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def apply(self) -> None:
        """Replace the methods, unless ours are still there."""
        self.is_active = True
        with self._lock:
            if not self._ours:
                found = {name: inspect.getattr_static(self._kind, name) for name in self._replacements}
                self._originals = {name: method for name, method in found.items() if name in vars(self._kind)}
                self._ours = {name: replace(found[name]) for name, replace in self._replacements.items()}
                for name, ours in self._ours.items():
                    setattr(self._kind, name, ours)

    def undo(self) -> None:
        """Restore the originals, where nobody else has patched the class since."""
        self.is_active = False
        with self._lock:
            if all(vars(self._kind).get(name) is ours for name, ours in self._ours.items()):
                for name in self._ours:
                    if name in self._originals:
                        setattr(self._kind, name, self._originals[name])
                    else:
                        delattr(self._kind, name)
                self._originals, self._ours = {}, {}
