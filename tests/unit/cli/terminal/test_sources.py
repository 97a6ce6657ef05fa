"""What the words of a command name: patterns, trees, listings and compressed files of traces."""

import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from agent_identity.cli.terminal import sources
from agent_identity.cli.terminal.sources import gathered
from agent_identity.cli.terminal.style import Estimate
from agent_identity.errors import ConfigurationError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tree(tmp_path: Path, spans: Path) -> Path:
    """A folder of traces in folders, one file by gzip and one by zstd, cut out of one export."""
    root = tmp_path / "tree"
    (root / "b" / "deep").mkdir(parents=True)
    lines = spans.read_bytes().splitlines(keepends=True)
    half = len(lines) // 2
    (root / "b" / "deep" / "one.jsonl.gz").write_bytes(
        b"".join(gzip.compress(part) for part in (b"".join(lines[:1]), b"".join(lines[1:half])))
    )
    (root / "two.json.zst").write_bytes(zstandard.compress(b"".join(lines[half:])))
    (root / "README.md").write_text("no traces")
    (root / "link.json").symlink_to(spans)
    return root


def counts(run: Run, *words: object) -> dict[str, int]:
    """Return what is counted in a verification."""
    code, out, err = run("verify", *words, "--json")
    assert code == 0, err
    return dict(json.loads(out)["counts"])


def test_trees_patterns_listings_and_compression_are_the_same_traces(
    run: Run, tree: Path, spans: Path, trust: Path, tmp_path: Path
) -> None:
    """However the files of an export are named and compressed, the same records are counted."""
    whole = counts(run, spans, "--trust", trust)
    assert whole["records"] > 0
    assert counts(run, tree, "--trust", trust) == whole
    assert counts(run, f"{tree}/**/*.[jz]s*", "--trust", trust)["records"] >= whole["records"]
    for end in (b"\n", b"\0"):
        listing = tmp_path / "list"
        listing.write_bytes(end.join(bytes(path) for path in sorted(tree.rglob("*.?*z*t"))) + end)
        listing.write_bytes(end.join((bytes(tree / "two.json.zst"), bytes(tree / "b/deep/one.jsonl.gz"), b"")))
        assert counts(run, "--files-from", listing, "--trust", trust) == whole


def test_standard_input_may_be_compressed(program: Run, spans: Path, trust: Path) -> None:
    """What comes through a pipe is told by its content as well."""
    packed = gzip.compress(spans.read_bytes())
    code, out, _ = program("verify", "-", "--trust", trust, "--json", stdin=packed)
    assert (code, json.loads(out)["verdict"]) == (0, "verified")


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:40] + b"\xff" * 40 + data[80:]])
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_damaged_file_is_not_called_verified(
    run: Run, spans: Path, trust: Path, tmp_path: Path, pack: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]
) -> None:
    """A compressed file that ends early or was changed is never a whole one."""
    path = tmp_path / "damaged"
    path.write_bytes(damage(pack(spans.read_bytes())))
    assert run("verify", path, "--trust", trust)[0] != 0


def test_what_names_nothing_is_refused(tmp_path: Path, evidence: Path) -> None:
    """A pattern without files, an empty list, a list that is not there, and evidence among traces."""
    with pytest.raises(ConfigurationError, match="check the pattern"):
        gathered([f"{tmp_path}/no*such"])
    with pytest.raises(ConfigurationError, match="is empty"):
        gathered([])
    with pytest.raises(ConfigurationError, match="the list of files"):
        gathered([], str(tmp_path / "missing"))
    (tmp_path / "long").write_bytes(b"x" * 5_000)
    with pytest.raises(ConfigurationError, match="too long a path"):
        gathered([], str(tmp_path / "long"))
    (tmp_path / "mixed").mkdir()
    shutil.copytree(evidence, tmp_path / "mixed" / "evidence")
    with pytest.raises(ConfigurationError, match="one by one"):
        gathered([str(tmp_path / "mixed")])


def test_what_a_listing_names_is_no_pattern(run: Run, spans: Path, trust: Path, tmp_path: Path) -> None:
    """A listed file that is gone is missed, and no other one stands in for it."""
    (tmp_path / "run1.json").write_bytes(spans.read_bytes())
    (tmp_path / "list").write_text(f"{tmp_path}/run1.json\n{tmp_path}/run[1].json\n")
    assert gathered([], str(tmp_path / "list")) == [f"{tmp_path}/run1.json", f"{tmp_path}/run[1].json"]
    code, _, err = run("verify", "--files-from", tmp_path / "list", "--trust", trust)
    assert (code, "run[1].json" in err) == (2, True)


def test_a_listing_beyond_the_limits_is_refused_and_never_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many bytes, too many names and too long ones are refused, before the list is taken apart."""
    listing = tmp_path / "list"
    monkeypatch.setattr(sources, "_MAX_LISTING", 20)
    monkeypatch.setattr(sources, "_MAX_LISTED", 5)
    listing.write_bytes(b"a\nb\nc\nd\ne")
    assert gathered([], str(listing)) == ["a", "b", "c", "d", "e"]
    for data in (b"a\nb\nc\nd\ne\nf\ng", b"a\n" + b"b" * 19, b"\0" * 6):
        listing.write_bytes(data)
        with pytest.raises(ConfigurationError, match="more than 5 paths or 20 bytes"):
            gathered([], str(listing))


def test_without_standard_input_there_is_no_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program whose standard input is closed is told so."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigurationError, match="standard input is closed"):
        gathered([], "-")


def test_a_pattern_goes_into_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two links to the folder itself are no endless tree, and hidden names have to be asked for."""
    for name in ("a.json", ".hidden.json", "b/deep/c.json", ".git/d.json", "b/x"):
        path = tmp_path / "t" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp_path / "t" / "l1").symlink_to(".")
    (tmp_path / "t" / "l2").symlink_to(".")
    (tmp_path / "t" / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    assert gathered(["t/**/*.json"]) == ["t/a.json", "t/b/deep/c.json"]
    assert gathered([f"{tmp_path}/t/**/c.json"]) == [f"{tmp_path}/t/b/deep/c.json"]
    assert gathered(["**/deep/*"]) == ["t/b/deep/c.json"]
    assert gathered(["**/a.j*", "*/.hid*"]) == ["t/a.json", "t/.hidden.json"]
    assert gathered(["t/**"]) == ["t/a.json", "t/b/deep/c.json", "t/b/x", "t/loop"]
    assert gathered(["t/[!l]*/*/?.json"]) == ["t/b/deep/c.json"]
    assert gathered(["t/l[1]/a.json"]) == ["t/l1/a.json"]
    assert gathered(["t"]) == ["t/.hidden.json", "t/a.json", "t/.git/d.json", "t/b/deep/c.json"]
    with pytest.raises(ConfigurationError, match="check the pattern"):
        gathered(["t/**/x/*"])


@pytest.mark.parametrize("mode", [0o711, 0o700, 0o744])
@pytest.mark.parametrize("word", ["t", "t/**/*.json", "t/*/*.json", "t/**/one.json"])
def test_a_folder_that_cannot_be_read_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, word: str
) -> None:
    """Files may be in it, so nothing is verified, and the message names it."""
    (tmp_path / "t" / "sub").mkdir(parents=True)
    for name in ("t/one.json", "t/sub/one.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert len(gathered([word])) == 2 - (word == "t/*/*.json")
    (tmp_path / "t" / "sub").chmod(mode)
    if os.geteuid() == 0:  # Root can read everything; nobody else can.
        for folder in (tmp_path, *tmp_path.parents):
            if not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)
        monkeypatch.chdir(tmp_path)
        os.seteuid(65_534)
    else:
        (tmp_path / "t" / "sub").chmod(mode & 0o077)
    try:
        with pytest.raises(ConfigurationError, match=r"^'t/sub.* cannot be accessed"):
            gathered([word])
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        (tmp_path / "t" / "sub").chmod(0o755)


def test_a_path_with_the_signs_of_a_pattern_is_a_path(tmp_path: Path) -> None:
    """What exists is taken by its name."""
    (tmp_path / "a[1].json").write_text("{}")
    (tmp_path / "a1.json").write_text("{}")
    assert gathered([str(tmp_path / "a[1].json")]) == [str(tmp_path / "a[1].json")]


def test_an_estimate_needs_some_time() -> None:
    """Nothing is promised in the first two seconds, nor without a size; then the speed so far tells."""
    now = [0.0]
    estimate = Estimate(lambda: now[0])
    assert estimate.left(50, 100) is None
    now[0] = 10.0
    assert estimate.left(25, 100) == 30.0
    assert (estimate.left(0, 100), estimate.left(5, 0), estimate.left(200, 100)) == (None, None, None)
