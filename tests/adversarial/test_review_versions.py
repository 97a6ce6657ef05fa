"""Streams of both versions of the record: no call escapes the marks of its stream."""

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent_identity._authority.grants.scope import Scope
from agent_identity._evidence.ledger import writer
from agent_identity._evidence.record.parts import VERSION, replaced
from agent_identity._evidence.record.schema import Intent
from agent_identity.policy import Decision, Effect, Flow

_spec = importlib.util.spec_from_file_location("flow_worlds", Path(__file__).with_name("flow_worlds.py"))
assert _spec is not None
assert _spec.loader is not None
flow = sys.modules.setdefault("flow_worlds", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(flow)

EVERYTHING = Scope({name: {} for name in ("pay", "read")})


def _old(entry: Callable[..., Any], make: Any, record_id: str, place: Any, version: str, *first: Any) -> Any:
    """Write an intent in version 1, and any other record as it is."""
    if make.func is not Intent:
        return entry(make, record_id, place, version, *first)
    stated = {name: value for name, value in make.keywords.items() if name in OLD}
    return entry(partial(Intent, **{**stated, "action": _old_action(stated["action"])}), record_id, place, VERSION)


OLD = ("time", "task", "principal", "agent", "chain", "action", "decision", "trace")


def _old_action(action: Any) -> Any:
    new = {name: None for name in action.__struct_fields__ if name not in ("tool", "kind", "call", "args", "server")}
    return replaced(action, **new)


def test_a_record_of_version_1_does_not_escape_the_marks_of_its_stream(open_world: Callable[..., Any]) -> None:
    """A recorder that writes one call in the version without marks leaves a call without its mark."""
    office = flow.open_office(open_world)
    pay, read = flow.pays(office), flow.reads(office, flow.EVIL, returns="untrusted")
    with office.task(EVERYTHING, request=flow.REQUEST), pytest.MonkeyPatch.context() as patch:
        read()
        patch.setattr(Flow, "decide", lambda self, _: Decision(effect=Effect.ALLOW, reason="default"))
        patch.setattr(writer, "_entry", partial(_old, writer._entry))
        pay(flow.EVIL)
    assert flow.paid(office) == [flow.EVIL]
    report = flow.verified(office)
    assert "mark_absent" in flow.codes(report)
    assert report.verdict == "contradicted"
