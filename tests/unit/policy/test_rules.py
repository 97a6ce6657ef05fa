"""Rule sets: which rule decides, whatever the order; and what a rule may say."""

import copy
import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Decision, Effect, Request, Rule, RuleSet
from agent_identity._identity.common.ids import is_digest
from agent_identity._policy.rules import program as program_module
from agent_identity.constraints import Range
from agent_identity.errors import PolicyFormatError
from agent_identity.policy import Tool

OVER = {"args.amount": {"range": {"min": 100}}}


def decide(policy: RuleSet, tool: str = "pay", **arguments: object) -> Decision:
    """Return the decision about a call."""
    return policy.decide(Request(Tool(tool), arguments))


def test_a_decision_says_where_it_comes_from() -> None:
    """Rule, reason, target, and name, version and digest of the policy stand in the decision."""
    policy = RuleSet(
        Rule(Effect.ROUTE, tools="pay*", when=OVER, reason="over 100", id="large", to="desk"),
        name="payments",
        version="3",
    )
    assert decide(policy, amount=100) == Decision(
        effect=Effect.ROUTE,
        reason="policy_routes",
        rule="large",
        why="over 100",
        route="desk",
        policy="payments",
        version="3",
        digest=policy.digest,
    )
    assert decide(policy, amount=99) == Decision(
        effect=Effect.ALLOW, reason="default", policy="payments", version="3", digest=policy.digest
    )


@pytest.mark.parametrize(
    ("effect", "reason"),
    [(Effect.ALLOW, "policy_allows"), (Effect.WARN, "policy_warns"), (Effect.BLOCK, "policy_blocks")],
)
def test_each_effect_has_its_reason(effect: Effect, reason: str) -> None:
    """A matching rule decides with its effect and the reason of that effect, named by its position."""
    decision = decide(RuleSet(Rule(Effect.ALLOW, tools="other"), Rule(effect)))
    assert (decision.effect, decision.reason, decision.rule, decision.why) == (effect, reason, "rule-2", None)


def test_a_closed_world_blocks_what_no_rule_allows() -> None:
    """With the default block only what a rule allows or warns of runs."""
    policy = RuleSet(Rule(Effect.ALLOW, tools="read"), Rule(Effect.WARN, tools="list"), default=Effect.BLOCK)
    assert decide(policy, "read").effect is Effect.ALLOW
    assert decide(policy, "list").effect is Effect.WARN
    closed = decide(policy, "delete")
    assert (closed.effect, closed.reason, closed.rule) == (Effect.BLOCK, "no_rule_allows", None)
    assert decide(RuleSet(default=Effect.BLOCK)).effect is Effect.BLOCK


def test_all_warnings_are_in_the_decision_whatever_it_is() -> None:
    """The ids of all matching warn rules stand in the decision, sorted; the smallest is the rule of a warning."""
    warnings = [Rule(Effect.WARN, id="w2", reason="second"), Rule(Effect.WARN, id="w1", reason="first")]
    undecided = Rule(Effect.WARN, id="w0", when=OVER)
    both = decide(RuleSet(*warnings, undecided))
    assert (both.effect, both.rule, both.why, both.warnings) == (Effect.WARN, "w1", "first", ("w1", "w2"))
    one = decide(RuleSet(warnings[0], undecided))
    assert (one.effect, one.warnings) == (Effect.WARN, ("w2",))
    blocked = decide(RuleSet(*warnings, Rule(Effect.BLOCK, id="b")))
    assert (blocked.effect, blocked.rule, blocked.warnings) == (Effect.BLOCK, "b", ("w1", "w2"))
    routed = decide(RuleSet(warnings[0], Rule(Effect.ROUTE, id="r", to="desk")))
    assert (routed.effect, routed.route, routed.warnings) == (Effect.ROUTE, "desk", ("w2",))


def test_a_matching_block_is_named_before_an_undecidable_rule() -> None:
    """Of a rule that blocks and one that cannot be decided, the one that blocks is the reason."""
    undecided = Rule(Effect.BLOCK, id="a", when=OVER)
    assert decide(RuleSet(undecided, Rule(Effect.BLOCK, id="b"))).rule == "b"
    decision = decide(RuleSet(undecided, Rule(Effect.ROUTE, id="c", to="desk")))
    assert (decision.effect, decision.reason, decision.rule) == (Effect.BLOCK, "rule_error", "a")


# The independent evaluator of rule sets: the definition, written down once more without any index.
RANKS = [Effect.BLOCK, Effect.ROUTE, Effect.WARN, Effect.ALLOW]
TOOLS = ["pay", "pay_all", "read"]
PATTERNS = {
    "*": TOOLS,
    "pay": ["pay"],
    "pay*": ["pay", "pay_all"],
    "????": ["read"],
    "pay_all": ["pay_all"],
    "none": [],
}
MATCHES = {None: lambda _: True, "x": lambda a: a["x"] == 1 if "x" in a else None}
rules_of_any_kind = st.lists(
    st.tuples(
        st.sampled_from(RANKS),
        st.lists(st.sampled_from(sorted(PATTERNS)), min_size=1, max_size=2),
        st.sampled_from([None, "x"]),
    ),
    max_size=7,
)


def _reference(rules, tool, arguments, default):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    found = []
    for number, (effect, patterns, condition) in enumerate(rules):
        truth = MATCHES[condition](arguments)
        if not any(tool in PATTERNS[pattern] for pattern in patterns) or truth is False:
            continue
        if truth is None and effect in (Effect.BLOCK, Effect.ROUTE):
            found.append((0, 1, f"r{number}", Effect.BLOCK, "rule_error"))
        elif truth:
            reason = f"policy_{effect.value}s"
            found.append((RANKS.index(effect), 0, f"r{number}", effect, reason))
    if not found:
        return (default, "default" if default is Effect.ALLOW else "no_rule_allows", None, ())
    _, _, rule, effect, reason = min(found, key=lambda item: item[:3])
    return (effect, reason, rule, tuple(sorted(item[2] for item in found if item[3] is Effect.WARN)))


@given(
    rules=rules_of_any_kind,
    tool=st.sampled_from(TOOLS),
    arguments=st.sampled_from([{}, {"x": 1}, {"x": 2}]),
    default=st.sampled_from([Effect.ALLOW, Effect.BLOCK]),
    shuffle=st.randoms(use_true_random=False),
)
def test_ac_113_the_order_of_rules_does_not_matter(
    rules: list[tuple[Effect, list[str], str | None]],
    tool: str,
    arguments: dict[str, object],
    default: Effect,
    shuffle: random.Random,
) -> None:
    """Any rules in any order decide as the definition says: block, route, warn, allow, smallest id."""
    built = [
        Rule(
            effect,
            tools=patterns,
            when={"args.x": 1} if condition else None,
            id=f"r{number}",
            to="desk" if effect is Effect.ROUTE else None,
        )
        for number, (effect, patterns, condition) in enumerate(rules)
    ]
    policy = RuleSet(*built, default=default)
    shuffle.shuffle(built)
    shuffled = RuleSet(*built, default=default)
    decision = decide(policy, tool, **arguments)
    assert decide(shuffled, tool, **arguments) == decision
    assert decide(shuffled, tool, **arguments) == decision
    summary = (decision.effect, decision.reason, decision.rule, decision.warnings)
    assert summary == _reference(rules, tool, arguments, default)


def test_many_names_of_tools_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules kept ready per tool are bounded, and decisions stay right when they are dropped."""
    monkeypatch.setattr(program_module, "_MAX_PLANS", 3)
    policy = RuleSet(Rule(Effect.BLOCK, tools="bad_*"))
    for number in range(10):
        assert decide(policy, f"bad_{number}").effect is Effect.BLOCK
        assert decide(policy, f"good_{number}").effect is Effect.ALLOW
        assert len(policy._program._plans) <= 3


def test_rules_for_other_tools_are_not_looked_at() -> None:
    """The plan for a tool holds only the rules that can apply to it."""
    policy = RuleSet(*[Rule(Effect.BLOCK, tools=f"tool_{number}") for number in range(1000)])
    assert decide(policy, "tool_7").rule == "rule-8"
    assert len(policy._program._plans["tool_7"].stops) == 1


def test_a_rule_with_a_name_and_a_pattern_applies_once() -> None:
    """A rule that fits a tool in two ways is one rule."""
    policy = RuleSet(Rule(Effect.WARN, tools=["pay", "pay", "p*"]), Rule(Effect.WARN, tools=["pay", "pay"]))
    assert decide(policy).warnings == ("rule-1", "rule-2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tools": ""}, "tools: a tool name is malformed"),
        ({"tools": []}, "tools: tools is no name"),
        ({"tools": None}, "tools: tools is no name"),
        ({"tools": ["pay", 5]}, "tools.1: a tool name is malformed"),
        ({"tools": "pay all"}, "tools: a tool name is malformed"),
        ({"tools": "[pq]ay"}, "tools: a tool name is malformed"),
        ({"tools": "x" * 129}, "tools: a tool name is malformed"),
        ({"reason": "two\nlines"}, "reason: the reason is malformed"),
        ({"reason": "x" * 257}, "reason: the reason is malformed"),
        ({"reason": None}, "reason: the reason is malformed"),
        ({"id": "my rule"}, "id: a name is malformed"),
        ({"id": ""}, "id: a name is malformed"),
        ({"to": "desk"}, "to: a rule with the effect block has a target"),
        ({"effect": Effect.ROUTE}, "to: the rule routes to no target"),
        ({"effect": Effect.ROUTE, "to": "a desk"}, "to: a name is malformed"),
    ],
)
def test_a_malformed_rule_cannot_be_made(changes: dict[str, object], message: str) -> None:
    """A mistake in a rule is an error when it is built, and says where."""
    fields: dict[str, object] = {"effect": Effect.BLOCK, **changes}
    with pytest.raises(PolicyFormatError, match=message) as caught:
        Rule(**fields)  # type: ignore[arg-type]
    assert (caught.value.line, caught.value.column) == (None, None)


@pytest.mark.parametrize("effect", ["block", None, 1])
def test_ac_72_a_rule_has_no_other_effect(effect: object) -> None:
    """A rule with anything but one of the four effects cannot be made."""
    with pytest.raises(TypeError, match="use a member of Effect"):
        Rule(effect)  # type: ignore[arg-type]


def test_rules_are_frozen_values() -> None:
    """Rules and rule sets cannot be changed; equal rules are equal; copies decide alike."""
    rule = Rule(Effect.BLOCK, tools=["pay"], when={"args.a": Range(max=5)})
    assert rule == Rule(Effect.BLOCK, tools="pay", when={"args.a": {"range": {"max": 5}}})
    policy = RuleSet(rule)
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.effect = Effect.ALLOW  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.rules = ()  # type: ignore[misc]
    assert decide(copy.deepcopy(policy), a=1).effect is Effect.BLOCK


def test_a_condition_does_not_follow_later_changes_of_its_data() -> None:
    """Changing the data that a rule was made from does not change the rule."""
    allowed = ["a"]
    when: dict[str, object] = {"args.x": {"one_of": allowed}}
    policy = RuleSet(Rule(Effect.BLOCK, when=when))
    allowed.append("b")
    when.clear()
    assert decide(policy, x="b").effect is Effect.ALLOW
    assert decide(policy, x="a").effect is Effect.BLOCK


@pytest.mark.parametrize(
    ("rules", "changes", "error", "message"),
    [
        (
            [Rule(Effect.BLOCK, id="a"), Rule(Effect.WARN, id="a")],
            {},
            PolicyFormatError,
            "id: .*rule 1 already",
        ),
        ([Rule(Effect.BLOCK, id="rule-2"), Rule(Effect.WARN)], {}, PolicyFormatError, "rules.1.id"),
        ([], {"name": "a policy"}, PolicyFormatError, "name: a name is malformed"),
        ([], {"version": ""}, PolicyFormatError, "version: a name is malformed"),
        ([], {"version": 3}, PolicyFormatError, "version: a name is malformed"),
        ([], {"default": Effect.WARN}, PolicyFormatError, "default is Effect.WARN"),
        ([], {"default": "block"}, TypeError, "default is str"),
        (["block"], {}, TypeError, "is no Rule"),
        ([[Rule(Effect.BLOCK)]], {}, TypeError, "is no Rule"),
    ],
)
def test_a_malformed_rule_set_cannot_be_made(
    rules: list[Rule], changes: dict[str, object], error: type[Exception], message: str
) -> None:
    """Ids are unique, and names, versions and defaults are what they should be."""
    with pytest.raises(error, match=message):
        RuleSet(*rules, **changes)  # type: ignore[arg-type]


def test_the_digest_follows_the_meaning_not_the_order() -> None:
    """Equal rules in another order have the same digest; any other change has another one."""
    one = Rule(Effect.BLOCK, id="a", when={"not": {"args.a": {"any": [1, {"exists": False}]}}})
    other = Rule(Effect.WARN, id="b", when={"any": [{"args.a": 1}, {"args.b": 2}]})
    digest = RuleSet(one, other).digest
    assert digest == RuleSet(other, one).digest
    assert is_digest(digest)
    changed = [
        RuleSet(one),
        RuleSet(one, other, version="2"),
        RuleSet(one, other, name="other"),
        RuleSet(one, other, default=Effect.BLOCK),
        RuleSet(one, Rule(Effect.WARN, id="b", when={"all": [{"args.a": 1}, {"args.b": 2}]})),
        RuleSet(one, Rule(Effect.WARN, id="b", when={"any": [{"args.a": 1}, {"args.b": 3}]})),
        RuleSet(one, Rule(Effect.WARN, id="b", when=other.when, reason="why")),
        RuleSet(one, Rule(Effect.WARN, id="b", when=other.when, tools="pay")),
    ]
    assert len({policy.digest for policy in changed} | {digest}) == len(changed) + 1


def test_a_condition_too_deep_for_a_digest_is_refused() -> None:
    """A condition that has no canonical description is an error of the policy."""
    when: dict[str, object] = {"args.a": 1}
    for _ in range(15):
        when = {"all": [when], "args.a": 1}
    with pytest.raises(PolicyFormatError, match="nested"):
        RuleSet(Rule(Effect.BLOCK, when=when))


def test_a_rule_that_cannot_be_decided_does_not_give_its_own_reason() -> None:
    """People must not read that a call was refused for what the rule says when nobody knows whether it applies."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"args.cabin": "first"}, reason="first class is not paid for"))
    decision = policy.decide(Request(Tool("book"), {"cabin": object()}))
    assert decision.reason == "rule_error"
    assert decision.why is not None
    assert "first class" not in decision.why
