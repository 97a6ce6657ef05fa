"""The answer of a policy: one of four effects, and the rule that decided."""

import enum
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard, final

from agent_identity._flow.label_spelling import meant_label
from agent_identity._identity.common.names import check_id
from agent_identity._policy.decision.obligations import Obligation
from agent_identity._policy.decision.places import quoted
from agent_identity.errors import ConfigurationError

MAX_WHY: Final = 256
"""Longest reason for people, in characters."""

_MAX_LABELS: Final = 64
_SLUG: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")


@final
class Effect(enum.Enum):
    """The consequence for a call. Where rules disagree: block before route before warn before allow."""

    ALLOW = "allow"
    """The call runs."""
    WARN = "warn"
    """The call runs, and its record carries the warning."""
    BLOCK = "block"
    """The call does not run."""
    ROUTE = "route"
    """The call does not run; the named target takes over. Without such a target it is a block."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer of a policy to one request.

    Attributes:
        effect: The consequence for the call.
        reason: Code of the reason, such as ``policy_blocks``: a slug from a small set.
        rule: The id of the rule that decided, or ``None`` if none did.
        why: The reason in the words of the rule, for people; at most 256 characters.
        route: The name of the target that takes over; required with :attr:`Effect.ROUTE`, forbidden otherwise.
        policy: The name of the policy.
        version: The version of the policy.
        digest: The digest of the policy, 43 base64url characters.
        warnings: The ids of all ``warn`` rules that matched, sorted, whatever the effect.
        obligations: Required changes to a result before its delivery; only with ``allow`` and ``warn``.

    Raises:
        TypeError: The effect is not an :class:`Effect`.
        ValueError: The reason is no slug, ``why`` is too long, or the route does not fit the effect.
    """

    effect: Effect
    reason: str
    rule: str | None = None
    why: str | None = None
    route: str | None = None
    policy: str | None = None
    version: str | None = None
    digest: str | None = None
    warnings: tuple[str, ...] = ()
    obligations: tuple[Obligation, ...] = ()

    def __post_init__(self) -> None:
        if type(self.effect) is not Effect:
            raise TypeError(f"effect is {type(self.effect).__name__}; use a member of Effect, such as Effect.BLOCK")
        if type(self.reason) is not str or not _SLUG.fullmatch(self.reason):
            raise ValueError("the reason code is malformed; use lower-case letters, digits and underscores")
        if self.why is not None:
            check_why(self.why)
        if (self.route is None) is (self.effect is Effect.ROUTE):
            raise ValueError("route and effect do not fit; name a target with Effect.ROUTE, and with no other effect")
        if self.route is not None:
            check_name(self.route, "a route")


def check_name(value: object, what: str) -> str:
    """Return the value if it is a name: 1 to 128 of ``A-Z a-z 0-9 _ . : / -``.

    Raises:
        ValueError: The value is no name.
    """
    if type(value) is not str or not _NAME.fullmatch(value):
        raise ValueError(f"{what} is malformed; use 1 to 128 letters, digits and _ . : / -")
    return value


def check_why(value: object) -> str:
    """Return the value if it is one line of at most 256 printable characters.

    Raises:
        ValueError: The value is no such line.
    """
    # What is not printable includes line breaks, controls, bidirectional controls and lone surrogates.
    if type(value) is not str or len(value) > MAX_WHY or not value.isprintable():
        raise ValueError(f"the reason is malformed; write one printable line of at most {MAX_WHY} characters")
    return value


def check_labels(value: object, what: str) -> tuple[str, ...] | None:
    """Return labels as a tuple, or ``None`` if the value is ``None``.

    Args:
        value: A sequence of texts, or ``None``.
        what: The name of the parameter, for errors.

    Raises:
        TypeError: The value has another type, such as one text.
        ValueError: A label does not have 1 to 256 visible characters, or there are more than 64.
        ConfigurationError: A label of a tool is nearly one of those on which information flow depends.
    """
    if value is None:
        return None
    if not _is_collection(value):
        raise TypeError(f"{what} is {type(value).__name__}; give a list of texts, such as {what}=['payment'], or []")
    labels = tuple(value)
    if len(labels) > _MAX_LABELS:
        raise ValueError(f"{what} has {len(labels)} labels; give at most {_MAX_LABELS}")
    checked = tuple(dict.fromkeys(check_id(label, f"each of {what}") for label in labels))
    for label in checked if what == "labels" else ():
        check_spelling(label)
    return checked


def check_spelling(label: str) -> None:
    """Check that a label of a tool is not nearly one of those on which information flow depends.

    Raises:
        ConfigurationError: It is.
    """
    meant = meant_label(label)
    if meant is not None:
        raise ConfigurationError(
            f"unknown label {quoted(label)}; did you mean {meant!r}? Name your own label otherwise"
        )


def _is_collection(value: object) -> TypeGuard[Collection[object]]:
    return isinstance(value, Sequence | frozenset | set) and not isinstance(value, str | bytes)
