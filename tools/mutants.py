"""How many small changes of authority, evidence and audit their tests notice: `python tools/mutants.py [group ...]`.

Each group is a few modules with the unit tests that are theirs, so that a mutant costs about a second and the score
says what these tests notice, not what some test elsewhere does. It runs in a copy of the working tree below
.nox/mutants, and a second run goes on where the first one was stopped. All groups take hours.

A mutant that only changes the type that `cast` names is not counted: nothing runs differently. What a module does
while it is imported (the rules of records, the readers of the mirror) is counted, but not measured: mutmut imports
it before it switches a mutant on.
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AUTHORITY = ("tests/unit/authority",)
TABLES = "tests/unit/evidence/test_refused_evidence.py"
WRITING = tuple(
    f"tests/unit/evidence/test_{name}.py"
    for name in ("files", "ledger", "recovery", "sealing", "streams", "digests", "refused_ledger")
)
VERIFYING = (
    "tests/unit/audit/test_ledger.py",
    "tests/unit/audit/test_periods.py",
    "tests/adversarial/test_tamper.py",
    "tests/adversarial/test_lost_log.py",
    "tests/adversarial/test_ledger_surgery.py",
    "tests/adversarial/test_revocation.py",
)
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "grants": (("authority/chain", "authority/grants", "authority/tokens", "authority/pop"), AUTHORITY),
    "scopes": (("authority/scope", "authority/registry", "authority/combinators", "authority/constraints"), AUTHORITY),
    "constraints": (
        ("authority/values", "authority/literals", "authority/locations"),
        (*AUTHORITY, "tests/adversarial/test_arguments_constraints.py"),
    ),
    "proofs": (
        ("evidence/merkle", "evidence/checkpoint", "evidence/envelope"),
        (TABLES, *(f"tests/unit/evidence/test_{name}.py" for name in ("merkle", "checkpoint", "envelope"))),
    ),
    "records": (
        ("evidence/records", "evidence/mirror"),
        ("tests/unit/evidence/test_records.py", "tests/unit/evidence/test_mirror.py"),
    ),
    "spans": (("evidence/otlp",), (TABLES, "tests/unit/evidence/test_otlp.py")),
    "wire": (("evidence/otlp_protobuf", "evidence/traces"), ("tests/unit/evidence/test_otlp_protobuf.py",)),
    "pasted": (("evidence/pasted",), ("tests/unit/audit/test_pasted.py",)),
    "lines": (("evidence/mac", "evidence/lines", "evidence/digests", "evidence/files"), (TABLES, *WRITING)),
    "ledger": (("evidence/stream_writer", "evidence/log", "evidence/ledger"), (TABLES, *WRITING)),
    "proof_files": (
        ("evidence/proof_files", "audit/proving", "audit/proof_check", "audit/periods"),
        (
            "tests/unit/evidence/test_proof_files.py",
            "tests/unit/audit/test_proofs.py",
            "tests/unit/audit/test_periods.py",
        ),
    ),
    "verification": (
        ("audit/ledger_check", "audit/stream_check", "audit/log_check", "audit/findings", "audit/verification"),
        VERIFYING,
    ),
    "delegations": (("audit/calls_check", "audit/chain_check", "audit/revocation"), VERIFYING),
    "patterns": (
        ("audit/shapes", "audit/patterns"),
        ("tests/unit/audit/test_shapes.py", "tests/unit/audit/test_patterns.py", "tests/unit/audit/test_ledger.py"),
    ),
    "traces": (
        ("audit/spans_check", "audit/attestations", "audit/comparison", "audit/coverage"),
        ("tests/unit/audit/test_spans.py", "tests/unit/audit/test_ledger.py"),
    ),
    "sealing": (("evidence/sealing", "evidence/recovery", "evidence/streams", "evidence/layout"), (TABLES, *WRITING)),
}
NOTICED = (1, 3)  # Exit codes of pytest: a test failed, or pytest itself did.
UNNOTICED = (0, 5, 33)  # All passed, no test was collected, no test reaches the function.


def copied(group: str) -> Path:
    """Bring the copy of the working tree up to date and narrow its settings to the group; return its folder."""
    folder = ROOT / ".nox" / "mutants" / group
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file() and name != "pyproject.toml":
            _write(target, source.read_bytes())
    modules, tests = GROUPS[group]
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for key, values in {
        "only_mutate": [f"agent_identity/{module}.py" for module in modules],
        "pytest_add_cli_args_test_selection": list(tests),
    }.items():
        settings = re.sub(rf"^{key} = \[.*\]$", f"{key} = {json.dumps(values)}", settings, flags=re.MULTILINE)
    _write(folder / "pyproject.toml", settings.encode())
    return folder


def _write(target: Path, data: bytes) -> None:
    """Write a file unless it holds the data already, so that mutmut keeps what it found before."""
    if not (target.exists() and target.read_bytes() == data):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


class _WithoutCasts(ast.NodeTransformer):
    """Replaces each ``cast(type, value)`` by its value."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        is_cast = isinstance(node.func, ast.Name) and node.func.id == "cast" and len(node.args) == 2
        return node.args[1] if is_cast else node


def equal_without_casts(mutated: Path) -> Iterator[str]:
    """Yield the names of the mutants in a mutated module that only change the type of a cast."""
    bodies = {
        node.name: ast.dump(ast.Module(_WithoutCasts().visit(node).body, []))
        for node in ast.walk(ast.parse(mutated.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name
    }
    for name, body in bodies.items():
        if not name.endswith("_orig") and body == bodies.get(re.sub(r"_\d+$", "_orig", name)):
            yield name


def scores(folder: Path) -> Iterator[str]:
    """Yield a line for each module: how many mutants were noticed, and the names of the others."""
    for found in sorted(folder.glob("mutants/agent_identity/**/*.py.meta")):
        codes = json.loads(found.read_text(encoding="utf-8"))["exit_code_by_key"]
        same = set(equal_without_casts(found.with_suffix("")))
        counted = {name: code for name, code in codes.items() if code is not None and name.split(".")[-1] not in same}
        if not counted:
            continue
        left = [name for name, code in counted.items() if code in UNNOTICED]
        odd = [name for name, code in counted.items() if code not in NOTICED and code not in UNNOTICED]
        noticed = len(counted) - len(left)
        module = found.relative_to(folder / "mutants").as_posix().removesuffix(".py.meta")
        yield f"{module}: {noticed} of {len(counted)} ({100 * noticed / len(counted):.1f} %), {len(odd)} by a timeout"
        yield from (f"    unnoticed: {name}" for name in left)


def main() -> int:
    """Run the groups that are named, or all of them, and print what their tests noticed."""
    parser = argparse.ArgumentParser(description="Run mutmut over groups of modules.")
    parser.add_argument("group", nargs="*", help=f"any of: {', '.join(GROUPS)}; all of them if none is named")
    parser.add_argument("--score", action="store_true", help="print what was found so far, and run nothing")
    options = parser.parse_args()
    if unknown := set(options.group) - GROUPS.keys():
        parser.error(f"expected groups among {', '.join(GROUPS)}, got {', '.join(sorted(unknown))}")
    published = os.environ.get("AGENT_IDENTITY_VECTORS") or str(ROOT.parent / "shared" / "vectors")
    # The copy does not stand beside the vectors; the same few examples each time make the score repeatable.
    environment = {**os.environ, "AGENT_IDENTITY_VECTORS": published, "HYPOTHESIS_PROFILE": "few"}
    for group in options.group or GROUPS:
        folder = copied(group)
        if not options.score:
            command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1"]
            subprocess.run(command, cwd=folder, env=environment, check=True)  # noqa: S603
        print(*scores(folder), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
