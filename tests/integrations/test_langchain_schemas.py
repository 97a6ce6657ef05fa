"""A guarded tool takes what a bare one takes, whatever its schema: the same arguments, or the same error."""

import copy
import enum
import warnings
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import InjectedToolArg, InjectedToolCallId, StructuredTool
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from agent_identity.integrations.langchain.parameters import asks_nothing
from agent_identity.integrations.langchain.protection import protect


class Colour(enum.Enum):
    RED = "red"


class Address(BaseModel):
    street: str
    number: int = 1


LEAVES = [
    (str, st.text(max_size=4)),
    (int, st.integers(-5, 5)),
    (float, st.floats(allow_nan=False, allow_infinity=False, width=16)),
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
    def take(**arguments: Any) -> Any:
        return [(name, type(value), value) for name, value in arguments.items()]

    return StructuredTool(name="take", description="d", args_schema=schema, func=take)


def answer(one: StructuredTool, given_: Any) -> Any:
    """Return the arguments of the body in their order, or the error, and what was warned of."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found: Any = one.invoke(given_)
        except Exception as error:  # noqa: BLE001  Serializers raise what they like.
            found = type(error), str(error)
    return found, [str(each.message) for each in warned]


def compare(desk: Any, schema: Any, given_: dict[str, Any]) -> None:
    """Compare the bare tool with the guarded one."""
    bare, guarded = tool_of(schema), protect(tool_of(schema), desk.enforcer)
    call = {"type": "tool_call", "name": "take", "id": "call-1", "args": given_}
    for value in (given_, call):
        assert answer(guarded, copy.deepcopy(value)) == answer(bare, copy.deepcopy(value))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])  # One task serves all.
@given(data=st.data())
def test_a_guarded_tool_takes_what_the_bare_one_takes(data: st.DataObject, granted: Any) -> None:
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
    compare(granted, create_model("Schema", __config__=ConfigDict(extra=data.draw(EXTRA)), **fields), given_)


@pytest.fixture
def granted(desk: Any) -> Iterator[Any]:
    """A desk inside a task that may call the tool with anything."""
    with desk.task("take"):
        yield desk


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


@pytest.mark.parametrize("schema", [*UNUSUAL, Root])
@pytest.mark.parametrize("values", [{}, {"a": 3}, {"b": 3}, {"x": 3}, {"a": "no"}, {"state": 1, "call": "x"}])
def test_an_unusual_schema_is_taken_alike(granted: Any, schema: type[BaseModel], values: dict[str, Any]) -> None:
    """Aliases, serializers, injected arguments and the like."""
    compare(granted, schema, values)


def test_a_schema_that_is_built_anew_is_looked_at_anew(granted: Any) -> None:
    """What was known of it before is forgotten."""

    class Growing(BaseModel):
        a: int = 1

    one = protect(tool_of(Growing), granted.enforcer)
    assert one.invoke({}) == [("a", int, 1)]
    Growing.__pydantic_fields__["b"] = Address.model_fields["number"]
    Growing.__annotations__["b"] = int
    Growing.model_rebuild(force=True)
    assert one.invoke({}) == [("a", int, 1), ("b", int, 1)]


def test_a_json_schema_is_not_validated(granted: Any) -> None:
    """LangChain hands its input through."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    compare(granted, schema, {"a": "1"})


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
