"""What a verification misses in one ledger, and what the ledgers of other hosts have of it."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias, final

from agent_identity._identity.keys.jws import token_hash
from agent_identity._record.schema import AnyRecord, Approval, Grant, TaskStart
from agent_identity.errors import TokenError

_MOST: Final = 10_000

Missing: TypeAlias = tuple[Literal["grant", "task", "approval"], str]
"""What is missing: a grant by its hash, the opening of a task by its id, or the request of an approval by its id."""


class Found(NamedTuple):
    """A record of another host.

    Attributes:
        host: The name of the place that has it.
        record: The record.
    """

    host: str
    record: AnyRecord


@final
class Elsewhere:
    """Answers what one ledger does not have from the records of others, and notes what it asked for.

    Args:
        found: The records of others, by what they answer.

    Attributes:
        asked: What was asked for and is not there, up to a limit.
        contradicted: The number of contradictions that consist in something missing.
    """

    def __init__(self, found: Mapping[Missing, Found] | None = None) -> None:
        self._found: Mapping[Missing, Found] = {} if found is None else found
        self.asked: set[Missing] = set()
        self.contradicted = 0

    def ask(self, missing: Missing) -> AnyRecord | None:
        """Return the record of another host that has what is missing, if one is known."""
        found = self._found.get(missing)
        if found is None and len(self.asked) < _MOST:
            self.asked.add(missing)
        return None if found is None else found.record

    def host_of(self, missing: Missing) -> str:
        """Return the name of the place that has what was missing."""
        return self._found[missing].host


def answers(record: AnyRecord) -> list[Missing]:
    """Return what a record answers."""
    if isinstance(record, Grant):
        return [*_grants(record), ("task", record.task.id)]
    if isinstance(record, TaskStart):
        return [("task", record.task.id)]
    if isinstance(record, Approval) and record.approval.status == "pending":
        return [("approval", record.approval.id)]
    return []


def _grants(record: Grant) -> list[Missing]:
    named = record.chain[-1].grant
    try:
        return [("grant", named)] if token_hash(record.grant.token) == named else []
    except TokenError:
        return []
