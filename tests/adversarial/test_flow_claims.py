"""Labels on record: those that are stated, those that a tool comes with, and tools of which nobody states any."""

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Decision, Effect, Scope, records
from agent_identity._guard.judging._record_builder import RecordBuilder
from agent_identity._guard.judging.tool_flow import ToolFlow
from agent_identity._record.parts import ArgumentOrigin
from agent_identity.adapters import CallRequest, DeclaredFlow, Shown
from agent_identity.errors import Routed
from agent_identity.inspection import Label
from agent_identity.policy import Claims, Flow

_spec = importlib.util.spec_from_file_location("flow_worlds", Path(__file__).with_name("flow_worlds.py"))
assert _spec is not None
assert _spec.loader is not None
flow = sys.modules.setdefault("flow_worlds", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(flow)

EVIL, OWN, REQUEST = flow.EVIL, flow.OWN, flow.REQUEST
EVERYTHING = Scope({name: {} for name in ("pay", "read", "other")})
ALLOWED = Decision(effect=Effect.ALLOW, reason="default")


@pytest.fixture
def office(open_world: Callable[..., Any]) -> Any:
    return flow.open_office(open_world)


def test_stated_and_unstated_labels_differ_on_record(office: Any) -> None:
    """A tool without labels by its owner's word has an empty list, and one of which nobody says any has none."""
    read, other = flow.reads(office, "x"), flow.reads(office, "x", "other", labels=None)
    with office.task(EVERYTHING, request=REQUEST):
        read()
        other()
    assert [one.action.labels for one in flow.of_kind(office, records.Intent)] == [(), None]
    assert flow.codes(flow.verified(office)) == set()


@pytest.mark.parametrize("labels", [None, []])
def test_a_tool_without_stated_labels_is_judged_again_by_the_verifier(office: Any, labels: Any) -> None:
    """Unstated labels count as consequential for the verifier as at run time; stated ones do not."""
    pay, read = flow.pays(office, labels=labels), flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        read()
        patch.setattr(Flow, "decide", lambda self, _: ALLOWED)
        pay(EVIL)
    assert flow.codes(flow.verified(office)) == ({"ran_against_mark"} if labels is None else set())


def test_a_refused_call_has_its_labels_in_the_detail(office: Any) -> None:
    """Also there nobody has to guess whether the tool has no labels, or nobody stated any."""
    pay, read = flow.pays(office, labels=None), flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        read()
        with pytest.raises(Routed):
            pay(EVIL)
    (detail,) = flow.details(office)
    assert (detail.labels, detail.claims, detail.claimed) == (None, None, None)


def claiming(world: Any, *labels: str) -> Callable[[str], object]:
    """Return a tool whose server says that it has labels, and whose owner says that it has none."""
    guard = world.enforcer.guard(
        "pay", labels=[], claims=Claims(labels), flow=DeclaredFlow("trusted", destination=("iban",))
    )
    return lambda iban: guard.run(CallRequest({"iban": iban}), lambda _: world.ran.append(("pay", iban)))


def test_labels_that_a_tool_comes_with_are_on_record_apart(office: Any) -> None:
    """They restrict, and stand beside those that its owner states, at run time and for the verifier."""
    pay, read = claiming(office, "destructive"), flow.reads(office, EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=REQUEST):
        pay(EVIL)
        read()
        with pytest.raises(Routed):
            pay(EVIL)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Flow, "decide", lambda self, _: ALLOWED)
            pay(EVIL)
    first, _, last = flow.of_kind(office, records.Intent)
    assert (first.action.labels, first.action.claims) == ((), ("destructive",))
    report = flow.verified(office)
    (problem,) = [one for one in report.findings if one.code == "ran_against_mark"]
    assert problem.record == last.id


def shows(world: Any, label: Label) -> Callable[[], object]:
    """Return a trusted tool whose server gives its results a label of its own."""
    guard = world.enforcer.guard("read", labels=[], flow=DeclaredFlow("trusted"))
    return lambda: guard.run(CallRequest({}), lambda _: Shown("text", "text", label=label))


def test_the_label_that_a_server_gives_a_result_is_on_record_as_claimed(office: Any) -> None:
    """It bounds the label of the result, and stands apart from it in the detail; without one there is no detail."""
    with office.task(EVERYTHING, request=REQUEST):
        shows(office, Label("trusted"))()
        shows(office, Label("trusted", frozenset({"legal"})))()
    (plain, none), (outcome, detail) = (
        line for line in records.read_lines(office.directory) if isinstance(line[0], records.Outcome)
    )
    assert detail.claimed == "trusted:legal"
    assert (plain.label, plain.detail, none, outcome.label) == ("trusted", None, None, "trusted:legal")
    assert flow.codes(flow.verified(office)) == set()


def test_a_result_above_the_word_of_its_server_contradicts(office: Any) -> None:
    """A server's own label may only restrict, and a recorder that leaves it out of the label is found."""
    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ToolFlow, "_base", lambda *_: Label("trusted"))
        shows(office, Label("untrusted"))()
    assert flow.codes(flow.verified(office)) == {"label_mismatch"}


def test_a_result_above_its_arguments_contradicts(office: Any) -> None:
    """The verifier knows from the provenance of the arguments that the result cannot be better than untrusted."""
    read, other = flow.reads(office, EVIL, returns="untrusted"), flow.reads(office, "x", "other")
    with office.task(EVERYTHING, request=REQUEST), pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordBuilder, "intent", _from_a_stranger(RecordBuilder.intent))
        other(EVIL)
        patch.undo()
        read()
    assert flow.codes(flow.verified(office)) == {"label_mismatch"}


def _from_a_stranger(intent: Callable[..., Any]) -> Callable[..., Any]:
    origin = ArgumentOrigin(argument="x", provenance="untrusted")
    return lambda self, call: partial(intent(self, call), provenance=(origin,))
