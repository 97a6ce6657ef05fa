"""Redaction and information flow together: what is delivered is redacted first, and no redaction raises trust."""

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from mark_changes import marks_among

from agent_identity import Effect, Rule, RuleSet, Scope, records
from agent_identity._storage.os_files import Files
from agent_identity.adapters import CallRequest
from agent_identity.errors import ContentBlocked, PolicyBlocked, Routed
from agent_identity.inspection import PersonalData
from agent_identity.policy import All, Flow, Obligation

_spec = importlib.util.spec_from_file_location("flow_worlds", Path(__file__).with_name("flow_worlds.py"))
assert _spec is not None
assert _spec.loader is not None
flow = sys.modules.setdefault("flow_worlds", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(flow)

EVIL, OWN, REQUEST = flow.EVIL, flow.OWN, flow.REQUEST
GONE = "[redacted:pii.iban]"
OTHER = "acct-000777"
EVERYTHING = Scope({name: {} for name in ("pay", "read", "find")})


def policy(action: Any = "redact", *, flow_first: bool = True) -> All:
    """Return the flow policy together with rules that oblige to change results with an IBAN."""
    rules = RuleSet(Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation(action)], id="clean"))
    return All(Flow(), rules) if flow_first else All(rules, Flow())


@pytest.fixture
def opened(open_world: Callable[..., Any]) -> Callable[..., Any]:
    def open_office(action: Any = "redact", *, flow_first: bool = True, **options: Any) -> Any:
        judge = policy(action, flow_first=flow_first)
        return flow.open_office(open_world, policy=judge, inspectors=[PersonalData("iban")], **options)

    return open_office


def order(world: Any, tool: str = "read") -> list[str]:
    """Return the kinds of the records of the calls of a tool, each with the mark if that is lowered there."""
    intents = {one.id for one in flow.of_kind(world, records.Intent) if one.action.tool == tool}
    kinds, before = list[str](), list[Any]()
    for one in flow.of_kind(world, records.Intent, records.Mark, records.Outcome):
        known = len(marks_among(before))
        before.append(one)
        fell = [f"mark:{cause}" for cause, _ in marks_among(before)[known:]]
        if isinstance(one, records.Mark):
            kinds += fell if set(one.mark.sources or ()) & intents else []
        elif one.action.tool == tool:
            kinds += ["intent"] if isinstance(one, records.Intent) else [*fell, "outcome"]
    return kinds


def refuses_to_pay(world: Any, pay: Callable[..., object], iban: object) -> None:
    """Prove that a payment is not made."""
    before = len(flow.paid(world))
    with pytest.raises(Routed):
        pay(iban)
    assert len(flow.paid(world)) == before


@pytest.mark.parametrize("flow_first", [True, False])
def test_a_result_is_redacted_then_marked_then_delivered(opened: Callable[..., Any], flow_first: bool) -> None:
    """Both digests are on record, the mark is written before the delivery, and the label is that of the result."""
    office = opened(flow_first=flow_first)
    pay, seen = flow.pays(office), list[object]()
    read = flow.reads(office, {"text": EVIL}, returns="untrusted")
    write = Files.write

    def watching(self: Files, fd: int, data: bytes) -> int:
        if b'"mark_after":{"label":"untrusted"' in data:
            seen.append("mark")
        return write(self, fd, data)

    with office.task(EVERYTHING, request=REQUEST):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Files, "write", watching)
            seen.append(read())
        refuses_to_pay(office, pay, EVIL)
        pay(OWN)
    assert seen == ["mark", {"text": GONE}]
    assert order(office) == ["intent", "mark:result", "outcome"]
    (outcome,) = (one for one in flow.of_kind(office, records.Outcome) if one.action.tool == "read")
    assert (outcome.decision.enforced, outcome.outcome, outcome.label) == ("modify", "success", "untrusted")
    (detail,) = (one for one in flow.details(office) if one.transforms)
    (transform,) = detail.transforms
    assert transform.delivered == outcome.action.result
    assert transform.original not in (None, transform.delivered)
    assert flow.verified(office).verdict == "verified"


def test_a_coroutine_is_redacted_and_marked(opened: Callable[..., Any]) -> None:
    """The order is the same on an event loop."""
    office = opened()
    pay = flow.pays(office)

    @office.enforcer.tool(labels=[], returns="untrusted")
    async def read() -> str:
        return EVIL

    with office.task(EVERYTHING, request=REQUEST):
        assert asyncio.run(read()) == GONE
        refuses_to_pay(office, pay, EVIL)
    assert order(office) == ["intent", "mark:result", "outcome"]
    assert flow.verified(office).verdict == "verified"


def test_each_chunk_is_redacted_and_marked(opened: Callable[..., Any]) -> None:
    """A consumer gets the redacted item after the mark fell."""
    office = opened()
    pay = flow.pays(office)

    @office.enforcer.tool(labels=[], returns="untrusted")
    def read() -> Iterator[str]:
        yield EVIL
        yield "more"

    with office.task(EVERYTHING, request=REQUEST):
        items = read()
        assert next(items) == GONE
        refuses_to_pay(office, pay, EVIL)
        assert list(items) == ["more"]
    assert order(office) == ["intent", "mark:chunk", "outcome"]
    assert flow.verified(office).verdict == "verified"


@pytest.mark.parametrize("action", ["redact", "drop"])
def test_redacting_the_untrusted_part_leaves_the_result_untrusted(opened: Callable[..., Any], action: str) -> None:
    """The mark falls by the label of the original, also where nothing of the restricted part is left."""
    office = opened(action)
    pay = flow.pays(office)
    read = flow.reads(office, {"n": 1, "note": EVIL}, returns={"": "trusted", "/note": "untrusted"})
    with office.task(EVERYTHING, request=REQUEST):
        assert read() == ({"n": 1} if action == "drop" else {"n": 1, "note": GONE})
        refuses_to_pay(office, pay, EVIL)
    assert flow.marks(office)[-1] == ("result", "untrusted")
    assert flow.verified(office).verdict == "verified"


def test_a_part_that_moves_gets_no_better_label(opened: Callable[..., Any]) -> None:
    """Dropping an item moves the next one to a trusted path; its value is not trusted for that."""
    office = opened("drop")
    pay = flow.pays(office)
    read = flow.reads(office, [EVIL, OTHER], returns={"": "trusted", "/1": "untrusted"})
    with office.task(EVERYTHING, request=REQUEST):
        assert read() == [OTHER]
        refuses_to_pay(office, pay, OTHER)
    assert flow.verified(office).verdict == "verified"


def test_a_part_that_stays_keeps_its_label(opened: Callable[..., Any]) -> None:
    """Redacting one part does not restrict the destination that a trusted part names."""
    office = opened()
    pay = flow.pays(office)
    read = flow.reads(office, {"to": OTHER, "note": EVIL}, returns={"": "trusted", "/note": "untrusted"})
    with office.task(EVERYTHING, request=REQUEST):
        assert read() == {"to": OTHER, "note": GONE}
        pay(OTHER)
    assert flow.paid(office) == [OTHER]
    assert flow.verified(office).verdict == "verified"


def test_a_changed_echo_is_not_trusted(opened: Callable[..., Any]) -> None:
    """A tool that endorses returns its argument; what redaction makes of that is no better than the argument."""
    office = opened()
    pay, read = flow.pays(office), flow.reads(office, "a letter", returns="untrusted")
    echo = flow.reads(office, lambda x: x, "find", endorses=True)
    with office.task(EVERYTHING, request=REQUEST):
        read()
        assert echo(f"{EVIL} to {OTHER}") == f"{GONE} to {OTHER}"
        refuses_to_pay(office, pay, f"{GONE} to {OTHER}")
    assert flow.verified(office).verdict == "verified"


def test_a_withheld_result_counts(opened: Callable[..., Any]) -> None:
    """The caller gets nothing, and the mark falls all the same, before the outcome."""
    office = opened("withhold")
    pay, read = flow.pays(office), flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        with pytest.raises(ContentBlocked) as caught:
            read()
        assert caught.value.code == "content_blocked"
        refuses_to_pay(office, pay, EVIL)
        pay(OWN)
    assert order(office) == ["intent", "mark:result", "outcome"]
    assert flow.verified(office).verdict == "verified"


def test_a_withheld_error_counts(opened: Callable[..., Any]) -> None:
    """An error whose text would have to change is withheld without its text, after the mark fell."""
    office = opened()
    pay, read = flow.pays(office), flow.reads(office, ValueError(f"no such account: {EVIL}"), returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        with pytest.raises(ContentBlocked) as caught:
            read()
        error = caught.value
        assert error.code == "content_blocked"
        assert EVIL not in f"{error}"
        assert error.__cause__ is None
        assert error.__suppress_context__
        refuses_to_pay(office, pay, EVIL)
    assert order(office) == ["intent", "mark:result", "outcome"]
    assert flow.verified(office).verdict == "verified"


def test_an_error_without_findings_counts(opened: Callable[..., Any]) -> None:
    """An error that is inspected and raised lowers the mark before the caller has it."""
    office = opened()
    pay, read = flow.pays(office), flow.reads(office, ValueError("no such account"), returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        with pytest.raises(ValueError, match="no such account"):
            read()
        refuses_to_pay(office, pay, EVIL)
    assert order(office) == ["intent", "mark:error", "outcome"]
    assert flow.verified(office).verdict == "verified"


def test_a_redacted_result_whose_mark_is_not_written_is_withheld(opened: Callable[..., Any]) -> None:
    """Nothing is delivered, and no record says that a changed result was."""
    office = opened()
    read = flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        with flow.no_changes_written() as refused, pytest.raises(ContentBlocked) as caught:
            read()
        assert (caught.value.code, len(refused)) == ("mark_not_recorded", 1)
    (outcome,) = (one for one in flow.of_kind(office, records.Outcome) if one.action.tool == "read")
    assert (outcome.decision.enforced, outcome.outcome) == ("block", "denied")
    assert not [one for one in flow.details(office) if one.transforms]


def test_monitor_mode_delivers_the_original_and_marks_it(opened: Callable[..., Any]) -> None:
    """What would have been changed is delivered as it is, with its mark."""
    office = opened(mode="monitor")
    read = flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        assert read() == EVIL
    assert flow.marks(office)[-1] == ("result", "untrusted")
    (outcome,) = (one for one in flow.of_kind(office, records.Outcome) if one.action.tool == "read")
    assert outcome.decision.enforced == "audit"
    assert flow.verified(office).verdict == "verified"


def test_what_a_generator_returns_when_it_is_closed_is_redacted_and_marked(opened: Callable[..., Any]) -> None:
    """A body that answers its consumer's exception by returning has its value judged like any other result."""
    office = opened()
    pay = flow.pays(office)

    @office.enforcer.tool(labels=[], returns="untrusted")
    def read() -> Generator[None, None, object]:
        try:
            yield None
        except KeyboardInterrupt:
            return EVIL
        return None

    with office.task(EVERYTHING, request=REQUEST):
        items = read()
        next(items)
        pay(OTHER)
        with pytest.raises(StopIteration) as stopped:
            items.throw(KeyboardInterrupt())
        assert stopped.value.value == GONE
        refuses_to_pay(office, pay, EVIL)
    assert flow.verified(office).verdict == "verified"


def test_a_changed_prompt_is_judged_with_the_mark_that_the_prompt_was_judged_at(open_world: Callable[..., Any]) -> None:
    """A rule about the mark decides on the redacted prompt as on the first one, and does not block for not knowing."""
    redact = Rule(Effect.ALLOW, when={"tool.kind": "model"}, obligations=[Obligation("redact")], id="clean")
    blocks = Rule(Effect.BLOCK, when={"tool.kind": "model", "flow.integrity": "untrusted"}, id="no-lies")
    office = flow.open_office(
        open_world, policy=All(Flow(), RuleSet(redact, blocks)), inspectors=[PersonalData("iban")]
    )
    asked, guard = list[object](), office.enforcer.guard("chat", kind="model")
    prompt = CallRequest({"messages": [f"pay {EVIL}"]}, revise=lambda changed: asked.append(dict(changed)))
    with office.task(Scope("chat"), request=REQUEST):
        guard.run(prompt, lambda call: "done")
        office.enforcer.current_task.received("a text of others")
        with pytest.raises(PolicyBlocked):
            guard.run(prompt, lambda call: pytest.fail("the model was asked"))
    assert asked == [{"messages": [f"pay {GONE}"]}]
