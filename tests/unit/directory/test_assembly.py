"""Parts of an enforcer are checked before it does anything."""

from pathlib import Path

import pytest

from agent_identity import Enforcer
from agent_identity.errors import ConfigurationError


@pytest.mark.parametrize("routes", [{"desk": None}, {"desk": "people"}, {7: print}, {"a": print, "b": object()}])
def test_a_route_without_a_handler_is_refused(tmp_path: Path, routes: dict) -> None:
    """At the start, not at the first call that is routed; no directory is made."""
    with pytest.raises(TypeError, match=r"routes\["):
        Enforcer.open(tmp_path / "evidence", routes=routes)
    assert not (tmp_path / "evidence").exists()


@pytest.mark.parametrize("word", ["optional", "required", ""])
def test_agents_are_any_or_registered(tmp_path: Path, word: str) -> None:
    """Other words are refused, with those that there are."""
    with pytest.raises(ConfigurationError, match="agents='registered'"):
        Enforcer.open(tmp_path / "evidence", agents=word)
