"""``agent-identity export``: the records in the forms that other systems read."""

import argparse
import contextlib
import sys
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from agent_identity.audit import check
from agent_identity.audit.interop import FORMS, export
from agent_identity.audit.tables import export_tables
from agent_identity.cli.command import Commands
from agent_identity.cli.sources import is_directory, named
from agent_identity.enforcement.directory import connect
from agent_identity.errors import ConfigurationError, VerificationError
from agent_identity.identity import Signer, SigningKey

__all__ = ["moment_ns", "register"]

_NS: Final = 1_000_000_000


def register(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "export",
        help="write the records as OCSF, CloudEvents, OpenTelemetry audit logs, or a table",
        description="Write the records of an evidence directory in another form, one line of JSON each, or as a table "
        "in Parquet. It shows what the ledger says and proves nothing; --sign signs only records that were verified "
        "just before.",
    )
    command.add_argument("directory", metavar="DIR", help="the evidence directory")
    form = command.add_mutually_exclusive_group(required=True)
    form.add_argument("--as", dest="form", choices=FORMS, help="the form")
    form.add_argument(
        "--parquet", metavar="OUT", help="a new folder for a table, one row for each record (extra tables)"
    )
    command.add_argument(
        "--since", metavar="TIME", help="only records from then on: 2026-11-24 or 2026-11-24T12:00:00Z"
    )
    command.add_argument("-o", "--output", metavar="FILE", help="write there instead of the standard output")
    command.add_argument(
        "--sign", action="store_true", help="otel-audit: sign each with the recorder key, after a verification"
    )
    command.add_argument("--signer", metavar="unix:PATH", help="the process that holds the keys, for --sign")
    text = (
        "--parquet: verify first, write only what the log covers, and say the verdict; the exit code is that of verify"
    )
    command.add_argument("--verify", action="store_true", help=text)
    command.add_argument("--trust", metavar="FILE", help="trust.json with the public keys, for --verify")
    command.add_argument("--drafts", action="store_true", help="--verify: take records of version 2, which is a draft")
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    named([chosen.directory])
    if not is_directory(chosen.directory):
        raise ConfigurationError(f"expected an evidence directory, got the file {chosen.directory!r}")
    since_ns = 0 if chosen.since is None else moment_ns(chosen.since)
    if chosen.parquet is not None:
        return _table(chosen, since_ns)
    if chosen.verify or chosen.trust is not None:
        raise ConfigurationError("expected --verify and --trust with --parquet, got another form; leave them out")
    signer = _signer(chosen) if chosen.sign else None
    with _output(chosen.output) as out:
        for line in export(
            chosen.directory, chosen.form, since_ns=since_ns, signer=signer, sealed_only=signer is not None
        ):
            out.write(line)
    return 0


def _table(chosen: argparse.Namespace, since_ns: int) -> int:
    """Write a table, and say what it is."""
    if chosen.output is not None or chosen.sign or chosen.signer is not None:
        raise ConfigurationError("expected --output, --sign and --signer with --as, got a table; leave them out")
    written = export_tables(
        chosen.directory,
        chosen.parquet,
        since_ns=since_ns,
        verify=chosen.verify,
        trust=chosen.trust,
        drafts=chosen.drafts,
    )
    left = f", {written.left_out:,} lines left out that are no records" if written.left_out else ""
    print(f"{written.records:,} records{left}")
    if written.report is None:
        print("not verified; a copy for questions, and no proof")
        return 0
    verdict = f"{written.report.verdict} before it was made (keys: {written.report.trust})"
    print(f"{verdict}; a copy for questions, and no proof")
    return written.report.exit_code


def _signer(chosen: argparse.Namespace) -> Signer:
    """Return the recorder key, having verified what it will sign.

    Raises:
        VerificationError: The directory does not verify.
        ConfigurationError: The form has no signature, or the key cannot be used.
    """
    if chosen.form != "otel-audit":
        raise ConfigurationError("expected --sign with --as otel-audit, got a form without signatures")
    report = check(chosen.directory, drafts=True)  # What is signed again is the records as they are.
    if report.integrity != "verified":
        raise VerificationError(
            f"expected evidence that holds before it is signed again, got {report.verdict!r}; "
            "run 'agent-identity verify'"
        )
    if chosen.signer is not None:
        return connect(chosen.directory, chosen.signer)[1]
    return SigningKey.load(Path(chosen.directory) / "keys" / "recorder.pem")


@contextlib.contextmanager
def _output(path: str | None) -> Generator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        return
    with Path(path).open("wb") as file:
        yield file


def moment_ns(text: str) -> int:
    """Return a moment, in nanoseconds since the Unix epoch; without a zone it is UTC.

    Args:
        text: A date or a time of ISO 8601.

    Raises:
        ConfigurationError: It is neither, or before 1970.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is not None and found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    if found is None or found.timestamp() < 0:
        raise ConfigurationError("expected a time such as 2026-11-24 or 2026-11-24T12:00:00Z, got another form")
    return int(found.timestamp()) * _NS
