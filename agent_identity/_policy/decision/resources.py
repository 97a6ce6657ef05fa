"""Resources that a tool touches, as its owner declares them: system, name and kind of access."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast, final, get_args

from agent_identity._identity.common import check_id
from agent_identity._policy.decision.decision import check_labels
from agent_identity.errors import ConfigurationError

__all__ = [
    "Access",
    "Touch",
    "Touches",
    "check_parameters",
    "check_touches",
    "filled_name",
    "has_placeholders",
    "with_data_of",
]

Access: TypeAlias = Literal["read", "write", "delete", "execute", "send"]
"""The kind of access to a resource."""

_ACCESS: Final = cast("tuple[str, ...]", get_args(Access))
_MAX_TOUCHES: Final = 64
_MAX_TEXT: Final = 256
_MAX_FILLED: Final = 8_192
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
            is replaced by its value: ``invoices/{invoice_id}.pdf``. Braces have no other use.
        access: ``"read"``, ``"write"``, ``"delete"``, ``"execute"`` or ``"send"``.
        data: Labels of the data in the resource.

    Raises:
        TypeError: A text is no ``str``, or the labels are no list of texts.
        ValueError: The system is malformed or holds a password, the name does not have 1 to 256 visible characters or
            uses braces otherwise, the access is unknown, or a label is malformed.
    """

    system: str
    name: str
    access: Access
    data: Sequence[str] = ()

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
        object.__setattr__(self, "data", labels)


Touches: TypeAlias = Touch | Sequence[Touch]
"""The declared touches of a tool: one resource, or several."""


def check_touches(value: object) -> tuple[Touch, ...]:
    """Return the declared touches of a tool as a tuple.

    Raises:
        TypeError: The value is neither a :class:`Touch` nor a list of them.
        ValueError: There are more than 64.
    """
    if value is None:
        return ()
    touches = (value,) if type(value) is Touch else value
    items = cast("Sequence[object]", touches) if isinstance(touches, list | tuple) else (touches,)
    if not all(type(one) is Touch for one in items):
        raise TypeError(f"touches is {type(value).__name__}; give Touch(system, name, access), or a list of them")
    several = cast("Sequence[Touch]", items)
    if len(several) > _MAX_TOUCHES:
        raise ValueError(f"touches has {len(several)} resources; give at most {_MAX_TOUCHES}")
    return tuple(dict.fromkeys(several))


def _arguments(name: str) -> list[str]:
    """Return the arguments in a name."""
    return [cast("str", part[2]) for part in _PART.finditer(name) if part[2] is not None]


def has_placeholders(touch: Touch) -> bool:
    """Return whether arguments fill the name of a resource."""
    return "{" in touch.name


def check_parameters(tool: str, touches: Collection[Touch], parameters: Collection[str] | None) -> None:
    """Check that each argument in the resource names is a parameter of the tool.

    Args:
        tool: The name of the tool.
        touches: Its touches.
        parameters: The names that its arguments can have; ``None`` if any name is allowed.

    Raises:
        ConfigurationError: An argument is no parameter.
    """
    for touch in touches:
        for argument in _arguments(touch.name):
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
    texts: list[str] = []
    for part in _PART.finditer(touch.name):
        value = part[1] if part[2] is None else arguments.get(part[2])
        if type(value) is not int and not isinstance(value, str):
            return None
        texts.append(str(value))
    filled = "".join(texts)
    return filled if len(filled) <= _MAX_FILLED else None


def with_data_of(data: tuple[str, ...] | None, touches: Collection[Touch]) -> tuple[str, ...] | None:
    """Return the labels of the tool's data, with those of its resources.

    Unknown labels stay unknown, because the declared resources may not be all.
    """
    if data is None:
        return None
    return tuple(dict.fromkeys((*data, *(label for touch in touches for label in touch.data))))
