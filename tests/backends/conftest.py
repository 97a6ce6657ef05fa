"""What the tests of back ends share: a run of agents whose spans go there."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agent_identity import Agent, Denied, Enforcer, Human, Scope
from agent_identity.options import Telemetry


@pytest.fixture(scope="session")
def servers() -> ModuleType:
    """Return the module that runs the back ends."""
    spec = importlib.util.spec_from_file_location("backend_servers", Path(__file__).with_name("servers.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def act() -> Callable[[Path, Any], int]:
    """Return what agents do here: a function that works and returns the number of its spans."""
    return _act


def _act(evidence: Path, provider: Any) -> int:
    """Do work under a task and a delegation, a refused call included; return the number of spans."""
    scope = Scope("read_invoice", invoice_id="INV-42")
    with Enforcer.open(evidence, telemetry=Telemetry(tracer_provider=provider)) as enforcer:

        @enforcer.tool
        def read_invoice(invoice_id: str) -> str:
            return invoice_id

        supervisor = Agent("supervisor", owner="finance@example.com", version="true")
        with enforcer.task(
            "Rechnungen für Müller", principal=Human("alice@example.com"), agent=supervisor, scope=scope
        ):
            read_invoice("INV-42")
            with enforcer.delegate(Agent("clerk", owner="finance@example.com"), scope=scope):
                read_invoice("INV-42")
                with pytest.raises(Denied):
                    read_invoice("INV-43")
    return 5
