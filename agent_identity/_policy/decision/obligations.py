"""Obligations of allow and warn rules: changes to parts of a result before the caller gets it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final, get_args

from agent_identity._common.narrowing import is_array, is_object
from agent_identity._policy.decision.patterns import check_patterns, matches
from agent_identity._policy.decision.places import Path, Problem, quoted, words
from agent_identity.canonical import JSON

ObligationAction: TypeAlias = Literal["redact", "mask", "tokenize", "placeholder", "drop", "quarantine", "withhold"]
"""Action on a finding in a result."""

_ACTIONS: Final[tuple[ObligationAction, ...]] = get_args(ObligationAction)
_MAX: Final = 64


@final
@dataclass(frozen=True, slots=True, init=False)
class Obligation:
    """Something to do to a result before the caller gets it; a result for which it cannot be done is withheld.

    ``redact`` puts a placeholder in the place of what was found, ``mask`` leaves its last four characters,
    ``tokenize`` puts a keyed digest there that is the same for the same text within a task, ``drop`` takes out the
    member or item that holds it, and ``withhold`` keeps back the whole result. ``placeholder`` puts a handle there, for
    which tools that say so get the text again, and ``quarantine`` keeps back the whole result under such a handle; both
    end with the task.

    Args:
        action: What to do.
        categories: The categories of findings that it is for, with ``*`` and ``?`` as wildcards; by default all.

    Raises:
        ValueError: The action or a category is malformed.
    """

    action: ObligationAction
    categories: tuple[str, ...]

    def __init__(self, action: ObligationAction, *categories: str) -> None:
        if action not in _ACTIONS:
            raise ValueError(f"unknown action of an obligation; use {', '.join(_ACTIONS)}")
        try:
            patterns = check_patterns(categories or ("*",), ())
        except Problem:
            raise ValueError("a category is malformed; write for instance 'pii.iban' or 'secret.*'") from None
        object.__setattr__(self, "action", action)
        object.__setattr__(self, "categories", patterns)

    def covers(self, category: str) -> bool:
        """Tell whether it is for findings of a category.

        Args:
            category: The category.
        """
        return any(matches(pattern, category) for pattern in self.categories)


def parse_obligations(value: object, path: Path) -> tuple[Obligation, ...]:
    """Return the obligations of a rule, as objects or as data: ``[{"redact": ["pii.iban"]}]``.

    Raises:
        Problem: One is malformed.
    """
    items = value if is_array(value) else None
    if items is None or len(items) > _MAX:
        raise Problem(
            f"obligations is no list of at most {_MAX} items; write for instance [{{redact: pii.iban}}]", path
        )
    return tuple(_parsed(item, (*path, index)) for index, item in enumerate(items))


def _parsed(value: object, path: Path) -> Obligation:
    if type(value) is Obligation:
        return value
    if not is_object(value) or len(value) != 1:
        raise Problem(f"the obligation is no mapping with one key; use one of {words(_ACTIONS)}", path)
    action = next(iter(value))
    if action not in _ACTIONS:
        raise Problem(f"unknown obligation {quoted(action)}; use one of {words(_ACTIONS)}", (*path, action))
    patterns = check_patterns(value[action], (*path, action))
    return Obligation(action, *patterns)


def describe_obligations(obligations: Sequence[Obligation]) -> Sequence[Mapping[str, JSON]]:
    """Return the canonical description of obligations for the digest of their policy."""
    return [{obligation.action: obligation.categories} for obligation in obligations]
