"""Whether a text can be told to lie outside a place at all.

The constraints on places permit only spellings that all readers take alike. For a grant every other
spelling is outside. A rule that blocks a place must not take it for outside: ``/data/../etc/passwd``
leads into ``/etc``. Such a text is undecidable. So is a path that some file systems take for one inside the place:
``/ETC/passwd`` where case does not count, another normal form of Unicode where that does not.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, cast

from agent_identity.authority.constraints import Constraint, EmailDomain, PathWithin, UrlWithin

__all__ = ["READABLE"]

_URL_REST: Final = re.compile(r"[?#].*", re.DOTALL)


def _is_url(value: object) -> bool:
    text = cast("str", value)
    try:
        return UrlWithin(_URL_REST.sub("", text)).permits(text)
    except ValueError:
        return False


def _is_email(value: object) -> bool:
    text = cast("str", value)
    try:
        return EmailDomain(text.rpartition("@")[2]).permits(text)
    except ValueError:
        return False


def _paths(constraint: Constraint) -> Callable[[object], bool]:
    place = cast("PathWithin", constraint)

    def readable(value: object) -> bool:
        return _ROOT.permits(value) and not place.resembles(cast("str", value))

    return readable


_ROOT: Final = PathWithin("/")
"""It holds all paths that have one meaning."""

READABLE: Final[Mapping[str, Callable[[Constraint], Callable[[object], bool]]]] = {
    "email_domain": lambda _: _is_email,
    "path_within": _paths,
    "url_within": lambda _: _is_url,
}
"""By the kind of a constraint: a function that tells whether a text that it does not permit lies outside for sure."""
