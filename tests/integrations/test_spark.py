"""On Spark a ledger is found to be what it is found to be on one machine, to the last word of the report.

What needs a real Spark runs in the session of that name (``python3 dev.py test spark``); all else runs everywhere.
"""

import importlib.util
import os
import pickle
import random
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Report, Verifier
from agent_identity._ledger.sealer import Sealing
from agent_identity._verify.store.workers import Executor
from agent_identity.errors import ConfigurationError
from agent_identity.integrations import spark
from agent_identity.integrations.spark import on_spark

sys.path.insert(0, str(Path(__file__).parents[1] / "adversarial"))

import surgeries

MUST = os.environ.get("AGENT_IDENTITY_SPARK") == "1"
SURGERIES = [(table, name) for table, rows in surgeries.TABLES.items() for name in list(rows)[::6]]


class Bag:
    """Items in partitions; what is done to them is done as another process would, through bytes."""

    def __init__(self, items: Iterable[Any], function: Callable[[Any], Any] | None = None) -> None:
        self.items, self.function = list(items), function

    def map(self, f: Callable[[Any], Any]) -> "Bag":
        """Keep what is to be done."""
        return Bag(self.items, f)

    def collect(self) -> list[Any]:
        """Do it."""
        assert self.function is not None
        there = [pickle.loads(pickle.dumps((self.function, item))) for item in self.items]  # noqa: S301
        return [pickle.loads(pickle.dumps(function(item))) for function, item in there]  # noqa: S301


class Double:
    """A context of Spark without Spark; notes how many partitions each job has."""

    defaultParallelism = 2  # noqa: N815  Its name there.

    def __init__(self) -> None:
        self.jobs: list[int] = []

    def parallelize(self, c: Iterable[Any], numSlices: int | None = None) -> Bag:  # noqa: N803
        """Hand over items."""
        bag = Bag(c)
        assert numSlices == len(bag.items)
        self.jobs.append(numSlices)
        return bag


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[surgeries.Patient]:
    """The ledger under the knife."""
    ensure = Sealing._ensure_thread
    yield surgeries.patient_in(tmp_path_factory.mktemp("surgery"))
    Sealing._ensure_thread = ensure  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks of a few records."""
    monkeypatch.setattr("agent_identity._storage.lines._CHUNK", 2_500)


def alone(item: Any) -> list[Any]:
    """Return an item."""
    return [item]


def compare(executor: Executor, directory: Path, **options: Any) -> Report:
    """Verify a ledger on one machine and elsewhere; return the report, which is the same."""
    alone = Verifier(surgeries.clean.TRUST).ledger(directory, **options)
    assert Verifier(surgeries.clean.TRUST, processes=executor).ledger(directory, **options) == alone
    return alone


def _verified_by(runner: Callable[..., object]) -> Callable[[Path, bytes | None], Report]:
    """Return what verifies a ledger of the surgeries through a runner of jobs."""

    def verified(directory: Path, checkpoint: bytes | None) -> Report:
        return compare(runner, directory, checkpoint=checkpoint)

    return verified


@pytest.mark.parametrize(("table", "name"), SURGERIES)
def test_any_executor_finds_what_one_machine_finds(
    patient: surgeries.Patient, monkeypatch: pytest.MonkeyPatch, table: str, name: str
) -> None:
    """After surgeries of every kind, through the jobs that Spark would get."""
    monkeypatch.setattr(surgeries, "verified", _verified_by(on_spark(Double())))
    where = random.Random(f"{name} on spark").choice(surgeries.places(patient, table))  # noqa: S311
    assert surgeries.judge(patient, table, name, where) in (None, "not here")


def test_blocks_are_taken_from_jobs_of_a_bounded_size(patient: surgeries.Patient) -> None:
    """In jobs of no more partitions than asked for."""
    context = Double()
    assert compare(on_spark(context, partitions=3), patient.directory).exit_code == 0
    assert max(context.jobs) == 3
    assert len(context.jobs) > 3


def test_results_come_in_the_order_of_the_items() -> None:
    """However many jobs there are, and also if there is nothing to do, or nobody takes the rest."""
    for number in (1, 3, 256):
        assert list(on_spark(Double(), partitions=number)(alone, range(20))) == list(range(20))
    assert list(on_spark(Double())(alone, [])) == []
    assert next(iter(on_spark(Double())(alone, range(20)))) == 0


def test_a_job_that_fails_is_no_verdict(patient: surgeries.Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, or another version of the package on an executor, ends the verification."""
    with pytest.raises(ConfigurationError, match="failed"):
        list(on_spark(Double())(int, ["x"]))

    class Old(Double):
        def parallelize(self, c: Iterable[Any], numSlices: int | None = None) -> Bag:  # noqa: N803
            monkeypatch.setattr(spark, "VERSION", "0.0.1")
            return super().parallelize(c, numSlices)

    with pytest.raises(ConfigurationError, match="failed") as caught:
        Verifier(surgeries.clean.TRUST, processes=on_spark(Old())).ledger(patient.directory)
    assert "agent-identity-otel 0.0.1" in str(caught.value.__cause__)


def compare_fleet(runner: Executor, patient: surgeries.Patient, root: Path) -> None:
    """Assert that whole hosts which an executor gets, in any order, are found to be what one machine finds."""
    hosts = [Path(shutil.copytree(patient.directory, root / name)) for name in ("one", "two")]
    hosts += [root / "gone"]
    alone = Verifier(surgeries.clean.TRUST).fleet(*hosts).to_json()
    for order in (hosts, hosts[::-1]):
        assert Verifier(surgeries.clean.TRUST, processes=runner).fleet(*order).to_json() == alone


def test_a_fleet_is_judged_on_executors_as_on_one_machine(patient: surgeries.Patient, tmp_path: Path) -> None:
    """Their reports come back through bytes."""
    compare_fleet(on_spark(Double()), patient, tmp_path)


@pytest.mark.parametrize("partitions", [0, -1, 257])
def test_the_number_of_partitions_has_bounds(partitions: int) -> None:
    """No job has none, or more results than the driver holds."""
    with pytest.raises(ConfigurationError, match="1 to 256"):
        on_spark(Double(), partitions=partitions)


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    """A Spark of this machine, with two executors' worth of processes."""
    if not MUST and (importlib.util.find_spec("pyspark") is None or shutil.which("java") is None):
        pytest.skip("no Spark: pyspark or java is missing; run python3 dev.py test spark")
    from pyspark import SparkConf, SparkContext

    local = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.pyspark.python": sys.executable,
    }
    found = SparkContext(conf=SparkConf().setMaster("local[2]").setAppName("verify").setAll(list(local.items())))
    found.setLogLevel("OFF")
    yield found
    found.stop()


def test_each_part_is_a_partition_of_a_real_spark(context: Any) -> None:
    """Items go to processes that are not this one, each in its own partition, and come back in order."""

    def where(item: int) -> list[tuple[int, int, int]]:
        import os

        from pyspark import TaskContext

        task = TaskContext.get()
        assert task is not None
        return [(item, task.partitionId(), os.getpid())]

    found = list(on_spark(context, partitions=4)(where, range(10)))
    assert [item for item, _, _ in found] == list(range(10))
    assert [partition for _, partition, _ in found] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert os.getpid() not in {process for _, _, process in found}


def test_a_real_spark_verifies_a_good_ledger(context: Any, patient: surgeries.Patient) -> None:
    """The report is that of one machine."""
    assert compare(on_spark(context), patient.directory).exit_code == 0


@pytest.mark.parametrize(("table", "name"), SURGERIES)
def test_a_real_spark_finds_what_one_machine_finds(
    context: Any,
    patient: surgeries.Patient,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    name: str,
) -> None:
    """After surgeries of every kind the reports are equal, and the verdict is that of the table."""
    monkeypatch.setattr(surgeries, "verified", _verified_by(on_spark(context)))
    where = random.Random(f"{name} on spark").choice(surgeries.places(patient, table))  # noqa: S311
    assert surgeries.judge(patient, table, name, where) in (None, "not here")


def test_a_real_job_that_fails_is_no_verdict(context: Any) -> None:
    """What is raised on an executor ends the verification with our error."""
    with pytest.raises(ConfigurationError, match="failed"):
        list(on_spark(context)(int, ["x"]))


def test_a_real_spark_judges_a_fleet(context: Any, patient: surgeries.Patient, tmp_path: Path) -> None:
    """Executors read the files of whole hosts."""
    compare_fleet(on_spark(context), patient, tmp_path)
