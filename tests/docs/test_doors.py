"""The list of ways around a guard says what the tests of the frameworks show."""

import re
from pathlib import Path

import pytest
from frameworks import doors

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "frameworks"


def test_the_list_of_the_page_is_that_of_the_tests() -> None:
    """It is generated; ``python tests/frameworks/doors.py`` prints what belongs there."""
    assert doors.table() in (ROOT / "docs" / "how-to" / "frameworks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("file", "test"), sorted(set(doors.tests())), ids=lambda part: part.rpartition("/")[2])
def test_every_outcome_has_its_test(file: str, test: str) -> None:
    """The test that tries it is there under that name, and runs with the real framework."""
    assert re.search(rf"^(?:async )?def {test}\(", (FOLDER / file).read_text(encoding="utf-8"), re.MULTILINE)
