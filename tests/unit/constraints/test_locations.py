"""Paths that some file systems take for one that is inside."""

import pytest

from agent_identity.constraints import PathWithin


@pytest.mark.parametrize(
    ("root", "value", "resembles"),
    [
        ("/work", "/WORK/a", True),
        ("/work", "/work/a", False),  # It is inside as spelled.
        ("/work", "/other/a", False),
        ("/work", "Work", True),
        ("/work", "/../WORK", False),  # Where it leads is not known.
        ("/caf\u00e9", "/CAFE\u0301/a", True),
        ("/stra\u00dfe", "/STRASSE/a", True),
        ("/\ufb01le", "/FILE", True),
        ("/caf\u00e9", "/cafe/a", False),
    ],
)
def test_a_path_that_is_inside_for_some_file_systems(root: str, value: str, resembles: bool) -> None:
    """Case, and spellings of one character in Unicode, are told apart as bytes and taken for equal elsewhere."""
    assert PathWithin(root).resembles(value) is resembles
