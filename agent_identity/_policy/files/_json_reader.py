"""JSON reader with source positions. The standard parser loses positions and accepts NaN."""

import json
import math
from typing import Final, NoReturn, final

from agent_identity._policy.decision.places import MAX_DEPTH, Document, Malformed, Mark, Path, quoted

_SPACE: Final = " \t\n\r"


def read_json(text: str) -> Document:
    """Return the value of a JSON text (RFC 8259), with the positions of its parts.

    Raises:
        Malformed: The text is not JSON, has a duplicate key, a number beyond every double, or is nested
            too deeply.
    """
    reader = _Reader(text)
    reader.document.value = reader.value(())
    reader.end()
    return reader.document


class _NotFinite(Exception):
    """A number of JSON text is NaN, an infinity, or beyond every double."""


def _refuse_constant(name: str) -> NoReturn:
    raise _NotFinite(f"{name} is not a finite number; write one, or a string")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _NotFinite("a number is beyond every double; write a smaller one, or a string")
    return value


_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)


@final
class _Reader:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.document = Document()
        self._text = text
        self._at = 0
        self._line = 1
        self._line_start = 0
        self._counted = 0

    def value(self, path: Path) -> object:
        sign = self._peek()
        self.document.values[path] = self._mark()
        if sign not in "{[":
            return self._scalar()
        if len(path) > MAX_DEPTH:
            raise self._wrong(f"values are nested more than {MAX_DEPTH} levels deep; flatten them")
        self._at += 1
        return self._object(path) if sign == "{" else self._array(path)

    def end(self) -> None:
        if self._peek(at_end=True):
            raise self._wrong("text follows the policy; remove it")

    def _object(self, path: Path) -> dict[str, object]:
        members: dict[str, object] = {}
        closed = self._peek() == "}"
        while not closed:
            if self._peek() != '"':
                raise self._wrong("no key in double quotes here; write one")
            mark = self._mark()
            key = str(self._scalar())
            if key in members:
                raise Malformed(f"duplicate key {quoted(key)}", mark)
            self.document.keys[*path, key] = mark
            self._expect(":")
            members[key] = self.value((*path, key))
            closed = self._closes("}")
        self._at += 1
        return members

    def _array(self, path: Path) -> list[object]:
        items: list[object] = []
        closed = self._peek() == "]"
        while not closed:
            items.append(self.value((*path, len(items))))
            closed = self._closes("]")
        self._at += 1
        return items

    def _closes(self, bracket: str) -> bool:
        sign = self._peek()
        if sign not in (",", bracket):
            raise self._wrong(f"no , or {bracket} here; write one")
        self._at += sign == ","
        return sign == bracket

    def _expect(self, sign: str) -> None:
        if self._peek() != sign:
            raise self._wrong(f"no {sign} here; write one")
        self._at += 1

    def _peek(self, *, at_end: bool = False) -> str:
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1
        if self._at == len(self._text) and not at_end:
            raise self._wrong("the file ends early; complete it")
        return self._text[self._at : self._at + 1]

    def _scalar(self) -> object:
        try:
            value, self._at = _DECODER.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            self._at = error.pos
            raise self._wrong(f"no JSON value here ({error.msg}); write one") from None
        except _NotFinite as error:
            raise self._wrong(str(error)) from None
        except ValueError:
            # The interpreter refuses integers of more than 4,300 digits.
            raise self._wrong("an integer has too many digits; write a shorter one, or a string") from None
        return value

    def _mark(self) -> Mark:
        # Lines are counted on from the last mark, so that marking every value stays linear.
        line_ends = self._text.count("\n", self._counted, self._at)
        if line_ends:
            self._line += line_ends
            self._line_start = self._text.rfind("\n", 0, self._at) + 1
        self._counted = self._at
        return (self._line, self._at - self._line_start + 1)

    def _wrong(self, message: str) -> Malformed:
        return Malformed(message, self._mark())
