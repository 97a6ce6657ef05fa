"""``agent-identity replay``: send an OTLP receiver the unacknowledged records of the ledger."""

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Final

from agent_identity._directory.export.export_queue import Wanted
from agent_identity._directory.export.ledger_exporter import LedgerExport
from agent_identity._directory.export.receivers import Settings
from agent_identity._directory.export.sender import Pace, Shipped
from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.trust.store import TrustStore
from agent_identity._record.schema import AnyRecord, Intent, OfTask, Outcome
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.signing import recorder_of, secrets_of
from agent_identity.cli.terminal.style import Progress, Style
from agent_identity.errors import ConfigurationError

_FOLLOW: Final = 1.0


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    root = Path(chosen.directory)
    if not (root / "trust.json").exists():
        raise ConfigurationError(
            f"{chosen.directory!r} is not the directory of an enforcer; name the one with trust.json"
        )
    with recorder_of(chosen) as recorder:
        shipped, aside = _shipped(chosen, root, recorder)
    if chosen.json:
        print(json.dumps({**_figures(shipped), "aside": aside}))
    else:
        print("\n".join(_lines(shipped, aside, Style(sys.stdout))))
    return 1 if aside or shipped.unproved else 0


def _shipped(chosen: argparse.Namespace, root: Path, recorder: Signer) -> tuple[Shipped, int]:
    """Send; return what was sent, and how many records were set aside."""
    selection, wanted = _selection(chosen)
    export = LedgerExport(
        root,
        chosen.otlp,
        signer=recorder,
        trust=TrustStore.load(root / "trust.json"),
        settings=Settings.from_environment(chosen.protocol),
        selection=selection,
        wanted=wanted,
        keys=secrets_of(chosen),
    )
    with export.cursors.alone() as alone:
        if not alone:
            raise ConfigurationError(
                "another process sends to this receiver, the records of all processes; wait, or stop it"
            )
        if chosen.again:
            export.cursors.forget()
        shipped = _send(chosen, export, root)
    return shipped, len({one.record for one in export.cursors.aside()})


def _send(chosen: argparse.Namespace, export: LedgerExport, root: Path) -> Shipped:
    progress, total, begun = Progress(sys.stderr, "sending"), _size(root), time.monotonic()

    def show(shipped: Shipped) -> None:
        left = (time.monotonic() - begun) * (total - shipped.size) / max(1, shipped.size)
        progress.update(min(shipped.size, total), total, left)

    pace = Pace(
        wait=_wait,
        patience=None if chosen.follow else max(0.0, chosen.patience),
        strict=not (chosen.skip_refused or chosen.follow),
        breath=0.0,
        jitter=random.random,
    )
    shipper = export.shipper(pace, show)
    try:
        # A second run over idle streams detects processes that have ended.
        while shipper.run() or shipper.run() or chosen.follow:
            if chosen.follow:
                time.sleep(_FOLLOW)
    except KeyboardInterrupt:
        if not chosen.follow:
            raise
    finally:
        progress.clear()
    return shipper.shipped


def _wait(seconds: float) -> bool:
    if seconds:
        time.sleep(seconds)
    return False


def _size(root: Path) -> int:
    """Return the approximate bytes of records to send: outcomes are about half of a ledger."""
    sizes = (path.stat().st_size for path in root.glob("ledger/*/*") if path.is_file())
    return sum(sizes) // 2


def _selection(chosen: argparse.Namespace) -> tuple[str, Wanted]:
    """Return the selection of records: in words, and as a predicate."""
    since, until = (None if text is None else moment_ns(text) for text in (chosen.since, chosen.until))
    task = chosen.task
    parts = {"since": since, "until": until, "task": task}
    words = " ".join(f"{name}={value}" for name, value in parts.items() if value is not None)

    def wanted(record: AnyRecord) -> bool:
        began = record.time.start_ns
        if (since is not None and began < since) or (until is not None and began >= until):
            return False
        of = record.task if isinstance(record, OfTask | Intent | Outcome) else None
        return task is None or (of is not None and of.id == task)

    return words, wanted


def _figures(shipped: Shipped) -> dict[str, int]:
    return {
        "sent": shipped.sent,
        "refused": shipped.refused,
        "unsigned": shipped.unsigned,
        "unproved": shipped.unproved,
    }


def _lines(shipped: Shipped, aside: int, style: Style) -> list[str]:
    lines = [style.paint(f"{counted(shipped.sent, 'record')} sent and acknowledged", "green", "bold")]
    if shipped.refused:
        lines.append(f"  {counted(shipped.refused, 'record')} set aside: the receiver does not take them")
    if shipped.unsigned:
        lines.append(f"  {counted(shipped.unsigned, 'record')} set aside: from before the present recorder key")
    if aside > shipped.refused + shipped.unsigned:
        lines.append(f"  {counted(aside, 'record')} set aside in all; --again tries them again")
    if shipped.unproved:
        lines.append(f"  {counted(shipped.unproved, 'line')} left out: not written by the library; see verify")
    return lines
