"""What the gate leaves out: chosen by markers and by the seed, and nothing of it where the option is not given."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
TESTS = """
import pytest

@pytest.mark.nightly
def test_ac_01_of_the_night(): ...

@pytest.mark.sample(4)
@pytest.mark.parametrize("case", range(10))
def test_ac_01_of_ten(case): ...

def test_ac_02_of_one(): ...

def test_of_no_abuse_case(): ...

def test_loop(drawn):
    print(f"drawn: {*drawn(range(95)),}")
"""


@pytest.fixture
def outcome(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], str]]:
    """Return what runs these tests and gives the names of those that ran, and all that was printed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # Others cost seconds.
    pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    pytester.makepyfile(test_these=TESTS)
    pytester.makeini("[pytest]\nmarkers =\n  nightly\n  sample(n)\naddopts = --strict-markers")

    def run(*options: str) -> tuple[list[str], str]:
        result = pytester.runpytest_subprocess("-v", "-s", "-p", "pytest_randomly", *options)
        text = result.stdout.str()
        assert result.ret == 0, text
        return sorted(re.findall(r"::(test_\S+) ", text)), text

    return run


def test_without_the_option_everything_runs(outcome: Callable[..., tuple[list[str], str]]) -> None:
    """Tests of the night, all cases and whole loops."""
    ran, text = outcome()
    assert len(ran) == 14
    assert str(tuple(range(95))) in text


def test_the_gate_takes_a_sample(outcome: Callable[..., tuple[list[str], str]]) -> None:
    """No test of the night, one case in four, one in ten of a loop; the seed draws the same again, another others."""
    ran, text = outcome("--gate=whole", "--randomly-seed=1")
    assert [name.partition("[")[0] for name in ran] == [
        *["test_ac_01_of_ten"] * 3,
        *["test_ac_02_of_one", "test_loop", "test_of_no_abuse_case"],
    ]
    (loop,) = re.findall(r"drawn: (.*\))", text)
    assert len(loop.split(",")) == 10
    again, same = outcome("--gate=whole", "--randomly-seed=1")
    assert (ran, [loop]) == (again, re.findall(r"drawn: (.*\))", same))
    _, another = outcome("--gate=whole", "--randomly-seed=2")
    assert [loop] != re.findall(r"drawn: (.*\))", another)


def test_at_the_ends_of_the_versions_each_abuse_case_has_one_test(
    outcome: Callable[..., tuple[list[str], str]], pytester: pytest.Pytester
) -> None:
    """One of each number, nothing else, and one test in five of a file of the integrations."""
    ran, _ = outcome("--gate=ends")
    assert [name[: len("test_ac_01")] for name in ran] == ["test_ac_01", "test_ac_02"]
    file = pytester.mkdir("tests").joinpath("integrations", "test_one.py")
    file.parent.mkdir()
    file.write_text("import pytest\n@pytest.mark.parametrize('case', range(9))\ndef test_it(case): ...\n", "utf-8")
    ran, _ = outcome("--gate=ends")
    assert [name.partition("[")[0][: len("test_ac_01")] for name in ran] == [
        "test_ac_01",
        "test_ac_02",
        *["test_it"] * 2,
    ]
