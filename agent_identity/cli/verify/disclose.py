"""``agent-identity disclose make`` and ``disclose check``: show one argument of one call without the others."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Final, cast

from agent_identity._verify.api import Verifier
from agent_identity._verify.proofs.disclosing import disclose
from agent_identity._verify.proofs.disclosure_check import Shown
from agent_identity.canonical import JSON
from agent_identity.cli.terminal.sources import kept_trust, named
from agent_identity.cli.terminal.style import Style, clean, columns
from agent_identity.cli.verify.proof import KEPT, put_out, record_facts, wanted_record
from agent_identity.cli.verify.verify import VERDICTS, report_lines
from agent_identity.errors import ConfigurationError, VerificationError

_WRONG: Final = frozenset({"other_arguments", "unknown_argument", "head_mismatch", "malformed_record"})

_ONE_ONLY: Final = "; --value is only for a call with one argument: give all arguments of a call with --from"


def run_make(chosen: argparse.Namespace) -> int:
    """Write a disclosure."""
    directory: str = chosen.directory
    named([directory])
    arguments = _arguments(chosen)
    try:
        data = disclose(
            directory,
            wanted_record(chosen.record),
            arguments,
            names=None if chosen.all else chosen.argument,
            show_task_key=chosen.with_task_key,
            keys=chosen.keys,
        )
    except VerificationError as error:
        cure = _ONE_ONLY if error.code == "other_arguments" and chosen.value is not None else ""
        print(f"agent-identity: {clean(f'{error.code}: {error}{cure}')}", file=sys.stderr)
        return 1 if error.code in _WRONG else 2
    return put_out(data, chosen.output, "disclose", f"--trust {KEPT} --ledger {quote(directory)}")


def _arguments(chosen: argparse.Namespace) -> Mapping[str, JSON]:
    """Return the arguments of the call from the command line.

    Raises:
        ConfigurationError: The text is not JSON, or not an object.
    """
    if chosen.value is not None:
        if chosen.all or len(chosen.argument) != 1:
            raise ConfigurationError(
                "--value goes with exactly one --argument; give all arguments of the call with --from"
            )
        return {chosen.argument[0]: _json(chosen.value, "--value")}
    text = sys.stdin.read() if chosen.values == "-" else Path(chosen.values).read_text(encoding="utf-8")
    members = _json(text, "--from")
    if not isinstance(members, dict):
        raise ConfigurationError("the file of --from is not a JSON object; write all arguments of the call into one")
    return members


def _json(text: str, option: str) -> JSON:
    try:
        return cast("JSON", json.loads(text))
    except (ValueError, RecursionError):
        raise ConfigurationError(f"the value of {option} is not JSON; quote texts: '\"EUR\"'") from None


def run_check(chosen: argparse.Namespace) -> int:
    """Check a disclosure."""
    verifier = Verifier(kept_trust(chosen))
    shown = verifier.disclosure(chosen.disclosure, ledger=chosen.ledger, proof=chosen.record, spans=chosen.span)
    if chosen.json:
        print(json.dumps(shown.to_json()))
    else:
        print("\n".join(lines(shown, Style(sys.stdout), columns(sys.stdout))))
    return shown.exit_code


def lines(shown: Shown, style: Style, room: int | None = None) -> Iterator[str]:
    """Yield the result for people: the verdict, the arguments, then the reasons.

    Args:
        shown: The result.
        style: Paints it.
        room: The columns of the terminal; ``None`` for no limit.
    """
    words, colour = VERDICTS[shown.report.verdict]
    yield style.paint(words, colour, "bold")
    if shown.report.verdict == "verified" and shown.record is not None:
        for name, value in record_facts(shown.record):
            yield f"  {name:<7} {clean(value)}"
        for name, argument in shown.arguments.items():
            yield f"  {clean(name)} = {clean(json.dumps(argument, ensure_ascii=False))}"
        if shown.hidden:
            yield f"  and {shown.hidden} not shown"
    yield ""
    yield from report_lines(shown.report, style, room)
