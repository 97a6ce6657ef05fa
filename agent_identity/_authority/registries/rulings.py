"""Rulings: a person's signed decision about one call, valid for this call alone.

A ruling is no grant: it lets nothing happen that grant and policy do not allow anyway. It names the request, the
task, the tool and the digest of the exact arguments, on whose behalf and by which agent the call is made, and who
decided. It is signed by the issuer's key like a grant, with a type of its own.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, final, get_args

from agent_identity._common.narrowing import int_of, is_plain_array, optional_text_of, text_of, word_of
from agent_identity._identity.common.ids import DIGEST_FORM, ID_FORM
from agent_identity._identity.common.names import check_id
from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.principals.principals import (
    Agent,
    Human,
    Principal,
    agent_from_claim,
    principal_from_claim,
)
from agent_identity._identity.trust.store import TrustStore
from agent_identity.canonical import JSON
from agent_identity.errors import TokenError

APPROVAL_TYPE: Final = "agent-approval+jwt"
"""The ``typ`` of a signed ruling."""

MAX_SOURCES: Final = 64
"""Inputs of a task that one ruling can exempt."""

MAX_WAIT: Final = 30 * 24 * 3600
"""Seconds that a request can wait for a person, at most."""

RulingStatus: TypeAlias = Literal["approved", "rejected"]
"""Statuses of a ruling."""

_STATUSES: Final[frozenset[RulingStatus]] = frozenset(get_args(RulingStatus))
_REQUIRED: Final = frozenset({"agent", "approver", "exp", "iat", "iss", "jti", "principal", "status", "task", "tool"})
_OPTIONAL: Final = frozenset({"args", "reason", "sources"})
_ID: Final = re.compile(ID_FORM)
_DIGEST: Final = re.compile(rf"s?{DIGEST_FORM}")
_MAX_NUMBER: Final = 2**53


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A person's decision about one call.

    Args:
        id: The request, 22 base64url characters.
        status: ``"approved"`` or ``"rejected"``.
        task: The task in which the call was asked for.
        tool: The tool.
        args: The keyed digest of its arguments, as records of that task have it; None for a call without any.
        principal: On whose behalf.
        agent: The acting agent.
        approver: The person who decided.
        decided_at: Unix seconds.
        expires_at: Until when it can be used, in Unix seconds; at most 30 days later.
        reason: Why, for people; one line of 1 to 256 visible characters.
        sources: Records of the inputs of the task that it exempts for this one call; at most 64.
        kid: The thumbprint of the key that signed it, if it was signed.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field breaks a rule.
    """

    id: str
    status: RulingStatus
    task: str
    tool: str
    args: str | None
    principal: Principal
    agent: Agent
    approver: Human
    decided_at: int
    expires_at: int
    reason: str | None = None
    sources: tuple[str, ...] = ()
    kid: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if type(self.id) is not str or not _ID.fullmatch(self.id):
            raise ValueError("the id of the request is not 22 base64url characters")
        if self.status not in _STATUSES:
            raise ValueError("the status is not approved or rejected")
        check_id(self.task, "task")
        check_id(self.tool, "tool")
        if self.args is not None and (type(self.args) is not str or not _DIGEST.fullmatch(self.args)):
            raise ValueError("the digest of the arguments is not 43 base64url characters, or these after an s")
        if type(self.approver) is not Human:
            raise TypeError(f"the approver is {type(self.approver).__name__}; give a Human")
        for time in (self.decided_at, self.expires_at):
            if type(time) is not int or not 0 <= time <= _MAX_NUMBER:
                raise ValueError("a time is not in Unix seconds")
        if not self.decided_at < self.expires_at <= self.decided_at + MAX_WAIT:
            raise ValueError("the ruling does not end after it was made, and within 30 days")
        if self.reason is not None:
            check_id(self.reason, "reason")
        check_sources(self.sources)

    def sign(self, signer: Signer, *, issuer: str) -> str:
        """Return the ruling as a signed token.

        Args:
            signer: The issuer's key.
            issuer: The issuer's URI.
        """
        claims: dict[str, JSON] = {
            "agent": self.agent.to_claim(),
            "approver": self.approver.to_claim(),
            "exp": self.expires_at,
            "iat": self.decided_at,
            "iss": check_id(issuer, "issuer"),
            "jti": self.id,
            "principal": self.principal.to_claim(),
            "status": self.status,
            "task": self.task,
            "tool": self.tool,
        }
        if self.args is not None:
            claims["args"] = self.args
        if self.reason is not None:
            claims["reason"] = self.reason
        if self.sources:
            claims["sources"] = list(self.sources)
        return sign_compact({"kid": signer.public_key.thumbprint, "typ": APPROVAL_TYPE}, claims, signer)


def trusted_ruling(token: str, trust: TrustStore, *, even_revoked: bool = False) -> Ruling:
    """Return a signed ruling after verifying it; the caller decides whether it still counts.

    The key must be one of the issuer's own, be valid at the time of the ruling, and not be revoked.

    Args:
        token: The result of :meth:`Ruling.sign`.
        trust: The trust store.
        even_revoked: Read rulings by revoked keys as well, for those who can show that they are older.

    Raises:
        TokenError: It is malformed (``bad_approval``, or a code of
            :func:`parse_compact`), signed by an unknown key (``unknown_key``), not signed
            by that key (``bad_signature``), another issuer's (``wrong_issuer``), or by a key that is revoked
            (``key_revoked``) or was not valid then (``key_not_valid_then``).
    """
    parts = parse_compact(token)
    trusted = None if parts.kid is None else trust.lookup(parts.kid, "issuer")
    if trusted is None:
        raise TokenError("no trusted issuer key signed the ruling", code="unknown_key")
    claims = parts.verify(trusted.key, APPROVAL_TYPE)
    if not _REQUIRED <= claims.keys() <= _REQUIRED | _OPTIONAL or None in claims.values():
        raise _bad("the claims are not exactly those of a ruling")
    issuer = claims["iss"]
    # A certificate names the issuer for which its key speaks.
    if type(issuer) is not str or (not trusted.certificates and trust.issuer not in (None, issuer)):
        raise TokenError("the ruling is another issuer's", code="wrong_issuer")
    ruling = _ruling(claims, trusted.key.thumbprint)
    kinds = {ruling.principal.kind, ruling.approver.kind}
    trust.check_speaker(trusted.key.thumbprint, issuer, kinds, at=ruling.decided_at)
    if trusted.revoked_since is not None and not even_revoked:
        raise TokenError("the key that signed the ruling is revoked", code="key_revoked")
    if not trusted.in_time(ruling.decided_at):
        raise TokenError("the ruling was made when its key was not valid", code="key_not_valid_then")
    return ruling


def folded(name: str) -> str:
    """Return the name of a party folded by case and compatibility, to compare two names."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _ruling(claims: Mapping[str, JSON], kid: str) -> Ruling:
    try:
        return Ruling(
            id=text_of(claims, "jti"),
            status=word_of(claims, "status", _STATUSES),
            task=text_of(claims, "task"),
            tool=text_of(claims, "tool"),
            args=optional_text_of(claims, "args"),
            principal=principal_from_claim(claims["principal"]),
            agent=agent_from_claim(claims["agent"]),
            approver=_human(claims["approver"]),
            decided_at=int_of(claims, "iat"),
            expires_at=int_of(claims, "exp"),
            reason=optional_text_of(claims, "reason"),
            sources=sources_of(claims),
            kid=kid,
        )
    except (TypeError, ValueError) as error:
        raise _bad(str(error)) from None


def check_sources(sources: tuple[str, ...]) -> None:
    """Check the ids of the records that a ruling exempts.

    Raises:
        ValueError: One is no id, is named twice, or there are more than 64.
    """
    found = type(sources) is tuple and all(type(one) is str and _ID.fullmatch(one) for one in sources)
    if not found or len(sources) > MAX_SOURCES or len(set(sources)) != len(sources):
        raise ValueError(f"sources is no tuple of distinct record ids; give at most {MAX_SOURCES}, each once")


def sources_of(claims: Mapping[str, JSON]) -> tuple[str, ...]:
    """Return the sources among claims or members; none where they are left out.

    Raises:
        ValueError: They are no array of at least one id.
    """
    if "sources" not in claims:
        return ()
    listed = claims["sources"]
    if not is_plain_array(listed) or not listed:
        raise ValueError("sources is no array of record ids; list at least one, or leave it out")
    found = tuple(one for one in listed if isinstance(one, str))
    if len(found) != len(listed):
        raise ValueError("sources is no array of record ids; list at least one, or leave it out")
    return found


def _human(claim: JSON) -> Human:
    approver = principal_from_claim(claim)
    if not isinstance(approver, Human):
        raise TypeError(f"the approver is {type(approver).__name__}; give a Human")
    return approver


def _bad(message: str) -> TokenError:
    return TokenError(f"malformed ruling: {message}", code="bad_approval")
