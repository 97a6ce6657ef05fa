"""What fuzzing has found once is found no more: every kept input goes through its target in each run."""

import importlib.util
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("fuzz_targets", Path(__file__).with_name("targets.py"))
assert spec is not None
assert spec.loader is not None
targets = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = targets
spec.loader.exec_module(targets)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_every_kept_input_is_answered_as_promised(name: str) -> None:
    """No input of the corpus and no good input makes a target raise."""
    kept = sorted(path.read_bytes() for path in (targets.CORPUS / name).glob("*"))
    for data in (*targets.seeds(name), *kept, b"", b"\xff", b"{}", b"null"):
        targets.TARGETS[name](data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_there_are_good_inputs_to_begin_with(name: str) -> None:
    """A fuzzer without a seed would never get past the first check."""
    assert targets.seeds(name)
