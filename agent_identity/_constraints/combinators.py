"""Combined constraints: all clauses, or any clause."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, final

from agent_identity._common.narrowing import is_array, is_mapping
from agent_identity._constraints.literals import LITERAL_KINDS, Constraint
from agent_identity._constraints.locations import LOCATION_KINDS
from agent_identity._constraints.values import MAX_NESTING
from agent_identity.canonical import JSON

_MAX_CLAUSES: Final = 64
_MAX_PARTS: Final = 2048


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class AllOf:
    """The argument satisfies every clause.

    Raises:
        TypeError: A clause is no constraint.
        ValueError: There is no clause, or they are too many or nested too deeply.
    """

    clauses: tuple[Constraint, ...]
    kind: ClassVar[str] = "all"

    def __init__(self, *clauses: Constraint) -> None:
        object.__setattr__(self, "clauses", _checked(clauses, "AllOf"))
        check_size(self.to_claim())

    def __repr__(self) -> str:
        return self.describe()

    def permits(self, value: object) -> bool:
        """Return whether every clause permits the value."""
        return all(clause.permits(value) for clause in self.clauses)

    def covers(self, child: Constraint) -> bool:
        """Return whether every clause covers some clause of the child; one of these may be covered by several."""
        return isinstance(child, AllOf) and all(
            any(mine.covers(theirs) for theirs in child.clauses) for mine in self.clauses
        )

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {"constraint_type": self.kind, "constraints": [clause.to_claim() for clause in self.clauses]}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return f"AllOf({', '.join(clause.describe() for clause in self.clauses)})"


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class AnyOf:
    """The argument satisfies at least one clause.

    Raises:
        TypeError: A clause is no constraint.
        ValueError: There is no clause, or they are too many or nested too deeply.
    """

    clauses: tuple[Constraint, ...]
    kind: ClassVar[str] = "any"

    def __init__(self, *clauses: Constraint) -> None:
        object.__setattr__(self, "clauses", _checked(clauses, "AnyOf"))
        check_size(self.to_claim())

    def __repr__(self) -> str:
        return self.describe()

    def permits(self, value: object) -> bool:
        """Return whether some clause permits the value."""
        return any(clause.permits(value) for clause in self.clauses)

    def covers(self, child: Constraint) -> bool:
        """Return whether every clause of the child is covered by some clause."""
        return isinstance(child, AnyOf) and all(
            any(mine.covers(theirs) for mine in self.clauses) for theirs in child.clauses
        )

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {"constraint_type": self.kind, "constraints": [clause.to_claim() for clause in self.clauses]}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return f"AnyOf({', '.join(clause.describe() for clause in self.clauses)})"


def _checked(clauses: tuple[Constraint, ...], name: str) -> tuple[Constraint, ...]:
    if not 1 <= len(clauses) <= _MAX_CLAUSES:
        raise ValueError(f"{name} has {len(clauses)} clauses; give 1 to {_MAX_CLAUSES}")
    for clause in clauses:
        if not isinstance(clause, (*LITERAL_KINDS, *LOCATION_KINDS, AllOf, AnyOf)):
            raise TypeError(f"a clause of {name} is {type(clause).__name__}; wrap values in Exact(…)")
    return clauses


def check_size(claim: object) -> None:
    """Check the depth and number of parts of a constraint's claim.

    Raises:
        ValueError: The claim is nested more than 32 containers deep or has more than 2,048 parts.
    """
    _count(claim, MAX_NESTING, _MAX_PARTS)


def _count(value: object, depth: int, left: int) -> int:
    left -= 1
    if is_mapping(value):
        parts: Sequence[object] = tuple(value.values())
    elif is_array(value):
        parts = value
    else:
        parts = ()
        depth += 1
    if depth == 0 or left < len(parts):
        raise ValueError(f"the constraint has more than {MAX_NESTING} nested containers or {_MAX_PARTS} parts")
    for part in parts:
        left = _count(part, depth - 1, left)
    return left
