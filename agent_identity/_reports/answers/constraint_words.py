"""Constraints of a grant in words, such as ``amount from 0 to 5,000``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from agent_identity._common.narrowing import is_array, is_mapping

_VALUES: Final = 8
_DEPTH: Final = 4


def bounds_in_words(arguments: Mapping[str, object]) -> str:
    """Return what the arguments of a tool may be; ``any arguments`` without constraints.

    Args:
        arguments: The constraint of each argument, as the grant spells it. An unknown form is named, and never guessed.
    """
    if not arguments:
        return "any arguments"
    return ", ".join(f"{name} {_words(claim, _DEPTH)}" for name, claim in sorted(arguments.items()))


def _words(claim: object, depth: int) -> str:
    kind = claim.get("constraint_type") if is_mapping(claim) else None
    if not is_mapping(claim) or not isinstance(kind, str) or not depth:
        return "bounded"
    if kind == "range":
        return _range(claim)
    if kind in _CLAUSES:
        clauses = claim.get("constraints")
        parts = [_words(one, depth - 1) for one in clauses] if is_array(clauses) else []
        return f"({_CLAUSES[kind].join(parts)})"
    member, words = _LISTED.get(kind, ("", None))
    return f"bounded by {kind}" if words is None else words(claim.get(member))


def _range(claim: Mapping[object, object]) -> str:
    low, high = claim.get("min"), claim.get("max")
    from_ = "from" if claim.get("min_inclusive", True) is True else "above"
    to = "to" if claim.get("max_inclusive", True) is True else "below"
    if low is None and high is None:
        return "any number"
    if low is None:
        return f"up to {_value(high)}" if to == "to" else f"below {_value(high)}"
    if high is None:
        return f"{from_} {_value(low)}"
    return f"{from_} {_value(low)} {'and ' if to == 'below' else ''}{to} {_value(high)}"


def _several(values: object, between: str = " or ") -> str:
    items: Sequence[object] = values if is_array(values) else [values]
    named = [_value(one) for one in items[:_VALUES]]
    more = [f"{len(items) - _VALUES:,} more"] if len(items) > _VALUES else []
    *first, last = [*named, *more] or ["nothing"]
    return f"{', '.join(first)}{between}{last}" if first else last


def _value(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:,}"
    if is_array(value):
        return f"a list of {_several(value, ' and ')}" if value else "an empty list"
    if is_mapping(value):
        return f"an object with {_several([str(key) for key in value], ' and ')}" if value else "an empty object"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    return text if text and not any(map(str.isspace, text)) else f"“{text}”"


_CLAUSES: Final[Mapping[str, str]] = {"all": " and ", "any": " or "}
_LISTED: Final[Mapping[str, tuple[str, Callable[[object], str]]]] = {
    "exact": ("value", lambda value: f"exactly {_value(value)}"),
    "one_of": ("values", _several),
    "not_one_of": ("excluded", lambda values: f"anything but {_several(values, ' and ')}"),
    "contains": ("required", lambda values: f"with at least {_several(values, ' and ')}"),
    "subset": ("allowed", lambda values: f"only of {_several(values, ' and ')}"),
    "wildcard": ("", lambda _: "any"),
    "path_within": ("root", lambda root: f"under {_value(root)}"),
    "url_within": ("prefix", lambda prefix: f"under {_value(prefix)}"),
    "email_domain": ("domains", lambda domains: f"at {_several(domains)}"),
    "prefix": ("prefix", lambda prefix: f"beginning with {_value(prefix)}"),
}
