"""``agent-identity signer``: a process that holds the keys of a directory and signs recognised messages only.

It protects the keys if it runs as its own user: then no code of an agent's process can read them. The kernel
identifies the other end of each connection.

Each kind of message has its own beginning: an envelope that of DSSE, a grant base64url text, a checkpoint the origin
of its log. So the recorder key never signs a grant, and neither key signs messages of other systems.
"""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, final, get_args

from agent_identity._authority.grants.grants import GRANT_TYPE, grant_of
from agent_identity._authority.registries.agents import HEAD_TYPE, REGISTRATION_TYPE
from agent_identity._authority.registries.revocations import REVOCATIONS_TYPE
from agent_identity._authority.registries.rulings import APPROVAL_TYPE
from agent_identity._authority.registries.server_inventories import INVENTORY_TYPE
from agent_identity._directory.open import prepare
from agent_identity._directory.unix_sockets import listening
from agent_identity._guard.common.followed_trust import announced
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.common.ids import Ids
from agent_identity._identity.keys.jws import ALGORITHM
from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.trust.entries import Purpose
from agent_identity._identity.trust.socket_signer import (
    DONE,
    MAX_FRAME,
    NAMES,
    REFUSED,
    WANT_KEY,
    WANT_SIGNATURE,
    WANT_SUCCESSORS,
    WANT_TRUST,
    receive_frame,
    send_frame,
)
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.transparency.checkpoint import Checkpoint
from agent_identity._record.codec import decode as decode_record
from agent_identity._spans.envelope import PAYLOAD_TYPE, pae
from agent_identity.canonical import JSON, decode
from agent_identity.errors import AgentIdentityError, ConfigurationError, TokenError

MAX_LIFE: Final = 24 * 3600
"""Maximum lifetime of a grant, in seconds; the enforcement point issues none that live longer."""

SKEW: Final = 30
"""Tolerated difference of a grant's date from now, in seconds: no grant is signed in advance or backdated."""

_OPERATIONS: Final = frozenset({APPROVAL_TYPE, HEAD_TYPE, INVENTORY_TYPE, REGISTRATION_TYPE, REVOCATIONS_TYPE})

_ENVELOPE: Final = pae(PAYLOAD_TYPE, b"").removesuffix(b"0 ")

_MAX_CONNECTIONS: Final = 128
_SECONDS: Final = 5.0  # For a message, from its first byte.
_IDLE: Final = 600.0  # Until the next request; then the client connects anew.
_RAW: Final = 32
_CREDENTIALS: Final = struct.Struct("3i")


def refuse_foreign_evidence(message: bytes, *, origin: str) -> None:
    """Check that the message is one that a recorder signs: a record of ours, or a checkpoint of the log.

    Args:
        message: The message to sign.
        origin: The log.

    Raises:
        ValueError: The message is neither.
    """
    if message.startswith(_ENVELOPE):
        _, _, body = message[len(_ENVELOPE) :].partition(b" ")
        if pae(PAYLOAD_TYPE, body) != message:
            raise ValueError("the envelope is not in its canonical form")
        decode_record(body)
        return
    try:
        checkpoint = Checkpoint.from_text(message.decode("utf-8"))
    except AgentIdentityError as error:
        raise ValueError(str(error)) from None
    if checkpoint.origin != origin or checkpoint.extensions or checkpoint.to_text().encode("utf-8") != message:
        raise ValueError("the message is no checkpoint of this signer's log")


def refuse_foreign_grant(message: bytes, *, issuer: str, thumbprint: str, now: int) -> None:
    """Check that the message is one that an issuer signs: a root grant of its own, from now.

    Args:
        message: The message to sign.
        issuer: The issuer's URI.
        thumbprint: The signing key.
        now: Unix seconds.

    Raises:
        ValueError: The message is no such grant.
    """
    header, claims = (_object(part) for part in _parts(message))
    if header != {"alg": ALGORITHM, "kid": thumbprint, "typ": GRANT_TYPE}:
        raise ValueError("the header is not that of a grant under this key")
    grant = grant_of("", claims)  # Its errors are ValueErrors.
    if grant.issuer != issuer or grant.depth or grant.parent_hash is not None:
        raise ValueError("the grant is no root grant of this issuer")
    if abs(grant.issued_at - now) > SKEW or grant.expires_at - grant.issued_at > MAX_LIFE:
        raise ValueError("the grant does not begin now, or lives longer than a day")


def is_operation(message: bytes) -> bool:
    """Return whether the message says of itself that it is one of an operator."""
    try:
        return _object(_parts(message)[0]).get("typ") in _OPERATIONS
    except (ValueError, RecursionError):
        return False


def refuse_foreign_operation(message: bytes, *, issuer: str, thumbprint: str) -> None:
    """Check that the message is one of an operator: a list of revocations, a ruling, a registration, an inventory.

    Args:
        message: The message to sign.
        issuer: The issuer's URI.
        thumbprint: The signing key.

    Raises:
        ValueError: The message is no such statement of this issuer.
    """
    header, claims = (_object(part) for part in _parts(message))
    if header.keys() != {"alg", "kid", "typ"} or (header["alg"], header["kid"]) != (ALGORITHM, thumbprint):
        raise ValueError("the header is not that of a statement under this key")
    named = claims.get("iss") == issuer if header["typ"] != INVENTORY_TYPE else "iss" not in claims
    if header["typ"] not in _OPERATIONS or not named:
        raise ValueError("the message is no statement of this issuer")


def _parts(message: bytes) -> tuple[bytes, bytes]:
    header, dot, claims = message.partition(b".")
    if not dot:
        raise ValueError("the message is no signing input of a token")
    return header, claims


def _object(part: bytes) -> dict[str, JSON]:
    value = decode(b64url_decode(part.decode("ascii")))
    if isinstance(value, dict):
        return value
    raise ValueError("a part of the token is no JSON object")


class Peer(NamedTuple):
    """The process at the other end, as identified by the kernel.

    Attributes:
        process: Its id.
        user: The id of its user.
        group: The id of its primary group.
    """

    process: int
    user: int
    group: int


@final
class SignerKeys:
    """The keys of a directory, each with the messages that it signs.

    Args:
        directory: The directory; created if it is missing.
        clock: Source of time.
        ids: Source of ids.

    Raises:
        ConfigurationError: The directory is unusable.
    """

    def __init__(self, directory: str | os.PathLike[str], *, clock: Clock, ids: Ids) -> None:
        self._directory = directory
        self._clock = clock
        self._ids = ids
        self._signers: dict[bytes, tuple[Signer, Purpose]] = {}
        self._take(*prepare(directory, clock, ids))

    def load(self) -> None:
        """Read the directory again; earlier keys sign until the trust file ends them.

        Raises:
            ConfigurationError: The directory is unusable; nothing changes.
        """
        if not (Path(self._directory) / "trust.json").exists():
            raise ConfigurationError("trust.json is missing in the directory of the signer; restore it")
        issuer, recorder, trust = prepare(self._directory, self._clock, self._ids)
        if (trust.issuer, trust.origin) != (self._trust.issuer, self._trust.origin):
            raise ConfigurationError("trust.json has other names than before; restart the signer to use them")
        self._take(issuer, recorder, trust)

    def _take(self, issuer: Signer, recorder: Signer, trust: TrustStore) -> None:
        pairs: tuple[tuple[Signer, Purpose], ...] = ((issuer, "issuer"), (recorder, "recorder"))
        self._trust: TrustStore = trust
        self._current: dict[Purpose, bytes] = {purpose: signer.public_key.raw for signer, purpose in pairs}
        self._signers.update((signer.public_key.raw, (signer, purpose)) for signer, purpose in pairs)

    def answer(self, request: bytes, *, operator: bool = False) -> bytes:
        """Answer a request.

        Args:
            request: The request.
            operator: Whether an operator asks, for whom the issuer key also signs lists of revocations, rulings,
                registrations and inventories.

        Raises:
            ValueError: The request is refused; the message is the code.
        """
        wanted, rest = request[:1], request[1:]
        if wanted == WANT_SIGNATURE:
            return self._sign(rest[:_RAW], rest[_RAW:], operator=operator)
        if wanted == WANT_SUCCESSORS and not rest:
            return "\n".join(announced(self._directory)).encode("ascii")
        if wanted == WANT_TRUST and not rest:
            return self._trust.to_json()
        for purpose in get_args(Purpose):
            if wanted == WANT_KEY and rest == NAMES[purpose]:
                return self._current[purpose]
        raise ValueError("unknown_request")

    def _sign(self, raw: bytes, message: bytes, *, operator: bool) -> bytes:
        named = self._signers.get(raw)
        if named is None:
            raise ValueError("unknown_key")
        signer, purpose = named
        now = self._clock.wall_ns() // 1_000_000_000
        thumbprint = signer.public_key.thumbprint
        try:
            self._trust.find(thumbprint, purpose, at=now)
        except TokenError as error:
            raise ValueError(error.code) from None
        try:
            if purpose == "recorder":
                refuse_foreign_evidence(message, origin=self._trust.origin or "")
            elif operator and is_operation(message):
                refuse_foreign_operation(message, issuer=self._trust.issuer or "", thumbprint=thumbprint)
            else:
                refuse_foreign_grant(message, issuer=self._trust.issuer or "", thumbprint=thumbprint, now=now)
        except (ValueError, RecursionError):
            raise ValueError("not_recognised") from None
        return signer.sign(message)


@final
@dataclass(slots=True)
class SignerService:
    """Serves keys on a Unix socket.

    Args:
        keys: The keys.
        path: The path of the socket; a dead socket is replaced.
        users: Ids of the users that are served.
        groups: Ids of the primary groups that are served.
        say: Receives refusals, a line each.
        operators: Ids of the users who are operators.
        operator_groups: Ids of the primary groups of operators.
    """

    keys: SignerKeys
    path: str
    users: Collection[int]
    groups: Collection[int] = ()
    say: Callable[[str], None] = lambda _: None
    operators: Collection[int] = ()
    operator_groups: Collection[int] = ()
    _socket: socket.socket | None = None
    _room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_MAX_CONNECTIONS))

    def listen(self) -> None:
        """Open the socket: mode 0600 if only the own user is served, else 0666, with users checked by the kernel.

        Raises:
            ConfigurationError: The platform does not identify peers, another signer serves the socket, or it
                cannot be created.
        """
        if not hasattr(socket, "SO_PEERCRED"):
            raise ConfigurationError("the platform cannot identify peers (SO_PEERCRED); run the signer on Linux")
        others = bool(self.groups or self.operator_groups) or {*self.users, *self.operators} != {os.geteuid()}
        try:
            self._socket = listening(self.path, 0o666 if others else 0o600, "signer")
        except OSError as error:
            raise ConfigurationError(
                f"cannot create a socket at {self.path!r}: '{error.strerror or error}'; choose another path"
            ) from error

    def serve(self) -> None:
        """Serve connections, each in a thread, until :meth:`close`."""
        server = self._socket
        while server is not None:
            try:
                connection, _ = server.accept()
            except OSError:
                if self._socket is None:
                    return
                raise
            if self._room.acquire(blocking=False):
                threading.Thread(target=self._attend, args=(connection,), daemon=True).start()
            else:
                connection.close()

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        server, self._socket = self._socket, None
        if server is not None:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # Wakes the thread that waits.
            server.close()
            Path(self.path).unlink(missing_ok=True)

    def _attend(self, connection: socket.socket) -> None:
        try:
            self._converse(connection)
        finally:
            self._room.release()

    def _converse(self, connection: socket.socket) -> None:
        with connection:
            peer = Peer(*_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))
            if not self._is_served(peer):
                self._refuse(connection, peer, "not_allowed")
                return
            with contextlib.suppress(OSError):
                while True:
                    self._answer(connection, peer, receive_frame(connection, MAX_FRAME, _SECONDS, idle=_IDLE))

    def _is_served(self, peer: Peer) -> bool:
        return peer.user in self.users or peer.group in self.groups or self._is_operator(peer)

    def _is_operator(self, peer: Peer) -> bool:
        return peer.user in self.operators or peer.group in self.operator_groups

    def _answer(self, connection: socket.socket, peer: Peer, request: bytes) -> None:
        try:
            answer = self.keys.answer(request, operator=self._is_operator(peer))
        except ValueError as refusal:
            self._refuse(connection, peer, str(refusal))
        except Exception as error:  # noqa: BLE001  A token or a KMS may raise anything; then nothing is signed.
            self.say(f"the key failed with {type(error).__name__}")
            send_frame(connection, REFUSED + b"key_failed")
        else:
            send_frame(connection, DONE + answer)

    def _refuse(self, connection: socket.socket, peer: Peer, code: str) -> None:
        self.say(f"refused process {peer.process} of user {peer.user} and group {peer.group}: {code}")
        with contextlib.suppress(OSError):
            send_frame(connection, REFUSED + code.encode("ascii"))
