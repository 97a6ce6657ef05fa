"""Question 20 and ``report controls``, about an organization whose truth is known."""

from typing import Any

from company import expected
from company.asking import Asked
from company.world import ALL


def evidence(found: Any) -> dict[str, set[int]]:
    """Return the numbers that a report gives for each signal."""
    numbers: dict[str, set[int]] = {}
    for row in found["rows"]:
        for one in row["evidence"]:
            numbers.setdefault(one["signal"], set()).add(one["count"])
    return numbers


def test_question_20_every_number_behind_a_status_is_true(asked: Asked) -> None:
    """What clauses are judged by is what happened; a program that approves is no person."""
    found = asked.ask(20, sources=asked.sources(traces=True))
    truth = expected.signals(asked.truth, ALL, traces=True)
    numbers = evidence(found)
    assert {name: numbers[name] for name in truth if name in numbers} == {
        name: {truth[name]} for name in truth if name in numbers
    }
    print(sorted(numbers.keys() - truth.keys()), sorted(truth.keys() - numbers.keys()))
