"""Time-stamps over checkpoints from an authority of RFC 3161 (extra ``anchors``).

A time-stamp proves that a checkpoint, and so every record under it, existed at a time. It proves nothing about missing
records or a second history: those need a witness.
"""

import hashlib
import os
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, final

from agent_identity.adapters import read_public_file
from agent_identity.audit import TimestampFolder
from agent_identity.errors import ConfigurationError, EvidenceError, ExchangeError, VerificationError
from agent_identity.identity import Clock, SystemClock
from agent_identity.tokens import HttpTransport, Transport

try:
    import rfc3161_client as rfc3161
    from cryptography import x509
except ImportError as error:
    raise ConfigurationError(
        "the package rfc3161-client is not installed; run pip install '.[anchors]' in the checkout"
    ) from error

__all__ = ["Anchor", "Authority"]

_MAX_TOKEN: Final = 65_536
_MAX_CERTIFICATES: Final = 1 << 20
_SHA256: Final = "2.16.840.1.101.3.4.2.1"
_SECONDS: Final = 20.0  # For one answer of the authority.
_AGAIN: Final = timedelta(minutes=1)
_NS: Final = 1_000_000_000


@final
class Authority:
    """Verifies time-stamps offline; for ``Verifier(timestamps=...)``.

    Args:
        certificates: Trusted certificates in PEM: that of the authority that issued the time-stamping unit's, and
            intermediate ones.

    Raises:
        ConfigurationError: The bytes are no certificates.
    """

    def __init__(self, certificates: bytes) -> None:
        try:
            self._roots = x509.load_pem_x509_certificates(certificates)
        except ValueError:
            raise ConfigurationError(
                "the bytes are no certificates in PEM; ask the operator of the time-stamp authority for them"
            ) from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Authority":
        """Return the authority of a file of certificates.

        Raises:
            ConfigurationError: The file cannot be read, or holds no certificates.
        """
        return cls(read_public_file(path, limit=_MAX_CERTIFICATES))

    def __call__(self, message: bytes, token: bytes) -> int:
        """Return the second, since the Unix epoch, before which the message existed.

        Args:
            message: The time-stamped message.
            token: The response of the authority (RFC 3161 §2.4.2).

        Raises:
            VerificationError: With code ``bad_timestamp``: the token is no response, is over another message, or no
                trusted authority signed it with a certificate valid at that time.
        """
        response = _decoded(token)
        _check_imprint(response, message)
        builder = rfc3161.VerifierBuilder()
        for root in self._roots:
            builder = builder.add_root_certificate(root)
        try:
            builder.build().verify_message(response, message)
        except (rfc3161.VerificationError, ValueError):
            raise _bad("it is not of this authority, or the certificate of that was not valid then") from None
        return _latest(response)


@final
class Anchor:
    """Time-stamps checkpoints of a directory, and stores the time-stamps in ``log/anchors``.

    Used as ``Transparency(checkpoints=Anchor(...))``, it stamps the first checkpoint and then one in each
    period. Only a hash leaves this machine.

    Args:
        directory: The evidence directory.
        url: The address of the authority; https, or http to this machine.
        every: The period.
        authority: Verifies the time-stamps; without it only hash and nonce are compared, which proves nothing yet.
        transport: The HTTP transport.
        clock: Source of time.

    Raises:
        ConfigurationError: The directory is no path.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        url: str,
        *,
        every: timedelta = timedelta(hours=1),
        authority: Authority | None = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._folder = TimestampFolder(directory)
        self._url = url
        self._every_ns = int(every.total_seconds() * _NS)
        self._authority = authority
        self._transport = transport or HttpTransport()
        self._clock = clock or SystemClock()
        self._due_ns: int | None = None
        self._fault: EvidenceError | None = None
        self._turn = threading.Lock()

    def __call__(self, note: bytes) -> None:
        """Stamp a checkpoint if one is due.

        Raises:
            EvidenceError: As for :meth:`stamp`; retried with a checkpoint a minute later.
        """
        with self._turn:
            now = self._clock.monotonic_ns()
            if self._due_ns is None or now >= self._due_ns:
                self._due_ns = now + min(self._every_ns, int(_AGAIN.total_seconds() * _NS))
                try:
                    self.stamp(note)
                except EvidenceError as error:
                    self._fault = error
                else:
                    self._fault, self._due_ns = None, now + self._every_ns
            if self._fault is not None:  # Also until the retry, so that it is seen.
                raise EvidenceError(str(self._fault), code=self._fault.code)

    def stamp(self, note: bytes) -> tuple[int, int]:
        """Stamp a checkpoint now; return the number of entries under it, and the second of the time-stamp.

        Args:
            note: A signed checkpoint.

        Raises:
            EvidenceError: The authority is unreachable (``anchor_unavailable``), or its answer is no time-stamp
                over this request (``anchor_refused``), or cannot be stored.
            VerificationError: The bytes are no checkpoint.
        """
        size = self._folder.size(note)
        request = rfc3161.TimestampRequestBuilder().data(note).nonce(nonce=True).cert_request(cert_request=True).build()
        token = self._ask(request.as_bytes())
        try:
            response = _decoded(token)
            _check_imprint(response, note)
            if response.tst_info.nonce != request.nonce:
                raise _bad("it has another nonce than the request")
            seconds = _latest(response) if self._authority is None else self._authority(note, token)
        except VerificationError as error:
            raise EvidenceError(f"the time-stamp authority answered, but {error}", code="anchor_refused") from None
        self._folder.keep(note, token)
        return size, seconds

    def _ask(self, request: bytes) -> bytes:
        headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
        try:
            reply = self._transport.post(self._url, headers=headers, body=request, timeout=_SECONDS)
        except (ExchangeError, ValueError) as error:
            raise EvidenceError(str(error), code="anchor_unavailable") from None
        if reply.status != 200:
            raise EvidenceError(
                f"the authority answered with status {reply.status}; see its documentation",
                code="anchor_unavailable",
            )
        return reply.body


def _decoded(token: bytes) -> rfc3161.TimeStampResponse:
    if len(token) > _MAX_TOKEN:
        raise _bad("it is too large")
    try:
        response = rfc3161.decode_timestamp_response(token)
        granted = response.status in (0, 1) and bool(response.tst_info.message_imprint.message)
    except (ValueError, RuntimeError):
        raise _bad("it is no response of RFC 3161 in DER, or grants nothing") from None
    if not granted:
        raise _bad("it grants nothing")
    return response


def _check_imprint(response: rfc3161.TimeStampResponse, message: bytes) -> None:
    imprint = response.tst_info.message_imprint
    known: Sequence[tuple[str, bytes]] = ((_SHA256, hashlib.sha256(message).digest()),)
    known = (*known, ("2.16.840.1.101.3.4.2.3", hashlib.sha512(message).digest()))
    if (imprint.hash_algorithm.dotted_string, imprint.message) not in known:
        raise _bad("it is over another message")


def _latest(response: rfc3161.TimeStampResponse) -> int:
    """Return the latest second that the time-stamp may mean: it proves existence before that."""
    moment = response.tst_info.gen_time.timestamp()
    accuracy = response.tst_info.accuracy
    return int(moment) + (0 if moment == int(moment) else 1) + _whole(accuracy)


def _whole(accuracy: object) -> int:
    """Return the accuracy of a time-stamp in seconds, rounded up; 0 if unstated."""
    seconds = getattr(accuracy, "seconds", None) or 0
    rest = bool(getattr(accuracy, "millis", None) or getattr(accuracy, "micros", None))
    return int(seconds) + int(rest)


def _bad(message: str) -> VerificationError:
    return VerificationError(f"the time-stamp does not count: {message}", code="bad_timestamp")
