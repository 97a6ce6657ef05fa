"""Requests in the words of their caller, WebSockets, and streams that are refused in the middle."""

import json
import socket
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Annotated

import flask
import pytest
import uvicorn
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.requests import Request
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from web_service import ISSUER, KEY, Service, Token
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from agent_identity import Agent, Denied, Enforcer, Human, Scope, Task
from agent_identity.identity import Principal
from agent_identity.integrations.http import flask as for_flask
from agent_identity.integrations.http import starlette as for_starlette
from agent_identity.integrations.http.bearer import BearerTasks
from agent_identity.limits import Limit
from agent_identity.policy import Flow

VERIFY = partial(Human.from_id_token, jwks={"keys": [KEY.as_dict(private=False)]}, issuer=ISSUER, audience="api")
CLERK = Agent("clerk", owner="finance@example.com")


@pytest.fixture
def enforcer(tmp_path: Path) -> Enforcer:
    """Return an enforcer that asks about information flow, with nobody to ask."""
    return Enforcer.open(tmp_path / "evidence", policy=Flow())


def _mails(enforcer: Enforcer) -> BearerTasks:
    @enforcer.tool(labels=["egress"], destination=("to",))
    def mail(to: str) -> str:
        return f"sent to {to}"

    globals()["mail"] = mail
    return BearerTasks(enforcer, verify=VERIFY, agent=CLERK, scope=Scope("mail"), purpose="answer")


async def _words(request: Request) -> str:
    return str((await request.json())["text"])


def _mail_app(tasks: BearerTasks, **options: object) -> FastAPI:
    app = FastAPI()
    for_starlette.handle_refusals(app)
    InTask = Annotated[Task, Depends(for_starlette.RequestTask(tasks, **options))]  # noqa: N806  A type.

    @app.post("/ask")
    async def ask(_: InTask) -> str:
        return str(globals()["mail"]("carol@example.com"))

    return app


def test_what_the_caller_asks_for_is_the_principals_request(enforcer: Enforcer, token: Token) -> None:
    """A task that begins with the caller's words is trusted until something else is read."""
    tasks = _mails(enforcer)
    with enforcer, TestClient(_mail_app(tasks, request=_words)) as client:
        answer = client.post("/ask", json={"text": "Mail carol@example.com"}, headers=token())
    assert (answer.status_code, answer.json()) == (200, "sent to carol@example.com")


def test_without_the_callers_words_a_task_begins_unknown(enforcer: Enforcer, token: Token) -> None:
    """Inputs that nobody accounts for stop a call with consequences."""
    tasks = _mails(enforcer)
    with enforcer, TestClient(_mail_app(tasks)) as client:
        refused = client.post("/ask", json={"text": "Mail carol@example.com"}, headers=token())
    assert (refused.status_code, refused.json()["code"]) == (403, "route_unavailable")


def test_flask_takes_the_words_of_the_caller(enforcer: Enforcer, token: Token) -> None:
    """The helper of Flask hands them to the task as well."""
    tasks, app = _mails(enforcer), flask.Flask("app")

    @app.post("/ask")
    def ask() -> str:
        with for_flask.request_task(tasks, words=flask.request.get_json()["text"]):
            return str(globals()["mail"]("carol@example.com"))

    with enforcer:
        answer = app.test_client().post("/ask", json={"text": "Mail carol@example.com"}, headers=token())
    assert answer.text == "sent to carol@example.com"


def test_limits_hold_for_each_request(service: Service, token: Token) -> None:
    """A task of a request has the limits of its principal; the next request has its own."""

    def limits(principal: Principal) -> list[Limit]:
        return [Limit.uses("fetch", 1 if principal.id == "alice" else 2)]

    tasks = BearerTasks(
        service.enforcer, verify=VERIFY, agent=CLERK, scope=Scope("fetch"), purpose="serve", limits=limits
    )

    def calls(name: str) -> int:
        with tasks.opened(token(name)["Authorization"], method="GET", path="/"):
            for done in range(3):
                try:
                    service.fetch("a")
                except Denied as denied:
                    assert denied.code == "limit_exceeded"  # noqa: PT017  It counts the calls before.
                    return done
        raise AssertionError("no limit holds")

    assert [calls("alice"), calls("bob"), calls("alice")] == [1, 2, 1]


def _socket_app(service: Service) -> FastAPI:
    app = FastAPI()
    for_starlette.handle_refusals(app)
    InTask = Annotated[Task, Depends(for_starlette.RequestTask(service.tasks))]  # noqa: N806  A type.

    @app.websocket("/socket")
    async def talk(socket: WebSocket, _: InTask) -> None:
        await socket.accept()
        while True:
            await socket.send_text(service.fetch(await socket.receive_text()))

    return app


def test_a_websocket_route_runs_in_the_task_of_its_caller(service: Service, token: Token) -> None:
    """The task lasts as long as the connection; a refused call closes it with the code as the reason."""
    with (
        TestClient(_socket_app(service)) as client,
        client.websocket_connect("/socket", headers=token("bob")) as socket,
    ):
        socket.send_text("a")
        assert socket.receive_text() == "a of bob"
        socket.send_text("b")
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
    assert (caught.value.code, caught.value.reason) == (1008, "argument_out_of_scope")
    assert [code for _, code in service.refusals()] == ["argument_out_of_scope"]
    assert service.enforcer.current_task is None


def test_a_websocket_without_a_token_is_answered_before_it_is_accepted(service: Service) -> None:
    """The client learns the status and the code, as with any request."""
    with (
        TestClient(_socket_app(service)) as client,
        pytest.raises(WebSocketDenialResponse) as caught,
        client.websocket_connect("/socket"),
    ):
        raise AssertionError("it was accepted")
    assert (caught.value.status_code, json.loads(caught.value.content)["code"]) == (401, "no_token")


def test_a_refused_websocket_is_no_crash_of_the_application(
    service: Service, token: Token, caplog: pytest.LogCaptureFixture
) -> None:
    """A real server has nothing to report of a refusal, before the WebSocket is accepted or after."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"ws://127.0.0.1:{listening.getsockname()[1]}/socket"
    server = uvicorn.Server(uvicorn.Config(_socket_app(service), log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        with pytest.raises(InvalidStatus) as refused:
            connect(url)
        with connect(url, additional_headers=token("bob")) as connection:
            connection.send("b")
            with pytest.raises(ConnectionClosedError) as closed:
                connection.recv(timeout=10)
    finally:
        server.should_exit = True
        thread.join(30)
    assert (refused.value.response.status_code, json.loads(refused.value.response.body)["code"]) == (401, "no_token")
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "argument_out_of_scope")
    assert [record for record in caplog.records if record.exc_info] == []


def test_a_stream_that_is_refused_in_the_middle_says_why(service: Service, token: Token) -> None:
    """The last event has the problem details, and the answer ends as an answer does."""
    app = FastAPI()
    InTask = Annotated[Task, Depends(for_starlette.RequestTask(service.tasks))]  # noqa: N806  A type.

    @app.get("/stream")
    async def stream(_: InTask) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for path in ("a", "b"):
                yield f"data: {service.fetch(path)}\n\n"

        return StreamingResponse(for_starlette.end_with_refusal(parts()), media_type="text/event-stream")

    with TestClient(app) as client:
        events = client.get("/stream", headers=token()).text.split("\n\n")
    assert events[0] == "data: a of alice"
    kind, _, data = events[1].partition("\ndata: ")
    told = json.loads(data)
    assert (kind, told["code"]) == ("event: error", "argument_out_of_scope")
    assert [(told["reference"], told["code"])] == service.refusals()
