"""Declarations of results: which label each part of what a tool returns has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast, final

from agent_identity._flow.labels import TRUSTED, Integrity, Label

Returns: TypeAlias = str | Label | Mapping[str, str | Label]
"""A label or an integrity for the whole result, or one for each path in it."""

MAX_LEAVES: Final = 20_000
"""Parts of a result that are looked at one by one; a larger result has the lowest label that is declared."""

_MAX_PATHS: Final = 64
_MAX_DEPTH: Final = 64
Leaf: TypeAlias = tuple[tuple[str, ...], object]
"""A part of a value: the steps to it, and a text, number, boolean or null."""


@final
@dataclass(frozen=True, slots=True)
class Declaration:
    """The labels of the results of a tool.

    Attributes:
        whole: The label of what no path names.
        paths: Labels by path, each a tuple of steps in which ``*`` stands for any one step.
        also: Another declaration, which restricts this one.
        has_paths: True if parts of a result may have different labels.
        lowest: The meet of all declared labels: that of results whose parts are not visible.
    """

    whole: Label
    paths: tuple[tuple[tuple[str, ...], Label], ...] = ()
    also: "Declaration | None" = None
    has_paths: bool = field(init=False, repr=False, compare=False)
    lowest: Label = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lowest, also = self.whole, self.also
        for _, other in self.paths:
            lowest = lowest.meet(other)
        object.__setattr__(self, "has_paths", bool(self.paths) or (also is not None and also.has_paths))
        object.__setattr__(self, "lowest", lowest if also is None else lowest.meet(also.lowest))

    def of(self, steps: tuple[str, ...]) -> Label:
        """Return the label of one part: that of the longest path that leads to it, the meet of equally long ones."""
        best, label = -1, self.whole
        for path, other in self.paths:
            if len(path) >= best and _leads(path, steps):
                label = other if len(path) > best else label.meet(other)
                best = len(path)
        return label if self.also is None else label.meet(self.also.of(steps))

    def of_leaf(self, leaf: Leaf) -> Label:
        """Return the label of a part that has no parts of its own.

        A text where paths lead deeper may spell, in JSON for one, the parts that these paths name, so that it is no
        better than any of them.
        """
        steps, value = leaf
        label = self.of(steps)
        if type(value) is str and (not steps or value != steps[-1]):  # Names of members are no content.
            label = label.meet(self.below(steps))
        return label

    def below(self, steps: tuple[str, ...]) -> Label:
        """Return the meet of the labels whose paths lead through a place to parts of it."""
        label = TRUSTED
        for path, other in self.paths:
            if len(path) > len(steps) and _leads(path[: len(steps)], steps):
                label = label.meet(other)
        return label if self.also is None else label.meet(self.also.below(steps))

    def restricted(self, other: "Declaration") -> "Declaration":
        """Return the declaration that gives each part the meet of both labels."""
        return Declaration(self.whole, self.paths, other if self.also is None else self.also.restricted(other))


def _leads(path: tuple[str, ...], steps: tuple[str, ...]) -> bool:
    return len(path) <= len(steps) and all(step in (other, "*") for step, other in zip(path, steps, strict=False))


def declared(returns: object, otherwise: Label) -> Declaration:
    """Return the declaration that the argument ``returns`` of a tool spells.

    Args:
        returns: A label, an integrity, or a mapping of JSON pointers to these, in which ``*`` stands for any one step
            and the empty pointer for the rest.
        otherwise: The label of what is not declared.

    Raises:
        TypeError: It is something else.
        ValueError: An integrity is unknown, a pointer is malformed, or there are more than 64.
    """
    if returns is None:
        return Declaration(otherwise)
    found = {_steps(path): label for path, label in checked_returns(returns)}
    whole = found.pop((), otherwise)
    return Declaration(whole, tuple(found.items()))


def checked_returns(returns: object) -> tuple[tuple[str, Label], ...]:
    """Return the labels by path that the argument ``returns`` of a tool spells; see :func:`declared`."""
    if not isinstance(returns, Mapping):
        return (("", _label(returns)),)
    members = cast("Mapping[object, object]", returns)
    if not 0 < len(members) <= _MAX_PATHS:
        raise ValueError(f"returns names {len(members)} paths; name 1 to {_MAX_PATHS}")
    for path in members:
        _steps(path)
    return tuple((cast("str", path), _label(label)) for path, label in members.items())


def _label(value: object) -> Label:
    if isinstance(value, Label):
        return value
    if type(value) is not str:
        raise TypeError(f"returns has a {type(value).__name__}; give a Label, 'trusted', 'unknown' or 'untrusted'")
    return Label(cast("Integrity", value))


def _steps(path: object) -> tuple[str, ...]:
    if type(path) is not str:
        raise TypeError(f"returns has a path of type {type(path).__name__}; write JSON pointers such as '/note'")
    if path == "":
        return ()
    if not path.startswith("/") or len(path) > 256:
        raise ValueError("malformed path in returns; write a JSON pointer such as '/items/*/note'")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/"))


def leaves_of(value: object, *, most: int = MAX_LEAVES) -> "tuple[list[Leaf], bool]":
    """Return the parts of a plain JSON value, and whether these are all.

    The name of a member is a part of the value as well, at the place of the member.
    """
    if type(value) in _ATOMS:
        return [((), value)], True
    found: list[Leaf] = []
    whole = True
    for leaf in _walk(value, ()):
        if len(found) >= most:
            return found, False
        if leaf[1] is _DEEP:
            whole = False
        else:
            found.append(leaf)
    return found, whole


_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
_DEEP: Final = object()
"""A part below the deepest that are looked at."""


def _walk(value: object, steps: tuple[str, ...]) -> Iterator[Leaf]:
    if len(steps) > _MAX_DEPTH:
        yield steps, _DEEP
    elif type(value) in _ATOMS:
        yield steps, value
    elif isinstance(value, Mapping):
        for name, item in cast("Mapping[object, object]", value).items():
            way = (*steps, str(name))
            yield way, name
            if type(item) in _ATOMS and len(steps) < _MAX_DEPTH:
                yield way, item
            else:
                yield from _walk(item, way)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast("list[object]", value)):
            yield from _walk(item, (*steps, str(index)))
    else:
        yield steps, value


def label_of(declaration: Declaration, leaves: "list[Leaf]", *, whole: bool) -> Label:
    """Return the label of a result: the meet over its parts and the whole, whose shape says something as well."""
    return labels_of(declaration, leaves, whole=whole)[0]


def labels_of(declaration: Declaration, leaves: "list[Leaf]", *, whole: bool) -> tuple[Label, list[Label]]:
    """Return the label of a result, as :func:`label_of` does, and that of each of its parts."""
    if not declaration.has_paths:
        lowest = declaration.lowest
        return lowest, [lowest] * len(leaves)
    label, labels = declaration.of(()), [declaration.of_leaf(leaf) for leaf in leaves]
    for each in labels:
        label = label.meet(each)
    return label if whole else declaration.lowest, labels
