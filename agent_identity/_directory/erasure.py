"""Erases digest keys: the recorded digests of a task or principal can then be proved by no one.

The erasure is recorded and sealed first, so every erased key has a record that names who erased it; a crash
after that leaves keys, and the next attempt records and erases the rest. The ledger itself is unchanged: it
verifies as before.
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, final

from agent_identity._directory.open import pseudonyms_of
from agent_identity._guard.approvals.inbox import ApprovalInbox
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.names import check_id
from agent_identity._ledger.ledger import Ledger
from agent_identity._ledger.reader import open_ledger
from agent_identity._record import parts
from agent_identity._record.codec import decode
from agent_identity._record.digests import DigestKeys
from agent_identity._record.parts import Time
from agent_identity._record.pseudonyms import PSEUDONYM_PREFIX, Pseudonyms
from agent_identity._record.schema import Erasure, Intent, OfTask, Outcome
from agent_identity.errors import ConfigurationError

ErasedKind: TypeAlias = Literal["task", "principal", "resources"]
"""The owner of the erased keys: for calls outside any task the stream counts as the task; resources share one key."""

_MAX_REASON: Final = 256


@final
@dataclass(frozen=True, slots=True)
class Erased:
    """The result of an erasure.

    Attributes:
        tasks: The number of affected tasks.
        keys: The number of keys erased now; 0 if none were left.
        record: The id of the erasure record.
        mapping: True if the mapping of a pseudonym was erased now.
        requests: The number of removed approval requests, which hold arguments in clear text.
    """

    tasks: int
    keys: int
    record: str | None
    mapping: bool = False
    requests: int = 0


def erase(
    directory: str | os.PathLike[str],
    kind: ErasedKind,
    name: str,
    *,
    ledger: Ledger,
    clock: Clock,
    by: str,
    reason: str | None = None,
) -> Erased:
    """Record an erasure, and erase the digest keys of a task, of all tasks of a principal, or of resources.

    Args:
        directory: The evidence directory.
        kind: The kind of the named object.
        name: The id of the task, or of the stream for calls outside any task; or the id of the principal, real
            or as in records; the mapping of its pseudonym is erased as well. For the names of resources,
            :data:`RESOURCES`.
        ledger: The ledger of the directory, for the record; it knows where the keys are.
        clock: Source of the time in the record.
        by: Who ordered the erasure, 1 to 256 visible characters. Nothing checks this.
        reason: The reason, one printable line of at most 256 characters. It stays in the ledger.

    Raises:
        ValueError: A name or the reason is malformed.
        ConfigurationError: The ledger knows no such task or principal. In a directory with pseudonyms an unknown
            principal cannot be told from an erased one, and nothing happens. Or an approval request cannot be read; all
            else was erased.
        EvidenceError: The erasure could not be recorded, or not all keys could be erased; try again.
    """
    _check(name, by, reason)
    digests = DigestKeys(Path(ledger.keys) / "digests.jsonl")
    pseudonyms = pseudonyms_of(ledger.keys, wanted=False) if kind == "principal" else None
    mapped = [] if pseudonyms is None else _mapped(pseudonyms, name)
    names = _names(kind, name, pseudonyms)
    ids = {shown: _ids(directory, kind, shown) for shown in dict.fromkeys((*mapped, name))}
    if pseudonyms is None and not any(ids.values()):
        raise ConfigurationError(f"the ledger knows no such {kind}; see 'agent-identity show', and give the whole id")
    every, erased, record = frozenset[str]().union(*ids.values()), 0, None
    for shown, tasks in ids.items():
        keys = digests.count(tasks)
        if keys or shown in mapped:
            if kind != "principal":
                erased_key = parts.Erased(key=shown, by=by, reason=reason)
            else:
                erased_key = parts.Erased(principal=shown, keys=str(keys), by=by, reason=reason)
            record = ledger.append(partial(Erasure, time=Time.at(clock.wall_ns()), erasure=erased_key)).id
            erased += keys
    if record is not None:
        ledger.seal()
        digests.erase(every)
    if pseudonyms is not None:
        pseudonyms.erase(name)  # Also finishes an erasure that power loss interrupted.
    requests = ApprovalInbox(Path(directory) / "approvals").erase(every, names)
    return Erased(len(every), erased, record, bool(mapped), requests)


def _check(name: str, by: str, reason: str | None) -> None:
    check_id(name, "name of what to erase")
    check_id(by, "name of who has it erased")
    if reason is not None and not (0 < len(reason) <= _MAX_REASON and reason.isprintable()):
        raise ValueError(f"the reason is malformed; write one printable line of 1 to {_MAX_REASON} characters")


def _mapped(pseudonyms: Pseudonyms, name: str) -> list[str]:
    """Return the pseudonyms that map to the principal with this id, or that are this id."""
    if name.startswith(PSEUDONYM_PREFIX):
        return [name] if pseudonyms.name_of(name) is not None else []
    mapped = (pseudonyms.find(kind, name) for kind in ("human", "service"))
    return [pseudonym for pseudonym in mapped if pseudonym is not None]


def _names(kind: ErasedKind, name: str, pseudonyms: Pseudonyms | None) -> set[str]:
    """Return the ids under which an approval request may name the principal, as far as known."""
    if kind != "principal":
        return set()
    real = None if pseudonyms is None else pseudonyms.name_of(name)
    return {name} if real is None else {name, real[1]}


def _ids(directory: str | os.PathLike[str], kind: ErasedKind, name: str) -> frozenset[str]:
    """Return the ids of the digest keys of the named object."""
    if kind == "resources":
        return frozenset((name,))
    reader = open_ledger(directory)
    streams = tuple(reader.streams())
    if kind == "task" and name in streams:
        return frozenset((name,))
    wanted, ids = name.encode(), set[str]()
    for stream in streams:
        for line in reader.entries(stream):
            if line.record is not None and (kind == "principal" or wanted in line.record):
                ids.update(_task_of(line.record, kind, name))
    return frozenset(ids)


def _task_of(data: bytes, kind: ErasedKind, name: str) -> tuple[str, ...]:
    """Return the task of a record if the record is about the named object."""
    if b'"chain":' not in data:
        return ()
    try:
        record = decode(data)
    except ValueError:
        return ()
    if not isinstance(record, OfTask | Intent | Outcome) or record.task is None or record.principal is None:
        return ()
    named = record.task.id if kind == "task" else record.principal.id
    return (record.task.id,) if named == name else ()
