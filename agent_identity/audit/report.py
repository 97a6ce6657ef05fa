"""The answer of a verification: two verdicts, what was counted, what was found, and which steps were taken."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal, TypeAlias, final

from agent_identity.audit.periods import Period

__all__ = [
    "EXIT_CODES",
    "Completeness",
    "Coverage",
    "Integrity",
    "Problem",
    "Report",
    "Severity",
    "Signature",
    "SourceKind",
    "Step",
    "StepStatus",
    "TrustBasis",
]

Integrity: TypeAlias = Literal["verified", "contradicted", "cannot_tell"]
"""Whether what is there is what was recorded."""

Completeness: TypeAlias = Literal["complete", "pruned", "incomplete", "not_checked"]
"""Whether all that was recorded is there; ``pruned``: all but what a signed statement says was pruned."""

TrustBasis: TypeAlias = Literal["given", "self-asserted", "none"]
"""Where the trusted keys came from: the caller, the directory that is verified itself, or nowhere."""

Severity: TypeAlias = Literal["contradicted", "cannot_tell", "incomplete", "notice"]
"""What a problem does to the verdicts; a notice does nothing."""

StepStatus: TypeAlias = Literal["passed", "failed", "not_checked"]
"""How a step ended. What was not checked is never shown as passed."""

SourceKind: TypeAlias = Literal["ledger", "traces", "proof", "disclosure"]
"""What was verified."""

EXIT_CODES: Final[Mapping[str, int]] = {"verified": 0, "contradicted": 1, "cannot_tell": 2, "incomplete": 3}
"""What the command line returns for each end of a verification."""


@final
@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that was found.

    Attributes:
        code: Stable slug of the kind of problem.
        severity: What it does to the verdicts.
        record: The id of the record it is about, if one could be read.
        stream: The id of the stream.
        seq: The place in the stream, from 1.
        line: The 1-based line of the file.
        message: One line: what was expected and what was got. It shows no value of an argument.
    """

    code: str
    severity: Severity
    record: str | None
    stream: str | None
    seq: int | None
    line: int | None
    message: str


@final
@dataclass(frozen=True, slots=True)
class Step:
    """One numbered step of the verification.

    Attributes:
        number: Its number, from 1.
        name: What it checks.
        status: How it ended.
        detail: Numbers, or why it could not be taken.
    """

    number: int
    name: str
    status: StepStatus
    detail: str


@final
@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what one library traced is attributed to somebody.

    Attributes:
        scope: The name of the instrumentation scope.
        calls: Tool calls that it traced.
        attributed: Those with a validly signed record that names a principal.
        human: Those whose principal is a human.
    """

    scope: str
    calls: int
    attributed: int
    human: int


@final
@dataclass(frozen=True, slots=True)
class Signature:
    """One signature over a state of the log that was checked and counts.

    Attributes:
        role: Who signed: ``recorder``, ``second`` (the second key of the recorder), ``witness`` or ``anchor``.
        name: The name of the log, or of the witness; empty for an anchor.
        algorithm: How.
        size: The number of entries of the log that it covers.
        time: When another party signed, in seconds since the Unix epoch; ``None`` where the signer's word is all
            that there is.
    """

    role: Literal["recorder", "second", "witness", "anchor"]
    name: str
    algorithm: str
    size: int
    time: int | None = None


@final
@dataclass(frozen=True, slots=True)
class Report:
    """The result of :func:`~agent_identity.audit.check`.

    Attributes:
        source: What was verified.
        integrity: Whether what is there is what was recorded.
        completeness: Whether all that was recorded is there.
        trust: Where the keys came from. ``self-asserted`` means from beside the ledger: whoever could
            rewrite the one could rewrite the other.
        counts: How many of what; for example ``records``, ``verified``, ``unsealed``, ``denied``, ``unknown``.
        kinds: How many records of each kind.
        findings: The problems, worst first, at most 1,000; :attr:`problems` counts all.
        problems: How many problems of each severity there are.
        coverage: For traces, what each library's tool calls are attributed to.
        steps: What was checked, in order.
        period: What is shown about a period, if one was asked for.
        signatures: For a ledger, whose signatures over the log were checked and count.
    """

    source: SourceKind
    integrity: Integrity
    completeness: Completeness
    trust: TrustBasis
    counts: Mapping[str, int]
    kinds: Mapping[str, int]
    findings: tuple[Problem, ...]
    problems: Mapping[Severity, int]
    coverage: tuple[Coverage, ...]
    steps: tuple[Step, ...]
    period: Period | None = None
    signatures: tuple[Signature, ...] = ()

    @property
    def verdict(self) -> str:
        """The one word: ``verified``, ``contradicted``, ``cannot_tell`` or ``incomplete``."""
        if self.integrity != "verified":
            return self.integrity
        return "incomplete" if self.completeness == "incomplete" else "verified"

    @property
    def exit_code(self) -> int:
        """0 verified, 1 contradicted or tampered, 2 cannot tell, 3 verified but incomplete."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, object]:
        """Return the report in plain values, as the command line prints it."""
        return {
            "source": self.source,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "integrity": self.integrity,
            "completeness": self.completeness,
            "trust": self.trust,
            "counts": dict(self.counts),
            "kinds": dict(self.kinds),
            "problems": dict(self.problems),
            "findings": [asdict(problem) for problem in self.findings],
            "coverage": [asdict(scope) for scope in self.coverage],
            "steps": [asdict(step) for step in self.steps],
            **({} if self.period is None else {"period": self.period.to_json()}),
            "signatures": [asdict(signature) for signature in self.signatures],
        }
