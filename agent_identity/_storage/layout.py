"""Paths inside an evidence directory, and the form of stream names."""

import os
import re
from dataclasses import dataclass
from typing import Final, final

from agent_identity._identity.common.ids import DIGEST_FORM, is_id128

GRANTS_NAME: Final = re.compile(rf"grants-{DIGEST_FORM}\.jsonl")
"""The names of files with grants that were kept of what was pruned."""


def is_stream_id(name: str) -> bool:
    """Return whether a name can be a stream id, and thus is safe inside a path."""
    return is_id128(name)


def segment_name(first: int, suffix: str = "") -> str:
    """Return the name of a closed segment.

    Args:
        first: The place of its first record in the stream, from 1.
        suffix: The extension of a compressed segment.
    """
    return f"entries-{first:020d}.jsonl{suffix}"


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one evidence directory.

    Attributes:
        root: The absolute path of the directory.
        keys: The absolute path of the folder of its keys, closed to others.
    """

    root: str
    keys: str

    @classmethod
    def of(cls, directory: "str | os.PathLike[str]", keys: "str | os.PathLike[str] | None" = None) -> "Layout":
        """Return the layout of a directory, which need not exist.

        Args:
            directory: The directory.
            keys: The folder of its keys, if they are kept outside.
        """
        root: str = os.path.abspath(os.fspath(directory))  # No links are resolved.
        return cls(root, f"{root}/keys" if keys is None else os.path.abspath(os.fspath(keys)))

    @property
    def keys_inside(self) -> bool:
        """True if the keys are kept in the directory."""
        return self.keys == f"{self.root}/keys"

    @property
    def streams(self) -> str:
        """The folder that holds one folder per stream."""
        return f"{self.root}/ledger"

    @property
    def log(self) -> str:
        """The folder of the one log."""
        return f"{self.root}/log"

    @property
    def ledger_key(self) -> str:
        """The key of the MACs beside the lines."""
        return f"{self.keys}/ledger.key"

    @property
    def log_entries(self) -> str:
        """The lines of the log."""
        return f"{self.root}/log/entries.jsonl"

    @property
    def log_rejected(self) -> tuple[str, ...]:
        """The first file for rejected lines of the log, which the library did not write."""
        return tuple(f"{self.root}/log/rejected{suffix}.jsonl" for suffix in ("", *(f"-{n}" for n in range(1, 10))))

    @property
    def log_lock(self) -> str:
        """The lock of the log."""
        return f"{self.root}/log/lock"

    @property
    def checkpoint(self) -> str:
        """The latest signed checkpoint of the log."""
        return f"{self.root}/log/checkpoint"

    @property
    def exports(self) -> str:
        """The folder with one folder for each export receiver."""
        return f"{self.root}/exports"

    @property
    def witnesses(self) -> str:
        """The folder of the latest checkpoint that each witness cosigned."""
        return f"{self.root}/log/witnesses"

    @property
    def anchors(self) -> str:
        """The folder of the anchored checkpoints, each with its time-stamp."""
        return f"{self.root}/log/anchors"

    def stream(self, stream: str) -> str:
        """The folder of one stream."""
        return f"{self.root}/ledger/{stream}"

    def entries(self, stream: str) -> str:
        """The lines of one stream."""
        return f"{self.root}/ledger/{stream}/entries.jsonl"

    def lock(self, stream: str) -> str:
        """The lock of one stream; held by its writer."""
        return f"{self.root}/ledger/{stream}/lock"

    def segment(self, stream: str, first: int) -> str:
        """A closed segment of one stream, not compressed."""
        return f"{self.stream(stream)}/{segment_name(first)}"

    def fresh(self, stream: str) -> str:
        """The next file of one stream, before it is renamed into place."""
        return f"{self.root}/ledger/{stream}/entries.jsonl.new"

    def pruned(self, stream: str) -> str:
        """The signed statement of the pruned part of one stream."""
        return f"{self.root}/ledger/{stream}/pruned"

    def closure(self, stream: str) -> str:
        """The signed word of a closer about one stream whose process died."""
        return f"{self.root}/ledger/{stream}/closure"

    def grants(self, stream: str, digest: str) -> str:
        """The kept grants of the pruned part of one stream, by the digest of the file."""
        return f"{self.root}/ledger/{stream}/grants-{digest}.jsonl"

    @property
    def excerpt(self) -> str:
        """The description of an excerpt: the parts of streams that are in it."""
        return f"{self.root}/excerpt.json"

    @property
    def segments_lock(self) -> str:
        """The lock for compressing, archiving and pruning closed segments."""
        return f"{self.root}/ledger/segments.lock"
