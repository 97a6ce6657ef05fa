"""Compares a span with its record: plain attributes, members, and our attributes beside the span's own."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final, final

from agent_identity._record.schema import AnyRecord, Intent, Outcome
from agent_identity._spans.envelope import ATTESTATION_ATTRIBUTES
from agent_identity._spans.otlp_json import SpanData
from agent_identity._spans.pasted_spans import PastedSpan
from agent_identity._spans.span_attributes import APPROVER_ATTRIBUTE, MIRRORED, deviations
from agent_identity._spans.span_from_record import GRANT_ATTRIBUTE
from agent_identity._verify.spans._foreign_members import Aside, Claim
from agent_identity._verify.spans._span_facts import SpanFacts
from agent_identity._verify.spans._span_members import is_our_scope, members_of
from agent_identity._verify.spans.attestations import OURS

__all__ = ["SpanComparison"]

_NAMED: Final = 5  # Attributes that a message names.
_LONGEST: Final = 128  # Characters of a foreign name in a message.
_OF_OURS: Final = frozenset({*MIRRORED, *ATTESTATION_ATTRIBUTES.values(), GRANT_ATTRIBUTE, APPROVER_ATTRIBUTE})
"""Every attribute of ours: copies of record members, the attestation, the grant, and the approver."""

_COMPARED: Final = (_OF_OURS | {"gen_ai.operation.name", "gen_ai.tool.type"}) - {APPROVER_ATTRIBUTE}
"""The attributes that are compared with the record, or are part of the evidence."""

_OTHERS_MAY_SET: Final = frozenset(
    {"user.id", "error.type", "gen_ai.agent.name", "gen_ai.agent.version", "gen_ai.tool.call.id"}
)
"""Conventional attributes that other libraries and collectors set and hash as well."""

_THEIRS: Final = _OTHERS_MAY_SET - {"user.id"}
"""Of these, the attributes that another library sets on its own spans. A changed user id stays worth a notice."""

_UNCLEAR: Final = (
    "of the span differs from its record, and may have been changed: this may be a span of another library that "
    "carries our record, or the application may have set it; copy it with its scope"
)
_DOUBTS: Final[Mapping[str, str]] = MappingProxyType(
    {"unclear": _UNCLEAR, "unreadable": "of the span has an unknown form; compare it with the record yourself"}
)
_NOTICES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "theirs": "differs from the record; the application may have set it",
        "recased": "differs from the record in upper and lower case, which some stores change",
    }
)


@final
class SpanComparison:
    """Compares spans with the records that they carry.

    Args:
        step: The number of the step.
        redacted: Attributes that a collector is known to rewrite; a change of them is not a contradiction.
    """

    def __init__(self, step: int, redacted: Collection[str]) -> None:
        self._step = step
        self._redacted = _OTHERS_MAY_SET.union(redacted)
        self._aside = Aside(_OF_OURS, self._redacted)

    def claims(self, span: SpanData | PastedSpan) -> tuple[Claim, ...]:
        """Return our attributes beside those of the span."""
        return self._aside.claims(span)

    def compare_copies(self, record: AnyRecord, span: SpanData | PastedSpan, facts: SpanFacts) -> None:
        """Compare the plain attributes of a span with its record.

        Args:
            record: The record.
            span: The span.
            facts: The facts about the span; findings are added to them.
        """
        hidden: list[str] = []
        facts.signed, fields = deviations(record, span.attributes)
        beside: list[str] = []
        for field in fields:
            if field.verdict == "unsigned":
                beside.append(field.attribute)
                continue
            if field.attribute in _THEIRS and field.verdict in ("changed", "retyped") and _is_foreign(span):
                continue
            if field.verdict in ("changed", "retyped") and field.attribute in self._redacted:
                message = f"the value of {field.attribute} differs from the signed one; it was changed"
                facts.add(self._step, "copy_changed", message)
            elif field.verdict == "changed":
                facts.contradicted = True
                message = f"the value of {field.attribute} differs from the signed one; it was changed"
                facts.add(self._step, "field_changed", message)
            elif field.verdict == "retyped":
                self._report_retyped(field.attribute, facts)
            else:
                hidden.append(field.attribute)
        added = () if _COMPARED.issuperset(span.attributes) else self._added(record, span.attributes)
        for name in added:
            facts.contradicted = True
            message = f"the attribute {name[:_LONGEST]!a} is not signed; it was added"
            facts.add(self._step, "field_added", message)
        facts.hidden = len(hidden)
        facts.unverified = [*beside, *(span.attributes.keys() - _COMPARED - set(added))]
        if hidden:
            self._report_hidden(hidden, facts)

    def compare_members(self, record: AnyRecord, span: SpanData | PastedSpan, facts: SpanFacts) -> None:
        """Compare name, times, parent and status of a span with those of its record.

        Args:
            record: The record.
            span: The span.
            facts: The facts about the span; findings are added to them. If ``belongs`` is ``None``, a
                difference is only a doubt, because a store that changes ids may change other members too.
        """
        hidden: list[str] = []
        for name, standing in members_of(record, span):
            if standing == "hidden":
                hidden.append(name)
            elif standing in _NOTICES:
                facts.add(self._step, "copy_changed", f"the {name} {_NOTICES[standing]}")
            elif standing == "retyped":
                self._report_retyped(name, facts)
            elif standing in _DOUBTS or facts.belongs is None:
                message = f"the {name} {_DOUBTS.get(standing, _UNCLEAR)}, or verify an OTLP export"
                facts.add(self._step, "span_unlike_record", message)
                facts.doubted = True
            else:
                facts.contradicted = True
                message = f"the {name} of the span differs from its record; it was changed"
                facts.add(self._step, "field_changed", message)
        if hidden:
            self._report_hidden(hidden, facts)

    def compare_claims(self, record: AnyRecord, span: SpanData | PastedSpan, facts: SpanFacts) -> None:
        """Compare our attributes on the resource, scope, events and links of a span with its record.

        Args:
            record: The record.
            span: The span.
            facts: The facts about the span; findings are added to them.
        """
        for claim in self._aside.claims(span):
            wrong = [name for name in claim.unsigned if claim.attributes[name] != span.attributes.get(name)]
            wrong += [
                field.attribute
                for field in deviations(record, claim.attributes)[1]
                if field.verdict == "changed" and field.attribute in claim.attributes
            ]
            if claim.stranger is not None:
                wrong.append(claim.stranger)
            for name in wrong:
                facts.contradicted = True
                message = f"the attribute {name[:_LONGEST]!a} on {claim.where} is not signed; it was added"
                facts.add(self._step, "field_added", message)

    def _added(self, record: AnyRecord, attributes: Mapping[str, object]) -> Sequence[str]:
        """Return the attributes with our prefix that the span of a record does not have."""
        ours = {name for name in attributes if name.startswith(OURS)} - self._redacted
        approved = isinstance(record, Outcome | Intent) and record.decision.approval is not None
        return sorted(ours - (_OF_OURS if approved else _OF_OURS - {APPROVER_ATTRIBUTE}))

    def _report_retyped(self, name: str, facts: SpanFacts) -> None:
        message = f"the store shows {name} as JSON of another type than the signed one; look at its raw text"
        facts.add(self._step, "type_rewritten", message)
        facts.doubted = True

    def _report_hidden(self, hidden: Sequence[str], facts: SpanFacts) -> None:
        facts.count("redacted")
        message = f"{len(hidden)} attributes are missing or blanked: {', '.join(hidden[:_NAMED])}"
        facts.add(self._step, "copy_redacted", message)


def _is_foreign(span: SpanData | PastedSpan) -> bool:
    """Return whether the scope of a span names another library."""
    return isinstance(span, SpanData) and bool(span.scope.strip()) and not is_our_scope(span.scope)
