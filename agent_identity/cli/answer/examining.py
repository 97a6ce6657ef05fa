"""Records an examination: who asked which question about which evidence, with the digest of the answer."""

import argparse
import contextlib
import getpass
import hashlib
import io
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, final

from agent_identity._directory.open import prepare
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._identity.common.ids import RandomIds
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.parts import Examined, Time
from agent_identity._record.schema import Examination
from agent_identity._reports.answers.report_frame import Frame
from agent_identity._verify.fleet.places import find_places
from agent_identity._verify.inputs.sources import directory_of
from agent_identity.cli.terminal.signing import opened_ledger
from agent_identity.cli.terminal.sources import STANDARD_INPUT
from agent_identity.cli.terminal.style import clean
from agent_identity.errors import ConfigurationError

_LONGEST: Final = 160
"""Characters of a question that are recorded; the digest of the sources comes after them."""
_CHUNK: Final = 1 << 20
_DIGITS: Final = 20


class _State(NamedTuple):
    """The state of the sources before they are read.

    Attributes:
        digest: SHA-256 over the SHA-256 of each source: of the checkpoint of a ledger, of the bytes of another file.
        size: The number of entries of the logs under these checkpoints.
    """

    digest: str
    size: int


@final
class Examiner:
    """Records what a report answered in a ledger of the examiner.

    Args:
        directory: The directory of the examiner, with its keys.
        by: The examiner.
        sources: The evidence, whose state is taken now.

    Raises:
        ConfigurationError: The directory has no keys, or is evidence that is examined, or the examiner is no id.
    """

    def __init__(self, directory: str, by: str, sources: Sequence[str]) -> None:
        self._directory, self._by = directory, by
        _refuse(directory, sources)
        _check_name(by)
        self._state = _state_of(sources)

    def shown(self, frame: Frame, question: str, show: Callable[[], int], *, page: str | None) -> int:
        """Show an answer, record it, and return the exit code.

        Args:
            frame: The frame of the answer.
            question: What was asked about, besides the report.
            show: Prints the answer.
            page: The file that it writes instead of printing.
        """
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = show()
        sys.stdout.write(printed.getvalue())
        data = printed.getvalue().encode() if page is None else Path(page).read_bytes()
        asked = clean(f"report {frame.question} {question}".strip())[:_LONGEST]
        fact = Examined(
            question=f"{asked} over {self._state.digest}",
            digest=digest_of(data),
            size=str(self._state.size),
            by=self._by,
        )
        record = self._append(fact)
        print(f"agent-identity: examination {record} recorded in {clean(self._directory)}", file=sys.stderr)
        return code

    def _append(self, fact: Examined) -> str:
        """Append the record under the recorder key of the examiner, and return its id."""
        clock = SystemClock()
        _, recorder, trust = prepare(self._directory, clock, RandomIds())
        with opened_ledger(self._directory, recorder, trust) as ledger:
            make = partial(Examination, time=Time.at(clock.wall_ns()), examination=fact)
            return ledger.append(make).record.id


def examiner_of(chosen: argparse.Namespace) -> Examiner | None:
    """Return the examiner that ``--record-examination`` names, or nothing: reading writes nothing by itself."""
    directory = getattr(chosen, "record_examination", None)
    by = getattr(chosen, "by", None)
    if directory is None:
        if by is not None:
            raise ConfigurationError("--by goes with --record-examination DIR; leave it out")
        return None
    return Examiner(directory, _login() if by is None else by, chosen.evidence)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, LookupError, ImportError):
        raise ConfigurationError("the examiner has no login name here; name the examiner with --by ID") from None


def _check_name(by: str) -> None:
    """Refuse an examiner that no record can name, before anything is read.

    Raises:
        ConfigurationError: It is no id.
    """
    try:
        Examined(question="report", digest="A" * 43, size="0", by=by)
    except ValueError:
        raise ConfigurationError(
            "the examiner is no id; give --by an address or a name without spaces at its ends and control characters"
        ) from None


def _refuse(directory: str, sources: Sequence[str]) -> None:
    """Refuse a directory in which the examination cannot or must not be recorded.

    Raises:
        ConfigurationError: It has no keys, or it is, holds or lies in a source.
    """
    own = Path(directory)
    if not (own / "trust.json").exists() or not (own / "keys" / "recorder.pem").exists():
        raise ConfigurationError(
            f"{directory!r} has no keys to sign an examination with; 'agent-identity init DIR' makes a directory"
        )
    here = own.resolve()
    for source in sources:
        there = Path(source).resolve()
        if here == there or there in here.parents or here in there.parents:
            raise ConfigurationError("an examination must not change what is examined; name a directory of your own")


def _state_of(sources: Sequence[str]) -> _State:
    whole, size = hashlib.sha256(), 0
    if STANDARD_INPUT in sources:
        raise ConfigurationError("standard input has no digest before it is read; write it into a file")
    for place in find_places(list(sources)):
        if place.problem is not None:
            raise ConfigurationError(f"{place.problem}; an examination records a digest of each source")
        directory = directory_of(place.paths[0]) if place.kind == "ledger" else None
        if directory is not None:
            note = open_ledger(directory).checkpoint() or b""
            whole.update(hashlib.sha256(note).digest())
            size += _entries(note)
            continue
        for path in place.paths:
            whole.update(_digest(path))
    return _State(b64url_encode(whole.digest()), size)


def _entries(note: bytes) -> int:
    """Return the number of entries that a checkpoint states, in its second line; 0 if it is none."""
    lines = note.split(b"\n", 2)
    return int(lines[1]) if len(lines) > 1 and lines[1].isdigit() and len(lines[1]) < _DIGITS else 0


def _digest(path: str) -> bytes:
    found = hashlib.sha256()
    with Path(path).open("rb") as file:
        while part := file.read(_CHUNK):
            found.update(part)
    return found.digest()
