"""The tools that an enforcer knows."""

from agent_identity._enforcement.guard.known_tools import KnownTools, annotated, claims_from
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
    assert annotated({"destructiveHint": True, "openWorldHint": True}) == ("destructive", "open-world")
    for nothing in (None, "destructiveHint", {}, {"destructiveHint": 1, "readOnlyHint": True, "idempotentHint": True}):
        assert annotated(nothing) == ()
