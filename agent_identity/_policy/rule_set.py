"""The built-in policy: a set of rules whose order does not matter."""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self, final

from agent_identity import canonical
from agent_identity._common.typed_calls import typed_calls
from agent_identity._identity.common.encoding import digest_of
from agent_identity._policy.decision.decision import Decision, Effect
from agent_identity._policy.decision.places import Problem
from agent_identity._policy.decision.request import Request
from agent_identity._policy.language.labels import ToolFacts, parse_tools
from agent_identity._policy.rules.program import Origin, PolicySource, Program
from agent_identity._policy.rules.review import warnings_about
from agent_identity._policy.rules.rule import Rule, describe_rule, located_name, rule_ids
from agent_identity.errors import PolicyFormatError

_LOG: Final = logging.getLogger("agent_identity")


@typed_calls("load")
@final
@dataclass(frozen=True, slots=True, init=False, eq=False)
class RuleSet:
    """A policy of rules. Their order does not matter: block before route before warn before allow.

    A rule that blocks or routes and cannot be decided, because an attribute is missing or of another
    type, blocks with the reason ``rule_error``. Of several matching rules of the winning effect the one
    the smallest id, by code points, is named. If no rule matches, the default decides; with
    ``default=Effect.BLOCK`` the policy is a closed world: only calls that a rule allows, or warns of, run.

    The reasons of its decisions: ``policy_allows``, ``policy_warns``, ``policy_blocks``,
    ``policy_routes``, ``rule_error``, ``default`` and ``no_rule_allows``.

    Args:
        rules: The rules.
        name: The name of the policy, for records.
        version: Its version, for records.
        default: ``Effect.ALLOW`` or ``Effect.BLOCK``.
        tools: Labels of tools and of their data, by name patterns, for tools without labels of their own:
            ``{"github/*": {"labels": ["egress"], "data": []}}``. An empty list means no labels.

    Attributes:
        warnings: Valid rules that are probably not meant so; they are logged as well.
        digest: The SHA-256 of the file's bytes, or of a canonical description of the rules.

    Raises:
        TypeError: A rule is not a :class:`Rule`, or the default is not an :class:`Effect`.
        PolicyFormatError: Two rules have the same id, or the name, version or default is malformed.
    """

    rules: tuple[Rule, ...] = field(repr=False)
    name: str
    version: str
    default: Effect
    digest: str
    tools: tuple[ToolFacts, ...] = field(repr=False)
    warnings: tuple[str, ...] = field(repr=False)
    _program: Program = field(repr=False)

    def __init__(
        self,
        *rules: Rule,
        name: str = "policy",
        version: str = "1",
        default: Effect = Effect.ALLOW,
        tools: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
    ) -> None:
        if not all(type(rule) is Rule for rule in rules):
            raise TypeError("an argument is no Rule; write RuleSet(Rule(…), Rule(…))")
        if type(default) is not Effect:
            raise TypeError(f"default is {type(default).__name__}; use Effect.ALLOW or Effect.BLOCK")
        if default not in (Effect.ALLOW, Effect.BLOCK):
            raise PolicyFormatError(f"default is {default}; use Effect.ALLOW or Effect.BLOCK")
        try:
            located_name(name, ("name",))
            located_name(version, ("version",))
            ids = rule_ids(rules)
            facts = parse_tools(tools, ("tools",))
        except Problem as problem:
            raise PolicyFormatError(f"bad rule set: {problem.within()}") from None
        digest = _digest(dict(zip(ids, rules, strict=True)), name, version, default, facts)
        source = PolicySource(rules, default, Origin(name, version, digest), facts, ())
        _fill(self, replace(source, warnings=tuple(warning for _, warning in warnings_about(rules, facts))))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, tools: Collection[str] | None = None) -> Self:
        """Load the policy of a file; a file with any mistake loads nothing.

        Args:
            path: A ``.yaml``, ``.yml``, ``.json`` or ``.toml`` file of at most 1 MiB in UTF-8.
            tools: The names of all tools. With them, a rule for an unknown tool is a mistake; patterns with wildcards
                are not looked up.

        Raises:
            PolicyFormatError: The file has mistakes; each line of the message begins with ``file:line:column:``,
                and ``problems`` has all mistakes.
            ConfigurationError: The file cannot be read, or PyYAML is not installed for a YAML file.
        """
        from agent_identity._policy.files.loader import read_policy  # noqa: PLC0415  Few policies are files.

        source = read_policy(path, tools)
        policy = cls.__new__(cls)
        _fill(policy, source)
        return policy

    def decide(self, request: Request) -> Decision:
        """Return the answer to a request."""
        return self._program.decide(request)


def _fill(policy: RuleSet, source: PolicySource) -> None:
    by_id = dict(zip(rule_ids(source.rules), source.rules, strict=True))
    for warning in source.warnings:
        _LOG.warning("policy: %s", warning)
    fields: dict[str, object] = {
        "rules": source.rules,
        "name": source.origin.name,
        "version": source.origin.version,
        "default": source.default,
        "digest": source.origin.digest,
        "tools": source.tools,
        "warnings": source.warnings,
        "_program": Program(by_id, source.default, source.origin, source.tools),
    }
    for name, value in fields.items():
        object.__setattr__(policy, name, value)


def _described(of: ToolFacts) -> canonical.JSON:
    known: dict[str, canonical.JSON] = {"data": of.data, "labels": of.labels}
    return known if of.flow is None else {**known, "flow": of.flow.describe()}


def _digest(rules: Mapping[str, Rule], name: str, version: str, default: Effect, tools: Sequence[ToolFacts]) -> str:
    description: dict[str, canonical.JSON] = {
        "default": default.value,
        "name": name,
        "rules": [describe_rule(rules[rule_id], rule_id) for rule_id in sorted(rules)],
        "version": version,
    }
    if tools:
        description["tools"] = {of.pattern: _described(of) for of in tools}
    try:
        return digest_of(canonical.encode(description))
    except ValueError as error:
        raise PolicyFormatError(f"bad rule set: {error}") from None
