"""Origins of the destinations of calls, from the records of a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from agent_identity._record.parts import ArgumentOrigin
from agent_identity._record.schema import Intent, Mark, Record

_MAX_INPUTS: Final = 10_000


@final
@dataclass(frozen=True, slots=True)
class Destination:
    """An argument that decides where a call leads, and where its value came from.

    Attributes:
        argument: Its name.
        provenance: ``principal``, ``trusted``, ``unknown`` or ``untrusted``.
        source: The tool whose result had the value, or how else it came: ``request``, ``said``, ``received``; ``None``
            if nobody knows.
        source_ns: When, in nanoseconds since the Unix epoch as a decimal number.
    """

    argument: str
    provenance: str
    source: str | None = None
    source_ns: str | None = None


@final
class Inputs:
    """The inputs of one task by their records, at most 10,000."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, str]] = {}

    def take(self, record: Record) -> None:
        """Keep a record that may be a source."""
        if len(self._found) >= _MAX_INPUTS:
            return
        if isinstance(record, Intent):
            self._found[record.id] = record.action.tool, record.time.start
        elif isinstance(record, Mark) and record.mark.sources is None:
            self._found[record.id] = record.mark.cause, record.time.start

    def destinations(self, origins: Sequence[ArgumentOrigin] | None) -> tuple[Destination, ...]:
        """Return the destinations among the origins of the arguments of a call."""
        return tuple(
            Destination(of.argument, of.provenance, *self._found.get(of.source or "", (None, None)))
            for of in origins or ()
            if of.destination is not None
        )
