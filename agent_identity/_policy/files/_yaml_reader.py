"""YAML reader with source positions, restricted to unambiguous YAML.

Only plain mappings, lists and scalars: no anchors, aliases, tags or merge keys, no duplicate keys, and
no scalar that readers of YAML 1.1 and 1.2 understand differently (``yes``, ``010``, ``1:30``). Imported
only where a YAML file is read, because PyYAML is an extra.
"""

import math
import re
from collections.abc import Mapping
from typing import Final, final

import yaml

from agent_identity._policy.decision.places import MAX_DEPTH, Document, Malformed, Mark, Path, quoted

_CONSTANTS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DOUBTFUL: Final = frozenset({"yes", "no", "on", "off", "y", "n"})
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,307})")
_FLOAT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*|(?=\.[0-9]))(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_ODD: Final = re.compile(
    r"""
      [-+]?0(?:o[0-7]+|x[0-9a-f_]+|b[01_]+)           # Other bases.
    | [-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:e[-+]?[0-9]+)?  # Underscores, leading zeros.
    | [-+]?\.[0-9_]+(?:e[-+]?[0-9]+)?
    | [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?  # Sexagesimal.
    | [-+]?\.inf | \.nan
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[t\s].*)?        # Dates and times.
    | << | =
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def read_yaml(text: str) -> Document:
    """Return the value of a YAML text, with the positions of its parts.

    Raises:
        Malformed: The text is not YAML, or uses an unsupported feature.
    """
    odd = _UNPRINTABLE.search(text)
    if odd:
        at = odd.start()
        mark = (text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))
        raise Malformed("a character is not printable; write it as an escape in double quotes", mark)
    return _Reader(text).read()


@final
class _Reader:
    """One pass over the events of a text."""

    def __init__(self, text: str) -> None:
        self._document = Document()
        self._events = yaml.parse(text, yaml.SafeLoader)
        self._place: Mark = (1, 1)

    def read(self) -> Document:
        self._next()  # The start of the stream.
        if isinstance(self._next(), yaml.StreamEndEvent):
            raise Malformed("the file is empty; write a policy", self._place)
        self._document.value = self._value(self._next(), ())
        self._next()  # The end of the document.
        if not isinstance(self._next(), yaml.StreamEndEvent):
            raise Malformed("a second document follows; keep one", self._place)
        return self._document

    def _next(self) -> yaml.Event:
        try:
            event = next(self._events)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = self._place if mark is None else (mark.line + 1, mark.column + 1)
            raise Malformed(f"not YAML: {error.problem}", place) from None
        except (OverflowError, ValueError):
            # PyYAML converts the numbers in escapes and directives without a check of their size.
            raise Malformed("not YAML: a number is too large for a character or version", self._place) from None
        if event.start_mark is not None:
            self._place = (event.start_mark.line + 1, event.start_mark.column + 1)
        return event

    def _value(self, event: yaml.Event, path: Path) -> object:
        self._document.values[path] = self._place
        self._refuse(event)
        if isinstance(event, yaml.ScalarEvent):
            return event.value if event.style else self._plain(event.value)
        if len(path) > MAX_DEPTH:
            raise Malformed(f"values are nested more than {MAX_DEPTH} levels deep; flatten them", self._place)
        return self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._sequence(path)

    def _refuse(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent):
            raise Malformed("aliases are not supported in a policy; repeat the value", self._place)
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise Malformed("anchors are not supported in a policy; leave the anchor out", self._place)
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            raise Malformed("tags are not supported in a policy; leave the tag out", self._place)

    def _mapping(self, path: Path) -> dict[str, object]:
        members: dict[str, object] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            self._refuse(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise Malformed("a key is no string; write a string", self._place)
            key = event.value
            if key in members:
                raise Malformed(f"duplicate key {quoted(key)}", self._place)
            self._document.keys[*path, key] = self._place
            members[key] = self._value(self._next(), (*path, key))
        return members

    def _sequence(self, path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _plain(self, text: str) -> object:
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        if text.lower() in _DOUBTFUL:
            raise Malformed(
                f"{quoted(text)} is a boolean for some readers; write true or false, or put it in quotes", self._place
            )
        if _ODD.fullmatch(text):
            raise Malformed(
                f"readers read {quoted(text)} differently; write a finite decimal number, or put it in quotes",
                self._place,
            )
        return text
