"""Checks of values from outside: what they let through, and that they believe no subclass where it matters."""

from collections import UserDict
from collections.abc import Callable

import pytest

from agent_identity._common import narrowing as n


class _Dict(dict):
    """A dict that could answer otherwise each time."""


class _List(list):
    """A list that could answer otherwise each time."""


class _Text(str):
    """A text that could answer otherwise each time."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("check", "fitting", "others"),
    [
        (n.is_mapping, [{}, {1: 2}, UserDict(), _Dict()], [[], "a", None]),
        (n.is_object, [{}, {"a": 1}, UserDict(a=1)], [{1: 2}, {"a": 1, 2: 3}, {_Text("a"): 1}, [], None]),
        (n.is_dict, [{}, {1: 2}, _Dict()], [UserDict(), [], None]),
        (n.is_plain_dict, [{}, {1: 2}], [_Dict(), UserDict(), []]),
        (n.is_list, [[], [1], _List()], [(), "a", {}]),
        (n.is_array, [[], (1,), _List()], ["a", b"a", {}, {1}]),
        (n.is_plain_array, [[], (1,)], [_List(), "a", {}]),
        (n.is_collection, [[], (1,), {1}, frozenset({1}), {}], [iter(()), 1, None]),
    ],
)
def test_a_check_lets_through_what_it_names(
    check: Callable[[object], bool], fitting: list[object], others: list[object]
) -> None:
    """Each check is true for its containers, whatever is in them, and for nothing else."""
    assert [value for value in fitting if not check(value)] == []
    assert [value for value in others if check(value)] == []


@pytest.mark.parametrize("value", [1, None, True, b"a", ["a"], _Text("a")])
def test_a_member_that_is_no_text_is_refused(value: object) -> None:
    """Only exactly a str is text, also where the member may be missing, and where it has to be one of some words."""
    for read in (n.text_of, n.optional_text_of):
        with pytest.raises(TypeError, match=r"name is .*; give text"):
            read({"name": value}, "name")
    with pytest.raises(TypeError, match=r"name is .*; give text"):
        n.word_of({"name": value}, "name", ("a",))


@pytest.mark.parametrize("value", ["1", None, True, 1.0])
def test_a_member_that_is_no_whole_number_is_refused(value: object) -> None:
    """Neither truth values nor floats without a fraction are whole numbers."""
    with pytest.raises(TypeError, match=r"name is .*; give a whole number"):
        n.int_of({"name": value}, "name")


def test_a_member_that_is_missing_is_refused_unless_it_may_be() -> None:
    """What has to be there is not taken for null."""
    assert n.optional_text_of({}, "name") is None
    for read in (n.text_of, n.int_of):
        with pytest.raises(TypeError):
            read({}, "name")


def test_members_are_returned_as_they_are() -> None:
    """Texts, numbers and words come back unchanged; of words the one that is known."""
    members = {"text": "a", "number": 1}
    assert (n.text_of(members, "text"), n.optional_text_of(members, "text")) == ("a", "a")
    assert n.int_of(members, "number") == 1
    assert n.word_of(members, "text", ("b", "a")) == "a"
    with pytest.raises(ValueError, match="one of b, c"):
        n.word_of(members, "text", ("c", "b"))
