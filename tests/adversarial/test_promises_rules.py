"""Promises about rules: none that cannot be true, none that another type or spelling passes, no silent one.

Points 14, 15 and 16 of the examination: rules that loaded and could never match, lists that let another type through,
paths that some file systems read alike, and rules that say nothing of what they lack or whom they hit.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity import Effect, Enforcer, Human, Request, Rule, RuleSet, Scope
from agent_identity.constraints import Contains, Exact, NotOneOf, OneOf, PathWithin, Subset
from agent_identity.errors import PolicyBlocked, PolicyFormatError
from agent_identity.policy import Tool

IMPOSSIBLE = {
    "agent.provenance: verified": "principal.provenance",
    "agent.provenance: {one_of: [verified]}": "principal.provenance",
    "agent.provenance: {not_one_of: [asserted]}": "principal.provenance",
    "agent.owner: null": "agent.owner: team@example.com",
    'agent.owner: ""': "agent.owner: team@example.com",
    "agent.owner: {exists: false}": "agent.owner: team@example.com",
    "agent.owner: {one_of: [null]}": "agent.owner: team@example.com",
    "agent.owner: {all: [{exists: false}, {prefix: x}]}": "agent.owner: team@example.com",
    "principal.id: ${principal.id}": "write the value itself",
    "args.owner: ${principal.id}": "write the value itself",
    "args.owner: {one_of: [a, 'of ${ agent.owner }']}": "write the value itself",
    "args.path: {path_within: '/home/${principal.id}'}": "write the value itself",
    "args.path: {prefix: '${task.id}-'}": "write the value itself",
    "args.to: {exact: {name: ['${principal.id}']}}": "write the value itself",
    "principal.issuer: null": "exists: false",
    "agent.version: ''": "exists: false",
    "tool.labels: {contains: [42]}": "texts",
    "tool.labels: {contains: ['']}": "texts",
    "principal.roles: {subset: [admin, null]}": "texts",
    "data.labels: {exact: [1]}": "texts",
    "principal.id: 5": "always of type str",
    "principal.id: {one_of: [alice, true]}": "compare with",
    "principal.id: {exists: false}": "compare with",
    "principal.kind: {prefix: robot}": "human, service",
    "principal.kind: {email_domain: a.example}": "human, service",
    "findings.stage: {url_within: 'https://a.example/'}": "call, result",
    "chain.depth: -1": "from 0 to 32",
    "chain.depth: 0.5": "from 0 to 32",
    "chain.depth: {range: {min: 33}}": "from 0 to 32",
    "findings.count: {range: {max: 0, max_inclusive: false}}": "from 0",
    "chain.depth: true": "always of type float, int",
    "chain.has_human: 1": "always of type bool",
    "not: {agent.owner: {exists: true}}": "leave it out",
    "not: {principal.kind: {one_of: [human, service]}}": "leave it out",
    "not: {agent.id: {wildcard: {}}}": "leave it out",
    "not: {findings.count: {range: {min: 0}}}": "leave it out",
    "not: {all: [{agent.owner: {exists: true}}, {task.id: {exists: true}}]}": "leave it out",
    "not: {any: [{agent.owner: {exists: true}}, {task.id: x}]}": "leave it out",
    "not: {tool.name: {any: [{exists: true}, {prefix: x}]}}": "leave it out",
}


@pytest.mark.parametrize("condition", IMPOSSIBLE)
def test_a_rule_that_can_never_be_true_is_refused_with_place_and_right_form(tmp_path: Path, condition: str) -> None:
    """What no call can satisfy is a mistake of the file, at its line and column, with what to write in its place."""
    file = tmp_path / "policy.yaml"
    file.write_text(f"rules:\n  - effect: block\n    when:\n      {condition}\n")
    with pytest.raises(PolicyFormatError) as caught:
        RuleSet.load(file)
    error = caught.value
    assert (error.code, error.line) == ("bad_policy", 4)
    assert error.column is not None
    assert error.column > 7
    assert str(error).startswith(f"{file}:4:{error.column}: ")
    assert IMPOSSIBLE[condition] in str(error)


POSSIBLE = [
    "agent.provenance: asserted",
    "agent.owner: {exists: true}",
    "agent.owner: {any: [{prefix: x}, {exists: false}]}",
    "principal.issuer: {exists: false}",
    "tool.labels: {exists: false}",
    "data.labels: {contains: [restricted]}",
    "tool.labels: {exact: []}",
    "tool.labels: {subset: [a]}",
    "args.shell: {prefix: '${HOME}/'}",
    "args.shell: {contains: ['${IFS}', 'principal.id', '$principal.id']}",
    "args.owner: null",
    "args.owner: ''",
    "args.owner: {exists: false}",
    "not: {args.owner: {wildcard: {}}}",
    "not: {not: {principal.kind: human}}",
    "chain.depth: {range: {min: 32}}",
    "chain.depth: 0.0",
    "chain.has_human: false",
    "findings.count: {range: {min: 1000000}}",
    "findings.count: {not_one_of: [0]}",
    "findings.max_severity: {one_of: [high, medium]}",
    "not: {any: [{principal.kind: human}, {chain.depth: 0}]}",
    "not: {chain.depth: {any: [{range: {max: 3}}, {exists: false}]}}",
]


@pytest.mark.parametrize("condition", POSSIBLE)
def test_a_rule_that_can_be_true_is_not_refused(tmp_path: Path, condition: str) -> None:
    """What some call can satisfy loads; a text that only looks like a template of another language does as well."""
    file = tmp_path / "policy.yaml"
    file.write_text(f"rules:\n  - effect: block\n    when:\n      {condition}\n")
    assert len(RuleSet.load(file).rules) == 1


def test_a_rule_in_python_that_can_never_be_true_is_refused() -> None:
    """Python rules pass the same check as files, and all mistakes of one condition are told."""
    with pytest.raises(PolicyFormatError) as caught:
        Rule(Effect.BLOCK, when={"agent.owner": None, "agent.provenance": "verified", "args.a": Exact("${agent.id}")})
    for place in ("when.agent.owner: ", "when.agent.provenance: ", "when.args.a: "):
        assert place in str(caught.value)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    """One load names every mistake of every rule, in the order of the file, each with line and column."""
    file = tmp_path / "policy.yaml"
    file.write_text(
        "version: 3\n"
        "namez: x\n"
        "tools:\n"
        "  github/*: {labels: third-party, labelz: [a]}\n"
        "rules:\n"
        "  - effect: blok\n"
        "    tools: pay all\n"
        "    when:\n"
        "      principal.kind: robot\n"
        "      all: [{agent.owner: null}, {args.x: {rnage: {min: 1}}}]\n"
        "  - tools: pay\n"
        "    id: one\n"
        "  - effect: route\n"
        "    id: one\n"
        "    to: a desk\n"
    )
    with pytest.raises(PolicyFormatError) as caught:
        RuleSet.load(file)
    error = caught.value
    places = [(problem.line, problem.column) for problem in error.problems]
    assert places == [
        (1, 10), (2, 1), (4, 22), (4, 35), (6, 13), (7, 12), (9, 23), (10, 27), (10, 44), (11, 5), (14, 9), (15, 9),
    ]  # fmt: skip
    assert str(error).split("\n") == [str(problem) for problem in error.problems]
    assert (error.line, error.column, error.code) == (1, 10, "bad_policy")


def test_many_mistakes_are_all_there_and_the_message_stays_short(tmp_path: Path) -> None:
    """The message shows twenty mistakes and counts the others; the error has all."""
    file = tmp_path / "policy.json"
    file.write_text('{"rules": [' + ",\n".join(['{"effect": "blok"}'] * 300) + "]}")
    with pytest.raises(PolicyFormatError) as caught:
        RuleSet.load(file)
    assert len(caught.value.problems) == 300
    assert str(caught.value).count("\n") == 20
    assert "280 more" in str(caught.value)


ELEMENTS: list[tuple[object, object, object]] = [
    (Contains(42), ["42"], None),
    (Contains(42), [42, "x"], True),
    (Contains(42), [41.0], False),
    (Contains(42), [True], None),
    (Contains(42), [], False),
    (Contains("a"), ["b", None], None),
    (Contains("a"), [["a"]], None),
    (Contains("a"), [{"a": "a"}], None),
    (Contains([42]), [["42"]], None),
    (Contains([42]), [[41]], False),
    (Contains(None), [1, "x"], False),
    (Subset(42), ["42"], None),
    (Subset(42), [42], True),
    (Subset(42), [43], False),
    (Subset(None), [1], False),
    (Exact([42]), ["42"], None),
    (Exact([42]), [43], False),
    (Exact([42]), (42,), True),
    (Exact({"a": [42]}), {"a": ["42"]}, None),
    (Exact({"a": [42]}), {"a": [43]}, False),
    (Exact([]), ["42"], False),
    (OneOf([42], "x"), ["42"], None),
    (OneOf([42], "x"), [43], False),
    (NotOneOf([42]), ["42"], None),
    (NotOneOf([42]), [42], False),
    (NotOneOf([42]), [43], True),
]


@pytest.mark.parametrize(("constraint", "value", "verdict"), ELEMENTS)
def test_an_element_of_another_type_is_undecidable(constraint: object, value: object, verdict: object) -> None:
    """A block rule blocks, also negated, whatever has elements of a type that it does not name; no rule allows it."""
    request = Request(Tool("pay"), {"accounts": value})
    reasons = []
    for when in ({"args.accounts": constraint}, {"not": {"args.accounts": constraint}}):
        reasons.append(RuleSet(Rule(Effect.BLOCK, tools="pay", when=when)).decide(request).reason)
        allowed = RuleSet(Rule(Effect.ALLOW, when=when), default=Effect.BLOCK).decide(request).effect is Effect.ALLOW
        assert allowed is (reasons[-1] == "policy_blocks")
    expected = {None: ["rule_error"] * 2, True: ["policy_blocks", "default"], False: ["default", "policy_blocks"]}
    assert reasons == expected[verdict]  # type: ignore[index]


def test_a_list_of_another_type_does_not_pass_a_block(open_world: Callable[..., object]) -> None:
    """A guarded call with "42" in its list does not run where 42 is blocked."""
    policy = RuleSet(Rule(Effect.BLOCK, tools="tool", when={"args.x": {"contains": [42]}}))
    world = open_world(policy=policy)
    tool = world.tool()
    with world.task(Scope("tool")):
        with world.refused("policy_blocks", PolicyBlocked):
            tool([42])
        with world.refused("rule_error", PolicyBlocked):
            tool(["42"])
        assert tool([41]) == [41]


@pytest.mark.parametrize(
    ("when", "arguments", "named"),
    [
        ({"args.amount": {"range": {"min": 5}}}, {}, ["args.amount is missing"]),
        ({"args.to.country": "DE"}, {"to": {}}, ["args.to.country is missing"]),
        ({"args.amount": {"range": {"min": 5}}}, {"amount": "7"}, ["args.amount is of another type"]),
        ({"not": {"any": [{"args.a": 1}, {"args.b": 2}]}}, {"b": 3}, ["args.a is missing"]),
        ({"args.a": 1, "args.b": 2, "args.c": {"exists": False}}, {}, ["args.a is missing", "args.b is missing"]),
        ({"tool.labels": {"contains": ["x"]}}, {}, ["tool.labels is not known"]),
        ({"data.labels": {"contains": ["x"]}}, {}, ["data.labels is not known"]),
    ],
)
def test_a_rule_error_names_what_is_missing(
    when: dict[str, object], arguments: dict[str, object], named: list[str]
) -> None:
    """A refusal by a rule that cannot be decided says which attribute it lacks, and no other, and no value."""
    decision = RuleSet(Rule(Effect.BLOCK, tools="pay", when=when)).decide(Request(Tool("pay"), arguments))
    assert decision.reason == "rule_error"
    assert decision.why is not None
    assert decision.why.count(" is ") == len(named)
    for words in named:
        assert words in decision.why
    assert not any(repr(value) in decision.why for value in arguments.values())


def test_a_rule_error_with_many_long_names_still_fits_into_a_record() -> None:
    """However many attributes are missing and however long they are, the reason is one short line."""
    when = {f"args.{letter * 200}": 1 for letter in "abcde"}
    decision = RuleSet(Rule(Effect.BLOCK, tools="pay", when=when)).decide(Request(Tool("pay"), {}))
    assert decision.why is not None
    assert len(decision.why) <= 256
    assert "args.aaa" in decision.why


def test_the_missing_attribute_reaches_caller_and_record(open_world: Callable[..., object]) -> None:
    """The error and the record of the refusal name the attribute."""
    world = open_world(policy=RuleSet(Rule(Effect.BLOCK, id="big", when={"args.amount": {"range": {"min": 5}}})))
    tool = world.tool()
    with world.task(Scope("tool")), pytest.raises(PolicyBlocked, match=r"args\.amount is missing") as caught:
        tool(1)
    assert caught.value.code == "rule_error"
    (record,) = world.records("outcome")
    assert "args.amount is missing" in record["decision"]["why"]


WIDE = [
    ("effect: block\n    when: {args.amount: {range: {min: 5}}}", True),
    ("effect: route\n    to: desk\n    when: {args.amount: {range: {min: 5}}}", True),
    ("effect: block\n    tools: ['pay', '**']\n    when: {args.amount: 5, principal.kind: service}", True),
    ("effect: block\n    when: {not: {any: [{args.amount: 5}, {tool.kind: mcp}]}}", True),
    ("effect: block\n    when: {args.amount: {all: [{exists: true}, {range: {min: 5}}]}}", False),
    ("effect: block\n    when: {all: [{args.amount: {exists: true}}, {args.amount: 5}]}", False),
    ("effect: block\n    when: {tool.name: pay, args.amount: 5}", False),
    ("effect: block\n    when: {tool.labels: {contains: [money]}, args.amount: 5}", False),
    ("effect: block\n    when: {args.force: {exists: true}}", False),
    ("effect: block\n    when: {principal.kind: service}", False),
    ("effect: block", False),
    ("effect: block\n    tools: pay_*\n    when: {args.amount: 5}", False),
    ("effect: warn\n    when: {args.amount: 5}", False),
    ("effect: allow\n    when: {args.amount: 5}", False),
]


@pytest.mark.parametrize(("rule", "warned"), WIDE)
def test_a_rule_that_would_block_every_other_tool_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rule: str, warned: bool
) -> None:
    """A rule about an argument that names no tools is told at load, with its place; a guarded or narrow one is not."""
    file = tmp_path / "policy.yaml"
    file.write_text(f"rules:\n  - id: big\n    {rule}\n")
    with caplog.at_level(logging.WARNING, "agent_identity"):
        policy = RuleSet.load(file)
    assert bool(policy.warnings) is warned
    assert [record.getMessage() for record in caplog.records] == [f"policy: {warning}" for warning in policy.warnings]
    if warned:
        line, _, text = policy.warnings[0].removeprefix(f"{file}:").partition(":")
        assert int(line) >= 3
        assert "'big'" in text
        assert "args.amount" in text
    blocked = policy.decide(Request(Tool("other", labels=()), {}, Human("alice@example.com"))).reason == "rule_error"
    assert warned or not blocked


SPELLINGS = [
    ("/etc", "/ETC/passwd"),
    ("/etc", "/Etc"),
    ("/etc", "/./etc/passwd"),
    ("/srv/Müller", "/srv/Mu\u0308ller/a"),
    ("/srv/Mu\u0308ller", "/srv/Müller/a"),
    ("/srv/Müller", "/SRV/MÜLLER"),
    ("/srv/straße", "/srv/STRASSE/x"),
    ("/srv/ﬁles", "/srv/files/x"),
    ("/srv/\u1e9b\u0323", "/srv/\u1e69"),
    ("/", "/anything"),
]


@pytest.mark.parametrize(("root", "path"), SPELLINGS)
def test_another_spelling_of_a_blocked_place_is_blocked_on_every_platform(root: str, path: str) -> None:
    """A path that a file system may take for one inside the place is blocked, and never allowed by its spelling."""
    request = Request(Tool("read"), {"path": path})
    block = RuleSet(Rule(Effect.BLOCK, when={"args.path": {"path_within": root}})).decide(request)
    assert block.effect is Effect.BLOCK
    outside = RuleSet(Rule(Effect.BLOCK, when={"not": {"args.path": PathWithin(root)}})).decide(request)
    inside = PathWithin(root).permits(path)
    assert outside.effect is (Effect.ALLOW if inside else Effect.BLOCK)
    allow = RuleSet(Rule(Effect.ALLOW, when={"args.path": PathWithin(root)}), default=Effect.BLOCK).decide(request)
    assert allow.effect is (Effect.ALLOW if inside else Effect.BLOCK)


@pytest.mark.parametrize("path", ["/etcetera", "/data/ETC/passwd", "/E/tc", "/srv/Muller", "/usr/share"])
def test_a_path_that_lies_elsewhere_for_all_file_systems_is_not_blocked(path: str) -> None:
    """No file system takes these for the places of the rule, so that they pass."""
    rule = Rule(Effect.BLOCK, when={"args.path": {"any": [PathWithin("/etc"), PathWithin("/srv/Müller")]}})
    assert RuleSet(rule).decide(Request(Tool("read"), {"path": path})).effect is Effect.ALLOW


def test_a_grant_permits_one_spelling_only() -> None:
    """For a scope another spelling is simply outside, as before."""
    assert PathWithin("/data").permits("/data/x")
    assert not PathWithin("/data").permits("/DATA/x")
    assert not PathWithin("/srv/Müller").permits("/srv/Mu\u0308ller")


def test_a_directory_whose_policy_has_a_mistake_opens_no_enforcer(tmp_path: Path) -> None:
    """A rule that can never be true opens no enforcer, and leaves no directory behind."""
    file = tmp_path / "policy.yaml"
    file.write_text("rules:\n  - effect: block\n    when: {agent.provenance: verified}\n")
    with pytest.raises(PolicyFormatError):
        Enforcer.open(tmp_path / "evidence", policy=file)
    assert not (tmp_path / "evidence").exists()
