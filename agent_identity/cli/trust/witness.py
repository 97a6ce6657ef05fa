"""``agent-identity witness``: cosign checkpoints of logs that only grow."""

import argparse
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from typing import Final, TypeAlias, cast, final

from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.keys.keys import PublicKey, SigningKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.transparency.checkpoint import parse_vkey
from agent_identity._ledger.transparency.witness import MAX_REQUEST, Answer, Witness, WitnessState
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.style import clean
from agent_identity.errors import AgentIdentityError, ConfigurationError

_SECONDS: Final = 10.0  # For one connection, from its acceptance to the end of the answer.
_MAX_CONNECTIONS: Final = 64
_PATH: Final = "/add-checkpoint"
_Request: TypeAlias = socket | tuple[bytes, socket]


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    logs = _logs(chosen)
    key = SigningKey.load(chosen.key)
    host, port = _address(chosen.listen)
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


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigurationError(f"{text!r} is not an address; write one such as 127.0.0.1:8765")
    return host, int(port)


@final
class WitnessServer(ThreadingHTTPServer):
    """Serves a witness, each connection in a thread, with one request each.

    A connection has ten seconds in all. A new connection ends the oldest one of 64, so slow clients cannot keep out a
    client that sends its request at once.

    Args:
        address: Host and port; port 0 takes a free one.
        witness: The witness.
        seconds: Returns monotonic seconds, for deadlines.
    """

    daemon_threads = True
    request_queue_size = _MAX_CONNECTIONS

    def __init__(
        self, address: tuple[str, int], witness: Witness, *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self.witness = witness
        self._seconds = seconds
        self._lock = threading.Lock()
        self._deadlines: dict[_Request, float] = {}  # The oldest connection first.
        self._room = threading.BoundedSemaphore(2 * _MAX_CONNECTIONS)  # Including connections that are closing.
        super().__init__(address, _Handler)

    def process_request(self, request: _Request, client_address: object) -> None:
        """Serve a connection, in place of the oldest one if there are too many."""
        with self._lock:
            self._deadlines[request] = self._seconds() + _SECONDS
            oldest = next(iter(self._deadlines)) if len(self._deadlines) > _MAX_CONNECTIONS else None
        if oldest is not None:
            self._end(oldest)
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # The system has no more threads; the server closes the connection.
            self._room.release()
            raise

    def process_request_thread(self, request: _Request, client_address: object) -> None:
        """Serve a connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def service_actions(self) -> None:
        """End the expired connections; called about twice a second."""
        now = self._seconds()
        with self._lock:
            late = [request for request, deadline in self._deadlines.items() if deadline <= now]
        for request in late:
            self._end(request)

    def shutdown_request(self, request: _Request) -> None:
        """Close a connection."""
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def _end(self, request: _Request) -> None:
        """Shut a connection down, so that its thread ends."""
        with self._lock:
            self._deadlines.pop(request, None)
        with contextlib.suppress(OSError):  # Its thread was faster.
            cast("socket", request).shutdown(SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS
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
