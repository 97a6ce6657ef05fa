"""Verifies the signed marks with which hops of other processes answer."""

from typing import Final, final

import orjson

from agent_identity._authority.grants.grants import Grant, grant_of
from agent_identity._flow.labels import TRUSTED, Label
from agent_identity._identity.keys.jws import parse_compact
from agent_identity._record.schema import Grant as GrantRecord
from agent_identity._record.schema import Mark
from agent_identity._verify.store.spill_store import SpillStore
from agent_identity.canonical import decode
from agent_identity.errors import TokenError

__all__ = ["AnsweredMarks"]

_NEAR: Final = 1_024


@final
class AnsweredMarks:
    """The grants of a stream, and whether marks are signed by the holders of what was handed out."""

    def __init__(self) -> None:
        self._tokens = SpillStore[str](orjson.dumps, orjson.loads, near=_NEAR)

    def take(self, record: GrantRecord) -> None:
        """Keep a grant."""
        self._tokens.put(record.chain[-1].grant.encode(), record.grant.token)

    def holds(self, record: Mark) -> bool | None:
        """Return whether the mark of an answer says no more than its signed one.

        Args:
            record: A mark with the cause ``answer``.

        Returns:
            ``None`` if a grant is not here.
        """
        from agent_identity._authority.grants.signed_marks import signer_of_mark, verify_mark  # Few ledgers have marks.

        change = record.mark
        try:
            by = self._grant(signer_of_mark(change.token or ""))
            handed = self._grant(change.origin or "")
            if by is None or handed is None:
                return None
            mark = verify_mark(change.token or "", by.holder)
            joined = TRUSTED if change.joined is None else Label.parse(change.joined)
            same = (mark.by, mark.grant, by.parent_hash) == (by.hash, handed.hash, handed.parent_hash)
            return same and joined.is_within(Label.parse(mark.label))
        except (TokenError, ValueError):
            return False

    def _grant(self, name: str) -> Grant | None:
        token = self._tokens.get(name.encode())
        if token is None:
            return None
        claims = decode(parse_compact(token).payload)
        return grant_of(token, claims) if isinstance(claims, dict) else None
