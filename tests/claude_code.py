"""The real command line of Claude Code, which comes with its SDK, with a local stand-in for the API of its model."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from agent_identity._ledger.reader import open_ledger

Block = Mapping[str, Any]
Script = Sequence[Sequence[Block]]
SECONDS = 120
_NUMBERS = itertools.count(1)  # The command line joins messages of one id.


def use(name: str, arguments: Mapping[str, Any], number: str) -> Block:
    """Return the block of a tool call."""
    return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": dict(arguments)}


def say(text: str) -> Block:
    """Return a block of text."""
    return {"type": "text", "text": text}


class StandIn:
    """The server, with what it was asked.

    Args:
        script: The answers of the main agent, in turn.
        helper: Those of sub-agents, whose prompts contain ``HELPER``.
    """

    def __init__(self, script: Script, helper: Script = ()) -> None:
        self.script, self.helper = script, helper
        self.requests: list[dict[str, Any]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @contextmanager
    def running(self) -> Iterator["StandIn"]:
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def answer(self, request: dict[str, Any]) -> Sequence[Block]:
        """Return the next answer of the conversation."""
        self.requests.append(request)
        if not request.get("tools"):
            return [say("ok")]
        messages = request["messages"]
        script = self.helper if "HELPER" in json.dumps(messages[0]) else self.script
        turn = sum(message["role"] == "assistant" for message in messages)
        return script[turn] if turn < len(script) else [say("done")]

    def results(self) -> dict[str, dict[str, Any]]:
        """Return what the model got for each tool call, by its id."""
        found: dict[str, dict[str, Any]] = {}
        for request in list(self.requests):
            for message in request["messages"]:
                if message["role"] == "user" and isinstance(message["content"], list):
                    found |= {b["tool_use_id"]: b for b in message["content"] if b.get("type") == "tool_result"}
        return found


def _handler(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
                self._send(b'{"input_tokens": 1}', "application/json")
                return
            request = json.loads(body)
            blocks = stand_in.answer(request)
            if request.get("stream"):
                self._send("".join(_events(blocks)).encode(), "text/event-stream")
            else:
                self._send(json.dumps(_message(blocks, blocks)).encode(), "application/json")

        def do_GET(self) -> None:
            self._send(b"{}", "application/json")

        def do_HEAD(self) -> None:
            self._send(b"", "application/json")

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _message(blocks: Sequence[Block], content: Sequence[Block]) -> dict[str, Any]:
    return {
        "id": f"msg_{next(_NUMBERS)}",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": list(content),
        "stop_reason": _reason(blocks),
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _reason(blocks: Sequence[Block]) -> str:
    return "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"


def _events(blocks: Sequence[Block]) -> Iterator[str]:
    yield _event("message_start", message={**_message(blocks, ()), "stop_reason": None})
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            start, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            written = json.dumps(block["input"])
            start, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": written}
        yield _event("content_block_start", index=index, content_block=start)
        yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    ending = {"stop_reason": _reason(blocks), "stop_sequence": None}
    yield _event("message_delta", delta=ending, usage={"output_tokens": 1})
    yield _event("message_stop")


def _event(kind: str, **members: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n"


class Ran(NamedTuple):
    """What a run left."""

    project: Path
    stand_in: StandIn
    printed: dict[str, Any]

    def result(self, number: str) -> dict[str, Any]:
        """Return what the model got for a tool call."""
        return self.stand_in.results()[f"toolu_{number}"]


def command_line() -> str:
    """Return the path of the command line."""
    spec = find_spec("claude_agent_sdk")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "_bundled" / "claude")


def environment(home: Path, stand_in: StandIn) -> dict[str, str]:
    """Return an environment in which nothing of this machine's settings counts, and nothing leaves it."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": stand_in.url,
        "ANTHROPIC_API_KEY": "sk-ant-of-nobody",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",  # Root may skip the prompts only there.
    }


def run(project: Path, script: Script, helper: Script = (), *more: str) -> Ran:
    """Let the agent work in a folder, without prompts."""
    home = project.parent / "home"
    home.mkdir(exist_ok=True)
    stand_in = StandIn(script, helper)
    words = (command_line(), "-p", "do it", "--dangerously-skip-permissions", "--output-format", "json", *more)
    with stand_in.running():
        done = subprocess.run(
            words,
            cwd=project,
            env=environment(home, stand_in),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    return Ran(project, stand_in, json.loads(done.stdout))


def agent_identity(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of ours."""
    return subprocess.run(
        (sys.executable, "-m", "agent_identity", *words),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def serving(project: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``hooks serve`` for a block, with hooks of the project installed."""
    installed = agent_identity("hooks", "install", "evidence", "--settings", "project", cwd=project)
    assert installed.returncode == 0, installed.stderr
    with _server(project, words) as server:
        yield server


@contextmanager
def _server(project: Path, words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    server = subprocess.Popen(
        (sys.executable, "-m", "agent_identity", "hooks", "serve", "evidence", *words),
        cwd=project,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert "answering" in line, server.communicate()[1]
        yield server
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


def outcomes(evidence: Path) -> dict[str, tuple[str, str | None, str]]:
    """Return outcome, error and acting agent of each call, by its number."""
    reader = open_ledger(evidence)
    lines = [line.record for stream in reader.streams() for line in reader.entries(stream)]
    found = [record for line in lines if line is not None and (record := json.loads(line))["kind"] == "outcome"]
    return {
        record["action"].get("call", "").removeprefix("toolu_"): (
            record["outcome"],
            record.get("error"),
            record["agent"]["id"],
        )
        for record in found
    }
