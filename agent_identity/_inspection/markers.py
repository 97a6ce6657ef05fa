"""Markers of classification that documents carry."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, final

from agent_identity._inspection.document import Document
from agent_identity._inspection.inspector import Match, TextInspector

_WORDS: Final = ("Strictly Confidential", "Confidential", "Internal Use Only", "Restricted", "Secret", "Top Secret")
_TLP: Final = re.compile(r"(?<!\w)TLP:[ \t]?(RED|AMBER\+STRICT|AMBER|GREEN|CLEAR|WHITE)(?![\w+])", re.IGNORECASE)
_MSIP: Final = re.compile(r"MSIP_Label_[0-9A-Fa-f-]{36}_[A-Za-z]{1,32}")
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,63}")
_NOT_SLUG: Final = re.compile(r"[^a-z0-9]+")


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
