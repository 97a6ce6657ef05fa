"""Labels of tools and of their data: sources, and the trust in each.

The application states labels in code (``labels=``, ``data=``), the operator in the section ``tools`` of a policy file.
Both are trusted. Labels that come with a tool (tags and metadata of a LangChain tool, annotations of an MCP server) may
be a stranger's: they are claims, and can only make a decision stricter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, final

from agent_identity._common.narrowing import is_object
from agent_identity._policy.decision.decision import check_labels
from agent_identity._policy.decision.patterns import check_patterns, matches
from agent_identity._policy.decision.places import Path, Problem, each, quoted, words
from agent_identity._policy.decision.request import Claims, Request, Tool
from agent_identity._policy.language.stated_flow import FLOW_KEYS, StatedFlow, parse_flow
from agent_identity.errors import ConfigurationError

_KEYS: Final = ("data", "destination", "labels", "raise", "returns", "server")
_MAX_TOOLS: Final = 10_000


@final
@dataclass(frozen=True, slots=True)
class ToolFacts:
    """Facts that a policy states about tools.

    Attributes:
        pattern: The names of the tools.
        labels: Labels of the tools; ``None`` if the policy states none, empty for no labels.
        data: Labels of the data that they touch; likewise.
        flow: What they return, and which arguments decide where a call leads; ``None`` if it does not say.
    """

    pattern: str
    labels: tuple[str, ...] | None = None
    data: tuple[str, ...] | None = None
    flow: StatedFlow | None = None


def parse_tools(value: object, path: Path) -> tuple[ToolFacts, ...]:
    """Parse the facts about tools from plain data.

    Raises:
        Problem: The value is no mapping of patterns to ``labels`` and ``data``.
    """
    entries = _members(value, path, "tools")
    if len(entries) > _MAX_TOOLS:
        raise Problem(f"tools has {len(entries)} entries; use at most {_MAX_TOOLS}, with patterns", path)
    return tuple(each(partial(_entry, pattern, item, (*path, pattern)) for pattern, item in entries.items()))


def _entry(pattern: str, value: object, path: Path) -> ToolFacts:
    try:
        check_patterns(pattern, path)
    except Problem as problem:
        raise Problem(str(problem), path, at_key=True) from None
    members = _members(value, path, f"the tool {quoted(pattern)}")
    if not members:
        raise Problem(f"the tool has no key; write {words(_KEYS)} or several, with an empty list for no labels", path)
    facts = each(partial(_labels, key, item, (*path, key)) for key, item in members.items() if key not in FLOW_KEYS)
    flow = parse_flow({key: item for key, item in members.items() if key in FLOW_KEYS}, path)
    return ToolFacts(pattern, **dict(facts), flow=flow)


def _labels(key: str, value: object, path: Path) -> tuple[str, tuple[str, ...] | None]:
    if key not in _KEYS:
        raise Problem(f"unknown key {quoted(key)} of a tool; use one of {words(_KEYS)}", path, at_key=True)
    if type(value) not in (list, tuple):
        raise Problem(f"{key} is {type(value).__name__}; write a list of texts, empty for no labels", path)
    try:
        return key, check_labels(value, key)
    except (TypeError, ValueError, ConfigurationError) as error:
        raise Problem(str(error), path) from None


def _members(value: object, path: Path, what: str) -> Mapping[str, object]:
    if not is_object(value):
        raise Problem(f"{what} is {type(value).__name__}; write a mapping of names", path)
    return value


def facts_about(name: str, tools: Sequence[ToolFacts]) -> ToolFacts | None:
    """Merge the facts about one tool from all matching patterns; ``None`` if the policy states nothing."""
    stated = [facts for facts in tools if matches(facts.pattern, name)]
    if not stated:
        return None
    labels = data = None
    for facts in stated:
        labels, data = _union(labels, facts.labels), _union(data, facts.data)
    return ToolFacts(name, labels, data)


def flows_about(name: str, server: str | None, tools: Sequence[ToolFacts]) -> tuple[StatedFlow, ...]:
    """Return what a policy states about the results and destinations of one tool.

    An entry that names a server is about tools of that server alone. One that raises and names none is about tools of
    this process alone: another server may offer a tool of the same name.
    """
    found = (facts.flow for facts in tools if facts.flow is not None and matches(facts.pattern, name))
    return tuple(of for of in found if of.server == server or (of.server is None and not of.raises))


def added_to(request: Request, facts: ToolFacts) -> Request:
    """Add the labels that the policy states about the tool to the request."""
    tool = request.tool
    labelled = Tool(tool.name, tool.kind, tool.server, _union(tool.labels, facts.labels), tool.claims, tool.touches)
    return request._replace(tool=labelled, data=_union(request.data, facts.data))


def labels_of(
    name: str, labels: Sequence[str] | None, data: Sequence[str] | None, tools: Sequence[ToolFacts]
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return the labels of a tool and of its data, by application and policy together."""
    facts = facts_about(name, tools) or ToolFacts(name)
    return _union(labels, facts.labels), _union(data, facts.data)


def with_claims(request: Request, claims: Claims) -> Request:
    """Return the request as if the claims were true; unknown labels stay unknown."""
    tool = request.tool
    labels = None if tool.labels is None else _union(tool.labels, claims.labels)
    data = None if request.data is None else _union(request.data, claims.data)
    return request._replace(tool=Tool(tool.name, tool.kind, tool.server, labels, claims, tool.touches), data=data)


def _union(one: Sequence[str] | None, other: Sequence[str] | None) -> tuple[str, ...] | None:
    if one is None or other is None:
        return tuple(one or other or ()) if (one, other) != (None, None) else None
    return tuple(dict.fromkeys((*one, *other)))
