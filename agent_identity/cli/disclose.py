"""``agent-identity disclose`` and ``check-disclosure``: one argument of one call, shown without the others."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, cast

from agent_identity.audit import Shown, check_disclosure, disclose
from agent_identity.canonical import JSON
from agent_identity.cli.command import Commands
from agent_identity.cli.proof import record_facts, wanted_record
from agent_identity.cli.sources import named
from agent_identity.cli.terminal import Style, clean, columns
from agent_identity.cli.verify import report_lines
from agent_identity.errors import ConfigurationError, VerificationError

__all__ = ["register"]

_VERDICTS: Final = {
    "verified": ("VERIFIED", "green"),
    "contradicted": ("NOT VERIFIED: contradicted", "red"),
    "cannot_tell": ("CANNOT TELL", "yellow"),
}
_WRONG: Final = frozenset({"other_arguments", "unknown_argument", "head_mismatch", "malformed_record"})


def register(commands: Commands) -> None:
    """Add both commands."""
    command = commands.add_parser(
        "disclose",
        help="show an auditor one argument of one call, or all of them",
        description="Write a file by which whoever has the record can check what an argument of the call was, without "
        "learning the others. The ledger does not hold the arguments: give those of the call. Exit codes: 0 written, "
        "1 these are not the arguments that ran, 2 cannot be shown (erased, for example).",
    )
    command.add_argument("directory", metavar="DIR", help="the directory of the enforcer, with its keys")
    command.add_argument("record", metavar="RECORD", help="the id of an intent or outcome; or stream and place: ID/SEQ")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--argument", metavar="NAME", action="append", help="an argument to show; may be repeated")
    which.add_argument("--all", action="store_true", help="show all arguments")
    values = command.add_mutually_exclusive_group(required=True)
    values.add_argument(
        "--from", dest="values", metavar="FILE", help="all arguments of the call, a JSON object; - for stdin"
    )
    values.add_argument("--value", metavar="JSON", help="the value, if the call has this one argument only")
    command.add_argument(
        "--with-task-key",
        action="store_true",
        help="put the key of the task into the file, where there is one digest of all arguments; it opens all digests "
        "of the task to guessing",
    )
    command.add_argument("--output", "-o", metavar="FILE", help="a new file; by default it is printed")
    command.set_defaults(run=run_disclose)
    _register_check(commands)


def _register_check(commands: Commands) -> None:
    command = commands.add_parser(
        "check-disclosure",
        help="check such a file, offline and with public keys only",
        description="Check that the arguments in a file of 'agent-identity disclose' are those that the record of the "
        "call commits to. Exit codes: 0 verified, 1 contradicted, 2 cannot tell.",
    )
    command.add_argument("disclosure", metavar="FILE", help="the file")
    command.add_argument("--trust", metavar="FILE", required=True, help="trust.json, as it was kept elsewhere")
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--record", metavar="PROOF", help="the record, as 'agent-identity proof' wrote it")
    where.add_argument("--ledger", metavar="DIR", help="the evidence directory with the record")
    where.add_argument("--span", metavar="FILE", help="traces with the span of the call; - for stdin")
    command.add_argument("--drafts", action="store_true", help="take records of version 2 as well, which is a draft")
    command.add_argument("--json", action="store_true", help="print JSON for machines")
    command.set_defaults(run=run_check)


def run_disclose(chosen: argparse.Namespace) -> int:
    """Run ``disclose``."""
    directory = cast("str", named([chosen.directory]))
    arguments = _arguments(chosen)
    try:
        data = disclose(
            directory,
            wanted_record(chosen.record),
            arguments,
            names=None if chosen.all else chosen.argument,
            show_task_key=chosen.with_task_key,
        )
    except VerificationError as error:
        print(f"agent-identity: {clean(f'{error.code}: {error}')}", file=sys.stderr)
        return 1 if error.code in _WRONG else 2
    if chosen.output is None:
        sys.stdout.write(data.decode())
        return 0
    with Path(chosen.output).open("xb") as file:  # Whatever is there already is not replaced.
        file.write(data)
    told = f"wrote {clean(chosen.output)}, {len(data):,} bytes; check it with: agent-identity check-disclosure"
    print(told, file=sys.stderr)
    return 0


def _arguments(chosen: argparse.Namespace) -> Mapping[str, JSON]:
    """Return the arguments that were given.

    Raises:
        ConfigurationError: They are no JSON, or no object.
    """
    if chosen.value is not None:
        if chosen.all or len(chosen.argument) != 1:
            raise ConfigurationError("expected --value with one --argument; give all arguments of the call with --from")
        return {chosen.argument[0]: _json(chosen.value, "--value")}
    text = sys.stdin.read() if chosen.values == "-" else Path(chosen.values).read_text(encoding="utf-8")
    found = _json(text, "--from")
    if not isinstance(found, dict):
        raise ConfigurationError("expected a JSON object with all arguments of the call in the file of --from")
    return found


def _json(text: str, option: str) -> JSON:
    try:
        return cast("JSON", json.loads(text))
    except (ValueError, RecursionError):
        raise ConfigurationError(f"expected JSON at {option}, got something else; quote texts: '\"EUR\"'") from None


def run_check(chosen: argparse.Namespace) -> int:
    """Run ``check-disclosure``."""
    shown = check_disclosure(
        chosen.disclosure,
        chosen.trust,
        ledger=chosen.ledger,
        proof=chosen.record,
        spans=chosen.span,
        drafts=chosen.drafts,
    )
    if chosen.json:
        print(json.dumps(shown.to_json()))
    else:
        print("\n".join(lines(shown, Style(sys.stdout), columns(sys.stdout))))
    return shown.exit_code


def lines(shown: Shown, style: Style, room: int | None = None) -> Iterator[str]:
    """Yield the result for people: the verdict first, then what ran, then why.

    Args:
        shown: The result.
        style: Paints it.
        room: The columns of the terminal; ``None`` for no limit.
    """
    words, colour = _VERDICTS[shown.report.verdict]
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
