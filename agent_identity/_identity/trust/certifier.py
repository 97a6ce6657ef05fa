"""Certificates for workloads: a token of the platform, shown once, is exchanged for a certificate by fixed rules.

The token signs nothing and is kept nowhere. Its audience names the recorder key that is certified, so that a token
that someone else saw gets a certificate for that key only. Which logs and which issuer a workload may name follows
from the rules and its own name alone: no request can ask for those of another one.
"""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Protocol, TypeAlias, final

from agent_identity._common.narrowing import text_of
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.names import check_id
from agent_identity._identity.foreign.jwks import KeysOfIssuer
from agent_identity._identity.foreign.spiffe import SpiffeBundle, service_of_jwt_svid
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._identity.trust._origins import check_origin_pattern, covers, is_prefix, overlap
from agent_identity._identity.trust.certificates import (
    AUDIENCE,
    MAX_CERTIFICATE_LIFETIME,
    Certificate,
    PrincipalKind,
    trusted_certificate,
)
from agent_identity._identity.trust.store import TrustStore
from agent_identity.canonical import parse
from agent_identity.errors import ConfigurationError, TokenError

MAX_REQUEST: Final = 4_096
"""Bytes of a request, at most."""

_SKEW: Final = 30  # Seconds by which the clock of a host may be behind.
_LEAST_LIFE: Final = 60
_MINUTE: Final = 60
_NS: Final = 1_000_000_000
_HOLE: Final = "{subject}"
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")

Issued: TypeAlias = Callable[[Certificate, str], object]
"""Records a certificate before it is handed out; what it raises keeps the certificate back."""


class Platform(Protocol):
    """An issuer of workload tokens."""

    @property
    def id(self) -> str:
        """Its name in rules."""
        ...

    def workload(self, token: str, *, audience: str, now: int) -> str:
        """Return the name of the workload of a token, after all checks.

        Raises:
            TokenError: The token does not count.
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class SpiffePlatform:
    """Workloads of one SPIFFE trust domain, by their JWT-SVIDs.

    Args:
        bundle: The authorities of the trust domain.
    """

    bundle: SpiffeBundle

    @property
    def id(self) -> str:
        """The SPIFFE ID of the trust domain."""
        return self.bundle.id

    def workload(self, token: str, *, audience: str, now: int) -> str:
        """Return the SPIFFE ID of the workload.

        Raises:
            TokenError: See :func:`~agent_identity._identity.foreign.spiffe.service_of_jwt_svid`.
        """
        return service_of_jwt_svid(token, self.bundle, audience=audience, now=now, skew=_SKEW).id


@final
@dataclass(frozen=True, slots=True)
class OidcPlatform:
    """Workloads of one OpenID provider, such as a cluster of Kubernetes for its service accounts.

    Args:
        id: The issuer.
        keys: Its keys.
    """

    id: str
    keys: KeysOfIssuer

    def workload(self, token: str, *, audience: str, now: int) -> str:
        """Return the subject of the token.

        Raises:
            TokenError: See :meth:`~agent_identity.Service.from_access_token`.
        """
        from agent_identity._identity.foreign.id_tokens import Expected, service_of

        wanted = {"issuer": self.id, "audience": audience}
        return service_of(token, self.keys, Expected(**wanted, now=now, skew=_SKEW)).id


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What workloads of a platform may be certified for.

    Args:
        platform: The platform that vouches for them.
        subject: The name of the workload; or a prefix that ends in ``/`` or ``:``, for all names of one more segment.
        origin: The log that it may name, or a prefix of logs that ends in ``/``. With a prefix of names, one segment
            of it is ``{subject}``: the last segment of the name, so that no workload can ask for a log of another.
        issuer: The issuer that its grants must name; ``{subject}`` as above.
        principals: The kinds of principals for which that issuer may speak.
        life: Seconds that a certificate is valid.

    Raises:
        ValueError: A field breaks a rule.
    """

    platform: str
    subject: str
    origin: str
    issuer: str
    principals: tuple[PrincipalKind, ...] = ("human", "service")
    life: int = 3_600

    def __post_init__(self) -> None:
        check_id(self.subject.rstrip("/:"), "subject")
        check_id(self.issuer, "issuer")
        check_origin_pattern(self.origin.replace(_HOLE, "x"))
        if not _LEAST_LIFE <= self.life <= MAX_CERTIFICATE_LIFETIME - _SKEW:
            raise ValueError("the life of a certificate is not from a minute to 30 days; change it")
        segments = self.origin.split("/")
        if self.origin.count(_HOLE) != segments.count(_HOLE) or segments[0] == _HOLE:
            raise ValueError("{subject} is not a segment of its own in the origin; write one such as logs/{subject}/")
        if self._is_prefix != (_HOLE in self.origin) or (_HOLE in self.issuer and not self._is_prefix):
            raise ValueError(
                "a subject that ends in / or : needs {subject} in its origin, and no other one has it; otherwise "
                "workloads could ask for logs of each other"
            )

    @property
    def _is_prefix(self) -> bool:
        return self.subject.endswith(("/", ":"))

    @property
    def reach(self) -> str:
        """The pattern of all logs that any workload of the rule may name."""
        return self.origin.partition(_HOLE)[0]

    def bounds(self, subject: str) -> tuple[str, str] | None:
        """Return the pattern of logs and the issuer for a workload, or ``None`` if the rule is not about it."""
        if not self._is_prefix:
            return (self.origin, self.issuer) if subject == self.subject else None
        last = subject.removeprefix(self.subject)
        if last == subject or last in (".", "..") or not _SEGMENT.fullmatch(last):
            return None
        return self.origin.replace(_HOLE, last), self.issuer.replace(_HOLE, last)


@final
class Certifier:
    """Certifies recorder keys of workloads. Safe to share between threads.

    Args:
        trust: The trust file that lists the root.
        root: The key of the root.
        platforms: Who vouches for workloads.
        rules: What they may be certified for; no two of them reach the same log.
        clock: Source of time.
        issued: Records each certificate before it is handed out.
        a_minute: Certificates for one workload in a minute, at most.

    Raises:
        ConfigurationError: The trust file does not list the key as a root for recorders only that counts now, the root
            does not reach the logs of a rule, two rules reach the same log, or a rule names no platform.
    """

    def __init__(
        self,
        trust: TrustStore,
        root: Signer,
        platforms: Sequence[Platform],
        rules: Sequence[Rule],
        *,
        clock: Clock,
        issued: Issued,
        a_minute: int = 60,
    ) -> None:
        self._trust, self._root, self._clock, self._issued = trust, root, clock, issued
        self._platforms, self._rules = tuple(platforms), tuple(rules)
        self._a_minute = a_minute
        self._lock = threading.Lock()
        self._window: tuple[int, dict[tuple[str, str], int]] = (0, {})
        self._check_root()
        self._check_rules()

    def _check_root(self) -> None:
        listed = self._trust.get(self._root.public_key.thumbprint, "root")
        if listed is None or not listed.recorders_only or not listed.counts(self._now()):
            raise ConfigurationError(
                "the key is not that of a root for recorders only that counts now; list it with 'agent-identity trust "
                "add FILE root KEY --recorders-only --origin NAME'"
            )
        for rule in self._rules:
            if not _reaches(listed.origin or "", rule.reach):
                raise ConfigurationError(
                    f"the rule of {rule.subject!a} names logs outside the origin of the root; correct one of them",
                    code="wrong_origin",
                )

    def _check_rules(self) -> None:
        for first, second in combinations(self._rules, 2):
            if overlap(first.reach, second.reach):
                raise ConfigurationError(
                    f"the rules of {first.subject!a} and {second.subject!a} reach the same logs, so that workloads "
                    "could ask for those of each other; give each an origin of its own"
                )
        known = {platform.id for platform in self._platforms}
        for rule in self._rules:
            if rule.platform not in known:
                raise ConfigurationError(f"the rule of {rule.subject!a} names a platform that is not configured")

    def certify(self, token: str, request: bytes) -> str:
        """Return the certificate that a workload asks for.

        Args:
            token: The token of the workload, for the audience of its recorder key.
            request: A JSON object as :func:`~agent_identity._identity.trust.certificates.request_for` makes it.

        Raises:
            TokenError: The request is malformed (``bad_recorder_certificate``); the token does not count (a code of
                its checks); no rule is about the workload (``unknown_workload``); it asks for the log or issuer of
                another one (``wrong_origin``, ``wrong_issuer``), or too often (``too_many_requests``).
        """
        recorder, issuer_key, origin, issuer = _wanted(request)
        now = self._now()
        platform, subject = self._workload(token, f"{AUDIENCE}{recorder.thumbprint}", now)
        rule = self._rule(platform, subject, origin, issuer)
        self._count(platform, subject, now)
        try:
            certificate = Certificate(
                recorder=recorder,
                origin=origin,
                issuer_key=issuer_key,
                issuer=issuer,
                principals=rule.principals,
                not_before=now - _SKEW,
                expires_at=now + rule.life,
            )
        except ValueError as error:
            raise _malformed(str(error)) from None
        signed = certificate.sign(self._root)
        trusted_certificate(signed, self._trust)
        self._issued(certificate, signed)
        return signed

    def _workload(self, token: str, audience: str, now: int) -> tuple[str, str]:
        """Return platform and name of the workload of a token.

        Raises:
            TokenError: It counts for no platform; the error is that of the one that came furthest.
        """
        errors: list[TokenError] = []
        for platform in self._platforms:
            try:
                return platform.id, platform.workload(token, audience=audience, now=now)
            except TokenError as error:
                errors.append(error)
        raise max(errors, key=lambda error: error.code not in _ELSEWHERE, default=_unknown())

    def _rule(self, platform: str, subject: str, origin: str, issuer: str) -> Rule:
        about = [
            (rule, bounds)
            for rule in self._rules
            if rule.platform == platform and (bounds := rule.bounds(subject)) is not None
        ]
        if not about:
            raise _unknown()
        for rule, (pattern, named) in about:
            if covers(pattern, origin):
                if named != issuer:
                    raise TokenError("the workload may not name this issuer; use that of its rule", code="wrong_issuer")
                return rule
        raise TokenError("the workload may not name this log; use one of its rule", code="wrong_origin")

    def _count(self, platform: str, subject: str, now: int) -> None:
        minute = now // _MINUTE
        with self._lock:
            if self._window[0] != minute:
                self._window = (minute, {})
            counts = self._window[1]
            number = counts[platform, subject] = counts.get((platform, subject), 0) + 1
        if number > self._a_minute:
            raise TokenError("the workload asks too often; wait a minute", code="too_many_requests")

    def _now(self) -> int:
        return self._clock.wall_ns() // _NS


_ELSEWHERE: Final = frozenset({"unknown_key", "wrong_issuer", "wrong_trust_domain"})


def _wanted(request: bytes) -> tuple[PublicKey, PublicKey, str, str]:
    if len(request) > MAX_REQUEST:
        raise _malformed("it is too large")
    try:
        wanted = parse(request)
    except (ValueError, RecursionError):
        raise _malformed("it is no JSON") from None
    issuer = wanted.get("issuer") if isinstance(wanted, dict) else None
    if not isinstance(wanted, dict) or not isinstance(issuer, dict):
        raise _malformed("it has no issuer")
    if sorted(wanted) != ["issuer", "origin", "recorder"] or sorted(issuer) != ["key", "uri"]:
        raise _malformed("its members are not exactly those of a request")
    try:
        keys = PublicKey.from_jwk(wanted["recorder"]), PublicKey.from_jwk(issuer["key"])
        return *keys, text_of(wanted, "origin"), text_of(issuer, "uri")
    except (TypeError, ValueError) as error:
        raise _malformed(str(error)) from None


def _unknown() -> TokenError:
    return TokenError("no rule is about this workload; add one for it", code="unknown_workload")


def _malformed(problem: str) -> TokenError:
    return TokenError(f"malformed request for a certificate: {problem}", code="bad_recorder_certificate")


def _reaches(root: str, rule: str) -> bool:
    """Return whether a root may certify all logs of a pattern."""
    return root == rule or (is_prefix(root) and rule.startswith(root))
