"""The public surface, as data: adding a name here is a decision."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import agent_identity

ROOT_NAMES = (
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
    "SigningKey",
    "Task",
    "TrustStore",
    "check",
    "verify",
)
FRAMEWORKS = ("agent_identity.integrations.",)  # Importing one needs its framework; their own tests do.


def _modules() -> Iterator[str]:
    yield "agent_identity"
    for module in pkgutil.walk_packages(agent_identity.__path__, "agent_identity."):
        if not module.name.startswith(FRAMEWORKS) and not module.name.endswith("__main__"):
            yield module.name


MODULES = sorted(_modules())


def test_the_root_exports_exactly_the_agreed_names() -> None:
    """No name comes to the root or leaves it by accident."""
    assert tuple(agent_identity.__all__) == ROOT_NAMES


def test_the_root_lists_what_it_offers() -> None:
    """Completion in an interpreter finds the lazy names, and another name fails as it does in any module."""
    assert set(ROOT_NAMES) <= set(dir(agent_identity))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = agent_identity.no_such_name  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_exports_exists(module: str) -> None:
    """Every name in ``__all__`` is there, and is named once."""
    loaded = importlib.import_module(module)
    names = list(getattr(loaded, "__all__", ()))
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(loaded, name)] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_public_class_and_function_says_what_it_is(module: str) -> None:
    """Whatever a module exports and defines itself has a docstring."""
    loaded = importlib.import_module(module)
    exported = [getattr(loaded, name) for name in getattr(loaded, "__all__", ())]
    ours = [thing for thing in exported if str(getattr(thing, "__module__", "")).startswith("agent_identity")]
    assert [thing for thing in ours if callable(thing) and not thing.__doc__] == []
