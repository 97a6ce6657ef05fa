"""Verdicts of a fixed set of cases, recorded before the inside of the verifier changes, and compared afterwards.

``python tests/net/net.py --record`` writes ``verdicts.json.gz`` beside this file; without the option the cases run
again and differences are printed. The cases: the golden vectors and what becomes of them when a byte is changed,
surgeries at the places of a ledger with every kind of record, and clean ledgers.
"""

# ruff: noqa: T201  It is a program.

import argparse
import gzip
import importlib.util
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
TESTS: Final = HERE.parent
VECTORS: Final = TESTS / "vectors"
KEPT: Final = HERE / "verdicts.json.gz"
SURGERIES: Final = 1_500
LEDGERS: Final = 1_000
FLIPS: Final = 200

Case = tuple[str, list[Any]]


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


sys.path.append(str(TESTS))  # For what several folders of tests share.
adapter = _module("net_adapter", HERE / "adapter.py")
surgeries = _module("surgeries", TESTS / "adversarial" / "surgeries.py")
clean = sys.modules["clean_ledgers"]


def vectors(room: Path, flips: int) -> Iterator[Case]:
    """Yield the golden ledger and spans, whole and with one byte changed."""
    trust = VECTORS / "evidence" / "trust.json"
    yield "evidence", adapter.verdict_of(VECTORS / "evidence", trust)
    yield "spans", adapter.verdict_of(VECTORS / "spans.jsonl", trust)
    yield "spans with ledger", adapter.verdict_of(VECTORS / "spans.jsonl", trust, ledger=VECTORS / "evidence")
    copy = Path(shutil.copytree(VECTORS / "evidence", room / "copy"))
    spans = Path(shutil.copy(VECTORS / "spans.jsonl", room / "spans.jsonl"))
    targets = [*(path for path in sorted(copy.rglob("*")) if path.is_file() and path.name != "trust.json"), spans]
    rng = random.Random(14)  # noqa: S311  Nothing here is a secret.
    for number in range(flips):
        path = rng.choice(targets)
        data = path.read_bytes()
        at, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        path.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
        yield f"flip {number}", adapter.verdict_of(spans if path == spans else copy, trust)
        path.write_bytes(data)


def operations(room: Path, most: int) -> Iterator[Case]:
    """Yield surgeries of every kind at places that a seed draws."""
    patient = surgeries.patient_in(room)
    all_of = [
        (table, name, where)
        for table, rows in surgeries.TABLES.items()
        for name in rows
        for where in surgeries.places(patient, table)
    ]
    random.Random(14).shuffle(all_of)  # noqa: S311  Nothing here is a secret.
    done = 0
    for table, name, where in all_of:
        with surgeries.operated(patient, table, name, where) as at:
            if at is None:
                continue
            kept = patient.files[surgeries.NOTE] if name == "an earlier state of all" else None
            found = adapter.verdict_of(patient.directory, clean.TRUST, checkpoint=kept)
        yield f"{table}: {name} at {where[0]} {where[1]}", found
        done += 1
        if done == most:
            return


def ledgers(room: Path, most: int) -> Iterator[Case]:
    """Yield clean ledgers of one to four processes, some of them killed."""
    clean.without_threads()
    for seed in range(most):
        directory = room / f"clean-{seed}"
        clean.make(directory, seed)
        yield f"clean {seed}", adapter.verdict_of(directory, clean.TRUST)
        shutil.rmtree(directory)


def run(share: float) -> dict[str, list[Any]]:
    """Return the verdicts of all cases, or of a share of each kind."""
    found: dict[str, list[Any]] = {}
    memory = Path("/dev/shm")  # noqa: S108  A folder of our own in it.
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        room = Path(name)
        kinds = ((vectors, FLIPS), (operations, SURGERIES), (ledgers, LEDGERS))
        for make, most in kinds:
            found.update(make(room, max(1, int(most * share))))
    return found


def recorded() -> dict[str, list[Any]]:
    """Return the verdicts that are kept."""
    kept: dict[str, list[Any]] = json.loads(gzip.decompress(KEPT.read_bytes()))
    return kept


def main() -> int:
    """Record or compare; return 1 if a verdict differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="keep the verdicts as they are now")
    parser.add_argument("--share", type=float, default=1.0, help="the share of the cases to run, from 0 to 1")
    options = parser.parse_args()
    found = run(options.share)
    if options.record:
        KEPT.write_bytes(gzip.compress(json.dumps(found, sort_keys=True).encode(), mtime=0))
        print(f"{len(found):,} verdicts kept")
        return 0
    kept = recorded()
    differ = [name for name, verdict in found.items() if kept.get(name) != json.loads(json.dumps(verdict))]
    for name in differ[:40]:
        print(name, json.dumps(kept.get(name)), json.dumps(found[name]), sep="\n  ")
    print(f"{len(found):,} verdicts, {len(differ)} differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
