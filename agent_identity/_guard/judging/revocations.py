"""The kill switch: every call checks whether its authority has been revoked."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, cast, final, get_args

from agent_identity._authority.grants.grants import Chain, Grant
from agent_identity._authority.registries.revocations import (
    EVERYTHING,
    Revocation,
    RevocationList,
    RevocationStatus,
    RevokedKind,
    successors_in,
    trusted_revocations,
    with_successors,
)
from agent_identity._authority.stores.directory import DirectoryState
from agent_identity._authority.stores.memory import MemoryState
from agent_identity._authority.stores.protocol import StateStore
from agent_identity._guard.common.followed_trust import FollowedTrust
from agent_identity._guard.common.threads import HERE, has_loop, in_background
from agent_identity._guard.tasks.task import Task
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.principals.principals import Agent, Human, Principal, Service
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.ledger import Ledger
from agent_identity._record import schema as records
from agent_identity._record.parts import RevocationChange, RevocationState, Time
from agent_identity._record.pseudonyms import Pseudonyms
from agent_identity.errors import ConfigurationError, Denied, StateError, TokenError

LIST_NAME: Final = "revocations"
"""The store's name of the signed list."""

_NS: Final = 1_000_000_000
_ATTEMPTS: Final = 1_000
_PATIENCE: Final = 3  # Failed turns of a list source before nothing runs any more.


@final
class Revocations:
    """The newest revocation list in the shared state.

    Processes that share the state see a new list at the next call. A list never goes back: this process remembers
    the newest list seen, and the state takes greater versions only. If the state is restored from an older backup, its
    newer revocations count as well. A suspension lost from the state stays here until :meth:`reinstate` or a restart;
    other processes follow once it is suspended and reinstated again in a newer version.

    Args:
        state: Holds the list.
        ledger: Records the changes.
        signer: The issuer's key, which signs new versions.
        trust: The trusted keys, and the issuer's URI; it follows the successors that come with a list.
        clock: Source of time.
        forbid: Refuses acts that are forbidden to guarded bodies.
        pseudonyms: The pseudonyms of principals, by which the list names them.

    Attributes:
        known: The newest list that this process has taken; the state is not asked.
    """

    __slots__ = (
        "_beside",
        "_clock",
        "_feed",
        "_forbid",
        "_found",
        "_generation",
        "_ledger",
        "_lock",
        "_near",
        "_pseudonyms",
        "_reads",
        "_signer",
        "_state",
        "_taken",
        "_trust",
        "known",
    )

    def __init__(
        self,
        state: StateStore,
        ledger: Ledger,
        *,
        signer: Signer,
        trust: FollowedTrust,
        clock: Clock,
        forbid: Callable[[str, str, str], None],
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        self._forbid = forbid
        self._pseudonyms = pseudonyms
        self._state = state
        # Any other store may block.
        self._near = state if isinstance(state, DirectoryState | MemoryState) else None
        self._ledger = ledger
        self._signer = signer
        self._trust = trust
        self._clock = clock
        self.known = RevocationList()
        # The latest list from the state, parsed and as signed.
        self._found: tuple[RevocationList, bytes] = RevocationList(), b""
        # Reentrant, because a signal handler may revoke while this thread is inside.
        self._lock = threading.RLock()
        self._reads = 0  # The number of reads of the state, and of the latest accepted read.
        self._taken = 0
        self._generation: int | None = None
        self._feed: _Feed | None = None
        self._beside: Revocations | None = None

    def heed(self, state: StateStore) -> None:
        """Obey the list in another state as well: that of the directory, which the command line writes.

        Args:
            state: The other state; nothing is written to it.
        """
        self._beside = Revocations(
            state,
            self._ledger,
            signer=self._signer,
            trust=self._trust,
            clock=self._clock,
            forbid=self._forbid,
            pseudonyms=self._pseudonyms,
        )

    def check(self, who: Chain | Human) -> None:
        """Check that nothing in a chain is revoked or suspended, or no one: a person who decides, or acts for one.

        Raises:
            Denied: With code ``revoked`` or ``suspended``; ``state_unavailable`` or ``revocations_unreadable``
                if the list cannot be read.
        """
        try:
            if HERE.may_wait and not self.is_current():
                self._catch_up()
            if self._beside is not None:
                self._beside.check(who)
        except StateError as error:
            raise Denied(
                f"the shared state with the revocations failed ({error.code}); bring the store "
                "back, the next call tries again",
                code="state_unavailable",
            ) from None
        if self.known.entries:
            entry = self._find(who)
            if entry is not None:
                raise _refusal(entry)

    def _find(self, who: Chain | Human) -> Revocation | None:
        """Return the entry of the known list that revokes or suspends a chain or a person, if any."""
        if isinstance(who, Human):
            return self.known.find_person(who, self._aliases(who))
        return self.known.find(who, self._aliases(who.root.principal))

    def _aliases(self, principal: Principal) -> Iterator[tuple[str, str]]:
        """Yield the pseudonyms of a principal and of all who act for it, which the list names where there are any."""
        for name in (principal.id, *principal.via) if self._pseudonyms is not None else ():
            for kind in ("human", "service"):
                found = self._pseudonyms and self._pseudonyms.find(kind, name)
                if found:
                    yield kind, found

    def _catch_up(self) -> None:
        """Read new lists from all sources."""
        if self._feed is not None:
            self._feed.look(self.adopt, self._clock.monotonic_ns())
        # Read first: a list that arrives meanwhile is read now or at the next call, and never missed.
        generation = self._state.generation()
        if generation != self._generation:
            self._read()
            self._generation = generation

    def is_current(self) -> bool:
        """Return, without blocking, whether the list is current; False if unknown."""
        if self._near is None or (self._feed is not None and self._feed.is_due(self._clock.monotonic_ns())):
            return False
        generation = self._near.generation_at_once(_look)
        if generation is None or generation != self._generation:
            return False
        return self._beside is None or self._beside.is_current()

    def fault(self) -> tuple[str, str] | None:
        """Return the component and the problem that refuses every call now, if any.

        On an event loop, a state that may block is not asked.
        """
        try:
            if HERE.may_wait and not self.is_current():
                self._catch_up()
        except (StateError, Denied) as error:
            return ("state" if isinstance(error, StateError) else "revocations", str(error))
        for entry in self.known.entries:
            if entry.kind == "everything":
                return "revocations", str(_refusal(entry))
        return None if self._beside is None else self._beside.fault()

    @property
    def unanswered_ns(self) -> int | None:
        """Nanoseconds since the source that is followed last answered; ``None`` if none is followed."""
        return None if self._feed is None else self._feed.unanswered_ns(self._clock.monotonic_ns())

    @property
    def current(self) -> RevocationList:
        """The current list in the state.

        Raises:
            StateError: The state does not answer.
            Denied: The list is unreadable.
        """
        self._read()
        return self.known

    def revoke(self, kind: RevokedKind, name: str, *, reason: str | None = None, suspend: bool = False) -> None:
        """See :meth:`Enforcer.revoke`."""
        status: RevocationStatus = "suspended" if suspend or kind == "everything" else "revoked"

        def make(listed: RevocationList, now: int) -> RevocationList:
            return listed.adding(Revocation(kind, name, status, since=now, reason=reason), now=now)

        self._record(kind, name, status, self._change(make), reason)

    def reinstate(self, kind: RevokedKind, name: str) -> None:
        """See :meth:`Enforcer.reinstate`."""
        self._forbid("reinstate", "revocation", "reinstate_in_body")
        changed = self._change(lambda listed, now: listed.lifting(kind, name, now=now))
        self._record(kind, name, "reinstated", changed, None)

    def _change(self, make: Callable[[RevocationList, int], RevocationList]) -> RevocationList:
        """Replace the newest version by a new one; concurrent changes are not lost."""
        for _ in range(_ATTEMPTS):
            known = self.current
            changed = make(known, self._clock.wall_ns() // _NS)
            data = self._signed(changed)
            if self._state.put(LIST_NAME, changed.version, data):
                with self._lock:  # It was made from the list known here, which may have more than the state.
                    if self._found[0].version <= changed.version:
                        self._found = known, b""
                return self.current
        raise StateError("many others change the list of revocations; try again")

    def _signed(self, listed: RevocationList) -> bytes:
        """Return a list signed by the key here, with the successors that lead to this key.

        Raises:
            ConfigurationError: The key does not count any more, so that the list would stop everything everywhere.
        """
        data = listed.sign(self._signer, issuer=self._trust.now.issuer or "")
        try:
            trusted_revocations(data, self._trust.follow())
        except TokenError as error:
            raise ConfigurationError(
                f"the issuer key of this process does not count any more ({error.code}), and a list that it signs "
                "would stop everything; open the directory again, and change the list then",
                code=error.code,
            ) from None
        return with_successors(data, self._trust.successors())

    def _record(
        self, kind: RevokedKind, name: str, status: RevocationState, changed: RevocationList, reason: str | None
    ) -> None:
        change = RevocationChange(kind=kind, name=name, status=status, version=str(changed.version), reason=reason)
        self._ledger.append(partial(records.Revocation, time=Time.at(self._clock.wall_ns()), revocation=change))

    def follow(self, source: Callable[[], bytes], *, every: float) -> None:
        """Follow lists from elsewhere from now on, for processes that do not share the issuer's state.

        The source is called during a call, once ``every`` seconds have passed; it should answer fast. While it fails,
        the latest list counts, and after three failed turns nothing runs.

        Args:
            source: Returns a list from :meth:`export` elsewhere; it may raise :class:`OSError`.
            every: Seconds, from 1 to 3,600.

        Raises:
            ValueError: ``every`` is out of range.
            OSError: The source fails the first time.
            TokenError: Its first list is not of a trusted issuer.
        """
        if not 1 <= every <= 3_600:
            raise ValueError("every is out of range; use 1 to 3,600 seconds")
        self.adopt(source())
        self._feed = _Feed(source, int(every * _NS), self._clock.monotonic_ns())

    def adopt(self, data: bytes) -> RevocationList:
        """Adopt a signed list from elsewhere, if it is newer than the current one.

        Args:
            data: The result of :meth:`export` elsewhere.

        Returns:
            The newest list, which may be another one.

        Raises:
            TokenError: The list is malformed or not signed by a trusted issuer.
            StateError: The state does not answer.
        """
        theirs = trusted_revocations(data, self._trust.follow(successors_in(data)))
        self._state.put(LIST_NAME, theirs.version, data)
        return self.current

    def sign_again(self) -> RevocationList:
        """Sign the newest list anew with the current issuer key, after the key that signed it was revoked.

        Until then nothing runs, since a thief of the key may have signed the list: check the returned list.

        Raises:
            StateError: The state does not answer.
            TokenError: The list is malformed, or its key was never trusted.
            ConfigurationError: Nothing was ever revoked.
        """
        found = self.export()
        listed = trusted_revocations(found, self._trust.follow(successors_in(found)), of_revoked_keys=True)
        now = self._clock.wall_ns() // _NS
        known = listed.keeping(self.known, before=self._found[0])
        again = RevocationList(known.version + 1, now, known.entries)
        self._state.put(LIST_NAME, again.version, self._signed(again))
        return self.current

    def export(self) -> bytes:
        """Return the newest signed list, for processes that do not share the state.

        Raises:
            StateError: The state does not answer.
            ConfigurationError: Nothing was ever revoked.
        """
        kept = self._state.get(LIST_NAME)
        if kept is None:
            raise ConfigurationError("nothing has been revoked yet; revoke something first")
        return kept[1]

    def _read(self) -> None:
        with self._lock:
            self._reads = number = self._reads + 1
        kept = self._state.get(LIST_NAME)  # Outside the lock: it may block, and threads read concurrently.
        with self._lock:
            if number < self._taken:
                return  # A later read has answered: this list may be older, and adds nothing.
            if kept is None or kept[1] == self._found[1]:
                self._taken = number
                return
            try:
                listed = trusted_revocations(kept[1], self._trust.follow(successors_in(kept[1])))
                newest = listed.keeping(self.known, before=self._found[0])
            except TokenError as error:
                raise Denied(
                    f"the list of revocations in the shared state does not verify here ({error.code}), so nothing "
                    "runs; machines that share a store need one issuer URI and each other's issuer keys in their "
                    "trust.json, and a process that cannot follow a new key has to open its directory again",
                    code="revocations_unreadable",
                ) from None
            except ValueError as error:
                raise Denied(
                    "the list of revocations in the shared state was rolled back, and contradicts the list that is "
                    f"known here ({error}), so nothing runs; restore the newest state and open the directory again",
                    code="revocations_unreadable",
                ) from None
            if number >= self._taken:  # As above, since what interrupts this thread may read as well.
                self.known, self._found = newest, (listed, kept[1])
                self._taken = number  # Only now: a refused list stays unread.

    def after_fork_in_child(self) -> None:
        """Replace the locks, which another thread of the parent may have held."""
        self._lock = threading.RLock()
        self._trust.after_fork_in_child()
        if self._beside is not None:
            self._beside.after_fork_in_child()


@final
class _Feed:
    """A source of lists elsewhere, polled now and then."""

    __slots__ = ("_due", "_every", "_seen", "_source")

    def __init__(self, source: Callable[[], bytes], every_ns: int, now_ns: int) -> None:
        self._source = source
        self._every = every_ns
        self._seen = now_ns
        self._due = now_ns + every_ns

    def is_due(self, now_ns: int) -> bool:
        """Return whether the source is due."""
        return now_ns >= self._due

    def unanswered_ns(self, now_ns: int) -> int:
        """Return the nanoseconds since the source last answered."""
        return now_ns - self._seen

    def look(self, adopt: Callable[[bytes], object], now_ns: int) -> None:
        """Poll the source if it is due.

        Raises:
            Denied: The source has failed for too long (``revocations_stale``).
        """
        if not self.is_due(now_ns):
            return
        self._due = now_ns + self._every
        try:
            adopt(self._source())
            self._seen = now_ns
        except (OSError, TokenError):
            pass  # An old list again is no failure; an unreadable one is.
        if now_ns - self._seen > _PATIENCE * self._every:
            self._due = now_ns  # Every call retries.
            raise Denied(
                "the source of revocations has failed for too long; repair it, the next call asks it again",
                code="revocations_stale",
            )


def read_list(directory: Path, data: bytes, clock: Clock) -> RevocationList:
    """Return a signed list from the state of a directory, under its trust file and the successors that lead on.

    Raises:
        TokenError: It does not verify.
        ConfigurationError: The trust file is unusable.
    """
    trust = FollowedTrust(TrustStore.load(directory / "trust.json"), clock, directory=directory)
    return trusted_revocations(data, trust.follow(successors_in(data)))


def _look(step: Callable[[], object]) -> None:
    """Poll a state file: at once, or in the background on an event loop."""
    if has_loop():
        in_background(step)
    else:
        step()


def named(what: object, name: str | None) -> tuple[RevokedKind, str]:
    """Return kind and name of the object to revoke.

    Raises:
        TypeError: The object cannot be revoked.
    """
    if type(what) is str and what in get_args(RevokedKind):
        own = EVERYTHING if what == "everything" and name is None else name
        if own is None:
            raise TypeError(f"the name is missing; give the name of the {what} after the kind")
        return cast("RevokedKind", what), own
    if name is not None:
        raise TypeError(f"the kind is unknown; before a name use one of {', '.join(get_args(RevokedKind))}")
    return _named_by_itself(what)


def _named_by_itself(what: object) -> tuple[RevokedKind, str]:
    match what:
        case Task():
            return "task", what.id
        case Grant():
            return "grant", what.hash
        case Agent():
            return "agent", what.id
        case Human() | Service():
            return what.kind, what.id
        case _:
            raise TypeError(
                f"{type(what).__name__} cannot be revoked; give a task, grant, agent or principal, or one of "
                f"{', '.join(get_args(RevokedKind))}"
            )


def _refusal(entry: Revocation) -> Denied:
    what = "everything" if entry.kind == "everything" else f"the {entry.kind}"
    why = f": {entry.reason}" if entry.reason else ""
    way = "wait until it is reinstated" if entry.status == "suspended" else "nothing lifts that"
    return Denied(f"{what} is {entry.status}{why}; {way}", code=entry.status)
