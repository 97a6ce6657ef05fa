"""The commands of this project. They need Python 3.11 or newer and nothing else.

    python3 dev.py demo           run the example
    python3 dev.py test           run the gate: the tests and every other check, as CI does
    python3 dev.py nightly        run what takes longer, in hours
    python3 dev.py weekly         run what takes a day
    python3 dev.py test lint docs run only these sessions (python3 dev.py test --list names them)
    python3 dev.py lock           resolve requirements/*.lock again

The first call makes .venv from requirements/dev.lock, every file checked by its hash. Later calls use it again
until the lock, pyproject.toml, the version or the Python changes.
"""

from __future__ import annotations  # So that an old Python gets as far as the message that it is old.

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / "python"
LOCK = ROOT / "requirements" / "dev.lock"
LOWEST = ROOT / "requirements" / "lowest.lock"
BACKENDS = ROOT / "requirements" / "backends.lock"
SPARK = ROOT / "requirements" / "spark.lock"
MCP2 = ROOT / "requirements" / "mcp2.lock"
SIGMA = ROOT / "requirements" / "sigma.lock"
NEIGHBOURS = ROOT / "requirements" / "neighbours.lock"
OSCAL = ROOT / "requirements" / "oscal.lock"
JOBS = ROOT / "requirements" / "jobs.lock"
DOJO = ROOT / "requirements" / "dojo.lock"
FRAMEWORKS = ("frameworks", "crewai")
STAMP = VENV / "made-from"
DEBIAN = (  # A program that the tests start, and the package that has it.
    ("softhsm2-util", "softhsm2"),
    ("redis-server", "redis-server"),
    ("openssl", "openssl"),  # A time-stamp authority.
    ("initdb", "postgresql"),
    ("postgres", "postgresql"),
)


def start(*command: str | Path, printed: TextIO | None = None) -> subprocess.Popen[str]:
    """Start a command inside .venv and show it; what it prints may go into a file."""
    arguments = [str(part) for part in command]
    shown = [part.removeprefix(f"{ROOT}{os.sep}") for part in arguments]
    print("$", *shown, flush=True)
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV), "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    for name in ("PYTHONPATH", "PYTHONHOME"):  # They would mix another installation into this one.
        environment.pop(name, None)
    kept = subprocess.STDOUT if printed else None
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=printed, stderr=kept, text=True)  # noqa: S603


def run(*command: str | Path) -> int:
    """Run a command inside .venv, show it, and return its exit status."""
    with start(*command) as process:
        return process.wait()


def must(*command: str | Path) -> None:
    """Run a command that has to succeed."""
    if status := run(*command):
        sys.exit(status)


def wanted() -> str:
    """Return the stamp of the environment that the files ask for."""
    files = (LOCK, ROOT / "pyproject.toml", ROOT / "agent_identity" / "version.py")
    parts = [sys.version.encode(), str(VENV).encode(), *(path.read_bytes() for path in files)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def make_venv() -> None:
    """Make an empty .venv with pip."""
    if run(sys.executable, "-m", "venv", "--clear", VENV):
        sys.exit("This Python cannot make environments. On Debian and Ubuntu: apt install python3-venv")


def install_uv() -> bool:
    """Install uv in its locked version, and say whether that worked; pip does without it, but slowly."""
    locked = (
        re.search(r"^uv==(?:.*\\\n)*.*\n", LOCK.read_text(encoding="utf-8"), re.MULTILINE) if LOCK.exists() else None
    )
    pinned = VENV / "uv.txt"
    pinned.write_text(locked[0] if locked else "uv\n", encoding="utf-8")
    return run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", pinned) == 0


def environment() -> None:
    """Make .venv as the lock says, unless it already is."""
    stamp = wanted()
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == stamp:
        return
    print("Making .venv from requirements/dev.lock. This happens once.", flush=True)
    make_venv()
    pip: list[str | Path] = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    uv: list[str | Path] = [BIN / "uv", "pip", "install", "--quiet", "--python", PYTHON]
    if not (install_uv() and run(*uv, "--require-hashes", "-r", LOCK) == 0):
        print("uv is of no use here; pip takes some minutes.", flush=True)
        must(*pip, "--require-hashes", "-r", LOCK)
    must(*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT)
    STAMP.write_text(stamp, encoding="utf-8")


def install_programs() -> None:
    """Install what the tests start, where that is possible; tests of what is missing are skipped and say so."""
    folders = [*map(str, Path("/usr/lib/postgresql").glob("*/bin")), "/usr/sbin", os.environ.get("PATH", os.defpath)]
    lacking = [package for program, package in DEBIAN if not shutil.which(program, path=os.pathsep.join(folders))]
    missing = list(dict.fromkeys(lacking))
    if not missing or not shutil.which("apt-get") or os.geteuid() != 0:
        return
    print(f"Installing {', '.join(missing)} for the tests.", flush=True)
    os.environ |= {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # No service is started: the tests do that.
    quiet: list[str | Path] = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends"]
    if run(*quiet, *missing) != 0:
        run("apt-get", "update", "--quiet")
        run(*quiet, *missing)


def demo(arguments: list[str]) -> int:
    """Run the example."""
    environment()
    return run(PYTHON, ROOT / "examples" / "invoice_agents.py", *arguments)


def test(arguments: list[str]) -> int:
    """Run the named sessions of noxfile.py, or those that CI runs."""
    environment()
    install_programs()
    if not arguments:
        return gate()
    chosen = arguments if not arguments or arguments[0].startswith("-") else ["--session", *arguments]
    return run(PYTHON, "-m", "nox", *chosen)


def gate() -> int:
    """Run the tests, and beside them the checks, which use one core; what those print comes at the end."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        checks = start(PYTHON, "-m", "nox", "--tags", "checks", printed=printed)
        status = run(PYTHON, "-m", "nox", "--tags", "tests")
        status = checks.wait() or status
        printed.seek(0)
        print(printed.read(), flush=True)
    return status


def nightly(arguments: list[str]) -> int:
    """Run what the gate leaves to the night."""
    return test(["nightly", *arguments])


def weekly(arguments: list[str]) -> int:
    """Run what takes a day."""
    return test(["weekly", *arguments])


def lock(arguments: list[str]) -> int:
    """Resolve the locked requirements again; options such as --upgrade go to uv."""
    if not (BIN / "uv").exists():
        make_venv()
        if not install_uv():
            sys.exit("Locking needs uv, which could not be installed.")
    compile_: list[str | Path] = [
        BIN / "uv",
        "pip",
        "compile",
        "--quiet",
        "pyproject.toml",
        "--universal",
    ]
    compile_ += ["--python-version", "3.11", "--generate-hashes", "--no-header", "--no-emit-index-url", *arguments]
    every = (*compile_, "--extra", "all")
    must(*every, "--group", "dev", "--output-file", LOCK.relative_to(ROOT))
    must(*every, "--group", "test", "--resolution", "lowest-direct", "--output-file", LOWEST.relative_to(ROOT))
    few = ("--extra", "otlp", "--extra", "zstd")
    must(*compile_, *few, "--group", "backends", "--output-file", BACKENDS.relative_to(ROOT))
    must(*compile_, "--extra", "spark", "--group", "test", "--output-file", SPARK.relative_to(ROOT))
    must(*compile_, "--extra", "mcp", "--group", "mcp2", "--output-file", MCP2.relative_to(ROOT))
    must(*compile_, "--group", "sigma", "--output-file", SIGMA.relative_to(ROOT))
    must(*compile_, "--extra", "otlp", "--group", "neighbours", "--output-file", NEIGHBOURS.relative_to(ROOT))
    must(*compile_, "--group", "oscal", "--output-file", OSCAL.relative_to(ROOT))
    must(*compile_, "--group", "jobs", "--output-file", JOBS.relative_to(ROOT))
    must(*compile_, "--group", "dojo", "--output-file", DOJO.relative_to(ROOT))
    for group in FRAMEWORKS:  # Each newest and lowest; CrewAI and the ADK ask for different OpenTelemetry.
        made: tuple[str | Path, ...] = (*compile_, "--extra", "mcp", "--extra", "otlp", "--group", group)
        must(*made, "--output-file", Path("requirements") / f"{group}.lock")
        lowest = Path("requirements") / f"{group}-lowest.lock"
        must(*made, "--resolution", "lowest-direct", "--output-file", lowest)
    return 0


def main() -> int:
    """Run one command."""
    commands = {"demo": demo, "test": test, "nightly": nightly, "weekly": weekly, "lock": lock}
    if sys.version_info < (3, 11):  # noqa: UP036  The metadata that say so have not been read yet.
        sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}.")
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(f"{__doc__}\nexpected one of: {', '.join(commands)}")
    return commands[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
