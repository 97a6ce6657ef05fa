"""Provenance of values: which inputs of a task the arguments and destinations of a call repeat.

A keyed index holds digests of values, never the values. It is kept in memory and erased with the task.
"""

import re
import unicodedata
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter
from string import ascii_uppercase
from typing import Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar, final
from urllib.parse import urlsplit

from agent_identity._flow.choices import ToolWords, is_choice
from agent_identity._flow.declaration import leaves_of
from agent_identity._flow.destinations import is_empty, values_at
from agent_identity._flow.labels import Label

T = TypeVar("T")

QUOTES: Final = "\"'`<>()[]{}\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb"
MARKS: Final = f"{QUOTES}.,;:!?"
BREAK: Final = ""
"""Stands between two words that no space alone separates."""

_MAX_WORDS: Final = 100_000
_BYTES: Final = 8
_BREAKS: Final = str.maketrans(dict.fromkeys(",;|\t\n\r\v\f\x00\x1c\x1d\x1e\x1f\x85\u2028\u2029", " \0 "))

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

_PART_CHARS: Final = 16  # What a part that waits takes of memory besides its characters.
_MAX_PARTS: Final = 256
_MAX_PHRASE: Final = 6
_MAX_PHRASES: Final = 2_000
_MAX_ARGUMENT_CHARS: Final = 65_536
_IN_URL: Final = "url\0"  # Before pieces of URLs, which may be short and mean something only there.
_SEPARATORS: Final = ",;|"
_EMAIL: Final = re.compile(r"(?i:mailto:)?([^\s@<>\"]{1,128})@([A-Za-z0-9.-]{1,253})")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://\S+")
# The first letter precedes the lookbehind, so that a search skips to the next capital.
_IBAN: Final = re.compile(
    r"[A-Z](?<![A-Za-z0-9].)[A-Z][0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?![A-Za-z0-9])"
)
_IN_DIGITS: Final = str.maketrans({letter: str(int(letter, 36)) for letter in ascii_uppercase})


def words_in_row(text: str) -> list[tuple[str, str]]:
    """Return the words of a text in their order, each bare and with the punctuation around it but quotes.

    Two words are in a row if nothing but spaces is between them; otherwise a :data:`BREAK` is.
    """
    found: list[tuple[str, str]] = []
    plain = text if text.isascii() else unicodedata.normalize("NFC", text)
    for word in plain.translate(_BREAKS).split():
        right = word.lstrip(QUOTES)
        bare = "" if word == "\0" else right.rstrip(MARKS)
        if right != word or not bare:
            _break(found)
        if bare:
            found.append((bare, word.strip(QUOTES)))
            if bare != right:
                _break(found)
    return found


def _break(found: list[tuple[str, str]]) -> None:
    if found and found[-1][0] != BREAK:
        found.append((BREAK, BREAK))


@final
class WordRows(Generic[T]):
    """The rows of words of several inputs, in the order of these.

    Args:
        digests: Returns the keyed digests of words.

    Attributes:
        rows: The digests of each row, with the origin of its input.
        room: Words for which there is room.
    """

    __slots__ = ("_digests", "room", "rows")

    def __init__(self, digests: Callable[[Iterable[str]], list[int]]) -> None:
        self._digests = digests
        self.rows: list[tuple[T, bytes]] = []
        self.room = _MAX_WORDS

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def erase(self) -> None:
        """Forget all of them."""
        self.rows.clear()

    def take(self, text: str, origin: T) -> None:
        """Take in the words of a text that has more than one; none of a text for which no room is left."""
        if " " not in text and text.isascii() and text.isalnum():
            return
        words = [bare for bare, _ in words_in_row(text)]
        if len(words) > 1 and self.room >= len(words):
            self.room -= len(words)
            self.rows.append((origin, self._row(words)))
        elif len(words) > 1:
            self.room = 0  # A later text must not come before one that is missing.

    def absorb(self, other: "WordRows[T]", since: int = 0) -> None:
        """Take in the rows of others, from the one of a position on."""
        self.rows += other.rows[since:]
        self.room = min(self.room, other.room)

    def origins(self, words: list[str]) -> list[T]:
        """Return the origins of the inputs that have these words in a row, in their order."""
        row = self._row(words)
        return [origin for origin, text in self.rows if _has(text, row)]

    def _row(self, words: list[str]) -> bytes:
        return array("q", self._digests(words)).tobytes()


def _has(text: bytes, row: bytes) -> bool:
    """Return whether one row of digests holds another one, from a whole digest on."""
    at = text.find(row)
    while at > 0 and at % _BYTES:
        at = text.find(row, at + 1)
    return at >= 0


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


_NONE: Final = frozenset[int]()


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
            bare = word.lstrip(QUOTES).rstrip(MARKS)
            if bare != word and len(bare) >= MIN_TOKEN:
                found.append(bare)
    return found


def _iban_in(text: str) -> str | None:
    """Return the IBAN at the beginning of a candidate, without spaces."""
    groups = text.split(" ")
    for size in range(len(groups), 0, -1):  # A word in capitals may follow the last group.
        if _is_iban(joined := "".join(groups[:size])):
            return joined
    return None


def _phrases_of(text: str) -> Iterator[str]:
    """Yield what may be a name of two to six words: the first and the last are not in lower case, others may be."""
    for line in text.replace("\t", "\n").splitlines():
        yield from _phrases_in(line)


def _phrases_in(line: str) -> Iterator[str]:
    words = line.split()
    ends = [at for at, word in enumerate(words) if not word.islower()]
    for index, start in enumerate(ends):
        for end in ends[index + 1 : index + _MAX_PHRASE]:
            if end - start >= _MAX_PHRASE:
                break
            phrase = " ".join(words[start : end + 1]).lstrip(QUOTES).rstrip(MARKS)
            if len(phrase) >= MIN_TOKEN:
                yield phrase


class _Input(NamedTuple):
    """An input that is not indexed yet.

    Attributes:
        leaves: Its parts, each with its label.
        source: The record of the input.
        given: The values in the arguments of the call that returned it.
    """

    leaves: list[tuple[object, Label]]
    source: str
    given: list[object]


@final
class ProvenanceIndex:
    """The values that reached one task, as keyed digests.

    The latest inputs wait as they are, because most of their values are never looked up. They are indexed, in their
    order, before a value is looked up that is unknown so far, and when they are more than one input may be.

    Not safe for threads by itself; whoever owns the mark of the task holds its lock.

    Args:
        key: A random key of 32 bytes, which no one else has.
        waits: Whether inputs may wait.

    Attributes:
        blind: Restricted content was not taken in as a whole.
        rows: The words of the inputs, each in its row.
        forked_at: The number of rows that came from the index which this one was forked from.
    """

    __slots__ = ("_entries", "_full", "_key", "_short", "_size", "_waiting", "_waits", "blind", "forked_at", "rows")

    def __init__(self, key: bytes, *, waits: bool = True) -> None:
        self._key = key.hex()
        self._waits = waits
        self._entries: dict[int, Origin] = {}
        self.rows: WordRows[Origin] = WordRows(self._digests)
        self.forked_at = 0
        self._full = False  # No further values are taken in.
        self.blind = False
        self._waiting: deque[_Input] = deque()
        self._size = 0  # Of what waits, in characters.
        self._short = False  # Something that waits may be known by a short text.

    @property
    def entries(self) -> Mapping[int, Origin]:
        """The origins by digest."""
        self._settle()
        return self._entries

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self.entries)

    def erase(self) -> None:
        """Forget everything; later values have no known provenance."""
        self._waiting.clear()
        self._entries.clear()
        self.rows.erase()
        self._key, self._full, self._waits = "", True, False

    def forked(self) -> "ProvenanceIndex":
        """Return an index that knows what this one knows now.

        There no input waits: the owner of this index may look into the other one, and holds only the lock of this one.
        """
        found = ProvenanceIndex(bytes.fromhex(self._key), waits=False)
        found._entries.update(self.entries)
        found.rows.absorb(self.rows)
        found.forked_at = len(found.rows)
        found._full, found.blind = self._full, self.blind
        return found

    def absorb(self, other: "ProvenanceIndex") -> None:
        """Take in what an index that was forked from this one has learned since; what this one knows stays."""
        self._settle()
        self.blind = self.blind or other.blind
        self.rows.absorb(other.rows, other.forked_at)
        for digest, origin in dict(other.entries).items() if not self._full else ():
            if digest not in self._entries:
                if len(self._entries) >= MAX_VALUES:
                    self._full = self.blind = True
                    return
                self._entries[digest] = origin

    def say(self, text: str, source: str) -> None:
        """Take in what the principal said."""
        self._settle()
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
        if not self.blind:
            self._settle()
        self.blind = True

    def take(self, leaves: Iterable[tuple[object, Label]], source: str, given: Iterable[object] = ()) -> None:
        """Take in the parts of an input.

        Args:
            leaves: The parts, each with its label.
            source: The record of the input.
            given: The values in the arguments of the call that returned it: where they are new in the index, they are
                unknown at best.
        """
        latest = _Input(list(leaves), source, list(given))
        if not self._waits:
            self._index(latest)
            return
        if not latest.leaves:
            return
        self._waiting.append(latest)
        for value, _ in latest.leaves:
            self._size += _size_of(value)
            self._short = self._short or _has_short_form(value)
        self._size += sum(map(_size_of, latest.given))
        if self._size > MAX_INPUT_CHARS:
            self._settle()

    def _settle(self) -> None:
        """Index what waits, in its order; what fails is missing, and what comes after it waits on."""
        waiting = self._waiting
        while waiting:
            try:
                self._index(waiting[0])
            except BaseException:
                self.blind = True
                raise
            finally:
                waiting.popleft()
        self._size, self._short = 0, False

    def _index(self, latest: _Input) -> None:
        room = MAX_INPUT_CHARS
        given = self._digests_of(latest.given) if latest.given else _NONE
        for value in latest.given:
            if type(value) is str and not self._full:
                self.rows.take(value, UNMATCHED)
        for label, group in groupby(latest.leaves, key=itemgetter(1)):
            values: list[object] = []
            for value, _ in group:
                if type(value) is str:
                    room -= len(value)
                if room < 0 or self._full:
                    self.blind = self.blind or label.integrity != "trusted"
                else:
                    values.append(value)
            self._take(values, Origin(label.integrity, latest.source), given)

    def weakest_of(self, values: Iterable[object]) -> Provenance | None:
        """Return the weakest provenance of all values and their parts, unknown ones included; ``None`` of none."""
        entries = self.entries
        found = weakest(entries.get(digest, UNMATCHED) for digest in self._digests_of(values))
        return None if found is None else found.provenance

    def _digests_of(self, values: Iterable[object]) -> frozenset[int]:
        """Return the digests of values and their parts."""
        wholes = _wholes_of(values)
        return frozenset(self._digests([*wholes, *_forms_within(wholes.values())]))

    def _take(self, values: Iterable[object], origin: Origin, given: frozenset[int] = _NONE) -> None:
        if self.blind and origin.provenance == "trusted":
            origin = Origin("unknown", origin.source)
        wholes, known = _wholes_of(values), self._entries
        digests, texts = self._digests(wholes), list(wholes.values())
        if origin.provenance != "principal":  # What others gave before in this spelling is in the index with its parts.
            texts = [
                text
                for digest, (form, text) in zip(digests, wholes.items(), strict=True)
                if form != text or known.get(digest, _SAID).provenance == "principal"
            ]
        self._enter(digests + self._digests(_forms_within(texts)), origin, given)
        for text in texts:
            self.rows.take(text, origin)

    def _enter(self, digests: list[int], origin: Origin, given: frozenset[int] = _NONE) -> None:
        entries = self._entries
        if origin.provenance == "principal":
            for digest in digests:
                if digest in entries and entries[digest].provenance != "principal":
                    entries[digest] = origin
        fresh = dict.fromkeys([digest for digest in digests if digest not in entries], origin)
        for digest in given & fresh.keys():
            fresh[digest] = min(origin, UNMATCHED, key=_strength)
        room = 0 if self._full else MAX_VALUES - len(entries)
        if len(fresh) > room:
            self.blind = True
        entries.update(islice(fresh.items(), room))
        self._full = self._full or len(entries) >= MAX_VALUES

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
        words = words_in_row(value)
        single = [word for bare, word in words if bare != BREAK]
        if single == [value]:
            return self._of_pieces(value)
        if len(single) == 1 and not _stands_alone(single[0]):
            return UNMATCHED  # Of a path or an id, another spelling is another value.
        return weakest(map(self._of_row, _rows_of(words))) or UNMATCHED if len(words) <= _MAX_PARTS else UNMATCHED

    def _of_row(self, row: list[tuple[str, str]]) -> Origin:
        """Return the origin of words that an input must have in a row, and that are known one by one."""
        found = weakest(self._of_word(word) for bare, word in row if bare != BREAK) or UNMATCHED
        if len(row) == 1 or found.provenance not in ("principal", "trusted"):
            return found
        inputs = self.rows.origins([normalized(bare) for bare, _ in row])
        said = next((origin for origin in inputs if origin.provenance == "principal"), None)
        return said or weakest((found, inputs[0] if inputs else UNMATCHED)) or UNMATCHED

    def _of_word(self, word: str) -> Origin:
        return self._found(normalized(word)) or self._of_pieces(word)

    def _of_pieces(self, word: str) -> Origin:
        pieces = _pieces_of(word)
        if len(pieces) > _MAX_PARTS:  # What is not looked at may carry anything.
            return UNMATCHED
        return weakest(map(self._of_piece, pieces)) or UNMATCHED

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
        found = self._entries.get(digest)
        if found is None and self._waiting and (self._short or len(text) >= MIN_TOKEN or text.startswith(_IN_URL)):
            self._settle()  # What is known keeps its origin, so that what waits says nothing about it.
            found = self._entries.get(digest)
        return found

    def _digests(self, texts: Iterable[str]) -> list[int]:
        """Return keyed 64-bit digests of texts; no one outside this process can compute them or sees them."""
        key = self._key
        return [hash(key + text) for text in texts]  # SipHash; after the secret prefix its state serves as the key.


def is_silent(value: object) -> bool:
    """Return whether a value holds only ``None``, booleans and empty texts, which have no provenance."""
    leaves, all_of_them = leaves_of(value, most=_MAX_PARTS)
    return all_of_them and all(_is_silent(leaf) for _, leaf in leaves)


def is_short(value: object) -> bool:
    """Return whether a text is too short to be recognized within an input: it counts only where it is all of one."""
    return type(value) is str and 0 < len(value) < MIN_TOKEN


def _is_silent(leaf: object) -> bool:
    return leaf is None or type(leaf) is bool or leaf == ""


def _stands_alone(word: str) -> bool:
    """Return whether a word of a text is a value by itself: an address or a URL."""
    return bool(_EMAIL.fullmatch(word) or _URL.fullmatch(word))


def _rows_of(words: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield the parts of a composed value: addresses and URLs, and the rows of other words between them."""
    for alone, group in groupby(words, key=lambda word: _stands_alone(word[1])):
        part = list(group)
        if alone:
            yield from ([word] for word in part)
            continue
        while part and part[-1][0] == BREAK:
            part.pop()
        while part and part[0][0] == BREAK:
            part.pop(0)
        if part:
            yield part


def _size_of(value: object) -> int:
    """Return what a part that waits takes of memory, in characters."""
    return _PART_CHARS + (len(value) if type(value) is str else 0)


def _has_short_form(value: object) -> bool:
    """Return whether a value, or a part of it, may be known by a text of fewer than six characters."""
    return type(value) is not str or len(value) < MIN_TOKEN or "@" in value or not value.isascii()


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
        forms += [_IN_URL + piece for piece in _pieces_of(part)[:_MAX_PARTS]]
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
    return pieces + [piece for piece in (url.path, *url.query.split("&"), url.fragment) if piece not in ("", "/")]


_NO_ONE: Final = Origin("unknown")
_NOWHERE: Final = Origin("trusted")
_OWN: Final = Origin("trusted")


def origins_of_call(
    index: ProvenanceIndex,
    values: Mapping[str, object],
    supplied: Collection[str],
    destinations: Mapping[str, bool],
    words: ToolWords,
) -> tuple[dict[str, Origin], dict[str, Origin]]:
    """Return where the arguments of a call come from, and where those come from that decide where it leads.

    Args:
        index: The values that the task knows.
        values: The arguments, as policies see them.
        supplied: The names that the caller gave; others are the tool's own.
        destinations: The names of destinations, each with whether an empty value of it leads nowhere: that is the
            tool's own word, and as good as a trusted value. An empty value of any other may mean everyone, so no one
            trusted gave it.
        words: The names and the listed values of the tool. A listed value carries no content of others; a name that the
            tool does not have comes from the caller, like a value.
    """
    args: dict[str, Origin] = {}
    for name, value in values.items():
        if name in words.choices and is_choice(value, words.choices[name]):
            continue
        found = index.origin(value) if name in supplied else _OWN
        if words.names is not None and name in supplied and name not in words.names:
            found = weakest((index.origin(name) or _NO_ONE, found or _OWN))
        if found is not None and (found is not _OWN or not is_silent(value)):
            args[name] = found
    leads = {
        name: _led(index, values_at(values, name), optional=optional, own=_is_own(name, supplied))
        for name, optional in destinations.items()
    }
    return args, leads


def _is_own(name: str, supplied: Collection[str]) -> bool:
    """Return whether the tool itself fills in a destination: an argument, one with dots in its name, or a member."""
    return name not in supplied and name.partition(".")[0] not in supplied


def _led(index: ProvenanceIndex, values: Sequence[object], *, optional: bool, own: bool) -> Origin:
    """Return the weakest origin of the values of a destination.

    Args:
        index: The values that the task knows.
        values: The values, ``None`` for a missing one.
        optional: An empty value leads nowhere.
        own: The tool itself filled in the argument.
    """
    found = [_NOWHERE if optional else _NO_ONE for value in values if is_empty(value)]
    found += [_OWN if own else index.origin(value) or _NO_ONE for value in values if not is_empty(value)]
    return weakest(found) or _NO_ONE
