"""A service whose agents are guarded, as the image runs it: python -m uvicorn app:app."""

import os

from fastapi import FastAPI

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.integrations.http.health import AsgiHealth
from agent_identity.integrations.http.starlette import handle_refusals, lifespan
from agent_identity.options import Telemetry
from agent_identity.state import RedisState

STATE, RECEIVER = os.environ.get("STATE"), os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
CLERK = Agent("invoice-clerk", owner="finance-ops@example.com")

enforcer = Enforcer.open(
    os.environ.get("EVIDENCE", "/data/evidence"),
    keys=os.environ.get("KEYS", "/keys/own"),
    state=RedisState(STATE) if STATE else None,
    telemetry=Telemetry(otlp=RECEIVER),
)
api = FastAPI(lifespan=lifespan(enforcer))
handle_refusals(api)


@enforcer.tool
def read_invoice(number: str) -> str:
    """Return what an invoice says."""
    return f"{number}: EUR 120"


@api.get("/invoices/{number}")
def invoice(number: str) -> str:
    """Answer for a person; a real service verifies the token of the request."""
    with enforcer.task("read", principal=Human("alice@example.com"), agent=CLERK, scope=Scope("read_invoice")):
        return read_invoice(number)


@api.get("/livez")
def alive() -> str:
    """Say that the process answers, whatever the enforcer says."""
    return "alive"


app = AsgiHealth(api, enforcer, path="/healthz")
