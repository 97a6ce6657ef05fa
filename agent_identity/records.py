"""Public API for records: the content of the ledger as typed objects.

>>> from agent_identity import records
>>> for record in records.read("evidence"):  # doctest: +SKIP
...     if isinstance(record, records.Outcome) and record.principal is not None:
...         print(record.principal.id, record.action.tool, record.outcome)

Reading verifies nothing: run :func:`agent_identity.verify` first. ``docs/reference/record.md`` describes each member.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._ledger.recorded import read, read_lines
    from agent_identity._record.codec import as_dict, decode, encode
    from agent_identity._record.parts import Model
    from agent_identity._record.schema import (
        AnyRecord,
        Approval,
        Erasure,
        Examination,
        Grant,
        Intent,
        Mark,
        Outcome,
        Policy,
        Recovered,
        Registration,
        Revocation,
        StreamEnd,
        StreamStart,
        TaskEnd,
        TaskStart,
        Trust,
    )
    from agent_identity._record.schema_document import json_schema
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._ledger.recorded": ("read", "read_lines"),
            "agent_identity._record.codec": ("as_dict", "decode", "encode"),
            "agent_identity._record.parts": ("Model",),
            "agent_identity._record.schema": (
                "AnyRecord",
                "Approval",
                "Erasure",
                "Examination",
                "Grant",
                "Intent",
                "Mark",
                "Outcome",
                "Policy",
                "Recovered",
                "Registration",
                "Revocation",
                "StreamEnd",
                "StreamStart",
                "TaskEnd",
                "TaskStart",
                "Trust",
            ),
            "agent_identity._record.schema_document": ("json_schema",),
        },
    )

__all__ = [
    "AnyRecord",
    "Approval",
    "Erasure",
    "Examination",
    "Grant",
    "Intent",
    "Mark",
    "Model",
    "Outcome",
    "Policy",
    "Recovered",
    "Registration",
    "Revocation",
    "StreamEnd",
    "StreamStart",
    "TaskEnd",
    "TaskStart",
    "Trust",
    "as_dict",
    "decode",
    "encode",
    "json_schema",
    "read",
    "read_lines",
]
