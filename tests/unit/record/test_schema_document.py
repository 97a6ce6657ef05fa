"""The published schema is one, and speaks of lines too; the other tests of this folder hold each record against it."""

import copy
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator
from schema_document import DETAILS, LINES, SCHEMA

from agent_identity import records
from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._record.schema import KIND_TYPES, Detail

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "evidence"
DETAIL = {"_salt": "AZV6P04jewGp0QAAAAAAoQ", "policy": "invoices"}


def lines() -> list[dict[str, Any]]:
    """Return the lines of the vectors."""
    return [orjson.loads(line) for path in VECTORS.rglob("*/entries.jsonl") for line in path.read_bytes().splitlines()]


def with_detail() -> dict[str, Any]:
    """Return a line of an outcome with its detail."""
    line = next(line for line in lines() if line.get("record", {}).get("kind") == "outcome")
    return {
        "detail": DETAIL,
        "mac": line["mac"],
        "record": {**line["record"], "detail": digest_of(encode_record(DETAIL))},
    }


def test_the_schema_is_one_and_closed() -> None:
    """It is a schema of its dialect, defines every kind and the detail, and closes each object."""
    Draft202012Validator.check_schema(SCHEMA)
    parts = SCHEMA["$defs"]
    assert {kind.__name__ for kind in (*KIND_TYPES.values(), Detail)} <= parts.keys()
    assert [name for name, one in parts.items() if one["type"] == "object" and one["additionalProperties"]] == []
    assert records.json_schema() == SCHEMA


def test_the_patterns_are_in_the_syntax_of_all_languages() -> None:
    """No pattern looks ahead or sets a flag, and each covers the whole value."""
    parts = SCHEMA["$defs"]
    patterns = [one["pattern"] for one in parts.values() if "pattern" in one]
    assert len(patterns) > 12
    for pattern in (*patterns, *(one["not"]["pattern"] for one in parts.values() if "pattern" in one)):
        assert not re.search(r"\(\?[^:]|\\[AZ]", pattern)
    assert all(pattern.startswith(("^(?:", "^[")) for pattern in patterns)


def test_the_lines_of_the_vectors_have_the_schema() -> None:
    """Each line of the published evidence passes, and so does one with a detail."""
    found = [line for line in lines() if "record" in line]
    for line in (*found, with_detail()):
        LINES.validate(line)
    assert {line["record"]["kind"] for line in found} > {"intent", "outcome", "task_end"}


@pytest.mark.parametrize(
    "change",
    [
        {"mac": None},
        {"mac": "x"},
        {"record": None},
        {"detail": {}},
        {"detail": {**DETAIL, "more": "x"}},
        {"leaf": "x"},
    ],
)
def test_other_lines_are_refused(change: dict[str, Any]) -> None:
    """A line has record, MAC and perhaps a detail, each in its form, and nothing else."""
    line = {name: value for name, value in {**with_detail(), **change}.items() if value is not None}
    assert not LINES.is_valid(line)


def test_a_detail_belongs_to_an_outcome_that_commits_to_it() -> None:
    """Beside any other record, and without commitment, a line has none."""
    bare = copy.deepcopy(with_detail())
    del bare["record"]["detail"]
    assert not LINES.is_valid(bare)
    intent = next(line for line in lines() if line.get("record", {}).get("kind") == "intent")
    assert LINES.is_valid(intent)
    assert not LINES.is_valid({**intent, "detail": DETAIL})
    assert DETAILS.is_valid(DETAIL)
