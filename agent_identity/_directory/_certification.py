"""Asks a certifier for the certificate of a directory: at the start, and again before it ends."""

import json
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, final

from agent_identity._directory.options import Transparency
from agent_identity._guard.calls.process_facts import CertificateFile
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.private_files import replace_public_file
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._identity.trust.certificates import (
    AUDIENCE,
    MAX_CERTIFICATE,
    Certificate,
    request_for,
    unverified_certificate,
)
from agent_identity._identity.trust.store import TrustStore
from agent_identity.errors import ConfigurationError, EvidenceError, TokenError

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000
_AGAIN: Final = 30  # Seconds after a failure.
_PART: Final = 3  # A certificate is renewed when a third of its life is left.
_OK: Final = 200


@final
@dataclass(frozen=True, slots=True)
class Host:
    """What the certifier is asked to certify.

    Args:
        folder: The folder of its keys.
        recorder: Its recorder key.
        issuer_key: Its issuer key.
        origin: Its log.
        issuer: The issuer that its grants name.
    """

    folder: Path
    recorder: PublicKey
    issuer_key: PublicKey
    origin: str
    issuer: str

    @classmethod
    def of(cls, folder: Path, issuer: Signer, recorder: Signer, trust: TrustStore) -> Self:
        """Return the host of an evidence directory, with the names of its trust file."""
        return cls(folder, recorder.public_key, issuer.public_key, trust.origin or "", trust.issuer or "")


@final
class Certification:
    """The certificate of a directory, kept up to date. Safe to share between threads, and after a fork.

    Args:
        host: What is certified.
        options: Names the certifier.
        clock: Source of time.
    """

    __slots__ = ("_asked", "_clock", "_file", "_host", "_options", "_thread", "problem")

    def __init__(self, host: Host, options: Transparency, clock: Clock) -> None:
        self._host, self._options, self._clock = host, options, clock
        self._file: CertificateFile | None = None
        self._asked = 0
        self._thread: threading.Thread | None = None
        self.problem: str | None = None

    def begin(self) -> CertificateFile:
        """Return the certificate file of the directory; ask for a certificate first if it has none for long.

        Raises:
            ConfigurationError: The file is unusable, or no certificate is valid where one is required
                (``not_certified``).
        """
        self._file = self._read()
        if self._is_due():
            self._ask()
            self._file = self._read()
        if self._options.uncertified == "refuse" and not self._is_valid():
            raise ConfigurationError(
                f"no certificate of the recorder key is valid now{self._why()}; have a root certify this directory, or "
                "allow self-asserted evidence with uncertified='allow'",
                code="not_certified",
            )
        return self._file

    def renew(self) -> None:
        """Ask for the next certificate in a thread, if it is time to, and no one is asking."""
        if self._file is None or not self._is_due() or (self._thread is not None and self._thread.is_alive()):
            return
        if self._now() < self._asked + _AGAIN:
            return
        self._asked = self._now()
        self._thread = threading.Thread(target=self._ask, name="agent-identity-certifier", daemon=True)
        self._thread.start()

    def _read(self) -> CertificateFile:
        return CertificateFile(self._host.folder, self._host.recorder, self._host.origin)

    def _certificate(self) -> Certificate | None:
        token = None if self._file is None else self._file.token
        return None if token is None else unverified_certificate(token)

    def _is_valid(self) -> bool:
        one = self._certificate()
        return one is not None and one.not_before <= self._now() < one.expires_at

    def _is_due(self) -> bool:
        if self._options.certifier is None:
            return False
        one = self._certificate()
        return one is None or self._now() >= one.expires_at - (one.expires_at - one.not_before) // _PART

    def _ask(self) -> None:
        """Ask for a certificate, and put it into its file; a failure is logged and kept."""
        self._asked = self._now()
        try:
            token = self._answer()
            self._check(token)
            replace_public_file(self._host.folder / "recorder.certificate", f"{token}\n".encode("ascii"))
            self.problem = None
        except (ConfigurationError, EvidenceError, TokenError) as error:
            self.problem = str(error)
            _LOG.warning("the recorder key is not certified: %s", error)

    def _answer(self) -> str:
        """Return the answer of the certifier.

        Raises:
            ConfigurationError: There is no token to show, or no certificate in the answer.
        """
        from agent_identity._common.http_post import NoAnswerError, post  # noqa: PLC0415  Few directories ask.

        host, options = self._host, self._options
        url, through = _place(options.certifier or "")
        body = json.dumps(request_for(host.recorder, host.issuer_key, origin=host.origin, issuer=host.issuer)).encode()
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
        seconds = options.certifier_seconds
        try:
            answer = post(
                url, headers=headers, body=body, timeout=seconds, limit=MAX_CERTIFICATE, context=None, through=through
            )
        except NoAnswerError as error:
            raise ConfigurationError(f"the certifier gives {error}; see whether it runs") from None
        text = answer.body.decode("ascii", "replace")
        if answer.status != _OK:
            raise ConfigurationError(f"the certifier refused with {answer.status} {_code(text)}; see its rules")
        return text

    def _token(self) -> str:
        """Return the token of the workload.

        Raises:
            ConfigurationError: There is none.
        """
        show = self._options.workload_token
        if show is None:
            raise ConfigurationError("a certifier is named, but no workload_token; give both")
        try:
            token = show(f"{AUDIENCE}{self._host.recorder.thumbprint}")
        except Exception as error:  # noqa: BLE001  Code of the user; its message may quote the token.
            raise ConfigurationError(f"workload_token raised {type(error).__name__}; repair it") from None
        if type(token) is not str or not token.isascii() or not token.isprintable() or not token:
            raise ConfigurationError("workload_token returned no token; return the text of one")
        return token

    def _check(self, token: str) -> None:
        """Check that an answer is the certificate that was asked for.

        Raises:
            ConfigurationError: It is another one.
            TokenError: It is none.
        """
        one = unverified_certificate(token)
        if (one.recorder, one.origin, one.issuer_key) != (
            *(self._host.recorder, self._host.origin, self._host.issuer_key),
        ):
            raise ConfigurationError("the certifier returned the certificate of another host; see its rules")

    def _why(self) -> str:
        return f" ({self.problem})" if self.problem else ""

    def _now(self) -> int:
        return self._clock.wall_ns() // _NS


def _place(certifier: str) -> tuple[str, str | None]:
    """Return the URL of a certifier, and the path of its socket."""
    if certifier.startswith("unix:"):
        return "http://certifier/certificate", certifier.removeprefix("unix:")
    return f"{certifier.rstrip('/')}/certificate", None


def _code(text: str) -> str:
    try:
        code: object = json.loads(text).get("error")
    except (ValueError, AttributeError):
        code = None
    return code if isinstance(code, str) and code.isidentifier() and len(code) <= 64 else "no_code"
