"""``agent_identity.instrument``: every framework of a process without a line of code, and out again without a trace.

The frameworks themselves are in ``tests/frameworks``; here are LangChain, which is always installed, and stand-ins
that show what happens to a framework whose adapter does not fit.
"""

import os
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool, tool

import agent_identity
from agent_identity import Enforcer, verify
from agent_identity.integrations.instrumentation import FRAMEWORKS, instrumented

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Take everything out at the end."""
    yield
    agent_identity.uninstrument()


def make(name: str = "find") -> BaseTool:
    """Return a fresh tool."""

    @tool(name)
    def find(q: str) -> str:
        """Find."""
        return f"found {q}"

    return find


def ran(program: str, *folders: Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, with folders before everything else on its path."""
    path = os.pathsep.join([*map(str, folders), str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False, cwd=cwd, env=env
    )


def stand_in(folder: Path, *, distributed: bool = True) -> Path:
    """Write a package that has the name of a framework, and nothing that its adapter could patch."""
    (folder / "strands").mkdir(parents=True)
    (folder / "strands" / "__init__.py").write_text("class Agent:\n    def go(self): return 'went'\n", encoding="utf-8")
    if distributed:
        facts = folder / "strands_agents-99.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: strands-agents\nVersion: 99.0\n", "utf-8")
    return folder


def test_langchain_is_guarded_and_restored(desk: Any) -> None:
    """A call is one record while it lasts, and every attribute is the object that it was afterwards."""
    before = dict(vars(BaseTool))
    made = make()
    agent_identity.instrument(desk.enforcer)
    assert instrumented() == {"langchain": True}
    with desk.task("find"):
        assert made.invoke({"q": "a"}) == "found a"
    agent_identity.uninstrument()
    agent_identity.uninstrument()
    assert (dict(vars(BaseTool)), instrumented()) == (before, {})
    assert made.invoke({"q": "b"}) == "found b"
    assert (desk.outcomes(), len(desk.spans())) == (["success"], 1)


def test_a_second_call_does_nothing(desk: Any) -> None:
    """With the same enforcer or none, the patches stay as they are."""
    agent_identity.instrument(desk.enforcer)
    patched = dict(vars(BaseTool))
    agent_identity.instrument(desk.enforcer)
    agent_identity.instrument()
    assert dict(vars(BaseTool)) == patched
    with desk.task("find"):
        make().invoke({"q": "a"})
    assert desk.outcomes() == ["success"]


def test_another_enforcer_replaces_the_one_before(desk: Any, open_desk: Any) -> None:
    """An application that enforces is not left to the monitor that its launcher had installed."""
    monitor = open_desk(mode="monitor")
    agent_identity.instrument(monitor.enforcer)
    agent_identity.instrument(desk.enforcer)
    with pytest.raises(agent_identity.Denied, match="find"), desk.task("other"):
        make().invoke({"q": "a"})
    assert (desk.outcomes(), monitor.outcomes()) == (["denied"], [])


def test_only_an_enforcer_is_taken() -> None:
    """Something else is a mistake of the program, and patches nothing."""
    with pytest.raises(TypeError, match="Enforcer"):
        agent_identity.instrument("evidence")  # type: ignore[arg-type]
    assert instrumented() == {}


def test_the_table_has_what_can_be_installed() -> None:
    """Each framework has an extra with the same floor, and is one of those that opentelemetry-instrument looks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for framework in FRAMEWORKS:
        (wanted,) = extras[framework.name.replace("_", "-")]
        assert wanted.partition(",")[0] == f"{framework.distribution}>={framework.lowest}"
        assert wanted in extras["instruments-any"]
    assert len(extras["instruments-any"]) == len(FRAMEWORKS)


def test_nothing_is_imported_that_the_application_does_not_import(tmp_path: Path) -> None:
    """A program is watched in the directory that the environment names, and its evidence is closed with it."""
    done = ran(
        """
        import sys
        import agent_identity
        agent_identity.instrument()
        tops = {name.partition(".")[0] for name in sys.modules}
        assert not tops & {"langchain_core", "agents", "pydantic_ai", "crewai", "strands", "llama_index"}, tops
        from langchain_core.tools import tool

        @tool
        def find(q: str) -> str:
            "Find."
            return "found " + q

        print(find.invoke({"q": "a"}))
        agent_identity.uninstrument()
        print(find.invoke({"q": "b"}))
        """,
        cwd=tmp_path,
        AGENT_IDENTITY_DIR="seen",
    )
    assert (done.stdout, done.returncode) == ("found a\nfound b\n", 0), done.stderr
    report = verify(tmp_path / "seen", tmp_path / "seen" / "trust.json")
    assert str(report.verdict) == "verified"
    shown = subprocess.run(
        [sys.executable, "-m", "agent_identity", "show", str(tmp_path / "seen")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.stdout.count("find") >= 1


PROGRAM = """
import logging
logging.basicConfig(format="%(levelname)s %(message)s")
import agent_identity
agent_identity.instrument()
for _ in range(2):
    try:
        import strands
    except Exception as error:
        print(type(error).__name__)
    else:
        print(strands.Agent().go())
"""


@pytest.mark.parametrize(
    ("mode", "printed", "logged"),
    [
        ("monitor", "went\nwent\n", 1),
        ("enforce", "ConfigurationError\nConfigurationError\n", 0),
        ("enfroce", "ConfigurationError\nConfigurationError\n", 0),
    ],
)
def test_a_framework_that_cannot_be_guarded_runs_in_monitor_mode_only(
    tmp_path: Path, mode: str, printed: str, logged: int
) -> None:
    """Monitoring is a line in the log; where enforcing was meant, however spelled, no import of it succeeds."""
    found = stand_in(tmp_path / "site")
    done = ran(PROGRAM, found, cwd=tmp_path, AGENT_IDENTITY_MODE=mode)
    assert (done.stdout, done.returncode) == (printed, 0), done.stderr
    assert done.stderr.count("strands runs unmonitored") == logged


def test_a_framework_that_was_imported_before_is_refused_at_once(tmp_path: Path) -> None:
    """In enforce mode the call fails and leaves nothing behind, what it had patched before included."""
    program = """
        import strands
        from langchain_core.tools import BaseTool
        before = dict(vars(BaseTool))
        import agent_identity
        from agent_identity.integrations.instrumentation import instrumented
        try:
            agent_identity.instrument(agent_identity.Enforcer.open("evidence"))
        except agent_identity.ConfigurationError as error:
            print(str(error).partition(" cannot")[0])
        print(dict(vars(BaseTool)) == before, instrumented())
        """
    done = ran(program, stand_in(tmp_path / "site"), cwd=tmp_path)
    assert done.stdout == "strands-agents\nTrue {}\n", done.stderr


@pytest.mark.parametrize("mode", ["monitor", "enforce"])
def test_a_module_of_the_application_with_the_name_of_a_framework_is_its_own(tmp_path: Path, mode: str) -> None:
    """``agents`` is a common name for a package; only the one of the distribution is the framework."""
    found = stand_in(tmp_path / "app", distributed=False)
    done = ran(PROGRAM, found, cwd=tmp_path, AGENT_IDENTITY_MODE=mode)
    assert done.stdout == "went\nwent\n"
    assert done.stderr.count("strands is left unguarded") == done.stderr.count("\n") == (mode == "enforce")
    assert not (tmp_path / "evidence").exists()


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize(("mode", "printed"), [("monitor", "went"), ("enforce", "ConfigurationError")])
def test_another_copy_of_a_framework_does_not_come_in_unguarded(
    tmp_path: Path, mode: str, printed: str, installed: bool
) -> None:
    """First on the path, beside the installed one or alone: it is guarded, or in enforce mode not imported."""
    copy = stand_in(tmp_path / "copy", distributed=False)
    with (copy / "strands" / "__init__.py").open("a", encoding="utf-8") as file:
        file.write("class ToolContext: pass\n")
    others = [stand_in(tmp_path / "site")] if installed else []
    done = ran(PROGRAM, copy, *others, cwd=tmp_path, AGENT_IDENTITY_MODE=mode)
    assert (done.stdout, done.returncode) == (f"{printed}\n" * 2, 0), done.stderr


@pytest.mark.parametrize("mode", ["monitor", "enforce"])
def test_a_module_of_the_application_hides_the_installed_framework_with_a_word(tmp_path: Path, mode: str) -> None:
    """It runs as ever; enforce mode says once that it counts as one of the application."""
    found = [stand_in(tmp_path / "app", distributed=False), stand_in(tmp_path / "site")]
    done = ran(PROGRAM, *found, cwd=tmp_path, AGENT_IDENTITY_MODE=mode)
    assert done.stdout == "went\nwent\n"
    assert done.stderr.count("strands is left unguarded") == done.stderr.count("\n") == (mode == "enforce")


@pytest.mark.parametrize(("mode", "printed"), [("monitor", "went"), ("enforce", "ConfigurationError")])
def test_a_framework_whose_file_is_not_there_is_one(tmp_path: Path, mode: str, printed: str) -> None:
    """A module of an archive has the name of a file that does not exist, and is not taken for another package."""
    found = stand_in(tmp_path / "site")
    with (found / "strands" / "__init__.py").open("a", encoding="utf-8") as file:
        file.write("__file__ = 'archive.zip/strands/__init__.py'\n")
    done = ran(PROGRAM, found, cwd=tmp_path, AGENT_IDENTITY_MODE=mode)
    assert (done.stdout, done.returncode) == (f"{printed}\n" * 2, 0), done.stderr


@pytest.mark.parametrize("mode", ["monitor", "enforce"])
def test_a_framework_whose_file_is_nowhere_is_treated_as_the_framework(tmp_path: Path, mode: str) -> None:
    """A module out of an archive breaks no import in monitor mode, and does not come in unguarded in enforce mode."""
    found = stand_in(tmp_path / "site")
    (found / "strands" / "__init__.py").write_text(
        "__file__ = '/nowhere/app.zip/strands/__init__.py'\nclass Agent:\n    def go(self): return 'went'\n", "utf-8"
    )
    done = ran(PROGRAM, found, cwd=tmp_path, AGENT_IDENTITY_MODE=mode)
    assert done.stdout == {"monitor": "went\n" * 2, "enforce": "ConfigurationError\n" * 2}[mode], done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_fork_while_the_enforcer_is_opened_does_not_block_the_child(tmp_path: Path) -> None:
    """The first tool of a child runs, although another thread of its parent held the locks for good."""
    program = """
        import os, signal, threading
        from langchain_core.tools import tool
        import agent_identity
        from agent_identity.integrations import enforcer_source

        @tool
        def find(q: str) -> str:
            "Find."
            return "found " + q

        agent_identity.instrument()
        opens, begun, go = enforcer_source._open, threading.Event(), threading.Event()
        def waiting():
            begun.set()
            go.wait()
            return opens()
        enforcer_source._open = waiting
        thread = threading.Thread(target=find.invoke, args=({"q": "a"},))
        thread.start()
        begun.wait()
        child = os.fork()
        if not child:
            signal.alarm(60)
            enforcer_source._open = opens
            print(find.invoke({"q": "b"}), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        go.set()
        thread.join()
        """
    done = ran(program, cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("found b\n", 0), done.stderr


ADAPTER = """
import sys, types
import agent_identity

adapter = types.ModuleType("agent_identity.integrations.frameworks.strands")
def instrument(enforcer):
    import strands
    before = strands.Agent.go
    strands.Agent.go = lambda self: "guarded"
    def undo():
        strands.Agent.go = before
        if len(sys.argv) > 1:
            raise RuntimeError("late")
    return undo
adapter.instrument = instrument
sys.modules[adapter.__name__] = adapter
"""


def test_a_failing_end_does_not_keep_the_others_in(tmp_path: Path) -> None:
    """The patches of the other frameworks are undone, and the evidence is closed."""
    program = """
        sys.argv.append("fail")
        agent_identity.instrument()
        from langchain_core.tools import BaseTool
        import strands
        print(strands.Agent().go(), "run" in BaseTool.run.__qualname__ and "_run" in BaseTool.run.__code__.co_qualname)
        agent_identity.uninstrument()
        print(strands.Agent().go(), "_run" in BaseTool.run.__code__.co_qualname)
        agent_identity.Enforcer.open("evidence").close()
        """
    done = ran(ADAPTER + textwrap.dedent(program), stand_in(tmp_path / "site"), cwd=tmp_path)
    assert done.stdout == "guarded True\nwent False\n", done.stderr
    assert done.stderr.count("RuntimeError: late") == 1


def test_an_import_after_the_end_is_left_alone(tmp_path: Path) -> None:
    """A hook that is called after uninstrument patches nothing and opens nothing."""
    program = (
        "agent_identity.instrument()\nagent_identity.uninstrument()\nimport strands\nprint(strands.Agent().go())\n"
    )
    done = ran(ADAPTER + program, stand_in(tmp_path / "site"), cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("went\n", "")
    assert not (tmp_path / "evidence").exists()


APP = """
from langchain_core.tools import tool
import strands

@tool
def find(q: str) -> str:
    "Find."
    return "found " + q

print(find.invoke({"q": "a"}), strands.Agent().go())
"""


@pytest.mark.parametrize(
    ("disabled", "records"), [("", True), ("agent_identity_langchain", False), ("agent_identity", False)]
)
def test_opentelemetry_instrument_watches_a_program(tmp_path: Path, disabled: str, records: bool) -> None:
    """The launcher loads one entry point for all; a framework can be named to be left alone, or all of them."""
    pytest.importorskip("opentelemetry.instrumentation.auto_instrumentation")
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    if not launcher.is_file():
        pytest.skip("the launcher is not installed beside this interpreter")
    if not entry_points(group="opentelemetry_instrumentor", name="agent_identity"):
        pytest.fail("the entry point is missing; install the package again")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    stand_in(tmp_path / "site", distributed=False)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": disabled,
        "AGENT_IDENTITY_DIR": "seen",
    }
    done = subprocess.run(
        [str(launcher), sys.executable, "app.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.stdout == "found a went\n", done.stderr
    assert "Failed to auto initialize" not in done.stderr
    assert (tmp_path / "seen").exists() is records
    if records:
        assert str(verify(tmp_path / "seen", tmp_path / "seen" / "trust.json").verdict) == "verified"
        with Enforcer.open(tmp_path / "seen") as again:
            assert again.current_task is None
