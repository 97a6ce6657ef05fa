"""Obligations: what a rule changes in a result before the caller gets it, and what happens where it cannot."""

import asyncio
import dataclasses
import enum
import threading
from collections import deque, namedtuple
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from agent_identity import Agent, Decision, Effect, Finding, Human, Request, Rule, RuleSet, Scope
from agent_identity.adapters import CallRequest
from agent_identity.constraints import Contains, Range
from agent_identity.errors import ContentBlocked, Denied, PolicyFormatError
from agent_identity.inspection import Match, PersonalData, TextInspector
from agent_identity.policy import Content, Obligation

WHO: dict[str, Any] = {"principal": Human("alice@example.com"), "agent": Agent("clerk", owner="fin@example.com")}
IBAN = "DE02 1203 0000 0000 2020 51"
MAIL = "bob@example.com"
GONE = "[redacted:pii.iban]"
RESULT = {"findings.stage": "result"}


def rules(*obligations: Obligation, **options: Any) -> RuleSet:
    return RuleSet(Rule(Effect.ALLOW, when=RESULT, id="clean", obligations=obligations, **options))


def deliver(rehearse: Any, result: object, *obligations: Obligation, **options: Any) -> Any:
    """Return what the caller of a guarded tool gets of a result."""
    given = {"inspectors": [PersonalData()], "policy": rules(*obligations), **options}
    rehearsal = rehearse(**given)

    @rehearsal.enforcer.tool(name="tool")
    def tool() -> object:
        return result

    with rehearsal.enforcer.task("p", scope=Scope("tool"), **WHO):
        return tool()


@dataclasses.dataclass(frozen=True)
class Payment:
    to: str
    amount: int = 1


class Model(BaseModel):
    to: str
    note: str | None = None


class Strict(BaseModel):
    to: str

    @field_validator("to")
    @classmethod
    def _is_iban(cls, value: str) -> str:
        if not value.startswith("DE"):
            raise ValueError("no IBAN")
        return value


class Plain:
    def __init__(self) -> None:
        self.to = IBAN


Pair = namedtuple("Pair", "content artifact")  # noqa: PYI024 - As older code has it.


@pytest.mark.parametrize(
    ("result", "delivered"),
    [
        (f"to {IBAN}.", f"to {GONE}."),
        (f"{IBAN} and {IBAN}", f"{GONE} and {GONE}"),
        ({"to": IBAN, "n": 1}, {"to": GONE, "n": 1}),
        ([{"a": [IBAN]}, "x"], [{"a": [GONE]}, "x"]),
        (("text", {"artifact": IBAN}), ("text", {"artifact": GONE})),
        (Pair("x", IBAN), Pair("x", GONE)),
        ({IBAN}, {GONE}),
        (frozenset({IBAN}), frozenset({GONE})),
        (deque([IBAN], maxlen=3), deque([GONE], maxlen=3)),
        (IBAN.encode(), GONE.encode()),
        (bytearray(IBAN.encode()), bytearray(GONE.encode())),
        (Payment(IBAN), Payment(GONE)),
        ({"p": [Payment(IBAN, 2)]}, {"p": [Payment(GONE, 2)]}),
        (Model(to=IBAN), Model(to=GONE)),
        ({"a/b~c": IBAN}, {"a/b~c": GONE}),
        (f"ä€ {IBAN}", f"ä€ {GONE}"),
    ],
)
def test_a_result_is_redacted_and_keeps_its_type(rehearse: Any, result: object, delivered: object) -> None:
    """What was found is replaced wherever it stands; the value is of the same type, and the original untouched."""
    before = repr(result)
    found = deliver(rehearse, result, Obligation("redact", "pii.iban"))
    assert found == delivered
    assert type(found) is type(result)
    assert repr(result) == before


@pytest.mark.parametrize(
    ("action", "delivered"),
    [
        ("redact", {"to": GONE, "all": [f"x {GONE}"]}),
        ("mask", {"to": "*" * 23 + "0 51", "all": ["x " + "*" * 23 + "0 51"]}),
        ("drop", {"all": []}),
    ],
)
def test_each_action_does_what_it_says(rehearse: Any, action: Any, delivered: object) -> None:
    """A placeholder, the last four characters, or nothing at all stands where something was found."""
    assert deliver(rehearse, {"to": IBAN, "all": [f"x {IBAN}"]}, Obligation(action)) == delivered


def test_a_token_is_the_same_for_the_same_text(rehearse: Any) -> None:
    """An agent can tell one account from another, and nobody can tell which it is."""
    one, same, other = deliver(rehearse, [IBAN, IBAN, "GB33BUKB20201555555555"], Obligation("tokenize"))
    assert one == same != other
    assert one.startswith("[pii.iban:")
    assert "5555" not in other


def test_the_strictest_of_several_obligations_counts(rehearse: Any) -> None:
    """A mask beside a redaction redacts; another category keeps its own."""
    found = deliver(rehearse, f"{IBAN} {MAIL}", Obligation("mask"), Obligation("redact", "*.iban"))
    assert found == f"{GONE} ***********.com"


def test_dropping_from_a_tuple_or_an_object_leaves_its_place_empty(rehearse: Any) -> None:
    """Positions and fields stay; what cannot be empty is withheld."""
    drop = Obligation("drop")
    assert deliver(rehearse, ("text", IBAN), drop) == ("text", None)
    assert deliver(rehearse, Model(to="x", note=IBAN), drop) == Model(to="x", note=None)
    for result in (Model(to=IBAN), IBAN):
        with pytest.raises(ContentBlocked):
            deliver(rehearse, result, drop)


def test_a_shared_container_is_redacted_wherever_it_stands(rehearse: Any) -> None:
    """One list under two members is still one list afterwards, and clean under both."""
    shared = [IBAN]
    found = deliver(rehearse, {"a": shared, "b": {"c": shared}}, Obligation("redact"))
    assert found == {"a": [GONE], "b": {"c": [GONE]}}
    assert found["a"] is found["b"]["c"]


def test_parts_without_findings_are_the_same_objects(rehearse: Any) -> None:
    """A redaction copies what it changes, and what leads there."""
    other: dict[str, object] = {"x": object}
    other["x"] = ["clean"]
    assert deliver(rehearse, {"a": IBAN, "b": other}, Obligation("redact"))["b"] is other


def _cycle() -> object:
    loop: list[object] = [IBAN]
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "result",
    [
        {IBAN: 1},
        Strict(to=IBAN),
        {"n": 4111111111111111},
        [IBAN, Plain()],
        _cycle(),
        f"{IBAN} " + "x " * 200_000,
    ],
)
def test_an_obligation_that_cannot_be_met_withholds(rehearse: Any, result: object) -> None:
    """A key, a refusing class, a number, an opaque part, a cycle, or a part that nobody looked at is withheld."""
    rehearsal_result = None
    with pytest.raises(ContentBlocked) as caught:
        rehearsal_result = deliver(rehearse, result, Obligation("redact"))
    assert rehearsal_result is None
    assert caught.value.decision.reason == "obligation_unmet"
    assert "1203" not in str(caught.value)


def test_withholding_is_an_obligation_of_its_own(rehearse: Any) -> None:
    """A rule that withholds on one category lets others through."""
    assert deliver(rehearse, MAIL, Obligation("withhold", "pii.iban")) == MAIL
    with pytest.raises(ContentBlocked) as caught:
        deliver(rehearse, f"{IBAN} {MAIL}", Obligation("withhold", "pii.iban"))
    assert caught.value.decision.reason == "policy_withholds"


class Echo(TextInspector):
    """Finds a word that a redaction makes of two halves."""

    name = "echo"

    def find(self, document: Any) -> Iterator[Any]:
        from agent_identity.inspection import Match

        for word in ("pii.iban", "XY"):
            start = document.text.raw.find(word)
            if start >= 0:
                yield Match("made", start, start + len(word))


def test_a_redaction_that_creates_a_match_withholds(rehearse: Any) -> None:
    """The changed result is looked at once more; what is found there is not handed out."""
    with pytest.raises(ContentBlocked):
        deliver(rehearse, f"to {IBAN}", Obligation("redact"), inspectors=[PersonalData(), Echo()])


def test_two_halves_do_not_become_one_by_a_drop(rehearse: Any) -> None:
    """A text of which the middle is replaced is inspected as it is delivered."""
    found = deliver(rehearse, f"X{IBAN}Y", Obligation("redact"), inspectors=[PersonalData(), Echo()])
    assert found == f"X{IBAN}Y"  # Inside a word it is no IBAN.


class Pathless:
    """An inspector that does not say where."""

    def __init__(self, **where: Any) -> None:
        self.where = where

    def inspect(self, content: Content) -> Sequence[Finding]:
        text = repr(content.value)
        return [Finding(category="pii.own", inspector="own", **self.where)] if "secret" in text else []


@pytest.mark.parametrize("where", [{}, {"path": "/b"}, {"path": "/a", "span": (0, 99)}, {"path": ""}])
def test_a_finding_without_a_place_withholds(rehearse: Any, where: dict[str, Any]) -> None:
    """No path, a path that leads nowhere, or a span beyond its text cannot be redacted."""
    with pytest.raises(ContentBlocked):
        deliver(rehearse, {"a": "secret"}, Obligation("redact"), inspectors=[Pathless(**where)])


class Status(enum.StrEnum):
    """A text that is a member of an enumeration, as in most results with a state."""

    OPEN = "open"


class Found(str):
    """A text of a parser, which knows the element that it stands in."""

    __slots__ = ("parent",)


@dataclasses.dataclass
class Counted:
    """A result that guards its own count."""

    to: str

    def __post_init__(self) -> None:
        self.lock = threading.Lock()


def found_in(parent: object) -> Found:
    """Return a text with the element that it stands in."""
    found = Found("open")
    found.parent = parent
    return found


@pytest.mark.parametrize("value", [Status.OPEN, found_in(object()), Counted("open")])
def test_attributes_that_are_no_content_withhold_no_result(rehearse: Any, value: object) -> None:
    """A rule that redacts delivers members of enumerations, and results that hold a lock or their parser."""
    assert deliver(rehearse, {"status": value}, Obligation("redact")) == {"status": value}


class Astray(TextInspector):
    """Finds something in no part of the text."""

    name = "astray"
    inline = True

    def __init__(self, start: int, end: int) -> None:
        self.match = Match("pii.iban", start, end)

    def find(self, document: Any) -> Sequence[Match]:
        """Return a match whose offsets count in another text."""
        return (self.match,) if "redacted" not in document.text.raw else ()


@pytest.mark.parametrize("span", [(0, 0), (5, 2), (100, 200), (10, 11)])
def test_a_match_in_no_part_of_the_text_withholds(rehearse: Any, span: tuple[int, int]) -> None:
    """Offsets that count in another text, or cover nothing, are no reason to deliver the result as it is."""
    with pytest.raises(ContentBlocked):
        deliver(rehearse, ["0123456789", "b"], Obligation("redact"), inspectors=[Astray(*span)])


def test_a_finding_with_a_path_alone_redacts_the_whole_text(rehearse: Any) -> None:
    """An inspector that knows the member and not the span has all of it replaced."""
    found = deliver(rehearse, {"a": "secret"}, Obligation("redact"), inspectors=[Pathless(path="/a")])
    assert found == {"a": "[redacted:pii.own]"}


# --------------------------------------------------------------------------------------------------- rules


def test_no_finding_and_no_cover_change_nothing(rehearse: Any) -> None:
    """A result in which nothing is found, or nothing that the obligation covers, is the object that it is."""
    for result in (["clean"], [MAIL]):
        assert deliver(rehearse, result, Obligation("redact", "pii.iban")) is result


@pytest.mark.parametrize(
    ("effect", "when"),
    [
        (Effect.ALLOW, None),
        (Effect.ALLOW, {"findings.stage": "call"}),
        (Effect.WARN, {"findings.count": Range(min=1)}),
        (Effect.ALLOW, {"any": [RESULT, {"tool.name": "x"}]}),
        (Effect.ALLOW, {"not": {"findings.stage": "call"}}),
        (Effect.BLOCK, RESULT),
    ],
)
def test_a_rule_that_could_change_arguments_does_not_load(effect: Effect, when: Any) -> None:
    """Obligations go with allow and warn, and with a condition that only results fulfil."""
    with pytest.raises(PolicyFormatError):
        Rule(effect, when=when, obligations=[Obligation("redact")])


def test_a_rule_of_a_file_has_obligations(rehearse: Any, tmp_path: Path) -> None:
    """The file says what the class says."""
    path = tmp_path / "policy.toml"
    path.write_text(
        '[[rules]]\neffect = "warn"\nwhen = { "findings.stage" = "result" }\n'
        'obligations = [{ redact = "pii.iban" }, { mask = ["pii.card", "pii.email"] }]\n'
    )
    assert deliver(rehearse, f"{IBAN} {MAIL}", policy=path) == f"{GONE} ***********.com"


@pytest.mark.parametrize("owed", ['"redact"', '[{ cut = "x" }]', '[{ redact = "a b" }]', "[{}]", "[{ redact = [] }]"])
def test_a_malformed_obligation_of_a_file_is_located(tmp_path: Path, owed: str) -> None:
    """A mistake has its line."""
    path = tmp_path / "policy.toml"
    path.write_text(f'[[rules]]\neffect = "warn"\nwhen = {{ "findings.stage" = "result" }}\nobligations = {owed}\n')
    with pytest.raises(PolicyFormatError, match=r"policy.toml:4:"):
        RuleSet.load(path)


def test_obligations_are_a_part_of_the_digest() -> None:
    """Two policies that redact differently have different digests; one without any keeps its own."""
    assert len({rules(Obligation("redact")).digest, rules(Obligation("mask")).digest, rules().digest}) == 3


def test_all_rules_that_match_oblige(rehearse: Any) -> None:
    """Obligations of an allow and of a warn rule are both met, whichever decides."""
    policy = RuleSet(
        Rule(Effect.ALLOW, when=RESULT, id="b", obligations=[Obligation("redact", "pii.iban")]),
        Rule(Effect.WARN, when=RESULT, id="a", obligations=[Obligation("redact", "pii.email")]),
    )
    assert deliver(rehearse, f"{IBAN} {MAIL}", policy=policy) == f"{GONE} [redacted:pii.email]"


def test_an_obligation_of_a_rule_that_cannot_be_decided_blocks(rehearse: Any) -> None:
    """What may have to be redacted is not let through."""
    policy = RuleSet(
        Rule(Effect.ALLOW, when={**RESULT, "data.labels": Contains("x")}, obligations=[Obligation("redact")], id="r")
    )
    with pytest.raises(ContentBlocked) as caught:
        deliver(rehearse, IBAN, policy=policy)
    assert caught.value.decision.reason == "rule_error"


class Foreign:
    """A policy of somebody else with obligations."""

    name, version, digest = "foreign", "1", "0" * 43

    def __init__(self, obligations: Any, stage: str) -> None:
        self.obligations = obligations
        self.stage = stage

    def decide(self, request: Request) -> Decision:
        owed = self.obligations if request.stage == self.stage else ()
        return Decision(effect=Effect.ALLOW, reason="ok", obligations=owed)


def test_a_policy_of_others_obliges_about_results_alone(rehearse: Any) -> None:
    """Its obligations are met for a result; about a call, or as another type, they refuse."""
    redact = (Obligation("redact"),)
    assert deliver(rehearse, IBAN, policy=Foreign(redact, "result")) == GONE
    for unsound in (Foreign(redact, "call"), Foreign(7, "call"), Foreign(("redact",), "result")):
        with pytest.raises(Denied):
            deliver(rehearse, IBAN, policy=unsound)


# ------------------------------------------------------------------------------------- kinds of calls


def test_coroutines_and_generators_are_redacted(rehearse: Any) -> None:
    """Awaited results and single items are changed like returned ones."""
    rehearsal = rehearse(inspectors=[PersonalData()], policy=rules(Obligation("redact")))

    @rehearsal.enforcer.tool
    async def coroutine() -> str:
        return IBAN

    @rehearsal.enforcer.tool
    def generator() -> Iterator[str]:
        yield "clean"
        yield IBAN

    @rehearsal.enforcer.tool
    async def agenerator() -> Any:
        yield IBAN

    async def main() -> list[object]:
        async with rehearsal.enforcer.task("p", scope=Scope({"coroutine": None, "agenerator": None}), **WHO):
            return [await coroutine(), *[item async for item in agenerator()]]

    assert asyncio.run(main()) == [GONE, GONE]
    with rehearsal.enforcer.task("p", scope=Scope("generator"), **WHO):
        assert list(generator()) == ["clean", GONE]


@pytest.mark.parametrize("policy", [rules(Obligation("redact")), RuleSet(Rule(Effect.BLOCK, when=RESULT, id="no"))])
def test_an_error_text_is_withheld_where_it_would_have_to_change(rehearse: Any, policy: RuleSet) -> None:
    """What a body raises is a result: its text does not leak round the guard."""
    rehearsal = rehearse(inspectors=[PersonalData()], policy=policy)

    @rehearsal.enforcer.tool
    def tool(say: str) -> None:
        raise ValueError(f"cannot pay {say}")

    with rehearsal.enforcer.task("p", scope=Scope("tool"), **WHO):
        with pytest.raises(ValueError, match="cannot pay him"):
            tool("him")
        with pytest.raises(ContentBlocked) as caught:
            tool(IBAN)
    assert "1203" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("is_async", [False, True])
def test_the_result_of_a_block_cannot_be_changed(rehearse: Any, is_async: bool) -> None:
    """A block has its result already, so that what would have to be changed is refused."""
    rehearsal = rehearse(inspectors=[PersonalData()], policy=rules(Obligation("redact")))
    guard = rehearsal.enforcer.guard("tool")

    async def within() -> None:
        async with guard.block(CallRequest({})) as call:
            call.result = IBAN

    def directly() -> None:
        with guard.block(CallRequest({})) as call:
            call.result = IBAN

    with rehearsal.enforcer.task("p", scope=Scope("tool"), **WHO), pytest.raises(ContentBlocked):
        asyncio.run(within()) if is_async else directly()
    rehearsal.records.assert_denied(code="obligation_unmet")


def test_monitor_mode_delivers_the_original(rehearse: Any) -> None:
    """Nothing is changed or withheld where nothing is enforced, and the record says that it would have been."""
    result = {"to": IBAN}
    assert deliver(rehearse, result, Obligation("redact"), mode="monitor") is result


# ------------------------------------------------------------------------------------------------- records


def test_a_redaction_is_on_record_with_both_digests(tmp_path: Path) -> None:
    """The outcome says modify and digests what was delivered, the detail has both digests, no record the text."""
    from agent_identity import Enforcer
    from agent_identity.records import Outcome, read_lines

    with Enforcer.open(tmp_path, inspectors=[PersonalData()], policy=rules(Obligation("redact"))) as enforcer:

        @enforcer.tool
        def tool(clean: bool) -> str:
            return GONE if clean else IBAN

        with enforcer.task("p", scope=Scope("tool"), **WHO):
            assert tool(clean=True) == tool(clean=False) == GONE
    (clean, nothing), (changed, detail) = (
        (record, detail) for record, detail in read_lines(tmp_path) if isinstance(record, Outcome)
    )
    assert (changed.decision.enforced, changed.decision.rule, changed.outcome) == ("modify", "clean", "success")
    assert changed.action.result == clean.action.result
    assert nothing is None
    assert detail is not None
    (transform,) = detail.transforms or ()
    assert (transform.name, transform.version, transform.delivered) == ("redaction", "1", changed.action.result)
    assert transform.original != transform.delivered
    assert IBAN.encode() not in b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
    from agent_identity import Verifier

    assert Verifier(tmp_path / "trust.json").ledger(tmp_path).raise_for_status()
