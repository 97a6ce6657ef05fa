"""The reference names everything there is: what is added to the code without a word about it fails here."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import agent_identity
from agent_identity import constraints, errors, records, tokens
from agent_identity._authority.tokens.jwt import access_claims
from agent_identity._policy.language.attributes import ATTRIBUTES
from agent_identity._policy.language.conditions import _WORDS
from agent_identity._record.parts import EFFECTS, OUTCOMES, VERSION
from agent_identity._record.schema import KINDS, Detail
from agent_identity._spans.envelope import PAYLOAD_TYPE
from agent_identity._spans.span_attributes import MIRRORED
from agent_identity._verify.report.findings import CODES

ROOT = Path(__file__).resolve().parents[2]


def _page(name: str) -> str:
    return (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")


def _absent(names: Iterable[str], text: str) -> list[str]:
    return sorted(name for name in names if f"`{name}`" not in text)


def test_the_readme_shows_the_quick_start_as_it_runs() -> None:
    """The first block of the README is examples/quickstart.py."""
    example = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    _, _, code = example.partition('"""\n\n')
    assert f"```python\n{code}```" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", agent_identity.__all__)
def test_every_public_name_has_its_place(name: str) -> None:
    """Each name of the root has a heading of its own on the page of the Python interface."""
    assert re.search(rf"^### {name}(?:\.open)?$", _page("api.md"), re.MULTILINE)


def test_every_constraint_is_in_the_lists() -> None:
    """Each constraint has an entry with its name in grants, and one that says what it covers."""
    page = _page("constraints.md")
    kinds = [getattr(constraints, name) for name in constraints.__all__ if name != "Constraint"]
    assert [kind.__name__ for kind in kinds if f"\n- `{kind.__name__}(" not in page] == []
    assert [kind.__name__ for kind in kinds if f"\n- `{kind.__name__}`: " not in page] == []
    assert _absent((kind.kind for kind in kinds), page) == []


def test_every_kind_of_record_is_named() -> None:
    """Kinds, outcomes, effects, version and media type stand on the page of the record format."""
    page = _page("record.md")
    assert _absent([*KINDS, *OUTCOMES, *EFFECTS, PAYLOAD_TYPE], page) == []
    assert f'Value of `v`: `"{VERSION}"`' in page


@pytest.mark.parametrize("kind", [*get_args(records.AnyRecord), Detail])
def test_every_member_of_a_record_is_named(kind: type) -> None:
    """Each member of each kind and of details, at each level, stands on the page of the record format."""
    page, members = _page("record.md"), _members(kind)
    assert ({"_salt", "claimed"} if kind is Detail else {"v", "id", "seq", "prev", "start", "end"}) < members
    assert [name for name in members if not re.search(rf"[`.]{name}[`.\[]", page)] == []


def _members(hint: object) -> set[str]:
    """Return the names of the members of a type, and of those that its members have."""
    if not hasattr(hint, "__struct_fields__"):
        return {name for inner in get_args(hint) for name in _members(inner)}
    hints = get_type_hints(hint)
    fields = {
        shown: hints[name] for name, shown in zip(hint.__struct_fields__, hint.__struct_encode_fields__, strict=True)
    }
    return {*fields, *(name for inner in fields.values() for name in _members(inner))}


def test_every_attribute_of_a_span_is_named() -> None:
    """Each attribute that copies a fact of the record stands on the page of spans."""
    assert _absent(MIRRORED, _page("spans.md")) == []


def test_every_attribute_and_word_of_a_policy_is_named() -> None:
    """Each attribute that a rule can look at and each constraint stand on the page of policy files."""
    page = _page("policy-file.md")
    words = _WORDS - {"all", "any", "exists"}
    assert _absent([*ATTRIBUTES, *words], page) == []
    assert [f"{word}: " for word in ("all", "any", "exists") if f"{word}: " not in page] == []


def test_every_finding_is_described_with_its_severity() -> None:
    """Each code of a finding has a row with what it does to the verdicts, and there is no other row."""
    row = re.compile(r"^- `(\w+)` \((contradicted|cannot_tell|incomplete|notice)\): .+$", re.MULTILINE)
    rows = row.findall(_page("codes.md"))
    assert dict(rows) == dict(CODES)


def test_every_code_is_described() -> None:
    """Each code that an exception or a decision can have stands on the page of codes."""
    codes = {getattr(errors, name).default_code for name in errors.__all__}
    package = ROOT / "agent_identity"
    told = package / "cli" / "company"  # Reasons there are sentences of people.
    for file in package.rglob("*.py"):
        for node in () if file.is_relative_to(told) else ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            value = node.value if isinstance(node, ast.keyword) and node.arg in {"code", "reason"} else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                codes.add(value.value)
    assert len(codes) > 60
    assert _absent(codes, _page("codes.md")) == []


def test_everything_about_tokens_for_other_services_is_named() -> None:
    """Each name of ``agent_identity.tokens``, each claim and each parameter stands on their page."""
    page = _page("tokens.md")
    assert [name for name in tokens.__all__ if not re.search(rf"[`#] ?{name}\b", page)] == []
    options = set(inspect.signature(tokens.TokenExchange).parameters) - {"transport"}
    assert [name for name in options if f"`{name}`" not in page and f"{name}=" not in page] == []
    source = inspect.getsource(access_claims)
    claims = re.findall(r'^        "(\w+)": |claims\["(\w+)"\]', source, re.MULTILINE)
    assert len(claims) > 12
    assert _absent((name for pair in claims for name in pair if name), page) == []


def test_every_exception_is_in_the_tree() -> None:
    """Each exception stands in the tree on the page of codes."""
    assert [name for name in errors.__all__ if not re.search(rf"\b{name}\b", _page("codes.md"))] == []


def test_commands_are_those_of_the_command_line() -> None:
    """The page of the command line has a row for each command, with the line of its help and its subcommands."""
    command = [sys.executable, str(ROOT / "tools" / "cli_help.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^- `keys`: .+: `new`, `public`, ", _page("cli.md"), re.MULTILINE)


def test_rows_of_controls_are_those_of_the_tables() -> None:
    """The pages of frameworks show the rows that the report has."""
    command = [sys.executable, str(ROOT / "tools" / "control_pages.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "**AU-3** Content of audit records" in _page("controls/nist.md")


def test_users_are_told_of_public_modules_alone() -> None:
    """No page but the architecture, and no example, names a module that begins with an underscore."""
    pages = [
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.py"),
    ]
    assert [page.name for page in pages if re.search(r"agent_identity\._\w", page.read_text(encoding="utf-8"))] == []
