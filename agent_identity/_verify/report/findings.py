"""Collects the findings of a verification, with bounded memory, and draws the verdicts from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, final

from agent_identity._record.schema import AnyRecord
from agent_identity._verify.report.elsewhere import Elsewhere, Missing
from agent_identity._verify.report.periods import Period
from agent_identity._verify.report.report import (
    Completeness,
    Coverage,
    Integrity,
    Problem,
    Report,
    Severity,
    Signature,
    SourceKind,
    Step,
    StepStatus,
    TrustBasis,
)

MAX_KEPT: Final = 1_000
"""Problems that a report shows; all are counted."""

_ORDER: Final[tuple[Severity, ...]] = ("contradicted", "cannot_tell", "incomplete", "notice")

CODES: Final[Mapping[str, Severity]] = MappingProxyType(
    {
        # Trust and the checkpoint.
        "nothing_to_verify": "cannot_tell",
        "no_trust": "cannot_tell",
        "bad_trust": "cannot_tell",
        "no_checkpoint": "cannot_tell",
        "unknown_key": "cannot_tell",
        "key_not_valid_then": "cannot_tell",
        "key_revoked": "cannot_tell",
        "signed_after_revocation": "contradicted",
        "bad_checkpoint": "contradicted",
        "bad_signature": "contradicted",
        "wrong_origin": "contradicted",
        "rolled_back": "contradicted",
        "two_histories": "contradicted",
        "two_births": "notice",
        "log_missing": "contradicted",
        "certificate_not_counted": "notice",
        "valid_by_own_clock": "notice",
        # What other parties say.
        "not_witnessed": "cannot_tell",
        "tail_unwitnessed": "incomplete",
        "not_anchored": "cannot_tell",
        "anchor_not_counted": "notice",
        # The log.
        "unreadable": "cannot_tell",
        "inflates_too_far": "cannot_tell",
        "log_malformed": "contradicted",
        "log_cut": "contradicted",
        "log_changed": "contradicted",
        "log_shrank": "contradicted",
        "log_lost": "contradicted",
        "log_unsealed": "notice",
        "log_ahead": "incomplete",
        "log_rejected": "incomplete",
        # The streams.
        "head_mismatch": "contradicted",
        "records_cut": "contradicted",
        "malformed_line": "contradicted",
        "malformed_record": "contradicted",
        "unknown_record": "cannot_tell",
        "wrong_stream": "contradicted",
        "missing_records": "contradicted",
        "out_of_order": "contradicted",
        "duplicate_record": "contradicted",
        "changed_record": "contradicted",
        "after_end": "contradicted",
        "erased": "notice",
        # Intents and outcomes.
        "intent_missing": "contradicted",
        "intent_mismatch": "contradicted",
        "outcome_without_intent": "contradicted",
        "outcome_before_intent": "contradicted",
        "call_after_task_end": "contradicted",
        "opening_after_call": "contradicted",
        "blocked_but_ran": "contradicted",
        "unrecorded_intent": "incomplete",
        "counts_disagree": "incomplete",
        "unknown_outcome": "notice",
        "detail_missing": "contradicted",
        "detail_mismatch": "contradicted",
        "detail_uncommitted": "contradicted",
        "detail_malformed": "contradicted",
        "detail_not_checked": "notice",
        # Information flow.
        "mark_out_of_order": "contradicted",
        "mark_mismatch": "contradicted",
        "mark_stale": "contradicted",
        "mark_absent": "contradicted",
        "label_mismatch": "contradicted",
        "ran_against_mark": "contradicted",
        "flow_not_checked": "notice",
        # Grants.
        "bad_grant": "contradicted",
        "unknown_grant": "contradicted",
        "claims_differ": "contradicted",
        "outside_grant_time": "contradicted",
        "dated_before_grant": "notice",
        "tool_outside_grant": "contradicted",
        "allowed_without_task": "contradicted",
        "unknown_issuer": "cannot_tell",
        "chain_not_checked": "notice",
        "found_elsewhere": "notice",
        # Tasks within tasks.
        "outer_task_differs": "contradicted",
        "outer_task_cycle": "contradicted",
        "outer_task_missing": "incomplete",
        "outer_principal_differs": "notice",
        # Approvals.
        "approval_missing": "contradicted",
        "approval_not_checked": "notice",
        "approval_mismatch": "contradicted",
        "approval_self": "contradicted",
        "approval_late": "contradicted",
        "limit_exceeded": "contradicted",
        "approval_reused": "contradicted",
        "approval_forged": "contradicted",
        "approval_request_missing": "incomplete",
        # Completeness of a ledger.
        "certified_host_missing": "incomplete",
        "stream_missing": "incomplete",
        "stream_unknown": "incomplete",
        "tail_unsealed": "incomplete",
        "malformed_tail": "incomplete",
        "torn_tail": "incomplete",
        "rejected_tail": "incomplete",
        "no_end": "incomplete",
        "closed_tail": "incomplete",
        "after_closure": "incomplete",
        "bad_closure": "contradicted",
        "closure_not_counted": "notice",
        "closed": "notice",
        "bad_pruning": "contradicted",
        "pruned": "notice",
        "kept_grants_missing": "incomplete",
        "kept_grants_changed": "contradicted",
        "excerpt": "incomplete",
        "bad_excerpt": "contradicted",
        "records_before_start": "contradicted",
        "stream_empty": "notice",
        "recovered": "notice",
        # Spans.
        "unsigned": "contradicted",
        "bad_attestation": "contradicted",
        "truncated": "contradicted",
        "wrong_span": "contradicted",
        "ids_rewritten": "cannot_tell",
        "type_rewritten": "cannot_tell",
        "span_unlike_record": "cannot_tell",
        "grant_cut": "cannot_tell",
        "field_changed": "contradicted",
        "field_added": "contradicted",
        "field_doubled": "contradicted",
        "two_versions": "contradicted",
        "two_at_one_place": "contradicted",
        "broken_link": "contradicted",
        "unknown_payload_type": "cannot_tell",
        "span_not_named": "cannot_tell",
        "malformed_document": "incomplete",
        "trace_id_cut": "notice",
        "copy_changed": "notice",
        "copy_redacted": "notice",
        # Proofs.
        "bad_proof": "contradicted",
        "bad_inclusion_proof": "contradicted",
        "bad_consistency_proof": "contradicted",
        "other_record": "contradicted",
        # Disclosed arguments.
        "bad_disclosure": "contradicted",
        "other_arguments": "contradicted",
        "argument_outside_grant": "contradicted",
        "no_arguments": "cannot_tell",
        "not_disclosable": "cannot_tell",
        "record_not_proved": "cannot_tell",
        "disclosed_record_missing": "cannot_tell",
        # Spans against a ledger.
        "differs_from_ledger": "contradicted",
        "not_in_ledger": "contradicted",
        "ledger_contradicted": "contradicted",
        "ledger_not_verified": "incomplete",
        "other_ledger": "incomplete",
        "span_missing": "incomplete",
    }
)
"""Every kind of problem, with its effect on the verdicts."""


class Place(NamedTuple):
    """Location of a problem; unknown parts are ``None``."""

    record: str | None = None
    stream: str | None = None
    seq: int | None = None
    line: int | None = None

    def place(self) -> "Place":
        """Return the place itself, as every object with a place does."""
        return self


_WORDS: Final = {
    "grant": "the grant",
    "task": "the opening of the task",
    "approval": "the request of the approval",
}

NOWHERE: Final = Place()
"""For problems of the whole source."""


@final
class Findings:
    """The findings so far, and the status of each step.

    Args:
        source: The kind of the source.
        steps: The names of the steps, in order.
    """

    def __init__(self, source: SourceKind, steps: Sequence[str]) -> None:
        self.counts: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.trust: TrustBasis = "none"
        self.coverage: tuple[Coverage, ...] = ()
        self.completeness_checked = False
        self.complete_until: int | None = None
        self.outside: str | None = None
        self.period: Period | None = None
        self.elsewhere = Elsewhere()
        self._source: SourceKind = source
        self._names = tuple(steps)
        self._kept: dict[Severity, list[Problem]] = {severity: [] for severity in _ORDER}
        self._problems: Counter[Severity] = Counter()
        self._status: dict[int, StepStatus] = {}
        self._details: dict[int, str] = {}
        self._signatures: list[Signature] = []

    def sign(self, signature: Signature) -> None:
        """Store a signature that was checked and counts, up to a limit."""
        if len(self._signatures) < MAX_KEPT and signature not in self._signatures:
            self._signatures.append(signature)

    def add(self, step: int, code: str, message: str, place: Place = NOWHERE) -> None:
        """Store a problem; its step fails, or counts as not checked, accordingly."""
        severity = CODES[code]
        self._problems[severity] += 1
        kept = self._kept[severity]
        if len(kept) < MAX_KEPT:
            kept.append(Problem(code, severity, *place, message))
        if severity == "cannot_tell":
            self._status.setdefault(step, "not_checked")
        elif severity != "notice":
            self._status[step] = "failed"

    def find(self, step: int, missing: Missing, place: Place) -> AnyRecord | None:
        """Return the record of another host that has what this ledger does not, and say so."""
        record = self.elsewhere.ask(missing)
        if record is not None:
            what, name = missing
            host = self.elsewhere.host_of(missing)
            self.add(step, "found_elsewhere", f"{_WORDS[what]} {name} is in the evidence of {host}", place)
        return record

    def skip(self, step: int, detail: str) -> None:
        """Record the reason why a step, or a part of it, was not taken; a failure of the step stays a failure."""
        self._status.setdefault(step, "not_checked")
        self._details.setdefault(step, detail)

    def done(self, step: int, detail: str) -> None:
        """Record that a step was taken and its coverage; it passed unless there is a finding for it."""
        self._status.setdefault(step, "passed")
        self._details.setdefault(step, detail)

    def number(self, severity: Severity) -> int:
        """Return the number of problems of this severity."""
        return self._problems[severity]

    def report(self) -> Report:
        """Return the report over everything so far."""
        findings = [problem for severity in _ORDER for problem in self._kept[severity]]
        completeness = self._completeness()
        complete = completeness in ("complete", "pruned")
        return Report(
            source=self._source,
            integrity=self._integrity(),
            completeness=completeness,
            trust=self.trust,
            counts=MappingProxyType(dict(sorted(self.counts.items()))),
            kinds=MappingProxyType(dict(sorted(self.kinds.items()))),
            findings=tuple(findings[:MAX_KEPT]),
            problems=MappingProxyType({severity: self._problems[severity] for severity in _ORDER}),
            coverage=self.coverage,
            steps=tuple(
                Step(number, name, self._status.get(number, "not_checked"), self._details.get(number, ""))
                for number, name in enumerate(self._names, 1)
            ),
            period=self.period,
            signatures=tuple(self._signatures),
            complete_until=self.complete_until if complete else None,
            outside=self.outside if complete else None,
        )

    def _integrity(self) -> Integrity:
        if self.number("contradicted"):
            return "contradicted"
        return "cannot_tell" if self.number("cannot_tell") else "verified"

    def _completeness(self) -> Completeness:
        if self.number("incomplete"):
            return "incomplete"
        if not self.completeness_checked or self.number("contradicted"):  # What was changed is not whole.
            return "not_checked"
        return "pruned" if self.counts["pruned"] else "complete"
