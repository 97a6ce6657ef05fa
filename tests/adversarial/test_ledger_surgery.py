"""Every kind of surgery at some places of a ledger, and clean ledgers; ``nox -s surgery`` does all of it everywhere."""

import importlib.util
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_identity import Verifier
from agent_identity._ledger.sealer import Sealing
from agent_identity._record.schema import KINDS

_spec = importlib.util.spec_from_file_location("surgeries", Path(__file__).with_name("surgeries.py"))
assert _spec is not None
assert _spec.loader is not None
surgeries = sys.modules.setdefault("surgeries", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(surgeries)

ROWS = [(table, name) for table, rows in surgeries.TABLES.items() for name in rows]
CLEAN = 120
PLACES = 3


@pytest.fixture(scope="module", autouse=True)
def threads_again() -> Iterator[None]:
    """Give ledgers their thread back, which those of these tests do without."""
    ensure = Sealing._ensure_thread
    yield
    Sealing._ensure_thread = ensure  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """The ledger under the knife, in one piece before and after."""
    room = tmp_path_factory.mktemp("surgery")
    yield surgeries.patient_in(room)
    shutil.rmtree(room)


def test_the_ledger_under_the_knife_is_sound_and_holds_every_kind_of_record(patient: object) -> None:
    """What surgery is done to verifies before, so that each alarm is one about the surgery."""
    report = Verifier(surgeries.clean.TRUST).ledger(patient.directory, checkpoint=patient.earlier[surgeries.NOTE])
    assert report.exit_code == 0
    assert surgeries.kinds_of(patient) == KINDS
    assert len(ROWS) >= 40


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_every_surgery_gets_its_verdict_and_the_record_named(patient: object, table: str, name: str) -> None:
    """Exit code, kind of problem and place are those of the table, wherever the knife goes in."""
    places = surgeries.places(patient, table)
    chosen = random.Random(name).sample(places, min(PLACES, len(places)))  # noqa: S311
    answers = [surgeries.judge(patient, table, name, where) for where in chosen]
    assert [answer for answer in answers if answer not in (None, "not here")] == []


def test_clean_ledgers_raise_no_alarm() -> None:
    """Ledgers as the library writes them, crashes and recoveries included, verify and are complete."""
    facts, wrong = surgeries.clean.many(range(CLEAN))
    assert wrong == []
    assert facts["ledgers"] == CLEAN
    assert facts["recovered"] > CLEAN // 4
