"""Inspectors of phrases: planted canaries, markers of classification, and hints of prompt injection."""

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, final

from agent_identity._inspection.document import Document
from agent_identity._inspection.inspector import Match, TextInspector

_SHORTEST: Final = 12

_WORDS: Final = ("Strictly Confidential", "Confidential", "Internal Use Only", "Restricted", "Secret", "Top Secret")
_TLP: Final = re.compile(r"(?<!\w)TLP:[ \t]?(RED|AMBER\+STRICT|AMBER|GREEN|CLEAR|WHITE)(?![\w+])", re.IGNORECASE)
_MSIP: Final = re.compile(r"MSIP_Label_[0-9A-Fa-f-]{36}_[A-Za-z]{1,32}")
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,63}")
_NOT_SLUG: Final = re.compile(r"[^a-z0-9]+")

_OLD: Final = (
    r"(?:all |any |the |your |my |of |these |those )*(?:previous|prior|above|earlier|preceding|former|original)"
)
_RULES: Final = r"(?:instructions?|prompts?|rules?|directions?|guidelines?|messages?|context|constraints?)"
_HINTS: Final = tuple(
    (f"injection.{kind}", re.compile(pattern, re.IGNORECASE))
    for kind, pattern in {
        "override": rf"\b(?:ignore|disregard|forget|override|bypass) {_OLD} {_RULES}",
        "role": r"\byou are (?:now|no longer) (?:a|an|the|in|bound)\b|\b(?:developer|debug|god|dan|jailbreak) mode\b",
        "chat_markup": r"<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>|\[/?INST\]|<</?SYS>>"
        r"|^#{2,4} ?(?:system|instruction)s?:?$",
        "prompt_leak": r"\b(?:reveal|print|repeat|show|output) (?:me )?(?:your|the) (?:system|hidden|initial) prompt\b",
        "urgent": r"\b(?:important|urgent|attention)[ !:.<-]{1,8}(?:ai|assistant|llm|agent|model)s?\b"
        r"|<(?:important|system|instructions?)>",
        "conceal": r"\bdo not (?:tell|inform|mention|notify|alert)(?: this)?(?: to)? (?:the )?(?:user|human|owner)\b",
    }.items()
)


@final
class Canaries(TextInspector):
    """Finds planted texts, as they are, reversed, in hexadecimal or base64; category ``canary``.

    Args:
        texts: What was planted: random, in ASCII, of at least 12 characters each.

    Raises:
        ValueError: None is given, or one is too short or no ASCII.
    """

    name = "canaries"

    def __init__(self, *texts: str) -> None:
        if not texts or not all(len(text) >= _SHORTEST and text.isascii() and text.isprintable() for text in texts):
            raise ValueError(f"a canary is malformed; give texts of at least {_SHORTEST} printable characters in ASCII")
        found = dict.fromkeys(re.escape(form) for text in texts for form in _forms(text))
        self.longest = 2 * max(map(len, texts))
        self._folded: Final = re.compile("|".join(found), re.IGNORECASE)

    def find(self, document: Document) -> Iterable[Match]:
        """Return the canaries in a text.

        Args:
            document: The text.
        """
        text = document.text
        for found in self._folded.finditer(text.plain):
            yield Match("canary", *text.span(*found.span()), "high", "high")


def _forms(text: str) -> Iterator[str]:
    yield text
    yield text[::-1]
    data = text.encode()
    yield data.hex()
    for shift in range(3):
        # The letters that do not depend on what stands before and after.
        encoded = base64.b64encode(b"\0" * shift + data).decode().rstrip("=")
        last = len(data) + shift
        yield encoded[(0, 2, 3)[shift] : len(encoded) - (1 if last % 3 else 0)]


@final
class Markers(TextInspector):
    """Finds markers of classification; categories ``marker.<kind>``, such as ``marker.tlp_red``.

    The kinds: ``tlp_<color>`` (Traffic Light Protocol 2.0, with the older white), ``msip`` (sensitivity labels of
    Microsoft), and ``<word>`` for a line that is one of the words and nothing else, or follows ``Classification:``.

    Args:
        words: The words, in place of the usual ones.

    Raises:
        ValueError: A word is malformed.
    """

    name = "markers"
    longest = 1_024

    def __init__(self, words: Sequence[str] = _WORDS) -> None:
        if isinstance(words, str) or not all(_WORD.fullmatch(word) for word in words):
            raise ValueError("a word is malformed; give a list of words of at most 64 letters, digits and spaces")
        longest = sorted(words, key=len, reverse=True)
        spelled = "|".join(re.escape(word).replace(r"\ ", r"[ \t_-]{1,4}") for word in longest) or r"(?!)"
        self._line: Final = re.compile(
            rf"^[ \t]{{0,8}}(?:[*#=_/\[(>-]{{1,8}}[ \t]{{0,4}})?(?:(?:Data )?Classification:[ \t]{{0,8}})?({spelled})"
            r"[ \t*#=_/\])<.-]{0,16}\r?$",
            re.IGNORECASE | re.MULTILINE,
        )

    def find(self, document: Document) -> Iterable[Match]:
        """Return the markers in a text.

        Args:
            document: The text.
        """
        text = document.text
        for category, span in self._markers(text.plain):
            yield Match(category, *text.span(*span), "high", "high")

    def _markers(self, text: str) -> Iterator[tuple[str, tuple[int, int]]]:
        for found in _TLP.finditer(text):
            yield f"marker.tlp_{_slug(found.group(1))}", found.span()
        for found in _MSIP.finditer(text) if "MSIP" in text else ():
            yield "marker.msip", found.span()
        for found in self._line.finditer(text):
            yield f"marker.{_slug(found.group(1))}", found.span(1)


def _slug(word: str) -> str:
    return _NOT_SLUG.sub("_", word.lower())


@final
class InjectionHints(TextInspector):
    """Finds wordings of known prompt injections; categories ``injection.<kind>``.

    They are hints: most injections are worded otherwise, and texts about security are worded so. A policy cannot
    block on them alone; a rule that would have blocked warns. Route, or warn.
    """

    name = "injection_hints"
    advisory = True
    longest = 1_024

    def find(self, document: Document) -> Iterable[Match]:
        """Return the hints in a text.

        Args:
            document: The text.
        """
        text = document.text
        for category, pattern in _HINTS:
            for found in pattern.finditer(text.plain):
                yield Match(category, *text.span(*found.span()), "low", "low")
