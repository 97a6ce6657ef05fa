"""Personal data with a form of its own: addresses of mail, accounts, cards, and numbers of people by region."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, final

from agent_identity._inspection._checksums import (
    IBAN_LENGTHS,
    SHORTEST_CARD,
    cards_in,
    is_cpf,
    is_iban,
    is_nhs,
    is_tax_id,
)
from agent_identity._inspection._texts import Text
from agent_identity._inspection.document import Document
from agent_identity._inspection.inspector import Match, TextInspector

__all__ = ["PersonalData"]

_LOCAL: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&*+/=?^_{|}~-")
_DOMAIN: Final = re.compile(r"[^\W_](?:[\w-]{0,62}\.)(?:[\w-]{1,63}\.){0,8}[^\W\d_][\w-]{1,62}")
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ .-]?[A-Za-z0-9]){11,33}")
_DIGIT: Final = re.compile(r"[0-9]")
_DIGIT_RUN: Final = re.compile(r"(?<![A-Za-z0-9])[0-9](?:[ -]?[0-9])*")
_PHONE: Final = re.compile(r"(?<![\w+])\+[1-9](?:[ ()./-]{0,2}[0-9]){7,14}(?![0-9])")
_SSN: Final = re.compile(r"(?<![0-9-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9-])")

_Spans = Iterator[tuple[int, int]]


def _emails(text: str) -> _Spans:
    # From each @ outwards, because a pattern that starts at each letter takes time for each pair of letters.
    at = text.find("@")
    while at >= 0:
        start = at
        while start > 0 and at - start < 64 and text[start - 1] in _LOCAL:
            start -= 1
        while start < at and text[start] == ".":
            start += 1
        domain = _DOMAIN.match(text, at + 1) if start < at and text[at - 1] != "." else None
        if domain is not None:
            yield start, domain.end()
        at = text.find("@", at + 1)


def _ibans(text: str) -> _Spans:
    found = _IBAN.search(text)
    while found is not None:
        end = _iban_end(text, *found.span())
        if end is not None:
            yield found.start(), end
        # What follows an account may be another one, which the pattern has taken for a part of the first.
        found = _IBAN.search(text, found.start() + 2 if end is None else end)


def _iban_end(text: str, start: int, end: int) -> int | None:
    length = IBAN_LENGTHS.get(text[start : start + 2].upper())
    places = [i for i in range(start, end) if text[i].isalnum()]
    if length is None or len(places) < length:
        return None
    after = places[length - 1] + 1
    number = "".join(text[i] for i in places[:length]).upper()
    return after if is_iban(number) and not text[after : after + 1].isalnum() else None


def _cards(text: str) -> _Spans:
    for run in _DIGIT_RUN.finditer(text):
        places = [found.start() for found in _DIGIT.finditer(text, *run.span())]
        if len(places) >= SHORTEST_CARD:
            for first, last in cards_in("".join(text[place] for place in places), places):
                yield places[first], places[last] + 1


def _matching(pattern: re.Pattern[str], text: str) -> _Spans:
    return (found.span() for found in pattern.finditer(text))


def _numbers(length: int, is_one: Callable[[str], bool]) -> Callable[[str], _Spans]:
    # A look ahead, so that numbers may begin inside what has turned out to be none.
    pattern = re.compile(rf"(?<![0-9A-Za-z])(?=([0-9](?:[ .-]?[0-9]){{{length - 1}}})(?![0-9]))")

    def find(text: str) -> _Spans:
        for found in pattern.finditer(text):
            if is_one("".join(filter(str.isdigit, found.group(1)))):
                yield found.span(1)

    return find


_KINDS: Final[Mapping[str, Callable[[str], _Spans]]] = {
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "phone": partial(_matching, _PHONE),
    "br.cpf": _numbers(11, is_cpf),
    "de.tax_id": _numbers(11, is_tax_id),
    "gb.nhs": _numbers(10, is_nhs),
    "us.ssn": partial(_matching, _SSN),
}
_SURE: Final = frozenset({"email", "iban", "card"})


@final
class PersonalData(TextInspector):
    """Finds personal data that has a form of its own; categories ``pii.<kind>``, such as ``pii.iban``.

    A checksum tells accounts and cards from other numbers. The others are more often something else, such as the
    number of an order: use them to warn and to redact. Names, postal addresses and numbers in words are not found.

    Args:
        kinds: What to find: ``email``, ``iban``, ``card`` (the default), ``phone`` (with ``+`` and country code),
            ``br.cpf``, ``de.tax_id``, ``gb.nhs``, ``us.ssn`` (with hyphens).

    Raises:
        ValueError: A kind is unknown.
    """

    name = "personal_data"
    longest = 1_024

    def __init__(self, *kinds: str) -> None:
        chosen = kinds or ("email", "iban", "card")
        unknown = sorted(set(chosen) - _KINDS.keys())
        if unknown:
            raise ValueError(f"unknown kind of personal data {unknown[0]!r}; use {', '.join(_KINDS)}")
        self._kinds: Final = tuple((f"pii.{kind}", _KINDS[kind], kind in _SURE) for kind in dict.fromkeys(chosen))

    def find(self, document: Document) -> Iterable[Match]:
        """Return the personal data in a text.

        Args:
            document: The text.
        """
        return self._matches(document.text)

    def _matches(self, text: Text) -> Iterator[Match]:
        for category, find, sure in self._kinds:
            for start, end in find(text.plain):
                yield Match(category, *text.span(start, end), "high" if sure else "medium", "high" if sure else "low")
