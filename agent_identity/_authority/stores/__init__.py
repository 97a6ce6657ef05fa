"""Shared state behind one protocol: memory, SQLite, Redis, PostgreSQL, an evidence directory."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._authority.stores.directory import DirectoryState
    from agent_identity._authority.stores.forks import renewed_in_children
    from agent_identity._authority.stores.memory import MemoryState
    from agent_identity._authority.stores.postgres import PostgresState
    from agent_identity._authority.stores.protocol import MAX_NUMBER, Debit, StateStore
    from agent_identity._authority.stores.redis import RedisState
    from agent_identity._authority.stores.snapshot import copied_state
    from agent_identity._authority.stores.sqlite import SqliteState
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._authority.stores.directory": ("DirectoryState",),
            "agent_identity._authority.stores.forks": ("renewed_in_children",),
            "agent_identity._authority.stores.memory": ("MemoryState",),
            "agent_identity._authority.stores.postgres": ("PostgresState",),
            "agent_identity._authority.stores.protocol": ("MAX_NUMBER", "Debit", "StateStore"),
            "agent_identity._authority.stores.redis": ("RedisState",),
            "agent_identity._authority.stores.snapshot": ("copied_state",),
            "agent_identity._authority.stores.sqlite": ("SqliteState",),
        },
    )

__all__ = [
    "MAX_NUMBER",
    "Debit",
    "DirectoryState",
    "MemoryState",
    "PostgresState",
    "RedisState",
    "SqliteState",
    "StateStore",
    "copied_state",
    "renewed_in_children",
]
