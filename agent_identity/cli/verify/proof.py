"""``agent-identity proof make`` and ``proof check``: prove one record, or the growth of the log."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Final

from agent_identity._record.schema import OfTask
from agent_identity._verify.api import Verifier
from agent_identity._verify.proofs.proof_check import Checked
from agent_identity._verify.proofs.proving import prove, prove_growth
from agent_identity._verify.report.findings import CODES
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.sources import kept_trust, named
from agent_identity.cli.terminal.style import Progress, Style, clean, columns, moment
from agent_identity.cli.verify.verify import VERDICTS, report_lines
from agent_identity.errors import ConfigurationError, VerificationError
from agent_identity.records import AnyRecord, Approval, Intent, Outcome, Registration, TaskEnd

KEPT: Final = "kept/trust.json"
"""Path of the verifier's trust file in printed hints."""


def run_make(chosen: argparse.Namespace) -> int:
    """Write a proof."""
    if (chosen.record is None) is (chosen.since is None):
        raise ConfigurationError("give either a record, or --since with an earlier checkpoint")
    directory: str = chosen.directory
    named([directory])
    progress = Progress(sys.stderr, "searching")
    try:
        if chosen.since is None:
            data = prove(directory, wanted_record(chosen.record), progress=progress.update)
        else:
            data = prove_growth(directory, chosen.since)
    except VerificationError as error:
        progress.clear()
        print(f"agent-identity: {clean(f'{error.code}: {error}')}", file=sys.stderr)
        return 1 if CODES.get(error.code) == "contradicted" else 2
    finally:
        progress.clear()
    return put_out(data, chosen.output, "proof", f"--trust {KEPT}")


def put_out(data: bytes, output: str | None, kind: str, options: str) -> int:
    """Print a file that proves something, or write it and say how it is checked.

    Args:
        data: Its bytes.
        output: The path; ``None`` for standard output.
        kind: The command that checks it.
        options: The options with which it does.
    """
    if output is None:
        sys.stdout.write(data.decode("utf-8", "replace"))
        return 0
    with Path(output).open("xb") as file:  # Never replaces a file.
        file.write(data)
    command = f"agent-identity {kind} check {quote(output)} {options}"
    print(clean(f"wrote {output}, {len(data):,} bytes; check it with: {command}"), file=sys.stderr)
    return 0


def wanted_record(text: str) -> str | tuple[str, int]:
    """Parse a record argument: an id, or a stream and a place in it.

    Raises:
        ConfigurationError: The text is neither.
    """
    stream, slash, seq = text.partition("/")
    if not slash:
        return text
    if not (seq.isascii() and seq.isdigit() and len(seq) < 20):
        raise ConfigurationError("the record is malformed; write an id, or <stream>/<place> with a place from 1")
    return stream, int(seq)


def run_check(chosen: argparse.Namespace) -> int:
    """Check a proof."""
    verifier = Verifier(kept_trust(chosen))
    checked = verifier.proof(chosen.proof, record=chosen.record, checkpoint=chosen.since)
    if chosen.json:
        print(json.dumps(checked.to_json()))
    else:
        print("\n".join(lines(checked, Style(sys.stdout), columns(sys.stdout))))
    return checked.exit_code


def lines(checked: Checked, style: Style, room: int | None = None) -> Iterator[str]:
    """Yield the result for people: the verdict, the proved facts, then the reasons.

    Args:
        checked: The result.
        style: Paints it.
        room: The columns of the terminal; ``None`` for no limit.
    """
    words, colour = VERDICTS[checked.verdict]
    yield style.paint(words, colour, "bold") + f"  {_summary(checked)}"
    if checked.origin is not None:
        yield f"  log     {clean(checked.origin)}, {counted(checked.size, 'entry')}"
    if checked.record is not None and checked.verdict == "verified":
        for name, value in record_facts(checked.record):
            yield f"  {name:<7} {clean(value)}"
    yield ""
    yield from report_lines(checked.report, style, room)


def _summary(checked: Checked) -> str:
    if checked.kind == "growth":
        return "the growth of a log"
    if checked.kind == "unknown":
        return "a file that is not a proof"
    return "a malformed record" if checked.record is None else f"record {clean(checked.record.id)}"


def record_facts(record: AnyRecord) -> Iterator[tuple[str, str]]:
    """Yield the facts of a checked record, for people."""
    yield "kind", record.kind
    yield "at", moment(record.time.start_ns)
    yield "stream", f"{record.stream.id}, place {record.stream.seq}"
    principal = record.principal if isinstance(record, OfTask | Intent | Outcome) else None
    if principal is not None:
        yield "for", f"{principal.id} ({principal.kind}, {principal.provenance})"
    agent = record.agent if isinstance(record, OfTask | Intent | Outcome | Registration) else None
    if agent is not None:
        yield "agent", f"{agent.id} (owner {agent.owner})"
    if isinstance(record, Intent | Outcome | Approval):
        yield "tool", record.action.tool
    if isinstance(record, Intent | Outcome):
        yield "effect", f"{record.decision.effect}, {record.decision.reason}"
    if isinstance(record, Outcome | TaskEnd) and record.outcome is not None:
        yield "outcome", record.outcome
