"""Redaction: what was found in a value is replaced or taken out, and every type stays."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeGuard, cast, final

from agent_identity._common.models import is_root_model, models
from agent_identity._common.narrowing import is_plain_dict
from agent_identity._inspection.document import MAX_DEPTH, members_of
from agent_identity._inspection.inspector import UNINSPECTED
from agent_identity._policy.decision.obligations import Obligation, ObligationAction
from agent_identity._policy.decision.request import Finding

if TYPE_CHECKING:
    from pydantic import BaseModel

VERSION: Final = "1"
"""The version of the transform: it rises where the same edits make another value."""

Tokenize: TypeAlias = Callable[[str, str], str]
"""Returns what stands in the place of a text of a category: the same for the same text."""

_STRENGTH: Final[Mapping[ObligationAction, int]] = {
    "mask": 0,
    "tokenize": 1,
    "placeholder": 2,
    "redact": 3,
    "drop": 4,
    "quarantine": 5,
    "withhold": 6,
}
_KEPT: Final = 4
_BYTEWISE: Final = "surrogateescape"  # A chunk may end within a character.

QUARANTINES: Final = "policy_quarantines"
"""The reason for which a result is kept back under a handle."""


class UnmetError(Exception):
    """An obligation cannot be met, so that the value is withheld. The message holds no value.

    Attributes:
        reason: Code of the reason.
    """

    def __init__(self, why: str, reason: str = "obligation_unmet") -> None:
        super().__init__(why)
        self.reason = reason


class _Cut(NamedTuple):
    """A part of a text, and what happens to it.

    ``whole`` is the match that it is a part of, where that goes on in other texts: what replaces the match stands in
    the first of them, whose cut has it, and nothing in the others, whose cuts have an empty one.
    """

    start: int
    end: int
    action: ObligationAction
    category: str
    whole: str | None = None


@final
class Edits:
    """The edits of a value: for parts of it, by the segments of their paths."""

    __slots__ = ("cuts", "drops", "parts", "whole")

    def __init__(self) -> None:
        self.parts: dict[str, Edits] = {}
        self.cuts: list[_Cut] = []
        self.whole: _Cut | None = None
        self.drops = False

    def at(self, path: str) -> "Edits":
        """Return the edits of the part under a JSON pointer."""
        node = self
        for segment in path.split("/")[1:]:
            node = node.parts.setdefault(segment.replace("~1", "/").replace("~0", "~"), Edits())
        return node


def edits_of(findings: Iterable[Finding], obligations: Sequence[Obligation]) -> Edits | None:
    """Return what is to be done about findings; ``None`` for nothing.

    Of several obligations for one finding the strictest counts.

    Args:
        findings: What was found.
        obligations: What the policy asks for.

    Raises:
        UnmetError: The value is to be withheld, a part of it could not be looked at, or a finding has no place.
    """
    acts: list[tuple[Finding, ObligationAction | None]] = [
        (finding, _strictest(finding.category, obligations)) for finding in findings
    ]
    _check_whole(acts)
    edits, any_ = Edits(), False
    for finding, action in acts:
        if action is None:
            continue
        if finding.path is None:
            raise UnmetError("a finding has no path")
        any_ = True
        node = edits.at(finding.path)
        if action == "drop":
            node.drops = True
        elif finding.span is None:
            node.whole = _Cut(0, 0, action, finding.category)
        else:
            node.cuts.append(_Cut(*finding.span, action, finding.category))
    return edits if any_ else None


def action_on(finding: Finding, obligations: Sequence[Obligation]) -> ObligationAction | None:
    """Return what obligations ask for where something was found; ``None`` for nothing.

    Args:
        finding: What was found.
        obligations: What the policy asks for.

    Raises:
        UnmetError: The value is to be withheld or quarantined, or a part of it could not be looked at.
    """
    action = _strictest(finding.category, obligations)
    _check_whole([(finding, action)])
    return action


class Piece(NamedTuple):
    """A string of an item of a stream, which is a piece of a text: its path, and where in that text it is.

    Attributes:
        item: The number of the item.
        path: The JSON pointer to the string.
        start: Offset of its beginning in the text.
        text: The string.
    """

    item: int
    path: str
    start: int
    text: str

    @property
    def end(self) -> int:
        """Return the offset of its end in the text."""
        return self.start + len(self.text)


def cut_pieces(
    edits: dict[int, Edits], pieces: Sequence[Piece], findings: Iterable[Finding], obligations: Sequence[Obligation]
) -> None:
    """Add the edits for what was found in a text to those of the items that it arrived in.

    Args:
        edits: The edits by item.
        pieces: The pieces of the text, in order.
        findings: What was found, with spans that count in the text.
        obligations: What the policy asks for.

    Raises:
        UnmetError: See :func:`edits_of`.
    """
    if not pieces:
        return
    cuts: list[_Cut] = []
    for finding in findings:
        action = action_on(finding, obligations)
        if action is None:
            continue
        if finding.path is None:
            raise UnmetError("a finding has no path")
        first, last = finding.span or (pieces[0].start, pieces[-1].end)
        if action != "drop":
            cuts.append(_Cut(first, last, action, finding.category))
            continue
        for piece in _within_span(pieces, first, last):
            edits.setdefault(piece.item, Edits()).at(piece.path).drops = True
    for cut in _merged(cuts):
        parts = _within_span(pieces, cut.start, cut.end)
        whole = "".join(piece.text[max(cut.start - piece.start, 0) : cut.end - piece.start] for piece in parts)
        for piece in parts:
            first, last = max(cut.start - piece.start, 0), min(cut.end - piece.start, len(piece.text))
            part = _Cut(first, last, cut.action, cut.category, whole)
            edits.setdefault(piece.item, Edits()).at(piece.path).cuts.append(part)
            whole = ""


def _within_span(pieces: Sequence[Piece], start: int, end: int) -> list[Piece]:
    return [piece for piece in pieces if piece.start < end and start < piece.end]


def _check_whole(acts: Sequence[tuple[Finding, ObligationAction | None]]) -> None:
    """Refuse to edit a value that is to be kept back as a whole.

    Raises:
        UnmetError: It is to be withheld or quarantined, or a part of it could not be looked at.
    """
    actions = {action for _, action in acts}
    if any(finding.category == UNINSPECTED for finding, _ in acts):
        raise UnmetError("a part of the result could not be inspected")
    if "withhold" in actions:
        raise UnmetError("the policy withholds results that hold this", "policy_withholds")
    if "quarantine" in actions:
        raise UnmetError("the policy quarantines results that hold this", QUARANTINES)


def _strictest(category: str, obligations: Sequence[Obligation]) -> ObligationAction | None:
    strictest: ObligationAction | None = None
    for each in obligations:
        if each.covers(category) and (strictest is None or _STRENGTH[each.action] > _STRENGTH[strictest]):
            strictest = each.action
    return strictest


_DROPPED: Final = object()


def transformed(value: object, edits: Edits, tokenize: Tokenize, keep: Tokenize | None = None) -> object:
    """Return a value with edits; parts without any are the same objects, and the value itself stays as it is.

    Args:
        value: The value, as it was inspected.
        edits: What is to be done.
        tokenize: Returns the token of a text.
        keep: Keeps a text, and returns the handle in its place; without it a placeholder cannot be made.

    Raises:
        UnmetError: An edit does not fit the value, or the changed value is none of its type.
    """
    work = _Transform(tokenize, keep)
    result = work.rebuilt(value, edits, 0)
    if result is _DROPPED:
        raise UnmetError("the result as a whole would be dropped")
    if work.left(edits):
        raise UnmetError("a finding is in no part of the result that can be changed")
    return result


@final
class _Transform:
    __slots__ = ("_done", "_keep", "_kept", "_tokenize", "_used")

    def __init__(self, tokenize: Tokenize, keep: Tokenize | None) -> None:
        self._tokenize = tokenize
        self._keep = keep
        self._done: dict[int, object] = {}
        self._kept: list[object] = []  # What ids were taken of, so that none is used again meanwhile.
        self._used: set[int] = set()

    def left(self, edits: Edits) -> bool:
        """Tell whether an edit was not made."""
        wants = edits.drops or edits.whole is not None or bool(edits.cuts)
        return (wants and id(edits) not in self._used) or any(map(self.left, edits.parts.values()))

    def rebuilt(self, value: object, edits: Edits | None, depth: int) -> object:
        if edits is not None and edits.drops:
            self._used.update(map(id, _within(edits)))
            return _DROPPED
        if isinstance(value, str | bytes | bytearray | int | float | bool | type(None)):
            return value if edits is None else self._text(value, edits)
        found = self._done.get(id(value), self)
        if found is None:
            raise UnmetError("the result contains itself")
        if found is not self:
            return found
        if depth > MAX_DEPTH:
            raise UnmetError("the result is nested too deeply")
        self._kept.append(value)
        self._done[id(value)] = None
        made = self._done[id(value)] = self._container(value, edits, depth)
        return made

    def _text(self, value: object, edits: Edits) -> object:
        if not edits.cuts and edits.whole is None:
            return value
        self._used.add(id(edits))
        if type(value) is str:
            return self._edited(value, edits)
        if type(value) is bytes or type(value) is bytearray:
            edited = self._edited(bytes(value).decode(errors=_BYTEWISE), edits).encode(errors=_BYTEWISE)
            return edited if type(value) is bytes else bytearray(edited)
        raise UnmetError("a finding is in a value that is no text")

    def _edited(self, text: str, edits: Edits) -> str:
        if edits.whole is not None:
            return self._instead(text, edits.whole)
        parts, after = list[str](), 0
        for cut in _merged(edits.cuts):
            if cut.end > len(text):
                raise UnmetError("a span of a finding ends after its text")
            parts += (text[after : cut.start], self._instead(text[cut.start : cut.end], cut))
            after = cut.end
        return "".join((*parts, text[after:]))

    def _instead(self, text: str, cut: _Cut) -> str:
        if cut.whole is not None:
            if not cut.whole:
                return ""
            text = cut.whole
        if cut.action == "mask":
            kept = text[-_KEPT:] if len(text) >= 2 * _KEPT else ""
            return "*" * (len(text) - len(kept)) + kept
        if cut.action == "placeholder":
            if self._keep is None:
                raise UnmetError("a placeholder cannot be made here")
            return self._keep(cut.category, text)
        return self._tokenize(cut.category, text) if cut.action == "tokenize" else f"[redacted:{cut.category}]"

    def _container(self, value: object, edits: Edits | None, depth: int) -> object:
        members = members_of(value)
        if members is None:
            return value
        changes: dict[object, object] = {}
        for name, item in members:
            inner = None if edits is None else edits.parts.get(str(name))
            new = self.rebuilt(item, inner, depth + 1)
            if new is not item:
                changes[name] = new
        return _with(value, changes) if changes else value


def _within(edits: Edits) -> list[Edits]:
    return [edits, *(inner for part in edits.parts.values() for inner in _within(part))]


def _merged(cuts: Iterable[_Cut]) -> list[_Cut]:
    """Return spans without overlaps: those that overlap are one, of the category of the longest."""
    merged: list[_Cut] = []
    for cut in sorted(cuts, key=lambda one: one[:4]):
        last = merged[-1] if merged else None
        if last is None or cut.start >= last.end:
            merged.append(cut)
            continue
        longer = max(last, cut, key=lambda one: one.end - one.start)
        action = max((last.action, cut.action), key=lambda one: _STRENGTH[one])
        whole = last.whole if last.whole is not None else cut.whole
        merged[-1] = _Cut(last.start, max(last.end, cut.end), action, longer.category, whole)
    return merged


def _with(value: object, changes: Mapping[object, object]) -> object:
    """Return a container with other members, of the same type."""
    if is_plain_dict(value):
        pairs = ((key, changes.get(key, item)) for key, item in value.items())
        return {key: item for key, item in pairs if item is not _DROPPED}
    if _is_tuple(value):
        return _tuple_with(value, changes)
    if type(value) in _SEQUENCES:
        return _sequence_with(cast("Sequence[object]", value), changes)
    return _object_with(value, {str(name): _empty(item) for name, item in changes.items()})


def _is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    """Tell whether a value is exactly a tuple, or a named one."""
    kind: type[object] = type(value)
    return kind is tuple or (tuple in kind.__mro__ and hasattr(kind, "_fields"))


_NEW_TUPLE: Final[Callable[[type, Iterable[object]], object]] = vars(tuple)["__new__"]


def _tuple_with(value: tuple[object, ...], changes: Mapping[object, object]) -> object:
    if not all(type(index) is int for index in changes):
        raise UnmetError("a finding is in an attribute of a tuple")
    # What is dropped of a tuple leaves its place empty: its positions mean something.
    return _NEW_TUPLE(type(value), [_empty(changes.get(index, item)) for index, item in enumerate(value)])


def _sequence_with(value: Sequence[object], changes: Mapping[object, object]) -> object:
    rest = [item for item in (changes.get(i, item) for i, item in enumerate(value)) if item is not _DROPPED]
    return deque(rest, value.maxlen) if isinstance(value, deque) else _SEQUENCES[type(value)](rest)


_SEQUENCES: Final[Mapping[type, Callable[[list[object]], object]]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    deque: deque,
}


def _empty(item: object) -> object:
    return None if item is _DROPPED else item


def _object_with(value: object, changes: Mapping[str, object]) -> object:
    """Return a dataclass or model with other fields, if its class takes them."""
    try:
        if isinstance(value, models()):
            return _model_with(value, changes)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.replace(value, **changes)
    except Exception as error:  # Code of others.
        raise UnmetError(f"a changed {type(value).__name__} is refused by its class") from error
    raise UnmetError(f"a {type(value).__name__} cannot be changed")


def _model_with(value: "BaseModel", changes: Mapping[str, object]) -> "BaseModel":
    extra: dict[str, object] = value.__pydantic_extra__ or {}
    if not changes.keys() <= vars(value).keys() | extra.keys():
        raise UnmetError("a finding is in a private attribute of a model")
    changed = value.model_copy(update=dict(changes))
    kept = vars(changed)
    fields: object = kept["root"] if is_root_model(type(value)) else {**kept, **(changed.__pydantic_extra__ or {})}
    type(value).model_validate(fields, by_name=True)
    return changed
