"""Where things lie in an evidence directory, and the names that streams may have."""

import os
import re
from dataclasses import dataclass
from typing import Final, final

__all__ = ["Layout", "is_stream_id"]

_STREAM_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_stream_id(name: str) -> bool:
    """Tell whether a name can be a stream (a UUID in lower case), and thus is safe inside a path."""
    return _STREAM_ID.fullmatch(name) is not None


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one evidence directory.

    Attributes:
        root: The absolute path of the directory.
    """

    root: str

    @classmethod
    def of(cls, directory: "str | os.PathLike[str]") -> "Layout":
        """Return the layout of a directory, which need not exist."""
        return cls(os.path.abspath(os.fspath(directory)))  # noqa: PTH100  No links are resolved.

    @property
    def keys(self) -> str:
        """The folder of keys, closed to others."""
        return f"{self.root}/keys"

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
        return f"{self.root}/keys/ledger.key"

    @property
    def log_entries(self) -> str:
        """The lines of the log."""
        return f"{self.root}/log/entries.jsonl"

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
        """The folder that holds one folder for each receiver of copies."""
        return f"{self.root}/exports"

    @property
    def witnesses(self) -> str:
        """The folder of the checkpoints that witnesses cosigned, the latest of each."""
        return f"{self.root}/log/witnesses"

    @property
    def anchors(self) -> str:
        """The folder of the checkpoints that were anchored, each with its time-stamp."""
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
