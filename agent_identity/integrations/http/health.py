"""Middleware that answers probes of a web application with the health of its enforcer, for ASGI and for WSGI."""

import json
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Final, TypeAlias, final

from agent_identity import Enforcer
from agent_identity.adapters import off_loop

__all__ = ["AsgiHealth", "WsgiHealth"]

_Scope: TypeAlias = MutableMapping[str, object]
_Message: TypeAlias = MutableMapping[str, object]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_Asgi: TypeAlias = Callable[[_Scope, _Receive, _Send], Awaitable[None]]
_Wsgi: TypeAlias = Callable[[MutableMapping[str, object], Callable[..., object]], Iterable[bytes]]

_PATH: Final = "/healthz"
_METHODS: Final = frozenset({"GET", "HEAD"})
_KEPT_NS: Final = 1_000_000_000  # So that many probes, or a stranger, ask the shared state once a second.
_HEADERS: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


@final
class _Health:
    """The answer to probes. It names components, and no reason: a probe may come from anywhere."""

    def __init__(self, enforcer: Enforcer) -> None:
        self._enforcer = enforcer
        self._last: tuple[int, HTTPStatus, bytes] | None = None

    def answer(self) -> tuple[HTTPStatus, bytes]:
        """Return status and body."""
        last = self._last
        if last is None or time.monotonic_ns() - last[0] > _KEPT_NS:
            healthy, degraded = self._enforcer.probe()
            status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
            body = json.dumps({"healthy": healthy, "degraded": sorted(degraded)}).encode()
            last = self._last = time.monotonic_ns(), status, body
        return last[1], last[2]


@final
class AsgiHealth:
    """Answers GET and HEAD of one path with the health of an enforcer, and passes on everything else.

    200 while calls can run and be sealed, else 503; the body names degraded components, warnings included.

    Args:
        app: The application.
        enforcer: Its enforcer.
        path: The path of probes.
    """

    def __init__(self, app: _Asgi, enforcer: Enforcer, *, path: str = _PATH) -> None:
        self._app = app
        self._health = _Health(enforcer)
        self._path = path

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] not in _METHODS:
            await self._app(scope, receive, send)
            return
        status, body = await off_loop(self._health.answer)
        headers = [(name.lower().encode(), value.encode()) for name, value in (*_HEADERS, _length(body))]
        await send({"type": "http.response.start", "status": status.value, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


@final
class WsgiHealth:
    """Answers GET and HEAD of one path with the health of an enforcer, and passes on everything else.

    200 while calls can run and be sealed, else 503; the body names degraded components, warnings included.

    Args:
        app: The application.
        enforcer: Its enforcer.
        path: The path of probes.
    """

    def __init__(self, app: _Wsgi, enforcer: Enforcer, *, path: str = _PATH) -> None:
        self._app = app
        self._health = _Health(enforcer)
        self._path = path

    def __call__(self, environ: MutableMapping[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Handle one request."""
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        if path != self._path or environ["REQUEST_METHOD"] not in _METHODS:
            return self._app(environ, start_response)
        status, body = self._health.answer()
        start_response(f"{status.value} {status.phrase}", [*_HEADERS, _length(body)])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def _length(body: bytes) -> tuple[str, str]:
    return "Content-Length", str(len(body))
