"""Run the tool tests of LangChain and LangGraph, once as they are and once with every tool protected, and compare.

Run it in the environment whose versions are meant; nox's session ``same_tool`` makes one. The tests come out of the
source distributions of what is installed, into a temporary folder.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

TESTS: Final = {
    "langchain-core": ("tests/unit_tests/test_tools*.py",),
    "langgraph-prebuilt": ("tests/test_*tool*.py", "tests/test_injected*.py", "tests/test_react_agent.py"),
    "langchain-tests": ("tests/unit_tests/test_*_tool.py",),
}
"""Which tests of each distribution are about tools."""

PLUGIN: Final = "everything_protected"
PLUGINS: Final = Path(__file__).resolve().parents[1] / "tests" / "same_tool"
QUIET: Final = ("-q", "-p", "no:cacheprovider", "-p", PLUGIN)


def _source(name: str, folder: Path, pip: str) -> Path:
    """Return the unpacked source distribution of what is installed under a name."""
    what = f"{name}=={version(name)}"
    command = [pip, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(folder), what]
    subprocess.run(command, check=True)  # noqa: S603  Of names that stand here.
    archive = next(folder.glob(f"{name.replace('-', '_')}-*.tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def _outcomes(source: Path, patterns: tuple[str, ...], folder: Path, settings: dict[str, str]) -> dict[str, str]:
    """Run the tests and return how each one ended."""
    report = folder / "report.xml"
    files = sorted(str(path) for pattern in patterns for path in source.glob(pattern))
    command = [sys.executable, "-m", "pytest", *QUIET, f"--junit-xml={report}", *files]
    environment = {**os.environ, **settings, "PYTHONPATH": str(PLUGINS)}
    subprocess.run(command, cwd=source, env=environment, check=False)  # noqa: S603  As above.
    found: dict[str, str] = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314  What pytest wrote here.
        ended = [child.tag for child in case if child.tag in {"failure", "error", "skipped"}]
        found[f"{case.get('classname')}::{case.get('name')}"] = ended[0] if ended else "passed"
    return found


def main(pip: str) -> int:
    """Print the table; return 1 if a test ends differently.

    Args:
        pip: A Python that has pip.
    """
    different: list[str] = []
    rows: list[str] = []
    for name, patterns in TESTS.items():
        with tempfile.TemporaryDirectory(prefix="same-tool-") as temporary:
            folder = Path(temporary)
            source, names = _source(name, folder, pip), str(folder / "names.txt")
            bare = _outcomes(source, patterns, folder, {"SAME_TOOL_LEARN": names})
            protected = _outcomes(source, patterns, folder, {"SAME_TOOL_NAMES": names})
        both = sorted(bare.keys() | protected.keys())
        different += [f"{t}: {bare.get(t)}, {protected.get(t)}" for t in both if bare.get(t) != protected.get(t)]
        counts = [sum(ended == "passed" for ended in run.values()) for run in (bare, protected)]
        rows.append(f"{name} {version(name)}: {counts[0]} of {len(bare)} pass bare, {counts[1]} protected")
        if not bare:
            different.append(f"{name}: no tests were found")
    print("\n".join([*rows, *different]))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else sys.executable))
