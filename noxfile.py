"""Every check of this project. `python3 dev.py test` makes the environment and runs the gate: what CI runs.

`python3 dev.py nightly` and `python3 dev.py weekly` run what takes longer. No test is left out of all three: `nightly`
runs each that the gate leaves out.

The sessions without an environment of their own use the one that dev.py makes, so that a fresh machine installs the
tools once. Those that test the package as users get it (newest, oldest, tests, lowest, build) make their own.
"""

import functools
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
LOCK = "requirements/dev.lock"
PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [version for version in PYTHONS if version != HERE]  # The gate and `coverage` run the tests on this one.
# Hundreds of tests start a Python of their own, which has to find modules compiled; the working copy stays clean.
QUICK = {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": str(ROOT / ".nox" / "pycache")}
SAFE = {**QUICK, "PYTHONSAFEPATH": "1", "PYTHONPATH": None}  # Tests see the installed package, never the working copy.
FEWEST = {**QUICK, "HYPOTHESIS_PROFILE": "gate"}  # The same 25 examples of every property each time.
FEW = {**QUICK, "HYPOTHESIS_PROFILE": "few"}  # The same 50.
MANY = {**QUICK, "HYPOTHESIS_PROFILE": "ci"}  # The same 500; they do not depend on the Python, so one tries them.
# What the tests of LangChain and LangGraph need, beside what ours do.
SAME_TOOL = (
    *("langchain", "langgraph", "pytest", "pytest-asyncio", "langchain-tests", "psycopg[binary]"),
    *("langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "freezegun", "pytest-mock"),
    *("blockbuster", "grandalf", "responses", "pytest-socket", "syrupy", "numpy", "pytest-benchmark"),
    "pytest-codspeed",
)
FRAMEWORKS = ("frameworks", "frameworks-lowest", "crewai", "crewai-lowest")
DOJO = ("travel", "workspace", "banking", "slack", "--check")
WORKERS = ("-n", "3")  # For two cores: a good part of the tests waits for programs that they start.
NO_DOCS = ("--ignore=tests/docs",)  # The session `examples` runs those of the documentation.
GATE = ("--gate=whole", *WORKERS, "-o", "tmp_path_retention_policy=failed")  # Of tests that passed nothing is left.
ENDS = ("--gate=ends", *GATE[1:], "tests/adversarial", "tests/crash")
MEMORY = Path("/dev/shm")  # noqa: S108  Where the gate writes: to sync a disk takes a fourth of its time.
COMPLETE = ("_identity", "_constraints", "_authority", "_storage", "_record", "_ledger", "_spans")
ABUSE = (
    *("promises_argument_forms", "promises_operators", "promises_permissions", "promises_segments", "promises_spans"),
    *("promises_trust", "promises_weak_keys", "sealers", "trust_bounds", "trust_certificates", "verified_principals"),
)
# Under coverage a test costs twice as much. Together these reach every line and branch of the rooms.
ROOMS = (
    *(f"tests/unit/{room.removeprefix('_')}" for room in COMPLETE),
    *(f"tests/adversarial/test_{name}.py" for name in ABUSE),
    *("tests/integrations/state", "tests/fuzz/test_corpus.py", "tests/unit/verify/spans/test_pasted_spans.py"),
    *("tests/unit/cli/control/test_approvals.py", "tests/unit/cli/look/test_inventory.py"),
    *(f"tests/unit/cli/operate/test_{name}.py" for name in ("doctor_more", "erase")),
    *(f"tests/unit/directory/export/test_export_{name}.py" for name in ("cursors", "queue")),
    *("tests/unit/directory/inventory", "tests/unit/guard/telemetry/test_setup.py"),
    *(f"tests/unit/directory/tokens/test_{name}.py" for name in ("task_tokens", "token_exchange")),
)

# pyenv runs only the versions that are switched on; a test matrix wants all that are installed.
PYENV = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
if PYENV.is_dir():
    active = [version for version in os.environ.get("PYENV_VERSION", "").split(":") if version]
    installed = sorted(path.name for path in PYENV.iterdir() if path.name not in active)
    os.environ["PYENV_VERSION"] = ":".join([*active, *installed, "system"])

INSTALLED = [version for version in PYTHONS if version == HERE or shutil.which(f"python{version}")]
OLDEST, NEWEST = PYTHONS[0], INSTALLED[-1]

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    "lint",
    "layers",
    "types",
    "types_api",
    "vectors",
    "docs",
    "build",
    "net",
    "rooms",
    "gate",
    "newest",
    "oldest",
    "frameworks_newest",
]
NIGHTLY = (
    *(f"tests-{version}" for version in OTHERS),
    *("coverage", "examples", "lowest", "mcp", "outages", "neighbours", "backends", "sigma", "alerts", "spark", "jobs"),
    *("oscal", *(f"frameworks(lock='{lock}')" for lock in FRAMEWORKS)),
)
WEEKLY = ("thorough", "surgery", "crash", "fuzz", "soak", "mutants", "same_tool", "bench", "peers", "dojo")

here = functools.partial(nox.session, python=False)
check = functools.partial(nox.session, python=False, tags=["checks"])  # dev.py runs them beside the tests.


def _present(session: nox.Session, path: str) -> str:
    """Return the path, or skip the session visibly while what it checks does not exist."""
    if not (ROOT / path).exists():
        session.skip(f"{path} does not exist yet")
    return path


@check
def lint(session: nox.Session) -> None:
    """Style, spelling, metadata, and a docstring on every test (ruff asks for those of the package)."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    session.run("validate-pyproject", "pyproject.toml")
    session.run("interrogate", "--quiet", "tests")


@check
def layers(session: nox.Session) -> None:
    """Who may import whom, who may import or look into which library, the schema of records, and the size budgets."""
    session.run("lint-imports", "--no-cache", "--no-logo")
    session.run("python", "tools/faces.py", "--check")
    session.run("python", "tools/record_schema.py", "--check")
    session.run("python", "tools/imports.py")
    session.run("python", "tools/foreign.py")
    session.run("python", "tools/budgets.py")


@check
def types(session: nox.Session) -> None:
    """Strict types in the package by two checkers, and in the tools by one."""
    session.run("mypy")
    session.run("mypy", "dev.py", "noxfile.py", *map(str, sorted(Path("tools").glob("*.py"))))
    session.run("pyright")


@check
def types_api(session: nox.Session) -> None:
    """What users' type checkers see: every file of tests/typing, by both checkers."""
    folder = _present(session, "tests/typing")
    session.run("mypy", "--strict", folder)
    session.run("pyright", folder)


def _quickly(
    session: nox.Session, *options: str, env: Mapping[str, str | None], start: Sequence[str] = ("python",)
) -> None:
    """Run pytest with its temporary files in memory, where there are two gigabytes of it; nightly they are on disk."""
    free = shutil.disk_usage(MEMORY).free if os.access(MEMORY, os.W_OK) else 0
    with tempfile.TemporaryDirectory(dir=MEMORY if free > 2 * 2**30 else None) as folder:
        session.run(*start, "-m", "pytest", f"--basetemp={folder}/t", *options, *session.posargs, env=env)


@nox.session(python=False, tags=["tests"])
def rooms(session: nox.Session) -> None:
    """The tests of the rooms of which no line and no branch may be without one."""
    session.run("coverage", "erase")
    only = f"--source={','.join(f'agent_identity.{room}' for room in COMPLETE)}"
    same = ("--randomly-seed", "1684775111")  # What is covered must not depend on what is drawn.
    _quickly(session, *GATE, *same, *ROOMS, start=("coverage", "run", only), env=FEWEST)
    _no_holes(session)


@nox.session(python=False, tags=["tests"])
def gate(session: nox.Session) -> None:
    """The other tests, without those that take a night; all abuse cases are among them."""
    others = (f"--ignore={folder}" for folder in ROOMS)
    _quickly(session, *GATE, *others, "--durations=12", env=FEWEST)


@nox.session(python=NEWEST, tags=["tests"])
def newest(session: nox.Session) -> None:
    """On the newest Python, against the built wheel: a test of each abuse case, and one in five of the integrations."""
    session.install("-r", LOCK)
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    _quickly(session, *ENDS, "tests/integrations", env={**SAFE, **FEWEST})


@nox.session(python=OLDEST, tags=["tests"])
def oldest(session: nox.Session) -> None:
    """On the oldest Python, against the lowest versions that pyproject.toml allows: a test of each abuse case."""
    session.install("-r", "requirements/lowest.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    _quickly(session, *ENDS, env={**SAFE, **FEWEST})


@here
def nightly(session: nox.Session) -> None:
    """Every test on every Python, with more examples, and what needs environments of its own (hours)."""
    for name in NIGHTLY:
        session.notify(name)


@here
def weekly(session: nox.Session) -> None:
    """Long loops, kills, fuzzing, a day in an hour, mutants, and what we cost beside others (a day)."""
    for name in WEEKLY:
        session.notify(name)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Every test against the built wheel and the locked requirements, in random order (nightly)."""
    session.install("-r", LOCK)
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    env = {**SAFE, **(MANY if session.python == NEWEST else FEW)}
    session.run("python", "-m", "pytest", *WORKERS, *NO_DOCS, "--durations=12", *session.posargs, env=env)


@nox.session(python=OLDEST)
def lowest(session: nox.Session) -> None:
    """The unit tests against the lowest versions that pyproject.toml allows (nightly)."""
    session.install("-r", "requirements/lowest.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    session.run("python", "-m", "pytest", *WORKERS, "tests/unit", *session.posargs, env={**SAFE, **FEW})


@nox.session(python=OLDEST)
def mcp(session: nox.Session) -> None:
    """The tests of MCP against the second major version of its SDK; all other sessions have the first (nightly)."""
    session.install("-r", "requirements/mcp2.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    session.run("python", "-m", "pytest", *WORKERS, "tests/integrations/mcp", *session.posargs, env={**SAFE, **FEW})


@nox.session(python=OLDEST)
def backends(session: nox.Session) -> None:
    """Round trips through back ends that store spans (nightly: 1.5 GB, and minutes until they have started)."""
    session.install("-r", "requirements/backends.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    # The warnings of the servers and of their plugins are not ours.
    session.run(
        "python", "-m", "pytest", "-p", "no:phoenix", "-W", "default", "tests/backends", *session.posargs, env=SAFE
    )


@nox.session(python=OLDEST)
def spark(session: nox.Session) -> None:
    """Verification on a real Spark of this machine gives the report of one process (nightly: 500 MB, and Java)."""
    session.install("-r", "requirements/spark.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    env = {**SAFE, "AGENT_IDENTITY_SPARK": "1"}  # Here neither may be missing.
    # The warnings of Spark are not ours.
    session.run(
        "python", "-m", "pytest", "-W", "default", "tests/integrations/test_spark.py", *session.posargs, env=env
    )


@nox.session(python=OLDEST)
def jobs(session: nox.Session) -> None:
    """A worker of Celery on a real Redis: jobs of the page about them, and what a stop leaves (nightly)."""
    session.install("-r", "requirements/jobs.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    env = {**SAFE, "AGENT_IDENTITY_CELERY": "1"}  # Here it may not be missing.
    tests = ("tests/integrations/state/test_job_queue.py", "tests/integrations/web/test_servers.py")
    session.run("python", "-m", "pytest", *tests, "-k", "celery", *session.posargs, env=env)


@nox.session(python=OLDEST)
def sigma(session: nox.Session) -> None:
    """The Sigma rules of the documentation, on the records of the demo (nightly)."""
    session.install("-r", "requirements/sigma.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    session.run("python", "-m", "pytest", "tests/detection", *session.posargs, env=SAFE)


@here
def alerts(session: nox.Session) -> None:
    """The alert rules and queries of the documentation, by promtool, which has to be installed (nightly)."""
    env = {"AGENT_IDENTITY_PROMTOOL": "1"}  # Here it may not be missing.
    session.run("python", "-m", "pytest", "tests/docs/test_metrics.py", *session.posargs, env=env)


@nox.session(python=OLDEST)
def neighbours(session: nox.Session) -> None:
    """Beside Langfuse, Phoenix, Traceloop and Logfire in one process, in every order (nightly: 250 MB)."""
    session.install("-r", "requirements/neighbours.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    env = {**SAFE, "AGENT_IDENTITY_NEIGHBOURS": "all"}  # Here none of them may be missing.
    session.run("python", "-m", "pytest", *WORKERS, "tests/beside", *session.posargs, env=env)


@nox.session(python=OLDEST)
def oscal(session: nox.Session) -> None:
    """What report controls writes as OSCAL is valid for the models of compliance-trestle (nightly: 50 MB)."""
    session.install("-r", "requirements/oscal.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    env = {**SAFE, "AGENT_IDENTITY_OSCAL": "1"}  # Here the models may not be missing.
    # The warnings of the models are not ours.
    test = "tests/unit/reports/controls/test_oscal_document.py"
    session.run("python", "-m", "pytest", "-W", "default", test, *session.posargs, env=env)


@nox.session(python=OLDEST)
@nox.parametrize("lock", FRAMEWORKS)
def frameworks(session: nox.Session, lock: str) -> None:
    """The adapters of agent frameworks, and their types, at the newest and lowest versions (nightly: 1.5 GB)."""
    session.install("-r", f"requirements/{lock}.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    env = {**SAFE, "AGENT_IDENTITY_FRAMEWORKS": lock}  # Here none of the lock may be missing.
    # The warnings of the frameworks are not ours.
    session.run(
        "python", "-m", "pytest", *WORKERS, "-W", "default", "tests/frameworks", *(session.posargs or ()), env=env
    )
    if lock == "frameworks":
        session.run("python", "-m", "mypy", "--follow-imports=silent", "agent_identity/integrations/frameworks")


@nox.session(python=OLDEST, tags=["tests"])
def frameworks_newest(session: nox.Session) -> None:
    """Five tests of each agent framework in its newest version; the night runs them all."""
    session.install("-r", "requirements/frameworks.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    env = {**SAFE, **FEWEST, "AGENT_IDENTITY_FRAMEWORKS": "frameworks"}  # Here none of the lock may be missing.
    # Each worker would import all frameworks. Their warnings are not ours.
    _quickly(session, "--gate=ends", "-W", "default", "tests/frameworks", env=env)


@nox.session
def same_tool(session: nox.Session) -> None:
    """The tool tests of LangChain and LangGraph pass alike with every tool protected (weekly: downloads them)."""
    session.install("-c", LOCK, f"{_built(session, '--wheel')}[langchain]", *SAME_TOOL)
    session.run("python", "tools/same_tool.py", sys.executable, env=SAFE)


@here
def coverage(session: nox.Session) -> None:
    """Every test with branch coverage, subprocesses included: a bound for all rooms, and no hole in some (nightly)."""
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *WORKERS, *NO_DOCS, *session.posargs, env=FEW)
    _no_holes(session)
    session.run("coverage", "report")


def _no_holes(session: nox.Session) -> None:
    """Fail where a line or branch of the complete rooms was not reached."""
    session.run("coverage", "combine", "--quiet")
    report = str(Path(session.cache_dir) / "coverage.json")
    session.run("coverage", "json", "--quiet", "--fail-under=0", "-o", report)
    session.run("python", "tools/coverage_gate.py", report, *COMPLETE)


@check
def vectors(session: nox.Session) -> None:
    """Our published vectors are what the code makes."""
    session.run("python", _present(session, "tests/vectors/build_vectors.py"), "--check")


@check
def net(session: nox.Session) -> None:
    """The verdicts of 2,703 fixed cases are those that were kept."""
    session.run("python", "tests/net/net.py", env=QUICK)


@check
def docs(session: nox.Session) -> None:
    """The site builds without a warning and loads nothing from elsewhere."""
    site = str(Path(session.cache_dir) / "site")
    session.run("mkdocs", "build", "--strict", "--quiet", "--site-dir", site, env={"NO_MKDOCS_2_WARNING": "1"})
    session.run("python", "tools/site_check.py", site)


@here
def examples(session: nox.Session) -> None:
    """Every example and every command of the documentation does what its page says (nightly)."""
    session.run("python", "-m", "pytest", *WORKERS, "tests/docs", *session.posargs, env=QUICK)


@nox.session(tags=["checks"])
def build(session: nox.Session) -> None:
    """What is published: source archive and wheel, installed into an empty environment, run the quick start."""
    wheel = _built(session)
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "constraints.txt"
        pinned.write_text(_versions((ROOT / LOCK).read_text(encoding="utf-8")), encoding="utf-8")
        session.install("--constraint", str(pinned), f"{wheel}[langchain]")
    session.run("python", "-c", "import agent_identity", env=SAFE)
    session.run("python", "tools/run_examples.py", "--first", "README.md", env=SAFE)


@here
def bench(session: nox.Session) -> None:
    """The speed budgets (weekly: a busy machine tells nothing)."""
    session.run("python", _present(session, "benchmarks/run.py"), *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """What a tool costs in the hands of others (weekly: each in its own environment from the index, 200 MB)."""
    session.install("uv")
    session.run("python", "benchmarks/peers/run.py", *session.posargs)


@nox.session
def dojo(session: nox.Session) -> None:
    """Information flow, replayed on AgentDojo without a model, against the published figures (weekly: 300 MB)."""
    session.install("-r", "requirements/dojo.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    session.run("python", "benchmarks/flow/run.py", *(session.posargs or DOJO))


@here
def thorough(session: nox.Session) -> None:
    """Chain surgery and attenuation a million times, then every property with 20,000 examples (weekly: hours)."""
    session.run(
        "python",
        "-m",
        "pytest",
        "--timeout=0",
        "tests/adversarial/test_surgery.py",
        env={"AGENT_IDENTITY_TRIALS": "1000000"},
    )
    session.run(
        "python",
        "-m",
        "pytest",
        *WORKERS,
        "-m",
        "hypothesis",
        "--timeout=0",
        *session.posargs,
        env={"HYPOTHESIS_PROFILE": "thorough"},
    )


@here
def surgery(session: nox.Session) -> None:
    """Every kind of surgery at every record, random ones, and 100,000 clean ledgers (weekly: an hour)."""
    env = {"PYTHONPATH": str(ROOT / "tests")}  # As pytest has it: they share modules with the tests.
    session.run("python", "tests/adversarial/surgeries.py", "--rounds", "5", env=env)
    session.run("python", "tests/adversarial/clean_ledgers.py", *(session.posargs or ("--count", "100000")), env=env)
    more = {"AGENT_IDENTITY_SURGERIES": "50000"}
    session.run("python", "-m", "pytest", *WORKERS, "-k", "random", "tests/second_verifier", env=more)


@here
def outages(session: nox.Session) -> None:
    """Collectors that are down, slow or broken, at their whole load, and the latency of calls meanwhile (nightly)."""
    session.run(
        "python",
        "-m",
        "pytest",
        "-s",
        "--timeout=0",
        "tests/adversarial/outages",
        *session.posargs,
        env={"AGENT_IDENTITY_OUTAGES": "20"},
    )


@here
def crash(session: nox.Session) -> None:
    """A thousand kills, every state of the disk after a power loss, a fault at every call (weekly: an hour)."""
    tests = ("tests/crash", "-rP", "--timeout=0")
    session.run("python", "-m", "pytest", *WORKERS, *tests, *session.posargs, env={"AGENT_IDENTITY_CRASH": "1"})


@here
def soak(session: nox.Session) -> None:
    """A day of guarded calls in an hour, over two processes, every record read back (weekly: an hour, 20 GB)."""
    session.run("python", "tools/soak.py", *session.posargs)


@nox.session(python="3.11")
def fuzz(session: nox.Session) -> None:
    """Feed what strangers send from a coverage-guided fuzzer (weekly: ten minutes for each target)."""
    session.install("atheris>=3,<4", ".[all]")
    session.run("python", "tests/fuzz/run.py", *session.posargs)


@here
def mutants(session: nox.Session) -> None:
    """How many small changes of authority, evidence and audit their tests notice (weekly: hours, or some groups)."""
    session.run("python", "tools/mutants.py", *session.posargs)


def _built(session: nox.Session, *options: str) -> Path:
    """Build with the locked build tools, not with what an index offers today; return the wheel."""
    folder = ROOT / ".nox" / "dist" / session.name
    shutil.rmtree(folder, ignore_errors=True)
    command = (sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(folder), ".")
    session.run(*command, external=True, silent=True)
    return next(folder.glob("*.whl"))


def _versions(lock: str) -> str:
    """Return the pins of a lock without their hashes: a local wheel has none that could be locked."""
    return "\n".join(line.rstrip(" \\") for line in lock.splitlines() if re.match(r"[a-z0-9].*==", line))
