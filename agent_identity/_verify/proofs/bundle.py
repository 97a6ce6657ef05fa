"""Bundles: evidence, public keys and a report in one file for an auditor; reading one trusts nothing in it."""

import io
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final, final

import orjson

from agent_identity._identity.common.ids import ID_FORM
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.excerpt import excerpt_lines, excerpt_of
from agent_identity._ledger.excerpt_starts import Excerpt
from agent_identity._ledger.prunable_prefix import read_heads
from agent_identity._ledger.reader import LedgerReader, open_ledger
from agent_identity._record.codec import decode
from agent_identity._record.schema import AnyRecord, Grant, Intent, OfTask, Outcome
from agent_identity._storage.layout import GRANTS_NAME
from agent_identity._verify.inputs.sources import PathLike, whole
from agent_identity._verify.ledger.certificates_check import certificate_in
from agent_identity._verify.report.report import Report
from agent_identity.errors import ConfigurationError

_MAX_RATIO: Final = 200
_MAX_MEMBERS: Final = 1_000_000
_FREE: Final = 16 * 1024 * 1024  # Bytes that even a small bundle may become.
_CHUNK: Final = 256 * 1024
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_SEGMENT: Final = re.compile(r"entries(?:-[0-9]{20})?\.jsonl(?:\.gz)?")
_MEMBER: Final = re.compile(
    rf"evidence/(?:ledger/{ID_FORM}/(?:{_SEGMENT.pattern}|pruned|closure|{GRANTS_NAME.pattern})|log/(?:entries\.jsonl|checkpoint)"
    r"|trust\.json|excerpt\.json)"
)
"""Names that are unpacked from a bundle; any other could lead out of the folder."""


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """The records of a ledger that a bundle shows.

    Attributes:
        task: Only those of this task.
        from_ns: Only those that began at this moment or later, in nanoseconds since the Unix epoch.
        until_ns: Only those that began before this moment.
    """

    task: str | None = None
    from_ns: int | None = None
    until_ns: int | None = None

    @property
    def everything(self) -> bool:
        """True if all records are chosen."""
        return self == Choice()

    def takes(self, record: AnyRecord) -> bool:
        """Return whether a record is chosen by its own task and time."""
        start = record.time.start_ns
        return (
            (self.task is None or _task_of(record) == self.task)
            and (self.from_ns is None or start >= self.from_ns)
            and (self.until_ns is None or start < self.until_ns)
        )


def collect(directory: PathLike, target: Path, choice: Choice, *, archive: PathLike | None = None) -> None:
    """Copy the evidence for the chosen records into a folder: log, segments, statements, and public keys only.

    Args:
        directory: The evidence directory.
        target: An empty folder.
        choice: The chosen records. Of all other records between them only the leaf hashes are copied.
        archive: An archive of the directory, with the pruned segments.

    Raises:
        VerificationError: The log differs from its checkpoint, or a chosen record is not sealed yet.
        ConfigurationError: Nothing is chosen, or the trust file holds more than public keys.
    """
    source, reader = Path(directory), whole(open_ledger(directory, archive=archive))
    (target / "log").mkdir(parents=True)
    for name in ("checkpoint", "entries.jsonl"):  # In this order: the log may grow after its checkpoint.
        with suppress(FileNotFoundError):
            shutil.copyfile(source / "log" / name, target / "log" / name)
    if (source / "trust.json").exists():
        TrustStore.load(source / "trust.json").save(target / "trust.json")
    if choice.everything:
        _copy_all(reader, target)
    else:
        _copy_chosen(reader, target, choice)
    for stream in reader.streams():
        for path in (source / "ledger" / stream).glob("*"):
            # An excerpt says nothing of how a stream ended.
            ends = path.name == "closure" and choice.everything
            if ends or path.name == "pruned" or GRANTS_NAME.fullmatch(path.name):
                with suppress(FileNotFoundError):  # Nothing of this stream is chosen.
                    shutil.copyfile(path, target / "ledger" / stream / path.name)


def _copy_all(reader: LedgerReader, target: Path) -> None:
    for stream in reader.streams():
        folder = target / "ledger" / stream
        folder.mkdir(parents=True)
        before = reader.begins_behind(stream)
        for segment in reader.segments(stream):
            if before is None or segment.first > before.size:  # Leftovers of a killed pruning stay out.
                shutil.copyfile(segment.path, folder / Path(segment.path).name)


def _copy_chosen(reader: LedgerReader, target: Path, choice: Choice) -> None:
    spans = _spans(reader, choice)
    tasks = {task for _, task in spans}

    def chosen(data: bytes) -> bool:
        record = _loaded(data)
        if record is None:
            return False
        task = _task_of(record)
        first, last = spans.get((record.stream.id, task), (0, -1))
        given = first <= record.stream.number <= last or (isinstance(record, Grant) and task in tasks)
        return given or choice.takes(record)

    def wanted(data: bytes) -> bool:
        return data in certified or chosen(data)

    heads = read_heads(reader)[1]
    streams = excerpt_of(reader, heads, chosen)
    if not streams:
        raise ConfigurationError("the ledger has no records of this task or time; choose another task or period")
    certified = _certified(reader, streams)
    if certified:
        streams = excerpt_of(reader, heads, wanted)
    for stream, start in streams.items():
        folder = target / "ledger" / stream
        folder.mkdir(parents=True)
        with (folder / "entries.jsonl").open("wb") as file:
            file.writelines(excerpt_lines(reader, stream, start, wanted))
    (target / "excerpt.json").write_bytes(Excerpt(streams).to_bytes())


def _certified(reader: LedgerReader, streams: Collection[str]) -> frozenset[bytes]:
    """Return the records with certificates for the recorders of these streams, and the newest certificate of all.

    They let a verifier who trusts only a root check the keys of the excerpt: the newest is of the key that seals now.
    """
    records: list[bytes] = []
    newest: tuple[int, bytes] = (-1, b"")
    for stream in reader.streams():
        for line in reader.entries(stream):
            data = line.record or b""
            if certificate_in(data) is not None:
                newest = max(newest, (decode(data).time.start_ns, data))
                records += [data] if stream in streams else []
    return frozenset((*records, newest[1])) - {b""}


def _spans(reader: LedgerReader, choice: Choice) -> dict[tuple[str, str | None], tuple[int, int]]:
    """Return the places of the first and the last chosen record of each task in each stream.

    What the task wrote in between is given as well, whenever it began: a verifier follows its marks from one to the
    next. The grants of these tasks are needed, however old.
    """
    spans: dict[tuple[str, str | None], tuple[int, int]] = {}
    lines = (line for stream in reader.streams() for line in reader.entries(stream) if line.record is not None)
    for line in lines:
        record = _loaded(line.record or b"")
        task = None if record is None or not choice.takes(record) else _task_of(record)
        if record is not None and task is not None:
            key, place = (record.stream.id, task), record.stream.number
            spans[key] = spans.get(key, (place, place))[0], place
    return spans


def _task_of(record: AnyRecord) -> str | None:
    task = record.task if isinstance(record, OfTask | Intent | Outcome) else None
    return None if task is None else task.id


def _loaded(data: bytes) -> AnyRecord | None:
    """Return a record, or ``None`` for malformed bytes, which are never chosen."""
    try:
        return decode(data)
    except ValueError:
        return None


def pack(target: PathLike, evidence: Path, others: Mapping[str, bytes]) -> None:
    """Write a bundle; the same content gives the same bytes.

    Args:
        target: Its path, ending in ``.zip``.
        evidence: The folder that :func:`collect` filled.
        others: Further files, by their names.

    Raises:
        ConfigurationError: The name ends in something else.
    """
    members: dict[str, Path | bytes] = dict(others)
    members |= {
        f"evidence/{path.relative_to(evidence).as_posix()}": path for path in evidence.rglob("*") if path.is_file()
    }
    name = os.fspath(target)
    if not name.endswith(".zip"):
        raise ConfigurationError("the name of the bundle does not end in .zip; rename it")
    temporary = Path(f"{name}.tmp")
    try:
        with temporary.open("wb") as file:
            _write_zip(file, sorted(members.items()))
        temporary.replace(name)
    finally:
        temporary.unlink(missing_ok=True)


_Members = Sequence[tuple[str, Path | bytes]]


def _write_zip(file: BinaryIO, members: _Members) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".gz") else zipfile.ZIP_DEFLATED
            with _source(content) as source, archive.open(entry, "w", force_zip64=True) as out:
                shutil.copyfileobj(source, out, _CHUNK)


@contextmanager
def _source(content: Path | bytes) -> Generator[BinaryIO]:
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        yield file


@contextmanager
def unpacked(bundle: PathLike) -> Generator[str]:
    """Unpack the evidence in a bundle into a temporary directory, within bounds, and yield its path.

    Only regular files with names of evidence are unpacked, each once; all else in the bundle is ignored.

    Raises:
        ConfigurationError: The file is not a bundle, or would become too large.
    """
    with tempfile.TemporaryDirectory(prefix="agent-identity-") as folder:
        try:
            size = Path(bundle).stat().st_size
            room = _Room(size * _MAX_RATIO + _FREE)
            with Path(bundle).open("rb") as file, zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    room.take_member()
                    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise ValueError(
                            "a member of the bundle is neither stored nor deflated"
                        )  # Others inflate without a bound.
                    if _MEMBER.fullmatch(entry.filename):
                        with archive.open(entry) as content:
                            _extract(Path(folder) / entry.filename, content, room)
        except _DAMAGE as error:
            raise ConfigurationError(
                f"the bundle cannot be unpacked ({type(error).__name__}); ask for it again"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"the bundle {os.fspath(bundle)!r} cannot be read ({error.strerror or 'a damaged file'}); "
                "check the path, or ask for it again"
            ) from None
        if not (Path(folder) / "evidence").is_dir():
            raise ConfigurationError("the file has no evidence folder; give a bundle made by 'agent-identity bundle'")
        yield f"{folder}/evidence"


@final
class _Room:
    """Budget for the members and bytes that may still be unpacked."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._members = 0

    def take_member(self) -> None:
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise ConfigurationError(f"the bundle has more than {_MAX_MEMBERS:,} files; do not unpack it")

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ConfigurationError(f"the bundle unpacks to more than {_MAX_RATIO} times its size; do not unpack it")


_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, EOFError),
    *(NotImplementedError, RuntimeError, ValueError),
)


def _extract(path: Path, source: IO[bytes], room: _Room) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)  # The umask may allow more, and a trust file that everyone can write is refused.
    with path.open("xb") as out:
        while chunk := source.read(_CHUNK):
            room.take(len(chunk))
            out.write(chunk)
    path.chmod(0o600)


def report_json(report: Report) -> bytes:
    """Return a report as the file ``report.json``."""
    return orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
