"""Text from evidence as people see it: two that differ never look the same."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._common.printing import BLANK, escaped, inert, odd

POSING = {
    "one Cyrillic letter": ("\u0430lice@example.com", r"\u0430lice@example.com"),
    "all letters": ("\u0440\u0430\u0443", r"\u0440\u0430\u0443"),
    "a word of such letters": ("\u0441\u043e\u0440@example.com", r"\u0441\u043e\u0440@example.com"),
    "Greek": ("g\u03bf\u03bfgle", r"g\u03bf\u03bfgle"),
    "Armenian": ("\u0578pen", r"\u0578pen"),
    "script g": ("si\u0261n", r"si\u0261n"),
    "dotless i": ("adm\u0131n", r"adm\u0131n"),
    "the sign of Kelvin": ("\u212aey", r"\u212aey"),
    "wide letters": ("\uff50\uff41\uff59", r"\uff50\uff41\uff59"),
    "mathematical letters": ("\U0001d429ay", r"\U0001d429ay"),
    "a wide slash": ("bank\uff0ftransfer", r"bank\uff0ftransfer"),
    "a slash of division": ("bank\u2215transfer", r"bank\u2215transfer"),
    "a hyphen": ("acme\u2010pay", r"acme\u2010pay"),
    "a wide stop": ("a\uff0eexample", r"a\uff0eexample"),
    "a selector": ("pay\ufe0f", r"pay\ufe0f"),
    "a filler": ("pay\u3164", r"pay\u3164"),
    "a joiner": ("p\u034fay", r"p\u034fay"),
    "an empty pattern": ("\u2800pay", r"\u2800pay"),
    "a zero-width space": ("p\u200bay", r"p\u200bay"),
    "an override": ("\u202eyap", r"\u202eyap"),
    "an isolate": ("\u2066pay\u2069", r"\u2066pay\u2069"),
    "a combining mark": ("cafe\u0301", r"cafe\u0301"),
    "two marks": ("a\u0327\u0301", r"a\u0327\u0301"),
    "the sign of Angstrom": ("\u212b", r"\u212b"),
    "a letter of parts": ("\u1112\u1161", "\u1112\\u1161"),
    "beside another alphabet": ("\u042f\u0434\u0440\u043e/p\u0430y", "\u042f\u0434\u0440\u043e/p\\u0430y"),
}
"""What looks like something else, and how it is shown."""

PLAIN = (
    "alice@example.com",
    "\u0418\u0432\u0430\u043d \u041f\u0435\u0442\u0440\u043e\u0432",
    "\u043f\u0440\u0438\u043c\u0435\u0440@\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444",
    "\u0395\u03bb\u03ad\u03bd\u03b7",
    "\u65e5\u672c@example.com",
    "\uff21\uff22\uff23\u5546\u4e8b\u3002",
    "na\xefve caf\xe9, 10\u2076 \xb5s",
    "pay \u2013 \u201cnow\u201d\u2026 \u2705",
)
"""Words of living alphabets, and prose."""


@pytest.mark.parametrize(("text", "shown"), POSING.values(), ids=POSING)
def test_what_poses_as_something_else_is_spelled_out(text: str, shown: str) -> None:
    """Letters, signs and marks that no one tells from others, and what no one sees."""
    assert escaped(text) == shown


@pytest.mark.parametrize("text", PLAIN, ids=ascii)
def test_words_of_other_alphabets_stay_as_they_are(text: str) -> None:
    """No one takes them for something else."""
    assert escaped(text) == text
    assert inert(text) == text


@given(st.text() | st.text(alphabet="a\u0301\u0327\u0323\u1112\u1161\u11ab\u212b\uac00"))
def test_what_is_shown_as_it_is_has_one_spelling(text: str) -> None:
    """Without an escape there is nothing that no one sees, and no other spelling of the same letters."""
    if not odd(text):
        assert unicodedata.is_normalized("NFC", text)
        assert not BLANK.search(text)
        assert text.isprintable()


@given(st.text())
def test_a_table_keeps_names_that_can_be_searched_for(text: str) -> None:
    """What a spreadsheet shows and cannot take for a formula stays as it is; what no one sees does not."""
    shown = inert(text)
    assert shown.isprintable()
    assert not BLANK.search(shown)
