"""Asks the command line about the simulated organization, and names records by their time."""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from company.days import Company
from company.world import ALL

from agent_identity import records
from agent_identity.cli import main
from agent_identity.identity import FileVersion, TrustStore, merged

_RECORDS: Final = frozenset({"record", "records", "refused_records", "settled_by", "example"})


class Asked:
    """The organization, ready to be asked.

    Args:
        company: The organization.
    """

    def __init__(self, company: Company) -> None:
        self.company, self.truth = company, company.truth
        first, *others = (TrustStore.load(company.root / name / "trust.json") for name in ALL)
        kept = merged(replace(first, file=FileVersion("urn:example:auditor", 1)), *others)
        self.trust = company.root / "kept.json"
        kept.save(self.trust)
        self.times = dict(self._times())
        self._answers: dict[tuple[str, ...], Any] = {}

    def _times(self) -> Iterator[tuple[str, int]]:
        for name in ALL:
            for record in records.read(self.company.root / name):
                yield record.id, record.time.start_ns

    def sources(self, *places: str, traces: bool = False) -> list[str]:
        """Return the sources of an answer; by default all directories."""
        found = [str(self.company.root / name) for name in places or ALL]
        return [*found, *([str(self.company.traces)] if traces else [])]

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command, and return its exit code and what it prints."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = main(list(words))
        return code, out.getvalue()

    def answer(self, *words: str, sources: list[str] | None = None, trust: Path | None = None, code: int = 0) -> Any:
        """Return an answer, with the times of records in the place of their ids."""
        given = [*words, *(sources or self.sources()), "--json", "--trust", str(trust or self.trust)]
        key = tuple(given)
        if key not in self._answers:
            found, printed = self.run(*given)
            assert found == code, printed[:2_000]
            self._answers[key] = self.dated(json.loads(printed))
        return self._answers[key]

    def ask(self, number: int, *options: str, sources: list[str] | None = None) -> Any:
        """Put one of the twenty questions."""
        given = [str(self.company.root) if one == "ROOT" else one for one in options]
        found, printed = self.run(
            *["ask", str(number), *(sources or self.sources()), *given],
            *["--json", "--trust", str(self.trust)],
        )
        assert found == 0, printed[:2_000]
        return self.dated(json.loads(printed))

    def dated(self, value: Any, name: str = "") -> Any:
        """Replace the ids of records by their times."""
        if isinstance(value, Mapping):
            return {key: self.dated(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [self.dated(item, name) for item in value]
        if name in _RECORDS and isinstance(value, str):
            return self.times.get(value, "span" if "/" in value else value)
        return value


def without(rows: Any, *names: str) -> Any:
    """Return rows without some members."""
    return [{key: value for key, value in cast("Mapping[str, Any]", row).items() if key not in names} for row in rows]
