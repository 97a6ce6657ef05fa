"""Names of the tools that nobody can guard."""

import logging

import pytest

from agent_identity.integrations.unguarded_tools import UnguardedTools


def test_each_name_is_kept_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log says where the tool runs."""
    unguarded = UnguardedTools("at the provider")
    with caplog.at_level(logging.WARNING, "agent_identity"):
        for name in ("web_search", "code", "web_search"):
            unguarded.add(name)
    assert unguarded.names == ("code", "web_search")
    assert [(record.args, record.levelname) for record in caplog.records] == [
        (("web_search", "at the provider"), "WARNING"),
        (("code", "at the provider"), "WARNING"),
    ]


def test_names_without_end_fill_neither_memory_nor_log(caplog: pytest.LogCaptureFixture) -> None:
    """A provider may make up names."""
    unguarded = UnguardedTools("at the provider")
    for number in range(1_000):
        unguarded.add(f"tool-{number}")
    assert len(unguarded.names) == len(caplog.records) == 256
