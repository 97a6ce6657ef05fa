"""Destinations of calls: the arguments, and members of arguments, that decide where a call leads."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from agent_identity._common.narrowing import is_array, is_mapping

_MAX_VALUES: Final = 1_024
"""Values of one destination that are looked at; of more, the rest counts as one without a known provenance."""


def split_destinations(names: Sequence[str]) -> dict[str, bool]:
    """Return the names of destinations, each with whether an empty value of it leads nowhere (``cc?``)."""
    found: dict[str, bool] = {}
    for spelled in names:
        name = spelled.removesuffix("?")
        found[name] = spelled != name and found.get(name, True)
    return found


def values_at(arguments: Mapping[str, object], name: str) -> list[object]:
    """Return the values of a destination, ``None`` for each that is missing.

    Args:
        arguments: The arguments by name, in their JSON forms.
        name: The name of an argument, or a way to members of it: ``mail.to`` of an object, and of each
            object of a list.
    """
    first, *steps = name.split(".")
    found: list[object] = [arguments[name]] if steps and name in arguments else []  # A name may hold a dot itself.
    if first in arguments or not found:
        for value in _members(arguments.get(first), steps):
            if len(found) >= _MAX_VALUES:
                return [*found, object()]  # Nothing is known of it.
            found.append(value)
    return found


def _members(value: object, steps: list[str]) -> Iterator[object]:
    if is_array(value) and value:
        for item in value:
            yield from _members(item, steps)
    elif not steps:
        yield value
    elif is_mapping(value):
        yield from _members(value.get(steps[0]), steps[1:])
    else:
        yield None if is_empty(value) else value  # A text where an object should be may spell anything.


def is_empty(value: object) -> bool:
    """Return whether the value of a destination leads nowhere that anyone named."""
    return value is None or value in ("", [], (), {})
