"""The shortcuts give the answers of LangChain's own methods, or leave them to it."""

import enum
import warnings
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional
from weakref import WeakKeyDictionary

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolArg, InjectedToolCallId, StructuredTool, tool
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    ValidationError,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from agent_identity.integrations.langchain import shortcuts as module
from agent_identity.integrations.langchain.shortcuts import asks_nothing, shortcuts, source_of, stock_runs


class Colour(enum.Enum):
    RED = "red"


class Address(BaseModel):
    street: str
    number: int = 1


LEAVES = [
    (str, st.text(max_size=4)),
    (int, st.integers(-5, 5)),
    (float, st.floats(allow_nan=False, width=16)),
    (bool, st.booleans()),
    (Optional[int], st.none() | st.integers(-5, 5)),  # noqa: UP045  As many write it.
    (int | str, st.integers(-5, 5) | st.text(max_size=2)),
    (list[int], st.lists(st.integers(-5, 5), max_size=2)),
    (dict[str, Decimal], st.dictionaries(st.text(max_size=2), st.decimals(0, 9, places=1), max_size=2)),
    (tuple[int, ...], st.lists(st.integers(-5, 5), max_size=2)),
    (Literal["a", "b"], st.sampled_from(["a", "b", "c"])),
    (Colour, st.sampled_from(["red", Colour.RED, "blue"])),
    (date, st.sampled_from(["2026-11-24", date(2026, 11, 24)])),
    (Address, st.sampled_from([{"street": "x"}, {"street": "y", "number": "2"}, {}])),
    (list[Address], st.just([{"street": "x"}])),
    (Annotated[int, Field(ge=0)], st.integers(-1, 5)),
]
NAMES = ["first", "second", "args", "kwargs", "tool_call_id"]


def tool_of(schema: Any) -> StructuredTool:
    return StructuredTool(name="t", description="d", args_schema=schema, func=lambda **_: None)


def answer(method: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a method returns, with types, or the errors that it raises."""
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = method(*arguments)
    except (ValidationError, ValueError, TypeError) as error:
        return type(error), str(error)
    return found, [(name, type(value)) for name, value in found.items()], [str(each.message) for each in warned]


def short(name: str, base: type[BaseTool] = StructuredTool) -> Callable[..., Any]:
    return shortcuts(base)[name]


@settings(max_examples=80)  # A model is built for each, which takes its time.
@given(data=st.data())
def test_a_shortcut_answers_as_langchain_does(data: st.DataObject) -> None:
    """Whatever the fields and whatever the input: the same arguments in the same order, or the same error."""
    fields: dict[str, Any] = {}
    given_: dict[str, Any] = {}
    for name in data.draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1)):
        kind, values = data.draw(st.sampled_from(LEAVES))
        fields[name] = data.draw(st.sampled_from([(kind, ...), (kind, None), (kind, Field(default_factory=list))]))
        if data.draw(st.booleans()):
            given_[name] = data.draw(values)
    if data.draw(st.booleans()):
        given_["unknown"] = 1
    one = tool_of(create_model("Schema", __config__=ConfigDict(extra=data.draw(EXTRA)), **fields))
    for call_id in (None, "call-1"):
        assert answer(short("_parse_input"), one, dict(given_), call_id) == answer(
            StructuredTool._parse_input, one, dict(given_), call_id
        )
    assert answer(short("_filter_injected_args"), one, given_) == answer(
        StructuredTool._filter_injected_args, one, given_
    )


EXTRA = st.sampled_from(["ignore", "forbid", "allow"])


class Aliased(BaseModel):
    a: int = Field(1, alias="b")


class Chosen(BaseModel):
    a: int = Field(1, validation_alias=AliasChoices("x", "y"))


class Hidden(BaseModel):
    a: int = Field(1, exclude=True)


class Computed(BaseModel):
    a: int = 1

    @computed_field  # type: ignore[prop-decorator]
    @property
    def b(self) -> int:
        return 2


class Serialized(BaseModel):
    a: int = 1

    @field_serializer("a")
    def refuse(self, _value: int) -> int:
        raise ValueError("not to be dumped")


class SerializedWhole(BaseModel):
    a: int = 1

    @model_serializer
    def other(self) -> dict[str, int]:
        return {"z": 1}


class Remade(BaseModel):
    a: int = 1

    @model_validator(mode="wrap")
    @classmethod
    def other(cls, value: Any, handler: Any) -> Any:
        return handler({"a": 7, **value})


class Marked(BaseModel):
    a: Annotated[int, PlainSerializer(lambda _: 1 / 0)] = 1


class Dumped(BaseModel):
    a: int = 1

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return {"a": 1, "b": 2}


class Injected(BaseModel):
    a: int = 1
    state: Annotated[int, InjectedToolArg] = 0


class CallId(BaseModel):
    a: int = 1
    call: Annotated[str, InjectedToolCallId] = ""


class Anything(BaseModel):
    a: Any = None


class Nested(BaseModel):
    inner: Serialized = Serialized()


class Root(RootModel[dict[str, int]]):
    pass


class Recursive(BaseModel):
    a: int = 1
    inner: "Recursive | None" = None


class Validated(BaseModel):
    a: Annotated[int, BeforeValidator(lambda value: value)] = 1

    @field_validator("a")
    @classmethod
    def double(cls, value: int) -> int:
        return 2 * value


UNUSUAL = [Aliased, Chosen, Hidden, Computed, Serialized, SerializedWhole, Remade, Marked, Dumped, Injected, CallId]
UNUSUAL += [Anything, Nested, Recursive, Validated]


@pytest.mark.parametrize("schema", UNUSUAL)
@pytest.mark.parametrize("values", [{}, {"a": 3}, {"b": 3}, {"x": 3}, {"a": "no"}, {"state": 1, "call": "x"}])
def test_an_unusual_schema_is_left_to_langchain(schema: type[BaseModel], values: dict[str, Any]) -> None:
    """Aliases, serializers, injected arguments and the like: each answer is that of LangChain, errors included."""
    one = tool_of(schema)
    for call_id in (None, "call-1"):
        expected = answer_or_error(StructuredTool._parse_input, one, dict(values), call_id)
        assert answer_or_error(short("_parse_input"), one, dict(values), call_id) == expected
    assert short("_filter_injected_args")(one, values) == StructuredTool._filter_injected_args(one, values)


def answer_or_error(method: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return method(*arguments)
    except Exception as error:  # noqa: BLE001  Serializers raise what they like.
        return type(error), str(error)


@pytest.mark.parametrize("schema", [{"type": "object", "properties": {"a": {"type": "integer"}}}, None])
def test_a_tool_without_a_model_is_left_to_langchain(schema: Any) -> None:
    """JSON schemas are not validated by LangChain, and strings are taken as they are."""
    one = tool_of(Address)
    object.__setattr__(one, "args_schema", schema)
    assert short("_parse_input")(one, {"a": "1"}, None) == {"a": "1"}
    assert short("_filter_injected_args")(one, {"a": "1", "callbacks": 2}) == {"a": "1"}
    assert short("_parse_input")(tool_of(Anything), "text", None) == "text"


def test_root_models_have_no_fields_of_their_own() -> None:
    """They are left to LangChain."""
    one = tool_of(Root)
    assert answer_or_error(short("_parse_input"), one, {"a": 1}, None) == answer_or_error(
        StructuredTool._parse_input, one, {"a": 1}, None
    )


def test_a_schema_that_is_built_anew_is_looked_at_anew() -> None:
    """What was known of it before is forgotten."""

    class Growing(BaseModel):
        a: int = 1

    one = tool_of(Growing)
    assert short("_parse_input")(one, {}, None) == {"a": 1}
    Growing.__pydantic_fields__["b"] = Address.model_fields["number"]
    Growing.__annotations__["b"] = int
    Growing.model_rebuild(force=True)
    assert short("_parse_input")(one, {}, None) == StructuredTool._parse_input(one, {}, None) == {"a": 1, "b": 1}


def test_the_installed_langchain_is_known() -> None:
    """A release that changes one of the methods is compared with the shortcut before it is named here."""
    assert shortcuts(BaseTool).keys() == {"_parse_input", "_filter_injected_args"}
    assert stock_runs(StructuredTool, "_run")
    assert stock_runs(StructuredTool, "_arun")


def test_other_sources_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subclass, a patch or a release that validates in another way keeps its way."""

    class Own(StructuredTool):
        def _parse_input(self, tool_input: Any, tool_call_id: str | None) -> Any:
            return tool_input

        def _run(self, *args: Any, config: RunnableConfig, run_manager: Any = None, **kwargs: Any) -> Any:
            return 1

    assert shortcuts(Own) == {}
    assert not stock_runs(Own, "_run")
    assert stock_runs(Own, "_arun")
    assert not stock_runs(BaseTool, "_run")
    monkeypatch.setattr(module.inspect, "getsource", no_source)
    monkeypatch.setattr(module, "_READ", WeakKeyDictionary())  # Each source is read once.
    assert source_of(BaseTool._parse_input) == ""
    assert shortcuts(StructuredTool) == {}


def no_source(_: object) -> str:
    raise OSError


def test_functions_that_want_something_get_it_from_langchain() -> None:
    """Callbacks go by the name of the parameter, the configuration by its annotation, also when it cannot be told."""

    def plain(a: int) -> int:
        return a

    def callbacks(a: int, callbacks: Any = None) -> int:
        return a

    def config(a: int, settings: RunnableConfig) -> int:
        return a

    def optional(a: int, settings: RunnableConfig | None = None) -> int:
        return a

    def unresolved(a: "Unknown") -> int:  # type: ignore[name-defined]  # noqa: F821
        return a

    assert asks_nothing(plain)
    assert not any(map(asks_nothing, (callbacks, config, optional, unresolved)))


def test_the_fields_of_the_test_are_taken_the_short_way() -> None:
    """So that the property above compares two ways and not one with itself."""
    for kind, _ in LEAVES:
        one = tool_of(create_model("Schema", a=(kind, None)))
        assert module.facts_of(one) is not None, kind
    for schema in (*UNUSUAL, Root):
        if schema is not Validated:
            assert module.facts_of(tool_of(schema)) is None, schema

    @tool
    def common(customer_id: str, limit: int = 10) -> str:
        """Read."""
        return customer_id

    assert module.facts_of(common) is not None
