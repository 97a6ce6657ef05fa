"""``agent-identity certifier``: certify the recorder keys of workloads that show a token of their platform."""

import argparse
import contextlib
import json
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import create_server, socket
from typing import Final, cast, final

from agent_identity._directory.issuances import IssuanceLog
from agent_identity._directory.unix_sockets import listening
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.common.ids import RandomIds
from agent_identity._identity.trust.certifier import MAX_REQUEST, Certifier
from agent_identity._identity.trust.store import TrustStore
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.parsing import address
from agent_identity.cli.terminal.roots import root_signer
from agent_identity.cli.terminal.sources import kept_trust
from agent_identity.cli.terminal.style import clean
from agent_identity.cli.trust.bounded_server import MOST_CONNECTIONS, SECONDS, BoundedServer
from agent_identity.cli.trust.certifier_rules import load_rules
from agent_identity.errors import AgentIdentityError, ConfigurationError, TokenError

PATH: Final = "/certificate"
"""The path that certifies."""

_MAX_TOKEN: Final = 32 * 1024  # Characters; the header has at most twice that.
_STATUS: Final = {
    "bad_recorder_certificate": 400,
    "too_many_requests": 429,
    **dict.fromkeys(("unknown_workload", "wrong_origin", "wrong_issuer"), 403),
    "keys_unavailable": 503,
}
_DENIED: Final = 401


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    if chosen.socket is None and chosen.listen is None:
        raise ConfigurationError("nothing is named to listen on; give --socket PATH, --listen HOST:PORT, or both")
    tls = _tls(chosen)
    rules = load_rules(chosen.rules)
    kept = kept_trust(chosen)
    trust = kept if isinstance(kept, TrustStore) else TrustStore.load(str(kept))
    clock = SystemClock()
    with (
        root_signer(chosen.key) as root,
        IssuanceLog(chosen.log, clock=clock, ids=RandomIds()) as log,
        contextlib.ExitStack() as stack,
    ):
        certifier = Certifier(trust, root, *rules, clock=clock, issued=log.record, a_minute=chosen.rate)
        servers = list(_servers(chosen, certifier, tls))
        for server in servers:
            stack.callback(server.server_close)
        _tell(chosen, servers, len(rules.rules))
        _serve(servers)
        if chosen.socket is not None:
            Path(chosen.socket).unlink(missing_ok=True)
    return 0


def _tls(chosen: argparse.Namespace) -> ssl.SSLContext | None:
    if chosen.listen is None:
        return None
    if chosen.tls_certificate is None or chosen.tls_key is None:
        raise ConfigurationError(
            "tokens never travel in the clear; give --tls-certificate and --tls-key with --listen, or use --socket"
        )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(chosen.tls_certificate, chosen.tls_key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"the certificate or key of TLS cannot be used: {reason}; check both files") from None
    return context


def _servers(
    chosen: argparse.Namespace, certifier: Certifier, tls: ssl.SSLContext | None
) -> Iterator["CertifierServer"]:
    if chosen.socket is not None:
        try:
            # Anyone may connect, since the token decides.
            yield CertifierServer(listening(chosen.socket, 0o666, "certifier"), certifier)
        except OSError as error:
            raise ConfigurationError(
                f"cannot create a socket at {chosen.socket!r}: '{error.strerror or error}'; choose another path"
            ) from None
    if tls is not None:
        yield CertifierServer(create_server(address(chosen.listen), backlog=MOST_CONNECTIONS), certifier, tls=tls)


def _tell(chosen: argparse.Namespace, servers: list["CertifierServer"], rules: int) -> None:
    places = [] if chosen.socket is None else [f"unix:{chosen.socket}"]
    if chosen.listen is not None:
        host, port = servers[-1].socket.getsockname()[:2]
        places.append(f"https://{host}:{port}")
    print(f"certifying by {counted(rules, 'rule')} at {clean(' and '.join(places))}", flush=True)


def _serve(servers: list["CertifierServer"]) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    while not ended.wait(1):
        pass
    for server in servers:
        server.shutdown()


@final
class CertifierServer(BoundedServer):
    """Serves a certifier over HTTP.

    Args:
        listener: The listening socket.
        certifier: The certifier.
        tls: Speaks TLS on each connection.
        say: Receives the code of each refusal, and nothing of the request.
    """

    def __init__(
        self,
        listener: socket,
        certifier: Certifier,
        *,
        tls: ssl.SSLContext | None = None,
        say: Callable[[str], object] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self.certifier, self.say = certifier, say
        super().__init__(listener, _Handler, tls=tls)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SECONDS
    server_version = "agent-identity-certifier"
    sys_version = ""

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_REQUEST:
            self._refuse(413 if length.isdecimal() else 411, "too_large")
            return
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        body = self.rfile.read(int(length))
        if self.path != PATH:
            self._refuse(404, "not_found")
        elif scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN:
            self._refuse(_DENIED, "no_token")
        else:
            self._certify(token, body)

    def _certify(self, token: str, body: bytes) -> None:
        try:
            certificate = cast("CertifierServer", self.server).certifier.certify(token, body)
        except TokenError as error:
            self._refuse(_STATUS.get(error.code, _DENIED), error.code)
        except AgentIdentityError as error:  # The log, a file of keys, a token with the root.
            self._refuse(503, error.code)
        else:
            self._answer(200, certificate.encode("ascii"), "application/jose")

    def _refuse(self, status: int, code: str) -> None:
        cast("CertifierServer", self.server).say(f"refused: {clean(code)}")
        self._answer(status, json.dumps({"error": code}).encode("ascii"), "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")  # The deadline is for one request.
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  Of the interface.
        """Log nothing of a request; its headers hold a token."""
