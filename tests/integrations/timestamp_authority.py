"""A real time-stamp authority on this machine: ``openssl ts`` behind a small HTTP server."""

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

CONFIGURATION = """
[tsa]
default_tsa = unit
[unit]
serial = {folder}/serial
signer_cert = {folder}/unit.pem
signer_key = {folder}/unit.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


class TimestampAuthority:
    """The authority, with certificates of its own.

    Attributes:
        certificate: The certificate that its time-stamps verify under, a file.
        url: Where it answers.
        change: Changes what it answers; a test sets it.
    """

    def __init__(self, folder: Path, *, days: int = 30, name: str = "authority") -> None:
        self.folder = folder
        folder.mkdir()
        self.certificate = folder / "root.pem"
        self._openssl("req", "-x509", *_key(), "-keyout", "root.key", "-out", "root.pem", "-subj", f"/CN={name}")
        self._openssl("req", *_key(), "-keyout", "unit.key", "-out", "unit.csr", "-subj", f"/CN=unit of {name}")
        (folder / "extensions").write_text("extendedKeyUsage=critical,timeStamping\n")
        signing = ("-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-extfile", "extensions")
        times = (
            ("-days", str(days)) if days > 0 else ("-not_before", "20200101000000Z", "-not_after", "20200201000000Z")
        )
        self._openssl("x509", "-req", "-in", "unit.csr", "-out", "unit.pem", *signing, *times)
        (folder / "serial").write_text("01\n")
        (folder / "openssl.cnf").write_text(CONFIGURATION.format(folder=folder))
        self.change = lambda answer: answer
        self.status = 200
        self._turn = threading.Lock()
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/timestamp-query"
                answer = authority.change(authority.answer(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(authority.status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def answer(self, query: bytes) -> bytes:
        """Return the response to a query."""
        with self._turn:
            (self.folder / "query").write_bytes(query)
            self._openssl("ts", "-reply", "-config", "openssl.cnf", "-queryfile", "query", "-out", "response")
            return (self.folder / "response").read_bytes()

    def close(self) -> None:
        """Stop to answer."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _key() -> tuple[str, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
