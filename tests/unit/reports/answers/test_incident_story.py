"""The story of an incident: the sentence, what stands out, and constraints in words."""

from pathlib import Path
from typing import Any

import pytest
from small_company import work

from agent_identity._reports.answers.constraint_words import bounds_in_words
from agent_identity._reports.answers.incident_report import BINS, IncidentReport
from agent_identity._reports.answers.incident_story import notable, sentence
from agent_identity.answers import Evidence, Seed, incident, plain
from agent_identity.cli.company.month import STOLEN, write_month
from agent_identity.constraints import (
    AllOf,
    AnyOf,
    Contains,
    EmailDomain,
    Exact,
    NotOneOf,
    OneOf,
    PathWithin,
    Prefix,
    Range,
    Subset,
    UrlWithin,
    Wildcard,
)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of the month of the demo."""
    directory = tmp_path_factory.mktemp("month") / "evidence"
    write_month(directory)
    return directory


def asked(directory: Path, seed: str, **options: Any) -> IncidentReport:
    """Return the incident of a seed."""
    return incident(Evidence(sources=directory, **options), Seed.parse(seed))


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (Range(max=5000), "up to 5,000"),
        (Range(min=0, max=5000), "from 0 to 5,000"),
        (Range(min=1), "from 1"),
        (Range(min=0, max=10, min_inclusive=False, max_inclusive=False), "above 0 and below 10"),
        (Range(max=10, max_inclusive=False), "below 10"),
        (Exact("EUR"), "exactly EUR"),
        (Exact("a b"), "exactly “a b”"),
        (OneOf("EUR", "USD"), "EUR or USD"),
        (OneOf(True, False), "true or false"),
        (NotOneOf("a", "b"), "anything but a and b"),
        (Contains("a"), "with at least a"),
        (Subset("a", "b"), "only of a and b"),
        (Wildcard(), "any"),
        (PathWithin("/srv/in"), "under /srv/in"),
        (UrlWithin("https://example.com/a/"), "under https://example.com/a/"),
        (EmailDomain("example.com"), "at example.com"),
        (Prefix("INV-"), "beginning with INV-"),
        (AllOf(Range(min=1), Range(max=5)), "(from 1 and up to 5)"),
        (AnyOf(Exact("a"), Prefix("b")), "(exactly a or beginning with b)"),
    ],
    ids=str,
)
def test_a_constraint_is_words(constraint: Any, words: str) -> None:
    """Each kind has words, and none of them is JSON."""
    assert bounds_in_words({"amount": constraint.to_claim()}) == f"amount {words}"


def test_what_has_no_words_is_named() -> None:
    """An open tool, an unknown kind and something else are said as they are."""
    assert bounds_in_words({}) == "any arguments"
    assert bounds_in_words({"a": {"constraint_type": "x-new", "value": 1}}) == "a bounded by x-new"
    assert bounds_in_words({"a": 1, "b": {"constraint_type": "range"}}) == "a bounded, b any number"


def test_a_refused_and_suspended_agent_is_one_sentence(month: Path) -> None:
    """Who tried what for whom, and how long after the first attempt it was stopped."""
    found = asked(month, "agent:researcher")
    assert sentence(found) == (
        "researcher tried pay_invoice and send_mail for carol@example.com: refused, suspended 2 s later."
    )
    marked = [(one.weight, one.label, one.words) for one in notable(found)]
    assert ("bad", "refused", "researcher tried pay_invoice for carol@example.com: tool not granted") in marked
    (stop,) = (words for _, label, words in marked if label == "suspended")
    assert stop.endswith("lifted 1 h 0 min later: 0 calls began afterwards, 1 refused")


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        ("principal:nightly", "clerk tried pay_invoice for nightly: refused"),
        ("tool:list_invoices", "44 calls by clerk and office for nightly and alice@example.com; none was refused"),
        ("agent:stranger", "Nothing in the evidence concerns agent:stranger."),
        ("everything", "10 calls refused: payer tried pay_invoice 5 times, researcher tried"),
    ],
)
def test_other_seeds_have_their_sentence(month: Path, seed: str, words: str) -> None:
    """One party, none that was refused, several, and nothing at all."""
    assert words in sentence(asked(month, seed))


def test_what_stands_out_in_the_month(month: Path) -> None:
    """Refused calls, the unknown outcome, the revoked key and the changed tool, each with a record."""
    found = list(notable(asked(month, "everything")))
    labels = {one.label for one in found}
    assert labels == {"refused", "suspended", "revoked key", "unknown outcome", "changed tool"}
    assert all(one.records for one in found if one.label != "changed tool")
    (key,) = (one for one in found if one.label == "revoked key")
    assert STOLEN.public_key.thumbprint[:12] in key.words
    paid = [one.words for one in found if "4 times" in one.words]
    assert paid == ["payer tried pay_invoice for alice@example.com, 4 times: argument out of scope, argument amount"]


def test_all_calls_are_in_the_bins_and_none_in_json(tmp_path: Path) -> None:
    """The picture has each call once, by agent and outcome; what only pages draw is in no JSON."""
    work(tmp_path / "evidence", tasks=3, days=10)
    found = asked(tmp_path / "evidence", "everything")
    assert sum(one.count for one in found.bins) >= found.calls
    assert all(0 <= one.number < BINS for one in found.bins)
    assert {one.agent for one in found.bins if one.kind == "refused"} == {"helper", ""}
    stated = plain(found)
    assert isinstance(stated, dict)
    assert not {"bins", "paths", "refusals", "ends_ns"} & stated.keys()
