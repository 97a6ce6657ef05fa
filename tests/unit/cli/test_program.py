"""The command as a whole: words, exit codes, streams that are closed, full or gone."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from agent_identity._authority.registries.revocations import RevokedKind
from agent_identity._directory.export.receivers import PROTOCOLS
from agent_identity._identity.trust.entries import Purpose
from agent_identity._reports.export.interop import FORMS
from agent_identity.cli import main, program
from agent_identity.cli.control import commands as control
from agent_identity.cli.operate import commands as operate
from agent_identity.cli.terminal.command import Command
from agent_identity.cli.trust import commands as trust
from agent_identity.cli.verify import commands as verifying
from agent_identity.cli.verify import verify
from agent_identity.version import VERSION

Run = Callable[..., tuple[int, str, str]]


def every(commands: Iterable[Command], before: str = "") -> Iterator[tuple[str, Command]]:
    """Yield all commands and actions by the words that name them."""
    for command in commands:
        yield before + command.name, command
        yield from every(command.actions, f"{before}{command.name} ")


COMMANDS = dict(every(command for group in program.GROUPS.values() for command in group))


def test_the_version(run: Run) -> None:
    """``--version`` prints name and version."""
    assert run("--version") == (0, f"agent-identity {VERSION}\n", "")


def test_help_lists_the_commands_and_the_exit_codes(run: Run) -> None:
    """``--help`` names every command, and the exit codes that scripts rely on."""
    code, out, _ = run("--help")
    assert code == 0
    assert all(f"\n{heading}:\n    {commands[0].name} " in out for heading, commands in program.GROUPS.items())
    assert all(f"\n    {name} " in out for name in COMMANDS if " " not in name)
    assert "0 verified · 1 contradicted or tampered · 2 cannot tell · 3 verified but incomplete" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(run: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``COMMAND --help`` says what it does and describes each argument."""
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = run(*command.split(), "--help")
    assert (code, err) == (0, "")
    head, _, arguments = out.partition("\n\n")
    assert head.startswith(f"usage: agent-identity {command}")
    assert arguments[0].isupper()
    described = [line for line in arguments.splitlines() if line.startswith("  ")]
    assert [line for line in described if len(line.split(maxsplit=1)) < 2 and not line.startswith("  -")] == []
    assert (f"\nexample:\n  agent-identity {command}" in out) is not bool(COMMANDS[command].actions)


@pytest.mark.parametrize(
    "words", [(), ("keys",), ("verify",), ("frobnicate",), ("verify", "x", "--frobnicate")], ids=str
)
def test_words_that_make_no_command_exit_with_2(run: Run, words: tuple[str, ...]) -> None:
    """Wrong usage is one line on standard error and exits with 2, which is never a verdict of 0, 1 or 3."""
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("agent-identity: ")
    assert "--help'" in err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("vverify x", "verify"),
        ("reenstate x agent y", "reinstate"),
        ("trust lst x", "list"),
        ("proof ccheck x", "check"),
        ("show x --agnet y", "--agent"),
        ("show --jsnol", "--jsonl"),
        ("keys rotate --overlpa=7d x --all", "--overlap"),
        ("--versoin", "--version"),
        ("prune x --older-then 365d", "--older-than"),
    ],
)
def test_the_nearest_word_is_named(run: Run, words: str, meant: str) -> None:
    """A misspelled command, action or option is answered with the one that was meant, whatever else is missing."""
    code, out, err = run(*words.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.endswith(f"did you mean '{meant}'?\n")


@pytest.mark.parametrize(
    "words", ["show x -- --agnet", "keys revoke d --since 1 -- -AbC", "bundle x -ob.zip", "verify x --proc 1"]
)
def test_what_looks_like_a_misspelled_option_may_be_none(run: Run, tmp_path: Path, words: str) -> None:
    """Words after ``--``, values that follow a short option at once, and beginnings of options are taken as such."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        code, _, err = run(*words.split())
    assert code == 2
    assert "option" not in err


def test_words_too_many_are_named(run: Run) -> None:
    """What no command takes is quoted, as far as it cannot steer a terminal."""
    assert run("who", "a", "b", "c\x1b") == (
        *(2, ""),
        "agent-identity: unexpected argument 'c\\x1b'; leave it out; see 'agent-identity who --help'\n",
    )


@pytest.mark.parametrize("words", [("\x1b[31mx",), ("show", "x", "--\x1b]0;title\x07")], ids=ascii)
def test_ac_104_complaints_about_words_cannot_steer_the_terminal(run: Run, words: tuple[str, ...]) -> None:
    """Control characters in the words come back escaped."""
    code, _, err = run(*words)
    assert code == 2
    assert "\x1b" not in err
    assert "\\x1b" in err


def test_the_words_of_the_process_are_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments ``main`` takes those of the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["agent-identity", "trust", "list", "nowhere"])
        assert main() == 2
    assert "'nowhere'" in capsys.readouterr().err


def test_python_dash_m_is_the_command(program: Run, evidence: Path) -> None:
    """``python -m agent_identity`` runs the command under its own name."""
    code, out, err = program("verify", evidence)
    assert (code, err) == (0, "")
    assert out.startswith("VERIFIED  30 records")
    assert program("--help")[1].startswith("usage: agent-identity ")


# Streams.


def test_a_reader_that_left_costs_no_traceback(evidence: Path) -> None:
    """Into a closed pipe the command says nothing and ends with 2."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "agent_identity", "show", str(evidence)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (2, b"")


def test_head_gets_the_verdict(program: Run, evidence: Path) -> None:
    """``| head -1`` shows the verdict and nothing on standard error."""
    _, out, err = program("verify", evidence, through='"$@" | head -1')
    assert (out, err) == ("VERIFIED  30 records, 3 denied\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_no_tampering(program: Run, evidence: Path) -> None:
    """Output that cannot be written ends with 2: the 1 of an uncaught exception would say 'tampered'."""
    code, _, err = program("verify", evidence, through='exec "$@" > /dev/full')
    assert code == 2
    assert err == (
        "agent-identity: the operating system refused access (No space left on device); check path and permissions\n"
    )


def test_closed_streams_do_not_matter(program: Run, evidence: Path) -> None:
    """Without standard output and error the exit code alone tells the verdict."""
    assert program("verify", evidence, through='exec "$@" >&- 2>&-') == (0, "", "")
    assert program("verify", "nowhere", through='exec "$@" >&- 2>&-') == (2, "", "")


def test_closed_standard_input_is_told(program: Run) -> None:
    """``-`` without standard input is an error in one line."""
    code, out, err = program("verify", "-", through='exec "$@" <&-')
    assert (code, out) == (2, "")
    assert err == (
        "agent-identity: the operating system refused access (Bad file descriptor); check path and permissions\n"
    )


def test_a_stream_that_cannot_hold_our_marks_gets_them_escaped(program: Run, evidence: Path) -> None:
    """Where output is ASCII, other characters are escaped, and nothing breaks."""
    code, out, err = program("verify", evidence, environment={"PYTHONIOENCODING": "ascii"})
    assert (code, err) == (0, "")
    assert "\\u2713 1. trust" in out


def test_without_streams_of_the_system_nothing_is_lost(evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that put ``None`` or another object in the place of the streams gets its exit code."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert main(["verify", str(evidence)]) == 0
    assert sys.stdout is not None
    sys.stdout.close()


# Ends.


class Gone(io.StringIO):
    """A stream whose reader has left."""

    def write(self, text: str) -> int:
        """Fail as a pipe does."""
        raise BrokenPipeError

    def flush(self) -> None:
        """Fail as a pipe does."""
        raise BrokenPipeError


def test_a_broken_pipe_is_quiet(evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output and complaints that nobody reads are dropped."""
    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr(sys, "stderr", Gone())
    assert main(["verify", str(evidence)]) == 2
    assert main(["verify", "nowhere"]) == 2


def test_what_could_not_be_printed_goes_nowhere(
    evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a broken pipe the descriptor leads nowhere, so that the interpreter does not fail at its end."""
    descriptor = os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY)
    gone = Gone()
    monkeypatch.setattr(gone, "fileno", lambda: descriptor)
    monkeypatch.setattr(sys, "stdout", gone)
    assert main(["verify", str(evidence)]) == 2
    try:
        assert os.fstat(descriptor).st_rdev == Path(os.devnull).stat().st_rdev != 0
    finally:
        os.close(descriptor)


def failing(error: BaseException) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


def test_ctrl_c_ends_with_130(run: Run, evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted command leaves no traceback."""
    monkeypatch.setattr(verify, "Verifier", failing(KeyboardInterrupt()))
    assert run("verify", evidence) == (130, "", "")


def test_a_defect_is_no_tampering(run: Run, evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours ends with 2 and one line, which says where and quotes nothing."""
    monkeypatch.setattr(verify, "Verifier", failing(RuntimeError("alice paid 100")))
    code, out, err = run("verify", evidence)
    assert (code, out) == (2, "")
    assert err.startswith(f"agent-identity: a defect of agent-identity {VERSION}, please report it: RuntimeError at ")
    assert "test_program.py:" in err
    assert "alice" not in err


def test_the_system_names_the_file(run: Run, evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the operating system is told in one line, with its file."""
    monkeypatch.setattr(verify, "Verifier", failing(PermissionError(13, "Permission denied", "secret/\x1b[2J")))
    code, _, err = run("verify", evidence)
    assert code == 2
    assert err == (
        "agent-identity: the operating system refused access at 'secret/\\x1b[2J' (Permission "
        "denied); check path and permissions\n"
    )


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (("replay", "typo", "--otlp", "http://localhost:4318"), "name the one with trust.json"),
        (("who", "typo", "principal-x"), "an enforcer that is opened with Privacy(pseudonyms=True)"),
        (("signer", "typo", "--socket", "s"), "'agent-identity init DIR' creates one"),
        (("erase", "typo", "--principal", "alice"), "the source 'typo' cannot be read"),
        (("approvals", "list", "typo"), "'agent-identity init DIR' creates one"),
        (("tasks", "file"), "name the directory of an enforcer"),
    ],
    ids=lambda part: part[0] if isinstance(part, tuple) else "",
)
def test_a_directory_with_a_slip_in_its_name_is_not_made(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], way_out: str
) -> None:
    """Each command that needs the directory of an enforcer says what it did not find, how to go on, and makes none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("agent-identity: ")
    assert way_out in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_command_is_registered_with_what_runs_it() -> None:
    """Each command names its work, so that none ends in an attribute error; one with actions leaves it to them."""
    for command in COMMANDS.values():
        module, _, name = command.work.partition(":")
        assert bool(module) is not bool(command.actions)
        assert not module or callable(getattr(import_module(module), name or "run"))


def test_the_parser_offers_what_the_work_takes() -> None:
    """What the parser does not import, since it is dear, is the same there."""
    assert get_args(RevokedKind) == control.KINDS
    assert verifying.FORMS == FORMS
    assert operate.PROTOCOLS == PROTOCOLS
    assert get_args(Purpose) == trust.PURPOSES


@pytest.mark.parametrize("words", [("proof",), ("proof", "evidence")])
def test_a_missing_or_unknown_action_is_answered_with_all_actions(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """A command with actions names them where none is given and where no action is near."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert (caught.value.code, "use make, check" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("version",), "--version"),
        (("help",), "--help"),
        (("VERIFY",), "verify"),
        (("show", "x", "--effect", "blok"), "block"),
        (("revoke", "x", "agnt"), "agent"),
    ],
)
def test_words_that_are_nearly_right_are_answered_with_the_right_one(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], meant: str
) -> None:
    """Also where the word is an option elsewhere, in capitals, or one of a choice."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert (caught.value.code, f"did you mean {meant!r}?" in capsys.readouterr().err) == (2, True)
