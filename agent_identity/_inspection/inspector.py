"""Inspectors of text: what they find in a document becomes findings with path and span."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from agent_identity._inspection._texts import Text
from agent_identity._inspection.document import MAX_CHARACTERS, Document, Leaf, pointer, read
from agent_identity._policy.decision.request import Content, Direction, Finding, Severity

UNINSPECTED: Final = "uninspected"
"""The category of findings about a part of a value that could not be looked at."""

_MAX_FINDINGS: Final = 256
_NAME: Final = "inspection"


class Match(NamedTuple):
    """Something in a text: its category, and from where to where in the raw text of the document."""

    category: str
    start: int
    end: int
    severity: Severity = "medium"
    confidence: Severity = "medium"


class TextInspector:
    """Looks at the text in a value, in time linear in its length. Subclasses implement :meth:`find`.

    Arguments and results are read once for all inspectors of this class, whatever their number.

    Attributes:
        name: The name of the inspector in findings.
        inline: It is linear, so that it runs where the call is made.
        advisory: A policy cannot block on its findings alone; it warns then.
        longest: Characters of the longest match that is found in a stream; ``None`` holds back the whole stream.
    """

    name: str = "text"
    inline: bool = True
    advisory: bool = False
    longest: int | None = None

    def prepare(self) -> None:
        """Load what the inspector needs, when the enforcer opens.

        Raises:
            ConfigurationError: A package is missing.
        """

    def find(self, document: Document) -> Iterable[Match]:
        """Return what stands in a text.

        Args:
            document: The text.
        """
        raise NotImplementedError

    def inspect(self, content: Content) -> Sequence[Finding]:
        """Return what was found in arguments or a result.

        Args:
            content: What to look at.
        """
        return inspect_texts(content.value, (self,), content.direction, content.injected)


def inspect_texts(
    value: object,
    inspectors: Sequence[TextInspector],
    direction: Direction,
    injected: Collection[str] = (),
    *,
    limit: int = MAX_CHARACTERS,
) -> tuple[Finding, ...]:
    """Return what several inspectors find in arguments or a result that are read once.

    Args:
        value: The arguments by name, or the result.
        inspectors: The inspectors.
        direction: Which of the two it is.
        injected: Names of arguments that the framework filled in, which are not read.
        limit: Characters to look at; the rest is ``uninspected``.
    """
    document = read(value, limit=limit, skip=injected)
    matches: list[tuple[str, Match]] = []
    most, is_cut = (_MAX_FINDINGS + 1) * document.text.readings, False
    for each in inspectors:
        counts: dict[str, int] = {}
        for match in each.find(document):
            count = counts[match.category] = counts.get(match.category, 0) + 1
            if count <= most:  # Those of one category hide none of another.
                matches.append((each.name, match))
            is_cut = is_cut or count > most
    if not matches and not document.blind:
        return ()
    if document.text.decoded is not None:
        matches = _without_escapes(document.text, matches)
    if document.text.is_folded or document.text.decoded is not None:
        matches = _without_parts(matches)
    return _findings(document, matches, is_input=direction == "input", is_cut=is_cut)


def _without_escapes(text: Text, matches: Sequence[tuple[str, Match]]) -> list[tuple[str, Match]]:
    """Leave out each match that is another one with an escape of JSON before it.

    What stands in its place would otherwise depend on what stood before it.
    """
    known = {(name, match.category, match.start, match.end) for name, match in matches}
    return [
        (name, match)
        for name, match in matches
        if (after := text.after_escape(match.start)) == match.start
        or (name, match.category, after, match.end) not in known
    ]


def _without_parts(matches: Sequence[tuple[str, Match]]) -> list[tuple[str, Match]]:
    """Leave out each match that is a part of another one like it, from another reading of the text."""
    whole: list[tuple[str, Match]] = []
    ends: dict[tuple[object, ...], int] = {}
    for name, match in sorted(matches, key=lambda one: (one[1].start, -one[1].end)):
        kind = (name, match.category, match.severity, match.confidence)
        if match.end > ends.get(kind, -1):
            ends[kind] = match.end
            whole.append((name, match))
    return whole


def _findings(
    document: Document, matches: Sequence[tuple[str, Match]], *, is_input: bool, is_cut: bool
) -> tuple[Finding, ...]:
    findings: dict[Finding, None] = {}
    seen: set[tuple[str, str]] = set()
    late: list[Finding] = []
    for name, match in matches:
        full, kind = len(findings) > _MAX_FINDINGS, (name, match.category)
        if full and kind in seen:
            continue
        most = 1 if full else _MAX_FINDINGS + 1
        for finding in islice(_parts(name, match, document, is_input=is_input), most):
            if full:
                late.append(finding)  # A category beyond the limit is named once, so that none hides another.
            else:
                findings[finding] = None
            seen.add(kind)
    for blind in document.blind:
        path = pointer(blind)
        missed = Finding(category=UNINSPECTED, inspector=_NAME, field=_field(path, is_input=is_input), path=path)
        findings[missed] = None
    if is_cut or len(findings) > _MAX_FINDINGS:
        return (*islice(findings, _MAX_FINDINGS), *late, Finding(category=UNINSPECTED, inspector=_NAME, path=""))
    return tuple(findings)


def _parts(name: str, match: Match, document: Document, *, is_input: bool) -> Iterator[Finding]:
    """Yield a finding for each string that a match covers; one without a place if it covers none."""
    nowhere = True
    for leaf, start, end in document.parts(match.start, match.end):
        nowhere = False
        yield _finding(name, match, leaf, (start, end), is_input=is_input)
    if nowhere and document.text.raw:
        yield Finding(category=match.category, inspector=name, severity=match.severity, confidence=match.confidence)


def _finding(name: str, match: Match, leaf: Leaf, span: tuple[int, int], *, is_input: bool) -> Finding:
    path = pointer(leaf.path)
    return Finding(
        category=match.category,
        # A part that no one looked at is no hint of an inspector, which a policy could not block on.
        inspector=_NAME if match.category == UNINSPECTED else name,
        field=_field(path, is_input=is_input),
        severity=match.severity,
        path=path,
        span=None if leaf.is_key else span,
        confidence=match.confidence,
    )


def _field(path: str, *, is_input: bool) -> str | None:
    """Return the argument that a path leads into; the members of a result may be content, and are not named."""
    if not is_input or not path:
        return None
    return path[1:].partition("/")[0].replace("~1", "/").replace("~0", "~")
