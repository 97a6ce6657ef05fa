"""Records from plain facts, cut as the writers cut them."""

import copy
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from agent_identity._directory import open as directory
from agent_identity._ledger.beginning import Beginning
from agent_identity._ledger.writer import Entry
from agent_identity._record.parts import Time
from agent_identity._record.schema import Detail
from agent_identity.options import Ledger
from agent_identity.records import AnyRecord

SHORTENED = {
    "action": ("names", "labels"),
    "decision": ("policy", "version"),
    "task": ("expires", "purpose"),
    "principal": ("roles",),
}
"""What outcomes leave to the intent, or to the detail of a refused call."""


def facts_of(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a record that says these facts."""
    facts = copy.deepcopy(dict(body))
    if "action" in facts:
        facts["action"].setdefault("kind", "function")
    for part, names in SHORTENED.items() if kind == "outcome" else ():
        for name in names:
            facts.get(part, {}).pop(name, None)
    return facts


def append_record(ledger: Ledger, kind: str, body: Mapping[str, Any], detail: Mapping[str, Any] | None = None) -> Entry:
    """Append a record, by default of now, with its detail if there is one."""
    now = {"time": {"start": Time.at(ledger.clock.wall_ns()).start}}
    facts = facts_of(kind, {**now, **body})

    def make(**members: Any) -> AnyRecord:
        stream = msgspec.to_builtins(members.pop("stream"))
        return msgspec.convert({**facts, **members, "kind": kind, "stream": stream}, AnyRecord)

    return ledger.append(make, detail=None if detail is None else partial(Detail, **detail))


@contextmanager
def streams_begin(**more: Any) -> Generator[None]:
    """Have each stream that an enforcer opens in the block begin with these facts.

    Args:
        more: What the streams say first, besides.
    """
    beginning = Beginning(**more)

    def opened(*arguments: Any, **options: Any) -> Ledger:
        return Ledger.open(*arguments, **{**options, "beginning": beginning})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory, "Ledger", SimpleNamespace(open=opened))
        yield
