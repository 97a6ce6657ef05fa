"""Verifies the ledgers of several hosts, each by itself, and lets each answer what another one misses."""

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.schema import AnyRecord, Detail, Grant, TaskStart
from agent_identity._verify.fleet.logs import compare_logs
from agent_identity._verify.fleet.merging import merged, named, unreadable
from agent_identity._verify.fleet.places import Place, directory_at
from agent_identity._verify.inputs.sources import directory_of, size_of_files, size_of_ledger
from agent_identity._verify.ledger.directory_check import WORTH, check_directory
from agent_identity._verify.ledger.external_evidence import ExternalEvidence
from agent_identity._verify.ledger.ledger_check import Progress
from agent_identity._verify.ledger.stream_check import Visit
from agent_identity._verify.report.elsewhere import Elsewhere, Found, Missing, answers
from agent_identity._verify.report.report import Report
from agent_identity._verify.store.workers import Executor, executor, in_process
from agent_identity.errors import ConfigurationError

_ROUNDS: Final = 8
"""How often hosts are asked for what others miss; an answer may name what is missing next."""

_ENOUGH: Final = 2  # Hosts for each process.


class Host(NamedTuple):
    """A host to verify.

    Attributes:
        place: Its place.
        keys: The trusted keys; without any, those beside its ledger.
        outside: Evidence and requirements of the verifier beside the trusted keys.
        period: A period to judge.
        known: Codes and messages of what other hosts say about its log.
        copy_of: The newer copy of its log in the fleet.
        found: What others have of what it misses.
    """

    place: Place
    keys: TrustStore | None
    outside: ExternalEvidence = ExternalEvidence()
    period: tuple[int, int] | None = None
    known: Sequence[tuple[str, str]] = ()
    copy_of: str | None = None
    found: tuple[tuple[Missing, Found], ...] = ()


class Checked(NamedTuple):
    """A verified host.

    Attributes:
        report: Its report.
        asked: What it misses and others may have.
    """

    report: Report
    asked: frozenset[Missing]


def check_host(host: Host, *, processes: int | Executor = 1, progress: Progress | None = None) -> Iterator[Checked]:
    """Verify one host, possibly in a worker process or on another machine; one that cannot be read hides no other.

    Args:
        host: The host.
        processes: Number of worker processes, or an executor.
        progress: Is told now and then how many of how many bytes are read.
    """
    elsewhere = Elsewhere(dict(host.found))
    if host.place.problem is not None:
        yield Checked(unreadable(host.place, host.place.problem), frozenset())
        return
    try:
        with directory_at(host.place) as directory:
            report = check_directory(
                directory,
                keys=host.keys,
                outside=host.outside,
                period=host.period,
                processes=processes,
                progress=progress,
                known=host.known,
                elsewhere=elsewhere,
            )
    except (ConfigurationError, OSError) as error:
        yield Checked(unreadable(host.place, str(error)), frozenset())
        return
    finally:
        gc.collect()  # Workers have the collector off.
    yield Checked(named(report, host.place, host.copy_of), frozenset(elsewhere.asked))


def answer(host: Host, *, asked: frozenset[Missing]) -> Iterator[tuple[Missing, Found]]:
    """Yield what a host has of what others miss, if its own evidence verifies but for what it misses itself.

    Args:
        host: The host.
        asked: What is missed.
    """
    found: dict[Missing, Found] = {}
    elsewhere = Elsewhere()
    try:
        with directory_at(host.place) as directory:
            report = check_directory(
                directory,
                keys=host.keys,
                outside=host.outside,
                processes=1,
                progress=None,
                visit=_looking(host.place.name, asked, found),
                known=host.known,
                elsewhere=elsewhere,
            )
    except (ConfigurationError, OSError):
        return
    if not report.problems["cannot_tell"] and report.problems["contradicted"] == elsewhere.contradicted:
        yield from found.items()


def _looking(name: str, asked: frozenset[Missing], found: dict[Missing, Found]) -> Visit:
    """Return a callback that keeps the records of a host that others miss."""

    def look(record: AnyRecord, _leaf: bytes, _detail: Detail | None) -> None:
        for missing in answers(record):
            if missing in asked:
                _keep(found, missing, Found(name, record))

    return look


def _keep(found: dict[Missing, Found], missing: Missing, one: Found) -> None:
    """Keep the better of two answers, whichever comes first: of openings of a task, one that names an outer task."""
    known = found.get(missing)
    found[missing] = one if known is None else min(known, one, key=_rank)


def _rank(found: Found) -> tuple[bool, str, str]:
    record = found.record
    return not (isinstance(record, Grant | TaskStart) and record.task.outer), found.host, record.id


def find_missing(
    hosts: Iterable[Host], asked: frozenset[Missing], *, run: Executor = in_process
) -> tuple[tuple[Missing, Found], ...]:
    """Return what hosts have of what others miss; the same in any order of the hosts.

    Args:
        hosts: The hosts that are asked.
        asked: What is missed.
        run: Asks them.
    """
    found: dict[Missing, Found] = {}
    readable = (host for host in hosts if host.place.kind != "traces" and host.place.problem is None)
    for missing, one in run(partial(answer, asked=asked), readable) if asked else ():
        _keep(found, missing, one)
    return tuple(sorted(found.items(), key=lambda entry: entry[0]))


def check_hosts(
    hosts: Sequence[Host], *, processes: int | Executor, progress: Progress | None = None
) -> tuple[Report, ...]:
    """Verify hosts and return their reports, the same in any order of the hosts and with any number of processes.

    Where there are enough hosts for the processes, each host is the work of one process; otherwise all processes read
    one host after the other. An executor gets whole hosts and reads their files, if it does not have to check
    time-stamps.

    Args:
        hosts: The hosts.
        processes: Number of worker processes, 0 for as many as fit, or an executor.
        progress: Is told now and then how many of how many bytes are read.
    """
    compared = compare_logs([host.place for host in hosts], hosts[0].keys if hosts else None)
    sizes = {host.place.name: size_of_place(host.place) for host in hosts}
    hosts = [
        host._replace(known=(*host.known, *compared.known.get(name, ())), copy_of=compared.copies.get(name))
        for host in sorted(hosts, key=lambda host: (-sizes[host.place.name], host.place.name))
        for name in [host.place.name]
    ]
    total = sum(sizes.values())
    whole = isinstance(processes, int) and not _spread(processes, hosts, total)
    if whole or any(host.outside.timestamps is not None for host in hosts):
        check = partial(in_turn, processes=processes, sizes=sizes, progress=progress)
        return _reports(completed(check(hosts), hosts, check))
    with executor(processes, most=max(1, min(len(hosts), 1 + total // WORTH))) as chosen:
        check = partial(_spread_out, chosen, sizes=sizes, progress=progress)
        return _reports(completed(check(hosts), hosts, check, run=chosen))


def _reports(checked: Iterable[Checked]) -> tuple[Report, ...]:
    return merged([one.report] for one in checked)


def completed(
    checked: Iterable[Checked],
    hosts: Sequence[Host],
    check: Callable[[Sequence[Host]], Iterator[Checked]],
    *,
    run: Executor = in_process,
) -> Iterable[Checked]:
    """Return verified hosts, those that miss something verified once more with what others have of it.

    Args:
        checked: Hosts that are verified by themselves.
        hosts: All hosts, which are asked.
        check: Verifies hosts.
        run: Asks them.
    """
    done = {one.report.place: one for one in checked}
    known: dict[Missing, Found] = {}
    for _ in range(_ROUNDS):
        asked = frozenset(missing for one in done.values() for missing in one.asked) - known.keys()
        found = dict(find_missing(hosts, asked, run=run))
        if not found:
            break
        known |= found
        again = [
            host._replace(found=tuple(known.items()))
            for host in hosts
            if (one := done.get(host.place.name)) is not None and not found.keys().isdisjoint(one.asked)
        ]
        done |= {one.report.place: one for one in check(again)}
    return done.values()


def in_turn(
    hosts: Sequence[Host], *, processes: int | Executor, sizes: Mapping[str, int], progress: Progress | None = None
) -> Iterator[Checked]:
    """Verify one host after the other, each by all processes.

    Args:
        hosts: The hosts.
        processes: Number of worker processes, or an executor.
        sizes: The bytes of each, by its name.
        progress: Is told now and then how many of how many bytes are read.
    """
    total, before = sum(sizes.values()), 0
    for host in hosts:
        yield from check_host(host, processes=processes, progress=after(progress, before, total))
        before += sizes.get(host.place.name, 0)


def _spread_out(
    run: Executor, hosts: Sequence[Host], *, sizes: Mapping[str, int], progress: Progress | None
) -> Iterator[Checked]:
    """Verify hosts beside each other."""
    total, done = sum(sizes.values()), 0
    for one in run(check_host, hosts):
        done += sizes[one.report.place or ""]
        if progress is not None:
            progress(done, total)
        yield one


def after(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Return the progress of one of several sources.

    Args:
        progress: That of all.
        before: Bytes of those that were read before.
        total: Bytes of all; 0 if unknown.
    """
    if progress is None:
        return None
    tell = progress
    return lambda done, _: tell(min(before + done, total) if total else before + done, total)


def _spread(processes: int, hosts: Sequence[Host], total: int) -> bool:
    """Return whether each host is the work of one process."""
    number = processes or min(len(os.sched_getaffinity(0)), 1 + total // WORTH)
    return number > 1 and len(hosts) >= _ENOUGH * number


def size_of_place(place: Place) -> int:
    """Return the bytes of a place, 0 if that is not known."""
    if place.problem is not None:
        return 0
    if place.kind != "ledger":
        return size_of_files(place.paths)
    directory = directory_of(place.paths[0])
    try:
        return 0 if directory is None else size_of_ledger(open_ledger(directory))
    except (ConfigurationError, OSError):  # Its verification tells.
        return 0
