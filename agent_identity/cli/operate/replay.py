"""``agent-identity replay``: send a receiver of OTLP what it has not acknowledged, from the ledger."""

import argparse
import json
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from agent_identity.audit.findings import counted
from agent_identity.cli.command import Commands
from agent_identity.cli.terminal.style import Progress, Style
from agent_identity.enforcement.exporting import LedgerExport
from agent_identity.enforcement.receivers import PROTOCOLS, Settings
from agent_identity.enforcement.shipping import Pace, Shipped
from agent_identity.errors import ConfigurationError
from agent_identity.evidence.copies import Wanted
from agent_identity.evidence.records import AnyRecord, Intent, OfTask, Outcome
from agent_identity.identity import Signer, SigningKey, SocketSigner, TrustStore

__all__ = ["register"]

_PATIENCE: Final = 300.0
_FOLLOW: Final = 1.0
_NS: Final = 1_000_000_000


def register(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "replay",
        help="send traces again from the ledger, until a collector has acknowledged them all",
        description="Send an OTLP receiver the span of every call and task of the directory that it has not "
        "acknowledged, with the same ids, times, attributes and signatures. It goes on where it stopped. Headers, "
        "time limits and certificates come from OTEL_EXPORTER_OTLP_* in the environment. Exit codes: 0 all is "
        "acknowledged, 1 some records cannot be sent, 2 it stopped before the end.",
    )
    command.add_argument("directory", metavar="DIR", help="the directory of the enforcer")
    command.add_argument("--otlp", metavar="ENDPOINT", required=True, help="where to, such as http://localhost:4318")
    command.add_argument("--protocol", choices=PROTOCOLS, help="by default http/protobuf")
    command.add_argument("--since", metavar="TIME", help="only what began then or later: RFC 3339, or a date in UTC")
    command.add_argument("--until", metavar="TIME", help="only what began before")
    command.add_argument("--task", metavar="ID", help="only one task")
    command.add_argument("--again", action="store_true", help="all of it, whatever was acknowledged before")
    command.add_argument("--follow", action="store_true", help="go on with what is recorded from now on, until Ctrl-C")
    text = "set records aside that the receiver does not take, and go on with the others"
    command.add_argument("--skip-refused", action="store_true", help=text)
    text = f"give up after so long without an acknowledgement; by default {_PATIENCE:.0f}"
    command.add_argument("--patience", metavar="SECONDS", type=float, default=_PATIENCE, help=text)
    text = "the directory that has keys/recorder.pem, or unix:PATH of a signer, if the keys are elsewhere"
    command.add_argument("--keys", metavar="WHERE", help=text)
    command.add_argument("--json", action="store_true", help="print JSON for machines")
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    root = Path(chosen.directory)
    if not (root / "trust.json").exists():
        raise ConfigurationError(
            f"expected the directory of an enforcer at {chosen.directory!r}, found none; name the one with trust.json"
        )
    selection, wanted = _selection(chosen)
    export = LedgerExport(
        root,
        chosen.otlp,
        signer=_signer(root, chosen.keys),
        trust=TrustStore.load(root / "trust.json"),
        settings=Settings.from_environment(chosen.protocol),
        selection=selection,
        wanted=wanted,
    )
    with export.cursors.alone() as alone:
        if not alone:
            raise ConfigurationError(
                "expected to be the only one that sends to this receiver, got another process that does so just now; "
                "it sends what all processes have recorded, so wait, or stop it"
            )
        if chosen.again:
            export.cursors.forget()
        shipped = _send(chosen, export, root)
    aside = len({one.record for one in export.cursors.aside()})
    if chosen.json:
        print(json.dumps({**_figures(shipped), "aside": aside}))
    else:
        print("\n".join(_lines(shipped, aside, Style(sys.stdout))))
    return 1 if aside or shipped.unproved else 0


def _send(chosen: argparse.Namespace, export: LedgerExport, root: Path) -> Shipped:
    progress, total, begun = Progress(sys.stderr, "sending"), _size(root), time.monotonic()

    def show(shipped: Shipped) -> None:
        left = (time.monotonic() - begun) * (total - shipped.size) / max(1, shipped.size)
        progress.update(min(shipped.size, total), total, left)

    pace = Pace(
        wait=_wait,
        patience=None if chosen.follow else max(0.0, cast("float", chosen.patience)),
        strict=not (chosen.skip_refused or chosen.follow),
        breath=0.0,
        jitter=random.random,
    )
    shipper = export.shipper(pace, show)
    try:
        # A second look at what was quiet at the first finds out which processes are gone.
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
    """Return about how many bytes of records travel: outcomes are some half of a ledger."""
    found = (path.stat().st_size for path in root.glob("ledger/*/*") if path.is_file())
    return sum(found) // 2


def _signer(root: Path, keys: str | None) -> Signer:
    if keys is not None and keys.startswith("unix:"):
        return SocketSigner(keys.removeprefix("unix:"), "recorder")
    return SigningKey.load((root if keys is None else Path(keys)) / "keys" / "recorder.pem")


def _selection(chosen: argparse.Namespace) -> tuple[str, Wanted]:
    """Return what is wanted of the ledger: in words, and as a question about a record."""
    since, until, task = _moment(chosen.since), _moment(chosen.until), cast("str | None", chosen.task)
    parts = {"since": since, "until": until, "task": task}
    words = " ".join(f"{name}={value}" for name, value in parts.items() if value is not None)

    def wanted(record: AnyRecord) -> bool:
        began = record.time.start_ns
        if (since is not None and began < since) or (until is not None and began >= until):
            return False
        of = record.task if isinstance(record, OfTask | Intent | Outcome) else None
        return task is None or (of is not None and of.id == task)

    return words, wanted


def _moment(text: str | None) -> int | None:
    """Return nanoseconds since the Unix epoch."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError("expected a time like 2026-01-31 or 2026-01-31T12:00:00Z, got another form") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()) * _NS


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
