"""The story of an incident: one sentence first, then what stands out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from agent_identity._reports.answers._incident_calls import Refusal
from agent_identity._reports.answers.incident_report import IncidentReport, RevocationEffect
from agent_identity._verify.report.plurals import counted, elapsed

Weight: TypeAlias = Literal["bad", "warn", "note"]
"""How much something stands out."""

_FEW: Final = 3
_HALF: Final = 500_000_000
_STOPS: Final = frozenset({"suspended", "revoked"})
_SHORT: Final = 12


@final
@dataclass(frozen=True, slots=True)
class Notable:
    """Something that stands out.

    Attributes:
        weight: How much.
        label: What kind of thing it is.
        words: What happened.
        at_ns: When it began; 0 where it has no time.
        records: Records that say so.
    """

    weight: Weight
    label: str
    words: str
    at_ns: int = 0
    records: tuple[str, ...] = ()


def sentence(found: IncidentReport) -> str:
    """Return what happened in one sentence, such as ``clerk tried pay for alice: refused, suspended 2 s later``."""
    if not (found.calls or found.timeline or found.authority):
        return f"Nothing in the evidence concerns {found.seed}."
    refusals = [one for one in found.refusals if not one.opening] or found.refusals
    parties: dict[str, list[Refusal]] = {}
    for one in refusals:
        parties.setdefault(_who(one), []).append(one)
    if not parties:
        return f"{_calls(found)}; none was refused{_stopped(found)}."
    if len(parties) == 1:
        return f"{_tried(refusals)}: refused{_stopped(found)}."
    return _crowd(list(parties.values()), len(found.revocations))


def _crowd(parties: Sequence[Sequence[Refusal]], revocations: int) -> str:
    """Return what several agents tried, those with the most refusals first."""
    named = sorted(parties, key=lambda ones: -sum(one.count for one in ones))
    words = [f"{_who(ones[0])} tried {_tools(ones)}" for ones in named[:_FEW]]
    more = [f"{len(named) - _FEW:,} more"] if len(named) > _FEW else []
    total = sum(one.count for ones in parties for one in ones)
    stops = f"; {counted(revocations, 'revocation')}" if revocations else ""
    return f"{counted(total, 'call')} refused: {_several([*words, *more])}{stops}."


def _tried(refusals: Sequence[Refusal]) -> str:
    """Return what the same agent tried, without what was refused only because it was stopped already."""
    own = [one for one in refusals if one.reason not in _STOPS] or refusals
    return f"{_who(own[0])} tried {_tools(own)}{_for(own)}"


def _who(one: Refusal) -> str:
    return one.agents[-1] if one.agents else "a caller outside any task"


def _for(refusals: Sequence[Refusal]) -> str:
    principals = list(dict.fromkeys(one.principal for one in refusals if one.principal))
    return f" for {_named(principals, 'principal')}" if principals else ""


def _tools(refusals: Sequence[Refusal]) -> str:
    counts: dict[str, int] = {}
    for one in refusals:
        counts[one.tool] = counts.get(one.tool, 0) + one.count
    named = [tool if count == 1 else f"{tool} {count:,} times" for tool, count in counts.items()]
    more = [f"{counted(len(named) - _FEW, 'other tool')}"] if len(named) > _FEW else []
    return _several([*named[:_FEW], *more])


def _several(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _calls(found: IncidentReport) -> str:
    agents = list(dict.fromkeys(path.agents[-1] for path in found.paths if path.agents))
    people = list(dict.fromkeys(path.principal for path in found.paths if path.principal))
    by = f" by {_named(agents, 'agent')}" if agents else ""
    for_ = f" for {_named(people, 'principal')}" if people else ""
    return f"{counted(found.calls, 'call')}{by}{for_}"


def _named(names: Sequence[str], noun: str) -> str:
    return _several(names) if len(names) <= _FEW else counted(len(names), noun)


def _stopped(found: IncidentReport) -> str:
    """Return how long after the first refusal, or else after the first call, it was stopped."""
    first = min((one.first_ns for one in found.refusals), default=None)
    words = ""
    for one in found.revocations[:_FEW]:
        if first is not None and one.at_ns >= first and _is_of_all(one, found):
            words += f", {one.status} {elapsed(one.at_ns - first + _HALF)} later"
        else:
            words += f"; {_name(one)} {one.status}" + (
                "" if one.since_first_ns is None else f" {elapsed(one.since_first_ns)} after the first call"
            )
        if one.after:
            words += f", and {counted(one.after, 'call')} began afterwards"
    return words


def _is_of_all(one: RevocationEffect, found: IncidentReport) -> bool:
    """Return whether a revocation stops the agent of all refused calls."""
    return one.kind == "everything" or all(one.name in refusal.agents for refusal in found.refusals)


def _name(one: RevocationEffect) -> str:
    name = f"{one.name[:_SHORT]}…" if one.kind in ("key", "grant") and len(one.name) > _SHORT else one.name
    return one.kind if one.kind == "everything" else f"{one.kind} {name}"


def notable(found: IncidentReport) -> Iterator[Notable]:
    """Yield what stands out: refused calls, revocations, unknown outcomes, changed tools, and tasks that go on."""
    alike: dict[tuple[tuple[str, ...], str, str], list[Refusal]] = {}
    for one in found.refusals:
        alike.setdefault((one.agents, one.tool, one.reason), []).append(one)
    for ones in alike.values():
        first, count = ones[0], sum(one.count for one in ones)
        times = f", {count:,} times" if count > 1 else ""
        words = f"{_who(first)} tried {first.tool}{_for(ones)}{times}: {first.reason}"
        yield Notable("bad", "refused", words, first.first_ns, tuple(one.record for one in ones))
    yield from map(_revocation, found.revocations)
    for call in found.open_calls:
        words = f"{call.agent or 'a caller outside any task'} called {call.tool}, and nothing says how that ended"
        yield Notable("warn", "unknown outcome", words, call.at_ns, (call.record,))
    for change in found.definitions:
        meanwhile = f"{counted(change.calls, 'call')} meanwhile, {change.refused:,} refused"
        words = f"{change.tool} was offered in another form: {change.status}; {meanwhile}"
        yield Notable("bad" if change.calls else "warn", "changed tool", words, change.at_ns, change.records)
    if found.open_tasks:
        yield Notable("warn", "may still act", f"{counted(len(found.open_tasks), 'task')} without an end")


def _revocation(one: RevocationEffect) -> Notable:
    since = "" if one.since_first_ns is None else f", {elapsed(one.since_first_ns)} after the first call"
    lifted = f"; lifted {elapsed(one.lifted_ns - one.at_ns + _HALF)} later" if one.lifted_ns is not None else ""
    effect = f"{counted(one.after, 'call')} began afterwards, {one.refused:,} refused"
    label = "revoked key" if one.kind == "key" else one.status
    words = f"{_name(one)} {one.status}{since}{lifted}: {effect}"
    return Notable("bad" if one.after else "warn", label, words, one.at_ns, (one.record, *one.records))
