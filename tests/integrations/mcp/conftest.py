"""Fixtures of the tests of MCP; whom they connect is in ``parties.py``."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra mcp is not installed")

# By its path, because the tests are in no package; and once, under the name by which they import it.
_spec = importlib.util.spec_from_file_location("mcp_parties", Path(__file__).with_name("parties.py"))
assert _spec is not None
assert _spec.loader is not None
parties = sys.modules.setdefault("mcp_parties", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(parties)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave alone what the lowest version of the SDK does with a newer pydantic-settings."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore:Field 'lifespan' has an incomplete definition"))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Any]:
    found = parties.Pair(tmp_path)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def no_rich_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of 1.x set up the logging of the whole process when they are made; tests have their own."""
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
