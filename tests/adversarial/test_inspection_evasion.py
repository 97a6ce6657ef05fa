"""Texts that an attacker writes so that inspectors overlook something, or take long."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from agent_identity import Effect, Finding, Rule, RuleSet, Scope
from agent_identity.errors import ContentBlocked
from agent_identity.inspection import HiddenText, PersonalData, TextInspector, Urls
from agent_identity.policy import Content, Obligation

IBAN = "DE02 1203 0000 0000 2020 51"
CARD = 4111_1111_1111_1111
FLAG = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


def look(inspector: TextInspector, value: object) -> list[Finding]:
    return list(inspector.inspect(Content(direction="output", tool="tool", value=value)))


def categories(inspector: TextInspector, value: object) -> set[str]:
    return {finding.category for finding in look(inspector, value)}


@pytest.mark.parametrize("opening", ["\x1b]", "\x1b]0;", "\x90", "\x9d", "\x1b[", "\x1b", "\x1b]8;;"])
@pytest.mark.parametrize("closing", ["", "\x07", "\x1b\\"])
def test_no_escape_sequence_hides_what_a_model_reads(opening: str, closing: str) -> None:
    """What a terminal takes for a part of a sequence is looked at, with its offsets in the text as it is."""
    text = f"{opening}DE02120300000000202051{closing}"
    (found,) = look(PersonalData("iban"), text)
    assert found.span is not None
    start, end = found.span
    assert "02120300000000202051" in text[start:end]
    assert categories(PersonalData("card"), f"{opening}{CARD}{closing}") == {"pii.card"}


def test_no_escape_sequence_hides_what_stands_in_another_string() -> None:
    """A sequence that does not end in its string hides nothing of the next one."""
    assert [found.path for found in look(PersonalData("iban"), {"title": "\x1b]", "note": IBAN})] == ["/note"]


def test_what_a_sequence_divides_is_still_found_as_a_whole() -> None:
    """A sequence inside a number is no way around either."""
    text = f"{IBAN[:12]}\x1b[31m{IBAN[12:]}"
    assert (0, len(text)) in {found.span for found in look(PersonalData("iban"), text)}


@pytest.mark.parametrize(
    ("inspector", "noise"),
    [
        (PersonalData("email", "iban"), [f"a{number}@example.com" for number in range(300)]),
        (PersonalData("iban"), [f"https://10.0.0.{number}/" for number in range(250)] * 2),
    ],
    ids=["of-one-inspector", "of-two"],
)
def test_findings_of_one_category_hide_none_of_another(
    open_world: Callable[..., Any], inspector: TextInspector, noise: list[str]
) -> None:
    """A rule about accounts applies, however many findings of another category come first."""
    when = {"findings.stage": "result", "findings.categories": {"contains": ["pii.iban"]}}
    clean = Rule(Effect.ALLOW, when=when, obligations=[Obligation("redact", "pii.iban")], id="clean")
    world = open_world(policy=RuleSet(clean), inspectors=[Urls(), inspector])

    @world.enforcer.tool
    def read() -> object:
        return {"noise": noise, "iban": IBAN}

    with world.task(Scope("read")), pytest.raises(ContentBlocked):
        read()


@pytest.mark.parametrize("value", [{CARD: "x"}, {"n": {CARD: 1}}, float(CARD), {"n": float(CARD)}])
def test_a_number_is_read_as_a_key_and_as_a_decimal(value: object) -> None:
    """A card number is one in every form that JSON and Python have for it."""
    assert categories(PersonalData("card"), value) == {"pii.card"}


@pytest.mark.parametrize("value", [FLAG * 37_000, ["<!--", *["a"] * 90_000]], ids=["flags", "strings"])
def test_the_time_is_linear(value: object) -> None:
    """No text near the limit takes time for each pair of its parts."""
    inspector = HiddenText()
    started = time.process_time()
    look(inspector, value)
    assert time.process_time() - started < 2
