"""Merges the reports of hosts into one: in any order, in any groups, with the same result."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import Final, TypeVar

from agent_identity._verify.fleet.places import Place
from agent_identity._verify.ledger.ledger_check import LEDGER_STEPS
from agent_identity._verify.report.findings import MAX_KEPT, Findings
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import (
    Completeness,
    Coverage,
    Integrity,
    Problem,
    Report,
    Severity,
    Step,
    StepStatus,
    TrustBasis,
)

_T = TypeVar("_T")

MOST_OF_HOST: Final = 100
"""Problems of one host of a fleet that its report shows; all are counted."""

_INTEGRITY: Final[tuple[Integrity, ...]] = ("contradicted", "cannot_tell", "verified")
_COMPLETENESS: Final[tuple[Completeness, ...]] = ("incomplete", "not_checked", "pruned", "complete")
_TRUST: Final[tuple[TrustBasis, ...]] = ("none", "self-asserted", "given")
_SEVERITIES: Final[tuple[Severity, ...]] = ("contradicted", "cannot_tell", "incomplete", "notice")
_STATUS: Final[tuple[StepStatus, ...]] = ("failed", "not_checked", "passed")


def named(report: Report, place: Place, copy_of: str | None = None) -> Report:
    """Return the report of a place as that of a host of a fleet.

    Args:
        report: The report.
        place: The place.
        copy_of: The newer copy of its log in the fleet.
    """
    return replace(report, place=place.name, copy_of=copy_of, findings=report.findings[:MOST_OF_HOST])


def unreadable(place: Place, why: str) -> Report:
    """Return the report of a host that cannot be read, so that nothing can be told of it.

    Args:
        place: Its place.
        why: The reason in words.
    """
    findings = Findings("ledger", LEDGER_STEPS)
    findings.add(1, "unreadable", why)
    return named(findings.report(), place)


def merged(groups: Iterable[Iterable[Report]]) -> tuple[Report, ...]:
    """Return the hosts of several groups, each once, in the order of their places.

    A later verification of a place is told from an earlier one by nothing, so of two reports of one place the worse
    one counts, and of two that are as bad, always the same.

    Args:
        groups: The reports of hosts.
    """
    hosts: dict[str, Report] = {}
    for host in chain.from_iterable(groups):
        name = host.place or ""
        known = hosts.get(name)
        hosts[name] = host if known is None else min(known, host, key=_badness)
    return tuple(hosts[name] for name in sorted(hosts))


def _badness(report: Report) -> tuple[int, int, str]:
    return _INTEGRITY.index(report.integrity), _COMPLETENESS.index(report.completeness), repr(report)


def fleet_report(groups: Iterable[Iterable[Report]]) -> Report:
    """Return the one report of all hosts: the worst verdict counts, and each record of a host once.

    Args:
        groups: The reports of hosts, in any groups.
    """
    hosts = merged(groups)
    own = [host for host in hosts if host.copy_of is None]
    counts = _sum(host.counts for host in own)
    counts["hosts"], counts["copies"] = len(own), len(hosts) - len(own)
    return Report(
        source="fleet",
        integrity=_worst(_INTEGRITY, (host.integrity for host in hosts), "cannot_tell"),
        completeness=_completeness(hosts, own),
        trust=_trust(hosts),
        counts=MappingProxyType(dict(sorted(counts.items()))),
        kinds=MappingProxyType(dict(sorted(_sum(host.kinds for host in own).items()))),
        findings=_findings(hosts),
        problems=_problems(hosts),
        coverage=_coverage(own),
        steps=_steps(hosts),
        complete_until=_until(own),
        hosts=hosts,
    )


def _worst(order: Sequence[_T], states: Iterable[_T], otherwise: _T) -> _T:
    """Return the state that comes first in an order from the worst on."""
    return min(states, key=order.index, default=otherwise)


def _sum(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    whole: Counter[str] = Counter()
    for one in counts:
        whole.update(one)
    return whole


def _trust(hosts: Sequence[Report]) -> TrustBasis:
    """Return the weakest source of keys; where there were none, the verdict says it."""
    return _worst(_TRUST, (host.trust for host in hosts if host.trust != "none"), "none")


def _problems(hosts: Sequence[Report]) -> Mapping[Severity, int]:
    counts: dict[Severity, int] = {severity: sum(host.problems[severity] for host in hosts) for severity in _SEVERITIES}
    counts["incomplete"] -= sum(host.problems["incomplete"] for host in hosts if _forgiven(host))
    return MappingProxyType(counts)


def _forgiven(host: Report) -> bool:
    """Return whether what a host lacks does not matter: a newer copy of it has that."""
    return host.weighs != host.verdict


def _until(hosts: Sequence[Report]) -> int | None:
    """Return the time up to which all ledgers are complete."""
    times = [host.complete_until for host in hosts if host.source == "ledger"]
    known = [time for time in times if time is not None]
    return min(known) if known and len(known) == len(times) else None


def _completeness(hosts: Sequence[Report], own: Sequence[Report]) -> Completeness:
    states: set[Completeness] = {host.completeness for host in own}
    if any(host.weighs == "contradicted" for host in hosts) and "incomplete" not in states:
        return "not_checked"  # As of one host: what was changed is not whole.
    return _worst(_COMPLETENESS, states, "not_checked")


def _findings(hosts: Sequence[Report]) -> tuple[Problem, ...]:
    """Return the problems of all hosts, worst first; each says of which host it is."""
    every = [
        (_SEVERITIES.index(found.severity), host, found)
        for host in hosts
        for found in host.findings
        if not (found.severity == "incomplete" and _forgiven(host))
    ]
    every.sort(key=lambda entry: entry[0])
    return tuple(replace(found, message=f"{host.place}: {found.message}") for _, host, found in every[:MAX_KEPT])


def _coverage(hosts: Sequence[Report]) -> tuple[Coverage, ...]:
    scopes: dict[str, Coverage] = {}
    for one in chain.from_iterable(host.coverage for host in hosts):
        known = scopes.get(one.scope, Coverage(one.scope, 0, 0, 0))
        scopes[one.scope] = Coverage(
            one.scope, known.calls + one.calls, known.attributed + one.attributed, known.human + one.human
        )
    return tuple(scopes[scope] for scope in sorted(scopes))


def _steps(hosts: Sequence[Report]) -> tuple[Step, ...]:
    """Return the steps of a ledger over all hosts that have them, each with its worst result."""
    ledgers = [host.steps for host in hosts if host.source == "ledger" and not _forgiven(host)]
    steps: list[Step] = []
    for number, name in enumerate(LEDGER_STEPS, 1):
        states: list[StepStatus] = [steps_of[number - 1].status for steps_of in ledgers]
        status: StepStatus = _worst(_STATUS, states, "not_checked")
        detail = f"passed for {states.count('passed'):,} of {counted(len(states), 'host')}"
        steps.append(Step(number, name, status, detail))
    return tuple(steps)
