"""The order of records in a ledger: by the entry of the log that first commits to each, whatever their dates say."""

from bisect import bisect_left
from contextlib import suppress
from typing import Final, final

from agent_identity._ledger.reader import LedgerReader, open_ledger
from agent_identity._ledger.transparency.log import Head
from agent_identity._reports.answers.places import Place
from agent_identity._verify.inputs.sources import directory_of, is_bundle

_LAST: Final = 2**63


@final
class LedgerOrder:
    """The places of records in the log of a ledger.

    Args:
        reader: The ledger; whether its log is genuine, its verification says.
        moment_ns: The moment that matters, in nanoseconds since the Unix epoch.

    Attributes:
        alive: The number of the first entry that states a time from that moment on.
    """

    def __init__(self, reader: LedgerReader, moment_ns: int) -> None:
        self._sizes: dict[str, list[int]] = {}
        self._numbers: dict[str, list[int]] = {}
        self.alive = _LAST
        for number, line in enumerate(reader.log_entries()):
            with suppress(ValueError):
                head = Head.from_entry(line.record or b"")[0]
                if head.time_ns >= moment_ns:
                    self.alive = min(self.alive, number)
                sizes = self._sizes.setdefault(head.stream, [])
                if not sizes or head.size > sizes[-1]:
                    sizes.append(head.size)
                    self._numbers.setdefault(head.stream, []).append(number)

    def entry(self, stream: str, seq: int) -> int:
        """Return the number of the first entry that commits to a record; a number after all others without one."""
        at = bisect_left(self._sizes.get(stream, ()), seq)
        numbers = self._numbers.get(stream, ())
        return numbers[at] if at < len(numbers) else _LAST


def order_of(place: Place, moment_ns: int) -> LedgerOrder | None:
    """Return the order of a source, or nothing for spans, which nothing orders.

    Args:
        place: The source.
        moment_ns: As for :class:`LedgerOrder`.
    """
    if place.kind == "traces":
        return None
    if is_bundle(place.paths[0]):
        from agent_identity._verify.proofs.bundle import unpacked

        with unpacked(place.paths[0]) as directory:
            return LedgerOrder(open_ledger(directory), moment_ns)
    found = directory_of(place.paths[0])
    return None if found is None else LedgerOrder(open_ledger(found), moment_ns)
