"""Labels form a lattice, marks only fall, and declarations label each part of a result."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._flow.declaration import declared, label_of, leaves_of
from agent_identity._flow.labels import TRUSTED, UNKNOWN, UNTRUSTED
from agent_identity._flow.mark import MAX_SOURCES, Mark
from agent_identity.inspection import Label
from agent_identity.integrations.mcp.server import label_in

READERS = st.none() | st.frozensets(st.sampled_from(["finance", "legal", "alice@example.com", "hr"]), max_size=4)
LABELS = st.builds(Label, st.sampled_from(["trusted", "unknown", "untrusted"]), READERS)


@given(LABELS, LABELS, LABELS)
def test_the_meet_is_that_of_a_lattice(a: Label, b: Label, c: Label) -> None:
    """It is idempotent, commutative and associative, restricts both sides, and is the greatest such label."""
    assert a.meet(a) == a
    assert a.meet(b) == b.meet(a)
    assert a.meet(b).meet(c) == a.meet(b.meet(c))
    assert a.meet(TRUSTED) == a
    assert a.meet(b).is_within(a)
    assert a.meet(b).is_within(b)
    if c.is_within(a) and c.is_within(b):
        assert c.is_within(a.meet(b))


@given(LABELS, LABELS)
def test_each_label_has_one_spelling(a: Label, b: Label) -> None:
    """Labels come back from their text, and different labels have different texts."""
    assert Label.parse(str(a)) == a
    assert (str(a) == str(b)) is (a == b)


@pytest.mark.parametrize("text", ["", "good", "trusted,", "untrusted:b,a", "untrusted:a,a", "unknown:,a"])
def test_other_spellings_are_refused(text: str) -> None:
    """A verifier reads one spelling of a label only."""
    with pytest.raises(ValueError, match=r".+"):
        Label.parse(text)


def test_readers_are_a_set_of_ids() -> None:
    """One text is not a set of its letters, and ids have no separators of the spelling."""
    assert Label("trusted", {"b", "a"}) == Label("trusted", frozenset({"a", "b"}))
    for readers in ("finance", {"a,b"}, {""}, {f"reader-{n:030}" for n in range(10)}):
        with pytest.raises(ValueError, match=r"reader"):
            Label("trusted", readers)


def test_the_longest_readers_leave_room_for_every_integrity() -> None:
    """A label meets any other, since the readers of the longest one fit after the longest integrity."""
    longest = frozenset({"a" * 128, "b" * 117})
    assert len(str(Label("trusted", longest).meet(UNTRUSTED))) == 256
    with pytest.raises(ValueError, match=r"exceed 246"):
        Label("trusted", longest | {"c"})


@given(st.lists(st.tuples(LABELS, st.sampled_from(["r1", "r2", "r3"]))))
def test_a_mark_only_falls(inputs: list[tuple[Label, str]]) -> None:
    """It is the meet of all labels in any order, and changes exactly when label or sources do."""
    mark = Mark(seq=1)
    for label, source in inputs:
        after = mark.lowered(label, source, "tool") if mark.changes(label, source) else mark
        assert after.label == mark.label.meet(label)
        assert after.label.is_within(mark.label)
        assert (after.seq != mark.seq) is (after.label != mark.label or after.sources != mark.sources)
        mark = after
    whole = TRUSTED
    for label, _ in inputs:
        whole = whole.meet(label)
    assert mark.label == whole


def test_the_longest_path_labels_a_part() -> None:
    """A declaration by path labels what it names, and the empty path names the rest."""
    found = declared({"": "trusted", "/items/*/note": "untrusted", "/items/0/note": "unknown"}, UNKNOWN)
    assert found.of(("items", "1", "note")) == UNTRUSTED
    assert found.of(("items", "0", "note")) == UNTRUSTED  # Of two paths of one length the stricter counts.
    assert found.of(("items", "1", "note", "deep")) == UNTRUSTED
    assert found.of(("items", "1", "id")) == TRUSTED
    assert found.lowest == UNTRUSTED


def test_a_result_has_the_meet_of_the_parts_that_it_has() -> None:
    """A part that is absent restricts nothing; of parts that nobody sees the lowest label counts."""
    found = declared({"": "trusted", "/note": "untrusted"}, UNKNOWN)
    leaves, whole = leaves_of({"id": 7, "kind": "invoice"})
    assert label_of(found, leaves, whole=whole) == TRUSTED
    leaves, whole = leaves_of({"id": 7, "note": "hello"})
    assert label_of(found, leaves, whole=whole) == UNTRUSTED
    leaves, whole = leaves_of(list(range(50)), most=10)
    assert label_of(found, leaves, whole=whole) == UNTRUSTED


@given(LABELS, LABELS)
def test_restricting_a_declaration_never_raises_a_part(a: Label, b: Label) -> None:
    """Two declarations together are as strict as each of them."""
    one, other = declared({"": a, "/x/y": b}, UNKNOWN), declared({"": b, "/x/*/z": a}, UNKNOWN)
    both = one.restricted(other)
    for steps in ((), ("x",), ("x", "y"), ("x", "y", "z"), ("z",)):
        assert both.of(steps).is_within(one.of(steps))
        assert both.of(steps).is_within(other.of(steps))


@pytest.mark.parametrize("returns", [7, ["trusted"], {"a": "trusted"}, {}, "safe", {"/a": 1}])
def test_malformed_declarations_are_refused(returns: object) -> None:
    """What a tool declares is an integrity, a label, or one for each JSON pointer."""
    with pytest.raises((TypeError, ValueError)):
        declared(returns, UNKNOWN)


def test_everybody_is_no_reader_among_others() -> None:
    """A meet of two sets that both have a reader named public would become everybody."""
    with pytest.raises(ValueError, match="public"):
        Label("trusted", {"public", "a"})
    with pytest.raises(ValueError, match="public"):
        Label.parse("trusted:public")
    listed = {"content": [], "_meta": {"ifc": {"confidentiality": ["public", "a"]}}}
    assert label_in(listed) == Label("trusted", set())


def test_a_mark_names_each_tool_once() -> None:
    """A new source changes only the next mark, and names are in the order of their first source."""
    marks = [Mark()]
    for source, name in (("r1", "read"), ("r2", "find"), ("r3", "read"), ("r3", "read"), (None, "said")):
        marks.append(marks[-1].lowered(UNTRUSTED, source, name))
    assert [len(mark.sources) for mark in marks] == [0, 1, 2, 3, 3, 3]
    assert marks[-1].names == ("read", "find")
    joined = Mark(UNKNOWN, sources={"r9": "fetch"}, names=("fetch",)).with_sources(marks[-1])
    assert (joined.names, joined.complete) == (("fetch", "read", "find"), True)


def test_a_mark_with_too_many_sources_names_no_more() -> None:
    """A mark keeps its first 1,024 sources, and notes that more are missing."""
    mark = Mark()
    for number in range(MAX_SOURCES + 1):
        mark = mark.lowered(UNTRUSTED, f"r{number}", f"tool-{number}")
    assert (len(mark.sources), len(mark.names), mark.complete) == (MAX_SOURCES, MAX_SOURCES, False)
    assert not mark.changes(UNTRUSTED, "another")
    whole = Mark(UNTRUSTED, sources={"other": "read"}, names=("read",))
    assert whole.with_sources(mark).names == ("read",)
    assert not whole.with_sources(mark).complete
