"""Hostile files: a scan reads them or says that it did not; it never runs, follows, hangs or leaks."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from agent_identity._scan.forms import cyclonedx_of, json_of, sarif_of
from agent_identity._scan.results import Scan
from agent_identity._scan.scanner import scan
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError

AGENT = "from agents import Agent\na = Agent(name='seen')\n"
MEBIBYTE = 1024 * 1024


def reasons(found: Scan) -> dict[str, str]:
    """Return the reason for each file that was not read."""
    return {Path(one.file).name: one.reason for one in found.unread}


def test_nothing_is_run_or_imported(tmp_path: Path) -> None:
    """Code at import time, in a decorator and in a configuration of the interpreter leaves no trace."""
    mark = tmp_path / "ran"
    evil = f"open({str(mark)!r}, 'w')\n"
    for name in ("app.py", "sitecustomize.py", "conftest.py", "setup.py", "yaml.py", "json.py"):
        (tmp_path / name).write_text(evil + AGENT)
    (tmp_path / "agents.yaml").write_text(f"!!python/object/apply:os.system ['touch {mark}']\n")
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": {"x": {"command": "touch", "args": [str(mark)]}}}))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "agent_identity", "scan", "."],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    assert b"seen" in done.stdout
    assert not mark.exists()


WATCHED = """\
import os, sys
import yaml
from agent_identity._scan.scanner import scan
from agent_identity._scan.forms import cyclonedx_of

seen = []

def watch(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.", "urllib.", "ctypes.", "exec", "import")):
        seen.append(event)
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        seen.append("write")

cyclonedx_of(scan([sys.argv[1]]))  # Loads what the standard library loads late.
sys.addaudithook(watch)
cyclonedx_of(scan([sys.argv[2]]))
print(sorted(set(seen) - {"os.scandir", "os.listdir"}))
"""


def test_a_scan_asks_the_system_for_nothing_but_files(tmp_path: Path) -> None:
    """No socket, process, import, execution or written file: the interpreter's own audit events say so."""
    for name, code in (("warm", ""), ("watched", "import antigravity, http.client\n")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "app.py").write_text(code + AGENT)
        (folder / "agents.yaml").write_text("a:\n  role: r\n  goal: !!python/object/apply:os.abort []\n")
        (folder / ".mcp.json").write_text('{"mcpServers": {"x": {"url": "https://127.0.0.1:9/mcp"}}}')
        (folder / "package.json").write_text('{"dependencies": {"ai": "5"}}')
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path / "warm"), str(tmp_path / "watched")],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": paths},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Links to files and folders outside, and loops of links, are counted and left alone."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.py").write_text(AGENT.replace("seen", "outside"))
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "app.py").write_text("from away import a\n" + AGENT)
    (inside / "away.py").symlink_to(tmp_path / "outside" / "secret.py")
    (inside / "folder").symlink_to(tmp_path / "outside")
    (inside / "loop").symlink_to(inside)
    found = scan([str(inside)])
    assert [item.name for item in found.items] == ["seen"]
    assert reasons(found) == {"away.py": "link", "folder": "link", "loop": "link"}


def test_imports_do_not_leave_the_scanned_folder(tmp_path: Path) -> None:
    """A relative import that climbs out of the folder is not read."""
    (tmp_path / "up.py").write_text("NAME = 'outside'\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "app.py").write_text("from ..up import NAME\nfrom agents import Agent\na = Agent(name=NAME)\n")
    (item,) = scan([str(tmp_path / "in")]).items
    assert (item.name, item.named_by) == ("a", "dynamic")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_special_files_do_not_block(tmp_path: Path) -> None:
    """A named pipe without a writer is left out, also when it is named itself."""
    os.mkfifo(tmp_path / "app.py")
    (tmp_path / "b.py").write_text(AGENT)
    assert reasons(scan([str(tmp_path)])) == {"app.py": "special"}
    assert reasons(scan([str(tmp_path / "app.py")])) == {"app.py": "special"}


CODE: dict[str, tuple[Callable[[], bytes], str]] = {
    "parentheses": (lambda: b"(" * 100_000 + b")" * 100_000, "not_python too_deep"),
    "unary": (lambda: b"a = " + b"-" * 100_000 + b"1", "not_python too_deep"),
    "sum": (lambda: b"a = 1" + b" + 1" * 50_000, "too_deep"),
    "attributes": (lambda: b"a = b" + b".c" * 50_000, "too_deep"),
    "syntax": (lambda: b"def f(:\n", "not_python"),
    "nul": (lambda: b"a = 1\0", "not_python"),
    "utf-8": (lambda: b"a = '\xff\xfe\xfa'", "bad_encoding"),
    "large": (lambda: b"#" * (MEBIBYTE + 1), "too_large"),
    "huge": (lambda: b"#" * (4 * MEBIBYTE + 1), "too_large"),
}


@pytest.mark.parametrize("name", CODE)
def test_hostile_code_is_counted_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    """A file that no parser takes is counted with its reason, and its neighbor is read."""
    make, expected = CODE[name]
    (tmp_path / "bad.py").write_bytes(make())
    (tmp_path / "good.py").write_text(AGENT)
    found = scan([str(tmp_path)])
    assert reasons(found)["bad.py"] in expected.split()
    assert [item.name for item in found.items] == ["seen"]


DOCUMENTS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "deep JSON": (".mcp.json", lambda: b'{"a":' * 100_000, "too_deep malformed"),
    "deep list": (".mcp.json", lambda: b"[" * 200_000, "too_deep malformed"),
    "open comments": (".mcp.json", lambda: b"{" + b"/*" * 500_000, "malformed"),
    "open strings": (".mcp.json", lambda: b'"\\' * 500_000, "malformed"),
    "commas": (".mcp.json", lambda: b"{" + b", " * 500_000, "malformed"),
    "long number": (".mcp.json", lambda: b"9" * 1_000_000, "malformed"),
    "aliases": (
        "agents.yaml",
        lambda: b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c, c, c - 1, c - 1) for c in range(98, 123)),
        "",
    ),
    "merges": (
        "agents.yaml",
        lambda: (
            b"a: &a {k: v}\n" + b"".join(b"%c: &%c {<<: [*%c, *%c]}\n" % (c, c, c - 1, c - 1) for c in range(98, 123))
        ),
        "",
    ),
    "itself": ("agents.yaml", lambda: b"a: &a\n  role: *a\n  goal: *a\n", "malformed"),
    "deep YAML": ("agents.yaml", lambda: b"[" * 100_000, "too_deep malformed"),
    "large YAML": ("agents.yaml", lambda: b"# " + b"x" * 300_000, "too_large"),
    "tags": ("agents.yaml", lambda: b"!!python/object/apply:os.abort []\n", ""),
    "dotted TOML": ("pyproject.toml", lambda: b"a." * 200_000 + b"a = 1", "too_deep"),
    "deep TOML": ("pyproject.toml", lambda: b"a = " + b"[" * 100_000, "too_deep malformed"),
    "dates": ("uv.lock", lambda: b"a = 9999-99-99\n", "malformed"),
    "notebook": ("a.ipynb", lambda: b'{"cells": [{"cell_type": "code", "source": {"a": 1}}, 7, null]}', ""),
    "lists": (".mcp.json", lambda: b'{"mcpServers": [1, null, {"name": 7}, {"name": "x", "args": {"a": 1}}]}', ""),
    "scalars": (".mcp.json", lambda: b'{"mcpServers": {"x": {"command": 7, "url": [], "env": 3, "headers": [1]}}}', ""),
    "address": (".mcp.json", lambda: b'{"mcpServers": {"x": {"url": "http://[::1"}}}', ""),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_hostile_documents_take_little_time(tmp_path: Path, name: str) -> None:
    """Bombs of each format are read or refused within seconds."""
    file, make, expected = DOCUMENTS[name]
    (tmp_path / file).write_bytes(make())
    (tmp_path / "good.py").write_text(AGENT)
    begun = time.process_time()
    found = scan([str(tmp_path)])
    assert time.process_time() - begun < 10
    assert "seen" in [item.name for item in found.items]
    assert reasons(found).get(file, "") in (expected.split() or [""])


GRAPHS: dict[str, Callable[[], str]] = {
    "names": lambda: (
        "a0 = a1\n" + "".join(f"a{n} = a{n + 1}\n" for n in range(1, 5_000)) + "a5000 = a0\nAgent(name=a0)\n"
    ),
    "lists": lambda: "".join(f"t{n} = [*t{n + 1}, *t{n + 1}, *t{n + 1}]\n" for n in range(200)) + "Agent(tools=t0)\n",
    "many lists": lambda: "".join(f"t{n} = [{f't{n + 1}, ' * 500}]\n" for n in range(20)) + "Agent(tools=t0)\n" * 500,
    "bases": lambda: "".join(f"class C{n}({', '.join(f'C{n + m}' for m in range(1, 30))}): ...\n" for n in range(200)),
    "sums": lambda: "t = " + "+".join(["t"] * 300) + "\nAgent(tools=t)\n",
    "texts": lambda: "".join(f"s{n} = s{n + 1} + s{n + 1} + s{n + 1}\n" for n in range(100)) + "Agent(name=s0)\n" * 100,
    "long texts": lambda: (
        f"s8 = {'x' * 100_000!r}\n"
        + "".join(f"s{n} = f'{f'{{s{n + 1}}}' * 64}'\n" for n in range(8))
        + "Agent(name=s0)\n"
    ),
    "one name": lambda: "x = 1\n" * 50_000 + "Agent(name=x)\n" * 5_000,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_references_cannot_multiply_work(tmp_path: Path, name: str) -> None:
    """Chains, cycles and fans of names, lists and classes end soon."""
    (tmp_path / "app.py").write_text("from agents import Agent\n" + GRAPHS[name]())
    begun = time.process_time()
    scan([str(tmp_path)])
    assert time.process_time() - begun < 20


def test_modules_that_import_each_other_end(tmp_path: Path) -> None:
    """Re-exports in a circle resolve to nothing."""
    (tmp_path / "a.py").write_text("from b import Agent\nx = Agent(name='x')\n")
    (tmp_path / "b.py").write_text("from a import Agent\n")
    found = scan([str(tmp_path)])
    assert (found.items, found.unread) == ((), ())


def test_too_many_files_and_findings_are_said(tmp_path: Path) -> None:
    """A limit that was reached is part of the result."""
    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / name).write_text(AGENT)
    few = scan([str(tmp_path)], max_files=2)
    assert (few.truncated, few.files_read) == (True, 2)
    (tmp_path / "a.py").write_text("from agents import Agent\n" + "Agent(name='x')\n" * 3_000)
    assert scan([str(tmp_path)]).truncated


def test_folders_may_be_deep(tmp_path: Path) -> None:
    """Below 40 folders a scan goes no further, and says so."""
    folder = tmp_path
    for _ in range(45):
        folder /= "d"
        folder.mkdir()
    (folder / "app.py").write_text(AGENT)
    assert [one.reason for one in scan([str(tmp_path)]).unread] == ["too_deep"]


def test_the_work_for_one_file_is_bounded(tmp_path: Path) -> None:
    """A file that would need endless look-ups is given up in the middle, and the scan says that it is not whole."""
    lines = [f"class C{n}({', '.join(f'C{n + m}' for m in range(1, 40))}): ..." for n in range(3_000)]
    (tmp_path / "app.py").write_text("from agents import Agent\n" + "\n".join(lines))
    (tmp_path / "b.py").write_text(AGENT)
    begun = time.process_time()
    found = scan([str(tmp_path)])
    assert time.process_time() - begun < 30
    assert found.truncated
    assert [item.name for item in found.items] == ["seen"]


HOSTILE = "\x1b]0;owned\x07\x1b[2Ja\u202eb"


def test_names_cannot_steer_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes in names of files, agents and servers are shown as text in every form."""
    (tmp_path / f"{HOSTILE}.py").write_text(f"from agents import Agent\na = Agent(name={HOSTILE!r})\n")
    (tmp_path / ".mcp.json").write_text(
        json.dumps({"mcpServers": {HOSTILE: {"command": HOSTILE, "env": {HOSTILE: "1"}}}})
    )
    for form in ([], ["--json"], ["--sarif"], ["--cyclonedx"]):
        assert main(["scan", str(tmp_path), *form]) == 0
        out = capsys.readouterr().out
        assert not {"\x1b", "\x07", "\u202e"} & set(out)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system refuses such names")
def test_names_that_are_no_text_have_a_form(tmp_path: Path) -> None:
    """A file name that is no UTF-8 is read, and every form can be written and read back."""
    (tmp_path / os.fsdecode(b"\xff\xfe.py")).write_text(AGENT)
    found = scan([str(tmp_path)])
    assert [item.name for item in found.items] == ["seen"]
    for form in (json_of, sarif_of, cyclonedx_of):
        assert json.loads(json.dumps(form(found)).encode("ascii")) == json.loads(json.dumps(form(found)))
    (result,) = json.loads(json.dumps(sarif_of(found)))["runs"][0]["results"]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert unquote(uri, errors="surrogateescape") == found.items[0].file


SECRETS = ("v4lue-of-key", "v4lue-of-header", "v4lue-of-argument", "v4lue-of-env", "v4lue-in-code")


def test_no_form_has_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values of variables, headers and secret arguments are in no form, whatever declares them."""
    key, header, argument, variable, code = SECRETS
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={key}\n")
    server = {
        "command": "x",
        "args": ["--token", argument],
        "env": {"API_KEY": key},
        "headers": {"Authorization": header},
    }
    (tmp_path / ".mcp.json").write_text(
        json.dumps({"mcpServers": {"x": server, "y": {"url": f"https://a:{key}@b.c/d?e={key}"}}})
    )
    (tmp_path / "app.py").write_text(
        "import os\nfrom agents.mcp import MCPServerStdio\nfrom langchain_openai import ChatOpenAI\n"
        f"os.environ['OPENAI_API_KEY'] = {variable!r}\nos.getenv('GROQ_API_KEY', {variable!r})\n"
        f"ChatOpenAI(model='m', api_key={code!r})\n"
        f"MCPServerStdio(params={{'command': 'x', 'args': ['--api-key', {argument!r}],\n"
        f"    'env': {{'A': {variable!r}}}}})\n"
    )
    for form in ([], ["--json"], ["--sarif"], ["--cyclonedx"]):
        assert main(["scan", str(tmp_path), *form]) == 0
        out = capsys.readouterr().out
        assert not [secret for secret in SECRETS if secret in out]


def test_nothing_readable_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty folder, and a path that does not exist, give exit code 2."""
    assert main(["scan", str(tmp_path)]) == 2
    assert main(["scan", str(tmp_path / "none")]) == 2
    assert main(["scan", str(tmp_path), "--max-files", "0"]) == 2
    with pytest.raises(ConfigurationError):
        scan([str(tmp_path / "none")])
    capsys.readouterr()
