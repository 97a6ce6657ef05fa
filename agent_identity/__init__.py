"""Makes every action of an AI agent attributable to an accountable human, bounded by a task, and provable afterwards.

Identity says who, authority says may, policy judges, evidence keeps, and audit answers. They meet at run time in one
place, the enforcer::

    from agent_identity import Agent, Enforcer, Human, Scope

    with Enforcer.open("evidence") as enforcer:

        @enforcer.tool
        def read_invoice(invoice_id: str) -> str:
            return f"{invoice_id}: EUR 120"

        alice = Human("alice@example.com")
        clerk = Agent("invoice-clerk", owner="finance-ops@example.com")
        scope = Scope("read_invoice", invoice_id="INV-42")
        with enforcer.task("pay INV-42", principal=alice, agent=clerk, scope=scope):
            read_invoice("INV-42")

Import integrations by their full path, such as ``agent_identity.integrations.langchain``, constraints of arguments
from ``agent_identity.constraints``, options from ``agent_identity.options``, and every exception from
``agent_identity.errors`` too.

PYTEST_DONT_REWRITE: pytest rewrites the package of each plugin, and warns of one that is imported already.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent_identity._authority.grants.grants import Grant
    from agent_identity._authority.grants.scope import Scope
    from agent_identity._directory.enforcer import Enforcer
    from agent_identity._guard.tasks.task import Task
    from agent_identity._identity.principals.principals import Agent, Human, Service
    from agent_identity._policy.decision.decision import Decision, Effect
    from agent_identity._policy.decision.request import Finding, Inspector, Policy, Request
    from agent_identity._policy.rule_set import RuleSet
    from agent_identity._policy.rules.rule import Rule
    from agent_identity._verify.api import Verifier, verify
    from agent_identity._verify.report.report import Report
    from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied, EvidenceError
    from agent_identity.integrations.instrumentation import instrument, uninstrument

__version__: str

__all__ = [
    "Agent",
    "AgentIdentityError",
    "ConfigurationError",
    "Decision",
    "Denied",
    "Effect",
    "Enforcer",
    "EvidenceError",
    "Finding",
    "Grant",
    "Human",
    "Inspector",
    "Policy",
    "Report",
    "Request",
    "Rule",
    "RuleSet",
    "Scope",
    "Service",
    "Task",
    "Verifier",
    "instrument",
    "uninstrument",
    "verify",
]

# The root is lazy (PEP 562): the propagator entry point imports it while OpenTelemetry is importing.
_MODULES: Final = {
    "_authority.grants.grants": ("Grant",),
    "_authority.grants.scope": ("Scope",),
    "_directory.enforcer": ("Enforcer",),
    "_guard.tasks.task": ("Task",),
    "_identity.principals.principals": ("Agent", "Human", "Service"),
    "_policy.decision.decision": ("Decision", "Effect"),
    "_policy.decision.request": ("Finding", "Inspector", "Policy", "Request"),
    "_policy.rule_set": ("RuleSet",),
    "_policy.rules.rule": ("Rule",),
    "_verify.api": ("Verifier", "verify"),
    "_verify.report.report": ("Report",),
    "errors": ("AgentIdentityError", "ConfigurationError", "Denied", "EvidenceError"),
    "integrations.instrumentation": ("instrument", "uninstrument"),
}
_HOME: Final = {name: module for module, names in _MODULES.items() for name in names}
_PUBLIC: Final = (
    *("adapters", "answers", "approvals", "audit", "constraints", "delegation", "errors", "identity", "inspection"),
    *("limits", "options", "policy", "records", "state", "telemetry", "tokens"),
)
_INTEGRATED: Final = {
    "AgentIdentityMiddleware": "langchain",
    "protect": "langchain, or in the module of your framework",
    "protect_server": "mcp",
    "protect_session": "mcp",
}


def _elsewhere(name: str) -> str | None:
    """Return the public modules that have a name, or ``None``; called only when an import fails anyway."""
    if name.startswith("_") or find_spec(f"agent_identity.{name}") is not None:
        return None
    if name in _INTEGRATED:
        return f"agent_identity.integrations.{_INTEGRATED[name]}"
    places = [place for place in _PUBLIC if name in import_module(f"agent_identity.{place}").__all__]
    return " or ".join(f"agent_identity.{place}" for place in places) or None


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("agent_identity.version").VERSION
    module = _HOME.get(name)
    if module is None:
        if place := _elsewhere(name):  # Of an AttributeError, `from agent_identity import` would drop the message.
            raise ImportError(f"agent_identity has no {name!r}; it is in {place}", name=name)
        raise AttributeError(f"module 'agent_identity' has no attribute {name!r}")
    value: object = getattr(import_module(f"agent_identity.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
