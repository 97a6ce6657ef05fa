"""The program ``examples/mcp_server.py`` does what it says, with either version of the SDK."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "mcp_server.py"
ALLOWED = "read_invoice INV-42: INV-42: EUR 120, for alice@example.com"


@pytest.mark.nightly
def test_the_example_of_a_server_shows_what_is_refused(tmp_path: Path) -> None:
    """What is allowed, what each side refuses, what is left of a server that changes its text; and it begins again."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment["PYTHONPATH"] = os.pathsep.join((str(EXAMPLE.parent), *(path for path in sys.path if path)))
    environment.pop("PYTHONSAFEPATH", None)
    lines: list[str] = []
    again = [sys.executable, "-c", "import mcp_server; mcp_server.prepare()"]
    for command in ([sys.executable, str(EXAMPLE)], again):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = lines or done.stdout.splitlines()
    assert lines[:9] == [
        ALLOWED,
        "read_invoice INV-41: Refused: policy_blocks",
        "read_invoice INV-43: not sent: argument_out_of_scope",
        "delete_invoice INV-42: not sent: tool_not_granted",
        "after the task: not sent: no_task",
        "without authority: Refused: no_delegation",
        "the server changes its description:",
        "tools that count: delete_invoice",
        "read_invoice INV-42: not sent: tool_changed",
    ]
    assert '-  "description": "Read one invoice.",' in lines
    back = lines.index("the server takes it back:")
    assert lines[back + 1 : back + 5] == [
        "tools that count: read_invoice, delete_invoice",
        ALLOWED,
        "client: verified, complete",
        "server: verified, complete",
    ]
