"""Names that a record may hold in clear text, and declared templates of paths."""

import re
from collections.abc import Sequence
from typing import Final, final

from agent_identity._policy.decision.resources import UNKNOWN

_MAX_TEMPLATES: Final = 1_000
_LONG: Final = 40
_MAX_VALUE: Final = 8_000
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$-]{0,62}(?:\.[A-Za-z_][A-Za-z0-9_$-]{0,62}){0,7}")
_RUN: Final = re.compile(r"[A-Za-z0-9+/=]{16,}")
_KNOWN: Final = re.compile(
    r"(?i)(?<![a-z0-9])(?:sk|pk|rk|ghp|gho|ghs|glpat|xox[abp])[-_](?:(?:live|test|proj|ant)[-_])?[a-z0-9]{10}"
)
_CONTROL: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\u2028\\u2029]")
_DIFFERENT: Final = re.compile("[\\u00df\\u1e9e\\u03c2\\u200c\\u200d]")  # IDNA 2003 and 2008 read them differently.
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_HIDDEN: Final = re.compile(r"%2f|%5c|[\\;]", re.IGNORECASE)
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_VARIABLE: Final = re.compile(r"\{[^{}]+\}")


def text_of(value: object) -> str:
    """Return an argument that is a text of 1 to 8,000 characters without control characters.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_VALUE:
        raise ValueError("the argument is no text")
    if _CONTROL.search(value):
        raise ValueError("the argument has control characters")
    return value


def ascii_domain(name: str) -> str:
    """Return the name of a host in lower case, in ASCII, without the dot at its end.

    Raises:
        ValueError: It is malformed, or the versions of IDNA read it differently.
    """
    if _DIFFERENT.search(name):
        raise ValueError("a name that the versions of IDNA read differently")
    normal = (name if name.isascii() else name.encode("idna").decode()).lower().removesuffix(".")
    if not all(map(_LABEL.fullmatch, normal.split("."))):
        raise ValueError("no name of a host")
    return normal


def looks_secret(text: str) -> bool:
    """Return whether a text has the shape of a key or token: a long run of letters with digits, or a known prefix."""
    if _KNOWN.search(text):
        return True
    return any(_is_mixed(match[0]) or len(match[0]) >= _LONG for match in _RUN.finditer(text))


def _is_mixed(run: str) -> bool:
    return any(map(str.isdigit, run)) and any(map(str.isalpha, run))


def is_clear(name: str) -> bool:
    """Return whether a name is made of plain identifiers, and does not look like a secret."""
    return name != UNKNOWN and _IDENTIFIER.fullmatch(name) is not None and not looks_secret(name)


def normal_segments(path: str) -> list[str]:
    """Return the segments of the path of a URL, without dot segments.

    Escapes of unreserved characters are decoded, others are in upper case. An escaped slash stays escaped: servers
    differ about it.
    """
    segments: list[str] = []
    for raw in path.split("/")[1:]:
        segment = _ENCODED.sub(_escape, raw)
        if segment == "..":
            segments[-1:] = []
        elif segment != ".":
            segments.append(segment)
    if path.endswith(("/.", "/..")):
        segments.append("")
    return segments


def _escape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()


@final
class PathTemplates:
    """Declared templates of paths, such as ``/v1/invoices/{id}``, that stand in records in place of paths.

    Args:
        templates: The templates; each variable is a whole segment.
        what: The name of the option, for errors.

    Raises:
        ValueError: One has braces inside of a segment, or there are more than 1,000.
    """

    __slots__ = ("_templates",)

    def __init__(self, templates: Sequence[str], what: str) -> None:
        if len(templates) > _MAX_TEMPLATES:
            raise ValueError(f"{what} has {len(templates)} entries; use at most {_MAX_TEMPLATES}")
        self._templates = [(one, one.split("/")) for one in templates]
        for one, segments in self._templates:
            if any(("{" in part or "}" in part) and not _VARIABLE.fullmatch(part) for part in segments):
                raise ValueError(f"the template {one!r} has braces inside of a segment; write '/items/{{id}}'")

    def of(self, path: str) -> str | None:
        """Return the first template that a path fits, ``None`` for none.

        A segment with an escaped separator, a dot segment or parameters fits no variable.
        """
        parts = path.split("/")
        for template, segments in self._templates:
            if len(parts) == len(segments) and all(map(_fits, segments, parts)):
                return template
        return None


def _fits(segment: str, part: str) -> bool:
    if not segment.startswith("{"):
        return segment == part
    return part not in ("", ".", "..") and not _HIDDEN.search(part)
