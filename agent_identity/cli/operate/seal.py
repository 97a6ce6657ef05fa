"""``agent-identity seal``: close the streams of processes that died, without an enforcer."""

import argparse
import json
from collections.abc import Sequence
from typing import Final

from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.keys.keys import SigningKey
from agent_identity._ledger.closing import Closed, close_dead
from agent_identity._ledger.settled import is_held, unsettled
from agent_identity._ledger.writer import Entry
from agent_identity._record.schema import Recovered
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import Files, recording
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.signing import opened_ledger, secrets_of, signing
from agent_identity.cli.terminal.sources import directory_named
from agent_identity.errors import ConfigurationError

_UNSEALED: Final = "its tail is still unsealed; see what the library logs, and run the verification"


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    directory = directory_named(chosen.directory)
    if chosen.closer is not None and (chosen.keys is not None or chosen.pkcs11 is not None):
        raise ConfigurationError("--closer goes without the keys of the directory; leave --keys and --pkcs11 out")
    living, dead = _waiting(directory)
    if chosen.closer is not None:
        done = close_dead(Files(), directory, SigningKey.load(chosen.closer), time_ns=SystemClock().wall_ns())
    else:
        done = _recovered(chosen, directory) if dead else ()
        left = _waiting(directory)[1]
        done = (*done, *(Closed(stream, 0, 0, _UNSEALED) for stream in left))
    _tell(chosen, done, living)
    return 1 if any(one.problem for one in done) else 0


def _waiting(directory: str) -> tuple[Sequence[str], Sequence[str]]:
    """Return the streams that no one has settled: those that a process holds, and the others."""
    files, layout = Files(), Layout.of(directory)
    with recording("list the streams of the ledger"):
        names = unsettled(files, layout)
    living = [name for name in names if is_held(files, layout.lock(name))]
    return living, [name for name in names if name not in living]


def _recovered(chosen: argparse.Namespace, directory: str) -> tuple[Closed, ...]:
    """Recover as each start does, in a stream of this command; return what it says of the streams."""
    found: list[Closed] = []

    def see(entry: Entry) -> None:
        if isinstance(entry.record, Recovered):
            stated = entry.record.recovered
            found.append(Closed(stated.stream, int(stated.size), int(stated.sealed_before)))

    with (
        signing(chosen) as (_, recorder, trust),
        opened_ledger(directory, recorder, trust, secrets_of(chosen), observers=[see]),
    ):
        pass
    return tuple(found)


def _tell(chosen: argparse.Namespace, done: Sequence[Closed], living: Sequence[str]) -> None:
    if chosen.json:
        how = "recovered" if chosen.closer is None else "closed"
        sealed = [
            {"stream": one.stream, "records": one.size, "sealed_before": one.sealed} for one in done if not one.problem
        ]
        failed = [{"stream": one.stream, "problem": one.problem} for one in done if one.problem]
        print(json.dumps({how: sealed, "failed": failed, "living": list(living)}))
        return
    for one in done:
        tail = counted(max(0, one.size - one.sealed), "record")
        if one.problem:
            print(f"{one.stream}: not sealed: {one.problem}")
        elif chosen.closer is None:
            print(f"{one.stream}: recovered {counted(one.size, 'record')}, {tail} of them not sealed before")
        else:
            print(
                f"{one.stream}: closed after record {one.size:,}; {tail} after the last seal, not the recorder's word"
            )
    for stream in living:
        print(f"{stream}: left alone; a process writes it, or its lock cannot be taken")
    if not done and not living:
        print("nothing to seal: every stream has its end")
