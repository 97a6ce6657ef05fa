"""Forms and lengths of the values in a record."""

from functools import lru_cache
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from agent_identity._identity.common.ids import DIGEST_FORM, ID_FORM
from agent_identity._identity.common.names import check_id

_MAX_TOKEN: Final = 65_536
_MAX_ID: Final = 2_048
_MAX_READER: Final = 128
_MAX_READERS: Final = 246  # With the commas. The longest integrity still fits before them, so a meet is a label.


def _form(what: str, pattern: str, *, but: str = "") -> Meta:
    """Return the form of a text: a pattern for all of it, and one that it must not have."""
    refused = rf"(?!{but}\Z)" if but else ""
    return Meta(pattern=rf"\A{refused}(?:{pattern})\Z", description=what)


def text(most: int) -> Meta:
    """Return the bounds of a text."""
    return Meta(min_length=1, max_length=most, description=f"text of 1 to {most} characters")


def items(most: int) -> Meta:
    """Return the bounds of an array; an empty one would be a second way to say "unknown"."""
    return Meta(min_length=1, max_length=most)


def stated(most: int) -> Meta:
    """Return the bounds of an array in which an empty one says "none", and only an absent one "unknown"."""
    return Meta(max_length=most)


Id: TypeAlias = Annotated[
    str,
    Meta(min_length=1, max_length=_MAX_ID, description="an identifier: 1 to 256 visible characters, or a SPIFFE ID"),
]
Name: TypeAlias = Annotated[str, text(256)]
Slug: TypeAlias = Annotated[str, _form("a code of lower-case letters, digits and underscores", r"[a-z][a-z0-9_]{0,63}")]
# The last character has bits to spare, and only one of the spellings has them at zero.
Id128: TypeAlias = Annotated[str, _form("an id in 22 base64url characters", ID_FORM)]
Digest: TypeAlias = Annotated[str, _form("a digest in 43 base64url characters", DIGEST_FORM)]
ArgsDigest: TypeAlias = Annotated[
    str, _form("a digest in 43 base64url characters, with an s before it if it is salted", rf"s?{DIGEST_FORM}")
]
Count: TypeAlias = Annotated[str, _form("a decimal number without leading zeros", r"0|[1-9][0-9]{0,18}")]
Position: TypeAlias = Annotated[str, _form("a decimal number from 1", r"[1-9][0-9]{0,18}")]
Nanoseconds: TypeAlias = Annotated[str, _form("nanoseconds since 1970 as a decimal number", r"0|[1-9][0-9]{0,18}")]
TraceId: TypeAlias = Annotated[str, _form("32 lower-case hex digits, not all zero", "[0-9a-f]{32}", but="0{32}")]
SpanId: TypeAlias = Annotated[str, _form("16 lower-case hex digits, not all zero", "[0-9a-f]{16}", but="0{16}")]
Why: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=256, description="one printable line of at most 256 characters")
]
Token: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z",
        max_length=_MAX_TOKEN,
        description=f"a compact JWS of at most {_MAX_TOKEN} characters",
    ),
]
Argument: TypeAlias = Annotated[
    str,
    _form(
        "<argument name>:<kind> with a name of 1 to 256 characters",
        r"(?s:.){1,256}:(?:string|boolean|number|null|array|object|opaque)",
    ),
]
Label: TypeAlias = Annotated[
    str, _form("a short word of lower-case letters, digits, hyphens, dots and underscores", r"[a-z][a-z0-9_.-]{0,63}")
]
Clause: TypeAlias = Annotated[
    str,
    _form(
        "<argument name>:<branch of the constraint>, such as amount:range or path:any.range",
        r"(?s:.){1,256}:[a-z_]+(?:\.[a-z_]+){0,16}",
    ),
]
FlowLabel: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"\A(?:trusted|unknown|untrusted)(?::[A-Za-z0-9_.@/,-]*)?\Z",
        max_length=256,
        description="trusted, unknown or untrusted, and readers after a colon, sorted",
    ),
]
Category: TypeAlias = Annotated[str, _form("the name of a category", r"[A-Za-z0-9_.:/-]{1,128}")]


@lru_cache(maxsize=4096)  # A ledger names few parties, each in every record.
def is_id(text: str | None) -> bool:
    """Return whether a text is an identifier, or ``None``."""
    try:
        check_id("unknown" if text is None else text, "id")
    except ValueError:
        return False
    return True


def check_ids(**members: str | None) -> None:
    """Check identifiers; the error names the member, and decoding puts the path before it."""
    for name, value in members.items():
        if not is_id(value):
            raise ValueError(name)


@lru_cache(maxsize=4096)
def is_label(text: str | None) -> bool:
    """Return whether the readers of a flow label are in their one spelling, or it is ``None``."""
    if text is None:
        return True
    names = text.partition(":")[2]
    readers = names.split(",") if names else []
    fits = len(names) <= _MAX_READERS and max(map(len, readers), default=0) <= _MAX_READER
    return fits and readers == sorted({*readers} - {"", "public"})


def check_why(**members: str | None) -> None:
    """Check reasons in words, as :func:`check_ids` checks identifiers."""
    for name, value in members.items():
        if value is not None and not value.isprintable():
            raise ValueError(name)
