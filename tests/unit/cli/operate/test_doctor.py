"""``agent-identity doctor``: what would lose or weaken evidence is found, and said with its cure."""

import dataclasses
import importlib.metadata
import json
import os
import re
import shutil
import sys
import weakref
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from agent_identity._directory import enforcer as enforcers
from agent_identity.cli.operate import doctor
from agent_identity.identity import SigningKey, TrustStore
from agent_identity.version import VERSION

Run = Callable[..., tuple[int, str, str]]
Usage = namedtuple("Usage", ["total", "used", "free"])  # noqa: PYI024  As shutil returns it.


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the enforcers that other tests have left open in this process, which the doctor would look at as well."""
    monkeypatch.setattr(enforcers, "_ENFORCERS", weakref.WeakSet())


@pytest.fixture
def root(run: Run, tmp_path: Path) -> Path:
    """Return a directory as ``init`` prepares it."""
    assert run("init", tmp_path / "evidence")[0] == 0
    return tmp_path / "evidence"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a tracer provider the global one for a test."""

    def install(**options: object) -> None:
        made = TracerProvider(shutdown_on_exit=False, **options)  # type: ignore[arg-type]
        made.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: made)

    return install


def checks(run: Run, *words: object) -> dict[str, dict[str, str]]:
    """Return the findings by name."""
    code, out, err = run("doctor", *words, "--json")
    found: list[dict[str, str]] = json.loads(out)["checks"]
    assert err == ""
    assert code == (1 if any(check["status"] == "fail" for check in found) else 0)
    assert all(set(check) == {"section", "name", "status", "detail", "cure"} for check in found)
    assert all(check["cure"] for check in found if check["status"] != "ok")
    return {check["name"]: check for check in found}


# The whole.


def test_a_healthy_set_up_has_no_finding(run: Run, root: Path, provider: Callable[..., None]) -> None:
    """Keys, trust file, ledger, disk, clock, package and telemetry are looked at, and all are well."""
    provider()
    found = checks(run, root, "--import", "json")
    names = ["package", "versions", "clock", "provider", "sampler", "span limits", "processors", "propagators"]
    names += ["framework", "trust file", "issuer key", "recorder key", "ledger", "disk"]
    # Tools that other tests have left in this process are not of this set-up.
    assert [name for name in found if name != "tools"] == names
    assert {found[name]["status"] for name in names} == {"ok"}
    assert found["ledger"]["detail"] == "none yet; the first enforcer creates it"


def test_people_get_marks_and_cures(run: Run, tmp_path: Path) -> None:
    """Each line has its mark; below a finding stands what to do; a failure makes the exit code 1."""
    code, out, _ = run("doctor", tmp_path / "nowhere")
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "Installation"
    assert lines[1].split() == [
        "✓",
        "package",
        *f"agent_identity belongs to agent-identity-otel, version {VERSION}".split(),
    ]
    assert re.search(f"\\n✗ directory +the path does not exist\\n +→ agent-identity init {tmp_path}/nowhere\\n", out)
    assert {line[0] for line in lines if line} - set("✓!✗ ") == {"I", "A", "T", "F", "D", "1"}
    assert re.fullmatch(r"1 to repair, [0-9]+ to look at, [0-9]+ fine", lines[-1])


def test_warnings_do_not_fail(run: Run) -> None:
    """What costs spans but no evidence is a warning, and the exit code 0."""
    code, out, _ = run("doctor")
    assert code == 0
    assert re.search("\n! provider +no SDK tracer provider", out)


def test_a_terminal_gets_colour_and_folded_lines(on_terminal: Run, tmp_path: Path) -> None:
    """Marks are coloured, cures dimmed, and both fit the terminal."""
    _, out, _ = on_terminal("doctor", tmp_path / "nowhere", columns=60)
    assert "\x1b[1mInstallation\x1b[0m" in out
    assert "\x1b[32;1m✓\x1b[0m package" in out
    assert "\x1b[31;1m✗\x1b[0m directory" in out
    assert re.search("\x1b\\[2m→ set an SDK TracerProvider with an[^\n]*\n +", out)


# Package, clock, telemetry.


def test_ac_71_a_clashing_distribution_is_found() -> None:
    """The unrelated distribution of our import name is a failure with the command that removes it."""
    check = doctor.examine_package(lambda name: name)
    assert (check.status, check.name) == ("fail", "package")
    assert "agent-identity also installs" in check.detail
    assert "pip uninstall agent-identity" in check.cure

    def absent(name: str) -> object:
        raise importlib.metadata.PackageNotFoundError(name)

    assert doctor.examine_package(absent).status == "ok"


@pytest.mark.parametrize(("now", "status"), [(0.0, "fail"), (1_704_067_199.0, "fail"), (1_764_000_000.0, "ok")])
def test_a_clock_of_the_past_is_found(now: float, status: str) -> None:
    """A wall clock before 2024 was never set; grants and certificates live in real time."""
    check = doctor.examine_clock(lambda: now)
    assert check.status == status
    assert check.status == "fail" or check.detail == "UTC 2025-11-24T16:00:00Z"


def test_limits_that_cut_signatures_fail(run: Run, provider: Callable[..., None]) -> None:
    """A length limit breaks signatures, which is a failure; a count limit may evict them, which is a warning."""
    provider(span_limits=SpanLimits(max_span_attribute_length=256))
    found = checks(run)["span limits"]
    assert (found["status"], found["detail"]) == ("fail", "values are cut at 256: signatures will not verify")
    assert "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT" in found["cure"]
    provider(span_limits=SpanLimits(max_span_attributes=8))
    found = checks(run)["span limits"]
    assert (found["status"], found["detail"]) == ("warn", "8 attributes a span: evidence may be evicted")


def test_a_sampler_that_drops_is_found(run: Run, provider: Callable[..., None]) -> None:
    """A ratio sampler is a warning: the ledger has what the traces lack."""
    provider(sampler=TraceIdRatioBased(0.1))
    found = checks(run)["sampler"]
    assert found["status"] == "warn"
    assert "TraceIdRatioBased{0.1}" in found["detail"]


def test_a_disabled_sdk_is_found(run: Run, provider: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_SDK_DISABLED no spans are made, whatever the provider."""
    provider()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    found = checks(run)
    assert (found["provider"]["status"], found["provider"]["cure"]) == ("warn", "unset it; the ledger is kept anyway")
    assert "sampler" not in found


# The directory.


def test_a_file_is_no_directory(run: Run, tmp_path: Path) -> None:
    """A file at the path is a failure."""
    (tmp_path / "file").touch()
    assert checks(run, tmp_path / "file")["directory"]["status"] == "fail"


def test_missing_parts_are_found(run: Run, tmp_path: Path) -> None:
    """An empty directory lacks trust file and keys, each with what to do."""
    found = checks(run, tmp_path)
    assert {name: found[name]["status"] for name in ("trust file", "issuer key", "recorder key", "ledger")} == {
        "trust file": "fail",
        "issuer key": "fail",
        "recorder key": "fail",
        "ledger": "ok",
    }
    assert found["issuer key"]["cure"] == "check the path, its folder and their modes"


@pytest.mark.parametrize("name", ["issuer", "recorder"])
def test_an_open_private_key_fails(run: Run, root: Path, name: str) -> None:
    """A key that others can read is a failure, and the cure is a command."""
    (root / "keys" / f"{name}.pem").chmod(0o640)
    found = checks(run, root)[f"{name} key"]
    assert found["status"] == "fail"
    assert "has mode 0640" in found["detail"]
    assert found["cure"].startswith("run chmod 600 on it")


@pytest.mark.parametrize(
    ("path", "name", "status"),
    [
        ("keys", "key folder", "warn"),
        ("keys/ledger.key", "ledger key", "fail"),
        ("keys/digests.jsonl", "digest keys", "fail"),
        ("keys/pseudonyms.jsonl", "pseudonyms", "fail"),
    ],
    ids=str,
)
def test_open_modes_are_found(run: Run, root: Path, path: str, name: str, status: str) -> None:
    """Whatever lies in the folder of keys must be closed to others, and so must the folder."""
    assert name not in checks(run, root)
    place = root / path
    if not place.exists():
        place.touch()
    place.chmod(0o755)
    found = checks(run, root)[name]
    assert (found["status"], found["detail"]) == (status, "others can reach it (mode 0755)")
    assert found["cure"].startswith(f"chmod {'700' if path == 'keys' else '600'} {place}")
    place.chmod(0o700)
    assert name not in checks(run, root)


def test_keys_that_the_trust_file_does_not_know_fail(run: Run, root: Path) -> None:
    """What another key signs, nobody could verify with this trust file."""
    key = root / "keys" / "recorder.pem"
    key.unlink()
    SigningKey.generate().save(key)
    found = checks(run, root)
    assert (found["recorder key"]["status"], found["recorder key"]["detail"]) == (
        *("fail", "it is not the one in trust.json"),
    )
    assert found["issuer key"]["status"] == "ok"


@pytest.mark.parametrize(
    ("changes", "detail"), [({"not_after": 1}, "it is not valid now"), ({"revoked_since": 1}, "it is revoked")]
)
def test_keys_that_no_longer_count_fail(run: Run, root: Path, changes: dict[str, int], detail: str) -> None:
    """The cure is a rotation."""
    trust = TrustStore.load(root / "trust.json")
    trust.with_keys((dataclasses.replace(trust.keys[0], **changes), trust.keys[1])).save(root / "trust.json")
    found = checks(run, root)
    assert (found["issuer key"]["status"], found["issuer key"]["detail"]) == ("fail", detail)
    assert found["issuer key"]["cure"] == f"agent-identity keys rotate --issuer {root}"
    assert found["recorder key"]["status"] == "ok"


def test_a_malformed_trust_file_fails(run: Run, root: Path) -> None:
    """The place of the mistake is in the finding; the keys are still looked at."""
    (root / "trust.json").write_bytes(b'{"version": "9", "keys": []}')
    found = checks(run, root)
    assert found["trust file"]["status"] == "fail"
    assert "version" in found["trust file"]["detail"]
    assert found["trust file"]["cure"] == "restore it from a copy, or write a new one"
    assert found["issuer key"]["status"] == "ok"


def test_the_streams_of_a_ledger_are_counted(run: Run, evidence: Path) -> None:
    """A ledger is named with the command that verifies it."""
    assert checks(run, evidence)["ledger"]["detail"] == f"2 streams; 'agent-identity verify {evidence}' checks them"


def test_a_ledger_that_cannot_be_written_fails(run: Run, evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without evidence nothing runs, so a lack of permission is a failure."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != evidence / "ledger")
    found = checks(run, evidence)["ledger"]
    assert (found["status"], found["cure"]) == ("fail", f"give this user write access to {evidence / 'ledger'}")


@pytest.mark.parametrize(
    ("free", "status", "detail"),
    [(5 << 20, "warn", "5 MiB free"), (200 << 20, "ok", "200 MiB free"), (3 << 30, "ok", "3 GiB free")],
)
def test_a_disk_that_is_almost_full_is_found(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, *, free: int, status: str, detail: str
) -> None:
    """Below 100 MiB the ledger is likely to stop soon."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, free))
    found = checks(run, root)["disk"]
    assert (found["status"], found["detail"]) == (status, detail)


# The application.

APPLICATION = """
import os
print("the application talks")
from langchain_core.tools import tool
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
trace.set_tracer_provider(TracerProvider(span_limits=SpanLimits(max_span_attribute_length=64)))

@tool
def bare(x: int) -> int:
    '''Do it.'''
    return x

@tool
def safe(x: int) -> int:
    '''Do it.'''
    return x
"""
GUARDED = """
from agent_identity import Enforcer
from agent_identity.integrations.langchain.protection import protect
enforcer = Enforcer.open("evidence")
protect(safe, enforcer)
"""


def test_an_application_is_imported(program: Run, tmp_path: Path) -> None:
    """``--import`` sees the provider and the tools of the application; what it prints stays out of the JSON."""
    pytest.importorskip("langchain_core")
    (tmp_path / "shop.py").write_text(APPLICATION + GUARDED, encoding="utf-8")
    code, out, err = program("doctor", "--import", "shop", "--json")
    found = {check["name"]: check for check in json.loads(out)["checks"]}
    assert code == 1
    assert err.startswith("the application talks\n")  # Behind it, the enforcer warns of the limit as well.
    assert found["span limits"]["detail"] == "values are cut at 64: signatures will not verify"
    assert (found["tools"]["status"], found["tools"]["detail"]) == ("warn", "1 LangChain tool without a guard: bare")
    code, out, _ = program("doctor", "--import", "shop")
    assert code == 1
    assert re.search(r"\n! tools +1 LangChain tool without a guard: bare\n", out)


def test_guarded_tools_are_no_finding(program: Run, tmp_path: Path) -> None:
    """Tools under protect, and those made of functions that the enforcer guards, are counted as guarded."""
    pytest.importorskip("langchain_core")
    more = "from langchain_core.tools import StructuredTool\nprotect(bare, enforcer)\n"
    more += "@enforcer.tool\ndef own(x: int) -> int:\n    'Do it.'\n    return x\n"
    more += "third = StructuredTool.from_function(own)\n"
    (tmp_path / "shop.py").write_text(APPLICATION + GUARDED + more, encoding="utf-8")
    _, out, _ = program("doctor", "--import", "shop", "--json")
    (found,) = [check for check in json.loads(out)["checks"] if check["name"] == "tools"]
    assert (found["status"], found["detail"]) == ("ok", "3 LangChain tools, none without a guard")


def test_ac_104_many_tools_with_nasty_names_are_shortened(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of tools are escaped, and ten are enough."""
    tools = pytest.importorskip("langchain_core.tools")
    for module in ("middleware", "protection"):  # Other tests have imported them; this application has no guard.
        monkeypatch.delitem(sys.modules, f"agent_identity.integrations.langchain.{module}", raising=False)
    made = [tools.Tool(name=f"\x01\x1b[2J{n:02}", func=print, description="x") for n in range(12)]
    code, out, _ = run("doctor")
    assert code == 0
    assert "\\x01\\x1b[2J00, \\x01\\x1b[2J01" in out
    assert "\\x1b[2J10" not in out
    assert re.search(r"without a guard: .*, …\n", out)
    assert "\x1b" not in out
    assert len(made) == 12


def test_without_langchain_no_tools_are_looked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where LangChain was not imported there is nothing to say about tools."""
    monkeypatch.delitem(sys.modules, "langchain_core.tools", raising=False)
    assert "tools" not in checks(run)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("module", "content", "message"),
    [
        ("nowhere.app", None, "ModuleNotFoundError: No module named 'nowhere'; check its name"),
        ("shop", "import nowhere", "ModuleNotFoundError: No module named 'nowhere'; see what it does when imported"),
        ("shop", "1 / 0", "ZeroDivisionError: division by zero; see what it does when imported"),
        ("shop", "raise SystemExit(0)", "SystemExit: 0; see"),
        ("shop", "def", "SyntaxError: "),
        ("shop", r"raise ValueError('\x1b[2J')", "ValueError: \\x1b[2J; see"),
        ("..shop", None, "TypeError: "),
    ],
    ids=str,
)
def test_an_application_that_cannot_be_imported_is_told(
    program: Run, tmp_path: Path, module: str, content: str | None, message: str
) -> None:
    """Whatever the module does when it is imported ends in one line and with 2."""
    if content is not None:
        (tmp_path / "shop.py").write_text(content, encoding="utf-8")
    code, out, err = program("doctor", "--import", module)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_without_the_application_the_findings_are_about_this_process(run: Run) -> None:
    """Nobody takes the provider of the command for that of the application."""
    hint = "not imported: provider and tools are those of this process, not of your application"
    assert hint in run("doctor")[1]
    assert hint not in run("doctor", "--import", "json")[1]
