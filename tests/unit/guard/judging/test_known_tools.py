"""The tools that an enforcer knows."""

from collections.abc import Callable
from typing import Any

import pytest

from agent_identity._guard.judging.known_tools import KnownTools, claims_from
from agent_identity.policy import Claims, Tool


def test_of_two_tools_of_one_name_the_one_is_kept_of_which_less_is_known() -> None:
    """A second tool of the name does not hide that nobody states the labels of the first."""
    known = KnownTools()
    stated, bare = Tool("a", labels=()), Tool("a")
    for tool, data in ((stated, ()), (bare, ()), (stated, ())):
        known.learn(tool, data)
    assert known.all() == ((bare, ()),)
    known.learn(stated, None)
    known.learn(bare, None)
    assert known.all() == ((bare, None),)


def test_invented_names_do_not_fill_the_memory() -> None:
    """Of so many names only the first ones are kept."""
    known = KnownTools()
    for number in range(10_010):
        known.learn(Tool(str(number)))
    assert len(known.all()) == 10_000


def test_only_texts_are_claims_and_only_warnings_of_servers_are() -> None:
    """What is no label claims nothing, and neither does praise, silence or another form of a hint."""
    assert claims_from(["a", 5, "", "a"], [None]) == Claims(("a",), ())
    assert claims_from([5], [""]) is None
    warned = claims_from(annotations={"destructiveHint": True, "openWorldHint": True})
    assert warned is not None
    assert warned.labels == ("destructive", "open-world")
    for nothing in (None, "destructiveHint", {}, {"destructiveHint": 1, "readOnlyHint": True, "idempotentHint": True}):
        assert claims_from(annotations=nothing) is None


def other() -> str:
    """Return a word."""
    return "other"


def made() -> Callable[..., Any]:
    """Return a function, a new one each time, as a cell of a notebook does."""

    def pay() -> str:
        return "paid"

    return pay


def test_two_functions_of_one_name_are_logged(rehearse: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A scope for one would be a scope for both; the same function again, or made again, is no second one."""
    enforcer = rehearse().enforcer
    one = made()
    for function in (one, made(), one):
        enforcer.tool(function)
    enforcer.tool(other)
    assert not caplog.records
    for _ in range(2):
        enforcer.tool(other, name="pay")
    (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert "'pay'" in record.getMessage()
    rehearse().enforcer.tool(other, name="pay")
    assert len(caplog.records) == 1


def test_invented_functions_do_not_fill_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    """Of so many functions of one name only the first ones are kept and logged; likewise of names."""
    known = KnownTools()
    for number in range(40):
        function = made()
        function.__qualname__ = f"pay_{number}"
        known.learn_function(Tool("pay"), function)
    assert len(caplog.records) == 15
    for number in range(10_010):
        known.learn_function(Tool(str(number)), other)
    known.learn_function(Tool("10005"), made())
    assert len(caplog.records) == 15
