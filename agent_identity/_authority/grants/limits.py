"""Limits of a task: number of tool calls, their rate, and the sum of an argument.

Limits are signed in the root grant and equal in every grant under it. What is spent is counted under the root's
id, so everything that was delegated from it shares one account.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_CEILING, Context, Decimal
from typing import Final, Literal, Self, TypeAlias, final

from agent_identity._authority.grants.scope import check_tool_name
from agent_identity._authority.stores.protocol import MAX_NUMBER, Debit
from agent_identity._common.narrowing import int_of, is_object, optional_text_of, text_of, word_of
from agent_identity._common.typed_calls import typed_calls
from agent_identity._constraints.value_forms import DecimalText
from agent_identity._constraints.values import is_text
from agent_identity.canonical import JSON
from agent_identity.errors import LimitExceeded, TokenError

Kind: TypeAlias = Literal["uses", "sum", "rate"]

MAX_LIMITS: Final = 64
"""Limits of one task, at most."""

MICRO: Final = 1_000_000
"""A sum is counted in millionths, so that no amount is lost in rounding."""

ANY_TOOL: Final = "*"
"""Stands for all tools of the task together."""

_MAX_AMOUNT: Final = MAX_NUMBER // MICRO
_MAX_PER: Final = 90 * 24 * 3600
_MILLIONTH: Final = Decimal("0.000001")
_EXACT: Final = Context(prec=64)
_MEMBERS: Final[Mapping[Kind, frozenset[str]]] = {
    "uses": frozenset({"kind", "max", "tool"}),
    "sum": frozenset({"argument", "kind", "max", "tool"}),
    "rate": frozenset({"kind", "max", "per", "tool"}),
}


@typed_calls("uses", "sum", "rate")
@final
@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a task. Made by :meth:`uses`, :meth:`sum` and :meth:`rate`.

    Attributes:
        kind: ``"uses"``, ``"sum"`` or ``"rate"``.
        tool: The tool that it is about, or ``"*"`` for all tools of the task together.
        most: The maximum: uses, or millionths of the amount.
        argument: The argument that a sum is over.
        per: Seconds of the window of a rate.

    Raises:
        TypeError: An attribute has the wrong type.
        ValueError: An attribute is out of range, or does not belong to this kind.
    """

    kind: Kind
    tool: str
    most: int
    argument: str | None = None
    per: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _MEMBERS:
            raise ValueError(
                "the kind of the limit is not 'uses', 'sum' or 'rate'; write Limit.uses(...) or one of these"
            )
        if self.tool != ANY_TOOL or self.kind == "sum":
            check_tool_name(self.tool)
        _check_range("the maximum of a limit", self.most, 0, MAX_NUMBER)
        present = (self.argument is not None, self.per is not None)
        if present != (self.kind == "sum", self.kind == "rate"):
            raise ValueError(
                "the limit has other members than its kind; give an argument for a sum, and a window for a rate"
            )
        if self.argument is not None and (
            not is_text(self.argument) or not 0 < len(self.argument) <= 128 or not self.argument.isprintable()
        ):
            raise ValueError("the argument of the sum is not a name of 1 to 128 visible characters")
        if self.per is not None:
            _check_range("the window of a rate", self.per, 1, _MAX_PER)

    @classmethod
    def uses(cls, tool: str, most: int) -> Self:
        """Return a limit on the number of calls.

        Args:
            tool: The name of a tool, or ``"*"`` for all tools of the task together.
            most: The maximum number of calls, from 0 to 2^53.
        """
        return cls("uses", tool, most)

    @classmethod
    def sum(cls, tool: str, argument: str, most: float | Decimal) -> Self:
        """Return a limit on the sum of an argument over all calls, such as an amount of money.

        Args:
            tool: The name of a tool.
            argument: The argument that holds the amount; it has to be a number, and not negative.
            most: The maximum sum, from 0 to 9,007,199,254, with at most six decimal places.
        """
        amount = amount_of(most)
        if amount is None or amount > MAX_NUMBER or Decimal(amount).scaleb(-6, _EXACT) != _decimal(most):
            raise ValueError(
                f"the maximum of the sum is not a number from 0 to {_MAX_AMOUNT} with at most six decimal places"
            )
        return cls("sum", tool, amount, argument=argument)

    @classmethod
    def rate(cls, tool: str, most: int, *, per: timedelta) -> Self:
        """Return a limit on the number of calls in any window of a length.

        Args:
            tool: The name of a tool, or ``"*"`` for all tools of the task together.
            most: The maximum number of calls in any such window, from 0 to 2^53.
            per: The length of the window, whole seconds, from one second to 90 days.
        """
        seconds, rest = divmod(per, timedelta(seconds=1))
        if rest:
            raise ValueError("the window of the rate is not in whole seconds")
        return cls("rate", tool, most, per=seconds)

    def to_claim(self) -> dict[str, JSON]:
        """Return the limit as claim of a grant."""
        claim: dict[str, JSON] = {"kind": self.kind, "max": self.most, "tool": self.tool}
        if self.argument is not None:
            claim["argument"] = self.argument
        if self.per is not None:
            claim["per"] = self.per
        return claim

    @classmethod
    def from_claim(cls, claim: object) -> Self:
        """Return the limit of a grant.

        Raises:
            TypeError: It is no object, or a member has the wrong type.
            ValueError: A member is missing, unknown or out of range.
        """
        if not is_object(claim):
            raise TypeError("the limit is not an object")
        # A newer version may know limits that this one cannot keep.
        if "kind" not in claim or _MEMBERS[kind := word_of(claim, "kind", _MEMBERS)] != frozenset(claim):
            raise ValueError("the limit is of an unknown kind, or has other members than its kind")
        return cls(
            kind=kind,
            tool=text_of(claim, "tool"),
            most=int_of(claim, "max"),
            argument=optional_text_of(claim, "argument"),
            per=int_of(claim, "per") if "per" in claim else None,
        )


def amount_of(value: object) -> int | None:
    """Return a number in millionths, rounded up, or ``None`` for a negative number or another type.

    A ``float`` counts as the shortest decimal that means it. Whatever is more than 2^53 millionths comes back as
    just that much more.
    """
    number = _decimal(value)
    if number is None or number < 0:
        return None
    if number > _MAX_AMOUNT:
        return MAX_NUMBER + 1
    return int(number.quantize(_MILLIONTH, ROUND_CEILING, _EXACT).scaleb(6, _EXACT))


def _decimal(value: object) -> Decimal | None:
    if type(value) is int:
        return Decimal(value)
    if type(value) is DecimalText:
        return Decimal(value)
    if type(value) is float:
        return Decimal(repr(value)) if math.isfinite(value) else None
    if type(value) is Decimal and value.is_finite():
        return value
    return None


def _check_range(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int:
        raise TypeError(f"{name} is {type(value).__name__}; give an int")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; give {low} to {high}")


def check_limits(limits: Sequence[Limit], tools: Mapping[str, object]) -> tuple[Limit, ...]:
    """Return the limits as a tuple after checking them against the tools of the task.

    Raises:
        TypeError: One of them is no limit.
        ValueError: They are more than 64, one stands there twice, or one is of a tool that is not in the scope.
    """
    checked = tuple(limits)
    for limit in checked:
        if not _is_limit(limit):
            raise TypeError(f"a limit is {type(limit).__name__}; write limits=(Limit.uses(…),)")
        if limit.tool != ANY_TOOL and limit.tool not in tools:
            # A misspelt name would be a limit that never limits.
            raise ValueError(f"a limit is on {limit.tool!r}, which is not in the scope; correct it")
    _check_set(checked)
    return checked


def _is_limit(value: object) -> bool:
    return type(value) is Limit


def _check_set(limits: Sequence[Limit]) -> None:
    if len(limits) > MAX_LIMITS:
        raise ValueError(f"there are {len(limits)} limits; give at most {MAX_LIMITS}")
    if len({(limit.kind, limit.tool, limit.argument, limit.per) for limit in limits}) != len(limits):
        raise ValueError("two limits of one kind are over the same; keep the lower one")


def limits_claim(limits: Sequence[Limit]) -> JSON:
    """Return the claim ``limits`` of a grant."""
    return [limit.to_claim() for limit in limits]


def limits_from_claim(claim: JSON) -> tuple[Limit, ...]:
    """Return the limits of a grant.

    Raises:
        TokenError: With code ``bad_limits``.
    """
    if not isinstance(claim, list) or not claim:
        raise TokenError("the limits of the grant are not an array, or are empty", code="bad_limits")
    try:
        limits = tuple(Limit.from_claim(entry) for entry in claim[: MAX_LIMITS + 1])
        _check_set(limits)
    except (TypeError, ValueError) as error:
        raise TokenError(f"bad limits in a grant: {error}", code="bad_limits") from None
    return limits


def debits_for(
    limits: Sequence[Limit], account: str, tool: str, arguments: Mapping[str, object], expires_at: int
) -> tuple[list[Debit], list[Limit]]:
    """Return the debits of a call and the limits that they belong to, in the same order.

    Args:
        limits: All limits of the task.
        account: The id of the root grant.
        tool: The tool that is about to run.
        arguments: Its arguments, defaults included.
        expires_at: When the root grant expires, in Unix seconds.

    Raises:
        LimitExceeded: The argument of a sum is not there (``amount_missing``), or no number, or negative
            (``amount_invalid``), or alone more than the limit (``limit_exceeded``).
    """
    debits: list[Debit] = []
    meant: list[Limit] = []
    for number, limit in enumerate(limits):
        if limit.tool not in (tool, ANY_TOOL):
            continue
        amount = 1 if limit.argument is None else _amount(tool, limit.argument, arguments)
        if amount > limit.most:  # More than a counter may be able to hold.
            raise exceeded(tool, limit)
        meant.append(limit)
        debits.append(Debit(f"limit:{account}:{number}", amount, limit.most, limit.per, expires_at))
    return debits, meant


def exceeded(tool: str, limit: Limit) -> LimitExceeded:
    """Return the refusal of a call that a limit does not allow; it names no amounts."""
    scope = "all tools together" if limit.tool == ANY_TOOL else "this tool"
    what = {
        "uses": f"the uses of {scope} in the task are used up; open a new task, or one with a higher limit",
        "sum": f"the sum over argument {limit.argument!r} would exceed the limit of the task; ask for less, or open a "
        "task with a higher limit",
        "rate": f"the rate of {scope} in the task is reached; wait a while",
    }
    return LimitExceeded(f"{tool}: {what[limit.kind]}")


def _amount(tool: str, argument: str, arguments: Mapping[str, object]) -> int:
    if argument not in arguments:
        raise LimitExceeded(
            f"{tool}: argument {argument!r}, over which the task has a limit, is missing; pass it",
            code="amount_missing",
        )
    amount = amount_of(arguments[argument])
    if amount is None:
        raise LimitExceeded(
            f"{tool}: argument {argument!r}, over which the task has a limit, is negative or not a "
            "number; pass a number",
            code="amount_invalid",
        )
    return amount
