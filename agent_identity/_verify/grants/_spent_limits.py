"""Counts calls against the limits of their task: uses from the records, sums from disclosed amounts."""

from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias, final

from agent_identity._authority.grants.limits import Limit, amount_of, limits_from_claim
from agent_identity._identity.keys.jws import parse_compact
from agent_identity._verify.grants.grant_usage import GrantUsage
from agent_identity._verify.report.findings import Place
from agent_identity.canonical import decode
from agent_identity.errors import TokenError

_MAX_TASKS: Final = 100_000  # Tasks with limits in memory, of some 600 bytes each.
_Add: TypeAlias = Callable[[str, str, Place], None]


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
        self._tasks: dict[str, tuple[tuple[Limit, ...], Counter[str], list[Place]]] = {}
        self.not_counted = 0

    def take(self, use: GrantUsage, leaf: str) -> None:
        """Count the usage of a grant.

        Args:
            use: The usage.
            leaf: The grant; limits are equal along its chain, which is judged elsewhere.
        """
        limits = _limits_of(leaf) if use.ended else ()
        if not limits:
            return
        root = use.said.chain[0].grant
        if root not in self._tasks and len(self._tasks) >= _MAX_TASKS:
            self.not_counted += 1
            return
        _, counts, place = self._tasks.setdefault(root, (limits, Counter(), [use.place]))
        counts.update(use.ended)
        place[0] = use.last.place()

    def settle(self) -> None:
        """Report every limit on uses that was exceeded."""
        for limits, counts, (place,) in self._tasks.values():
            for limit in limits:
                if limit.kind == "uses":
                    spent = sum(counts.values()) if limit.tool == "*" else counts[limit.tool]
                    if spent > limit.most:
                        message = f"the task allows {limit.most} uses of {limit.tool!a}, and {spent} ran"
                        self._add("limit_exceeded", message, place)


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
