"""A plugin: all traces that a test verifies are verified by several processes as well, with everything on the disk."""

import contextlib
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from audit_in_parts import elsewhere

from agent_identity.audit import key_table, ledger_index, parts, span_parts, use_store, verification
from agent_identity.audit.report import Report
from agent_identity.audit.spans_check import SpansCheck

ENOUGH = 60
"""Verifications of one test; a property has hundreds."""

LIMITS = [
    (span_parts, "_BLOCK"),
    (key_table, "_MAX_NEAR"),
    (key_table, "_AT_ONCE"),
    (ledger_index, "_WAITING"),
    (ledger_index, "_AT_ONCE"),
    (use_store, "_MAX_NEAR"),
]
"""What is 1 here: each document is a block, and nothing but one entry is in memory."""


PIECE = 2_500
"""Bytes of a part of the ledger: two to three records."""


def again_and_again(sources: Sequence[Any]) -> bool:
    """Return whether sources can be read several times."""
    return "-" not in sources and all(type(s) is io.BytesIO or not hasattr(s, "readline") for s in sources)


@contextlib.contextmanager
def in_parts() -> Iterator[list[bool]]:
    """Verify all traces thrice, and compare; yield of each block whether it was merged."""
    merged: list[bool] = []
    verified: Counter[str] = Counter()
    plain, merge = verification._check_spans, SpansCheck.merge

    def noted(self: SpansCheck, part: Any) -> bool:
        merged.append(merge(self, part))
        return merged[-1]

    def thrice(sources: Any, *given: Any, **named: Any) -> Report:
        verified[os.environ["PYTEST_CURRENT_TEST"]] += 1
        if verified[os.environ["PYTEST_CURRENT_TEST"]] > ENOUGH or not again_and_again(sources):
            return plain(sources, *given, **named)
        begun = [source.tell() if isinstance(source, io.BytesIO) else 0 for source in sources]
        report = plain(sources, *given, **named)
        *rest, _ = given
        with pytest.MonkeyPatch.context() as patch:
            for module, name in LIMITS:
                patch.setattr(module, name, 1)
            patch.setattr(span_parts, "_FEW", 0)
            patch.setattr(parts, "_PIECE", PIECE)
            patch.setattr("agent_identity.audit.chain_check._MAX_TOKENS", 1)
            for spread in (elsewhere, None):
                patch.setattr(
                    verification.spreading, "processes", lambda *_, spread=spread, **__: contextlib.nullcontext(spread)
                )
                for source, place in zip(sources, begun, strict=True):
                    if isinstance(source, io.BytesIO):
                        source.seek(place)
                again = plain(sources, *rest, None, **named)
                assert again.to_json() == report.to_json()
        return report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpansCheck, "merge", noted)
        patch.setattr(verification, "_check_spans", thrice)
        yield merged


@pytest.fixture(scope="module", autouse=True)
def merged() -> Iterator[list[bool]]:
    """Verify all traces of a module thrice; return of each block whether it was merged."""
    with in_parts() as found:
        yield found
