"""Arguments of public calls are checked against their annotations, whatever form these have."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TextIO, TypeVar

import pytest

from agent_identity import Enforcer
from agent_identity._common.typed_calls import typed, typed_calls

T = TypeVar("T")


class Named(Protocol):
    """What has a name and can be asked."""

    name: str

    def ask(self) -> int:
        """Return a number."""
        ...


class Maker(ABC):
    """What makes things."""

    @abstractmethod
    def make(self) -> int:
        """Return a number."""


class _Named:
    name = "a name"

    def ask(self) -> int:
        return 1

    def make(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("hint", "right", "wrong"),
    [
        (int, [1, -1], [True, 1.0, "1", None]),
        (float, [1, 1.5], [True, "1", None]),
        (bool, [True], [1, None]),
        (str, ["x"], [b"x", None]),
        (str | None, ["x", None], [1]),
        (None, [None], [0]),
        (Literal["a", "b"], ["a", "other words are for the call"], [1, None]),
        (Literal["a", 1] | None, ["a", 1, None], [1.0, b"a"]),
        (timedelta, [timedelta(1)], [60, None]),
        (Annotated[int, "note"], [1], ["1"]),
        (Callable[[int], int], [abs, _Named], [1, None]),
        (Sequence[str], [["a"], (), ("a", "b")], ["ab", b"ab", {"a": 1}, [1], ("a", None), None]),
        (Iterable[int], [[1], (1,), range(3)], ["12", [None], 1]),
        (tuple[int, ...], [(), (1, 2)], [[1], (1, "2"), 1]),
        (tuple[int, str], [(1, "a"), ("elements of each place are for the call", 1)], [[1, "a"]]),
        (Mapping[str, int], [{}, {"a": "values are for the call"}], [[("a", 1)], None]),
        (Named, [_Named()], [_Named, object(), 1]),
        (Maker, [_Named()], [_Named, object(), 1]),
        (object, [1, None], []),
        (Any, [1, None], []),
        (T, [1, None], []),
        (TextIO, [1, None], []),
        ("Unknown", [1, None], []),
        ("Sequence[int] | None", [[1], None], [["1"]]),
        (Annotated[Sequence[int], "note"], [[1]], [["1"]]),
        ("list[int]", [[1]], [(1,)]),
    ],
)
def test_an_annotation_says_what_fits(hint: Any, right: list[object], wrong: list[object]) -> None:
    """What fits passes unchanged; what does not is a TypeError that names the parameter."""

    def call(value: Any) -> Any:
        return value

    call.__annotations__["value"] = hint
    checked = typed(call)
    for value in right:
        assert checked(value) is value
        assert checked(value=value) is value
    for value in wrong:
        with pytest.raises(TypeError, match=r"^value(\[\d\])? is "):
            checked(value)


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (timedelta | None, 60, "value is 60; give a datetime.timedelta, for example timedelta(seconds=60) or None"),
        (str, None, "value is None; give str"),
        (int, "canary", "value is str; give int"),
        (Sequence[str | int], b"", "value is bytes; give a list or tuple of str or int"),
        (tuple[int, ...], [1], "value is list; give a tuple of int"),
        (Callable[..., int], 5, "value is 5; give a function"),
        (Literal["on", "off"], 5, "value is 5; give 'on' or 'off'"),
        (Sequence[int], [1, "canary"], "value[1] is str; give int"),
    ],
)
def test_an_error_says_what_is_expected(hint: Any, value: object, message: str) -> None:
    """Numbers are shown, texts never are."""

    def call(value: Any) -> None: ...

    call.__annotations__["value"] = hint
    with pytest.raises(TypeError) as caught:
        typed(call)(value)
    assert str(caught.value) == message


def test_what_a_call_is_not_made_with_is_a_usual_error() -> None:
    """Missing and unknown arguments are refused as by any function; defaults and open lists are not checked."""

    def call(first: int, *rest: int, second: Any = None, **others: int) -> tuple[object, ...]:
        return first, rest, second, others

    checked = typed(call)
    assert checked(1, "2", third="3") == (1, ("2",), None, {"third": "3"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing"):
        checked()  # type: ignore[call-arg]


def test_methods_of_a_class_are_checked_by_name() -> None:
    """Methods and class methods keep working, and a cure is added to the message."""

    @typed_calls("plain", "made", "__init__", number="write 5")
    class Thing:
        def __init__(self, number: int = 0) -> None:
            self.number = number

        def plain(self, number: int) -> "Thing":
            return Thing(number)

        @classmethod
        def made(cls, number: int) -> "Thing":
            return cls(number)

        def open(self, number: int) -> int:
            return number

    assert Thing.made(1).plain(2).number == 2
    for call in (Thing().plain, Thing.made, Thing):
        with pytest.raises(TypeError, match=r"^number is str; give int; write 5$"):
            call("5")  # type: ignore[operator]
    assert Thing().open("5") == "5"  # type: ignore[arg-type, comparison-overlap]


def test_a_call_that_does_not_fit_names_the_function_and_the_cure(tmp_path: Path) -> None:
    """As Python does: which function, and the parameter that may have been meant."""
    with pytest.raises(TypeError, match=r"Enforcer\.open\(\) got an unexpected keyword argument 'policies'"):
        Enforcer.open(tmp_path / "e", policies=None)  # type: ignore[call-arg]
    assert not (tmp_path / "e").exists()
