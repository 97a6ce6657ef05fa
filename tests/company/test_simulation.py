"""The simulation itself: a seed decides what happens, so that a difference can be looked at again."""

from pathlib import Path
from typing import Any

from company.days import Company, simulate


def happened(company: Company) -> list[tuple[Any, ...]]:
    """Return what happened, without the names that keys and chance give."""
    return [
        (act.at, act.place, act.tool, act.agent, act.outcome, act.reason, act.rule, act.findings, act.stolen)
        for act in company.truth.judged(("finance", "support", "lab", "batch", "vault"))
    ]


def test_the_same_seed_makes_the_same_week(tmp_path: Path) -> None:
    """Two runs of one seed do the same at the same times; another seed does something else."""
    first, again, other = (
        happened(simulate(tmp_path / name, seed, weeks=1)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    assert first != other
