"""The documentation stays short enough to be read."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
MOST_WORDS = 90_000


def test_the_documentation_has_at_most_ninety_thousand_words() -> None:
    """A word has a letter or a digit; what stands for a list or a table alone is none."""
    words = (word for page in DOCS.rglob("*.md") for word in page.read_text(encoding="utf-8").split())
    assert sum(re.search(r"\w", word) is not None for word in words) <= MOST_WORDS
