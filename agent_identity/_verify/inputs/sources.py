"""Sources of evidence: directories, bundles, files of spans and streams; and the trusted keys."""

import io
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias, TypeGuard, cast

from agent_identity._identity.common.private_files import check_path
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import LedgerReader
from agent_identity._storage.byte_reader import ByteLines
from agent_identity.errors import ConfigurationError

PathLike: TypeAlias = str | os.PathLike[str]
"""The path of a file or directory."""

Source: TypeAlias = PathLike | Sequence[PathLike | ByteLines] | ByteLines
"""An evidence directory, files of OTLP or of pasted spans, ``-`` for standard input, or an open binary stream."""

Trust: TypeAlias = TrustStore | PathLike | None
"""Trusted keys, or the path of a trust file."""

STANDARD_INPUT: Final = "-"
"""The name of standard input as a source."""

_INFLATES: Final = 6  # Times that a compressed segment is larger, more or less.
_BUFFER: Final = 256 * 1024  # Bytes; a line of one span is longer than what is read at once otherwise.


def is_bundle(source: object) -> TypeGuard[PathLike]:
    """Report whether a source is named like a bundle."""
    return isinstance(source, str | os.PathLike) and os.fspath(cast("PathLike", source)).endswith(".zip")


def directory_of(source: object) -> str | None:
    """Return the evidence directory that a source names, or ``None`` if it names something else.

    Its ``ledger`` folder stands for the directory as well.

    Raises:
        ConfigurationError: It is no path that the system can be asked for.
    """
    if not isinstance(source, str | os.PathLike):
        return None
    check_path(cast("PathLike", source))
    root = Path(cast("PathLike", source)).absolute()
    if not root.is_dir():
        return None
    if root.name == "ledger" and (root.parent / "log").is_dir():
        root = root.parent
    return str(root)


def whole(reader: LedgerReader, *, log: bool = True) -> LedgerReader:
    """Return the reader if this user may read all streams; an answer about a part would look like all of it.

    Args:
        reader: The reader.
        log: The log must be readable as well.

    Raises:
        ConfigurationError: Something may not be read.
    """
    for denied in reader.denied():
        if denied.part in {"ledger", "stream"} or (log and denied.part == "log"):
            raise ConfigurationError(
                f"cannot read {denied.path!r}: '{denied.why}'; run as a user who may read it, or have its mode changed"
            )
    return reader


def size_of_ledger(reader: LedgerReader, streams: Sequence[str] | None = None) -> int:
    """Return the bytes in streams of a ledger (by default in all), estimated for compressed ones.

    What cannot be seen counts nothing.
    """
    names = reader.streams() if streams is None else streams
    segments = (segment for stream in names for segment in reader.segments(stream))
    return sum(segment.bytes * (1 if segment.compression == "none" else _INFLATES) for segment in segments)


def size_of_files(sources: Sequence[PathLike | ByteLines]) -> int:
    """Return the bytes in files, or 0 if one of them has no size."""
    sizes = [
        _size(source) if isinstance(source, str | os.PathLike) and source != STANDARD_INPUT else 0 for source in sources
    ]
    return sum(sizes) if all(sizes) else 0


def _size(path: PathLike) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return 0


@contextmanager
def opened(source: PathLike | ByteLines) -> Generator[ByteLines]:
    """Open one file of spans for reading.

    Raises:
        ConfigurationError: It cannot be opened.
    """
    if not isinstance(source, str | os.PathLike):
        yield source
    elif source == STANDARD_INPUT:
        yield _standard_input()
    else:
        check_path(source)
        try:
            file = open(source, "rb", buffering=_BUFFER)  # noqa: PTH123, SIM115  The path may be any that open() takes.
        except OSError as error:
            raise ConfigurationError(
                f"cannot read {os.fspath(source)!r}: {error.strerror}; name an evidence directory or a file of spans"
            ) from None
        with file:
            yield file


def _standard_input() -> BinaryIO:
    return io.BufferedReader(io.FileIO(0, closefd=False))


def to_trust(trust: Trust) -> TrustStore | None:
    """Return the trusted keys.

    Raises:
        ConfigurationError: The trust file is unusable.
    """
    if trust is None or isinstance(trust, TrustStore):
        return trust
    return TrustStore.load(trust)
