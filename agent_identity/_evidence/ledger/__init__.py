"""The ledger: writing, sealing, recovery, segments, reading, pruning and archiving of streams."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._evidence.ledger.archiving import Removed, archive, prune
    from agent_identity._evidence.ledger.beginning import Beginning
    from agent_identity._evidence.ledger.excerpt import excerpt_lines, excerpt_of
    from agent_identity._evidence.ledger.excerpt_starts import Excerpt, Start
    from agent_identity._evidence.ledger.follow import Proved, StreamTail, is_over
    from agent_identity._evidence.ledger.ledger import Ledger
    from agent_identity._evidence.ledger.prunable_prefix import read_heads
    from agent_identity._evidence.ledger.prune_statement import PruneStatement, open_pruned, unverified_pruned
    from agent_identity._evidence.ledger.reader import LedgerReader, RawLine, open_ledger, raw_line
    from agent_identity._evidence.ledger.sealer import After, OnRecord
    from agent_identity._evidence.ledger.segments import Segment, Segments
    from agent_identity._evidence.ledger.writer import Entry, Make
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._evidence.ledger.archiving": ("Removed", "archive", "prune"),
            "agent_identity._evidence.ledger.beginning": ("Beginning",),
            "agent_identity._evidence.ledger.excerpt": ("excerpt_lines", "excerpt_of"),
            "agent_identity._evidence.ledger.excerpt_starts": ("Excerpt", "Start"),
            "agent_identity._evidence.ledger.follow": ("Proved", "StreamTail", "is_over"),
            "agent_identity._evidence.ledger.ledger": ("Ledger",),
            "agent_identity._evidence.ledger.prunable_prefix": ("read_heads",),
            "agent_identity._evidence.ledger.prune_statement": ("PruneStatement", "open_pruned", "unverified_pruned"),
            "agent_identity._evidence.ledger.reader": ("LedgerReader", "RawLine", "open_ledger", "raw_line"),
            "agent_identity._evidence.ledger.sealer": ("After", "OnRecord"),
            "agent_identity._evidence.ledger.segments": ("Segment", "Segments"),
            "agent_identity._evidence.ledger.writer": ("Entry", "Make"),
        },
    )

__all__ = [
    "After",
    "Beginning",
    "Entry",
    "Excerpt",
    "Ledger",
    "LedgerReader",
    "Make",
    "OnRecord",
    "Proved",
    "PruneStatement",
    "RawLine",
    "Removed",
    "Segment",
    "Segments",
    "Start",
    "StreamTail",
    "archive",
    "excerpt_lines",
    "excerpt_of",
    "is_over",
    "open_ledger",
    "open_pruned",
    "prune",
    "raw_line",
    "read_heads",
    "unverified_pruned",
]
