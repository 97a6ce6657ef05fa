"""Revocations of live grants, in one signed list with increasing versions.

A list says of tasks, grants, agents, owners, principals and issuer keys that they are revoked or suspended.
It is signed like a grant, with a type of its own, and has a version: a verifier that has seen one version takes no
earlier one. What is revoked stays revoked; only a suspension can be lifted. Everything at once can only be
suspended.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, final, get_args

from agent_identity._authority.grants.grants import MAX_TTL, Chain
from agent_identity._common.narrowing import int_of, optional_text_of, text_of, word_of
from agent_identity._identity.common.names import check_id
from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._identity.principals.principals import Principal
from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity.canonical import JSON
from agent_identity.errors import TokenError

REVOCATIONS_TYPE: Final = "agent-revocations+jwt"
"""The ``typ`` of a signed list."""

MAX_REVOCATIONS: Final = 10_000
"""Entries of a list, at most. Revoke an agent, an owner or a principal before so many of their tasks."""

MAX_LIST: Final = 8 * 1024 * 1024
"""Characters of a signed list, at most."""

EVERYTHING: Final = "*"
"""The name in the one entry of the kind ``everything``."""

RevokedKind: TypeAlias = Literal["task", "grant", "agent", "owner", "human", "service", "key", "everything"]
"""Subjects of entries: a task by its id, a grant by its hash, an issuer key by its thumbprint, others by id."""

RevocationStatus: TypeAlias = Literal["revoked", "suspended"]
"""Revoked for good, or until the suspension is lifted."""

_KINDS: Final[frozenset[RevokedKind]] = frozenset(get_args(RevokedKind))
_STATUSES: Final[frozenset[RevocationStatus]] = frozenset(get_args(RevocationStatus))
_PASSING: Final = frozenset({"task", "grant"})  # Nothing under them outlives the longest grant.
_CLAIMS: Final = frozenset({"entries", "iat", "iss", "version"})
_MAX_NUMBER: Final = 2**53


@final
@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry: a party or thing that may not act any more.

    Args:
        kind: The kind of its subject.
        name: Which one. Of a principal or agent the id alone counts, for every issuer; of a grant the hash
            that records show.
        status: ``"revoked"`` or ``"suspended"``.
        since: Unix seconds.
        reason: For people, 1 to 256 visible characters.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field breaks a rule.
    """

    kind: RevokedKind
    name: str
    status: RevocationStatus = "revoked"
    since: int = field(kw_only=True)
    reason: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"the kind of the revocation is not one of {', '.join(sorted(_KINDS))}")
        if self.status not in _STATUSES:
            raise ValueError("the status of the revocation is not 'revoked' or 'suspended'")
        if self.kind == "everything" and (self.name != EVERYTHING or self.status != "suspended"):
            raise ValueError(
                f"everything can only be suspended, under the name {EVERYTHING!r}; nothing else would go on"
            )
        if self.kind != "everything":
            check_id(self.name, f"the name of the {self.kind}")
        _check_number(self.since, "since")
        if self.reason is not None:
            check_id(self.reason, "reason")

    def to_claim(self) -> dict[str, JSON]:
        """Return the entry as claim of a list."""
        claim: dict[str, JSON] = {"kind": self.kind, "name": self.name, "since": self.since, "status": self.status}
        if self.reason is not None:
            claim["reason"] = self.reason
        return claim


@final
@dataclass(frozen=True, slots=True, repr=False)
class RevocationList:
    """One version of the list.

    Args:
        version: 0 for the empty list that everything begins with, one more with each change.
        issued_at: When this version was made, in Unix seconds.
        entries: The entries, in the order of their addition.

    Raises:
        ValueError: Two entries are about the same, there are more than 10,000, or a number is out of range.
    """

    version: int = 0
    issued_at: int = 0
    entries: tuple[Revocation, ...] = ()
    _by_name: Mapping[tuple[str, str], Revocation] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        _check_number(self.version, "version")
        _check_number(self.issued_at, "issued_at")
        if sum(entry.kind != "everything" for entry in self.entries) > MAX_REVOCATIONS:  # That always has room.
            raise ValueError(
                f"there are {len(self.entries)} revocations, more than {MAX_REVOCATIONS}; revoke the "
                "agent, owner or principal instead"
            )
        by_name = {(entry.kind, entry.name): entry for entry in self.entries}
        if len(by_name) != len(self.entries):
            raise ValueError("two revocations have the same name; drop one")
        object.__setattr__(self, "_by_name", MappingProxyType(by_name))

    def __repr__(self) -> str:
        return f"RevocationList(version={self.version}, {len(self.entries)} entries)"

    def get(self, kind: RevokedKind, name: str) -> Revocation | None:
        """Return the entry about one name, or ``None``."""
        return self._by_name.get((kind, name))

    def find(self, chain: Chain, also: Iterable[tuple[str, str]] = ()) -> Revocation | None:
        """Return an entry that stops the parties under the chain, or ``None``; ``revoked`` comes first.

        Everything in the chain counts: the task, the principal and all who act for the principal (``via``), the issuer
        key of the root, and each grant with its agent and owner. So what was delegated falls with what it was delegated
        from.

        Args:
            chain: The chain.
            also: Other names of its parties, each with its kind.
        """
        if not self.entries:
            return None
        known = self._by_name
        return _worst(known.get(key) for key in (*_names(chain), *also))

    def find_person(self, person: Principal, also: Iterable[tuple[str, str]] = ()) -> Revocation | None:
        """Return an entry that stops a person, or an actor for the person, or ``None``; ``revoked`` comes first.

        Args:
            person: The person.
            also: Other names of the person and the actors, each with its kind.
        """
        return _worst(self._by_name.get(key) for key in (*_people(person), *also)) if self.entries else None

    def about(self, *, task: str, principal: tuple[str, str], agent: tuple[str, str]) -> Revocation | None:
        """Return an entry that stops a task known only by names; ``revoked`` comes first.

        Args:
            task: Its id.
            principal: Kind and id.
            agent: Id and owner.
        """
        keys = (("everything", EVERYTHING), ("task", task), principal, ("agent", agent[0]), ("owner", agent[1]))
        return _worst(self._by_name.get(key) for key in keys)

    def adding(self, *entries: Revocation, now: int) -> "RevocationList":
        """Return the next version with more entries; a suspension can become a revocation, never the reverse.

        Entries about tasks and grants that have expired long since are left out.

        Args:
            entries: At least one.
            now: Unix seconds.

        Raises:
            ValueError: There are too many entries.
        """
        kept = [entry for entry in self.entries if not _is_past(entry, now)]
        return RevocationList(self.version + 1, now, _joined((*kept, *entries)))

    def keeping(self, known: "RevocationList", *, before: "RevocationList") -> "RevocationList":
        """Return this list with all known entries that were not lifted, which a restored list may lack.

        Lifted is a suspension that the list before had, if this one is newer than all that was known. So a list that
        was made from the one before comes back as it is.

        Args:
            known: The list that counted until now.
            before: The list that was found before, in the same place.

        Raises:
            ValueError: There are too many entries.
        """

        def is_lifted(entry: Revocation) -> bool:
            name = entry.kind, entry.name
            listed = self.get(*name) is not None
            return entry.status == "suspended" and not listed and before.get(*name) is not None

        newer = self.version > known.version
        standing = (entry for entry in known.entries if not (newer and is_lifted(entry)))
        kept = [entry for entry in standing if not _is_past(entry, self.issued_at)]
        return RevocationList(max(self.version, known.version), self.issued_at, _joined((*kept, *self.entries)))

    def lifting(self, kind: RevokedKind, name: str, *, now: int) -> "RevocationList":
        """Return the next version without a suspension.

        Raises:
            ValueError: There is no such entry, or it is a revocation, which stays.
        """
        entry = self.get(kind, name)
        if entry is None:
            what = "everything" if kind == "everything" else f"the {kind} of that name"
            raise ValueError(f"{what} is not suspended; 'agent-identity revocations DIR' lists what is suspended")
        if entry.status == "revoked":
            raise ValueError(f"the {kind} is revoked for good, and nothing lifts that; suspend what is to come back")
        return RevocationList(self.version + 1, now, tuple(other for other in self.entries if other is not entry))

    def sign(self, signer: Signer, *, issuer: str) -> bytes:
        """Return the list as a signed token.

        Args:
            signer: The issuer's key.
            issuer: The issuer's URI.

        Raises:
            ValueError: The list is too large.
        """
        claims: dict[str, JSON] = {
            "entries": [entry.to_claim() for entry in self.entries],
            "iat": self.issued_at,
            "iss": check_id(issuer, "issuer"),
            "version": self.version,
        }
        header: dict[str, JSON] = {"kid": signer.public_key.thumbprint, "typ": REVOCATIONS_TYPE}
        return sign_compact(header, claims, signer, most=MAX_LIST).encode("ascii")


def with_successors(signed: bytes, successors: Iterable[str]) -> bytes:
    """Return a signed list with signed successors of trust files after it, a line each.

    They lead readers from a key that they trust to the key of the list, and each is verified by itself.

    Args:
        signed: The result of :meth:`RevocationList.sign`.
        successors: The successors, oldest first.
    """
    return b"\n".join((signed, *(token.encode("ascii") for token in successors)))


def successors_in(data: bytes) -> tuple[str, ...]:
    """Return the unverified successors after a signed list."""
    return tuple(data.decode("ascii", "ignore").split("\n")[1:])


def read_revocations(data: bytes, *, anchors: Callable[[str], PublicKey], issuer: str | None) -> RevocationList:
    """Return a signed list after verifying it.

    Args:
        data: The result of :meth:`RevocationList.sign`; successors after it are passed over.
        anchors: Returns the issuer key of a ``kid``, or raises :class:`TokenError`.
        issuer: The issuer that must have made it; None for any that the key signs for.

    Raises:
        TokenError: It is malformed (``bad_revocations``, or a code of
            :func:`parse_compact`), signed by an unknown key (``unknown_key``), not
            signed by that key (``bad_signature``), or another issuer's (``wrong_issuer``).
    """
    try:
        text = data.partition(b"\n")[0].decode("ascii")
    except UnicodeDecodeError:
        raise TokenError("the bytes are not a signed list of revocations", code="malformed_token") from None
    parts = parse_compact(text, most=MAX_LIST)
    if parts.kid is None:
        raise TokenError("the list of revocations does not name its key (kid)", code="unknown_key")
    claims = parts.verify(anchors(parts.kid), REVOCATIONS_TYPE)
    if claims.keys() != _CLAIMS:
        raise _bad("the claims are not exactly those of a list of revocations")
    if issuer is not None and claims["iss"] != issuer:
        raise TokenError("the revocations are another issuer's", code="wrong_issuer")
    entries = claims["entries"]
    if not isinstance(entries, list):
        raise _bad("the entries are not an array")
    try:
        return RevocationList(int_of(claims, "version"), int_of(claims, "iat"), tuple(map(_entry, entries)))
    except (TypeError, ValueError) as error:
        raise _bad(str(error)) from None


def trusted_revocations(data: bytes, trust: TrustStore, *, of_revoked_keys: bool = False) -> RevocationList:
    """Return a signed list after verifying it against a trust store.

    The key must be the issuer's, be valid at the time of the list, and not be revoked: the thief of a key could
    date an empty list at will.

    Args:
        data: The result of :meth:`RevocationList.sign`.
        trust: The trust store.
        of_revoked_keys: Read lists by revoked keys as well, to look at what they say and sign it again.

    Raises:
        TokenError: As for :func:`read_revocations`; also ``key_revoked`` and ``key_not_valid_then``.
    """
    used: list[TrustedKey] = []

    def anchor(thumbprint: str) -> PublicKey:
        trusted = trust.get(thumbprint, "issuer")
        if trusted is None:
            raise TokenError("no trusted issuer key signed the revocations", code="unknown_key")
        if trusted.revoked_since is not None and not of_revoked_keys:
            raise TokenError("the key that signed the revocations is revoked itself", code="key_revoked")
        used.append(trusted)
        return trusted.key

    listed = read_revocations(data, anchors=anchor, issuer=trust.issuer)
    if trust.issuer is not None:
        trust.check_issuer(used[0].key.thumbprint, trust.issuer)  # The key of a partner speaks for the partner only.
    if not used[0].in_time(listed.issued_at):
        raise TokenError("the revocations were made when their key was not valid", code="key_not_valid_then")
    return listed


def _entry(claim: JSON) -> Revocation:
    if not isinstance(claim, Mapping) or not {"kind", "name", "since", "status"} <= claim.keys():
        raise TypeError("an entry is not an object with kind, name, since and status")
    if not claim.keys() <= {"kind", "name", "reason", "since", "status"} or claim.get("reason", "") is None:
        raise ValueError("an entry has an unknown member")
    return Revocation(
        word_of(claim, "kind", _KINDS),
        text_of(claim, "name"),
        word_of(claim, "status", _STATUSES),
        since=int_of(claim, "since"),
        reason=optional_text_of(claim, "reason"),
    )


def _joined(entries: Iterable[Revocation]) -> tuple[Revocation, ...]:
    """Return one entry for each name: the last, but nothing after a revocation."""
    joined: dict[tuple[str, str], Revocation] = {}
    for entry in entries:
        key = entry.kind, entry.name
        known = joined.get(key)
        if known is None or known.status == "suspended":
            joined[key] = entry
    return tuple(joined.values())


def _worst(entries: Iterable[Revocation | None]) -> Revocation | None:
    present = (entry for entry in entries if entry is not None)
    return min(present, key=lambda entry: entry.status, default=None)  # "revoked" < "suspended"


def _names(chain: Chain) -> Iterable[tuple[str, str]]:
    root = chain.root
    yield "everything", EVERYTHING
    yield "task", root.task_id
    yield from _people(root.principal)
    yield "key", _key_of(root.token)
    for grant in chain.grants:
        yield "grant", grant.hash
        yield "agent", grant.agent.id
        yield "owner", grant.agent.owner


def _people(principal: Principal) -> Iterable[tuple[str, str]]:
    yield principal.kind, principal.id
    for actor in principal.via:  # Nothing says of which kind an actor is.
        yield from (("human", actor), ("service", actor), ("agent", actor))


@lru_cache(maxsize=256)  # Asked at every call while anything at all is revoked.
def _key_of(root: str) -> str:
    return parse_compact(root).kid or ""


def _is_past(entry: Revocation, now: int) -> bool:
    return entry.kind in _PASSING and entry.status == "revoked" and entry.since + MAX_TTL < now


def _check_number(value: object, what: str) -> int:
    if type(value) is not int:
        raise TypeError(f"{what} is {type(value).__name__}; give an int")
    if not 0 <= value <= _MAX_NUMBER:
        raise ValueError(f"{what} is not from 0 to 2^53")
    return value


def _bad(message: str) -> TokenError:
    return TokenError(f"malformed list of revocations: {message}", code="bad_revocations")
