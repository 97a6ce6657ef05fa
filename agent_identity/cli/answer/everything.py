"""``agent-identity report all``: every report as a page, with an index, in one folder."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent_identity._reports.overview.overview_report import Overview, overview
from agent_identity._reports.pages.rendering import INDEX, Answer, Page, render, render_index
from agent_identity.cli.answer.framing import answered, command_of
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.saving import made_ns, refuse_existing
from agent_identity.cli.terminal.style import clean

_SUMS: Final = "SHA256SUMS"
_RANK: Final = (1, 2, 3, 0)
"""Exit codes, the worst first."""


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    refuse_existing(chosen.html)
    made, command = made_ns(), command_of(chosen)
    since = None if chosen.since is None else moment_ns(chosen.since)
    found = answered(chosen, lambda evidence: overview(evidence, since_ns=since))
    answers = list(_answers(chosen, found))
    timeline = next(render(one, made_ns=made, home=INDEX) for one in answers if one.frame.question == "incident")
    pages = [
        timeline if answer.frame.question == "incident" else render(answer, made_ns=made, home=INDEX, timeline=timeline)
        for answer in answers
    ]
    _write(Path(chosen.html), [*pages, render_index(pages, command=command, made_ns=made)])
    return min((answer.frame.exit_code for answer in answers), key=_RANK.index)


def _answers(chosen: argparse.Namespace, found: Overview) -> Iterator[Answer]:
    """Yield the reports, each with the command that makes it alone."""
    yield _stating(found.inventory, chosen, "inventory", "since", "hosts")
    yield _stating(found.scope, chosen, "scope", "since")
    yield _stating(found.data, chosen, "data")
    yield _stating(found.incident, chosen, "incident", "seed")
    yield _stating(found.coverage, chosen, "coverage")
    yield _stating(found.controls, chosen, "controls")


def _stating(answer: Answer, chosen: argparse.Namespace, action: str, *options: str) -> Answer:
    """Return a report that states its own command.

    Args:
        answer: The report.
        chosen: The words of the command for all.
        action: The name of the report.
        options: The options that it takes besides those of every report.
    """
    words = {**vars(chosen), "action": action, "seed": "everything", "html": None}
    for option in {"since", "hosts", "seed"}.difference(options):
        del words[option]
    command = command_of(argparse.Namespace(**words))
    return replace(answer, frame=replace(answer.frame, command=command))


def _write(folder: Path, pages: Sequence[Page]) -> None:
    """Write the pages and the list of their digests, and print the list."""
    folder.mkdir()
    for page in pages:
        with (folder / page.file).open("xb") as file:
            file.write(page.html)
    sums = "".join(f"{page.sha256}  {page.file}\n" for page in pages)
    with (folder / _SUMS).open("xb") as file:
        file.write(sums.encode())
    print(clean(f"{folder}/{INDEX}"))
    print(sums, end="")
