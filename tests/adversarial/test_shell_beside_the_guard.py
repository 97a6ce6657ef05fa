"""A shell that a model steers, and the commands that people decide with: what is refused, and the limit, shown."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent_identity import Agent, Denied, Effect, Enforcer, Human, Rule, RuleSet, Scope
from agent_identity.approvals import Approval
from agent_identity.cli import main
from agent_identity.cli.terminal import signing

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", to="people"))
PATH = os.pathsep.join(path for path in sys.path if path)
COMMAND = [sys.executable, "-m", "agent_identity"]
DETACHED = """
import os, sys
reading, writing = os.pipe()
if os.fork():
    os._exit(0)
os.close(writing)
os.read(reading, 1)  # Returns when the parent is gone.
os.execv(sys.executable, [sys.executable, "-m", "agent_identity", *sys.argv[1:]])
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes fork on Unix alone")


class Office:
    """An enforcer with a payment that people approve, and a shell tool; this process has the directory open."""

    def __init__(self, directory: Path, keys: str | None = None) -> None:
        self.directory = directory
        self.enforcer = Enforcer.open(directory, policy=POLICY, routes={"people": Approval()}, keys=keys)
        self.pay = self.enforcer.tool(name="pay")(lambda amount: f"paid {amount}")
        self.shell = self.enforcer.tool(name="shell")(self.run)

    @staticmethod
    def run(command: list[str]) -> tuple[int, str]:
        """Run a command, as a shell tool does."""
        environment = {**os.environ, "PYTHONPATH": PATH, "PYTHONSAFEPATH": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return done.returncode, done.stdout + done.stderr

    def close(self) -> None:
        """Close the enforcer."""
        self.enforcer.close()

    def attempt(self, words: Callable[[str], list[str]]) -> tuple[tuple[int, str], str]:
        """Ask for a payment, let the shell tool run a command about the request, and try again."""
        scope = Scope({"pay": {}, "shell": {}})
        with self.enforcer.task("pay", principal=ALICE, agent=CLERK, scope=scope):
            with pytest.raises(Denied):
                self.pay(amount=5)
            said = self.shell(command=words(self.enforcer.approvals.pending()[0].id))
            try:
                return said, self.pay(amount=5)
            except Denied as denied:
                return said, denied.code


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Return the office, whose keys are those of its own user."""
    with closing(Office(tmp_path / "evidence")) as opened:
        yield opened


def approving(directory: Path, *more: str) -> Callable[[str], list[str]]:
    """Return the words that approve a request as bob."""
    return lambda request: [*COMMAND, "approvals", "approve", str(directory), request, "--by", "bob", *more]


def test_a_shell_tool_does_not_approve_by_the_command_line(office: Office) -> None:
    """Below an enforcer that has the directory open the command refuses, under a shell in between as well."""
    (code, said), then = office.attempt(approving(office.directory))
    assert (code, "a process above this one" in said, then) == (2, True, "approval_pending")
    under_a_shell = lambda request: ["sh", "-c", '"$@"; exit $?', "sh", *approving(office.directory)(request)]  # noqa: E731
    (code, _), then = office.attempt(under_a_shell)
    assert (code, then) == (2, "approval_pending")
    same = approving(office.directory, "--keys", str(office.directory))
    assert office.attempt(same)[1] == "approval_pending"


@pytest.mark.parametrize(
    "words",
    [
        ("reinstate", "DIR", "agent", "clerk"),
        ("agents", "add", "DIR", "other", "--owner", "ops", "--purpose", "more", "--tool", "pay"),
        ("agents", "resume", "DIR", "clerk"),
        ("inventory", "accept", "DIR", "mail"),
        ("approvals", "reject", "DIR", "none", "--by", "bob"),
    ],
    ids=" ".join,
)
def test_what_loosens_is_refused_below_an_enforcer(office: Office, words: tuple[str, ...]) -> None:
    """Suspensions stay, agents are not registered, and changed tools are not accepted; looking and stopping go on."""
    code, said = office.run([*COMMAND, *(str(office.directory) if word == "DIR" else word for word in words)])
    assert (code, "a process above this one" in said) == (2, True)


def test_looking_and_stopping_work_below_an_enforcer(office: Office, tmp_path: Path) -> None:
    """The kill switch never waits for a person, and other directories are not concerned."""
    place = str(office.directory)
    assert office.run([*COMMAND, "revoke", place, "agent", "clerk", "--suspend"])[0] == 0
    assert office.run([*COMMAND, "approvals", "list", place])[0] == 0
    assert main(["init", str(tmp_path / "other")]) == 0
    words = ["agents", "add", str(tmp_path / "other"), "clerk", "--owner", "ops", "--purpose", "x", "--tool", "pay"]
    assert office.run([*COMMAND, *words])[0] == 0


def test_drill_with_the_keys_of_the_same_user_a_detached_process_approves(office: Office) -> None:
    """The limit: the check is a guard against accidents, and a process that detaches itself dodges it."""
    words = approving(office.directory)
    (code, _), then = office.attempt(lambda request: [sys.executable, "-c", DETACHED, *words(request)[3:]])
    assert (code, then) == (0, "paid 5")


def test_drill_with_keys_in_a_signer_a_detached_process_approves_nothing(tmp_path: Path) -> None:
    """What holds: the signer signs rulings for operators alone, however the command was started."""
    root = tmp_path / "signer"
    assert main(["init", str(root)]) == 0
    with tempfile.TemporaryDirectory(prefix="ai-") as folder:
        socket = f"{folder}/s"
        command = [*COMMAND, "signer", str(root), "--socket", socket]
        environment = {**os.environ, "PYTHONPATH": PATH}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as signer:
            assert signer.stdout is not None
            assert signer.stdout.readline().startswith("signing for")
            try:
                with closing(Office(tmp_path / "evidence", f"unix:{socket}")) as office:
                    detached = [sys.executable, "-c", DETACHED]
                    for more in (("--keys", f"unix:{socket}"), ()):
                        words = approving(office.directory, *more)
                        _, then = office.attempt(lambda request, words=words: [*detached, *words(request)[3:]])
                        assert then == "approval_pending"
            finally:
                signer.terminate()


def test_elsewhere_than_on_linux_ps_and_lsof_tell(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parents come from ps and the open files from lsof; a program that is missing tells nothing."""
    answers = {"ps": "1\n", "lsof": f"p7\nn/dev/null\nn{office.directory}/log/lock\n"}
    monkeypatch.setattr(signing, "_PROC", office.directory / "nothing")
    monkeypatch.setattr(signing.os, "getppid", lambda: 7)
    monkeypatch.setattr(signing, "_output", lambda *words: answers[words[0]])
    assert signing.holds(office.directory)
    answers["lsof"] = ""
    assert not signing.holds(office.directory)
    monkeypatch.undo()
    assert signing._output("no-such-program") == ""
