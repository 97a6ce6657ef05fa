"""Optional arguments: a constraint that judges an argument only where the caller gives it."""

from dataclasses import dataclass
from typing import ClassVar, final

from agent_identity._constraints.literals import Constraint
from agent_identity._constraints.registry import constraint_of
from agent_identity.canonical import JSON


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class IfGiven:
    """The caller may leave the argument out; if it is there, it satisfies the constraint.

    Without the argument the tool takes its own default, which no one judges: name an argument so only where that
    default is acceptable. It stands directly at an argument of a scope, never inside another constraint.

    Args:
        constraint: The constraint; a plain value means exactly equal.

    Raises:
        TypeError: It is an ``IfGiven`` itself, or a class.
        ValueError: It is a value that a grant cannot hold.
    """

    constraint: Constraint
    kind: ClassVar[str] = "optional"

    def __init__(self, constraint: object) -> None:
        if type(constraint) is IfGiven:
            raise TypeError("an IfGiven is inside another one; write it once")
        object.__setattr__(self, "constraint", constraint_of(constraint))

    def __repr__(self) -> str:
        return self.describe()

    def permits(self, value: object) -> bool:
        """Return whether the constraint permits a value that is given."""
        return self.constraint.permits(value)

    def covers(self, child: Constraint) -> bool:
        """Return whether everything that the child permits is provably permitted here; it may require the argument."""
        return self.constraint.covers(judge_of(child))

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {**self.constraint.to_claim(), "optional": True}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return f"IfGiven({self.constraint.describe()})"


def judge_of(constraint: Constraint) -> Constraint:
    """Return the constraint that judges a value which is given."""
    return constraint.constraint if isinstance(constraint, IfGiven) else constraint
