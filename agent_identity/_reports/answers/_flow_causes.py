"""Which content led to a refusal under the flow rules: the calls whose results the arguments came from."""

from collections.abc import Iterator
from typing import Final, final

from agent_identity._record.parts import ArgumentOrigin
from agent_identity._reports.answers.facts import CallFact

_MAX: Final = 10_000
_REFUSING: Final = frozenset({"block", "route"})
_LOW: Final = frozenset({"unknown", "untrusted"})


@final
class FlowCauses:
    """The calls of a pass that may be sources, and the origins of the arguments of refused calls; each 10,000."""

    def __init__(self) -> None:
        self._calls: dict[str, tuple[str, str]] = {}
        self._asked: dict[str, list[ArgumentOrigin]] = {}

    def take(self, fact: CallFact) -> None:
        """Keep a call."""
        if fact.intent is not None and len(self._calls) < _MAX:
            self._calls[fact.intent] = fact.tool, fact.where.record
        if fact.decision.effect in _REFUSING and len(self._asked) < _MAX:
            decisive = [of for of in fact.inputs if of.destination] or fact.inputs
            low = [of for of in decisive if of.provenance in _LOW]
            if low:
                self._asked[fact.where.record] = low

    def words(self, record: str) -> str:
        """Return where the arguments of a call came from that its principal did not give, if it was refused.

        Call it when all facts are taken.
        """
        return ", ".join(self._each(record))

    def _each(self, record: str) -> Iterator[str]:
        for of in self._asked.get(record, ()):
            if of.source is None:
                yield f"{of.argument} from no one on record ({of.provenance})"
            else:
                tool, place = self._calls.get(of.source, ("elsewhere", of.source))
                yield f"{of.argument} from {tool} ({of.provenance}, record {place})"
