"""FastAPI, Starlette, Flask and Django: the task of a request, and refusals as problem details."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import django.core.asgi
import django.core.wsgi
import django.urls
import flask
import httpx
import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from web_service import Service, Token

from agent_identity import Agent, ConfigurationError, Denied, Human, Scope, Task
from agent_identity.identity import Principal
from agent_identity.integrations.http import asgi, wsgi
from agent_identity.integrations.http import django as for_django
from agent_identity.integrations.http import flask as for_flask
from agent_identity.integrations.http import starlette as for_starlette
from agent_identity.integrations.http.bearer import BearerTasks
from agent_identity.integrations.http.server import Gate

Get = Callable[[str, dict[str, str]], httpx.Response]
BASE = "https://api.example.com"


def _asynchronous(app: object) -> Get:
    async def get(path: str, headers: dict[str, str]) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
            return await client.get(path, headers=headers)

    return lambda path, headers: asyncio.run(get(path, headers))


def _synchronous(app: object) -> Get:
    def get(path: str, headers: dict[str, str]) -> httpx.Response:
        with httpx.Client(transport=httpx.WSGITransport(app), base_url=BASE) as client:
            return client.get(path, headers=headers)

    return get


def fastapi_app(service: Service) -> FastAPI:
    """Return an application of FastAPI."""
    app = FastAPI()
    for_starlette.handle_refusals(app)
    OfRequest = Annotated[Task, Depends(for_starlette.RequestTask(service.tasks))]  # noqa: N806  A type.

    @app.get("/fetch")
    async def fetch(_: OfRequest, path: str) -> str:
        return service.fetch(path)

    @app.get("/fetch-in-a-thread")
    def fetch_in_a_thread(_: OfRequest, path: str) -> str:
        return service.fetch(path)

    @app.get("/stream")
    async def stream(_: OfRequest) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for _ in range(2):
                await asyncio.sleep(0)
                yield service.fetch("a")

        return StreamingResponse(parts(), media_type="text/plain")

    @app.get("/without-a-task")
    async def without_a_task() -> str:
        return service.fetch("a")

    return app


def starlette_app(service: Service) -> Starlette:
    """Return an application of Starlette."""

    async def fetch(request: Request) -> PlainTextResponse:
        async with for_starlette.RequestTask(service.tasks).of(request):
            return PlainTextResponse(service.fetch(request.query_params["path"]))

    async def without_a_task(_: Request) -> PlainTextResponse:
        return PlainTextResponse(service.fetch("a"))

    app = Starlette(routes=[Route("/fetch", fetch), Route("/without-a-task", without_a_task)])
    for_starlette.handle_refusals(app)
    return app


def flask_app(service: Service) -> flask.Flask:
    """Return an application of Flask."""
    app = flask.Flask("app")
    for_flask.handle_refusals(app)

    @app.get("/fetch")
    def fetch() -> str:
        with for_flask.request_task(service.tasks):
            return service.fetch(flask.request.args["path"])

    @app.get("/without-a-task")
    def without_a_task() -> str:
        return service.fetch("a")

    return app


class Urls:
    """What Django asks for in place of a module."""

    urlpatterns: list[object]


def django_urls(service: Service, *, asynchronous: bool) -> None:
    """Point Django, which has one configuration a process, to the views of an application."""

    def fetch(request: HttpRequest) -> HttpResponse:
        with for_django.request_task(service.tasks, request):
            return HttpResponse(service.fetch(request.GET["path"]))

    async def fetch_async(request: HttpRequest) -> HttpResponse:
        async with for_django.async_request_task(service.tasks, request):
            return HttpResponse(service.fetch(request.GET["path"]))

    def without_a_task(_: HttpRequest) -> HttpResponse:
        return HttpResponse(service.fetch("a"))

    Urls.urlpatterns = [
        django.urls.path("fetch", fetch_async if asynchronous else fetch),
        django.urls.path("without-a-task", without_a_task),
    ]
    django.urls.clear_url_caches()
    django.urls.set_urlconf(None)


@pytest.fixture(scope="module", autouse=True)
def _django() -> None:
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=Urls,
            SECRET_KEY="no secret",
            MIDDLEWARE=["agent_identity.integrations.http.django.RefusalMiddleware"],
        )
        django.setup(set_prefix=False)


@pytest.fixture(params=["fastapi", "starlette", "flask", "django", "django-async"])
def get(request: pytest.FixtureRequest, service: Service) -> Get:
    """Return a client of an application in one of the frameworks."""
    if request.param == "fastapi":
        return _asynchronous(fastapi_app(service))
    if request.param == "starlette":
        return _asynchronous(starlette_app(service))
    if request.param == "flask":
        return _synchronous(flask_app(service))
    django_urls(service, asynchronous=request.param == "django-async")
    if request.param == "django":
        return _synchronous(django.core.wsgi.get_wsgi_application())
    return _asynchronous(django.core.asgi.get_asgi_application())


def test_a_route_runs_in_the_task_of_its_caller(service: Service, get: Get, token: Token) -> None:
    """The guarded tool acts for the verified human of the token, and nothing of the task is left afterwards."""
    answer = get("/fetch?path=a", token("bob"))
    assert (answer.status_code, answer.text.strip('"')) == (200, "a of bob")
    assert service.enforcer.current_task is None


@pytest.mark.parametrize(
    ("path", "claims", "status", "code"),
    [
        ("/fetch?path=a", None, 401, "no_token"),
        ("/fetch?path=a", {"aud": "other"}, 401, "wrong_audience"),
        ("/fetch?path=a", {"exp": 1}, 401, "expired"),
        ("/without-a-task", {}, 401, "no_task"),
        ("/fetch?path=b", {}, 403, "argument_out_of_scope"),
    ],
)
def test_a_refusal_is_a_problem_with_code_and_reference(
    service: Service, get: Get, token: Token, path: str, claims: dict[str, object] | None, status: int, code: str
) -> None:
    """The answer follows RFC 9457, says nothing else, and its reference is the record of the refusal."""
    answer = get(path, {} if claims is None else token(**claims))
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    told = answer.json()
    assert told.keys() == {"type", "title", "status", "code", "reference"}
    assert (told["status"], told["code"]) == (status, code)
    assert service.refusals() == [(told["reference"], code)]


def test_a_route_in_a_thread_and_a_streamed_answer_are_within_the_task(service: Service, token: Token) -> None:
    """FastAPI runs plain functions in threads, and ends a dependency after the last part of the answer."""
    get = _asynchronous(fastapi_app(service))
    assert get("/fetch-in-a-thread?path=a", token()).json() == "a of alice"
    assert get("/stream", token()).text == "a of alicea of alice"
    assert service.enforcer.current_task is None


def test_parallel_requests_keep_their_principals(service: Service, token: Token) -> None:
    """Twenty requests at a time: each answer names the human whose token came with it."""
    app = fastapi_app(service)

    async def all_at_once() -> list[str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
            names = [f"human-{number}" for number in range(20)]
            got = await asyncio.gather(*(client.get("/fetch?path=a", headers=token(name)) for name in names))
            return [answer.json() for answer in got]

    assert asyncio.run(all_at_once()) == [f"a of human-{number}" for number in range(20)]


def test_a_scope_may_depend_on_the_principal(service: Service, token: Token) -> None:
    """A function chooses the scope, and its refusal is the answer."""

    def scope(principal: Principal) -> Scope:
        if principal.id != "alice":
            raise Denied("only alice may read", code="not_listed")
        return Scope("fetch")

    given = service.tasks
    service.tasks = BearerTasks(
        service.enforcer, verify=given._verify, agent=given._agent, scope=scope, purpose="serve"
    )
    get = _asynchronous(fastapi_app(service))
    assert get("/fetch?path=b", token()).json() == "b of alice"
    refused = get("/fetch?path=b", token("bob"))
    assert (refused.status_code, refused.json()["code"]) == (403, "not_listed")


@pytest.mark.parametrize("header", ["Basic eA==", "Bearer", "Bearer a b", "Bearer ä", "token x", ""])
def test_what_is_no_bearer_token_is_refused(service: Service, header: str) -> None:
    """Other schemes and malformed credentials have the code of a missing token (RFC 6750 section 2.1)."""
    with pytest.raises(Denied) as caught, service.tasks.opened(header, method="GET", path="/"):
        raise AssertionError("the block ran")
    assert (caught.value.code, caught.value.reference) == ("no_token", service.refusals()[0][0])


def test_probes_leave_no_record(service: Service) -> None:
    """An exempt path is served without a task behind both kinds of middleware; every other one is refused."""
    gate = Gate(audience="api", base_url=BASE, exempt=["/healthz"])

    async def health(scope: dict, _: object, send: Callable) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    def wsgi_health(environ: dict, start: Callable) -> list[bytes]:
        start("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    for get in (
        _asynchronous(asgi.DelegationMiddleware(health, service.enforcer, gate)),
        _synchronous(wsgi.DelegationMiddleware(wsgi_health, service.enforcer, gate)),
    ):
        before = len(service.refusals())
        answer = get("/healthz", {"Agent-Delegation": "x"})
        assert (answer.status_code, answer.text, len(service.refusals())) == (200, "/healthz", before)
        for path in ("/healthz/", "/health", "//healthz", "/healthz%2F"):
            assert get(path, {}).status_code == 401
        assert len(service.refusals()) == before + 4


def test_the_enforcer_ends_with_the_server(service: Service) -> None:
    """The lifespan closes the enforcer after that of the application, which may still act."""
    seen: list[str] = []

    @asynccontextmanager
    async def inner(_: Starlette) -> AsyncIterator[None]:
        seen.append("begins")
        yield
        seen.append(str(service.enforcer.degraded))

    async def run() -> None:
        async with for_starlette.lifespan(service.enforcer, inner)(Starlette()):
            seen.append("serves")

    asyncio.run(run())
    assert seen == ["begins", "serves", "{}"]
    clerk, alice = Agent("clerk", owner="finance@example.com"), Human("alice")
    with pytest.raises(ConfigurationError):
        service.enforcer.task("late", principal=alice, agent=clerk, scope=Scope("fetch"))


def test_a_request_with_two_tokens_is_nobodys(service: Service, token: Token) -> None:
    """A proxy in front may have checked one of them, and the application would take the other."""
    app = fastapi_app(service)

    async def get() -> httpx.Response:
        shown = [("Authorization", token(name)["Authorization"]) for name in ("alice", "bob")]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
            return await client.get("/fetch?path=a", headers=shown)

    response = asyncio.run(get())
    assert (response.status_code, response.json()["code"]) == (401, "no_token")
    assert [code for _, code in service.refusals()] == ["no_token"]


def test_a_failure_of_the_check_refuses_the_request_on_record(service: Service) -> None:
    """What `verify` raises besides a refusal of the token neither opens a task nor gets out with the token."""

    def verify(token: str) -> Principal:
        raise RuntimeError(f"no key set for {token}")

    given = service.tasks
    tasks = BearerTasks(service.enforcer, verify=verify, agent=given._agent, scope=Scope("fetch"), purpose="serve")
    with pytest.raises(Denied) as caught, tasks.opened("Bearer abc", method="GET", path="/"):
        raise AssertionError("the block ran")
    assert (caught.value.code, caught.value.reference) == ("guard_failed", service.refusals()[0][0])
    assert "abc" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)
