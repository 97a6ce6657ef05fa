"""Marks that one process knows of others: of hops that it handed out, and in the shared state, of hops and threads.

A thread is what a framework keeps between two runs, such as the messages of a checkpoint. Its mark only falls. The
shared state keeps it for 31 days after the last task in it.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, final

from agent_identity._authority.grants.signed_marks import SignedMark, verify_mark
from agent_identity._authority.stores.protocol import StateStore
from agent_identity._flow.labels import TRUSTED, UNKNOWN, UNTRUSTED, Label
from agent_identity._guard.tasks.remembered import Fact, Remembered
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.keys.keys import PublicKey
from agent_identity.errors import TokenError

MARK_WORDS: Final = ("kept", "unknown", "untrusted", "restricted")
"""The keys of a mark in the shared state, where each only restricts: nothing has to be read before."""

_MAX_PENDING: Final = 64

_LATE: Final = 60
_NS: Final = 1_000_000_000

_DAY: Final = 24 * 3600
_KEPT: Final = 31 * _DAY


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


@final
class HopMarks:
    """The marks of hops in the shared state.

    Args:
        state: The shared state.
        clock: Source of time.
    """

    __slots__ = ("_clock", "_state")

    def __init__(self, state: StateStore, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def lower(self, hop: str, label: Label, expires_at: int) -> None:
        """Lower the mark of a hop.

        Raises:
            StateError: The state cannot be asked, or has no room.
        """
        for word in words_of(label):
            self._state.insert(f"flow:{hop}:{word}", now=self._now(), expires_at=expires_at + _LATE)

    def find(self, hop: str) -> Label | None:
        """Return the mark of a hop; ``None`` if no one keeps one.

        Raises:
            StateError: The state cannot be asked.
        """
        now = self._now()
        return label_of_words([word for word in MARK_WORDS if self._state.contains(f"flow:{hop}:{word}", now=now)])

    def is_over(self, expires_at: int) -> bool:
        """Return whether no one can act under a grant any more."""
        return expires_at + _LATE <= self._now()

    def _now(self) -> int:
        return self._clock.wall_ns() // _NS


class KeptMark(NamedTuple):
    """The mark of a thread. Frozen.

    Attributes:
        label: The mark.
        day: The day of the last task in it.
    """

    label: Label
    day: object


@final
class ThreadMarks:
    """The marks of threads in the shared state.

    Args:
        state: The shared state.
        clock: Source of time.
    """

    __slots__ = ("_clock", "_marks")

    def __init__(self, state: StateStore, clock: Clock) -> None:
        self._marks = Remembered(state, clock, "thread")
        self._clock = clock

    def find(self, thread: str) -> KeptMark | None:
        """Return the mark of a thread; ``None`` for one that no one has been in.

        Raises:
            StateError: The state cannot be asked.
        """
        fact = self._marks.find(thread)
        return None if fact is None else KeptMark(_label_of(fact), fact.get("day"))

    def needs(self, kept: KeptMark | None, label: Label) -> bool:
        """Return whether a mark has to be lowered to the meet with a label, or kept for longer.

        Args:
            kept: The mark.
            label: The label.
        """
        return kept is None or kept.day != self._day() or not kept.label.is_within(label)

    def lower(self, thread: str, label: Label) -> None:
        """Lower the mark of a thread to the meet with a label.

        Raises:
            StateError: The state cannot be asked, or has no room.
        """

        def lowered(before: Fact | None) -> Fact | None:
            kept = None if before is None else KeptMark(_label_of(before), before.get("day"))
            if not self.needs(kept, label):
                return None
            return {"label": str(label.meet(TRUSTED if kept is None else kept.label)), "day": self._day()}

        self._marks.change(thread, lowered, seconds=_KEPT)

    def _day(self) -> int:
        return self._clock.wall_ns() // _NS // _DAY


def _label_of(fact: Mapping[str, object]) -> Label:
    """Return the label of a thread; what no one can read may be the most restricted one."""
    try:
        return Label.parse(str(fact.get("label")))
    except ValueError:
        return UNTRUSTED
