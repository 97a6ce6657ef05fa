"""Cutting a stream behind any segment, as versions before did: what they left behind has to verify for ever."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from agent_identity.evidence.lines import stream_parts
from agent_identity.evidence.log import Head
from agent_identity.evidence.merkle import CompactRange, leaf_hash
from agent_identity.evidence.pruned import unverified_pruned
from agent_identity.evidence.segments import Segment
from agent_identity.evidence.streams import LedgerReader
from agent_identity.evidence.survey import Cut

__all__ = ["cutting_anywhere"]


class _Left:
    """What is open behind the records so far."""

    def __init__(self, opened: Iterable[str], kept: Iterable[str]) -> None:
        self.opened = dict.fromkeys(opened)
        self.tokens = dict.fromkeys(kept, "")
        self.running: dict[str, list[str]] = {}

    def take(self, record: Any) -> None:
        """Add a record."""
        kind, chain = record["kind"], [link["grant"] for link in record.get("chain", ())]
        if kind == "intent":
            self.opened[record["id"]] = None
        elif kind == "outcome":
            self.opened.pop(record.get("intent"), None)
        elif kind == "grant":
            self.tokens[record["grant"]["token"]] = chain[-1]
        elif kind == "task_start":
            self.running[chain[-1]] = chain
        elif kind == "task_end":
            self.running.pop(chain[-1], None)

    def grants(self) -> tuple[str, ...]:
        """Return the grants of tasks that go on, those above them, and what was kept before."""
        needed = {"", *(grant for chain in self.running.values() for grant in chain)}
        return tuple(token for token, name in self.tokens.items() if name in needed)


def _cut(
    reader: LedgerReader,
    stream: str,
    heads: Sequence[Head],
    eligible: Callable[[Segment, int], bool],
    *,
    anywhere: bool,
) -> Cut | None:
    note = reader.pruned(stream)
    before = None if note is None or reader.first_place(stream) == 1 else unverified_pruned(note)
    tree = CompactRange() if before is None else before.tree()
    left = _Left(() if before is None else before.open, () if before is None else reader.kept_grants(before)[0])
    first, newest, segments, found = tree.size + 1, 0, list[Segment](), None
    for segment in reader.segments(stream):
        for line in map(stream_parts, (line.data or b"" for line in reader.lines_of(segment))):
            if line is None:
                return found
            record = json.loads(line[0])
            tree.append(leaf_hash(line[0]))
            newest = max(newest, int(record["time"].get("end", record["time"]["start"])))
            left.take(record)
        if not eligible(segment, newest):
            break
        segments.append(segment)
        if heads and heads[-1].size >= tree.size:
            facts = (tree.size, leaf_hash(line[0]), tree.peaks, tuple(left.opened), left.grants())
            found = Cut(tuple(segments), first, *facts)
    return found


@contextmanager
def cutting_anywhere() -> Iterator[None]:
    """Prune as versions before did, for as long as the block runs."""
    with patch("agent_identity.evidence.retention.survey", _cut):
        yield
