"""The changes of low-water marks among records: by mark records, and by the outcomes of calls."""

from collections.abc import Iterable
from typing import Any

from agent_identity import records


def marks_among(found: Iterable[Any]) -> list[tuple[str, str]]:
    """Return the causes and labels of all marks among records in their order."""
    causes, newest, hops = list[tuple[str, str]](), dict[str, int](), dict[str, str]()
    for one in found:
        if isinstance(one, records.Mark):
            causes.append((one.mark.cause, one.mark.label))
            newest[one.mark.hop] = int(one.mark.seq)
        elif isinstance(one, records.Intent) and one.judged_at is not None:
            hops[one.id] = one.judged_at.hop
        elif isinstance(one, records.Outcome) and one.mark_after is not None and one.intent in hops:
            hop, seq = hops[one.intent], int(one.mark_after.seq)
            if seq > newest.get(hop, 0):
                causes.append(("error" if one.outcome in {"error", "cancelled"} else "result", one.mark_after.label))
                newest[hop] = seq
    return causes
