"""``agent-identity hooks``, and the checks of ``doctor`` on them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity.cli.operate import doctor_hooks, hook_settings
from agent_identity.cli.terminal.scopes import scope_of
from agent_identity.errors import ConfigurationError, OutOfScope
from agent_identity.integrations.frameworks.coding_agents.command import UGLY

Run = Callable[..., tuple[int, str, str]]
OTHERS = {
    "permissions": {"allow": ["Bash(ls)"], "deny": []},
    "ümlaut": [1, 1.5, None, True, "\u2028"],
    "hooks": {
        "PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "their-hook"}]}],
        "Notification": [{"hooks": []}],
    },
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty project, as a user without settings."""
    folder = tmp_path / "p"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    return folder


def settings_of(path: Path) -> dict[str, Any]:
    """Return the content of a settings file."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


@contextmanager
def serving(project: Path, *words: str) -> Iterator[None]:
    """Run ``hooks serve``."""
    server = subprocess.Popen(
        (sys.executable, "-m", "agent_identity", "hooks", "serve", "evidence", "--principal", "a@example.com", *words),
        cwd=project,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert "answering" in server.stdout.readline()
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
        assert server.returncode == 0


@pytest.mark.parametrize("place", ["local", "project", "user"])
def test_install_is_idempotent_and_remove_restores(run: Run, project: Path, place: str) -> None:
    """A second run changes nothing, and what others wrote is there before, meanwhile and afterwards."""
    path = hook_settings.path_of(place)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(OTHERS), encoding="utf-8")
    path.chmod(0o640)
    assert run("hooks", "install", "evidence", "--settings", place)[0] == 0
    first = path.read_text(encoding="utf-8")
    found = settings_of(path)
    assert {**found, "hooks": None} == {**OTHERS, "hooks": None}
    assert found["hooks"]["PreToolUse"][0] == OTHERS["hooks"]["PreToolUse"][0]
    assert found["hooks"]["Notification"] == OTHERS["hooks"]["Notification"]
    assert all(str(project / "evidence" / "hooks.sock") in json.dumps(found["hooks"][e]) for e in hook_settings.EVENTS)
    assert path.stat().st_mode & 0o777 == 0o640
    assert "nothing to change" in run("hooks", "install", "evidence", "--settings", place)[1]
    assert path.read_text(encoding="utf-8") == first
    assert run("hooks", "status")[0] == 0
    assert run("hooks", "remove", "--settings", place)[0] == 0
    assert settings_of(path) == OTHERS


def test_another_installation_replaces_ours(run: Run, project: Path) -> None:
    """Other options change our hooks in place of adding more."""
    run("hooks", "install", "evidence")
    run("hooks", "install", "elsewhere", "--patience", "100")
    found = settings_of(project / ".claude" / "settings.local.json")["hooks"]
    assert {event: len(groups) for event, groups in found.items()} == dict.fromkeys(hook_settings.EVENTS, 1)
    (hook,) = found["PreToolUse"][0]["hooks"]
    assert "elsewhere" in hook["command"]
    assert (hook["timeout"], hook["onFailure"]) == (110, "block")


def test_a_hook_of_an_earlier_place_of_the_command_is_replaced(run: Run, project: Path) -> None:
    """It refuses every call, since nothing is there any more; status names it, and install and remove take it away."""
    path = project / ".claude" / "settings.local.json"
    run("hooks", "install", "evidence")
    new = path.read_text(encoding="utf-8")
    old = new.replace("coding_agents/command.py", "hook_command.py")
    for words, left in ((("install", "evidence"), json.loads(new)), (("remove",), {})):
        path.write_text(old, encoding="utf-8")
        code, out, _ = run("hooks", "status")
        assert (code, "not the one of this installation" in out) == (1, True)
        assert run("hooks", *words)[0] == 0
        assert settings_of(path) == left


def test_a_hook_of_others_with_a_similar_name_is_not_ours(run: Run, project: Path) -> None:
    """Neither install nor remove takes away a script of others that is called like ours."""
    theirs = {"hooks": {"PreToolUse": [{"hooks": [{"type": "command", "command": "python my_hook_command.py"}]}]}}
    path = project / "settings.json"
    path.write_text(json.dumps(theirs))
    assert run("hooks", "install", "evidence", "--file", str(path))[0] == 0
    assert settings_of(path)["hooks"]["PreToolUse"][0] == theirs["hooks"]["PreToolUse"][0]
    assert run("hooks", "remove", "--file", str(path))[0] == 0
    assert settings_of(path) == theirs


def test_a_text_that_is_no_unicode_stays(run: Run, project: Path) -> None:
    """JSON may hold half of a surrogate pair, which no file can hold as itself."""
    path = project / "settings.json"
    path.write_text('{"x": "\\ud800"}')
    assert run("hooks", "install", "evidence", "--file", str(path))[0] == 0
    assert settings_of(path)["x"] == "\ud800"


def test_hooks_that_another_file_disables_are_not_sound(run: Run, project: Path) -> None:
    """Settings of a person turn off the hooks of the project, and neither status nor doctor calls them sound."""
    run("hooks", "install", "evidence", "--settings", "project")
    assert run("hooks", "status")[0] == 0
    (project / ".claude" / "settings.local.json").write_text('{"disableAllHooks": true}')
    code, out, _ = run("hooks", "status")
    assert (code, "disableAllHooks" in out) == (1, True)
    found = doctor_hooks.examine_hooks()
    assert any(one.status == "fail" and "disableAllHooks" in one.detail for one in found)


def test_dry_run_shows_and_writes_nothing(run: Run, project: Path) -> None:
    """The change is shown, and no file is made."""
    code, out, _ = run("hooks", "install", "evidence", "--dry-run")
    assert (code, "+" in out, "not written" in out) == (0, True, True)
    assert not (project / ".claude").exists()
    found = json.loads(run("hooks", "install", "evidence", "--dry-run", "--json")[1])
    assert (found["changed"], found["written"]) == (True, False)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"hooks": []}', '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e999}', "[" * 100_000, "\0"]
)
def test_a_malformed_file_is_left_as_it_is(run: Run, project: Path, text: str) -> None:
    """What cannot be read as settings is not overwritten."""
    path = project / "settings.json"
    path.write_text(text)
    assert run("hooks", "install", "evidence", "--file", str(path))[0] == 2
    assert run("hooks", "remove", "--file", str(path))[0] == 2
    assert path.read_text() == text


def test_odd_entries_of_others_stay(run: Run, project: Path) -> None:
    """Entries of a form that is not known are kept."""
    odd = {"hooks": {"PreToolUse": "x", "PostToolUse": [7, {"hooks": "y"}, {}], "Stop": {"a": 1}}}
    path = project / "settings.json"
    path.write_text(json.dumps(odd))
    assert run("hooks", "install", "evidence", "--file", str(path))[0] == 0
    assert settings_of(path)["hooks"]["PreToolUse"][0] == "x"
    assert settings_of(path)["hooks"]["Stop"][0] == {"a": 1}
    assert settings_of(path)["hooks"]["PostToolUse"][:3] == odd["hooks"]["PostToolUse"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


_HOOKS = st.dictionaries(st.sampled_from(hook_settings.EVENTS), st.lists(_JSON, min_size=1, max_size=3))


@given(st.dictionaries(st.text(max_size=5), _JSON, max_size=3), _HOOKS)
def test_nothing_of_others_is_lost(others: dict[str, Any], hooks: dict[str, Any]) -> None:
    """Install and remove together change nothing, whatever a file has."""
    settings = {**others, "hooks": hooks} if hooks else {**others}
    if not hooks:
        settings.pop("hooks", None)
    changed = hook_settings.with_hooks(settings, "/s", patience=50)
    assert hook_settings.with_hooks(changed, "/s", patience=50) == changed
    odd = [text for text in hook_settings.weaknesses(changed) if "has what is no hook" in text]
    assert list(hook_settings.weaknesses(changed)) == odd
    assert hook_settings.without_hooks(changed) == settings


def test_a_link_is_followed(run: Run, project: Path, tmp_path: Path) -> None:
    """Settings that are a link to a file elsewhere stay one."""
    target = tmp_path / "dotfiles.json"
    target.write_text("{}")
    path = project / "settings.json"
    path.symlink_to(target)
    assert run("hooks", "install", "evidence", "--file", str(path))[0] == 0
    assert path.is_symlink()
    assert "PreToolUse" in settings_of(target)["hooks"]


def test_a_file_that_changed_meanwhile_is_not_overwritten(project: Path) -> None:
    """What somebody else wrote between reading and writing is kept."""
    path = project / "settings.json"
    path.write_text('{"theirs": 1}')
    with pytest.raises(ConfigurationError):
        hook_settings.write(path, "{}", "ours")
    assert settings_of(path) == {"theirs": 1}


def test_status_without_hooks_and_with_weak_ones(run: Run, project: Path) -> None:
    """What lets calls past a hook is named, and the exit code is 1."""
    assert run("hooks", "status")[0] == 1
    run("hooks", "install", "evidence")
    path = project / ".claude" / "settings.local.json"
    whole = settings_of(path)

    def weak(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> str:
        settings = json.loads(json.dumps(whole))
        change(settings, settings["hooks"]["PreToolUse"][0])
        path.write_text(json.dumps(settings))
        code, out, _ = run("hooks", "status", "--json")
        assert code == 1
        return str(next(row["weaknesses"] for row in json.loads(out)["files"] if row["hooks"]))

    assert "disableAllHooks" in weak(lambda settings, _: settings.update(disableAllHooks=True))
    assert "PostToolUse has no hook" in weak(lambda settings, _: settings["hooks"].pop("PostToolUse"))
    assert "matcher" in weak(lambda _, group: group.update(matcher="Bash"))
    assert "async" in weak(lambda _, group: group["hooks"][0].update({"async": True}))
    assert "killed" in weak(lambda _, group: group["hooks"][0].pop("onFailure"))
    script = hook_settings.hook_command.__file__
    for member, value, said in (
        ("command", script, "not the one"),
        ("type", "prompt", "not the one"),
        ("timeout", 1, "kills"),
        ("timeout", "60", "kills"),
        ("if", "Bash(ls)", "remove if"),
        ("args", ["x"], "remove args"),
        ("shell", "powershell", "remove shell"),
    ):
        changed = {member: value}
        assert said in weak(lambda _, group, more=changed: group["hooks"][0].update(more))  # type: ignore[misc]
    for odd in ("x", None, {"hooks": "y"}, {"hooks": [{}]}, {}):
        assert "no hook" in weak(lambda settings, _, more=odd: settings["hooks"]["PreToolUse"].insert(0, more))  # type: ignore[misc]
    path.write_text(json.dumps(whole))
    run("hooks", "install", "evidence", f"{UGLY}")
    assert UGLY in json.loads(run("hooks", "status", "--json")[1])["files"][0]["weaknesses"][0]


@pytest.mark.parametrize("words", [("--patience", "0"), ("--patience", "nan"), ("--socket", "x" * 120)])
def test_wrong_options_are_refused(run: Run, words: tuple[str, ...]) -> None:
    """A wait out of range and a path that no system takes are errors."""
    assert run("hooks", "install", "evidence", *words)[0] == 2


def checks(project: Path) -> list[tuple[str, str]]:
    """Return status and finding of each check of the installed hooks."""
    path = project / ".claude" / "settings.local.json"
    return [(check.status, check.detail) for check in doctor_hooks.examine_hooks([path])]


def test_doctor_replays_a_probe(run: Run, project: Path) -> None:
    """A denied and an allowed call go through the installed commands, and a missing answer is seen to refuse."""
    assert [status for status, _ in checks(project)] == ["fail"]
    run("hooks", "install", "evidence")
    assert [status for status, _ in checks(project)] == ["ok", "fail", "ok"]
    with serving(project, "--tool", "Bash"):
        assert [status for status, _ in checks(project)] == ["ok"] * 4
    assert json.loads(run("verify", "evidence", "--json")[1])["completeness"] == "complete"
    with serving(project, "--tool", "Bash", "--monitor"):
        assert ("warn", "a call beyond the scope runs: monitor mode") in checks(project)


def test_doctor_sees_what_fails_open(run: Run, project: Path) -> None:
    """Hooks that let tools run without an answer are a finding to repair."""
    run("hooks", "install", "evidence", UGLY)
    assert any(status == "fail" and "fails open" in detail for status, detail in checks(project))
    code, out, _ = run("doctor", "--hooks", str(project / ".claude" / "settings.local.json"))
    assert (code, "fails open" in out) == (1, True)


def test_doctor_runs_no_command_of_others(run: Run, project: Path) -> None:
    """A command that was changed is reported, and not run."""
    run("hooks", "install", "evidence")
    path = project / ".claude" / "settings.local.json"
    settings = settings_of(path)
    hook = settings["hooks"]["PreToolUse"][0]["hooks"][0]
    hook["command"] = f"touch ran; {hook['command']}"
    settings["hooks"]["PreToolUse"].append({"hooks": [{"type": "command", "command": "theirs"}]})
    path.write_text(json.dumps(settings))
    found = checks(project)
    assert {status for status, _ in found} == {"fail", "warn"}
    assert not (project / "ran").exists()
    path.write_text("{")
    assert [status for status, _ in checks(project)] == ["fail"]


def test_doctor_says_that_a_policy_refuses_the_probe(run: Run, project: Path) -> None:
    """A policy that blocks the tool of the probe is named as the reason."""
    (project / "policy.json").write_text(
        json.dumps({"version": "1", "name": "p", "rules": [{"id": "none", "effect": "block", "tools": "*"}]})
    )
    run("hooks", "install", "evidence")
    with serving(project, "--tool", "Bash", "--policy", "policy.json"):
        assert any(status == "warn" and "policy_blocks" in detail for status, detail in checks(project))


def test_another_person_approves(run: Run, project: Path) -> None:
    """A call that the policy routes waits for a person, and runs when one has approved it."""
    rule = {"id": "ask", "effect": "route", "tools": "Bash", "to": "desk"}
    (project / "policy.json").write_text(json.dumps({"version": "1", "name": "p", "rules": [rule]}))
    command = hook_settings.command_of(str(project / "evidence" / "hooks.sock"), "PreToolUse", patience=50)
    event = {"session_id": "s", "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_use_id": "t"}
    options = ("--tool", "Bash", "--policy", "policy.json", "--approval", "desk")
    with (
        serving(project, *options),
        subprocess.Popen(("sh", "-c", command), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hook,
    ):
        assert hook.stdin is not None
        hook.stdin.write(json.dumps({**event, "tool_input": {"command": "ls"}}).encode())
        hook.stdin.close()
        while not (waiting := json.loads(run("approvals", "list", "evidence", "--json")[1])["requests"]):
            assert hook.poll() is None
        approved = run("approvals", "approve", "evidence", waiting[0]["id"], "--by", "bob@example.com")
        assert approved[0] == 0, approved
        assert hook.wait(60) == 0


def test_the_scope_of_the_page_bounds_what_is_written(project: Path) -> None:
    """The file of the how-to is a scope, with what a tool writes and where."""
    page = Path(__file__).parents[4] / "docs" / "how-to" / "coding-agents.md"
    (project / "scope.json").write_text(page.read_text(encoding="utf-8").split("```json")[1].split("```")[0])
    scope = scope_of(["Read"], str(project / "scope.json"), "--scope")
    within = {"file_path": "/home/alice/shop/a.py", "content": "x"}
    scope.check("Write", within, within)
    with pytest.raises(OutOfScope):
        scope.check("Write", {**within, "file_path": "/home/alice/.claude/settings.json"}, within)


def test_serve_needs_a_tool(run: Run) -> None:
    """Sessions without a scope have nothing to do, and none lasts longer than a day; the error is one of the user."""
    who = ("hooks", "serve", "evidence", "--principal", "a@example.com")
    code, _, said = run(*who)
    assert code == 2
    assert "--tool NAME" in said
    assert "defect" not in run(*who[:-1], "", "--tool", "Bash")[2]
    assert run(*who, "--tool", "Bash", "--hours", "25")[0] == 2
    assert run(*who, "--tool", "Bash", "--hours", "nan")[0] == 2
