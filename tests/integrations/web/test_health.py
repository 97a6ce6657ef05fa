"""Probes of a web application: 200 while calls can run, else 503, with the names of components alone."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_identity import Enforcer
from agent_identity.integrations.http import health
from agent_identity.integrations.http.health import AsgiHealth, WsgiHealth


@pytest.fixture(params=["asgi", "wsgi"])
def get(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what asks an application of each kind; each answer is fresh."""
    monkeypatch.setattr(health, "_KEPT_NS", -1)
    enforcer = Enforcer.open(tmp_path / "evidence")

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        start_response("204 No Content", [])
        return [b""]

    apps: dict[str, Any] = {"asgi": AsgiHealth(asgi, enforcer), "wsgi": WsgiHealth(wsgi, enforcer)}

    def ask(method: str = "GET", path: str = "/healthz") -> httpx.Response:
        if request.param == "wsgi":
            with httpx.Client(transport=httpx.WSGITransport(apps["wsgi"]), base_url="http://service") as client:
                return client.request(method, path)

        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(apps["asgi"])
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.request(method, path)

        return asyncio.run(run())

    ask.enforcer = enforcer  # type: ignore[attr-defined]
    yield ask
    enforcer.close()


def test_a_probe_is_told_the_health_and_no_reason(get: Any) -> None:
    """A suspension of everything stops calls; its reason is for people with access."""
    answer = get()
    assert (answer.status_code, answer.json()) == (200, {"healthy": True, "degraded": []})
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("application/json", "no-store")
    get.enforcer.revoke("everything", reason="hush")
    answer = get()
    assert (answer.status_code, answer.json()) == (503, {"healthy": False, "degraded": ["revocations"]})
    get.enforcer.reinstate("everything")
    head = get("HEAD")
    assert (head.status_code, head.content) == (200, b"")


def test_a_warning_takes_no_service_out(get: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that ends in a week is no reason to stop."""
    monkeypatch.setattr(type(get.enforcer._warnings), "current", lambda self, *, asks: {"keys": "they end"})
    assert (get().status_code, get().json()["degraded"]) == (200, ["keys"])


def test_everything_else_passes(get: Any) -> None:
    """Other paths and methods are the application's."""
    assert [get("POST").status_code, get(path="/").status_code, get(path="/healthz/").status_code] == [204] * 3


def test_many_probes_ask_the_state_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger who asks often costs the store nothing."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        asked: list[int] = []
        real = type(enforcer).probe
        monkeypatch.setattr(Enforcer, "probe", lambda self: asked.append(1) or real(self))
        app = WsgiHealth(lambda environ, start: [], enforcer, path="/up")
        for _ in range(5):
            (body,) = app({"PATH_INFO": "/up", "REQUEST_METHOD": "GET"}, lambda *words: None)
            assert json.loads(body)["healthy"]
        assert len(asked) == 1


async def test_connections_of_other_kinds_pass(tmp_path: Path) -> None:
    """Lifespans and WebSockets are the application's."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        seen: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])

        probed = AsgiHealth(app, enforcer)
        for kind in ("lifespan", "websocket"):
            await probed({"type": kind, "path": "/healthz"}, None, None)  # type: ignore[arg-type]
        assert seen == ["lifespan", "websocket"]
