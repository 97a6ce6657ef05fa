"""The registry of agents: their owners, purposes and maximum scopes.

A registry is a file of JSON Lines. Each line is a compact JWS as a JSON string: registrations in their order,
each with its place and the hash of the line before it, and at the end the head, which says how many there are and
what the last one is. All are signed by a key that is trusted as issuer. Lines are added and never changed, so the
file is the history of each agent, and what was edited, dropped, moved or repeated does not verify.
An older state of the whole file does: to find that out takes a mark that was kept elsewhere, as in a shared state.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal, Self, TypeAlias, final, get_args

from agent_identity._authority.grants.scope import Scope
from agent_identity._common.narrowing import int_of, optional_text_of, text_of, word_of
from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.common.names import check_id
from agent_identity._identity.common.private_files import read_public_file
from agent_identity._identity.keys.jws import MAX_TOKEN, parse_compact, sign_compact
from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.principals.principals import Agent, agent_from_claim
from agent_identity._identity.trust.store import TrustStore
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError, Denied, OutOfScope, TokenError

REGISTRATION_TYPE: Final = "agent-registration+jwt"
"""The ``typ`` of a registration."""

HEAD_TYPE: Final = "agent-registry-head+jwt"
"""The ``typ`` of the last line."""

MAX_REGISTRY: Final = 32 * 1024 * 1024
"""Bytes of a registry, at most: some forty thousand registrations."""

Status: TypeAlias = Literal["registered", "suspended", "retired", "orphaned"]
"""``registered`` may act; ``suspended`` may not for now; ``orphaned`` has no owner any more; ``retired`` is final."""

Mark: TypeAlias = tuple[int, str]
"""The number of registrations, and the hash of the last one, below which a registry must never fall."""

_Stamp: TypeAlias = tuple[int, int, int, int]

_STATUSES: Final[frozenset[Status]] = frozenset(get_args(Status))
_MAX_TIME: Final = 2**53 - 1
_REQUIRED: Final = frozenset({"agent", "exp", "iat", "iss", "maximum", "purpose", "seq", "status"})
_OPTIONAL: Final = frozenset({"model", "prev", "reason"})
_HEAD: Final = frozenset({"hash", "iat", "iss", "seq"})


@final
@dataclass(frozen=True, slots=True)
class Registration:
    """The registration of one agent, as of one line of a registry.

    Args:
        agent: The agent with its owner. With a version, only this version may act; without one, any.
        purpose: The purpose of the agent, 1 to 256 characters.
        maximum: The most that any grant of the agent may permit.
        expires_at: Unix seconds; from then on it may not act.
        status: See :data:`Status`.
        model: The model that it runs on; for people to read.
        reason: Why this line was written; for people to read.

    Attributes:
        seq: Its place in the registry, from 1; 0 before it is in one.
        issued_at: When it was signed, in Unix seconds; 0 before.
        hash: Hexadecimal SHA-256 of its token; empty before.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field breaks the rules of :func:`~agent_identity.identity.check_id` or is out of range.
    """

    agent: Agent
    purpose: str = field(kw_only=True)
    maximum: Scope = field(kw_only=True)
    expires_at: int = field(kw_only=True)
    status: Status = field(default="registered", kw_only=True)
    model: str | None = field(default=None, kw_only=True)
    reason: str | None = field(default=None, kw_only=True)
    seq: int = field(default=0, kw_only=True)
    issued_at: int = field(default=0, kw_only=True)
    hash: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        for name, value, kind in (("an agent", self.agent, Agent), ("a maximum", self.maximum, Scope)):
            if type(value) is not kind:
                raise TypeError(f"{name} is {type(value).__name__}; give {kind.__name__}(...)")
        check_id(self.purpose, "purpose")
        for name, text in (("model", self.model), ("reason", self.reason)):
            if text is not None:
                check_id(text, name)
        for name, number in (("expires_at", self.expires_at), ("issued_at", self.issued_at), ("seq", self.seq)):
            if type(number) is not int or not 0 <= number <= _MAX_TIME:
                raise ValueError(f"{name} is not an integer from 0 to 2^53 - 1")
        if self.status not in _STATUSES:
            raise ValueError(f"the status is unknown; use one of {', '.join(get_args(Status))}")

    def check_agent(self, agent: Agent, *, now: int) -> None:
        """Check that the agent is the registered one and may act.

        Args:
            agent: The agent as the program names it.
            now: Unix seconds.

        Raises:
            Denied: With code ``agent_retired``, ``agent_suspended``, ``agent_orphaned``, ``agent_expired``,
                ``owner_mismatch`` or ``version_mismatch``.
        """
        if self.status != "registered":
            raise Denied(f"agent {agent.id!r} is {self.status}; {_CURES[self.status]}", code=f"agent_{self.status}")
        if now >= self.expires_at:
            raise Denied(f"the registration of agent {agent.id!r} has expired; register it anew", code="agent_expired")
        if agent.owner != self.agent.owner:
            raise Denied(
                f"agent {agent.id!r} has another owner than the registered one; correct Agent(owner=...) "
                "or register the new owner",
                code="owner_mismatch",
            )
        if self.agent.version is not None and agent.version != self.agent.version:
            raise Denied(
                f"agent {agent.id!r} does not have the registered version; correct Agent(version=...) or "
                "register the new version",
                code="version_mismatch",
            )

    def check_scope(self, scope: Scope) -> None:
        """Check that the scope is within the registered maximum.

        Raises:
            OutOfScope: With code ``tool_outside_maximum`` or ``argument_outside_maximum``.
        """
        excess = self.maximum.excess(scope)
        if excess is None:
            return
        whose = f"the registered maximum of agent {self.agent.id!r}"
        if excess.argument is None:
            raise OutOfScope(
                f"tool {excess.tool!r} is not in {whose}; leave it out of the scope or register a wider maximum",
                code="tool_outside_maximum",
            )
        shown = excess.argument if excess.argument.isidentifier() and excess.argument.isascii() else None
        how = {
            "dropped": "is not in the scope but in",
            "added": "is in the scope but not in",
            "optional": "may be left out, but not by",
        }.get(excess.how, "is not provably within its constraint in")
        raise OutOfScope(
            f"argument {shown or '(unprintable)'} of tool {excess.tool!r} {how} {whose}; narrow the scope to the "
            "maximum's arguments or register a wider maximum",
            code="argument_outside_maximum",
            argument=shown,
        )


_CURES: Final[Mapping[str, str]] = {
    "suspended": "resume it, when whatever was wrong is right again",
    "retired": "register another agent under another id",
    "orphaned": "register it with a new owner",
}


@final
@dataclass(frozen=True, slots=True, eq=False)
class AgentRegistry:
    """A verified, constant state of a registry; :meth:`renewed` returns a later one.

    Attributes:
        trust: The trust store.
        path: The file; None if the registry came from bytes.
        history: Every registration, oldest first.
    """

    trust: TrustStore
    path: str | None = None
    history: tuple[Registration, ...] = field(default=(), repr=False)
    _current: Mapping[str, Registration] = field(default_factory=dict[str, Registration], repr=False)
    _digest: bytes = field(default=b"", repr=False)
    _stamp: _Stamp | None = field(default=None, repr=False)
    _absent: bool = field(default=False, repr=False)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        trust: TrustStore,
        *,
        at_least: Mark | None = None,
        absent: Literal["refuse", "empty"] = "refuse",
    ) -> Self:
        """Return the registry of a file, all of it verified.

        Args:
            path: The file.
            trust: The trusted keys; those trusted as issuer may sign registrations.
            at_least: The :attr:`mark` of an earlier state, kept elsewhere, that this one must continue.
            absent: Whether no file is an error, or a registry without agents.

        Raises:
            TokenError: The file does not verify. ``line`` says where, the code why: that of the token or claim
                that is wrong, ``registry_malformed``, ``registry_broken``, ``registry_cut`` or
                ``registry_rolled_back``.
            ConfigurationError: The file cannot be read, or has more than 32 MiB.
        """
        registry = cls(trust, os.path.abspath(path), _absent=absent == "empty").renewed()  # Links stay.
        if at_least is not None:
            registry.check_continues(at_least)
        return registry

    @classmethod
    def from_bytes(cls, data: bytes, trust: TrustStore) -> Self:
        """Return the registry in the content of a file; no bytes are a registry without agents.

        Raises:
            TokenError: As :meth:`load`.
        """
        return cls(trust).continued(data)

    @property
    def mark(self) -> Mark:
        """The number of registrations, and the hash of the last one (empty without any)."""
        return (len(self.history), self.history[-1].hash if self.history else "")

    def check_continues(self, mark: Mark) -> None:
        """Check that the registry contains everything up to an earlier state.

        Raises:
            TokenError: With code ``registry_rolled_back``.
        """
        size, last = mark
        if len(self.history) < size or (size and self.history[size - 1].hash != last):
            raise TokenError(
                f"the registry does not continue one of {size} registrations: it is an older or another "
                "one; put the latest one back",
                code="registry_rolled_back",
            )

    def renewed(self) -> Self:
        """Return the present registry of the file: this one if unchanged, else one that continues it.

        Raises:
            TokenError: As :meth:`load`; also if the file lost something that was there.
            ConfigurationError: The file cannot be read any more.
        """
        if self.path is None:
            return self
        # The stamp is from before the file is read: if it changes meanwhile, the next look sees another one.
        stamp = _stamp_of(self.path)
        if stamp == self._stamp and (stamp is not None or self._absent):
            return self
        if stamp is None:
            raise ConfigurationError(
                f"the registry of agents is missing at {self.path!r}; put it back, or start one with "
                "'agent-identity agents add DIR'"
            )
        data = read_public_file(self.path, limit=MAX_REGISTRY)
        if not data:
            raise TokenError("the registry of agents is empty; put a copy back", code="registry_cut")
        return replace(self.continued(data), _stamp=stamp)

    def get(self, agent_id: str) -> Registration | None:
        """Return the latest registration of an agent, in any status, or ``None``."""
        return self._current.get(agent_id)

    def current(self) -> tuple[Registration, ...]:
        """Return the latest registration of each agent, in the order of their first ones."""
        return tuple(self._current.values())

    def find(self, agent: Agent, *, now: int) -> Registration:
        """Return the registration that lets the agent act.

        Args:
            agent: The agent as the program names it.
            now: Unix seconds.

        Raises:
            Denied: With code ``agent_not_registered`` or a code of :meth:`Registration.check_agent`.
        """
        registration = self._current.get(agent.id)
        if registration is None:
            raise Denied(
                f"agent {agent.id!r} is not registered; register it with 'agent-identity agents add'",
                code="agent_not_registered",
            )
        registration.check_agent(agent, now=now)
        return registration

    def continued(self, data: bytes) -> Self:
        """Return the registry in the content of a file, which must continue this one.

        Raises:
            TokenError: As :meth:`load`.
        """
        lines = _lines(data)
        known = len(self.history)
        # Lines that were verified before are only compared.
        if known and (len(lines) <= known or _digest_of(lines[:known]) != self._digest):
            raise TokenError(
                "the registry does not continue the one that was read before: it is an older or another "
                "one; put the latest one back",
                code="registry_rolled_back",
            )
        history, current = list(self.history), dict(self._current)
        for registration in _registrations(lines[known:-1], history[-1] if history else None, self.trust):
            _check_history(current.get(registration.agent.id), registration)
            history.append(registration)
            current[registration.agent.id] = registration
        if lines:
            _check_head(lines[-1], history, self.trust)
        return replace(self, history=tuple(history), _current=MappingProxyType(current), _digest=_digest_of(lines[:-1]))


def appended(
    data: bytes, registrations: Sequence[Registration], *, signer: Signer, trust: TrustStore, now: int
) -> bytes:
    """Return the content of a registry with further registrations.

    Args:
        data: The content so far; empty for a new registry.
        registrations: The new registrations; place, time and hash are those of the new lines.
        signer: A key that is trusted as issuer.
        trust: The trusted keys, and the issuer's name.
        now: Unix seconds.

    Raises:
        TokenError: The content so far does not verify, the new lines would not, or an agent is retired.
        ValueError: A registration or the registry would be too large, or the trust store names no issuer.
    """
    if trust.issuer is None:
        raise ValueError("the trust store has no issuer's name; add it")
    registry = AgentRegistry.from_bytes(data, trust)
    seq, prev = registry.mark
    # A clock that went back must not keep an agent from being suspended.
    issued_at = max(now, registry.history[-1].issued_at) if seq else now
    signed: dict[str, JSON] = {"iat": issued_at, "iss": trust.issuer}
    lines = _lines(data)[:-1]
    for registration in registrations:
        seq += 1
        claims = signed | _terms(registration) | {"seq": seq} | ({"prev": prev} if prev else {})
        lines.append(_sign(REGISTRATION_TYPE, claims, signer))
        prev = _hash(lines[-1])
    lines.append(_sign(HEAD_TYPE, signed | {"hash": prev, "seq": seq}, signer))
    content = "".join(f'"{line}"\n' for line in lines).encode("ascii")
    if len(content) > MAX_REGISTRY:
        raise ValueError(f"the registry has more than {MAX_REGISTRY} bytes; start a new one")
    registry.continued(content)  # Nothing is written that would not be read.
    return content


def _terms(registration: Registration) -> dict[str, JSON]:
    facts = {"model": registration.model, "reason": registration.reason}
    return {
        "agent": registration.agent.to_claim(),
        "exp": registration.expires_at,
        "maximum": registration.maximum.to_claim(),
        "purpose": registration.purpose,
        "status": registration.status,
        **{name: fact for name, fact in facts.items() if fact is not None},
    }


def _sign(typ: str, claims: Mapping[str, JSON], signer: Signer) -> str:
    return sign_compact({"kid": signer.public_key.thumbprint, "typ": typ}, claims, signer)


def _stamp_of(path: str) -> _Stamp | None:
    """Return a stamp that changes with the file, or ``None`` without a file."""
    try:
        status = os.stat(path)  # noqa: PTH116  Cheaper, and asked at each task.
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(
            f"could not look at the registry of agents {path!r}: {error.strerror}; check the path and its modes"
        ) from None
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns)


def _lines(data: bytes) -> list[str]:
    """Return the tokens of a registry."""
    if not data:
        return []
    lines = data.split(b"\n")
    if lines.pop():
        raise TokenError(
            f"bad registry of agents at line {len(lines) + 1}: no newline at its end; put a whole copy back",
            code="registry_cut",
            line=len(lines) + 1,
        )
    return [_token_of(line, number) for number, line in enumerate(lines, 1)]


def _token_of(line: bytes, number: int) -> str:
    if not (2 < len(line) <= MAX_TOKEN + 2 and line.isascii() and line[:1] == line[-1:] == b'"'):
        raise TokenError(
            f"bad registry of agents at line {number}: not a compact JWS as a JSON string",
            code="registry_malformed",
            line=number,
        )
    return line[1:-1].decode("ascii")


def _registrations(lines: Sequence[str], last: Registration | None, trust: TrustStore) -> Iterator[Registration]:
    for token in lines:
        seq = last.seq + 1 if last else 1
        try:
            registration = _registration(token, trust)
            _check_link(registration, last, seq)
        except TokenError as error:
            raise _at(error, seq) from None
        last = registration[0]
        yield last


def _at(error: TokenError, line: int) -> TokenError:
    return TokenError(f"bad registry of agents at line {line}: {error}", code=error.code, line=line)


def _registration(token: str, trust: TrustStore) -> tuple[Registration, JSON]:
    """Return a registration by itself, and the hash of the line before it that it names."""
    claims = _claims(token, REGISTRATION_TYPE, trust, _REQUIRED, _OPTIONAL)
    try:
        registration = Registration(
            agent_from_claim(claims["agent"]),
            purpose=text_of(claims, "purpose"),
            maximum=Scope.from_claim(claims["maximum"]),
            expires_at=int_of(claims, "exp"),
            status=word_of(claims, "status", _STATUSES),
            model=optional_text_of(claims, "model"),
            reason=optional_text_of(claims, "reason"),
            seq=int_of(claims, "seq"),
            issued_at=int_of(claims, "iat"),
            hash=_hash(token),
        )
    except TokenError:
        raise
    except (TypeError, ValueError) as error:
        raise TokenError(f"bad claim in a registration: {error}", code="bad_claim") from None
    return registration, claims.get("prev")


def _claims(
    token: str, typ: str, trust: TrustStore, required: frozenset[str], optional: frozenset[str] = frozenset()
) -> dict[str, JSON]:
    """Return the claims of a line whose signature counts."""
    parts = parse_compact(token)
    kid = parts.kid or ""
    trusted = trust.get(kid, "issuer")
    if trusted is None:
        raise TokenError(
            "no key that is trusted as issuer signed the line; add the key to the trust file if it should be",
            code="unknown_key",
        )
    claims = parts.verify(trusted.key, typ)
    if missing := required - claims.keys():
        raise TokenError(f"the claim {min(missing)} is missing", code="missing_claim")
    if not claims.keys() <= required | optional:
        # A newer version may restrict by claims that this one cannot enforce.
        raise TokenError("the registration has an unknown claim", code="unknown_claim")
    issued_at, issuer = claims["iat"], claims["iss"]
    if type(issued_at) is not int or type(issuer) is not str:
        raise TokenError("iat is not an integer, or iss is not text", code="bad_claim")
    trust.find(kid, "issuer", at=issued_at)
    if trust.issuer is not None and issuer != trust.issuer:
        raise TokenError("the issuer is not that of the trust store", code="wrong_issuer")
    trust.check_issuer(kid, issuer)  # The key of a partner speaks for the partner only.
    return claims


def _check_link(link: tuple[Registration, JSON], last: Registration | None, seq: int) -> None:
    registration, prev = link
    if registration.seq != seq or prev != (last.hash if last else None):
        raise TokenError(
            "the registration does not follow the line before it: one was dropped, moved or repeated",
            code="registry_broken",
        )
    if last is not None and registration.issued_at < last.issued_at:
        raise TokenError("the time is before that of the line before it", code="registry_broken")


def _check_history(before: Registration | None, registration: Registration) -> None:
    if before is None and registration.status != "registered":
        error = TokenError("the first registration of an agent has another status", code="registry_broken")
    elif before is not None and before.status == "retired":
        error = TokenError("the agent is retired; register another id", code="agent_retired")
    else:
        return
    raise _at(error, registration.seq)


def _check_head(token: str, history: Sequence[Registration], trust: TrustStore) -> None:
    line = len(history) + 1
    try:
        claims = _claims(token, HEAD_TYPE, trust, _HEAD)
    except TokenError as error:
        code = "registry_cut" if error.code == "wrong_type" else error.code
        raise TokenError(f"bad registry of agents at line {line}: {error}", code=code, line=line) from None
    if not history or (claims["seq"], claims["hash"]) != (len(history), history[-1].hash):
        raise TokenError(
            f"bad registry of agents at line {line}: the head does not name the registration before "
            "it; something was cut off or added",
            code="registry_cut",
            line=line,
        )


def _hash(token: str) -> str:
    return digest_of(token.encode("ascii"))


def _digest_of(lines: Sequence[str]) -> bytes:
    return hashlib.sha256("\n".join(lines).encode("ascii")).digest()
