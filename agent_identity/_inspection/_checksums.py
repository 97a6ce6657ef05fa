"""Numbers of accounts, cards and people that a checksum tells from others."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

__all__ = ["IBAN_LENGTHS", "SHORTEST_CARD", "cards_in", "is_cpf", "is_iban", "is_nhs", "is_tax_id"]

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
