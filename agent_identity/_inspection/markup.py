"""Hidden and auto-fetched parts of markdown and HTML: comments, and images that carry data."""

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["comments", "data_length", "images"]

_URL: Final = re.compile(r"[ \t\n]{0,8}<?((?:https?:)?//[^\s()<>\"']{1,4096})", re.IGNORECASE)
_IMAGE_TAG: Final = re.compile(r"<img\b[^<>]{0,4096}", re.IGNORECASE)
_SOURCE: Final = re.compile(r"\bsrc(?:set)?\s{0,8}=\s{0,8}[\"']?((?:https?:)?//[^\s<>\"']{1,4096})", re.IGNORECASE)
_MARKDOWN_COMMENT: Final = re.compile(r"^[ \t]{0,3}\[(?://|comment)\]:[^\n]{0,4096}", re.MULTILINE)
_DEFINITION: Final = re.compile(r"^[ \t]{0,3}\[[^\]\n]{1,200}\]:", re.MULTILINE)
_SEGMENT: Final = re.compile(r"[^/?#&=;:.,_-]{24,}")
_LABEL: Final = 1_000

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


def images(text: str, least: int) -> Iterator[_Span]:
    """Yield the spans of images whose address carries data.

    Args:
        text: The text.
        least: Characters of data from which on it counts.
    """
    if "![" in text:
        yield from _inline_images(text, least)
        for found in _DEFINITION.finditer(text):
            url = _URL.match(text, found.end())
            if url is not None and data_length(url.group(1)) >= least:
                yield url.span(1)
    for tag in _IMAGE_TAG.finditer(text) if "<" in text else ():
        source = _SOURCE.search(tag.group())
        if source is not None and data_length(source.group(1)) >= least:
            yield tag.start(), tag.start() + source.end(1)


def _inline_images(text: str, least: int) -> Iterator[_Span]:
    # From each "](" back to "![", because labels may hold anything, other images for one.
    middle = text.find("](")
    while middle >= 0:
        start = text.rfind("![", max(middle - _LABEL, 0), middle)
        url = _URL.match(text, middle + 2) if start >= 0 else None
        if url is not None and data_length(url.group(1)) >= least:
            yield start, url.end(1)
        middle = text.find("](", middle + 2)
