"""Contacts with model hosts in logs of proxies and resolvers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity._scan.hosts import Contact, contacts
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError

Write = Callable[..., str]

CSV = """\
time,source,host
2026-11-29T10:00:00+01:00,10.0.0.7,API.OpenAI.com:443
2026-11-28T09:00:00Z,10.0.0.7,api.openai.com.
1764406800,10.0.0.8,https://eu-west-1-aiplatform.googleapis.com/v1
,10.0.0.8,bedrock-runtime.eu-central-1.amazonaws.com
2026-11-29T09:00:00Z,10.0.0.9,example.com
2026-11-29T09:00:00Z,10.0.0.9,notapi.openai.com.evil.example
2026-11-29T09:00:00Z,10.0.0.9,LLM.corp.example:8443
nonsense
"""

EXPECTED = (
    Contact("Amazon Bedrock", "bedrock-runtime.eu-central-1.amazonaws.com", "10.0.0.8", "", "", 1),
    Contact(
        "Google Vertex AI",
        "eu-west-1-aiplatform.googleapis.com",
        "10.0.0.8",
        "2025-11-29T09:00:00Z",
        "2025-11-29T09:00:00Z",
        1,
    ),
    Contact("OpenAI", "api.openai.com", "10.0.0.7", "2026-11-28T09:00:00Z", "2026-11-29T09:00:00Z", 2),
    Contact("ours", "llm.corp.example:8443", "10.0.0.9", "2026-11-29T09:00:00Z", "2026-11-29T09:00:00Z", 1),
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a log, and returns its path."""

    def run(text: str, name: str = "log") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return run


def test_known_hosts_are_counted_by_source(write: Write) -> None:
    """Hosts of the table and of the caller are found in any spelling; others and look-alikes are not."""
    found = contacts([write(CSV)], gateways={"llm.corp.example": "ours"})
    assert found.contacts == EXPECTED
    assert (found.lines_read, found.lines_malformed) == (7, 1)


def test_json_lines_say_the_same_as_csv(write: Write) -> None:
    """The same facts as one object a line give the same contacts; what is no object is counted."""
    header, *rows = [line.split(",") for line in CSV.splitlines()]
    lines = [json.dumps(dict(zip(header, row, strict=False))) for row in rows]
    found = contacts([write("\n".join([*lines, "[1]", "{", '{"host": 7}']))], gateways={"llm.corp.example": "ours"})
    assert found.contacts == EXPECTED
    assert found.lines_malformed == 4


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\0\0", "api.openai.com\n"])
def test_what_is_no_log_is_refused(write: Write, text: str) -> None:
    """A file without a column of hosts is an error, not an empty answer."""
    with pytest.raises(ConfigurationError):
        contacts([write(text)])


def test_hostile_lines_are_bounded(write: Write) -> None:
    """Endless lines, open quotes, deep JSON and names with escapes neither stop the reading nor reach a terminal."""
    lines = [
        "time,source,host",
        "x" * 1_000_000,
        '"open',
        "[" * 100_000,
        "1,\x1b[2Ja,api.openai.com",
        "9e999,a,api.x.ai",
    ]
    found = contacts([write("\n".join(lines))])
    assert [(one.host, one.first_seen) for one in found.contacts] == [
        ("api.openai.com", "1970-01-01T00:00:01Z"),
        ("api.x.ai", ""),
    ]
    deep = contacts([write("\n".join(['{"host": "api.x.ai"}', '{"a":' * 100_000]), "deep")])
    assert (len(deep.contacts), deep.lines_read) == (1, 1)


def test_the_command_prints_contacts(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """``--log`` alone is enough; the table escapes, JSON has the same contacts, other forms refuse."""
    log = write(CSV.replace("10.0.0.7", "\x1b[2J"))
    assert main(["scan", "--log", log, "--gateway", "llm.corp.example"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "hosts contacted (4)" in out
    assert main(["scan", "--log", log, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["logs"]["contacts"]) == 3
    assert main(["scan", "--log", log, "--sarif"]) == 2
    assert main(["scan"]) == 2
    assert main(["scan", "--log", f"{log}.none"]) == 2
    capsys.readouterr()
