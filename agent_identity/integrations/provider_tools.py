"""Tools that nobody here can guard, because they run at the model's provider or in another place."""

import logging
from typing import Final, final

__all__ = ["ProviderTools"]

_LOG: Final = logging.getLogger("agent_identity")
_MAX_NAMES: Final = 256


@final
class ProviderTools:
    """The names of such tools, as far as they were offered; each is logged once, up to 256 of them."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(sorted(self._names))

    def note(self, name: str) -> None:
        """Note that such a tool was offered to a model.

        Args:
            name: Its name or type.
        """
        if name not in self._names and len(self._names) < _MAX_NAMES:
            self._names.add(name)
            _LOG.warning(
                "%r runs at the model's provider or outside the tools of this process, where nobody can guard it; "
                "remove it from the agent, or accept its calls as unguarded",
                name,
            )
