"""``agent-identity demo``: a month of evidence of a small company, and what can be asked of it."""

import argparse
import contextlib
import io
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from agent_identity._verify.api import Verifier
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import Report
from agent_identity.cli.answer.commands import ANSWER
from agent_identity.cli.company.month import STOLEN, write_month
from agent_identity.cli.look.commands import LOOK
from agent_identity.cli.terminal.command import loaded
from agent_identity.cli.terminal.parsing import chosen as parsed
from agent_identity.cli.terminal.style import Style, clean, columns
from agent_identity.cli.verify.verify import lines
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.version import VERSION

_FOLDER: Final = "agent-identity-demo"
_WARNING: Final = "Its keys are the same in each demo and known to everybody: look at it, and do not work with it."
_THEFT: Final = "2026-10-21T03:00:00Z"
_DAY: Final = ("--from", "2026-10-13", "--until", "2026-10-14")
_MARK: Final = {"demo": VERSION}
_WAS: Final = b'"id":"alice@example.com"'
_IS: Final = b'"id":"alise@example.com"'


class _Look(NamedTuple):
    """A question that the demo puts.

    Attributes:
        name: The name of the file with the answer.
        about: What there is to see.
        before: The words of the command before the evidence.
        after: Those after it.
        verified: Whether the command verifies, and so takes the trust file.
        part: The paragraph of the answer that is shown at once; a report begins with its frame.
    """

    name: str
    about: str
    before: tuple[str, ...]
    after: tuple[str, ...] = ()
    verified: bool = True
    part: int = 1


_LOOKS: Final = (
    _Look("inventory", "Who is there: an agent is registered, and idle", ("ask", "2")),
    _Look("scope", "Granted and used: the researcher has more than it needs", ("ask", "8")),
    _Look(
        "page",
        "A page gave orders to the researcher: what it tried then was refused, and somebody suspended it",
        ("show",),
        ("--agent", "researcher", *_DAY),
        verified=False,
        part=0,
    ),
    _Look(
        "stolen-key",
        "A key was stolen, used and revoked",
        ("ask", "16"),
        ("--of", STOLEN.public_key.thumbprint, "--since", _THEFT),
    ),
    _Look("coverage", "Who answers for the calls", ("ask", "19")),
)


class _Answer(NamedTuple):
    """The command, its exit code, and the part of the answer that is shown at once."""

    command: str
    code: int
    summary: str


class _Done(NamedTuple):
    """A demo: seconds to write the evidence, ``None`` if it was there, both verifications, and the answers."""

    seconds: float | None
    report: Report
    edited: Report
    answers: Mapping[str, _Answer]

    @property
    def as_expected(self) -> bool:
        """True if the evidence verifies, the changed byte was found, and each question has its answer."""
        codes = (self.report.exit_code, self.edited.exit_code, *(one.code for one in self.answers.values()))
        return codes == (0, 1, *(0 for _ in self.answers))


class _Place(NamedTuple):
    """The folder of a demo."""

    folder: Path

    @property
    def trusted(self) -> tuple[str, ...]:
        """The options of commands that verify."""
        return "--trust", str(self.trust)

    @property
    def evidence(self) -> Path:
        """The evidence."""
        return self.folder / "evidence"

    @property
    def edited(self) -> Path:
        """A copy of it with one changed byte."""
        return self.folder / "edited"

    @property
    def reports(self) -> Path:
        """The reports."""
        return self.folder / "reports"

    @property
    def incident(self) -> Path:
        """The page of the day on which a page gave orders to the researcher."""
        return self.reports / "incident.html"

    @property
    def overview(self) -> Path:
        """The index over the pages of all reports."""
        return self.reports / "pages" / "index.html"

    @property
    def mark(self) -> Path:
        """The file that says that the folder is finished."""
        return self.folder / "demo.json"

    @property
    def trust(self) -> Path:
        """The public keys, kept apart."""
        return self.folder / "trust.json"


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    if chosen.evidence is not None:
        if chosen.keep is not None:
            chosen.misused("--evidence names the directory already; leave --keep out")
        return _only_evidence(chosen)
    place = _Place(Path(chosen.keep or _FOLDER))
    seconds = None if _is_made(place) else _made(place)
    place.reports.mkdir(exist_ok=True)
    answers = {look.name: _answer(place, look) for look in _LOOKS}
    done = _Done(seconds, _verified(place, place.evidence), _verified(place, place.edited), answers)
    if chosen.json:
        print(json.dumps(_facts(place, done)))
    else:
        for line in _tour(place, done, Style(sys.stdout), columns(sys.stdout)):
            print(line)  # Never broken here, so that a command can be copied.
    return 0 if done.as_expected else 1


def _is_made(place: _Place) -> bool:
    """Return whether an earlier run made the folder.

    Raises:
        ConfigurationError: Something else is there, or an earlier run was interrupted or of another version.
    """
    if not os.path.lexists(place.folder):
        return False
    try:
        made = json.loads(place.mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        made = None
    if made == _MARK:
        return True
    raise ConfigurationError(
        f"{str(place.folder)!r} exists already, and no demo of this version finished it; remove it, or name another "
        "folder with --keep"
    )


def _made(place: _Place) -> float:
    """Make the folder, and return the seconds that the evidence took."""
    seconds = _written(place.evidence)
    shutil.copy(place.evidence / "trust.json", place.trust)
    _edit(place)
    place.reports.mkdir()
    _run(place, ("report", "incident", f"--html={place.incident}", *_DAY), "agent:researcher")
    _run(place, ("report", "all", f"--html={place.overview.parent}"))
    place.mark.write_text(json.dumps(_MARK), encoding="utf-8")
    return seconds


def _only_evidence(chosen: argparse.Namespace) -> int:
    seconds = _written(Path(chosen.evidence))
    if chosen.json:
        print(json.dumps({"evidence": chosen.evidence, "seconds": round(seconds, 3)}))
        return 0
    print(f"{clean(chosen.evidence)} has a month of a small company, written in {seconds:.1f} s")
    print(f"  {_line('verify', chosen.evidence)}\n{_WARNING}")
    return 0


def _written(directory: Path) -> float:
    """Write the evidence, and return the seconds that this took."""
    begun = time.monotonic()
    write_month(directory)
    return time.monotonic() - begun


def _verified(place: _Place, directory: Path) -> Report:
    return Verifier(place.trust, processes=1).ledger(directory)


def _edit(place: _Place) -> None:
    """Copy the evidence, without private keys, and change one byte of one record in the copy.

    Raises:
        EvidenceError: No record has what is to be changed.
    """
    shutil.copytree(place.evidence, place.edited, ignore=shutil.ignore_patterns("keys", "state", "approvals", "*.lock"))
    for path in sorted(place.edited.glob("ledger/*/entries*.jsonl"), reverse=True):
        content = path.read_bytes()
        if _WAS in content:
            path.write_bytes(content.replace(_WAS, _IS, 1))
            return
    raise EvidenceError("no uncompressed record names Alice, so that the demo has nothing to change")


def _answer(place: _Place, look: _Look) -> _Answer:
    """Write an answer into its file, and return it."""
    words = (*look.before, str(place.evidence), *look.after, *(place.trusted if look.verified else ()))
    code, text = _printed(words)
    (place.reports / f"{look.name}.txt").write_text(text, encoding="utf-8")
    return _Answer(_line(*words), code, text.split("\n\n")[look.part])


def _run(place: _Place, before: tuple[str, ...], *seed: str) -> None:
    """Write a page, or a folder of them.

    Raises:
        EvidenceError: The evidence does not verify.
    """
    code, _ = _printed((*before, *place.trusted, *seed, str(place.evidence)))
    if code:
        raise EvidenceError(f"the pages were made of evidence that does not verify: exit code {code}")


def _printed(words: tuple[str, ...]) -> tuple[int, str]:
    """Run a command, and return its exit code and what it prints."""
    found = parsed({"Look": LOOK, "Answer": ANSWER}, words)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = loaded(found.work)(found)
    return code, printed.getvalue()


def _facts(place: _Place, done: _Done) -> dict[str, object]:
    return {
        "folder": str(place.folder),
        "records": done.report.counts["records"],
        "seconds": None if done.seconds is None else round(done.seconds, 3),
        "pages": [str(place.incident), str(place.overview)],
        "verdict": done.report.verdict,
        "edited": {"verdict": done.edited.verdict, "codes": _contradictions(done.edited)},
        "reports": {name: one._asdict() for name, one in done.answers.items()},
    }


def _contradictions(report: Report) -> list[str]:
    return sorted({found.code for found in report.findings if found.severity == "contradicted"})


def _tour(place: _Place, done: _Done, style: Style, room: int | None) -> Iterator[str]:
    """Yield the lines for people."""
    evidence, records = str(place.evidence), counted(done.report.counts["records"], "record")
    written = "made by an earlier run" if done.seconds is None else f"written in {done.seconds:.1f} s"
    yield f"five agents worked for a month: {records} in {clean(evidence)}, {written}"
    yield _WARNING
    yield from ("", style.paint("Verify it, with public keys that are kept elsewhere", "bold"))
    yield from (f"$ {_line('verify', evidence, *place.trusted)}", *list(lines(done.report, style, room))[:4])
    yield from ("", style.paint("Change one byte of a copy: one record now says alise@ instead of alice@", "bold"))
    yield f"$ {_line('verify', str(place.edited), *place.trusted)}"
    first, *others = lines(done.edited, style, room)
    yield first
    for code in _contradictions(done.edited):
        yield next(line for line in others if f"{code}:" in line)
    for look in _LOOKS:
        yield from ("", style.paint(look.about, "bold"), f"$ {done.answers[look.name].command}")
        yield from done.answers[look.name].summary.splitlines()
    yield from ("", style.paint("What to type next", "bold"))
    yield from (f"  {line}" for line in _next(place))
    yield from ("", style.paint("Open in a browser", "bold"))
    yield from (f"  {line}" for line in _to_open(place))


def _next(place: _Place) -> Iterator[str]:
    """Yield command lines, with what each shows."""
    evidence, trusted, key = str(place.evidence), place.trusted, STOLEN.public_key.thumbprint
    for words, why in (
        (("show", evidence, "--refused"), "what was refused, and why"),
        (("ask",), "twenty questions, and the command that answers each"),
        (("report", "scope", evidence, *trusted), "smaller scopes, as a suggestion"),
        (("report", "incident", "tool:pay_invoice", evidence, *trusted), "who paid what for whom, approvals included"),
        (("keys", "revoke", str(place.trust), key, "--since", _THEFT), "then verify: the thief's grants do not count"),
        (("bundle", evidence, "-o", f"{place.folder}.zip", *trusted), "one file for an auditor"),
    ):
        yield f"{_line(*words)}  # {why}"
    yield f"the reports in full: {clean(str(place.reports))}"


def _to_open(place: _Place) -> Iterator[str]:
    """Yield the pages to open in a browser."""
    yield f"{clean(str(place.incident))}  # what the researcher tried, and when it was stopped"
    yield f"{clean(str(place.overview))}  # all reports, what stands out first"


def _line(*words: str) -> str:
    return clean(shlex.join(("agent-identity", *words)))
