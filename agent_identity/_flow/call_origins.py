"""Origins of the arguments and destinations of one call."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from agent_identity._flow.choices import ToolWords, is_choice
from agent_identity._flow.destinations import is_empty, values_at
from agent_identity._flow.provenance import Origin, ProvenanceIndex, is_silent, weakest

__all__ = ["origins_of_call"]

_NOBODY: Final = Origin("unknown")
_NOWHERE: Final = Origin("trusted")
_OWN: Final = Origin("trusted")


def origins_of_call(
    index: ProvenanceIndex,
    values: Mapping[str, object],
    supplied: Collection[str],
    destinations: Mapping[str, bool],
    words: ToolWords,
) -> tuple[dict[str, Origin], dict[str, Origin]]:
    """Return where the arguments of a call come from, and where those come from that decide where it leads.

    Args:
        index: The values that the task knows.
        values: The arguments, as policies see them.
        supplied: The names that the caller gave; others are the tool's own.
        destinations: The names of destinations, each with whether an empty value of it leads nowhere: that is the
            tool's own word, and as good as a trusted value. An empty value of any other may mean everyone, so no one
            trusted gave it.
        words: The names and the listed values of the tool. A listed value carries no content of others; a name that the
            tool does not have comes from the caller, like a value.
    """
    args: dict[str, Origin] = {}
    for name, value in values.items():
        if name in words.choices and is_choice(value, words.choices[name]):
            continue
        found = index.origin(value) if name in supplied else _OWN
        if words.names is not None and name in supplied and name not in words.names:
            found = weakest((index.origin(name) or _NOBODY, found or _OWN))
        if found is not None and (found is not _OWN or not is_silent(value)):
            args[name] = found
    leads = {
        name: _led(index, values_at(values, name), optional=optional, own=_is_own(name, supplied))
        for name, optional in destinations.items()
    }
    return args, leads


def _is_own(name: str, supplied: Collection[str]) -> bool:
    """Return whether the tool itself fills in a destination: an argument, one with dots in its name, or a member."""
    return name not in supplied and name.partition(".")[0] not in supplied


def _led(index: ProvenanceIndex, values: Sequence[object], *, optional: bool, own: bool) -> Origin:
    """Return the weakest origin of the values of a destination.

    Args:
        index: The values that the task knows.
        values: The values, ``None`` for a missing one.
        optional: An empty value leads nowhere.
        own: The tool itself filled in the argument.
    """
    found = [_NOWHERE if optional else _NOBODY for value in values if is_empty(value)]
    found += [_OWN if own else index.origin(value) or _NOBODY for value in values if not is_empty(value)]
    return weakest(found) or _NOBODY
