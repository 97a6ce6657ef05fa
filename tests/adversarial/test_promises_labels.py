"""Promise about labels: a rule on labels fails closed on every way in (point 13 of the examination).

A block on restricted data never matched tools of LangChain and MCP, which had no labels. Labels that nobody states are
unknown now; the application and the operator state them; what travels with a tool only makes a decision stricter.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import tool as langchain_tool

from agent_identity import Effect, Request, Rule, RuleSet, Scope
from agent_identity.cli.operate.doctor import diagnose
from agent_identity.errors import ConfigurationError, Denied, PolicyBlocked, PolicyFormatError
from agent_identity.integrations.langchain.protection import protect, unprotect
from agent_identity.policy import Claims, Tool

RESTRICTED = Rule(Effect.BLOCK, id="restricted", when={"data.labels": {"contains": ["restricted"]}})
DESTRUCTIVE = Rule(Effect.BLOCK, id="destructive", when={"tool.labels": {"contains": ["destructive"]}})
PUBLIC = Rule(Effect.ALLOW, id="public", when={"tool.labels": {"contains": ["public"]}})
BOTH = RuleSet(RESTRICTED, DESTRUCTIVE)


def code_of(call: Callable[[], object]) -> str:
    """Return the code with which a call is refused, or ``ran``."""
    try:
        call()
    except Denied as denied:
        return denied.code
    return "ran"


STATED = [
    ({}, "rule_error"),
    ({"labels": []}, "rule_error"),
    ({"data": ()}, "rule_error"),
    ({"labels": [], "data": []}, "ran"),
    ({"labels": ["read-only"], "data": ["public"]}, "ran"),
    ({"labels": ["destructive"], "data": []}, "policy_blocks"),
    ({"labels": [], "data": ["x", "restricted"]}, "policy_blocks"),
    ({"data": ["restricted"]}, "policy_blocks"),
]


@pytest.mark.parametrize(("options", "code"), STATED)
def test_a_guarded_function_whose_labels_are_unknown_is_blocked(
    open_world: Callable[..., Any], options: dict[str, Any], code: str
) -> None:
    """A decorator that says nothing leaves labels unknown, and an empty list says that there are none."""
    world = open_world(policy=BOTH)
    tool = world.tool(**options)
    with world.task(Scope("tool")):
        assert code_of(lambda: tool(1)) == code
    assert bool(world.ran) is (code == "ran")


class Own(BaseTool):
    """A tool whose class runs it."""

    name: str = "tool"
    description: str = "runs"

    def _run(self, x: int) -> int:
        return x


def made(**options: Any) -> list[BaseTool]:
    """Return tools of both kinds."""
    return [
        StructuredTool.from_function(lambda x: x, name="tool", description="runs", **options),
        Own(**options),
    ]


@pytest.mark.parametrize(("options", "code"), STATED)
def test_a_langchain_tool_whose_labels_are_unknown_is_blocked(
    open_world: Callable[..., Any], options: dict[str, Any], code: str
) -> None:
    """What ``protect`` says of a tool counts for it and its later copies, for both kinds of classes."""
    world = open_world(policy=BOTH)
    for tool in made():
        protect(tool, world.enforcer, **options)
        for one in (tool, tool.model_copy(), tool.model_copy(deep=True)):
            with world.task(Scope("tool")):
                assert code_of(lambda one=one: one.invoke({"x": 1})) == code


CLAIMED = [
    {"tags": ["destructive"]},
    {"metadata": {"agent_identity": {"labels": ["destructive"]}}},
    {"metadata": {"agent_identity": {"data": ["restricted"]}}},
    {"metadata": {"destructiveHint": True}, "tags": ["x"]},
]


@pytest.mark.parametrize("claims", CLAIMED)
def test_tags_and_metadata_make_a_decision_stricter(open_world: Callable[..., Any], claims: dict[str, Any]) -> None:
    """A tool that says itself that it is destructive, or touches restricted data, is blocked as such."""
    world = open_world(policy=BOTH)
    for tool in made(**claims):
        protect(tool, world.enforcer, labels=[], data=[])
        with world.task(Scope("tool")):
            assert code_of(lambda tool=tool: tool.invoke({"x": 1})) == "policy_blocks"
    for tool in made():
        protect(tool, world.enforcer, labels=[], data=[])
        changed = tool.model_copy(update=claims)
        with world.task(Scope("tool")):
            assert code_of(lambda tool=tool: tool.invoke({"x": 1})) == "ran"
            assert code_of(lambda changed=changed: changed.invoke({"x": 1})) == "policy_blocks"


@pytest.mark.parametrize(
    "claims",
    [
        {"tags": ["public"]},
        {"tags": []},
        {"metadata": {"agent_identity": {"labels": ["public"], "data": []}}},
        {"metadata": {"readOnlyHint": True, "destructiveHint": False, "agent_identity": {"labels": []}}},
        {"metadata": {"agent_identity": "public", "destructiveHint": "true"}, "tags": None},
        {"metadata": {"agent_identity": {"labels": "public", "data": [5, "", "x" * 300]}}},
    ],
)
def test_what_travels_with_a_tool_opens_nothing(open_world: Callable[..., Any], claims: dict[str, Any]) -> None:
    """What a server may have written neither makes labels known nor satisfies a rule that allows."""
    blocking, closed = open_world(policy=BOTH), open_world(policy=RuleSet(PUBLIC, default=Effect.BLOCK))
    for tool in made(**claims):
        protect(tool, blocking.enforcer)
        with blocking.task(Scope("tool")):
            assert code_of(lambda tool=tool: tool.invoke({"x": 1})) == "rule_error"
        protect(unprotect(tool), closed.enforcer, labels=[])
        with closed.task(Scope("tool")):
            assert code_of(lambda tool=tool: tool.invoke({"x": 1})) == "no_rule_allows"


def test_claims_never_loosen_a_rule_that_asks_for_their_absence() -> None:
    """Where a claim would satisfy a condition that spares a call, the call is judged without the claim as well."""
    unless = RuleSet(Rule(Effect.BLOCK, when={"not": {"tool.labels": {"contains": ["reviewed"]}}}))
    for claims in (None, Claims(("reviewed",))):
        tool = Tool("tool", labels=("third-party",), claims=claims)
        assert unless.decide(Request(tool, {})).effect is Effect.BLOCK
    assert unless.decide(Request(Tool("tool", labels=("reviewed",)), {})).effect is Effect.ALLOW


def test_claims_route_and_warn() -> None:
    """A claim leads to the stricter of two decisions, of every effect, also about the data."""
    policy = RuleSet(
        Rule(Effect.WARN, id="w", when={"tool.labels": {"contains": ["open-world"]}}),
        Rule(Effect.ROUTE, id="r", to="desk", when={"data.labels": {"contains": ["personal"]}}),
    )

    def effect(claims: Claims | None, data: tuple[str, ...] | None = ()) -> Effect:
        return policy.decide(Request(Tool("tool", labels=(), claims=claims), {}, data=data)).effect

    assert effect(None) is Effect.ALLOW
    assert effect(Claims(("open-world",))) is Effect.WARN
    assert effect(Claims(data=("personal",))) is Effect.ROUTE
    assert effect(Claims(("open-world",), ("personal",))) is Effect.ROUTE
    assert effect(Claims(data=("personal",)), None) is Effect.BLOCK


@pytest.mark.parametrize("claims", [{}, *CLAIMED])
def test_a_tool_that_only_the_instrumentor_guards_has_labels_as_well(
    open_world: Callable[..., Any], claims: dict[str, Any]
) -> None:
    """Zero code: the policy file states the labels, and tags and metadata of the tool count."""
    pytest.importorskip("opentelemetry.instrumentation.instrumentor")
    from agent_identity.integrations.langchain_instrumentor import LangChainInstrumentor

    unknown = open_world(policy=BOTH)
    stated = open_world(policy=RuleSet(RESTRICTED, DESTRUCTIVE, tools={"*": {"labels": [], "data": []}}))
    for world, code in ((unknown, "rule_error"), (stated, "policy_blocks" if claims else "ran")):
        instrumentor = LangChainInstrumentor()
        instrumentor.instrument(enforcer=world.enforcer)
        try:
            for tool in made(**claims):
                with world.task(Scope("tool")):
                    assert code_of(lambda tool=tool: tool.invoke({"x": 1})) == code
        finally:
            instrumentor.uninstrument()


def test_other_labels_of_a_guarded_tool_are_an_error_and_change_nothing(open_world: Callable[..., Any]) -> None:
    """Guarding anew without labels keeps them; with others it is refused, so that none are silently ignored."""
    world = open_world(policy=BOTH)
    tool, other = made()
    protect(tool, world.enforcer, labels=["a", "b"], data=[])
    protect(tool, world.enforcer)
    protect(tool, world.enforcer, labels=["b", "a"])
    with pytest.raises(ConfigurationError, match="unprotect"):
        protect([other, tool], world.enforcer, labels=["destructive"])
    with world.task(Scope("tool")):
        assert tool.invoke({"x": 1}) == 1
    protect(other, world.enforcer)
    with pytest.raises(ConfigurationError, match="other data"):
        protect(other, world.enforcer, data=[])
    protect(unprotect(tool), world.enforcer, labels=["destructive"], data=[])
    with world.task(Scope("tool")), pytest.raises(PolicyBlocked):
        tool.invoke({"x": 1})


@pytest.mark.parametrize("options", [{"labels": "destructive"}, {"data": b"x"}, {"labels": 5}, {"data": [5]}])
def test_labels_that_are_no_list_of_texts_are_refused(world: Any, options: dict[str, Any]) -> None:
    """One text in place of a list would be taken for its letters; every way in refuses it."""
    (tool, _) = made()
    for guard in (
        lambda: world.tool(**options),
        lambda: protect(tool, world.enforcer, **options),
        lambda: world.enforcer.guard("tool", **options),
    ):
        with pytest.raises(TypeError):
            guard()
    for options_ in ({"labels": [""]}, {"data": [str(n) for n in range(65)]}):
        with pytest.raises(ValueError, match=r"labels|data"):
            world.enforcer.guard("tool", **options_)


POLICY = """\
rules:
  - {id: restricted, effect: block, when: {data.labels: {contains: [restricted]}}}
  - {id: destructive, effect: block, when: {tool.labels: {contains: [destructive]}}}
tools:
  crm/*: {labels: [third-party], data: []}
  crm/delete_*: {labels: [destructive]}
  crm/export: {data: [restricted]}
  tool: {labels: [], data: []}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Return a policy file that states labels."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    return file


def test_a_policy_file_states_the_labels_of_tools(open_world: Callable[..., Any], policy: Path) -> None:
    """Entries of the file make labels known, for every way in; those that apply to one tool count together."""
    world = open_world(policy=RuleSet.load(policy))
    names = ["tool", "other", "crm/read", "crm/delete_all", "crm/export"]
    scope = Scope(names[0])
    for name in names[1:]:
        scope = scope | Scope(name)
    with world.task(scope):
        found = {name: code_of(lambda name=name: world.tool(name)(1)) for name in names}

        def block(name: str) -> None:
            with world.enforcer.action(name):
                pass

        assert {name: code_of(lambda name=name: block(name)) for name in names} == found
    assert found == {
        "tool": "ran",
        "other": "rule_error",
        "crm/read": "ran",
        "crm/delete_all": "policy_blocks",
        "crm/export": "policy_blocks",
    }


def test_an_entry_of_the_file_adds_to_what_the_application_says(policy: Path) -> None:
    """Neither of the two takes a label away that the other states."""
    rules = RuleSet.load(policy)
    request = Request(Tool("crm/read", labels=("destructive",)), {}, data=())
    assert rules.decide(request).rule == "destructive"
    assert rules.decide(Request(Tool("crm/delete_x", labels=()), {}, data=())).rule == "destructive"


def test_python_and_file_state_labels_alike(policy: Path) -> None:
    """A rule set in Python takes the same entries, which are part of its digest."""
    loaded = RuleSet.load(policy)
    entries = {
        "crm/*": {"labels": ["third-party"], "data": []},
        "crm/delete_*": {"labels": ["destructive"]},
        "crm/export": {"data": ["restricted"]},
        "tool": {"labels": [], "data": []},
    }
    built = RuleSet(RESTRICTED, DESTRUCTIVE, tools=entries)
    assert built.tools == loaded.tools
    assert built.digest != RuleSet(RESTRICTED, DESTRUCTIVE).digest
    with pytest.raises(PolicyFormatError, match=r"tools\.x: the tool has no key"):
        RuleSet(RESTRICTED, tools={"x": {}})


@pytest.mark.parametrize(
    ("entry", "place", "message"),
    [
        ("crm/*: {labels: third-party}", "3:19", "a list of texts"),
        ("crm/*: {labelz: [a]}", "3:11", "unknown key 'labelz'"),
        ("crm/*: {labels: [5]}", "3:19", "labels"),
        ("crm/*: {labels: ['']}", "3:19", "labels"),
        ("crm/*: {}", "3:10", "the tool has no key"),
        ("crm/*: [a]", "3:10", "a mapping of names"),
        ("crm all: {labels: [a]}", "3:3", "a tool name"),
        ("crm/*: {data: null}", "3:17", "a list of texts"),
    ],
)
def test_a_mistake_in_the_labels_of_a_file_has_its_place(tmp_path: Path, entry: str, place: str, message: str) -> None:
    """Entries for tools are checked as strictly as rules, at their line and column."""
    file = tmp_path / "policy.yaml"
    file.write_text(f"rules: [{{effect: block}}]\ntools:\n  {entry}\n")
    with pytest.raises(PolicyFormatError) as caught:
        RuleSet.load(file)
    assert str(caught.value).startswith(f"{file}:{place}: ")
    assert message in str(caught.value)


def test_an_inventory_finds_labels_of_tools_that_are_not_there(policy: Path) -> None:
    """With ``tools=`` an entry for a misspelt tool is a mistake, as a rule for it is."""
    RuleSet.load(policy, tools=["tool", "crm/export"])
    with pytest.raises(PolicyFormatError, match=r"policy\.yaml:7:3: unknown tool 'crm/export'"):
        RuleSet.load(policy, tools=["tool"])


def test_a_rule_for_a_tool_that_is_not_there_is_told_once(
    open_world: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """When the first task has ended, the enforcer knows its tools, and says which a rule means in vain."""
    rules = RuleSet(
        Rule(Effect.BLOCK, id="typo", tools=["delete_invoces", "tool"]),
        Rule(Effect.BLOCK, id="sound", tools=["tool", "also_*", "elsewhere/x", "crm:resource", "block"]),
    )
    world = open_world(policy=rules)
    world.tool(labels=[], data=[])
    with caplog.at_level(logging.WARNING, "agent_identity"):
        for _ in range(2):
            with world.task(Scope("tool") | Scope("block")):
                assert code_of(world.enforcer.action("block").__enter__) == "policy_blocks"
    told = [record.getMessage() for record in caplog.records if "nobody has guarded" in record.getMessage()]
    assert len(told) == 1
    assert "'typo'" in told[0]
    assert told[0].endswith("delete_invoces")


def findings(**options: Any) -> dict[str, list[tuple[str, str]]]:
    """Return what the doctor says about policies, by name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for section, checks in diagnose(**options):
        for check in checks if section == "policy" else ():
            found.setdefault(check.name, []).append((check.status, check.detail))
    return found


def test_the_doctor_lists_guarded_tools_without_labels_before_such_a_policy_is_on(
    open_world: Callable[..., Any], policy: Path
) -> None:
    """With the policy in force, none here, and with a file that is yet to be switched on."""
    world = open_world()
    kept = [
        world.tool("tool"),
        world.tool("bare_x7"),
        world.tool("half_x7", labels=[]),
        world.tool("full_x7", labels=[], data=[]),
    ]
    kept.append(protect(langchain_tool(tagged_x7), world.enforcer))
    now = [each for each in findings()["labels"] if "bare_x7" in each[1]]
    assert [status for status, _ in now] == ["ok", "ok"]
    tool_labels, data_labels = (detail for _, detail in now)
    assert "tagged_x7" in tool_labels
    assert "half_x7" not in tool_labels
    assert "half_x7" in data_labels
    assert "full_x7" not in tool_labels + data_labels
    ahead = [each for each in findings(policy=policy)["labels"] if "bare_x7" in each[1]]
    assert [status for status, _ in ahead] == ["warn", "warn"]
    tool_labels, data_labels = (detail for _, detail in ahead)
    assert "half_x7" not in tool_labels
    assert "half_x7" in data_labels
    assert "tagged_x7" in tool_labels
    assert ": tool" not in tool_labels


def tagged_x7(x: int) -> int:
    """Run."""
    return x


def test_the_doctor_lists_rules_for_tools_that_are_not_there(open_world: Callable[..., Any], tmp_path: Path) -> None:
    """The doctor tells what the log tells, and what was warned of at load, of the policy in force."""
    file = tmp_path / "policy.yaml"
    file.write_text(
        "rules:\n  - {id: typo, effect: block, tools: delete_invoces_x8}\n  - {effect: block, when: {args.x8: 1}}\n"
    )
    world = open_world(policy=RuleSet.load(file))
    world.tool()
    details = [detail for status, detail in findings()["rules"] if status == "warn"]
    assert any("'typo'" in detail and "delete_invoces_x8" in detail for detail in details)
    assert any(detail.startswith(f"{file}:3:") and "args.x8" in detail for detail in details)
