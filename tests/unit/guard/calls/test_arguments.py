"""Arguments: one snapshot that is judged, run and digested; binding as the function itself would."""

import functools
import inspect
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent_identity import canonical
from agent_identity._guard.calls.arguments import (
    _SOUND,
    MAX_NODES,
    MAX_TEXT,
    OPAQUE,
    BadArgumentsError,
    Binder,
    canonical_bytes,
    capture,
)
from agent_identity.constraints import Wildcard

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.from_regex(r"[a-z]{1,6}", fullmatch=True)


def _containers(value: Any) -> list[int]:
    if type(value) is dict:
        return [id(value), *(i for item in value.values() for i in _containers(item))]
    if type(value) is list:
        return [id(value), *(i for item in value for i in _containers(item))]
    if type(value) is tuple:
        return [i for item in value for i in _containers(item)]
    return []


def _types(value: Any) -> Any:
    if type(value) is dict:
        return {key: _types(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return (type(value), [_types(item) for item in value])
    return type(value)


@given(st.dictionaries(NAMES, PLAIN, max_size=4))
def test_the_snapshot_is_equal_and_shares_no_container(values: dict[str, Any]) -> None:
    """What is JSON-like is copied deeply: equal values of equal types, no list or dict in common."""
    arguments = capture(values, tuple(values))
    assert arguments.values == values
    assert _types(dict(arguments.values)) == _types(values)
    assert arguments.view == values
    assert not arguments.opaque
    assert not set(_containers(values)) & set(_containers(dict(arguments.values)))


@given(st.dictionaries(NAMES | TEXT.filter(bool).filter(str.isprintable), PLAIN, max_size=4))
def test_digested_bytes_are_the_canonical_ones(values: dict[str, Any]) -> None:
    """The fast and the general way to canonical bytes agree with RFC 8785, and so does that of a result."""
    expected = canonical.encode(values)
    assert capture(values, ()).canonical() == expected
    assert canonical_bytes(values) == expected
    assert capture(values, ()).parts() == [canonical.encode([name, values[name]]) for name in sorted(values)]


class Text(str):
    """Looks like text, but may answer differently each time."""

    __slots__ = ()


class Whole(int):
    """Looks like an integer."""


class Dict(dict):  # type: ignore[type-arg]
    """Looks like an object of JSON."""


class Scalar:
    """Says, as numpy scalars do, that it is a number."""

    def __index__(self) -> int:
        return 1

    def __float__(self) -> float:
        return 1.0

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


OPAQUES = [
    object(),
    b"bytes",
    {1, 2},
    frozenset({1}),
    Text("text"),
    Whole(1),
    Dict(a=1),
    OrderedDict(a=1),
    Scalar(),
    1j,
    [1, {"a": object()}],
    {1: "a"},
    {Text("a"): 1},
    (b"x",),
    len,
]


@pytest.mark.parametrize("value", OPAQUES, ids=lambda value: type(value).__name__)
def test_what_is_not_json_like_is_opaque(value: object) -> None:
    """It passes by reference, shows as a marker, satisfies no constraint and stays out of the digest."""
    arguments = capture({"a": value, "b": 1}, ("a", "b"))
    assert arguments.values["a"] is value
    assert arguments.view == {"a": OPAQUE, "b": 1}
    assert list(arguments.opaque) == ["a"]
    assert arguments.canonical() == b'{"b":1}'
    assert arguments.kinds() == ("a:opaque", "b:number")
    assert not Wildcard().permits(arguments.view["a"])
    assert canonical_bytes(value) is None
    assert repr(OPAQUE) == "<opaque>"


def test_injected_arguments_are_opaque_whatever_they_are() -> None:
    """What a framework fills in passes by reference and is no argument of the caller's; null and truth are plain."""
    config = {"thread": "1"}
    arguments = capture({"config": config, "x": 1, "flag": True}, ("x",), injected=("config", "flag"))
    assert arguments.values["config"] is config
    assert list(arguments.opaque) == ["config"]
    assert arguments.canonical() == b'{"flag":true,"x":1}'


def test_kinds_name_every_json_type() -> None:
    """Records show names and kinds in place of values, sorted."""
    values = {"s": "x", "b": True, "i": 1, "f": 1.5, "n": None, "l": [], "t": (), "o": {}, "x": set()}
    assert capture(values, ()).kinds() == (
        "b:boolean",
        "f:number",
        "i:number",
        "l:array",
        "n:null",
        "o:object",
        "s:string",
        "t:array",
        "x:opaque",
    )


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def _cycle(kind: type) -> Any:
    if kind is dict:
        cycle: Any = {}
        cycle["a"] = cycle
    elif kind is list:
        cycle = []
        cycle.append(cycle)
    else:
        inner: list[Any] = []
        cycle = (inner,)
        inner.append(cycle)
    return cycle


def _bomb() -> Any:
    bomb: Any = ["x"] * 10
    for _ in range(9):
        bomb = [bomb] * 10
    return bomb


BAD = [
    (math.nan, "finite"),
    (-math.inf, "finite"),
    ([1, {"a": math.inf}], "finite"),
    (2**63, "64 bits"),
    (-(2**63) - 1, "64 bits"),
    (10**5000, "64 bits"),
    ("\ud800", "surrogate"),
    ({"\udfff": 1}, "surrogate"),
    (["ok", ("\udc00",)], "surrogate"),
    (_deep(65), "more than 64 deep"),
    (_deep(200_000), "more than 64 deep"),
    (_cycle(dict), "more than 64 deep"),
    (_cycle(list), "more than 64 deep"),
    (_cycle(tuple), "more than 64 deep"),
    (_bomb(), "100000 values"),
    ([0] * (MAX_NODES + 1), "100000 values"),
    (dict.fromkeys(map(str, range(MAX_NODES + 1))), "100000 values"),
    ("x" * (MAX_TEXT + 1), "characters"),
    ({"x" * (MAX_TEXT + 1): 1}, "characters"),
]


@pytest.mark.parametrize(("value", "problem"), BAD, ids=[f"{p}-{i}" for i, (_, p) in enumerate(BAD)])
def test_what_has_no_single_meaning_or_is_too_large_is_refused(value: Any, problem: str) -> None:
    """The refusal names the argument and what is wrong, and never shows the value."""
    with pytest.raises(BadArgumentsError, match=problem) as caught:
        capture({"fine": 1, "culprit": value}, ())
    assert caught.value.argument == "culprit"
    assert len(str(caught.value)) < 200
    assert canonical_bytes(value) is None


def test_the_bounds_count_all_arguments_together() -> None:
    """Many arguments that are each small enough are too large together; what just fits, fits."""
    capture({"a": [0] * (MAX_NODES // 2), "b": [0] * (MAX_NODES // 2)}, ())
    capture({"a": "x" * (MAX_TEXT // 2), "b": "x" * (MAX_TEXT // 2)}, ())
    capture({"a": _deep(64), "b": [-(2**63), 2**63 - 1]}, ())
    with pytest.raises(BadArgumentsError, match="values"):
        capture({"a": [0] * (MAX_NODES // 2), "b": [0] * (MAX_NODES // 2 + 1)}, ())
    with pytest.raises(BadArgumentsError, match="characters"):
        capture({"a": "x" * (MAX_TEXT // 2), "b": "x" * (MAX_TEXT // 2 + 1)}, ())


@pytest.mark.parametrize(
    "name",
    ["", "x" * 129, "x" * 100_000, "\ud800", "a\nb", "\x00", "\x1b[2J", "\u2028", "\u202e", Text("name")],
    ids=lambda name: repr(name[:6]),
)
def test_names_that_no_record_can_hold_are_refused(name: str) -> None:
    """Names come from models as well (``**kwargs``): what is empty, endless or invisible is refused, not recorded."""
    with pytest.raises(BadArgumentsError, match="name") as caught:
        capture({"x": 1, name: 2}, ())
    assert caught.value.argument is None
    assert len(str(caught.value)) < 200


def test_a_name_is_refused_again_after_others_were_let_through() -> None:
    """Names that were found sound are remembered, so many of them and no others; one that only equals them is not."""
    for start in range(0, 4 * 256, 256):
        capture({f"remembered{i}": i for i in range(start, start + 256)}, ())
    assert len(_SOUND) <= 1_024
    capture({"remembered0": 1}, ())
    with pytest.raises(BadArgumentsError, match="name"):
        capture({Text("remembered0"): 1}, ())
    for _ in range(2):
        assert capture({"größe": 1}, ()).canonical() == '{"größe":1}'.encode()
        assert "größe" not in _SOUND


def test_the_number_of_arguments_is_bounded() -> None:
    """A record lists the names of all arguments, so a model may not pass any number of them."""
    capture({f"a{i}": i for i in range(256)}, ())
    with pytest.raises(BadArgumentsError, match="at most 256"):
        capture({f"a{i}": i for i in range(257)}, ())


def test_a_list_that_grows_while_it_is_copied_does_not_hold_the_guard_up() -> None:
    """The copy is of one moment: a thread that appends without end neither hangs nor fails it."""
    growing = [0] * 1000
    stop = threading.Event()

    def grow() -> None:
        while not stop.is_set():
            if len(growing) < MAX_NODES:
                growing.append(0)
            else:
                del growing[1000:]

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        for _ in range(10):
            try:
                copied = capture({"a": growing}, ())
            except BadArgumentsError:
                continue
            assert set(copied.values["a"]) == {0}
    finally:
        stop.set()
        thread.join()


# ------------------------------------------------------------------------------------------ binding


KINDS = ["/", "pos", "*args", "kw", "**kw"]


@st.composite
def functions(draw: st.DrawFn) -> Callable[..., Any]:
    """A function of random signature that returns what it got."""
    names = iter("abcdefgh")
    parts: list[str] = []
    optional = False

    def plain(count: int) -> list[str]:
        nonlocal optional
        made = []
        for _ in range(count):
            optional = optional or draw(st.booleans())
            name = next(names)
            made.append(f"{name}={draw(st.integers(0, 9))}" if optional else name)
        return made

    before = plain(draw(st.integers(0, 2)))
    if before:
        parts += [*before, "/"]
    parts += plain(draw(st.integers(0, 2)))
    star = draw(st.booleans())
    only = [
        f"{next(names)}={draw(st.integers(0, 9))}" if draw(st.booleans()) else next(names)
        for _ in range(draw(st.integers(0, 2)))
    ]
    if star:
        parts.append("*args")
    elif only:
        parts.append("*")
    parts += only
    if draw(st.booleans()):
        parts.append("**extra")
    namespace: dict[str, Any] = {}
    exec(f"def f({', '.join(parts)}): return dict(locals())", namespace)  # noqa: S102 - Our own source.
    return namespace["f"]  # type: ignore[no-any-return]


def _answer(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return ("returned", function(*args, **kwargs))
    except TypeError:
        return ("TypeError",)


def _through(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    binder = Binder(function)
    try:
        values, supplied = binder.bind(args, kwargs)
    except TypeError:
        return ("TypeError",)
    assert set(supplied) <= set(values)
    positional, keywords = binder.spread(values, args)
    return ("returned", function(*positional, **keywords))


CALLS = st.tuples(
    st.lists(st.integers(10, 99), max_size=4).map(tuple),
    st.dictionaries(st.sampled_from([*"abcdefghz", "args", "extra"]), st.integers(10, 99), max_size=4),
)


@given(functions(), CALLS)
def test_binding_and_spreading_is_calling(
    function: Callable[..., Any], call: tuple[tuple[int, ...], dict[str, int]]
) -> None:
    """For any signature and any call, the body gets what it would have got, or the same TypeError is raised."""
    args, kwargs = call
    signature = inspect.signature(function)
    # Python lets **extra hold the name of a positional-only parameter; as arguments have one name space, we do not.
    taken = {p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)}
    assume(not taken & set(kwargs) or "extra" not in signature.parameters)
    assert _through(function, args, kwargs) == _answer(function, args, kwargs)


@given(functions(), CALLS)
def test_bound_names_are_those_of_the_call(
    function: Callable[..., Any], call: tuple[tuple[int, ...], dict[str, int]]
) -> None:
    """Defaults are applied under their names, and exactly what the caller gave counts as supplied."""
    args, kwargs = call
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
        values, supplied = Binder(function).bind(args, kwargs)
    except TypeError:
        return  # The property above says which calls are refused.
    given_names = set(bound.arguments)
    if "extra" in given_names:
        given_names = given_names - {"extra"} | set(bound.arguments["extra"])
    assert set(supplied) == given_names
    bound.apply_defaults()
    expected = {**bound.arguments, **bound.arguments.get("extra", {})}
    if "extra" not in bound.arguments.get("extra", {}):
        expected.pop("extra", None)
    assert dict(values) == expected


def test_one_name_for_two_arguments_is_refused() -> None:
    """Where Python would pass two values under one name, nobody could say which one was judged."""

    def positional(a: int, /, **extra: int) -> None: ...

    def starred(*args: int, **extra: int) -> None: ...

    with pytest.raises(TypeError, match="rename one"):
        Binder(positional).bind((1,), {"a": 2})
    with pytest.raises(TypeError, match="rename one"):
        Binder(starred).bind((1,), {"args": 2})


class Till:
    """A class whose methods take money."""

    def pay(self, amount: int, *more: int, note: str = "none") -> tuple[Any, ...]:
        """Pay with everything that a signature can have."""
        return (self, amount, more, note)

    @classmethod
    def open(cls, amount: int) -> tuple[Any, ...]:
        """Be a method of the class."""
        return (cls, amount)

    def plain(this, amount: int) -> tuple[Any, ...]:  # noqa: N805
        """Be a method whose receiver has another name."""
        return (this, amount)


def test_a_receiver_is_no_argument() -> None:
    """``self`` and ``cls`` pass through: they are neither judged nor recorded, and cannot be swapped by name."""
    till = Till()
    for function, receiver in ((Till.pay, till), (Till.open.__func__, Till)):  # type: ignore[attr-defined]
        binder = Binder(function)
        values, supplied = binder.bind((receiver, 5), {})
        assert values["amount"] == 5
        assert {"self", "cls"}.isdisjoint(values)
        assert set(supplied) == {"amount"}
        positional, keywords = binder.spread(values, (receiver, 5))
        assert function(*positional, **keywords)[:2] == (receiver, 5)
    bound = Binder(till.pay)
    assert bound.bind((5,), {})[0]["amount"] == 5
    named = Binder(Till.plain, method=True)
    assert dict(named.bind((till, 5), {})[0]) == {"amount": 5}
    assert dict(Binder(Till.plain).bind((till, 5), {})[0]) == {"this": till, "amount": 5}


def test_a_receiver_by_keyword_is_a_type_error() -> None:
    """A receiver that comes by name is refused before anything is recorded, not after."""
    with pytest.raises(TypeError, match="self"):
        Binder(Till.pay).bind((), {"self": Till(), "amount": 5})


def test_a_plain_function_named_self_is_no_method() -> None:
    """Outside a class the first parameter is an argument, whatever it is called."""

    def pay(self: int, amount: int) -> int:
        return self + amount

    assert dict(Binder(pay).bind((1, 2), {})[0]) == {"self": 1, "amount": 2}


def test_partials_and_callable_objects_bind() -> None:
    """What is already filled in shows as a default, and is no argument that the caller supplied."""

    class Adder:
        def __call__(self, x: int, y: int = 2) -> int:
            return x + y

    values, supplied = Binder(functools.partial(lambda x, y: x + y, y=5)).bind((1,), {})
    assert (dict(values), set(supplied)) == ({"x": 1, "y": 5}, {"x"})
    values, supplied = Binder(Adder()).bind((1,), {})
    assert (dict(values), set(supplied)) == ({"x": 1, "y": 2}, {"x"})
