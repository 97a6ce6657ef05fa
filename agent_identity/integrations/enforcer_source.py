"""The enforcer of zero-code instrumentation: a given one, or one that is opened from the environment at first use."""

import atexit
import os
import threading
from typing import Final, final

from agent_identity import Enforcer
from agent_identity.adapters import renewed_in_children
from agent_identity.errors import ConfigurationError

__all__ = ["EnforcerSource"]

_MODE: Final = "AGENT_IDENTITY_MODE"
_DIRECTORY: Final = "AGENT_IDENTITY_DIR"
_POLICY: Final = "AGENT_IDENTITY_POLICY"


@final
class EnforcerSource:
    """Gives the enforcer of an instrumentation. Thread-safe.

    Args:
        enforcer: The enforcer, which the caller closes. Without one, the environment has the settings:
            ``AGENT_IDENTITY_DIR``, ``AGENT_IDENTITY_MODE`` and ``AGENT_IDENTITY_POLICY``.

    Raises:
        TypeError: It is something else.

    Attributes:
        enforces: Whether what cannot be guarded is refused.
    """

    def __init__(self, enforcer: object = None) -> None:
        if enforcer is not None and not isinstance(enforcer, Enforcer):
            raise TypeError(f"enforcer is {type(enforcer).__name__}; pass an Enforcer")
        self.given = enforcer
        # A misspelled mode must not let everything run.
        self.enforces = (os.environ.get(_MODE, "monitor") if enforcer is None else enforcer.mode) != "monitor"
        self._lock = threading.Lock()
        self._opened: Enforcer | None = None
        renewed_in_children(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which a thread of the parent may have held while it opened the directory."""
        self._lock = threading.Lock()

    def get(self) -> Enforcer:
        """Return the enforcer; the first call opens one if none was given.

        Raises:
            ConfigurationError: The mode is unknown, or the directory cannot be opened.
            PolicyFormatError: The policy file has mistakes.
        """
        if self.given is not None:
            return self.given
        with self._lock:
            if self._opened is None:
                self._opened = _open()
                atexit.register(self._opened.close)
            return self._opened

    def close(self) -> None:
        """Close the enforcer if it was opened here."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            atexit.unregister(opened.close)
            opened.close()


def _open() -> Enforcer:
    mode = os.environ.get(_MODE, "monitor")
    if mode not in {"monitor", "enforce"}:
        raise ConfigurationError(f"{_MODE} is unknown; use monitor or enforce")
    directory = os.environ.get(_DIRECTORY, "evidence")
    return Enforcer.open(
        directory, mode="enforce" if mode == "enforce" else "monitor", policy=os.environ.get(_POLICY) or None
    )
