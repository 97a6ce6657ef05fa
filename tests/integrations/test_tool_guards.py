"""The part that the adapters of all frameworks share: guards by name, the acting agent, defaults of schemas."""

import asyncio
import logging
from dataclasses import replace
from typing import Any, Literal

import pytest

from agent_identity import Agent, Denied, Effect, Human, Rule, RuleSet, Scope, records
from agent_identity._guard.common.failures import refusal
from agent_identity._identity.common.tool_names import tool_name
from agent_identity.adapters import Call, CallRequest, Part, Prompt, ToolCall, ToolGuards, shown
from agent_identity.approvals import Approval
from agent_identity.constraints import Contains
from agent_identity.errors import ConfigurationError, ContentBlocked
from agent_identity.inspection import PersonalData
from agent_identity.integrations.frameworks.tool_schemas import schema_of, with_defaults
from agent_identity.limits import Limit
from agent_identity.options import ToolOptions
from agent_identity.policy import Flow, Touch
from agent_identity.testing import Rehearse

CLERK = Agent("clerk", owner="fin@example.com")
HELPER = Agent("helper", owner="fin@example.com")
WHO = {"principal": Human("alice@example.com"), "agent": CLERK}


def asked(name: str = "read", acting: str | None = None, **arguments: object) -> ToolCall:
    """Return a call of a tool."""
    return ToolCall(name, CallRequest(arguments), acting)


def body(call: Call) -> object:
    """Return what was judged."""
    return dict(call.arguments)


async def later(call: Call) -> object:
    """Return what was judged, from a coroutine."""
    return dict(call.arguments)


def made(guards: ToolGuards, call: ToolCall, *, on_a_loop: bool) -> object:
    """Run a call in one of the two ways."""
    return asyncio.run(guards.run_async(call, later)) if on_a_loop else guards.run(call, body)


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_an_agent_that_is_named_acts_by_a_delegation_of_its_own(rehearse: Rehearse, on_a_loop: bool) -> None:
    """Only calls of the named agent have it in their chain; the agent of the task and others add no hop."""
    world = rehearse()
    guards = ToolGuards(world.enforcer, agents={"support": HELPER, "root": CLERK})
    with world.enforcer.task("look", scope=Scope("read"), **WHO):
        for acting in ("support", "root", None, "nobody"):
            assert made(guards, asked(acting=acting, x=1), on_a_loop=on_a_loop) == {"x": 1}
    assert [call.agents for call in world.records.calls()] == [("clerk", "helper"), *[("clerk",)] * 3]
    world.records.assert_attributed(principal="alice@example.com", agent=HELPER, count=1)


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_an_agent_with_a_scope_is_refused_beyond_it(rehearse: Rehearse, on_a_loop: bool) -> None:
    """A scope beside the agent narrows its calls, and one that is too wide refuses them all, on record."""
    world = rehearse()
    narrow, wide = (HELPER, Scope("read", x=1)), (HELPER, Scope("pay"))
    guards = ToolGuards(world.enforcer, agents={"narrow": narrow, "wide": wide})
    with world.enforcer.task("look", scope=Scope("read"), **WHO):
        assert made(guards, asked(acting="narrow", x=1), on_a_loop=on_a_loop) == {"x": 1}
        for acting in ("narrow", "wide"):
            with pytest.raises(Denied) as refused:
                made(guards, asked(acting=acting, x=2), on_a_loop=on_a_loop)
            assert refused.value.reference is not None
    world.records.assert_denied(code="argument_out_of_scope", tool="read", count=1)
    assert {refused.value.reference} <= {record.id for record in world.records}


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_monitor_mode_refuses_no_delegation(rehearse: Rehearse, on_a_loop: bool) -> None:
    """In monitor mode a call runs as the agent of the task where its own agent may not act."""
    world = rehearse(mode="monitor")
    guards = ToolGuards(world.enforcer, agents={"wide": (HELPER, Scope("pay"))})
    with world.enforcer.task("look", scope=Scope("read"), **WHO):
        assert made(guards, asked(acting="wide", x=2), on_a_loop=on_a_loop) == {"x": 2}
    assert [(call.outcome, call.agents) for call in world.records.calls("read")][-1] == ("success", ("clerk",))


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_outside_any_task_a_call_is_refused_and_recorded(rehearse: Rehearse, on_a_loop: bool) -> None:
    """Without a task nobody acts, whatever the framework calls its agent."""
    world = rehearse()
    guards = ToolGuards(world.enforcer, agents={"support": HELPER})
    with pytest.raises(Denied):
        made(guards, asked(acting="support"), on_a_loop=on_a_loop)
    world.records.assert_denied(code="no_task", tool="read", count=1)


class Later(Exception):
    """Suspends a call."""


def suspended(_request: object) -> str:
    """Ask nobody."""
    raise Later


@pytest.mark.parametrize(("mode", "waits"), [("enforce", True), ("monitor", False)])
def test_whether_a_call_would_wait_for_a_person_is_asked_without_a_record(
    rehearse: Rehearse, mode: Literal["enforce", "monitor"], waits: bool
) -> None:
    """Only a call that would be suspended waits; asking takes nothing from limits, and writes nothing."""
    rules = RuleSet(Rule(Effect.ROUTE, tools="read", when={"args.x": 1}, to="people", reason="ask", id="ask"))
    world = rehearse(mode=mode, policy=rules, routes={"people": Approval(ask=suspended, suspends=(Later,))})
    guards = ToolGuards(world.enforcer)
    guard = guards.of("read")
    assert (guards.may_suspend, guard.can_suspend) == (waits, waits)
    with world.enforcer.task("look", scope=Scope("read"), limits=[Limit.uses("read", 1)], **WHO):
        before = len(list(world.records))
        requests = [CallRequest({"x": number}) for number in (1, 2, 2, object())]
        answers = [asyncio.run(guard.waits_async(request)) for request in requests]
        assert answers == [waits, False, False, False]
        assert len(list(world.records)) == before
        assert guards.run(asked(x=2), body) == {"x": 2}


def test_without_a_channel_that_suspends_nothing_waits(rehearse: Rehearse) -> None:
    """Other routes do not suspend calls."""
    guards = ToolGuards(rehearse(routes={"people": lambda call: call.tool}).enforcer)
    assert not guards.may_suspend
    assert not asyncio.run(guards.of("read").waits_async(CallRequest({"x": 1})))


def test_names_that_a_model_made_up_have_guards_within_bounds(rehearse: Rehearse) -> None:
    """Unfit names share one guard, and thousands of names replace each other."""
    world = rehearse()
    guards = ToolGuards(world.enforcer)
    assert guards.of("a\x00b").tool.name == guards.of("").tool.name == "unnamed_tool"
    first = guards.of("tool-0")
    assert guards.of("tool-0") is first
    for number in range(1, 1_100):
        guards.of(f"tool-{number}")
    assert guards.of("tool-0") is not first


def test_an_agent_without_a_name_of_ours_is_logged_once(rehearse: Rehearse, caplog: pytest.LogCaptureFixture) -> None:
    """The first agent of a run is taken for that of the task; each further one that is not named is told once."""
    world = rehearse()
    guards = ToolGuards(world.enforcer)
    with caplog.at_level(logging.WARNING), world.enforcer.task("look", scope=Scope("read"), **WHO):
        for acting in ("root", "root", "other", "other"):
            guards.run(asked(acting=acting), body)
    assert [record.args for record in caplog.records] == [("other",)]


@pytest.mark.parametrize("agents", [{"a": "helper"}, {"a": (HELPER,)}, {"a": (HELPER, "read")}, {1: HELPER}])
def test_what_is_no_agent_is_refused_at_once(rehearse: Rehearse, agents: dict[str, Agent]) -> None:
    """A wrong type is told where the adapter is made, not at the first call."""
    with pytest.raises(TypeError, match="agents="):
        ToolGuards(rehearse().enforcer, agents=agents)


def test_defaults_of_the_schema_are_judged_and_not_supplied() -> None:
    """What the body adds itself is in the arguments, and only what the model wrote counts as supplied."""
    schema = {"properties": {"a": {"type": "integer", "default": 7}, "b": {"type": "string"}, "c": True}}
    assert with_defaults({"b": "x"}, schema) == ({"a": 7, "b": "x"}, ("b",))
    assert with_defaults({"a": 1}, schema) == ({"a": 1}, ("a",))
    assert with_defaults({"a": 1}, None) == with_defaults({"a": 1}, {"properties": []}) == ({"a": 1}, ("a",))


class Unhashable:
    """A callable object without a hash."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, a: int = 1) -> None:
        """Take one argument."""


def test_the_schema_of_a_function_has_its_defaults_that_are_json() -> None:
    """A function that takes any name says so; a built-in one may tell nothing."""

    def read(a: str, b: int = 7, c: object = object(), **more: str) -> None:
        """Take arguments."""

    properties = {"a": {}, "b": {"default": 7}, "c": {}, "more": {}}
    assert schema_of(read) == {"properties": properties, "additionalProperties": True}
    assert schema_of(Unhashable()) == {"properties": {"a": {"default": 1}}, "additionalProperties": False}
    assert schema_of(dict) is None


OPTIONS = ToolOptions(labels=["payment"], destination=["to"], returns="trusted")
SCHEMA = {"properties": {"to": {"type": "string"}, "amount": {}}}


@pytest.mark.parametrize(
    ("kind", "server", "options", "counts"),
    [
        ("function", None, OPTIONS, True),
        ("agent", None, OPTIONS, True),
        ("mcp", "files", OPTIONS, True),
        ("mcp", None, OPTIONS, False),
        ("model", None, OPTIONS, False),
        ("streamed_model", None, OPTIONS, False),
        ("prompt", None, OPTIONS, True),
    ],
)
def test_options_are_about_one_tool_here_or_of_a_server(
    rehearse: Rehearse, kind: str, server: str | None, options: ToolOptions, counts: bool
) -> None:
    """Declarations of a tool do not apply to one of another server, or of an unknown one that chose the name."""
    name = tool_name(server, "pay")
    guards = ToolGuards(rehearse().enforcer, tool_options={name: options})
    assert guards.of(name, kind=kind, server=server).tool.labels == (("payment",) if counts else None)
    assert guards.of("other/pay", kind="mcp", server="other").tool.labels is None
    assert guards.of("read").tool.labels is None


@pytest.mark.parametrize("wrong", [["read"], {"read": {"returns": "trusted"}}, {1: OPTIONS}])
def test_options_of_another_type_are_refused_at_once(rehearse: Rehearse, wrong: Any) -> None:
    """The adapter rejects options of a wrong type when it is created."""
    with pytest.raises(TypeError, match="tool_options"):
        ToolGuards(rehearse().enforcer, tool_options=wrong)


@pytest.mark.parametrize("wrong", ["false", 1, None])
def test_whose_words_messages_are_is_a_bool(rehearse: Rehearse, wrong: Any) -> None:
    """A text of a configuration would be true whatever it says."""
    with pytest.raises(TypeError, match="principal_messages"):
        ToolGuards(rehearse().enforcer, principal_messages=wrong)


def test_words_of_people_count_only_where_prompts_are_guarded(rehearse: Rehearse) -> None:
    """Without the name of model calls the option would count for nothing; a name unfit for records is an error too."""
    world = rehearse()
    with pytest.raises(ConfigurationError, match="principal_messages"):
        ToolGuards(world.enforcer, principal_messages=True)
    with pytest.raises(ValueError, match="characters"):
        ToolGuards(world.enforcer, model="", principal_messages=True)
    assert ToolGuards(world.enforcer, model="chat", principal_messages=True).are_principals


def test_guards_of_one_tool_declare_the_same(rehearse: Rehearse, caplog: pytest.LogCaptureFixture) -> None:
    """Of two declarations one would count for nothing; in monitor mode this is logged."""
    enforcer = rehearse().enforcer
    guards = ToolGuards(enforcer, tool_options={"pay": OPTIONS})
    guards.agree(ToolGuards(enforcer, tool_options={"pay": replace(OPTIONS), "read": OPTIONS}), "pay")
    for options in ({"pay": ToolOptions(labels=[])}, {}):
        with pytest.raises(ConfigurationError, match="equal ones"):
            guards.agree(ToolGuards(enforcer, tool_options=options), "pay")
    watching = rehearse(mode="monitor").enforcer
    ToolGuards(watching, tool_options={"pay": OPTIONS}).agree(ToolGuards(watching), "pay")
    assert "equal ones" in caplog.text


def test_options_for_a_function_that_declares_itself_are_logged_in_monitor_mode(
    rehearse: Rehearse, caplog: pytest.LogCaptureFixture
) -> None:
    """The function keeps its guard, and the error is logged once; options for a server's tool are about another."""
    enforcer = rehearse(mode="monitor").enforcer

    @enforcer.tool
    def read() -> str:
        """Read."""
        return "read"

    for name, logged in (("files/read", 0), ("read", 1)):
        guards = ToolGuards(enforcer, tool_options={name: ToolOptions(labels=[])})
        for _ in range(2):
            assert guards.of("read", function=read).tool.labels is None
        assert caplog.text.count("declares itself") == logged


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"returns": "good"}, ValueError),
        ({"destination": ""}, ValueError),
        ({"labels": "payment"}, TypeError),
        ({"touches": "crm"}, TypeError),
        ({"endorses": True}, ValueError),
        ({"restores": {"to": "!"}}, ValueError),
        ({"lazy": "later"}, ConfigurationError),
    ],
)
def test_malformed_options_are_refused_at_once(wrong: dict[str, Any], error: type[Exception]) -> None:
    """Each parameter is checked as ``enforcer.tool`` checks it."""
    with pytest.raises(error):
        ToolOptions(**wrong)


@pytest.mark.parametrize(
    "options",
    [
        ToolOptions(destination=["to", "cc?"]),
        ToolOptions(restores={"cc": "pii"}),
        ToolOptions(touches=Touch("crm", "mails/{cc}", "send")),
    ],
)
def test_an_argument_that_the_tool_does_not_have_refuses_its_calls(
    rehearse: Rehearse, caplog: pytest.LogCaptureFixture, options: ToolOptions
) -> None:
    """A misspelled argument is an error, which monitor mode only logs; an open schema accepts any name."""
    guards = ToolGuards(rehearse().enforcer, tool_options={"send": options})
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="cc"):
            guards.of("send", schema=SCHEMA)
    assert guards.of("send", schema={**SCHEMA, "additionalProperties": True})
    guards = ToolGuards(rehearse().enforcer, tool_options={"send": options})
    assert guards.of("send")  # Without a schema, as for a tool that is missing; that compares nothing.
    with pytest.raises(ConfigurationError, match="cc"):
        guards.of("send", schema=SCHEMA)
    watching = ToolGuards(rehearse(mode="monitor").enforcer, tool_options={"send": options})
    assert watching.of("send", schema=SCHEMA)
    assert "cc" in caplog.text


def test_declared_names_that_nobody_guards_are_logged_once(
    rehearse: Rehearse, caplog: pytest.LogCaptureFixture
) -> None:
    """They are logged after the first task with a call, and not when a part of a task ends."""
    world = rehearse()
    guards = ToolGuards(
        world.enforcer, agents={"support": HELPER}, tool_options={"read": OPTIONS, "red": OPTIONS, "late": OPTIONS}
    )
    for _ in range(2):
        with world.enforcer.task("look", scope=Scope("read") | Scope("late"), **WHO):
            guards.run(asked(acting="support"), body)
            guards.run(asked("late"), body)
    told = [record.getMessage() for record in caplog.records if "tool_options" in record.getMessage()]
    assert told == ["tool_options names tools that nobody has guarded yet: red"]


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_a_function_of_another_enforcer_is_guarded_by_this_one(rehearse: Rehearse, on_a_loop: bool) -> None:
    """Only a guard of the same enforcer replaces that of the adapter."""
    one, other = rehearse(), rehearse()

    @one.enforcer.tool
    def read() -> str:
        """Read."""
        return "read"

    call = asked()._replace(function=read)
    with one.enforcer.task("look", scope=Scope("read"), **WHO):
        assert made(ToolGuards(one.enforcer), call, on_a_loop=on_a_loop) == {}
    with other.enforcer.task("look", scope=Scope("read"), **WHO):
        assert made(ToolGuards(other.enforcer), call, on_a_loop=on_a_loop) == {}
    assert [len(world.records.calls()) for world in (one, other)] == [0, 1]


class Note:
    """An object that no inspector can read, and that a framework converts to text."""

    def __repr__(self) -> str:
        return "<Note of bob@example.com>"


@pytest.mark.parametrize("result", [Note(), [Note()], ("a", {"notes": [1, Note()]}), {"note": Note()}, {Note()}])
def test_the_text_of_an_object_is_inspected_wherever_it_is_in_a_result(rehearse: Rehearse, result: object) -> None:
    """A rule about what stands in the text holds for an object inside a list as for one that is the whole result."""
    when = {"findings.stage": "result", "findings.categories": Contains("pii.email")}
    world = rehearse(policy=RuleSet(Rule(Effect.BLOCK, when=when, id="no-mail")), inspectors=[PersonalData()])
    guards = ToolGuards(world.enforcer)
    with world.enforcer.task("look", scope=Scope("read"), **WHO), pytest.raises(ContentBlocked):
        guards.run(asked(), lambda _: shown(result))


@pytest.mark.parametrize("result", ["text", None, [1, {"a": ["b"]}], ("x", None), {"n": 2.5}, [b"bytes"]])
def test_a_result_that_inspectors_read_is_passed_on_as_it_is(result: object) -> None:
    """Plain data need no text, and keep their digest."""
    assert shown(result) is result


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_what_a_model_reads_is_known_by_its_content(rehearse: Rehearse, on_a_loop: bool) -> None:
    """Results, refusals and errors are accounted for; other texts are not, and lower the mark once."""
    world = rehearse(policy=Flow())  # type: ignore[call-arg]
    options = {name: ToolOptions(labels=[], returns="trusted") for name in ("read", "fail")}
    guards = ToolGuards(world.enforcer, tool_options=options)

    def answer(_: Call) -> object:
        return "an answer"

    async def answer_later(call: Call) -> object:
        return answer(call)

    def asks(*contents: object) -> None:
        prompt = Prompt(lambda: [Part("other", content) for content in contents], lambda said: [said])
        call = ToolCall("chat", CallRequest({}), kind="model", prompt=prompt)
        if on_a_loop:
            asyncio.run(guards.run_async(call, answer_later))
        else:
            guards.run(call, answer)

    def fails(_: Call) -> object:
        raise ValueError("it broke")

    def marks() -> list[str]:
        return [one.mark.label for one in records.read(world.directory) if isinstance(one, records.Mark)]

    scope = Scope({"read": {"x": 1}, "fail": {}, "chat": {}})
    with world.enforcer.task("look", scope=scope, request="look", **WHO):
        made(guards, asked(x=1), on_a_loop=on_a_loop)
        with pytest.raises(Denied) as refused:
            made(guards, asked(x=2), on_a_loop=on_a_loop)
        with pytest.raises(ValueError, match="broke"):
            guards.run(asked("fail"), fails)
        asks("look", {"x": 1}, str({"x": 1}), refusal(refused.value), "it broke")
        asks("an answer")
        assert marks() == ["trusted"]
        asks("an answer", "of somebody else")
        asks("of somebody else")
    assert marks() == ["trusted", "unknown"]


def test_results_that_are_still_going_to_run_are_left_alone(rehearse: Rehearse) -> None:
    """Accounting does not read a generator, because that would consume it."""
    world = rehearse(policy=Flow())  # type: ignore[call-arg]
    guards = ToolGuards(world.enforcer, tool_options={"read": ToolOptions(labels=[])})
    with world.enforcer.task("look", scope=Scope("read"), request="look", **WHO):
        result: Any = guards.run(asked(), lambda _: (number for number in range(3)))
        assert list(result) == [0, 1, 2]
        cyclic: list[Any] = []
        cyclic.append(cyclic)
        assert guards.run(asked()._replace(contents=lambda _: [cyclic]), body) == {}


class SilentError(Exception):
    """An error without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_what_cannot_be_read_lowers_the_mark_and_ends_no_run(rehearse: Rehearse, on_a_loop: bool) -> None:
    """A part that cannot be written is unknown, a prompt that cannot be read untrusted; errors stay those of tools."""
    world = rehearse(policy=Flow())  # type: ignore[call-arg]
    guards = ToolGuards(world.enforcer, tool_options={"fail": ToolOptions(labels=[], returns="trusted")})
    cyclic: list[Any] = []
    cyclic.append(cyclic)

    def broken() -> list[Part]:
        raise KeyError("role")

    def fails(_: Call) -> object:
        raise SilentError

    with world.enforcer.task("look", scope=Scope("chat") | Scope("fail"), request="look", **WHO):
        for parts in (lambda: [Part("person", cyclic)], broken):
            prompt = Prompt(parts, lambda _: ())
            asking = ToolCall("chat", CallRequest({}), kind="model", prompt=prompt)
            assert made(guards, asking, on_a_loop=on_a_loop) == {}
        with pytest.raises(SilentError):
            guards.run(asked("fail"), fails)
    found = [one.mark.label for one in records.read(world.directory) if isinstance(one, records.Mark)]
    assert found[:3] == ["trusted", "unknown", "untrusted"]
