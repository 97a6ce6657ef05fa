"""Abuse of policies: broken files, missing attributes, disguised arguments, rules that disagree."""

import itertools
import re
from pathlib import Path

import pytest

from agent_identity import Agent, Decision, Effect, Human, Request, Rule, RuleSet, Service
from agent_identity._policy.decision.patterns import matches
from agent_identity.constraints import Prefix, Range
from agent_identity.errors import ConfigurationError, PolicyFormatError
from agent_identity.policy import Tool

POLICY = """\
version: "3"
name: payments
default: block
rules:
  - id: limit
    effect: block
    tools: pay_*
    reason: too much
    when:
      all:
        - args.amount: {range: {min: 100, min_inclusive: false}}
        - principal.kind: {one_of: [human]}
        - any: [{args.note: {exists: true}}, {not: {task.purpose: {prefix: pay}}}]
  - effect: route
    to: approval-desk
    tools: [pay_invoice]
"""

KEYS = [
    "version", "name", "default", "rules", "id", "effect", "tools", "reason", "when", "all", "range", "min",
    "min_inclusive", "principal.kind", "one_of", "any", "exists", "not", "task.purpose", "prefix", "to",
]  # fmt: skip
WHOLE = ["version", "name", "default", "rules", "id", "effect", "tools", "reason", "when", "to", "range"]
WRONG = [
    "", "null", "5", "1.5", "true", "{}", "[[]]", "yes", "010", ".nan", "2024-01-01", "&a x", "*a", "!!str x",
    "!!python/object/apply:os.system [x]", "[", "{", "'", '"', "x: y: z", "@x", "%x", "`x`",
]  # fmt: skip


def _misspellings(key: str) -> list[str]:
    return [key[:-1], key + key[-1], f"{key[1]}{key[0]}{key[2:]}", key.upper(), f"{key}s", f"'{key} '", f"x{key}"]


def _broken_files() -> dict[str, str]:
    """Return files with one mistake each, by what is wrong with them."""
    broken: dict[str, str] = {}
    for key in KEYS:
        place = re.compile(rf"(?<![\w.]){re.escape(key)}(?=:)")
        assert place.search(POLICY)
        for word in _misspellings(key):
            broken[f"{key} spelt {word}"] = place.sub(word, POLICY, count=1)
    for key, value in itertools.product(WHOLE, WRONG):
        place = re.compile(rf"(?<![\w.])({re.escape(key)}: ?)(?:\{{.*\}}|[^\n]*)")
        if (key, value) not in {("rules", ""), ("when", "")}:  # There only a comment would be added.
            broken[f"{key} is {value}"] = place.sub(rf"\g<1>{value} #", POLICY, count=1)
    for number, line in enumerate(POLICY.splitlines()):
        if ":" in line and not line.strip().startswith("- "):
            broken[f"line {number} twice"] = POLICY.replace(line, f"{line}\n{line}", 1)
    return broken


BROKEN = _broken_files()


def test_ac_108_there_are_enough_broken_files() -> None:
    """The next test looks at more than two hundred different files, none of which is the sound one."""
    assert len(set(BROKEN.values())) >= 200
    assert POLICY not in BROKEN.values()


def test_ac_108_the_sound_file_loads(tmp_path: Path) -> None:
    """The file that the broken ones are made of is sound."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    assert len(RuleSet.load(file).rules) == 2


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_ac_108_a_broken_file_never_loads_and_has_a_place(tmp_path: Path, text: str) -> None:
    """Each mistake is an error with line and column when the file is loaded, not a rule that never matches."""
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(PolicyFormatError) as caught:
        RuleSet.load(file)
    error = caught.value
    assert error.line is not None
    assert error.column is not None
    assert str(error).startswith(f"{file}:{error.line}:{error.column}: ")
    assert error.line <= text.count("\n") + 1
    assert error.column >= 1


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("rules:", "rulez:", "4:1", "unknown key 'rulez'"),
        ("    tools: pay_*", "    tools: pay_*\n    priority: 1", "8:5", "unknown key 'priority'"),
        ("    effect: block", "    effect: block\n    effect: allow", "7:5", "duplicate key 'effect'"),
        ("    effect: block", "    action: deny", "6:5", "unknown key 'action'"),
    ],
)
def test_ac_109_unknown_and_duplicate_keys_are_refused(
    tmp_path: Path, old: str, new: str, place: str, message: str
) -> None:
    """A misspelt, unknown or repeated key is an error at its place."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.replace(old, new, 1))
    with pytest.raises(PolicyFormatError, match=re.escape(f"policy.yaml:{place}: {message}")):
        RuleSet.load(file)


UNDECIDABLE = {
    "missing": {},
    "null": {"amount": None},
    "text": {"amount": "50"},
    "boolean": {"amount": True},
    "list": {"amount": [50]},
    "not a number": {"amount": float("nan")},
    "opaque": {"amount": object()},
}
CONDITIONS = {
    "plain": {"args.amount": Range(max=100)},
    "negated": {"not": {"args.amount": Range(max=100)}},
    "with another": {"args.amount": Range(max=100), "tool.name": "delete"},
    "alternative": {"any": [{"args.amount": Range(max=100)}, {"tool.name": "create"}]},
    "excluded": {"args.amount": {"not_one_of": [7]}},
}


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize("default", [Effect.ALLOW, Effect.BLOCK])
@pytest.mark.parametrize("arguments", UNDECIDABLE.values(), ids=UNDECIDABLE)
@pytest.mark.parametrize("when", CONDITIONS.values(), ids=CONDITIONS)
def test_ac_110_what_a_rule_cannot_judge_it_never_lets_through(
    effect: Effect, default: Effect, arguments: dict[str, object], when: dict[str, object]
) -> None:
    """An undecidable rule that allows or warns does not match; one that blocks or routes blocks."""
    rule = Rule(effect, tools="delete", when=when, id="r", to="desk" if effect is Effect.ROUTE else None)
    decision = RuleSet(rule, default=default).decide(Request(Tool("delete"), arguments))
    if effect in (Effect.BLOCK, Effect.ROUTE):
        assert (decision.effect, decision.reason, decision.rule) == (Effect.BLOCK, "rule_error", "r")
        assert decision.route is None
    else:
        assert (decision.effect, decision.rule) == (default, None)


def test_ac_110_the_measured_hole_of_others_is_closed() -> None:
    """In a closed world, "allow amounts up to 100" does not let a tool run that has no amount."""
    policy = RuleSet(Rule(Effect.ALLOW, when={"args.amount": Range(max=100)}), default=Effect.BLOCK)
    assert policy.decide(Request(Tool("pay"), {"amount": 100})).effect is Effect.ALLOW
    assert policy.decide(Request(Tool("delete"), {"path": "/"})).reason == "no_rule_allows"


def test_ac_110_exists_guards_what_may_be_missing() -> None:
    """A rule can ask first whether an attribute is there, and is then decidable."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"args.force": {"exists": True}, "args.level": {"range": {"min": 5}}}))
    assert policy.decide(Request(Tool("rm"), {})).effect is Effect.ALLOW
    assert policy.decide(Request(Tool("rm"), {"force": True})).reason == "rule_error"


def test_ac_110_a_call_outside_any_task_has_no_principal() -> None:
    """Without a principal a rule about principals never allows, and always blocks."""
    request = Request(Tool("pay"), {})
    allow = Rule(Effect.ALLOW, when={"principal.kind": "human"})
    block = Rule(Effect.BLOCK, when={"agent.owner": "nobody@example.com"})
    assert RuleSet(allow, default=Effect.BLOCK).decide(request).effect is Effect.BLOCK
    assert RuleSet(block).decide(request).reason == "rule_error"


@pytest.mark.parametrize(
    "value", ["/etc/passwd", "/etc/../etc/passwd", "/data/../etc/passwd", "//etc/passwd", "/data/%2e%2e/etc", "~/x"]
)
def test_ac_110_another_spelling_of_a_place_does_not_pass_a_block(value: str) -> None:
    """A path whose readers disagree is not taken to lie outside the blocked place."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"args.path": {"path_within": "/etc"}}))
    assert policy.decide(Request(Tool("read"), {"path": value})).effect is Effect.BLOCK
    assert policy.decide(Request(Tool("read"), {"path": "/data/etc/passwd"})).effect is Effect.ALLOW


def test_ac_111_a_missing_policy_is_an_error_not_a_permission(tmp_path: Path) -> None:
    """A policy that was named and is not there does not load, and the error names it."""
    with pytest.raises(ConfigurationError, match=r"no policy file at .*policy\.yaml"):
        RuleSet.load(tmp_path / "policy.yaml")


DISGUISED: dict[str, object] = {
    "user": {"role": "admin", "kind": "human"},
    "principal": {"kind": "human", "roles": ["admin"]},
    "principal.kind": "human",
    "principal.roles": ["admin"],
    "agent": {"id": "trusted"},
    "task": {"purpose": "allowed"},
    "chain": {"has_human": True},
    "tool": {"name": "read"},
    "action": "read",
    "ring": 0,
}


@pytest.mark.parametrize(
    "when",
    [
        {"principal.kind": "human"},
        {"principal.roles": {"contains": ["admin"]}},
        {"agent.id": "trusted"},
        {"task.purpose": "allowed"},
        {"chain.has_human": True},
        {"tool.name": "read"},
    ],
)
def test_ac_46_an_argument_cannot_pose_as_a_principal(when: dict[str, object]) -> None:
    """Arguments named like what a policy judges are seen under ``args`` only."""
    policy = RuleSet(Rule(Effect.ALLOW, when=when), default=Effect.BLOCK)
    request = Request(Tool("delete"), DISGUISED, Service("cron"), Agent("bot", owner="ops@example.com"))
    assert policy.decide(request).effect is Effect.BLOCK
    assert policy.decide(request._replace(principal=None, agent=None)).effect is Effect.BLOCK


def test_ac_46_such_arguments_are_still_visible_as_arguments() -> None:
    """What an argument of that name holds can be judged, as an argument."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"args.user.role": "admin"}))
    assert policy.decide(Request(Tool("x"), DISGUISED, Human("alice@example.com"))).effect is Effect.BLOCK


def test_ac_59_no_text_makes_a_rule_slow() -> None:
    """Patterns of tools and constraints on text take time in proportion to the text, whatever it is."""
    assert not matches("*a" * 60 + "*b", "a" * 100_000)
    policy = RuleSet(Rule(Effect.BLOCK, tools="*", when={"args.text": Prefix("aaaa")}))
    assert policy.decide(Request(Tool("a" * 100_000), {"text": "a" * 1_000_000})).effect is Effect.BLOCK


def test_ac_72_an_unknown_effect_cannot_be_decided(tmp_path: Path) -> None:
    """No decision, no rule and no file can carry an effect that nobody handles."""
    with pytest.raises(TypeError):
        Decision(effect="audit", reason="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Rule("audit")  # type: ignore[arg-type]
    file = tmp_path / "policy.json"
    file.write_text('{"rules": [{"effect": "audit"}]}')
    with pytest.raises(PolicyFormatError, match="unknown effect 'audit'"):
        RuleSet.load(file)
    assert {effect.value for effect in Effect} == {"allow", "warn", "block", "route"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_ac_113_the_stronger_effect_wins_in_any_order(order: tuple[int, ...]) -> None:
    """Block wins over route, route over warn, warn over allow, wherever the rules stand."""
    rules = [
        Rule(Effect.BLOCK, id="b", when={"args.level": Range(min=3)}),
        Rule(Effect.ROUTE, id="r", when={"args.level": Range(min=2)}, to="desk"),
        Rule(Effect.WARN, id="w", when={"args.level": Range(min=1)}),
        Rule(Effect.ALLOW, id="a"),
    ]
    policy = RuleSet(*(rules[index] for index in order), default=Effect.BLOCK)
    decided = [policy.decide(Request(Tool("t"), {"level": level})).rule for level in range(4)]
    assert decided == ["a", "w", "r", "b"]


def test_ac_114_a_warning_runs_and_is_named() -> None:
    """A warning lets the call run, even in a closed world, and names its rule and reason."""
    policy = RuleSet(Rule(Effect.WARN, id="w", reason="may hold personal data"), default=Effect.BLOCK)
    decision = policy.decide(Request(Tool("read"), {}))
    assert (decision.effect, decision.reason, decision.warnings) == (Effect.WARN, "policy_warns", ("w",))
    assert decision.why == "may hold personal data"


def test_ac_115_a_route_names_who_takes_over() -> None:
    """A routed call carries the name of the target; a route without one cannot be written."""
    policy = RuleSet(Rule(Effect.ROUTE, to="approval-desk"))
    decision = policy.decide(Request(Tool("pay"), {}))
    assert (decision.effect, decision.route) == (Effect.ROUTE, "approval-desk")
    with pytest.raises(PolicyFormatError, match="routes to no target"):
        Rule(Effect.ROUTE)
    with pytest.raises(ValueError, match="route and effect do not fit"):
        Decision(effect=Effect.ROUTE, reason="policy_routes")
