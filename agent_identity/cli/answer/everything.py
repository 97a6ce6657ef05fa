"""``agent-identity report all``: every report as a page, with an index, in one folder."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agent_identity._audit.answers import Evidence, Seed, coverage, data, incident, inventory, scope
from agent_identity._audit.controls import controls
from agent_identity._audit.pages import INDEX, Answer, Page, render, render_index
from agent_identity.cli.answer.framing import answered, command_of
from agent_identity.cli.terminal.saving import made_ns, refuse_existing
from agent_identity.cli.terminal.sources import STANDARD_INPUT
from agent_identity.cli.terminal.style import clean
from agent_identity.cli.terminal.times import moment_ns
from agent_identity.errors import ConfigurationError

__all__ = ["run"]

_SUMS: Final = "SHA256SUMS"
_RANK: Final = (1, 2, 3, 0)
"""Exit codes, the worst first."""


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    if STANDARD_INPUT in chosen.evidence:
        raise ConfigurationError("every report reads the evidence by itself; write standard input into a file")
    refuse_existing(chosen.html)
    made, command = made_ns(), command_of(chosen)
    answers = [answered(_for(chosen, *named), ask) for named, ask in _questions(chosen)]
    pages = [render(answer, made_ns=made, home=INDEX) for answer in answers]
    _write(Path(chosen.html), [*pages, render_index(pages, command=command, made_ns=made)])
    return min((answer.frame.exit_code for answer in answers), key=_RANK.index)


def _questions(
    chosen: argparse.Namespace,
) -> Sequence[tuple[tuple[str, ...], Callable[[Evidence], Answer]]]:
    """Return the reports, each with the options that it takes besides those of all."""
    since = None if chosen.since is None else moment_ns(chosen.since)
    return (
        (("inventory", "since", "hosts"), lambda evidence: inventory(evidence, since_ns=since)),
        (("scope", "since"), lambda evidence: scope(evidence, since_ns=since)),
        (("data",), data),
        (("incident", "seed"), lambda evidence: incident(evidence, Seed("everything", ""))),
        (("coverage",), coverage),
        (("controls",), controls),
    )


def _for(chosen: argparse.Namespace, action: str, *options: str) -> argparse.Namespace:
    """Return the words of the command for one report, which its page states."""
    words = {**vars(chosen), "action": action, "seed": "everything", "html": None}
    for option in {"since", "hosts", "seed"}.difference(options):
        del words[option]
    return argparse.Namespace(**words)


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
