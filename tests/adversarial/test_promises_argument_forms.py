"""Arguments that are not JSON: one stable form is judged, digested and shown, and the body gets its own type."""

import dataclasses
import enum
import functools
import io
import random
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Annotated, Any, Generic, Self, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretStr,
    TypeAdapter,
    field_serializer,
    model_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass

from agent_identity import Decision, Effect, Finding, Human, Request, Rule, RuleSet, Scope, Verifier
from agent_identity._constraints.literals import Constraint
from agent_identity.approvals import Answer, Approval, ApprovalRequest
from agent_identity.audit import disclose
from agent_identity.constraints import AnyOf, Contains, Exact, NotOneOf, OneOf, Prefix, Range, Subset
from agent_identity.errors import LimitExceeded, OutOfScope, PolicyBlocked
from agent_identity.limits import Limit
from agent_identity.options import Privacy
from agent_identity.policy import Content

BOB = Human("bob@example.com")
Held = TypeVar("Held")
NUMBER = UUID("0197a3c4-0000-7000-8000-000000000001")


class Color(enum.Enum):
    """A plain enum."""

    RED = "red"
    BLUE = "blue"


class Mode(enum.StrEnum):
    """Members that are text."""

    READ = "r"
    WRITE = "w"


class Level(enum.IntEnum):
    """Members that are numbers."""

    LOW = 1
    HIGH = 3


class Rate(enum.Enum):
    """Members whose values are no JSON themselves."""

    FULL = Decimal("0.19")
    SPLIT = (Decimal("0.07"), "food")


@dataclasses.dataclass
class Bank:
    """A nested dataclass."""

    name: str
    country: str = "DE"


@dataclasses.dataclass(frozen=True, slots=True)
class Transfer:
    """A frozen dataclass with slots."""

    to: Bank
    amount: Decimal
    kind: str = dataclasses.field(init=False, default="transfer")


class Line(BaseModel):
    """A nested model."""

    sku: str
    price: Decimal


class Order(BaseModel):
    """A model."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    color: Color
    due: date
    lines: list[Line]
    bank: Bank
    at: datetime | None = None


class Tags(RootModel[list[str]]):
    """A model that is a list."""


def order() -> Order:
    """Return an order."""
    lines = [Line(sku="A-1", price=Decimal("12.50"))]
    return Order(id=NUMBER, color=Color.RED, due=date(2026, 11, 24), lines=lines, bank=Bank("GLS"))


ORDER = {
    "id": str(NUMBER),
    "color": "red",
    "due": "2026-11-24",
    "lines": [{"sku": "A-1", "price": "12.5"}],
    "bank": {"name": "GLS", "country": "DE"},
    "at": None,
}
LOCAL = datetime(2026, 11, 24, 8, 30)  # noqa: DTZ001  It has no zone, which another test value has.
FORMS: list[tuple[object, object, str]] = [
    (Color.RED, "red", "string"),
    (Mode.READ, "r", "string"),
    (Level.HIGH, 3, "number"),
    (Rate.FULL, "0.19", "number"),
    (Rate.SPLIT, ("0.07", "food"), "array"),
    (Decimal("1.50"), "1.5", "number"),
    (Decimal("-0.00"), "0", "number"),
    (Decimal("1.2E+5"), "120000", "number"),
    (date(2026, 11, 24), "2026-11-24", "string"),
    (LOCAL, "2026-11-24T08:30:00", "string"),
    (datetime(2026, 11, 24, 8, 30, tzinfo=UTC), "2026-11-24T08:30:00+00:00", "string"),
    (
        datetime(2026, 11, 24, 8, 30, tzinfo=ZoneInfo("Europe/Berlin")),
        "2026-11-24T08:30:00+01:00[Europe/Berlin]",
        "string",
    ),
    (TypeAdapter(datetime).validate_python("2026-11-24T08:30:00Z"), "2026-11-24T08:30:00+00:00", "string"),
    (time(8, 30, 0, 5), "08:30:00.000005", "string"),
    (time(8, 30, tzinfo=timezone(timedelta(hours=-3))), "08:30:00-03:00", "string"),
    (NUMBER, str(NUMBER), "string"),
    (Bank("GLS"), {"name": "GLS", "country": "DE"}, "object"),
    (
        Transfer(Bank("GLS"), Decimal(5)),
        {"to": {"name": "GLS", "country": "DE"}, "amount": "5", "kind": "transfer"},
        "object",
    ),
    (order(), ORDER, "object"),
    (Tags(["a", "b"]), ["a", "b"], "array"),
    ([Mode.WRITE, (Decimal("0.10"),)], ["w", ("0.1",)], "array"),
    ({"größe": Decimal("1.10")}, {"größe": "1.1"}, "object"),
]


class Watch:
    """A policy that allows everything, an inspector that finds nothing, and both remember what they saw."""

    name, version, digest = "watch", "1", "A" * 43

    def __init__(self) -> None:
        self.decided: list[object] = []
        self.inspected: list[object] = []

    def decide(self, request: Request) -> Decision:
        """Allow, and remember the argument."""
        self.decided.append(request.arguments.get("x"))
        return Decision(effect=Effect.ALLOW, reason="watched")

    def inspect(self, content: Content) -> list[Finding]:
        """Find nothing, and remember the argument."""
        if content.direction == "input":
            self.inspected.append(content.value["x"])  # type: ignore[index]
        return []


@pytest.mark.parametrize(("value", "form", "kind"), FORMS, ids=lambda item: type(item).__name__)
def test_what_has_a_form_is_judged_digested_and_shown_in_it_and_runs_as_itself(
    open_world: Any, value: object, form: object, kind: str
) -> None:
    """Inspector, policy, digest and disclosure have the form; the body has an equal value of the same type."""
    watch = Watch()
    world = open_world(policy=watch, inspectors=[watch], privacy=Privacy(disclosable=True))
    with world.task(Scope("tool", x=AnyOf(NotOneOf("something else"), Exact("never")))):
        world.tool()(value)
    assert watch.decided == watch.inspected == [form]
    ((_, ran, _),) = world.ran
    assert type(ran) is type(value)
    assert ran == value
    (intent,) = world.records("intent")
    assert intent["action"]["names"] == [f"x:{kind}"]
    world.enforcer.close()
    shown = disclose(world.directory, intent["id"], {"x": form})  # type: ignore[dict-item]
    report = Verifier().ledger(world.directory, disclosures=[shown])
    assert report.verdict == "verified"
    assert report.counts["arguments_within_grants"] == 1


PERMITTED: list[tuple[Constraint | object, object, object]] = [
    (Exact("r"), Mode.READ, Mode.WRITE),
    (OneOf(Color.RED), Color.RED, Color.BLUE),
    (Color.RED, Color.RED, Color.BLUE),
    (Exact(Level.HIGH), Level.HIGH, Level.LOW),
    (Range(max=2), Level.LOW, Level.HIGH),
    (Range(max=200), Decimal("199.99999999999999999999999999"), Decimal("200.00000000000000000000000001")),
    (Range(max=0.3), Decimal("0.3"), Decimal("0.300000000000000000001")),
    (Range(min=0.1), Decimal("0.1"), Decimal("0.0999999999999999999999")),
    (Range(max=Decimal("0.3")), Decimal("0.30"), Decimal("0.31")),
    (Range(1, 2, max_inclusive=False), Decimal("1.00"), Decimal("2.0")),
    (Exact(5), Decimal("5.00"), Decimal("5.01")),
    (Exact(0.1), Decimal("0.10"), Decimal("0.1000000000000000055511151231257827021181583404541015625")),
    (Exact(Decimal("0.1")), Decimal("0.1"), "0.1"),
    (Decimal(7), Decimal("7.0"), "7"),
    (Decimal(7), 7, 8),
    (OneOf(2**53 + 2), Decimal(2**53 + 2), Decimal(2**53)),
    (NotOneOf(5), Decimal(6), Decimal("5.0")),
    (Exact(date(2026, 11, 24)), date(2026, 11, 24), date(2026, 11, 25)),
    (Exact("2026-11-24T08:30:00"), LOCAL, datetime(2026, 11, 24, 8, 30, tzinfo=UTC)),
    (Prefix("0197a3c4-"), NUMBER, UUID(int=0)),
    (NUMBER, NUMBER, UUID(int=0)),
    (Subset("r", "w"), [Mode.READ], [Mode.READ, Color.RED]),
    (Subset(5, 10), [Decimal("5.0")], [Decimal(6)]),
    (Contains(Mode.WRITE), [Mode.READ, Mode.WRITE], [Mode.READ]),
    (Exact({"name": "GLS", "country": "DE"}), Bank("GLS"), Bank("GLS", "FR")),
    (Exact(["a"]), Tags(["a"]), Tags(["b"])),
]


@pytest.mark.parametrize(("constraint", "within", "outside"), PERMITTED, ids=lambda item: str(item)[:40])
def test_scopes_judge_the_form(open_world: Any, constraint: object, within: object, outside: object) -> None:
    """What is within runs, what is outside does not, and a verifier who is shown the argument agrees."""
    world = open_world(privacy=Privacy(disclosable=True))
    tool = world.tool()
    with world.task(Scope("tool", x=constraint)):
        tool(within)
        with pytest.raises(OutOfScope) as refused:
            tool(outside)
    assert refused.value.code == "argument_out_of_scope"
    assert [ran for _, ran, _ in world.ran] == [within]
    (intent,) = world.records("intent")
    world.enforcer.close()
    shown = disclose(world.directory, intent["id"], {"x": _json(within)})
    assert Verifier().ledger(world.directory, disclosures=[shown]).verdict == "verified"


WRITTEN: dict[type, Callable[[Any], object]] = {
    Mode: lambda member: member.value,
    Color: lambda member: member.value,
    Level: lambda member: member.value,
    Decimal: lambda number: f"{number:f}".rstrip("0").rstrip(".") if "." in f"{number:f}" else str(number),
    date: date.isoformat,
    datetime: datetime.isoformat,
    UUID: str,
    Bank: dataclasses.asdict,
    Transfer: lambda made: {"to": dataclasses.asdict(made.to), "amount": str(made.amount), "kind": made.kind},
    Tags: lambda tags: tags.root,
    list: lambda items: [_json(item) for item in items],
}


def _json(value: object) -> Any:
    """Return the form as a person would write it, independently of the code under test."""
    return WRITTEN.get(type(value), lambda plain: plain)(value)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Range(max=Decimal("NaN")), ValueError),
        (lambda: Range(max=Decimal("0.12345678901234567890")), ValueError),
        (lambda: Exact(Decimal("1E+400")), ValueError),
        (lambda: Exact(Decimal("0.12345678901234567890")), ValueError),
        (lambda: Exact(Decimal("-Infinity")), ValueError),
        (lambda: Exact(Bank("GLS")), ValueError),
        (lambda: Scope("tool", x=Color), TypeError),
    ],
)
def test_a_constraint_that_no_grant_can_hold_is_an_error(make: Callable[[], object], error: type[Exception]) -> None:
    """A decimal that JSON would round, or an object, does not become another value in a grant."""
    with pytest.raises(error):
        make()


def test_limits_count_decimals_exactly_and_members_by_value(world: Any) -> None:
    """Ten tenths are one, which they are not as doubles; an enum member counts as the number that it is."""
    tool = world.tool()
    with world.task(Scope("tool"), limits=[Limit.sum("tool", "x", Decimal(4))]):
        for _ in range(10):
            tool(Decimal("0.1"))
        tool(Level.HIGH)
        with world.refused("limit_exceeded", LimitExceeded):
            tool(Decimal("0.000001"))


RULES: list[tuple[dict[str, object], object, object]] = [
    ({"args.x": {"range": {"min": 100}}}, Decimal("99.99"), Decimal("100.00")),
    ({"args.x": {"one_of": [100, "a"]}}, Decimal(99), Decimal("100.00")),
    ({"args.x": 0.1}, Decimal("0.2"), Decimal("0.10")),
    ({"args.x": "w"}, Mode.READ, Mode.WRITE),
    ({"args.x.color": "red"}, order().model_copy(update={"color": Color.BLUE}), order()),
    ({"args.x.bank.country": "DE"}, order().model_copy(update={"bank": Bank("X", "FR")}), order()),
    ({"args.x.amount": {"range": {"min": 5}}}, Transfer(Bank("GLS"), Decimal(4)), Transfer(Bank("GLS"), Decimal(5))),
    ({"args.x": {"contains": ["w"]}}, [Mode.READ], [Mode.READ, Mode.WRITE]),
]


@pytest.mark.parametrize(("when", "other", "blocked"), RULES, ids=lambda item: str(item)[:40])
def test_rules_judge_the_form(open_world: Any, when: dict[str, object], other: object, blocked: object) -> None:
    """A rule blocks the form that it names, decimals as numbers, also inside models and dataclasses."""
    world = open_world(policy=RuleSet(Rule(Effect.BLOCK, when=when, id="r")))
    with world.task(Scope("tool")):
        world.tool()(other)
        with world.refused("policy_blocks", PolicyBlocked):
            world.tool()(blocked)


def test_a_rule_about_text_cannot_tell_of_a_decimal(open_world: Any) -> None:
    """The form of a decimal is text only on paper: for a rule it is a number, of which text is another type."""
    world = open_world(policy=RuleSet(Rule(Effect.BLOCK, when={"args.x": {"one_of": ["5"]}}, id="r")))
    with world.task(Scope("tool")), world.refused("rule_error", PolicyBlocked):
        world.tool()(Decimal(5))
    with world.task(Scope("tool", x=Exact("5"))), world.refused("argument_out_of_scope", OutOfScope):
        world.tool()(Decimal(5))


def test_an_approver_sees_the_form_and_approves_only_that(open_world: Any) -> None:
    """The question shows what the model holds; the answer counts for this value and no other."""
    asked: list[ApprovalRequest] = []

    def ask(request: ApprovalRequest) -> Answer:
        asked.append(request)
        return request.approve(by=BOB)

    policy = RuleSet(Rule(Effect.ROUTE, tools="tool", id="ask", to="desk"))
    world = open_world(policy=policy, routes={"desk": Approval(ask=ask)})
    with world.task(Scope("tool")):
        world.tool()(order())
        with world.refused("approval_unbindable"):
            world.tool()(Secretive(name="x", token=SecretStr("s")))
    assert [dict(request.arguments) for request in asked] == [{"x": ORDER}]
    assert [ran for _, ran, _ in world.ran] == [order()]


def test_the_body_shares_nothing_that_can_change_with_the_caller(open_world: Any) -> None:
    """What a thread of the caller, a policy or an inspector changes after the check does not reach the body."""
    given, transfer = order(), Transfer(Bank("GLS"), Decimal(5))
    nested = {"orders": [given], "to": transfer}

    class Mutator(Watch):
        """A policy that changes what the caller still holds."""

        def decide(self, request: Request) -> Decision:
            given.lines.append(Line(sku="EVIL", price=Decimal(1)))
            given.lines[0].price = Decimal(10**6)
            transfer.to.name = "EVIL"
            given.bank.name = "EVIL"
            given.model_fields_set.clear()
            return super().decide(request)

    world = open_world(policy=Mutator())
    with world.task(Scope("tool")):
        world.tool()(nested)
    ((_, ran, _),) = world.ran
    assert ran == {"orders": [order()], "to": Transfer(Bank("GLS"), Decimal(5))}
    assert ran["orders"][0].model_fields_set == order().model_fields_set
    assert given != order()


def test_an_inspector_that_changes_what_it_is_shown_changes_no_record(open_world: Any) -> None:
    """The digest and the limits are of what the body gets, not of what an inspector made of its own view."""

    class Blunt:
        """An inspector that overwrites what it looks at."""

        def inspect(self, content: Content) -> list[Finding]:
            """Take the amount away."""
            if content.direction == "input":
                content.value["x"]["amount"] = "0"  # type: ignore[index]
                content.value["y"] = "0"  # type: ignore[index]
            return []

    world = open_world(inspectors=[Blunt()], privacy=Privacy(disclosable=True))
    given = Transfer(Bank("GLS"), Decimal(5))
    with world.task(Scope("tool"), limits=[Limit.sum("tool", "y", 9)]):
        world.tool()(given, y=Decimal(5))
        with pytest.raises(LimitExceeded):
            world.tool()(given, y=Decimal(5))
    assert world.ran == [("tool", given, {"y": Decimal(5)})]
    (intent,) = world.records("intent")
    world.enforcer.close()
    assert disclose(world.directory, intent["id"], {"x": _json(given), "y": "5"})


def test_no_code_of_the_argument_runs_while_it_is_judged(world: Any) -> None:
    """Properties, validators, post-init and serializers of the class have no say in what is judged or copied."""
    calls: list[str] = []

    @dataclasses.dataclass
    class Sly:
        amount: int

        def __post_init__(self) -> None:
            calls.append("init")

        @property
        def double(self) -> int:
            calls.append("property")
            return 2 * self.amount

        def __deepcopy__(self, memo: object) -> object:
            calls.append("copy")
            return Sly(10**6)

        def __hash__(self) -> int:
            calls.append("hash")
            return 1

    class Model(BaseModel):
        sly: Sly

        def model_dump(self, **_: Any) -> dict[str, Any]:
            calls.append("dump")
            return {"sly": {"amount": 1}}

        def model_post_init(self, _: object) -> None:
            calls.append("post")

        def __copy__(self) -> "Model":
            calls.append("copy")
            return self

    given = Model(sly=Sly(5))
    calls.clear()
    with world.task(Scope("tool", x=Exact({"sly": {"amount": 5}}))):
        world.tool()(given)
    assert calls == []
    assert world.ran[0][1].sly.amount == 5
    assert world.ran[0][1].sly is not given.sly


# ------------------------------------------------------------------------------------------------ what hides something


class Secretive(BaseModel):
    """A model with a secret."""

    name: str
    token: SecretStr


class Excluding(BaseModel):
    """A model that leaves a field out."""

    name: str
    token: str = Field("s", exclude=True)


class Private(BaseModel):
    """A model with private state."""

    name: str
    _token: str = PrivateAttr("s")


class Extra(BaseModel):
    """A model with members that it does not declare."""

    model_config = ConfigDict(extra="allow")

    name: str


class Masking(BaseModel):
    """A model that shows something else than it holds."""

    name: str

    @field_serializer("name")
    def masked(self, _: str) -> str:
        return "***"


class MaskingAll(BaseModel):
    """A model that shows something else as a whole."""

    name: str

    @model_serializer
    def masked(self) -> dict[str, str]:
        return {}


class MaskingWithin(BaseModel):
    """A model that masks what is in a list."""

    names: list[Annotated[str, PlainSerializer(lambda _: "***")]]


class Holder(BaseModel):
    """A model that declares a base class and may hold a subclass."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    held: Any


class Cached(BaseModel):
    """A model with a property that is kept."""

    name: str

    @functools.cached_property
    def shout(self) -> str:
        return self.name.upper()


def _cached() -> Cached:
    made = Cached(name="x")
    assert made.shout == "X"
    return made


@pydantic_dataclass
class MaskingData:
    """A dataclass of pydantic that leaves a field out."""

    name: str
    token: str = Field("s", exclude=True)


@dataclasses.dataclass
class Listed(list):  # type: ignore[type-arg]
    """A dataclass that is also a list."""

    name: str = "x"


@dataclasses.dataclass
class Dice(random.Random):
    """A dataclass with state that Python does not show."""

    sides: int = 6


@dataclasses.dataclass
class Failure(Exception):
    """A dataclass that is also an exception."""

    name: str = "x"


class Slotted:
    """A base with a slot that is no field."""

    __slots__ = ("hidden",)


@dataclasses.dataclass(slots=True)
class Hiding(Slotted):
    """A dataclass with a slot that is no field."""

    name: str = "x"


@dataclasses.dataclass
class Lying:
    """A dataclass whose attributes are not what it holds."""

    name: str = "x"

    def __getattribute__(self, name: str) -> object:
        return "evil" if name == "name" else object.__getattribute__(self, name)


class Making(Bank):
    """A subclass that makes its objects in its own way."""

    def __new__(cls, *_: object) -> Self:
        return object.__new__(cls)


class Shadowing(Bank):
    """A subclass with a property in place of a field."""

    @property
    def name(self) -> str:  # type: ignore[override]
        return "evil"

    @name.setter
    def name(self, value: str) -> None:
        pass


@dataclasses.dataclass
class Unset:
    """A dataclass with a field that nobody sets."""

    name: str = dataclasses.field(init=False)


class Twofold(enum.StrEnum):
    """Members whose text is not their value."""

    A = "shown"

    def __new__(cls, value: str) -> Self:
        made = str.__new__(cls, "evil")
        made._value_ = value
        return made


class Shared(enum.Enum):
    """Members whose values everybody can change."""

    A = ["a"]  # noqa: RUF012  What this is about.


@dataclasses.dataclass
class EnforcementContext:
    """A dataclass for members."""

    across: int


class Carrying(EnforcementContext, enum.Enum):
    """Members that are dataclasses."""

    A = 1


class Dated(date, enum.Enum):
    """Members that are dates."""

    A = (2026, 11, 24)


class Wandering(tzinfo):
    """A time zone whose offset is another one each time."""

    def utcoffset(self, _: object) -> timedelta:
        return timedelta(0)

    def dst(self, _: object) -> timedelta:
        return timedelta(0)

    def tzname(self, _: object) -> str:
        return "?"


class Hasty(tzinfo):
    """A time zone whose function is not written in Python."""

    utcoffset = staticmethod(functools.partial(timedelta, 0))  # type: ignore[assignment]


class Proxy:
    """An object that says that it is an enum member, which it may be now and not later."""

    _value_ = "red"
    __class__ = property(lambda _: Color)  # type: ignore[assignment]


class Ending(Bank):
    """A subclass whose objects end in their own way."""

    def __del__(self) -> None:
        ENDED.append(self.name)


ENDED: list[str] = []


@dataclasses.dataclass(frozen=True)
class Marker:
    """A dataclass without fields."""


@dataclasses.dataclass
class Filling(list):  # type: ignore[type-arg]
    """A dataclass that is also a list, and is made like any object."""

    __new__ = object.__new__

    name: str = "x"


class Shelf(dict):  # type: ignore[type-arg]
    """A mapping that is no plain one."""


@dataclasses.dataclass
class Twice(Slotted):
    """A dataclass with a field that covers a slot of its base."""

    hidden: str = "x"


def _twice() -> Twice:
    made = Twice()
    Slotted.hidden.__set__(made, "evil")  # type: ignore[attr-defined]
    return made


class Odd(str):
    """Text that is no plain text."""

    __slots__ = ()


def _keyed() -> Bank:
    made = Bank("GLS")
    made.__dict__[Odd("hidden")] = None
    return made


def _shelved() -> Bank:
    made = Bank("GLS")
    made.__dict__ = Shelf(made.__dict__)
    return made


ZONE = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + struct.pack(">lbb", 0, 0, 0) + b"UTC\0"


def _with(value: object, **state: object) -> object:
    for name, item in state.items():
        object.__setattr__(value, name, item)
    return value


HIDING: dict[str, object] = {
    "secret": Secretive(name="x", token=SecretStr("s")),
    "exclude": Excluding(name="x"),
    "private": Private(name="x"),
    "extra": Extra(name="x", more=1),  # type: ignore[call-arg]
    "field serializer": Masking(name="x"),
    "model serializer": MaskingAll(name="x"),
    "serializer within": MaskingWithin(names=["x"]),
    "nested": Holder(held=Masking(name="x")),
    "nested in a dataclass": Transfer(Private(name="x"), Decimal(1)),  # type: ignore[arg-type]
    "cached property": _cached(),
    "pydantic dataclass": MaskingData("x"),
    "list": Listed("x"),
    "exception": Failure("x"),
    "state of its own": Dice(),
    "extra attribute": _with(Bank("GLS"), hidden=1),
    "extra slot": _with(Hiding("x"), hidden=1),
    "getattribute": Lying("x"),
    "undeclared None": _with(Bank("GLS"), hidden=None),
    "undeclared mapping": _with(Bank("GLS"), hidden={}),
    "undeclared in a model": _with(Line(sku="A", price=Decimal(1)), hidden={}),
    "undeclared slot": _with(Hiding("x"), hidden=None),
    "covered slot": _twice(),
    "odd name": _keyed(),
    "odd mapping": _shelved(),
    "odd fields set": _with(Line(sku="A", price=Decimal(1)), __pydantic_fields_set__=frozenset()),
    "odd name of a field": _with(Line(sku="A", price=Decimal(1)), __pydantic_fields_set__={Odd("sku")}),
    "list made as an object": list.__new__(Filling),
    "finalizer": Ending("x"),
    "without fields": Marker(),
    "proxy": Proxy(),
    "property": Shadowing("x"),
    "new": Making("x"),
    "unset": Unset(),
    "class": Bank,
    "other text": Twofold.A,
    "mutable member": Shared.A,
    "member with state": Carrying.A,
    "member with other state": Dated.A,
    "zone": datetime(2026, 11, 24, tzinfo=Wandering()),
    "zone in C": datetime(2026, 11, 24, tzinfo=Hasty()),
    "zone with a name of its own": datetime(2026, 11, 24, tzinfo=ZoneInfo.from_file(io.BytesIO(ZONE), key=Odd("UTC"))),
    "fold": datetime(2026, 10, 25, 2, 30, fold=1),  # noqa: DTZ001
    "zone without a name": datetime(2026, 11, 24, tzinfo=ZoneInfo.from_file(io.BytesIO(ZONE))),
}


@pytest.mark.parametrize("value", HIDING.values(), ids=HIDING)
def test_what_hides_something_is_opaque(open_world: Any, value: object) -> None:
    """It runs only in an open tool, as itself; inspector and policy see a marker, and no digest holds it."""
    watch = Watch()
    world = open_world(policy=watch, inspectors=[watch])
    with world.task(Scope("tool")):
        world.tool()(value)
    ((_, ran, _),) = world.ran
    assert ran is value
    assert repr(watch.decided) == repr(watch.inspected) == "[<opaque>]"
    assert world.records("intent")[0]["action"]["names"] == ["x:opaque"]
    with world.task(Scope("tool", x=NotOneOf("something"))), world.refused("argument_out_of_scope", OutOfScope):
        world.tool()(value)


def test_no_copy_of_what_ends_in_its_own_way_is_made(world: Any) -> None:
    """A finalizer runs for the object itself, neither for an argument that was only judged nor for a result."""
    ENDED.clear()
    given, made = Ending("argument"), Ending("result")
    tool = world.enforcer.tool(name="tool")(lambda x: made if x else None)
    with world.task(Scope("tool")):
        assert tool(given) is made
        assert tool([given]) is made
    with world.task(Scope("other")), pytest.raises(OutOfScope):
        tool(given)
    assert ENDED == []


def test_a_result_is_not_copied_for_its_digest(world: Any) -> None:
    """Only JSON results have digests: what is an object has none, and no second object is made of it."""

    class Later(Bank):
        """A class that gets a finalizer after its objects were judged."""

    given = [Later("x")]
    tool = world.enforcer.tool(name="tool")(lambda x: given)
    with world.task(Scope("tool")):
        tool(given)
        Later.__del__ = lambda self: ended.append(self.name)  # type: ignore[attr-defined]
        ended: list[str] = []
        assert tool(1) is given
    assert ended == []
    assert ["result" in record["action"] for record in world.records("outcome")] == [False, False]


def test_a_marker_stays_itself(world: Any) -> None:
    """A dataclass without fields tells by its identity that nothing was given, also where a scope judges the rest."""
    nothing = Marker()
    seen: list[bool] = []

    @world.enforcer.tool(name="tool")
    def tool(name: str, phone: object = nothing) -> None:
        seen.append(phone is nothing)

    with world.task(Scope("tool", name=Exact("bob"))):
        tool("bob")
    with world.task(Scope("tool")):
        tool("bob", phone=nothing)
    assert seen == [True, True]


def test_a_copy_shares_nothing_that_pydantic_keeps(world: Any) -> None:
    """A model that permits undeclared members, and has none, is judged; its copy has a place of its own for them."""
    given = Extra(name="x")
    with world.task(Scope("tool", x=Exact({"name": "x"}))):
        world.tool()(given)
    ((_, ran, _),) = world.ran
    assert ran == given
    assert ran.__pydantic_extra__ is not given.__pydantic_extra__
    assert ran.__pydantic_fields_set__ is not given.__pydantic_fields_set__


def test_slots_are_read_without_code_of_the_class(world: Any) -> None:
    """A slot that holds nothing is not looked for by ``__getattr__``."""
    asked: list[str] = []

    @dataclasses.dataclass
    class Sparse:
        __slots__ = ("more", "name")
        name: str

        def __getattr__(self, name: str) -> object:
            asked.append(name)
            raise RuntimeError

    with world.task(Scope("tool", x=Exact({"name": "x"}))):
        world.tool()(Sparse("x"))
    assert asked == []
    assert type(world.ran[0][1]) is Sparse


def test_a_dataclass_made_by_an_alias_is_judged_like_any_other(world: Any) -> None:
    """What ``Box[int](1)`` leaves in the object is no state that hides something."""

    @dataclasses.dataclass
    class Box(Generic[Held]):
        x: Held

    with world.task(Scope("tool", x=Exact({"x": 1}))):
        world.tool()(Box[int](1))
    assert world.ran == [("tool", Box(1), {})]


def test_what_changes_after_the_check_changes_no_count_and_no_digest(open_world: Any) -> None:
    """One form is judged, counted and digested, even if a policy changes the copy that it cannot see."""

    class Meddler(Watch):
        """A policy that changes the value of an enum member."""

        def decide(self, request: Request) -> Decision:
            Meddled.A._value_ = 100
            return super().decide(request)

    class Meddled(enum.Enum):
        """Members whose values are changed."""

        A = 1

    world = open_world(policy=Meddler(), privacy=Privacy(disclosable=True))
    with world.task(Scope("tool", x=Exact(1)), limits=[Limit.sum("tool", "x", 1)]):
        world.tool()(Meddled.A)
    (intent,) = world.records("intent")
    world.enforcer.close()
    assert disclose(world.directory, intent["id"], {"x": 1})


def test_a_subclass_is_judged_with_all_of_its_fields(open_world: Any) -> None:
    """A field that only a subclass has is not left out because a base class was declared."""

    class Special(Line):
        """A line with more than a line has."""

        bonus: Decimal

    given = order().model_copy(update={"lines": [Special(sku="A-1", price=Decimal(1), bonus=Decimal(10**6))]})
    world = open_world(policy=RuleSet(Rule(Effect.BLOCK, when={"args.x.lines": {"contains": [SPECIAL]}}, id="r")))
    with world.task(Scope("tool")), world.refused("policy_blocks", PolicyBlocked):
        world.tool()(given)


SPECIAL = {"sku": "A-1", "price": 1, "bonus": 10**6}


@pytest.mark.parametrize(
    "value",
    [
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
        Decimal("1E+1000"),
        Decimal("1E-1000"),
        Decimal("1E+999999999"),
        Bank(float("nan")),  # type: ignore[arg-type]
        Bank("\ud800"),
        Line.model_construct(sku="A", price=Decimal("Infinity")),
    ],
    ids=str,
)
def test_ac_50_numbers_and_texts_without_a_meaning_run_nowhere_in_any_dress(world: Any, value: object) -> None:
    """NaN, infinities, endless digits and lone surrogates are refused in decimals, dataclasses and models too."""
    with world.task(Scope("tool")), world.refused("bad_arguments", digest=False):
        world.tool()(value)


def test_an_object_that_holds_itself_is_refused(world: Any) -> None:
    """A cycle through a dataclass ends like one through a list."""
    bank = Bank("GLS")
    bank.name = bank  # type: ignore[assignment]
    with world.task(Scope("tool")), world.refused("bad_arguments", digest=False):
        world.tool()(bank)


# -------------------------------------------------------------------------------------------------- order of the checks


class Counting(Watch):
    """An inspector that finds a needle in what it can read."""

    def inspect(self, content: Content) -> list[Finding]:
        """Find the word wherever it stands."""
        super().inspect(content)
        found = "needle" in repr(content.value)
        return [Finding(category="needle", inspector="counting")] if found else []


def test_inspectors_see_what_models_hold(open_world: Any) -> None:
    """A finding deep inside a model reaches the policy."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"findings.categories": {"contains": ["needle"]}}, id="r"))
    world = open_world(policy=policy, inspectors=[Counting()])
    given = order().model_copy(update={"bank": Bank("needle")})
    with world.task(Scope("tool")), world.refused("policy_blocks", PolicyBlocked):
        world.tool()(given)


def test_inspectors_do_not_run_for_calls_that_the_grant_refuses(open_world: Any) -> None:
    """What is out of scope is refused before anybody looks into it, and so is what has no task."""
    inspector = Counting()
    world = open_world(inspectors=[inspector])
    tool = world.tool()
    with world.task(Scope("tool", x=Exact("a"))):
        with world.refused("argument_out_of_scope", OutOfScope):
            tool("needle")
        with world.refused("argument_not_granted", OutOfScope):
            tool("a", y="needle")
        with world.refused("tool_not_granted", OutOfScope, tool="other"):
            world.tool("other")("needle")
        assert inspector.inspected == []
        tool("a")
    with world.refused("no_task", chain=None):
        tool("needle")
    assert inspector.inspected == ["a"]


@pytest.mark.parametrize("looker", ["inspector", "policy"])
def test_what_is_looked_at_is_no_way_to_what_the_body_gets(open_world: Any, looker: str) -> None:
    """An inspector or a policy of others that changes what it is shown changes a copy: the grant was checked before."""

    class Changing:
        name, version, digest = "changing", "1", "A" * 43

        def inspect(self, content: Content) -> list[Finding]:
            if content.direction == "input":
                content.value["x"].append("y")
                content.value["x"][0]["deep"].append("z")
            return []

        def decide(self, request: Request) -> Decision:
            request.arguments["x"].append("y")
            request.arguments["x"][0]["deep"].append("z")
            return Decision(effect=Effect.ALLOW, reason="policy_allows")

    options = {"inspectors": [Changing()]} if looker == "inspector" else {"policy": Changing()}
    world = open_world(**options)
    body = world.tool()
    with world.task(Scope("tool", x=Exact([{"deep": []}]))):
        assert body([{"deep": []}]) == [{"deep": []}]
