"""The tools known to an enforcer, and the labels that third parties claim about them."""

import logging
from collections.abc import Callable, Iterable
from typing import Final, final

from agent_identity._common.narrowing import is_mapping
from agent_identity._flow.label_spelling import unknown_consequences
from agent_identity._guard.judging.tool_flow import DeclaredFlow
from agent_identity._identity.common.names import check_id
from agent_identity._policy.composed import has_flow_rules, rule_sets_of, stated_tools, told_of
from agent_identity._policy.decision.request import Claims, Policy, Tool
from agent_identity._policy.language.labels import facts_about
from agent_identity._policy.rules.review import absent_tools

_LOG: Final = logging.getLogger("agent_identity")
_MAX_TOOLS: Final = 10_000
_MAX_FUNCTIONS: Final = 16
_MAX_CLAIMS: Final = 64

_HINTS: Final = {"destructiveHint": "destructive", "openWorldHint": "open-world"}
"""The MCP annotations that warn of a tool, with the labels that they claim. Favorable annotations claim nothing."""

_Labels = tuple[str, ...]


@final
class KnownTools:
    """The tools of one enforcer. Thread-safe: each write is one dict entry or a flag."""

    __slots__ = ("_alone", "_endorsing", "_expected", "_flows", "_functions", "_known", "_reviewed", "_warned")

    def __init__(self) -> None:
        self._alone: dict[str, None] = {}
        self._endorsing: dict[str, None] = {}
        self._expected: list[set[str]] = []
        self._functions: dict[str, set[str]] = {}
        self._known: dict[str, tuple[Tool, _Labels | None]] = {}
        self._reviewed = False
        self._flows: dict[str, DeclaredFlow] = {}
        self._warned: dict[str, None] = {}

    def learn(
        self,
        tool: Tool,
        data: _Labels | None = None,
        flow: DeclaredFlow | None = None,
        *,
        endorses: bool = False,
        knows_threads: bool = True,
    ) -> None:
        """Note a tool, its declarations, and whether its guard knows the threads of calls.

        Of two tools with one name, the one with fewer known labels is kept. Only the first 10,000 names are kept,
        because callers may invent names.
        """
        if endorses and len(self._endorsing) < _MAX_TOOLS:
            self._endorsing[tool.name] = None
        if not knows_threads and len(self._alone) < _MAX_TOOLS:
            self._alone[tool.name] = None
        before = self._known.get(tool.name)
        if before is None and len(self._known) >= _MAX_TOOLS:
            return
        if before is None or _unsaid(tool, data) >= _unsaid(*before):
            self._known[tool.name] = tool, data
            self._flows[tool.name] = flow or DeclaredFlow()

    def tell_labels(self, tool: Tool, policy: Policy | None) -> None:
        """Log once for each tool that its labels say nothing of its consequences, where the policy depends on them."""
        if not tool.labels or tool.name in self._warned or not has_flow_rules(policy):
            return
        stated = facts_about(tool.name, stated_tools(policy))
        unknown = unknown_consequences((*tool.labels, *((stated and stated.labels) or ())))
        if unknown and len(self._warned) < _MAX_TOOLS:
            self._warned[tool.name] = None
            _LOG.warning("%s: %s", tool.name, told_of(unknown))

    def knows_threads(self, name: str) -> bool:
        """Return whether all guards of a tool know the threads of its calls."""
        return name not in self._alone

    def flow(self, name: str) -> DeclaredFlow:
        """Return what the code declares of the flow of a tool."""
        return self._flows.get(name) or DeclaredFlow()

    def learn_function(self, tool: Tool, function: Callable[..., object]) -> None:
        """Note the function of a tool, and log once for each further function that has the same name.

        A function that is defined again, as in a notebook, is the same one.
        """
        if tool.name not in self._functions and len(self._functions) >= _MAX_TOOLS:
            return
        known = self._functions.setdefault(tool.name, set())
        place = f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', type(function).__name__)}"
        if place not in known and len(known) < _MAX_FUNCTIONS:
            if known:
                _LOG.warning(
                    "two functions are the tool %r, %s and %s, so a scope or rule for one counts for both; "
                    "give one of them another name=",
                    tool.name,
                    min(known),
                    place,
                )
            known.add(place)

    def all(self) -> tuple[tuple[Tool, _Labels | None], ...]:
        """Return the tools with the labels of their data, by name."""
        return tuple(known for _, known in sorted(self._known.copy().items()))

    def endorsing(self) -> tuple[str, ...]:
        """Return the names of the tools whose results have the declared flow label whatever the mark is."""
        return tuple(sorted(self._endorsing.copy()))

    def expect(self, names: set[str]) -> None:
        """Note names of tools that code declares; :meth:`remind` logs those that are still in the set."""
        self._expected.append(names)

    def remind(self) -> None:
        """Log once the names of declared tools that no one guards; called after a task has ended."""
        while self._expected:
            names = self._expected.pop()
            if names:
                _LOG.warning("tool_options names tools that nobody has guarded yet: %s", ", ".join(sorted(names)))

    def review(self, policy: Policy | None) -> None:
        """Log once the tools that a policy names and no one guards; called after the end of a task.

        Before that, tools may still be registered: those of MCP servers, and those that middleware guards.
        """
        if self._reviewed:
            return
        self._reviewed = True
        absent = {k: v for rules in rule_sets_of(policy) for k, v in absent_tools(rules.rules, self._known).items()}
        for rule_id, names in absent.items():
            _LOG.warning("the rule %r names tools that nobody has guarded yet: %s", rule_id, ", ".join(names))


def _unsaid(tool: Tool, data: _Labels | None) -> int:
    return (tool.labels is None) + (data is None)


def claims_from(
    labels: Iterable[object] = (), data: Iterable[object] = (), *, annotations: object = None
) -> Claims | None:
    """Return the labels that a third party claims of a tool: they can only make a decision stricter.

    Args:
        labels: Labels of the tool.
        data: Labels of its data.
        annotations: Its MCP annotations; only explicit warnings count, since a default is no statement.

    Returns:
        The claims; ``None`` if none of all this is a label.
    """
    claims = Claims(_texts((*labels, *_annotated(annotations))), _texts(data))
    return claims if claims.labels or claims.data else None


def _texts(items: Iterable[object]) -> _Labels:
    return tuple(dict.fromkeys(label for item in items if (label := _label(item))))[:_MAX_CLAIMS]


def _label(item: object) -> str | None:
    try:
        return check_id(item, "label")
    except (TypeError, ValueError):
        return None


def _annotated(annotations: object) -> _Labels:
    if not is_mapping(annotations):
        return ()
    return tuple(label for hint, label in _HINTS.items() if annotations.get(hint) is True)
