"""The pytest plugin in runs of pytest of its own: it is there when asked for, and costs nothing when not."""

import sys
from collections.abc import Callable

import pytest

pytest_plugins = ["pytester"]

HEAVY = ("cryptography", "langchain_core", "opentelemetry", "orjson", "pydantic", "wrapt")
# Plugins that have nothing to do here, and take long to load or warn of our options.
OTHERS = tuple(
    f"-pno:{name}" for name in ("anyio", "asyncio", "hypothesispytest", "langsmith_plugin", "logfire", "xdist")
)
PARTS = """
import pytest
from agent_identity import Agent, Denied, Human, Scope

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance")


def work(enforcer, invoice):
    pay = enforcer.tool(name="pay")(lambda invoice: "paid")
    with enforcer.task("books", principal=ALICE, agent=CLERK, scope=Scope("pay", invoice="INV-1")):
        return pay(invoice)
"""


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest on a file of tests in a process of its own, with no plugin but ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")

    def run(tests: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(PARTS + tests)
        return pytester.runpytest_subprocess("-p", "agent_identity", "-p", "no:cacheprovider", *options)

    return run


def test_rehearsals_end_with_their_test(inner: Run) -> None:
    """Each is open in the test and closed after it, in a directory of its own below ``tmp_path``."""
    inner(
        """
OPENED = []

def test_one(rehearse, tmp_path):
    OPENED.extend([rehearse(), rehearse(mode="monitor")])
    for number, rehearsal in enumerate(OPENED, 1):
        assert rehearsal.directory == tmp_path / f"evidence-{number}"
        assert work(rehearsal.enforcer, "INV-1") == "paid"
        rehearsal.records.assert_attributed(principal=ALICE, agent=CLERK, tool="pay", count=1)

def test_two():
    from agent_identity import verify
    for rehearsal in OPENED:
        assert verify(rehearsal.directory).verdict == "verified"
"""
    ).assert_outcomes(passed=2)


def test_the_records_of_a_test_that_fails_are_shown(inner: Run) -> None:
    """After an exception or another assertion as well; the values of arguments are nowhere among them."""
    result = inner(
        """
def test_fails(rehearse):
    rehearsal = rehearse()
    with pytest.raises(Denied):
        work(rehearsal.enforcer, "SECRET"[::-1])
    assert False
"""
    )
    result.assert_outcomes(failed=1)
    shown = "*4 outcome pay: denied, argument_out_of_scope of invoice for alice@example.com*by clerk (owner finance)"
    result.stdout.fnmatch_lines(["*Captured agent_identity call*", "*evidence-1: * records:", shown])
    assert "TERCES" not in result.stdout.str()


def test_an_assertion_of_ours_lists_the_records_once(inner: Run) -> None:
    """It says what was expected and what was found, and ends at the line of the test."""
    result = inner(
        """
def test_fails(rehearse):
    rehearsal = rehearse()
    work(rehearsal.enforcer, "INV-1")
    rehearsal.records.assert_denied(code="no_task", tool="pay")
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       rehearsal.records.assert_denied(*",
            "E       AssertionError: expected a call of pay refused with no_task, found none among 1 call of pay (*",
            "E           5 outcome pay: success, within_scope for *",
        ]
    )
    listed = result.stdout.str().partition("short test summary info")[0]  # There it stands again, where nothing is cut.
    assert listed.count("outcome pay: success, within_scope for") == 1
    result.stdout.no_fnmatch_line("*Captured agent_identity*")
    result.stdout.no_fnmatch_line("*records.py*")


def test_a_skipped_test_and_a_passing_one_show_nothing(inner: Run) -> None:
    """Only what fails has a section of its own."""
    result = inner("def test_passes(rehearse): rehearse()\ndef test_skips(rehearse): pytest.skip()\n", "-rA")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.no_fnmatch_line("*Captured agent_identity*")


def test_a_fixture_of_the_same_name_wins(inner: Run, pytester: pytest.Pytester) -> None:
    """Whoever has a fixture ``rehearse`` keeps it."""
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef rehearse(): return 'mine'\n")
    inner("def test_mine(rehearse): assert rehearse == 'mine'\n").assert_outcomes(passed=1)


def test_it_imports_nothing_until_it_is_used(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of tests that do not ask for the fixture has loaded two modules of ours and none of our dependencies."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        f"""
import sys

def test_unused():
    ours = {{name for name in sys.modules if name.partition(".")[0] == "agent_identity"}}
    assert ours == {{"agent_identity", "agent_identity.pytest_plugin"}}
    assert not [name for name in {HEAVY!r} if name in sys.modules]
"""
    )
    pytester.runpytest_subprocess("-p", "agent_identity").assert_outcomes(passed=1)


def test_it_is_found_by_pytest_and_can_be_switched_off(pytester: pytest.Pytester) -> None:
    """Installing the distribution is enough; ``-p no:agent_identity`` takes the fixture away."""
    pytester.makepyfile("def test_none(rehearse): pass\n")
    pytester.runpytest_subprocess(*OTHERS).assert_outcomes(passed=1)
    result = pytester.runpytest_subprocess(*OTHERS, "-p", "no:agent_identity")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'rehearse' not found"])


def test_a_program_that_has_imported_the_library_runs_pytest_without_a_warning(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the package of a plugin that is imported too early to be rewritten, pytest warns, which fails many runs."""
    monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(OTHERS))
    pytester.makepyfile("def test_one(rehearse): rehearse()\n")
    program = "import agent_identity, pytest, sys; sys.exit(pytest.main(['-W', 'error']))"
    done = pytester.run(sys.executable, "-c", program)
    assert done.ret == 0
    done.assert_outcomes(passed=1)
