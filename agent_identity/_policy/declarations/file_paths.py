"""Files by path."""

import os.path
from collections.abc import Mapping, Sequence
from typing import Final

from agent_identity._common.typed_calls import typed
from agent_identity._policy.decision.resources import UNKNOWN, Access, CallTouches, DeclaredTouches, Touch
from agent_identity._policy.declarations._clear_names import text_of

_SYSTEM: Final = "file"


@typed
def file_touches(
    argument: str,
    access: Access,
    *,
    base: str | None = None,
    roots: Sequence[str] = (),
    data: Sequence[str] = (),
) -> CallTouches:
    """Declare the file that an argument names, for ``touches=``.

    The path is normalized as text: ``..`` is resolved, links are not followed, and no file is read. Records have the
    root below which the path lies, and a keyed digest of the whole path. A path that begins with ``~``, a URL, and
    what is no text are unknown.

    Args:
        argument: The name of the argument.
        access: The kind of access.
        base: The folder that relative paths start from; without it a relative path is a name of its own.
        roots: Folders that stand in records in clear text; a path below none of them is ``{argument}``.
        data: Labels of the data in the file.

    Raises:
        TypeError: A text is no ``str``, or labels or roots are no list of texts.
        ValueError: The base or a root is not absolute, or the access or a label is malformed.
    """
    unknown, outside = Touch(_SYSTEM, UNKNOWN, access, data), Touch(_SYSTEM, f"{{{argument}}}", access, data)
    folders = [*map(_folder, roots)]
    below = {root: Touch(_SYSTEM, f"{root.rstrip('/')}/{{{argument}}}", access, data) for root in folders}
    start = None if base is None else _folder(base)

    def declare(arguments: Mapping[str, object]) -> Touch:
        path = text_of(arguments.get(argument))
        if path.startswith("~") or "://" in path:
            return unknown
        path = _normal(path if start is None else os.path.join(start, path))  # noqa: PTH118 - Paths as text.
        holders = [root for root in folders if path == root or path.startswith(f"{root.rstrip('/')}/")]
        touch = below[max(holders, key=len)] if holders else outside
        return Touch(touch.system, touch.name, access, data, filled=path)

    return DeclaredTouches(declare, (argument,), unknown)


def _normal(path: str) -> str:
    normal = os.path.normpath(path).replace(os.sep, "/")
    return normal[1:] if normal.startswith("//") else normal


def _folder(path: str) -> str:
    if not os.path.isabs(path):  # noqa: PTH117 - As above.
        raise ValueError(f"the folder {path!r} is relative; give an absolute path")
    return _normal(path)
