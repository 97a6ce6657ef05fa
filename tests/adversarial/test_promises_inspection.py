"""Inspection under attack: texts made to cost time, to hide, to split, and values made to be looked at for ever."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Effect, Finding, Rule, RuleSet, Scope
from agent_identity.errors import ContentBlocked
from agent_identity.inspection import (
    Canaries,
    HiddenText,
    InjectionHints,
    Markers,
    PersonalData,
    Secrets,
    TextInspector,
    Urls,
)
from agent_identity.policy import Content, Obligation

SIZE = 65_536
TOKEN = "ghp_" + "9fK2mZ8xQ1vB7nC4dL6wE3rT5yU0iO2pA9sD"
INSPECTORS: tuple[TextInspector, ...] = (
    Secrets(),
    PersonalData("email", "iban", "card", "phone", "br.cpf", "de.tax_id", "gb.nhs", "us.ssn"),
    HiddenText(),
    Urls(allow=["example.com"]),
    Markers(),
    InjectionHints(),
    Canaries("kx82-lm3q-zz91-a"),
)
PIECES = (
    *("a", "@", "a@", "a.a@a.", "1", "1 ", "4111 ", "DE02 ", "+1 ", "[", "](", "![](//", "]: ", "[a]: ", "<!--", "-->"),
    *("<img ", "<img src=//", "http:", "//", "//a.", "http://a@", "%", "\\", "all ", "ignore all ", "important!", "_"),
    *(" ", "\n", "\r", "#", "*", "-", "TLP:", "MSIP_Label_", "\x00", "\x1b[", "\x1b]", "\x9b", "\u200b", "é\u200b"),
    *(
        "\u2066",
        "\u202e",
        "\ufe00",
        "\U000e0041",
        "\u0430b",
        "\uff21",
        "\ufdfa",
        "Classification: ",
        "kx82-",
        "-----BEGIN ",
    ),
    *("\\n", "\\u005c", "\\\\n", "\\n4111 ", "a\\n@"),
)


def look(inspector: TextInspector, value: object) -> list[Finding]:
    return list(inspector.inspect(Content(direction="output", tool="tool", value=value)))


@pytest.mark.parametrize("inspector", INSPECTORS, ids=lambda one: one.name)
def test_no_text_makes_an_inspector_slow(inspector: TextInspector) -> None:
    """Repetitions that make patterns back-track cost a second or two, and not minutes."""
    inspector.prepare()
    for piece in PIECES:
        text = (piece * (SIZE // len(piece)))[: SIZE - 1] + "!"
        began = time.process_time()
        look(inspector, text)
        assert time.process_time() - began < 5, repr(piece)


def test_a_container_in_many_places_is_looked_at_once() -> None:
    """A value that is small in memory and endless when written out costs what it takes in memory."""
    value: list[object] = ["bob@example.com"]
    for _ in range(60):
        value = [value] * 50
    found = look(PersonalData("email"), value)
    assert [finding.category for finding in found] == ["pii.email"]


def test_a_cycle_and_a_deep_value_come_to_an_end() -> None:
    """A value that contains itself is looked at once; beyond a depth nobody looks, and that is said."""
    loop: list[object] = ["bob@example.com"]
    loop += [loop, {"loop": loop}]
    assert [finding.category for finding in look(PersonalData("email"), loop)] == ["pii.email"]
    deep: object = "bob@example.com"
    for _ in range(1_000):
        deep = [deep]
    assert [finding.category for finding in look(PersonalData("email"), deep)] == ["uninspected"]


HIDING = "\u200b\u200d\u2060\ufeff\u00ad\u034f\u061c\u180e\ufe0f\U000e0001\u2028\x00\x08"


@given(st.lists(st.tuples(st.integers(1, len(TOKEN) - 1), st.sampled_from(HIDING)), min_size=1, max_size=12))
def test_mixed_invisible_characters_hide_no_token(inserted: list[tuple[int, str]]) -> None:
    """Wherever they stand in it, and however many, the span covers the token with all of them."""
    text = TOKEN
    for place, letter in sorted(inserted, reverse=True):
        text = text[:place] + letter + text[place:]
    (found,) = look(Secrets(), f"use {text} now")
    assert found.span is not None
    assert f"use {text} now"[slice(*found.span)] == text


@pytest.fixture
def redacting(open_world: Callable[..., Any]) -> Any:
    """A world in which tokens and mail are redacted from results."""
    rule = Rule(
        Effect.ALLOW,
        when={"findings.stage": "result"},
        obligations=[Obligation("redact", "secret.*"), Obligation("redact", "pii.email")],
        id="clean",
    )
    return open_world(policy=RuleSet(rule), inspectors=[Secrets(), PersonalData("email")])


def returning(world: Any, result: object) -> Callable[[], object]:
    @world.enforcer.tool(name="tool")
    def tool() -> object:
        return result

    return tool


@pytest.mark.parametrize("hidden", ["\x00", "\u200b", "\u00ad", "\ufeff", "\x1b[31m", "\x9b", "\x1b]0;t\x07", "\x1b"])
@pytest.mark.parametrize("value", ["DE02120300000000202051", "4111111111111111", TOKEN, "+49301234567"])
def test_what_is_hidden_before_a_value_hides_it_no_more_than_inside_it(value: str, hidden: str) -> None:
    """An invisible sign between a word and a value makes no other word of the two."""
    inspectors: tuple[TextInspector, ...] = (Secrets(), PersonalData("iban", "card", "phone"))
    text = f"account{hidden}{value}{hidden}is"
    spans = [found.span for one in inspectors for found in look(one, text) if found.span is not None]
    start = text.index(value)
    assert any(first <= start and last >= start + len(value) for first, last in spans)


def test_a_redacted_token_is_in_nothing_that_leaves(redacting: Any) -> None:
    """Neither the caller, nor the ledger, nor a span has what was redacted."""
    with redacting.task(Scope("tool")):
        assert returning(redacting, {"env": [f"KEY={TOKEN}"]})() == {"env": ["KEY=[redacted:secret.github-pat]"]}
    redacting.enforcer.close()
    spans = str([span.to_json() for span in redacting.exporter.get_finished_spans()])
    kept = b"".join(path.read_bytes() for path in redacting.directory.rglob("*") if path.is_file())
    assert TOKEN not in spans
    assert TOKEN.encode() not in kept


class Changing(str):
    """A text that shows another text each time it is asked."""

    __slots__ = ()

    def __str__(self) -> str:
        return "harmless"


@pytest.mark.parametrize(
    "result",
    [Changing("bob@example.com"), {Changing("k"): ["x"], "bob@example.com": 1}, [object(), "bob@example.com"]],
)
def test_what_answers_otherwise_each_time_is_withheld(redacting: Any, result: object) -> None:
    """A class of its own, a key, or a part that cannot be read is not handed out beside something to redact."""
    with redacting.task(Scope("tool")), pytest.raises(ContentBlocked) as caught:
        returning(redacting, result)()
    assert caught.value.decision.reason == "obligation_unmet"


@dataclasses.dataclass
class Fetched:
    """A dataclass that keeps more than its fields."""

    name: str

    def __post_init__(self) -> None:
        self.raw = f"KEY={TOKEN}"


class Named(str):  # noqa: SLOT000 - It has attributes.
    """A text with an attribute."""

    note: str


class Rows(list[str]):
    """A list with an attribute."""

    note: str


class Row(dict[str, str]):
    """A dict with an attribute."""

    note: str


class Point(NamedTuple):
    """A named tuple."""

    name: str


class Marked(Point):
    """A named tuple with an attribute."""

    note: str


class Slotted(Exception):
    """An exception with a slot."""

    __slots__ = ("note",)


@dataclasses.dataclass(slots=True)
class Base:
    """A dataclass with slots."""

    name: str


class Derived(Base):
    """A class with a slot that is no field."""

    __slots__ = ("note",)


@pytest.mark.parametrize(
    "made", [Slotted, Derived, Named, lambda _: Rows(["a"]), lambda _: Row(a="b"), Marked, Path, Fetched]
)
def test_what_an_object_holds_beside_its_fields_is_inspected(redacting: Any, made: Any) -> None:
    """Attributes that no field declares are read, and a result with a token in one of them is withheld."""
    result = made("harmless")
    if isinstance(result, Path):
        result = [result, {Path(f"/KEY={TOKEN}")}]
    elif not isinstance(result, Fetched):
        result.note = f"KEY={TOKEN}"
    with redacting.task(Scope("tool")), pytest.raises(ContentBlocked) as caught:
        returning(redacting, result)()
    assert caught.value.decision.reason == "obligation_unmet"


def test_the_text_of_an_error_is_no_way_round(redacting: Any) -> None:
    """Neither the message, nor an argument, nor the cause of what a body raises shows what results must not."""

    @redacting.enforcer.tool(name="tool")
    def tool(how: int) -> None:
        if how == 0:
            raise ValueError(f"no {TOKEN}")
        if how == 1:
            raise LookupError({"token": TOKEN})
        if how == 2:
            raise RuntimeError("failed") from ValueError(TOKEN)
        raise RuntimeError("failed") from FileNotFoundError(2, "no such file", f"/keys/{TOKEN}")

    with redacting.task(Scope("tool")):
        for how in range(4):
            with pytest.raises(ContentBlocked):
                tool(how)


@given(st.text(alphabet="DE0123456789 \u200b.-", max_size=200))
def test_what_is_redacted_once_is_redacted_for_good(text: str) -> None:
    """A second look at a redacted text finds nothing: the first one has taken all."""
    from agent_identity._inspection.transform import edits_of, transformed

    inspector, owed = PersonalData("iban", "card", "email"), [Obligation("redact")]
    edits = edits_of(look(inspector, text), owed)
    if edits is not None:
        changed = transformed(text, edits, lambda category, _: category)
        assert edits_of(look(inspector, changed), owed) is None
