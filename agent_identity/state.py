"""Public API for shared state: used proofs, spent limits, revocations.

>>> from agent_identity import Enforcer
>>> from agent_identity.state import SqliteState
>>> state = SqliteState("/var/lib/agents/state.sqlite")
>>> enforcer = Enforcer.open("evidence", state=state)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._authority.stores.memory import MemoryState
    from agent_identity._authority.stores.postgres import PostgresState
    from agent_identity._authority.stores.protocol import Debit, StateStore
    from agent_identity._authority.stores.redis import RedisState
    from agent_identity._authority.stores.sqlite import SqliteState
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._authority.stores.memory": ("MemoryState",),
            "agent_identity._authority.stores.postgres": ("PostgresState",),
            "agent_identity._authority.stores.protocol": ("Debit", "StateStore"),
            "agent_identity._authority.stores.redis": ("RedisState",),
            "agent_identity._authority.stores.sqlite": ("SqliteState",),
        },
    )

__all__ = [
    "Debit",
    "MemoryState",
    "PostgresState",
    "RedisState",
    "SqliteState",
    "StateStore",
]
