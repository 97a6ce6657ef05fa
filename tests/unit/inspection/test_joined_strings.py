"""Inspectors read the strings of a value as one text, and report each finding at the path of its string."""

from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Finding
from agent_identity._inspection.document import Document
from agent_identity.inspection import Canaries, HiddenText, Match, PersonalData, Secrets, TextInspector
from agent_identity.policy import Content

TOKEN = "ghp_" + "9fK2mZ8xQ1vB7nC4dL6wE3rT5yU0iO2pA9sD"
CANARY = "kx82-lm3q-zz91-a"
Place = tuple[str, tuple[int, int] | None]


class Everything(TextInspector):
    """Inspector that reports the whole text of a document."""

    name = "everything"

    def find(self, document: Document) -> Iterable[Match]:
        """Return one match over all strings."""
        return [Match("all", 0, len(document.text.raw))]


def look(inspector: TextInspector, value: object) -> list[Finding]:
    return list(inspector.inspect(Content(direction="output", tool="tool", value=value)))


def places(inspector: TextInspector, value: object) -> list[Place]:
    """Return the places of findings, in order."""
    return [(finding.path or "", finding.span) for finding in look(inspector, value)]


def strings(value: object, path: str = "") -> Iterator[tuple[str, str, bool]]:
    """Yield the strings of a JSON value with their paths, and whether they are keys, as RFC 6901 has them."""
    if isinstance(value, str) and value:
        yield value, path, False
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from strings(item, f"{path}/{index}")
    elif isinstance(value, dict):
        for name, item in value.items():
            if name:
                yield name, path, True
            yield from strings(item, f"{path}/{name.replace('~', '~0').replace('/', '~1')}")


JSON = st.recursive(
    st.text(max_size=8) | st.integers(-9, 9) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=30,
)


@given(JSON)
def test_every_string_is_covered_at_its_path_from_end_to_end(value: object) -> None:
    """A match over the whole text is one finding for each string and key, in order, and for nothing between them."""
    expected: list[Place] = [(path, None if key else (0, len(text))) for text, path, key in strings(value)]
    assert places(Everything(), value) == list(dict.fromkeys(expected))


@pytest.mark.parametrize("limit", range(1, 12))
def test_strings_beyond_the_limit_are_cut_where_it_is(limit: int) -> None:
    """The limit counts characters of keys and strings; each string that is not read to its end is reported."""
    from agent_identity._inspection.inspector import inspect_texts

    found = inspect_texts({"ab": "cdef", "g": ["hijk"]}, (Everything(),), "output", limit=limit)
    read = sum(1 if one.span is None else one.span[1] - one.span[0] for one in found if one.category == "all")
    assert read <= limit
    assert any(one.category == "uninspected" for one in found) is (limit < 11)


CLEAN = ["", " ", "so it is", ", ", "é ", ".\n", "'"]
DIRTY = [TOKEN, CANARY, "bob@example.com", "\U000e0041\U000e0042", "pass\u200bword"]
LEAVES = st.builds("".join, st.tuples(st.sampled_from(CLEAN), st.sampled_from(["", *DIRTY]), st.sampled_from(CLEAN)))


@given(st.lists(LEAVES, min_size=1, max_size=5))
def test_strings_of_a_list_are_found_as_each_of_them_alone(leaves: list[str]) -> None:
    """A finding at the edge of a string has its exact span, and no finding crosses into the next string."""
    for inspector in (Secrets(), HiddenText(), PersonalData(), Canaries(CANARY)):
        alone = [
            (f"/{index}{path}", span) for index, leaf in enumerate(leaves) for path, span in places(inspector, leaf)
        ]
        assert sorted(places(inspector, leaves), key=str) == sorted(alone, key=str)


@given(st.lists(st.tuples(st.sampled_from(["a", "b/c", "d~", "e"]), LEAVES), max_size=4), st.booleans())
def test_strings_of_members_are_found_wherever_they_are(members: list[tuple[str, str]], nested: bool) -> None:
    """A finding in a single string is also reported under its member, at any depth."""
    flat = dict(members)
    value: Any = {"x": [flat, 1, None]} if nested else flat
    prefix = "/x/0" if nested else ""
    for inspector in (HiddenText(), PersonalData(), Canaries(CANARY)):
        alone = {
            (f"{prefix}/{name.replace('~', '~0').replace('/', '~1')}", span)
            for name, leaf in flat.items()
            for _, span in places(inspector, leaf)
        }
        assert alone == set(places(inspector, value))


@pytest.mark.parametrize("value", [{"bob@example.com": 1}, MappingProxyType({"bob@example.com": 1})])
def test_keys_of_every_mapping_are_read(value: object) -> None:
    """Inspectors read the keys of every kind of mapping."""
    assert [(one.category, one.path, one.span) for one in look(PersonalData(), value)] == [("pii.email", "", None)]


class Opaque:
    """An object whose state no inspector can read."""

    def __init__(self) -> None:
        self.mail = "bob@example.com"


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda one: one, ""),
        (lambda one: ["a", one], "/1"),
        (lambda one: ("a", [one]), "/1/0"),
        (lambda one: {"a": {"b": [one]}}, "/a/b/0"),
        (lambda one: {one}, "/0"),
        (lambda one: MappingProxyType({"a": one}), "/a"),
        (ValueError, "/args/0"),
    ],
)
def test_an_object_that_cannot_be_read_is_named_wherever_it_is(wrap: Any, path: str) -> None:
    """An object inside a container is as uninspected as one that is the whole value."""
    assert [(one.category, one.path) for one in look(PersonalData(), wrap(Opaque()))] == [("uninspected", path)]
