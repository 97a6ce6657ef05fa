"""OTLP over HTTP, with the meaning of each answer for a batch."""

import gzip
import http.client
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from socket import socket
from typing import Final, final
from urllib.parse import SplitResult

from agent_identity._common.http_post import answer_on, left_until
from agent_identity._directory.export._otlp_encoding import (
    Encoding,
    ExportAnswer,
    as_bytes,
    encode_request,
    read_answer,
)
from agent_identity._directory.export.receivers import LONGEST_WAIT, Answer, Settings
from agent_identity._spans.span_from_record import RecordSpan

_MAX_ANSWER: Final = 65_536
_SHOWN: Final = 200
_TYPES: Final[Mapping[Encoding, str]] = {"protobuf": "application/x-protobuf", "json": "application/json"}
_REFUSED: Final = frozenset({400, 422})
_LATER: Final = frozenset({408, 425, 429})


@final
class HttpReceiver:
    """Sends OTLP over HTTP, with a connection for each request; it follows no redirect and uses no proxy.

    Args:
        parts: The result of :func:`address`.
        settings: The OTLP settings.
        resource: The resource attributes of the spans.
    """

    __slots__ = ("_context", "_encoding", "_parts", "_resource", "_settings")

    def __init__(self, parts: SplitResult, settings: Settings, resource: Mapping[str, str]) -> None:
        self._parts = parts
        self._settings = settings
        self._resource = resource
        self._encoding: Encoding = "json" if settings.protocol == "http/json" else "protobuf"
        self._context = settings.tls() if parts.scheme == "https" else None

    def send(self, spans: Sequence[RecordSpan]) -> Answer:
        """Send the spans; see :meth:`Receiver.send`."""
        body = as_bytes(encode_request(spans, self._resource), self._encoding)
        headers = {**self._settings.headers, "content-type": _TYPES[self._encoding], "accept-encoding": "identity"}
        if self._settings.compress:
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, 1)
        deadline = time.monotonic() + self._settings.timeout
        connection = self._connection()
        try:
            connection.connect()
            sock: socket = connection.sock
            sock.settimeout(left_until(deadline))
            connection.request("POST", self._parts.path, body=body, headers=headers)
            with closing(answer_on(sock, deadline)) as answer:
                answer.begin()
                fields = {name.lower(): value for name, value in reversed(answer.getheaders())}
                return judge(answer.status, fields, _whole(answer))
        except TimeoutError:
            return Answer("later", f"no answer within {self._settings.timeout:g} s")
        except ssl.SSLCertVerificationError:
            return Answer("unusable", "its certificate is not trusted here")
        except OSError as error:
            return Answer("later", os.strerror(error.errno) if error.errno else type(error).__name__)
        except (http.client.HTTPException, ValueError) as error:
            return Answer("later", f"a broken answer ({type(error).__name__})")
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout = self._parts.hostname or "", self._parts.port, self._settings.timeout
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=timeout)
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)


def _whole(answer: http.client.HTTPResponse) -> bytes:
    """Return the whole body of an answer.

    Raises:
        ValueError: The body is too long for an answer to an export.
        http.client.IncompleteRead: The body ends early.
    """
    body = answer.read(_MAX_ANSWER + 1)
    if len(body) > _MAX_ANSWER:
        raise ValueError("the answer is too long")
    if answer.length:
        raise http.client.IncompleteRead(body, answer.length)
    return body


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Map an HTTP answer to the result of the batch.

    More statuses than the specification lists count as temporary: a failing proxy in front of the receiver must not
    lose records. https://opentelemetry.io/docs/specs/otlp/#failures-1

    Args:
        status: Status of the answer.
        headers: Its headers, names in lower case.
        body: Its body.
    """
    if 200 <= status < 300:
        return _acknowledgement(headers.get("content-type", ""), body)
    reason = f"HTTP {status}"
    if status == 413:
        return Answer("too_large", reason)
    if status in _REFUSED:
        return Answer("refused", reason)
    if status in _LATER or status >= 500:
        return Answer("later", reason, _asked(headers.get("retry-after", "")))
    return Answer("unusable", reason)


def _acknowledgement(kind: str, body: bytes) -> Answer:
    media = kind.partition(";")[0].strip().lower()
    encoding: Encoding | None = next((name for name, known in _TYPES.items() if media == known), None)
    if body and encoding is None:
        return Answer("unusable", "an answer that is not one of OTLP; is it the address of a receiver?")
    return acknowledged(lambda: read_answer(body, encoding or "protobuf"))


def acknowledged(read: Callable[[], ExportAnswer]) -> Answer:
    """Return the result of a batch that the receiver acknowledged: it may have rejected a part.

    Args:
        read: Returns the receiver's answer, or raises ``ValueError`` if it is unreadable.
    """
    try:
        answer = read()
    except ValueError:
        return Answer("later", "an answer that cannot be read")
    if not answer.rejected:
        return Answer("taken")
    words = "".join(c if c.isprintable() else " " for c in answer.message[:_SHOWN])
    return Answer("refused", f"rejected {answer.rejected}: {words}")


def _asked(value: str) -> float:
    """Return the seconds of ``Retry-After`` (RFC 9110 §10.2.3), an hour at most."""
    try:
        seconds = float(value) if value.isdecimal() else _until(value)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), LONGEST_WAIT)


def _until(value: str) -> float:
    moment = parsedate_to_datetime(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()
