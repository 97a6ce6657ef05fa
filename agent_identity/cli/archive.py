"""``agent-identity archive`` and ``prune``: old segments leave a directory, and what is left stays provable."""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agent_identity.audit import check
from agent_identity.audit.findings import counted
from agent_identity.cli.command import Commands
from agent_identity.cli.sources import is_directory, named
from agent_identity.cli.terminal import Progress
from agent_identity.enforcement.directory import check_keys, connect, prepare
from agent_identity.errors import ConfigurationError, VerificationError
from agent_identity.evidence import Ledger
from agent_identity.evidence.retention import Removed, archive, prune
from agent_identity.identity import RandomIds, SystemClock

__all__ = ["register"]

_AGE: Final = re.compile(r"(0|[1-9][0-9]{0,5})([hdw])")
_SECONDS: Final = {"h": 3_600, "d": 86_400, "w": 604_800}
_NS: Final = 1_000_000_000
_SIX_MONTHS: Final = 184 * 86_400
"""Seconds that six months have at most: as long as the AI Act has logs of high-risk systems kept, or longer
(Articles 19(1) and 26(6))."""


def register(commands: Commands) -> None:
    """Add the commands."""
    command = commands.add_parser(
        "archive",
        help="copy closed segments of the ledger to an archive",
        description="Copy segments that are closed and sealed, compressed, to an archive that 'verify --archive' and "
        "'prune --archived' read. What it has already is left out. Nothing is removed.",
    )
    command.add_argument("directory", metavar="DIR", help="the evidence directory")
    command.add_argument("--to", metavar="OUT", required=True, help="the archive; made if missing")
    command.add_argument("--older-than", metavar="AGE", help="only records older than this, such as 12h, 30d or 8w")
    command.set_defaults(run=_archive)
    command = commands.add_parser(
        "prune",
        help="remove old segments of the ledger, and keep the proof of the rest",
        description="Verify the directory, record what will be removed, sign a statement about it, and remove closed "
        "and sealed segments whose records are all older. What is left verifies as before, and 'verify' says what is "
        "gone. Never less than six months are kept unless you say so.",
    )
    command.add_argument("directory", metavar="DIR", help="the evidence directory")
    command.add_argument("--older-than", metavar="AGE", required=True, help="such as 365d or 60w")
    command.add_argument("--archived", metavar="OUT", help="only what this archive has, and has the same")
    command.add_argument("--trust", metavar="FILE", help="trust.json for the verification; by default the one in DIR")
    command.add_argument("--signer", metavar="unix:PATH", help="the process that holds the keys")
    command.add_argument(
        "--destroy-even-what-is-younger-than-six-months",
        dest="young",
        action="store_true",
        help="allow an age below 184 days, although law may ask for longer",
    )
    command.set_defaults(run=_prune)


def _archive(chosen: argparse.Namespace) -> int:
    directory = _directory(chosen.directory)
    before_ns = None if chosen.older_than is None else SystemClock().wall_ns() - _age(chosen.older_than) * _NS
    if Path(chosen.to).resolve() == Path(directory).resolve():
        raise ConfigurationError("expected an archive elsewhere, got the directory itself")
    if not _printed("copied", lambda told: archive(directory, chosen.to, before_ns=before_ns, progress=told)):
        print("nothing to archive: no segment is closed, sealed and not there already")
    return 0


def _prune(chosen: argparse.Namespace) -> int:
    directory, seconds = _directory(chosen.directory), _age(chosen.older_than)
    if seconds < _SIX_MONTHS and not chosen.young:
        raise ConfigurationError(
            "expected an age of at least 184d, got less: logs of high-risk systems are kept for six months (AI Act, "
            "Articles 19 and 26); if that is not asked of you, add --destroy-even-what-is-younger-than-six-months"
        )
    _verify(directory, chosen.trust)
    clock, ids = SystemClock(), RandomIds()
    keys = prepare(directory, clock, ids) if chosen.signer is None else connect(directory, chosen.signer)
    issuer, recorder, trust = keys
    check_keys(issuer.public_key, recorder.public_key, trust, clock.wall_ns() // _NS)
    before_ns = clock.wall_ns() - seconds * _NS
    with Ledger.open(directory, signer=recorder, origin=trust.origin or "", clock=clock, ids=ids) as ledger:
        pruned = _printed(
            "pruned",
            lambda told: prune(
                directory,
                ledger,
                signer=recorder,
                clock=clock,
                before_ns=before_ns,
                archived=chosen.archived,
                progress=told,
            ),
        )
    if not pruned:
        wanted = "that old" if chosen.archived is None else "that old and in the archive"
        print(
            f"nothing to prune: no segment is closed, sealed, {wanted}, with few enough calls and tasks open at its end"
        )
    return 0


def _printed(verb: str, begin: Callable[[Callable[[int, int], None]], Iterator[Removed]]) -> int:
    """Print what leaves, with the progress in between; return of how many streams."""
    progress, number = Progress(sys.stderr, "reading old segments"), 0
    try:
        for removed in begin(progress.update):
            progress.clear()
            print(_line(verb, removed))
            number += 1
    finally:
        progress.clear()
    return number


def _verify(directory: str, trust: str | None) -> None:
    """Refuse to prune what does not hold: its traces would go as well.

    Raises:
        VerificationError: It does not verify.
    """
    progress = Progress(sys.stderr, "verifying")
    try:
        # This release reads the drafts that it prunes, whatever becomes of their shapes.
        report = check(directory, trust, progress=progress.update, processes=0, drafts=True)
    finally:
        progress.clear()
    if report.integrity != "verified":
        raise VerificationError(
            f"expected evidence that holds before anything of it is removed, got {report.verdict!r}; "
            "run 'agent-identity verify' and keep it all"
        )


def _directory(given: str) -> str:
    named([given])
    if not is_directory(given):
        raise ConfigurationError(f"expected an evidence directory, got the file {given!r}")
    return given


def _age(text: str) -> int:
    match = _AGE.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"expected an age of hours, days or weeks, such as 12h, 30d or 8w, got {text!r}")
    return int(match[1]) * _SECONDS[match[2]]


def _line(verb: str, removed: Removed) -> str:
    place = f"records {removed.first:,} to {removed.last:,} of stream {removed.stream}"
    return f"{verb} {place} ({counted(removed.files, 'file')}, {removed.bytes:,} bytes)"
