"""What is there can be found: each page in the navigation, each command and integration in the lists of them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agent_identity.cli.program import GROUPS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
DECISIONS = sorted(page for page in PAGES if re.match(r"adr/\d{4}-", page))


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _paths(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for inner in nav.values():
            yield from _paths(inner)
    elif isinstance(nav, list):
        for inner in nav:
            yield from _paths(inner)


def _commands() -> list[str]:
    return sorted(command.name for commands in GROUPS.values() for command in commands)


def test_every_page_is_in_the_navigation_once() -> None:
    """The navigation of the site has each page under docs, once, and nothing else; decisions in their order."""
    nav = list(_paths(yaml.safe_load(_text("mkdocs.yml"))["nav"]))
    assert len(PAGES) > 60
    assert sorted(nav) == PAGES
    assert [page for page in nav if page in DECISIONS] == DECISIONS


def test_every_how_to_is_on_the_first_page() -> None:
    """The first page links to each how-to, since the README sends readers there for them."""
    linked = set(re.findall(r"\((how-to/[\w-]+\.md)", _text("docs/index.md")))
    assert [page for page in PAGES if page.startswith("how-to/") and page not in linked] == []


def test_every_decision_has_a_row_in_its_order() -> None:
    """The list of decisions has one row for each page, by number."""
    rows = re.findall(r"^\| \[(\d{4})\]\((\1-[\w-]+\.md)\) \| \S", _text("docs/adr/README.md"), re.MULTILINE)
    assert [f"adr/{name}" for _, name in rows] == DECISIONS


@pytest.mark.parametrize(("page", "row"), [("README.md", "| `verify`,"), ("ARCHITECTURE.md", "| 4 | `cli/` |")])
def test_every_command_is_in_the_lists_of_commands(page: str, row: str) -> None:
    """README and ARCHITECTURE name each command of the parser where they list them."""
    (line,) = (line for line in _text(page).splitlines() if line.startswith(row))
    commands = _commands()
    assert len(commands) > 20
    assert [name for name in commands if f"`{name}`" not in line] == []


def test_every_integration_is_named_in_the_architecture() -> None:
    """Each module and package of ``integrations`` stands in the table of the rooms."""
    (line,) = (line for line in _text("ARCHITECTURE.md").splitlines() if line.startswith("| 4 | `integrations/` |"))
    found = {path.stem for path in (ROOT / "agent_identity" / "integrations").iterdir() if path.stem[0] not in "_."}
    assert "langchain" in found
    assert [name for name in sorted(found) if f"`{name}`" not in line] == []


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page}" for page in PAGES)])
def test_pages_install_from_a_checkout_as_the_readme_does(page: str) -> None:
    """No page tells to install ``agent-identity-otel[…]`` while there is no such distribution to be had."""
    assert "The package is not on PyPI yet" in _text("README.md")
    assert not re.search(r"pip install [\"']?agent-identity-otel", _text(page))
