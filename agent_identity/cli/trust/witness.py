"""``agent-identity witness``: cosign checkpoints of logs that only grow."""

import argparse
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from socket import create_server
from typing import Final, cast, final

from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.keys.keys import PublicKey, SigningKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.transparency.checkpoint import parse_vkey
from agent_identity._ledger.transparency.witness import MAX_REQUEST, Answer, Witness, WitnessState
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.parsing import address
from agent_identity.cli.terminal.style import clean
from agent_identity.cli.trust.bounded_server import MOST_CONNECTIONS, SECONDS, BoundedServer
from agent_identity.errors import AgentIdentityError, ConfigurationError

_PATH: Final = "/add-checkpoint"


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    logs = _logs(chosen)
    key = SigningKey.load(chosen.key)
    host, port = address(chosen.listen)
    state = WitnessState(chosen.state, new=chosen.new)
    try:
        try:
            witness = Witness(chosen.name, key, logs, state, SystemClock())
        except ValueError as error:
            raise ConfigurationError(f"bad name: {error}") from None
        with WitnessServer((host, port), witness) as server:

            def stop(_number: int, _frame: object) -> None:
                # From another thread: this one is serving.
                threading.Thread(target=server.shutdown).start()

            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, stop)
            print(f"{clean(witness.cosigner.vkey)}")
            print(f"cosigning {counted(len(logs), 'log')} at http://{host}:{server.server_address[1]}", flush=True)
            server.serve_forever()
    finally:
        state.close()
    return 0


def _logs(chosen: argparse.Namespace) -> Mapping[str, tuple[PublicKey, ...]]:
    logs: dict[str, tuple[PublicKey, ...]] = {}
    for origin, keys in (*(log for path in chosen.trust for log in _of_trust(path)), *_of_vkeys(chosen.log)):
        logs[origin] = (*logs.get(origin, ()), *keys)
    if not logs:
        raise ConfigurationError("no log is named; give --trust or --log for each log to cosign")
    return logs


def _of_trust(path: str) -> Iterator[tuple[str, tuple[PublicKey, ...]]]:
    trust = TrustStore.load(path)
    origins = {key.origin or trust.origin for key in trust.keys if key.purpose == "recorder"} or {trust.origin}
    for origin in origins:
        if origin is not None and origin != trust.origin and origin.endswith("/"):
            raise ConfigurationError(
                f"the trust file {path!r} names a prefix of logs, not each log; name each with --log"
            )
        if origin is None:
            raise ConfigurationError(f"the trust file {path!r} has no origin; take a trust.json of a log")
        # Others may have a revoked key.
        yield origin, tuple(key.key for key in trust.recorders(origin) if key.revoked_since is None)


def _of_vkeys(texts: list[str]) -> Iterator[tuple[str, tuple[PublicKey, ...]]]:
    for text in texts:
        try:
            name, key = parse_vkey(text)
        except ValueError as error:
            raise ConfigurationError(f"bad --log: {error}") from None
        yield name, (key,)


@final
class WitnessServer(BoundedServer):
    """Serves a witness over HTTP.

    Args:
        address: Host and port; port 0 takes a free one.
        witness: The witness.
        seconds: Returns monotonic seconds, for deadlines.
    """

    def __init__(
        self, address: tuple[str, int], witness: Witness, *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self.witness = witness
        super().__init__(create_server(address, backlog=MOST_CONNECTIONS), _Handler, seconds=seconds)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SECONDS
    server_version = "agent-identity-witness"
    sys_version = ""

    @property
    def _witness(self) -> Witness:
        return cast("WitnessServer", self.server).witness

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_REQUEST:
            self._answer(413 if length.isdecimal() else 411, b"")
            return
        body = self.rfile.read(int(length))
        if self.path != _PATH:
            self._answer(404, b"")
            return
        try:
            answer = self._witness.add_checkpoint(body)
        except AgentIdentityError as error:
            self.log_error("%s", clean(str(error)))
            self._answer(500, b"")
            return
        self._answer(answer.status, answer.body, answer.kind)

    def do_GET(self) -> None:
        name, _, what = self.path.removeprefix("/").partition("/")
        note = self._witness.latest(name) if what == "checkpoint" else None
        self._answer(404 if note is None else 200, note or b"")

    def _answer(self, status: int, body: bytes, kind: str = Answer._field_defaults["kind"]) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")  # The deadline is for one request.
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing for successful requests; anyone can send them."""

    def log_error(self, format: str, *args: object) -> None:
        """Log an error."""
        super().log_message(format, *args)
