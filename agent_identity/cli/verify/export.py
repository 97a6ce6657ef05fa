"""``agent-identity export``: the records in the forms that other systems read."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import BinaryIO

from agent_identity.audit.interop import export
from agent_identity.audit.tables import export_tables
from agent_identity.audit.verification import check_shown
from agent_identity.audit.versions import has_drafts
from agent_identity.cli.terminal.output import DRAFTS
from agent_identity.cli.terminal.sources import is_directory, named
from agent_identity.cli.terminal.times import moment_ns
from agent_identity.enforcement.directory import connect
from agent_identity.errors import ConfigurationError, VerificationError
from agent_identity.identity import Signer, SigningKey

__all__ = ["run"]


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    named([chosen.directory])
    if not is_directory(chosen.directory):
        raise ConfigurationError(f"expected an evidence directory, got the file {chosen.directory!r}")
    since_ns = 0 if chosen.since is None else moment_ns(chosen.since)
    if chosen.parquet is not None:
        return _table(chosen, since_ns)
    if chosen.verify or chosen.trust is not None or chosen.json:
        raise ConfigurationError(
            "expected --verify, --trust and --json with --parquet, got another form; leave them out"
        )
    signer, only = _signing(chosen) if chosen.sign else (None, None)
    with _output(chosen.output) as out:
        for line in export(chosen.directory, chosen.form, since_ns=since_ns, signer=signer, only=only):
            out.write(line)
    _tell_drafts(chosen.directory)
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
    _tell_drafts(chosen.directory)
    if chosen.json:
        facts = {"path": chosen.parquet, "records": written.records, "left_out": written.left_out}
        report = None if written.report is None else written.report.to_json()
        print(json.dumps({**facts, "report": report}))
        return 0 if written.report is None else written.report.exit_code
    left = f", {written.left_out:,} lines left out that are no records" if written.left_out else ""
    print(f"{written.records:,} records{left}")
    if written.report is None:
        print("not verified; a copy for questions, and no proof")
        return 0
    verdict = f"{written.report.verdict} before it was made (keys: {written.report.trust})"
    print(f"{verdict}; a copy for questions, and no proof")
    return written.report.exit_code


def _tell_drafts(directory: str) -> None:
    if has_drafts(directory):
        print(DRAFTS, file=sys.stderr)


def _signing(chosen: argparse.Namespace) -> tuple[Signer, Callable[[bytes], bool]]:
    """Return the recorder key and what it may sign again, told by leaf hashes, having verified just that.

    Raises:
        VerificationError: The directory does not verify.
        ConfigurationError: The form has no signature, or the key cannot be used.
    """
    if chosen.form != "otel-audit":
        raise ConfigurationError("expected --sign with --as otel-audit, got a form without signatures")
    report, seen = check_shown(chosen.directory)  # What is signed again is the records as they are.
    if report.integrity != "verified":
        raise VerificationError(
            f"expected evidence that holds before it is signed again, got {report.verdict!r}; "
            "run 'agent-identity verify'"
        )
    if chosen.signer is not None:
        return connect(chosen.directory, chosen.signer)[1], seen
    return SigningKey.load(Path(chosen.directory) / "keys" / "recorder.pem"), seen


@contextlib.contextmanager
def _output(path: str | None) -> Generator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        return
    with Path(path).open("wb") as file:
        yield file
