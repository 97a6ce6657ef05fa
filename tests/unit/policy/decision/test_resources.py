"""What a tool touches: systems as OpenLineage names them, names with arguments in them, and labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Effect, Request, Rule, RuleSet
from agent_identity._policy.decision.resources import (
    check_parameters,
    check_touches,
    filled_name,
    has_placeholders,
    with_data_of,
)
from agent_identity.errors import ConfigurationError
from agent_identity.policy import Tool, Touch

PLACE = Touch("s3://bucket", "{region}/invoices/{number}.pdf", "read")


@pytest.mark.parametrize(
    "system",
    [
        "postgres://db.example.com:5432",
        "mysql://[::1]:3306",
        "s3://bucket",
        "abfss://container@service.dfs.core.windows.net",
        "azurecosmos://host/dbs/orders",
        "arn:aws:glue:eu-west-1:123456789012",
        "spanner://project:instance",
        "bigquery",
        "file",
    ],
)
def test_systems_of_openlineage_are_systems(system: str) -> None:
    """The namespaces of its naming rule are accepted as they are."""
    assert Touch(system, "x", "read").system == system


@pytest.mark.parametrize(
    "system",
    [
        *("", "Postgres://db", "post gres", "postgres://", "postgres:", "://db", "s3://bucket?key=1", "s3://b#x"),
        *("postgres://user:secret@db", "s3://{bucket}", "postgres://dé", "x" * 257, "s3://b\n", " file"),
    ],
)
def test_other_texts_are_no_systems(system: str) -> None:
    """What names no system, holds a password, or has parts that arguments fill, is refused."""
    with pytest.raises(ValueError, match="system of a touch"):
        Touch(system, "x", "read")


@pytest.mark.parametrize(
    "name", ["", "{", "a}", "{}", "a{b}c}", "{{a}}", "{a{b}}", "x" * 257, "a\nb", " a", "spiffe://x/" + "y" * 300]
)
def test_names_are_text_and_whole_arguments(name: str) -> None:
    """Braces hold one argument each and have no other use; the name itself is an identifier."""
    with pytest.raises(ValueError, match="name"):
        Touch("file", name, "read")


def test_other_words_and_types_are_refused() -> None:
    """The list of what can be done is closed, and labels are a list of texts."""
    for access in ("append", "READ", "", ["read"]):
        with pytest.raises(ValueError, match="access"):
            Touch("file", "x", access)  # type: ignore[arg-type]
    for wrong in (5, None):
        with pytest.raises(TypeError):
            Touch(wrong, "x", "read")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data"):
        Touch("file", "x", "read", data="personal")
    with pytest.raises(ValueError, match="label"):
        Touch("file", "x", "read", data=["spiffe://x/" + "y" * 300])


def test_touches_are_one_or_several() -> None:
    """One is a list of one, equal ones are one, and lists of the caller are not kept."""
    labels = ["personal"]
    touch = Touch("file", "x", "read", labels)
    labels.append("other")
    assert touch.data == ("personal",)
    assert check_touches(touch) == check_touches([touch, Touch("file", "x", "read", ["personal"])]) == (touch,)
    assert check_touches(None) == check_touches([]) == ()
    assert hash(touch) == hash(Touch("file", "x", "read", ["personal"]))


def test_placeholders_are_parameters() -> None:
    """The error names the argument and the parameters that there are; where any name will do, any will."""
    assert has_placeholders(PLACE)
    assert not has_placeholders(Touch("file", "x", "read"))
    check_parameters("t", [PLACE], ("region", "number", "more"))
    check_parameters("t", [PLACE], None)
    with pytest.raises(ConfigurationError, match=r"'number'.*the parameters are region"):
        check_parameters("t", [PLACE], ("region",))
    with pytest.raises(ConfigurationError, match=r"'region'.*the parameters are none"):
        check_parameters("t", [PLACE], ())


def test_text_and_whole_numbers_fill_a_name() -> None:
    """What has one spelling fills it; a missing argument, or one of another type, does not."""
    assert filled_name(PLACE, {"region": "eu", "number": 7, "other": None}) == "eu/invoices/7.pdf"
    for value in (True, 1.0, None, ["x"], {"a": 1}, b"x"):
        assert filled_name(PLACE, {"region": "eu", "number": value}) is None
    assert filled_name(PLACE, {"region": "eu"}) is None
    assert filled_name(PLACE, {"region": "x" * 8_192, "number": 1}) is None


@given(st.text(), st.integers())
def test_a_value_never_makes_another_placeholder(region: str, number: int) -> None:
    """Values stand in a name as they are, braces among them."""
    assert filled_name(PLACE, {"region": region, "number": number}) in (f"{region}/invoices/{number}.pdf", None)


def test_labels_of_resources_join_those_that_are_stated() -> None:
    """Without stated labels those of the data stay unknown."""
    touch = Touch("file", "x", "read", ["a", "b"])
    assert with_data_of(("b", "c"), [touch]) == ("b", "c", "a")
    assert with_data_of((), []) == ()
    assert with_data_of(None, [touch]) is None


def test_policies_see_what_a_tool_touches() -> None:
    """A tool keeps its resources through the labels and claims that a policy adds."""
    seen: list[Tool] = []

    class Policy:
        name, version, digest = "seen", "1", "0" * 43

        def decide(self, request: Request) -> object:
            seen.append(request.tool)
            return RuleSet(Rule(Effect.ALLOW)).decide(request)

    Policy().decide(Request(Tool("t", touches=(PLACE,)), {}))
    assert seen[0].touches == (PLACE,)


def test_a_wrong_access_is_shown() -> None:
    """It is the word of the developer, and no secret."""
    with pytest.raises(ValueError, match="'reed'"):
        Touch("s3://bucket", "a", "reed")  # type: ignore[arg-type]
