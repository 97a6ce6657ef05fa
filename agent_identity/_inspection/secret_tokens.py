"""Secrets: keys and tokens of providers, found by the rules of kingfisher-secret-scanner, without a network."""

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, Protocol, cast, final

from agent_identity._inspection.document import Document
from agent_identity._inspection.inspector import Match, TextInspector
from agent_identity._policy.decision.request import Severity
from agent_identity.errors import ConfigurationError

_MISSING: Final = "Secrets needs kingfisher-secret-scanner; run pip install '.[secrets]' in the checkout"
_SHORT: Final = 2_048
_SHORT_WORDS: Final = re.compile(r"(?:\S{0,15}+\s)*+\S{0,15}")
"""A short text without a word of 16 characters holds no token of a provider, and is not worth a scan."""

_LEVELS: Final[Mapping[str, Severity]] = {"low": "low", "medium": "medium", "high": "high"}
_NOT_SLUG: Final = re.compile(r"[^a-z0-9_.-]+")


class _Found(Protocol):
    """A finding of the scanner. Its secret is never read."""

    @property
    def rule_id(self) -> str: ...
    @property
    def visible(self) -> bool: ...
    @property
    def confidence(self) -> str: ...
    @property
    def location(self) -> dict[str, int]: ...


class _Scanner(Protocol):
    def scan(self, data: str, *, timeout: float | None = None) -> Sequence[_Found]: ...


_SCANNERS: Final[dict[Severity, _Scanner]] = {}
_COMPILING: Final = threading.Lock()


@final
class Secrets(TextInspector):
    """Finds keys and tokens of several hundred providers; categories ``secret.<rule>``, such as ``secret.github-pat``.

    The rules are compiled when the enforcer opens, which takes seconds, once per process. Nothing is validated over a
    network. Tokens in base64 are found as well; encrypted, compressed or reversed ones are not, nor are passwords
    without a form of their own.

    Args:
        confidence: The least confidence of the rules: ``"low"`` adds generic assignments, with more false alarms.
        timeout: Seconds for one scan; one that takes longer fails, which refuses input and withholds output. Scans are
            linear in the text, whose length is bounded, so that none is the default.

    Raises:
        ValueError: The confidence is another word.
    """

    name = "secrets"
    longest = 8_192

    def __init__(
        self, *, confidence: Literal["low", "medium", "high"] = "medium", timeout: float | None = None
    ) -> None:
        if confidence not in {"low", "medium", "high"}:
            raise ValueError("the confidence is an unknown word; use low, medium or high")
        self._confidence: Final[Severity] = confidence
        self._timeout: Final = timeout

    def prepare(self) -> None:
        """Compile the rules.

        Raises:
            ConfigurationError: The scanner is not installed.
        """
        self._scanner()

    def _scanner(self) -> _Scanner:
        scanner = _SCANNERS.get(self._confidence)
        if scanner is None:
            with _COMPILING:
                scanner = _SCANNERS.get(self._confidence) or _compiled(self._confidence)
                _SCANNERS[self._confidence] = scanner
        return scanner

    def find(self, document: Document) -> Iterable[Match]:
        """Return the secrets in a text.

        Args:
            document: The text.
        """
        text = document.text
        if len(text.plain) < _SHORT and _SHORT_WORDS.fullmatch(text.plain) is not None:
            return ()
        found = self._scanner().scan(text.plain, timeout=self._timeout)
        # The scanner hides the parts of a secret that mean nothing alone; beside a whole one they have to go as well.
        return self._matches(document, found) if found and any(one.visible for one in found) else ()

    @staticmethod
    def _matches(document: Document, found: Sequence[_Found]) -> Iterator[Match]:
        text = document.text
        offsets = _Offsets(text.plain)
        for one in found:
            place = one.location
            start, end = text.span(offsets.of(place["start_offset"]), offsets.of(place["end_offset"]))
            yield Match(f"secret.{_slug(one.rule_id)}", start, end, "high", _level(one.confidence))


def _compiled(confidence: Severity) -> _Scanner:
    try:
        import kingfisher_sdk  # noqa: PLC0415 - An extra.
    except ModuleNotFoundError:
        raise ConfigurationError(_MISSING) from None
    # No cache on the disk, where another program might change the rules; comments in a text switch nothing off.
    policy = kingfisher_sdk.DetectionPolicy(inline_ignores=False, markup_context=False, cli_match_semantics=False)
    rules = kingfisher_sdk.Rules(confidence=confidence, cache=False)
    return cast("_Scanner", kingfisher_sdk.Scanner(rules, policy=policy))


class _Offsets:
    """Offsets in characters for those in bytes of UTF-8."""

    __slots__ = ("_data",)

    def __init__(self, text: str) -> None:
        self._data = None if text.isascii() else text.encode("utf-8", "surrogatepass")

    def of(self, offset: int) -> int:
        return offset if self._data is None else len(self._data[:offset].decode("utf-8", "ignore"))


def _slug(rule_id: str) -> str:
    """Return the name of a rule without that of its collection, as a category can have it."""
    return _NOT_SLUG.sub("-", rule_id.lower().partition(".")[2] or rule_id.lower())[:100]


def _level(word: str) -> Severity:
    return _LEVELS.get(word, "medium")
