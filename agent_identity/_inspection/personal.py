"""Personal data with a form of its own: addresses of mail, accounts, cards, and numbers of people by region."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, final

from agent_identity._inspection._texts import Text
from agent_identity._inspection.document import Document
from agent_identity._inspection.inspector import Match, TextInspector

IBAN_LENGTHS: Final[Mapping[str, int]] = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
"""The length of an IBAN by country (ISO 13616)."""

_ISSUERS: Final = (
    # First digits from and to, and lengths.
    ("4", "4", (13, 16, 19)),
    ("51", "55", (16,)),
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),
    ("37", "37", (15,)),
    ("6011", "6011", (16, 19)),
    ("644", "659", (16, 19)),
    ("62", "62", (16, 17, 18, 19)),
    ("3528", "3589", (16, 19)),
    ("300", "305", (14,)),
    ("36", "36", (14,)),
    ("38", "39", (14,)),
)
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

SHORTEST_CARD: Final = 13
"""Digits of the shortest number of a card."""

_LOCAL: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&*+/=?^_{|}~-")
_DOMAIN: Final = re.compile(r"[^\W_](?:[\w-]{0,62}\.)(?:[\w-]{1,63}\.){0,8}[^\W\d_][\w-]{1,62}")
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ .-]?[A-Za-z0-9]){11,33}")
_DIGIT: Final = re.compile(r"[0-9]")
_DIGIT_RUN: Final = re.compile(r"(?<![A-Za-z0-9])[0-9](?:[ -]?[0-9])*")
_PHONE: Final = re.compile(r"(?<![\w+])\+[1-9](?:[ ()./-]{0,2}[0-9]){7,14}(?![0-9])")
_SSN: Final = re.compile(r"(?<![0-9-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9-])")

_Spans = Iterator[tuple[int, int]]


def cards_in(digits: str, places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield where numbers of payment cards begin and end in digits: issuer, length and check digit (ISO/IEC 7812).

    A number begins and ends where a group of digits does. The sums of the check digit are those of all digits once,
    so that the time is linear.

    Args:
        digits: The digits.
        places: Where each of them stands in its text, which tells the groups.
    """
    sums = _luhn_sums(digits)
    size, start = len(digits), 0
    while start <= size - SHORTEST_CARD:
        last = None
        if start == 0 or places[start - 1] + 1 < places[start]:
            ends = (start + length for length in _lengths(digits[start : start + 4]))
            fits = (end for end in ends if end == size or (end < size and places[end - 1] + 1 < places[end]))
            last = next((end for end in fits if _checks(digits, sums, start, end)), None)
        if last is not None:
            yield start, last - 1
        start = start + 1 if last is None else last


def _lengths(head: str) -> tuple[int, ...]:
    for low, high, lengths in _ISSUERS:
        if low <= head[: len(low)] <= high:
            return lengths
    return ()


def _luhn_sums(digits: str) -> tuple[list[int], list[int]]:
    """Return the sums before each digit where even positions are doubled, and where odd ones are."""
    even, odd = [0], [0]
    for index, digit in enumerate(map(int, digits)):
        first, second = (_DOUBLED[digit], digit) if index % 2 == 0 else (digit, _DOUBLED[digit])
        even.append(even[-1] + first)
        odd.append(odd[-1] + second)
    return even, odd


def _checks(digits: str, sums: tuple[list[int], list[int]], start: int, end: int) -> bool:
    running = sums[end % 2]  # The last digit counts as it is, and stands at the position before the end.
    return (running[end] - running[start]) % 10 == 0 and len(set(digits[start:end])) > 1


def is_iban(text: str) -> bool:
    """Tell whether letters and digits are an IBAN: length of the country, and mod 97 (ISO 7064)."""
    if len(text) != IBAN_LENGTHS.get(text[:2]):
        return False
    return int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4])) % 97 == 1


def is_tax_id(digits: str) -> bool:
    """Tell whether eleven digits are a German tax id: one digit two or three times, and its check digit."""
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    if digits[0] == "0" or counts[-1] not in {2, 3} or counts[:-1] != [1] * (len(counts) - 1):
        return False
    product = 10
    for digit in digits[:10]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def is_nhs(digits: str) -> bool:
    """Tell whether ten digits are a number of the British health service, by its check digit."""
    rest = 11 - sum(int(digit) * weight for digit, weight in zip(digits, range(10, 1, -1), strict=False)) % 11
    return rest % 11 == int(digits[9]) and rest != 10 and len(set(digits)) > 2


def is_cpf(digits: str) -> bool:
    """Tell whether eleven digits are a Brazilian CPF, by its two check digits."""
    if len(set(digits)) == 1:
        return False
    for size in (9, 10):
        total = sum(int(digit) * weight for digit, weight in zip(digits, range(size + 1, 1, -1), strict=False))
        if total * 10 % 11 % 10 != int(digits[size]):
            return False
    return True


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
