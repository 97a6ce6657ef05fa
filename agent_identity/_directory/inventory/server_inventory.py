"""The inventory of servers and their tools: in memory, or in the signed file ``inventory.json`` of a directory.

The file has two lines: a token of the issuer over the digest of the second line and over a number that only grows,
and the inventory as canonical JSON. Writing the directory without the issuer's key cannot change the valid
inventory; every process that knew a newer file detects an older one.
"""

import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, NamedTuple, final, get_args

from agent_identity._authority.registries.server_inventories import (
    INVENTORY_NAME,
    INVENTORY_TYPE,
    INVENTORY_VERSION,
    open_inventory,
)
from agent_identity._authority.stores.forks import renewed_in_children
from agent_identity._authority.stores.protocol import StateStore
from agent_identity._common.narrowing import int_of, text_of, word_of
from agent_identity._directory.inventory.pinned_servers import (
    MAX_TEXT,
    Definition,
    Observation,
    OfferedTool,
    PinnedServer,
    ServerInventory,
    Transport,
    accepted,
    forgotten,
    given,
    sighted,
    with_less_text,
)
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.common.followed_trust import FollowedTrust
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.common.private_files import read_public_file, replace_public_file
from agent_identity._identity.keys.jws import sign_compact
from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.ledger import Ledger
from agent_identity._record import schema as records
from agent_identity._record.parts import Time
from agent_identity._storage.os_files import EDIT, Files, locked, open_regular, why
from agent_identity.canonical import JSON, encode
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied, TokenError

_LOG: Final = logging.getLogger("agent_identity")
_MARK: Final = "inventory"
_USUAL: Final = 16 * 1024 * 1024
"""Bytes of an inventory with text; a larger one keeps less text."""

_MAX_FILE: Final = 128 * 1024 * 1024
"""Maximum size of an inventory, in bytes: more than all servers together can have without text."""

_LINE: Final = 4096
"""Maximum size of the first line, in bytes."""

_TRANSPORTS: Final[frozenset[Transport]] = frozenset(get_args(Transport))


def inventory_path(directory: str | os.PathLike[str]) -> str:
    """Return the path of the inventory of a directory."""
    return os.path.join(os.path.abspath(directory), INVENTORY_NAME)  # noqa: PTH118  No links are resolved.


class _State(NamedTuple):
    """An inventory and its number."""

    number: int
    book: ServerInventory


_EMPTY: Final = _State(0, {})


@final
class InventoryFile:
    """Reads and writes the file of an inventory.

    Args:
        path: The path of the file.
        trust: The trusted keys; those trusted as issuer may sign it.
        state: Remembers the newest number, for processes that never saw the file.
    """

    __slots__ = ("_known", "_stamp", "_state", "_trust", "path")

    def __init__(self, path: str, trust: TrustStore | FollowedTrust, state: StateStore | None = None) -> None:
        self.path = path
        self._trust = trust
        self._state = state
        self._known = _EMPTY
        self._stamp: tuple[int, ...] | None = None

    def load(self) -> ServerInventory:
        """Return the inventory in the file now; a missing file is an empty inventory.

        Raises:
            TokenError: The file does not verify, or is older than one read before (``inventory_rolled_back``).
            ConfigurationError: The file cannot be read.
            StateError: The state does not answer.
        """
        stamp = self._look()
        if stamp is None or stamp != self._stamp:
            self._known, self._stamp = self._continued(stamp), stamp
        return self._known.book

    def change(
        self, by: Callable[[ServerInventory], ServerInventory], signer: Signer, *, anew: bool = False
    ) -> ServerInventory:
        """Change the inventory under a lock, and return it.

        Args:
            by: Returns the next inventory for the current one; the same one writes nothing.
            signer: A key that is trusted as issuer.
            anew: Continue from the existing file, even if a newer one was seen: someone takes responsibility.

        Raises:
            TokenError: The existing file does not verify, or the signer is not trusted.
            ConfigurationError: The file cannot be read or written, or another writer hangs.
            StateError: The state does not answer.
        """
        system = Files()
        try:
            fd = open_regular(system, f"{self.path}.lock", EDIT)
            try:
                with locked(system, fd):
                    before = self._found(self._look()).book if anew else self.load()
                    after = by(before)
                    if after is not before:
                        content = _written(_State(max(self._known.number, self._seen()) + 1, after), signer)
                        self._read(content)  # Never write an unreadable file.
                        replace_public_file(self.path, content)
                        return self.load()  # Perhaps with less text.
                    return after
            finally:
                system.close(fd)
        except OSError as error:
            raise ConfigurationError(
                f"cannot change the inventory {self.path!r}: '{why(error)}'; check its folder, and whether "
                "another writer hangs"
            ) from None

    def _found(self, stamp: tuple[int, ...] | None) -> _State:
        return _EMPTY if stamp is None else self._read(read_public_file(self.path, limit=_MAX_FILE + _LINE))

    def _read(self, data: bytes) -> _State:
        if isinstance(self._trust, TrustStore):
            return _read(data, self._trust)
        return self._trust.trying(lambda trust: _read(data, trust))

    def _continued(self, stamp: tuple[int, ...] | None) -> _State:
        # The stamp is older than the read: after a concurrent change, the next look sees another stamp.
        state = self._found(stamp)
        later = max(self._known.number, self._seen())
        if state.number < later:
            raise TokenError(
                "the inventory is older than one that was seen, or missing; restore the "
                "latest one, or start anew with 'agent-identity inventory pin'",
                code="inventory_rolled_back",
            )
        if self._state is not None and state.number > later:
            self._state.put(_MARK, state.number, b"")
        return state

    def _seen(self) -> int:
        kept = None if self._state is None else self._state.get(_MARK)
        return 0 if kept is None else kept[0]

    def _look(self) -> tuple[int, ...] | None:
        try:
            status = os.stat(self.path)  # noqa: PTH116  Cheaper, and called for each call.
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(
                f"cannot access the inventory {self.path!r}: '{error.strerror}'; check the path"
            ) from None
        return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns)


@final
class Inventory:
    """The inventory of one enforcement point. Safe to share between threads.

    Args:
        ledger: Gets a record of each server, and of each change, at first use.
        signer: Signs the file.
        trust: The trusted keys.
        clock: Source of time.
    """

    __slots__ = ("__weakref__", "_book", "_clock", "_file", "_ledger", "_lock", "_recorded", "_signer", "_trust")

    def __init__(self, ledger: Ledger, signer: Signer, trust: FollowedTrust, clock: Clock) -> None:
        self._ledger = ledger
        self._signer = signer
        self._trust = trust
        self._clock = clock
        self._file: InventoryFile | None = None
        self._book: ServerInventory = {}
        self._recorded: dict[str, PinnedServer] = {}
        self._lock = threading.RLock()
        renewed_in_children(self)

    def after_fork_in_child(self) -> None:
        """Leave the lock to the parent, and record servers again in the stream of the child."""
        self._lock = threading.RLock()
        self._recorded = {}

    def use(self, directory: str | os.PathLike[str], state: StateStore) -> None:
        """Keep the inventory in a directory, whose state remembers the newest number."""
        self._file = InventoryFile(inventory_path(directory), self._trust, state)

    def sight(self, sighting: Observation, *, pin: bool) -> PinnedServer:
        """Update a server from a sighting, and return its entry; changes are in the ledger before this returns.

        Args:
            sighting: The server as it presents itself.
            pin: See :func:`sighted`.

        Raises:
            Denied: With code ``inventory_unusable``: the inventory cannot be read or written.
            EvidenceError: The server could not be recorded.
        """

        def look(book: ServerInventory) -> ServerInventory:
            return sighted(book, sighting, now=self._clock.wall_ns() // 1_000_000_000, pin=pin)

        with self._lock:
            book = self._usable(lambda: self._change(look))
            self._record(sighting.name, book[sighting.name])
            return book[sighting.name]

    def find(self, name: str) -> PinnedServer | None:
        """Return the current entry of a server.

        Raises:
            Denied: With code ``inventory_unusable``: the inventory cannot be read.
            EvidenceError: An accepted change could not be recorded.
        """
        with self._lock:
            book = self._usable(lambda: self._book if self._file is None else self._file.load())
            offer = book.get(name)
            if offer is not None:
                self._record(name, offer)
            return offer

    def check(
        self, name: str, transport: Transport, place: str, *, tool: str | None = None, digest: str | None = None
    ) -> bool:
        """Check that a server is at its pinned place, and that a tool has its pinned definition.

        Args:
            name: The name of the server.
            transport: The transport.
            place: Its place now.
            tool: The tool, or another entry; ``None`` checks the place alone.
            digest: The digest of its definition now; ``None`` if the server does not list it.

        Returns:
            Whether the server is known; one that was never seen has nothing to be compared with.

        Raises:
            Denied: With code ``server_moved``, ``tool_changed``, ``tool_not_accepted``, ``tool_not_listed`` or
                ``inventory_unusable``.
            EvidenceError: An accepted change could not be recorded.
        """
        offer = self.find(name)
        if offer is None:
            return False
        offer.check_place(name, transport, place)
        if tool is not None:
            offer.check_tool(name, tool, digest)
        return True

    def refusal(self, sighting: Observation) -> Denied | None:
        """Update a server from a sighting, pin it if it is the first one, and return the reason to refuse its calls.

        The reason is for the record of a call, so it is not raised: ``server_moved`` or ``inventory_unusable``.

        Args:
            sighting: The server as it presents itself.

        Raises:
            EvidenceError: The server could not be recorded.
        """
        try:
            self.sight(sighting, pin=True).check_place(sighting.name, sighting.transport, sighting.place)
        except Denied as denied:
            return denied
        return None

    def _change(self, look: Callable[[ServerInventory], ServerInventory]) -> ServerInventory:
        if self._file is not None:
            known = self._file.load()
            return known if look(known) is known else self._file.change(look, self._signer)
        self._book = look(self._book)
        return self._book

    def _usable(self, ask: Callable[[], ServerInventory]) -> ServerInventory:
        try:
            return ask()
        except AgentIdentityError as error:
            _LOG.error("the inventory cannot be used, calls of servers are refused: %s", safe_message(error))
            raise Denied(f"the inventory of servers is unusable: {error}", code="inventory_unusable") from None

    def _record(self, name: str, offer: PinnedServer) -> None:
        """Record a server, once for each of its states."""
        known = self._recorded.get(name)
        if known is offer:
            return
        recorded = offer.to_record(name)
        if known is None or known.to_record(name) != recorded:  # Texts may have been dropped; no record has them.
            server, tools = recorded
            time = Time.at(self._clock.wall_ns())
            self._ledger.append(partial(records.Registration, time=time, server=server, tools=tools or None))
        self._recorded[name] = offer


def accept(
    file: InventoryFile,
    name: str,
    tools: Collection[str] | None,
    *,
    signer: Signer,
    now: int,
    digest: str | None = None,
    reason: str | None = None,
) -> PinnedServer:
    """Accept the offer of a server, and return its entry; see :func:`~.offers.accepted`.

    Raises:
        TokenError: The inventory does not verify.
        ConfigurationError: Nothing like that is pending, or the file cannot be written.
    """
    book = file.change(lambda known: accepted(known, name, tools, now=now, digest=digest, reason=reason), signer)
    return book[name]


def forget(file: InventoryFile, name: str, *, signer: Signer) -> ServerInventory:
    """Forget a server, and return the inventory: its next sighting is its first.

    Raises:
        TokenError: The inventory does not verify.
        ConfigurationError: The server is unknown, or the file cannot be written.
    """
    return file.change(lambda known: forgotten(known, name), signer)


def pin(file: InventoryFile, servers: ServerInventory, *, signer: Signer, now: int) -> ServerInventory:
    """Pin servers from a given list, and return the inventory; their earlier entries are replaced.

    A lost inventory starts anew from this.

    Raises:
        TokenError: The inventory does not verify.
        ConfigurationError: There are too many servers or tools, or the file cannot be written.
    """
    return file.change(lambda known: given(known, servers, now=now), signer, anew=True)


def _written(state: _State, signer: Signer) -> bytes:
    body, most = _body(state.book), MAX_TEXT
    while len(body) > _USUAL and most:
        most //= 4
        body = _body(with_less_text(state.book, most))
    if len(body) > _MAX_FILE:  # Only with longer names than an inventory accepts now.
        raise ConfigurationError("the inventory is larger than 128 MiB; forget a server")
    claims: dict[str, JSON] = {"digest": digest_of(body), "number": state.number}
    token = sign_compact({"kid": signer.public_key.thumbprint, "typ": INVENTORY_TYPE}, claims, signer)
    return token.encode() + b"\n" + body + b"\n"


def _body(book: ServerInventory) -> bytes:
    return encode({"servers": {name: _claim(offer) for name, offer in book.items()}, "v": INVENTORY_VERSION})


def _read(data: bytes, trust: TrustStore) -> _State:
    number, servers = open_inventory(data, trust)
    try:
        return _State(number, {name: _offer(claim) for name, claim in servers.items()})
    except (LookupError, TypeError, ValueError):
        raise TokenError(
            "a server in the inventory does not have the form of version 1; pin the servers anew",
            code="inventory_malformed",
        ) from None


def _claim(offer: PinnedServer) -> dict[str, JSON]:
    return {
        "moved": None if offer.moved is None else list(offer.moved),
        "place": offer.place,
        "reason": offer.reason,
        "title": offer.title,
        "tools": {
            name: {
                "offered": _definition_claim(tool.offered),
                "pinned": _definition_claim(tool.pinned),
                "since": tool.since,
            }
            for name, tool in offer.tools.items()
        },
        "transport": offer.transport,
        "version": offer.version,
    }


def _definition_claim(definition: Definition | None) -> JSON:
    return None if definition is None else {"digest": definition.digest, "text": definition.text}


def _offer(claim: JSON) -> PinnedServer:
    facts = _object(claim)
    return PinnedServer(
        word_of(facts, "transport", _TRANSPORTS),
        text_of(facts, "place"),
        title=text_of(facts, "title"),
        version=text_of(facts, "version"),
        tools={name: _tool(tool) for name, tool in _object(facts["tools"]).items()},
        moved=_moved(facts["moved"]),
        reason=None if facts["reason"] is None else text_of(facts, "reason"),
    )


def _tool(claim: JSON) -> OfferedTool:
    facts = _object(claim)
    return OfferedTool(_definition(facts["pinned"]), _definition(facts["offered"]), int_of(facts, "since"))


def _moved(claim: JSON) -> tuple[Transport, str] | None:
    if claim is None:
        return None
    if not isinstance(claim, list):
        raise TypeError("a place in the inventory is no pair")
    transport, place = claim
    facts = {"transport": transport, "place": place}
    return word_of(facts, "transport", _TRANSPORTS), text_of(facts, "place")


def _definition(claim: JSON) -> Definition | None:
    if claim is None:
        return None
    facts = _object(claim)
    return Definition(**{name: text_of(facts, name) for name in facts})


def _object(claim: JSON) -> Mapping[str, JSON]:
    if not isinstance(claim, Mapping):
        raise TypeError("a member of the inventory is no object")
    return claim
