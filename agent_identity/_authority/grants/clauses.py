"""Scope clauses that allowed a call: by argument, the branch of its constraint, and never a value.

Branches have the words of the grant (``constraint_type``), without places: the place in a list of values would say
which value it was, also after the keys of the task are erased.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from agent_identity._authority.grants.scope import UNNAMED, Scope
from agent_identity._constraints.combinators import AllOf, AnyOf
from agent_identity._constraints.literals import Constraint
from agent_identity._constraints.optional import judge_of
from agent_identity._constraints.values import CONTAINERS, Walked

_MAX_CLAUSES: Final = 1_024
_MAX_PARTS: Final = 17
"""Maximum parts of a name; deeper clauses are named by their enclosing branch."""


def clauses_of(scope: Scope, tool: str, arguments: Mapping[str, object]) -> tuple[str, ...]:
    """Return the clauses that allowed a call, as ``<argument>:<branch>``; empty for a tool without constraints.

    An argument that its constraint does not permit, as can be in monitor mode, has no clause.

    Args:
        scope: The scope.
        tool: The name of the tool.
        arguments: Its arguments as the scope was checked for them.
    """
    constraints = scope.tools.get(tool, {})
    clauses = (
        f"{name}:{'.'.join(branch[:_MAX_PARTS])}"
        for name, constraint in constraints.items()
        if name in arguments and name != UNNAMED
        for branch in _branches(judge_of(constraint), _judged(arguments[name]))
    )
    return tuple(islice(dict.fromkeys(clauses), _MAX_CLAUSES))


def _judged(value: object) -> object:
    return Walked(value) if type(value) in CONTAINERS else value


def _branches(constraint: Constraint, value: object) -> Iterator[tuple[str, ...]]:
    """Yield the branches of a constraint that permit a value: the first alternative, or each clause that must hold."""
    if not constraint.permits(value):
        return
    if not isinstance(constraint, AllOf | AnyOf):
        yield (constraint.kind,)
        return
    for clause in constraint.clauses:
        if isinstance(constraint, AllOf) or clause.permits(value):
            for branch in _branches(clause, value):
                yield (constraint.kind, *branch)
            if isinstance(constraint, AnyOf):
                return
