"""Hidden and auto-fetched parts of markdown and HTML: comments, and images that carry data."""

import re
from collections.abc import Iterator
from typing import Final

_URL: Final = re.compile(r"[ \t\n]{0,8}<?((?:https?:)?//[^\s()<>\"']{1,4096})", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"\(" + _URL.pattern, re.IGNORECASE)
_IMAGE_TAG: Final = re.compile(r"<img\b[^<>]{0,4096}", re.IGNORECASE)
_SOURCE: Final = re.compile(r"\bsrc(?:set)?\s{0,8}=\s{0,8}[\"']?((?:https?:)?//[^\s<>\"']{1,4096})", re.IGNORECASE)
_MARKDOWN_COMMENT: Final = re.compile(r"^[ \t]{0,3}\[(?://|comment)\]:[^\n]{0,4096}", re.MULTILINE)
_DEFINITION: Final = re.compile(r"^[ \t]{0,3}\[([^\]\n]{1,200})\]:", re.MULTILINE)
_REFERENCE: Final = re.compile(r"\[([^\]\n]{0,200})\]")
_BRACKET: Final = re.compile(r"\\[\[\]!\\]|!?\[|\]")
_VALUES: Final = re.compile(r"[&;=/?#:]")
_UNSEEN: Final = re.compile(
    r"\b(?:width|height)\s{0,8}[=:]\s{0,8}[\"']?[01](?![\d.])|\bopacity\s{0,8}:\s{0,8}0(?![\d.])"
    r"|\b(?:display\s{0,8}:\s{0,8}none|visibility\s{0,8}:\s{0,8}hidden)\b|\shidden(?=[\s/=>]|$)",
    re.IGNORECASE,
)
_SEGMENT: Final = re.compile(r"[^/?#&=;:.,_-]{24,}")
_LABEL: Final = 1_000
_NESTED: Final = 8
_MANY: Final = 4

_Span = tuple[int, int]


def data_length(url: str) -> int:
    """Return how many characters of data a URL can carry away: query, fragment, and path segments of no words."""
    rest = url.partition("//")[2]
    _, _, path = rest.partition("/")
    head, _, query = path.partition("?")
    head, _, fragment = head.partition("#")
    return len(query) + len(fragment) + sum(len(found.group()) for found in _SEGMENT.finditer(head))


def comments(text: str) -> Iterator[_Span]:
    """Yield the spans of HTML and markdown comments; one that does not end goes to the end of the text."""
    start = text.find("<!--")
    while start >= 0:
        end = text.find("-->", start + 4)
        end = len(text) if end < 0 else end + 3
        yield start, end
        start = text.find("<!--", end)
    if "]:" in text:
        yield from (found.span() for found in _MARKDOWN_COMMENT.finditer(text))


def images(text: str, least: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the spans of images whose address carries data, and whether it is more than the settings of a badge.

    It is more if one value has that many characters, or all together four times as many, or if no one sees the image.

    Args:
        text: The text.
        least: Characters of data from which on it counts.
    """
    if "![" in text:
        labels = set[str]()
        for start, end, url in (*_inline_images(text, labels), *_defined_images(text, labels)):
            if data_length(url) >= least:
                yield start, end, _is_data(url, least)
    for tag in _IMAGE_TAG.finditer(text) if "<" in text else ():
        source = _SOURCE.search(tag.group())
        if source is not None:
            address, unseen = source.group(1), _UNSEEN.search(tag.group()) is not None
            if data_length(address) >= (1 if unseen else least):
                yield tag.start(), tag.start() + source.end(1), unseen or _is_data(address, least)


def _defined_images(text: str, labels: set[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the spans of the addresses that definitions give to images, with these."""
    for found in _DEFINITION.finditer(text):
        url = _URL.match(text, found.end())
        if url is not None and _normal(found.group(1)) in labels:
            yield *url.span(1), url.group(1)


def _is_data(url: str, least: int) -> bool:
    _, _, query = url.partition("?")
    values = map(len, _VALUES.split(query)) if query else ()
    path = url.partition("?")[0].partition("//")[2].partition("/")[2].partition("#")
    segments = (len(found.group()) for found in _SEGMENT.finditer(path[0]))
    return max((*values, *segments, len(path[2])), default=0) >= least or data_length(url) >= _MANY * least


def _normal(label: str) -> str:
    return " ".join(label.casefold().split())


def _inline_images(text: str, labels: set[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the spans of images with their addresses, and collect the labels of those that are defined elsewhere.

    Where code may hide a bracket, one that closes something else counts as that of an image whose end was not found.
    """
    opened: list[int] = []  # Where brackets begin; those of images are among the pending ones, too.
    pending: list[int] = []
    for sign in _BRACKET.finditer(text):
        if sign.group().endswith("["):
            opened.append(sign.start())
            pending += [sign.start()] if sign.group() == "![" else []
        elif sign.group() == "]":
            first, end = opened.pop() if opened else -1, sign.end()
            if not pending or pending[-1] < end - _LABEL:
                continue
            start = first if first in pending[-_NESTED:] else pending[-1]
            url = _ADDRESS.match(text, end)
            if url is not None:
                yield start, url.end(1), url.group(1)
            labels.add(_label(text, start + 2, sign))
            if url is not None or (first == start and text.startswith(("(", "["), end)):
                del pending[pending.index(start, max(len(pending) - _NESTED, 0))]


def _label(text: str, start: int, closing: re.Match[str]) -> str:
    """Return the label of an image: that which follows it, or else its own text."""
    label = _REFERENCE.match(text, closing.end())
    return _normal((label.group(1) if label else "") or text[start : closing.start()][:_LABEL])
