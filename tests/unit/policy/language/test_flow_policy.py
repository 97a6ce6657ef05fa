"""The shipped flow policy, its attributes in rules and files, and policies that are composed."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Decision, Effect, Request, Rule, RuleSet
from agent_identity._policy.composed import asks_about_flow, has_flow_rules, is_built_in
from agent_identity._policy.language.labels import flows_about
from agent_identity.errors import ConfigurationError, PolicyFormatError
from agent_identity.options import ToolOptions
from agent_identity.policy import All, Claims, Flow, FlowFacts, Tool

FLOW = Flow()


def asked(
    labels: tuple[str, ...] | None = ("payment",),
    integrity: str = "untrusted",
    destinations: Mapping[str, str] | None = None,
    args: Mapping[str, str] | None = None,
    **more: object,
) -> Request:
    """Return a question about a call after input of an integrity."""
    facts = FlowFacts(integrity, destinations=destinations or {}, args={**(args or {}), **(destinations or {})})
    tool = Tool("pay", labels=labels, **{k: v for k, v in more.items() if k in ("claims", "kind")})
    return Request(tool, {"to": "x"}, flow=facts, **{k: v for k, v in more.items() if k == "stage"})


@pytest.mark.parametrize(
    ("request_", "effect"),
    [
        (asked(), Effect.ROUTE),
        (asked(integrity="unknown"), Effect.ROUTE),
        (asked(integrity="trusted"), Effect.ALLOW),
        (asked(labels=()), Effect.ALLOW),
        (asked(labels=("read",)), Effect.ROUTE),
        (asked(labels=("read",), destinations={"to": "principal"}), Effect.ALLOW),
        (asked(labels=(), claims=Claims(("open-world",))), Effect.ALLOW),
        (asked(labels=None), Effect.ROUTE),
        (asked(labels=(), claims=Claims(("destructive",))), Effect.ROUTE),
        (asked(destinations={"to": "principal"}), Effect.ALLOW),
        (asked(destinations={"to": "principal", "cc": "trusted"}), Effect.ALLOW),
        (asked(destinations={"to": "principal", "cc": "unknown"}), Effect.ROUTE),
        (asked(destinations={"to": "untrusted"}), Effect.ROUTE),
        (asked(("persists",), destinations={"to": "principal"}, args={"text": "untrusted"}), Effect.ROUTE),
        (asked(("persists",), destinations={"to": "principal"}, args={"text": "trusted"}), Effect.ALLOW),
        (asked(("payment",), destinations={"to": "principal"}, args={"text": "untrusted"}), Effect.ALLOW),
        (asked(None, destinations={"to": "principal"}, args={"text": "untrusted"}), Effect.ROUTE),
        (asked(("read",), destinations={"to": "principal"}, args={"text": "untrusted"}), Effect.ROUTE),
        (asked(labels=None, kind="model"), Effect.ALLOW),
        (asked(stage="result"), Effect.ALLOW),
        (Request(Tool("pay", labels=("payment",)), {}), Effect.BLOCK),
    ],
)
def test_consequential_calls_need_a_person_after_input_of_others(request_: Request, effect: Effect) -> None:
    """Only calls whose destinations somebody trusted gave are spared."""
    assert FLOW.decide(request_).effect is effect


@pytest.mark.parametrize(("to", "effect"), [("finance", Effect.ALLOW), ("eve", Effect.ROUTE)])
def test_restricted_content_leaves_only_to_its_readers(to: str, effect: Effect) -> None:
    """A destination that nobody knows as a reader needs a person, also in a task that read trusted input only."""
    facts = FlowFacts("trusted", ("finance", "legal"), destinations={"to": "principal"})
    request = Request(Tool("send", labels=("egress",)), {"to": [to]}, flow=facts)
    assert FLOW.decide(request).effect is effect
    assert FLOW.decide(request._replace(flow=facts._replace(destinations={}))).effect is Effect.ROUTE


def test_rules_ask_about_flow() -> None:
    """Marks, sources and the provenance of one argument are attributes of ordinary rules."""
    rules = RuleSet(
        Rule(
            Effect.BLOCK,
            tools="send_email",
            when={"flow.sources": {"contains": ["read_inbox"]}, "flow.args.to": {"one_of": ["unknown", "untrusted"]}},
        )
    )
    facts = FlowFacts("untrusted", sources=("read_inbox",), args={"to": "unknown"})
    request = Request(Tool("send_email"), {"to": "x"}, flow=facts)
    assert rules.decide(request).effect is Effect.BLOCK
    assert rules.decide(request._replace(flow=facts._replace(args={"to": "principal"}))).effect is Effect.ALLOW
    assert rules.decide(request._replace(flow=None)).reason == "rule_error"
    assert asks_about_flow(rules)
    assert not asks_about_flow(RuleSet(Rule(Effect.BLOCK, tools="x")))


@pytest.mark.parametrize(
    "when", [{"flow.integrity": "bad"}, {"flow.args.": "trusted"}, {"flow.args.to": "high"}, {"flow.mark": "trusted"}]
)
def test_what_can_never_be_true_is_refused(when: Mapping[str, object]) -> None:
    """Misspelled attributes and words are errors where a rule is made."""
    with pytest.raises(PolicyFormatError):
        Rule(Effect.BLOCK, when=when)


def test_the_strictest_of_several_policies_counts(tmp_path: Path) -> None:
    """Files are read, what one states about tools all know, and warnings of all are kept."""
    path = tmp_path / "policy.json"
    path.write_text(
        '{"rules": [{"effect": "warn", "id": "w"}], "tools": {"pay": {"labels": ["payment"], "destination": ["to"]}}}'
    )
    both = All(FLOW, path)
    decision = both.decide(asked(labels=None, destinations={"to": "principal"}))
    assert (decision.effect, decision.warnings, decision.digest) == (Effect.WARN, ("w",), both.digest)
    decision = both.decide(asked(labels=()))
    assert (decision.effect, decision.route, decision.rule) == (Effect.ROUTE, "person", "flow")
    assert (both.flow, has_flow_rules(both), is_built_in(both)) == (True, True, True)
    assert [of.destination for of in flows_about("pay", None, both.tools)] == [("to",)]
    assert both.digest != All(path, FLOW).digest


def test_two_targets_for_one_call_block_it() -> None:
    """Nobody can answer for somebody else: policies that route together name one target."""
    finance = RuleSet(Rule(Effect.ROUTE, to="finance"))
    assert All(FLOW, finance).decide(asked()).effect is Effect.BLOCK
    assert All(Flow(to="finance"), finance).decide(asked()).route == "finance"


def test_a_policy_of_users_asks_by_its_attribute() -> None:
    """A policy of another class says by ``flow`` that marks have to be kept, and is not taken for ours."""

    class Own:
        name, version, digest, flow = "own", "1", "0" * 43, True

        def decide(self, request: Request) -> Decision:
            return Decision(effect=Effect.ALLOW, reason="default")

    assert asks_about_flow(All(Own()))
    assert not is_built_in(All(FLOW, Own()))
    assert not has_flow_rules(Own())


def test_only_an_entry_for_a_server_raises_its_tools() -> None:
    """A tool of the same name on another server does not inherit the trust of the first."""
    rules = RuleSet(
        tools={
            "crm/find": {"returns": "trusted", "raise": True, "server": "crm"},
            "find": {"returns": "trusted", "raise": True},
            "*": {"returns": {"/note": "untrusted"}},
        }
    )
    assert [of.raises for of in flows_about("crm/find", "crm", rules.tools)] == [True, False]
    assert [of.raises for of in flows_about("crm/find", "evil", rules.tools)] == [False]
    assert [of.raises for of in flows_about("find", "evil", rules.tools)] == [False]
    assert [of.raises for of in flows_about("find", None, rules.tools)] == [True, False]


@pytest.mark.parametrize(
    "entry",
    [
        {"returns": "safe"},
        {"returns": {"note": "trusted"}},
        {"returns": []},
        {"destination": []},
        {"destination": [1]},
        {"raise": True},
        {"raise": "yes", "returns": "trusted"},
        {"server": 7, "returns": "trusted"},
    ],
)
def test_malformed_statements_about_tools_are_refused(entry: Mapping[str, object]) -> None:
    """Nothing is loaded of a file with such an entry."""
    with pytest.raises(PolicyFormatError):
        RuleSet(tools={"pay": entry})


@pytest.mark.parametrize("policies", [(), (7,), tuple([FLOW] * 17)])
def test_all_takes_policies_only(policies: tuple[object, ...]) -> None:
    """At least one policy, at most 16, and nothing else."""
    with pytest.raises((TypeError, ValueError)):
        All(*policies)


@pytest.mark.parametrize(
    ("label", "meant"),
    [
        ("payments", "payment"),
        ("Payment", "payment"),
        ("paymnet", "payment"),
        ("external", "egress"),
        ("egres", "egress"),
        ("Egress", "egress"),
        ("destructiv", "destructive"),
        ("persist", "persists"),
        ("persisted", "persists"),
        ("persistend", "persists"),
        ("persistenc", "persists"),
        ("outbounds", "egress"),
        ("internal", None),
        ("day", None),
        ("re-payment", None),
        ("money", None),
        ("crm", None),
        ("progress", None),
    ],
)
def test_labels_near_ours_do_not_load(label: str, meant: str | None) -> None:
    """A misspelled label would switch the flow rules off, so that code, files and rules refuse it and name ours."""

    def check(make: Callable[[], object], kind: type[Exception]) -> None:
        if meant is None:
            make()
            return
        with pytest.raises(kind, match=f"did you mean '{meant}'"):
            make()

    check(lambda: ToolOptions(labels=[label]), ConfigurationError)
    check(lambda: RuleSet(tools={"pay": {"labels": [label]}}), PolicyFormatError)
    check(lambda: Rule(Effect.BLOCK, when={"tool.labels": {"contains": [label]}}), PolicyFormatError)
    assert RuleSet(tools={"pay": {"data": [label]}}).tools[0].data == (label,)


def test_unknown_labels_are_told_where_flow_depends_on_them(caplog: pytest.LogCaptureFixture) -> None:
    """A policy with the flow rules warns of tools whose labels are none of ours; without them labels are free."""
    rules = RuleSet(tools={"crm": {"labels": ["sales"]}, "pay": {"labels": ["payment", "sales"]}, "x": {"labels": []}})
    assert caplog.messages == []
    All(Flow(), rules)
    (told,) = caplog.messages
    assert "crm" in told
    assert "sales" in told


@pytest.mark.parametrize("name", ["findings.categories", "findings.inspectors"])
@pytest.mark.parametrize("word", ["secret.*", "secret.?", "two words"])
def test_a_finding_with_a_wildcard_does_not_load(name: str, word: str) -> None:
    """Names of findings are compared whole, so that a pattern would never match."""
    with pytest.raises(PolicyFormatError, match=name):
        Rule(Effect.BLOCK, when={name: {"contains": [word]}})
    Rule(Effect.BLOCK, when={name: {"contains": ["secret.github-pat"]}})


BOTH = {"tool.labels": {"contains": ["egress"]}, "data.labels": {"contains": ["personal"]}}


@pytest.mark.parametrize(
    ("tools", "when", "warned"),
    [
        ({"send": {"labels": ["egress"], "data": []}, "read": {"labels": [], "data": ["personal"]}}, BOTH, True),
        ({"send": {"labels": ["egress"]}, "read": {"data": ["personal"]}}, BOTH, True),
        ({"send": {"labels": ["egress"], "data": ["personal"]}}, BOTH, False),
        ({"send": {"labels": ["egress"]}, "*": {"data": ["personal"]}}, BOTH, False),
        ({"send": {"labels": ["egress"]}, "read": {"data": ["personal"]}}, {"any": [BOTH, {"args.x": 1}]}, False),
        ({"send": {"labels": ["egress"]}}, BOTH, False),  # Code may state the others.
        ({"send": {"labels": ["egress"]}, "read": {"data": ["personal"]}}, {"args.x": 1}, False),
    ],
)
def test_labels_that_no_tool_states_together_are_told(
    tools: dict[str, Any], when: dict[str, Any], warned: bool, tmp_path: Path
) -> None:
    """A rule about labels of tool and data matches only a tool with both; where none has, loading warns."""
    rules = RuleSet(Rule(Effect.BLOCK, tools="*", when=when, id="pii"), tools=tools)
    assert any("'pii'" in warning and "together" in warning for warning in rules.warnings) is warned
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"rules": [{"effect": "block", "id": "pii", "when": when}], "tools": tools}))
    assert (
        any("together" in warning and "policy.json:1:" in warning for warning in RuleSet.load(file).warnings) is warned
    )
