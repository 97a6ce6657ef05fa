"""The simulated organization, once for all tests of this folder."""

import pytest

pytest.importorskip("mcp", reason="the extra mcp is not installed")
pytest.importorskip("joserfc", reason="the extra oidc is not installed")

from company.asking import Asked
from company.days import simulate


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes longer than the gate has, and leave alone what the SDK does with pydantic-settings."""
    for item in items:
        if item.path.parent.name == "company":
            item.add_marker(pytest.mark.nightly)
            item.add_marker(pytest.mark.filterwarnings("ignore:Field 'lifespan' has an incomplete definition"))


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Return the organization after its five weeks, ready to be asked."""
    return Asked(simulate(tmp_path_factory.mktemp("company")))
