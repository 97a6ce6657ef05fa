"""Erasures as the evidence tells them: which tasks they cover, and which records are of something else."""

from typing import Any

import pytest

from agent_identity._record.parts import Erased, PrunedRange, Stream, Time
from agent_identity._verify.ledger.erasures import Erasures, erasure_words
from agent_identity.records import Erasure

UUID = "AZV6P04jewGp0QAAAAAAAQ"


def erasure(start: str, **erased: Any) -> Erasure:
    """Return the record of an erasure."""
    stream = Stream(id=UUID, seq="2", prev="A" * 43)
    return Erasure(v="1", id=UUID, stream=stream, time=Time(start=start), erasure=Erased(**erased))


RECORDS = [
    erasure("1", key="task-1"),
    erasure("100", principal="alice", keys="2"),
    erasure("50", principal="alice", keys="1"),
    erasure("900", pruned=PrunedRange(stream=UUID, first="1", last="2", root="A" * 43, checkpoint="1")),
]


@pytest.mark.parametrize(
    ("task", "principal", "started_ns", "covered"),
    [
        ("task-1", "bob", 500, True),
        ("task-2", "alice", 100, True),
        ("task-2", "alice", 101, False),
        ("task-2", "bob", 1, False),
        (None, None, 1, False),
    ],
)
def test_a_task_is_covered_by_its_id_or_its_principal(
    task: str | None, principal: str | None, started_ns: int, covered: bool
) -> None:
    """A principal is covered up to the latest of its erasures, whatever their order."""
    assert Erasures(RECORDS).cover(task, principal, started_ns) is covered


def test_words_are_about_keys_only() -> None:
    """What was erased is told with who had it erased, on one line; erasures of other things have other words."""
    assert erasure_words(Erased(principal="a\u2014b", keys="1", by="c")) == (
        "the digests of the tasks of 'a\\u2014b' so far cannot be proved any more: their keys were erased, by 'c'"
    )
    assert erasure_words(RECORDS[-1].erasure) is None
    assert erasure_words(Erased(key="task 1")) == (
        "the digests of the task 'task 1' cannot be proved any more: their keys were erased"
    )
    assert erasure_words(Erased(key="ü", by="ö")) == (
        "the digests of the task '\\xfc' cannot be proved any more: their keys were erased, by '\\xf6'"
    )


def test_a_principal_is_covered_from_the_beginning_of_time() -> None:
    """The first moment there is belongs to what was erased, and to nobody else."""
    erasures = Erasures([erasure("0", principal="alice", keys="1")])
    assert erasures.cover("t", "alice", 0)
    assert not erasures.cover("t", "bob", 0)
    assert not erasures.cover("t", "alice", 1)
