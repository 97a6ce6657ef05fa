"""Principals and agents.

A principal is a human or a service; an agent acts for it and has an owner. The kind is part of the
identity: ``Human("x")`` and ``Service("x")`` are two parties. Every identity says how it is known: it is
``asserted`` by the program that names it, or ``verified`` by an issuer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias, TypeVar, final

from agent_identity._common.narrowing import is_array, is_object
from agent_identity._identity.common.names import check_id
from agent_identity._identity.common.record_bytes import RecordValue
from agent_identity.errors import TokenError

if TYPE_CHECKING:
    from agent_identity._identity.foreign.claims import Subject
    from agent_identity._identity.foreign.id_tokens import RolesClaim
    from agent_identity._identity.foreign.jwks import KeysOfIssuer
    from agent_identity._identity.foreign.spiffe import SpiffeBundle

_Kind = TypeVar("_Kind", bound="Human | Service")

Provenance: TypeAlias = Literal["asserted", "verified"]
"""Provenance of an identity: named by the calling program, or proved by an issuer."""

_MAX_ROLES: Final = 64
_MAX_VIA: Final = 32


@dataclass(frozen=True, slots=True)
class _Party:
    """The members that humans and services have."""

    id: str
    issuer: str | None = field(default=None, kw_only=True)
    roles: tuple[str, ...] = field(default=(), kw_only=True)
    provenance: Provenance = field(default="asserted", init=False)
    via: tuple[str, ...] = field(default=(), init=False)
    kind: ClassVar[Literal["human", "service"]]

    def __post_init__(self) -> None:
        check_id(self.id, "id")
        if self.issuer is not None:
            check_id(self.issuer, "issuer")
        if type(self.roles) is not tuple:
            raise TypeError(f"roles is {type(self.roles).__name__}; write roles=(…,)")
        if len(self.roles) > _MAX_ROLES:
            raise ValueError(f"there are {len(self.roles)} roles; give at most {_MAX_ROLES}")
        for role in self.roles:
            check_id(role, "each role")

    def to_claim(self) -> dict[str, RecordValue]:
        """Return the principal as claim of grants and records; unknown facts are left out."""
        claim: dict[str, RecordValue] = {
            "id": self.id,
            "kind": self.kind,
            "provenance": self.provenance,
        }
        if self.issuer is not None:
            claim["issuer"] = self.issuer
        if self.roles:
            claim["roles"] = self.roles
        if self.via:
            claim["via"] = self.via
        return claim


@final
@dataclass(frozen=True, slots=True)
class Human(_Party):
    """A person on whose behalf an agent acts.

    Args:
        id: The identifier, unique at the issuer; see :func:`check_id`.
        issuer: The party that vouches for the id, for example the URL of an identity provider.
        roles: At most 64 roles, for policies to look at.

    Attributes:
        provenance: ``"asserted"``, unless the identity came out of something an issuer signed.
        via: Who acted for the principal before the request came here, the current actor first, as the token said
            that brought it (RFC 8693 §4.1). History, which gives no one any authority.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field breaks the rules of :func:`check_id`, or there are too many roles.
    """

    kind: ClassVar[Literal["human"]] = "human"

    @classmethod
    def from_id_token(
        cls,
        token: str,
        *,
        jwks: "KeysOfIssuer",
        issuer: str,
        audience: str,
        now: int | None = None,
        nonce: str | None = None,
        authorized_party: str | None = None,
        max_age: int | None = None,
        roles_claim: "RolesClaim | None" = None,
        skew: int = 30,
    ) -> "Human":
        """Return the human of an OpenID Connect ID token or an RFC 9068 access token, ``verified``.

        Everything is checked here, offline but for the keys (OpenID Connect Core §3.1.3.7, RFC 9068 §4, RFC 8725).
        Its ``sub`` becomes the id. Needs the extra ``oidc``.

        Args:
            token: The compact token, at most 64 KiB.
            jwks: The keys of the issuer: the path of a JWK Set, its content, or a source that you keep, such as
                ``agent_identity.identity.JwksSource("https://…")``.
            issuer: The required issuer: exactly the claim ``iss``.
            audience: Who must be among its audiences: your client id for an ID token, the name of your service for an
                access token.
            now: Unix seconds; by default the present.
            nonce: The nonce that you sent with the authorization request. Give it whenever you sent one.
            authorized_party: The client that it must have been issued to (``azp``, ``client_id``). An ID token that
                names one must name you, unless you name another here.
            max_age: Most seconds since the human logged in (``auth_time``), if that matters.
            roles_claim: Where roles stand: a claim, or the names from the outside in, such as
                ``("realm_access", "roles")``. At most 64 roles.
            skew: Seconds by which clocks may differ, at most 30.

        Raises:
            TokenError: The token is malformed, not signed by the issuer, for someone else, not valid now, or not one
                of a human (``not_a_human``). The code says which; the message repeats nothing of the token.
            ConfigurationError: A file with keys cannot be read, or the package ``joserfc`` is missing.
            TypeError: A value has the wrong type.
            ValueError: A value is out of range.
        """
        from agent_identity._identity.foreign.id_tokens import Expected, human_of  # Only who verifies pays.

        expected = Expected.at(
            now,
            issuer=issuer,
            audience=audience,
            skew=skew,
            authorized_party=authorized_party,
            roles_claim=roles_claim,
        )
        return principal_of_subject(cls, human_of(token, jwks, expected, nonce=nonce, max_age=max_age))


@final
@dataclass(frozen=True, slots=True)
class Service(_Party):
    """A service account or workload on whose behalf an agent acts; the task has no human principal.

    Args:
        id: The identifier, unique at the issuer; see :func:`check_id`.
        issuer: The party that vouches for the id, for example a SPIFFE trust domain.
        roles: At most 64 roles, for policies to look at.

    Attributes:
        provenance: ``"asserted"``, unless the identity came out of something an issuer signed.
        via: Who acted for the principal before the request came here, the current actor first, as the token said
            that brought it (RFC 8693 §4.1). History, which gives no one any authority.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field breaks the rules of :func:`check_id`, or there are too many roles.
    """

    kind: ClassVar[Literal["service"]] = "service"

    @classmethod
    def from_access_token(
        cls,
        token: str,
        *,
        jwks: "KeysOfIssuer",
        issuer: str,
        audience: str,
        now: int | None = None,
        authorized_party: str | None = None,
        roles_claim: "RolesClaim | None" = None,
        skew: int = 30,
    ) -> "Service":
        """Return the client that got an access token for itself (RFC 9068 §5, client credentials), ``verified``.

        The arguments are those of :meth:`Human.from_id_token`. Needs the extra ``oidc``.

        Raises:
            TokenError: As there, with code ``not_a_service`` if the subject is not the client itself.
            ConfigurationError: A file with keys cannot be read, or the package ``joserfc`` is missing.
            TypeError: A value has the wrong type.
            ValueError: A value is out of range.
        """
        from agent_identity._identity.foreign.id_tokens import Expected, service_of  # Only who verifies pays.

        expected = Expected.at(
            now,
            issuer=issuer,
            audience=audience,
            skew=skew,
            authorized_party=authorized_party,
            roles_claim=roles_claim,
        )
        return principal_of_subject(cls, service_of(token, jwks, expected))

    @classmethod
    def from_jwt_svid(
        cls, token: str, *, bundle: "SpiffeBundle", audience: str, now: int | None = None, skew: int = 30
    ) -> "Service":
        """Return the workload of a JWT-SVID (SPIFFE JWT-SVID §3, §4), ``verified``. Needs the extra ``oidc``.

        Args:
            token: The JWT-SVID, at most 64 KiB.
            bundle: The authorities of the trust domain that the workload must be of:
                ``agent_identity.identity.SpiffeBundle``.
            audience: The required audience: you.
            now: Unix seconds; by default the present.
            skew: Seconds by which clocks may differ, at most 30.

        Raises:
            TokenError: It is malformed, not signed by an authority, for someone else, not valid now, or of another
                trust domain (``wrong_trust_domain``).
            ConfigurationError: A file with keys cannot be read, or the package ``joserfc`` is missing.
            TypeError: A value has the wrong type.
            ValueError: A value is out of range.
        """
        from agent_identity._identity.foreign.spiffe import service_of_jwt_svid  # Only who verifies pays.

        subject = service_of_jwt_svid(token, bundle, audience=audience, now=now, skew=skew)
        return principal_of_subject(cls, subject)

    @classmethod
    def from_x509_svid(cls, chain_pem: str | bytes, *, bundle: "SpiffeBundle", now: int | None = None) -> "Service":
        """Return the workload of an X.509-SVID (SPIFFE X.509-SVID §5), ``verified``.

        A certificate is public: it proves who holds its key, not who sent it. Pass the chain that the peer of a TLS
        connection proved to hold, and none that came as a value.

        Args:
            chain_pem: The certificate of the workload and those between it and an authority, in this order, as PEM;
                at most 64 KiB and 8 certificates.
            bundle: The authorities of the trust domain that the workload must be of:
                ``agent_identity.identity.SpiffeBundle``.
            now: Unix seconds; by default the present.

        Raises:
            TokenError: With code ``bad_certificate`` if the certificate is none of a workload, ``bad_path`` if it leads
                to no authority of the bundle, ``expired``, ``not_yet_valid`` or ``wrong_trust_domain``.
            ConfigurationError: A file cannot be read, or ``cryptography`` is older than version 45.
            TypeError: A value has the wrong type.
            ValueError: A value is out of range.
        """
        from agent_identity._identity.foreign.x509_svid import service_of_x509_svid  # Only who verifies pays.

        return principal_of_subject(cls, service_of_x509_svid(chain_pem, bundle, now=now))


Principal: TypeAlias = Human | Service
"""The party on whose behalf an agent acts."""


@final
@dataclass(frozen=True, slots=True)
class Agent:
    """An acting non-human identity, with its accountable owner.

    Args:
        id: The identifier; see :func:`check_id`.
        owner: The accountable human or team, for example ``"finance-ops@example.com"``.
        version: The build or configuration of the agent.

    Attributes:
        provenance: ``"asserted"``: the program that runs the agent names it.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field breaks the rules of :func:`check_id`.
    """

    id: str
    owner: str = field(kw_only=True)
    version: str | None = field(default=None, kw_only=True)
    provenance: Provenance = field(default="asserted", init=False)
    kind: ClassVar[Literal["agent"]] = "agent"

    def __post_init__(self) -> None:
        check_id(self.id, "id")
        check_id(self.owner, "owner")
        if self.version is not None:
            check_id(self.version, "version")

    def to_claim(self) -> dict[str, RecordValue]:
        """Return the agent as claim of grants and records; an unknown version is left out."""
        claim: dict[str, RecordValue] = {"id": self.id, "owner": self.owner}
        if self.version is not None:
            claim["version"] = self.version
        return claim


def principal_from_claim(claim: object) -> Principal:
    """Return the principal of a claim whose signature the caller has checked.

    The provenance is taken from the claim: its signer vouches for it. This and nothing else in the
    room makes a ``verified`` principal; what reads the tokens of others ends here as well.

    Raises:
        TokenError: With code ``bad_principal`` if a member is missing, unknown or malformed.
    """
    try:
        members = _principal_members(claim)
        return _fill(_principal_class(members["kind"]), members)
    except (TypeError, ValueError) as error:
        raise TokenError(f"bad principal: {error}", code="bad_principal") from None


def _principal_of_kind(kind: type[_Kind], claim: object) -> _Kind:
    """Return the principal of a claim as :func:`principal_from_claim` does, with the kind known to the caller.

    Raises:
        TokenError: With code ``bad_principal`` if a member is missing, unknown or malformed.
    """
    try:
        return _fill(kind, _principal_members(claim))
    except (TypeError, ValueError) as error:
        raise TokenError(f"bad principal: {error}", code="bad_principal") from None


def principal_of_subject(kind: type[_Kind], subject: "Subject") -> _Kind:
    """Return the principal that the subject of a foreign token is.

    Raises:
        TokenError: With code ``bad_principal`` if the subject or a role breaks the rules of identifiers.
    """
    claim: dict[str, object] = {"id": subject.id, "kind": kind.kind, "issuer": subject.issuer}
    claim["provenance"] = "verified" if subject.verified else "asserted"
    if subject.roles:
        claim["roles"] = subject.roles
    if subject.via:
        claim["via"] = subject.via
    return _principal_of_kind(kind, claim)


def agent_from_claim(claim: object) -> Agent:
    """Return the agent of a claim whose signature the caller has checked.

    Raises:
        TokenError: With code ``bad_agent`` if a member is missing, unknown or malformed.
    """
    try:
        members = _members(claim, required={"id", "owner"}, optional={"version"})
        version = check_id(members["version"], "version") if "version" in members else None
        return Agent(check_id(members["id"], "id"), owner=check_id(members["owner"], "owner"), version=version)
    except (TypeError, ValueError) as error:
        raise TokenError(f"bad agent: {error}", code="bad_agent") from None


def _principal_members(claim: object) -> Mapping[str, object]:
    return _members(claim, required={"id", "kind", "provenance"}, optional={"issuer", "roles", "via"})


def _members(claim: object, *, required: set[str], optional: set[str]) -> Mapping[str, object]:
    if not is_object(claim):
        raise TypeError("the claim is not an object")
    if not required <= claim.keys() <= required | optional:
        raise ValueError(
            f"the members are not {', '.join(sorted(required))}, and at most {', '.join(sorted(optional))} besides"
        )
    return claim


def _principal_class(kind: object) -> type[Human] | type[Service]:
    if kind == "human":
        return Human
    if kind == "service":
        return Service
    raise ValueError("the kind is not human or service")


def _fill(kind: type[_Kind], claim: Mapping[str, object]) -> _Kind:
    issuer = check_id(claim["issuer"], "issuer") if "issuer" in claim else None
    principal = kind(check_id(claim["id"], "id"), issuer=issuer, roles=_names(claim, "roles", "each role"))
    via = _names(claim, "via", "each actor")
    if len(via) > _MAX_VIA:
        raise ValueError(f"via has {len(via)} actors, more than {_MAX_VIA}")
    object.__setattr__(principal, "via", via)
    provenance = claim["provenance"]
    if provenance not in ("asserted", "verified"):
        raise ValueError("the provenance is not asserted or verified")
    object.__setattr__(principal, "provenance", provenance)
    return principal


def _names(claim: Mapping[str, object], member: str, what: str) -> tuple[str, ...]:
    if member not in claim:
        return ()
    names = claim[member]
    # An empty array and an absent member would be two spellings of one principal.
    if not is_array(names) or not names:
        raise ValueError(f"{member} is not an array with at least one name")
    return tuple(check_id(name, what) for name in names)
