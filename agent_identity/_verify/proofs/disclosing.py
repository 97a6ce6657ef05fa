"""Makes the file that discloses arguments of one call and nothing of the others."""

from collections.abc import Collection, Mapping
from pathlib import Path

from agent_identity._identity.common.ids import is_digest
from agent_identity._record.digests import DigestKeys
from agent_identity._record.disclosures import Disclosure, action_of, argument_names
from agent_identity._record.schema import AnyRecord, Intent, OfTask, Outcome
from agent_identity._verify.inputs.sources import PathLike
from agent_identity._verify.proofs.proving import Wanted, find_record
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError, VerificationError


def disclose(
    directory: PathLike,
    record: Wanted,
    arguments: Mapping[str, JSON],
    *,
    names: Collection[str] | None = None,
    show_task_key: bool = False,
    keys: PathLike | None = None,
) -> bytes:
    """Return the file that shows arguments of a call to a verifier who checks them against its proved record.

    The ledger does not hold the arguments: pass all arguments of the call, even to show one.

    Args:
        directory: The evidence directory.
        record: The id of the intent or outcome; or its stream and place.
        arguments: The arguments of the call that are not opaque, by name.
        names: Those to show; ``None`` for all.
        show_task_key: For records with one digest of all arguments (an enforcer without
            ``Privacy(disclosable=True)``): put the key of the task into the file. Its holder can try
            values on every digest of the task.
        keys: The folder of the keys, if it is outside the directory.

    Raises:
        VerificationError: The record is of other arguments (``other_arguments``), has no arguments
            (``no_arguments``), can only be shown with the key of its task (``not_disclosable``), or was changed.
        ConfigurationError: There is no such directory or record, or its key was erased (``erased``).
        EvidenceError: The keys cannot be read.
    """
    found = find_record(directory, record)
    action = action_of(found)
    digest = None if action is None else action.args
    if digest is not None and is_digest(digest) and not show_task_key:
        raise VerificationError(
            "the record was made without Privacy(disclosable=True), so its arguments can be shown only with the key of "
            "their task, which opens all digests of the task to guessing; --with-task-key does that",
            code="not_disclosable",
        )
    if not argument_names(found) and digest is None:
        raise VerificationError("the record is not of a call with arguments", code="no_arguments")
    try:
        folder = Path(directory) / "keys" if keys is None else Path(keys)
        key = DigestKeys(folder / "digests.jsonl").kept(_key_of(found))
    except ConfigurationError as error:
        raise VerificationError(str(error), code=error.code) from None
    return Disclosure.of(found, arguments, key, names).to_bytes()


def _key_of(record: AnyRecord) -> str:
    """Return the name of the key of a record: its task, or outside any its stream."""
    task = record.task if isinstance(record, OfTask | Intent | Outcome) else None
    return record.stream.id if task is None else task.id
