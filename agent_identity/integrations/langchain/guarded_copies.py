"""Guarded copies of bare tools: for one call, without changing the shared tool.

``protect`` changes a tool permanently. The middleware and the instrumentor must not: the same tool may belong to
another agent, or be used after them. They run a guarded copy in its place, with the guarded class and
the state of the tool.
"""

import weakref
from collections.abc import Callable
from typing import Final, final

from langchain_core.tools import BaseTool

from agent_identity import Enforcer
from agent_identity.integrations.langchain.wrapping import FUNCTIONS, PARTS, class_of

__all__ = ["ToolProxies"]

_MAX_TWINS: Final = 256
_ABSENT: Final = object()


@final
class _ToolProxy:
    """A guarded copy and its original."""

    __slots__ = ("_fields", "_kind", "_tool", "twin")

    def __init__(self, tool: BaseTool, enforcer: Enforcer) -> None:
        self._tool = weakref.ref(tool)
        self._kind = type(tool)
        self._fields: dict[str, object] | None = None
        kind = class_of(type(tool), enforcer)
        self.twin = kind.__new__(kind)
        fields = vars(tool)
        if any(slot in fields for slot in FUNCTIONS):
            # The guarded functions replace the fields, which are therefore copies.
            self._fields = dict(fields)
            fields = dict(fields)
        object.__setattr__(self.twin, "__dict__", fields)
        for name in PARTS:
            object.__setattr__(self.twin, name, getattr(tool, name))
        for slot in FUNCTIONS:
            getattr(self.twin, slot, None)

    def fits(self, tool: BaseTool) -> bool:
        """Return whether the copy fits the current tool."""
        if self._tool() is not tool or self._kind is not type(tool):
            return False
        fields, made_of = vars(tool), self._fields
        if made_of is None:
            return fields is vars(self.twin)
        return len(fields) == len(made_of) and all(
            made_of.get(name, _ABSENT) is value for name, value in fields.items()
        )


@final
class ToolProxies:
    """The guarded copies of tools for one enforcer. Thread-safe.

    A copy shares the fields and the private attributes of a tool whose class runs it; a copy of a tool with functions
    has copies of the fields, made anew when one changes.

    Args:
        enforcer: The enforcer.
        vet: Raises for tools that must have no copy; called before one is made.
    """

    __slots__ = ("_enforcer", "_known", "_vet")

    def __init__(self, enforcer: Enforcer, vet: Callable[[BaseTool], None]) -> None:
        self._enforcer = enforcer
        self._vet = vet
        self._known: dict[int, _ToolProxy] = {}

    def of(self, tool: BaseTool) -> BaseTool:
        """Return the guarded copy of a bare tool."""
        known = self._known.get(id(tool))
        if known is None or not known.fits(tool):
            self._vet(tool)
            if len(self._known) >= _MAX_TWINS:
                self._known.clear()
            known = self._known[id(tool)] = _ToolProxy(tool, self._enforcer)
        return known.twin
