"""Lazy public modules: what type checkers read and what runs are the same."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

FACES = ("answers", "audit", "delegation", "identity", "options", "policy")


@pytest.mark.parametrize("face_name", FACES)
def test_a_face_offers_what_type_checkers_see(face_name: str) -> None:
    """Each name comes from the module that the imports for type checkers say, and no other is offered."""
    face = import_module(f"agent_identity.{face_name}")
    tree = ast.parse(Path(face.__file__ or "").read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("agent_identity.")
        for alias in node.names
        if alias.name != "lazily"
    }
    homes.pop("TYPE_CHECKING", None)
    assert sorted(homes) == sorted(face.__all__)
    for name, module in homes.items():
        assert getattr(face, name) is getattr(import_module(module or ""), name)


@pytest.mark.parametrize("face_name", FACES)
def test_a_face_is_a_module_like_any_other(face_name: str) -> None:
    """It lists its names, and one that it has not is an error that names it."""
    face = import_module(f"agent_identity.{face_name}")
    assert set(face.__all__) <= set(dir(face))
    with pytest.raises(AttributeError, match=f"module 'agent_identity.{face_name}' has no attribute 'no_such_name'"):
        _ = face.no_such_name


def test_a_face_loads_nothing_before_it_is_asked() -> None:
    """Importing a public module costs none of the rooms; a name costs those that it needs."""
    for face_name in FACES:
        code = f"import sys, agent_identity.{face_name}; print([name for name in sys.modules if 'identity._' in name])"
        assert _printed(code) == "['agent_identity._common', 'agent_identity._common.lazy']"


def _printed(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


@pytest.mark.parametrize("face_name", FACES)
def test_a_face_keeps_what_it_found(face_name: str) -> None:
    """A name is looked for once, and from then on it is a plain attribute."""
    face = import_module(f"agent_identity.{face_name}")
    for name in face.__all__:
        found = getattr(face, name)
        assert vars(face)[name] is found


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("protect", "agent_identity.integrations.langchain"),
        ("Flow", "agent_identity.policy"),
        ("Limit", "agent_identity.limits"),
        ("Approval", "agent_identity.approvals"),
        ("SigningKey", "agent_identity.identity"),
    ],
)
def test_a_name_of_another_public_module_says_where_it_is(name: str, place: str) -> None:
    """Importing it from the root is an error that names the module, which has it."""
    root = import_module("agent_identity")
    with pytest.raises(ImportError, match=rf"{name}.*{re.escape(place)}"):
        getattr(root, name)
    assert hasattr(import_module(place), name)


def test_a_name_that_nothing_has_is_a_missing_attribute() -> None:
    """One can ask whether the root has a name."""
    assert not hasattr(import_module("agent_identity"), "nothing")


def test_importing_a_public_module_from_the_root_loads_no_other() -> None:
    """The search for a name in the public modules is left to imports that fail."""
    code = "import sys; from agent_identity import limits; print('agent_identity.tokens' in sys.modules)"
    assert _printed(code) == "False"
