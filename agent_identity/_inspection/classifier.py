"""Classifiers: a model scores windows of text, and a score that reaches a threshold becomes a finding."""

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, cast, final

from agent_identity._common.narrowing import is_array, is_mapping
from agent_identity._inspection.document import Document
from agent_identity._inspection.http_model import HttpModel
from agent_identity._inspection.inspector import UNINSPECTED, Match, TextInspector
from agent_identity._policy.decision.decision import check_name
from agent_identity._policy.decision.request import Severity
from agent_identity.errors import ConfigurationError


class Detection(NamedTuple):
    """A part of a text that a model names.

    Attributes:
        label: Its label, as the model calls it.
        score: Between 0 and 1.
        start: Offset of the part in the text that the model got.
        end: Where it ends; by default at the end of the text.
    """

    label: str
    score: float
    start: int = 0
    end: int | None = None


Verdict: TypeAlias = float | Mapping[str, float] | Sequence[Detection]
"""The answer for one text: a score, a score for each label, or the parts that the model names."""

Model: TypeAlias = Callable[[Sequence[str]], Sequence[Verdict]]
"""A model: texts in, one verdict for each out. Several threads may call it at once."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The pieces in which a model reads a long text.

    Attributes:
        size: Characters of one window. Choose it so that the model never truncates one.
        overlap: Characters that a window shares with the one before, so that what lies on an edge is read whole.
        batch: Windows for one call of the model.

    Raises:
        ValueError: A number is out of range; the overlap is at most half the size.
    """

    size: int = 1_500
    overlap: int = 200
    batch: int = 16

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.size < 1 or self.batch < 1 or not 0 <= self.overlap * 2 <= self.size:
            raise ValueError("the windows are out of range; give a size and a batch of 1 or more, and half as overlap")

    def of(self, length: int) -> Iterator[tuple[tuple[int, int], ...]]:
        """Yield batches of windows over a text: where each begins and ends.

        Args:
            length: The length of the text.
        """
        step = self.size - self.overlap
        starts = range(0, max(length - self.overlap, min(length, 1)), step)
        for first in range(0, len(starts), self.batch):
            yield tuple((start, min(start + self.size, length)) for start in starts[first : first + self.batch])


_LEVELS: Final[tuple[Severity, ...]] = ("low", "medium", "high")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NOT_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST: Final = 48
_REMOTE: Final = "remote"
_MALFORMED: Final = Detection("", math.nan)


class _Hit(NamedTuple):
    category: str
    start: int
    end: int
    level: int


@final
class Classifier(TextInspector):
    """Finds what a model of yours finds; categories ``<name>`` or ``<name>.<label>``.

    It runs in a thread. A finding has the path and span of the window or part, and a confidence: the third of the
    range between threshold and 1 that the score is in. The name of the inspector in findings is ``<name>/<digest>``, so
    that detailed records say which weights judged.

    Args:
        model: Takes texts and returns a verdict for each: a score between 0 and 1, a mapping of labels to scores, or
            a list of :class:`Detection`. If it has a ``prepare()``, that is called when the enforcer opens.
        name: The name of the classifier, at most 48 characters.
        threshold: The least score of a finding. For a model with labels, a mapping of the labels that count to their
            thresholds; a mapping of scores that lacks one of them is an error.
        weights: The files or folders of the model's weights, whose digest is computed here.
        digest: The digest of the weights, ``sha256:<hex>``: the expected one if ``weights`` is given, otherwise the
            word of the caller. For a detector elsewhere, ``remote``, the default of an :class:`HttpModel`.
        windows: The pieces in which long texts are read.
        deadline: Seconds for one inspection, looked at between batches. ``Selected(deadline=…)`` bounds each batch.
        severity: The severity of findings.
        advisory: A policy cannot block on findings of this classifier alone. Set it to ``False`` if it may.
        failure: ``"refuse"``: a model that fails, or takes too long, refuses input and withholds output.
            ``"uninspected"``: each window that it did not judge gives a finding ``uninspected``, for a rule to decide.

    Raises:
        TypeError: The model is not callable.
        ValueError: An option is malformed or out of range.
        ConfigurationError: The weights cannot be read, or have another digest.
    """

    inline = False

    def __init__(
        self,
        model: Model,
        *,
        name: str,
        threshold: float | Mapping[str, float],
        weights: str | Path | Sequence[str | Path] = (),
        digest: str | None = None,
        windows: Windows = Windows(),
        deadline: float = 8.0,
        severity: Severity = "medium",
        advisory: bool = True,
        failure: Literal["refuse", "uninspected"] = "refuse",
    ) -> None:
        if not callable(model):
            raise TypeError(f"the model is {type(model).__name__}; give a callable that takes texts")
        if len(check_name(name, "the name of the classifier")) > _LONGEST or name == UNINSPECTED:
            raise ValueError(f"the name of the classifier is too long or taken; use up to {_LONGEST} characters")
        labels: dict[str, float] = {} if isinstance(threshold, int | float) else dict(threshold)
        self._threshold: Final = threshold if isinstance(threshold, int | float) else None
        limits = labels.values() or (self._threshold,)
        if not all(limit is not None and _is_score(limit) and limit > 0 for limit in limits):
            raise ValueError("a threshold is out of range; give a number above 0, at most 1")
        if not 0 < deadline <= 3_600:
            raise ValueError("the deadline is out of range; give up to 3600 seconds")
        if severity not in _LEVELS or failure not in {"refuse", UNINSPECTED}:
            raise ValueError("the severity or the failure is an unknown word; see the reference of inspectors")
        self.digest: Final = _identity(model, weights, digest)
        self.name = f"{name}/{self.digest}"
        self.advisory = advisory
        self._kind: Final = name
        self._model: Final = model
        self._labels: Final = labels
        self._windows: Final = windows
        self._deadline: Final = deadline
        self._severity: Final[Severity] = severity
        self._tolerant: Final = failure == UNINSPECTED

    def prepare(self) -> None:
        """Have the model load what it needs, if it has a ``prepare()``."""
        load: object = getattr(self._model, "prepare", None)
        if callable(load):
            load()

    def find(self, document: Document) -> Iterable[Match]:
        """Return what the model finds in a text.

        Args:
            document: The text.

        Raises:
            TimeoutError: The deadline has passed.
            ValueError: The model gave a malformed verdict.
        """
        text, until = document.text, time.monotonic() + self._deadline
        hits: list[_Hit] = []
        for places in self._windows.of(len(text.shown)):
            try:
                if time.monotonic() >= until:
                    raise TimeoutError(f"a classifier took more than {self._deadline:g} seconds")  # noqa: TRY301
                hits += self._judged(text.shown, places)
            except Exception:
                if not self._tolerant:
                    raise
                hits += (_Hit(UNINSPECTED, start, end, 1) for start, end in places)
        for hit in _merged(hits):
            for start, end in _values(document, *text.span(hit.start, hit.end)):
                yield Match(hit.category, start, end, self._severity, _LEVELS[hit.level])

    def _judged(self, text: str, places: Sequence[tuple[int, int]]) -> Iterator[_Hit]:
        """Yield the parts of some windows whose scores reach their threshold.

        Raises:
            ValueError: The answer of the model is malformed.
        """
        verdicts: Sequence[object] = list(self._model([text[start:end] for start, end in places]))
        if len(verdicts) != len(places):
            raise ValueError("the model gave another number of verdicts than of texts; give one for each text")
        for (start, end), verdict in zip(places, verdicts, strict=True):
            for each in self._detections(verdict):
                last = end - start if each.end is None else each.end
                if not _is_sound(each, last, end - start):
                    raise ValueError("a verdict is malformed; give scores from 0 to 1, and parts that lie in the text")
                limit = self._labels.get(each.label) if self._labels else self._threshold
                if limit is not None and each.score >= limit:
                    part = (each.score - limit) / (1 - limit) if limit < 1 else 1.0
                    yield _Hit(self._category(each.label), start + each.start, start + last, min(int(part * 3), 2))

    def _detections(self, verdict: object) -> Iterable[Detection]:
        """Return a verdict as a list of what it names.

        Raises:
            ValueError: It has labels, and the thresholds have none, or the other way round.
        """
        if is_array(verdict) and not isinstance(verdict, Detection):
            return [each if isinstance(each, Detection) else _MALFORMED for each in verdict]
        if not is_mapping(verdict):
            if self._labels:
                raise ValueError("a verdict has no labels, and the thresholds have; give one threshold")
            return [Detection("", cast("float", verdict))]
        if not self._labels or not all(label in verdict for label in self._labels):
            raise ValueError("a verdict has other labels than the thresholds; name a threshold for each that counts")
        return [Detection(label, cast("float", verdict[label])) for label in self._labels]

    def _category(self, label: str) -> str:
        slug = _NOT_NAME.sub("-", label.lower())[:64]
        return f"{self._kind}.{slug}" if slug else self._kind


def _is_score(value: object) -> bool:
    if isinstance(value, str | bytes):
        return False
    try:  # Numbers of other libraries convert.
        number = float(cast("float", value))
    except (TypeError, ValueError):
        return False
    return math.isfinite(number) and 0 <= number <= 1


def _is_sound(each: Detection, end: int, size: int) -> bool:
    places = type(each.start) is int and type(end) is int and 0 <= each.start < end <= size
    return type(each.label) is str and _is_score(each.score) and places


def _values(document: Document, start: int, end: int) -> Sequence[tuple[int, int]]:
    """Return the parts of a span that lie in no key, which redaction could not change; of keys alone, the span."""
    parts = [(leaf, first, last) for leaf, first, last in document.parts(start, end) if not leaf.is_key]
    return [(leaf.start + first, leaf.start + last) for leaf, first, last in parts] or [(start, end)]


def _merged(hits: Iterable[_Hit]) -> Iterator[_Hit]:
    """Yield hits in order, those of one category that overlap as one, with the highest confidence of them."""
    last: _Hit | None = None
    for hit in sorted(hits):
        if last is not None and last.category == hit.category and hit.start < last.end:
            last = last._replace(end=max(last.end, hit.end), level=max(last.level, hit.level))
            continue
        if last is not None:
            yield last
        last = hit
    if last is not None:
        yield last


def _identity(model: object, weights: str | Path | Sequence[str | Path], stated: str | None) -> str:
    """Return the digest of the weights, or the word for a detector elsewhere.

    Raises:
        ValueError: Nothing tells which weights judge, or the digest is malformed.
        ConfigurationError: The weights cannot be read, or have another digest.
    """
    paths = [weights] if isinstance(weights, str | Path) else list(weights)
    if stated is None and not paths and isinstance(model, HttpModel):
        return _REMOTE
    if stated is not None and stated != _REMOTE and not _DIGEST.fullmatch(stated):
        raise ValueError("the digest of the weights is malformed; give sha256:<64 hex digits>, or remote")
    if not paths:
        if stated is None:
            raise ValueError("nothing says which weights judge; give weights=, or digest=")
        return stated
    computed = _digest([Path(path) for path in paths])
    if stated not in {None, computed}:
        raise ConfigurationError("the weights have another digest than expected; check them before you change digest=")
    return computed


def _digest(paths: Sequence[Path]) -> str:
    """Return the digest of one file, or of a list of several as ``sha256sum`` prints it, sorted by name."""
    try:
        if len(paths) == 1 and paths[0].is_file():
            return f"sha256:{_file_digest(paths[0])}"
        files = [(path.name, path) for path in paths if not path.is_dir()]
        for folder in (path for path in paths if path.is_dir()):
            files += [(path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file()]
        lines = sorted(f"{_file_digest(path)}  {name}\n" for name, path in files)
    except OSError as error:
        raise ConfigurationError(f"the weights cannot be read ({type(error).__name__}); check the path") from None
    if not lines:
        raise ConfigurationError("the folder of weights is empty; check the path")
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
