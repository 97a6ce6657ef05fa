"""WSGI middleware (PEP 3333): requests of other services continue their task here. Independent of any framework."""

import io
import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import ExitStack
from contextvars import Context, copy_context
from typing import Final, Protocol, TypeAlias, cast, final

from agent_identity import Enforcer
from agent_identity.adapters import Opening
from agent_identity.errors import Denied, EvidenceError
from agent_identity.integrations.http.binding import HEADERS
from agent_identity.integrations.http.server import Arriving, Gate, RequestAdmission

__all__ = ["DelegationMiddleware"]

Environ: TypeAlias = MutableMapping[str, object]
StartResponse: TypeAlias = Callable[..., object]
Application: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

_CHUNK: Final = 65_536
_LENGTH: Final = re.compile("[0-9]{1,18}")


class _Input(Protocol):
    def read(self, size: int, /) -> bytes: ...


@final
class DelegationMiddleware:
    """Runs a WSGI application inside the task of each request, or answers with a refusal.

    The task ends when the server closes the response, so streamed responses are inside it, and it is
    current only while the application runs, in any thread.

    Args:
        app: The application.
        enforcer: The enforcer of the service.
        gate: The requests that it lets in.
    """

    def __init__(self, app: Application, enforcer: Enforcer, gate: Gate) -> None:
        self._app = app
        self._admission = RequestAdmission(enforcer, gate)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request."""
        context = copy_context()  # The thread of the server stays unchanged.
        try:
            opening = self._admit(environ, context)
        except (Denied, EvidenceError) as error:
            status, headers, body = self._admission.answer(error)
            start_response(f"{status.value} {status.phrase}", list(headers))
            return [body]
        stack, held = ExitStack(), _Start(start_response)
        if opening is None:
            context.run(stack.enter_context, self._admission.enforcer.no_task())
        else:
            stack.push(opening)  # It is entered already.
        try:
            result = context.run(self._app, environ, held if opening is not None else start_response)
            if isinstance(result, list | tuple):
                held.send(context.run(self._admission.mark) if opening is not None else ())
            held.send()
        except BaseException as error:
            context.run(stack.__exit__, type(error), error, error.__traceback__)
            raise
        if isinstance(result, list | tuple):  # It is complete; a server may ask for its length.
            context.run(stack.close)
            return result
        return _Response(result, context, stack)

    def _admit(self, environ: Environ, context: Context) -> Opening | None:
        request = _arriving(environ)
        if self._admission.is_exempt(request):
            _drop_ours(environ)
            return None
        presentation = self._admission.shown(request)
        if presentation is None:
            return None
        body = self._read(request, environ)
        opening = self._admission.opening(request, presentation, body)
        context.run(opening.__enter__)
        _drop_ours(environ)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        return opening

    def _read(self, request: Arriving, environ: Environ) -> bytes:
        length, most = str(environ.get("CONTENT_LENGTH") or ""), self._admission.max_body
        if length and not _LENGTH.fullmatch(length):
            raise self._admission.refusal(request, "Content-Length is no number; send digits", "malformed_header")
        # Without a length there is no body, unless the server marks the input as terminated.
        wanted = int(length or (most + 1 if environ.get("wsgi.input_terminated") else 0))
        left = min(wanted, most + 1)
        source = cast("_Input", environ["wsgi.input"])
        parts: list[bytes] = []
        while left > 0 and (part := source.read(min(left, _CHUNK))):
            parts.append(part)
            left -= len(part)
        body = b"".join(parts)
        if len(body) > most:
            raise self._admission.refusal(
                request, f"the body is larger than {most} bytes; send less, or raise max_body", "body_too_large"
            )
        return body


@final
class _Start:
    """Holds back the head of a response until it is known whether it gets a mark: a stream gets none."""

    def __init__(self, start_response: StartResponse) -> None:
        self._start = start_response
        self._held: tuple[str, list[tuple[str, str]]] | None = None
        self._passes = False
        self._write_on: object = None

    def __call__(self, status: str, headers: list[tuple[str, str]], *more: object) -> object:
        if self._passes:
            return self._start(status, headers, *more)
        self._held = status, headers
        return self._write

    def _write(self, data: bytes) -> object:
        self.send()
        return cast("Callable[[bytes], object]", self._write_on)(data)

    def send(self, more: tuple[tuple[str, str], ...] = ()) -> None:
        """Send the head that is held back; later ones go out at once."""
        held, self._held, self._passes = self._held, None, True
        if held is not None:
            self._write_on = self._start(held[0], [*held[1], *more])


@final
class _Response:
    """A response whose every step runs inside the task; closing it ends the task."""

    def __init__(self, result: Iterable[bytes], context: Context, stack: ExitStack) -> None:
        self._result = result
        self._context = context
        self._stack = stack
        self._error: BaseException | None = None
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._iterator is None:
                self._iterator = self._context.run(iter, self._result)
            return self._context.run(next, self._iterator)
        except StopIteration:
            raise
        except BaseException as error:
            self._error = error
            raise

    def close(self) -> None:
        """Close the response of the application, then end the task."""
        error = self._error
        try:
            close = getattr(self._result, "close", None)
            if close is not None:
                self._context.run(close)
        finally:
            self._context.run(
                self._stack.__exit__,
                None if error is None else type(error),
                error,
                None if error is None else error.__traceback__,
            )


def _arriving(environ: Environ) -> Arriving:
    path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
    names = (*HEADERS, "traceparent")
    headers = tuple((name, str(environ[_key(name)])) for name in names if _key(name) in environ)
    return Arriving(
        str(environ["REQUEST_METHOD"]),
        path.encode("latin-1", "replace"),  # PEP 3333: bytes as text.
        str(environ.get("QUERY_STRING", "")),
        headers,
    )


def _drop_ours(environ: Environ) -> None:
    """Remove our headers: the application may log its headers."""
    for name in HEADERS:
        environ.pop(_key(name), None)


def _key(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"
