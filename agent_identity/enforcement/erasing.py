"""Erasing the keys of digests: what a task or principal was recorded with can then be proved by nobody.

The erasure is recorded and sealed first, so that no key goes without a record that says who had it go; a kill
after that leaves keys, and the next attempt records and erases the rest. The ledger itself is not touched: it
verifies as before.
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, final

from agent_identity.enforcement.approval_box import ApprovalBox
from agent_identity.enforcement.directory import pseudonyms_of
from agent_identity.errors import ConfigurationError
from agent_identity.evidence import DigestKeys, Ledger, Pseudonyms, open_ledger, records
from agent_identity.evidence.pseudonyms import PSEUDONYM_PREFIX
from agent_identity.evidence.record_codec import decode
from agent_identity.evidence.records import Erasure, Intent, OfTask, Outcome, Time
from agent_identity.identity import Clock, check_id

__all__ = ["Erased", "ErasedKind", "erase"]

ErasedKind: TypeAlias = Literal["task", "principal", "resources"]
"""Of what keys are erased: a stream counts as the task of the calls outside any; resources have one key together."""

_MAX_REASON: Final = 256


@final
@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure came to.

    Attributes:
        tasks: How many tasks there are of what was named.
        keys: How many keys were erased now; 0 if there were none any more.
        record: The id of the record that says so.
        mapping: Whether the mapping of a pseudonym was erased now.
        requests: How many requests for approval were removed, which hold arguments in clear.
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
    """Record an erasure, and erase the keys of the digests of a task, of all tasks of a principal, or of resources.

    Args:
        directory: The evidence directory.
        kind: What is named.
        name: The id of the task, or of the stream for calls outside any task; or the id of the principal, real
            or as the records have it. With it, the mapping of its pseudonym goes as well. For the names of resources,
            :data:`~agent_identity.enforcement.draft_facts.RESOURCES`.
        ledger: A ledger of the directory, for the record.
        clock: Source of the time in the record.
        by: Who has it erased, 1 to 256 visible characters. Nothing checks this.
        reason: Why, one printable line of at most 256 characters. It stands in the ledger for good.

    Raises:
        ValueError: A name or the reason has another form.
        ConfigurationError: The ledger knows no such task or principal. In a directory with pseudonyms nobody can tell a
            principal that it never knew from one that was erased, and nothing is done. Or a request for approval
            cannot be read; all else was erased.
        EvidenceError: The erasure could not be recorded, or not all keys could be erased; try again.
    """
    _check(name, by, reason)
    digests = DigestKeys(Path(directory) / "keys" / "digests.jsonl")
    pseudonyms = pseudonyms_of(directory, wanted=False) if kind == "principal" else None
    mapped = [] if pseudonyms is None else _mapped(pseudonyms, name)
    names = _names(kind, name, pseudonyms)
    ids = {shown: _ids(directory, kind, shown) for shown in dict.fromkeys((*mapped, name))}
    if pseudonyms is None and not any(ids.values()):
        raise ConfigurationError(
            f"expected a {kind} that the ledger knows, got another; see 'agent-identity show', and give the whole id"
        )
    every, erased, record = frozenset[str]().union(*ids.values()), 0, None
    for shown, tasks in ids.items():
        keys = digests.count(tasks)
        if keys or shown in mapped:
            if kind != "principal":
                erased_key = records.Erased(key=shown, by=by, reason=reason)
            else:
                erased_key = records.Erased(principal=shown, keys=str(keys), by=by, reason=reason)
            record = ledger.append(partial(Erasure, time=Time.at(clock.wall_ns()), erasure=erased_key)).id
            erased += keys
    if record is not None:
        ledger.seal()
        digests.erase(every)
    if pseudonyms is not None:
        pseudonyms.erase(name)  # Also what an erasure left that power loss ended.
    requests = ApprovalBox(Path(directory) / "approvals").erase(every, names)
    return Erased(len(every), erased, record, bool(mapped), requests)


def _check(name: str, by: str, reason: str | None) -> None:
    check_id(name, "name of what to erase")
    check_id(by, "name of who has it erased")
    if reason is not None and not (0 < len(reason) <= _MAX_REASON and reason.isprintable()):
        raise ValueError(f"expected a reason of one printable line, 1 to {_MAX_REASON} characters")


def _mapped(pseudonyms: Pseudonyms, name: str) -> list[str]:
    """Return the pseudonyms that still lead to the principal with this id, or that are this id."""
    if name.startswith(PSEUDONYM_PREFIX):
        return [name] if pseudonyms.name_of(name) is not None else []
    found = (pseudonyms.find(kind, name) for kind in ("human", "service"))
    return [pseudonym for pseudonym in found if pseudonym is not None]


def _names(kind: ErasedKind, name: str, pseudonyms: Pseudonyms | None) -> set[str]:
    """Return by which ids a request for approval may name the principal, as far as that is known."""
    if kind != "principal":
        return set()
    found = None if pseudonyms is None else pseudonyms.name_of(name)
    return {name} if found is None else {name, found[1]}


def _ids(directory: str | os.PathLike[str], kind: ErasedKind, name: str) -> frozenset[str]:
    """Return the ids under which digests of what is named have their keys."""
    if kind == "resources":
        return frozenset((name,))
    reader = open_ledger(directory)
    streams = tuple(reader.streams())
    if kind == "task" and name in streams:
        return frozenset((name,))
    wanted, found = name.encode(), set[str]()
    for stream in streams:
        for line in reader.entries(stream):
            if line.record is not None and (kind == "principal" or wanted in line.record):
                found.update(_task_of(line.record, kind, name))
    return frozenset(found)


def _task_of(data: bytes, kind: ErasedKind, name: str) -> tuple[str, ...]:
    """Return the task of a record if it is about what is named."""
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
