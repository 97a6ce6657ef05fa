"""The rows of NIST SP 800-53 as OSCAL assessment results."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from agent_identity._reports.controls.controls_report import ControlsReport, EvidenceOf, RowResult
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError

_OSCAL: Final = "1.2.1"
_NAMESPACE: Final = "urn:agent-identity:oscal"
_SECOND: Final = 1_000_000_000


def oscal(found: ControlsReport) -> dict[str, JSON]:
    """Return rows with targets in the catalog as OSCAL assessment results, the same for the same report.

    A finding says that an objective is satisfied where the status is ``shown``, and that it is not where it is
    ``contradicted``. OSCAL has no state for anything in between, so all other rows are observations without a finding,
    and each observation has the status as a property.

    Args:
        found: The report.

    Raises:
        ConfigurationError: No row has a target there.
    """
    rows = [result for result in found.rows if result.row.targets]
    if not rows:
        raise ConfigurationError("no row has a target in the catalog of SP 800-53; ask for the framework nist")
    seed = json.dumps(found.frame.to_json(), sort_keys=True)
    start, end = _period(found)
    result: dict[str, JSON] = {
        "uuid": _id(seed, "result"),
        "title": "What verified records of agents show",
        "description": "Statuses follow from named queries over records, which were verified in the same pass.",
        "start": start,
        "end": end,
        "props": [_property(name, text) for name, text in _facts(found)],
        "reviewed-controls": {"control-selections": [{"include-controls": _controls(rows)}]},
        "observations": [_observation(seed, one, end) for one in rows],
    }
    findings = [
        _finding(seed, one, target, proved=found.frame.verdict != "contradicted")
        for one in rows
        for target in one.row.targets
        if _state(one)
    ]
    if findings:
        result["findings"] = list(findings)
    return {
        "assessment-results": {
            "uuid": _id(seed, "document"),
            "metadata": {
                "title": "agent-identity report controls",
                "last-modified": end,
                "version": found.frame.version,
                "oscal-version": _OSCAL,
            },
            "import-ap": {"href": f"#{_id(seed, 'plan')}"},
            "results": [result],
            "back-matter": {"resources": [_plan(seed)]},
        }
    }


def _plan(seed: str) -> dict[str, JSON]:
    text = "There is no assessment plan in OSCAL: the named queries of the report are the plan."
    return {"uuid": _id(seed, "plan"), "title": "Named queries", "description": text}


def _id(seed: str, name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{name}\n{seed}"))


def _period(found: ControlsReport) -> tuple[str, str]:
    frame = found.frame
    first = [source.first_ns for source in frame.sources if source.first_ns]
    last = [source.last_ns for source in frame.sources if source.last_ns]
    start = frame.from_ns or min(first, default=0)
    return _time(start), _time(max(last, default=start))


def _time(ns: int) -> str:
    return datetime.fromtimestamp(max(0, ns) // _SECOND, UTC).isoformat()


def _facts(found: ControlsReport) -> Iterator[tuple[str, str]]:
    frame, share = found.frame, found.share
    yield "verdict", frame.verdict
    yield "verified", str(frame.verified).lower()
    if frame.command:
        yield "command", frame.command
    yield "recorded-calls", str(found.recorded)
    yield "all-calls", str(share.calls)
    for source in frame.sources:
        yield "source", f"{source.place}: {source.kind}, {source.verdict}, keys {source.trust}"
    for note in frame.notes:
        yield "not-shown", note


def _property(name: str, value: str) -> dict[str, JSON]:
    return {"name": name, "ns": _NAMESPACE, "value": _line(value)}


def _line(text: str) -> str:
    """Return a text on one line, with anything else than printable characters as code points."""
    shown = "".join(letter if letter.isprintable() else f"[U+{ord(letter):04X}]" for letter in text)
    return shown.strip() or "none"


def _controls(rows: Sequence[RowResult]) -> list[JSON]:
    names = dict.fromkeys(target.partition("_")[0] for result in rows for target in result.row.targets)
    return [{"control-id": name} for name in names]


def _observation(seed: str, result: RowResult, collected: str) -> dict[str, JSON]:
    row = result.row
    observation: dict[str, JSON] = {
        "uuid": _id(seed, f"observation {row.clause}"),
        "title": _line(f"{row.clause} {row.title}: {result.status}"),
        "description": _line("; ".join(result.why)),
        "props": [
            _property("status", result.status),
            _property("query", row.query or "none"),
            *([_property("coverage", result.coverage)] if result.coverage else []),
            *(_property("not-shown", note) for note in row.not_shown),
        ],
        "methods": ["TEST"],
        "collected": collected,
    }
    relevant = [_relevant(one) for one in result.evidence if one.count]
    if relevant:
        observation["relevant-evidence"] = list(relevant)
    return observation


def _relevant(one: EvidenceOf) -> dict[str, JSON]:
    return {
        "description": _line(one.words),
        "props": [
            _property("signal", one.signal),
            _property("role", one.role),
            *(_property("record", record) for record in one.records),
        ],
    }


def _state(result: RowResult) -> str | None:
    return {"shown": "satisfied", "contradicted": "not-satisfied"}.get(result.status)


def _finding(seed: str, result: RowResult, target: str, *, proved: bool) -> dict[str, JSON]:
    row, state = result.row, _state(result)
    reason = "other" if not proved else "pass" if state == "satisfied" else "fail"
    return {
        "uuid": _id(seed, f"finding {target}"),
        "title": _line(f"{row.clause} {row.title}"),
        "description": _line("; ".join(result.why)),
        "target": {
            "type": "objective-id",
            "target-id": target,
            "status": {"state": state, "reason": reason},
        },
        "related-observations": [{"observation-uuid": _id(seed, f"observation {row.clause}")}],
    }
