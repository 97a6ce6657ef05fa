"""Policy: what may run, decided by rules that read like data.

A :class:`Policy` turns a :class:`Request` into a :class:`Decision`. :class:`RuleSet` is the built-in one;
it is written in Python or loaded from a file in YAML, JSON or TOML. An :class:`Inspector` reports
:class:`Finding` s about content, which rules can look at.
"""

from agent_identity.policy.decision import Decision, Effect
from agent_identity.policy.request import Claims, Content, Finding, Inspector, Policy, Request, Tool
from agent_identity.policy.rules import Rule, RuleSet
from agent_identity.policy.touch import Touch

__all__ = [
    "Claims",
    "Content",
    "Decision",
    "Effect",
    "Finding",
    "Inspector",
    "Policy",
    "Request",
    "Rule",
    "RuleSet",
    "Tool",
    "Touch",
]
