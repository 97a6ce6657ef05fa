"""The constraint vocabulary that scopes and policies share."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._constraints.combinators import AllOf, AnyOf
    from agent_identity._constraints.literals import (
        Constraint,
        Contains,
        Exact,
        NotOneOf,
        OneOf,
        Range,
        Subset,
        Wildcard,
    )
    from agent_identity._constraints.locations import EmailDomain, PathWithin, Prefix, UrlWithin
    from agent_identity._constraints.optional import IfGiven, judge_of
    from agent_identity._constraints.registry import constraint_from_claim, constraint_of, range_of
    from agent_identity._constraints.value_forms import DecimalText, NoFormError, form_of, with_decimals
    from agent_identity._constraints.values import (
        CONTAINERS,
        MAX_NESTING,
        Walked,
        is_interoperable,
        is_text,
        key_of,
        kinds_inside,
        walked,
    )
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._constraints.combinators": ("AllOf", "AnyOf"),
            "agent_identity._constraints.literals": (
                "Constraint",
                "Contains",
                "Exact",
                "NotOneOf",
                "OneOf",
                "Range",
                "Subset",
                "Wildcard",
            ),
            "agent_identity._constraints.locations": ("EmailDomain", "PathWithin", "Prefix", "UrlWithin"),
            "agent_identity._constraints.optional": ("IfGiven", "judge_of"),
            "agent_identity._constraints.registry": ("constraint_from_claim", "constraint_of", "range_of"),
            "agent_identity._constraints.value_forms": ("DecimalText", "NoFormError", "form_of", "with_decimals"),
            "agent_identity._constraints.values": (
                "CONTAINERS",
                "MAX_NESTING",
                "Walked",
                "is_interoperable",
                "is_text",
                "key_of",
                "kinds_inside",
                "walked",
            ),
        },
    )

__all__ = [
    "CONTAINERS",
    "MAX_NESTING",
    "AllOf",
    "AnyOf",
    "Constraint",
    "Contains",
    "DecimalText",
    "EmailDomain",
    "Exact",
    "IfGiven",
    "NoFormError",
    "NotOneOf",
    "OneOf",
    "PathWithin",
    "Prefix",
    "Range",
    "Subset",
    "UrlWithin",
    "Walked",
    "Wildcard",
    "constraint_from_claim",
    "constraint_of",
    "form_of",
    "is_interoperable",
    "is_text",
    "judge_of",
    "key_of",
    "kinds_inside",
    "range_of",
    "walked",
    "with_decimals",
]
