"""Resources that a tool touches, as its owner declares them: system, name and kind of access."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal, TypeAlias, cast, final, get_args

from agent_identity._common.narrowing import is_array
from agent_identity._identity.common.names import check_id
from agent_identity._policy.decision.decision import check_labels
from agent_identity.errors import ConfigurationError

UNKNOWN: Final = "unknown"
"""The system or name of a resource that no one knows."""

MAX_FILLED: Final = 8_192
"""Characters of a filled name, at most."""

Access: TypeAlias = Literal["read", "write", "delete", "execute", "send"]
"""The kind of access to a resource."""

_ACCESS: Final = cast("tuple[str, ...]", get_args(Access))
_MAX_TOUCHES: Final = 64
_MAX_TEXT: Final = 256
# https://openlineage.io/docs/spec/naming: a scheme alone ("bigquery", "file"), one with an authority and perhaps a
# path ("postgres://db:5432", "s3://bucket"), or one with parts ("arn:aws:glue:eu-west-1:123").
_SYSTEM: Final = re.compile(r"[a-z][a-z0-9+.-]*(?:://[!$&'()*+,;=:@A-Za-z0-9._~%/\[\]-]+|(?::[A-Za-z0-9._~-]+)+)?")
_PASSWORD: Final = re.compile(r"://[^/@]*:[^/]*@")
_PART: Final = re.compile(r"([^{}]+)|\{([^{}]+)\}")


@final
@dataclass(frozen=True, slots=True)
class Touch:
    """A resource that a tool touches, and the kind of access.

    Args:
        system: The system that has the resource, as an OpenLineage namespace:
            ``postgres://db.example.com:5432``, ``s3://bucket``, ``file``.
        name: The name of the resource in that system: ``shop.public.invoices``. A whole argument of the tool in braces
            is replaced by its value: ``invoices/{invoice_id}.pdf``. Braces have no other use. The name ``unknown``
            says that no one knows the resource; the labels of the call's data are unknown then.
        access: ``"read"``, ``"write"``, ``"delete"``, ``"execute"`` or ``"send"``.
        data: Labels of the data in the resource.
        filled: The name with its values, where a function declares the resource of one call and arguments do not fill
            the name as they are. Records have its keyed digest only.

    Raises:
        TypeError: A text is no ``str``, or the labels are no list of texts.
        ValueError: The system is malformed or holds a password, the name does not have 1 to 256 visible characters or
            uses braces otherwise, the filled name is too long, the access is unknown, or a label is malformed.
    """

    system: str
    name: str
    access: Access
    data: Sequence[str] = ()
    filled: str | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        labels = check_labels(self.data, "data")
        if labels is None:
            raise TypeError("data is None; give a list of texts, such as data=['personal'], or leave it out")
        for what, text in (("the system", self.system), ("the name", self.name), *(("a label", of) for of in labels)):
            if len(check_id(text, f"{what} of a touch")) > _MAX_TEXT:
                raise ValueError(f"{what} of a touch has {len(text)} characters; use at most {_MAX_TEXT}")
        if not _SYSTEM.fullmatch(self.system) or _PASSWORD.search(self.system):
            raise ValueError(
                "the system of a touch is no OpenLineage namespace, or holds a password; write one like "
                "'postgres://db.example.com:5432', 's3://bucket' or 'file'"
            )
        if "".join(part[0] for part in _PART.finditer(self.name)) != self.name:
            raise ValueError(
                f"the name {self.name!r} of a touch has braces without an argument in them; write '{{argument}}'"
            )
        if self.access not in _ACCESS:
            raise ValueError(f"the access {self.access!r} of a touch is unknown; use one of {', '.join(_ACCESS)}")
        if self.filled is not None and len(_text(self.filled)) > MAX_FILLED:
            raise ValueError(f"the filled name of a touch has {len(self.filled)} characters; use at most {MAX_FILLED}")
        object.__setattr__(self, "data", labels)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the filled name of a touch is {type(value).__name__}; give a str")
    return value


CallTouches: TypeAlias = Callable[[Mapping[str, object]], Touch | Sequence[Touch]]
"""Declares the resources of one call by its arguments, such as ``agent_identity.policy.file_touches("path")``."""

Touches: TypeAlias = Touch | CallTouches | Sequence[Touch | CallTouches]
"""The declared touches of a tool: resources, and functions that declare them by call."""


@final
@dataclass(frozen=True, slots=True)
class DeclaredTouches:
    """A function that declares resources by call, with the arguments that it reads.

    Args:
        function: The function.
        arguments: The arguments.
        unknown: The resource of a call for which the function fails.
    """

    function: CallTouches
    arguments: tuple[str, ...]
    unknown: Touch

    def __call__(self, arguments: Mapping[str, object]) -> Touch | Sequence[Touch]:
        """Return the resources of a call; on bad arguments the unknown one."""
        try:
            return self.function(arguments)
        except Exception:  # noqa: BLE001 - A declaration decides nothing, and arguments may be anything.
            return self.unknown


_NOBODY_KNOWS: Final = Touch(UNKNOWN, UNKNOWN, "execute")


def check_touches(value: object) -> tuple[Touch | CallTouches, ...]:
    """Return the declared touches of a tool as a tuple.

    Raises:
        TypeError: The value is neither a :class:`Touch`, nor a function, nor a list of them.
        ValueError: There are more than 64.
    """
    if value is None:
        return ()
    items: Sequence[object] = (value,)
    if is_array(value):
        items = value
    if not all(type(one) is Touch or (callable(one) and not isinstance(one, type)) for one in items):
        raise TypeError(
            f"touches is {type(value).__name__}; give Touch(system, name, access), a function of the arguments, or a "
            "list of them"
        )
    if len(items) > _MAX_TOUCHES:
        raise ValueError(f"touches has {len(items)} resources; give at most {_MAX_TOUCHES}")
    return tuple(dict.fromkeys(cast("Sequence[Touch | CallTouches]", items)))


def parted_touches(touches: Sequence[Touch | CallTouches]) -> tuple[tuple[Touch, ...], tuple[CallTouches, ...]]:
    """Return the resources of each call apart from the functions that declare further ones."""
    fixed = tuple(one for one in touches if isinstance(one, Touch))
    return fixed, tuple(one for one in touches if not isinstance(one, Touch))


def touches_of_call(
    fixed: Sequence[Touch], by_call: Sequence[CallTouches], arguments: Mapping[str, object]
) -> tuple[Touch, ...]:
    """Return the resources of a call; those of a function that fails, and those beyond 64, are unknown.

    Args:
        fixed: The resources of each call of the tool.
        by_call: Functions that declare further ones.
        arguments: The arguments of the call by name, in their forms.
    """
    found = dict.fromkeys(fixed)
    for function in by_call:
        try:
            declared = function(arguments)
            several = (declared,) if isinstance(declared, Touch) else cast("Iterable[object]", declared)
            some = islice(several, _MAX_TOUCHES + 1)
            found.update(dict.fromkeys(one if isinstance(one, Touch) else _NOBODY_KNOWS for one in some))
        except Exception:  # noqa: BLE001 - Code of others, which decides nothing; the resource is unknown.
            found[_NOBODY_KNOWS] = None
    if len(found) <= _MAX_TOUCHES:
        return tuple(found)
    unknown = [one for one in found if one.name == UNKNOWN][:1] or [_NOBODY_KNOWS]
    return (*list(found)[: _MAX_TOUCHES - 1], *unknown)


def _arguments_of(touch: Touch | CallTouches) -> Sequence[str]:
    """Return the arguments in the name of a resource, or those that a ready-made function reads."""
    if not isinstance(touch, Touch):
        return touch.arguments if isinstance(touch, DeclaredTouches) else ()
    return [cast("str", part[2]) for part in _PART.finditer(touch.name) if part[2] is not None]


def has_placeholders(touch: Touch) -> bool:
    """Return whether arguments fill the name of a resource."""
    return "{" in touch.name


def check_parameters(tool: str, touches: Collection[Touch | CallTouches], parameters: Collection[str] | None) -> None:
    """Check that each argument in the resource names, and of ready-made functions, is a parameter of the tool.

    Args:
        tool: The name of the tool.
        touches: Its touches.
        parameters: The names that its arguments can have; ``None`` if any name is allowed.

    Raises:
        ConfigurationError: An argument is no parameter.
    """
    for touch in touches:
        for argument in _arguments_of(touch):
            if parameters is not None and argument not in parameters:
                raise ConfigurationError(
                    f"touches= of the tool {tool!r} names the unknown argument {argument!r}; the parameters are "
                    f"{', '.join(parameters) or 'none'}; name one of them, or write the text itself"
                )


def filled_name(touch: Touch, arguments: Mapping[str, object]) -> str | None:
    """Return the name of a resource with its arguments filled in; ``None`` if they do not fill it.

    Only texts and whole numbers fill a name: other values have more than one spelling.

    Args:
        touch: The resource.
        arguments: The arguments of a call by name, in their forms.
    """
    if touch.filled is not None:
        return touch.filled
    texts: list[str] = []
    for part in _PART.finditer(touch.name):
        value = part[1] if part[2] is None else arguments.get(part[2])
        if type(value) is not int and not isinstance(value, str):
            return None
        texts.append(str(value))
    filled = "".join(texts)
    return filled if len(filled) <= MAX_FILLED else None


def with_data_of(data: tuple[str, ...] | None, touches: Collection[Touch]) -> tuple[str, ...] | None:
    """Return the labels of the tool's data, with those of its resources.

    Unknown labels stay unknown, because the declared resources may not be all. Labels of an unknown resource are
    unknown.
    """
    if data is None or any(touch.name == UNKNOWN for touch in touches):
        return None
    return tuple(dict.fromkeys((*data, *(label for touch in touches for label in touch.data))))
