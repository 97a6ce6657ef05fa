"""Canaries: texts planted where no one quotes them, so that each sight of one is a leak."""

import base64
import re
from collections.abc import Iterable, Iterator
from typing import Final, final

from agent_identity._inspection.document import Document
from agent_identity._inspection.inspector import Match, TextInspector

_SHORTEST: Final = 12


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
