"""Marks of hops in other processes, as the process that handed them out knows them."""

from collections.abc import Collection
from typing import Final, NamedTuple, final

from agent_identity._authority.grants.signed_marks import SignedMark, verify_mark
from agent_identity._flow.labels import TRUSTED, UNKNOWN, UNTRUSTED, Label
from agent_identity._identity.keys.keys import PublicKey
from agent_identity.errors import TokenError

MARK_WORDS: Final = ("kept", "unknown", "untrusted", "restricted")
"""The keys of a mark in the shared state, where each only restricts: nothing has to be read before."""

_MAX_PENDING: Final = 64


class MarkSigner(NamedTuple):
    """The party whose signature on a mark counts: the hash of its grant, and its key."""

    grant: str
    key: PublicKey


@final
class ExportedMark:
    """The mark of one hop that was handed out.

    Without a shared state a hop is as trusted as the marks that it signs, and untrusted while an answer is missing.

    Args:
        hop: The hash of the grant that was handed out.
        expires_at: Its end, in Unix seconds.
        signer: The holder whose signature counts; ``None`` if no one's does.

    Attributes:
        expires_at: See above.
        known: The mark that was joined last.
    """

    __slots__ = ("_answer", "_hop", "_pending", "_seq", "_signer", "expires_at", "known")

    def __init__(self, hop: str, expires_at: int, signer: MarkSigner | None) -> None:
        self.expires_at = expires_at
        self.known: Label | None = None
        self._hop = hop
        self._signer = signer
        self._pending: set[str] = set()
        self._answer: Label | None = None
        self._seq = 0

    @property
    def answered(self) -> Label | None:
        """The meet of all signed marks; ``None`` while an answer is missing."""
        return None if self._pending else self._answer

    def ask(self, call: str) -> None:
        """Expect a mark for a call. Of a hop with too many missing answers none counts any more."""
        self._pending.add(call)
        if len(self._pending) > _MAX_PENDING:
            self._signer = None

    def miss(self, call: str) -> None:
        """Know that no mark that counts came back; what is handed out for more than one call may answer again."""
        if call == self._hop:
            self.ask(call)

    def check(self, call: str, token: str | None) -> Label:
        """Return the label of a signed mark.

        Args:
            call: The call that it came back from.
            token: The mark; ``None`` if none came.

        Raises:
            TokenError: No one signed it, another one did, it is malformed, for another call or hop, or stale.
        """
        if token is None or self._signer is None:
            raise TokenError("the answer carries no mark that counts", code="no_mark")
        mark = verify_mark(token, self._signer.key)
        same = (mark.by, mark.call, mark.grant) == (self._signer.grant, call, self._hop)
        if not same or call not in self._pending | {self._hop}:
            raise TokenError("the mark is for another call", code="wrong_mark")
        if call == self._hop and int(mark.seq) < self._seq:
            raise TokenError("the mark is older than one that came before", code="stale_mark")
        return _label(mark)

    def take(self, call: str, label: Label, token: str) -> None:
        """Count a mark that was checked and recorded.

        Args:
            call: See :meth:`check`.
            label: The label that it returned.
            token: The mark.
        """
        if self._signer is not None:  # pragma: no branch  It was checked.
            self._seq = max(self._seq, int(verify_mark(token, self._signer.key).seq))
        self._pending.discard(call)
        self._answer = label.meet(self._answer or TRUSTED)
        self.known = self._answer


def _label(mark: SignedMark) -> Label:
    try:
        return Label.parse(mark.label)
    except ValueError:
        raise TokenError("the label of the mark is malformed", code="bad_mark") from None


def words_of(label: Label) -> list[str]:
    """Return the keys of a mark for the shared state."""
    words = ["kept"]
    if label.integrity != "trusted":
        words.append(label.integrity)
    if label.readers is not None:
        words.append("restricted")  # Of readers the state knows only that there are some: then no one is one.
    return words


def label_of_words(words: Collection[str]) -> Label | None:
    """Return the mark with these keys in the shared state; ``None`` if no one keeps one there."""
    if "kept" not in words:
        return None
    integrity = UNTRUSTED if "untrusted" in words else UNKNOWN if "unknown" in words else TRUSTED
    return integrity.meet(Label("trusted", frozenset())) if "restricted" in words else integrity
