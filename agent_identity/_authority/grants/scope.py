"""Scope: the tools of a grant and the constraints on their arguments."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, NoReturn, Self, TypeAlias, final

from agent_identity._common.narrowing import is_mapping, is_object
from agent_identity._common.typed_calls import typed_calls
from agent_identity._constraints.combinators import AllOf, AnyOf
from agent_identity._constraints.literals import Constraint, Range, Wildcard
from agent_identity._constraints.optional import IfGiven, judge_of
from agent_identity._constraints.registry import constraint_from_claim, constraint_of
from agent_identity._constraints.value_forms import DecimalText
from agent_identity._constraints.values import CONTAINERS, Walked, is_text
from agent_identity.canonical import JSON
from agent_identity.errors import AttenuationError, OutOfScope, TokenError

UNNAMED: Final = "*"
"""Stands among the arguments of a tool for all that are not named."""

_MAX_TOOLS: Final = 256
_MAX_ARGUMENTS: Final = 64
_TOOL: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_JUDGED: Final = frozenset((str, bool, int, float, list, tuple, dict, type(None), DecimalText))
_SHOWABLE: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


_How: TypeAlias = Literal["dropped", "added", "optional", "wider"]

_OPEN: Final[Mapping[str, Constraint]] = MappingProxyType({UNNAMED: Wildcard()})

_HOW: Final[Mapping[str, str]] = {
    "dropped": " is missing, and the parent requires it or the child permits unnamed ones; name it as the parent does",
    "added": " was added; name only arguments of the parent",
    "optional": " may be left out, and the parent requires it; write the constraint without IfGiven(…)",
}

_MAX_CLAUSES: Final = 1_024
_MAX_PARTS: Final = 17
"""Maximum parts of a name; deeper clauses are named by their enclosing branch."""


class Excess(NamedTuple):
    """The first difference by which one scope exceeds another.

    Attributes:
        tool: The tool.
        argument: The argument; None if the whole tool is beyond.
        how: ``absent`` (the tool), or of the argument: ``dropped``, ``added``, ``optional`` where only the other scope
            requires it, or ``wider`` where its constraint is not provably within the other one.
    """

    tool: str
    argument: str | None
    how: Literal["absent", "dropped", "added", "optional", "wider"]


@typed_calls("__or__", "check_attenuates", "excess")
@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Scope:
    """The permitted tools and the constraints on their arguments.

    ``Scope("pay", amount=Range(min=0, max=100), currency="EUR")`` is one tool with constrained arguments; a
    plain value means exactly equal. ``Scope({"pay": {"amount": 5}, "list_invoices": None})`` are several.
    ``scope | scope`` joins them.

    A tool without constraints is open: any arguments. As soon as one argument is named, the named ones
    must be there and a caller may give no others; arguments that the caller leaves at the tool's own
    default are fine. A caller may leave out an argument with ``IfGiven(…)``, and give others where the name ``"*"``
    has ``Wildcard()``. Names are compared as they are, without any normalisation.

    Args:
        tools: The name of a tool (1 to 128 of ``A-Z a-z 0-9 _ . : / -``), or a mapping from at most 256
            names to their arguments: a mapping, or None or ``()`` for an open tool.
        arguments: The arguments of the one tool, at most 64.

    Attributes:
        tools: Read-only mapping from tools to the constraints of their arguments.

    Raises:
        TypeError: The form is another one.
        ValueError: A name, a value or their number is out of bounds.
    """

    tools: Mapping[str, Mapping[str, Constraint]]

    def __init__(
        self, tools: str | Mapping[str, Mapping[str, object] | tuple[()] | None], /, **arguments: object
    ) -> None:
        value: object = tools
        if isinstance(tools, str):
            tools = {tools: arguments}
        elif not isinstance(value, Mapping):
            raise TypeError(
                f"tools is {type(tools).__name__}; give the name of a tool or a mapping, such as Scope('tool')"
            )
        elif arguments:
            raise TypeError("the arguments are outside the mapping; write Scope({'tool': {'argument': …}})")
        if not 1 <= len(tools) <= _MAX_TOOLS:
            raise ValueError(f"the scope has {len(tools)} tools; give 1 to {_MAX_TOOLS}")
        checked = {check_tool_name(name): _arguments(name, constraints) for name, constraints in tools.items()}
        object.__setattr__(self, "tools", MappingProxyType(checked))

    def __repr__(self) -> str:
        return f"Scope({{{', '.join(f'{name!r}: {dict(args)!r}' for name, args in self.tools.items())}}})"

    def __hash__(self) -> int:
        return hash(frozenset((name, frozenset(args.items())) for name, args in self.tools.items()))

    def __reduce__(self) -> tuple[object, ...]:
        return (Scope, ({name: dict(args) for name, args in self.tools.items()},))

    def __or__(self, other: "Scope") -> "Scope":
        """Return the scope with the tools of both.

        A tool has one set of constraints, each of which judges one argument by itself. Alternatives of a whole call,
        this invoice up to that amount or another one up to another, are two delegations, or two tools.

        Raises:
            ValueError: A tool stands on both sides, or there are more than 256 together.
        """
        for name in other.tools:
            if name in self.tools:
                raise ValueError(
                    f"tool {name!r} is on both sides of '|'; delegate each alternative by itself, or guard the body "
                    "under a name for each"
                )
        return Scope({**self.tools, **other.tools})

    def check(self, tool: str, arguments: Mapping[str, object], supplied: Collection[str]) -> tuple[str, ...]:
        """Check that the call is within the scope, and return the clauses that permit it: see :func:`clauses_of`.

        Args:
            tool: Name of the tool.
            arguments: All arguments as the body of the tool will get them, defaults included.
            supplied: Names of the arguments that the caller gave; the others are the tool's own defaults
                or come from the framework.

        Raises:
            OutOfScope: With code ``tool_not_granted``, ``argument_not_granted``, ``argument_missing`` or
                ``argument_out_of_scope``; the message says what to write, and never a value.
        """
        constraints = self.tools.get(tool)
        if constraints is None:
            near = _near(tool, self.tools)
            _deny("tool_not_granted", f"tool {_shown(tool)} is not in the grant; {near}add it: {_suggest(tool)}")
        if not constraints:
            return ()
        if UNNAMED not in constraints:
            _check_names(tool, constraints, supplied)
        clauses = list[str]()
        for name, constraint in constraints.items():
            if name == UNNAMED:
                continue
            judge = judge_of(constraint)
            if name in arguments and (permitting := _permitting(name, judge, arguments[name])):
                clauses += permitting
            elif judge is not constraint and name not in supplied:
                continue
            elif name in arguments:
                _refuse_value(tool, name, judge, arguments[name])
            else:
                _deny(
                    "argument_missing",
                    f"argument {_shown(name)} of tool {_shown(tool)} is in the grant but not in the call; pass it",
                    name,
                )
        return tuple(clauses[:_MAX_CLAUSES])

    def check_attenuates(self, child: "Scope") -> None:
        """Check that the child permits nothing beyond this scope.

        Raises:
            AttenuationError: With code ``tool_not_attenuated`` or ``argument_not_attenuated``.
        """
        excess = self.excess(child)
        if excess is None:
            return
        tool, argument, how = excess
        if argument is None:
            raise AttenuationError(
                f"tool {_shown(tool)} is not in the parent's scope; leave it out or grant it to the parent first",
                code="tool_not_attenuated",
            )
        message = f"argument {_shown(argument)} of tool {_shown(tool)}"
        if how != "wider":
            message += _HOW[how]
        else:
            kinds = [type(judge_of(scope.tools[tool][argument])).__name__ for scope in (child, self)]
            message += (
                f": {kinds[0]} is not provably within the parent's {kinds[1]}; narrow it, or repeat the parent's "
                "constraint"
            )
        raise AttenuationError(message, code="argument_not_attenuated", argument=_fit_to_show(argument))

    def excess(self, other: "Scope") -> "Excess | None":
        """Return the first thing that another scope permits, or may permit, beyond this one, or ``None``."""
        for tool, narrowed in other.tools.items():
            constraints = self.tools.get(tool)
            if constraints is None:
                return Excess(tool, None, "absent")
            if constraints and (excess := _argument_excess(constraints, narrowed or _OPEN)):
                return Excess(tool, *excess)
        return None

    def to_claim(self) -> dict[str, JSON]:
        """Return the ``tools`` of an ``authorization_details`` entry."""
        return {
            tool: {name: constraint.to_claim() for name, constraint in constraints.items()}
            for tool, constraints in self.tools.items()
        }

    @classmethod
    def from_claim(cls, claim: object) -> Self:
        """Return the scope of the ``tools`` of a grant.

        Raises:
            TokenError: With code ``bad_scope``, or a code of
                :func:`constraint_from_claim`.
        """
        try:
            return cls({tool: _read_arguments(arguments) for tool, arguments in _tools(claim).items()})
        except TokenError:
            raise
        except (TypeError, ValueError) as error:
            raise TokenError(f"bad scope: {error}", code="bad_scope") from None


def check_tool_name(name: object) -> str:
    """Return the name of a tool after checking that a scope can hold it.

    Raises:
        TypeError: It is no ``str``.
        ValueError: It has not 1 to 128 of the characters of tool names.
    """
    if type(name) is not str:
        raise TypeError(f"the name of the tool is {type(name).__name__}; give a str")
    if not _TOOL.fullmatch(name):
        raise ValueError("the tool name is not 1 to 128 characters A-Z a-z 0-9 _ . : / -; rename the tool")
    return name


def _arguments(tool: str, arguments: object) -> Mapping[str, Constraint]:
    if arguments is None or arguments == ():
        return MappingProxyType({})
    if not is_mapping(arguments):
        raise TypeError(f"the arguments of tool {tool!r} are {type(arguments).__name__}; give a mapping or None")
    if len(arguments) > _MAX_ARGUMENTS:
        raise ValueError(f"tool {tool!r} has {len(arguments)} arguments; give at most {_MAX_ARGUMENTS}")
    checked: dict[str, Constraint] = {}
    for key, value in arguments.items():
        name = _argument_name(tool, key)
        checked[name] = _constraint(tool, name, value)
    if checked.get(UNNAMED, _OPEN[UNNAMED]) != _OPEN[UNNAMED]:
        raise ValueError(f"the unnamed arguments of tool {tool!r} have a constraint; write Wildcard(), or name them")
    return MappingProxyType({} if checked == dict(_OPEN) else checked)


def _argument_name(tool: str, name: object) -> str:
    if not is_text(name):
        raise TypeError(f"an argument name of tool {tool!r} is {type(name).__name__}; give text")
    if not 1 <= len(name) <= 128 or not name.isprintable():
        raise ValueError(f"an argument name of tool {tool!r} is not 1 to 128 visible characters")
    return name


def _constraint(tool: str, name: str, value: object) -> Constraint:
    if isinstance(value, IfGiven):
        return value
    if isinstance(value, type):
        raise TypeError(f"the constraint for {name!r} of tool {tool!r} is a class; write {value.__name__}(…)")
    try:
        return constraint_of(value)
    except ValueError as error:
        raise ValueError(f"bad value for argument {name!r} of tool {tool!r}: {error}") from None


def _tools(claim: object) -> Mapping[str, object]:
    if not is_object(claim):
        raise TypeError("the tools are not an object")
    return claim


def _read_arguments(arguments: object) -> dict[str, Constraint]:
    if not is_object(arguments):
        raise TypeError("the arguments of a tool are not an object")
    return {name: _read_argument(name, claim) for name, claim in arguments.items()}


def _read_argument(name: str, claim: object) -> Constraint:
    if not is_object(claim) or "optional" not in claim:
        return constraint_from_claim(claim)
    if type(claim["optional"]) is not bool or name == UNNAMED:
        raise TokenError("optional is not True or False, or stands at unnamed arguments", code="bad_constraint")
    constraint = constraint_from_claim({member: claim[member] for member in claim if member != "optional"})
    return IfGiven(constraint) if claim["optional"] else constraint


def _argument_excess(parent: Mapping[str, Constraint], child: Mapping[str, Constraint]) -> tuple[str, _How] | None:
    for name in sorted(parent.keys() - child.keys() - {UNNAMED}):
        if UNNAMED in child or not isinstance(parent[name], IfGiven):
            return name, "dropped"
    if UNNAMED not in parent and (added := child.keys() - parent.keys()):
        return min(added), "added"
    for name in (name for name in parent if name in child):
        if isinstance(child[name], IfGiven) and not isinstance(parent[name], IfGiven):
            return name, "optional"
        if not parent[name].covers(child[name]):
            return name, "wider"
    return None


def _check_names(tool: str, constraints: Mapping[str, Constraint], supplied: Iterable[str]) -> None:
    for name in supplied:
        if name not in constraints:
            _deny(
                "argument_not_granted",
                f"argument {_shown(name)} of tool {_shown(tool)} is not among those in the grant; "
                f"{_near(name, constraints)}leave it out or widen the scope: {_suggest(tool, name)}",
                name,
            )


def _deny(code: str, message: str, argument: str | None = None) -> NoReturn:
    raise OutOfScope(message, code=code, argument=_fit_to_show(argument))


def _fit_to_show(argument: str | None) -> str | None:
    return argument if argument is not None and _SHOWABLE.fullmatch(argument) else None


def _shown(name: object) -> str:
    """Return a name safe for a message: models choose names, and logs keep messages."""
    return repr(name) if type(name) is str and _SHOWABLE.fullmatch(name) else "(unprintable)"


def _refuse_value(tool: str, name: str, constraint: Constraint, value: object) -> NoReturn:
    """Refuse the value of an argument, without showing it."""
    kind = type(constraint).__name__
    what = f"argument {_shown(name)} of tool {_shown(tool)}"
    if type(value) not in _JUDGED:
        why = (
            "is an object of the program, which no constraint can judge; pass text, numbers, lists or mappings, or "
            "leave the tool open"
        )
    elif type(constraint) is Range and type(value) is str:
        why = "is text, and its Range permits numbers; pass a number without quotes"
    else:
        why = f"is outside its {kind}; widen the scope: {_suggest(tool, name, kind)}"
    _deny("argument_out_of_scope", f"{what} {why}", name)


def _near(name: str, known: Iterable[str]) -> str:
    """Return a question about the name of a grant that is most like another one; empty if none is."""
    nearest = get_close_matches(name, known, 1)
    return f"did you mean {_shown(nearest[0])}? Otherwise " if nearest else ""


def _suggest(tool: str, name: str | None = None, kind: str = "Exact") -> str:
    """Return a wider scope to write, in Python."""
    if name is None:
        return f"Scope({_shown(tool)})"
    if type(name) is str and _IDENTIFIER.fullmatch(name):
        return f"Scope({_shown(tool)}, {name}={kind}(...))"
    return f"Scope({{{_shown(tool)}: {{{_shown(name)}: {kind}(...)}}}})"


def clauses_of(scope: Scope, tool: str, arguments: Mapping[str, object]) -> tuple[str, ...]:
    """Return the clauses that allowed a call, as ``<argument>:<branch>``; empty for a tool without constraints.

    An argument that its constraint does not permit, as can be in monitor mode, has no clause.
    Branches have the words of the grant (``constraint_type``), without places: the place in a list of values would say
    which value it was, also after the keys of the task are erased.

    Args:
        scope: The scope.
        tool: The name of the tool.
        arguments: Its arguments as the scope was checked for them.
    """
    clauses = list[str]()
    for name, constraint in scope.tools.get(tool, {}).items():
        if name in arguments and name != UNNAMED:
            clauses += _permitting(name, judge_of(constraint), arguments[name])
    return tuple(clauses[:_MAX_CLAUSES])


def _permitting(name: str, constraint: Constraint, value: object) -> Collection[str]:
    """Return the clauses that permit the value of an argument; empty if it is not permitted."""
    value = Walked(value) if type(value) in CONTAINERS else value
    if not constraint.permits(value):
        return ()
    if not isinstance(constraint, AllOf | AnyOf):
        return (f"{name}:{constraint.kind}",)
    return dict.fromkeys(f"{name}:{'.'.join(branch[:_MAX_PARTS])}" for branch in _branches(constraint, value))


def _branches(constraint: Constraint, value: object) -> Iterator[tuple[str, ...]]:
    """Yield the branches that permit a permitted value: the first alternative, or each clause that must hold."""
    if not isinstance(constraint, AllOf | AnyOf):
        yield (constraint.kind,)
        return
    for clause in constraint.clauses:
        if isinstance(constraint, AllOf) or clause.permits(value):
            for branch in _branches(clause, value):
                yield (constraint.kind, *branch)
            if isinstance(constraint, AnyOf):
                return
