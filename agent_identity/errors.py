"""Every exception of the library.

A refusal (:class:`Denied` and its subclasses) is not a malfunction, so its name has no ``Error``.
All other names end in ``Error``. Each class has a stable ``code`` that equals the reason code in the
records; codes never change their meaning.

A message is one line: what is wrong, then the cure. It may name arguments, tools and rules. It never
holds an argument value, a key or a token, because tracing back ends copy messages.
"""

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from agent_identity._policy.decision.decision import Decision
    from agent_identity._verify.report.report import Report

__all__ = [
    "AgentIdentityError",
    "AttenuationError",
    "ConfigurationError",
    "ContentBlocked",
    "Denied",
    "EvidenceError",
    "ExchangeError",
    "GrantExpired",
    "LimitExceeded",
    "NoTask",
    "OutOfScope",
    "PolicyBlocked",
    "PolicyFormatError",
    "Routed",
    "StateError",
    "TokenError",
    "VerificationError",
]


class AgentIdentityError(Exception):
    """Base of every exception raised by this library.

    Attributes:
        code: Stable slug; the default of the class, or a more precise one.
    """

    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with every attribute, so that errors cross process pools unharmed."""
        return (_restore, (type(self), self.args, self.__dict__.copy()))


def _restore(kind: type[Exception], args: tuple[object, ...], state: dict[str, object]) -> Exception:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class Denied(AgentIdentityError):
    """The enforcement point refused the call; the guarded body did not run.

    Attributes:
        decision: The :class:`~agent_identity.policy.Decision` behind the refusal, if one was reached.
        reference: The id of the record that keeps the refusal, for support requests.
    """

    default_code = "denied"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        decision: "Decision | None" = None,
        reference: str | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.decision = decision
        self.reference = reference


class NoTask(Denied):
    """No task is open here (``no_task``), or the task has ended (``task_ended``)."""

    default_code = "no_task"


class GrantExpired(Denied):
    """The lifetime of the task's grant is over, by the wall clock or by the monotonic one."""

    default_code = "grant_expired"


class OutOfScope(Denied):
    """The grant does not cover the tool or one of the arguments.

    Attributes:
        argument: The name of the argument that is not covered, if it may be shown.
    """

    default_code = "out_of_scope"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        decision: "Decision | None" = None,
        reference: str | None = None,
        argument: str | None = None,
    ) -> None:
        super().__init__(message, code=code, decision=decision, reference=reference)
        self.argument = argument


class LimitExceeded(Denied):
    """A limit of the task refuses the call: it is exhausted, or the call's amount cannot be counted."""

    default_code = "limit_exceeded"


class PolicyBlocked(Denied):
    """A policy rule blocked the call, or the named policy could not decide."""

    default_code = "policy_blocks"


class ContentBlocked(Denied):
    """The policy blocked content after the finding of an inspector."""

    default_code = "content_blocked"


class Routed(Denied):
    """The policy routes the call elsewhere, and this call cannot be handed over in place."""

    default_code = "routed"


class AttenuationError(AgentIdentityError, ValueError):
    """A child grant asks for more than its parent holds.

    Attributes:
        argument: The name of the argument that does not fit, if it may be shown.
        reference: The id of the record that keeps the refusal, if a task was to be delegated.
    """

    default_code = "not_attenuated"

    def __init__(self, message: str, *, code: str | None = None, argument: str | None = None) -> None:
        super().__init__(message, code=code)
        self.argument = argument
        self.reference: str | None = None


class TokenError(AgentIdentityError, ValueError):
    """A grant, a chain, a registration or a key is malformed, expired, wrongly signed or not trusted.

    Attributes:
        line: 1-based line of the problem in a registry of agents, or ``None`` without a file.
    """

    default_code = "bad_token"

    def __init__(self, message: str, *, code: str | None = None, line: int | None = None) -> None:
        super().__init__(message, code=code)
        self.line = line


class ExchangeError(AgentIdentityError):
    """No token for another service was issued: the endpoint was unreachable, refused, or answered wrongly.

    Attributes:
        reason: The OAuth error code of the endpoint (RFC 6749 §5.2), if it is a known one.
    """

    default_code = "exchange_refused"

    def __init__(self, message: str, *, code: str | None = None, reason: str | None = None) -> None:
        super().__init__(message, code=code)
        self.reason = reason


class VerificationError(AgentIdentityError):
    """Evidence did not verify.

    Attributes:
        report: The :class:`~agent_identity.audit.Report` with every finding, if one was made.
    """

    default_code = "not_verified"

    def __init__(self, message: str, *, code: str | None = None, report: "Report | None" = None) -> None:
        super().__init__(message, code=code)
        self.report = report


class EvidenceError(AgentIdentityError):
    """The action could not be recorded and therefore did not happen.

    Attributes:
        uncertain: The record may be in the ledger all the same, because a sync to disk failed.
        reference: The id of that record.
    """

    default_code = "evidence_unavailable"
    uncertain: bool = False
    reference: str | None = None


class StateError(AgentIdentityError):
    """The shared state is unavailable (``state_unavailable``) or full (``state_full``).

    The caller must refuse: the state may hold a used proof or a spent limit that it could not read.
    """

    default_code = "state_unavailable"


class PolicyFormatError(AgentIdentityError, ValueError):
    """A policy file or a rule is malformed; nothing of it was loaded.

    The message has one line for each mistake, of the first 20.

    Attributes:
        line: 1-based line of the first problem, or ``None`` without a file.
        column: 1-based column of the first problem, or ``None``.
        problems: Each problem of a file, in file order.
    """

    default_code = "bad_policy"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        line: int | None = None,
        column: int | None = None,
        problems: "tuple[PolicyFormatError, ...]" = (),
    ) -> None:
        super().__init__(message, code=code)
        self.line = line
        self.column = column
        self.problems = problems


class ConfigurationError(AgentIdentityError):
    """The library is set up wrongly; the message says what to change."""

    default_code = "bad_configuration"
