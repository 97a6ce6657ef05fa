"""Whether a text can be told to lie outside a place at all.

The constraints on places permit only spellings that all readers take alike. For a grant every other
spelling is outside. A rule that blocks a place must not take it for outside: ``/data/../etc/passwd``
leads into ``/etc``. Such a text is undecidable.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, cast

from agent_identity.authority.constraints import EmailDomain, PathWithin, UrlWithin

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


READABLE: Final[Mapping[str, Callable[[object], bool]]] = {
    "email_domain": _is_email,
    "path_within": PathWithin("/").permits,
    "url_within": _is_url,
}
"""By the kind of the constraint: whether a text has one meaning. ``/`` holds all paths that have one."""
