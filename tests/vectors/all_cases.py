"""All cases, group by group, as the files that are published."""

import json

import approval_cases
import call_cases
import clean_cases
import file_cases
import flow_cases
import grant_cases
import ledger_cases
import span_cases
from case_form import Case, Cases, dumped
from insider import Content

__all__ = ["UNMADE", "files"]

UNMADE = {
    "unreadable": "needs a file that this user may not read, which no data holds",
    "inflates_too_far": "needs a compressed file of many megabytes",
    "not_anchored": "needs a time-stamp authority and its certificates",
    "anchor_not_counted": "needs a time-stamp authority and its certificates",
    "ids_rewritten": "is about how one store rewrites ids; see the tests of pasted spans",
    "type_rewritten": "is about how one store rewrites values; see the tests of pasted spans",
    "span_unlike_record": "is about how stores show spans; see the tests of pasted spans",
    "span_not_named": "is about how stores show spans; see the tests of pasted spans",
    "trace_id_cut": "is about how one store cuts ids; see the tests of pasted spans",
    "grant_cut": "is about how stores cut attributes; see the tests of spans",
    "broken_link": "needs the spans of all records of a stream; see the tests of spans",
    "bad_proof": "is of proofs, whose vectors are log.tlog-proof and inclusion.json",
    "bad_inclusion_proof": "is of proofs, whose vectors are log.tlog-proof and inclusion.json",
    "bad_consistency_proof": "is of proofs, whose vectors are log.tlog-proof and inclusion.json",
    "other_record": "is of proofs, whose vectors are log.tlog-proof and inclusion.json",
    "two_births": "is of reports over several logs; see the tests of reports",
    "two_histories": "is of reports over several logs; see the tests of reports",
    "certified_host_missing": "is of several hosts; see the tests of fleets",
    "found_elsewhere": "is of several hosts; see the tests of fleets",
    "record_not_proved": "is of the command that checks one disclosure alone",
}
"""Findings that no case has, each with its reason."""


def files(golden: Content) -> dict[str, bytes]:
    """Return the files by their names.

    Args:
        golden: The golden evidence, its trust file and its spans.
    """
    groups = {"clean": clean_cases.build()}
    known = _named(groups["clean"])
    for name, module in (("calls", call_cases), ("ledgers", ledger_cases), ("approvals", approval_cases)):
        groups[name] = module.build(known)
        known |= _named(groups[name])
    groups["flow"] = flow_cases.build()
    groups["files"] = file_cases.build(known)
    groups["spans"] = span_cases.build(golden)
    found = {f"{name}.json": dumped(cases) for name, cases in groups.items()}
    children, constraints = grant_cases.children(), grant_cases.constraints()
    found["children.json"] = _lines(children)
    found["constraints.json"] = (
        "{\n" + ",\n".join(f' "{name}": {_rows(rows)}' for name, rows in constraints.items()) + "\n}\n"
    ).encode()
    return found


def _named(cases: Cases) -> dict[str, Case]:
    return {case.name: case for case in cases}


def _rows(rows: object) -> str:
    assert isinstance(rows, list)
    return "[\n" + ",\n".join(f"  {json.dumps(row, ensure_ascii=False, sort_keys=True)}" for row in rows) + "\n ]"


def _lines(rows: object) -> bytes:
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()
