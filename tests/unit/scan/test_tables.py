"""The tables of a scan: data that people change without reading code."""

from datetime import date
from typing import Any

import pytest

from agent_identity._scan._constructs import matching
from agent_identity._scan._tables import read_table
from agent_identity._scan.results import KINDS


@pytest.mark.parametrize("name", ["constructs.json", "clients.json", "packages.json", "hosts.json"])
def test_each_table_has_a_date(name: str) -> None:
    """A table says as of when it is right."""
    assert date(2026, 1, 1) < date.fromisoformat(read_table(name, dict[str, Any])["as_of"])


def test_each_row_of_constructs_is_reached_by_each_of_its_names() -> None:
    """Every exact name of a row finds a row of the same kind in its package: none is hidden by another."""
    table = read_table("constructs.json", dict[str, Any])["frameworks"]
    seen = 0
    for framework in table:
        for row in framework["constructs"]:
            assert row["kind"] in (*KINDS, "tools", "guard", "instrument")
            for name in row["names"]:
                if "*" in name or name.startswith("."):
                    continue
                for use in row.get("use", ["call"]):
                    found = matching(f"{framework['packages'][0]}.{name}", use)
                    assert found is not None, name
                    assert (found.kind, found.framework) == (row["kind"], framework["framework"])
                    seen += 1
    assert seen > 200
