"""The tools that an enforcer guards, as far as it knows them, and what others claim about them."""

import logging
from collections.abc import Iterable
from typing import Final, final

from agent_identity.identity import check_id
from agent_identity.narrowing import is_mapping
from agent_identity.policy import Claims, Policy, RuleSet, Tool
from agent_identity.policy.review import absent_tools

__all__ = ["KnownTools", "annotated", "claims_from"]

_LOG: Final = logging.getLogger("agent_identity")
_MAX_TOOLS: Final = 10_000
_MAX_CLAIMS: Final = 64

_HINTS: Final = {"destructiveHint": "destructive", "openWorldHint": "open-world"}
"""The annotations of MCP that warn of a tool, and the labels that they claim. Those that praise one claim nothing."""

_Labels = tuple[str, ...]


@final
class KnownTools:
    """The tools of one enforcer. Safe for threads: what is written is one entry of a dict, or a flag."""

    __slots__ = ("_known", "_reviewed")

    def __init__(self) -> None:
        self._known: dict[str, tuple[Tool, _Labels | None]] = {}
        self._reviewed = False

    def learn(self, tool: Tool, data: _Labels | None = None) -> None:
        """Note a tool, and the labels of the data that it touches.

        Of two tools of one name the one is kept of which less is known. Names of later tools than the first 10,000
        are not kept, because callers may invent names.
        """
        before = self._known.get(tool.name)
        if before is None and len(self._known) >= _MAX_TOOLS:
            return
        if before is None or _unsaid(tool, data) >= _unsaid(*before):
            self._known[tool.name] = tool, data

    def all(self) -> tuple[tuple[Tool, _Labels | None], ...]:
        """Return the tools with the labels of their data, by name."""
        return tuple(found for _, found in sorted(self._known.copy().items()))

    def review(self, policy: Policy | None) -> None:
        """Log once which tools a policy means and nobody has; called when a task has ended.

        Before that, tools may still be on their way: those of MCP servers, and those that middleware guards.
        """
        if self._reviewed:
            return
        self._reviewed = True
        for rule_id, names in absent_tools(policy.rules, self._known).items() if isinstance(policy, RuleSet) else ():
            _LOG.warning("the rule %r is about tools that nobody guards so far: %s", rule_id, ", ".join(names))


def _unsaid(tool: Tool, data: _Labels | None) -> int:
    return (tool.labels is None) + (data is None)


def claims_from(labels: Iterable[object] = (), data: Iterable[object] = ()) -> Claims | None:
    """Return claims that are made of what strangers say; ``None`` if nothing of it is a label."""
    found = Claims(_texts(labels), _texts(data))
    return found if found.labels or found.data else None


def _texts(items: Iterable[object]) -> _Labels:
    return tuple(dict.fromkeys(label for item in items if (label := _label(item))))[:_MAX_CLAIMS]


def _label(item: object) -> str | None:
    try:
        return check_id(item, "label")
    except (TypeError, ValueError):
        return None


def annotated(annotations: object) -> _Labels:
    """Return the labels that annotations of MCP claim; only what is said, since a default is nobody's word."""
    if not is_mapping(annotations):
        return ()
    return tuple(label for hint, label in _HINTS.items() if annotations.get(hint) is True)
