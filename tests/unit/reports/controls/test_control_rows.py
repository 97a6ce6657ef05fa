"""Tables of rows: what every row says, and which files are refused."""

import re
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from agent_identity._reports.controls.control_rows import FRAMEWORKS, ControlTable, standard_tables
from agent_identity.errors import ConfigurationError

GOOD: Final = """
framework = "dora"
title = "A law"
version = "1"
applies_from = "2025"
source = "https://law.example"
dated = 2026-11-29
read = "All of it."

[[rows]]
clause = "1"
title = "One"
asks = "Do it."
query = "recorded_calls"
not_shown = ["all else"]
"""


def test_every_framework_has_a_table_with_a_date_and_a_source() -> None:
    """Rows say what they ask in their own words, from when, and what records cannot show."""
    tables = standard_tables()
    assert {table.framework for table in tables} == set(FRAMEWORKS)
    for table in tables:
        assert date.fromisoformat(table.dated) >= date(2026, 11, 29)
        assert table.read
        for row in table.rows:
            assert row.source.startswith("https://")
            assert row.not_shown, row.clause
            assert row.query is None or row.at_most in ("shown", "partly")


def test_no_row_judges() -> None:
    """The words of a verdict that nobody can draw from records stand in no table, and no share does."""
    for table in standard_tables():
        words = " ".join(
            " ".join((row.title, row.asks, *row.not_shown, row.applies_from)) for row in table.rows
        ).lower()
        assert not re.search(r"complian|certif|\bscore\b|\d\s*%", words)


def test_targets_are_objectives_of_the_catalog() -> None:
    """Only rows of SP 800-53 have targets, each that of its own control."""
    for table in standard_tables():
        for row in table.rows:
            named = row.clause.lower().replace("(", ".").replace(")", "")
            assert row.targets == ((f"{named}_obj",) if table.title == "NIST SP 800-53" else ())


def test_the_period_of_the_ai_act_is_six_months() -> None:
    """Both duties to keep logs ask for six months."""
    (act,) = standard_tables(["eu-ai-act"])
    assert {row.clause: row.days for row in act.rows if row.days} == {"19(1)": 183, "26(6)": 183}


def test_a_table_of_ones_own_is_read(tmp_path: Path) -> None:
    """A file in the form of ours is a table; a row may have an edition of its own."""
    path = tmp_path / "own.toml"
    path.write_text(GOOD + '[[rows]]\nclause="2"\ntitle="Two"\nasks="b"\nversion="2"\nnot_shown=["c"]\n')
    table = ControlTable.load(path)
    assert [(row.clause, row.version, row.query) for row in table.rows] == [
        ("1", "1", "recorded_calls"),
        ("2", "2", None),
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('framework = "dora"', 'framework = "own"', "unknown framework"),
        ("dated = 2026-11-29", 'dated = "today"', "dated is no date"),
        ('query = "recorded_calls"', 'query = "all"', "row 1: unknown query"),
        ('asks = "Do it."', "asks = 3", "row 1: asks"),
        ('not_shown = ["all else"]', 'not_shown = "all"', "row 1: not_shown"),
        ('not_shown = ["all else"]', "not_shown = [3]", "row 1: not_shown"),
        ("[[rows]]", "[rows]", "rows is no list"),
        ('title = "One"', 'title = "One"\nat_most = "all"', "row 1: at_most"),
        ('title = "One"', 'title = "One"\ndays = 0', "row 1: days"),
        ('title = "One"', 'title = "One"\nscore = 3', "row 1: unknown members"),
        ('read = "All of it."', "", "missing or unknown"),
        ('title = "A law"', "title", "not TOML"),
        ('clause = "1"', 'clause = ""', "clause is missing"),
        ('title = "One"', f"title = {'[' * 100_000}", "not TOML"),
        ('title = "One"', f"{'a.' * 100_000}title = 1", "dots"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    """The message names the row and what is wrong with it."""
    path = tmp_path / "own.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        ControlTable.load(path)


def test_a_clause_has_one_row(tmp_path: Path) -> None:
    """Two rows with one clause are refused."""
    path = tmp_path / "own.toml"
    path.write_text(GOOD + GOOD[GOOD.index("[[rows]]") :])
    with pytest.raises(ConfigurationError, match="two rows"):
        ControlTable.load(path)


def test_few_rows_can_be_shown_as_a_whole() -> None:
    """A clause about a whole system, its people or its reports is shown in part at best."""
    whole = {row.clause for table in standard_tables() for row in table.rows if row.query and row.at_most == "shown"}
    assert whole == {"19(1)", "26(6)", "AU-3"}
