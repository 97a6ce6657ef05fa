"""Calls counted against the limits of their task: uses from the records, sums from the amounts that are disclosed."""

from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias, final

from agent_identity.audit.findings import Place
from agent_identity.audit.grant_usage import GrantUsage
from agent_identity.authority import Limit, amount_of, limits_from_claim, parse_compact
from agent_identity.canonical import decode
from agent_identity.errors import TokenError

__all__ = ["SpentLimits", "disclosed_amount"]

_MAX_TASKS: Final = 100_000  # Tasks with limits in memory, of some 600 bytes each.
_Add: TypeAlias = Callable[[str, str, Place], None]


@final
class SpentLimits:
    """Uses under the limits of each root grant, over all that was delegated from it.

    Bodies that came to an end are counted, for each of them had a share of its own. One that was suspended for good, or
    whose outcome nobody recorded, is not: its rerun may have taken its share over. Rates are not
    counted: a store may count an amount for longer than its window, and records show when a call began, not when it
    was debited.

    Args:
        add: Takes what is found.

    Attributes:
        not_counted: Grants that came after memory was full.
    """

    def __init__(self, add: _Add) -> None:
        self._add = add
        self._tasks: dict[str, tuple[tuple[Limit, ...], Counter[str], list[Place]]] = {}
        self.not_counted = 0

    def take(self, use: GrantUsage, leaf: str) -> None:
        """Count what was done under a grant.

        Args:
            use: What was done.
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
    """Return the limits of a grant; of one that is malformed, which is reported elsewhere, none."""
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
