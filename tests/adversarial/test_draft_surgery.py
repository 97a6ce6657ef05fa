"""Version 2 of the record under the knife: surgery gets the verdicts that it gets on version 1."""

import importlib.util
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_identity._evidence.ledger.sealer import Sealing
from agent_identity._evidence.record.parts import DRAFT
from agent_identity._evidence.record.schema import KINDS
from agent_identity.audit import Verifier

_spec = importlib.util.spec_from_file_location("surgeries", Path(__file__).with_name("surgeries.py"))
assert _spec is not None
assert _spec.loader is not None
surgeries = sys.modules.setdefault("surgeries", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(surgeries)

OTHER_SPELLING = {  # Rows that name a spelling of version 1, or make records in it.
    *("claim another stream", "an escaped slash or dash", "forge a grant"),
    *(name for name in surgeries.RECORDS if name.startswith("put ") and "MAC" not in name),
    *("nest deeply", "a member twice"),
}
ROWS = [
    (table, name)
    for table, rows in surgeries.TABLES.items()
    for name in rows
    if table == "records" and name not in OTHER_SPELLING
] + [(table, name) for table in ("entries", "whole") for name in list(surgeries.TABLES[table])[::4]]
CLEAN = 60
PLACES = 2


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
    yield surgeries.patient_in(room, DRAFT)
    shutil.rmtree(room)


def test_the_drafts_under_the_knife_are_sound_and_of_every_kind_that_is_written(patient: object) -> None:
    """What surgery is done to verifies before, if it is asked for as a draft."""
    trust = surgeries.clean.TRUST
    kept = patient.earlier[surgeries.NOTE]
    assert Verifier(trust).ledger(patient.directory, checkpoint=kept).exit_code == 0
    assert Verifier(trust).ledger(patient.directory, checkpoint=kept).verdict == "cannot_tell"
    assert surgeries.kinds_of(patient) == KINDS | {"detail"}


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_surgery_on_drafts_gets_its_verdict_and_the_record_named(patient: object, table: str, name: str) -> None:
    """Exit code, kind of problem and place are those of version 1, wherever the knife goes in."""
    places = surgeries.places(patient, table)
    chosen = random.Random(name).sample(places, min(PLACES, len(places)))  # noqa: S311
    answers = [surgeries.judge(patient, table, name, where) for where in chosen]
    assert [answer for answer in answers if answer not in (None, "not here")] == []


def test_clean_drafts_raise_no_alarm() -> None:
    """Drafts as the library writes them, details, crashes and recoveries included, verify and are complete."""
    facts, wrong = surgeries.clean.many(range(CLEAN), DRAFT)
    assert wrong == []
    assert (facts["ledgers"], facts["recovered"] > CLEAN // 4) == (CLEAN, True)
