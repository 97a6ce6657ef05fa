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
