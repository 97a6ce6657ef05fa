"""Every published case has the verdict that stands beside it, and every finding of a ledger has a case."""

import argparse
import importlib
import json
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from evidence_cases import CASES, GROUPS, write_case

from agent_identity import Report, Verifier
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._constraints.registry import constraint_from_claim
from agent_identity._identity.keys.jws import parse_compact
from agent_identity._verify.report.findings import CODES
from agent_identity.errors import AgentIdentityError
from agent_identity.identity import SigningKey

HERE = Path(__file__).resolve().parent
ISSUER = SigningKey.from_seed(b"\x31" * 32)


@pytest.fixture(scope="module")
def neighbors() -> Generator[ModuleType]:
    """The builder of the cases, whose modules are neighbors of this one."""
    sys.path.append(str(HERE))
    try:
        yield importlib.import_module("all_cases")
    finally:
        sys.path.remove(str(HERE))


def verified(case: dict[str, Any], folder: Path) -> Report:
    """Verify the evidence of a case in a folder, as its arguments say."""
    write_case(case, folder)
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    for option in ("--trust", "--ledger", "--checkpoint", "--disclosures"):
        parser.add_argument(option)
    path = {name: folder / value for name, value in vars(parser.parse_args(case["verify"])).items() if value}
    source, verifier = path.pop("source"), Verifier(path.pop("trust", None), processes=1)
    more: dict[str, Any] = {"disclosures": [path.pop("disclosures")]} if "disclosures" in path else {}
    if source.is_dir() or source.suffix == ".zip":
        return verifier.ledger(source, **path, **more)
    return verifier.traces(source, **path, **more)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_case_has_its_verdict(case: dict[str, Any], tmp_path: Path) -> None:
    """Exit code, and codes of all findings with their severities and numbers."""
    report = verified(case, tmp_path)
    found = Counter((one.code, str(one.severity)) for one in report.findings)
    assert sorted([*one, number] for one, number in found.items()) == case["findings"], report.findings
    assert report.exit_code == case["exit"]


def test_every_finding_has_a_case(neighbors: ModuleType) -> None:
    """But for a short list that says why not."""
    made = {code for case in CASES.values() for code, *_ in case["findings"]}
    assert made.isdisjoint(neighbors.UNMADE)
    assert made | neighbors.UNMADE.keys() == CODES.keys()


def test_the_names_are_those_of_one_case_each() -> None:
    """A case is named once, in words that a file name can have, and has its base."""
    groups = [json.loads((HERE / "cases" / f"{group}.json").read_text(encoding="utf-8")) for group in GROUPS]
    assert sum(map(len, groups)) == len(CASES)
    assert all(name.replace("-", "").isalnum() and name.islower() for name in CASES)
    assert all(case.get("base", name) in CASES for name, case in CASES.items())


CHILDREN = json.loads((HERE / "cases" / "children.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("child", CHILDREN, ids=[child["name"] for child in CHILDREN])
def test_a_child_is_refused_with_its_code(child: dict[str, Any]) -> None:
    """Below the root beside it, at the time beside it, where the receiver is named orders."""
    kid = parse_compact(child["root"]).kid
    assert kid == ISSUER.public_key.thumbprint

    def judge() -> None:
        chain = [child["root"], child["child"]]
        verify_chain(chain, anchors=lambda _: ISSUER.public_key, issuer=None, now=child["at"], audience="orders")

    assert code_of(judge) == child["code"]


def code_of(act: Any) -> str | None:
    """Return the code of the refusal, if there is one."""
    try:
        act()
    except AgentIdentityError as error:
        return error.code
    return None


CONSTRAINTS = json.loads((HERE / "cases" / "constraints.json").read_text(encoding="utf-8"))


def test_a_constraint_permits_and_refuses_its_values() -> None:
    """Each type of constraint, by values that it permits and values that it refuses."""
    for row in CONSTRAINTS["permits"]:
        constraint = constraint_from_claim(row["constraint"])
        assert [value for value in row["permits"] if not constraint.permits(value)] == [], row
        assert [value for value in row["refuses"] if constraint.permits(value)] == [], row


def test_a_constraint_covers_what_it_should() -> None:
    """What may stand under what."""
    for row in CONSTRAINTS["covers"]:
        parent, child = constraint_from_claim(row["parent"]), constraint_from_claim(row["child"])
        assert parent.covers(child) is row["covers"], row


def test_a_malformed_constraint_is_refused_with_its_code() -> None:
    """A type that nobody knows, and members that a type does not have."""
    for row in CONSTRAINTS["malformed"]:
        assert code_of(lambda claim=row["constraint"]: constraint_from_claim(claim)) == row["code"], row


def test_every_type_of_constraint_is_there() -> None:
    """By values, by what it covers, and malformed."""
    from agent_identity._constraints.registry import _READERS

    for part, name in (("permits", "constraint"), ("covers", "parent"), ("covers", "child")):
        assert {row[name]["constraint_type"] for row in CONSTRAINTS[part]} == set(_READERS), (part, name)
