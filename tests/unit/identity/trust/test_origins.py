"""Patterns of the names of logs: one name, or whole segments below a prefix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.trust._origins import check_origin_pattern, covers, is_prefix, overlap

SEGMENTS = st.text("abAB.-", min_size=1, max_size=3).filter(lambda text: text not in {".", ".."})
NAMES = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)
PATTERNS = NAMES | NAMES.map(lambda name: f"{name}/")


@given(NAMES, NAMES)
def test_a_prefix_covers_exactly_what_has_its_segments_first(prefix: str, name: str) -> None:
    """Compared by segments, as another implementation would: half of one never counts."""
    own, others = prefix.split("/"), name.split("/")
    assert covers(f"{prefix}/", name) == (others[: len(own)] == own and len(others) > len(own))
    assert covers(prefix, name) == (prefix == name)


@given(NAMES, NAMES)
def test_whatever_is_below_a_prefix_is_covered(prefix: str, rest: str) -> None:
    """And nothing else that begins with the same letters."""
    assert covers(f"{prefix}/", f"{prefix}/{rest}")
    assert not covers(f"{prefix}/", f"{prefix}{rest}")
    assert not covers(f"{prefix}/", prefix)
    assert not covers(f"{prefix}/", f"{prefix}/")


@given(PATTERNS, PATTERNS, NAMES)
def test_patterns_overlap_where_a_name_could_be_covered_by_both(first: str, second: str, name: str) -> None:
    """Symmetric, true for what is equal, and true wherever a name shows it."""
    assert overlap(first, second) == overlap(second, first)
    assert overlap(first, first)
    if covers(first, name) and covers(second, name):
        assert overlap(first, second)
    if overlap(first, second):
        longer = max(first, second, key=lambda pattern: (len(pattern), not is_prefix(pattern)))
        inside = f"{longer}x" if is_prefix(longer) else longer
        assert covers(first, inside)
        assert covers(second, inside)


@given(PATTERNS)
def test_a_pattern_is_its_own_spelling(pattern: str) -> None:
    """Nothing is taken off or put on."""
    assert check_origin_pattern(pattern) == pattern


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "/",
        "//",
        "a//",
        "a//b/",
        "./",
        "../",
        "a/./",
        "a/../",
        "/a/",
        "a b/",
        "a+b/",
        " a/",
        "https://",
        "://",
        "x" * 300,
    ],
)
def test_a_prefix_of_everything_or_of_nothing_is_refused(pattern: str) -> None:
    """Also one that looks like a path which leads elsewhere."""
    with pytest.raises(ValueError, match=r" (is|are|has|have|does) "):
        check_origin_pattern(pattern)


@pytest.mark.parametrize("pattern", ["https://logs.example/", "spiffe://example.org/ns/", "spiffe://example.org/"])
def test_a_scheme_may_stand_before_the_first_segment(pattern: str) -> None:
    """Names of logs may be URIs."""
    assert check_origin_pattern(pattern) == pattern
    assert covers(pattern, f"{pattern}pod")


def test_what_is_no_text_is_refused() -> None:
    """Before anything is compared."""
    with pytest.raises(TypeError):
        check_origin_pattern(b"a/")  # type: ignore[arg-type]
