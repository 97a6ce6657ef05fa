"""``agent-identity report sample``: calls drawn at random, with a proof of each, for an auditor."""

import argparse
import json
import sys
from collections.abc import Iterator

from agent_identity._reports.answers.report_frame import plain
from agent_identity._reports.controls.sampling import Sample, draw, write_sample
from agent_identity._verify.report.findings import CODES
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.answer.framing import answered, heading, not_shown, table_lines
from agent_identity.cli.terminal.saving import refuse_existing
from agent_identity.cli.terminal.style import Style, clean, columns, moment
from agent_identity.errors import VerificationError

_PROVED = ("verified", "incomplete")


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    refuse_existing(chosen.out)
    found = answered(chosen, lambda evidence: draw(evidence, seed=chosen.drawn_with, records=chosen.records))
    written = 0
    if found.frame.verdict in _PROVED:
        try:
            written = write_sample(found, chosen.out)
        except VerificationError as error:
            print(f"agent-identity: {clean(f'{error.code}: {error}')}", file=sys.stderr)
            return 1 if CODES.get(error.code) == "contradicted" else 2
    if chosen.json:
        print(json.dumps(plain(found)))
        return found.frame.exit_code
    style, room = Style(sys.stdout), columns(sys.stdout)
    lines = (*heading(found.frame, style, room), "", *_text(found, room), "", *not_shown(found.frame, style, room))
    print("\n".join(lines))
    end = "nothing was written: the evidence does not verify"
    if found.frame.verdict in _PROVED:
        end = clean(f"wrote {counted(written, 'proof')}, sample.json and README.txt into {chosen.out}")
    print(f"\n{end}")
    return found.frame.exit_code


def _text(found: Sample, room: int | None) -> Iterator[str]:
    yield f"{len(found.drawn):,} of {found.population:,} recorded calls, drawn with the seed {clean(found.seed)}"
    rows = [("NUMBER", "RECORD", "AT", "TOOL", "OUTCOME")]
    rows += [
        (str(one.number), clean(one.record), moment(one.at_ns), clean(one.tool), clean(one.outcome))
        for one in found.drawn
    ]
    yield from table_lines(rows, room)
