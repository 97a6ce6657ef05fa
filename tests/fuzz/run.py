"""Coverage-guided fuzzing of what strangers send: ``python tests/fuzz/run.py [TARGET ...] [--seconds N]``.

Needs ``atheris`` (Linux, CPython up to what it has wheels for). Each target runs in a process of its own and
begins with its corpus; with ``--keep`` the smallest of the inputs that reached something new are kept.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = 64


def main() -> int:
    """Run the targets one after the other; the exit status is 1 if any has a finding."""
    sys.path.insert(0, str(HERE))
    if sys.argv[1:2] == ["--one"]:
        return fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="*", help="which targets; by default all")
    parser.add_argument("--seconds", type=int, default=600, help="how long each runs (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep new inputs in the corpus")
    chosen = parser.parse_args()
    from targets import TARGETS, seeds

    unknown = sorted(set(chosen.target) - set(TARGETS))
    if unknown:
        parser.error(f"unknown target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    failed = [name for name in chosen.target or TARGETS if not run(name, seeds(name), chosen.seconds, keep=chosen.keep)]
    sys.stdout.write(f"findings in: {', '.join(failed)}\n" if failed else "no findings\n")
    return 1 if failed else 0


def run(name: str, good: tuple[bytes, ...], seconds: int, *, keep: bool) -> bool:
    """Fuzz one target in a process of its own and return whether it stood."""
    corpus = HERE / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    bounds = (f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=8192")
    told = ("-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={corpus}/finding-")
    with tempfile.TemporaryDirectory() as found:
        for number, data in enumerate(good):
            Path(found, f"seed-{number}").write_bytes(data)
        command = [sys.executable, __file__, "--one", name, found, str(corpus), *bounds, *told]
        stood = subprocess.run(command, check=False).returncode == 0
        if keep and stood:
            smallest = sorted(Path(found).iterdir(), key=lambda path: path.stat().st_size)[:KEPT]
            for path in smallest:
                shutil.copy(path, corpus / hashlib.sha256(path.read_bytes()).hexdigest()[:16])
    return stood


def fuzz(name: str, options: list[str]) -> int:
    """Hand one target to the fuzzer, which does not return."""
    import atheris

    with atheris.instrument_imports(include=["agent_identity"]):
        from targets import TARGETS
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
