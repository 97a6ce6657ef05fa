"""No traces for the vendor, and every directory of a test verifies once it is closed."""

from collections.abc import Generator

import pytest

from agent_identity.testing import Rehearsal, Rehearse

pytest.importorskip("agents")

from agents import set_tracing_disabled
from frameworks.openai_agents.scripts import verifies


@pytest.fixture(autouse=True)
def untraced() -> None:
    """Send no traces."""
    set_tracing_disabled(True)


@pytest.fixture
def world(rehearse: Rehearse) -> Generator[Rehearsal]:
    """An enforcer; its records verify after the test."""
    rehearsal = rehearse()
    yield rehearsal
    verifies(rehearsal)
