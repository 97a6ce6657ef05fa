"""A platform that issues tokens to workloads: a server with discovery and keys, and what it signs."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

TRUST_DOMAIN = "example.org"


class WorkloadIssuer:
    """An OpenID provider for service accounts and a SPIFFE trust domain, in one.

    Attributes:
        url: Its address, which is its issuer.
    """

    def __init__(self) -> None:
        self._oidc = ECKey.generate_key("P-256", {"kid": "oidc", "use": "sig"})
        self._spiffe = ECKey.generate_key("P-256", {"kid": "svid"})
        self.url = ""

    def document(self, path: str) -> dict[str, Any] | None:
        """Return what is served at a path."""
        return {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [self._oidc.as_dict(private=False)]},
            "/bundle": {"keys": [{**self._spiffe.as_dict(private=False), "use": "jwt-svid"}]},
        }.get(path)

    def account(self, name: str, audience: str, **more: Any) -> str:
        """Return the token of a service account, as a cluster projects it."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": f"system:serviceaccount:{name}", "aud": [audience], "iat": now}
        return jwt.encode({"alg": "ES256", "kid": "oidc"}, {**claims, "exp": now + 600, **more}, self._oidc)

    def svid(self, path: str, audience: str, **more: Any) -> str:
        """Return the JWT-SVID of a workload."""
        claims = {"sub": f"spiffe://{TRUST_DOMAIN}/{path}", "aud": [audience], "exp": int(time.time()) + 300}
        return jwt.encode({"alg": "ES256", "kid": "svid"}, {**claims, **more}, self._spiffe)


@contextmanager
def workload_issuer() -> Iterator[WorkloadIssuer]:
    """Serve an issuer on this machine."""
    issuer = WorkloadIssuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = issuer.document(self.path)
            body = json.dumps(document).encode()
            self.send_response(404 if document is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield issuer
        server.shutdown()
        thread.join()
