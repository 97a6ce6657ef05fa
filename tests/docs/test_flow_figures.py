"""The page about information flow on AgentDojo shows published figures and labels; the guide has the finding."""

import json
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOW = ROOT / "benchmarks" / "flow"
PAGE = (FLOW / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "how-to" / "information-flow.md").read_text(encoding="utf-8")
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


def test_the_guide_has_the_published_finding() -> None:
    """Attacks that ``Flow()`` stops and tasks in which it asks, of travel and workspace together."""
    both = [PUBLISHED["results"][suite]["flow"] for suite in ("travel", "workspace")]
    stopped, attacks, asked, tasks = (
        sum(of[name] for of in both) for name in ("stopped", "attacks", "asked", "tasks with consequences")
    )
    assert f"`Flow()` stops {stopped} of {attacks} attacks" in GUIDE
    assert f"asks a person in {asked} of {tasks} tasks with a consequential call" in GUIDE


@pytest.mark.parametrize("suite", sorted(PUBLISHED["results"]))
def test_the_labels_are_shown(suite: str) -> None:
    """Each tool is on the page beside the figures with what is declared of it."""
    assert [row for row in LABELS["rows_of"](suite) if row not in PAGE.splitlines()] == []


def test_the_figures_are_those_of_the_version_that_is_installed() -> None:
    """The published file, the page and the requirements name one version of AgentDojo."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    version = groups["dojo"][0].removeprefix("agentdojo==")
    assert {text.split(",")[0] for text in PUBLISHED["suites"].values()} == {f"agentdojo {version}"}
    assert f"`agentdojo` {version}" in PAGE
    assert PUBLISHED["date"] in PAGE
