"""How many small changes of authority, evidence and audit their tests notice: `python tools/mutants.py [group ...]`.

Each group is a few modules with the unit tests that are theirs, so that a mutant costs about a second and the score
says what these tests notice, not what some test elsewhere does. It runs in a copy of the working tree below
.nox/mutants, and a second run goes on where the first one was stopped. All groups take hours: `--sample N` runs at
most so many mutants of each module, the same ones each time, and the score says so. `--again` runs the mutants once
more that no test noticed, for tests that are new.

A mutant that only changes the type that `cast` names, or the case of a statement of SQL that quotes nothing, is not
counted: nothing runs differently. What a module does while it is imported (the rules of records, the readers of the
mirror) is counted, but not measured: mutmut imports it before it switches a mutant on.
"""

import argparse
import ast
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ("storage", "record", "ledger", "spans", "directory/export")
AUDIT = ("verify", "reports")
AUTHORITY = ("tests/unit/authority", "tests/unit/constraints")


def unit(rooms: tuple[str, ...], *names: str) -> tuple[str, ...]:
    """Return the paths of unit tests of rooms."""
    folders = [ROOT / "tests" / "unit" / room for room in rooms]
    found = (next(path for folder in folders for path in folder.rglob(f"test_{name}.py")) for name in names)
    return tuple(path.relative_to(ROOT).as_posix() for path in found)


TABLES = unit(EVIDENCE, "refused_evidence")
WRITING = unit(EVIDENCE, "os_files", "ledger", "recovery", "sealer", "reader", "digests", "refused_ledger")
PROVING = unit(AUDIT, "proofs", "periods")
KEEPING = (*unit(EVIDENCE, "archiving", "segments"), *unit(AUDIT, "pruned_ledgers"))
VERIFYING = (
    *unit(AUDIT, "ledger", "periods"),
    "tests/adversarial/test_tamper.py",
    "tests/adversarial/test_lost_log.py",
    "tests/adversarial/test_ledger_surgery.py",
    "tests/adversarial/test_keys.py",
)
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "grants": (
        (
            "_authority/grants/chain",
            "_authority/grants/grants",
            "_identity/keys/jws",
            "_authority/grants/proof_of_possession",
        ),
        AUTHORITY,
    ),
    "scopes": (
        ("_authority/grants/scope", "_authority/registries/tasks", "_constraints/combinators", "_constraints/registry"),
        AUTHORITY,
    ),
    "constraints": (
        ("_constraints/values", "_constraints/literals", "_constraints/locations"),
        (*AUTHORITY, "tests/adversarial/test_arguments_constraints.py"),
    ),
    "proofs": (
        ("_ledger/transparency/merkle", "_ledger/transparency/checkpoint", "_spans/envelope"),
        (*TABLES, *unit(EVIDENCE, "merkle", "checkpoint", "envelope")),
    ),
    "records": (
        ("_record/schema", "_spans/span_attributes"),
        unit(EVIDENCE, "schema", "span_attributes"),
    ),
    "spans": (("_spans/otlp_json",), (*TABLES, *unit(EVIDENCE, "otlp_json"))),
    "wire": (("_spans/_otlp_protobuf", "_spans/otlp_reader"), unit(EVIDENCE, "otlp_protobuf")),
    "pasted": (("_spans/pasted_spans",), unit(AUDIT, "pasted")),
    "lines": (
        ("_storage/mac", "_storage/lines", "_storage/layout", "_storage/os_files"),
        (*TABLES, *WRITING),
    ),
    "ledger": (
        ("_ledger/writer", "_ledger/transparency/log", "_ledger/ledger"),
        (*WRITING, *unit(EVIDENCE, "segments")),
    ),
    "sealing": (
        ("_ledger/sealer", "_ledger/transparency/bootstrap"),
        unit(EVIDENCE, "sealer", "bootstrap", "ledger", "refused_ledger"),
    ),
    "reading": (
        (
            *(
                "_ledger/segments",
                "_ledger/_compression",
                "_storage/codecs",
                "_storage/decompress",
            ),
            *("_ledger/_recovery", "_ledger/reader"),
        ),
        unit(EVIDENCE, "recovery", "reader", "segments", "decompress", "refused_ledger"),
    ),
    "keeping": (
        (
            "_ledger/prune_statement",
            "_ledger/excerpt",
            "_ledger/excerpt_starts",
            "_ledger/archiving",
            "_ledger/prunable_prefix",
        ),
        KEEPING,
    ),
    "shown": (
        (
            "_record/disclosures",
            "_record/commitments",
            "_record/digests",
            "_record/pseudonyms",
        ),
        unit(EVIDENCE, "disclosures", "digests", "erasure", "pseudonyms", "refused_ledger"),
    ),
    "witnesses": (
        (
            "_ledger/transparency/_cosignatures",
            "_ledger/transparency/witness",
            "_ledger/transparency/witness_client",
        ),
        (*unit(EVIDENCE, "cosignatures", "witness"), *unit(AUDIT, "external_evidence")),
    ),
    "published": (("_ledger/transparency/publisher",), unit(EVIDENCE, "publisher")),
    "copies": (
        (
            "_directory/export/export_queue",
            "_directory/export/export_cursors",
            "_ledger/follow",
            "_spans/span_from_record",
            "_directory/export/_otlp_encoding",
        ),
        unit(EVIDENCE, "export_queue", "export_cursors", "span_from_record", "otlp_encoding"),
    ),
    "proof_files": (
        ("_ledger/transparency/proof_files", "_verify/proofs/proving"),
        (*unit(EVIDENCE, "proof_files"), *PROVING),
    ),
    "judging": (
        (
            "_verify/proofs/proof_check",
            "_verify/report/periods",
            "_verify/grants/approvals_check",
            "_verify/ledger/_pruning_check",
            "_verify/ledger/erasures",
        ),
        (*PROVING, *unit(AUDIT, "approvals", "pruned_ledgers", "erasures")),
    ),
    "disclosing": (
        ("_verify/proofs/disclosure_check", "_verify/grants/disclosed_arguments", "_verify/proofs/disclosing"),
        (*unit(EVIDENCE, "disclosures"), *unit(("cli/verify",), "disclose"), *unit(("cli/operate",), "erase")),
    ),
    "outside": (("_verify/ledger/external_evidence",), unit(AUDIT, "external_evidence", "periods")),
    "bundle": (("_verify/proofs/bundle",), unit(AUDIT, "pruned_ledgers")),
    "stories": (("_reports/timelines/builder",), unit(AUDIT, "builder")),
    "interop": (("_reports/export/interop",), unit(AUDIT, "interop")),
    "sources": (("_verify/inputs/sources",), unit(AUDIT, "sources", "api", "spans")),
    "verification": (
        ("_verify/ledger/ledger_check", "_verify/api"),
        (
            *unit(AUDIT, "ledger_check", "api", "ledger", "periods", "pruned_ledgers", "spans"),
            *("tests/adversarial/test_keys.py", "tests/adversarial/test_lost_log.py"),
        ),
    ),
    "log": (
        ("_verify/ledger/log_check", "_verify/report/findings", "_verify/report/report"),
        unit(AUDIT, "log_check", "ledger", "external_evidence"),
    ),
    "placing": (
        ("_verify/ledger/stream_check", "_verify/ledger/_stream_growth"),
        unit(AUDIT, "stream_check", "ledger", "pruned_ledgers", "periods"),
    ),
    "calls": (("_verify/ledger/_calls_check",), unit(AUDIT, "calls_check", "ledger", "approvals")),
    "delegations": (("_verify/grants/chain_check", "_verify/grants/revoked_keys"), VERIFYING),
    "checked_records": (
        ("_verify/ledger/record_check", "_verify/ledger/_calls_check", "_verify/store/workers"),
        unit(AUDIT, "stream_check", "calls_check", "workers", "ledger"),
    ),
    "traces": (
        (
            "_verify/spans/spans_check",
            "_verify/spans/_span_reader",
            "_verify/spans/attestations",
            "_verify/_reconcile",
            "_verify/spans/_coverage",
        ),
        (*unit(AUDIT, "spans", "span_reader", "pasted", "pruned_ledgers"), *unit(("cli/verify",), "disclose")),
    ),
    "uses": (
        ("_verify/grants/grant_usage", "_verify/grants/chain_check", "_verify/store/spill_store"),
        unit(AUDIT, "grant_usage", "chain_verdict", "spill_store", "ledger"),
    ),
    "seen": (("_verify/spans/spans_check", "_verify/ledger/index"), unit(AUDIT, "deduplicator", "span_reader")),
    "tables": (("_reports/export/tables",), unit(AUDIT, "tables")),
}
# Each of these would cost each mutant half a minute.
SLOW = ("tests/unit/ledger/test_ledger.py::test_ac_92_a_fault_at_every_call_loses_and_hides_nothing",)
# What mutmut does first when it runs: it writes the mutants of each module, and their names beside them.
WRITE = """
import mutmut.__main__ as mutmut
mutmut.set_mutant_under_test("mutant_generation")
mutmut.makedirs("mutants", exist_ok=True)
mutmut.copy_src_dir()
mutmut.copy_also_copy_files()
mutmut.setup_source_paths()
mutmut.create_mutants(1)
"""
SQL = re.compile(
    "(?i)SELECT .+ FROM |INSERT (OR [A-Z]+ )?INTO |CREATE |UPDATE .+ SET |DELETE FROM |PRAGMA |(BEGIN|COMMIT)$"
)
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
        "pytest_add_cli_args": ["-q", "-p", "no:randomly", *(f"--deselect={test}" for test in SLOW)],
    }.items():
        settings = re.sub(rf"^{key} = \[.*\]$", f"{key} = {json.dumps(values)}", settings, flags=re.MULTILINE)
    _write(folder / "pyproject.toml", settings.encode())
    return folder


def _write(target: Path, data: bytes) -> None:
    """Write a file unless it holds the data already, so that mutmut keeps what it found before."""
    if not (target.exists() and target.read_bytes() == data):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


class _Plain(ast.NodeTransformer):
    """Replaces each ``cast(type, value)`` by its value, and a statement of SQL by one that is written small."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        is_sql = isinstance(node.value, str) and SQL.match(node.value) and not re.search("['\"]", node.value)
        return ast.Constant(str(node.value).lower()) if is_sql else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        is_cast = isinstance(node.func, ast.Name) and node.func.id == "cast" and len(node.args) == 2
        return node.args[1] if is_cast else node


def equal(mutated: Path) -> Iterator[str]:
    """Yield the names of the mutants in a mutated module that only change the type of a cast, or the case of SQL."""
    bodies = {
        node.name: ast.dump(ast.Module(_Plain().visit(node).body, []))
        for node in ast.walk(ast.parse(mutated.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name
    }
    for name, body in bodies.items():
        if not name.endswith("_orig") and body == bodies.get(re.sub(r"_\d+$", "_orig", name)):
            yield name


def results(folder: Path) -> Iterator[tuple[str, dict[str, int | None]]]:
    """Yield each module with its mutants that count, and how pytest ended with them; ``None`` if it did not run."""
    for found in sorted(folder.glob("mutants/agent_identity/**/*.py.meta")):
        codes = json.loads(found.read_text(encoding="utf-8"))["exit_code_by_key"]
        same = set(equal(found.with_suffix("")))
        module = found.relative_to(folder / "mutants").as_posix().removesuffix(".py.meta")
        yield module, {name: code for name, code in codes.items() if name.split(".")[-1] not in same}


def scores(folder: Path) -> Iterator[str]:
    """Yield a line for each module: how many mutants were noticed, and the names of the others."""
    for module, codes in results(folder):
        counted = {name: code for name, code in codes.items() if code is not None}
        if not counted:
            continue
        left = [name for name, code in counted.items() if code in UNNOTICED]
        odd = [name for name, code in counted.items() if code not in NOTICED and code not in UNNOTICED]
        noticed = len(counted) - len(left)
        sample = f", a sample of {len(codes)}" if len(counted) < len(codes) else ""
        percent = f"{100 * noticed / len(counted):.1f} %"
        yield f"{module}: {noticed} of {len(counted)} ({percent}), {len(odd)} by a timeout{sample}"
        yield from (f"    unnoticed: {name}" for name in left)


def chosen(folder: Path, sample: int | None, *, again: bool) -> list[str]:
    """Return the names of the mutants that are to run: those of a sample that did not, and those left unnoticed."""
    names: list[str] = []
    for module, codes in results(folder):
        picked = sorted(codes)
        if sample is not None:
            # The seed is the module, so that a second run goes on with the same sample.
            picked = random.Random(module).sample(picked, min(sample, len(picked)))  # noqa: S311
        names += [name for name in picked if codes[name] is None and not again]
        names += [name for name, code in codes.items() if code in UNNOTICED and again]
    return names


def main() -> int:
    """Run the groups that are named, or all of them, and print what their tests noticed."""
    parser = argparse.ArgumentParser(description="Run mutmut over groups of modules.")
    parser.add_argument("group", nargs="*", help=f"any of: {', '.join(GROUPS)}; all of them if none is named")
    parser.add_argument("--score", action="store_true", help="print what was found so far, and run nothing")
    parser.add_argument("--sample", type=int, metavar="N", help="run at most N mutants of each module")
    parser.add_argument("--again", action="store_true", help="run only what no test noticed so far")
    options = parser.parse_args()
    if unknown := set(options.group) - GROUPS.keys():
        parser.error(f"expected groups among {', '.join(GROUPS)}, got {', '.join(sorted(unknown))}")
    published = os.environ.get("AGENT_IDENTITY_VECTORS") or str(ROOT.parent / "shared" / "vectors")
    # The copy does not stand beside the vectors; the same few examples each time make the score repeatable.
    environment = {**os.environ, "AGENT_IDENTITY_VECTORS": published, "HYPOTHESIS_PROFILE": "few"}
    for group in options.group or GROUPS:
        folder = ROOT / ".nox" / "mutants" / group
        if not options.score:
            copied(group)
            names: list[str] = []
            if options.sample is not None or options.again:
                subprocess.run([sys.executable, "-c", WRITE], cwd=folder, env=environment, check=True)  # noqa: S603
                names = chosen(folder, options.sample, again=options.again)
            command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names]
            if names or (options.sample is None and not options.again):
                subprocess.run(command, cwd=folder, env=environment, check=True)  # noqa: S603
        print(*scores(folder), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
