"""Bounded readers of JSON with comments, TOML and YAML."""

import json
import re
import tomllib
from typing import Final, cast

from agent_identity.canonical import JSON

MAX_YAML: Final = 256 * 1024
"""Bytes of a YAML file; the parser is slow."""

_STRING: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_MARK: Final = re.compile(r'["/]')
_COMMA: Final = re.compile(r",(\s*[}\]])")
_QUOTED: Final = re.compile(r'"[^"\n]*"')
_DOTS: Final = 500
_FAILURES: Final = (ValueError, RecursionError, MemoryError, OverflowError)


class Unreadable(Exception):
    """A file that cannot be understood; the reason is a slug."""


def text_of(data: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a mark.

    Raises:
        Unreadable: It is in another encoding.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise Unreadable("bad_encoding") from None


def parse_document(name: str, text: str) -> JSON:
    """Return the value of a document, by the end of its name.

    Raises:
        Unreadable: It is malformed, too deep, or YAML without the extra ``yaml``.
    """
    if name.endswith((".yaml", ".yml")):
        return _yaml(text)
    if name.endswith((".toml", "poetry.lock", "uv.lock", "pdm.lock", "Pipfile")):
        return _toml(text)
    return _json(text)


def _json(text: str) -> JSON:
    try:
        return cast("JSON", json.loads(text))
    except RecursionError:
        raise Unreadable("too_deep") from None
    except _FAILURES:
        pass
    try:
        return cast("JSON", json.loads(_plain(text)))
    except RecursionError:
        raise Unreadable("too_deep") from None
    except _FAILURES:
        raise Unreadable("malformed") from None


def _plain(text: str) -> str:
    """Return the text without comments and trailing commas, in one pass; strings stay as they are."""
    parts: list[str] = []
    gap: list[str] = []
    at = 0
    while (mark := _MARK.search(text, at)) is not None:
        start = mark.start()
        gap.append(text[at:start])
        string = _STRING.match(text, start)
        if string is not None:
            parts += (_COMMA.sub(r"\1", "".join(gap)), string.group())
            gap, at = [], string.end()
            continue
        end = _comment_end(text, start)
        if end == start:
            gap.append(text[start])
            end += 1
        at = end
    parts.append(_COMMA.sub(r"\1", "".join([*gap, text[at:]])))
    return "".join(parts)


def _comment_end(text: str, start: int) -> int:
    """Return where a comment ends, or its start if there is none."""
    opening = text[start : start + 2]
    if opening == "//":
        end = text.find("\n", start)
    elif opening == "/*":
        end = text.find("*/", start)
        end = end + 2 if end >= 0 else end
    elif opening[:1] == '"':
        raise ValueError("a string without an end")
    else:
        return start
    return len(text) if end < 0 else end


def _toml(text: str) -> JSON:
    if any(line.count(".") > _DOTS and _QUOTED.sub("", line).count(".") > _DOTS for line in text.splitlines()):
        raise Unreadable("too_deep")
    try:
        return cast("JSON", tomllib.loads(text))
    except RecursionError:
        raise Unreadable("too_deep") from None
    except _FAILURES:
        raise Unreadable("malformed") from None


def _yaml(text: str) -> JSON:
    """Read YAML without types, tags and merges, so that aliases cannot multiply work."""
    if len(text) > MAX_YAML:
        raise Unreadable("too_large")
    try:
        import yaml  # An extra.
    except ImportError:
        raise Unreadable("needs_extra_yaml") from None
    try:
        return cast("JSON", yaml.load(text, Loader=yaml.BaseLoader))  # noqa: S506 - Constructs only str, list and dict.
    except RecursionError:
        raise Unreadable("too_deep") from None
    except (yaml.YAMLError, TypeError, *_FAILURES):
        raise Unreadable("malformed") from None


def member(value: JSON, *path: str) -> JSON:
    """Return a member of nested objects, ``None`` where there is none."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def line_of(text: str, name: str) -> int:
    """Return the first line that has a name as a key, 1 if none is found."""
    for quoted in (json.dumps(name), json.dumps(name, ensure_ascii=False), f"{name}:", f".{name}]", name):
        at = text.find(quoted)
        if at >= 0:
            return text.count("\n", 0, at) + 1
    return 1
