"""Counts calls against the limits of their task: uses from the records, sums from disclosed amounts."""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple, TypeAlias, final

from agent_identity._authority.grants.limits import Limit, amount_of, limits_from_claim
from agent_identity._identity.keys.jws import parse_compact
from agent_identity._verify.grants.grant_usage import GrantUsage
from agent_identity._verify.report.findings import Place
from agent_identity.canonical import decode
from agent_identity.errors import TokenError

_MAX_TASKS: Final = 100_000  # Tasks with limits in memory, of some 600 bytes each.
_Add: TypeAlias = Callable[[str, str, Place], None]


class _Spent(NamedTuple):
    """What was used of a limit, and the place of the last call."""

    most: int
    used: int
    place: Place


@final
class SpentLimits:
    """Counts uses under the limits of each root grant, over all grants delegated from it.

    Every finished body counts as one use. A body that stays suspended, or whose outcome was not recorded, does not
    count: its rerun may have spent its use. Rates are not counted: a store may count an amount for longer than its
    window, and records show the start of a call, not the time of its debit.

    Args:
        add: Takes what is found.

    Attributes:
        not_counted: Number of grants that came after memory was full.
    """

    def __init__(self, add: _Add) -> None:
        self._add = add
        self._tasks: dict[str, dict[str, _Spent]] = {}
        self.not_counted = 0

    def take(self, use: GrantUsage, leaf: str) -> None:
        """Count the usage of a grant.

        Args:
            use: The usage.
            leaf: The grant. Limits are equal along its chain, which is judged elsewhere; where they are not, the least
                counts for all.
        """
        limits = _limits_of(leaf) if use.ended else ()
        if not limits:
            return
        root = use.said.chain[0].grant
        if root not in self._tasks and len(self._tasks) >= _MAX_TASKS:
            self.not_counted += 1
            return
        spent = self._tasks.setdefault(root, {})
        for limit in limits:
            if limit.kind == "uses":
                before = spent.get(limit.tool, _Spent(limit.most, 0, use.place))
                used = before.used + (sum(use.ended.values()) if limit.tool == "*" else use.ended.get(limit.tool, 0))
                spent[limit.tool] = _Spent(min(limit.most, before.most), used, use.last.place())

    def settle(self) -> None:
        """Report every limit on uses that was exceeded."""
        for task in self._tasks.values():
            for tool, spent in task.items():
                if spent.used > spent.most:
                    message = f"the task allows {spent.most} uses of {tool!a}, and {spent.used} ran"
                    self._add("limit_exceeded", message, spent.place)


def _limits_of(token: str) -> tuple[Limit, ...]:
    """Return the limits of a grant; an empty tuple for a malformed one, which is reported elsewhere."""
    try:
        payload = parse_compact(token).payload
        if b'"limits":' not in payload:
            return ()
        claims = decode(payload)
        return limits_from_claim(claims["limits"]) if isinstance(claims, dict) and "limits" in claims else ()
    except (TokenError, ValueError):
        return ()


def disclosed_amount(limit: Limit, shown: Mapping[str, object]) -> int | None:
    """Return the amount of a disclosed call under a sum, in millionths; ``None`` if it is not shown.

    A call runs under a sum only with a number, so text is a decimal number in its JSON form.
    """
    value = shown.get(limit.argument or "")
    try:
        return amount_of(Decimal(value) if isinstance(value, str) else value)
    except InvalidOperation:
        return None
