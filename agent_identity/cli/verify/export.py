"""``agent-identity export``: write the records in formats of other systems."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import BinaryIO

from agent_identity._identity.keys.keys import Signer
from agent_identity._reports.export.interop import export
from agent_identity._reports.export.tables import export_tables
from agent_identity._verify.api import check_shown
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.signing import recorder_of
from agent_identity.cli.terminal.sources import directory_named
from agent_identity.errors import ConfigurationError, VerificationError


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    directory_named(chosen.directory)
    since_ns = 0 if chosen.since is None else moment_ns(chosen.since)
    if chosen.parquet is not None:
        return _table(chosen, since_ns)
    if chosen.verify or chosen.trust is not None or chosen.json:
        raise ConfigurationError("--verify, --trust and --json go with --parquet only; leave them out")
    with contextlib.ExitStack() as stack:
        signer, only = stack.enter_context(_signing(chosen)) if chosen.sign else (None, None)
        out = stack.enter_context(_output(chosen.output))
        for line in export(chosen.directory, chosen.form, since_ns=since_ns, signer=signer, only=only):
            out.write(line)
    return 0


def _table(chosen: argparse.Namespace, since_ns: int) -> int:
    """Write a table, and print its summary."""
    if chosen.output is not None or chosen.sign or chosen.keys is not None or chosen.pkcs11 is not None:
        raise ConfigurationError("--output, --sign and the options of keys go with --as only; leave them out")
    written = export_tables(
        chosen.directory,
        chosen.parquet,
        since_ns=since_ns,
        verify=chosen.verify,
        trust=chosen.trust,
    )
    if chosen.json:
        facts = {"path": chosen.parquet, "records": written.records, "left_out": written.left_out}
        report = None if written.report is None else written.report.to_json()
        print(json.dumps({**facts, "report": report}))
        return 0 if written.report is None else written.report.exit_code
    left = f", {written.left_out:,} malformed lines left out" if written.left_out else ""
    print(f"{written.records:,} records{left}")
    if written.report is None:
        print("not verified; a copy for questions, and no proof")
        return 0
    verdict = f"{written.report.verdict} before it was made (keys: {written.report.trust})"
    print(f"{verdict}; a copy for questions, and no proof")
    return written.report.exit_code


@contextlib.contextmanager
def _signing(chosen: argparse.Namespace) -> Generator[tuple[Signer, Callable[[bytes], bool]]]:
    """Verify the directory; yield the recorder key, and a predicate for the verified leaf hashes.

    Raises:
        VerificationError: The directory does not verify.
        ConfigurationError: The format has no signature, or the key cannot be used.
    """
    if chosen.form != "otel-audit":
        raise ConfigurationError("--sign goes with --as otel-audit only; leave it out")
    report, is_verified = check_shown(chosen.directory)  # Only these records are signed again.
    if report.integrity != "verified":
        raise VerificationError(
            f"the evidence does not verify ({report.verdict}), so it is not signed again; run 'agent-identity verify'"
        )
    with recorder_of(chosen) as recorder:
        yield recorder, is_verified


@contextlib.contextmanager
def _output(path: str | None) -> Generator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        return
    with Path(path).open("wb") as file:
        yield file
