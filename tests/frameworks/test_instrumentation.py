"""Zero code with the real frameworks: each that is installed is patched when it is imported, and restored."""

import json
import os
import re
import runpy
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agent_identity.integrations.instrumentation import FRAMEWORKS, Framework

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = "agent_identity.integrations.frameworks"


def _is_here(framework: Framework) -> bool:
    try:
        return find_spec(framework.module) is not None
    except ModuleNotFoundError:
        return False


HERE = [framework for framework in FRAMEWORKS if _is_here(framework)]

PROGRAM = """
import importlib, json, sys
import agent_identity
from agent_identity.integrations.instrumentation import FRAMEWORKS, instrumented

module = sys.argv[1]
top = module.partition(".")[0]


def members():
    found = {}
    for name, loaded in list(sys.modules.items()):
        if name.partition(".")[0] != top:
            continue
        for thing in list(vars(loaded).values()):
            if isinstance(thing, type) and thing.__module__.partition(".")[0] == top:
                for key, value in list(vars(thing).items()):
                    found[thing.__module__, thing.__qualname__, key] = value
    return found


importlib.import_module(module)
for adapter in sys.argv[2:]:  # It may import what it patches, and the classes must be known before.
    importlib.import_module(adapter)
bare = members()
for _ in range(2):
    agent_identity.instrument()
    state = dict(instrumented())
    agent_identity.uninstrument()
after = members()
kept = {name for name, _, _ in bare}
added = {key for key in after.keys() - bare.keys() if key[0] in kept}
differ = {key for key, value in bare.items() if after.get(key) is not value} | added
print(json.dumps({"state": state, "differ": sorted(".".join(key) for key in differ)}))
"""

LAZY = """
import importlib, json, sys
import agent_identity
from agent_identity.integrations.instrumentation import FRAMEWORKS, instrumented

agent_identity.instrument()
modules = tuple(framework.module for framework in FRAMEWORKS)
early = sorted(name for name in sys.modules if name in modules or name.startswith(tuple(f"{one}." for one in modules)))
importlib.import_module(sys.argv[1])
print(json.dumps({"early": early, "state": dict(instrumented())}))
"""


def _run(program: str, *arguments: str, cwd: Path, **environment: str) -> Any:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "AGENT_IDENTITY_DIR": "seen", **environment}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=env
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _skip_without_adapter(framework: Framework) -> None:
    if framework.name != "langchain" and find_spec(f"{ADAPTERS}.{framework.name}") is None:
        pytest.skip("its adapter is not here")


@pytest.mark.parametrize("framework", HERE, ids=lambda framework: framework.name)
def test_a_framework_is_patched_when_it_is_imported(framework: Framework, tmp_path: Path) -> None:
    """No framework is imported before, and the one that is gets its patches at once."""
    _skip_without_adapter(framework)
    facts = _run(LAZY, framework.module, cwd=tmp_path)
    assert facts["early"] == []
    assert facts["state"][framework.name] is True


@pytest.mark.parametrize("framework", HERE, ids=lambda framework: framework.name)
def test_a_framework_is_restored(framework: Framework, tmp_path: Path) -> None:
    """Every member of its classes is the object that it was, after it was patched twice and restored twice."""
    _skip_without_adapter(framework)
    adapter = () if framework.name == "langchain" else (f"{ADAPTERS}.{framework.name}",)
    facts = _run(PROGRAM, framework.module, *adapter, cwd=tmp_path)
    assert facts["state"][framework.name] is True
    assert facts["differ"] == []


TOOLS = {
    "openai_agents": """
from agents import Agent, WebSearchTool, function_tool
tools = [function_tool(pay), WebSearchTool()]
""",
    "pydantic_ai": """
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
agent = Agent(TestModel(), tools=[pay])
""",
    "google_adk": """
from google.adk.tools import FunctionTool
tool = FunctionTool(pay)
""",
    "claude_agent": """
import claude_agent_sdk
made = claude_agent_sdk.tool("pay", "Pay.", {"amount": int})(pay)
""",
    "crewai": """
from crewai.tools import tool
made = tool("pay")(pay)
""",
    "strands": """
import strands
made = strands.tool(pay)
""",
    "agent_framework": """
from agent_framework import tool
made = tool(pay)
""",
    "llama_index": """
from llama_index.core.tools import FunctionTool
made = FunctionTool.from_defaults(pay)
""",
}
"""Makes a tool, ``pay``, in each framework."""

DOCTOR = """
import json, sys
import agent_identity

if sys.argv[2] == "instrument":
    agent_identity.instrument()


def pay(amount: int) -> str:
    "Pay."
    return "paid"


exec(sys.argv[1])
from agent_identity.cli.operate.doctor import diagnose
print(json.dumps([(c.name, c.status, c.detail) for s, found in diagnose() if s == "frameworks" for c in found]))
"""


@pytest.mark.parametrize("framework", HERE, ids=lambda framework: framework.name)
@pytest.mark.parametrize("way", ["bare", "instrument"])
def test_the_doctor_names_tools_without_a_guard(framework: Framework, way: str, tmp_path: Path) -> None:
    """Of a framework that nothing guards; once all are watched, the same tools are no finding."""
    if framework.name not in TOOLS:
        pytest.skip("its tools have a section of their own")
    if way == "instrument":
        _skip_without_adapter(framework)
    rows = _run(DOCTOR, TOOLS[framework.name], way, cwd=tmp_path)
    state = next(detail for name, _, detail in rows if name == "framework" and framework.distribution in detail)
    tools = [(status, detail) for name, status, detail in rows if name == "tools" and framework.distribution in detail]
    if way == "bare":
        assert state.endswith("; imported, and nothing guards it")
        assert tools == [("warn", f"1 {framework.distribution} tool, without a guard: pay")]
    else:
        assert state.endswith("; instrumented")
        assert tools[0][0] == "ok"
        assert tools[0][1].endswith("all watched by instrument()")
    provided = [detail for _, _, detail in rows if "nobody can guard" in detail]
    assert len(provided) == (framework.name == "openai_agents")


@pytest.mark.parametrize("framework", HERE, ids=lambda framework: framework.name)
def test_the_adapter_was_tested_with_this_version(framework: Framework) -> None:
    """The table names the version that the session installs, so that the doctor says what is true."""
    lock = os.environ.get("AGENT_IDENTITY_FRAMEWORKS", "")
    wanted = framework.lowest if lock.endswith("lowest") else framework.newest
    if framework.name == "langchain" and lock.endswith("lowest"):
        pytest.skip("the session of the lowest requirements tests it")
    here = version(framework.distribution)
    assert re.sub(r"(\.0)+$", "", here) == re.sub(r"(\.0)+$", "", wanted)


COPIED = """
import importlib, json, pathlib, shutil, sys
from agent_identity.integrations.instrumentation import FRAMEWORKS, instrumented
import agent_identity

framework = next(one for one in FRAMEWORKS if one.name == sys.argv[1])
top = framework.module.partition(".")[0]
spec = importlib.util.find_spec(top)
if spec.origin is None:  # A namespace, such as google.
    top = framework.module.replace(".", "/")
    (folder,) = importlib.util.find_spec(framework.module).submodule_search_locations
else:
    (folder,) = spec.submodule_search_locations
copy = pathlib.Path("copy", top)
shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__", "_bundled"))
sys.path.insert(0, "copy")
importlib.invalidate_caches()
for name in [name for name in sys.modules if name.partition(".")[0] in {top, "google"}]:
    del sys.modules[name]
agent_identity.instrument(agent_identity.Enforcer.open("evidence"))
module = importlib.import_module(framework.module)
is_copy = pathlib.Path(module.__file__).resolve().is_relative_to(pathlib.Path("copy").resolve())
print(json.dumps([is_copy, dict(instrumented())]))
"""


@pytest.mark.parametrize("framework", HERE, ids=lambda framework: framework.name)
def test_a_copy_that_is_first_on_the_path_is_guarded(framework: Framework, tmp_path: Path) -> None:
    """Enforce mode guards the copy that runs, although another one is installed."""
    _skip_without_adapter(framework)
    is_copy, state = _run(COPIED, framework.name, cwd=tmp_path, PYTHONWARNINGS="ignore")
    assert is_copy
    assert state.get(framework.name) is True


@pytest.mark.parametrize("framework", HERE, ids=lambda framework: framework.name)
def test_the_mark_of_a_framework_is_there(framework: Framework) -> None:
    """By its mark a copy is told from a package of the application that has the same name."""
    assert hasattr(import_module(framework.module), framework.mark)


def test_every_framework_has_tests_here() -> None:
    """The table of the frameworks and that of their tests name the same modules."""
    others = {framework.name: framework.module for framework in FRAMEWORKS if framework.name != "langchain"}
    needed = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["NEEDED"]
    assert others == {name: module for name, module in needed.items() if name != "a2a"}
