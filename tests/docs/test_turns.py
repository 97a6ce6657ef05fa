"""The page of each way in says first what information flow knows across turns, as the table of all ways does."""

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "docs" / "how-to"
LINE = re.compile(
    r"\[Across turns\]\(information-flow\.md#across-turns\)(?:, the guard knows)?:"
    r"\s+(?:- )?Turns of the model: (.+?)\.\s+(?:- )?Thread: (.+?)\.\s"
)
WAYS = {
    "LangChain": ["langchain"],
    "Pydantic AI": ["pydantic-ai"],
    "Google ADK": ["google-adk", "microsoft-agent-framework"],
    "Claude Agent SDK": ["claude-agent-sdk", "coding-agents"],
    "Strands": ["strands"],
    "OpenAI Agents": ["openai-agents"],
    "LlamaIndex": ["llama-index"],
    "CrewAI": ["crewai"],
    "your own functions": ["functions-and-blocks", "mcp"],
}
"""The pages of each row, by the beginning of its first cell."""


def rows() -> dict[str, tuple[str, str]]:
    """Return the table, by its first cells."""
    text = (PAGES / "information-flow.md").read_text(encoding="utf-8")
    table = text.partition("| way in |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    return {way: (turns, thread) for way, turns, thread in cells}


def test_every_row_has_its_pages() -> None:
    """No way in is told in the table alone."""
    assert len(rows()) == len(WAYS)
    assert all(any(way.startswith(begin) for begin in WAYS) for way in rows())


@pytest.mark.parametrize(("begin", "page"), [(begin, page) for begin, pages in WAYS.items() for page in pages])
def test_a_page_says_what_the_table_says_before_anything_else_of_flow(begin: str, page: str) -> None:
    """The line stands in the first paragraph about information flow, with the cells of the table."""
    (told,) = [cells for way, cells in rows().items() if way.startswith(begin)]
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    found = LINE.search(text)
    assert found is not None
    assert found.groups() == told
    assert "information-flow.md" not in text[: found.start()].rpartition("\n\n")[0]
