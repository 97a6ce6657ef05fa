"""What is installed is what is promised."""

import importlib.metadata
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import agent_identity
from agent_identity.version import VERSION

DISTRIBUTION = importlib.metadata.distribution("agent-identity-otel")
# Each costs every importer time, or would be imported while it is itself importing.
NOT_AT_IMPORT = (
    "cryptography",
    "langchain",
    "langchain_core",
    "langgraph",
    "opentelemetry.sdk",
    "orjson",
    "pydantic",
    "wrapt",
    "yaml",
)


def test_the_version_is_written_once() -> None:
    """The metadata of the distribution and the package say the same version."""
    assert DISTRIBUTION.version == VERSION == agent_identity.__version__


def test_the_package_is_typed() -> None:
    """Type checkers of users find the marker of PEP 561 beside the package."""
    assert (Path(agent_identity.__file__).parent / "py.typed").is_file()


def test_importing_the_root_loads_no_library() -> None:
    """A fresh interpreter that imports the root has loaded no framework and none of our dependencies."""
    program = "import sys, agent_identity; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert [name for name in NOT_AT_IMPORT if name in done.stdout.split()] == []


@pytest.mark.parametrize("entry", DISTRIBUTION.entry_points, ids=lambda entry: f"{entry.group}:{entry.name}")
def test_entry_points_resolve(entry: EntryPoint) -> None:
    """Everything that the metadata announce to other programs can be imported; plugins of pytest are modules."""
    loaded = entry.load()
    assert hasattr(loaded, "rehearse") if entry.group == "pytest11" else callable(loaded)


def test_nothing_is_declared_without_a_bound() -> None:
    """Every runtime requirement has a lower bound, the one that the lowest lock is tested with."""
    requirements = [text.partition(";")[0].strip() for text in DISTRIBUTION.requires or []]
    ours = [text for text in requirements if not text.startswith("agent-identity-otel")]
    assert [text for text in ours if ">=" not in text] == []


def test_the_wheel_has_the_data_files() -> None:
    """Named queries, controls and host tables are in the wheel, each file that stands in the package."""
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="the builder is not installed")
    root = Path(agent_identity.__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("the package is not that of the repository")
    there = {
        path.relative_to(root).as_posix()
        for pattern in ("sql/*.sql", "controls/*.toml", "*.json", "py.typed")
        for path in (root / "agent_identity").rglob(pattern)
    }
    builder = wheel.WheelBuilder(str(root))
    built = {Path(file.distribution_path).as_posix() for file in builder.recurse_included_files()}
    assert {name.rpartition(".")[2] for name in there} == {"sql", "toml", "json", "typed"}
    assert there - built == set()
