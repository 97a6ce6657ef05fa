"""Decidability of constraints on places: texts that some reader may take for one inside.

The constraints on places permit only spellings that all readers read alike. For a grant every other spelling is
outside. A rule that blocks a place must not treat it as outside: ``/data/../etc/passwd``
leads into ``/etc``. Such a text is undecidable, and so is a path that some file systems take for one inside the place:
``/ETC/passwd`` where case does not count, another normal form of Unicode where that does not.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Final

from agent_identity._constraints.literals import Constraint
from agent_identity._constraints.locations import EmailDomain, PathWithin, UrlWithin

__all__ = ["readable_of"]

_URL_REST: Final = re.compile(r"[?#].*", re.DOTALL)


def readable_of(constraint: Constraint) -> Callable[[object], bool] | None:
    """Return the predicate that a text, which the constraint does not permit, is certainly outside.

    ``None`` if the constraint is on no place.
    """
    if isinstance(constraint, EmailDomain):
        return _is_email
    if isinstance(constraint, UrlWithin):
        return _is_url
    return partial(_is_path, constraint) if isinstance(constraint, PathWithin) else None


def _is_url(value: object) -> bool:
    try:
        return isinstance(value, str) and UrlWithin(_URL_REST.sub("", value)).permits(value)
    except ValueError:
        return False


def _is_email(value: object) -> bool:
    try:
        return isinstance(value, str) and EmailDomain(value.rpartition("@")[2]).permits(value)
    except ValueError:
        return False


def _is_path(place: PathWithin, value: object) -> bool:
    return isinstance(value, str) and _ROOT.permits(value) and not place.resembles(value)


_ROOT: Final = PathWithin("/")
"""It holds all paths that have one meaning."""
