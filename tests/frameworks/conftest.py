"""The agent frameworks that these tests need: in the session `frameworks` none of its lock may be missing."""

import importlib.util
import os
from pathlib import Path

NEEDED = {
    "a2a": "a2a",
    "agent_framework": "agent_framework",
    "claude_agent": "claude_agent_sdk",
    "crewai": "crewai",
    "google_adk": "google.adk",
    "llama_index": "llama_index.core",
    "openai_agents": "agents",
    "pydantic_ai": "pydantic_ai",
    "strands": "strands",
}
"""By the folder or the test file, the module of its framework."""


def _is_missing(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:  # Its parent is missing.
        return True


def _is_for(name: str, session: str) -> bool:
    return (name == "crewai") == session.startswith("crewai")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the tests of frameworks that are not here, but not those that the session has to run."""
    name = collection_path.name.removeprefix("test_").removesuffix(".py")
    session = os.environ.get("AGENT_IDENTITY_FRAMEWORKS")
    if name not in NEEDED or (session and _is_for(name, session)):
        return None
    return True if session or _is_missing(NEEDED[name]) else None
