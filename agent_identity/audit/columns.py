"""The forms of what records say in their slots, looked at for many texts of one length at once.

What a regular expression reads character by character, once for each text, a few operations on all texts together
say as well. Both accept the same: who has no quick way here is asked by the expression.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from agent_identity.evidence.lines import masked

__all__ = ["ARGUMENTS", "COUNT", "DIGEST", "HASH", "SPAN_ID", "TRACE_ID", "UUID7", "Column", "column_form"]

Column: TypeAlias = Sequence[bytes]
"""What many records say in the same slot; texts of one length, at least one."""

_HasForm: TypeAlias = Callable[[Column], bool]

COUNT: Final = rb"(?:0|[1-9][0-9]{0,18})"
UUID7: Final = rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
DIGEST: Final = rb"hmac-sha256:[0-9a-f]{64}"
ARGUMENTS: Final = rb"(?:hmac|salted)-sha256:[0-9a-f]{64}"
HASH: Final = rb"[0-9a-f]{64}"
SPAN_ID: Final = rb"(?!0{16})[0-9a-f]{16}"
TRACE_ID: Final = rb"(?!0{32})[0-9a-f]{32}"

_HEX: Final = b"0123456789abcdef"
_DIGITS: Final = b"0123456789"


def column_form(form: bytes, width: int) -> _HasForm:
    """Return what tells whether all texts of a column have a form.

    Args:
        form: The form, as a regular expression.
        width: How many bytes each text has, as one that has the form.
    """
    make = _QUICK.get(form)
    if make is not None:
        return make(width)
    matches = re.compile(form).fullmatch
    return lambda column: all(map(matches, column))


def _hex(_: int) -> _HasForm:
    return lambda column: not b"".join(column).translate(None, _HEX)


def _hex_not_zero(width: int) -> _HasForm:
    zero = b"0" * width
    return lambda column: zero not in column and not b"".join(column).translate(None, _HEX)


def _uuid7(width: int) -> _HasForm:
    mask = b"00000000-0000-7000-8000-000000000000"

    def has_form(column: Column) -> bool:
        texts = b"".join(column)
        version, variant = texts[14::width], texts[19::width]
        return masked(texts, mask) and not version.strip(b"7") and not variant.translate(None, b"89ab")

    return has_form


def _digest(width: int) -> _HasForm:
    # Each name has a letter that is no hex digit and is in it once, so that the mask leaves one place for it.
    name = b"hmac-sha256:" if width == len(b"hmac-sha256:") + 64 else b"salted-sha256:"
    mask = name + b"0" * 64

    def has_form(column: Column) -> bool:
        texts = b"".join(column)
        return masked(texts, mask) and texts.count(name) == len(column)

    return has_form


def _count(width: int) -> _HasForm:
    def has_form(column: Column) -> bool:
        texts = b"".join(column)
        return not texts.translate(None, _DIGITS) and (width == 1 or b"0" not in texts[::width])

    return has_form


_QUICK: Final[Mapping[bytes, Callable[[int], _HasForm]]] = {
    ARGUMENTS: _digest,
    COUNT: _count,
    DIGEST: _digest,
    HASH: _hex,
    SPAN_ID: _hex_not_zero,
    TRACE_ID: _hex_not_zero,
    UUID7: _uuid7,
}
