"""Names of the tools that nobody can guard, because they do not run in this process."""

import logging
from typing import Final, final

__all__ = ["UnguardedTools"]

_LOG: Final = logging.getLogger("agent_identity")
_MAX_NAMES: Final = 256


@final
class UnguardedTools:
    """Tools that agents were offered and nobody can guard; each is logged once.

    Args:
        where: The place where they run, for the log.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._names: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The first 256 names, sorted."""
        return tuple(sorted(self._names))

    def add(self, name: str) -> None:
        """Keep the name of a tool, and log it if it is new."""
        if name not in self._names and len(self._names) < _MAX_NAMES:
            self._names.add(name)
            _LOG.warning(
                "%r runs %s, where nobody can guard it; remove it from the agent, or accept its calls as unguarded",
                name,
                self._where,
            )
