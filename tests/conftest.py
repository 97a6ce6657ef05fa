"""What every test shares: what is left to the night, the Hypothesis profiles, and the published test vectors.

``--gate=whole`` runs what CI runs. It leaves out tests marked ``nightly``, takes of the cases of a test marked
``sample(n)`` one in ``n``, and of a loop over ``drawn(cases)`` one in ten. ``--gate=ends``, for the oldest and the
newest versions, takes of that one test of each abuse case (``test_ac_N_…``), one in five of each file of the
integrations, and five of each framework. What is taken is drawn by the seed that every run prints;
``--randomly-seed=N`` draws it again. Without the option everything runs.
"""

import gc
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

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
# The gate: examples that are the same every time; nightly tries many more.
settings.register_profile(
    "gate", max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=_SLOW
)
settings.register_profile("thorough", max_examples=20_000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that leaves to the night what takes long."""
    parser.addoption("--gate", choices=("whole", "ends"), help="run what CI runs, whole or at the ends of the versions")


def _draw(config: pytest.Config, cases: Sequence[Any], count: int) -> list[Any]:
    """Draw some of the cases, in their order; each drawing starts from the seed of the run."""
    source = random.Random(config.getoption("randomly_seed", 0))  # noqa: S311  Nothing here is a secret.
    return [cases[index] for index in sorted(source.sample(range(len(cases)), count))]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of which ``--gate=ends`` takes nothing."""
    if config.getoption("--gate") != "ends" or collection_path.suffix != ".py":
        return None
    whole = not {"integrations", "frameworks"}.isdisjoint(collection_path.parts)
    return None if whole or b"test_ac_" in collection_path.read_bytes() else True


@pytest.hookimpl(trylast=True)  # After those that mark tests.
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the gate does not run."""
    if config.getoption("--gate"):
        chosen = set(_of_the_gate(config, items))
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = [item for item in items if item in chosen]


def pytest_collection_finish() -> None:
    """Have the collector of garbage look no more at what lives until the end: thousands of tests and modules."""
    gc.collect()
    gc.freeze()


def _of_the_gate(config: pytest.Config, items: list[pytest.Item]) -> Iterator[pytest.Item]:
    quick = sorted((item for item in items if not item.get_closest_marker("nightly")), key=lambda item: item.nodeid)
    groups: dict[tuple[str, str], list[pytest.Item]] = {}
    for name, cases in groupby(quick, key=lambda item: item.nodeid.partition("[")[0]):
        every = list(cases)
        mark = every[0].get_closest_marker("sample")
        some = _draw(config, every, -(-len(every) // mark.args[0])) if mark else every
        if config.getoption("--gate") == "whole":
            yield from some
        else:
            for group in _groups(name):
                groups.setdefault(group, []).extend(some)
    for (kind, _), some in groups.items():
        yield from _draw(config, some, {"abuse": 1, "integration": -(-len(some) // 5)}.get(kind, min(len(some), 5)))


def _groups(name: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the name of what a test stands for at the ends of the versions; nothing for most tests."""
    if number := re.search("::test_ac_([0-9]+)_", name):
        yield "abuse", number[1]
    if name.startswith("tests/integrations/"):
        yield "integration", name.partition("::")[0]
    if name.startswith("tests/frameworks/"):
        yield "framework", name.split("/")[2].partition("::")[0]


@pytest.fixture(scope="session")
def drawn(request: pytest.FixtureRequest) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """In the gate, draws one in ten of the cases of a loop; elsewhere takes all."""

    def draw(cases: Sequence[Any]) -> Sequence[Any]:
        in_gate = request.config.getoption("--gate")
        return _draw(request.config, cases, -(-len(cases) // 10)) if in_gate else cases

    return draw


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
