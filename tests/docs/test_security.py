"""The promises of SECURITY.md are tested."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.findall(r"`(tests/[\w/.]+\.py)::(test_\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))


def test_every_promise_names_tests() -> None:
    """Each of the nine promises is followed by at least one test."""
    promises = (ROOT / "SECURITY.md").read_text(encoding="utf-8").split("## Promises")[1].split("## Not promised")[0]
    parts = re.split(r"^\*\*\d\. ", promises, flags=re.MULTILINE)[1:]
    assert len(parts) == 9
    assert [part[:40] for part in parts if "::test_" not in part] == []


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda part: part.rpartition("/")[2])
def test_a_named_test_exists(file: str, test: str) -> None:
    """What SECURITY.md names as proof is there under that name."""
    assert re.search(rf"^(?:async )?def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
