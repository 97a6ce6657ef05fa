"""A plugin: every ledger that a test verifies is verified in parts as well, with everything on the disk."""

import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from agent_identity.audit import use_store, verification
from agent_identity.audit.parts import Parts
from agent_identity.audit.report import Report
from agent_identity.evidence.files import Files
from agent_identity.evidence.streams import LedgerReader

PIECES = (2_500, 1_000_000)
"""Bytes of a part: two to three records, or a whole file."""


def elsewhere(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Apply a function as another process would: nothing but bytes goes there and comes back."""
    for item in items:
        there = pickle.loads(pickle.dumps((function, item)))  # noqa: S301  What was made in the line itself.
        yield pickle.loads(pickle.dumps(there[0](there[1])))  # noqa: S301


@pytest.fixture
def merged(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[bool]:
    """Verify every ledger twice, and compare; return of each stream whether it was merged from parts."""
    number = zlib.crc32(request.node.nodeid.encode())
    merged: list[bool] = []
    plain = verification.LedgerCheck
    merge_into = Parts.merge_into

    def noted(self: Parts, *given: Any) -> int:
        done = merge_into(self, *given)
        merged.append(self.whole)
        return done

    class Both:
        """Verifies plainly, and then in parts."""

        def __init__(self, reader: LedgerReader, keys: Any, findings: Any, *given: Any, **_: Any) -> None:
            self._made = (reader, keys, findings, given)

        def run(self, **asked: Any) -> None:
            reader, keys, findings, given = self._made
            if type(reader._files) is not Files:  # Its faults do not happen to those who read the parts.
                plain(reader, keys, findings, *given).run(**asked)
                return
            for _ in range(3):  # A process may write the ledger just now.
                reports = [self._report(asked, spread) for spread in (elsewhere, None)]
                if reports[0] == reports[1]:
                    break
            assert reports[0] == reports[1]
            plain(reader, keys, findings, *given).run(**asked)

        def _report(self, asked: dict[str, Any], spread: Any) -> Report:
            reader, keys, findings, given = self._made
            own = type(findings)("ledger", verification.LEDGER_STEPS)
            plain(reader, keys, own, *given, spread=spread).run(**{**asked, "progress": None})
            return own.report()

    monkeypatch.setattr(Parts, "merge_into", noted)
    monkeypatch.setattr("agent_identity.audit.parts._PIECE", PIECES[number % len(PIECES)])
    monkeypatch.setattr(use_store, "_MAX_NEAR", 1)
    monkeypatch.setattr("agent_identity.audit.chain_check._MAX_TOKENS", 1)
    monkeypatch.setattr("agent_identity.audit.waiting._MAX_WAITING", 1)
    monkeypatch.setattr(verification, "LedgerCheck", Both)
    return merged
