"""Functions that declare what a call touches: in records, for policies, and where they fail."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agent_identity import Denied, Effect, Enforcer, Request, Rule, RuleSet, Scope, records
from agent_identity._record.parts import Resource
from agent_identity.adapters import CallRequest
from agent_identity.errors import ConfigurationError
from agent_identity.policy import Touch, file_touches, http_touches

PERSONAL = RuleSet(Rule(Effect.BLOCK, when={"data.labels": {"contains": ["personal"]}}, id="personal"))


def resources(world: Any) -> list[list[Resource]]:
    """Return the resources of the calls that ran."""
    found = [one for one in records.read(world.directory) if isinstance(one, records.Intent)]
    return [list(one.resources or ()) for one in found]


def refused_resources(world: Any) -> list[list[Resource]]:
    """Return the resources of the calls that were refused."""
    return [list(one.resources or ()) for one in world.details()]


def by_path(arguments: Mapping[str, object]) -> Touch:
    """Declare a folder by an argument, which has to be a text."""
    path = arguments["path"]
    assert isinstance(path, str)
    return Touch("file", "{path}", "read", data=["personal"] if path.startswith("/people") else [])


def test_two_spellings_are_one_resource(opened: Callable[..., Any]) -> None:
    """The record has the template, and the keyed digest of the normal name; the value stands nowhere."""
    world = opened()
    read = world.enforcer.tool(name="read", touches=file_touches("path", "read", roots=["/data"]))(lambda path: path)
    with world.task(Scope("read")):
        for path in ("/data/x/../secret-name", "/data//secret-name", "/data/../etc/passwd"):
            read(path)
    one, two, outside = (found[0] for found in resources(world))
    assert (one.name, outside.name) == ("/data/{path}", "{path}")
    assert one.digest is not None
    assert one.digest == two.digest != outside.digest
    assert not any("secret-name" in str(records.as_dict(one)) for one in records.read(world.directory))


def test_fixed_and_declared_resources_stand_together(opened: Callable[..., Any]) -> None:
    """Also on an event loop, and in the detail of a call that is refused."""
    world = opened()
    touches = [Touch("s3://archive", "log", "write"), http_touches("url", "read")]

    enforcer: Enforcer = world.enforcer

    @enforcer.tool(name="fetch", touches=touches)
    async def fetch(url: str) -> str:
        return url

    with world.task(Scope("fetch", url="https://H.example/a?k=v")):
        asyncio.run(fetch("https://H.example/a?k=v"))
        with pytest.raises(Denied):
            asyncio.run(fetch("https://other.example/"))
    assert [(one.system, one.name) for one in resources(world)[0]] == [
        ("s3://archive", "log"),
        ("https://h.example", "{url}"),
    ]
    assert [one.system for one in refused_resources(world)[0]] == ["s3://archive", "https://other.example"]


def test_policies_see_the_resources_of_the_call(opened: Callable[..., Any]) -> None:
    """A policy of the application may decide by the normal name."""
    seen: list[tuple[str | None, ...]] = []

    class Policy:
        name, version, digest = "seen", "1", "A" * 43

        def decide(self, request: Request) -> object:
            seen.append(tuple(touch.filled for touch in request.tool.touches))
            return RuleSet(Rule(Effect.ALLOW)).decide(request)

    world = opened(policy=Policy())
    with world.task(Scope("read")):
        world.enforcer.tool(name="read", touches=file_touches("path", "read"))(lambda path: path)("/a/../b")
    assert seen == [("/b",)]


def test_labels_of_declared_resources_count(opened: Callable[..., Any]) -> None:
    """A rule about data blocks by the labels that the function declares for this call."""
    world = opened(policy=PERSONAL)
    read = world.enforcer.tool(name="read", data=[], touches=by_path)(lambda path: path)
    with world.task(Scope("read")):
        assert read("/stock/1") == "/stock/1"
        with pytest.raises(Denied) as caught:
            read("/people/1")
    assert caught.value.decision is not None
    assert caught.value.decision.rule == "personal"


@pytest.mark.parametrize("broken", ["raises", "returns"])
def test_a_declaration_that_fails_is_unknown(opened: Callable[..., Any], broken: str) -> None:
    """It raises nothing into the call, is recorded as unknown, and leaves the labels of the data unknown."""

    def fails(arguments: Mapping[str, object]) -> Any:
        if broken == "raises":
            raise RuntimeError(str(arguments))
        return "nothing"

    world = opened()
    with world.task(Scope("read")):
        assert world.enforcer.tool(name="read", data=[], touches=fails)(lambda path: path)("/x") == "/x"
    unknown = Resource(system="unknown", name="unknown", access="execute")
    assert resources(world) == [[unknown]]
    strict = opened(policy=PERSONAL)
    read = strict.enforcer.tool(name="read", data=[], touches=fails)(lambda path: path)
    with strict.task(Scope("read")), pytest.raises(Denied) as caught:
        read("/x")
    assert caught.value.code == "rule_error"
    assert refused_resources(strict) == [[unknown]]


def test_an_unknown_file_keeps_the_rules_about_data_strict(opened: Callable[..., Any]) -> None:
    """A value that a ready-made declaration cannot read blocks where the policy asks about data, and only there."""
    world = opened(policy=PERSONAL)
    read = world.enforcer.tool(name="read", data=[], touches=file_touches("path", "read"))(lambda path: path)
    with world.task(Scope("read")):
        read("/x")
        with pytest.raises(Denied):
            read("~/x")


def test_a_function_cannot_change_arguments_or_use_the_task(opened: Callable[..., Any]) -> None:
    """It gets a copy, and what it does in the name of the task is refused."""
    world = opened()
    enforcer: Enforcer = world.enforcer
    other = enforcer.tool(name="other")(lambda: None)

    def meddles(arguments: Mapping[str, Any]) -> Touch:
        arguments["items"].append("more")
        other()
        return Touch("file", "x", "read")

    def count(items: list[str]) -> int:
        return len(items)

    read = enforcer.tool(name="read", touches=meddles)(count)
    with world.task(Scope("read")):
        assert read(["one"]) == 1


def test_monitor_mode_records_them_as_well(opened: Callable[..., Any]) -> None:
    """A call outside any task has its resources."""
    world = opened(mode="monitor")
    world.enforcer.tool(name="read", touches=file_touches("path", "read"))(lambda path: path)("/x")
    assert [one.name for one in resources(world)[0]] == ["{path}"]


def test_arguments_of_declarations_are_parameters(world: Any) -> None:
    """A ready-made declaration that reads an unknown argument is an error; a block declares no parameters."""
    with pytest.raises(ConfigurationError, match="unknown argument 'file'"):
        world.enforcer.tool(name="read", touches=file_touches("file", "read"))(lambda path: path)
    guard = world.enforcer.guard("read", touches=file_touches("file", "read"))
    with world.task(Scope("read")):
        assert guard.run(CallRequest({"path": "/x"}), lambda _: 1) == 1
    for wrong in (Touch, ["x"], 7, "file"):
        with pytest.raises(TypeError, match="touches"):
            world.enforcer.guard("read", touches=wrong)
