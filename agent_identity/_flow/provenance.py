"""Provenance of values: which inputs of a task an argument repeats.

A keyed index holds digests of values, never the values. It is kept in memory and erased with the task.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from operator import itemgetter
from string import ascii_uppercase
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias, final
from urllib.parse import urlsplit

from agent_identity._flow.declaration import leaves_of
from agent_identity._flow.labels import Label

__all__ = ["PROVENANCES", "Origin", "Provenance", "ProvenanceIndex", "is_silent", "normalized", "parts_of", "weakest"]

Provenance: TypeAlias = Literal["principal", "trusted", "unknown", "untrusted"]
"""Provenance of a value, the strongest first."""

PROVENANCES: Final[tuple[Provenance, ...]] = ("untrusted", "unknown", "trusted", "principal")
"""All provenances, the weakest first."""

MIN_TOKEN: Final = 6
"""Characters of the shortest part of a text that is compared by itself."""

MAX_INPUT_CHARS: Final = 262_144
"""Characters of one input that are indexed; what is beyond them has no known provenance."""

MAX_VALUES: Final = 50_000
"""Values of a task that are indexed; later ones have no known provenance."""

_MAX_PARTS: Final = 256
_MAX_PHRASE: Final = 6
_MAX_PHRASES: Final = 2_000
_MAX_ARGUMENT_CHARS: Final = 65_536
_QUOTES: Final = "\"'`<>()[]{}\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb"
_MARKS: Final = f"{_QUOTES}.,;:!?"
_IN_URL: Final = "url\0"  # Before pieces of URLs, which may be short and mean something only there.
_SEPARATORS: Final = ",;|"
_EMAIL: Final = re.compile(r"(?i:mailto:)?([^\s@<>\"]{1,128})@([A-Za-z0-9.-]{1,253})")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://\S+")
# The first letter precedes the lookbehind, so that a search skips to the next capital.
_IBAN: Final = re.compile(
    r"[A-Z](?<![A-Za-z0-9].)[A-Z][0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?![A-Za-z0-9])"
)
_IN_DIGITS: Final = str.maketrans({letter: str(int(letter, 36)) for letter in ascii_uppercase})


@final
class Origin(NamedTuple):
    """The origin of a value.

    Attributes:
        provenance: How far it can be trusted.
        source: The record of the input that has it; ``None`` if that is not known.
    """

    provenance: Provenance
    source: str | None = None


UNMATCHED: Final = Origin("unknown")
_SAID: Final = Origin("principal")
_NONE: Final[Mapping[int, Origin]] = MappingProxyType({})


def weakest(origins: Iterable[Origin]) -> Origin | None:
    """Return the weakest of several origins; ``None`` of none."""
    return min(origins, key=_strength, default=None)


def _strength(origin: Origin) -> int:
    return PROVENANCES.index(origin.provenance)


def normalized(text: str) -> str:
    """Return the form in which texts are compared.

    Unicode is composed (NFC). Letters are folded in host names of URLs and in domains of mail addresses alone, and
    spaces are dropped from valid IBANs alone: everywhere else two spellings are two values.
    """
    plain = text if text.isascii() else unicodedata.normalize("NFC", text)
    if "@" in plain and (mail := _EMAIL.fullmatch(plain)):
        return f"{mail[1]}@{mail[2].lower()}"
    if "://" in plain and _URL.fullmatch(plain):
        scheme, _, rest = plain.partition("://")
        end = min((at for mark in "/?#" if (at := rest.find(mark)) >= 0), default=len(rest))
        user, separator, host = rest[:end].rpartition("@")
        return f"{scheme.lower()}://{user}{separator}{host.lower()}{rest[end:]}"
    if " " in plain and plain[0].isupper() and _IBAN.fullmatch(plain) and _is_iban(joined := plain.replace(" ", "")):
        return joined
    return plain


def _is_iban(text: str) -> bool:
    if not 15 <= len(text) <= 34:
        return False
    return int((text[4:] + text[:4]).translate(_IN_DIGITS)) % 97 == 1


def _words_of(text: str) -> list[str]:
    """Return the words between spaces, commas, semicolons and bars."""
    for separator in _SEPARATORS:
        text = text.replace(separator, " ")
    return text.split()


def parts_of(text: str) -> list[str]:
    """Return the parts of a text that arguments may repeat: IBANs, and words of six or more characters."""
    found = [iban for match in _IBAN.finditer(text) if (iban := _iban_in(match[0])) is not None]
    words = dict.fromkeys([word for word in _words_of(text) if len(word) >= MIN_TOKEN])
    found += words
    for word in words:
        if not word.isalnum():  # Strip only trailing punctuation: a leading dot belongs to a path.
            found.append(word.lstrip(_QUOTES).rstrip(_MARKS))
    return [part for part in found if len(part) >= MIN_TOKEN]


def _iban_in(text: str) -> str | None:
    """Return the IBAN at the beginning of a candidate, without spaces."""
    groups = text.split(" ")
    for size in range(len(groups), 0, -1):  # A word in capitals may follow the last group.
        if _is_iban(joined := "".join(groups[:size])):
            return joined
    return None


def _phrases_of(text: str) -> Iterator[str]:
    """Yield what may be a name of two to six words: the first and the last are not in lower case, others may be."""
    words = text.split()
    ends = [at for at, word in enumerate(words) if not word.islower()]
    for index, start in enumerate(ends):
        for end in ends[index + 1 : index + _MAX_PHRASE]:
            if end - start >= _MAX_PHRASE:
                break
            phrase = " ".join(words[start : end + 1]).lstrip(_QUOTES).rstrip(_MARKS)
            if len(phrase) >= MIN_TOKEN:
                yield phrase


@final
class ProvenanceIndex:
    """The values that reached one task, as keyed digests.

    Not safe for threads by itself; whoever owns the mark of the task holds its lock.

    Args:
        key: A random key of 32 bytes, which nobody else has.

    Attributes:
        entries: The origins by digest.
        full: No further values are taken in.
        blind: Restricted content was not taken in as a whole.
    """

    __slots__ = ("_key", "blind", "entries", "full")

    def __init__(self, key: bytes) -> None:
        self._key = key.hex()
        self.entries: dict[int, Origin] = {}
        self.full = False
        self.blind = False

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self.entries)

    def erase(self) -> None:
        """Forget everything; later values have no known provenance."""
        self.entries.clear()
        self._key, self.full = "", True

    def forked(self) -> "ProvenanceIndex":
        """Return an index that knows what this one knows now."""
        found = ProvenanceIndex(bytes.fromhex(self._key))
        found.entries, found.full, found.blind = dict(self.entries), self.full, self.blind
        return found

    def absorb(self, other: "ProvenanceIndex") -> None:
        """Take in what an index that was forked from this one has learned since; what this one knows stays."""
        self.blind = self.blind or other.blind
        for digest, origin in other.entries.copy().items() if not self.full else ():
            if digest not in self.entries:
                if len(self.entries) >= MAX_VALUES:
                    self.full = self.blind = True
                    return
                self.entries[digest] = origin

    def say(self, text: str, source: str) -> None:
        """Take in what the principal said."""
        if len(text) > MAX_INPUT_CHARS:  # A word that is cut in two would be another word.
            text = text[:MAX_INPUT_CHARS].rpartition(" ")[0]
        origin = Origin("principal", source)
        self._take([text], origin)
        phrases = islice(_phrases_of(text), _MAX_PHRASES)
        self._enter(self._digests(map(normalized, phrases)), origin)

    def miss(self) -> None:
        """Know that an input with restricted content was not taken in as a whole.

        A value that a trusted input repeats later may have been in it, and is not trusted any more.
        """
        self.blind = True

    def take(self, leaves: Iterable[tuple[object, Label]], source: str, own: "Mapping[int, Origin]") -> None:
        """Take in the parts of an input.

        Args:
            leaves: The parts, each with its label.
            source: The record of the input.
            own: What stood in the arguments of the call that returned it, from :meth:`echoes`: these values keep the
                provenance that they had there.
        """
        room = MAX_INPUT_CHARS
        for label, group in groupby(leaves, key=itemgetter(1)):
            values: list[object] = []
            for value, _ in group:
                if type(value) is str:
                    room -= len(value)
                if room < 0 or self.full:
                    self.blind = self.blind or label.integrity != "trusted"
                else:
                    values.append(value)
            self._take(values, Origin(label.integrity, source), own)

    def echoes(self, leaves: Iterable[object]) -> "Mapping[int, Origin]":
        """Return the digests of all values in arguments, with their provenance now."""
        wholes = _wholes_of(leaves)
        digests = self._digests([*wholes, *_forms_within(wholes.values())])
        return {digest: self.entries.get(digest, UNMATCHED) for digest in digests}

    def _take(self, values: Iterable[object], origin: Origin, own: "Mapping[int, Origin]" = _NONE) -> None:
        if self.blind and origin.provenance == "trusted":
            origin = Origin("unknown", origin.source)
        wholes, known = _wholes_of(values), self.entries
        digests, texts = self._digests(wholes), list(wholes.values())
        if origin.provenance != "principal":  # What others gave before in this spelling is in the index with its parts.
            texts = [
                text
                for digest, (form, text) in zip(digests, wholes.items(), strict=True)
                if form != text or known.get(digest, _SAID).provenance == "principal"
            ]
        self._enter(digests + self._digests(_forms_within(texts)), origin, own)

    def _enter(self, digests: list[int], origin: Origin, own: "Mapping[int, Origin]" = _NONE) -> None:
        entries = self.entries
        if origin.provenance == "principal":
            for digest in digests:
                if digest in entries and entries[digest].provenance != "principal":
                    entries[digest] = origin
        fresh = dict.fromkeys([digest for digest in digests if digest not in entries], origin)
        for digest in own.keys() & fresh.keys():
            fresh[digest] = min(origin, own[digest], key=_strength)
        room = 0 if self.full else MAX_VALUES - len(entries)
        if len(fresh) > room:
            self.blind = True
        entries.update(islice(fresh.items(), room))
        self.full = self.full or len(entries) >= MAX_VALUES

    def origin(self, value: object) -> Origin | None:
        """Return where the value of an argument comes from; ``None`` of one that says nothing by itself.

        Elements of lists are looked at one by one, and the weakest part of a composed value counts.
        """
        if type(value) is str:  # The common case: a text has no elements.
            return self._of_leaf(value)
        leaves, all_of_them = leaves_of(value, most=_MAX_PARTS)
        found = [origin for _, leaf in leaves if (origin := self._of_leaf(leaf)) is not None]
        return weakest(found if all_of_them else (*found, UNMATCHED))

    def _of_leaf(self, value: object) -> Origin | None:
        if _is_silent(value):
            return None
        if type(value) is str:
            return self._of_text(value)
        number = _number(value)
        return UNMATCHED if number is None else self._known(number)

    def _of_text(self, value: str) -> Origin:
        if len(value) > _MAX_ARGUMENT_CHARS:
            return UNMATCHED
        found = self._found(normalized(value))
        if found is not None:
            return found
        words = [bare for word in _words_of(value) if (bare := word.strip(_QUOTES))]
        if words == [value]:
            return self._of_pieces(value)
        if len(words) == 1 and not (_EMAIL.fullmatch(words[0]) or _URL.fullmatch(words[0])):
            return UNMATCHED  # Of a path or an id, another spelling is another value.
        return weakest(map(self._of_word, words)) or UNMATCHED if len(words) <= _MAX_PARTS else UNMATCHED

    def _of_word(self, word: str) -> Origin:
        return self._found(normalized(word)) or self._of_pieces(word)

    def _of_pieces(self, word: str) -> Origin:
        return weakest(map(self._of_piece, _pieces_of(word))) or UNMATCHED

    def _of_piece(self, piece: str) -> Origin:
        found = self._found(_IN_URL + piece)
        if found is not None:
            return found
        _, pair, value = piece.rpartition("=")
        if pair:  # Under another name a value means something else, so that it is never better than unknown.
            return weakest((UNMATCHED, self._known(normalized(value)))) or UNMATCHED
        return self._known(normalized(piece)) if len(piece) >= MIN_TOKEN else UNMATCHED

    def _known(self, text: str) -> Origin:
        return self._found(text) or UNMATCHED

    def _found(self, text: str) -> Origin | None:
        (digest,) = self._digests((text,))
        return self.entries.get(digest)

    def _digests(self, texts: Iterable[str]) -> list[int]:
        """Return keyed 64-bit digests of texts; nobody outside this process can compute them or sees them."""
        key = self._key
        return [hash(key + text) for text in texts]  # SipHash; after the secret prefix its state serves as the key.


def is_silent(value: object) -> bool:
    """Return whether a value holds only ``None``, booleans and empty texts, which have no provenance."""
    leaves, all_of_them = leaves_of(value, most=_MAX_PARTS)
    return all_of_them and all(_is_silent(leaf) for _, leaf in leaves)


def _is_silent(leaf: object) -> bool:
    return leaf is None or type(leaf) is bool or leaf == ""


def _wholes_of(values: Iterable[object]) -> dict[str, str]:
    """Return the texts and numbers among values in normalized form, each with its text."""
    found: dict[str, str] = {}
    for value in values:
        if type(value) is str:
            if value:
                found[value if value.isascii() and value.isalnum() else normalized(value)] = value
        elif (number := _number(value)) is not None:
            found[number] = ""
    return found


def _forms_within(texts: Iterable[str]) -> list[str]:
    """Return the parts of texts in normalized form."""
    text = "\n".join(texts)
    parts = parts_of(text)
    if "@" not in text and "://" not in text and text.isascii():
        return parts  # Without spaces they are already normalized.
    if (plain := unicodedata.normalize("NFC", text)) != text:
        parts += parts_of(plain)  # A separator may have another spelling, with which the whole is one word.
    forms: list[str] = []
    for part in parts:
        forms.append(normalized(part))
        forms += [_IN_URL + piece for piece in _pieces_of(part)]
    return forms


def _number(value: object) -> str | None:
    """Return the text of a number; ``None`` of anything else, truth values too."""
    if type(value) is float and value.is_integer():
        return str(int(value))
    # Decimals are judged in a form of their own, which is a text.
    return str(value) if type(value) in (int, float) or (isinstance(value, str) and type(value) is not str) else None


def _pieces_of(word: str) -> list[str]:
    """Return the pieces of a URL that each decide where it leads or what it carries; of another word, none."""
    if "://" not in word or not _URL.fullmatch(word):
        return []
    try:
        url = urlsplit(normalized(word))
        pieces = [f"{url.scheme}://{url.netloc}"]
    except ValueError:
        return []
    pieces += [piece for piece in (url.path, *url.query.split("&"), url.fragment) if piece not in ("", "/")]
    return pieces[:_MAX_PARTS]
