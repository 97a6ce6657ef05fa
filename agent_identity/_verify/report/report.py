"""The report of a verification: two verdicts, counts, findings and steps."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal, Self, TypeAlias, cast, final

from agent_identity._common.narrowing import is_mapping
from agent_identity._verify.report.periods import Period
from agent_identity.errors import VerificationError

Integrity: TypeAlias = Literal["verified", "contradicted", "cannot_tell"]
"""Verdict on integrity: is the evidence unchanged?"""

Completeness: TypeAlias = Literal["complete", "pruned", "incomplete", "not_checked"]
"""Verdict on completeness; ``pruned``: complete except for records that a signed statement names as pruned."""

TrustBasis: TypeAlias = Literal["given", "self-asserted", "none"]
"""Source of the trusted keys: the caller, the verified directory itself, or none."""

Severity: TypeAlias = Literal["contradicted", "cannot_tell", "incomplete", "notice"]
"""Effect of a problem on the verdicts; a notice has none."""

StepStatus: TypeAlias = Literal["passed", "failed", "not_checked"]
"""Result of a step. A step that was not checked is never shown as passed."""

SourceKind: TypeAlias = Literal["ledger", "traces", "proof", "disclosure", "fleet"]
"""The kind of the verified source; a fleet is several ledgers, one for each host, or files of traces beside them."""

EXIT_CODES: Final[Mapping[str, int]] = {"verified": 0, "contradicted": 1, "cannot_tell": 2, "incomplete": 3}
"""Exit code of the command line for each verdict."""


@final
@dataclass(frozen=True, slots=True)
class Problem:
    """One problem that a verification found.

    Attributes:
        code: Stable slug of the kind of problem.
        severity: Its effect on the verdicts.
        record: The id of the record concerned, if known.
        stream: The id of the stream.
        seq: The place in the stream, from 1.
        line: The 1-based line of the file.
        message: One line: what is wrong, then the cure. It shows no value of an argument.
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
        name: The statement that it checks.
        status: Its result.
        detail: Numbers, or the reason why it was not taken.
    """

    number: int
    name: str
    status: StepStatus
    detail: str


@final
@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of the tool calls of one library that are attributed.

    Attributes:
        scope: The name of the instrumentation scope.
        calls: The tool calls that it traced.
        attributed: The calls with a validly signed record that names a principal.
        human: The calls whose principal is a human.
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
        role: ``recorder``, ``witness`` or ``anchor``.
        name: The name of the log, or of the witness; empty for an anchor.
        algorithm: The signature algorithm.
        size: The number of entries of the log that it covers.
        time: The time at which another party signed, in seconds since the Unix epoch; ``None`` where only the signer
            states it.
    """

    role: Literal["recorder", "witness", "anchor"]
    name: str
    algorithm: str
    size: int
    time: int | None = None


@final
@dataclass(frozen=True, slots=True)
class Report:
    """The result of a :class:`~agent_identity.Verifier`.

    Attributes:
        source: The kind of the verified source.
        integrity: Whether the evidence is unchanged.
        completeness: Whether the evidence is complete.
        trust: The source of the keys. ``self-asserted`` keys are from beside the ledger: an attacker who can rewrite
            the ledger can rewrite them.
        counts: Counters by name; for example ``records``, ``verified``, ``unsealed``, ``denied``, ``unknown``.
        kinds: Number of records of each kind.
        findings: The problems, worst first, at most 1,000; :attr:`problems` counts all.
        problems: Number of problems of each severity.
        coverage: For traces, the attributed tool calls of each library.
        steps: The steps, in order.
        period: The evidence for a period, if the caller asked for one.
        signatures: For a ledger, the signatures over the log that were checked and count.
        complete_until: For a ledger that is complete, the time of its latest record, in seconds since the Unix epoch.
        outside: For such a ledger, the newest state of the log that its reader or another party knows, in words, before
            which this copy cannot end; ``None`` if there is none, so that an older copy would look the same.
        hosts: For a fleet, the report of each host, in the order of their paths.
        place: For a host of a fleet, its path.
        copy_of: For a copy of a host, of which a newer one was verified with it, the path of that one. The fleet counts
            its records once, and nothing as missing that the newer copy has.
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
    complete_until: int | None = None
    outside: str | None = None
    hosts: tuple["Report", ...] = ()
    place: str | None = None
    copy_of: str | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """Return what other processes make it from; views of mappings do not travel."""
        values: list[object] = [getattr(self, member.name) for member in fields(self)]
        return _restored, tuple(dict(value) if is_mapping(value) else value for value in values)

    @property
    def completeness_words(self) -> str:
        """Whether the evidence is complete, up to when, and what this does not show."""
        words = "complete" if self.completeness == "pruned" else self.completeness.replace("_", " ")
        if self.complete_until is not None:
            words += f" up to {datetime.fromtimestamp(self.complete_until, UTC):%Y-%m-%d %H:%M} UTC"
        if self.completeness == "pruned":
            words += " for what is kept; older records were pruned"
        if self.complete_until is None:
            return words
        if self.outside is None and self.hosts:
            return f"{words} (of the host that ends first; no outside checkpoints given: older copies look the same)"
        if self.outside is None:
            return f"{words} (this copy; no outside checkpoint given: an older copy would look the same)"
        return f"{words} (this copy, which is not older than {self.outside})"

    @property
    def verdict(self) -> str:
        """The verdict in one word: ``verified``, ``contradicted``, ``cannot_tell`` or ``incomplete``."""
        if self.integrity != "verified":
            return self.integrity
        return "incomplete" if self.completeness == "incomplete" else "verified"

    @property
    def weighs(self) -> str:
        """The verdict that it adds to that of a fleet: what a newer copy of the same log has is not missing."""
        return "verified" if self.copy_of is not None and self.verdict == "incomplete" else self.verdict

    @property
    def exit_code(self) -> int:
        """0 verified, 1 contradicted or tampered, 2 cannot tell, 3 verified but incomplete."""
        return EXIT_CODES[self.verdict]

    def raise_for_status(self) -> Self:
        """Return the report if everything that was checked holds.

        Raises:
            VerificationError: It does not; ``code`` is the verdict, and ``report`` this report.
        """
        if self.exit_code:
            raise VerificationError(f"{self.verdict}: {self.findings[0].message}", code=self.verdict, report=self)
        return self

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
            "complete_until": self.complete_until,
            "outside": self.outside,
            "signatures": [asdict(signature) for signature in self.signatures],
            **({} if self.place is None else {"place": self.place, "copy_of": self.copy_of}),
            **({"hosts": [host.to_json() for host in self.hosts]} if self.source == "fleet" else {}),
        }


def _restored(*values: object) -> Report:
    """Return a report that came from another process."""
    parts = (MappingProxyType(value) if is_mapping(value) else value for value in values)
    return cast("Callable[..., Report]", Report)(*parts)
