"""How long large ledgers and exports take to verify, against one signature check for each record, and in what memory.

``python benchmarks/ledgers.py DIR --records 1000000`` writes a ledger; ``python benchmarks/scale.py DIR … --processes
2`` verifies each in a process of its own. ``python benchmarks/traces.py DIR TRACES`` writes the spans of a ledger, and
``python benchmarks/scale.py --traces DIR TRACES`` verifies them under its trust file, with ``--ledger`` against it.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from agent_identity.audit import Verifier
from agent_identity.identity import SigningKey

SAMPLES = 3_000


def signature_seconds() -> float:
    """Return the processor time of one check of an Ed25519 signature over 1,000 bytes, the best of five."""
    key = SigningKey.from_seed(b"x" * 32)
    text = bytes(1_000)
    signature = key.sign(text)
    found = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(SAMPLES):
            key.public_key.verify(signature, text)
        found.append((time.process_time() - begun) / SAMPLES)
    return min(found)


def measure(source: str, processes: int, of: str | None, *, ledger: bool) -> dict[str, float]:
    """Verify a ledger, or the spans of one, in this process; return what it took.

    Args:
        source: The ledger, or the folder of the spans.
        processes: How many.
        of: The ledger of the spans.
        ledger: Whether they are held against it.
    """
    begun, used = time.perf_counter(), time.process_time()
    if of is None:
        report = Verifier(processes=processes).ledger(source)
    else:
        files = sorted(map(str, Path(source).iterdir()))
        verifier = Verifier(f"{of}/trust.json", processes=processes)
        report = verifier.traces(*files, ledger=of if ledger else None)
    wall, own = time.perf_counter() - begun, time.process_time() - used
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "records": report.counts["records"],
        "exit_code": report.exit_code,
        "wall": wall,
        "cpu": own + children.ru_utime + children.ru_stime,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rss_child": children.ru_maxrss / 1024,
        "signature": signature_seconds(),
    }


def main() -> None:
    """Measure the ledgers that the arguments name."""
    parser = argparse.ArgumentParser(description="Verify large ledgers, or exports.")
    parser.add_argument("directories", nargs="+")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--traces", metavar="LEDGER", help="the directories hold spans of this ledger")
    parser.add_argument("--ledger", action="store_true", help="hold the spans against it")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.directories[0], options.processes, options.traces, ledger=options.ledger)))
        return
    print("| records | processes | wall | processor | of one signature check each | memory, each other process |")
    print("|---|---|---|---|---|---|")
    for directory in options.directories:
        command = [sys.executable, __file__, "--one", "--processes", str(options.processes), directory]
        command += [] if options.traces is None else ["--traces", options.traces]
        command += ["--ledger"] if options.ledger else []
        done = subprocess.run(command, check=True, capture_output=True)  # noqa: S603  Ourselves.
        m = json.loads(done.stdout)
        if m["exit_code"]:
            raise SystemExit(f"{directory} does not verify")
        whole = m["records"] * m["signature"]
        print(
            f"| {m['records']:,.0f} | {options.processes} | {m['wall']:.1f} s | {m['cpu']:.1f} s "
            f"| {m['wall'] / whole:.3f} of {whole:.1f} s; processor {m['cpu'] / whole:.3f} "
            f"| {m['rss']:.0f} MiB, {m['rss_child']:.0f} MiB |"
        )


if __name__ == "__main__":
    main()
