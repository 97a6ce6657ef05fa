"""Samples: the same seed draws the same calls, everybody can repeat the draw, and each call has a proof."""

import json
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from small_company import START, work

from agent_identity import Verifier
from agent_identity._reports.answers.facts import CallFact, Fact
from agent_identity._reports.answers.reading import read
from agent_identity._reports.controls.sampling import Sample, draw, write_sample
from agent_identity.answers import Evidence
from agent_identity.errors import ConfigurationError
from agent_identity.identity import TrustStore, merged


class Calls:
    """Keeps the calls of a pass."""

    def __init__(self) -> None:
        self.records: list[str] = []

    def take(self, fact: Fact) -> None:
        """Keep the record of a call."""
        if isinstance(fact, CallFact) and not fact.opening:
            self.records.append(fact.where.record)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company, with its keys kept elsewhere."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory, tasks=8, days=1)
    shutil.copy(directory / "trust.json", directory.parent / "kept.json")
    return directory


def drawn(company: Path, *, seed: str = "seed", records: int = 5, **options: Any) -> Sample:
    """Draw a sample."""
    return draw(Evidence(sources=company, trust=company.parent / "kept.json", **options), seed=seed, records=records)


def test_anybody_can_repeat_the_draw(company: Path) -> None:
    """The calls with the smallest digests of seed and id are drawn, in that order."""
    calls = Calls()
    read(Evidence(sources=company), calls)
    expected = sorted(calls.records, key=lambda record: sha256(f"seed\n{record}".encode()).digest())[:5]
    found = drawn(company)
    assert [one.record for one in found.drawn] == expected
    assert [one.number for one in found.drawn] == [1, 2, 3, 4, 5]
    assert found.population == len(calls.records)
    assert drawn(company) == found
    assert [one.record for one in drawn(company, seed="other").drawn] != expected


def test_a_larger_sample_holds_the_smaller_one(company: Path) -> None:
    """Asking for more keeps what was drawn before; asking for more than there is draws all."""
    few, all_ = drawn(company, records=3), drawn(company, records=1_000)
    assert all_.drawn[:3] == few.drawn
    assert len(all_.drawn) == all_.population


def test_a_period_bounds_the_draw(company: Path) -> None:
    """Only calls of the period are drawn, and the population is that of the period."""
    until = (START + 86_400) * 10**9
    found = drawn(company, records=1_000, until_ns=until)
    assert 0 < found.population < drawn(company).population
    assert all(one.at_ns < until for one in found.drawn)


def test_every_proof_verifies_without_the_evidence(company: Path, tmp_path: Path) -> None:
    """With the trust file alone each file proves the record that the list names for it."""
    found = drawn(company)
    assert write_sample(found, tmp_path / "sample") == 5
    listed: Mapping[str, Any] = json.loads((tmp_path / "sample" / "sample.json").read_text())
    assert listed["sample"]["seed"] == "seed"
    assert listed["sample"]["population"] == found.population
    files: Mapping[str, str] = listed["files"]
    assert list(files.values()) == [one.record for one in found.drawn]
    verifier = Verifier(company.parent / "kept.json")
    text = (tmp_path / "sample" / "README.txt").read_text()
    for name, record in files.items():
        checked = verifier.proof(tmp_path / "sample" / name, record=record)
        assert checked.verdict == "verified"
        assert f"{name} --trust trust.json --record {record}" in text
    assert {path.name for path in (tmp_path / "sample").iterdir()} == {*files, "sample.json", "README.txt"}


@pytest.mark.parametrize(("trust", "words"), [(None, "self-asserted"), ("kept.json", "given")])
def test_the_text_names_the_source_of_the_keys(company: Path, tmp_path: Path, trust: str | None, words: str) -> None:
    """A reader of the folder learns whether the keys came from beside the evidence."""
    keys = None if trust is None else company.parent / trust
    found = draw(Evidence(sources=company, trust=keys), seed="seed", records=1)
    write_sample(found, tmp_path / "sample")
    text = (tmp_path / "sample" / "README.txt").read_text()
    assert [line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith("Keys:")] == [words]


def test_a_folder_is_never_replaced(company: Path, tmp_path: Path) -> None:
    """A folder that is there stays as it is."""
    with pytest.raises(FileExistsError):
        write_sample(drawn(company, records=1), tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"records": 0}, {"records": 1_001}, {"seed": " "}, {"seed": "a\nb"}])
def test_a_draw_without_sense_is_refused(company: Path, options: Mapping[str, Any]) -> None:
    """The number is bounded, and the seed is a text on one line."""
    with pytest.raises(ConfigurationError):
        drawn(company, **options)


def test_a_sample_of_several_hosts_is_one_draw(company: Path, tmp_path: Path) -> None:
    """In any order of the hosts, each call with a proof from its own log; a copy of a host changes nothing."""
    other = tmp_path / "other"
    work(other, start=START + 10**6)
    copy = shutil.copytree(company, tmp_path / "copy")
    trust = merged(*(TrustStore.load(path / "trust.json") for path in (company, other)))
    found = draw(Evidence(sources=(company, other), trust=trust), seed="seed", records=1_000)
    again = draw(Evidence(sources=(other, company, copy), trust=trust), seed="seed", records=1_000)
    assert [one.record for one in found.drawn] == [one.record for one in again.drawn]
    assert found.population == again.population == len(found.drawn)
    assert {one.source for one in found.drawn} == {0, 1}
    assert write_sample(found, tmp_path / "sample") == len(found.drawn)
    for one in found.drawn:
        proof = tmp_path / "sample" / f"{one.number:04d}.tlog-proof"
        assert Verifier(trust).proof(proof, record=one.record).verdict == "verified"


def test_a_sample_is_not_drawn_from_spans(company: Path, tmp_path: Path) -> None:
    """They have no log that a proof could be of."""
    (tmp_path / "spans.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="no spans"):
        draw(Evidence(sources=(company, tmp_path / "spans.json")), seed="seed", records=1)
