"""The pages about information flow on AgentDojo show the published figures, and the labels that were used."""

import json
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOW = ROOT / "benchmarks" / "flow"
PAGE = (ROOT / "docs" / "reference" / "flow-figures.md").read_text(encoding="utf-8")
SHOWN = (FLOW / "README.md").read_text(encoding="utf-8").splitlines()
PUBLISHED: dict[str, Any] = json.loads((FLOW / "published.json").read_text(encoding="utf-8"))
LABELS: dict[str, Any] = runpy.run_path(str(FLOW / "labels.py"))


@pytest.mark.parametrize("suite", sorted(PUBLISHED["results"]))
def test_the_page_has_the_published_figures(suite: str) -> None:
    """One row for each suite: attacks stopped and tasks with a question, by each rule."""
    rules = PUBLISHED["results"][suite]
    (row,) = re.findall(rf"^\| {suite} \|.*$", PAGE, re.MULTILINE)
    totals = [rules["mark"]["attacks"], rules["mark"]["tasks with consequences"]]
    figures = [(of["stopped"], of["asked"]) for of in rules.values()]
    assert [int(number) for number in re.findall(r"\d+", row)] == [*totals, *(n for pair in figures for n in pair)]


@pytest.mark.parametrize("suite", sorted(PUBLISHED["results"]))
def test_the_labels_are_shown(suite: str) -> None:
    """Each tool is on the page beside the figures with what is declared of it."""
    assert [row for row in LABELS["rows_of"](suite) if row not in SHOWN] == []


def test_the_figures_are_those_of_the_version_that_is_installed() -> None:
    """The published file, the page and the requirements name one version of AgentDojo."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    version = groups["dojo"][0].removeprefix("agentdojo==")
    assert {text.split(",")[0] for text in PUBLISHED["suites"].values()} == {f"agentdojo {version}"}
    assert f"`agentdojo` {version}" in PAGE
    assert PUBLISHED["date"] in PAGE
