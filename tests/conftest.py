"""What every test shares: the Hypothesis profiles and the published test vectors."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# A slow shared machine is no property of the code, so only the number of examples differs.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=_SLOW)
settings.register_profile(
    "ci", max_examples=500, deadline=None, derandomize=True, database=None, print_blob=True, suppress_health_check=_SLOW
)
# The same examples every time, for runs whose purpose is not to find new ones: coverage, lowest versions.
settings.register_profile(
    "few", max_examples=50, deadline=None, derandomize=True, database=None, suppress_health_check=_SLOW
)
settings.register_profile("thorough", max_examples=20_000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """Return the folder of published test vectors, or skip where this checkout has none beside it.

    It is ``shared/vectors`` next to the checkout, or what ``AGENT_IDENTITY_VECTORS`` names.
    """
    named = os.environ.get("AGENT_IDENTITY_VECTORS")
    folder = Path(named) if named else ROOT.parent / "shared" / "vectors"
    if not folder.is_dir():
        pytest.skip("published vectors are absent; set AGENT_IDENTITY_VECTORS to their folder")
    return folder
