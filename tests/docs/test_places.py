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
_KEY_ROW = re.compile(r"  [\w-]{43}  ")
"""A row of a table of keys: a key has 43 characters, which cannot be broken."""
_INSTALLS_FROM_INDEX = re.compile(r"install (?:the )?(?:Python )?(?:distribution )?[\"']?agent-identity-otel")
DECISIONS = sorted((ROOT / "decisions").glob("[0-9]*.md"))


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
    """The navigation of the site has each page under docs, once, and nothing else."""
    nav = list(_paths(yaml.safe_load(_text("mkdocs.yml"))["nav"]))
    assert len(PAGES) > 60
    assert sorted(nav) == PAGES


def test_the_page_of_guides_is_the_navigation_of_guides() -> None:
    """The page of guides has each guide, under its title, in the groups and the order of the navigation."""
    (tab,) = (entry["Guides"] for entry in yaml.safe_load(_text("mkdocs.yml"))["nav"] if "Guides" in entry)
    overview, *groups = tab
    shown = re.findall(r"^## (.+)$|^- \[(.+)\]\(([\w-]+\.md)\)$", _text(f"docs/{overview}"), re.MULTILINE)
    expected: list[tuple[str, str, str]] = []
    for group in groups:
        ((name, pages),) = group.items()
        expected.append((name, "", ""))
        titles = {page: _text(f"docs/{page}").partition("\n")[0].removeprefix("# ") for page in _paths(pages)}
        expected += [("", title, Path(page).name) for page, title in titles.items()]
    assert len(expected) > 40
    assert shown == expected


def test_what_the_readme_shows_first_is_what_its_commands_print() -> None:
    """Each line of the first block of the README is one that a command further down, which is run, prints."""
    first, *later = re.findall(r"^```(text|console)\n(.*?)^```$", _text("README.md"), re.MULTILINE | re.DOTALL)
    assert first[0] == "text"
    printed = {line for language, block in later if language == "console" for line in block.splitlines()}
    assert [line for line in first[1].splitlines() if line not in printed] == []


def test_every_decision_has_a_row_in_its_order() -> None:
    """The list of decisions has one row for each page, by number, under its title; at most 45."""
    rows = re.findall(r"^\| \[(\d{4})\]\((\1-[\w-]+\.md)\) \| (.+) \|$", _text("decisions/README.md"), re.MULTILINE)
    titles = [page.read_text(encoding="utf-8").partition("\n")[0] for page in DECISIONS]
    assert [name for _, name, _ in rows] == [page.name for page in DECISIONS]
    assert [f"# {number}. {title}" for number, _, title in rows] == titles
    assert [number for number, _, _ in rows] == [f"{number:04}" for number in range(1, len(rows) + 1)]
    assert 0 < len(rows) <= 45


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name[:4])
def test_a_decision_is_short_and_names_what_is_there(page: Path) -> None:
    """A decision has at most 12 words in its title and 200 in its text, and the files that it names exist."""
    title, _, text = page.read_text(encoding="utf-8").partition("\n")
    assert len(title.split()) <= 2 + 12
    assert len(text.split()) <= 200
    named = re.findall(r"`((?:agent_identity|benchmarks|tests|tools)/[\w./-]+)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_command_is_named_in_the_architecture() -> None:
    """Each command of the parser stands in the table of the rooms."""
    (line,) = (line for line in _text("ARCHITECTURE.md").splitlines() if line.startswith("| 4 | `cli/` |"))
    commands = _commands()
    assert len(commands) > 20
    assert [name for name in commands if f"`{name}`" not in line] == []


def test_every_integration_is_named_in_the_architecture() -> None:
    """Each module and package of ``integrations`` stands in the table of the rooms."""
    (line,) = (line for line in _text("ARCHITECTURE.md").splitlines() if line.startswith("| 4 | `integrations/` |"))
    found = {path.stem for path in (ROOT / "agent_identity" / "integrations").iterdir() if path.stem[0] not in "_."}
    assert "langchain" in found
    assert [name for name in sorted(found) if f"`{name}`" not in line] == []


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{page}" for page in PAGES if page.startswith(("tutorial/", "how-to/")))]
)
def test_code_blocks_fit_the_page(page: str) -> None:
    """A line of a code block has at most 100 columns, which the site shows at 1280 pixels without scrolling."""
    blocks = re.findall(r"^( *```)[^\n]*\n(.*?)^\1$", _text(page), re.MULTILINE | re.DOTALL)
    wide = {line for _, block in blocks for line in block.splitlines() if len(line) > 100}
    quick_start = set(_text("examples/quickstart.py").splitlines())  # The README prints it as it is.
    assert {line for line in wide - quick_start if not _KEY_ROW.search(line)} == set()


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page}" for page in PAGES)])
def test_pages_install_from_a_checkout_as_the_readme_does(page: str) -> None:
    """No page tells to install a distribution that no index has, and that anyone could therefore register."""
    assert "The package is not on PyPI yet" in _text("README.md")
    assert not _INSTALLS_FROM_INDEX.search(_text(page))


@pytest.mark.parametrize("path", sorted((ROOT / "agent_identity").rglob("*.py")), ids=lambda path: path.stem)
def test_messages_install_from_a_checkout_as_the_readme_does(path: Path) -> None:
    """No message or text of the package tells to install a distribution that no index has."""
    joined = re.sub(r'"\s+f?"', "", path.read_text(encoding="utf-8"))
    assert not _INSTALLS_FROM_INDEX.search(joined)


def _examples() -> list[Path]:
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    return [*pages, *(ROOT / "examples").glob("*.py"), *(ROOT / "agent_identity").rglob("*.py")]


def test_examples_bound_numbers_from_below() -> None:
    """A range with an upper bound alone lets a negative amount through, and examples are copied."""
    call = re.compile(r"Range\((?=[^()]*max)(?![^()]*min)[^()]*\)")
    unbounded = {
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in _examples()
        for found in call.finditer(path.read_text(encoding="utf-8"))
        if "\n\n" not in found[0]
    }
    assert unbounded == set()
