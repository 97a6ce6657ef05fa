"""The table of peers is whole: no one who is measured is left out, and its versions are those that are installed."""

import re
import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / "peers"
INSTALLED: dict[str, Any] = runpy.run_path(str(PEERS / "run.py"))["PEERS"]


def test_every_script_is_a_peer_and_every_peer_has_a_script() -> None:
    """What is run is what there is."""
    scripts = {path.stem.removeprefix("with_").replace("_", "-") for path in PEERS.glob("with_*.py")}
    assert scripts == set(INSTALLED)


def test_every_peer_has_a_row_with_the_version_that_is_installed() -> None:
    """Each peer has a row, with its package in the version that run.py names, or the reason why it has no numbers."""
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([a-z-]+) \| (.*) \|$", page, re.MULTILINE))
    assert set(rows) >= set(INSTALLED)
    for name in INSTALLED.keys() - {"ours"}:
        named = re.match(r"`([\w-]+)` (\S+) \|", rows[name])
        if named is None:
            assert rows[name].startswith(("cannot be installed: ", "cannot be used: "))
        else:
            pinned = {re.sub(r"\[.*\]", "", part) for part in INSTALLED[name]}
            assert f"{named[1]}=={named[2]}" in pinned
