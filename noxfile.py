"""Every check of this project. `python3 dev.py test` makes the environment and runs the default sessions.

The sessions without an environment of their own use the one that dev.py makes, so that a fresh machine installs the
tools once. Those that test the package as users get it (tests, lowest, build) make their own.
"""

import functools
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
LOCK = "requirements/dev.lock"
PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [version for version in PYTHONS if version != HERE]  # The session `coverage` runs the tests on this one.
# Hundreds of tests start a Python of their own, which has to find modules compiled; the working copy stays clean.
QUICK = {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": str(ROOT / ".nox" / "pycache")}
SAFE = {**QUICK, "PYTHONSAFEPATH": "1", "PYTHONPATH": None}  # Tests see the installed package, never the working copy.
FEW = {**QUICK, "HYPOTHESIS_PROFILE": "few"}  # The same 50 examples of every property each time.
MANY = "3.13"  # The Python on which CI tries 500 of each; they do not depend on the Python, and the others try the 50.
# What the tests of LangChain and LangGraph need, beside what ours do.
SAME_TOOL = (
    *("langchain", "langgraph", "pytest", "pytest-asyncio", "langchain-tests", "psycopg[binary]"),
    *("langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "freezegun", "pytest-mock"),
    *("blockbuster", "grandalf", "responses", "pytest-socket", "syrupy", "numpy", "pytest-benchmark"),
    "pytest-codspeed",
)
WORKERS = ("-n", "3")  # For two cores: a good part of the tests waits for programs that they start.
NO_DOCS = ("--ignore=tests/docs",)  # The session for the documentation runs its examples.

# pyenv runs only the versions that are switched on; a test matrix wants all that are installed.
PYENV = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
if PYENV.is_dir():
    active = [version for version in os.environ.get("PYENV_VERSION", "").split(":") if version]
    installed = sorted(path.name for path in PYENV.iterdir() if path.name not in active)
    os.environ["PYENV_VERSION"] = ":".join([*active, *installed, "system"])

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
    *(f"tests-{version}" for version in OTHERS),
    "coverage",
    "vectors",
    "docs",
    "lowest",
    "mcp",
    "build",
]

here = functools.partial(nox.session, python=False)


def _present(session: nox.Session, path: str) -> str:
    """Return the path, or skip the session visibly while what it checks does not exist."""
    if not (ROOT / path).exists():
        session.skip(f"{path} does not exist yet")
    return path


@here
def lint(session: nox.Session) -> None:
    """Style, spelling, metadata, and a docstring on every test (ruff asks for those of the package)."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    session.run("validate-pyproject", "pyproject.toml")
    session.run("interrogate", "--quiet", "tests")


@here
def layers(session: nox.Session) -> None:
    """Who may import whom, who may import or look into which library, and the size budgets."""
    session.run("lint-imports", "--no-cache", "--no-logo")
    session.run("python", "tools/imports.py")
    session.run("python", "tools/foreign.py")
    session.run("python", "tools/budgets.py")


@here
def types(session: nox.Session) -> None:
    """Strict types in the package by two checkers, and in the tools by one."""
    session.run("mypy")
    session.run("mypy", "dev.py", "noxfile.py", *map(str, sorted(Path("tools").glob("*.py"))))
    session.run("pyright")


@here
def types_api(session: nox.Session) -> None:
    """What users' type checkers see: every file of tests/typing, by both checkers."""
    folder = _present(session, "tests/typing")
    session.run("mypy", "--strict", folder)
    session.run("pyright", folder)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests against the built wheel and the locked requirements, in random order."""
    session.install("-r", LOCK)
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    env = SAFE if session.python == MANY else {**SAFE, **FEW}
    session.run("python", "-m", "pytest", *WORKERS, *NO_DOCS, "--durations=12", *session.posargs, env=env)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The unit tests against the lowest versions that pyproject.toml allows."""
    session.install("-r", "requirements/lowest.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    session.run("python", "-m", "pytest", *WORKERS, "tests/unit", *session.posargs, env={**SAFE, **FEW})


@nox.session(python=PYTHONS[0])
def mcp(session: nox.Session) -> None:
    """The tests of MCP against the second major version of its SDK; all other sessions have the first."""
    session.install("-r", "requirements/mcp2.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    session.run("python", "-m", "pytest", *WORKERS, "tests/integrations/mcp", *session.posargs, env={**SAFE, **FEW})


@nox.session(python=PYTHONS[0])
def backends(session: nox.Session) -> None:
    """Round trips through back ends that store spans (on demand: 1.5 GB, and minutes until they have started)."""
    session.install("-r", "requirements/backends.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    # The warnings of the servers and of their plugins are not ours.
    session.run(
        "python", "-m", "pytest", "-p", "no:phoenix", "-W", "default", "tests/backends", *session.posargs, env=SAFE
    )


@nox.session(python=PYTHONS[0])
def spark(session: nox.Session) -> None:
    """Verification on a real Spark of this machine gives the report of one process (on demand: 500 MB, and Java)."""
    session.install("-r", "requirements/spark.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    env = {**SAFE, "AGENT_IDENTITY_SPARK": "1"}  # Here neither may be missing.
    # The warnings of Spark are not ours.
    session.run(
        "python", "-m", "pytest", "-W", "default", "tests/integrations/test_spark.py", *session.posargs, env=env
    )


@nox.session(python=PYTHONS[0])
def neighbours(session: nox.Session) -> None:
    """Beside Langfuse, Phoenix, Traceloop and Logfire in one process, in every order (on demand: 250 MB)."""
    session.install("-r", "requirements/neighbours.lock")
    session.install("--no-deps", "--force-reinstall", str(_built(session, "--wheel")))
    env = {**SAFE, "AGENT_IDENTITY_NEIGHBOURS": "all"}  # Here none of them may be missing.
    session.run("python", "-m", "pytest", *WORKERS, "tests/beside", *session.posargs, env=env)


@nox.session
def same_tool(session: nox.Session) -> None:
    """The tool tests of LangChain and LangGraph pass alike with every tool protected (on demand: downloads them)."""
    session.install("-c", LOCK, f"{_built(session, '--wheel')}[langchain]", *SAME_TOOL)
    session.run("python", "tools/same_tool.py", sys.executable, env=SAFE)


@here
def coverage(session: nox.Session) -> None:
    """Branch coverage, subprocesses included; the rooms on which trust rests have no hole."""
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *WORKERS, *NO_DOCS, *session.posargs, env=FEW)
    session.run("coverage", "combine", "--quiet")
    report = str(Path(session.cache_dir) / "coverage.json")
    session.run("coverage", "json", "--quiet", "--fail-under=0", "-o", report)
    session.run("coverage", "report")
    session.run("python", "tools/coverage_gate.py", report)


@here
def vectors(session: nox.Session) -> None:
    """Our published vectors are what the code makes."""
    session.run("python", _present(session, "tests/vectors/build_vectors.py"), "--check")


@here
def docs(session: nox.Session) -> None:
    """The site builds without a warning and loads nothing from elsewhere; every example and help text holds."""
    site = str(Path(session.cache_dir) / "site")
    session.run("mkdocs", "build", "--strict", "--quiet", "--site-dir", site, env={"NO_MKDOCS_2_WARNING": "1"})
    session.run("python", "tools/site_check.py", site)
    session.run("python", "-m", "pytest", *WORKERS, "tests/docs")
    if (ROOT / "agent_identity" / "cli").exists():
        session.run("python", "tools/cli_help.py", "--check")
    else:
        session.log("agent_identity/cli does not exist yet, so no help text was compared")


@nox.session
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
    """The speed budgets (on demand: a busy machine tells nothing)."""
    session.run("python", _present(session, "benchmarks/run.py"), *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """What a tool costs in the hands of others (on demand: each in its own environment from the index, 200 MB)."""
    session.install("uv")
    session.run("python", "benchmarks/peers/run.py", *session.posargs)


@here
def thorough(session: nox.Session) -> None:
    """Chain surgery and attenuation a million times, then every property with 20,000 examples (on demand: hours)."""
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
    """Every kind of surgery at every record, and 100,000 clean ledgers without an alarm (on demand: half an hour)."""
    session.run("python", "tests/adversarial/surgeries.py", "--rounds", "5")
    session.run("python", "tests/adversarial/clean_ledgers.py", *(session.posargs or ("--count", "100000")))


@here
def outages(session: nox.Session) -> None:
    """Collectors that are down, slow or broken, at their whole load, and the latency of calls meanwhile (on demand)."""
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
    """A thousand kills, every state of the disk after a power loss, a fault at every call (on demand: an hour)."""
    tests = ("tests/crash", "-rP", "--timeout=0")
    session.run("python", "-m", "pytest", *WORKERS, *tests, *session.posargs, env={"AGENT_IDENTITY_CRASH": "1"})


@here
def soak(session: nox.Session) -> None:
    """A day of guarded calls in an hour, over two processes, every record read back (on demand: an hour, 20 GB)."""
    session.run("python", "tools/soak.py", *session.posargs)


@nox.session(python="3.11")
def fuzz(session: nox.Session) -> None:
    """Feed what strangers send from a coverage-guided fuzzer (on demand: ten minutes for each target)."""
    session.install("atheris>=3,<4", ".[all]")
    session.run("python", "tests/fuzz/run.py", *session.posargs)


@here
def mutants(session: nox.Session) -> None:
    """How many small changes of authority, evidence and audit their tests notice (on demand: hours, or some groups)."""
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
