"""Every report from one pass: the same answers as one by one, and each source is read once."""

from pathlib import Path
from typing import Any

import pytest
from small_company import DAY, START, span, traces, work

from agent_identity.answers import (
    Evidence,
    Seed,
    coverage,
    data,
    incident,
    inventory,
    overview,
    scope,
)
from agent_identity.errors import ConfigurationError

TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "delete"}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company that worked for a while."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory, tasks=3, days=10)
    return directory


@pytest.mark.parametrize(
    "options", [{}, {"unverified": True}, {"from_ns": (START + 5 * DAY) * 10**9}], ids=["verified", "not", "period"]
)
def test_one_pass_gives_the_answers_of_single_reports(company: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """Each report of the overview equals the report that is made alone, its frame included."""
    file = traces(tmp_path / "other.json", [span(TOOL)])
    evidence = Evidence(sources=[company, file], trust=company / "trust.json", **options)
    since = (START + 8 * DAY) * 10**9
    found = overview(evidence, since_ns=since, least=2)
    assert found.inventory == inventory(evidence, since_ns=since)
    assert found.scope == scope(evidence, since_ns=since, least=2)
    assert found.data == data(evidence)
    assert found.incident == incident(evidence, Seed("everything", ""))
    assert found.coverage == coverage(evidence)


def test_the_evidence_is_read_once(company: Path) -> None:
    """The progress goes up to the total at most, and never goes back."""
    told: list[tuple[int, int]] = []
    evidence = Evidence(sources=company, progress=lambda done, total: told.append((done, total)))
    overview(evidence)
    done = [number for number, _ in told]
    assert done == sorted(done)
    assert 0 < done[-1] <= told[-1][1]
    assert len({total for _, total in told}) == 1


def test_a_threshold_below_one_is_refused_before_anything_is_read() -> None:
    """An impossible threshold is an error whatever the evidence is."""
    with pytest.raises(ConfigurationError, match="least"):
        overview(Evidence(sources="nowhere"), least=0)
