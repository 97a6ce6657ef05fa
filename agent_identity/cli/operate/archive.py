"""``agent-identity archive`` and ``prune``: move old segments out of a directory; the rest stays provable."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from agent_identity._identity.common.clock import SystemClock
from agent_identity._ledger.archiving import Removed, archive, prune
from agent_identity._verify.api import Verifier
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.signing import opened_ledger, secrets_of, signing
from agent_identity.cli.terminal.sources import directory_named
from agent_identity.cli.terminal.style import Progress
from agent_identity.errors import ConfigurationError, VerificationError

_AGE: Final = re.compile(r"(0|[1-9][0-9]{0,5})([hdw])")
_SECONDS: Final = {"h": 3_600, "d": 86_400, "w": 604_800}
_NS: Final = 1_000_000_000
_SIX_MONTHS: Final = 184 * 86_400
"""Longest six months in seconds: the minimum retention of logs of high-risk systems under the AI Act
(Articles 19(1) and 26(6))."""


def run(chosen: argparse.Namespace) -> int:
    """Copy segments to an archive."""
    directory = directory_named(chosen.directory)
    before_ns = None if chosen.older_than is None else SystemClock().wall_ns() - _age(chosen.older_than) * _NS
    if Path(chosen.to).resolve() == Path(directory).resolve():
        raise ConfigurationError("the archive is the directory itself; name another folder")
    copied = _removed(lambda progress: archive(directory, chosen.to, before_ns=before_ns, progress=progress))
    if not _printed("copied", copied, as_json=chosen.json):
        print("nothing to archive: no segment is closed, sealed and not there already")
    return 0


def run_prune(chosen: argparse.Namespace) -> int:
    """Remove old segments."""
    directory, seconds = directory_named(chosen.directory), _age(chosen.older_than)
    if seconds < _SIX_MONTHS and not chosen.young:
        raise ConfigurationError(
            "the age is below 184d: logs of high-risk systems are kept for six months (AI Act, Articles 19 and 26); "
            "if that does not apply to you, add --destroy-even-what-is-younger-than-six-months"
        )
    _verify(directory, chosen.trust)
    clock = SystemClock()
    before_ns = clock.wall_ns() - seconds * _NS
    with (
        signing(chosen) as (_, recorder, trust),
        opened_ledger(directory, recorder, trust, secrets_of(chosen)) as ledger,
    ):
        leaving = _removed(
            lambda progress: prune(
                directory,
                ledger,
                signer=recorder,
                clock=clock,
                before_ns=before_ns,
                archived=chosen.archived,
                progress=progress,
            )
        )
        pruned = _printed("pruned", leaving, as_json=chosen.json)
    if not pruned:
        wanted = "that old" if chosen.archived is None else "that old and in the archive"
        print(
            f"nothing to prune: no segment is closed, sealed, {wanted}, with few enough calls and tasks open at its end"
        )
    return 0


def _removed(begin: Callable[[Callable[[int, int], None]], Iterator[Removed]]) -> Iterator[Removed]:
    """Yield the removed segments, with the progress in between."""
    progress = Progress(sys.stderr, "reading old segments")
    try:
        for removed in begin(progress.update):
            progress.clear()
            yield removed
    finally:
        progress.clear()


def _printed(verb: str, removed: Iterator[Removed], *, as_json: bool) -> bool:
    """Print the removed segments; return whether anything was printed."""
    if as_json:
        print(json.dumps({verb: [asdict(one) for one in removed]}))
        return True
    number = 0
    for number, one in enumerate(removed, 1):  # noqa: B007  Its last value counts.
        print(_line(verb, one))
    return number > 0


def _verify(directory: str, trust: str | None) -> None:
    """Refuse to prune evidence that does not verify: pruning would remove the traces of tampering.

    Raises:
        VerificationError: The evidence does not verify.
    """
    progress = Progress(sys.stderr, "verifying")
    try:
        report = Verifier(trust, processes=0, progress=progress.update).ledger(directory)
    finally:
        progress.clear()
    if report.integrity != "verified":
        raise VerificationError(
            f"the evidence does not verify ({report.verdict}), so nothing of it is removed; "
            "run 'agent-identity verify' and keep it all"
        )


def _age(text: str) -> int:
    match = _AGE.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"{text!r} is not an age; write hours, days or weeks, such as 12h, 30d or 8w")
    return int(match[1]) * _SECONDS[match[2]]


def _line(verb: str, removed: Removed) -> str:
    place = f"records {removed.first:,} to {removed.last:,} of stream {removed.stream}"
    return f"{verb} {place} ({counted(removed.files, 'file')}, {removed.bytes:,} bytes)"
